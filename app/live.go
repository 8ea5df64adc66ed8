package app

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// liveTable shows what each sink has: redrawn in place on a terminal, else a line now and then.
type liveTable struct {
	out        io.Writer
	isTerminal bool
	engine     interface{ Status() pipeline.Status }
	every      time.Duration
	last       time.Time
	lines      int // drawn now
	text       string
	notes      []string
}

func newLiveTable(out io.Writer, isTerminal bool, e interface{ Status() pipeline.Status }) *liveTable {
	t := &liveTable{out: out, isTerminal: isTerminal, engine: e, every: 5 * time.Second}
	if isTerminal {
		t.every = 250 * time.Millisecond
	}
	t.last = time.Now()
	return t
}

// show draws if it is time.
func (t *liveTable) show() {
	if time.Since(t.last) >= t.every {
		t.draw()
	}
}

func (t *liveTable) draw() {
	t.last = time.Now()
	text := statusTable(t.engine.Status(), t.last)
	for _, n := range t.notes {
		text += n + "\n"
	}
	if !t.isTerminal {
		if text != t.text { // an idle stream says nothing new
			fmt.Fprint(t.out, text)
		}
		t.text = text
		return
	}
	if t.lines > 0 {
		fmt.Fprintf(t.out, "\x1b[%dA\x1b[J", t.lines)
	}
	fmt.Fprint(t.out, text)
	t.lines = strings.Count(text, "\n")
}

// note adds a line below the table.
func (t *liveTable) note(text string) {
	t.notes = append(t.notes, text)
	t.draw()
}

func (t *liveTable) done() {
	if t.isTerminal {
		t.draw()
	}
}

func statusTable(s pipeline.Status, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s %10s %8s %10s  %s\n", "sink", "delivered", "retries", "behind", "state")
	for _, k := range s.Sinks {
		state := "works"
		if k.Failure != nil {
			state = fmt.Sprintf("failing for %s: %v", now.Sub(k.Failure.Since).Round(time.Second), k.Failure.Err)
		} else if s.BudgetFull {
			state = "works; reading waits for the memory budget"
		}
		fmt.Fprintf(&b, "%-12s %10d %8d %10s  %s\n", k.Name, k.Delivered, k.Retries, behind(k.Watermark, now), state)
	}
	fmt.Fprintf(&b, "%d changes read from %d partitions\n", s.Read, s.Partitions)
	return b.String()
}

func behind(w change.Timestamp, now time.Time) string {
	if w == 0 {
		return "-"
	}
	return max(now.Sub(w.Time()), 0).Round(time.Second).String()
}

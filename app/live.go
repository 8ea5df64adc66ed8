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
	out    io.Writer
	screen *Screen // nil where out is no terminal
	engine interface{ Status() pipeline.Status }
	every  time.Duration
	last   time.Time
	text   string
	notes  []string
}

func newLiveTable(out io.Writer, e interface{ Status() pipeline.Status }) *liveTable {
	t := &liveTable{out: out, engine: e, every: 5 * time.Second, last: time.Now()}
	if screen, ok := out.(*Screen); ok {
		t.screen, t.every = screen, 250*time.Millisecond
	}
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
	if t.screen != nil {
		_ = t.screen.Draw(text) // a terminal that is gone ends the process by a signal
		return
	}
	if text != t.text { // an idle stream says nothing new
		fmt.Fprint(t.out, text)
	}
	t.text = text
}

// note adds a line below the table.
func (t *liveTable) note(text string) {
	t.notes = append(t.notes, text)
	t.draw()
}

func (t *liveTable) done() {
	if t.screen != nil {
		t.draw()
		t.screen.Leave()
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

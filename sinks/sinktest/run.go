package sinktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"testing"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// promptly is how long a call may take to return after its context has ended: long enough for a loaded machine.
const promptly = 10 * time.Second

// Run runs the suite. Each subtest makes a destination of its own; nothing runs in parallel with anything else.
func Run(t *testing.T, h Harness) {
	t.Run("Spec", func(t *testing.T) { testSpec(t, h) })
	t.Run("Open", func(t *testing.T) { testOpen(t, h) })
	t.Run("Values", func(t *testing.T) { testValues(t, h) })
	t.Run("Order", func(t *testing.T) { testOrder(t, h) })
	t.Run("Repeat", func(t *testing.T) { testRepeat(t, h) })
	t.Run("Cancel", func(t *testing.T) { testCancel(t, h) })
	t.Run("Reject", func(t *testing.T) { testReject(t, h) })
	t.Run("Places", func(t *testing.T) { testPlaces(t, h) })
	t.Run("End", func(t *testing.T) { testEnd(t, h) })
	t.Run("Once", func(t *testing.T) { testOnce(t, h) })
}

func testSpec(t *testing.T, h Harness) {
	s := h.Make(t).Sink(t)
	spec := s.Spec()
	_, writes := s.(sinks.Writer)
	_, appends := s.(sinks.Appender)
	if writes == appends {
		t.Fatalf("the sink must be a Writer or an Appender, and not both: Writer %t, Appender %t", writes, appends)
	}
	switch spec.LaneBy {
	case sinks.LaneByKey, sinks.LaneByTable:
		if !writes {
			t.Errorf("LaneBy %d is for Writers", spec.LaneBy)
		}
	case sinks.LaneByChain:
		if !appends {
			t.Error("LaneByChain is for Appenders")
		}
	default:
		t.Errorf("LaneBy is %d, want one of the constants", spec.LaneBy)
	}
	if spec.LaneBy == sinks.LaneByKey && spec.Lanes < 1 {
		t.Errorf("Lanes is %d with LaneByKey, want at least 1", spec.Lanes)
	}
	if spec.MaxChanges < 1 || spec.MaxBytes < 1 {
		t.Errorf("MaxChanges %d and MaxBytes %d must be positive", spec.MaxChanges, spec.MaxBytes)
	}
	if spec.MaxDelay < 0 || spec.WriteTimeout < 0 {
		t.Errorf("MaxDelay %v and WriteTimeout %v must not be negative", spec.MaxDelay, spec.WriteTimeout)
	}
	if again := s.Spec(); again != spec {
		t.Errorf("Spec changes from call to call: %+v, then %+v", spec, again)
	}
}

func testOpen(t *testing.T, h Harness) {
	d := h.Make(t)
	opened(t, d) // its cleanup closes it, without a Write before
	if got := d.ReadBack(t); len(got) != 0 {
		t.Errorf("opening delivered %v", got)
	}
	if h.Missing == nil {
		t.Skip("the harness has no sink with a missing destination")
	}
	s := h.Missing(t)
	err := s.Open(t.Context())
	if err == nil {
		t.Error("Open of a sink whose destination is missing returned nil")
	}
	t.Logf("Open said: %v", err)
	_ = s.Close(t.Context()) // An engine closes what it could not open; only a panic would be wrong.
}

// opened makes a sink, opens it, and closes it at the test's end.
func opened(t *testing.T, d Destination) sinks.Sink {
	t.Helper()
	s := d.Sink(t)
	if err := s.Open(t.Context()); err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), promptly)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// lend hands f a batch whose memory is taken back when f returns, as the engine's is.
func lend(chain *change.Chain, changes []change.Change, f func(*sinks.Batch)) {
	lent, take := Lend(changes)
	defer take()
	f(&sinks.Batch{Chain: chain, Changes: lent})
}

// deliver delivers changes in order by either protocol, in batches as large as the sink allows.
func deliver(t *testing.T, s sinks.Sink, changes []change.Change) {
	t.Helper()
	if a, ok := s.(sinks.Appender); ok {
		for _, chain := range chainsOf(changes) {
			appendAll(t, a, chain, only(changes, chain.Table))
		}
		return
	}
	for len(changes) > 0 {
		n := fit(s.Spec(), changes)
		lend(nil, changes[:n], func(b *sinks.Batch) {
			if err := s.(sinks.Writer).Write(t.Context(), b); err != nil {
				t.Fatalf("Write of %d changes: %v", n, err)
			}
		})
		changes = changes[n:]
	}
}

// fit is how many of the changes fit the sink's bounds; one always does.
func fit(spec sinks.Spec, changes []change.Change) int {
	n, size := 0, 0
	for n < len(changes) && n < spec.MaxChanges {
		if size += changes[n].Size(); size > spec.MaxBytes && n > 0 {
			break
		}
		n++
	}
	return n
}

// only picks one table's changes.
func only(changes []change.Change, table string) []change.Change {
	var picked []change.Change
	for _, c := range changes {
		if c.Table.Name == table {
			picked = append(picked, c)
		}
	}
	return picked
}

// laneOf routes as an engine does: equal keys to equal lanes.
func laneOf(spec sinks.Spec, c *change.Change) string {
	if spec.LaneBy == sinks.LaneByTable {
		return c.Table.Name
	}
	h := fnv.New32a()
	h.Write(c.AppendKey([]byte(c.Table.Name)))
	return strconv.Itoa(int(h.Sum32()) % spec.Lanes)
}

// verify checks that the destination holds want, each change at least once (exactly once: exact), with its values, and
// the first deliveries of each key in want's order.
func verify(t *testing.T, d Destination, want []change.Change, exact bool) {
	t.Helper()
	expected := make(map[string]Delivered, len(want))
	rank := make(map[string]int, len(want))
	for i := range want {
		expected[want[i].ID()] = Deliver(&want[i])
		rank[want[i].ID()] = i
	}
	seen := make(map[string]bool, len(want))
	last := make(map[string]string)
	for _, got := range d.ReadBack(t) {
		exp, ok := expected[got.ID]
		switch {
		case !ok:
			t.Fatalf("the destination holds %q, which was never delivered", got.ID)
		case seen[got.ID] && exact:
			t.Fatalf("the destination holds %s twice", got.ID)
		case seen[got.ID]:
			continue
		}
		seen[got.ID] = true
		lane := got.Table + got.Key
		if exact {
			lane = got.Table
		}
		if prev, ok := last[lane]; ok && rank[prev] > rank[got.ID] {
			t.Fatalf("%s: %s came before %s", lane, prev, got.ID)
		}
		last[lane] = got.ID
		if diff := different(got, exp); diff != "" {
			t.Errorf("%s was read back changed: %s", got.ID, diff)
		}
	}
	missing := 0
	for i := range want {
		if !seen[want[i].ID()] {
			if missing == 0 {
				t.Errorf("%s is not in the destination", want[i].ID())
			}
			missing++
		}
	}
	if missing > 0 {
		t.Fatalf("%d of %d changes are not in the destination although they were durable", missing, len(want))
	}
}

func different(got, want Delivered) string {
	if got.Table != want.Table || got.Key != want.Key && !sameJSON(got.Key, want.Key) || got.Op != want.Op {
		return fmt.Sprintf("%s %s of %s, want %s %s of %s", got.Op, got.Key, got.Table, want.Op, want.Key, want.Table)
	}
	if got.After == nil && got.Before == nil {
		return "" // a destination without values
	}
	if diff := differentColumns(got.After, want.After); diff != "" {
		return "after: " + diff
	}
	if diff := differentColumns(got.Before, want.Before); diff != "" {
		return "before: " + diff
	}
	return ""
}

func differentColumns(got, want map[string]string) string {
	for name, w := range want {
		g, ok := got[name]
		if !ok {
			return fmt.Sprintf("column %s is missing, want %s", name, w)
		}
		if g != w && !sameJSON(g, w) {
			return fmt.Sprintf("column %s is %s, want %s", name, g, w)
		}
	}
	for name, g := range got {
		if _, ok := want[name]; !ok {
			return fmt.Sprintf("column %s is %s, but it was not captured", name, g)
		}
	}
	return ""
}

// sameJSON compares values, not spellings: 1e+300 and 1e300, "ü" and "\u00fc".
func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, err1 := json.Marshal(x)
	q, err2 := json.Marshal(y)
	return err1 == nil && err2 == nil && bytes.Equal(p, q)
}

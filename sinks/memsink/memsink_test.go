package memsink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

var carts = change.NewTable("carts", 1, []change.Column{
	{Name: "id", Type: &change.Type{Code: change.CodeInt64}, Key: true, Ordinal: 1},
	{Name: "total", Type: &change.Type{Code: change.CodeInt64}, Ordinal: 2},
})

func cart(id string, at change.Timestamp) change.Change {
	return change.Change{
		Position: change.Position{Commit: at, Transaction: "tx", Sequence: "00000000"},
		Table:    carts, Op: change.Insert, Capture: change.NewRow,
		Key:   []change.Value{change.Value(`"` + id + `"`)},
		After: change.Row{nil, change.Value(`"7"`)},
	}
}

func write(t *testing.T, w *Writer, changes ...change.Change) error {
	t.Helper()
	return w.Write(t.Context(), &sinks.Batch{Changes: changes})
}

func open(t *testing.T, s sinks.Sink) {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWriterHooks(t *testing.T) {
	none, lost := errors.New("unavailable"), errors.New("answer lost")
	w := NewWriter(Options{Before: Fail(1, none), After: Fail(1, lost), Reject: func(c *change.Change) error {
		if string(c.Key[0]) == `"3"` {
			return errors.New("three")
		}
		return nil
	}})
	open(t, w)
	if err := write(t, w, cart("1", 1)); !errors.Is(err, none) || len(w.Deliveries()) != 0 {
		t.Fatalf("Before: %v with %d deliveries, want none of them", err, len(w.Deliveries()))
	}
	if err := write(t, w, cart("1", 1)); !errors.Is(err, lost) || len(w.Deliveries()) != 1 {
		t.Fatalf("After: %v with %d deliveries, want 1", err, len(w.Deliveries()))
	}
	var rejected *sinks.RejectError
	err := write(t, w, cart("1", 1), cart("3", 2), cart("4", 3))
	if !errors.As(err, &rejected) || len(rejected.Rejected) != 1 || rejected.Rejected[0].Index != 1 {
		t.Fatalf("Reject: %v, want the change at 1", err)
	}
	if d := w.Deliveries(); len(d) != 3 || !d[1].Repeat || d[2].Repeat || w.Distinct() != 2 || w.Calls() != 2 {
		t.Errorf("deliveries %v", d)
	}
	if err := w.Close(t.Context()); err != nil || w.Violations() != nil {
		t.Errorf("Close: %v, violations %v", err, w.Violations())
	}
}

func TestViolations(t *testing.T) {
	tests := []struct {
		want string
		do   func(w *Writer)
	}{
		{"not open", func(w *Writer) { write(t, w, cart("1", 1)) }},
		{"Open was called twice", func(w *Writer) { open(t, w); open(t, w) }},
		{"empty", func(w *Writer) { open(t, w); write(t, w) }},
		{"the spec allows 2", func(w *Writer) { open(t, w); write(t, w, cart("1", 1), cart("2", 2), cart("3", 3)) }},
		{"bytes, the spec allows 600", func(w *Writer) {
			open(t, w)
			big := cart("2", 2)
			big.Tag = strings.Repeat("x", 300)
			write(t, w, cart("1", 1), big)
		}},
		{"behind", func(w *Writer) { open(t, w); write(t, w, cart("1", 2), cart("1", 1)) }},
		{"in lane", func(w *Writer) {
			open(t, w)
			w.o.Before = func(context.Context, *sinks.Batch) error {
				w.o.Before = nil
				return write(t, w, cart("1", 1))
			}
			write(t, w, cart("1", 1))
		}},
		{"only, and always", func(w *Writer) {
			open(t, w)
			w.Write(t.Context(), &sinks.Batch{Chain: &change.Chain{Table: "carts"}, Changes: []change.Change{cart("1", 1)}})
		}},
		{"not open", func(w *Writer) { w.Close(t.Context()) }},
	}
	for _, test := range tests {
		w := NewWriter(Options{Spec: sinks.Spec{MaxChanges: 2, MaxBytes: 600}})
		test.do(w)
		if v := w.Violations(); len(v) == 0 || !strings.Contains(v[0].Error(), test.want) {
			t.Errorf("violations %v, want one with %q", v, test.want)
		}
	}
}

func TestOneCommitTimestampMayBeLarge(t *testing.T) {
	a := NewAppender(Options{Spec: sinks.Spec{MaxChanges: 1, MaxBytes: 600}})
	open(t, a)
	batch := &sinks.Batch{Chain: &change.Chain{Table: "carts"}, Changes: []change.Change{cart("1", 1), cart("2", 1), cart("3", 1)}}
	for i := range batch.Changes {
		batch.Changes[i].Position.Mod = int32(i)
	}
	if _, err := a.Append(t.Context(), batch, sinks.End{}); err != nil || a.Violations() != nil {
		t.Errorf("%v, violations %v", err, a.Violations())
	}
}

func TestCheckOrderFindsAReorderedKey(t *testing.T) {
	w := NewWriter(Options{})
	open(t, w)
	write(t, w, cart("1", 2), cart("2", 4))
	write(t, w, cart("1", 3))
	write(t, w, cart("1", 2)) // a repeat is legal
	if err := w.CheckOrder(); err != nil {
		t.Fatal(err)
	}
	if err := w.CheckOnce(); err == nil {
		t.Error("CheckOnce does not see the repeat")
	}
	write(t, w, cart("1", 1))
	if err := w.CheckOrder(); err == nil {
		t.Error("CheckOrder does not see that 1 came after 3")
	}
}

func TestAppenderPlaces(t *testing.T) {
	chain := change.Chain{Pipeline: "p", Incarnation: 1, Token: "tok", Table: "carts"}
	a := NewAppender(Options{MaxPlace: 2, Segments: true})
	zombie := NewAppender(Options{Destination: a.Destination})
	open(t, a)
	open(t, zombie)
	batch := &sinks.Batch{Chain: &chain, Changes: []change.Change{cart("1", 1), cart("2", 2), cart("3", 2), cart("4", 3)}}
	for i := range batch.Changes {
		batch.Changes[i].Position.Mod = int32(i)
	}
	end, err := a.Append(t.Context(), batch, sinks.End{})
	if err != nil || end.Through != batch.Changes[0].Position || len(end.Segments) != 1 || end.Segments[0].Count != 1 {
		t.Fatalf("Append = %+v, %v; want the first change only: the second and third share a commit timestamp", end, err)
	}
	// A zombie with a longer batch at the same place is told what is there and writes nothing.
	if got, err := zombie.Append(t.Context(), batch, sinks.End{}); err != nil || got.Through != end.Through {
		t.Fatalf("zombie: %+v, %v", got, err)
	}
	batch.Changes = batch.Changes[1:]
	if end, err = a.Append(t.Context(), batch, end); err != nil || end.Through != batch.Changes[1].Position {
		t.Fatalf("Append = %+v, %v; want through the commit timestamp 2", end, err)
	}
	lost, err := a.End(t.Context(), chain)
	if err != nil || lost.Through != end.Through || string(lost.State) != string(end.State) || len(lost.Segments) != 2 {
		t.Fatalf("End = %+v, %v; want %+v", lost, err, end)
	}
	if lost.Segments[1].Previous != lost.Segments[0].SHA256 {
		t.Error("segments are not linked")
	}
	if _, err := a.Append(t.Context(), batch, sinks.End{State: []byte("9")}); !sinks.IsStop(err) {
		t.Errorf("an end beyond the chain: %v, want Stop", err)
	}
	if err := a.CheckOnce(); err != nil {
		t.Error(err)
	}
	if len(a.Chain(chain)) != 3 || len(a.Chains()) != 1 {
		t.Errorf("chain %v", a.Chain(chain))
	}
}

// A lost answer makes the engine write the batch again: the destination holds it twice, in order.
func Example() {
	ctx := context.Background()
	w := NewWriter(Options{After: Fail(1, errors.New("the answer was lost"))})
	w.Open(ctx)
	batch := &sinks.Batch{Changes: []change.Change{cart("1", 1_700_000_000_000_000)}}
	fmt.Println(w.Write(ctx, batch))
	fmt.Println(w.Write(ctx, batch)) // the engine tries again
	for _, d := range w.Deliveries() {
		fmt.Println(d.Change.ID(), d.Repeat)
	}
	fmt.Println(w.CheckOrder(), w.Violations(), w.Close(ctx))
	// Output:
	// the answer was lost
	// <nil>
	// 20231114T221320.000000Z-t-12tx.1800000000.110 false
	// 20231114T221320.000000Z-t-12tx.1800000000.110 true
	// <nil> [] <nil>
}

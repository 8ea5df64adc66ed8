package sinktest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// chainsOf makes one chain for each table among the changes.
func chainsOf(changes []change.Change) []change.Chain {
	var chains []change.Chain
	for i := range changes {
		chain := change.Chain{Pipeline: "sinktest", Incarnation: 1, Token: "__token==", Table: changes[i].Table.Name}
		if !slices.Contains(chains, chain) {
			chains = append(chains, chain)
		}
	}
	return chains
}

func chainFor(s sinks.Sink, chain change.Chain) *change.Chain {
	if _, ok := s.(sinks.Appender); ok {
		return &chain
	}
	return nil
}

// whole moves a cut of n changes to where no commit timestamp is torn: down, or, where one timestamp alone is larger than
// n, up to its end.
func whole(changes []change.Change, n int) int {
	if n >= len(changes) {
		return len(changes)
	}
	torn := func(n int) bool { return changes[n].Position.Commit == changes[n-1].Position.Commit }
	for down := n; down > 0; down-- {
		if !torn(down) {
			return down
		}
	}
	for n < len(changes) && torn(n) {
		n++
	}
	return n
}

func after(changes []change.Change, through change.Position) []change.Change {
	i := slices.IndexFunc(changes, func(c change.Change) bool { return c.Position.After(through) })
	if i < 0 {
		return nil
	}
	return changes[i:]
}

// appendFrom plays the engine's part for one chain: it appends behind end in batches of about max changes and drops what
// the destination says it has.
func appendFrom(ctx context.Context, a sinks.Appender, chain change.Chain, changes []change.Change, end sinks.End, max int) (sinks.End, error) {
	for rest := after(changes, end.Through); len(rest) > 0; rest = after(rest, end.Through) {
		got, err := appendOnce(ctx, a, chain, rest, end, max)
		if err != nil {
			return end, err
		}
		end = got
	}
	return end, nil
}

// appendOnce makes one call of Append and checks its answer against what every answer must be.
func appendOnce(ctx context.Context, a sinks.Appender, chain change.Chain, rest []change.Change, end sinks.End, max int) (sinks.End, error) {
	n := whole(rest, min(max, fit(a.Spec(), rest)))
	var got sinks.End
	var err error
	given := sinks.End{Through: end.Through, State: bytes.Clone(end.State)}
	lend(&chain, rest[:n], func(b *sinks.Batch) { got, err = a.Append(ctx, b, given) })
	if err != nil {
		return end, fmt.Errorf("append of %d changes behind %s: %w", n, end.Through, err)
	}
	if !got.Through.After(end.Through) {
		return end, fmt.Errorf("an append answered through %s, which is not after the end %s it was given", got.Through, end.Through)
	}
	if len(got.State) > sinks.MaxState {
		return end, fmt.Errorf("End.State has %d bytes, at most %d are allowed", len(got.State), sinks.MaxState)
	}
	last := end.Through
	for _, s := range got.Segments {
		if s.Chain != chain || s.Name == "" || s.Count < 1 || !s.First.After(last) || s.First.After(s.Last) {
			return end, fmt.Errorf("segment %+v is not a run behind %s of chain %+v", s, last, chain)
		}
		last = s.Last
	}
	if len(got.Segments) > 0 && last != got.Through {
		return end, fmt.Errorf("the last segment ends at %s but the chain at %s", last, got.Through)
	}
	return got, nil
}

func appendAll(t *testing.T, a sinks.Appender, chain change.Chain, changes []change.Change) {
	t.Helper()
	if _, err := appendFrom(t.Context(), a, chain, changes, sinks.End{}, len(changes)); err != nil {
		t.Fatal(err)
	}
}

// appender opens a sink on the destination and skips the test if it is a Writer.
func appender(t *testing.T, d Destination) sinks.Appender {
	t.Helper()
	a, ok := opened(t, d).(sinks.Appender)
	if !ok {
		t.Skip("for Appenders")
	}
	return a
}

func testPlaces(t *testing.T, h Harness) {
	for _, test := range []struct {
		name          string
		first, second int // about how many changes the two writers put at the same place
	}{{"equal", 20, 20}, {"shorter", 20, 5}, {"longer", 5, 20}} {
		t.Run(test.name, func(t *testing.T) {
			d := h.Make(t)
			a, zombie := appender(t, d), appender(t, d)
			changes := NewGenerator(6).NextOf(0, 60)
			chain := chainsOf(changes)[0]
			begin, err := appendOnce(t.Context(), a, chain, changes, sinks.End{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			rest := after(changes, begin.Through)
			there, err := appendOnce(t.Context(), a, chain, rest, begin, test.first)
			if err != nil {
				t.Fatal(err)
			}
			// The second writer is at the same place, with a batch cut elsewhere.
			told, err := appendOnce(t.Context(), zombie, chain, rest, begin, test.second)
			if err != nil {
				t.Fatal(err)
			}
			if told.Through != there.Through {
				t.Errorf("the place ends at %s, the second writer was told %s", there.Through, told.Through)
			}
			written := changes[:len(changes)-len(after(changes, there.Through))]
			verify(t, d, written, true)
			// Both go on from what they know.
			if _, err := appendFrom(t.Context(), zombie, chain, changes, told, 7); err != nil {
				t.Fatal(err)
			}
			if _, err := appendFrom(t.Context(), a, chain, changes, there, 11); err != nil {
				t.Fatal(err)
			}
			verify(t, d, changes, true)
		})
	}
}

func testEnd(t *testing.T, h Harness) {
	d := h.Make(t)
	a := appender(t, d)
	changes := NewGenerator(7).Next(120)
	for _, chain := range chainsOf(changes) {
		end, err := a.End(t.Context(), chain)
		if err != nil || !end.Through.IsZero() || len(end.State) != 0 {
			t.Fatalf("End of an empty chain = %+v, %v; want the zero End", end, err)
		}
		mine := only(changes, chain.Table)
		half := whole(mine, len(mine)/2)
		if end, err = appendFrom(t.Context(), a, chain, mine[:half], sinks.End{}, 9); err != nil {
			t.Fatal(err)
		}
		fresh := appender(t, d)
		learned, err := fresh.End(t.Context(), chain)
		if err != nil {
			t.Fatalf("End: %v", err)
		}
		if learned.Through != end.Through || len(learned.State) > sinks.MaxState {
			t.Errorf("End = %+v, want through %s", learned, end.Through)
		}
		if _, err := appendFrom(t.Context(), fresh, chain, mine, learned, 9); err != nil {
			t.Fatal(err)
		}
	}
	other := chainsOf(changes)[0]
	other.Incarnation++
	if end, err := a.End(t.Context(), other); err != nil || !end.Through.IsZero() {
		t.Errorf("End of another incarnation's chain = %+v, %v; want the zero End", end, err)
	}
	verify(t, d, changes, true)
}

// testOnce lets two workers at the same chains, each of which loses answers, restarts from an older end and forgets its end
// altogether, until everything is written.
func testOnce(t *testing.T, h Harness) {
	d := h.Make(t)
	workers := []sinks.Appender{appender(t, d), appender(t, d)}
	r := rand.New(rand.NewPCG(8, 8))
	changes := NewGenerator(8).Next(400)
	for _, chain := range chainsOf(changes) {
		mine := only(changes, chain.Table)
		ends := [2][]sinks.End{{{}}, {{}}} // what each worker has known, the newest last
		last := mine[len(mine)-1].Position
		for done := false; !done; {
			w := r.IntN(2)
			end := ends[w][len(ends[w])-1]
			switch r.IntN(8) {
			case 0: // it starts again from an older checkpoint
				end = ends[w][r.IntN(len(ends[w]))]
			case 1: // it lost its state
				learned, err := workers[w].End(t.Context(), chain)
				if err != nil {
					t.Fatalf("End: %v", err)
				}
				end = learned
				ends[w] = append(ends[w], learned)
			}
			rest := after(mine, end.Through)
			if len(rest) == 0 {
				done = true
				continue
			}
			got, err := appendOnce(t.Context(), workers[w], chain, rest, end, 1+r.IntN(30))
			if err != nil {
				t.Fatal(err)
			}
			if r.IntN(4) > 0 { // else the answer was lost
				ends[w] = append(ends[w], got)
				done = got.Through == last
			}
		}
	}
	verify(t, d, changes, true)
}

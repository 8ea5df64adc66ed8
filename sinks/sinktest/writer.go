package sinktest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

func testValues(t *testing.T, h Harness) {
	d := h.Make(t)
	g := NewGenerator(1)
	changes := g.Next(200)
	// A transaction of every edge: rows without captured columns, a new table version.
	g.Alter(1)
	changes = append(changes, g.NextOf(1, 20)...)
	edge := g.NextOf(0, 1)
	edge[0].Op, edge[0].After, edge[0].Before = change.Update, nil, change.Row{}
	changes = append(changes, edge...)
	deliver(t, opened(t, d), changes)
	verify(t, d, changes, false)
}

func testOrder(t *testing.T, h Harness) {
	d := h.Make(t)
	s := opened(t, d)
	changes := NewGenerator(2).Next(2000)
	a, exact := s.(sinks.Appender)
	var wg sync.WaitGroup
	errs := make(chan error, len(changes))
	if exact {
		for _, chain := range chainsOf(changes) {
			wg.Go(func() {
				if _, err := appendFrom(t.Context(), a, chain, only(changes, chain.Table), sinks.End{}, 50); err != nil {
					errs <- err
				}
			})
		}
	} else {
		lanes := make(map[string][]change.Change)
		for i := range changes {
			lane := laneOf(s.Spec(), &changes[i])
			lanes[lane] = append(lanes[lane], changes[i])
		}
		for _, lane := range lanes {
			wg.Go(func() {
				for len(lane) > 0 {
					n := min(fit(s.Spec(), lane), 50)
					lend(nil, lane[:n], func(b *sinks.Batch) {
						if err := s.(sinks.Writer).Write(t.Context(), b); err != nil {
							errs <- err
						}
					})
					lane = lane[n:]
				}
			})
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatalf("writing from several lanes: %v", err)
	}
	verify(t, d, changes, exact)
}

func testRepeat(t *testing.T, h Harness) {
	d := h.Make(t)
	s := opened(t, d)
	changes := NewGenerator(3).Next(60)
	deliver(t, s, changes[:whole(changes, 40)])
	// As after a lost answer and a restart: another worker repeats what is there, then goes on.
	again := opened(t, d)
	deliver(t, again, changes)
	_, exact := s.(sinks.Appender)
	verify(t, d, changes, exact)
}

func testCancel(t *testing.T, h Harness) {
	d := h.Make(t)
	s := opened(t, d)
	changes := NewGenerator(4).NextOf(1, 100)
	chain := chainsOf(changes)[0]
	n := whole(changes, fit(s.Spec(), changes))
	attempt := func(ctx context.Context) error {
		var err error
		lend(chainFor(s, chain), changes[:n], func(b *sinks.Batch) { err = once(ctx, s, b) })
		return err
	}
	for _, after := range []time.Duration{0, time.Millisecond} {
		ctx, cancel := context.WithCancel(t.Context())
		if after == 0 {
			cancel()
		}
		done := make(chan error, 1)
		go func() { done <- attempt(ctx) }()
		timer := time.AfterFunc(after, cancel)
		select {
		case err := <-done:
			// Nil is right too: the batch was faster. Then it must be there, which verify checks below.
			t.Logf("cancelled after %v: %v", after, err)
			if sinks.IsStop(err) {
				t.Errorf("a cancelled call said Stop: %v", err)
			}
		case <-time.After(promptly):
			t.Fatalf("the call did not return within %v of its context's end", promptly)
		}
		timer.Stop()
		cancel()
	}
	deliver(t, s, changes)
	_, exact := s.(sinks.Appender)
	verify(t, d, changes, exact)
}

// once makes one call by either protocol.
func once(ctx context.Context, s sinks.Sink, b *sinks.Batch) error {
	if a, ok := s.(sinks.Appender); ok {
		_, err := a.Append(ctx, b, sinks.End{})
		return err
	}
	return s.(sinks.Writer).Write(ctx, b)
}

func testReject(t *testing.T, h Harness) {
	if h.Refuse == nil {
		t.Skip("the harness knows no change that its sink rejects")
	}
	d := h.Make(t)
	s, ok := opened(t, d).(sinks.Writer)
	if !ok {
		t.Fatal("an Appender rejects nothing: a change that cannot be written must stop it or go to a raw field")
	}
	changes := NewGenerator(5).NextOf(1, 6)
	for _, i := range []int{1, 4} {
		h.Refuse(&changes[i])
	}
	var err error
	lend(nil, changes, func(b *sinks.Batch) { err = s.Write(t.Context(), b) })
	rejected, ok := errors.AsType[*sinks.RejectError](err)
	if !ok {
		t.Fatalf("Write returned %v, want a *sinks.RejectError", err)
	}
	for _, r := range rejected.Rejected {
		t.Logf("change %d: %v", r.Index, r.Reason)
	}
	if len(rejected.Rejected) != 2 || rejected.Rejected[0].Index != 1 || rejected.Rejected[1].Index != 4 ||
		rejected.Rejected[0].Reason == nil || rejected.Rejected[1].Reason == nil {
		t.Fatalf("rejected %+v, want the changes at 1 and 4, each with a reason", rejected.Rejected)
	}
	verify(t, d, []change.Change{changes[0], changes[2], changes[3], changes[5]}, false)
}

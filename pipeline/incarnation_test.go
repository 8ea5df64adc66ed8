package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/state"
)

// lossy makes the stream lose what comes after some frames.
func (w *world) lossy(err error) {
	var frames atomic.Int64
	w.script.stop = func(string, int) error {
		if frames.Add(1) > 12 {
			return err
		}
		return nil
	}
}

// engineOf makes an engine of another configuration.
func (w *world) engineOf(t *testing.T, c state.Config) *Engine {
	t.Helper()
	return w.engine(t, func(o *Options) { o.Config = c })
}

func current(t *testing.T, s state.Store, name string) state.Incarnation {
	t.Helper()
	h, err := s.History(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return *h.Current()
}

// TestLossIsAGap: what the reader cannot read any more stops the pipeline with an error of its own, and is recorded as a gap
// that begins right behind what every sink has. Nobody counts as working on it afterwards.
func TestLossIsAGap(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want state.Reason
	}{
		"expired":   {&changestream.LostError{Stream: "s", From: 9}, state.Expired},
		"dropped":   {&changestream.GoneError{Stream: "s", Cause: changestream.StreamDropped}, state.Dropped},
		"database":  {&changestream.GoneError{Stream: "s", Cause: changestream.DatabaseGone}, state.Dropped},
		"recreated": {&changestream.GoneError{Stream: "s", Cause: changestream.StreamRecreated}, state.Recreated},
		"extended":  {&changestream.PlacementError{Stream: "s", Placements: []string{"eu"}, Since: 1 << 50}, state.Extended},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(newDice(9), 100, 6)
				w.lossy(c.err)
				var asked state.Reason
				err := w.engine(t, func(o *Options) {
					o.Diagnose = func(_ context.Context, r state.Reason, p state.Pipeline) state.Reason {
						asked = r
						return r
					}
				}).Run(t.Context())
				broken, ok := errors.AsType[*BrokenError](err)
				if !ok || !errors.Is(err, c.err) || broken.Incarnation != 1 || broken.Gap.Reason != c.want || asked != c.want {
					t.Fatalf("Run: %v (diagnosed from %q)", err, asked)
				}
				snap, err := w.store.Load(t.Context(), testConfig.Pipeline)
				if err != nil {
					t.Fatal(err)
				}
				gap := current(t, w.store, testConfig.Pipeline).Gap
				if gap == nil || gap.Reason != c.want || gap.From != snap.Through()+1 || gap.From != broken.Gap.From || !gap.IsOpen() {
					t.Errorf("recorded %+v; everything through %s is stored", gap, snap.Through())
				}
				h, err := w.store.History(t.Context(), testConfig.Pipeline)
				if err != nil || len(h.Alive()) > 0 {
					t.Errorf("alive %+v, %v", h.Alive(), err)
				}
				// The next start finds the same and changes nothing of the record.
				err = w.engine(t, nil).Run(t.Context())
				if again := current(t, w.store, testConfig.Pipeline).Gap; !errors.As(err, new(*BrokenError)) || *again != *gap {
					t.Errorf("the second start: %v, gap %+v", err, again)
				}
			})
		})
	}
}

// TestGapIsMended: what was taken for lost and can be read after all is no gap any more.
func TestGapIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(9), 100, 6)
		w.lossy(&changestream.GoneError{Stream: "s", Cause: changestream.StreamDropped})
		if err := w.engine(t, nil).Run(t.Context()); !errors.As(err, new(*BrokenError)) {
			t.Fatal(err)
		}
		w.script.stop = nil
		if err := w.engine(t, nil).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if gap := current(t, w.store, testConfig.Pipeline).Gap; gap != nil {
			t.Errorf("the gap is still there: %+v", gap)
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRestoredDatabaseIsAGap: a database of another identity stops the pipeline before anything of it is read.
func TestRestoredDatabaseIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(9), 20, 6)
		if err := w.engine(t, nil).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		read := len(w.script.reads)
		c := testConfig
		c.Identity = "another"
		err := w.engineOf(t, c).Run(t.Context())
		if broken, ok := errors.AsType[*BrokenError](err); !ok || broken.Gap.Reason != state.Restored || len(w.script.reads) != read {
			t.Fatalf("Run: %v after %d reads more", err, len(w.script.reads)-read)
		}
		if gap := current(t, w.store, testConfig.Pipeline).Gap; gap == nil || gap.Reason != state.Restored {
			t.Errorf("recorded %+v", gap)
		}
	})
}

// TestNewIncarnation: after a break the next incarnation begins anew where it is told to; chains of both stand side by side
// in an appender, each whole and in order, and no change that both read is in one chain twice (I6, I7).
func TestNewIncarnation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(9), 100, 6)
		w.lossy(&changestream.LostError{Stream: "s", From: 9})
		err := w.engine(t, nil).Run(t.Context())
		broken, ok := errors.AsType[*BrokenError](err)
		if !ok {
			t.Fatal(err)
		}
		w.script.stop = nil
		c := testConfig
		c.Start = max(broken.Gap.From-3, testConfig.Start) // some is repeated
		_, err = w.store.Reopen(t.Context(), c, state.Restart{Incarnation: 1, Reason: state.Expired, Through: broken.Gap.From - 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.engineOf(t, c).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		type place struct {
			chain change.Chain
			id    string
		}
		seen := map[place]bool{}
		last := map[change.Chain]change.Position{}
		incarnations := map[int64]int{}
		for _, d := range w.once.Deliveries() {
			at := place{d.Chain, d.Change.ID()}
			if seen[at] {
				t.Errorf("%s is twice in %+v", at.id, at.chain)
			}
			seen[at] = true
			if !d.Change.Position.After(last[d.Chain]) {
				t.Errorf("%s is out of order in %+v", at.id, at.chain)
			}
			last[d.Chain] = d.Change.Position
			incarnations[d.Chain.Incarnation]++
			if d.Chain.Incarnation == 2 && d.Change.Position.Commit < c.Start {
				t.Errorf("%s is from before the new incarnation's start", at.id)
			}
		}
		if incarnations[1] == 0 || incarnations[2] == 0 || len(incarnations) != 2 {
			t.Errorf("changes by incarnation: %v", incarnations)
		}
		all := map[string]bool{}
		for at := range seen {
			all[at.id] = true
		}
		if len(all) != w.script.changes {
			t.Errorf("%d of %d changes arrived", len(all), w.script.changes)
		}
	})
}

// TestFencedWhileIdle: a worker with nothing to store still finds out that another incarnation has begun (I4).
func TestFencedWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(9), 1, 6)
		e := w.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) {
				return &tape{first: []change.Partition{{Token: "P", Start: 5}}}, nil
			}
		})
		done := make(chan error, 1)
		go func() { done <- e.Run(t.Context()) }()
		<-e.Ready()
		h, err := w.store.History(t.Context(), testConfig.Pipeline)
		if err != nil || len(h.Alive()) != 1 {
			t.Fatalf("alive: %+v, %v", h.Alive(), err)
		}
		began := time.Now()
		c := testConfig
		c.Start = 9
		if _, err := w.store.Reopen(t.Context(), c, state.Restart{Incarnation: 1, Reason: state.Requested, Through: 8}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.As(err, new(*FencedError)) {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(began); took > 2*state.RenewEvery {
			t.Errorf("it took %s", took)
		}
	})
}

// TestWorkerStaysAlive: a worker that runs for long counts as alive all the time.
func TestWorkerStaysAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(9), 1, 6)
		e := w.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) {
				return &tape{first: []change.Partition{{Token: "P", Start: 5}}}, nil
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		<-e.Ready()
		var alive []string
		for range 5 {
			time.Sleep(state.WorkerSilence)
			h, err := w.store.History(t.Context(), testConfig.Pipeline)
			if err != nil {
				t.Fatal(err)
			}
			for _, worker := range h.Alive() {
				alive = append(alive, worker.Name)
			}
		}
		if want := slices.Repeat([]string{"worker"}, 5); !slices.Equal(alive, want) {
			t.Errorf("alive over time: %q", alive)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(&BrokenError{Pipeline: "p", Incarnation: 1, Err: errors.New("e")}); len(text) < 100 {
			t.Error(text)
		}
	})
}

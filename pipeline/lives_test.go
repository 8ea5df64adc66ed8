package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// TestManyLives is the property of a pipeline over all that may happen to one: snapshots of ranges are asked for at any time, many
// at once, one sink is slow, another joins at a restart, versions are lost, and new incarnations begin where the one before came
// to, among crashes, moves of keys and a budget that is too small for everything.
func TestManyLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		commits := rapid.IntRange(1, 60).Draw(rt, "commits")
		keys := rapid.IntRange(2, 12).Draw(rt, "keys")
		faults := rapid.SampledFrom([]int{0, 3, 10}).Draw(rt, "faults")
		crashes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 120), rapid.IntRange(-4, -1)), 0, 5).Draw(rt, "crash after so many steps")
		order := rapid.SampledFrom([]Order{OrderKey, OrderCommit}).Draw(rt, "order")
		moving := rapid.Bool().Draw(rt, "mutable key ranges")
		ahead := rapid.SampledFrom([]int{0, 600, 3000}).Draw(rt, "received ahead")
		expire := rapid.Bool().Draw(rt, "versions are lost")
		requests := rapid.IntRange(0, 6).Draw(rt, "snapshots asked for")
		joins := rapid.IntRange(1, 5).Draw(rt, "a sink joins at the run")
		var failure error
		synctest.Test(t, func(t *testing.T) {
			w := &lives{snapshotWorld: newSnapshotWorld(newDice(seed), commits, keys, order, moving), slow: memsink.NewDestination(), late: memsink.NewDestination(), joins: joins, requests: requests}
			w.ahead, w.expire, w.many = ahead, expire, true
			w.more = map[string]*memsink.Destination{"slow": w.slow}
			w.config = testConfig
			w.options, w.between, w.snapshotWorld.step = w.change, w.next, func() { w.ask(t) }
			failure = w.run(t, faults, crashes)
			if failure == nil {
				failure = w.checkLate()
			}
		})
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// lives are the runs of one pipeline.
type lives struct {
	*snapshotWorld
	slow, late      *memsink.Destination
	joins, requests int
	runs            int
	// began is where the late sink began, 0 before.
	began change.Timestamp
	// again says that a run began the stream again, wholly read, or in a new incarnation from the slowest partition on: a sink that
	// had joined where each partition was gets what lay before that.
	again bool
}

// change sets the options of a run.
func (w *lives) change(o *Options) {
	o.Config.Start, o.Config.Snapshot = w.config.Start, true
	spec := sinks.Spec{Lanes: 1 + w.rng.intn(3), MaxChanges: 1 + w.rng.intn(4), MaxBytes: 1 << 20, MaxDelay: time.Duration(w.rng.intn(200)) * time.Millisecond}
	delay := memsink.Delay(time.Duration(w.rng.intn(60)) * time.Millisecond)
	o.Sinks = append(o.Sinks, NamedSink{"slow", memsink.NewWriter(memsink.Options{Destination: w.slow, Spec: spec, Before: delay, After: w.hook})})
	if w.runs >= w.joins {
		o.Sinks = append(o.Sinks, NamedSink{"late", memsink.NewWriter(memsink.Options{Destination: w.late, Spec: spec, Before: w.hook})})
	}
}

// next comes before each run but the first: now and then it opens an incarnation.
func (w *lives) next() error {
	w.runs++
	snap, err := w.store.Load(context.Background(), "test")
	if errors.Is(err, state.ErrNoPipeline) {
		return nil
	}
	if err != nil {
		return err
	}
	through := snap.Through()
	w.again = w.again || len(snap.Partitions) == 0
	if alive, _ := w.script.Partitions(context.Background(), through+1); w.rng.intn(3) == 0 && len(alive) > 0 {
		c := snap.Pipeline.Config
		c.Start, c.Snapshot = through+1, true
		if _, err := w.store.Reopen(context.Background(), c, state.Restart{Incarnation: snap.Pipeline.Incarnation, Reason: state.Requested, Through: through}); err != nil {
			return err
		}
		w.config.Start = c.Start
		w.again = w.again || w.began != 0
	}
	if w.runs >= w.joins && w.began == 0 {
		w.began = w.config.Start - 1 // no checkpoint is above what the others have
		for _, d := range w.least.Deliveries() {
			w.began = max(w.began, d.Change.Position.Commit)
		}
	}
	return nil
}

// ask asks for a snapshot now and then.
func (w *lives) ask(t *testing.T) {
	if w.rng.intn(15) > 0 {
		return
	}
	w.tables.mu.Lock()
	w.requests--
	left := w.requests
	w.tables.mu.Unlock()
	if left < 0 {
		return
	}
	s := state.TableSnapshot{Table: scriptTables[w.rng.intn(2)].Name}
	if w.rng.intn(3) > 0 {
		s.From, s.To = fmt.Sprintf(`["%d"]`, w.rng.intn(5)), fmt.Sprintf(`["%d"]`, 4+w.rng.intn(6))
	}
	if _, _, err := w.store.RequestSnapshot(context.Background(), "test", s); err != nil && !errors.Is(err, state.ErrNoPipeline) {
		t.Error(err)
	}
}

// checkLate holds the late sink: in order, and with everything behind where it began.
func (w *lives) checkLate() error {
	if w.runs < w.joins || w.again {
		return nil
	}
	// Where keys move a partition that was held may have one instant less in the store than the others relied on, which a sink that
	// joins then gets late.
	if err := w.checkOrder(w.late); err != nil && !w.script.moving {
		return fmt.Errorf("late: I1: %w", err)
	}
	has := map[string]bool{}
	for _, d := range w.late.Deliveries() {
		has[d.Change.ID()] = true
	}
	for _, p := range w.script.parts {
		for _, c := range p.changes {
			if c.Position.Commit > w.began && !has[c.ID()] {
				return fmt.Errorf("late: I2: it began at %s and lacks %s", w.began, c.ID())
			}
		}
	}
	return nil
}

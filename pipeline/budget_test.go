package pipeline

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// TestBudgetMissesNoMove: a partition becomes the lowest right after it was looked for and found not to be. It must be looked
// at again (I10): otherwise two readers that wait for each other would sleep for ever.
func TestBudgetMissesNoMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *budget
		var low *account
		looked := 0
		b = newBudget(10_000, false, func() {}, func() *account {
			if looked++; looked == 1 {
				go b.moved() // the other partition has moved, just now
				return nil
			}
			return low
		})
		low = b.newAccount()
		if !b.newAccount().TryReserve(10_000) {
			t.Fatal("an empty budget has no room")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := low.Reserve(ctx, 5000); err != nil {
			t.Errorf("after %d looks: %v", looked, err)
		}
	})
}

// TestBudgetPassesOverWhoWaitsForOthers: the lowest begins to wait for another partition right after it was looked for, with the
// request for its next message still open. It must not get the right to be beyond the budget (I10): the one it waits for needs it.
func TestBudgetPassesOverWhoWaitsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *budget
		var held, needed *account
		looked := 0
		b = newBudget(10_000, false, func() {}, func() *account {
			if looked++; looked == 1 {
				return nil
			}
			if !held.waitsForOthers.Load() {
				held.park()
				return held
			}
			return needed
		})
		held, needed = b.newAccount(), b.newAccount()
		if !b.newAccount().TryReserve(10_000) {
			t.Fatal("an empty budget has no room")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ahead := make(chan error)
		go func() { ahead <- held.Reserve(ctx, 5000) }()
		synctest.Wait()
		if err := needed.Reserve(ctx, 5000); err != nil {
			t.Errorf("after %d looks: %v; %v", looked, err, held)
		}
		cancel()
		<-ahead
	})
}

// TestFullBudgetClosesAsManyBatchesAsItTakes: a frame's changes lie in several open batches; closing the largest frees nothing
// yet, and the others must not wait for their age (I10).
func TestFullBudgetClosesAsManyBatchesAsItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const start = 1_000_000
		src := &tape{first: []change.Partition{{Token: "A", Start: start}}, frames: map[string][]*change.Frame{}}
		size := 0
		for i := range change.Timestamp(100) {
			f := &change.Frame{Through: start + i}
			for key := range 16 {
				c := tapeChange(0, start+i)
				c.Position.Mod, c.Key = int32(key), []change.Value{change.Value(fmt.Sprintf("%q", fmt.Sprint(key)))}
				f.Changes, f.Bytes = append(f.Changes, c), f.Bytes+c.Size()
			}
			size = f.Bytes
			src.frames["A"] = append(src.frames["A"], f)
		}
		src.frames["A"][99].Ended = true
		w := newWorld(newDice(1), 1, 2)
		e := w.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) { return src, nil }
			o.BudgetBytes = 10 * size
			o.Sinks = []NamedSink{{"least", memsink.NewWriter(memsink.Options{Destination: w.least,
				Spec: sinks.Spec{Lanes: 8, MaxChanges: 1 << 20, MaxBytes: 1 << 30, MaxDelay: 24 * time.Hour}})}}
		})
		began := time.Now()
		if err := e.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > time.Minute {
			t.Errorf("it took %s: batches waited for their age while the budget was full", d)
		}
		if w.least.Distinct() != 1600 {
			t.Errorf("%d of 1600 changes", w.least.Distinct())
		}
	})
}

// TestOneFrameBeyondTheBudget: partitions that are equally far, as all are at the start, are not all the lowest: only one
// frame may be held beyond the budget with OrderKey, where none waits for another's (I10).
func TestOneFrameBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const start, parts, frame = 1_000_000, 200, 1000
		src := &tape{frames: map[string][]*change.Frame{}}
		for i := range parts {
			token := fmt.Sprint("P", i)
			src.first = append(src.first, change.Partition{Token: token, Start: start})
			src.frames[token] = []*change.Frame{{Through: start + 10, Changes: []change.Change{tapeChange(0, start+5)}, Bytes: frame, Ended: true}}
		}
		w := newWorld(newDice(1), 1, 2)
		var e *Engine
		most := 0
		e = w.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) { return src, nil }
			o.BudgetBytes = 10 * frame
			o.Sinks = []NamedSink{{"least", memsink.NewWriter(memsink.Options{Destination: w.least, Before: func(ctx context.Context, b *sinks.Batch) error {
				err := memsink.Delay(time.Second)(ctx, b)
				used, _ := e.budget.inUse()
				most = max(most, used)
				return err
			}})}}
		})
		if err := e.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if most > 11*frame || most < 10*frame {
			t.Errorf("%d bytes were held, want at most the budget of %d and a frame of %d", most, 10*frame, frame)
		}
	})
}

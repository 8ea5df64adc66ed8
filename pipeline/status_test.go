package pipeline

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// counts is an Observer that adds up.
type counts struct {
	mu                 sync.Mutex
	delivered, batches map[string]int64
	failed             map[string]int64
	checkpoints        int64
}

func (c *counts) Delivered(sink string, changes []change.Change, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered[sink] += int64(len(changes))
	c.batches[sink]++
}

func (c *counts) SinkFailed(sink string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[sink]++
}

func (c *counts) CheckpointFailed(error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkpoints++
}

// TestStatusAddsUp holds what Status and the Observer say after a run with faults against the script.
func TestStatusAddsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(11), 100, 8)
		w.faults = 5
		seen := &counts{delivered: map[string]int64{}, batches: map[string]int64{}, failed: map[string]int64{}}
		e := w.engine(t, func(o *Options) { o.Observer = seen })
		first := e.Status()
		if !cmp.Equal(first, Status{BudgetBytes: e.opts.BudgetBytes, Sinks: []SinkStatus{{Name: "once"}, {Name: "least"}}}) {
			t.Errorf("before Run the status is %+v, want nothing counted", first)
		}
		w.script.stop = func(string, int) error {
			if s := e.Status(); s.Phase != Running || s.Err != nil || s.Heard.IsZero() {
				t.Errorf("while reading: phase %v, error %v, heard %v", s.Phase, s.Err, s.Heard)
			}
			return nil
		}
		// Only checkpoints are tried again, not the commit of the first partitions.
		w.store.onCommit = func(us []state.Update) {
			if us[0].Token != "" {
				w.store.every = 5
			}
		}
		if err := e.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := e.Status()
		total := int64(w.script.changes)
		parts := int64(len(w.script.parts))
		if s.Phase != Ended || s.Err != nil || s.Partitions != 0 || s.Started != parts || s.Finished != parts {
			t.Errorf("after Run: %+v, want ended, with %d partitions started and finished", s, parts)
		}
		if s.Read != total || s.Frames == 0 || s.Heartbeats == 0 || s.ReadBytes == 0 || s.Checkpoints == 0 || s.Checkpointed.IsZero() {
			t.Errorf("after Run: %+v, want %d changes read and what carried them", s, total)
		}
		if s.CheckpointFailures != seen.checkpoints || s.CheckpointFailures == 0 {
			t.Errorf("%d failed checkpoints, the observer was told of %d", s.CheckpointFailures, seen.checkpoints)
		}
		for _, k := range s.Sinks {
			if k.Delivered != total || seen.delivered[k.Name] != total || k.Batches != seen.batches[k.Name] || k.Batches == 0 {
				t.Errorf("sink %s: %+v, the observer was told of %d changes in %d batches; want %d", k.Name, k, seen.delivered[k.Name], seen.batches[k.Name], total)
			}
			if k.Retries != seen.failed[k.Name] || k.Retries == 0 {
				t.Errorf("sink %s: %d retries, the observer was told of %d failures", k.Name, k.Retries, seen.failed[k.Name])
			}
			if wrote := k.Segments > 0 && k.SegmentBytes > 0 && !k.LastSegment.IsZero(); wrote != (k.Name == "once") {
				t.Errorf("sink %s: %d segments of %d bytes, the last at %v", k.Name, k.Segments, k.SegmentBytes, k.LastSegment)
			}
		}
	})
}

// TestStatusKeepsTheError: whoever looks at a dead engine sees what ended it, also when it never got to run.
func TestStatusKeepsTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(1), 10, 4)
		e := w.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) { return nil, errInjected }
		})
		err := e.Run(t.Context())
		if s := e.Status(); err == nil || s.Phase != Ended || s.Err == nil || s.Err.Error() != err.Error() {
			t.Errorf("Run answered %v, Status says %v with %v", err, s.Phase, s.Err)
		}
	})
}

// dropAll is a filter that lets nothing pass.
type dropAll struct{}

func (dropAll) Apply(f *change.Frame) error { f.Changes = nil; return nil }

func TestStatusCountsWhatIsFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(3), 50, 6)
		e := w.engine(t, func(o *Options) { o.Filter = dropAll{} })
		if err := e.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, total := e.Status(), int64(w.script.changes); s.Read != total || s.Filtered != total || s.Sinks[0].Delivered != 0 {
			t.Errorf("of %d changes %d were read, %d filtered, %d delivered; want all filtered", total, s.Read, s.Filtered, s.Sinks[0].Delivered)
		}
	})
}

package pipeline

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// TestSinkWatermarkStaysBehindWaitingPartitions: at a stop a partition finishes while its child is not read any more. The sink
// has nothing of the child: its watermark must not pass the child's start (I5).
func TestSinkWatermarkStaysBehindWaitingPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const start, end = 1_000_000, 1_000_100
		src := &tape{
			first: []change.Partition{{Token: "A", Start: start}, {Token: "B", Start: start}},
			frames: map[string][]*change.Frame{
				"A": {{Through: end - 1, Changes: []change.Change{tapeChange(0, start+1)}, Bytes: 1, Ended: true,
					Children: []change.Partition{{Token: "C", Start: end, Parents: []string{"A"}}}}},
				"B": {{Through: end + 1000}},
			},
		}
		w := newWorld(newDice(1), 1, 2)
		writing := make(chan struct{})
		e := w.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) { return src, nil }
			o.Sinks = []NamedSink{{"least", memsink.NewWriter(memsink.Options{Destination: w.least, Before: func(ctx context.Context, b *sinks.Batch) error {
				close(writing)
				return memsink.Delay(5*time.Second)(ctx, b)
			}})}}
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-writing; synctest.Wait(); cancel() }()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		s := e.Status()
		if s.Finished != 1 {
			t.Fatalf("%d partitions finished, want A", s.Finished)
		}
		if got := s.Sinks[0].Watermark; got >= end {
			t.Errorf("the sink's watermark is %d, past the start %d of a partition it has nothing of; the pipeline's is %d", got, end, s.Watermark)
		}
	})
}

// TestNothingIsDeliveredAfterRun: with OrderCommit a partition that finishes in the drain may free what others hold; it is
// read again after the next start, not written beside Close.
func TestNothingIsDeliveredAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const start, end = 1_000_000, 1_000_100
		src := &tape{
			first: []change.Partition{{Token: "A", Start: start}, {Token: "B", Start: start}},
			frames: map[string][]*change.Frame{
				"A": {{Through: end - 1, Changes: []change.Change{tapeChange(0, start+1)}, Bytes: 1, Ended: true}},
				"B": {{Through: end + 1000, Changes: []change.Change{tapeChange(1, end+500)}, Bytes: 1}},
			},
		}
		w := newWorld(newDice(1), 1, 2)
		w.order = OrderCommit
		writing := make(chan struct{})
		var once sync.Once
		var mu sync.Mutex
		closed, late := false, false
		e := w.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) { return src, nil }
			o.Sinks = []NamedSink{{"least", closing{memsink.NewWriter(memsink.Options{Destination: w.least, Before: func(ctx context.Context, b *sinks.Batch) error {
				once.Do(func() { close(writing) })
				mu.Lock()
				late = late || b.Changes[0].Position.Commit > end
				mu.Unlock()
				return memsink.Delay(5*time.Second)(ctx, b)
			}}), func() { closed = true; time.Sleep(time.Second) }}}}
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-writing; synctest.Wait(); cancel() }()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if !closed || late {
			t.Errorf("closed %v; a batch was handed over after the lanes had been waited for: %v", closed, late)
		}
	})
}

type closing struct {
	*memsink.Writer
	noted func()
}

func (c closing) Close(ctx context.Context) error {
	c.noted()
	return c.Writer.Close(ctx)
}

// TestManySegmentsAreSplit: after a long outage of the store, or where a chain's end was asked of a large archive, a
// partition has more segments to list than one transaction takes. They must not block the checkpoint for ever.
func TestManySegmentsAreSplit(t *testing.T) {
	w := newWorld(newDice(1), 1, 2)
	e := w.engine(t, nil)
	p := e.newPartition(change.Partition{Token: "P", Start: 1000})
	e.running["P"] = p
	const n = 3*maxSegments + 7
	for i := range n {
		p.progress[0].segments = append(p.progress[0].segments, change.Segment{Count: int64(i)})
	}
	p.progress[0].appended("carts", sinks.End{Through: change.Position{Commit: 2000}})
	e.collect()
	seen := 0
	for i, u := range e.pending {
		for _, s := range u.Segments {
			if s.Count != int64(seen) {
				t.Fatalf("segment %d is listed where %d should be", s.Count, seen)
			}
			seen++
		}
		if last := i == len(e.pending)-1; len(u.Segments) > maxSegments || (len(u.Progress) > 0) != last || u.Token != "P" {
			t.Errorf("update %d of %d: %d segments, %d checkpoints", i+1, len(e.pending), len(u.Segments), len(u.Progress))
		}
	}
	if seen != n {
		t.Errorf("%d of %d segments are listed", seen, n)
	}
}

// deafStore never answers its first commits of progress, as a store behind a dead connection.
type deafStore struct {
	state.Store
	deaf int
}

func (s *deafStore) Commit(ctx context.Context, l state.Lease, u []state.Update) ([]string, error) {
	if u[0].Token != "" || len(u) > 1 {
		if s.deaf--; s.deaf >= 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
	return s.Store.Commit(ctx, l, u)
}

// TestCommitIsBounded: a store that does not answer is a failure that is seen, and tried again.
func TestCommitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(4), 60, 6)
		e := w.engine(t, func(o *Options) { o.Store = &deafStore{Store: w.store, deaf: 2} })
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n := e.Status().CheckpointFailures; ctx.Err() != nil || n != 2 {
			t.Errorf("%d failures counted, ended by %v", n, ctx.Err())
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestKillWhileStarting: Kill ends a start as it ends everything else, at once and without an error.
func TestKillWhileStarting(t *testing.T) {
	for name, change := range map[string]func(o *Options, block func(context.Context) error){
		"open": func(o *Options, block func(context.Context) error) {
			o.Sinks[0].Sink = memsink.NewAppender(memsink.Options{OnOpen: block})
		},
		"load": func(o *Options, block func(context.Context) error) {
			o.Source = func(ctx context.Context, _ state.Snapshot) (Source, error) { return nil, block(ctx) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(newDice(4), 10, 6)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				e := w.engine(t, func(o *Options) {
					change(o, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				})
				time.AfterFunc(time.Second, e.Kill)
				if err := e.Run(ctx); err != nil || ctx.Err() != nil {
					t.Errorf("Run: %v, ended by %v", err, ctx.Err())
				}
			})
		})
	}
}

// TestHopelessCheckpointStops: an error of the store that no try can cure stops the pipeline and is told; what is durable
// is delivered again after the next start (I2, I11).
func TestHopelessCheckpointStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(21), 60, 6)
		hopeless := &state.TooLargeError{Pipeline: "test", Token: "P0", Size: 2, Limit: 1, Unit: "mutations"}
		commits := 0
		err := w.engine(t, func(o *Options) {
			o.Store = storeFunc{w.store, func() error {
				if commits++; commits < 3 {
					return nil
				}
				return hopeless
			}}
		}).Run(t.Context())
		if !errors.Is(err, hopeless) {
			t.Fatalf("Run: %v", err)
		}
		if err := w.engine(t, nil).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	})
}

// storeFunc fails commits when before does.
type storeFunc struct {
	state.Store
	before func() error
}

func (s storeFunc) Commit(ctx context.Context, l state.Lease, u []state.Update) ([]string, error) {
	if err := s.before(); err != nil {
		return nil, err
	}
	return s.Store.Commit(ctx, l, u)
}

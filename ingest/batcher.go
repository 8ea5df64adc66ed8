package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// BatcherOptions are the options of [Store.NewBatcher]; the zero value is good.
type BatcherOptions struct {
	// Lanes is how many groups may be in flight. A stream always uses the same
	// lane, and a lane commits one group after another. 0 means 4.
	Lanes int
	// MaxEvents and MaxBytes close a group. 0 means 250 events and 8 MiB:
	// larger groups gain little and are retried whole when Spanner aborts one.
	// On Google's emulator they even lose: it checks a unique index in a time
	// that grows with the square of the transaction (2,000 events in one:
	// 570 a second; 250: 3,900; 100: 5,300).
	MaxEvents, MaxBytes int
	// MaxDelay is how long a group with room waits for more; 0 sends what is
	// there. Groups fill by themselves while the one before commits.
	MaxDelay time.Duration
	// MaxPendingBytes bounds the batches accepted and not answered; Add waits
	// when it is reached. 0 means 64 MiB.
	MaxPendingBytes int64
	// CommitTimeout bounds one transaction with all its retries; 0 means 60 s.
	CommitTimeout time.Duration
}

func (o *BatcherOptions) defaults() {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.Lanes, 4)
	set(&o.MaxEvents, 250)
	set(&o.MaxBytes, 8<<20)
	o.MaxEvents = min(o.MaxEvents, maxEvents)
	o.MaxBytes = min(o.MaxBytes, maxBytes)
	if o.MaxPendingBytes <= 0 {
		o.MaxPendingBytes = 64 << 20
	}
	if o.CommitTimeout <= 0 {
		o.CommitTimeout = 60 * time.Second
	}
}

// ErrClosed is the error of adding to a closed [Batcher].
var ErrClosed = errors.New("the batcher is closed")

// Batcher commits the batches of many callers in few transactions. The batches
// of one stream are committed in the order they were added; each has its own
// result, and a refused one does not hurt its neighbours.
type Batcher struct {
	store *Store
	opts  BatcherOptions
	ctx   context.Context // of the commits; answers come also after its end
	room  *semaphore.Weighted
	seed  maphash.Seed
	lanes []chan *pending
	done  sync.WaitGroup // the lanes' goroutines

	mu     sync.RWMutex // held for reading while adding, so that no lane closes under it
	closed bool         // guarded by mu
}

// pending is a batch that waits for its answer.
type pending struct {
	batch  Batch
	size   int
	weight int64 // of the room it holds
	answer func(Result, error)
}

// NewBatcher starts a batcher. Cancelling ctx fails what is pending; [Batcher.Close]
// must be called in any case.
func (s *Store) NewBatcher(ctx context.Context, opts BatcherOptions) *Batcher {
	opts.defaults()
	b := &Batcher{
		store: s, opts: opts, ctx: ctx,
		room:  semaphore.NewWeighted(opts.MaxPendingBytes),
		seed:  maphash.MakeSeed(),
		lanes: make([]chan *pending, opts.Lanes),
	}
	for i := range b.lanes {
		lane := make(chan *pending, opts.MaxEvents)
		b.lanes[i] = lane
		b.done.Go(func() { b.run(lane) })
	}
	return b
}

// Add hands over a batch and returns as soon as there is room for it; answer is
// called once, from a goroutine of the batcher, and should be quick. When Add
// returns an error, answer is not called. Batches of one stream keep their
// order if Add is called for them one after another.
func (b *Batcher) Add(ctx context.Context, batch Batch, answer func(Result, error)) error {
	if err := checkBatches([]Batch{batch}); err != nil {
		return err
	}
	p := &pending{batch: batch, size: batch.size(), answer: answer}
	// A batch larger than all the room takes all of it.
	p.weight = min(int64(p.size), b.opts.MaxPendingBytes)
	// I10: what is accepted and not answered is bounded; callers wait here.
	if err := b.room.Acquire(ctx, p.weight); err != nil {
		return context.Cause(ctx)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		b.room.Release(p.weight)
		return ErrClosed
	}
	lane := b.lanes[maphash.String(b.seed, batch.Stream)%uint64(len(b.lanes))]
	select {
	case lane <- p:
		return nil
	case <-ctx.Done():
		b.room.Release(p.weight)
		return context.Cause(ctx)
	}
}

// Append adds a batch and waits for its result. If ctx ends first, the batch
// may still be committed.
func (b *Batcher) Append(ctx context.Context, batch Batch) (Result, error) {
	answered := make(chan outcome, 1)
	if err := b.Add(ctx, batch, func(r Result, err error) { answered <- outcome{r, err} }); err != nil {
		return Result{}, err
	}
	select {
	case o := <-answered:
		return o.result, o.err
	case <-ctx.Done():
		return Result{}, fmt.Errorf("append to stream %q: %w; it may have been committed, repeat it to find out", batch.Stream, context.Cause(ctx))
	}
}

// Close waits until all that was added is answered, and stops the batcher.
// Calling it again waits as well.
func (b *Batcher) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		for _, lane := range b.lanes {
			close(lane)
		}
	}
	b.mu.Unlock()
	b.done.Wait()
}

// run is a lane: it collects a group, commits it, and starts again.
func (b *Batcher) run(lane <-chan *pending) {
	var next *pending // did not fit into the group before
	for {
		first := next
		if first == nil {
			var ok bool
			if first, ok = <-lane; !ok {
				return
			}
		}
		var group []*pending
		group, next = b.collect(lane, first)
		b.commit(group)
	}
}

func (b *Batcher) collect(lane <-chan *pending, first *pending) (group []*pending, next *pending) {
	group = []*pending{first}
	events, size := len(first.batch.Events), first.size
	var late <-chan time.Time
	if b.opts.MaxDelay > 0 {
		timer := time.NewTimer(b.opts.MaxDelay)
		defer timer.Stop()
		late = timer.C
	}
	for events < b.opts.MaxEvents && size < b.opts.MaxBytes {
		var p *pending
		var ok bool
		if late != nil {
			select {
			case p, ok = <-lane:
			case <-late:
			case <-b.ctx.Done():
			}
		} else {
			select {
			case p, ok = <-lane:
			default:
			}
		}
		if !ok {
			return group, nil
		}
		events += len(p.batch.Events)
		size += p.size
		if events > b.opts.MaxEvents || size > b.opts.MaxBytes {
			return group, p
		}
		group = append(group, p)
	}
	return group, nil
}

// commit commits a group and answers its members. When Spanner refuses the
// whole for the sake of a member, the halves are tried apart, down to single
// members: only the bad ones fail, for the price of a few transactions. The
// first half goes first, so streams keep their order.
func (b *Batcher) commit(group []*pending) {
	batches := make([]Batch, len(group))
	for i, p := range group {
		batches[i] = p.batch
	}
	ctx, cancel := context.WithTimeoutCause(b.ctx, b.opts.CommitTimeout, fmt.Errorf("no commit within %s", b.opts.CommitTimeout))
	outcomes, err := b.store.commit(ctx, batches, false)
	// Explained first: a missing table must not look like bad members.
	err = b.store.explain(ctx, "append "+describe(batches), err)
	cancel()
	if err != nil && len(group) > 1 && IsRefusal(err) {
		b.commit(group[:len(group)/2])
		b.commit(group[len(group)/2:])
		return
	}
	for i, p := range group {
		b.room.Release(p.weight)
		if err != nil {
			p.answer(Result{}, err)
		} else {
			p.answer(outcomes[i].result, outcomes[i].err)
		}
	}
}

package pipeline

import (
	"context"
	"sync"
)

// budget bounds the bytes of all frames that are not resolved yet, over all partitions and sinks of a pipeline (I10).
type budget struct {
	max int
	// pressure is called, without the lock, when someone has to wait: it closes the largest open batch so that bytes come
	// free without waiting for a batch's age.
	pressure func()

	mu      sync.Mutex
	used    int
	changed chan struct{} // closed and replaced at each release and move
	pressed bool          // pressure was called since changed was made
	waiting int
}

func newBudget(max int, pressure func()) *budget {
	return &budget{max: max, pressure: pressure, changed: make(chan struct{})}
}

// acquire takes n bytes, waiting while the budget is full. A frame larger than the whole budget passes when nothing else is
// held. Beyond the budget passes whoever may report true for: the partition with the lowest watermark, if it holds nothing
// beyond the budget yet. It may always read one more frame, because everyone else may be waiting for it.
func (b *budget) acquire(ctx context.Context, n int, may func() bool) (over bool, err error) {
	for {
		b.mu.Lock()
		fits := b.used+n <= b.max || b.used == 0
		if fits {
			b.used += n
			b.mu.Unlock()
			return false, nil
		}
		// Before may looks: who moves right after the look wakes us, or two could wait for each other for ever.
		changed := b.changed
		b.waiting++
		b.mu.Unlock()
		over, err := b.wait(ctx, changed, may)
		b.mu.Lock()
		b.waiting--
		if over {
			b.used += n
		}
		b.mu.Unlock()
		if over || err != nil {
			return over, err
		}
	}
}

// wait returns when may allows to go beyond the budget, when it is worth looking again, or with the context's cause.
func (b *budget) wait(ctx context.Context, changed <-chan struct{}, may func() bool) (over bool, err error) {
	if may() {
		return true, nil
	}
	// One who waits closes a batch, not each of ten thousand; if that is not enough, the next change finds the next batch.
	b.mu.Lock()
	press := !b.pressed
	b.pressed = true
	b.mu.Unlock()
	if press {
		b.pressure()
	}
	select {
	case <-changed:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// release gives n bytes back.
func (b *budget) release(n int) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
	b.wake()
}

// wake lets everyone who waits look again: bytes came free, another partition is the lowest now, or a batch was delivered and
// the next may be closed.
func (b *budget) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting > 0 {
		close(b.changed)
		b.changed, b.pressed = make(chan struct{}), false
	}
}

// inUse is the number of bytes held and how many partitions wait for more.
func (b *budget) inUse() (used, waiting int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.waiting
}

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
	changed chan struct{} // closed and replaced at each release
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
		b.mu.Unlock()
		over := !fits && may()

		b.mu.Lock()
		if fits = b.used+n <= b.max || b.used == 0; fits || over {
			b.used += n
			b.mu.Unlock()
			return !fits, nil
		}
		changed := b.changed
		b.waiting++
		b.mu.Unlock()
		b.pressure()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		b.mu.Lock()
		b.waiting--
		b.mu.Unlock()
		if err != nil {
			return false, err
		}
	}
}

// release gives n bytes back.
func (b *budget) release(n int) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
	b.wake()
}

// wake lets everyone who waits look again: bytes came free, or another partition is the lowest now.
func (b *budget) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// inUse is the number of bytes held and how many partitions wait for more.
func (b *budget) inUse() (used, waiting int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.waiting
}

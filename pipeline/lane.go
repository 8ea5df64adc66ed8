package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/spanledger/spanledger/change"
)

// item is one change on its way to one sink.
type item struct {
	change *change.Change
	share  *share
}

// lane is the unit inside which a sink receives changes strictly one batch after another (I1): a failed batch holds back
// everything behind it. It has a goroutine only while it has items.
type lane struct {
	sink *sinkRunner
	// chain is set with LaneByChain, and owned by the goroutine of run.
	chain *chainWriter

	mu      sync.Mutex
	pending []item
	bytes   int
	opened  time.Time // when the oldest pending item came
	flush   bool      // send what is there without waiting for more
	running bool
	wake    chan struct{} // tells a waiting goroutine that something above changed
}

func newLane(s *sinkRunner) *lane { return &lane{sink: s, wake: make(chan struct{}, 1)} }

// add appends items, all of one frame.
func (l *lane) add(items []item, bytes int) {
	l.mu.Lock()
	if len(l.pending) == 0 {
		l.opened = time.Now()
	}
	l.pending = append(l.pending, items...)
	l.bytes += bytes
	start := !l.running
	l.running = true
	l.mu.Unlock()
	if start {
		l.sink.engine.lanes.Go(l.run)
	} else {
		l.poke()
	}
}

// close makes the lane send what is pending now, if there is something.
func (l *lane) close() {
	l.mu.Lock()
	l.flush = len(l.pending) > 0
	l.mu.Unlock()
	l.poke()
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// size is the number of bytes waiting in the open batch that nothing has closed yet.
func (l *lane) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flush {
		return 0
	}
	return l.bytes
}

// run sends batches until the lane is empty or the engine stops hard.
func (l *lane) run() {
	var batch []item
	for {
		var wait time.Duration
		l.mu.Lock()
		if len(l.pending) == 0 {
			l.running, l.flush = false, false
			l.mu.Unlock()
			return
		}
		if batch, wait = l.take(batch[:0]); wait > 0 {
			l.mu.Unlock()
			if !l.pause(wait) {
				return
			}
			continue
		}
		l.mu.Unlock()
		if !l.sink.deliver(l, batch) {
			return
		}
	}
}

// take moves the next batch from pending to dst, or says how long to wait for more. The lock is held.
func (l *lane) take(dst []item) ([]item, time.Duration) {
	spec := &l.sink.spec
	if !l.flush && len(l.pending) < spec.MaxChanges && l.bytes < spec.MaxBytes && !l.sink.engine.stopping() {
		if wait := spec.MaxDelay - time.Since(l.opened); wait > 0 {
			return dst, wait
		}
	}
	n, bytes := 0, 0
	for n < len(l.pending) && n < spec.MaxChanges {
		size := l.pending[n].change.Size()
		if n > 0 && bytes+size > spec.MaxBytes {
			break
		}
		bytes += size
		n++
	}
	if l.chain != nil {
		n, bytes = wholeTimestamps(l.pending, n), 0
		for _, it := range l.pending[:n] {
			bytes += it.change.Size()
		}
	}
	dst = append(dst, l.pending[:n]...)
	clear(l.pending[:n])
	l.pending = l.pending[n:]
	l.bytes -= bytes
	l.opened = time.Now()
	if len(l.pending) == 0 {
		l.pending, l.flush = nil, false
	}
	return dst, 0
}

// wholeTimestamps is the number of items nearest to n at which no commit timestamp is torn: at most n if the first
// timestamp ends by then, else all of the first timestamp (I6: two writers may cut a chain differently, but only between
// timestamps).
func wholeTimestamps(items []item, n int) int {
	if n == len(items) {
		return n
	}
	commit := func(i int) change.Timestamp { return items[i].change.Position.Commit }
	for i := n; i > 0; i-- {
		if commit(i) != commit(i-1) {
			return i
		}
	}
	for n < len(items) && commit(n) == commit(0) {
		n++
	}
	return n
}

// pause waits until the delay is over or something changed; it reports false when the engine stops hard.
func (l *lane) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.wake:
	case <-l.sink.engine.hard.Done():
		return false
	}
	return true
}

// sleep waits for d; it reports false when the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

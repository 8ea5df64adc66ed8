package spanner

import (
	"context"
	"sync"
	"time"
)

// StepClock is a clock that stands still until it is moved: give it to Options.Clock to decide when commits happen, when
// heartbeats are due and when records expire. It is safe for concurrent use.
type StepClock struct {
	mu      sync.Mutex
	now     time.Time
	timers  map[chan time.Time]timer
	changed chan struct{} // closed, and made anew, whenever a timer is set
}

// timer is when a channel is due. The quiet ones are the server's own housekeeping: AwaitTimers does not count them.
type timer struct {
	at    time.Time
	quiet bool
}

// NewStepClock returns a clock that stands at now.
func NewStepClock(now time.Time) *StepClock {
	return &StepClock{now: now, timers: map[chan time.Time]timer{}, changed: make(chan struct{})}
}

// Now is where the clock stands.
func (c *StepClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// NewTimer returns a channel that receives once the clock has moved by d, at once if d <= 0.
func (c *StepClock) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	return c.newTimer(d, false)
}

func (c *StepClock) newTimer(d time.Duration, quiet bool) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fired := make(chan time.Time, 1)
	if d <= 0 {
		fired <- c.now
	} else {
		c.timers[fired] = timer{c.now.Add(d), quiet}
		close(c.changed)
		c.changed = make(chan struct{})
	}
	return fired, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, fired)
	}
}

// Step moves the clock and fires the timers it passes. A negative d moves it back and fires none. Commit timestamps rise all
// the same: a commit comes a microsecond after the last where the clock has not got further.
func (c *StepClock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for fired, t := range c.timers {
		if !t.at.After(c.now) {
			fired <- c.now
			delete(c.timers, fired)
		}
	}
}

// AwaitTimers returns once at least n timers wait for the clock, or with ctx's error: what a test does before it steps.
func (c *StepClock) AwaitTimers(ctx context.Context, n int) error {
	for {
		waiting, changed := c.waiting()
		if waiting >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waiting counts the timers that a test may wait for.
func (c *StepClock) waiting() (n int, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.timers {
		if !t.quiet {
			n++
		}
	}
	return n, c.changed
}

package store

import "time"

// Clock is the time a database lives by; tests step it. Implementations must be safe for concurrent use.
type Clock interface {
	// Now is the current time.
	Now() time.Time
	// NewTimer returns a channel that receives once, d from now or at once if d <= 0, and a function that gives the timer
	// up.
	NewTimer(d time.Duration) (fired <-chan time.Time, stop func())
}

// SystemClock is the real time; inside testing/synctest it is the bubble's.
type SystemClock struct{}

// Now returns time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// NewTimer makes a timer of package time.
func (SystemClock) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

package changes

import "time"

// Churn redraws the partitions of every stream by the clock: each Interval one random redraw a stream.
type Churn struct {
	// Interval is the time between redraws; 0 turns churn off.
	Interval time.Duration
	// Split, Merge and Move are the weights of the three; all zero means equal weights.
	Split, Merge, Move int
	// MaxPartitions is the number of live partitions at which a stream is not split further; 0 means 16.
	MaxPartitions int
	// Seed makes the choices repeatable for equal histories.
	Seed uint64
}

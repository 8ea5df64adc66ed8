package changes

import (
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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

func (l *Log) startChurn() {
	c := l.opts.Churn
	if c.Interval <= 0 {
		return
	}
	if c.Split+c.Merge+c.Move <= 0 {
		c.Split, c.Merge, c.Move = 1, 1, 1
	}
	if c.MaxPartitions <= 0 {
		c.MaxPartitions = 16
	}
	rng := rand.New(rand.NewPCG(c.Seed, c.Seed^0x9e3779b97f4a7c15))
	l.churn.Go(func() {
		for {
			fired, stop := l.clock.NewTimer(c.Interval)
			select {
			case <-l.done:
				stop()
				return
			case <-fired:
			}
			for _, name := range l.names() {
				l.churnOnce(name, c, rng)
			}
		}
	})
}

func (l *Log) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]string, 0, len(l.streams))
	for name := range l.streams {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// churnOnce does one random redraw. A stream may be dropped, or a partition be ended by a command or be too narrow to
// divide, between the choice and the redraw; then this turn changes nothing.
func (l *Log) churnOnce(name string, c Churn, rng *rand.Rand) {
	l.mu.Lock()
	s := l.streams[name]
	if s == nil {
		l.mu.Unlock()
		return
	}
	n := len(s.live)
	p := s.live[rng.IntN(n)]
	var next *partition // the right neighbour, for a merge
	for _, q := range s.live {
		if len(q.ranges) > 0 && q.ranges[0].from == p.ranges[len(p.ranges)-1].to {
			next = q
		}
	}
	l.mu.Unlock()

	pick := rng.IntN(max(1, c.Split+c.Merge+c.Move))
	split, merge := pick < c.Split, pick >= c.Split && pick < c.Split+c.Merge
	switch {
	case split && n >= c.MaxPartitions && next != nil && c.Merge > 0:
		split, merge = false, true
	case merge && next == nil:
		merge = false
	}
	var err error
	switch {
	case split && n < c.MaxPartitions:
		_, err = l.Split(name, p.token, 2, nil, 0)
	case merge:
		_, err = l.Merge(name, []string{p.token, next.token}, 0)
	case c.Move > 0:
		_, err = l.Move(name, p.token, 0)
	}
	switch status.Code(err) {
	case codes.OK, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange:
	default:
		panic("changes: churn: " + err.Error()) // it only asks for what the commands allow
	}
}

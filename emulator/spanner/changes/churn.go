package changes

import (
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Churn redraws the partitions of every stream: by the clock, each Interval one random redraw a stream, or by load.
type Churn struct {
	// Interval is the time between redraws; 0 turns churn off.
	Interval time.Duration
	// Split, Merge and Move are the weights of the three; all zero means equal weights.
	Split, Merge, Move int
	// Ways is the most parts of a split, and the most partitions that a merge joins, 2 to 100; 0 means 2.
	Ways int
	// Hot, if positive, makes it churn by load instead: a partition that took at least Hot changes in an Interval is split,
	// and neighbours that took at most Cold changes together are merged. Weights do not count then.
	Hot, Cold int
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
	c.Ways = min(max(2, c.Ways), 100)
	if c.MaxPartitions <= 0 {
		c.MaxPartitions = 16
	}
	rng := rand.New(rand.NewPCG(c.Seed, c.Seed^0x9e3779b97f4a7c15))
	l.churn.Go(func() {
		next := l.clock.Now()
		for {
			// A fixed rate: what a turn takes does not slow the next. Turns that a stepped clock or a busy machine has missed
			// are not made up for, nor are those waited for that a clock which went back has put off.
			now := l.clock.Now()
			if next = next.Add(c.Interval); next.Before(now) {
				next = now
			}
			if latest := now.Add(c.Interval); next.After(latest) {
				next = latest
			}
			fired, stop := l.clock.NewTimer(next.Sub(now))
			select {
			case <-l.done:
				stop()
				return
			case <-fired:
			}
			for _, name := range l.names() {
				if c.Hot > 0 {
					l.churnByLoad(name, c)
				} else {
					l.churnOnce(name, c, rng)
				}
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
	joined := s.mergeable(p, 2+rng.IntN(c.Ways-1), rng)
	l.mu.Unlock()

	pick := rng.IntN(max(1, c.Split+c.Merge+c.Move))
	split, merge := pick < c.Split, pick >= c.Split && pick < c.Split+c.Merge
	switch {
	case split && n >= c.MaxPartitions && len(joined) > 1 && c.Merge > 0:
		split, merge = false, true
	case merge && len(joined) == 1:
		merge = false
	}
	var err error
	switch {
	case split && n < c.MaxPartitions:
		_, err = l.Split(name, p.token, min(2+rng.IntN(c.Ways-1), 1+c.MaxPartitions-n), nil, 0)
	case merge:
		_, err = l.Merge(name, joined, 0)
	case c.Move > 0:
		_, err = l.Move(name, p.token, 0)
	}
	l.churned(err)
}

// churned looks at the outcome of a redraw that was chosen before: a stream may have been dropped, or a partition be ended
// by a command or be too narrow to divide; then the turn has changed nothing.
func (l *Log) churned(err error) {
	switch status.Code(err) { // INVALID_ARGUMENT: the token is one of a stream that was dropped and made again
	case codes.OK, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange, codes.InvalidArgument:
	default:
		panic("changes: churn: " + err.Error()) // it only asks for what the commands allow
	}
}

// starts finds live partitions by where their first range begins. The caller holds mu.
func (s *stream) starts() map[place]*partition {
	out := make(map[place]*partition, len(s.live))
	for _, p := range s.live {
		out[p.ranges[0].from] = p
	}
	return out
}

// neighbours is the tokens of p and up to n-1 live partitions, each right of the one before. The caller holds mu.
func neighbours(starts map[place]*partition, p *partition, n int) []string {
	out := []string{p.token}
	for len(out) < n {
		next := starts[p.ranges[len(p.ranges)-1].to]
		if next == nil || slices.Contains(out, next.token) {
			break
		}
		p = next
		out = append(out, p.token)
	}
	return out
}

// mergeable is the tokens of p and up to n-1 live partitions that can be merged with it. The caller holds mu.
func (s *stream) mergeable(p *partition, n int, rng *rand.Rand) []string {
	if !s.mutable {
		return neighbours(s.starts(), p, n)
	}
	out := []string{p.token}
	for _, i := range rng.Perm(len(s.live)) {
		if len(out) < n && s.live[i] != p {
			out = append(out, s.live[i].token)
		}
	}
	return out
}

// churnByLoad splits what is hot and merges what is cold.
func (l *Log) churnByLoad(name string, c Churn) {
	l.mu.Lock()
	s := l.streams[name]
	if s == nil {
		l.mu.Unlock()
		return
	}
	n, starts := len(s.live), s.starts()
	load := map[*partition]int{}
	for _, p := range s.live {
		load[p] = p.taken - p.counted
		p.counted = p.taken
	}
	var split []string
	var merge [][]string
	merged := map[string]bool{}
	for _, p := range s.live {
		if load[p] >= c.Hot {
			if n < c.MaxPartitions {
				split = append(split, p.token)
				n++
			}
			continue
		}
		pair := neighbours(starts, p, 2)
		if len(pair) == 2 && !merged[pair[0]] && !merged[pair[1]] && load[p]+load[s.parts[pair[1]]] <= c.Cold {
			merged[pair[0]], merged[pair[1]] = true, true
			merge = append(merge, pair)
		}
	}
	l.mu.Unlock()
	for _, token := range split {
		_, err := l.Split(name, token, 2, nil, 0)
		l.churned(err)
	}
	for _, pair := range merge {
		_, err := l.Merge(name, pair, 0)
		l.churned(err)
	}
}

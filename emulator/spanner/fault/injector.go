package fault

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Hit is a fault that strikes the call it was asked for.
type Hit struct {
	Rule
	// Rows is how many rows pass first: Rule.After, or a number up to Rule.AfterMax.
	Rows int
}

// Injector decides which calls are struck. It is safe for concurrent use; the zero Injector strikes none.
//
// Whether the n-th opportunity of a rule is struck depends on the seed, the rule's place and n only. Which call the n-th
// opportunity is depends on the order in which calls arrive.
type Injector struct {
	mu    sync.Mutex
	seed  uint64
	rules []*active
	added uint64
	count map[Kind]int
	jump  time.Duration
}

type active struct {
	Rule
	id    uint64
	seen  int
	times int
}

// New returns the injector of a plan. A rule that does not pass Rule.Check is an error.
func New(p Plan) (*Injector, error) {
	in := &Injector{seed: p.Seed}
	return in, in.Add(p.Rules...)
}

// Add adds rules, from now on: with times=1 and no chance a fault on command. All are added, or on an error none.
func (in *Injector) Add(rules ...Rule) error {
	for _, r := range rules {
		if err := r.Check(); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range rules {
		in.added++
		in.rules = append(in.rules, &active{Rule: r, id: in.added})
	}
	return nil
}

// Clear takes all rules away. Streams that a fault waits for have it still; the clock stays where it jumped to.
func (in *Injector) Clear() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.rules = nil
}

// Count is how many times faults of a kind have struck so far. A fault of a stream counts when the stream begins, though
// the stream may end before the row it waits for.
func (in *Injector) Count(k Kind) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.count[k]
}

// Strike asks what strikes a call at a point, in the order of the rules. stream is the change stream of a change-stream
// query, whose method is ChangeStream, else "". A jump has happened when Strike returns.
func (in *Injector) Strike(at Point, method, stream string) []Hit {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var hits []Hit
	for i := 0; i < len(in.rules); i++ {
		r := in.rules[i]
		if r.Point() != at || r.method() != method && r.method() != "*" || r.Stream != "" && r.Stream != stream {
			continue
		}
		r.seen++
		if r.Nth > 0 && r.seen != r.Nth || r.Every > 0 && r.seen%r.Every != 0 {
			continue
		}
		rng := rand.New(rand.NewPCG(in.seed^r.id*0x9e3779b97f4a7c15, uint64(r.seen)))
		if r.P > 0 && rng.Float64() >= r.P {
			continue
		}
		h := Hit{Rule: r.Rule, Rows: r.After}
		if r.AfterMax > r.After {
			h.Rows += rng.IntN(r.AfterMax - r.After + 1)
		}
		hits = append(hits, h)
		if in.count == nil {
			in.count = map[Kind]int{}
		}
		in.count[r.Kind]++
		if r.Kind == Jump {
			in.jump += r.By
		}
		r.times++
		if r.Times > 0 && r.times >= r.Times || r.Nth > 0 {
			in.rules = slices.Delete(in.rules, i, i+1)
			i--
		}
	}
	return hits
}

// offset is how far the clock has jumped.
func (in *Injector) offset() time.Duration {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.jump
}

// Clock is a clock of the server.
type Clock interface {
	Now() time.Time
	NewTimer(d time.Duration) (fired <-chan time.Time, stop func())
}

// Clock returns c with the jumps of this injector. Timers of c run on undisturbed.
func (in *Injector) Clock(c Clock) Clock { return jumping{c, in} }

type jumping struct {
	Clock
	in *Injector
}

func (j jumping) Now() time.Time { return j.Clock.Now().Add(j.in.offset()) }

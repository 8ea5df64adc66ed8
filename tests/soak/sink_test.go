package soak

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// destination judges what arrives and keeps a number a key: change n of a key must come first after change n-1, so that one
// counter proves order, completeness and uniqueness.
type destination struct {
	name string
	once bool // nothing may come twice

	mu      sync.Mutex
	through []int32 // the last change of each key
	first   int     // how many changes have come, not counting repeats
	repeats int
	wrong   []error
	// Of an appender: where its chains end, and how many batches came to a taken place.
	ends  map[change.Chain]change.Position
	taken int
	// failed counts injected failures.
	failed int
	rng    *rand.Rand
}

func newDestination(name string, keys int, once bool, seed uint64) *destination {
	return &destination{name: name, once: once, through: make([]int32, keys), ends: map[change.Chain]change.Position{}, rng: rand.New(rand.NewPCG(seed, seed))}
}

var errInjected = errors.New("injected: the destination failed")

// fails fails some calls; the caller holds the lock.
func (d *destination) fails() error {
	if d.rng.IntN(50) > 0 {
		return nil
	}
	d.failed++
	return errInjected
}

// take judges changes; the caller holds the lock.
func (d *destination) take(cs []change.Change) {
	for i := range cs {
		if err := d.judge(&cs[i]); err != nil && len(d.wrong) < 20 {
			d.wrong = append(d.wrong, fmt.Errorf("%s: %w", d.name, err))
		}
	}
}

func (d *destination) judge(c *change.Change) error {
	key, err := base64.StdEncoding.DecodeString(unquote(c.Key[0]))
	if err != nil || len(key) != 4 || keyNumber(key) >= len(d.through) {
		return fmt.Errorf("%s has the key %s: %v", c.ID(), c.Key[0], err)
	}
	n, err := strconv.ParseInt(unquote(c.After.At(1)), 10, 32)
	if err != nil {
		return fmt.Errorf("%s: %w", c.ID(), err)
	}
	last := &d.through[keyNumber(key)]
	switch {
	case int32(n) == *last+1:
		*last++
		d.first++
	case int32(n) > *last:
		return fmt.Errorf("%s: change %d of key %x came after change %d, in partition %s", c.ID(), n, key, *last, c.Partition)
	default:
		d.repeats++
		if d.once {
			return fmt.Errorf("%s: change %d of key %x came again after change %d, in partition %s", c.ID(), n, key, *last, c.Partition)
		}
	}
	return nil
}

func unquote(v change.Value) string {
	if len(v) < 2 {
		return ""
	}
	return string(v[1 : len(v)-1])
}

func (d *destination) arrived() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first
}

// errors are what came wrongly, the first of it.
func (d *destination) errors() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.wrong...)
}

// sink is what Writers and Appenders have in common.
type sink struct {
	*destination
	spec sinks.Spec
}

func (s sink) Spec() sinks.Spec            { return s.spec }
func (s sink) Open(context.Context) error  { return nil }
func (s sink) Close(context.Context) error { return nil }

var spec = sinks.Spec{MaxChanges: 1000, MaxBytes: 1 << 20, MaxDelay: 50 * time.Millisecond}

type writer struct{ sink }

func newWriter(d *destination) sinks.Writer {
	s := spec
	s.LaneBy, s.Lanes = sinks.LaneByKey, 8
	return writer{sink{d, s}}
}

func (w writer) Write(_ context.Context, b *sinks.Batch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fails(); err != nil {
		return err
	}
	w.take(b.Changes)
	return w.fails() // or the answer is lost
}

type appender struct{ sink }

func newAppender(d *destination) sinks.Appender {
	s := spec
	s.LaneBy = sinks.LaneByChain
	return appender{sink{d, s}}
}

func (a appender) Append(_ context.Context, b *sinks.Batch, end sinks.End) (sinks.End, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.fails(); err != nil {
		return sinks.End{}, err
	}
	if through := a.ends[*b.Chain]; through.Compare(end.Through) != 0 {
		a.taken++
		return sinks.End{Through: through}, nil
	}
	a.take(b.Changes)
	through := b.Changes[len(b.Changes)-1].Position
	a.ends[*b.Chain] = through
	return sinks.End{Through: through}, a.fails()
}

func (a appender) End(_ context.Context, chain change.Chain) (sinks.End, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return sinks.End{Through: a.ends[chain]}, a.fails()
}

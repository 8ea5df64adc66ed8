package memsink

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// Hook is called around a delivery with its batch. An error makes the call return it, as it is.
type Hook func(ctx context.Context, batch *sinks.Batch) error

// Fail makes a hook that returns err at its first n calls, over all lanes, and nil afterwards.
func Fail(n int, err error) Hook {
	var mu sync.Mutex
	return func(context.Context, *sinks.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if n <= 0 {
			return nil
		}
		n--
		return err
	}
}

// Delay makes a hook that waits for d, or until the call's context ends and then returns its error.
func Delay(d time.Duration) Hook {
	return func(ctx context.Context, _ *sinks.Batch) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Options configure a sink of this package; the zero value is good.
type Options struct {
	// Destination is where to deliver; nil makes a new one, which the sink's Destination field then holds.
	Destination *Destination
	// Spec is what the sink says of itself. Fields left zero take a default: lanes by key, 4 of them (an Appender: lanes by
	// chain), 100 changes, 1 MiB, no delay.
	Spec sinks.Spec
	// Before is called before the effect: after its error nothing was delivered.
	Before Hook
	// After is called after the effect: its error is a lost response.
	After Hook
	// OnOpen and OnClose may refuse Open and Close.
	OnOpen, OnClose func(context.Context) error
	// Reject names changes the destination never takes: an error makes Write reject the change for that reason. Appenders
	// reject nothing and ignore it.
	Reject func(*change.Change) error
	// MaxPlace makes an Appender put at most so many changes into one place, as many whole commit timestamps as fit and at
	// least one; 0 means no bound.
	MaxPlace int
	// Segments makes an Appender report each place as a change.Segment, as an archive does.
	Segments bool
}

func (o *Options) fill(by sinks.LaneBy) {
	if o.Destination == nil {
		o.Destination = NewDestination()
	}
	s := &o.Spec
	if s.LaneBy == 0 {
		s.LaneBy = by
	}
	if s.LaneBy == sinks.LaneByKey && s.Lanes == 0 {
		s.Lanes = 4
	}
	if s.MaxChanges == 0 {
		s.MaxChanges = 100
	}
	if s.MaxBytes == 0 {
		s.MaxBytes = 1 << 20
	}
}

// watch is what both sinks share: the life cycle, and the eye kept on the engine.
type watch struct {
	// Destination is where the sink delivers to.
	*Destination
	o Options

	mu         sync.Mutex
	open       bool
	inFlight   map[string]int // lanes as far as a sink can tell them: keys, tables or chains
	violations []error
}

// Spec is Options.Spec with the defaults filled in.
func (w *watch) Spec() sinks.Spec { return w.o.Spec }

// Open opens the sink; it may be opened again after Close.
func (w *watch) Open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.o.OnOpen != nil {
		if err := w.o.OnOpen(ctx); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open {
		w.violate("Open was called twice")
	}
	w.open = true
	return nil
}

// Close closes the sink. What was delivered stays in the Destination.
func (w *watch) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.open {
		w.violate("Close was called on a sink that is not open")
	}
	if len(w.inFlight) > 0 {
		w.violate("Close was called while a Write, Append or End was in flight")
	}
	w.open = false
	w.mu.Unlock()
	if w.o.OnClose != nil {
		return w.o.OnClose(ctx)
	}
	return nil
}

// Violations are the engine's offences against the contract of package sinks as this sink saw them, in order; nil is
// what a test wants.
func (w *watch) Violations() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.violations)
}

// violate records an offence; the caller holds w.mu.
func (w *watch) violate(format string, args ...any) {
	w.violations = append(w.violations, fmt.Errorf("memsink: "+format, args...))
}

// enter checks a call against the contract and marks its lanes as busy; leave undoes the marks.
func (w *watch) enter(batch *sinks.Batch) (lanes []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.open {
		w.violate("a batch came while the sink was not open")
	}
	s := &w.o.Spec
	n := len(batch.Changes)
	if n == 0 {
		w.violate("a batch was empty")
	}
	// A chain's commit timestamp is never torn, so one that is larger than the bounds comes whole, and alone.
	alone := s.LaneBy == sinks.LaneByChain && n > 0 &&
		batch.Changes[0].Position.Commit == batch.Changes[n-1].Position.Commit
	if n > s.MaxChanges && !alone {
		w.violate("a batch had %d changes, the spec allows %d", n, s.MaxChanges)
	}
	size := 0
	last := make(map[string]change.Position)
	for i := range batch.Changes {
		c := &batch.Changes[i]
		size += c.Size()
		lane := w.lane(batch, c)
		if !slices.Contains(lanes, lane) {
			lanes = append(lanes, lane)
		}
		order := rowKey(c)
		if s.LaneBy == sinks.LaneByChain {
			order = lane
			if batch.Chain != nil && c.Table.Name != batch.Chain.Table {
				w.violate("chain %v got a change of table %s", *batch.Chain, c.Table.Name)
			}
		}
		if p, ok := last[order]; ok && !c.Position.After(p) {
			w.violate("a batch had %s behind %s: %s", c.Position, p, order)
		}
		last[order] = c.Position
	}
	if size > s.MaxBytes && n > 1 && !alone {
		w.violate("a batch of %d changes had %d bytes, the spec allows %d", n, size, s.MaxBytes)
	}
	if (batch.Chain != nil) != (s.LaneBy == sinks.LaneByChain) {
		w.violate("a batch's Chain is set only, and always, with LaneByChain")
	}
	w.busy(lanes)
	return lanes
}

func (w *watch) busy(lanes []string) {
	for _, lane := range lanes {
		if w.inFlight[lane] > 0 {
			w.violate("two calls were in flight at once in lane %s", lane)
		}
		w.inFlight[lane]++
	}
}

func (w *watch) leave(lanes []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, lane := range lanes {
		if w.inFlight[lane]--; w.inFlight[lane] == 0 {
			delete(w.inFlight, lane)
		}
	}
}

// lane names the finest lane a change can be in: with LaneByKey the engine's hash is unknown here, but equal keys share a
// lane whatever it is.
func (w *watch) lane(batch *sinks.Batch, c *change.Change) string {
	switch {
	case batch.Chain != nil:
		return fmt.Sprint(*batch.Chain)
	case w.o.Spec.LaneBy == sinks.LaneByTable:
		return c.Table.Name
	}
	return rowKey(c)
}

func call(ctx context.Context, h Hook, batch *sinks.Batch) error {
	if h == nil {
		return nil
	}
	return h(ctx, batch)
}

package memsink

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/spanledger/spanledger/change"
)

// Delivery is one change as it reached a Destination.
type Delivery struct {
	// Change is a deep copy, owned by the Destination; do not change what it points to. Its Table is the one delivered.
	Change change.Change
	// Call numbers the Write or Append call that delivered it, from 1, in the order in which they took effect.
	Call int
	// Chain and Place say where an Appender put it; Writers leave them zero. Places count from 0 in a chain.
	Chain change.Chain
	Place int
	// Repeat says that the same change had been delivered before.
	Repeat bool
}

// Key is the table's name and the canonical key, for maps.
func (d *Delivery) Key() string { return rowKey(&d.Change) }

func rowKey(c *change.Change) string { return c.Table.Name + string(c.AppendKey(nil)) }

// place is one append to a chain: a run of the deliveries' changes that is never written again.
type place struct {
	changes []change.Change
	segment change.Segment
}

// Destination is where sinks of this package deliver to. All methods are safe for concurrent use.
type Destination struct {
	mu         sync.Mutex
	calls      int
	deliveries []Delivery
	seen       map[string]bool // change ids
	chains     map[change.Chain][]place
	changed    chan struct{} // closed and replaced at every delivery
}

// NewDestination makes an empty destination.
func NewDestination() *Destination {
	return &Destination{
		seen:    make(map[string]bool),
		chains:  make(map[change.Chain][]place),
		changed: make(chan struct{}),
	}
}

// deliver records changes as one call; the caller holds d.mu.
func (d *Destination) deliver(changes []change.Change, chain change.Chain, place int) {
	d.calls++
	for i := range changes {
		id := changes[i].ID()
		d.deliveries = append(d.deliveries, Delivery{
			Change: changes[i], Call: d.calls, Chain: chain, Place: place, Repeat: d.seen[id],
		})
		d.seen[id] = true
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// Deliveries are all deliveries so far, repeats included, in the order in which they took effect. The slice is the
// caller's.
func (d *Destination) Deliveries() []Delivery {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.deliveries)
}

// Calls is the number of Write and Append calls that had an effect.
func (d *Destination) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Distinct is the number of different changes delivered.
func (d *Destination) Distinct() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.seen)
}

// Wait blocks until n different changes have been delivered, or ctx ends; the error then says how many there are.
func (d *Destination) Wait(ctx context.Context, n int) error {
	for {
		d.mu.Lock()
		have, changed := len(d.seen), d.changed
		d.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("memsink: %d of %d changes delivered: %w", have, n, context.Cause(ctx))
		}
	}
}

// Chains lists the chains that hold something, in no particular order.
func (d *Destination) Chains() []change.Chain {
	d.mu.Lock()
	defer d.mu.Unlock()
	chains := make([]change.Chain, 0, len(d.chains))
	for c := range d.chains {
		chains = append(chains, c)
	}
	return chains
}

// Chain is what one chain holds, in order. The slice is the caller's.
func (d *Destination) Chain(chain change.Chain) []change.Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []change.Change
	for _, p := range d.chains[chain] {
		all = append(all, p.changes...)
	}
	return all
}

// CheckOrder checks I1: that the first deliveries of each key's changes came in position order.
func (d *Destination) CheckOrder() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := make(map[string]*Delivery)
	for i := range d.deliveries {
		v := &d.deliveries[i]
		if v.Repeat {
			continue
		}
		key := v.Key()
		if l := last[key]; l != nil && !v.Change.Position.After(l.Change.Position) {
			return fmt.Errorf("memsink: key %s: %s (call %d) was first delivered after %s (call %d)",
				key, v.Change.ID(), v.Call, l.Change.ID(), l.Call)
		}
		last[key] = v
	}
	return nil
}

// CheckOnce checks I6 and I7 for what Appenders delivered: that no change came twice, in whatever chain, and that every
// chain is strictly in position order with no commit timestamp torn over two places.
func (d *Destination) CheckOnce() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.deliveries {
		if v := &d.deliveries[i]; v.Repeat {
			return fmt.Errorf("memsink: %s was delivered again by call %d", v.Change.ID(), v.Call)
		}
	}
	for chain, places := range d.chains {
		var last change.Position
		for n, p := range places {
			for i := range p.changes {
				pos := p.changes[i].Position
				if !pos.After(last) {
					return fmt.Errorf("memsink: chain %v place %d: %s is not after %s", chain, n, pos, last)
				}
				if i == 0 && n > 0 && pos.Commit == last.Commit && !pos.Snapshot {
					return fmt.Errorf("memsink: chain %v: commit timestamp %s is torn between places %d and %d", chain, pos.Commit, n-1, n)
				}
				last = pos
			}
		}
	}
	return nil
}

// clone copies a batch's changes with everything the engine may take back after the call.
func clone(changes []change.Change) []change.Change {
	out := slices.Clone(changes)
	for i := range out {
		c := &out[i]
		c.Key, c.After, c.Before = cloneRow(c.Key), cloneRow(c.After), cloneRow(c.Before)
	}
	return out
}

func cloneRow[R ~[]change.Value](row R) R {
	if row == nil {
		return nil
	}
	out := make(R, len(row))
	for i, v := range row {
		out[i] = bytes.Clone(v) // nil stays nil: "not captured" is not an empty value
	}
	return out
}

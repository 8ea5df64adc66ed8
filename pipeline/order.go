package pipeline

import (
	"fmt"
	"slices"
	"sync"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// Order is the order in which a pipeline's changes are first delivered.
type Order string

// The orders.
const (
	// OrderKey keeps the order of each key's changes: the default, and all that a partition graph needs.
	OrderKey Order = "key"
	// OrderCommit keeps the order of the whole database's changes: each is held until every partition has been read past it,
	// and a Writer gets all of them in one lane. It costs the delay of the slowest partition and a lane's concurrency. It is
	// also what a server needs that moves keys between unrelated partitions, as Google's emulator does.
	OrderCommit Order = "commit"
)

// Check is an error that names the orders there are, unless o is one of them or empty, which means OrderKey.
func (o Order) Check() error {
	switch o {
	case "", OrderKey, OrderCommit:
		return nil
	}
	return fmt.Errorf("%q: want %s or %s", string(o), OrderKey, OrderCommit)
}

// oneLane is a Writer's Spec under OrderCommit.
func oneLane(s sinks.Spec) sinks.Spec {
	if s.LaneBy != sinks.LaneByChain {
		s.LaneBy, s.Lanes = sinks.LaneByKey, 1
	}
	return s
}

// sequencer puts the changes of all partitions into one order (OrderCommit): it holds each until the low watermark of what
// was read has passed it.
type sequencer struct {
	engine *Engine

	mu sync.Mutex
	// held are the frames of each partition that still hold something, in the order they were read.
	held map[*partition][]heldFrame
	// released is how far everything has been handed to the lanes.
	released change.Timestamp
	// bounds are what snapshots allow to be released while their chunks are on the way.
	bounds map[*watch]change.Timestamp
	// lowest is the partition that was the lowest when this was last computed; nil if it was one that waits for its parents.
	lowest *partition
}

type heldFrame struct {
	changes []change.Change // what is left of the frame
	shares  []*share        // one a sink
}

// hold takes a frame whose changes are tracked.
func (s *sequencer) hold(p *partition, f *change.Frame, shares []*share) {
	if len(f.Changes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[p] = append(s.held[p], heldFrame{f.Changes, shares})
}

// release hands on, in position order, what every partition has been read past. The caller has published its own progress.
// hasEnded says that a partition has just ended.
func (s *sequencer) release(hasEnded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.lowest; !hasEnded && p != nil && change.Timestamp(p.through.Load()) <= s.released && !p.hasEnded() {
		return // the lowest has not moved: nothing comes free, whatever the thousands before it have read
	}
	through, lowest, ended := s.engine.readThrough()
	s.lowest = lowest
	for _, t := range s.bounds {
		through = min(through, t) // I1: a chunk's rows come before what was committed after it was read
	}
	if through <= s.released && !ended {
		return
	}
	if through < change.MaxTimestamp {
		s.released = max(s.released, through)
	}
	var run []sequenced
	for p, frames := range s.held {
		for len(frames) > 0 {
			f := &frames[0]
			n := 0
			for n < len(f.changes) && f.changes[n].Position.Commit <= through {
				run = append(run, sequenced{&f.changes[n], f.shares})
				n++
			}
			if f.changes = f.changes[n:]; len(f.changes) > 0 {
				break
			}
			frames = frames[1:]
		}
		if s.held[p] = frames; len(frames) == 0 {
			delete(s.held, p)
		}
	}
	slices.SortFunc(run, func(a, b sequenced) int { return a.change.Position.Compare(b.change.Position) })
	if n := len(run); n > 0 { // where nothing is being read, through says nothing
		s.released = max(s.released, run[n-1].change.Position.Commit)
	}
	for i, sink := range s.engine.sinks {
		sink.acceptRun(i, run)
		if ended {
			for _, l := range sink.allLanes() {
				l.close() // a partition's children wait for what it still has here
			}
		}
	}
}

// stay bounds what is released to what is released now, and answers how far that is.
func (s *sequencer) stay(w *watch) change.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounds[w] = s.released
	return s.released
}

// bound moves a watch's bound.
func (s *sequencer) bound(w *watch, t change.Timestamp) {
	s.mu.Lock()
	s.bounds[w] = t
	s.mu.Unlock()
	if !s.engine.stopping() {
		s.release(true)
	}
}

// unbound takes a watch's bound away.
func (s *sequencer) unbound(w *watch) {
	s.mu.Lock()
	_, ok := s.bounds[w]
	delete(s.bounds, w)
	s.mu.Unlock()
	if ok && !s.engine.stopping() {
		s.release(true)
	}
}

// sequenced is a change in the one order, with its shares by sink.
type sequenced struct {
	change *change.Change
	shares []*share
}

// acceptRun hands a run of the one order to sink number i's lanes.
func (r *sinkRunner) acceptRun(i int, run []sequenced) {
	var groups laneGroups
	var key []byte
	for _, q := range run {
		s := q.shares[i]
		if q.change.Position.Commit > s.at.skip {
			groups.add(r.laneFor(q.change, s.at, &key), item{q.change, s})
		}
	}
	groups.deliver()
}

// readThrough is the low watermark of what was read, over partitions that wait for their parents too, the partition it is
// that of, nil for one that waits, and whether some partition has ended and waits for its sinks.
func (e *Engine) readThrough() (through change.Timestamp, lowest *partition, ended bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	through = change.MaxTimestamp
	for _, start := range e.waiting {
		through = min(through, start-1)
	}
	for _, p := range e.running {
		if p.hasEnded() {
			ended = true // nothing more comes from it, and its children are among the waiting
		} else if t := change.Timestamp(p.through.Load()); t < through {
			through, lowest = t, p
		}
	}
	return through, lowest, ended
}

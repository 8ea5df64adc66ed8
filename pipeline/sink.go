package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// sinkRunner runs one sink: its lanes, its retries, its numbers.
type sinkRunner struct {
	name   string
	sink   sinks.Sink
	spec   sinks.Spec
	engine *Engine
	seed   maphash.Seed

	mu    sync.Mutex
	lanes []*lane          // all lanes, for closing batches; with LaneByKey exactly spec.Lanes
	table map[string]*lane // with LaneByTable

	delivered atomic.Int64 // changes known durable
	retries   atomic.Int64
	watermark atomic.Int64 // as Status shows it
	failing   atomic.Pointer[Failure]
	stats     sinkStats
}

func newSinkRunner(e *Engine, name string, s sinks.Sink) (*sinkRunner, error) {
	spec := s.Spec()
	if e.opts.Order == OrderCommit {
		spec = oneLane(spec)
	}
	r := &sinkRunner{name: name, sink: s, spec: spec, engine: e, seed: maphash.MakeSeed()}
	_, writer := s.(sinks.Writer)
	_, appender := s.(sinks.Appender)
	switch {
	case spec.MaxChanges < 1 || spec.MaxBytes < 1:
		return nil, fmt.Errorf("sink %s: MaxChanges and MaxBytes of its Spec must be positive", name)
	case spec.LaneBy == sinks.LaneByChain && !appender:
		return nil, fmt.Errorf("sink %s: lanes by chain need an Appender", name)
	case spec.LaneBy != sinks.LaneByChain && !writer:
		return nil, fmt.Errorf("sink %s: lanes by key or table need a Writer", name)
	case spec.LaneBy == sinks.LaneByKey:
		if spec.Lanes < 1 {
			return nil, fmt.Errorf("sink %s: Lanes of its Spec must be positive", name)
		}
		for range spec.Lanes {
			r.lanes = append(r.lanes, newLane(r))
		}
	case spec.LaneBy == sinks.LaneByTable:
		r.table = map[string]*lane{}
	case spec.LaneBy != sinks.LaneByChain:
		return nil, fmt.Errorf("sink %s: unknown LaneBy %d in its Spec", name, spec.LaneBy)
	}
	if r.spec.WriteTimeout <= 0 {
		r.spec.WriteTimeout = time.Minute
	}
	return r, nil
}

// share tracks the sink's part of a frame: the changes it does not have yet.
func (r *sinkRunner) share(f *change.Frame, at *progress, h *hand) (*share, []change.Change) {
	first := 0
	for first < len(f.Changes) && f.Changes[first].Position.Commit <= at.skip {
		first++ // durable here before the last stop
	}
	changes := f.Changes[first:]
	return at.track(h, f.Through, len(changes)), changes
}

// accept spreads a frame over the sink's lanes; it is called by the partition's reader.
func (r *sinkRunner) accept(f *change.Frame, at *progress, h *hand) {
	s, changes := r.share(f, at, h)
	var groups laneGroups
	var key []byte
	for i := range changes {
		groups.add(r.laneFor(&changes[i], at, &key), item{&changes[i], s})
	}
	groups.deliver()
	if awaited(f) {
		r.closeLanes(at)
	}
}

// laneGroups collects items by lane, keeping their order.
type laneGroups struct {
	list []laneItems
	// at finds a lane in list once there are many: with OrderCommit a run is of all partitions and has all their chains.
	at map[*lane]int
}

// fewGroups is how many lanes are found faster by looking at each.
const fewGroups = 16

type laneItems struct {
	lane  *lane
	items []item
	bytes int
}

func (g *laneGroups) add(l *lane, it item) {
	group := g.group(l)
	group.items = append(group.items, it)
	group.bytes += it.change.Size()
}

func (g *laneGroups) group(l *lane) *laneItems {
	if g.at == nil {
		if i := slices.IndexFunc(g.list, func(have laneItems) bool { return have.lane == l }); i >= 0 {
			return &g.list[i]
		}
	} else if i, ok := g.at[l]; ok {
		return &g.list[i]
	}
	g.list = append(g.list, laneItems{lane: l})
	switch {
	case g.at != nil:
		g.at[l] = len(g.list) - 1
	case len(g.list) > fewGroups:
		g.at = make(map[*lane]int, 4*fewGroups)
		for i := range g.list {
			g.at[g.list[i].lane] = i
		}
	}
	return &g.list[len(g.list)-1]
}

func (g *laneGroups) deliver() {
	for _, l := range g.list {
		l.lane.add(l.items, l.bytes)
	}
}

func (r *sinkRunner) laneFor(c *change.Change, at *progress, key *[]byte) *lane {
	switch r.spec.LaneBy {
	case sinks.LaneByKey:
		// I1: a key has one lane whatever partition it comes from, so a split cannot reorder it.
		*key = c.AppendKey(append((*key)[:0], c.Table.Name...))
		return r.lanes[maphash.Bytes(r.seed, *key)%uint64(len(r.lanes))]
	case sinks.LaneByTable:
		r.mu.Lock()
		defer r.mu.Unlock()
		l := r.table[c.Table.Name]
		if l == nil {
			l = newLane(r)
			r.table[c.Table.Name] = l
			r.lanes = append(r.lanes, l)
		}
		return l
	}
	l := at.lanes[c.Table.Name]
	if l == nil {
		l = newLane(r)
		l.chain = newChainWriter(at, c.Table.Name)
		at.lanes[c.Table.Name] = l
		r.mu.Lock()
		r.lanes = append(r.lanes, l)
		r.mu.Unlock()
	}
	return l
}

// closeLanes makes the partition's changes leave now: other partitions wait for them, and never for a batch's age.
func (r *sinkRunner) closeLanes(at *progress) {
	if r.spec.LaneBy == sinks.LaneByChain {
		for _, l := range at.lanes {
			l.close()
		}
		return
	}
	for _, l := range r.allLanes() {
		l.close()
	}
}

func (r *sinkRunner) allLanes() []*lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*lane(nil), r.lanes...)
}

// forget drops a finished partition's chains.
func (r *sinkRunner) forget(at *progress) {
	if len(at.lanes) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.lanes[:0]
	for _, l := range r.lanes {
		if l.chain == nil || l.chain.at != at {
			kept = append(kept, l)
		}
	}
	clear(r.lanes[len(kept):])
	r.lanes = kept
}

// deliver makes a batch durable, however often it must try; it reports false when the engine stops first.
func (r *sinkRunner) deliver(l *lane, items []item) bool {
	began := time.Now()
	changes := make([]change.Change, len(items))
	for i := range items {
		changes[i] = *items[i].change
	}
	if l.chain != nil {
		if !l.chain.append(r, changes) {
			return false
		}
	} else {
		batch := &sinks.Batch{Changes: changes}
		ok := r.try(func(ctx context.Context) error { return r.sink.(sinks.Writer).Write(ctx, batch) }, changes)
		if !ok {
			return false
		}
	}
	r.delivered.Add(int64(len(items)))
	r.stats.batches.Add(1)
	r.engine.opts.Observer.Delivered(r.name, changes, time.Since(began))
	for len(items) > 0 {
		s, n := items[0].share, 1
		for n < len(items) && items[n].share == s {
			n++
		}
		s.at.resolve(s, n)
		items = items[n:]
	}
	r.engine.budget.press(true)
	return true
}

// try calls f until it returns nil, backing off with jitter between calls. It reports false when the engine stops, which
// it makes it do itself for errors that no retry can cure. changes are those f is about, for the message.
func (r *sinkRunner) try(f func(context.Context) error, changes []change.Change) bool {
	e := r.engine
	backoff := e.opts.MinBackoff
	for tries := 1; ; tries++ {
		if e.hard.Err() != nil {
			return false
		}
		ctx, cancel := context.WithTimeout(e.hard, r.spec.WriteTimeout)
		err := f(ctx)
		cancel()
		if err == nil {
			if r.failing.Swap(nil) != nil {
				e.log.Info("sink works again", "sink", r.name)
			}
			return true
		}
		if e.hard.Err() != nil {
			return false
		}
		e.opts.Observer.SinkFailed(r.name, err)
		if reject, ok := errors.AsType[*sinks.RejectError](err); ok {
			e.fail(r.rejected(reject, changes))
			return false
		}
		if sinks.IsStop(err) {
			e.fail(fmt.Errorf("sink %s stopped the pipeline: %w", r.name, err))
			return false
		}
		wait := max(sinks.RetryAfter(err), backoff/2+rand.N(backoff))
		backoff = min(2*backoff, e.opts.MaxBackoff)
		r.retries.Add(1)
		r.noteFailure(err, wait)
		if !sleep(e.hard, wait) {
			return false
		}
	}
}

// noteFailure keeps the error for Status, and logs it when it is new and then ever more rarely (I11).
func (r *sinkRunner) noteFailure(err error, wait time.Duration) {
	f := &Failure{Err: err, Since: time.Now(), Tries: 1}
	if old := r.failing.Load(); old != nil {
		f.Since, f.Tries = old.Since, old.Tries+1
	}
	r.failing.Store(f)
	if f.Tries&(f.Tries-1) == 0 {
		r.engine.log.Warn("sink failed, trying again", "sink", r.name, "error", err, "tries", f.Tries,
			"failing_for", time.Since(f.Since).Round(time.Millisecond), "wait", wait.Round(time.Millisecond))
	}
}

// rejected is the error that stops the pipeline when a destination refuses a change for good: nothing behind it may pass,
// and nothing may be dropped.
func (r *sinkRunner) rejected(e *sinks.RejectError, changes []change.Change) error {
	if len(e.Rejected) == 0 || e.Rejected[0].Index < 0 || e.Rejected[0].Index >= len(changes) {
		return fmt.Errorf("sink %s stopped the pipeline: %w", r.name, e)
	}
	c := &changes[e.Rejected[0].Index]
	return fmt.Errorf("sink %s stopped the pipeline: it refused %d change(s) for good, the first being %s of table %s, key %s, id %s: %w; "+
		"nothing was dropped: mend the destination or the sink's options and start again",
		r.name, len(e.Rejected), c.Op, c.Table.Name, c.AppendKey(nil), c.ID(), e.Rejected[0].Reason)
}

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// checkpointLoop stores progress until reading stops. It is the only owner of the graph.
func (e *Engine) checkpointLoop() {
	tick := time.NewTicker(e.opts.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-e.soft.Done():
			return
		case <-tick.C:
		case <-e.poke:
		}
		e.storeProgress(e.soft)
		e.renew(e.soft)
		if w := e.graph.Watermark(); (w == change.MaxTimestamp || e.opts.End != 0 && w >= e.opts.End) && !e.takesSnapshots() {
			e.stopSoft(errFinished)
			return
		}
	}
}

// commitTimeout bounds one try of storing a checkpoint: behind a dead connection the client alone would wait for an hour, unseen
// (I11). A try that was stored after all is harmless.
const commitTimeout = 2 * time.Minute

// storeProgress stores what has become durable, however often it must try, and starts the partitions this frees.
func (e *Engine) storeProgress(ctx context.Context) {
	e.collect()
	defer func() {
		if len(e.pending) == 0 {
			e.stats.checkpointed.Store(time.Now().UnixMicro()) // also when there was nothing to store
		}
	}()
	if len(e.pending) == 0 && len(e.notes) > 0 {
		e.committed()
		return
	}
	backoff := e.opts.MinBackoff
	for tries := 1; len(e.pending) > 0; tries++ {
		once, cancel := context.WithTimeout(ctx, commitTimeout)
		err := e.commit(once, e.pending)
		cancel()
		if err == nil {
			e.stats.checkpoints.Add(1)
			e.committed()
			e.mend(ctx)
			return
		}
		e.stats.checkpointFailures.Add(1)
		e.opts.Observer.CheckpointFailed(err)
		if e.commitFailed(err) {
			return
		}
		if ctx.Err() != nil {
			return // the updates stay pending; the last checkpoint tries once more
		}
		wait := backoff/2 + rand.N(backoff)
		backoff = min(2*backoff, e.opts.MaxBackoff)
		if tries&(tries-1) == 0 {
			e.log.Warn("storing the checkpoint failed, trying again", "error", err, "tries", tries, "wait", wait.Round(time.Millisecond))
		}
		sleep(ctx, wait)
	}
}

// commitFailed stops the engine if no try of storing can be better than the one that failed.
func (e *Engine) commitFailed(err error) bool {
	if fenced, ok := errors.AsType[*FencedError](err); ok {
		// I4: another worker owns the partitions; from here on this one must not deliver.
		e.fenced(fenced)
		return true
	}
	if _, ok := errors.AsType[*state.TooLargeError](err); ok || errors.Is(err, state.ErrNoPipeline) {
		// I11: changes would pile up behind it.
		e.fail(fmt.Errorf("pipeline %s: the checkpoint can never be stored: %w", e.opts.Config.Pipeline, err))
		return true
	}
	return false
}

// collect adds to pending what has changed since the last time. A partition already pending is taken again only once that
// update is stored, so that the updates of one partition stay in order.
func (e *Engine) collect() {
	if len(e.pending) > 0 {
		return
	}
	e.mu.Lock()
	running := make([]*partition, 0, len(e.running))
	for _, p := range e.running {
		running = append(running, p)
	}
	snapshots := make([]*tableSnapshot, 0, len(e.snapshots))
	for _, s := range e.snapshots {
		snapshots = append(snapshots, s)
	}
	stored := e.watermark
	e.mu.Unlock()
	for _, p := range running {
		u, store, n, tell := p.collect(stored)
		if store {
			e.pending = appendSplit(e.pending, u)
		}
		if tell {
			e.notes = append(e.notes, n)
		}
	}
	for _, s := range snapshots {
		if u, ok := s.collect(stored); ok {
			e.pending = appendSplit(e.pending, u)
		}
	}
	// Taken after the checkpoints and stored before them: whatever change a checkpoint covers, the union it is written under is
	// there by then.
	e.mu.Lock()
	if len(e.newTables) > 0 {
		e.pending = append([]state.Update{{Tables: e.newTables}}, e.pending...)
		e.newTables = nil
	}
	e.mu.Unlock()
}

// maxSegments is the most segments in one update, which must fit into one transaction of the store.
const maxSegments = 1000

// appendSplit appends u, and before it what it has too many segments of: an object is there whether or not the checkpoint that
// covers it is stored, so it may be listed earlier. There are many after a long outage of the store, and where the end of a
// chain was asked of the archive.
func appendSplit(pending []state.Update, u state.Update) []state.Update {
	for len(u.Segments) > maxSegments {
		pending = append(pending, state.Update{Token: u.Token, Segments: u.Segments[:maxSegments:maxSegments]})
		u.Segments = u.Segments[maxSegments:]
	}
	return append(pending, u)
}

// committed carries stored updates into the graph: children first, then promises and holds, then the finished partitions (I3).
func (e *Engine) committed() {
	for i := range e.pending {
		for _, c := range e.pending[i].Children {
			e.addPartition(c)
		}
	}
	for _, n := range e.notes {
		n.partition.promised = n.through
		e.graph.Promise(n.partition.Token, n.through)
		if n.hold != nil {
			if err := e.graph.Hold(n.partition.Token, n.hold.at, n.hold.sources); err != nil {
				e.fail(err)
			}
		}
	}
	e.notes = nil
	for i := range e.pending {
		u := &e.pending[i]
		p := e.partition(u.Token)
		if p == nil {
			e.committedSnapshot(u)
			continue
		}
		p.committed(u)
		if u.Finished {
			if err := e.graph.Finish(u.Token); err != nil {
				e.fail(err)
			}
			e.stats.finished.Add(1)
			e.finished = append(e.finished, finishedPartition{u.Token, u.End})
			e.forget(p)
		}
	}
	e.pending = nil
	for _, token := range e.graph.Released() {
		e.partition(token).release()
	}
	e.startPartitions()
	e.forgetFinished()
	e.publishWatermarks()
	if e.sequencer != nil && !e.stopping() { // once lanes have been waited for, none may begin
		e.sequencer.release(false) // a partition that left may have been the lowest
	}
	e.budget.moved() // another partition may be the lowest now
}

// finishedPartition is one the graph still knows.
type finishedPartition struct {
	token string
	end   change.Timestamp
}

// forgetFinished lets the graph forget partitions that nobody can announce a child of any more: all who could have been read
// past the child's start, which is their end. It keeps the graph from growing for ever.
func (e *Engine) forgetFinished() {
	w := e.graph.Watermark()
	e.finished = slices.DeleteFunc(e.finished, func(f finishedPartition) bool { return f.end <= w && e.graph.Forget(f.token) })
}

// publishWatermarks computes what Status shows, at a moment when no partition is between its parents and its reader.
func (e *Engine) publishWatermarks() {
	e.mu.Lock()
	defer e.mu.Unlock()
	low := change.MaxTimestamp
	for i, s := range e.sinks {
		least := change.MaxTimestamp
		for _, start := range e.waiting {
			least = min(least, start-1) // when stopping, the children of the finished stay here
		}
		for _, p := range e.running {
			p.progress[i].mu.Lock()
			least = min(least, p.progress[i].stored)
			p.progress[i].mu.Unlock()
		}
		if least < change.MaxTimestamp {
			s.watermark.Store(max(s.watermark.Load(), int64(least)))
		}
		low = min(low, least)
	}
	if low < change.MaxTimestamp {
		e.watermark = max(e.watermark, low) // I5
	}
}

func (e *Engine) partition(token string) *partition {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running[token]
}

func (e *Engine) forget(p *partition) {
	e.mu.Lock()
	delete(e.running, p.Token)
	e.mu.Unlock()
	for _, pr := range p.progress {
		pr.sink.forget(pr)
	}
}

// drain lets what was read become durable, within the deadline, and stores the last checkpoint.
func (e *Engine) drain() {
	e.stats.phase.CompareAndSwap(int32(Running), int32(Draining))
	e.readers.Wait()
	e.Flush()
	deadline := time.AfterFunc(e.opts.DrainTimeout, func() { e.stopHard(errDrained) })
	e.lanes.Wait()
	deadline.Stop()
	if errors.Is(context.Cause(e.hard), errDrained) {
		e.log.Warn("stopped at the drain deadline: what is not durable yet is delivered after the next start", "deadline", e.opts.DrainTimeout)
	}
	if cause := context.Cause(e.hard); cause == nil || errors.Is(cause, errDrained) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.hard), 10*time.Second)
		defer cancel()
		e.storeProgress(ctx) // what an interrupted checkpoint left
		e.storeProgress(ctx)
		if len(e.pending) > 0 {
			e.log.Error("the last checkpoint could not be stored: some changes are delivered again after the next start")
		}
	}
}

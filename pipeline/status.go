package pipeline

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// Observer is told what an engine does as it happens, for measures that Status cannot give. Its methods are called from
// many goroutines, between a change and its checkpoint: they must be quick and must not block.
type Observer interface {
	// Delivered says that the sink holds changes, in position order per key. took is the time since the batch was first
	// sent, with all tries and waits. The changes may be read until Delivered returns.
	Delivered(sink string, changes []change.Change, took time.Duration)
	// SinkFailed says that a call to the sink failed. It is made again unless the error is one that stops the engine.
	SinkFailed(sink string, err error)
	// CheckpointFailed says that a checkpoint was not stored. It is tried again unless another worker has taken over.
	CheckpointFailed(err error)
}

type noObserver struct{}

func (noObserver) Delivered(string, []change.Change, time.Duration) {}
func (noObserver) SinkFailed(string, error)                         {}
func (noObserver) CheckpointFailed(error)                           {}

// Phase is where an engine is in its life; it only grows.
type Phase int32

// The phases.
const (
	// Starting opens the sinks and the state; it is also the phase before Run.
	Starting Phase = iota
	// Running reads and delivers.
	Running
	// Draining has stopped reading and lets what was read become durable.
	Draining
	// Ended is after Run.
	Ended
)

// String is the phase in lower case.
func (p Phase) String() string {
	if p < Starting || p > Ended {
		return "unknown"
	}
	return [...]string{"starting", "running", "draining", "ended"}[p]
}

// Status is what an engine is doing, for people and metrics. Its counters start at 0 with the engine and never go back.
type Status struct {
	Phase Phase
	// Err is what ended or is ending the engine; nil while it works, and after an ordered stop.
	Err error

	// Partitions is the number of partitions being read, Started and Finished count those begun and wholly durable.
	Partitions        int
	Started, Finished int64
	// Heard is when the partition that has been silent longest last gave a sign of life, in this machine's time; zero if
	// none is being read. A reader that waits for the budget is silent; one that waits for another partition does not count.
	Heard time.Time

	// Read counts the changes read, those twice that were let go for their memory and read again, of which the filter took out Filtered; ReadBytes the memory they took, Frames the reader's frames that held changes, and
	// Heartbeats those that held none.
	Read, Filtered, ReadBytes int64
	Frames, Heartbeats        int64

	// Watermark is the pipeline's stored low watermark: everything at or below it is durable in every sink. Zero until
	// the state is loaded.
	Watermark change.Timestamp
	// Checkpoints counts those stored, CheckpointFailures the failed tries. Checkpointed is when the stored state was last
	// up to date, in this machine's time: after a checkpoint, or when there was nothing to store. Zero before the first.
	Checkpoints, CheckpointFailures int64
	Checkpointed                    time.Time

	// BudgetUsed is the number of bytes read and not durable everywhere, of at most about BudgetBytes. BudgetWaiting is the
	// number of partitions whose reading waits for it, BudgetFull whether there are any.
	BudgetUsed, BudgetBytes int
	BudgetWaiting           int
	BudgetFull              bool

	Sinks []SinkStatus
	// SnapshotRows counts the rows of snapshots handed to the sinks, SnapshotDropped those left out because a newer change was on
	// its way.
	SnapshotRows, SnapshotDropped int64
	// Snapshots are those asked for and being taken, by number, and before them the last ones that ended in this engine's
	// time. Their Chunks are left out.
	Snapshots []state.TableSnapshot
}

// SinkStatus is one sink's part of Status.
type SinkStatus struct {
	Name string
	// Delivered counts the changes made durable by this engine, Batches the batches they came in, Retries the failed tries.
	Delivered, Batches, Retries int64
	// Segments counts the archive objects written, SegmentBytes their sizes; LastSegment is when the newest was, in this
	// machine's time, zero before. A sink that writes none has zeros.
	Segments, SegmentBytes int64
	LastSegment            time.Time
	// Watermark is the sink's stored low watermark over all partitions; zero until the state is loaded.
	Watermark change.Timestamp
	// Failure is the error being retried now, or nil.
	Failure *Failure
}

// Failure is a sink's error that is being retried.
type Failure struct {
	Err error
	// Since is when the sink first failed without having worked in between, Tries how often.
	Since time.Time
	Tries int
}

// stats are the engine's numbers that nothing but Status reads.
type stats struct {
	phase                           atomic.Int32
	started, finished               atomic.Int64
	frames, heartbeats, readBytes   atomic.Int64
	filtered                        atomic.Int64
	checkpoints, checkpointFailures atomic.Int64
	checkpointed                    atomic.Int64 // Unix microseconds
	snapshotRows, snapshotDropped   atomic.Int64
}

func (s *stats) frame(f *change.Frame) {
	if len(f.Changes) == 0 {
		s.heartbeats.Add(1)
		return
	}
	s.frames.Add(1)
	s.readBytes.Add(int64(f.Bytes))
}

type sinkStats struct {
	batches                atomic.Int64
	segments, segmentBytes atomic.Int64
	lastSegment            atomic.Int64 // Unix microseconds
}

func (s *sinkStats) wrote(segments []change.Segment) {
	if len(segments) == 0 {
		return
	}
	for i := range segments {
		s.segmentBytes.Add(segments[i].Bytes)
	}
	s.segments.Add(int64(len(segments)))
	s.lastSegment.Store(time.Now().UnixMicro())
}

// ended notes the end of Run, with what it answers.
func (e *Engine) ended(err error) {
	e.mu.Lock()
	if e.failure == nil {
		e.failure = err // an error of the start never went through fail
	}
	e.mu.Unlock()
	e.stats.phase.Store(int32(Ended))
}

// Status may be called at any time, from any goroutine. It asks nobody but this engine.
func (e *Engine) Status() Status {
	s := Status{
		Phase: Phase(e.stats.phase.Load()), Started: e.stats.started.Load(), Finished: e.stats.finished.Load(),
		Read: e.read.Load(), ReadBytes: e.stats.readBytes.Load(), Filtered: e.stats.filtered.Load(), Frames: e.stats.frames.Load(), Heartbeats: e.stats.heartbeats.Load(),
		Checkpoints: e.stats.checkpoints.Load(), CheckpointFailures: e.stats.checkpointFailures.Load(),
		Checkpointed: instant(e.stats.checkpointed.Load()), BudgetBytes: e.opts.BudgetBytes,
		SnapshotRows: e.stats.snapshotRows.Load(), SnapshotDropped: e.stats.snapshotDropped.Load(),
	}
	var heard int64
	e.mu.Lock()
	s.Partitions, s.Watermark, s.Err = len(e.running), e.watermark, e.failure
	for _, p := range e.running {
		if h := p.heard.Load(); !p.hasEnded() && !p.isHeld() && (heard == 0 || h < heard) {
			heard = h
		}
	}
	s.Snapshots = slices.Clone(e.lastSnapshots)
	running := make([]*tableSnapshot, 0, len(e.snapshots))
	for _, t := range e.snapshots {
		running = append(running, t)
	}
	e.mu.Unlock()
	first := len(s.Snapshots)
	for _, t := range running {
		s.Snapshots = append(s.Snapshots, t.copyRow())
		s.Snapshots[len(s.Snapshots)-1].Chunks = nil
	}
	slices.SortFunc(s.Snapshots[first:], func(a, b state.TableSnapshot) int { return int(a.Number - b.Number) })
	s.Heard = instant(heard)
	s.BudgetUsed, s.BudgetWaiting = e.budget.inUse()
	s.BudgetFull = s.BudgetWaiting > 0
	for _, r := range e.sinks {
		s.Sinks = append(s.Sinks, SinkStatus{
			Name: r.name, Delivered: r.delivered.Load(), Batches: r.stats.batches.Load(), Retries: r.retries.Load(),
			Segments: r.stats.segments.Load(), SegmentBytes: r.stats.segmentBytes.Load(), LastSegment: instant(r.stats.lastSegment.Load()),
			Watermark: change.Timestamp(r.watermark.Load()), Failure: r.failing.Load(),
		})
	}
	return s
}

// instant is the time of Unix microseconds, zero for 0.
func instant(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros)
}

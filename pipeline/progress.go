package pipeline

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/state"
)

// partition is a partition that is being read. Its reader's goroutine writes it; the checkpointer reads it.
type partition struct {
	change.Partition
	// progress has one entry a sink, in the engine's order of sinks; fixed.
	progress []*progress
	// through is the newest frame's promise, known or not to be durable.
	through atomic.Int64
	// account is the partition's share of the budget.
	account *account
	// heard is when the reader last handed over a frame, in Unix microseconds.
	heard atomic.Int64

	mu       sync.Mutex
	children []change.Partition // discovered and not stored yet
	ended    bool               // every frame has been tracked
}

// hand is the engine's view of one frame: it gives the frame's bytes back once every sink has resolved its share.
type hand struct {
	account *account
	bytes   int
	sinks   atomic.Int32
	// over says that the frame is held beyond the budget.
	over bool
}

func (h *hand) done() {
	if h.sinks.Add(-1) == 0 && h.bytes > 0 {
		h.account.resolve(h.bytes, h.over)
	}
}

// share is one sink's part of one frame.
type share struct {
	mark *mark
	at   *progress
	hand *hand
}

// progress is how far one sink is in one partition.
type progress struct {
	sink      *sinkRunner
	partition *partition
	// skip is the checkpoint found at start: changes at or below it are not handed to the sink again.
	skip change.Timestamp
	// lanes are the partition's chains by table, with LaneByChain; only the reader's goroutine uses them.
	lanes map[string]*lane
	// ends are the chain ends found at start, by table; read-only.
	ends []state.ChainEnd
	// inherited is set for partitions that existed before this engine: a chain without a stored end may have lost it.
	inherited bool

	mu       sync.Mutex
	tracker  tracker
	stored   change.Timestamp // the checkpoint in the store; written by the checkpointer only
	listed   bool             // the store has a row for it; likewise
	chains   []state.ChainEnd // ends that moved since the last checkpoint
	segments []change.Segment // objects made since the last checkpoint
}

// track adds a frame with n changes for this sink.
func (p *progress) track(h *hand, through change.Timestamp, n int) *share {
	p.mu.Lock()
	s := &share{mark: p.tracker.track(through, n), at: p, hand: h}
	p.mu.Unlock()
	if n == 0 {
		h.done()
	}
	return s
}

// resolve says that n changes of the share are durable.
func (p *progress) resolve(s *share, n int) {
	p.mu.Lock()
	p.tracker.resolve(s.mark, n)
	whole := s.mark.left == 0
	idle := p.tracker.idle()
	p.mu.Unlock()
	if whole {
		s.hand.done()
	}
	if idle && p.partition.hasEnded() {
		p.sink.engine.pokeCheckpointer()
	}
}

// appended notes where a chain ends now, and the objects this made. It comes before the changes are resolved, so that a
// checkpoint that covers them is stored together with their segments.
func (p *progress) appended(table string, end sinks.End) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := state.ChainEnd{Table: table, Through: end.Through, State: end.State}
	if i := slices.IndexFunc(p.chains, func(c state.ChainEnd) bool { return c.Table == table }); i >= 0 {
		p.chains[i] = e
	} else {
		p.chains = append(p.chains, e)
	}
	p.segments = append(p.segments, end.Segments...)
}

func (p *partition) hasEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// discovered notes a frame's children and whether it was the last, after its changes have been tracked.
func (p *partition) discovered(f *change.Frame) {
	p.through.Store(int64(f.Through))
	if len(f.Children) == 0 && !f.Ended {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children = append(p.children, f.Children...)
	p.ended = p.ended || f.Ended
}

// collect takes what has changed in the partition since the last checkpoint; ok is false if nothing has. It is called by
// the checkpointer only, which stores the update or stops.
func (p *partition) collect() (u state.Update, ok bool) {
	// ended is read before the trackers: once it is set no frame follows, so idle trackers then mean finished (I3).
	p.mu.Lock()
	ended := p.ended
	u.Token, u.Children = p.Token, p.children
	p.children = nil
	p.mu.Unlock()

	finished := ended
	var unlisted []state.Progress
	for _, pr := range p.progress {
		pr.mu.Lock()
		through := pr.tracker.through
		st := state.Progress{Token: p.Token, Sink: pr.sink.name, Through: max(through, pr.stored), Chains: pr.chains}
		if through > pr.stored || len(pr.chains) > 0 {
			u.Progress = append(u.Progress, st)
		} else if !pr.listed {
			unlisted = append(unlisted, st)
		}
		for _, s := range pr.segments {
			u.Segments = append(u.Segments, state.SinkSegment{Sink: pr.sink.name, Segment: s})
		}
		pr.chains, pr.segments = nil, nil
		finished = finished && pr.tracker.idle()
		pr.mu.Unlock()
	}
	if len(u.Progress) > 0 {
		// I2: the first checkpoint of a partition lists every sink, also one that has nothing yet: a sink without a row
		// where others have one is a new sink, and would begin where they are.
		u.Progress = append(u.Progress, unlisted...)
	}
	if finished {
		// The last frame promised the last microsecond before the children's start.
		u.Finished, u.End = true, change.Timestamp(p.through.Load())+1
	}
	return u, len(u.Children) > 0 || len(u.Progress) > 0 || len(u.Segments) > 0 || u.Finished
}

// committed notes that an update of collect is stored, and returns the partition's durable promise over all sinks.
func (p *partition) committed(u *state.Update) change.Timestamp {
	for _, s := range u.Progress {
		for _, pr := range p.progress {
			if pr.sink.name == s.Sink {
				pr.mu.Lock()
				pr.stored, pr.listed = s.Through, true
				pr.mu.Unlock()
			}
		}
	}
	return p.durable()
}

// durable is the least stored checkpoint of the partition's sinks.
func (p *partition) durable() change.Timestamp {
	least := change.MaxTimestamp
	for _, pr := range p.progress {
		pr.mu.Lock()
		least = min(least, pr.stored)
		pr.mu.Unlock()
	}
	return least
}

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

	// due is where a checkpoint does not wait for its time, because other partitions wait for it; 0 for nowhere.
	due atomic.Int64

	mu       sync.Mutex
	children []change.Partition // discovered and not stored yet
	ended    bool               // every frame has been tracked
	// limit is how far a checkpoint may go: not to where the partition is held, or has ended, until that is over.
	limit change.Timestamp
	hold  *hold // nil while nothing holds the partition
	// isParent says that a child waits for the partition to be finished.
	isParent bool

	// promised is what the graph was last told; the checkpointer's.
	promised change.Timestamp
}

// hold keeps a partition's reader from going on behind a move of keys into the partition.
type hold struct {
	at      change.Timestamp
	sources []string
	told    bool          // the graph knows it
	over    chan struct{} // closed by the checkpointer, when the graph releases it
}

// hand is the engine's view of one frame: it gives the frame's bytes back once every sink has resolved its share.
type hand struct {
	account *account
	bytes   int
	sinks   atomic.Int32
	// over says that the frame is held beyond the budget.
	over bool
	// beyond gives back a snapshot's right to one chunk beyond the budget; nil if this is not such a chunk.
	beyond func()
}

func (h *hand) done() {
	if h.sinks.Add(-1) > 0 {
		return
	}
	if h.beyond != nil {
		h.beyond()
	}
	if h.bytes > 0 {
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
	through := p.tracker.through
	p.mu.Unlock()
	if whole {
		s.hand.done()
	}
	if due := p.partition.due.Load(); due != 0 && through >= change.Timestamp(due) {
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

// isHeld reports whether a move holds the partition.
func (p *partition) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hold != nil
}

// awaited reports whether other partitions wait for what a frame holds: it must become durable without delay.
func awaited(f *change.Frame) bool { return f.Ended || f.MovedOut || len(f.Sources) > 0 }

// discover notes what a frame says beside its changes, before they are tracked and may count as durable: a checkpoint that
// passes a child's start is stored with the child (I3), and none reaches an end or a hold (I5). It returns the hold that the
// frame brings, if any.
func (p *partition) discover(f *change.Frame) *hold {
	if !awaited(f) && len(f.Children) == 0 {
		return nil
	}
	p.due.Store(int64(f.Through))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children = append(p.children, f.Children...)
	p.isParent = p.isParent || slices.ContainsFunc(f.Children, func(c change.Partition) bool { return slices.Contains(c.Parents, p.Token) })
	if f.Ended || len(f.Sources) > 0 {
		p.limit = f.Through - 1 // I5: after a restart the end, or the move, must be read again
	}
	if len(f.Sources) > 0 && !f.Ended { // nothing comes behind an end
		p.hold = &hold{at: f.Through, sources: f.Sources, over: make(chan struct{})}
	}
	return p.hold
}

// tracked notes a frame's promise, and whether it was the last, after its changes have been tracked.
func (p *partition) tracked(f *change.Frame) {
	p.through.Store(int64(f.Through))
	if f.Ended {
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
	}
}

// release ends the hold.
func (p *partition) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = change.MaxTimestamp
	close(p.hold.over)
	p.hold = nil
}

// note is what the graph is told of a partition once the updates collected with it are stored.
type note struct {
	partition *partition
	// through is the partition's promise over all sinks. It may be 1 µs above what is stored: the limit keeps a checkpoint from
	// where the partition is held, and those who wait for it there must not wait for the end of the hold (I3).
	through change.Timestamp
	hold    *hold // nil if the graph knows it, or there is none
}

// collect takes what has changed in the partition since the last checkpoint: what is to be stored, if anything, and what the
// graph is to be told then, if anything. stored is the stored low watermark of the pipeline. It is called by the checkpointer
// only, which stores the update or stops.
func (p *partition) collect(stored change.Timestamp) (u state.Update, store bool, n note, tell bool) {
	// ended is read before the trackers: once it is set no frame follows, so idle trackers then mean finished (I3).
	finished := p.hasEnded()
	type durable struct {
		through  change.Timestamp
		chains   []state.ChainEnd
		segments []change.Segment
	}
	sinks := make([]durable, len(p.progress))
	n = note{partition: p, through: change.MaxTimestamp}
	for i, pr := range p.progress {
		pr.mu.Lock()
		sinks[i] = durable{pr.tracker.through, pr.chains, pr.segments}
		pr.chains, pr.segments = nil, nil
		finished = finished && pr.tracker.idle()
		pr.mu.Unlock()
		n.through = min(n.through, sinks[i].through)
	}
	// The rest is read after the trackers, and was written before them: what a promise passes is here (I3, I5).
	p.mu.Lock()
	u.Token, u.Children = p.Token, p.children
	p.children = nil
	limit := p.limit
	if !p.isParent && len(p.Parents) == 0 && stored < min(p.Start, n.through-1) {
		// I3: who announced it in mid-life may be read again after a restart, from before that, and the store then has to
		// know it still as one that goes on, not to begin it anew. Nobody waits for it to be finished.
		finished = false
	}
	if finished {
		limit = change.MaxTimestamp // nobody will go on from here
	}
	if p.hold != nil && !p.hold.told {
		n.hold, p.hold.told = p.hold, true
	}
	p.mu.Unlock()
	if due := p.due.Load(); due != 0 && n.through >= change.Timestamp(due) {
		p.due.CompareAndSwap(due, 0)
	}

	var unlisted []state.Progress
	for i, pr := range p.progress {
		through := min(sinks[i].through, limit)
		st := state.Progress{Token: p.Token, Sink: pr.sink.name, Through: max(through, pr.stored), Chains: sinks[i].chains}
		if through > pr.stored || len(st.Chains) > 0 {
			u.Progress = append(u.Progress, st)
		} else if !pr.listed {
			unlisted = append(unlisted, st)
		}
		for _, s := range sinks[i].segments {
			u.Segments = append(u.Segments, state.SinkSegment{Sink: pr.sink.name, Segment: s})
		}
	}
	if len(u.Progress) > 0 {
		// I2: the first checkpoint of a partition lists every sink, also one that has nothing yet: a sink without a row
		// where others have one is a new sink, and would begin where they are.
		u.Progress = append(u.Progress, unlisted...)
	}
	if finished {
		// The last frame promised the last microsecond of the partition's own.
		u.Finished, u.End = true, change.Timestamp(p.through.Load())+1
	}
	store = len(u.Children) > 0 || len(u.Progress) > 0 || len(u.Segments) > 0 || u.Finished
	tell = n.through > p.promised || n.hold != nil
	return u, store, n, tell
}

// committed notes that an update of collect is stored.
func (p *partition) committed(u *state.Update) {
	for _, s := range u.Progress {
		for _, pr := range p.progress {
			if pr.sink.name == s.Sink {
				pr.mu.Lock()
				pr.stored, pr.listed = s.Through, true
				pr.mu.Unlock()
			}
		}
	}
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

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/state"
)

// Options configure an Engine. Zero durations and sizes take the defaults.
type Options struct {
	// Config names the pipeline and where it starts; required.
	Config state.Config
	// Worker is this process's name among the pipeline's workers; default "worker".
	Worker string
	// Store keeps the state; required. It stays the caller's to close.
	Store state.Store
	// Source makes the reader once the stored state is known, which has the schema unions the reader starts from; required.
	Source func(context.Context, state.Snapshot) (Source, error)
	// Sinks are the destinations, at least one. The engine opens and closes them.
	Sinks []NamedSink
	// Rows reads the source's tables for snapshots, once Source has answered; nil for a pipeline that takes none.
	Rows func(context.Context) (Rows, error)
	// SnapshotChunkRows and SnapshotChunkBytes bound a snapshot's chunk, which is held in memory whole; defaults 10,000 and
	// 4 MiB. Each snapshot may hold one chunk beyond the budget, and four tables are taken at a time.
	SnapshotChunkRows, SnapshotChunkBytes int
	// Filter takes out of each frame what is not to be delivered, such as a *filter.Filter; nil delivers everything. It may
	// only remove changes and columns: the frame's promises stay. Its error stops the pipeline. It is called concurrently.
	Filter interface{ Apply(*change.Frame) error }
	// Diagnose may know better why the incarnation that is read cannot go on than the reader's error says, such as that the
	// database was restored; nil takes the error's word.
	Diagnose func(ctx context.Context, r state.Reason, p state.Pipeline) state.Reason
	// OpenTimeout bounds how long opening one sink may take; default 1 min. A sink that cannot be reached at start is an
	// error, for a wrong name looks the same; one that is lost later is tried again for ever.
	OpenTimeout time.Duration
	// End is the last commit timestamp to deliver, inclusive; 0 goes on for ever. Everything at or below it being stored as
	// durable, Run returns nil; a later run with another End goes on from there. The Source has to end its reading there too.
	End change.Timestamp
	// Order is the order of first deliveries; default OrderKey.
	Order Order
	// BudgetBytes bounds the memory of changes read and not yet durable in every sink; default 256 MiB.
	BudgetBytes int
	// CheckpointEvery is the time between checkpoints; default 1 s. A finished partition does not wait for it.
	CheckpointEvery time.Duration
	// DrainTimeout bounds how long a stop waits for what was read to become durable; default 30 s. What does not make it is
	// read again after the next start.
	DrainTimeout time.Duration
	// MinBackoff and MaxBackoff bound the wait between two tries of a sink or the store; defaults 100 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// Observer is told of deliveries and failures as they happen; nil for none.
	Observer Observer
	// Logger; default slog.Default().
	Logger *slog.Logger
}

// NamedSink is a sink with its name in the pipeline. The name is part of the stored state: a renamed sink is a new one.
type NamedSink struct {
	Name string
	Sink sinks.Sink
}

// Engine runs one pipeline.
type Engine struct {
	opts   Options
	log    *slog.Logger
	sinks  []*sinkRunner
	budget *budget
	// sequencer puts all changes into one order with OrderCommit, else nil.
	sequencer *sequencer
	poke      chan struct{} // wakes the checkpointer
	ready     chan struct{} // closed once reading begins

	// soft ends when reading must stop, hard when everything must; both carry the cause.
	soft, hard         context.Context
	stopSoft, stopHard context.CancelCauseFunc
	readers, lanes     sync.WaitGroup
	read               atomic.Int64
	lowest             atomic.Int64 // how far the lowest partition was when last looked for; math.MaxInt64 for unknown
	stats              stats

	watches watches

	// Owned by the goroutine of Run.
	source   Source
	rows     Rows // nil for none
	lease    state.Lease
	graph    *changestream.Graph
	pending  []state.Update // taken from the partitions and not stored yet
	notes    []note         // taken with pending, for the graph
	progress map[string][]state.Progress
	finished []finishedPartition
	loaded   map[string]bool  // partitions that existed before this engine
	from     change.Timestamp // the first commit timestamp not in every sink, as loaded
	gap      *state.Gap       // recorded of this incarnation by an engine before; nil for none
	renewed  time.Time        // when the lease last was

	mu        sync.Mutex
	pipeline  state.Pipeline
	running   map[string]*partition
	waiting   map[string]change.Timestamp // start by token: known, and not read yet
	tables    map[string]*change.Table    // newest version seen
	newTables []*change.Table             // not stored yet
	failure   error
	watermark change.Timestamp
	// snapshots are those not wholly durable, by number; lastSnapshots some that have ended.
	snapshots     map[int64]*tableSnapshot
	lastChunk     map[string]change.Timestamp // of the newest chunk handed on, by table
	turns         map[string]chan struct{}    // to read a table's chunks
	lastSnapshots []state.TableSnapshot
}

// New checks the options and makes an engine; it touches no network.
func New(opts Options) (*Engine, error) {
	defaults := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	defaults(&opts.CheckpointEvery, time.Second)
	defaults(&opts.DrainTimeout, 30*time.Second)
	defaults(&opts.OpenTimeout, time.Minute)
	defaults(&opts.MinBackoff, 100*time.Millisecond)
	defaults(&opts.MaxBackoff, 30*time.Second)
	if opts.BudgetBytes == 0 {
		opts.BudgetBytes = 256 << 20
	}
	if opts.SnapshotChunkRows == 0 {
		opts.SnapshotChunkRows = 10_000
	}
	if opts.SnapshotChunkBytes == 0 {
		opts.SnapshotChunkBytes = 4 << 20
	}
	if opts.Order == "" {
		opts.Order = OrderKey
	}
	if err := opts.Order.Check(); err != nil {
		return nil, fmt.Errorf("pipeline %s: order: %w", opts.Config.Pipeline, err)
	}
	if opts.Worker == "" {
		opts.Worker = "worker"
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Observer == nil {
		opts.Observer = noObserver{}
	}
	switch {
	case opts.Store == nil || opts.Source == nil:
		return nil, errors.New("pipeline: Store and Source are required")
	case len(opts.Sinks) == 0:
		return nil, fmt.Errorf("pipeline %s: it has no sinks: name at least one", opts.Config.Pipeline)
	case opts.BudgetBytes < 0 || opts.SnapshotChunkRows < 0 || opts.SnapshotChunkBytes < 0 || opts.CheckpointEvery < 0 || opts.DrainTimeout < 0 || opts.OpenTimeout < 0 || opts.MinBackoff < 0 || opts.MaxBackoff < opts.MinBackoff:
		return nil, fmt.Errorf("pipeline %s: sizes and durations must not be negative, nor MaxBackoff below MinBackoff", opts.Config.Pipeline)
	}
	e := &Engine{
		opts: opts, log: opts.Logger.With("pipeline", opts.Config.Pipeline),
		poke: make(chan struct{}, 1), ready: make(chan struct{}), graph: changestream.NewGraph(),
		progress: map[string][]state.Progress{}, loaded: map[string]bool{},
		running: map[string]*partition{}, waiting: map[string]change.Timestamp{}, tables: map[string]*change.Table{}, snapshots: map[int64]*tableSnapshot{}, lastChunk: map[string]change.Timestamp{}, turns: map[string]chan struct{}{},
	}
	e.budget = newBudget(opts.BudgetBytes, opts.Order == OrderCommit, e.closeLargest, e.lowestAccount)
	e.hard, e.stopHard = context.WithCancelCause(context.Background())
	e.soft, e.stopSoft = context.WithCancelCause(e.hard)
	if opts.Order == OrderCommit {
		e.sequencer = &sequencer{engine: e, held: map[*partition][]heldFrame{}, bounds: map[*watch]change.Timestamp{}}
	}
	names := map[string]bool{}
	for _, s := range opts.Sinks {
		if s.Name == "" || names[s.Name] {
			return nil, fmt.Errorf("pipeline %s: every sink needs a name of its own; %q is empty or taken", opts.Config.Pipeline, s.Name)
		}
		names[s.Name] = true
		r, err := newSinkRunner(e, s.Name, s.Sink)
		if err != nil {
			return nil, err
		}
		e.sinks = append(e.sinks, r)
	}
	return e, nil
}

// Errors that end a run without being a failure of it.
var (
	errStopped     = errors.New("pipeline: stopped")
	errDrained     = errors.New("pipeline: the drain deadline has passed")
	errOpenTimeout = errors.New("pipeline: opening a sink took too long")
	errFinished    = errors.New("pipeline: every partition has finished")
)

// Run runs the pipeline until ctx ends, something fails for good, or every partition has finished. When ctx ends it stops
// reading, lets what was read become durable within DrainTimeout, stores the last checkpoint, and returns nil. An engine
// runs once.
func (e *Engine) Run(ctx context.Context) (err error) {
	defer func() { e.ended(err) }()
	defer e.stopHard(errStopped)
	defer context.AfterFunc(ctx, func() { e.stopSoft(errStopped) })()

	opened := 0
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		for _, s := range e.sinks[:opened] {
			if cerr := s.sink.Close(closing); cerr != nil {
				err = errors.Join(err, fmt.Errorf("sink %s: close: %w", s.name, cerr))
			}
		}
	}()
	for _, s := range e.sinks {
		opened++ // Close may follow a failed Open
		if err := e.open(ctx, s); err != nil {
			return e.unlessStopped(ctx, err)
		}
	}
	loading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.hard, func() { cancel(errStopped) })()
	defer e.release(ctx)
	if err := e.load(loading); err != nil {
		return e.unlessStopped(ctx, e.broken(ctx, err))
	}
	e.stats.phase.Store(int32(Running))
	e.startPartitions()
	if e.rows != nil {
		e.readers.Go(e.followSnapshots)
	}
	close(e.ready)
	e.publishWatermarks() // a sink that never works again has a lag too
	e.checkpointLoop()
	e.drain()
	if err := e.failed(); err != nil {
		return e.broken(ctx, err)
	}
	return nil
}

// unlessStopped is err, or nil if it only says that the caller ended ctx, or called Kill, before anything was read.
func (e *Engine) unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil || e.hard.Err() != nil {
		e.log.Info("stopped before reading began", "error", err)
		return nil
	}
	return err
}

// Ready is closed once the sinks are open, the state is loaded, and reading begins.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// open opens a sink, within OpenTimeout. What the sink was opened with lives on after a stop, until it is closed: a client
// that holds on to its context must be able to drain.
func (e *Engine) open(ctx context.Context, s *sinkRunner) error {
	opening, cancel := context.WithCancelCause(e.hard)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	late := time.AfterFunc(e.opts.OpenTimeout, func() { cancel(errOpenTimeout) })
	defer late.Stop()
	err := s.sink.Open(opening)
	if err == nil {
		return nil
	}
	defer cancel(nil)
	if errors.Is(context.Cause(opening), errOpenTimeout) {
		return fmt.Errorf("sink %s: open: it could not be reached within %s: check its options and that it is running: %w", s.name, e.opts.OpenTimeout, err)
	}
	return fmt.Errorf("sink %s: open: %w", s.name, err)
}

// load opens the pipeline's state and builds the graph from it.
func (e *Engine) load(ctx context.Context) error {
	p, err := e.opts.Store.Open(ctx, e.opts.Config)
	if err != nil {
		return fmt.Errorf("pipeline %s: open its state: %w", e.opts.Config.Pipeline, err)
	}
	if e.lease, err = e.opts.Store.Claim(ctx, p.Pipeline, e.opts.Worker); err != nil {
		return fmt.Errorf("pipeline %s: claim its partitions: %w", p.Pipeline, err)
	}
	e.renewed = time.Now()
	snap, err := e.opts.Store.Load(ctx, p.Pipeline)
	if err != nil {
		return fmt.Errorf("pipeline %s: load its state: %w", p.Pipeline, err)
	}
	e.opened(snap)
	if err := e.recall(ctx); err != nil {
		return err
	}
	if e.source, err = e.opts.Source(ctx, snap); err != nil {
		return fmt.Errorf("pipeline %s: %w", p.Pipeline, err)
	}
	if e.opts.Rows != nil {
		if e.rows, err = e.opts.Rows(ctx); err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Pipeline, err)
		}
	}
	if err := e.storeTables(ctx, snap.Tables); err != nil {
		return fmt.Errorf("pipeline %s: store the tables' schemas: %w", p.Pipeline, err)
	}
	if len(snap.Partitions) == 0 {
		if snap.Partitions, err = e.firstPartitions(ctx, p); err != nil {
			return err
		}
		if snap.Snapshots, err = e.opts.Store.Snapshots(ctx, p.Pipeline, true); err != nil {
			return fmt.Errorf("pipeline %s: load its snapshots: %w", p.Pipeline, err)
		}
	}
	for _, pr := range snap.Progress {
		e.progress[pr.Token] = append(e.progress[pr.Token], pr)
	}
	if err := e.listNewSinks(ctx, snap); err != nil {
		return err
	}
	for _, sp := range snap.Partitions {
		e.loaded[sp.Token] = true
		if sp.State == state.Finished {
			e.graph.AddFinished(sp.Token)
		}
	}
	for _, sp := range snap.Partitions {
		if sp.State != state.Finished {
			e.addPartition(sp.Partition)
			e.graph.Promise(sp.Token, e.checkpoint(sp.Partition))
		}
	}
	e.loadSnapshots(snap.Snapshots)
	e.log.Info("pipeline opened", "incarnation", p.Incarnation, "partitions", len(snap.Partitions), "new", p.Created)
	return nil
}

// firstPartitions asks the source where an incarnation begins, and stores the answer before anything is read.
func (e *Engine) firstPartitions(ctx context.Context, p state.Pipeline) ([]state.Partition, error) {
	first, err := e.source.Partitions(ctx, p.Start)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: find the partitions at %s: %w", p.Pipeline, p.Start, err)
	}
	if len(first) == 0 {
		return nil, fmt.Errorf("pipeline %s: the change stream has no partition at %s, which cannot be: check the stream's name", p.Pipeline, p.Start)
	}
	begin := state.Update{Children: first}
	if p.Snapshot {
		// I2: in the same transaction, or a crash in between would make it a start without a snapshot.
		if begin.Snapshots, err = e.snapshotsOfAll(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := e.commit(ctx, []state.Update{begin}); err != nil {
		return nil, fmt.Errorf("pipeline %s: store its first partitions: %w", p.Pipeline, err)
	}
	stored := make([]state.Partition, len(first))
	for i, c := range first {
		stored[i] = state.Partition{Partition: c, State: state.Open}
	}
	return stored, nil
}

// commit stores updates once, and turns a fenced one into an error.
func (e *Engine) commit(ctx context.Context, updates []state.Update) error {
	fenced, err := e.opts.Store.Commit(ctx, e.lease, updates)
	if err == nil && len(fenced) > 0 {
		err = &FencedError{Worker: e.lease.Worker, Epoch: e.lease.Epoch, Partitions: len(fenced)}
	}
	return err
}

// FencedError says that another worker has taken the pipeline over. What this one had not stored, the other reads again.
type FencedError struct {
	Worker     string
	Epoch      int64
	Partitions int
}

// Error says what happened and what it means.
func (e *FencedError) Error() string {
	return fmt.Sprintf("worker %s (epoch %d) lost %d partition(s) to another worker that has started since: stop one of the two", e.Worker, e.Epoch, e.Partitions)
}

// addPartition makes a stored partition known.
func (e *Engine) addPartition(c change.Partition) {
	e.graph.Add(c)
	e.expect([]change.Partition{c})
}

// expect puts partitions among the waiting: before one that announces them is through their start, or leaves the running.
func (e *Engine) expect(children []change.Partition) {
	if len(children) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range children {
		if e.running[c.Token] == nil {
			e.waiting[c.Token] = c.Start
		}
	}
}

// startPartitions starts a reader for each partition the graph lets deliver.
func (e *Engine) startPartitions() {
	if e.soft.Err() != nil {
		return
	}
	for _, c := range e.graph.Startable() {
		if e.opts.End != 0 && e.checkpoint(c) >= e.opts.End {
			continue // it stays among the waiting, and counts as what it has promised
		}
		p := e.newPartition(c)
		e.mu.Lock()
		delete(e.waiting, p.Token)
		e.running[p.Token] = p
		e.lowest.Store(math.MaxInt64)
		e.mu.Unlock()
		e.stats.started.Add(1)
		e.readers.Go(func() { e.follow(p) })
	}
}

func (e *Engine) newPartition(c change.Partition) *partition {
	p := e.makePartition(c, e.checkpoint(c), e.progress[c.Token], e.loaded[c.Token])
	delete(e.progress, c.Token)
	return p
}

// makePartition makes a partition that is read from from on. inherited says that it existed before this engine.
func (e *Engine) makePartition(c change.Partition, from change.Timestamp, stored []state.Progress, inherited bool) *partition {
	p := &partition{Partition: c, limit: change.MaxTimestamp, account: e.budget.newAccount()}
	p.heard.Store(time.Now().UnixMicro())
	p.through.Store(int64(from))
	for _, s := range e.sinks {
		// A sink without a checkpoint here, where others have one, is new: it begins where the partition is read from.
		pr := &progress{sink: s, partition: p, skip: from, lanes: map[string]*lane{}, inherited: inherited}
		for _, st := range stored {
			if st.Sink == s.name {
				pr.skip, pr.ends, pr.listed = st.Through, st.Chains, true
			}
		}
		pr.stored = pr.skip
		pr.tracker.through = pr.skip
		p.progress = append(p.progress, pr)
	}
	return p
}

// checkpoint is where reading a partition goes on: the least checkpoint of the present sinks, else of those that were
// there before them, else just before its start.
func (e *Engine) checkpoint(c change.Partition) change.Timestamp {
	return e.checkpointOf(e.progress[c.Token], c.Start-1)
}

func (e *Engine) checkpointOf(stored []state.Progress, start change.Timestamp) change.Timestamp {
	present, any := change.MaxTimestamp, change.MaxTimestamp
	for _, st := range stored {
		any = min(any, st.Through)
		for _, s := range e.sinks {
			if s.name == st.Sink {
				present = min(present, st.Through)
			}
		}
	}
	switch {
	case present < change.MaxTimestamp:
		return present
	case any < change.MaxTimestamp:
		return any
	}
	return start
}

// follow reads a partition to its end.
func (e *Engine) follow(p *partition) {
	var err error
	for again := true; again; {
		err = e.source.Read(e.soft, p.Partition, change.Timestamp(p.through.Load()), func(f *change.Frame) error { return e.accept(p, f) })
		p.account.rest()
		var let *letGo
		if let, again = errors.AsType[*letGo](err); again {
			select {
			case <-let.until:
			case <-e.soft.Done():
				return
			}
		}
	}
	switch {
	case e.soft.Err() != nil:
	case err == nil && e.opts.End != 0 && change.Timestamp(p.through.Load()) >= e.opts.End:
		e.pokeCheckpointer()
	case err != nil:
		e.fail(fmt.Errorf("pipeline %s: partition %s: %w", e.opts.Config.Pipeline, shortToken(p.Token), err))
	case !p.hasEnded():
		e.fail(fmt.Errorf("pipeline %s: the reader gave up partition %s before its end: this is a fault of the program",
			e.opts.Config.Pipeline, shortToken(p.Token)))
	}
}

// letGo ends the reading of a partition that waits for others, because what it holds is needed elsewhere (I10). It is read on
// from where it is once until is closed.
type letGo struct{ until <-chan struct{} }

func (l *letGo) Error() string {
	return "pipeline: the partition waits for others, and its memory is needed elsewhere"
}

// await waits until others let the partition go on. Its memory may be needed elsewhere meanwhile, which is a *letGo.
func (e *Engine) await(p *partition, until <-chan struct{}) error {
	defer p.account.unpark()
	select {
	case <-until:
		return nil
	case <-p.account.park():
		return &letGo{until}
	case <-e.soft.Done():
		return context.Cause(e.soft)
	}
}

// accept takes a frame from the reader and hands its changes to the lanes, waiting while the budget is full.
func (e *Engine) accept(p *partition, f *change.Frame) error {
	if err := checkFrame(f, change.Timestamp(p.through.Load())); err != nil {
		return err
	}
	p.heard.Store(time.Now().UnixMicro())
	e.stats.frame(f)
	e.read.Add(int64(len(f.Changes)))
	e.noteTables(f.Changes) // before columns are dropped: the reader goes on from what is stored
	if e.opts.Filter != nil {
		n := len(f.Changes)
		if err := e.opts.Filter.Apply(f); err != nil {
			return err
		}
		e.stats.filtered.Add(int64(n - len(f.Changes)))
	}
	return e.admit(p, f)
}

// admit lets a frame go to the lanes, in two parts where some of its changes must wait for a snapshot's chunk.
func (e *Engine) admit(p *partition, f *change.Frame) error {
	for {
		at, wait := e.watches.admit(f.Changes)
		if wait == nil {
			break
		}
		// What comes before the chunk goes on, and with it the watermark that the chunk waits for.
		if at > change.Timestamp(p.through.Load()) {
			if err := e.admit(p, cutFrame(f, at)); err != nil {
				return err
			}
		}
		if err := e.await(p, wait); err != nil {
			p.account.Adjust(-f.Reserved) // what is left of the frame is read again
			return err
		}
	}
	before := p.through.Load()
	h := &hand{account: p.account}
	if len(f.Changes) > 0 { // a heartbeat holds nothing, and must move the watermark even when the budget is full
		h.bytes = max(f.Bytes, 1)
		if f.Reserved == 0 { // the source does not know the budget
			if err := p.account.reserve(e.soft, h.bytes, false); err != nil {
				return err
			}
			f.Reserved = h.bytes
		}
	}
	p.account.Adjust(h.bytes - f.Reserved)
	h.over = p.account.handOver(h.bytes)
	held := e.toLanes(p, f, h)
	if h.bytes > 0 {
		e.budget.press(true) // the open batches have grown
	}
	if before <= e.lowest.Load() { // it was the lowest, and another may be now
		e.budget.moved()
	}
	if awaited(f) || len(f.Children) > 0 {
		e.pokeCheckpointer()
	}
	if held == nil {
		return nil
	}
	// I3: nothing of the partition is handed on behind the move before its sources are through it.
	err := e.await(p, held.over)
	p.heard.Store(time.Now().UnixMicro())
	return err
}

// cutFrame takes from f what it has through at, which f promises more than. The partitions that f announces go with it: no
// promise may pass them.
func cutFrame(f *change.Frame, at change.Timestamp) *change.Frame {
	n := 0
	for n < len(f.Changes) && f.Changes[n].Position.Commit <= at {
		n++
	}
	head := &change.Frame{Token: f.Token, Changes: f.Changes[:n:n], Through: at, Children: f.Children, MovedOut: f.MovedOut}
	if len(f.Changes) > 0 {
		head.Bytes = f.Bytes * n / len(f.Changes)
	}
	head.Reserved = min(head.Bytes, f.Reserved)
	f.Changes, f.Children = f.Changes[n:], nil
	f.Bytes -= head.Bytes
	f.Reserved -= head.Reserved
	return head
}

// toLanes hands a frame whose bytes are held to the lanes of every sink. It returns the hold that the frame brings, if any.
func (e *Engine) toLanes(p *partition, f *change.Frame, h *hand) *hold {
	h.sinks.Store(int32(len(e.sinks)))
	if e.sequencer != nil {
		f.Sources = nil // every change waits for all partitions, and so for those that keys came from
	}
	held := p.discover(f)
	e.expect(f.Children)
	if e.sequencer == nil {
		for i, s := range e.sinks {
			s.accept(f, p.progress[i], h)
		}
		p.tracked(f)
	} else {
		shares := make([]*share, len(e.sinks))
		for i, s := range e.sinks {
			shares[i], _ = s.share(f, p.progress[i], h)
		}
		e.sequencer.hold(p, f, shares)
		p.tracked(f)
		e.sequencer.release(f.Ended)
	}
	return held
}

// lowestAccount is that of a partition which no running one is behind, of one that waits for memory if there is a choice; nil
// if none is being read. Those that wait for other partitions do not count: memory is of no use to them.
func (e *Engine) lowestAccount() *account {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lowest *account
	through := int64(math.MaxInt64)
	for _, q := range e.running {
		t := q.through.Load()
		if t > through || t == through && lowest != nil && lowest.waits.Load() || q.hasEnded() || q.account.waitsForOthers.Load() {
			continue
		}
		lowest, through = q.account, t
	}
	e.lowest.Store(through)
	return lowest
}

// Budget is what the reader asks before it buffers, in changestream.Options: the bytes are the pipeline's, within
// BudgetBytes, until every sink has them.
func (e *Engine) Budget() changestream.Budget { return readerBudget{e} }

type readerBudget struct{ *Engine }

// Partition answers the account of a partition that is being read.
func (b readerBudget) Partition(token string) changestream.Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.running[token]; p != nil {
		return p.account
	}
	return b.budget.newAccount()
}

// closeLargest closes the largest open batch of all sinks.
func (e *Engine) closeLargest() {
	var largest *lane
	size := 0
	for _, s := range e.sinks {
		for _, l := range s.allLanes() {
			if n := l.size(); n > size {
				largest, size = l, n
			}
		}
	}
	if largest != nil {
		largest.close()
	}
}

func (e *Engine) chain(token, table string) change.Chain {
	e.mu.Lock()
	defer e.mu.Unlock()
	return change.Chain{Pipeline: e.pipeline.Pipeline, Incarnation: e.pipeline.Incarnation, Token: token, Table: table}
}

// fail stops the engine with an error; only the first counts. What was read already is still drained.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	if e.failure == nil {
		e.failure = err
	}
	e.mu.Unlock()
	e.stopSoft(err)
}

func (e *Engine) failed() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure
}

func (e *Engine) stopping() bool { return e.soft.Err() != nil }

// Kill stops at once: calls to sinks are cancelled and nothing more is stored. What was not durable is read again after the
// next start. Run returns soon after.
func (e *Engine) Kill() {
	e.stopSoft(errStopped)
	e.stopHard(errStopped)
}

// Flush closes every open batch, so that what was read becomes durable without waiting for the batches' age.
func (e *Engine) Flush() {
	for _, s := range e.sinks {
		for _, l := range s.allLanes() {
			l.close()
		}
	}
}

func (e *Engine) pokeCheckpointer() {
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

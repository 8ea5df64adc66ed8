package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/state"
)

// Rows reads the tables of the source, for snapshots; a *snapshot.Reader is one. Its errors are tried again, except those
// that wrap snapshot.ErrExpired or are a *snapshot.NotWatchedError.
type Rows interface {
	// Tables lists the tables that the stream watches.
	Tables(ctx context.Context) ([]string, error)
	// Count counts a table's rows; it is asked once, with little time.
	Count(ctx context.Context, table string) (int64, error)
	// Read reads a chunk at the present, which sees every change that the source has handed over before the call, or at an
	// earlier timestamp.
	Read(ctx context.Context, r snapshot.Range) (*snapshot.Chunk, error)
}

const (
	// snapshotsAtOnce is how many tables are taken at a time; the others wait.
	snapshotsAtOnce = 4
	// readAhead is how many chunks of a snapshot wait to be handed on while the next is read: each waits for the stream's
	// slowest heartbeat.
	readAhead = 4
	// maxChunks is how many chunks of a snapshot may be with the sinks and not durable: what is stored to read them again.
	maxChunks = 8
	// maxLastSnapshots is how many that have ended Status goes on to show.
	maxLastSnapshots = 64
	// countTimeout bounds the counting of a table, which is for people only.
	countTimeout = 5 * time.Second
)

// tableSnapshot is one snapshot being taken. To sinks and checkpoints it is a partition of its own, outside the graph, whose frames
// are the chunks.
type tableSnapshot struct {
	*partition
	engine *Engine
	// recovered are the chunks that a run before handed on, with their watches, which exist since before anything was read.
	recovered []piece

	// beyond holds something while a chunk is held beyond the budget: one may be (I10).
	beyond chan struct{}
	// hasTurn says that it may read new chunks, until everything is handed on. It belongs to read's goroutine, then to take's.
	hasTurn bool
	// suspended says that the rest of it lies behind the pipeline's end, and is left to a run that goes on for longer.
	suspended atomic.Bool

	mu  sync.Mutex
	row state.TableSnapshot // as it is stored
}

// piece is a chunk on its way.
type piece struct {
	watch  *watch
	stored *state.SnapshotChunk // of a run before, nil for a new one
	at     change.Timestamp
	after  string
	last   string // the last row's key
	keys   map[change.Position]string
	rows   []change.Change
	bytes  int
	over   bool
	end    bool // nothing follows
	// expired are the chunks of a run before that cannot be read again: this piece and those behind it take their place.
	expired []state.SnapshotChunk
	err     error
}

// loadSnapshots takes up the snapshots of a run before. Their watches are opened before any partition is read.
func (e *Engine) loadSnapshots(list []state.TableSnapshot) {
	if e.rows == nil {
		return
	}
	for _, row := range list {
		s := e.newSnapshot(row, e.progress[row.Token()], row.State == state.SnapshotRunning)
		delete(e.progress, row.Token())
		through := change.Timestamp(s.through.Load())
		for i := range row.Chunks {
			if c := &row.Chunks[i]; c.At > through {
				p := piece{watch: e.watches.watch(row.Table, c.At), stored: c, at: c.At, after: c.After, last: c.Through}
				if e.sequencer != nil {
					e.sequencer.bounds[p.watch] = c.At - 1 // nothing runs yet
				}
				s.recovered = append(s.recovered, p)
			}
		}
		e.addSnapshot(s)
	}
}

func (e *Engine) newSnapshot(row state.TableSnapshot, stored []state.Progress, inherited bool) *tableSnapshot {
	// A chunk's timestamp is its own, so nothing is known of where the first lies. The start is not the very first instant, for
	// a checkpoint just before it must be one: a sink that has nothing yet is listed with it (I2).
	c := change.Partition{Token: row.Token(), Start: 2}
	return &tableSnapshot{partition: e.makePartition(c, e.checkpointOf(stored, c.Start-1), stored, inherited), engine: e, beyond: make(chan struct{}, 1), row: row}
}

func (e *Engine) addSnapshot(s *tableSnapshot) {
	e.mu.Lock()
	e.snapshots[s.row.Number] = s
	e.mu.Unlock()
}

// followSnapshots takes the snapshots there are and those asked for, a few at a time and one of a table, until reading stops.
func (e *Engine) followSnapshots() {
	slots := make(chan struct{}, snapshotsAtOnce)
	begun := map[int64]bool{}
	var mu sync.Mutex
	taking := map[string]int{} // by table
	ended := make(chan struct{}, 1)
	begin := func() {
		e.mu.Lock()
		list := make([]*tableSnapshot, 0, len(e.snapshots))
		for _, s := range e.snapshots {
			list = append(list, s)
		}
		e.mu.Unlock()
		// Those with chunks in flight first: changes of the stream wait for them.
		slices.SortFunc(list, func(a, b *tableSnapshot) int {
			if (len(a.recovered) > 0) != (len(b.recovered) > 0) {
				return len(b.recovered) - len(a.recovered)
			}
			return int(a.number() - b.number())
		})
		for _, s := range list {
			if begun[s.number()] {
				continue
			}
			table := s.copyRow().Table
			mu.Lock()
			busy := taking[table] > 0
			mu.Unlock()
			if len(s.recovered) == 0 { // those cannot wait
				if busy {
					continue // it would wait for its turn, in a slot that another table can use
				}
				select {
				case slots <- struct{}{}:
				default:
					continue
				}
			}
			begun[s.number()] = true
			mu.Lock()
			taking[table]++
			mu.Unlock()
			holds := len(s.recovered) == 0
			e.readers.Go(func() {
				s.take()
				if holds {
					<-slots
				}
				mu.Lock()
				taking[table]--
				mu.Unlock()
				select {
				case ended <- struct{}{}:
				default:
				}
			})
		}
	}
	tick := time.NewTicker(max(e.opts.CheckpointEvery, time.Second))
	defer tick.Stop()
	for failures := 0; ; {
		begin()
		select {
		case <-ended:
			continue
		case <-tick.C:
		case <-e.soft.Done():
			return
		}
		list, err := e.opts.Store.Snapshots(e.soft, e.opts.Config.Pipeline, true)
		if err != nil {
			if failures++; e.soft.Err() == nil && failures&(failures-1) == 0 {
				e.log.Warn("looking for requested snapshots failed, trying again", "error", err, "tries", failures)
			}
			continue
		}
		failures = 0
		for _, row := range list {
			e.mu.Lock()
			_, known := e.snapshots[row.Number]
			e.mu.Unlock()
			if !known && !begun[row.Number] {
				e.addSnapshot(e.newSnapshot(row, nil, false))
			}
		}
	}
}

// number is the snapshot's, which never changes.
func (s *tableSnapshot) number() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.row.Number
}

// take takes the snapshot to its end, or until reading stops.
func (s *tableSnapshot) take() {
	e := s.engine
	log := e.log.With("table", s.row.Table, "snapshot", s.row.Number)
	if !s.begin() {
		return
	}
	log.Info("snapshot begins", "from", s.row.From, "to", s.row.To, "cursor", s.row.Cursor, "chunks_again", len(s.recovered))
	pieces := make(chan piece, readAhead-1)
	e.readers.Go(func() {
		defer close(pieces)
		s.read(pieces)
	})
	failure := ""
	for p := range pieces {
		switch {
		case errors.Is(p.err, errBehindEnd):
			log.Warn("the pipeline ends before the rest of the snapshot: it is left to a run with a later end, or without one", "end", e.opts.End)
			s.suspended.Store(true)
		case p.err != nil && e.soft.Err() == nil && failure == "":
			failure = p.err.Error()
			log.Error("the snapshot cannot go on: its table's other changes are delivered, its remaining rows are not", "error", p.err)
		case p.err == nil && failure == "":
			s.hand(p)
			continue
		}
		s.abandon(p)
	}
	if s.hasTurn {
		<-e.turn(s.row.Table)
	}
	if e.soft.Err() != nil {
		return
	}
	for _, p := range s.recovered {
		e.passed(p.watch) // where it failed
	}
	if s.suspended.Load() {
		s.closeLanes()
		e.pokeCheckpointer()
		return
	}
	s.mu.Lock()
	s.row.Error = failure
	s.mu.Unlock()
	last := &change.Frame{Through: change.Timestamp(s.through.Load()), Ended: true}
	s.discover(last)
	s.tracked(last)
	s.closeLanes()
	e.pokeCheckpointer()
}

// begin counts the table's rows and stores that the snapshot runs, with the row that its progress hangs on.
func (s *tableSnapshot) begin() bool {
	row := s.copyRow()
	if row.State == state.SnapshotRunning {
		return true
	}
	row.State = state.SnapshotRunning
	if row.From == "" && row.To == "" {
		ctx, cancel := context.WithTimeout(s.engine.soft, countTimeout)
		total, err := s.engine.rows.Count(ctx, row.Table)
		cancel()
		if err == nil {
			row.Total = total
		} else if s.engine.soft.Err() == nil {
			s.engine.log.Info("the table's rows were not counted: progress is shown without a percentage", "table", row.Table, "error", err)
		}
	}
	return s.store(row, []change.Partition{s.Partition})
}

// copyRow is the row as it is stored; its list of chunks is the caller's.
func (s *tableSnapshot) copyRow() state.TableSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.row
	row.Chunks = slices.Clone(row.Chunks)
	return row
}

// store stores the snapshot's row, however often it must try; it reports false when the engine stops first.
func (s *tableSnapshot) store(row state.TableSnapshot, children []change.Partition) bool {
	e := s.engine
	update := []state.Update{{Children: children, Snapshots: []state.TableSnapshot{row}}}
	backoff := e.opts.MinBackoff
	for {
		once, cancel := context.WithTimeout(e.soft, commitTimeout)
		err := e.commit(once, update)
		cancel()
		if err == nil {
			s.mu.Lock()
			s.row = row
			s.mu.Unlock()
			return true
		}
		if e.soft.Err() != nil || e.commitFailed(err) {
			return false
		}
		e.log.Warn("storing a snapshot's progress failed, trying again", "table", row.Table, "error", err)
		sleep(e.soft, backoff)
		backoff = min(2*backoff, e.opts.MaxBackoff)
	}
}

// hand hands a chunk to the lanes once the stream has come to its timestamp.
func (s *tableSnapshot) hand(p piece) {
	e := s.engine
	// I1: what was committed up to the chunk's timestamp is in the lanes before its rows, and what another snapshot of the table had
	// read by then and handed on before a crash.
	ready := func() bool {
		through, _, _ := e.readThrough()
		return through >= p.at && !e.watches.earlier(p.watch)
	}
	if !e.until(ready) {
		return
	}
	var rows []change.Change
	if p.stored != nil {
		out := map[string]bool{}
		for _, k := range p.stored.Dropped {
			out[k] = true
		}
		rows = slices.DeleteFunc(p.rows, func(c change.Change) bool { return out[p.keys[c.Position]] })
	} else {
		var ok bool
		if rows, ok = s.record(p); !ok {
			return
		}
	}
	f := &change.Frame{Token: s.Token, Changes: rows, Through: p.at, Bytes: p.bytes}
	if err := checkFrame(f, change.Timestamp(s.through.Load())); err != nil {
		e.fail(err)
		return
	}
	h := &hand{account: s.account, bytes: p.bytes}
	if p.over {
		h.beyond = func() { s.within(p.bytes) }
	}
	s.account.handOver(p.bytes)
	e.toLanes(s.partition, f, h)
	e.mu.Lock()
	e.lastChunk[s.row.Table] = max(e.lastChunk[s.row.Table], p.at)
	e.mu.Unlock()
	e.stats.snapshotRows.Add(int64(len(rows)))
	e.stats.snapshotDropped.Add(int64(len(p.rows) - len(rows)))
	e.passed(p.watch)
}

// record decides which rows go, and stores that before they do: after a crash the same ones are handed on again, and no
// others, for what was left out may be older than what its sinks have (I1).
func (s *tableSnapshot) record(p piece) (rows []change.Change, ok bool) {
	e := s.engine
	row := s.copyRow()
	for _, x := range p.expired { // what takes their place is stored in the same breath (I2)
		row.Anew, row.Rows, row.Dropped = row.Anew+1, row.Rows-x.Rows, row.Dropped-int64(len(x.Dropped))
		row.Chunks = slices.DeleteFunc(row.Chunks, func(c state.SnapshotChunk) bool { return c.At == x.At })
	}
	keys := 128 + len(p.after) + len(p.last)
	for _, k := range p.keys { // any of its rows may have to be left out
		keys += len(k) + 8
	}
	fits := func() bool {
		durable := s.durable()
		row.Chunks = slices.DeleteFunc(row.Chunks, func(c state.SnapshotChunk) bool { return c.At <= durable })
		return len(row.Chunks) == 0 || len(row.Chunks) < maxChunks && keys <= row.Room()
	}
	if !fits() {
		s.closeLanes()
		if !e.until(fits) {
			return nil, false
		}
	}
	out := e.watches.decide(p.watch)
	chunk := state.SnapshotChunk{At: p.at, After: p.after, Through: p.last}
	for i := range p.rows {
		if c := &p.rows[i]; out(c) {
			chunk.Dropped = append(chunk.Dropped, p.keys[c.Position])
		} else {
			rows = append(rows, *c)
		}
	}
	chunk.Rows = int64(len(rows))
	row.Read = p.end
	if p.last != "" {
		row.Cursor = p.last
		row.Rows += chunk.Rows
		row.Dropped += int64(len(chunk.Dropped))
	}
	if len(rows) > 0 {
		row.Chunks = append(row.Chunks, chunk)
	}
	return rows, s.store(row, nil)
}

// within gives back the right to a chunk of so many bytes beyond the budget.
func (s *tableSnapshot) within(bytes int) {
	s.account.exceed(-bytes)
	<-s.beyond
}

// abandon gives back what a piece holds that will not be handed on.
func (s *tableSnapshot) abandon(p piece) {
	if p.watch != nil {
		s.engine.passed(p.watch)
	}
	if p.bytes > 0 && p.err == nil {
		if p.over {
			s.within(p.bytes)
		}
		s.account.Adjust(-p.bytes)
	}
}

// passed ends a watch, and what the order by commit holds for it.
func (e *Engine) passed(w *watch) {
	if e.sequencer != nil {
		e.sequencer.unbound(w)
	}
	e.watches.pass(w)
}

// closeLanes sends what the snapshot's own lanes hold without waiting for more.
func (s *tableSnapshot) closeLanes() {
	if q := s.engine.sequencer; q != nil {
		q.mu.Lock() // whoever releases may be making a lane
		defer q.mu.Unlock()
	}
	for _, pr := range s.progress {
		pr.sink.closeLanes(pr)
	}
}

// collect is partition.collect, with the snapshot's own end. The graph does not know it, and is told nothing.
func (s *tableSnapshot) collect(stored change.Timestamp) (state.Update, bool) {
	u, ok, _, _ := s.partition.collect(stored)
	if u.Finished {
		row := s.copyRow()
		row.State, row.Chunks = state.SnapshotDone, nil
		if row.Error != "" {
			row.State = state.SnapshotFailed
		}
		u.Snapshots = []state.TableSnapshot{row}
	}
	return u, ok
}

// committedSnapshot carries a stored update into the snapshot that it is of.
func (e *Engine) committedSnapshot(u *state.Update) {
	e.mu.Lock()
	var s *tableSnapshot
	for _, other := range e.snapshots {
		if other.Token == u.Token {
			s = other
		}
	}
	if s != nil && u.Finished {
		delete(e.snapshots, s.row.Number)
	}
	e.mu.Unlock()
	if s == nil {
		return
	}
	s.committed(u)
	if !u.Finished {
		return
	}
	for _, pr := range s.progress {
		pr.sink.forget(pr)
	}
	row := u.Snapshots[0]
	e.log.Info("snapshot ends", "table", row.Table, "snapshot", row.Number, "state", row.State, "rows", row.Rows, "dropped", row.Dropped)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastSnapshots = append(e.lastSnapshots, row)
	if n := len(e.lastSnapshots) - maxLastSnapshots; n > 0 {
		e.lastSnapshots = slices.Delete(e.lastSnapshots, 0, n)
	}
}

// takesSnapshots reports whether a snapshot is not wholly durable, as far as this run takes it.
func (e *Engine) takesSnapshots() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.snapshots {
		if !s.suspended.Load() {
			return true
		}
	}
	return false
}

// snapshotsOfAll are the requests of a start with a snapshot.
func (e *Engine) snapshotsOfAll(ctx context.Context, p state.Pipeline) (list []state.TableSnapshot, err error) {
	if e.rows == nil {
		return nil, fmt.Errorf("pipeline %s: it begins with a snapshot, and this program cannot take one", p.Pipeline)
	}
	taken, err := e.opts.Store.Snapshots(ctx, p.Pipeline, false)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: find the snapshots taken: %w", p.Pipeline, err)
	}
	tables, err := e.rows.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: find the tables to take a snapshot of: %w", p.Pipeline, err)
	}
	for _, t := range tables {
		// A stream that has wholly ended begins again, and has taken them. A range that was asked for meanwhile is not all of a table.
		whole := func(s state.TableSnapshot) bool { return s.Table == t && s.From == "" && s.To == "" }
		if !slices.ContainsFunc(taken, whole) {
			list = append(list, state.TableSnapshot{Table: t, State: state.SnapshotWaiting})
		}
	}
	return list, nil
}

// until waits until cond holds, asking now and then; it reports false when reading stops first.
func (e *Engine) until(cond func() bool) bool {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		if e.soft.Err() != nil {
			return false
		}
		if cond() {
			return true
		}
		sleep(e.soft, wait)
	}
}

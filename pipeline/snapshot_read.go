package pipeline

import (
	"context"
	"errors"
	"slices"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/state"
)

// read reads the chunks in order: first those of a run before, as they were, or from the first of them that is too long ago.
func (s *tableSnapshot) read(pieces chan<- piece) {
	row := s.copyRow()
	floor := change.Timestamp(s.through.Load())
	var expired []state.SnapshotChunk
	for i, p := range s.recovered {
		p = s.again(p)
		if errors.Is(p.err, snapshot.ErrExpired) {
			expired = s.expired(i, p.err)
			row.Cursor, row.Read = expired[0].After, false
			floor = max(floor, expired[len(expired)-1].At)
			break
		}
		floor = max(floor, p.at)
		if !s.send(pieces, p) {
			return
		}
	}
	if !row.Read {
		select {
		case s.engine.turn(row.Table) <- struct{}{}:
			s.hasTurn = true
		case <-s.engine.soft.Done():
			return
		}
	}
	for after, end := row.Cursor, row.Read; !end; {
		p := s.next(snapshot.Range{
			Table: row.Table, From: row.From, To: row.To, After: after, Floor: floor,
			MaxRows: s.engine.opts.SnapshotChunkRows, MaxBytes: s.engine.opts.SnapshotChunkBytes,
		})
		p.expired, expired = expired, nil
		if !s.send(pieces, p) {
			return
		}
		floor, after, end = max(floor, p.at), p.last, p.end
	}
}

// expired gives up the recovered chunks from number i on: they are read anew. The timestamps of chunks only grow, so that is
// all of them: the first waits for the stream to come to the present, and nothing may wait for those behind it meanwhile.
func (s *tableSnapshot) expired(i int, err error) (list []state.SnapshotChunk) {
	for _, p := range s.recovered[i:] {
		list = append(list, *p.stored)
		s.engine.passed(p.watch)
	}
	s.engine.log.Warn("chunks of the snapshot were with the sinks for longer than the database keeps versions and are read anew: their rows "+
		"reach sinks that had them already a second time, at a later position; a longer version_retention_period prevents that",
		"table", s.copyRow().Table, "chunks", len(list), "read_at", list[0].At, "error", err)
	return list
}

// send takes the piece's bytes from the budget and sends it on; it reports false when nothing more is to be read.
func (s *tableSnapshot) send(pieces chan<- piece, p piece) bool {
	e := s.engine
	if p.err == nil && len(p.rows) > 0 {
		// One chunk of each snapshot may be held beyond the budget: others may wait for it, so it must not wait for them (I10).
		p.bytes = max(p.bytes, 1)
		// Nothing lies beyond the budget but by the right to, however small, and nothing larger than it lies within: the lowest
		// partition, which the chunk waits for, would be asked to make room for it.
		if p.bytes > e.opts.BudgetBytes || !s.account.try(p.bytes, false) {
			e.closeLargest()
			select {
			case s.beyond <- struct{}{}:
				s.account.exceed(p.bytes)
				s.account.Adjust(p.bytes)
				p.over = true
			case <-e.soft.Done():
				p.bytes, p.err = 0, context.Cause(e.soft)
			}
		}
	}
	select {
	case pieces <- p:
		return p.err == nil
	case <-e.soft.Done():
		return false
	}
}

// next reads a new chunk at the present.
func (s *tableSnapshot) next(r snapshot.Range) piece {
	e := s.engine
	return s.retry(r.Table, func() piece {
		p := piece{after: r.After, watch: e.watches.watch(r.Table, 0)} // before the read begins: no change may pass unseen
		try := r
		e.mu.Lock()
		try.Floor = max(r.Floor, e.lastChunk[r.Table]) // I1: behind the rows of the snapshot before
		e.mu.Unlock()
		if e.sequencer != nil {
			try.Floor = max(try.Floor, e.sequencer.stay(p.watch))
		}
		chunk, err := e.rows.Read(e.soft, try)
		if err != nil {
			e.passed(p.watch) // while nothing is read nothing need be watched, nor held
			p.watch, p.err = nil, err
			return p
		}
		return s.filled(p, chunk)
	})
}

// again reads a chunk of a run before at its own timestamp, so that it is the same.
func (s *tableSnapshot) again(p piece) piece {
	row := s.copyRow()
	return s.retry(row.Table, func() piece {
		chunk, err := s.engine.rows.Read(s.engine.soft, snapshot.Range{
			Table: row.Table, From: row.From, To: row.To, After: p.stored.After, Through: p.stored.Through, At: p.stored.At,
		})
		if err != nil {
			return piece{watch: p.watch, err: err}
		}
		return s.filled(p, chunk)
	})
}

// retry reads until it works, or cannot work, or reading stops.
func (s *tableSnapshot) retry(table string, read func() piece) piece {
	e := s.engine
	backoff := e.opts.MinBackoff
	for tries := 1; ; tries++ {
		p := read()
		_, unwatched := errors.AsType[*snapshot.NotWatchedError](p.err)
		if p.err == nil || unwatched || errors.Is(p.err, snapshot.ErrExpired) || errors.Is(p.err, errBehindEnd) || e.soft.Err() != nil {
			return p
		}
		if tries&(tries-1) == 0 {
			e.log.Warn("reading rows for a snapshot failed, trying again", "table", table, "error", p.err, "tries", tries)
		}
		sleep(e.soft, backoff)
		backoff = min(2*backoff, e.opts.MaxBackoff)
	}
}

// errBehindEnd says that a chunk was read after the pipeline's end.
var errBehindEnd = errors.New("pipeline: the rows were read after the pipeline's end")

// filled makes a piece of what was read, and tells the watch.
func (s *tableSnapshot) filled(p piece, chunk *snapshot.Chunk) piece {
	e := s.engine
	if e.opts.End != 0 && chunk.At > e.opts.End { // the stream is never read that far
		p.err = errBehindEnd
		e.passed(p.watch) // the pieces before it need the stream to go on
		return p
	}
	p.at, p.end, p.bytes = chunk.At, !chunk.More, chunk.Bytes
	if n := len(chunk.Keys); n > 0 {
		p.last = chunk.Keys[n-1]
	}
	p.keys = make(map[change.Position]string, len(chunk.Keys))
	for i := range chunk.Rows {
		chunk.Rows[i].Partition = s.Token
		p.keys[chunk.Rows[i].Position] = chunk.Keys[i]
	}
	f := &change.Frame{Token: s.Token, Changes: chunk.Rows, Through: chunk.At, Bytes: chunk.Bytes}
	e.noteTables(f.Changes)
	if e.opts.Filter != nil {
		if p.err = e.opts.Filter.Apply(f); p.err != nil {
			e.fail(p.err) // as for a frame of the stream
			return p
		}
	}
	if p.rows = f.Changes; len(p.rows) == 0 {
		p.bytes = 0
	}
	slices.SortFunc(p.rows, func(a, b change.Change) int { return a.Position.Compare(b.Position) })
	e.watches.read(p.watch, p.at, p.rows)
	if e.sequencer != nil {
		e.sequencer.bound(p.watch, p.at-1)
	}
	return p
}

// turn is held by the one snapshot of a table that reads new chunks: the later of two that overlap could otherwise be handed on
// first (I1). Several are under way after a crash.
func (e *Engine) turn(table string) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.turns[table] == nil {
		e.turns[table] = make(chan struct{}, 1)
	}
	return e.turns[table]
}

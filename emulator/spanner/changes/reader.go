package changes

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reader serves one query. It belongs to the goroutine of Query.
type reader struct {
	ctx    context.Context
	log    *Log
	stream *stream
	form   form
	query  Query
	send   func(Record) error

	start, end int64 // microseconds, inclusive; end is never if there is none
	heartbeat  time.Duration
	part       *partition
	pos        position
	sent       bool      // any row, also before a resume
	idleSince  time.Time // when the last row was sent or the reading began
	batch      []entry
	lag        time.Duration
}

// batchSize is how many rows are copied out under the lock at a time.
const batchSize = 128

// SafeTime may lag behind the clock while a commit is under way; these bound how soon it is asked again.
const (
	minLag = time.Millisecond
	maxLag = 20 * time.Millisecond
)

// initial answers the query without a token: the partitions alive at start.
func (r *reader) initial() error {
	if r.query.Resume != "" && (r.pos.uid != r.stream.uid || r.pos.part != 0) {
		return errForeignPosition(r.query)
	}
	if err := r.awaitStart(); err != nil {
		return err
	}
	l, s := r.log, r.stream
	l.mu.Lock()
	if s.dropped {
		l.mu.Unlock()
		return errDropped(s.name)
	}
	var alive []*partition
	for _, p := range s.parts {
		if p.first <= r.start && r.start < p.limit && p.id > r.pos.next {
			alive = append(alive, p)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(alive, func(a, b *partition) int { return cmp.Compare(a.id, b.id) })
	for _, p := range alive { // of p only fixed fields are read
		rec := Record{Kind: ChildPartitions, Timestamp: *r.query.Start}
		if r.form == protoForm {
			rec.Kind = PartitionStart
			rec.wire = protoStart(*r.query.Start, int(r.pos.child), p.token)
		} else {
			rec.wire = r.childRow(*r.query.Start, int(r.pos.child), p.token, nil)
		}
		r.pos.uid, r.pos.next, r.pos.at = s.uid, p.id, r.start
		r.pos.child++
		if err := r.emit(rec); err != nil {
			return err
		}
	}
	return nil
}

// open binds the reader to its partition. The caller holds mu; on success it must count the reader off again.
func (r *reader) open(p *partition) error {
	r.part = p
	if p.readers >= MaxReaders {
		return status.Errorf(codes.ResourceExhausted, "partition %s of change stream %s is read by %d queries already", p.token, r.stream.name, p.readers)
	}
	if r.query.Resume != "" {
		if r.pos.uid != r.stream.uid || r.pos.part != p.id || r.pos.next > p.base+uint64(len(p.entries)) || r.pos.child > uint64(len(p.children)) {
			return errForeignPosition(r.query)
		}
		r.sent = true
	} else {
		if err := r.checkLife(); err != nil {
			return err
		}
		i := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].at >= r.start })
		r.pos = position{uid: r.stream.uid, part: p.id, next: p.base + uint64(i), at: r.start - 1}
	}
	p.readers++
	return nil
}

func (r *reader) checkLife() error {
	p := r.part
	if r.start >= p.start && r.start <= p.end {
		return nil
	}
	end := "now"
	if p.end != never {
		end = stamp(micros(p.end))
	}
	return status.Errorf(codes.OutOfRange, "Specified start_timestamp is invalid: %s lies outside the life of partition %s, %s to %s", stamp(*r.query.Start), p.token, stamp(micros(p.start)), end)
}

// partition serves the query with a token.
func (r *reader) partition() error {
	if err := r.awaitStart(); err != nil {
		return err
	}
	r.idleSince = r.log.clock.Now()
	for {
		done, err := r.step()
		if done || err != nil {
			return err
		}
	}
}

// step sends the rows that are ready, or a heartbeat that is due, or waits for either. It reports whether the result is
// complete.
func (r *reader) step() (done bool, err error) {
	l, s, p := r.log, r.stream, r.part
	safe := l.safeTime() // before the look at the entries: all commits up to it are among them
	l.mu.Lock()
	safe = max(safe, l.last)
	if err := r.alive(); err != nil {
		l.mu.Unlock()
		return false, err
	}
	now := l.clock.Now()
	s.expire(now.UnixMicro())
	if r.pos.next < p.base {
		l.mu.Unlock()
		return false, status.Errorf(codes.OutOfRange, "start_timestamp is too old: records of partition %s of change stream %s expired before they were read", p.token, s.name)
	}
	upTo := min(safe, r.end)
	rows := p.entries[r.pos.next-p.base:]
	r.batch = r.batch[:0]
	for len(r.batch) < min(len(rows), batchSize) && rows[len(r.batch)].at <= upTo {
		r.batch = append(r.batch, rows[len(r.batch)])
	}
	if len(r.batch) > 0 {
		l.mu.Unlock()
		return r.sendBatch()
	}

	// Nothing to send at or below upTo. Everything below is about ends, heartbeats and waiting.
	wait := minDuration{now: now, d: -1}
	switch {
	case r.pos.phase == ended:
		l.mu.Unlock()
		return true, nil
	case !s.mutable && p.end <= r.end && safe >= p.end-1:
		children := p.children[r.pos.child:]
		l.mu.Unlock()
		return true, r.sendChildren(children)
	case r.end <= safe:
		if r.sent {
			l.mu.Unlock()
			return true, nil
		}
		s.promised = max(s.promised, r.end)
		l.mu.Unlock()
		r.pos.at, r.pos.phase = r.end, ended
		return true, r.sendHeartbeat(*r.query.End)
	case r.end != never:
		wait.until(micros(r.end))
	}
	if len(rows) > 0 {
		wait.until(micros(rows[0].at))
	}
	if p.end != never && p.end <= r.end {
		wait.until(micros(p.end))
	}
	due := r.idleSince.Add(r.heartbeat)
	if !due.After(now) && safe > r.pos.at && safe >= r.start {
		s.promised = max(s.promised, safe) // a redraw chosen meanwhile must lie above it
		l.mu.Unlock()
		r.pos.at = safe
		return false, r.sendHeartbeat(micros(safe))
	}
	wait.until(due)
	changed, altered := p.changed(), s.wake
	l.mu.Unlock()
	return false, r.sleep(r.laggard(wait.d), changed, altered)
}

// alive reports why the query cannot go on, if so. The caller holds mu.
func (r *reader) alive() error {
	switch {
	case r.ctx.Err() != nil:
		return status.FromContextError(r.ctx.Err()).Err()
	case r.log.closed:
		return errClosed()
	case r.stream.dropped:
		return errDropped(r.stream.name)
	}
	return nil
}

func (r *reader) sendBatch() (bool, error) {
	for i := range r.batch {
		e := r.batch[i]
		r.batch[i] = entry{}
		r.pos.next++
		if e.at < r.start { // committed after the query was asked with a start still ahead
			continue
		}
		r.pos.at = e.at
		rec := Record{Timestamp: micros(e.at), Kind: Data, data: e.data}
		if e.control != nil {
			rec.Kind, rec.wire = e.control.kind, e.control.protoRow()
			if e.control.kind == PartitionEnd {
				r.pos.phase = ended
			}
		}
		if err := r.emit(rec); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (r *reader) sendChildren(children []childRow) error {
	start := micros(r.part.end) // an end, once known, is fixed
	for _, c := range children {
		rec := Record{Kind: ChildPartitions, Timestamp: start, wire: r.childRow(start, int(r.pos.child), c.token, c.parents)}
		r.pos.at = r.part.end
		r.pos.child++
		if err := r.emit(rec); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) childRow(start time.Time, sequence int, token string, parents []string) []byte {
	if r.form == jsonForm {
		return textValue(jsonChild(start, sequence, token, parents))
	}
	return structChild(start, sequence, token, parents)
}

func (r *reader) sendHeartbeat(at time.Time) error {
	rec := Record{Kind: Heartbeat, Timestamp: at}
	switch r.form {
	case structForm:
		rec.wire = structHeartbeat(at)
	case jsonForm:
		rec.wire = textValue(jsonHeartbeat(at))
	case protoForm:
		rec.wire = protoHeartbeat(at)
	}
	return r.emit(rec)
}

// emit sends a row with the position behind it, which the caller has set already.
func (r *reader) emit(rec Record) error {
	if err := r.ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	rec.Resume = r.pos.String()
	if err := r.send(rec); err != nil {
		return err
	}
	r.sent = true
	r.idleSince = r.log.clock.Now()
	r.lag = 0
	return nil
}

// awaitStart blocks until the start is neither ahead of the clock nor of what is known of the commits.
func (r *reader) awaitStart() error {
	if r.query.Resume != "" {
		return nil
	}
	for {
		safe := r.log.safeTime()
		r.log.mu.Lock()
		safe = max(safe, r.log.last)
		err := r.alive()
		if err == nil && r.part != nil {
			err = r.checkLife() // it may have ended meanwhile
		}
		altered := r.stream.wake
		r.log.mu.Unlock()
		if err != nil {
			return err
		}
		now := r.log.clock.Now()
		// Where the clock stands, or has gone back, what is known of the commits is ahead of it.
		if safe >= r.start || r.part != nil && !now.Before(*r.query.Start) {
			return nil
		}
		if err := r.sleep(r.laggard(r.query.Start.Sub(now)), nil, altered); err != nil {
			return err
		}
	}
}

// laggard turns a wait for an instant that has come, while SafeTime has not reached it yet, into a short one.
func (r *reader) laggard(d time.Duration) time.Duration {
	if d > 0 {
		r.lag = 0
		return d
	}
	r.lag = min(max(minLag, 2*r.lag), maxLag)
	return r.lag
}

// sleep waits for a time, for either channel or for the end of the query; the last as an error.
func (r *reader) sleep(d time.Duration, changed, altered <-chan struct{}) error {
	fired, stop := r.log.clock.NewTimer(d)
	defer stop()
	select {
	case <-fired:
	case <-changed:
	case <-altered:
	case <-r.log.done:
		return errClosed()
	case <-r.ctx.Done():
		return status.FromContextError(r.ctx.Err()).Err()
	}
	return nil
}

// minDuration is the shortest of some waits.
type minDuration struct {
	now time.Time
	d   time.Duration
}

func (m *minDuration) until(t time.Time) {
	if d := max(0, t.Sub(m.now)); m.d < 0 || d < m.d {
		m.d = d
	}
}

func errClosed() error {
	return status.Error(codes.Unavailable, "the change streams of this database are closing; ask again")
}

func errForeignPosition(q Query) error {
	return status.Errorf(codes.InvalidArgument, "resume position %q belongs to another query than this one of change stream %s", q.Resume, q.Stream)
}

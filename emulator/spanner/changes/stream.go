package changes

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// stream is one change stream from its creation to its drop. Guarded by Log.mu.
type stream struct {
	log  *Log
	uid  uint64 // tells a stream from a later one of the same name
	name string
	// placement is the one whose rows it shows, "" for all.
	placement string
	created   int64
	mutable   bool
	def       *store.ChangeStream
	opts      options
	views     map[*store.Table]*view

	nextID uint64
	parts  map[string]*partition // by token, while any of its life is within retention
	ended  []*partition          // in order of end, for expire
	live   []*partition          // in no order, for churn
	routes routes
	staged []staged // changes of routes that hold from a coming commit timestamp, by time

	// lastCut is the newest redraw, promised the highest heartbeat: a redraw lies above both.
	lastCut, promised int64

	// retained is one element for each entry of any partition and for each end of one, oldest first, so that expiry looks at
	// nothing else.
	retained []retained
	newest   int // the index of the one added last
	bytes    int64
	floor    int64 // newest timestamp of which something was removed

	dropped bool
	wake    chan struct{} // closed when the stream is dropped or its retention changes; then a new one
	touched []*partition  // scratch of capture
}

type staged struct {
	from   int64 // first commit timestamp it holds for
	ranges []keyRange
	owner  *partition
}

// retained is an entry of a partition, or with a nil part a partition that ended.
type retained struct {
	at    int64
	bytes int64
	part  *partition
}

// partitionBytes is about what an ended partition without records takes.
const partitionBytes = 1000

func newStream(l *Log, def *store.ChangeStream, o options, uid uint64, name, placement string, created int64) *stream {
	s := &stream{
		log: l, uid: uid, name: name, placement: placement, created: created, mutable: o.mutable, def: def, opts: o,
		views: map[*store.Table]*view{}, parts: map[string]*partition{}, wake: make(chan struct{}), lastCut: created,
	}
	watched := func(t *store.Table) bool { return newView(def, t, "").watched }
	edges := append([]place{{}}, firstCuts(l.tables, watched, max(1, l.opts.Partitions))...)
	edges = append(edges, top)
	for i := range edges[1:] {
		p := s.newPartition(s.created, s.created)
		p.ranges = []keyRange{{edges[i], edges[i+1]}}
		s.routes = append(s.routes, route{edges[i], p})
	}
	return s
}

func (s *stream) newPartition(start, first int64) *partition {
	s.nextID++
	p := &partition{id: s.nextID, token: s.log.token(s.uid, s.nextID), start: start, end: never, first: first, limit: never, live: len(s.live)}
	s.live = append(s.live, p)
	s.parts[p.token] = p
	return p
}

// finish ends p; the caller has given its ranges away.
func (s *stream) finish(p *partition, end, limit int64) {
	p.end, p.limit, p.ranges = end, limit, nil
	last := s.live[len(s.live)-1]
	s.live[p.live], last.live = last, p.live
	s.live[len(s.live)-1] = nil
	s.live = s.live[:len(s.live)-1]
	p.live = -1
	p.sample = nil
	s.ended = append(s.ended, p)
	// What is left of it counts as a record of its end does, so that partitions which come and go are bounded too.
	s.retain(retained{at: end, bytes: partitionBytes})
}

// retain adds to what is retained, before what is announced for a later time.
func (s *stream) retain(r retained) {
	i := len(s.retained)
	s.retained = append(s.retained, r)
	for ; i > 0 && s.retained[i-1].at > r.at; i-- {
		s.retained[i] = s.retained[i-1]
	}
	s.retained[i] = r
	s.newest = i
	s.bytes += r.bytes
}

// redefine takes over an altered definition; it holds for the commits that follow. The partition mode cannot be altered.
func (s *stream) redefine(def *store.ChangeStream, o options) {
	shorter := o.retention != s.opts.retention
	s.def, s.opts = def, o
	clear(s.views)
	if shorter {
		close(s.wake)
		s.wake = make(chan struct{})
	}
}

func (s *stream) drop() {
	s.dropped = true
	close(s.wake)
	s.parts, s.ended, s.live, s.routes, s.retained = nil, nil, nil, nil, nil
}

// earliest is the oldest timestamp a query may start at.
func (s *stream) earliest(now int64) int64 {
	return max(s.created, now-s.opts.retention.Microseconds(), s.floor+1)
}

// expire removes the rows that no query may ask for any more, and those beyond Options.MaxBytes. What is gone stays out of
// bounds, though the clock should go back or retention_period grow: a query there would miss it without a word.
func (s *stream) expire(now int64) {
	horizon := s.earliest(now)
	// What is still to come takes nothing away that is there.
	tooMuch := func(r retained) bool {
		return s.log.opts.MaxBytes > 0 && s.bytes > s.log.opts.MaxBytes && r.at <= max(now, s.log.last)
	}
	n := 0
	for n < len(s.retained) && (s.retained[n].at < horizon || tooMuch(s.retained[n])) {
		r := s.retained[n]
		s.floor = max(s.floor, r.at)
		horizon = max(horizon, r.at+1) // gone for its size: everything of that commit is unreadable now
		if p := r.part; p != nil && len(p.entries) > 0 {
			p.entries[0] = entry{}
			p.entries = p.entries[1:]
			p.base++
			if len(p.entries) == 0 {
				p.entries = nil
			}
		}
		s.bytes -= r.bytes
		s.retained[n] = retained{}
		n++
	}
	if s.retained = s.retained[n:]; len(s.retained) == 0 {
		s.retained = nil
	}
	n = 0
	for n < len(s.ended) && s.ended[n].end < horizon && s.ended[n].limit <= horizon {
		s.floor = max(s.floor, s.ended[n].end, s.ended[n].limit-1)
		delete(s.parts, s.ended[n].token)
		s.ended[n] = nil
		n++
	}
	s.ended = s.ended[n:]
}

// Expire makes everything a stream has recorded so far expire at once, as if its retention had passed: the records are
// gone, and so are the tokens of partitions that ended. NOT_FOUND for an unknown stream.
func (l *Log) Expire(name string) error {
	safe := l.safeTime()
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.stream(name)
	if err != nil {
		return err
	}
	s.floor = max(s.floor, safe, l.last)
	s.expire(l.clock.Now().UnixMicro())
	return nil
}

// applyStaged brings the routes up to a commit timestamp.
func (s *stream) applyStaged(through int64) {
	n := 0
	for n < len(s.staged) && s.staged[n].from <= through {
		for _, r := range s.staged[n].ranges {
			s.routes = s.routes.assign(r, s.staged[n].owner)
		}
		s.staged[n] = staged{}
		n++
	}
	s.staged = s.staged[n:]
}

func (s *stream) view(t *store.Table) *view {
	v := s.views[t]
	if v == nil {
		v = newView(s.def, t, s.log.rootOf(t))
		s.views[t] = v
	}
	return v
}

// stream finds a live stream by name. The caller holds mu.
func (l *Log) stream(name string) (*stream, error) {
	s := l.streams[name]
	if s == nil {
		return nil, errDropped(name)
	}
	return s, nil
}

func errDropped(name string) error {
	return status.Errorf(codes.NotFound, "Change stream not found: %s", name)
}

func micros(t int64) time.Time { return time.UnixMicro(t).UTC() }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// sorted is all retained partitions by id, so by start.
func (s *stream) sorted() []*partition {
	out := make([]*partition, 0, len(s.parts))
	for _, p := range s.parts {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *partition) int { return cmp.Compare(a.id, b.id) })
	return out
}

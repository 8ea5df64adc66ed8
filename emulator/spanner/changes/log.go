package changes

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Options configure a Log; the zero value of every field has a meaning.
type Options struct {
	// Clock is the time for retention, heartbeats, future starts and churn; nil is the system clock.
	Clock Clock
	// SafeTime returns, in microseconds since 1970, an S such that every commit at or below S has been observed and every
	// later commit will be above S. It must never fall, should follow the clock while nothing commits, and is called
	// without any lock of the Log held. nil means the clock's now less a microsecond, which is right only where commits
	// take their timestamp from Clock and are observed in that same instant.
	SafeTime func() int64
	// PostgreSQL selects the PostgreSQL dialect's forms of the records.
	PostgreSQL bool
	// Partitions is how many partitions a new stream begins with, 1 to 10,000; 0 means 1. The ranges are guessed from the
	// tables (see ObserveTables) since there is no data yet to cut evenly.
	Partitions int
	// Retention overrides retention_period of every stream if positive.
	Retention time.Duration
	// MaxBytes bounds the (estimated) bytes of records retained per stream; the oldest go first, as if they had expired.
	// 0 means no bound.
	MaxBytes int64
	// Churn redraws partitions by the clock; its zero value leaves them alone.
	Churn Churn
}

// MaxPartitions bounds Options.Partitions and the parts of one Split.
const MaxPartitions = 10_000

// Log holds the change streams of one database. It is safe for concurrent use.
type Log struct {
	opts   Options
	clock  Clock
	secret [32]byte

	// mu guards everything below, and all streams and partitions. It is never held while SafeTime, a Query's send or an
	// encoder runs: the store may hold its own lock around Observe and inside SafeTime.
	mu      sync.Mutex
	streams map[string]*stream
	nextUID uint64
	last    int64             // newest commit or schema timestamp observed, microseconds
	roots   map[string]string // table name to the name of its root, fixed at first sight
	tables  []*store.Table
	// placements are the database's, the default one first.
	placements []string

	done   chan struct{} // closed by Close
	closed bool
	churn  sync.WaitGroup
}

// New returns the empty Log of one database. If Options.Churn is on, Close must be called to stop it.
func New(o Options) *Log {
	l := &Log{opts: o, clock: o.Clock, streams: map[string]*stream{}, placements: []string{store.DefaultPlacement}, roots: map[string]string{}, done: make(chan struct{})}
	if l.clock == nil {
		l.clock = SystemClock{}
	}
	_, _ = rand.Read(l.secret[:]) // never fails: crypto/rand crashes the program instead
	l.startChurn()
	return l
}

// Close stops churn and ends running queries with UNAVAILABLE. It may be called more than once.
func (l *Log) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.done)
	}
	l.mu.Unlock()
	l.churn.Wait()
}

// ObserveTables tells the Log the tables of the newest schema. It is optional: it settles which root each interleaved
// table belongs to before its first row, and where the first partitions of new streams are cut. Call it before the
// ObserveSchema of the same DDL.
func (l *Log) ObserveTables(tables []*store.Table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tables = tables
	byName := make(map[string]*store.Table, len(tables))
	for _, t := range tables {
		byName[t.QualifiedName()] = t
	}
	for _, t := range tables {
		root := t
		for hops := 0; root.Parent != "" && byName[root.Parent] != nil && hops < len(tables); hops++ {
			root = byName[root.Parent]
		}
		if _, ok := l.roots[t.QualifiedName()]; !ok {
			l.roots[t.QualifiedName()] = root.QualifiedName()
		}
	}
}

// ObservePlacements tells the Log the database's placements, the default one among them. A stream with per_placement_tvf is one
// stream for each, with partitions and tokens of its own, and is called by its name, an underscore and the placement's in
// queries and commands. Call it before the ObserveSchema of the same DDL.
func (l *Log) ObservePlacements(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.placements = names
}

// ObserveSchema takes over the change streams as they are after a DDL statement committed at the given timestamp
// (microseconds since 1970, above all commits observed before). New streams get their first partitions, starting at
// their creation; absent ones end, and their records go at once; changed watch lists and options hold for commits
// observed from now on. A stream with an option Log cannot read is an error, and then nothing is taken over; see
// CheckOptions.
func (l *Log) ObserveSchema(streams []*store.ChangeStream, at int64) error {
	parsed := make([]options, len(streams))
	for i, def := range streams {
		o, err := parseOptions(def)
		if err != nil {
			return err
		}
		if l.opts.Retention > 0 {
			o.retention = l.opts.Retention
		}
		parsed[i] = o
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last, at)
	now := l.clock.Now().UnixMicro()
	keep := make(map[string]bool, len(streams))
	for i, def := range streams {
		if !parsed[i].perPlacement {
			l.observeStream(def, parsed[i], def.Name, "", at, now, keep)
			continue
		}
		for _, p := range l.placements {
			l.observeStream(def, parsed[i], def.Name+"_"+p, p, at, now, keep)
		}
	}
	for name, s := range l.streams {
		if !keep[name] {
			s.drop()
			delete(l.streams, name)
		}
	}
	return nil
}

// observeStream takes over a stream, or one placement's part of it, as it is after a DDL statement at at. The caller holds mu.
func (l *Log) observeStream(def *store.ChangeStream, o options, name, placement string, at, now int64, keep map[string]bool) {
	keep[name] = true
	s := l.streams[name]
	if s != nil && s.def.Created != def.Created {
		s.drop()
		s = nil
	}
	if s == nil {
		created := def.Created
		if placement != "" {
			created = max(created, at) // the placement may be younger
		}
		l.nextUID++
		l.streams[name] = newStream(l, def, o, l.nextUID, name, placement, created)
		return
	}
	s.redefine(def, o)
	s.expire(now)
}

// Observe records one commit. Commits come in rising timestamp order, and Observe returns before SafeTime reaches the
// commit's timestamp. The Log keeps c and its rows; nobody may change them afterwards.
func (l *Log) Observe(c *store.Commit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last, c.Timestamp)
	if len(l.streams) == 0 {
		return
	}
	now := l.clock.Now().UnixMicro()
	for _, s := range l.streams {
		s.observe(c)
		s.expire(now)
	}
}

// Collect removes the records that their streams' retention has passed. Commits and readers do so too: Collect is for
// streams that have neither.
func (l *Log) Collect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now().UnixMicro()
	for _, s := range l.streams {
		s.expire(now)
	}
}

// safeTime asks for SafeTime. The caller must not hold mu, and takes the larger of it and last once it does: commits
// arrive in order, so an observed one proves its own timestamp even where SafeTime still lags.
func (l *Log) safeTime() int64 {
	if l.opts.SafeTime != nil {
		return l.opts.SafeTime()
	}
	return l.clock.Now().UnixMicro() - 1
}

// rootOf names the root of t's interleaving hierarchy. The answer for a name never changes, because a key that changed
// its place in the key space would change its partition without any record of it.
func (l *Log) rootOf(t *store.Table) string {
	name := t.Name
	if t.Schema != "" {
		name = t.QualifiedName()
	}
	if root, ok := l.roots[name]; ok {
		return root
	}
	root := name
	if t.Parent != "" {
		root = t.Parent
		if r, ok := l.roots[t.Parent]; ok {
			root = r
		}
	}
	l.roots[name] = root
	return root
}

package store

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// DefaultRetention is how long old row versions stay readable unless Options say otherwise, as in Spanner.
const DefaultRetention = time.Hour

// Options configure a Database. The zero value is usable.
type Options struct {
	// Clock is the source of commit timestamps; nil means SystemClock.
	Clock Clock
	// Retention is how long old versions stay readable; 0 means DefaultRetention.
	Retention time.Duration
	// Postgres makes a database of the PostgreSQL dialect.
	Postgres bool
	// Observe, if set, is called with every commit in timestamp order, before Commit returns and while the commit lock is
	// held: it must not block and must not call the database. The commit and all it points at are immutable and may be
	// kept.
	Observe func(*Commit)
	// ObserveSchema, if set, is called likewise with every schema change, with the new version and its commit timestamp in
	// microseconds since 1970, just before it is published. An error refuses the change.
	ObserveSchema func(s *Schema, at int64) error
}

// Database is one in-memory database. All methods are safe for concurrent use.
type Database struct {
	opts Options

	// horizon is the oldest readable timestamp; it only rises.
	horizon atomic.Int64
	current atomic.Pointer[state]
	txnIDs  atomic.Int64
	objects atomic.Int64 // the last Table.ID or Index.ID given

	// mu serializes everything that takes a timestamp. Readers do not take it.
	mu sync.Mutex
	// last is the highest timestamp promised or used; under mu.
	last int64
	// garbage are versions with something older behind them, or deletions, in timestamp order; under mu.
	garbage []garbage
	// first are the transactions that have the right of way; under mu.
	first []*Txn
}

// New returns an empty database.
func New(o Options) *Database {
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Retention <= 0 {
		o.Retention = DefaultRetention
	}
	db := &Database{opts: o, last: o.Clock.Now().UnixMicro()}
	s := &Schema{At: db.last, Options: map[string]string{}, Postgres: o.Postgres, Clock: o.Clock, Roles: systemRoles()}
	// There is nothing before the first commit, but it may be read there, as far back as retention allows.
	db.horizon.Store(db.last - o.Retention.Microseconds())
	db.current.Store(&state{ts: db.last, schema: s, schemas: []*Schema{s}, trees: map[int64]*tree{}, lastWrite: map[int64]int64{}})
	return db
}

// Now reads the database's clock.
func (db *Database) Now() time.Time { return db.opts.Clock.Now() }

// Schema returns the current schema.
func (db *Database) Schema() *Schema { return db.current.Load().schema }

// Found makes the current schema the one that reads of the time before it see: the schema the database was created with.
func (db *Database) Found() {
	db.mu.Lock()
	defer db.mu.Unlock()
	st := *db.current.Load()
	st.schemas = []*Schema{st.schema}
	db.current.Store(&st)
}

// NewObjectID gives a fresh Table.ID or Index.ID.
func (db *Database) NewObjectID() int64 { return db.objects.Add(1) }

// SafeTime returns a T, in microseconds since 1970, such that every commit at or below T has been observed and every
// later one will be above T. It is the clock's time, or the last commit's timestamp if the clock is behind that.
func (db *Database) SafeTime() int64 {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.last = max(db.last, db.opts.Clock.Now().UnixMicro())
	return db.last
}

// nextTimestamp picks the timestamp of a commit. The caller holds mu.
func (db *Database) nextTimestamp() int64 {
	return max(db.opts.Clock.Now().UnixMicro(), db.last+1)
}

// Latest is the latest commit timestamp that can have been told to anyone, in microseconds since 1970: the present, or the last
// commit's where the clock does not move.
func (db *Database) Latest() int64 {
	return max(db.opts.Clock.Now().UnixMicro(), db.current.Load().ts)
}

// Strong returns a snapshot of everything committed so far. Its timestamp is that of a recent commit, or with fresh the
// current time: every later commit is then above it.
func (db *Database) Strong(fresh bool) *Snapshot {
	if !fresh {
		st := db.current.Load()
		return &Snapshot{db: db, st: st, ts: st.ts, schema: st.schema}
	}
	ts := db.SafeTime()
	// The state is loaded after the promise: it holds at least all commits at or below ts, and later ones do not show.
	st := db.current.Load()
	return &Snapshot{db: db, st: st, ts: ts, schema: st.schemaAt(ts)}
}

// At returns the snapshot at ts, in microseconds since 1970. A ts ahead of the clock is refused (the caller waits); one
// before the version retention too.
func (db *Database) At(ts int64) (*Snapshot, error) {
	if ts > db.SafeTime() {
		return nil, Errorf(codes.FailedPrecondition, "cannot read at %s: it is in the future", FormatMicros(ts))
	}
	if ts < db.EarliestVersion() {
		return nil, db.tooOld(ts)
	}
	st := db.current.Load()
	return &Snapshot{db: db, st: st, ts: ts, schema: st.schemaAt(ts)}, nil
}

func (db *Database) tooOld(ts int64) error {
	return Errorf(codes.FailedPrecondition, "read timestamp %s is past the version retention period: the oldest readable timestamp is %s", FormatMicros(ts), FormatMicros(db.EarliestVersion()))
}

// UpdateSchema changes the schema in one step. change gets the current schema and the commit timestamp and returns the
// new version (from Clone), or an error, which leaves everything as it was.
func (db *Database) UpdateSchema(change func(s *Schema, at int64) (*Schema, error)) (at int64, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	at = db.nextTimestamp()
	old := db.current.Load()
	next, err := change(old.schema, at)
	if err != nil {
		return 0, err
	}
	next.At = at
	st := old.clone()
	st.ts, st.schema = at, next
	st.schemas = append(slices.Clone(old.schemas), next)
	st.forgetSchemas(db.horizon.Load())
	w := &writer{db: db, ts: at, st: st}
	if err := db.rebuild(w, old.schema); err != nil {
		return 0, err
	}
	if db.opts.ObserveSchema != nil {
		if err := db.opts.ObserveSchema(next, at); err != nil {
			return 0, err
		}
	}
	for _, t := range db.first { // they cannot commit any more
		db.endClaim(t)
	}
	db.garbage = append(db.garbage, w.garbage...)
	db.last = at
	db.current.Store(st)
	return at, nil
}

// fillIdentities gives the rows of a table the values of identity columns that were added, in the order of their keys.
func (w *writer) fillIdentities(before, t *Table) error {
	var added []int
	for i := range t.Columns {
		c := &t.Columns[i]
		if c.Identity != nil && !slices.ContainsFunc(before.Columns, func(b Column) bool { return b.Ordinal == c.Ordinal }) {
			added = append(added, i)
		}
	}
	if len(added) == 0 {
		return nil
	}
	type live struct {
		key Key
		row Row
	}
	var rows []live
	ascend(w.st.trees[t.ID], Range{}, func(e entry) bool {
		if v := e.at(w.ts); v != nil {
			rows = append(rows, live{e.key, slices.Clone(adapt(v.row, v.table, t))})
		}
		return true
	})
	for _, r := range rows {
		for _, i := range added {
			n, err := t.Columns[i].Identity.Next()
			if err != nil {
				return err
			}
			r.row[i] = Value{Valid: true, Int: n}
		}
		w.put(t.ID, r.key, "", r.row, t)
	}
	return nil
}

// rebuild makes the trees of new tables and indexes, fills new identity columns and indexes, and checks the rows of changed
// tables against their new columns.
func (db *Database) rebuild(w *writer, old *Schema) error {
	st, at := w.st, w.ts
	for _, t := range st.schema.Tables {
		if st.trees[t.ID] == nil {
			st.trees[t.ID] = newTree()
			continue
		}
		if before := old.Table(t.QualifiedName()); before != t {
			if before != nil {
				if err := w.fillIdentities(before, t); err != nil {
					return err
				}
			}
			if err := checkRows(st.trees[t.ID], t, at); err != nil {
				return err
			}
		}
	}
	for _, x := range st.schema.Indexes {
		if st.trees[x.ID] != nil {
			continue
		}
		t := st.schema.Table(x.Table)
		tr := newTree()
		var failed error
		ascend(st.trees[t.ID], Range{}, func(e entry) bool {
			v := e.at(at)
			if v == nil {
				return true
			}
			k, n, ok := x.entryKey(t, adapt(v.row, v.table, t), e.key)
			if !ok {
				return true
			}
			if x.Unique && holdsOther(tr, k[:n], e.key) {
				failed = Errorf(codes.FailedPrecondition, "cannot create unique index %s: two rows of table %s have the same index key", x.QualifiedName(), x.Table)
				return false
			}
			tr.ReplaceOrInsert(entry{key: k, pk: e.key, head: &version{ts: at, row: Row{}, table: t}})
			return true
		})
		if failed != nil {
			return failed
		}
		st.trees[x.ID] = tr
	}
	return db.checkForeignKeys(st, old, at)
}

// checkForeignKeys refuses a schema change that adds a foreign key which existing rows break.
func (db *Database) checkForeignKeys(st *state, old *Schema, at int64) error {
	e := effects{buf: &buffer{}, view: &Snapshot{db: db, st: st, ts: at, schema: st.schema}}
	for _, t := range st.schema.Tables {
		before := old.Table(t.QualifiedName())
		if before == nil || before == t || len(t.ForeignKeys) <= len(before.ForeignKeys) {
			continue
		}
		var failed error
		e.view.rows(t, Range{}, func(_ Key, r Row) bool {
			failed = e.checkRefers(st.schema, t, r)
			return failed == nil
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// checkRows refuses a schema change that existing rows break.
func checkRows(tr *tree, t *Table, at int64) (err error) {
	ascend(tr, Range{}, func(e entry) bool {
		if v := e.at(at); v != nil {
			r := adapt(v.row, v.table, t)
			if err = checkComputed(t, v.table, r); err == nil {
				err = checkRow(t, r)
			}
			for i := 0; i < len(r) && err == nil; i++ {
				err = checkFuture(t, i, r[i], at)
			}
		}
		return err == nil
	})
	return err
}

// checkComputed computes the generated columns that were added since the row was written.
func checkComputed(t, written *Table, r Row) error {
	if t == written {
		return nil
	}
	for _, i := range t.ComputeOrder {
		if _, err := t.Columns[i].Compute(r); err != nil {
			return err
		}
	}
	return nil
}

// holdsOther reports whether an index has a live entry with this prefix for another row than pk.
func holdsOther(tr *tree, prefix, pk Key) (found bool) {
	ascend(tr, PrefixRange(prefix), func(e entry) bool {
		if e.head.row != nil && e.pk != pk {
			found = true
			return false
		}
		return true
	})
	return found
}

// FormatMicros writes microseconds since 1970 as RFC 3339 in UTC.
func FormatMicros(us int64) string {
	return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.999999Z07:00")
}

func (db *Database) newTransactionID() string { return strconv.FormatInt(db.txnIDs.Add(1), 10) }

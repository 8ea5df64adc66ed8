package store

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// Txn is one optimistic read-write transaction: it reads one snapshot, remembers what it read, and buffers its writes.
// It is safe for concurrent use. A Txn that is dropped without Commit or Rollback leaves nothing behind, unless it had the
// right of way.
type Txn struct {
	db   *Database
	opts TxnOptions

	mu    sync.Mutex
	base  *Snapshot // pinned by the first read or write, gone when done
	blind bool      // nothing has pinned base
	reads reads     // changed under Database.mu too with the right of way
	claim *claim    // the right of way, once there was something to read
	buf   buffer
	own   ownKeys // of the rows in buf
	// pending are the columns, by table, that statements have written the commit timestamp to.
	pending map[int64][]bool
	done    bool
	failed  error // of the statement that broke a constraint
}

// TxnOptions configure a read-write transaction. The zero value is serializable and held to Spanner's limits.
type TxnOptions struct {
	// RepeatableRead is snapshot isolation: what the transaction only read may change under it. Its writes still conflict
	// with other writes of the same rows since its snapshot, and what constraints look at still counts as read.
	RepeatableRead bool
	// RightOfWay, if positive, makes other commits wait that would change what the transaction has read, until it ends or,
	// from its first read, so much time has passed: it then reads the newest rows at each read, as under locks, and is not
	// aborted for changes of rows. It must be ended. Repeatable reads have no such right.
	RightOfWay time.Duration
	// Age decides between transactions with the right of way: the lower does not wait for the higher, but aborts it.
	Age int64
	// NoLimits lifts the limits on one commit's size: for work that Spanner would cut into many commits.
	NoLimits bool
}

// Begin starts a serializable read-write transaction. Its snapshot is taken at its first read or statement.
func (db *Database) Begin() *Txn { return db.BeginWith(TxnOptions{}) }

// BeginWith is Begin with options.
func (db *Database) BeginWith(o TxnOptions) *Txn {
	if o.RepeatableRead {
		o.RightOfWay = 0
	}
	return &Txn{db: db, opts: o, blind: true}
}

// Blind reports that the transaction has read nothing, so that no change but one of the schema can abort it. It may be
// asked after the end, too.
func (t *Txn) Blind() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.blind
}

func (t *Txn) pin() *Snapshot {
	if t.base == nil {
		t.base, t.blind = t.db.Strong(false), false
	}
	return t.base
}

// usable is why the transaction takes no more statements, if so. The caller holds t.mu.
func (t *Txn) usable() error {
	if t.failed == nil && t.done {
		return Errorf(codes.FailedPrecondition, "the transaction has already been committed or rolled back")
	}
	return t.failed
}

// end lets go of all that the transaction holds. The caller holds t.mu.
func (t *Txn) end() {
	t.done = true
	t.base, t.reads, t.buf, t.own, t.pending = nil, reads{}, buffer{}, nil, nil
}

// Schema is the schema version the transaction reads.
func (t *Txn) Schema() *Schema {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pin().schema
}

// point notes a key that is about to be read, and returns the snapshot to read it in.
func (t *Txn) point(id int64, k Key) *Snapshot {
	if t.opts.RightOfWay > 0 {
		t.db.mu.Lock()
		defer t.db.mu.Unlock()
		t.db.renew(t)
	}
	t.reads.point(id, k)
	return t.pin()
}

// span is point for a range.
func (t *Txn) span(id int64, r Range) *Snapshot {
	if t.opts.RightOfWay > 0 {
		t.db.mu.Lock()
		defer t.db.mu.Unlock()
		t.db.renew(t)
	}
	t.reads.span(id, r)
	return t.pin()
}

// txnView is the transaction's snapshot as its statements see it: every access is remembered. The holder has t.mu.
type txnView struct{ t *Txn }

func (v txnView) schemaVersion() *Schema { return v.t.pin().schema }

func (v txnView) row(tab *Table, k Key) Row { return v.t.point(tab.ID, k).row(tab, k) }

func (v txnView) rows(tab *Table, r Range, fn func(Key, Row) bool) {
	v.t.span(tab.ID, r).rows(tab, r, fn)
}

func (v txnView) entries(x *Index, r Range, fn func(k, pk Key) bool) {
	v.t.span(x.ID, r).entries(x, r, fn)
}

// begin returns the snapshot for a scan of a range that the transaction's user reads. With the right of way the range is
// noted now, to protect it, else by scanned.
func (t *Txn) begin(id int64, r Range) *Snapshot {
	if t.opts.RightOfWay > 0 {
		return t.span(id, r)
	}
	return t.pin()
}

// scanned notes the part of a range that its user has really seen; with repeatable reads nobody has to.
func (t *Txn) scanned(id int64, r Range) {
	if t.opts.RepeatableRead || t.opts.RightOfWay > 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads.span(id, r)
}

// Get returns the row of the key as the transaction sees it, its own writes included, or nil.
func (t *Txn) Get(tab *Table, k Key) (Row, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(); err != nil {
		return nil, err
	}
	if p := t.buf.get(tab, k); p != nil {
		return p.cur, nil
	}
	if t.opts.RepeatableRead {
		return t.pin().row(tab, k), nil
	}
	return txnView{t}.row(tab, k), nil
}

// overlayRow is a row that the transaction has touched, copied out of the buffer: row is nil if it is not there (any
// more). In an index scan key is the entry's.
type overlayRow struct {
	key Key
	row Row
}

// merged calls fn with the transaction's own rows between those of the snapshot, in key order. It returns the part of r
// that fn has seen: all of it, or up to the key at which fn returned false.
type merged struct {
	own     []overlayRow
	fn      func(Key, Row) bool
	stopped bool
	last    Key
}

func (m *merged) visit(k Key, row Row) bool {
	if row != nil && !m.fn(k, row) {
		m.stopped, m.last = true, k
	}
	return !m.stopped
}

// base takes the next row of the snapshot and first what comes before it; an own row of the same key replaces it.
func (m *merged) base(k Key, row Row) bool {
	for len(m.own) > 0 && m.own[0].key <= k && !m.stopped {
		o := m.own[0]
		m.own = m.own[1:]
		if o.key == k {
			row = o.row
			break
		}
		m.visit(o.key, o.row)
	}
	return !m.stopped && m.visit(k, row)
}

func (m *merged) finish(r Range) (seen Range) {
	for _, o := range m.own {
		if m.stopped || !m.visit(o.key, o.row) {
			break
		}
	}
	if m.stopped {
		r.End = m.last + "\x00"
	}
	return r
}

// Scan calls fn with the rows of r as the transaction sees them, in key order, until fn returns false. fn may use the
// transaction; what it writes does not show in this scan. Only the part of r up to where fn stopped counts as read.
func (t *Txn) Scan(tab *Table, r Range, fn func(Key, Row) bool) error {
	m := merged{fn: fn}
	t.mu.Lock()
	if err := t.usable(); err != nil {
		t.mu.Unlock()
		return err
	}
	base := t.begin(tab.ID, r)
	t.buf.scan(tab, r, func(p *pending) bool {
		m.own = append(m.own, overlayRow{p.key, p.cur})
		return true
	})
	t.mu.Unlock()
	base.rows(tab, r, m.base)
	t.scanned(tab.ID, m.finish(r))
	return nil
}

// ScanIndex calls fn with the rows of an index as the transaction sees them, in index order, until fn returns false.
func (t *Txn) ScanIndex(x *Index, tab *Table, r Range, fn func(Key, Row) bool) error {
	m := merged{fn: fn}
	touched := map[Key]bool{}
	t.mu.Lock()
	if err := t.usable(); err != nil {
		t.mu.Unlock()
		return err
	}
	base := t.begin(x.ID, r)
	t.buf.scan(tab, Range{}, func(p *pending) bool {
		touched[p.key] = true
		if p.cur == nil {
			return true
		}
		if k, _, ok := x.entryKey(tab, p.cur, p.key); ok && r.Contains(k) {
			m.own = append(m.own, overlayRow{k, p.cur})
		}
		return true
	})
	t.mu.Unlock()
	slices.SortFunc(m.own, func(a, b overlayRow) int { return cmp.Compare(a.key, b.key) })
	base.entries(x, r, func(k, pk Key) bool {
		if touched[pk] {
			return true
		}
		from := base
		if !t.opts.RepeatableRead {
			t.mu.Lock()
			from = t.point(tab.ID, pk)
			t.mu.Unlock()
		}
		return m.base(k, from.row(tab, pk))
	})
	t.scanned(x.ID, m.finish(r))
	return nil
}

// Apply carries out mutations at once, as a DML statement does: on the transaction's snapshot and its earlier writes.
// All of them happen, or on an error none, and then the transaction can only be rolled back: reads, Apply and Commit
// answer the same error from then on, as Spanner does after a statement that breaks a constraint.
func (t *Txn) Apply(ms ...Mutation) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	broken, err := t.apply(ms)
	if broken {
		t.failed = err
	}
	return err
}

// Try is Apply that a broken constraint does not end the transaction of.
func (t *Txn) Try(ms ...Mutation) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.apply(ms)
	return err
}

// apply carries out all mutations or none; broken says that a constraint refused them.
func (t *Txn) apply(ms []Mutation) (broken bool, err error) {
	if err := t.usable(); err != nil {
		return false, err
	}
	// Only this statement may have to be undone, so the log of it goes with it.
	defer func() {
		clear(t.buf.undo)
		t.buf.undo = t.buf.undo[:0]
	}()
	cells := t.buf.cells
	e := effects{buf: &t.buf, view: txnView{t}, latest: t.db.Latest()}
	if err := e.applyAll(ms); err != nil {
		t.buf.rollback()
		t.buf.cells = cells
		return true, err
	}
	if err := t.opts.checkMutations(t.buf.cells); err != nil {
		t.buf.rollback()
		t.buf.cells = cells
		return false, err
	}
	if err := t.settle(); err != nil {
		t.buf.rollback()
		t.buf.cells = cells
		return true, err
	}
	return false, nil
}

// Err is the error of the statement that broke a constraint, which every later use of the transaction answers; nil while
// there was none.
func (t *Txn) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// Rollback ends the transaction without effect. It may be called at any time, also after Commit.
func (t *Txn) Rollback() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.db.giveWay(t)
	t.end()
}

// conflict names the first thing the transaction read that has changed in st since its snapshot, or returns "".
func (t *Txn) conflict(st *state) string {
	if t.base == nil {
		return ""
	}
	if st.schema != t.base.schema {
		return "the schema"
	}
	ts := t.base.ts
	if ts < t.db.horizon.Load() && st.ts != ts {
		return "the transaction outlived the version retention period"
	}
	if id, point := t.reads.changed(st, ts); point {
		return "a row of table " + nameOf(st.schema, id)
	} else if id != 0 {
		return "a range of " + nameOf(st.schema, id)
	}
	return ""
}

// overwritten names the first row that the transaction writes although another commit has written it since its snapshot,
// or returns "". Serializable transactions need no such check: they have read what they depend on.
func (t *Txn) overwritten(st *state, b *buffer) string {
	if t.base == nil || !t.opts.RepeatableRead {
		return ""
	}
	for _, p := range b.order {
		if e, ok := st.trees[p.table.ID].Get(entry{key: p.key}); ok && e.head.ts > t.base.ts {
			return "a row of table " + p.table.QualifiedName()
		}
	}
	return ""
}

func nameOf(s *Schema, id int64) string {
	for _, t := range s.Tables {
		if t.ID == id {
			return t.QualifiedName()
		}
	}
	for _, x := range s.Indexes {
		if x.ID == id {
			return "index " + x.QualifiedName()
		}
	}
	return "a dropped table"
}

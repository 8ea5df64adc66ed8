package store

import (
	"cmp"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
)

// Txn is one optimistic read-write transaction: it reads one snapshot, remembers what it read, and buffers its writes.
// It is safe for concurrent use. A Txn that is dropped without Commit leaves nothing behind.
type Txn struct {
	db *Database

	mu     sync.Mutex
	base   *Snapshot // pinned by the first read or write
	points map[int64]map[Key]struct{}
	ranges map[int64][]Range
	buf    buffer
	done   bool
}

// Begin starts a read-write transaction. Its snapshot is taken at its first read or statement.
func (db *Database) Begin() *Txn { return &Txn{db: db} }

func (t *Txn) pin() *Snapshot {
	if t.base == nil {
		t.base = t.db.Strong(false)
	}
	return t.base
}

// Schema is the schema version the transaction reads.
func (t *Txn) Schema() *Schema {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pin().schema
}

// ReadTimestamp is the timestamp of the transaction's snapshot in microseconds since 1970.
func (t *Txn) ReadTimestamp() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pin().ts
}

func (t *Txn) notePoint(id int64, k Key) {
	if t.points == nil {
		t.points = map[int64]map[Key]struct{}{}
	}
	if t.points[id] == nil {
		t.points[id] = map[Key]struct{}{}
	}
	t.points[id][k] = struct{}{}
}

func (t *Txn) noteRange(id int64, r Range) {
	if t.ranges == nil {
		t.ranges = map[int64][]Range{}
	}
	for _, have := range t.ranges[id] {
		if have.Start <= r.Start && (have.End == "" || r.End != "" && r.End <= have.End) {
			return
		}
	}
	t.ranges[id] = append(t.ranges[id], r)
}

// txnView is the transaction's snapshot as its statements see it: every access is remembered. The holder has t.mu.
type txnView struct{ t *Txn }

func (v txnView) schemaVersion() *Schema { return v.t.pin().schema }

func (v txnView) row(tab *Table, k Key) Row {
	v.t.notePoint(tab.ID, k)
	return v.t.pin().row(tab, k)
}

func (v txnView) rows(tab *Table, r Range, fn func(Key, Row) bool) {
	v.t.noteRange(tab.ID, r)
	v.t.pin().rows(tab, r, fn)
}

func (v txnView) entries(x *Index, r Range, fn func(k, pk Key) bool) {
	v.t.noteRange(x.ID, r)
	v.t.pin().entries(x, r, fn)
}

// Get returns the row of the key as the transaction sees it, its own writes included, or nil.
func (t *Txn) Get(tab *Table, k Key) (Row, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.buf.get(tab, k); p != nil {
		return p.cur, nil
	}
	return txnView{t}.row(tab, k), nil
}

// overlayRow is a row that the transaction has touched, copied out of the buffer.
type overlayRow struct {
	key Key
	row Row
}

func (t *Txn) overlay(tab *Table, r Range) []overlayRow {
	var own []overlayRow
	t.buf.scan(tab, r, func(p *pending) bool {
		own = append(own, overlayRow{p.key, p.cur})
		return true
	})
	return own
}

// Scan calls fn with the rows of r as the transaction sees them, in key order, until fn returns false. fn may use the
// transaction; what it writes does not show in this scan.
func (t *Txn) Scan(tab *Table, r Range, fn func(Key, Row) bool) error {
	t.mu.Lock()
	t.noteRange(tab.ID, r)
	base := t.pin()
	own := t.overlay(tab, r)
	t.mu.Unlock()

	more := true
	base.rows(tab, r, func(k Key, row Row) bool {
		for len(own) > 0 && own[0].key < k && more {
			if own[0].row != nil {
				more = fn(own[0].key, own[0].row)
			}
			own = own[1:]
		}
		if more && len(own) > 0 && own[0].key == k {
			row = own[0].row
			own = own[1:]
		}
		if more && row != nil {
			more = fn(k, row)
		}
		return more
	})
	for _, o := range own {
		if !more {
			break
		}
		if o.row != nil {
			more = fn(o.key, o.row)
		}
	}
	return nil
}

// ScanIndex calls fn with the rows of an index as the transaction sees them, in index order, until fn returns false.
func (t *Txn) ScanIndex(x *Index, tab *Table, r Range, fn func(Key, Row) bool) error {
	type hit struct {
		key Key
		row Row
	}
	var hits []hit
	t.mu.Lock()
	t.noteRange(x.ID, r)
	base := t.pin()
	base.entries(x, r, func(k, pk Key) bool {
		if t.buf.get(tab, pk) == nil {
			t.notePoint(tab.ID, pk)
			hits = append(hits, hit{k, base.row(tab, pk)})
		}
		return true
	})
	n := len(hits)
	t.buf.scan(tab, Range{}, func(p *pending) bool {
		if p.cur == nil {
			return true
		}
		if k, _, ok := x.entryKey(tab, p.cur, p.key); ok && r.Contains(k) {
			hits = append(hits, hit{k, p.cur})
		}
		return true
	})
	t.mu.Unlock()
	if len(hits) > n {
		slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(a.key, b.key) })
	}
	for _, h := range hits {
		if h.row != nil && !fn(h.key, h.row) {
			break
		}
	}
	return nil
}

// Apply carries out mutations at once, as a DML statement does: on the transaction's snapshot and its earlier writes.
// All of them happen, or on an error none.
func (t *Txn) Apply(ms ...Mutation) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return Errorf(codes.FailedPrecondition, "the transaction has already been committed or rolled back")
	}
	mark, cells := len(t.buf.undo), t.buf.cells
	e := effects{buf: &t.buf, view: txnView{t}}
	err := e.applyAll(ms, mark)
	if err != nil {
		t.buf.rollback(mark)
		t.buf.cells = cells
	}
	return err
}

// Rollback ends the transaction without effect. It may be called at any time, also after Commit.
func (t *Txn) Rollback() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	t.buf, t.points, t.ranges = buffer{}, nil, nil
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
	for id, keys := range t.points {
		if st.lastWrite[id] <= ts {
			continue
		}
		for k := range keys {
			if e, ok := st.trees[id].Get(entry{key: k}); ok && e.head.ts > ts {
				return "a row of table " + nameOf(st.schema, id)
			}
		}
	}
	for id, ranges := range t.ranges {
		if st.lastWrite[id] <= ts {
			continue
		}
		for _, r := range ranges {
			hit := false
			ascend(st.trees[id], r, func(e entry) bool {
				hit = e.head.ts > ts
				return !hit
			})
			if hit {
				return "a range of " + nameOf(st.schema, id)
			}
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

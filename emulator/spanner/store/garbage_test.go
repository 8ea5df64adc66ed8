package store

import (
	"testing"
	"time"
)

// setClock stands where it is put. Its timers are the system's.
type setClock struct {
	SystemClock
	now time.Time
}

func (c *setClock) Now() time.Time { return c.now }

// littered is a database of one table with an index, on a clock that the test moves.
type littered struct {
	testing.TB
	clock *setClock
	db    *Database
	tab   *Table
	x     *Index
}

const littersRetention = 10 * time.Second

func litter(t testing.TB) *littered {
	integer := &Type{Code: Int64}
	l := &littered{TB: t, clock: &setClock{now: time.Unix(1000, 0)}, x: &Index{ID: 2, Name: "x", Table: "t", Key: []KeyPart{{Column: 1}}}}
	l.tab = &Table{ID: 1, Name: "t", LastOrdinal: 2, Key: []KeyPart{{Column: 0}}, Columns: []Column{
		{Name: "k", Type: integer, Ordinal: 1}, {Name: "v", Type: integer, Ordinal: 2},
	}}
	l.db = New(Options{Clock: l.clock, Retention: littersRetention})
	l.schema([]*Table{l.tab}, l.x)
	return l
}

func (l *littered) schema(tables []*Table, indexes ...*Index) {
	l.Helper()
	if _, err := l.db.UpdateSchema(func(s *Schema, _ int64) (*Schema, error) {
		s = s.Clone()
		s.Tables, s.Indexes = tables, indexes
		return s, nil
	}); err != nil {
		l.Fatal(err)
	}
}

// put writes v to the rows 0 to n-1, a second later.
func (l *littered) put(n int, v int64) {
	l.Helper()
	m := Mutation{Op: InsertOrUpdateRow, Table: l.tab, Columns: []int{0, 1}}
	for k := range int64(n) {
		m.Rows = append(m.Rows, Row{{Valid: true, Int: k}, {Valid: true, Int: v}})
	}
	l.commit(m)
}

func (l *littered) clear() { l.commit(Mutation{Op: DeleteRows, Table: l.tab, Ranges: []Range{{}}}) }

func (l *littered) commit(m Mutation) {
	l.Helper()
	l.clock.now = l.clock.now.Add(time.Second)
	if _, err := l.db.Begin().Commit(CommitRequest{Schema: l.db.Schema(), Mutations: []Mutation{m}}); err != nil {
		l.Fatal(err)
	}
}

// versions counts all that is kept of a tree.
func versions(db *Database, id int64) (n int) {
	ascend(db.current.Load().trees[id], Range{}, func(e entry) bool {
		for v := e.head; v != nil; v = v.older.Load() {
			n++
		}
		return true
	})
	return n
}

// Whatever is written, what is kept is bounded by what was written within the retention.
func TestGarbageIsBounded(t *testing.T) {
	l := litter(t)
	const rows, seconds = 600, 11 // the retention, and the newest before it
	most := 0
	for n := range int64(48) {
		if n%4 == 3 {
			l.clear()
		} else {
			l.put(rows, n)
		}
		if n > 30 {
			most = max(most, versions(l.db, 1), versions(l.db, 2)/2)
		}
	}
	if most > rows*(seconds+1) {
		t.Errorf("up to %d versions of %d rows were kept, want at most those of %d s", most, rows, seconds)
	}
	if n := len(l.db.garbage); n > 3*rows*seconds {
		t.Errorf("%d pieces of garbage", n)
	}
}

// Nothing need be written for old versions, deleted rows and dropped tables to go.
func TestCollect(t *testing.T) {
	l := litter(t)
	const rows = collectAtOnce / 12 // whose garbage, with that of the index, is more than goes at once
	for n := range int64(6) {
		l.put(rows, n)
	}
	l.db.Collect()
	if n := versions(l.db, 1); n != 6*rows {
		t.Errorf("%d versions within the retention, want %d", n, 6*rows)
	}
	before := l.db.Strong(false)
	l.clock.now = l.clock.now.Add(time.Hour)
	l.db.Collect()
	if n, x := versions(l.db, 1), versions(l.db, 2); n != rows || x != rows || l.db.garbage != nil {
		t.Errorf("%d versions of %d rows, %d of their index entries, %d pieces of garbage", n, rows, x, len(l.db.garbage))
	}
	if r, err := before.Get(l.tab, l.tab.KeyOf(Row{{Valid: true, Int: 1}, {}})); err != nil || r[1].Int != 5 {
		t.Errorf("a snapshot of the newest rows reads %v, %v", r, err)
	}
	if _, err := l.db.At(l.db.EarliestVersion() - 1); err == nil {
		t.Error("a read before the retention is allowed")
	}
	l.clear()
	l.schema(nil)
	if st := l.db.current.Load(); st.trees[1] == nil || st.trees[1].Len() != rows {
		t.Error("a dropped table is gone while it may be read")
	}
	l.clock.now = l.clock.now.Add(time.Hour)
	l.db.Collect()
	if st := l.db.current.Load(); len(st.trees) != 0 || len(st.schemas) != 1 || len(st.lastWrite) != 0 {
		t.Errorf("%d trees and %d schemas of a dropped table", len(st.trees), len(st.schemas))
	}
}

// Retention holds by the clock, also where nobody commits, and what is gone does not come back with a clock that goes back.
func TestRetentionByTheClock(t *testing.T) {
	l := litter(t)
	l.put(1, 1)
	at := l.clock.now.UnixMicro()
	l.put(1, 2)
	if _, err := l.db.At(at); err != nil {
		t.Error(err)
	}
	l.clock.now = l.clock.now.Add(littersRetention)
	if _, err := l.db.At(at); err == nil {
		t.Error("nobody has committed, and a read before the retention is allowed")
	}
	l.db.Collect()
	l.clock.now = l.clock.now.Add(-littersRetention)
	if _, err := l.db.At(at); err == nil {
		t.Error("the clock went back, and a version can be read that is gone")
	}
	l.put(1, 3) // and commits go on
	if s := l.db.Strong(true); s.Timestamp() < at {
		t.Errorf("a strong read at %d", s.Timestamp())
	}
}

// A restored database shares no version with the other, and has none but the newest.
func TestRestoreIsACopy(t *testing.T) {
	l := litter(t)
	for n := range int64(3) {
		l.put(10, n)
	}
	at := l.clock.now.UnixMicro()
	l.put(5, 4)
	l.commit(Mutation{Op: DeleteRows, Table: l.tab, Ranges: []Range{PointRange(l.tab.KeyOf(Row{{Valid: true, Int: 9}, {}}))}})
	last := l.db.current.Load().ts
	earlier := &setClock{now: l.clock.now.Add(-time.Hour)}
	n, _ := l.db.Restore(Options{Clock: earlier, Retention: time.Second})
	if v := versions(n, 1); v != 9 || n.current.Load().trees[1].Len() != 9 {
		t.Errorf("%d versions of 9 rows were restored", v)
	}
	m := Mutation{Op: InsertOrUpdateRow, Table: l.tab, Columns: []int{0, 1}, Rows: []Row{{{Valid: true, Int: 1}, {Valid: true, Int: 9}}}}
	for range 3 {
		res, err := n.Begin().Commit(CommitRequest{Schema: n.Schema(), Mutations: []Mutation{m}})
		if err != nil || res.Timestamp <= last {
			t.Errorf("a commit at %d, %v, though one at %d was restored", res.Timestamp, err, last)
		}
		last = res.Timestamp
		earlier.now = earlier.now.Add(2 * time.Hour)
	}
	if v := versions(n, 1); v != 10 {
		t.Errorf("%d versions are kept, want the newest and one within the retention", v)
	}
	snap, err := l.db.At(at)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	if err := snap.Scan(l.tab, Range{}, func(_ Key, r Row) bool { count++; return r[1].Int == 2 }); err != nil || count != 10 {
		t.Errorf("the source has %d rows as they were, %v", count, err)
	}
}

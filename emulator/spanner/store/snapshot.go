package store

// Reader reads rows at one timestamp. Snapshot and Txn are Readers; tables and indexes passed in are those of Schema.
type Reader interface {
	// Schema is the schema version in force at the timestamp.
	Schema() *Schema
	// Get returns the row of the key, or nil if there is none.
	Get(t *Table, k Key) (Row, error)
	// Scan calls fn with the rows of r in key order until fn returns false. Rows are shared and must not be changed.
	Scan(t *Table, r Range, fn func(Key, Row) bool) error
	// ScanIndex calls fn with the rows that index x, of table t, has in the range r of its entry keys, in index order. fn's
	// key is the entry key: the indexed columns, then the primary key.
	ScanIndex(x *Index, t *Table, r Range, fn func(Key, Row) bool) error
}

// Snapshot reads the database as it was at one timestamp. It holds no lock and needs no release; it is safe for
// concurrent use.
type Snapshot struct {
	db     *Database
	st     *state
	ts     int64
	schema *Schema
}

// Timestamp is the read timestamp in microseconds since 1970.
func (s *Snapshot) Timestamp() int64 { return s.ts }

// Schema is the schema version in force at the timestamp.
func (s *Snapshot) Schema() *Schema { return s.schema }

func (s *Snapshot) schemaVersion() *Schema { return s.schema }

func (s *Snapshot) row(t *Table, k Key) Row {
	tr := s.st.trees[t.ID]
	if tr == nil {
		return nil
	}
	e, ok := tr.Get(entry{key: k})
	if !ok {
		return nil
	}
	v := e.at(s.ts)
	if v == nil {
		return nil
	}
	return adapt(v.row, v.table, t)
}

func (s *Snapshot) rows(t *Table, r Range, fn func(Key, Row) bool) {
	ascend(s.st.trees[t.ID], r, func(e entry) bool {
		if v := e.at(s.ts); v != nil {
			return fn(e.key, adapt(v.row, v.table, t))
		}
		return true
	})
}

func (s *Snapshot) entries(x *Index, r Range, fn func(k, pk Key) bool) {
	ascend(s.st.trees[x.ID], r, func(e entry) bool {
		if e.at(s.ts) != nil {
			return fn(e.key, e.pk)
		}
		return true
	})
}

// check refuses a result that garbage collection may have robbed of old versions while it was read. A snapshot of its
// state's own timestamp sees only newest versions, which are never collected.
func (s *Snapshot) check() error {
	if s.ts < s.st.ts && s.ts < s.db.horizon.Load() {
		return s.db.tooOld(s.ts)
	}
	return nil
}

// Get returns the row of the key, or nil if there is none.
func (s *Snapshot) Get(t *Table, k Key) (Row, error) {
	r := s.row(t, k)
	return r, s.check()
}

// Scan calls fn with the rows of r in key order until fn returns false.
func (s *Snapshot) Scan(t *Table, r Range, fn func(Key, Row) bool) error {
	s.rows(t, r, fn)
	return s.check()
}

// ScanIndex calls fn with the rows of an index in index order until fn returns false.
func (s *Snapshot) ScanIndex(x *Index, t *Table, r Range, fn func(Key, Row) bool) error {
	s.entries(x, r, func(k, pk Key) bool {
		row := s.row(t, pk)
		return row == nil || fn(k, row)
	})
	return s.check()
}

package store

import (
	"maps"
	"sync/atomic"

	"github.com/google/btree"
)

// version is one version of a row. Only older changes after it is published: garbage collection cuts it off.
type version struct {
	ts int64
	// row is nil for a deletion. In an index it is an empty row: the entry's pk says which row is meant.
	row Row
	// table is the version of the schema that row was written under.
	table *Table
	older atomic.Pointer[version]
}

// entry is a key's newest version; immutable, replaced in its tree by every write.
type entry struct {
	key  Key
	pk   Key // in an index: the row's primary key
	head *version
}

// at returns the version that was the newest at ts, or nil if the row did not exist then.
func (e entry) at(ts int64) *version {
	for v := e.head; v != nil; v = v.older.Load() {
		if v.ts <= ts {
			if v.row == nil {
				return nil
			}
			return v
		}
	}
	return nil
}

type tree = btree.BTreeG[entry]

func newTree() *tree {
	return btree.NewG(32, func(a, b entry) bool { return a.key < b.key })
}

// state is everything readable in a database: immutable once published.
type state struct {
	// ts is the timestamp of the commit or schema change that published it.
	ts     int64
	schema *Schema
	// trees holds tables and indexes by ID; lastWrite the newest commit that touched each.
	trees     map[int64]*tree
	lastWrite map[int64]int64
	// schemas are all versions within retention, oldest first, so that reads in the past see the schema of their time.
	schemas []*Schema
}

// clone returns a copy whose maps may be changed; the trees in them are shared and may not.
func (s *state) clone() *state {
	c := *s
	c.trees, c.lastWrite = maps.Clone(s.trees), maps.Clone(s.lastWrite)
	return &c
}

// schemaAt returns the schema version in force at ts.
func (s *state) schemaAt(ts int64) *Schema {
	for i := len(s.schemas) - 1; i > 0; i-- {
		if s.schemas[i].At <= ts {
			return s.schemas[i]
		}
	}
	return s.schemas[0]
}

// Range is a run of encoded keys: Start inclusive, End exclusive. An empty End means to the end, so the zero Range is
// everything.
type Range struct{ Start, End Key }

// Contains reports whether k lies in r.
func (r Range) Contains(k Key) bool { return k >= r.Start && (r.End == "" || k < r.End) }

// PrefixRange covers every key that begins with the given key parts.
func PrefixRange(prefix Key) Range { return Range{prefix, PrefixEnd(prefix)} }

// PointRange covers exactly k.
func PointRange(k Key) Range { return Range{k, k + "\x00"} }

// PrefixEnd is the least key above every key that begins with prefix; "" if there is none.
func PrefixEnd(prefix Key) Key {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xFF {
			b[i]++
			return Key(b[:i+1])
		}
	}
	return ""
}

// ascend visits the entries of t within r in key order until fn returns false.
func ascend(t *tree, r Range, fn func(entry) bool) {
	if t == nil {
		return
	}
	if r.End == "" {
		t.AscendGreaterOrEqual(entry{key: r.Start}, fn)
		return
	}
	t.AscendRange(entry{key: r.Start}, entry{key: r.End}, fn)
}

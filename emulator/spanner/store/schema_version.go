package store

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Index is one version of a secondary index; immutable.
type Index struct {
	// ID names the index's storage; it is never reused.
	ID     int64
	Schema string
	Name   string
	// Table is the qualified name of the indexed table.
	Table string
	// Key holds the indexed columns as indexes into the table's Columns; Storing likewise.
	Key          []KeyPart
	Storing      []int
	Unique       bool
	NullFiltered bool
	// Managed indexes stand behind foreign keys; they are not part of the DDL.
	Managed bool
	// InterleaveIn is the parent table of an interleaved index, or "".
	InterleaveIn string
}

// QualifiedName is "schema.index", or "index" in the default schema.
func (x *Index) QualifiedName() string {
	if x.Schema == "" {
		return x.Name
	}
	return x.Schema + "." + x.Name
}

// Schema is one version of a database's schema. It is immutable: a change starts from Clone.
type Schema struct {
	// At is the commit timestamp of the statement that made this version, in microseconds since 1970.
	At int64
	// Namespaces are the named schemas, Tables, Indexes and Streams the objects, each in the order of creation.
	Namespaces []string
	Tables     []*Table
	Indexes    []*Index
	Streams    []*ChangeStream
	Views      []*View
	Sequences  []*Sequence
	Placements []*Placement
	// Protos are the types of the proto bundle; nil if there is none.
	Protos *ProtoBundle
	// Roles are the database roles, the system roles first.
	Roles []*Role
	// Postgres says that the database has the PostgreSQL dialect.
	Postgres bool
	// Options are the database options that ALTER DATABASE set, by name.
	Options map[string]string
	// Clock is the database's, which CURRENT_TIMESTAMP in column defaults reads; nil means SystemClock.
	Clock Clock
}

// Now reads the schema's clock.
func (s *Schema) Now() time.Time {
	if s.Clock == nil {
		return SystemClock{}.Now()
	}
	return s.Clock.Now()
}

// Clone returns a copy whose lists may be changed; the objects in them are shared and may not.
func (s *Schema) Clone() *Schema {
	c := *s
	c.Namespaces = slices.Clone(s.Namespaces)
	c.Tables = slices.Clone(s.Tables)
	c.Indexes = slices.Clone(s.Indexes)
	c.Streams = slices.Clone(s.Streams)
	c.Views = slices.Clone(s.Views)
	c.Sequences = slices.Clone(s.Sequences)
	c.Placements = slices.Clone(s.Placements)
	c.Roles = slices.Clone(s.Roles)
	c.Options = maps.Clone(s.Options)
	return &c
}

// Table finds a table by its qualified name, ignoring case, or returns nil.
func (s *Schema) Table(name string) *Table {
	for _, t := range s.Tables {
		if strings.EqualFold(t.QualifiedName(), name) {
			return t
		}
	}
	return nil
}

// Index finds an index by its qualified name, ignoring case, or returns nil.
func (s *Schema) Index(name string) *Index {
	for _, x := range s.Indexes {
		if strings.EqualFold(x.QualifiedName(), name) {
			return x
		}
	}
	return nil
}

// Stream finds a change stream by its name, ignoring case, or returns nil.
func (s *Schema) Stream(name string) *ChangeStream {
	for _, c := range s.Streams {
		if strings.EqualFold(c.Name, name) {
			return c
		}
	}
	return nil
}

// View finds a view by its qualified name, ignoring case, or returns nil.
func (s *Schema) View(name string) *View {
	for _, v := range s.Views {
		if strings.EqualFold(v.QualifiedName(), name) {
			return v
		}
	}
	return nil
}

// Sequence finds a sequence by its qualified name, ignoring case, or returns nil.
func (s *Schema) Sequence(name string) *Sequence {
	for _, q := range s.Sequences {
		if strings.EqualFold(q.QualifiedName(), name) {
			return q
		}
	}
	return nil
}

// Children returns the tables interleaved directly in t.
func (s *Schema) Children(t *Table) []*Table {
	var out []*Table
	for _, c := range s.Tables {
		if c.Parent != "" && c.ParentEnforced && strings.EqualFold(c.Parent, t.QualifiedName()) {
			out = append(out, c)
		}
	}
	return out
}

// IndexesOf returns the indexes of t.
func (s *Schema) IndexesOf(t *Table) []*Index {
	var out []*Index
	for _, x := range s.Indexes {
		if strings.EqualFold(x.Table, t.QualifiedName()) {
			out = append(out, x)
		}
	}
	return out
}

// entryKey is the index's storage key of row r: the indexed columns, then the primary key. ok is false when a
// null-filtered index leaves the row out. prefix is the length of the indexed columns' part.
func (x *Index) entryKey(t *Table, r Row, pk Key) (k Key, prefix int, ok bool) {
	var b []byte
	for _, p := range x.Key {
		if x.NullFiltered && !r[p.Column].Valid {
			return "", 0, false
		}
		b = AppendKeyPart(b, t.Columns[p.Column].Type, r[p.Column], p.Desc)
	}
	prefix = len(b)
	return Key(append(b, pk...)), prefix, true
}

// adapt gives r, written under the table version from, the columns of the version to. Columns meet by ordinal, since
// ordinals are never reused; a column that did not exist then takes its backfill value.
func adapt(r Row, from, to *Table) Row {
	if from == to || r == nil {
		return r
	}
	out := make(Row, len(to.Columns))
	var added []bool
	for i := range to.Columns {
		out[i] = to.Columns[i].Backfill
		found := false
		for j := range from.Columns {
			if from.Columns[j].Ordinal == to.Columns[i].Ordinal {
				out[i], found = r[j], true
				break
			}
		}
		if !found && to.Columns[i].Generated != "" {
			if added == nil {
				added = make([]bool, len(to.Columns))
			}
			added[i] = true
		}
	}
	if added != nil {
		computeAdded(out, to, added)
	}
	return out
}

// computeAdded gives a row the generated columns that were added after it was written.
func computeAdded(r Row, t *Table, added []bool) {
	for _, i := range t.ComputeOrder {
		if !added[i] {
			continue
		}
		// The schema change has computed every row that was there, so this one does not fail.
		if v, err := t.Columns[i].Compute(r); err == nil {
			r[i] = v
		}
	}
}

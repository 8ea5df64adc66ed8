package store

import "strings"

// Column is one column of a table. Columns are immutable; ALTER TABLE makes new ones.
type Column struct {
	Name string
	Type *Type
	// Ordinal tells the columns of one table apart through all its versions: 1, 2, ... in the order they were added,
	// never reused. What INFORMATION_SCHEMA and change records show is the position in Table.Columns, which DROP COLUMN
	// moves.
	Ordinal int
	NotNull bool
	// MaxLength is the declared length of STRING(n) or BYTES(n), in characters or bytes; 0 means MAX or no length.
	MaxLength int
	// AllowCommitTimestamp is the column option of that name.
	AllowCommitTimestamp bool
	// Generated holds the expression's text of a generated column, else "".
	Generated string
	// Default holds the expression's text of a column default, else "".
	Default string
	// Compute evaluates Generated over a row (whose other columns are set) or Default (over nil). It is pure but for the
	// clock and random numbers, and nil where the column has neither.
	Compute func(Row) (Value, error)
	// Backfill is the value of this column in rows that were written before it was added; usually NULL.
	Backfill Value
	// Hidden columns are left out of SELECT *.
	Hidden bool
}

// KeyPart names one column of a primary key or index.
type KeyPart struct {
	// Column indexes Table.Columns.
	Column int
	Desc   bool
}

// Table is one version of a table's schema; it is immutable, so rows and change records may point at it for ever.
type Table struct {
	// ID names the table's storage: all versions of one table share it, and it is never reused.
	ID int64
	// Schema is the named schema, or "".
	Schema string
	Name   string
	// Columns are in the order of their definition.
	Columns []Column
	Key     []KeyPart
	// LastOrdinal is the highest Column.Ordinal ever given.
	LastOrdinal int
	// Parent is the interleaving parent's name, or "". ParentEnforced is INTERLEAVE IN PARENT; without it (INTERLEAVE IN)
	// the parent row need not exist.
	Parent          string
	ParentEnforced  bool
	OnDeleteCascade bool
	// RowDeletion is the text of the row deletion policy, e.g. "OLDER_THAN(c, INTERVAL 1 DAY)", or "".
	RowDeletion string
	// Constraints keeps the text of the table's constraints for printing; see package sql for what is enforced.
	Constraints []string
}

// QualifiedName is the name a query and a change record use: "schema.table", or "table" in the default schema.
func (t *Table) QualifiedName() string {
	if t.Schema == "" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// KeyOf encodes the primary key of a full row of t.
func (t *Table) KeyOf(r Row) Key {
	var b []byte
	for _, p := range t.Key {
		b = AppendKeyPart(b, t.Columns[p.Column].Type, r[p.Column], p.Desc)
	}
	return Key(b)
}

// IsKey reports whether column i is part of the primary key.
func (t *Table) IsKey(i int) bool {
	for _, p := range t.Key {
		if p.Column == i {
			return true
		}
	}
	return false
}

// ColumnIndex finds a column by its name, ignoring case as Spanner does, or returns -1.
func (t *Table) ColumnIndex(name string) int {
	for i := range t.Columns {
		if strings.EqualFold(t.Columns[i].Name, name) {
			return i
		}
	}
	return -1
}

// ChangeStream is one version of a change stream's definition; immutable.
type ChangeStream struct {
	Name string
	// All is FOR ALL. Otherwise Watch names what is watched; both empty means the stream is suspended.
	All   bool
	Watch []Watch
	// Options as written in DDL, by lower-case name; an absent option has its default. Values are DDL literals without
	// quotes, e.g. "7d", "NEW_ROW", "true".
	Options []Option
	// Created is the commit timestamp of the DDL that made the stream, in microseconds since 1970.
	Created int64
}

// Watch is one table of a FOR clause.
type Watch struct {
	Table string // qualified name
	// AllColumns is FOR t; otherwise Columns lists the non-key columns of FOR t(c1, c2), possibly none.
	AllColumns bool
	Columns    []string
}

// Option is one explicitly set option of a change stream.
type Option struct{ Name, Value string }

// Op is what happened to a row in a transaction, after collapsing what the transaction did to it.
type Op uint8

// The row operations.
const (
	Insert Op = 1
	Update Op = 2
	Delete Op = 3
)

// RowChange is the net effect of a transaction on one row. A transaction that deletes and inserts (or replaces) an
// existing row yields two, Delete then Insert.
type RowChange struct {
	Table *Table
	Key   Key
	Op    Op
	// Old is the row before the transaction (Update, Delete) and New the row after it (Insert, Update); else nil.
	// Commit-timestamp columns hold the commit timestamp already.
	Old, New Row
	// Written marks, by column index, the columns the transaction wrote (Update; nil for Insert and Delete, where every
	// column counts).
	Written []bool
}

// Commit is what one committed transaction did, in the order its statements first touched the rows.
type Commit struct {
	// Timestamp is the commit timestamp in microseconds since 1970: strictly rising over a database's commits.
	Timestamp int64
	// TransactionID is the server transaction id: unique in the database, decimal digits.
	TransactionID string
	Tag           string
	System        bool
	// Excluded is exclude_txn_from_change_streams.
	Excluded bool
	Changes  []RowChange
}

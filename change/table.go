package change

// Column is one column of a Table.
type Column struct {
	Name string `json:"name"`
	Type *Type  `json:"type"`
	// Key marks a column of the primary key.
	Key bool `json:"key,omitempty"`
	// Ordinal is the column's 1-based position in the table's definition as last seen.
	Ordinal int `json:"ordinal"`
}

// Table is one version of a table's schema union: every column seen so far, those of other records' shapes included. It is
// immutable and interned: changes of the same version share one *Table, so sinks may cache what they derive from it by
// pointer. A column once in the union keeps its index in later versions.
type Table struct {
	// Name is qualified with the named schema where the table is in one: "schema.table".
	Name string `json:"name"`
	// Version counts from 1 within one union.
	Version int `json:"version"`
	// Columns are all columns of the union. A column whose type changed is replaced in the next version.
	Columns []Column `json:"columns"`

	keys []int
}

// NewTable makes a Table; it keeps columns, which the caller must not change afterwards.
func NewTable(name string, version int, columns []Column) *Table {
	t := &Table{Name: name, Version: version, Columns: columns}
	for i := range columns {
		if columns[i].Key {
			t.keys = append(t.keys, i)
		}
	}
	return t
}

// Keys are the indexes in Columns of the key columns, in ascending order. The caller must not change the slice.
func (t *Table) Keys() []int { return t.keys }

// Index finds a column by its exact name, or returns -1.
func (t *Table) Index(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

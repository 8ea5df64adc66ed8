package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spanledger/spanledger/change"
)

// Type is a column's Spanner type, as change records write it.
type Type struct {
	Code       string `json:"code"`
	Annotation string `json:"type_annotation,omitempty"`
	Elem       *Type  `json:"array_element_type,omitempty"`
	ProtoName  string `json:"proto_type_fqn,omitempty"`
}

// String is a short form for people, such as ARRAY<INT64>.
func (t Type) String() string {
	if t.Code == "ARRAY" && t.Elem != nil {
		return "ARRAY<" + t.Elem.String() + ">"
	}
	if t.Annotation != "" {
		return t.Code + "(" + t.Annotation + ")"
	}
	return t.Code
}

// Column is a column of one record's shape.
type Column struct {
	Name string
	Type Type
}

// Value is one captured column: Text is its value in canonical JSON, "null" for NULL. A column that was not captured has
// no Value at all.
type Value struct {
	Column *Column
	Text   string
}

// Row is a row's captured values by ascending column name.
type Row []Value

// Get is the canonical text of a column; false if it was not captured.
func (r Row) Get(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(r, name, func(v Value, name string) int { return cmp.Compare(v.Column.Name, name) })
	if !ok {
		return "", false
	}
	return r[i].Text, true
}

// MakeRow makes a Row of values in any order. A column named twice is an error.
func MakeRow(values ...Value) (Row, error) {
	r := slices.Clone(values)
	slices.SortFunc(r, func(a, b Value) int { return cmp.Compare(a.Column.Name, b.Column.Name) })
	for i := 1; i < len(r); i++ {
		if r[i].Column.Name == r[i-1].Column.Name {
			return nil, fmt.Errorf("check: column %q appears twice in a row", r[i].Column.Name)
		}
	}
	return r, nil
}

// diff says in what got differs from want, which the stream has, "" if in nothing. Captured and not captured are as different as
// two values.
func diff(what string, want, got Row) string {
	return differ(what, "the stream captured", "the stream has", "the stream did not capture it", want, got)
}

// differ is diff with words for who has a column, and the value, and for what nobody has.
func differ(what, lacks, has, none string, want, got Row) string {
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case j == len(got) || i < len(want) && want[i].Column.Name < got[j].Column.Name:
			return fmt.Sprintf("%s lacks column %s: %s %s", what, want[i].Column.Name, lacks, short(want[i].Text))
		case i == len(want) || got[j].Column.Name < want[i].Column.Name:
			return fmt.Sprintf("%s has column %s = %s: %s", what, got[j].Column.Name, short(got[j].Text), none)
		case want[i].Text != got[j].Text:
			return fmt.Sprintf("%s column %s (%s) is %s: %s %s", what, want[i].Column.Name, want[i].Column.Type,
				short(got[j].Text), has, short(want[i].Text))
		}
		i, j = i+1, j+1
	}
	return ""
}

const shortLength = 120

func short(s string) string {
	if len(s) <= shortLength {
		return s
	}
	return strings.ToValidUTF8(s[:shortLength], "") + "…"
}

// Change is one change the stream holds.
type Change struct {
	Position change.Position
	Table    string
	// Op is INSERT, UPDATE or DELETE; Capture the value capture type, such as NEW_ROW.
	Op, Capture string
	// Key is the primary key as a canonical JSON array in key order; the key columns are not in After and Before.
	Key string
	// KeyColumns are the key's columns in key order; changes of one shape share the slice.
	KeyColumns    []*Column
	After, Before Row
	// Partition is the token of the partition that holds the change.
	Partition string
	Tag       string
	System    bool
	// Records and Partitions are what the transaction counts of itself in this stream.
	Records, Partitions int64
}

// ID is the text of the change's position.
func (c *Change) ID() string { return c.Position.String() }

// Partition is a node of the partition graph.
type Partition struct {
	Token   string
	Parents []string
	Start   change.Timestamp
	// Moves are what it took over from others in its life; on streams with mutable key ranges only, which have no Parents.
	Moves []Move
}

// Move says that keys of Source belong to another partition after At: a change at At itself is still the source's.
type Move struct {
	At     change.Timestamp
	Source string
}

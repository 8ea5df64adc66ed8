package store

import (
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
)

// MutationOp is what a Mutation does.
type MutationOp uint8

// The mutations of Spanner's API.
const (
	// InsertRow fails with ALREADY_EXISTS if the row is there.
	InsertRow MutationOp = iota + 1
	// UpdateRow fails with NOT_FOUND if the row is not there; columns not given keep their values.
	UpdateRow
	// InsertOrUpdateRow does whichever of the two fits.
	InsertOrUpdateRow
	// ReplaceRow deletes the row, if it is there, and inserts it.
	ReplaceRow
	// DeleteRows deletes the rows of Ranges that are there.
	DeleteRows
)

// Mutation is one write. Its tables and columns are those of one schema version.
type Mutation struct {
	Op    MutationOp
	Table *Table
	// Columns are the written columns, as indexes into Table.Columns, and Rows hold a value for each of them. The caller
	// has checked that values fit their columns' types; nullness, length and constraints are checked here.
	Columns []int
	Rows    []Row
	// Ranges are the encoded key ranges that DeleteRows deletes.
	Ranges []Range
	// RangesAt, if set, makes Ranges once the commit timestamp is known, in microseconds since 1970: keys may name it.
	RangesAt func(commit int64) ([]Range, error)
}

// key is the primary key of one of the mutation's rows; ok is false where the row leaves it to be made up.
func (m *Mutation) key(values Row) (k Key, ok bool) {
	given := make(Row, len(m.Table.Columns))
	for i, c := range m.Columns {
		given[c] = values[i]
	}
	for _, p := range m.Table.Key {
		if c := &m.Table.Columns[p.Column]; c.HasDefault() && !slices.Contains(m.Columns, p.Column) {
			return "", false
		}
	}
	k, err := m.Table.ComputedKey(given)
	return k, err == nil // the write itself tells of a key that cannot be computed
}

// PendingCommitTimestamp is the placeholder for the commit timestamp in a column that allows it.
func PendingCommitTimestamp() Value {
	return Value{Valid: true, Int: math.MaxInt64, Nanos: -1}
}

// IsPendingCommitTimestamp reports whether v is the placeholder. Only TIMESTAMP values can be.
func (v Value) IsPendingCommitTimestamp() bool { return v.Valid && v.Nanos == -1 }

// MicrosValue is the TIMESTAMP of us microseconds since 1970.
func MicrosValue(us int64) Value {
	sec := us / 1e6
	rest := us % 1e6
	if rest < 0 {
		sec--
		rest += 1e6
	}
	return Value{Valid: true, Int: sec, Nanos: int32(rest) * 1000}
}

// checkRow refuses a row whose values break their columns' declarations.
func checkRow(t *Table, r Row) error {
	for i := range t.Columns {
		c := &t.Columns[i]
		if err := checkValue(t, c, r[i]); err != nil {
			return err
		}
	}
	for _, c := range t.Checks {
		v, err := c.Holds(r)
		if err != nil {
			return err
		}
		if v.Valid && v.Int == 0 {
			return Errorf(codes.OutOfRange, "Check constraint `%s`.`%s` is violated for key %s", t.QualifiedName(), c.Name, FormatKey(t, r))
		}
	}
	return checkPlacement(t, r)
}

func checkValue(t *Table, c *Column, v Value) error {
	if !v.Valid {
		if c.NotNull {
			return Errorf(codes.FailedPrecondition, "%s must not be NULL in table %s", c.Name, t.QualifiedName())
		}
		return nil
	}
	if v.Nanos == -1 && c.Type.Code == Timestamp && !c.AllowCommitTimestamp {
		return Errorf(codes.FailedPrecondition, "cannot write the commit timestamp to column %s of table %s: the column has no option allow_commit_timestamp = true", c.Name, t.QualifiedName())
	}
	if c.Type.Code == Array {
		for _, e := range v.List {
			if err := checkLength(t, c, c.Type.Elem.Code, e); err != nil {
				return err
			}
		}
		return nil
	}
	return checkLength(t, c, c.Type.Code, v)
}

func checkLength(t *Table, c *Column, code Code, v Value) error {
	n, limit := len(v.Text), c.MaxLength
	if limit == 0 {
		limit = MaxCellBytes
		if code == String {
			limit = MaxStringRunes
		}
	}
	if code == String && !utf8.ValidString(v.Text) {
		return Errorf(codes.FailedPrecondition, "column %s of table %s has a value that is not valid UTF-8", c.Name, t.QualifiedName())
	}
	if code == String && n > limit {
		n = utf8.RuneCountInString(v.Text)
	}
	if n > limit {
		return Errorf(codes.FailedPrecondition, "new value exceeds the maximum size limit for column %s of table %s: %d, limit %d", c.Name, t.QualifiedName(), n, limit)
	}
	return nil
}

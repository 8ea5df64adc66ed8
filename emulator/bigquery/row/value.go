package row

import (
	"bytes"
	"cmp"
	"math/big"
	"strings"
	"time"

	"cloud.google.com/go/civil"
)

// Value is what a cell holds: nil for NULL, else by kind string (String, JSON, Geography), []byte, int64, float64,
// *big.Rat (Numeric, BigNumeric), bool, time.Time in UTC and whole microseconds, civil.Date, civil.Time, civil.DateTime,
// or Row (Struct). A repeated column holds a []Value without nils. Values are immutable.
type Value any

// Row is one row, or one Struct: a value for each field. It may be shorter than the fields: what was added to the schema
// after the row was written is NULL. Rows are immutable.
type Row []Value

// At is the value of field i; nil past the row's end.
func (r Row) At(i int) Value {
	if i < len(r) {
		return r[i]
	}
	return nil
}

// Compare orders two values of one kind, as ORDER BY does: NULL first, false before true, NaN before the other floats.
// ok is false where the kind has no order (Struct, repeated, JSON, Geography).
func Compare(k Kind, a, b Value) (order int, ok bool) {
	switch {
	case k == Struct || k == JSON || k == Geography:
		return 0, false
	case a == nil || b == nil:
		return cmp.Compare(bit(a != nil), bit(b != nil)), true
	}
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string)), true
	case []byte:
		return bytes.Compare(a, b.([]byte)), true
	case int64:
		return cmp.Compare(a, b.(int64)), true
	case float64:
		return cmp.Compare(a, b.(float64)), true
	case *big.Rat:
		return a.Cmp(b.(*big.Rat)), true
	case bool:
		return cmp.Compare(bit(a), bit(b.(bool))), true
	case time.Time:
		return a.Compare(b.(time.Time)), true
	case civil.Date:
		return a.Compare(b.(civil.Date)), true
	case civil.Time:
		return a.Compare(b.(civil.Time)), true
	case civil.DateTime:
		return a.Compare(b.(civil.DateTime)), true
	}
	return 0, false
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

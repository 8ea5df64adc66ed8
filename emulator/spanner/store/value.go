package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Code is a Spanner column type, with the numbers of google.spanner.v1.TypeCode.
type Code uint8

// The type codes a column can have.
const (
	Bool      Code = 1
	Int64     Code = 2
	Float64   Code = 3
	Timestamp Code = 4
	Date      Code = 5
	String    Code = 6
	Bytes     Code = 7
	Array     Code = 8
	Struct    Code = 9
	Numeric   Code = 10
	JSON      Code = 11
	Proto     Code = 13
	Enum      Code = 14
	Float32   Code = 15
	Interval  Code = 16
	UUID      Code = 17
)

// Type is the type of a column or of a query's result column. Types are immutable and may be shared.
type Type struct {
	Code Code
	// Elem is the element type of an Array, otherwise nil.
	Elem *Type
	// Fields are the fields of a Struct (query results only), otherwise nil.
	Fields []Field
	// PG marks the PostgreSQL forms of NUMERIC (PG_NUMERIC) and JSON (PG_JSONB).
	PG bool
	// Name is the fully qualified name of a Proto or Enum type. Descriptor is what its bundle says of it; nil where the type
	// is only named, as by a client.
	Name       string
	Descriptor protoreflect.Descriptor
}

// Field is one field of a Struct type.
type Field struct {
	Name string
	Type *Type
}

// Value is one immutable Spanner value. The zero Value is NULL. Which field holds the value follows from the type:
//
//	Bool                    Int (0 or 1)
//	Int64, Enum             Int
//	Timestamp               Int and Nanos, see below
//	Date                    Int, days since 1970-01-01
//	Float64, Float32        Float
//	String, JSON, Numeric,
//	UUID, Interval          Text (JSON: canonical text; Numeric: shortest decimal; UUID: lower-case; Interval: ISO 8601)
//	Bytes, Proto            Text, holding the raw bytes
//	Array, Struct           List
//
// A Timestamp keeps nanoseconds: Int is seconds since 1970, and Nanos the rest (0..999,999,999). Nanos -1 marks
// PendingCommitTimestamp, which only a transaction's own buffer holds.
type Value struct {
	Valid bool
	Nanos int32
	Int   int64
	Float float64
	Text  string
	List  []Value
}

// Row holds one value for each column of a table, in the table's column order (Table.Columns).
type Row []Value

// Key is a primary key, or a prefix of one, encoded so that bytes.Compare orders as Spanner orders keys (descending
// key parts included). Equal keys have equal bytes.
type Key string

// AppendKeyPart appends the order-preserving encoding of one key part and returns the extended buffer. A NULL sorts
// before every value; desc inverts the order. Arrays, structs and JSON cannot be key parts; the caller rejects them.
func AppendKeyPart(dst []byte, t *Type, v Value, desc bool) []byte {
	start := len(dst)
	if !v.Valid {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
		switch t.Code {
		case Bool, Int64, Date, Enum:
			dst = binary.BigEndian.AppendUint64(dst, uint64(v.Int)^(1<<63))
		case Timestamp:
			dst = binary.BigEndian.AppendUint64(dst, uint64(v.Int)^(1<<63))
			dst = binary.BigEndian.AppendUint32(dst, uint32(v.Nanos))
		case Float64, Float32:
			bits := math.Float64bits(v.Float)
			if v.Float == 0 {
				bits = 0 // -0 and +0 are one key
			}
			if v.Float != v.Float {
				bits = ^uint64(0) // every NaN is one key, before all numbers
			}
			if bits&(1<<63) != 0 {
				bits = ^bits
			} else {
				bits |= 1 << 63
			}
			dst = binary.BigEndian.AppendUint64(dst, bits)
		case Numeric:
			dst = appendNumericKey(dst, v.Text)
		case Interval: // no column has the type; this is the order of ORDER BY
			days, nanos := v.Interval().Total()
			dst = binary.BigEndian.AppendUint64(dst, uint64(days)^(1<<63))
			dst = binary.BigEndian.AppendUint64(dst, uint64(nanos))
		default:
			dst = appendEscaped(dst, v.Text)
		}
	}
	if desc {
		for i := start; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
	}
	return dst
}

// appendEscaped writes s so that no encoding is a prefix of another: 0x00 becomes 0x00 0xFF, the end is 0x00 0x01.
func appendEscaped(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			break
		}
		dst = append(append(dst, s[:i]...), 0, 0xFF)
		s = s[i+1:]
	}
	return append(append(dst, s...), 0, 1)
}

// appendNumericKey writes a decimal of NUMERIC's range (29 digits before and 9 after the point) in fixed width.
func appendNumericKey(dst []byte, text string) []byte {
	neg := strings.HasPrefix(text, "-")
	whole, frac, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	var digits [40]byte
	for i := range digits {
		digits[i] = '0'
	}
	copy(digits[max(0, 30-len(whole)):30], whole)
	copy(digits[30:39], frac)
	sign := byte(1)
	if neg {
		sign = 0
		for i := range digits {
			digits[i] = ^digits[i]
		}
	}
	return append(append(dst, sign), digits[:]...)
}

// Compare orders two values of one type as Spanner orders keys: NULL first. It must not be called for Array or Struct.
func Compare(t *Type, a, b Value) int {
	if !a.Valid || !b.Valid {
		return cmp.Compare(b2i(a.Valid), b2i(b.Valid))
	}
	if t.Code == Float64 || t.Code == Float32 {
		return cmp.Compare(a.Float, b.Float)
	}
	return bytes.Compare(AppendKeyPart(nil, t, a, false), AppendKeyPart(nil, t, b, false))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// KeyParts counts the whole key parts of t's primary key that k begins with.
func KeyParts(t *Table, k Key) int {
	b := []byte(k)
	for n, p := range t.Key {
		size := keyPartSize(t.Columns[p.Column].Type, b, p.Desc)
		if size <= 0 || size > len(b) {
			return n
		}
		b = b[size:]
	}
	return len(t.Key)
}

// keyPartSize is the length of the encoded key part that b begins with, or 0.
func keyPartSize(t *Type, b []byte, desc bool) int {
	var mask byte
	if desc {
		mask = 0xFF
	}
	if len(b) == 0 {
		return 0
	}
	if b[0]^mask == 0 {
		return 1
	}
	switch t.Code {
	case Bool, Int64, Date, Enum, Float64, Float32:
		return 9
	case Timestamp:
		return 13
	case Numeric:
		return 42
	}
	for i := 1; i+1 < len(b); i++ {
		if b[i]^mask == 0 {
			if b[i+1]^mask == 1 {
				return i + 2
			}
			i++
		}
	}
	return 0
}

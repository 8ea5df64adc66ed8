package avro

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/spanledger/spanledger/change/rawjson"
)

// fit says how well a typed field holds a value.
type fit uint8

const (
	misfit fit = iota // not at all: null, and raw
	near              // cut to the field's precision, and raw
	exact             // wholly
)

// appendValue writes ["null", T]; raw says that the value must stand in the raw field as well.
func appendValue(dst []byte, col *column, v []byte) (_ []byte, raw bool) {
	t := rawjson.Trim(v)
	if rawjson.IsNull(t) {
		return append(dst, 0), false
	}
	mark := len(dst)
	dst = append(dst, 2)
	var f fit
	switch col.kind {
	case kindText:
		dst, f = appendBytes(dst, v), exact
	case kindArray:
		dst, f = appendArray(dst, col.elem, t)
	default:
		dst, f = appendScalar(dst, col.kind, t)
	}
	if f == misfit {
		return append(dst[:mark], 0), true
	}
	return dst, f == near
}

func appendArray(dst []byte, elem kind, v []byte) ([]byte, fit) {
	mark, n, whole := len(dst), 0, exact
	e := rawjson.ArrayOf(v)
	for {
		item, ok := e.Next()
		if !ok {
			break
		}
		n++
		if rawjson.IsNull(item) {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, 2)
		var f fit
		if dst, f = appendScalar(dst, elem, item); f == misfit {
			return dst[:mark], misfit
		}
		whole = min(whole, f)
	}
	if e.Bad() {
		return dst[:mark], misfit
	}
	if n > 0 {
		dst = insertLong(dst, mark, int64(n))
	}
	return append(dst, 0), whole
}

// appendScalar writes a value that is not null. On misfit what it appended is to be cut off.
func appendScalar(dst []byte, k kind, v []byte) ([]byte, fit) {
	switch k {
	case kindBool:
		switch string(v) {
		case "true":
			return append(dst, 1), exact
		case "false":
			return append(dst, 0), exact
		}
		return dst, misfit
	case kindFloat64, kindFloat32:
		return appendFloat(dst, k, v)
	case kindInt, kindNumeric:
		// Both are strings; a bare number means the same.
		if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
			v = v[1 : len(v)-1]
		} else if !rawjson.IsNumber(v) {
			return dst, misfit
		}
		if k == kindInt {
			i, ok := rawjson.ParseInt(v)
			if !ok {
				return dst, misfit
			}
			return appendLong(dst, i), exact
		}
		magnitude, negative, ok := parseNumeric(v)
		if !ok {
			return dst, misfit
		}
		return appendTwosComplement(dst, magnitude, negative), exact
	case kindText:
		return dst, misfit // never an element
	}
	content, escaped, ok := rawjson.PlainString(v)
	if !ok {
		return dst, misfit
	}
	if escaped {
		if k == kindString || k == kindJSON {
			mark := len(dst)
			if dst, ok = rawjson.Unescape(dst, v); !ok {
				return dst, misfit
			}
			return insertLong(dst, mark, int64(len(dst)-mark)), exact
		}
		// Only a serializer that escapes slashes in base64, or a hostile one, comes here.
		if content, ok = rawjson.Unescape(make([]byte, 0, len(v)), v); !ok {
			return dst, misfit
		}
	}
	switch k {
	case kindString, kindJSON:
		return appendBytes(dst, content), exact
	case kindBytes:
		return appendBase64(dst, content)
	case kindTimestamp:
		micros, whole, ok := rawjson.ParseTimestamp(content)
		if !ok {
			return dst, misfit
		}
		if !whole {
			return appendLong(dst, micros), near
		}
		return appendLong(dst, micros), exact
	case kindDate:
		day, ok := rawjson.ParseDate(content)
		if !ok {
			return dst, misfit
		}
		return appendLong(dst, int64(day)), exact
	case kindUUID:
		if !isUUID(content) {
			return dst, misfit
		}
		return appendBytes(dst, content), exact
	}
	return dst, misfit
}

func appendFloat(dst []byte, k kind, v []byte) ([]byte, fit) {
	f, whole, ok := rawjson.ParseFloat(v)
	if !ok {
		return dst, misfit
	}
	fits := near
	if whole {
		fits = exact
	}
	if k == kindFloat64 {
		if f != f {
			return binary.LittleEndian.AppendUint64(dst, 0x7ff8000000000000), exact
		}
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), fits
	}
	g := float32(f)
	if f != f {
		return binary.LittleEndian.AppendUint32(dst, 0x7fc00000), exact
	}
	// A FLOAT32 comes as its own shortest digits or as those of the double it was widened to; what matches neither has more
	// to say than a float holds.
	if float64(g) != f {
		var text [32]byte
		short, err := strconv.ParseFloat(string(strconv.AppendFloat(text[:0], float64(g), 'g', -1, 32)), 64)
		if err != nil || short != f {
			return dst, misfit
		}
	}
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(g)), fits
}

func appendBase64(dst, text []byte) ([]byte, fit) {
	n, ok := rawjson.Base64Len(text)
	if !ok {
		return dst, misfit
	}
	mark := len(dst)
	if dst, ok = rawjson.AppendBase64(appendLong(dst, int64(n)), text); !ok {
		return dst[:mark], misfit
	}
	return dst, exact
}

func isUUID(v []byte) bool {
	if len(v) != 36 {
		return false
	}
	for i, c := range v {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return false
			}
		}
	}
	return true
}

package bigquerysink

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/change/rawjson"
)

// fit says how well a typed column holds a value.
type fit uint8

const (
	misfit fit = iota // not at all: the column stays NULL, the value is in _raw
	near              // cut to the column's precision; the whole value is in _raw
	exact             // wholly
)

// fits is how well a column holds a value that it holds at all (ok), and wholly (whole).
func fits(whole, ok bool) fit {
	switch {
	case !ok:
		return misfit
	case !whole:
		return near
	}
	return exact
}

// appendArray writes the elements of an array. NULL elements and a NULL array, which a repeated column cannot hold, leave
// it empty.
func (e *encoder) appendArray(dst []byte, col *column, v []byte) ([]byte, fit) {
	mark, whole := len(dst), exact
	items := rawjson.ArrayOf(v)
	for item, ok := items.Next(); ok; item, ok = items.Next() {
		var f fit
		if dst, f = e.appendValue(dst, col, item); f == misfit {
			return dst[:mark], misfit
		}
		whole = min(whole, f)
	}
	if items.Bad() {
		return dst[:mark], misfit
	}
	return dst, whole
}

// appendValue writes one value, tag and all. What it appended on misfit is to be cut off.
func (e *encoder) appendValue(dst []byte, col *column, v []byte) ([]byte, fit) {
	dst = protowire.AppendVarint(dst, col.tag)
	switch col.kind {
	case kindText:
		if !utf8.Valid(v) {
			return dst, misfit
		}
		return protowire.AppendBytes(dst, v), exact
	case kindBool:
		switch string(v) {
		case "true":
			return append(dst, 1), exact
		case "false":
			return append(dst, 0), exact
		}
		return dst, misfit
	case kindFloat:
		f, whole, ok := rawjson.ParseFloat(v)
		return protowire.AppendFixed64(dst, math.Float64bits(f)), fits(whole, ok)
	case kindInt:
		i, ok := rawjson.ParseInt(unquote(v))
		if !ok {
			return dst, misfit
		}
		return protowire.AppendVarint(dst, uint64(i)), exact
	case kindNumeric:
		return appendDecimal(dst, unquote(v), 29, 9)
	case kindBigNumeric:
		return appendDecimal(dst, unquote(v), 38, 38)
	}
	content, ok := e.text(v)
	if !ok {
		return dst, misfit
	}
	switch col.kind {
	case kindString:
		return protowire.AppendBytes(dst, content), exact
	case kindJSON:
		if !jsonFits(content) {
			return dst, misfit
		}
		return protowire.AppendBytes(dst, content), exact
	case kindBytes:
		return appendBase64(dst, content)
	case kindTimestamp:
		micros, whole, ok := rawjson.ParseTimestamp(content)
		return protowire.AppendVarint(dst, uint64(micros)), fits(whole, ok)
	case kindDate:
		day, ok := rawjson.ParseDate(content)
		if !ok {
			return dst, misfit
		}
		return protowire.AppendVarint(dst, uint64(day)), exact
	}
	return dst, misfit
}

// text is the content of a JSON string, in e.scratch if it has escapes.
func (e *encoder) text(v []byte) ([]byte, bool) {
	content, escaped, ok := rawjson.PlainString(v)
	if escaped {
		e.scratch, ok = rawjson.Unescape(e.scratch[:0], v)
		content = e.scratch
	}
	return content, ok
}

// unquote drops the quotes of a number in a string; a bare number means the same.
func unquote(v []byte) []byte {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

// appendDecimal writes a plain decimal that has no more digits before and behind the point than the column, as text.
func appendDecimal(dst, v []byte, whole, fraction int) ([]byte, fit) {
	digits := v
	if len(v) > 0 && v[0] == '-' {
		digits = v[1:]
	}
	before, behind, point := 0, 0, false
	for _, c := range digits {
		switch {
		case c == '.' && !point && before > 0:
			point = true
		case c < '0' || c > '9':
			return dst, misfit
		case point:
			behind++
		default:
			before++
		}
	}
	if before == 0 || before > whole || behind > fraction || point && behind == 0 {
		return dst, misfit
	}
	return protowire.AppendBytes(dst, v), exact
}

func appendBase64(dst, text []byte) ([]byte, fit) {
	n, ok := rawjson.Base64Len(text)
	if !ok {
		return dst, misfit
	}
	if dst, ok = rawjson.AppendBase64(protowire.AppendVarint(dst, uint64(n)), text); !ok {
		return dst, misfit
	}
	return dst, exact
}

// deepestJSON is the nesting BigQuery's JSON takes.
const deepestJSON = 500

// jsonFits reports whether a JSON column keeps the text's meaning: it is JSON, not nested too deep, and its numbers are
// ones that a 64-bit integer or double gives back.
func jsonFits(text []byte) bool {
	if !json.Valid(text) {
		return false
	}
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '[' || c == '{':
			if depth++; depth > deepestJSON {
				return false
			}
		case c == ']' || c == '}':
			depth--
		case c == '-' || c >= '0' && c <= '9':
			end := i + 1
			for end < len(text) && numberByte(text[end]) {
				end++
			}
			if !numberFits(text[i:end]) {
				return false
			}
			i = end - 1
		}
	}
	return true
}

func numberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

// numberFits reports whether a JSON number comes back the same: up to 15 digits always do, within a double's range.
func numberFits(v []byte) bool {
	digits, exponent := 0, false
	for _, c := range v {
		switch {
		case c == 'e' || c == 'E':
			exponent = true
		case !exponent && c >= '0' && c <= '9':
			digits++
		}
	}
	if digits <= 15 && !exponent {
		return true
	}
	if _, ok := rawjson.ParseInt(v); ok {
		return true
	}
	f, whole, ok := rawjson.ParseFloat(v)
	if !ok || !whole {
		return false
	}
	if digits <= 15 {
		return true
	}
	// 16 or 17 digits come back only if they are the double's own.
	again := strconv.AppendFloat(make([]byte, 0, 32), f, 'g', -1, 64)
	return sameDigits(v, again)
}

// sameDigits compares two numbers' significant digits.
func sameDigits(a, b []byte) bool {
	return string(significant(a)) == string(significant(b))
}

func significant(v []byte) []byte {
	var out []byte
	for _, c := range v {
		if c == 'e' || c == 'E' {
			break
		}
		if c >= '0' && c <= '9' && (c != '0' || len(out) > 0) {
			out = append(out, c)
		}
	}
	for len(out) > 0 && out[len(out)-1] == '0' {
		out = out[:len(out)-1]
	}
	return out
}

package bigquerysink

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// fit says how well a typed column holds a value.
type fit uint8

const (
	misfit fit = iota // not at all: the column stays NULL, the value is in _raw
	near              // cut to the column's precision; the whole value is in _raw
	exact             // wholly
)

// appendArray writes the elements of an array. NULL elements and a NULL array, which a repeated column cannot hold, leave
// it empty.
func (e *encoder) appendArray(dst []byte, col *column, v []byte) ([]byte, fit) {
	mark, whole := len(dst), exact
	items := arrayOf(v)
	for item, ok := items.next(); ok; item, ok = items.next() {
		var f fit
		if dst, f = e.appendValue(dst, col, item); f == misfit {
			return dst[:mark], misfit
		}
		whole = min(whole, f)
	}
	if items.bad {
		return dst[:mark], misfit
	}
	return dst, whole
}

// appendValue writes one value, tag and all. What it appended on misfit is to be cut off.
func (e *encoder) appendValue(dst []byte, col *column, v []byte) ([]byte, fit) {
	dst = protowire.AppendVarint(dst, col.tag)
	switch col.kind {
	case kindText:
		if !validText(v) {
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
		f, fits := parseFloat(v)
		return protowire.AppendFixed64(dst, math.Float64bits(f)), fits
	case kindInt:
		i, ok := parseInt(unquote(v))
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
		micros, f := parseTimestamp(content)
		return protowire.AppendVarint(dst, uint64(micros)), f
	case kindDate:
		day, ok := parseDate(content)
		if !ok {
			return dst, misfit
		}
		return protowire.AppendVarint(dst, uint64(day)), exact
	}
	return dst, misfit
}

// text is the content of a JSON string, in e.scratch if it has escapes.
func (e *encoder) text(v []byte) ([]byte, bool) {
	content, escaped, ok := plainString(v)
	if escaped {
		e.scratch, ok = unescape(e.scratch[:0], v)
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

// parseInt reads an INT64 in its one canonical form: what else digits can spell would not come back the same.
func parseInt(v []byte) (int64, bool) {
	digits, negative := v, false
	if len(v) > 0 && v[0] == '-' {
		digits, negative = v[1:], true
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] == '0' && (len(digits) > 1 || negative) {
		return 0, false
	}
	var x uint64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		x = x*10 + uint64(c-'0')
	}
	if negative {
		return -int64(x), x <= 1<<63
	}
	return int64(x), x <= math.MaxInt64
}

// maxFloatText is the longest text 17 significant digits need. A longer one may say more than a double holds.
const maxFloatText = len("-1.7976931348623157e+308")

func parseFloat(v []byte) (float64, fit) {
	switch string(v) {
	case `"NaN"`:
		return math.NaN(), exact
	case `"Infinity"`:
		return math.Inf(1), exact
	case `"-Infinity"`:
		return math.Inf(-1), exact
	}
	if !isNumber(v) {
		return 0, misfit
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f == 0 && hasDigit(v) { // beyond the greatest double, or below the least
		return 0, misfit
	}
	if len(v) > maxFloatText {
		return f, near
	}
	return f, exact
}

// hasDigit reports whether the number's mantissa has a digit other than zero.
func hasDigit(v []byte) bool {
	for _, c := range v {
		if c == 'e' || c == 'E' {
			return false
		}
		if c >= '1' && c <= '9' {
			return true
		}
	}
	return false
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

var strictBase64 = base64.StdEncoding.Strict()

func appendBase64(dst, text []byte) ([]byte, fit) {
	n := len(text) / 4 * 3
	for i := len(text) - 1; i >= 0 && i >= len(text)-2 && text[i] == '='; i-- {
		n--
	}
	if len(text)%4 != 0 || n < 0 {
		return dst, misfit
	}
	dst = protowire.AppendVarint(dst, uint64(n))
	body := len(dst)
	dst, err := strictBase64.AppendDecode(dst, text)
	if err != nil || len(dst)-body != n { // the decoder skips line ends, which would not come back
		return dst, misfit
	}
	return dst, exact
}

// BigQuery's TIMESTAMP and DATE are of the years 1 to 9999, as Spanner's are.
var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

func parseTimestamp(v []byte) (int64, fit) {
	var t time.Time
	if err := t.UnmarshalText(v); err != nil {
		return 0, misfit
	}
	micros := t.Unix()*1_000_000 + int64(t.Nanosecond()/1000)
	if micros < minTime || micros >= maxTime {
		return 0, misfit
	}
	if t.Nanosecond()%1000 != 0 {
		return micros, near
	}
	return micros, exact
}

// parseDate reads YYYY-MM-DD as days since 1970-01-01.
func parseDate(v []byte) (int64, bool) {
	if len(v) != len("2006-01-02") || v[4] != '-' || v[7] != '-' {
		return 0, false
	}
	number := func(v []byte) (n int) {
		for _, c := range v {
			if c < '0' || c > '9' {
				return -1
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := number(v[:4]), number(v[5:7]), number(v[8:])
	if year < 1 || month < 1 || day < 1 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if t.Day() != day || int(t.Month()) != month { // it had fewer days
		return 0, false
	}
	return t.Unix() / 86400, true
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
	if _, ok := parseInt(v); ok {
		return true
	}
	f, fits := parseFloat(v)
	if fits != exact {
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

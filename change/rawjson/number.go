package rawjson

import (
	"math"
	"strconv"
)

// ParseInt reads an INT64's digits, without quotes, in its one canonical form: what else digits can spell would not come back the same.
func ParseInt(v []byte) (int64, bool) {
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

// ParseFloat reads a FLOAT64 or FLOAT32: a number, or one of the strings NaN, Infinity and -Infinity. exact says that the number has
// no more digits than a double holds. What is beyond the greatest double, or below the least, is not ok.
func ParseFloat(v []byte) (f float64, exact, ok bool) {
	switch string(v) {
	case `"NaN"`:
		return math.NaN(), true, true
	case `"Infinity"`:
		return math.Inf(1), true, true
	case `"-Infinity"`:
		return math.Inf(-1), true, true
	}
	if !IsNumber(v) {
		return 0, false, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f == 0 && hasDigit(v) {
		return 0, false, false
	}
	return f, len(v) <= maxFloatText, true
}

// maxFloatText is the longest text 17 significant digits need. A longer one may say more than a double holds.
const maxFloatText = len("-1.7976931348623157e+308")

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

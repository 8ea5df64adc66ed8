package row

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/civil"
)

// The first and last instant a TIMESTAMP holds.
var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// ParseText reads a value of a field from its text form, as strings in protobuf rows, literals and query parameters have
// it. Bytes are taken as they are. The field's bounds are checked; Struct has no text form.
func ParseText(f *Field, s string) (Value, error) {
	if !utf8.ValidString(s) && f.Kind != Bytes {
		return nil, fmt.Errorf("the text is not valid UTF-8")
	}
	bad := func() error { return fmt.Errorf("invalid %s value: %.60q", f.Kind, s) }
	switch f.Kind {
	case String:
		if n := utf8.RuneCountInString(s); f.MaxLength > 0 && int64(n) > f.MaxLength {
			return nil, fmt.Errorf("a value of %d characters is too long, STRING(%d) is declared", n, f.MaxLength)
		}
		return s, nil
	case Bytes:
		return checkBytes(f, []byte(s))
	case Int64:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, bad()
		}
		return n, nil
	case Float64:
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, bad()
		}
		return x, nil
	case Numeric, BigNumeric:
		return parseDecimal(f, s)
	case Bool:
		switch {
		case strings.EqualFold(s, "true"):
			return true, nil
		case strings.EqualFold(s, "false"):
			return false, nil
		}
		return nil, bad()
	case Timestamp:
		return parseTimestamp(s)
	case Date:
		d, err := civil.ParseDate(s)
		if err != nil || !validDate(d) {
			return nil, bad()
		}
		return d, nil
	case Time:
		t, err := civil.ParseTime(s)
		if err != nil {
			return nil, bad()
		}
		return checkTime(t)
	case DateTime:
		// ParseDateTime wants a T between date and time; SQL's form has a blank.
		if len(s) > 10 && s[10] == ' ' {
			s = s[:10] + "T" + s[11:]
		}
		t, err := civil.ParseDateTime(s)
		if err != nil || !validDate(t.Date) {
			return nil, bad()
		}
		if _, err := checkTime(t.Time); err != nil {
			return nil, err
		}
		return t, nil
	case JSON:
		return checkJSON(s)
	case Geography:
		return s, nil
	}
	return nil, fmt.Errorf("a %s has no text form", f.Kind)
}

func checkBytes(f *Field, b []byte) (Value, error) {
	if f.MaxLength > 0 && int64(len(b)) > f.MaxLength {
		return nil, fmt.Errorf("a value of %d bytes is too long, BYTES(%d) is declared", len(b), f.MaxLength)
	}
	return bytes.Clone(b), nil // the caller's buffer may be the message's
}

func validDate(d civil.Date) bool { return d.IsValid() && d.Year >= 1 && d.Year <= 9999 }

func checkTime(t civil.Time) (Value, error) {
	if t.Nanosecond%1000 != 0 {
		return nil, fmt.Errorf("invalid TIME value %s: at most six digits after the second are allowed", t)
	}
	return t, nil
}

func checkJSON(s string) (Value, error) {
	if !json.Valid([]byte(s)) {
		return nil, fmt.Errorf("invalid JSON value: %.60q", s)
	}
	return s, nil
}

// timestampForms are the layouts GoogleSQL takes and Go can express; without a zone a timestamp is UTC.
var timestampForms = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999 UTC",
	"2006-01-02 15:04:05.999999999-07", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02",
}

func parseTimestamp(s string) (Value, error) {
	for _, form := range timestampForms {
		if t, err := time.Parse(form, s); err == nil {
			return checkTimestamp(t)
		}
	}
	return nil, fmt.Errorf("invalid TIMESTAMP value: %.60q", s)
}

func checkTimestamp(t time.Time) (Value, error) {
	t = t.UTC()
	if t.Before(minTime) || t.After(maxTime) {
		return nil, fmt.Errorf("timestamp %s is outside of 0001-01-01 to 9999-12-31", t.Format(time.RFC3339Nano))
	}
	if t.Nanosecond()%1000 != 0 {
		return nil, fmt.Errorf("invalid TIMESTAMP value %s: at most six digits after the second are allowed", t.Format(time.RFC3339Nano))
	}
	return t, nil
}

// Digits after the point, and the bits of the scaled integer, of the decimal kinds.
const (
	numericScale, bigNumericScale = 9, 38
	bigNumericBits                = 255
)

// numericLimit is 10^38: a NUMERIC is a scaled integer of 38 digits.
var numericLimit = new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)

func scaleOf(k Kind) int64 {
	if k == Numeric {
		return numericScale
	}
	return bigNumericScale
}

func pow10(n int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil) }

// maxDecimalText bounds the text of a decimal: an exponent in it must not make us build a huge number.
const maxDecimalText = 128

func parseDecimal(f *Field, s string) (Value, error) {
	bad := fmt.Errorf("invalid %s value: %.60q", f.Kind, s)
	if len(s) > maxDecimalText || strings.ContainsAny(s, "/xXoObBpP_") {
		return nil, bad
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if e, err := strconv.Atoi(s[i+1:]); err != nil || e > 80 || e < -80 {
			return nil, bad
		}
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, bad
	}
	return checkDecimal(f, r)
}

// checkDecimal checks a decimal's range, digits, and declared bounds.
func checkDecimal(f *Field, r *big.Rat) (Value, error) {
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(pow10(scaleOf(f.Kind))))
	if !scaled.IsInt() {
		return nil, fmt.Errorf("invalid %s value: more than %d digits after the point", f.Kind, scaleOf(f.Kind))
	}
	n := scaled.Num()
	if f.Kind == Numeric && n.CmpAbs(numericLimit) >= 0 || f.Kind == BigNumeric && n.BitLen() > bigNumericBits {
		return nil, fmt.Errorf("%s value out of range", f.Kind)
	}
	if f.Precision > 0 {
		declared := new(big.Rat).Mul(r, new(big.Rat).SetInt(pow10(f.Scale)))
		if !declared.IsInt() || declared.Num().CmpAbs(pow10(f.Precision)) >= 0 {
			return nil, fmt.Errorf("value %s does not fit %s(%d,%d)", decimalText(f.Kind, r), f.Kind, f.Precision, f.Scale)
		}
	}
	return r, nil
}

func decimalText(k Kind, r *big.Rat) string {
	s := r.FloatString(int(scaleOf(k)))
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// Text is a value's text form as the REST API sends it; timestamps are formatted as o says. v is neither nil, Row nor a
// repeated column's.
func Text(k Kind, v Value, o Format) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		switch {
		case math.IsInf(v, 1):
			return "Infinity"
		case math.IsInf(v, -1):
			return "-Infinity"
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	case *big.Rat:
		return decimalText(k, v)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return o.timestamp(v)
	case civil.Date:
		return v.String()
	case civil.Time:
		return civilTime(v)
	case civil.DateTime:
		return v.Date.String() + "T" + civilTime(v.Time)
	}
	return fmt.Sprint(v)
}

func civilTime(t civil.Time) string {
	s := fmt.Sprintf("%02d:%02d:%02d", t.Hour, t.Minute, t.Second)
	if t.Nanosecond != 0 {
		s += fmt.Sprintf(".%06d", t.Nanosecond/1000)
	}
	return s
}

// Format says how timestamps are sent.
type Format int

// The API's forms: seconds with a fraction, which is its default; microseconds since 1970; RFC 3339.
const (
	Seconds Format = iota
	Micros
	RFC3339
)

func (o Format) timestamp(t time.Time) string {
	switch o {
	case Micros:
		return strconv.FormatInt(t.UnixMicro(), 10)
	case RFC3339:
		return t.Format("2006-01-02T15:04:05.999999Z07:00")
	}
	r := big.NewRat(t.UnixMicro(), 1_000_000)
	return r.FloatString(6)
}

package store

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
)

// timestamps lie between the years 1 and 9999.
var (
	minSecond = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	maxSecond = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

// TimeValue is the TIMESTAMP of an instant.
func TimeValue(t time.Time) Value {
	return Value{Valid: true, Int: t.Unix(), Nanos: int32(t.Nanosecond())}
}

// Time is the instant of a TIMESTAMP value.
func (v Value) Time() time.Time { return time.Unix(v.Int, int64(v.Nanos)).UTC() }

// Micros is a TIMESTAMP in microseconds since 1970, rounded down.
func (v Value) Micros() int64 { return v.Int*1e6 + int64(v.Nanos)/1000 }

// ParseText reads the text that Spanner's API uses for a scalar in results and parameters, and returns it in the
// canonical form Value describes. BYTES are base64 there.
func ParseText(t *Type, s string) (Value, error) {
	v := Value{Valid: true}
	var err error
	switch t.Code {
	case Bool:
		var b bool
		if b, err = strconv.ParseBool(strings.ToLower(s)); b {
			v.Int = 1
		}
	case Int64:
		v.Int, err = strconv.ParseInt(s, 10, 64)
	case Enum:
		v.Int, err = strconv.ParseInt(s, 10, 32)
	case Float64, Float32:
		v.Float, err = parseFloat(s, t.Code)
	case Timestamp:
		var at time.Time
		if at, err = time.Parse(time.RFC3339Nano, s); err == nil {
			v = TimeValue(at)
			if v.Int < minSecond || v.Int > maxSecond {
				err = fmt.Errorf("the timestamp is not between the years 1 and 9999")
			}
		}
	case Date:
		var at time.Time
		if at, err = time.Parse(time.DateOnly, s); err == nil {
			v.Int = at.Unix() / 86400
			if v.Int < minSecond/86400 || v.Int > maxSecond/86400 {
				err = fmt.Errorf("the date is not between the years 1 and 9999")
			}
		}
	case String:
		v.Text = s
		if !utf8.ValidString(s) {
			err = fmt.Errorf("the text is not valid UTF-8")
		}
	case Bytes, Proto:
		var b []byte
		b, err = base64.StdEncoding.DecodeString(s)
		v.Text = string(b)
	case Numeric:
		v.Text, err = canonicalNumeric(s)
	case JSON:
		v.Text, err = canonicalJSON(s)
	case UUID:
		v.Text, err = canonicalUUID(s)
	case Interval:
		v, err = parseInterval(s)
	default:
		err = fmt.Errorf("type code %d has no text form", t.Code)
	}
	if err != nil {
		return Value{}, err
	}
	return v, nil
}

func parseFloat(s string, code Code) (float64, error) {
	switch s {
	case "NaN":
		return math.NaN(), nil
	case "Infinity", "inf", "+inf":
		return math.Inf(1), nil
	case "-Infinity", "-inf":
		return math.Inf(-1), nil
	}
	if code == Float32 {
		return strconv.ParseFloat(s, 32)
	}
	return strconv.ParseFloat(s, 64)
}

// AsText writes a valid scalar in the form ParseText reads.
func (v Value) AsText(t *Type) string {
	switch t.Code {
	case Bool:
		return strconv.FormatBool(v.Int != 0)
	case Int64, Enum:
		return strconv.FormatInt(v.Int, 10)
	case Float64:
		return formatFloat(v.Float, 64)
	case Float32:
		return formatFloat(v.Float, 32)
	case Timestamp:
		return v.Time().Format("2006-01-02T15:04:05.999999999Z")
	case Date:
		return time.Unix(v.Int*86400, 0).UTC().Format(time.DateOnly)
	case Bytes, Proto:
		return base64.StdEncoding.EncodeToString([]byte(v.Text))
	default:
		return v.Text
	}
}

func formatFloat(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return strconv.FormatFloat(f, 'g', -1, bits)
}

var numericLimit = new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)

// canonicalNumeric reads a decimal and writes it in the shortest form, within 29 digits before and 9 after the point.
func canonicalNumeric(s string) (string, error) {
	if len(s) > 100 || strings.ContainsAny(s, "/_xXpPbBoO") {
		return "", fmt.Errorf("%.40q is not a decimal number", s)
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if e, err := strconv.Atoi(s[i+1:]); err != nil || e > 100 || e < -100 {
			return "", fmt.Errorf("the exponent of %q is out of range", s)
		}
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return "", fmt.Errorf("%q is not a decimal number", s)
	}
	return NumericText(r)
}

// NumericText is the canonical text of r as a NUMERIC, or an error if r does not fit.
func NumericText(r *big.Rat) (string, error) {
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt64(1e9))
	if !scaled.IsInt() {
		return "", fmt.Errorf("%s has more than 9 digits after the point", r.FloatString(12))
	}
	if new(big.Int).Abs(scaled.Num()).Cmp(numericLimit) >= 0 {
		return "", fmt.Errorf("%s has more than 29 digits before the point", r.FloatString(9))
	}
	text := r.FloatString(9)
	text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	if text == "" || text == "-0" {
		text = "0"
	}
	return text, nil
}

func canonicalUUID(s string) (string, error) {
	hex := strings.ToLower(strings.ReplaceAll(strings.Trim(s, "{}"), "-", ""))
	if len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is not a UUID", s)
	}
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:], nil
}

// maxJSONDepth is Spanner's limit on nesting.
const maxJSONDepth = 80

// canonicalJSON checks a JSON text and writes it as Spanner keeps it: no white space, members sorted by name, the first
// of equal names kept.
func canonicalJSON(s string) (string, error) {
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	v, err := readJSON(dec, 0)
	if err != nil {
		return "", fmt.Errorf("not valid JSON: %w", err)
	}
	if _, err := dec.Token(); err == nil || dec.More() {
		return "", fmt.Errorf("not valid JSON: there is something after the value")
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func readJSON(dec *json.Decoder, depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxJSONDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if n, ok := tok.(json.Number); ok {
		return canonicalNumber(n)
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	switch delim {
	case '[':
		list := []any{}
		for dec.More() {
			v, err := readJSON(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	case '{':
		obj := map[string]any{}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key, ok := name.(string)
			if !ok {
				return nil, fmt.Errorf("a member has no name")
			}
			v, err := readJSON(dec, depth+1)
			if err != nil {
				return nil, err
			}
			if _, dup := obj[key]; !dup {
				obj[key] = v
			}
		}
		_, err = dec.Token()
		return obj, err
	}
	return nil, fmt.Errorf("unexpected %v", delim)
}

package check

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
)

// Canonical is the canonical JSON text of one value in the form change streams use: equal values of one type have equal
// texts. INT64 and the like are strings of digits, NUMERIC has no superfluous zeros, TIMESTAMP is in UTC, JSON is a string
// whose text has sorted members and no spaces; NULL is null. A value that is not of its type is an error.
func (t Type) Canonical(value []byte) (string, error) {
	v, err := parseJSON(value)
	if err != nil {
		return "", err
	}
	return t.canonical(v)
}

// parseJSON reads exactly one JSON value and keeps numbers as written.
func parseJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("check: %q is not JSON: %w", short(string(b)), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("check: %q is not one JSON value", short(string(b)))
	}
	return v, nil
}

// quote is s as a JSON string, without the HTML escapes of json.Marshal.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("check: a string has no JSON form: " + err.Error()) // cannot happen: every string has one
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (t Type) canonical(v any) (string, error) {
	if v == nil {
		return "null", nil
	}
	bad := func(want string) (string, error) {
		return "", fmt.Errorf("check: %s value %s: want %s", t, short(fmt.Sprint(v)), want)
	}
	s, isString := v.(string)
	switch t.Code {
	case "BOOL":
		b, ok := v.(bool)
		if !ok {
			return bad("true or false")
		}
		return strconv.FormatBool(b), nil
	case "INT64", "ENUM":
		n, err := strconv.ParseInt(s, 10, 64)
		if !isString || err != nil {
			return bad("a string of digits")
		}
		return `"` + strconv.FormatInt(n, 10) + `"`, nil
	case "FLOAT64", "FLOAT32":
		bits := 64
		if t.Code == "FLOAT32" {
			bits = 32
		}
		switch v := v.(type) {
		case string:
			if v != "NaN" && v != "Infinity" && v != "-Infinity" {
				return bad("a number, NaN, Infinity or -Infinity")
			}
			return `"` + v + `"`, nil
		case json.Number:
			f, err := v.Float64()
			if err != nil {
				return bad("a number in range")
			}
			return floatText(f, bits), nil
		}
		return bad("a number")
	case "NUMERIC":
		if !isString {
			return bad("a decimal number in a string")
		}
		if s == "NaN" {
			return `"NaN"`, nil
		}
		r, ok := decimal(s)
		if !ok {
			return bad("a decimal number in a string")
		}
		return `"` + r + `"`, nil
	case "TIMESTAMP":
		at, err := time.Parse(time.RFC3339Nano, s)
		if !isString || err != nil {
			return bad("an RFC 3339 timestamp")
		}
		return `"` + at.UTC().Format(time.RFC3339Nano) + `"`, nil
	case "DATE":
		if _, err := time.Parse(time.DateOnly, s); !isString || err != nil {
			return bad("a date")
		}
		return `"` + s + `"`, nil
	case "STRING", "INTERVAL":
		if !isString {
			return bad("a string")
		}
		return quote(s), nil
	case "UUID":
		if !isString {
			return bad("a string")
		}
		return quote(strings.ToLower(s)), nil
	case "BYTES", "PROTO":
		b, err := base64.StdEncoding.DecodeString(s)
		if !isString || err != nil {
			return bad("base64")
		}
		return `"` + base64.StdEncoding.EncodeToString(b) + `"`, nil
	case "JSON":
		if !isString {
			return bad("JSON text in a string")
		}
		inner, err := parseJSON([]byte(s))
		if err != nil {
			return bad("JSON text in a string")
		}
		return quote(plain(inner)), nil
	case "ARRAY":
		elems, ok := v.([]any)
		if !ok || t.Elem == nil {
			return bad("an array")
		}
		return list(len(elems), func(i int) (string, error) { return t.Elem.canonical(elems[i]) })
	}
	return plain(v), nil
}

// list joins n texts to a JSON array.
func list(n int, text func(i int) (string, error)) (string, error) {
	var b strings.Builder
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		s, err := text(i)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	b.WriteByte(']')
	return b.String(), nil
}

// plain is the text of any JSON value with sorted members, without spaces, numbers as written.
func plain(v any) string {
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		parts := make([]string, len(names))
		for i, name := range names {
			parts[i] = quote(name) + ":" + plain(v[name])
		}
		return "{" + strings.Join(parts, ",") + "}"
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = plain(v[i])
		}
		return "[" + strings.Join(parts, ",") + "]"
	case string:
		return quote(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case nil:
		return "null"
	}
	return fmt.Sprintf("%v", v)
}

// floatText is a float of the given width in its shortest form; both widths of one FLOAT32 give the same text.
func floatText(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return `"NaN"`
	case math.IsInf(f, 1):
		return `"Infinity"`
	case math.IsInf(f, -1):
		return `"-Infinity"`
	}
	return strconv.FormatFloat(f, 'g', -1, bits)
}

// maxDecimal bounds a NUMERIC's text: PostgreSQL's type ends at 147455 digits before the point and 16383 behind it.
const maxDecimal = 170000

// decimal is a decimal number without superfluous zeros and exponent.
func decimal(s string) (string, bool) {
	if len(s) > maxDecimal || strings.ContainsAny(s, "/eEpPxXoObB_") {
		return "", false
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return "", false
	}
	return ratText(r), true
}

// ratText is a number with a finite decimal fraction as text, exactly.
func ratText(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	digits, exact := r.FloatPrec()
	if !exact {
		return r.RatString()
	}
	return strings.TrimRight(r.FloatString(digits), "0")
}

// cellValue is a value of a result set in the form canonical takes. The two encodings are one but for numbers.
func cellValue(v *structpb.Value) any {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		switch {
		case math.IsNaN(k.NumberValue):
			return "NaN"
		case math.IsInf(k.NumberValue, 0):
			return strings.Trim(floatText(k.NumberValue, 64), `"`)
		}
		return json.Number(strconv.FormatFloat(k.NumberValue, 'g', -1, 64))
	case *structpb.Value_ListValue:
		list := make([]any, len(k.ListValue.GetValues()))
		for i, elem := range k.ListValue.GetValues() {
			list[i] = cellValue(elem)
		}
		return list
	}
	return v.AsInterface()
}

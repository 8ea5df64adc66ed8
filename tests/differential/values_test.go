package differential

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// columnType is a type as DDL has it.
type columnType struct {
	base   string // INT64, STRING, ...
	length string // of STRING and BYTES: MAX or a number
	array  bool
}

func (t columnType) String() string {
	s := t.base
	if t.length != "" {
		s += "(" + t.length + ")"
	}
	if t.array {
		s = "ARRAY<" + s + ">"
	}
	return s
}

var (
	scalarTypes = []string{"BOOL", "INT64", "FLOAT64", "FLOAT32", "NUMERIC", "STRING", "BYTES", "DATE", "TIMESTAMP", "JSON"}
	keyTypes    = []string{"INT64", "INT64", "INT64", "STRING", "STRING", "BOOL", "BYTES", "DATE", "TIMESTAMP", "NUMERIC", "FLOAT64"}
)

func (g *generator) drawType() columnType {
	c := columnType{base: pick(g, scalarTypes, "type"), array: g.chance(20, "array")}
	if c.base == "STRING" || c.base == "BYTES" {
		c.length = pick(g, []string{"MAX", "MAX", "MAX", "8"}, "length")
	}
	return c
}

func (g *generator) drawKeyType() columnType {
	c := columnType{base: pick(g, keyTypes, "key type")}
	if c.base == "STRING" || c.base == "BYTES" {
		c.length = pick(g, []string{"MAX", "MAX", "8"}, "length")
	}
	return c
}

// samples are the values tried of each type, in the API's encoding; the first two are the tamest.
var samples = map[string][]any{
	"BOOL":    {true, false},
	"INT64":   {"1", "2", "0", "-1", "9223372036854775807", "-9223372036854775808"},
	"FLOAT64": {1.5, 2.0, 0.1, -1e300, 3.141592653589793, 1e21, 1e-7, "NaN", "Infinity", "-Infinity"},
	"FLOAT32": {1.5, 2.0, 3.14, 1e-7, 16777216.0, "NaN", "Infinity", "-Infinity"},
	"NUMERIC": {"1", "2.5", "0.1", "-1.50", "0", "99999999999999999999999999999.999999999", "-0.000000001", "1e3"},
	"STRING":  {"a", "b", "", "äöü", "a\"b", "back\\slash", "line\nfeed", "<&>", "\u2028", "😀", "NULL", "\x00", "a much longer one"},
	"BYTES":   {"YQ==", "Yg==", "", "/+8=", "AAE=", "YSBtdWNoIGxvbmdlciBvbmU="},
	"DATE":    {"2024-02-29", "2000-01-01", "0001-01-01", "9999-12-31", "1969-12-31"},
	"TIMESTAMP": {"2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z", "2024-01-01T00:00:00.5Z", "1969-12-31T23:59:59.123456789Z",
		"0001-01-01T00:00:00Z", "2024-01-01T00:00:00.000001Z", "9999-12-31T23:59:58Z"},
	"JSON": {`{"a":1}`, `"Hello world!"`, `{"b": [1, 2.50, null, true], "a": {"y": "ü", "x": "<&>"}}`, `null`, `[]`, `{}`, `1e2`, `-0`, `12345678901234567890`,
		`{"k":1,"k":2}`, `0.1`, `"\u0041\n"`, `" "`},
}

// drawValue draws one value of type c, seldom NULL where it may be, and seldom one that the type refuses.
func (g *generator) drawValue(c columnType, notNull bool) any {
	if !notNull && g.chance(12, "null") {
		return nil
	}
	if c.array {
		out := []any{}
		c.array = false
		for range g.between(0, 3, "elements") {
			out = append(out, g.drawValue(c, true)) // a NULL element in a watched column kills the official emulator
		}
		return out
	}
	if c.base == "INT64" && g.chance(50, "any") {
		return strconv.FormatInt(rapid.Int64Range(-100, 100).Draw(g.T, "int"), 10)
	}
	return g.sample(c)
}

// sample draws one of the values listed for a type; the long ones seldom where they are too long.
func (g *generator) sample(c columnType) any {
	all := samples[c.base]
	if c.length == "8" && !g.chance(5, "too long") {
		all = all[:len(all)-1]
	}
	return pick(g, all, "value")
}

// drawKey draws a key part from few values, so that rows meet again.
func (g *generator) drawKey(c columnType) any {
	switch n := g.below(12, "key"); n {
	case 11:
		return nil
	case 10:
		return g.sample(c)
	}
	return pick(g, samples[c.base][:min(3, len(samples[c.base]))], "value")
}

// ordered reports whether key part a is not after b, of type c.
func ordered(c columnType, a, b any, desc bool) bool {
	if desc {
		a, b = b, a
	}
	if a == nil || b == nil || a == b {
		return a == nil || a == b
	}
	switch c.base {
	case "BOOL":
		return b == true
	case "INT64", "FLOAT64", "NUMERIC":
		number := func(v any) float64 {
			f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
			if err != nil {
				panic(err) // a sample is wrong
			}
			return f
		}
		return number(a) <= number(b) || math.IsNaN(number(a))
	case "BYTES":
		x, _ := base64.StdEncoding.DecodeString(a.(string))
		y, _ := base64.StdEncoding.DecodeString(b.(string))
		return bytes.Compare(x, y) <= 0
	case "TIMESTAMP": // a commit timestamp is after all samples but the last
		x, y := strings.TrimSuffix(a.(string), "Z"), strings.TrimSuffix(b.(string), "Z")
		return x <= y
	}
	return a.(string) <= b.(string)
}

// literal writes a value as an SQL literal.
func literal(c columnType, v any) string {
	if v == nil {
		return "NULL"
	}
	if list, ok := v.([]any); ok {
		el := c
		el.array = false
		parts := make([]string, len(list))
		for i, e := range list {
			parts[i] = literal(el, e)
		}
		return "ARRAY<" + c.base + ">[" + strings.Join(parts, ", ") + "]"
	}
	switch c.base {
	case "BOOL":
		return strings.ToUpper(fmt.Sprint(v))
	case "INT64":
		if v == "-9223372036854775808" {
			return "(-9223372036854775807 - 1)"
		}
		return v.(string)
	case "FLOAT64", "FLOAT32":
		if s, special := v.(string); special {
			return fmt.Sprintf("CAST(%s AS %s)", quote(map[string]string{"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[s]), c.base)
		}
		s := strconv.FormatFloat(v.(float64), 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s
	case "STRING":
		return quote(v.(string))
	case "BYTES":
		raw, err := base64.StdEncoding.DecodeString(v.(string))
		if err != nil {
			panic(err) // a sample is wrong
		}
		var b strings.Builder
		for _, x := range raw {
			fmt.Fprintf(&b, "\\x%02x", x)
		}
		return `b"` + b.String() + `"`
	}
	return c.base + " " + quote(v.(string))
}

// quote writes a string literal of GoogleSQL.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == '\u2028':
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// listText writes the values of one row or key as a JSON list.
func listText(values []any) string {
	if values == nil {
		values = []any{}
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(values); err != nil {
		panic(err) // samples are plain
	}
	return strings.TrimSuffix(b.String(), "\n")
}

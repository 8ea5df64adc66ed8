package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"cloud.google.com/go/spanner"
	"pgregory.net/rapid"
)

// jsonCases are texts and whether Spanner keeps their value.
var jsonCases = []struct {
	text string
	keep bool
}{
	{"0", true}, {"-0", false}, {"-0.0", true}, {"0e5", true}, {"0e99999999999999999999", true},
	{"1e2", true}, {"1.10", true}, {"0.1e1", true}, {"[10.0,1e0,12e-1]", true}, {"1e20", true}, {"100000000000000000000", true},
	{"9223372036854775807", true}, {"9223372036854775808", true}, {"18446744073709551615", true}, {"18446744073709551616", false},
	{"-9223372036854775808", true}, {"-9223372036854775809", false}, {"9007199254740993", true}, {"9007199254740993.0", false},
	{"0.1", true}, {"0.10000000000000001", false}, {"123456789.123456789", false},
	{"1.7976931348623157e308", true}, {"1.7976931348623158e308", false}, {"1E400", false}, {"1e99999999999999999999", false},
	{"5e-324", true}, {"4.9e-324", false}, {"2.4e-324", false}, {"1e-400", false}, {"1e-99999999999999999999", false},
	{`"a\u0000b"`, true}, {`"\u2028<&\/\"\\\b\f\n\r\t"`, true}, {`"\u00e9 é 😀 \ud83d\ude00 \uD83D\uDE00"`, true}, {"\"\x7f\\u0001\"", true},
	{`"\ud800"`, false}, {`"\udc00"`, false}, {`"\ud800\ud800"`, false}, {`"\ud800x"`, false}, {"\"\xff\"", false}, {"\"\xed\xa0\x80\"", false},
	{`{"a":1,"a":2}`, false}, {`{"a":1,"\u0061":1}`, false}, {`{"b":{"x":1},"a":2,"":3,"10":4}`, true},
	{"null", true}, {" true\n", true}, {"false", true}, {"[]", true}, {"{}", true}, {" [ 1 , { } ] ", true},
	{"", false}, {" ", false}, {"1 2", false}, {"[1,]", false}, {"[1", false}, {"[,1]", false}, {`{"a"}`, false}, {`{"a":}`, false}, {`{"a":1,}`, false}, {"{1:1}", false}, {`{"a":1`, false},
	{"01", false}, {"-", false}, {"+1", false}, {".5", false}, {"1.", false}, {"1e", false}, {"NaN", false}, {"nul", false}, {"'a'", false}, {"[// c\n1]", false},
	{`"abc`, false}, {`"\x41"`, false}, {`"\u12"`, false}, {`"\`, false}, {"\"a\x00b\"", false}, {"\"a\nb\"", false},
}

// TestJSONAgainstSpanner: what passes is kept, what is refused would not be.
func TestJSONAgainstSpanner(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			client := b.open(t, []string{"CREATE TABLE J (k INT64, j JSON) PRIMARY KEY (k)"})
			store := func(k int, text string) (string, error) {
				if _, err := client.Apply(t.Context(), []*spanner.Mutation{spanner.Insert("J", []string{"k", "j"}, []any{k, text})}); err != nil {
					return "", err
				}
				row, err := client.Single().ReadRow(t.Context(), "J", spanner.Key{k}, []string{"j"})
				if err != nil {
					return "", err
				}
				var v spanner.GenericColumnValue
				err = row.Column(0, &v)
				return string(jsonText(v)), err
			}
			for i, c := range jsonCases {
				err := CheckJSON([]byte(c.text))
				if (err == nil) != c.keep {
					t.Errorf("%.80q: %v, want kept: %t", c.text, err, c.keep)
				}
				got, storeErr := store(i, c.text)
				same := false
				if storeErr == nil && (c.keep || json.Valid([]byte(c.text))) {
					var err error
					if same, err = sameJSON([]byte(c.text), []byte(got)); err != nil {
						same = false
					}
				}
				if same != c.keep {
					t.Errorf("%.80q: Spanner made it %.80q, %v; want kept: %t", c.text, got, storeErr, c.keep)
				}
			}
			k := len(jsonCases)
			rapid.Check(t, func(rt *rapid.T) {
				text := anyJSON().Draw(rt, "text")
				if CheckJSON([]byte(text)) != nil {
					return
				}
				k++
				got, err := store(k, text)
				if err != nil {
					rt.Fatal(err)
				}
				if same, err := sameJSON([]byte(text), []byte(got)); err != nil || !same {
					rt.Fatalf("%q became %q (%v)", text, got, err)
				}
			})
		})
	}
}

// anyJSON generates texts of values, most of them valid.
func anyJSON() *rapid.Generator[string] {
	number := rapid.OneOf(
		rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }),
		rapid.Map(rapid.Int64(), func(i int64) string { return strconv.FormatInt(i, 10) }),
		rapid.Map(rapid.Uint64(), func(i uint64) string { return strconv.FormatUint(i, 10) }),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?`),
	)
	text := rapid.Map(rapid.String(), func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		return string(b)
	})
	leaf := rapid.OneOf(number, text, rapid.SampledFrom([]string{"null", "true", "false", "[]", "{}"}))
	array := rapid.Map(rapid.SliceOfN(leaf, 0, 4), func(l []string) string { return "[" + strings.Join(l, " , ") + "]" })
	return rapid.OneOf(leaf, array, rapid.Custom(func(t *rapid.T) string {
		var members []string
		for _, key := range rapid.SliceOfN(text, 0, 4).Draw(t, "keys") {
			members = append(members, key+":"+rapid.OneOf(leaf, array).Draw(t, "value"))
		}
		return "{" + strings.Join(members, ",") + "}"
	}))
}

func TestJSONErrors(t *testing.T) {
	deep := strings.Repeat("[", 81) + strings.Repeat("]", 81)
	for text, want := range map[string]string{
		`{"a":[{"b c":1e999}]}`:         `JSON at .a[0]["b c"] (byte 13): Spanner would store the number 1e999 as nothing at all`,
		`[1,0.10000000000000001]`:       `JSON at .[1] (byte 3): Spanner would store the number 0.10000000000000001 as 0.1; write it as a string`,
		`{"x":{"k":1,"j":0,"k":2}}`:     `JSON at .x.k (byte 18): the member occurs twice`,
		deep:                            `nest deeper than 80 levels`,
		`{"a":"` + "\x01" + `"}`:        `JSON at .a (byte 6): the control character 0x01`,
		strings.Repeat("9", 100) + ".5": "9...",
	} {
		err := CheckJSON([]byte(text))
		var je *JSONError
		if !errors.As(err, &je) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %s", text, err, want)
		}
	}
	if err := CheckJSON([]byte(deep[1:161])); err != nil {
		t.Errorf("80 levels: %v", err)
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, c := range jsonCases {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		canonical, lossless := canonicalJSON(text, jsonLossless)
		strict := CheckJSON(text)
		if strict == nil && lossless != nil {
			t.Fatalf("strict passes what lossless refuses: %v", lossless)
		}
		if lossless != nil {
			// Then encoding/json refuses it, too, or changes it silently.
			reason := lossless.Error()
			if json.Valid(text) && !strings.Contains(reason, "twice") && !strings.Contains(reason, "surrogate") &&
				!strings.Contains(reason, "UTF-8") && !strings.Contains(reason, "deeper") {
				t.Fatalf("encoding/json takes it: %v", lossless)
			}
			return
		}
		if !json.Valid(text) || !utf8.Valid(text) {
			t.Fatal("passed, but is no JSON or no UTF-8")
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var v any
		if err := decoder.Decode(&v); err != nil {
			t.Fatal(err)
		}
		// Another spelling of the same value has the same canonical form.
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		other, err := canonicalJSON(again, jsonLossless)
		if err != nil || !slices.Equal(canonical, other) {
			t.Fatalf("%q and %q differ: %q, %q (%v)", text, again, canonical, other, err)
		}
		if kept := numbersKept(v); strict == nil && !kept || strict != nil && kept && !strings.Contains(strict.Error(), "deeper") {
			t.Fatalf("numbers are kept: %t, but got %v", kept, strict)
		}
	})
}

// numbersKept decides by exact arithmetic whether a 64-bit integer or a double
// holds every number of a value.
func numbersKept(v any) bool {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if !numbersKept(x) {
				return false
			}
		}
	case map[string]any:
		for _, x := range v {
			if !numbersKept(x) {
				return false
			}
		}
	case json.Number:
		text := v.String()
		if i, ok := new(big.Int).SetString(text, 10); ok && (i.IsInt64() || i.IsUint64()) {
			return text != "-0"
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return false
		}
		want, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
		got, ok2 := new(big.Rat).SetString(text)
		if !ok || !ok2 { // an exponent too large to expand: zero, or not kept
			return !strings.ContainsAny(strings.TrimLeft(text[:strings.IndexAny(text, "eE")], "-0."), "123456789")
		}
		return got.Cmp(want) == 0
	}
	return true
}

func BenchmarkCheckJSON(b *testing.B) {
	var text strings.Builder
	text.WriteString(`{"type":"Feature"`)
	for i := range 30 {
		fmt.Fprintf(&text, `,"property %d":[%d.25,"some text of ordinary length",null,{"a":true}]`, i*7%30, i)
	}
	doc := []byte(text.String() + "}")
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckJSON(doc); err != nil {
			b.Fatal(err)
		}
	}
}

package check

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

func TestCanonical(t *testing.T) {
	strings := Type{Code: "STRING"}
	for _, c := range []struct {
		typ        Type
		value, out string // out "" wants an error
	}{
		{Type{Code: "BOOL"}, "true", "true"},
		{Type{Code: "BOOL"}, `"true"`, ""},
		{Type{Code: "INT64"}, `"-9223372036854775808"`, `"-9223372036854775808"`},
		{Type{Code: "INT64"}, `"9223372036854775808"`, ""},
		{Type{Code: "INT64"}, `7`, ""},
		{Type{Code: "INT64"}, "null", "null"},
		{Type{Code: "FLOAT64"}, "1.50", "1.5"},
		{Type{Code: "FLOAT64"}, "1000000000000000000000", "1e+21"},
		{Type{Code: "FLOAT64"}, `"NaN"`, `"NaN"`},
		{Type{Code: "FLOAT64"}, `"1"`, ""},
		{Type{Code: "FLOAT64"}, `1e999`, ""},
		{Type{Code: "FLOAT32"}, "3.140000104904175", "3.14"},
		{Type{Code: "FLOAT32"}, "3.14", "3.14"},
		{Type{Code: "NUMERIC"}, `"12.500"`, `"12.5"`},
		{Type{Code: "NUMERIC"}, `"-0.000000001"`, `"-0.000000001"`},
		{Type{Code: "NUMERIC"}, `"1/3"`, ""},
		{Type{Code: "NUMERIC"}, `"1e1000000000"`, ""},
		{Type{Code: "NUMERIC", Annotation: "PG_NUMERIC"}, `"NaN"`, `"NaN"`},
		{Type{Code: "TIMESTAMP"}, `"2026-01-02T03:04:05.100000Z"`, `"2026-01-02T03:04:05.1Z"`},
		{Type{Code: "TIMESTAMP"}, `"2026-01-02T04:04:05.123456789+01:00"`, `"2026-01-02T03:04:05.123456789Z"`},
		{Type{Code: "TIMESTAMP"}, `"yesterday"`, ""},
		{Type{Code: "DATE"}, `"0001-01-01"`, `"0001-01-01"`},
		{Type{Code: "DATE"}, `"2026-02-30"`, ""},
		{strings, `"\u00e9\u003c"`, `"é<"`},
		{strings, `""`, `""`},
		{strings, `1`, ""},
		{Type{Code: "BYTES"}, `"AP8="`, `"AP8="`},
		{Type{Code: "BYTES"}, `"AP8"`, ""},
		{Type{Code: "UUID"}, `"ABCDEF00-0000-0000-0000-000000000000"`, `"abcdef00-0000-0000-0000-000000000000"`},
		{Type{Code: "JSON"}, `"{\"b\": 1.0, \"a\": [null]}"`, `"{\"a\":[null],\"b\":1.0}"`},
		{Type{Code: "JSON"}, `"null"`, `"null"`},
		{Type{Code: "JSON"}, `"{"`, ""},
		{Type{Code: "ARRAY", Elem: &strings}, `["x", null]`, `["x",null]`},
		{Type{Code: "ARRAY", Elem: &strings}, `[]`, `[]`},
		{Type{Code: "ARRAY", Elem: &strings}, `{}`, ""},
		{Type{Code: "NEWTYPE"}, `{"b": 1, "a": 2}`, `{"a":2,"b":1}`},
		{strings, `"a" "b"`, ""},
	} {
		out, err := c.typ.Canonical([]byte(c.value))
		if out != c.out || (err == nil) != (c.out != "") {
			t.Errorf("%s %s: got %s, %v, want %s", c.typ, c.value, out, err, c.out)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	codes := []string{"BOOL", "INT64", "FLOAT64", "FLOAT32", "NUMERIC", "TIMESTAMP", "DATE", "STRING", "BYTES", "UUID", "JSON", "OTHER"}
	for i := range codes {
		f.Add(i, `"1"`)
		f.Add(i, `{"a":[1.0,null]}`)
	}
	f.Fuzz(func(t *testing.T, n int, text string) {
		typ := Type{Code: codes[(n%len(codes)+len(codes))%len(codes)]}
		once, err := typ.Canonical([]byte(text))
		if err != nil {
			return
		}
		if twice, err := typ.Canonical([]byte(once)); err != nil || twice != once {
			t.Errorf("%s %q: %q, then %q, %v", typ, text, once, twice, err)
		}
	})
}

// readID reads the text of a position by its description alone, without package change.
func readID(text string) (at time.Time, snapshot bool, parts [3]string, err error) {
	stamp, rest, ok := strings.Cut(text, "-")
	if !ok || len(rest) < 2 || rest[1] != '-' {
		return at, false, parts, fmt.Errorf("no place")
	}
	if at, err = time.Parse("20060102T150405.999999Z", stamp); err != nil {
		return at, false, parts, err
	}
	for i, part := range strings.Split(rest[2:], ".") {
		digits := int(part[0] - '0')
		var out []byte
		for s := part[1+digits:]; s != ""; {
			if strings.ContainsRune("-=_~", rune(s[0])) {
				b, err := hex.DecodeString(s[1:3])
				if err != nil {
					return at, false, parts, err
				}
				out, s = append(out, b...), s[3:]
				continue
			}
			out, s = append(out, s[0]), s[1:]
		}
		if fmt.Sprint(len(out)) != part[1:1+digits] {
			return at, false, parts, fmt.Errorf("part %d has %d bytes", i, len(out))
		}
		parts[i] = string(out)
	}
	return at, rest[0] == 'u', parts, nil
}

// TestPositionText: ids tell what they should, and sort as positions do.
func TestPositionText(t *testing.T) {
	position := rapid.Custom(func(r *rapid.T) change.Position {
		return change.Position{
			Commit:   change.Timestamp(rapid.Int64Range(0, 3).Draw(r, "commit")) * 1_000_001,
			Snapshot: rapid.Bool().Draw(r, "snapshot"), Transaction: rapid.StringOfN(rapid.SampledFrom([]rune("019Az-_~=. é")), 0, 12, -1).Draw(r, "transaction"),
			Sequence: rapid.StringMatching(`[0-9]{0,11}`).Draw(r, "sequence"), Mod: rapid.Int32Range(0, 1<<31-1).Draw(r, "mod"),
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		p, q := position.Draw(r, "p"), position.Draw(r, "q")
		at, snapshot, parts, err := readID(p.String())
		if err != nil || change.TimestampOf(at) != p.Commit || snapshot != p.Snapshot || parts != [3]string{p.Transaction, p.Sequence, fmt.Sprint(p.Mod)} {
			r.Fatalf("%+v is written %s and read %s %t %q, %v", p, p, at, snapshot, parts, err)
		}
		if got, want := strings.Compare(p.String(), q.String()), p.Compare(q); got != want {
			r.Fatalf("%s and %s sort as %d, the positions as %d", p, q, got, want)
		}
	})
}

func TestRow(t *testing.T) {
	a, b := &Column{Name: "a"}, &Column{Name: "b"}
	r, err := MakeRow(Value{b, "2"}, Value{a, "null"})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := r.Get("a"); v != "null" || !ok {
		t.Error(v, ok)
	}
	if _, ok := r.Get("c"); ok {
		t.Error("c is there")
	}
	if _, err := MakeRow(Value{a, "1"}, Value{a, "1"}); err == nil {
		t.Error("a column twice was taken")
	}
	if diff("after", r, slices.Clone(r)) != "" || diff("after", r, r[:1]) == "" || diff("after", nil, r) == "" {
		t.Error("diff")
	}
}

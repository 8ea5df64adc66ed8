package change_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

func TestTypeJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"code":"INT64"}`: "INT64",
		`{"code":"ARRAY","array_element_type":{"code":"STRING"}}`:                            "ARRAY<STRING>",
		`{"code":"NUMERIC","type_annotation":"PG_NUMERIC"}`:                                  "NUMERIC(PG_NUMERIC)",
		`{"code":"PROTO","proto_type_fqn":"a.b.C"}`:                                          "PROTO<a.b.C>",
		`{"code":"BRAND_NEW"}`:                                                               "BRAND_NEW",
		`{"code":"ARRAY","array_element_type":{"code":"JSON","type_annotation":"PG_JSONB"}}`: "ARRAY<JSON(PG_JSONB)>",
	} {
		var typ, again change.Type
		if err := json.Unmarshal([]byte(in), &typ); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if typ.String() != want {
			t.Errorf("%s reads as %v, want %s", in, &typ, want)
		}
		out, err := json.Marshal(&typ)
		if err != nil || string(out) != in {
			t.Errorf("%s is written as %s, %v", in, out, err)
		}
		if err := json.Unmarshal(out, &again); err != nil || !again.Equal(&typ) {
			t.Errorf("%s is read back as %v, %v", in, &again, err)
		}
	}
	for _, in := range []string{`{}`, `[]`, `{"code":"ARRAY"}`, `{"code":5}`, strings.Repeat(`{"code":"ARRAY","array_element_type":`, 9) + `{"code":"BOOL"}` + strings.Repeat("}", 9)} {
		if err := json.Unmarshal([]byte(in), new(change.Type)); err == nil {
			t.Errorf("%s was accepted", in)
		}
	}
}

func FuzzTypeJSON(f *testing.F) {
	f.Add([]byte(`{"code":"ARRAY","array_element_type":{"code":"STRING"}}`))
	f.Add([]byte(`{"code":"NEW","type_annotation":"NEWER"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var typ, again change.Type
		if err := typ.UnmarshalJSON(b); err != nil {
			return
		}
		out, err := typ.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalJSON(out); err != nil || !again.Equal(&typ) {
			t.Fatalf("%s was read as %v, written as %s and read as %v: %v", b, &typ, out, &again, err)
		}
	})
}

func TestTypeEqual(t *testing.T) {
	var none *change.Type
	a := &change.Type{Code: change.CodeArray, Elem: &change.Type{Code: change.CodeBool}}
	b := &change.Type{Code: change.CodeArray, Elem: &change.Type{Code: change.CodeInt64}}
	if a.Equal(b) || !a.Equal(&change.Type{Code: change.CodeArray, Elem: &change.Type{Code: change.CodeBool}}) || a.Equal(nil) || none.Equal(a) || !none.Equal(nil) {
		t.Fatal("Equal is wrong")
	}
}

func TestTimestamp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts := change.Timestamp(rapid.Int64Range(0, int64(change.MaxTimestamp)).Draw(t, "µs"))
		text, err := ts.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again change.Timestamp
		if err := again.UnmarshalText(text); err != nil || again != ts {
			t.Fatalf("%d is written as %s and read as %d: %v", ts, text, again, err)
		}
		nanos := rapid.IntRange(0, 999).Draw(t, "ns")
		if got := change.TimestampOf(ts.Time().Add(time.Duration(nanos))); got != ts {
			t.Fatalf("%d and %d ns is floored to %d", ts, nanos, got)
		}
	})
	if got := change.TimestampOf(time.Unix(-1, 999_999_999)); got != -1 {
		t.Errorf("before 1970 it floors to %d", got)
	}
	if change.MaxTimestamp.String() != "9999-12-31T23:59:59.999999Z" {
		t.Errorf("the last timestamp is %v", change.MaxTimestamp)
	}
	if err := new(change.Timestamp).UnmarshalText([]byte("today")); err == nil {
		t.Error("today is a timestamp")
	}
}

func TestChange(t *testing.T) {
	table := change.NewTable("T", 1, []change.Column{{Name: "A"}, {Name: "K", Key: true}, {Name: "B"}, {Name: "L", Key: true}})
	if k := table.Keys(); len(k) != 2 || k[0] != 1 || k[1] != 3 || table.Index("B") != 2 || table.Index("b") != -1 {
		t.Fatalf("keys %v", k)
	}
	c := change.Change{Table: table, Key: []change.Value{[]byte(`"1"`), []byte("null")}, After: change.Row{[]byte("null")}}
	if got := string(c.AppendKey(nil)); got != `["1",null]` {
		t.Errorf("the key is %s", got)
	}
	if !c.After.At(0).IsNull() || c.After.At(2) != nil || c.After.At(2).IsNull() {
		t.Error("NULL and not captured are mixed up")
	}
	if c.Size() < 256+7 {
		t.Errorf("size %d", c.Size())
	}
	if change.Op(9).String() != "UNKNOWN" || change.Delete.String() != "DELETE" || change.Capture(9).String() != "UNKNOWN" || change.NewRow.String() != "NEW_ROW" {
		t.Error("names")
	}
}

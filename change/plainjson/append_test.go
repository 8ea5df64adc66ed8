package plainjson_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/plainjson"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

func Example() {
	stock := change.NewTable("shop.stock", 1, []change.Column{
		{Name: "store", Type: &change.Type{Code: change.CodeString}, Key: true, Ordinal: 1},
		{Name: "amount", Type: &change.Type{Code: change.CodeInt64}, Ordinal: 2},
		{Name: "price", Type: &change.Type{Code: change.CodeNumeric}, Ordinal: 3},
	})
	b, err := plainjson.Append(nil, &change.Change{
		Position: change.Position{Commit: 1_767_323_045_123_456, Transaction: "12345", Sequence: "00000000"},
		Table:    stock, Op: change.Update, Capture: change.NewRowAndOldValues, Records: 1, Partitions: 1,
		Key:    []change.Value{change.Value(`"north"`)},
		After:  change.Row{nil, change.Value(`"41"`), change.Value(`null`)},
		Before: change.Row{nil, change.Value(`"42"`)},
	})
	fmt.Println(strings.ReplaceAll(string(b), `,"`, ",\n\""), err)
	// Output:
	// {"id":"20260102T030405.123456Z-t-1512345.1800000000.110",
	// "commit_timestamp":"2026-01-02T03:04:05.123456Z",
	// "transaction":"12345",
	// "sequence":"00000000",
	// "mod":0,
	// "table":"shop.stock",
	// "op":"UPDATE",
	// "capture":"NEW_ROW_AND_OLD_VALUES",
	// "records":1,
	// "partitions":1,
	// "key":{"store":"north"},
	// "after":{"amount":"41",
	// "price":null},
	// "before":{"amount":"42"}} <nil>
}

type document struct {
	ID            string
	After, Before map[string]json.RawMessage
	Tag           string
	System        bool
}

func TestNothingIsLost(t *testing.T) {
	for _, c := range sinktest.NewGenerator(1).Next(500) {
		b, err := plainjson.Append(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		var d document
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if d.ID != c.ID() || d.Tag != c.Tag || d.System != c.System {
			t.Errorf("%s", b)
		}
		want := sinktest.Deliver(&c)
		for name, pair := range map[string]struct {
			got  map[string]json.RawMessage
			want map[string]string
		}{"after": {d.After, want.After}, "before": {d.Before, want.Before}} {
			if len(pair.got) != len(pair.want) {
				t.Errorf("%s has %d columns, want %d", name, len(pair.got), len(pair.want))
			}
			for column, value := range pair.want {
				if string(pair.got[column]) != value {
					t.Errorf("%s.%s = %s, want %s", name, column, pair.got[column], value)
				}
			}
		}
	}
}

func TestOneLine(t *testing.T) {
	c := sinktest.NewGenerator(1).NextOf(1, 1)[0]
	c.After = change.Row{change.Value("[\"1\",\r\n \"2\"]")}
	b, err := plainjson.Append(nil, &c)
	if err != nil || strings.ContainsAny(string(b), "\r\n") || !json.Valid(b) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestErrorsLeaveDst(t *testing.T) {
	c := sinktest.NewGenerator(1).NextOf(1, 1)[0]
	c.Key = c.Key[:1]
	if b, err := plainjson.Append([]byte("x"), &c); err == nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	c = sinktest.NewGenerator(1).NextOf(1, 1)[0]
	c.Position.Commit = -1
	if b, err := plainjson.Append([]byte("x"), &c); err == nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

func FuzzNames(f *testing.F) {
	f.Add("größe", "a\"b\\\x00\n")
	f.Add("\xff\xfe", "\u2028")
	f.Fuzz(func(t *testing.T, table, tag string) {
		c := sinktest.NewGenerator(1).NextOf(1, 1)[0]
		c.Table = change.NewTable(table, 1, c.Table.Columns)
		c.Tag = tag
		b, err := plainjson.Append(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		var d struct{ Table, Tag string }
		if err := json.Unmarshal(b, &d); err != nil || !utf8.Valid(b) {
			t.Fatalf("%v: %q", err, b)
		}
		// Ranging over a string gives U+FFFD for each byte that is not UTF-8.
		if d.Table != string([]rune(table)) || d.Tag != string([]rune(tag)) {
			t.Errorf("%q", b)
		}
	})
}

func TestAllocates(t *testing.T) {
	c := sinktest.NewGenerator(1).NextOf(0, 1)[0]
	buf := make([]byte, 0, 1<<16)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := plainjson.Append(buf, &c); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a change", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	c := sinktest.NewGenerator(1).NextOf(1, 1)[0]
	buf := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		out, err := plainjson.Append(buf, &c)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(out)))
	}
}

package changestream

import (
	"fmt"
	"log/slog"
	"testing"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

// shapeRecord is a record of one row with the given columns beside the key.
func shapeRecord(commit change.Timestamp, columns ...testColumn) testRecord {
	r := cart(commit, "1", "a")
	r.columns = append([]testColumn{{"CartId", `{"code":"STRING"}`, true}}, columns...)
	r.mods[0].after = "{}"
	if len(columns) > 0 {
		r.mods[0].after = fmt.Sprintf(`{%q:null}`, columns[0].name)
	}
	return r
}

var (
	itemsInt    = testColumn{"Items", `{"code":"INT64"}`, false}
	itemsString = testColumn{"Items", `{"code":"STRING"}`, false}
	note        = testColumn{"Note", `{"code":"STRING"}`, false}
)

func versions(t *testing.T, d *decoder, records ...testRecord) []int {
	t.Helper()
	var out []int
	for i, r := range records {
		r.commit = change.Timestamp(100 + i)
		changes := decodeAll(t, d, message(r.row()))
		out = append(out, changes[len(changes)-1].Table.Version)
	}
	return out
}

func TestUnionAlternatingColumnsAreOneSchema(t *testing.T) {
	d := newTestDecoder()
	got := versions(t, d, shapeRecord(0, itemsInt), shapeRecord(0, note), shapeRecord(0, itemsInt), shapeRecord(0, note), shapeRecord(0))
	if want := []int{1, 2, 2, 2, 2}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("versions %v, want %v", got, want)
	}
	table := d.unions.newest()[0]
	if table.Index("CartId") != 0 || table.Index("Items") != 1 || table.Index("Note") != 2 {
		t.Fatalf("columns moved: %+v", table.Columns)
	}
}

func TestUnionOldShapesInFlight(t *testing.T) {
	d := newTestDecoder()
	// The type changes; records of the old one still come from a slow partition, then new ones again.
	got := versions(t, d, shapeRecord(0, itemsInt), shapeRecord(0, itemsString), shapeRecord(0, itemsInt), shapeRecord(0, itemsString), shapeRecord(0, note), shapeRecord(0, itemsInt))
	if want := []int{1, 2, 1, 2, 3, 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("versions %v, want %v", got, want)
	}
	for _, c := range d.frames.held {
		if i := c.Table.Index("Items"); i >= 0 && c.After.At(i) != nil {
			want := change.CodeInt64
			if c.Position.Commit%2 == 1 && c.Position.Commit < 104 {
				want = change.CodeString
			}
			if got := c.Table.Columns[i].Type.Code; got != want {
				t.Errorf("the change at %d has the type %v, want %v", c.Position.Commit, got, want)
			}
		}
	}
}

func TestUnionFromStoredTables(t *testing.T) {
	stored := change.NewTable("Carts", 7, []change.Column{
		{Name: "Gone", Type: &change.Type{Code: change.CodeBool}, Ordinal: 9},
		{Name: "CartId", Type: &change.Type{Code: change.CodeString}, Key: true, Ordinal: 1},
		{Name: "Items", Type: &change.Type{Code: change.CodeInt64}, Ordinal: 2},
	})
	d := newTestDecoder()
	d.unions = newUnions([]*change.Table{stored}, slog.New(slog.DiscardHandler))
	changes := decodeAll(t, d, message(shapeRecord(5, itemsInt).row()))
	if changes[0].Table != stored {
		t.Fatalf("the stored table was not used: %+v", changes[0].Table)
	}
	if v := changes[0].After.At(2); !v.IsNull() {
		t.Fatalf("the value is not at its column's place: %q", changes[0].After)
	}
}

func TestUnionKeyChange(t *testing.T) {
	d := newTestDecoder()
	first := cart(5, "1", "a")
	second := cart(6, "1", "a") // the table was made again with another key
	second.columns = []testColumn{{"Id", `{"code":"INT64"}`, true}, {"CartId", `{"code":"STRING"}`, false}}
	second.mods[0] = testMod{keys: `{"Id":"1"}`, after: `{"CartId":"x"}`}
	changes := decodeAll(t, d, message(first.row(), second.row()))
	if a, b := changes[0].Table, changes[1].Table; a == b || len(b.Keys()) != 1 || b.Columns[b.Keys()[0]].Name != "Id" || string(changes[1].After.At(b.Index("CartId"))) != `"x"` {
		t.Fatalf("tables %+v and %+v", a, b)
	}
}

// Whatever the order of shapes, each change's columns have the types its record named, versions only grow, and columns
// keep their places.
func TestUnionShapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newTestDecoder()
		place := map[string]int{}
		most := 0
		for i := range rapid.IntRange(1, 30).Draw(t, "records") {
			var columns []testColumn
			for _, name := range []string{"A", "B", "C"} {
				if rapid.Bool().Draw(t, "has") {
					columns = append(columns, testColumn{name, rapid.SampledFrom([]string{`{"code":"INT64"}`, `{"code":"STRING"}`}).Draw(t, "type"), false})
				}
			}
			r := shapeRecord(change.Timestamp(10+i), columns...)
			if err := d.message(message(r.row())); err != nil {
				t.Fatal(err)
			}
			table := d.frames.held[len(d.frames.held)-1].Table
			most = max(most, table.Version)
			if newest := d.unions.newest()[0]; newest.Version != most {
				t.Fatalf("the newest version is %d, one seen is %d", newest.Version, most)
			}
			for _, c := range columns {
				at := table.Index(c.name)
				if was, ok := place[c.name]; ok && was != at {
					t.Fatalf("column %s moved from %d to %d", c.name, was, at)
				}
				place[c.name] = at
				var want change.Type
				if err := want.UnmarshalJSON([]byte(c.typ)); err != nil {
					t.Fatal(err)
				}
				if !table.Columns[at].Type.Equal(&want) {
					t.Fatalf("column %s has type %v, the record says %v", c.name, table.Columns[at].Type, &want)
				}
			}
		}
	})
}

func TestKnownShapesCostNoAllocations(t *testing.T) {
	d := newTestDecoder()
	m := message(cart(5, "1", "a").row())
	decodeAll(t, d, m)
	if n := testing.AllocsPerRun(100, func() {
		if s, _ := d.unions.lookup(d.rec.table, d.rec.columns); s == nil {
			t.Fatal("a known shape was not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

func TestParseType(t *testing.T) {
	for s, want := range map[string]string{
		"INT64": "INT64", "STRING(MAX)": "STRING", "BYTES(16)": "BYTES", "ARRAY<STRING(36)>": "ARRAY<STRING>", "FLOAT32": "FLOAT32",
		"ARRAY<FLOAT32>(vector_length=>128)": "ARRAY<FLOAT32>", "PROTO<a.b.C>": "PROTO<a.b.C>", "ENUM<`a.b`>": "ENUM<a.b>", "JSON": "JSON", "UUID": "UUID",
		"TOKENLIST": "-", "ARRAY<ARRAY<INT64>>": "-", "ARRAY<": "-", "": "-",
	} {
		if got := googleSQL.parseType(s); got == nil && want != "-" || got != nil && got.String() != want {
			t.Errorf("GoogleSQL %q: got %v, want %s", s, got, want)
		}
	}
	for s, want := range map[string]string{
		"bigint": "INT64", "character varying(36)": "STRING", "text": "STRING", "bigint[]": "ARRAY<INT64>", "numeric": "NUMERIC(PG_NUMERIC)", "jsonb": "JSON(PG_JSONB)",
		"timestamp with time zone": "TIMESTAMP", "spanner.commit_timestamp": "TIMESTAMP", "character varying[]": "ARRAY<STRING>", "cube": "-", "bigint[][]": "-",
	} {
		if got := postgreSQL.parseType(s); got == nil && want != "-" || got != nil && got.String() != want {
			t.Errorf("PostgreSQL %q: got %v, want %s", s, got, want)
		}
	}
}

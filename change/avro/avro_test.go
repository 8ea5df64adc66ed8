package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	hamba "github.com/hamba/avro/v2"
	hambaocf "github.com/hamba/avro/v2/ocf"
	"github.com/linkedin/goavro/v2"

	"github.com/spanledger/spanledger/change"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func typ(code change.Code) *change.Type { return &change.Type{Code: code} }

func arrayType(elem *change.Type) *change.Type {
	return &change.Type{Code: change.CodeArray, Elem: elem}
}

// allColumns has every type a column can have, and names Avro does not allow.
func allColumns() []change.Column {
	cols := []change.Column{
		{Name: "tenant", Type: typ(change.CodeString), Key: true},
		{Name: "bool", Type: typ(change.CodeBool)},
		{Name: "int", Type: typ(change.CodeInt64)},
		{Name: "id", Type: typ(change.CodeInt64), Key: true},
		{Name: "float64", Type: typ(change.CodeFloat64)},
		{Name: "float32", Type: typ(change.CodeFloat32)},
		{Name: "timestamp", Type: typ(change.CodeTimestamp)},
		{Name: "date", Type: typ(change.CodeDate)},
		{Name: "string", Type: typ(change.CodeString)},
		{Name: "bytes", Type: typ(change.CodeBytes)},
		{Name: "numeric", Type: typ(change.CodeNumeric)},
		{Name: "pg_numeric", Type: &change.Type{Code: change.CodeNumeric, Annotation: change.PGNumeric}},
		{Name: "json", Type: typ(change.CodeJSON)},
		{Name: "jsonb", Type: &change.Type{Code: change.CodeJSON, Annotation: change.PGJSONB}},
		{Name: "oid", Type: &change.Type{Code: change.CodeInt64, Annotation: change.PGOID}},
		{Name: "proto", Type: &change.Type{Code: change.CodeProto, ProtoName: "shop.Item"}},
		{Name: "enum", Type: &change.Type{Code: change.CodeEnum, ProtoName: "shop.State"}},
		{Name: "uuid", Type: typ(change.CodeUUID)},
		{Name: "interval", Type: typ(change.CodeInterval)},
		{Name: "future", Type: &change.Type{Name: "GEOGRAPHY"}},
		{Name: "größe in-%", Type: typ(change.CodeString)},
		{Name: "9lives", Type: typ(change.CodeInt64)},
		{Name: "a-b", Type: typ(change.CodeInt64)},
		{Name: "a_u2d_b", Type: typ(change.CodeInt64)},
		{Name: `quo"te\`, Type: typ(change.CodeInt64)},
	}
	for _, code := range []change.Code{change.CodeBool, change.CodeInt64, change.CodeFloat64, change.CodeFloat32, change.CodeTimestamp,
		change.CodeDate, change.CodeString, change.CodeBytes, change.CodeNumeric, change.CodeJSON, change.CodeUUID, change.CodeEnum} {
		cols = append(cols, change.Column{Name: "array_" + strings.ToLower(code.String()), Type: arrayType(typ(code))})
	}
	for i := range cols {
		cols[i].Ordinal = i + 1
	}
	return cols
}

func allTypes() *change.Table { return change.NewTable("shop.Order Items", 1, allColumns()) }

func mustSchema(t testing.TB, table *change.Table) *Schema {
	t.Helper()
	s, err := SchemaOf(table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func position(commit int64, mod int32) change.Position {
	return change.Position{Commit: change.Timestamp(1_700_000_000_000_000 + commit), Transaction: "tx/1==", Sequence: "00000003", Mod: mod}
}

// values gives a value for every column of allColumns, in raw JSON.
var values = map[string]string{
	"bool": "true", "int": `"-9223372036854775808"`, "float64": "1.5", "float32": "3.140000104904175", "timestamp": `"2026-01-02T03:04:05.123456Z"`,
	"date": `"0001-01-01"`, "string": `"a\"\\\n\u00e9\ud83d\ude00z"`, "bytes": `"AAEC/w=="`, "numeric": `"-99999999999999999999999999999.999999999"`,
	"pg_numeric": `"NaN"`, "json": `"{\"a\": [1, null]}"`, "jsonb": `"1"`, "oid": `"7"`, "proto": `"CAE="`, "enum": `"3"`,
	"uuid": `"8a3c1d30-5b7e-4b8a-9a53-0e4f8f3c2b11"`, "interval": `"P1Y2M3DT4H5M6.5S"`, "future": `{"type":"Point"}`, "größe in-%": `"XL"`,
	"9lives": `"9"`, "a-b": `"1"`, "a_u2d_b": `"2"`, `quo"te\`: `"3"`,
	"array_bool": `[true,null,false]`, "array_int64": `["1",null,"9223372036854775807"]`, "array_float64": `[0.5,"NaN","-Infinity",null]`,
	"array_float32": `[0.5,"Infinity"]`, "array_timestamp": `["1969-12-31T23:59:59.999999Z",null]`, "array_date": `["9999-12-31"]`,
	"array_string": `["",null,"x,]"]`, "array_bytes": `["",null,"AA=="]`, "array_numeric": `["0","-0.000000001",null]`, "array_json": `["{}",null]`,
	"array_uuid": `["8a3c1d30-5b7e-4b8a-9a53-0e4f8f3c2b11"]`, "array_enum": `[]`,
}

func fullChange(table *change.Table) *change.Change {
	c := &change.Change{
		Position: position(0, 0), Table: table, Op: change.Update, Capture: change.NewRowAndOldValues, Tag: "checkout", Records: 2, Partitions: 1,
		Key: []change.Value{change.Value(`"t1"`), change.Value(`"42"`)},
	}
	c.After = make(change.Row, len(table.Columns))
	c.Before = make(change.Row, 3)
	for i, col := range table.Columns {
		if !col.Key {
			c.After[i] = change.Value(values[col.Name])
		}
	}
	c.Before[1] = change.Value("null")
	return c
}

func TestEveryTypeReadBackByGoavro(t *testing.T) {
	s := mustSchema(t, allTypes())
	c := fullChange(s.table)
	b, err := s.Append(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	record := goavroRecord(t, s, b)
	if record["id"] != c.ID() || record["op"] != "UPDATE" || record["capture"] != "NEW_ROW_AND_OLD_VALUES" || record["tag"] != "checkout" {
		t.Errorf("envelope = %v", record)
	}
	if got := record["commit_timestamp"].(time.Time); !got.Equal(c.Position.Commit.Time()) {
		t.Errorf("commit_timestamp = %v, want %v", got, c.Position.Commit)
	}
	if raws := record["raw"].([]any); len(raws) != 0 {
		t.Errorf("raw = %v, want none: every value fits", raws)
	}
	after := branch(record["after"]).(map[string]any)
	names := record["columns"].([]any)
	if len(names) != len(s.row) {
		t.Errorf("columns = %v", names)
	}
	for _, col := range s.row {
		def := s.table.Columns[col.index]
		if err := sameValue(col.kind, col.elem, values[def.Name], branch(after[col.name])); err != nil {
			t.Errorf("column %q: %v", def.Name, err)
		}
	}
	before := branch(record["before"]).(map[string]any)
	if before["bool"] != nil || fmt.Sprint(record["before_columns"]) != "[bool]" {
		t.Errorf("before = %v, columns %v", before["bool"], record["before_columns"])
	}
	if key := record["key"].(map[string]any); branch(key["tenant"]) != "t1" || branch(key["id"]) != int64(42) {
		t.Errorf("key = %v", key)
	}
}

func TestRoundTrip(t *testing.T) {
	s := mustSchema(t, allTypes())
	c := fullChange(s.table)
	var d change.Change
	b, err := s.Append(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := s.Decode(b, &d)
	if err != nil || len(rest) != 0 {
		t.Fatalf("Decode: %v, %d bytes left", err, len(rest))
	}
	if d.Position != c.Position || d.Op != c.Op || d.Capture != c.Capture || d.Tag != c.Tag || d.Records != 2 || d.Partitions != 1 || d.System {
		t.Errorf("envelope = %+v", d)
	}
	for i := range s.table.Columns {
		got, want := d.After.At(i), c.After.At(i)
		name := s.table.Columns[i].Name
		switch name {
		case "float32":
			want = change.Value("3.14")
		case "string":
			want = change.Value(`"a\"\\\né😀z"`)
		}
		if (got == nil) != (want == nil) || !bytes.Equal(got, want) {
			t.Errorf("after %s = %s, want %s", name, got, want)
		}
		if got, want := d.Before.At(i), c.Before.At(i); (got == nil) != (want == nil) || !bytes.Equal(got, want) {
			t.Errorf("before %s = %s, want %s", name, got, want)
		}
	}
	again, err := s.Append(nil, &d)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("the decoded change is written differently: %v", err)
	}
}

// What a typed field cannot hold comes back byte for byte.
func TestRawField(t *testing.T) {
	s := mustSchema(t, allTypes())
	tests := []struct{ column, value string }{
		{"timestamp", `"2026-01-02T03:04:05.123456789Z"`},
		{"timestamp", `"2026-01-02T03:04:60Z"`},
		{"timestamp", `"0001-01-01T00:00:00+00:01"`},
		{"array_timestamp", `["2026-01-02T03:04:05.000000001Z"]`},
		{"int", `"9223372036854775808"`}, {"int", `"007"`}, {"int", `"-0"`}, {"int", `1e3`}, {"int", ``}, {"int", `"`},
		{"bool", `"true"`}, {"float64", `1e999`}, {"float64", `1e-999`}, {"float64", `0x10`}, {"float64", `inf`}, {"float32", `0.1234567890123`}, {"float32", `1e39`},
		{"float64", `123456789012345678901234567890`},
		{"numeric", `"1e5"`}, {"numeric", `"0.0000000001"`}, {"numeric", `"100000000000000000000000000000"`}, {"numeric", `"NaN"`}, {"numeric", `"-0"`},
		{"bytes", `"AA"`}, {"bytes", `"AB=="`}, {"bytes", `"A\nA=="`}, {"bytes", `"===="`}, {"date", `"2026-02-29"`}, {"date", `"0000-01-01"`},
		{"string", `"\ud800"`}, {"string", `"\ud800\u0041"`}, {"string", "\"\xff\""}, {"string", `"a`}, {"string", `"a"b"`}, {"string", `7`}, {"string", "\"\x01\""}, {"string", `"\x"`},
		{"uuid", `"8a3c1d30"`}, {"array_int64", `["1",]`}, {"array_int64", `[["1"]]`}, {"array_int64", `["1" "2"]`}, {"array_int64", `[`}, {"array_int64", `"1"`},
		{"array_string", `["a\"]`}, {"json", `{"a":1}`},
	}
	for _, test := range tests {
		i := s.table.Index(test.column)
		c := fullChange(s.table)
		c.After[i] = change.Value(test.value)
		b, err := s.Append(nil, c)
		if err != nil {
			t.Fatal(err)
		}
		var d change.Change
		if _, err := s.Decode(b, &d); err != nil {
			t.Fatalf("%s %s: %v", test.column, test.value, err)
		}
		if got := d.After.At(i); got == nil || string(got) != test.value {
			t.Errorf("%s: wrote %s, read %s", test.column, test.value, got)
		}
		raws := goavroRecord(t, s, b)["raw"].([]any)
		if len(raws) != 1 || raws[0].(map[string]any)["json"] != test.value || raws[0].(map[string]any)["row"] != "after" || raws[0].(map[string]any)["column"] != test.column {
			t.Errorf("%s %s: raw = %v", test.column, test.value, raws)
		}
	}
}

// The microseconds of a finer timestamp stay in the typed field, where most queries look.
func TestNanosecondsKeepMicroseconds(t *testing.T) {
	s := mustSchema(t, allTypes())
	c := fullChange(s.table)
	c.After[s.table.Index("timestamp")] = change.Value(`"1969-12-31T23:59:59.123456789Z"`)
	b, err := s.Append(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	after := branch(goavroRecord(t, s, b)["after"]).(map[string]any)
	if got, want := branch(after["timestamp"]).(time.Time), time.Date(1969, 12, 31, 23, 59, 59, 123456000, time.UTC); !got.Equal(want) {
		t.Errorf("timestamp = %v, want %v", got, want)
	}
}

func TestOlderVersionOfTheUnion(t *testing.T) {
	cols := allColumns()
	older := change.NewTable("shop.Order Items", 1, append([]change.Column(nil), cols[:8]...))
	changed := append([]change.Column(nil), cols...)
	changed[2].Type = typ(change.CodeString) // int has become a string
	s := mustSchema(t, change.NewTable("shop.Order Items", 2, changed))
	if s.Covers(older) {
		t.Error("Covers a table whose column has another type")
	}
	if !mustSchema(t, allTypes()).Covers(older) {
		t.Error("does not cover an older version")
	}
	c := fullChange(older)
	b, err := s.Append(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	var d change.Change
	if _, err := s.Decode(b, &d); err != nil {
		t.Fatal(err)
	}
	for i := range s.table.Columns {
		if got, want := d.After.At(i), c.After.At(i); (got == nil) != (want == nil) || want != nil && i != 5 && !bytes.Equal(got, want) {
			t.Errorf("column %s = %s, want %s", s.table.Columns[i].Name, got, want)
		}
	}
	newer := fullChange(s.table)
	if _, err := mustSchema(t, older).Append(nil, newer); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a change with unknown columns: %v", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	s := mustSchema(t, allTypes())
	for name, spoil := range map[string]func(*change.Change){
		"other table":        func(c *change.Change) { c.Table = change.NewTable("other", 1, allColumns()) },
		"no table":           func(c *change.Change) { c.Table = nil },
		"missing key":        func(c *change.Change) { c.Key = c.Key[:1] },
		"nil key":            func(c *change.Change) { c.Key[1] = nil },
		"key column in row":  func(c *change.Change) { c.After[0] = change.Value("1") },
		"too many columns":   func(c *change.Change) { c.Before = make(change.Row, 100) },
		"impossible instant": func(c *change.Change) { c.Position.Commit = -1 },
	} {
		c := fullChange(s.table)
		spoil(c)
		b, err := s.Append([]byte("x"), c)
		if err == nil || string(b) != "x" {
			t.Errorf("%s: %v, %q", name, err, b)
		}
	}
}

func TestSchemaReadBack(t *testing.T) {
	for _, table := range []*change.Table{
		allTypes(),
		change.NewTable("K", 1, []change.Column{{Name: "k", Type: typ(change.CodeInt64), Key: true}}),
		change.NewTable("NoKey", 1, []change.Column{{Name: "v", Type: nil}, {Name: "w", Type: &change.Type{Code: change.CodeArray}}}),
		change.NewTable("string.null", 1, nil),
	} {
		s := mustSchema(t, table)
		var indented bytes.Buffer
		if err := json.Indent(&indented, s.JSON(), "", "  "); err != nil {
			t.Fatalf("%s: %v\n%s", table.Name, err, s.JSON())
		}
		p, err := ParseSchema(indented.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", table.Name, err)
		}
		if p.Fingerprint() != s.Fingerprint() || p.table.Name != table.Name || len(p.table.Columns) != len(table.Columns) {
			t.Errorf("%s: read back as %+v", table.Name, p.table)
		}
		// Both libraries keep {"type":"long"} or logical types where the specification says "long", so they are given the
		// canonical form, which must be its own, and the full text, which must mean the same.
		g, err := goavro.NewCodec(string(s.Canonical()))
		if err != nil {
			t.Fatalf("%s: goavro: %v", table.Name, err)
		}
		if g.CanonicalSchema() != string(s.Canonical()) || g.Rabin != s.Rabin() {
			t.Errorf("%s: canonical form differs from goavro's", table.Name)
		}
		h, err := hamba.Parse(string(s.Canonical()))
		if err != nil {
			t.Fatalf("%s: hamba: %v", table.Name, err)
		}
		if h.String() != string(s.Canonical()) {
			t.Errorf("%s: canonical form differs from hamba's", table.Name)
		}
		full, err := goavro.NewCodec(string(s.JSON()))
		if err != nil {
			t.Fatalf("%s: goavro: %v", table.Name, err)
		}
		simple := regexp.MustCompile(`\{(?:"name":"bytes.decimal",)?"type":("[a-z]+")\}`).ReplaceAllString(full.CanonicalSchema(), "$1")
		if simple != string(s.Canonical()) {
			t.Errorf("%s: canonical form\n%s\nis not that of the full text\n%s", table.Name, s.Canonical(), simple)
		}
		if _, err := hamba.Parse(string(s.JSON())); err != nil {
			t.Fatalf("%s: hamba: %v", table.Name, err)
		}
	}
	if _, err := ParseSchema([]byte(strings.Replace(string(mustSchema(t, allTypes()).JSON()), `"tag"`, `"tags"`, 1))); err == nil {
		t.Error("a foreign schema was accepted")
	}
	if _, err := SchemaOf(change.NewTable("T", 1, []change.Column{{Name: "a"}, {Name: "a"}})); err == nil {
		t.Error("a column twice was accepted")
	}
}

func TestNames(t *testing.T) {
	var set nameSet
	for _, test := range []struct{ original, want string }{
		{"plain", "plain"}, {"Plain", "Plain_2"}, {"a-b", "a_u2d_b"}, {"a_u2d_b", "a_u2d_b_2"}, {"9", "_9"}, {"_9", "_9_2"}, {"", "_"}, {"é", "_ue9_"}, {"\xff", "_uff_"}, {" ", "_u20_"},
	} {
		if got := set.pick(test.original); got != test.want {
			t.Errorf("pick(%q) = %q, want %q", test.original, got, test.want)
		}
	}
}

func TestGolden(t *testing.T) {
	s := mustSchema(t, allTypes())
	var schema bytes.Buffer
	if err := json.Indent(&schema, s.JSON(), "", "  "); err != nil {
		t.Fatal(err)
	}
	record, err := s.Append(nil, fullChange(s.table))
	if err != nil {
		t.Fatal(err)
	}
	file, err := AppendOCF(nil, s, Container{Codec: None, Metadata: []Metadata{{"b", "1"}, {"a", "2"}}}, []change.Change{*fullChange(s.table)})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.avsc", append(schema.Bytes(), '\n'))
	golden(t, "fingerprint.txt", []byte(s.Fingerprint()+"\n"))
	golden(t, "record.bin", record)
	golden(t, "container.avro", file)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs: stored archives could not be read any more. If the format version goes up with it, run go test -update", path)
	}
}

func TestContainers(t *testing.T) {
	s := mustSchema(t, allTypes())
	changes := make([]change.Change, 100)
	for i := range changes {
		changes[i] = *fullChange(s.table)
		changes[i].Position = position(int64(i), int32(i))
	}
	for _, codec := range []Codec{Deflate, Snappy, Zstandard, None} {
		t.Run(string(codec), func(t *testing.T) {
			o := Container{Codec: codec, Metadata: []Metadata{{"chain", "c"}}, BlockBytes: 4 << 10}
			file, err := AppendOCF([]byte("prefix"), s, o, changes)
			if err != nil {
				t.Fatal(err)
			}
			file = file[len("prefix"):]
			if again, _ := AppendOCF(nil, s, o, changes); !bytes.Equal(again, file) {
				t.Error("equal changes gave different bytes")
			}
			r, err := NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if m := r.Metadata(); len(m) != 1 || m[0] != o.Metadata[0] {
				t.Errorf("metadata = %v", m)
			}
			var c change.Change
			n := 0
			for ; ; n++ {
				if err = r.Next(&c); err != nil {
					break
				}
				if c.Position != changes[n].Position {
					t.Fatalf("change %d is at %s", n, c.Position)
				}
			}
			if err != io.EOF || n != len(changes) {
				t.Errorf("read %d changes, then %v", n, err)
			}
			g, err := goavro.NewOCFReader(bytes.NewReader(file))
			if codec != Zstandard { // goavro does not know it
				if err != nil {
					t.Fatal(err)
				}
				n = 0
				for g.Scan() {
					if _, err := g.Read(); err != nil {
						t.Fatal(err)
					}
					n++
				}
				if g.Err() != nil || n != len(changes) {
					t.Errorf("goavro read %d: %v", n, g.Err())
				}
			}
			h, err := hambaocf.NewDecoder(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			n = 0
			for h.HasNext() {
				var v any
				if err := h.Decode(&v); err != nil {
					t.Fatal(err)
				}
				n++
			}
			if h.Error() != nil || n != len(changes) {
				t.Errorf("hamba read %d: %v", n, h.Error())
			}
		})
	}
}

// No damage is taken for data: a flipped byte is an error or leaves the changes as they were.
func TestDamagedContainer(t *testing.T) {
	s := mustSchema(t, change.NewTable("T", 1, []change.Column{{Name: "k", Type: typ(change.CodeInt64), Key: true}, {Name: "v", Type: typ(change.CodeString)}}))
	changes := make([]change.Change, 4)
	for i := range changes {
		changes[i] = change.Change{Position: position(int64(i), 0), Table: s.table, Op: change.Insert, Key: []change.Value{change.Value(`"1"`)}, After: change.Row{nil, change.Value(`"value"`)}}
	}
	file, err := AppendOCF(nil, s, Container{Codec: Snappy}, changes)
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) (n int, err error) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return 0, err
		}
		var c change.Change
		for {
			if err := r.Next(&c); errors.Is(err, io.EOF) {
				return n, nil
			} else if err != nil {
				return n, err
			}
			n++
		}
	}
	for i := range file {
		if _, err := read(file[:i]); err == nil {
			// The only silent cut is right behind the header.
			if n, _ := read(file[:i]); n != 0 {
				t.Errorf("cut at %d: read %d changes without an error", i, n)
			}
		}
		bad := bytes.Clone(file)
		bad[i] ^= 0x55
		if n, err := read(bad); err == nil && n != len(changes) {
			t.Errorf("byte %d flipped: read %d changes without an error", i, n)
		}
	}
}

func TestSingleObject(t *testing.T) {
	s := mustSchema(t, allTypes())
	b, err := s.AppendSingle(nil, fullChange(s.table))
	if err != nil {
		t.Fatal(err)
	}
	g, err := goavro.NewCodec(string(s.Canonical())) // see TestSchemaReadBack
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, err := g.NativeFromSingle(b); err != nil || len(rest) != 0 {
		t.Errorf("goavro: %v", err)
	}
	fp, record, ok := SingleRabin(b)
	var c change.Change
	if !ok || fp != s.Rabin() {
		t.Fatalf("SingleRabin = %x, %v", fp, ok)
	}
	if _, err := s.Decode(record, &c); err != nil {
		t.Error(err)
	}
}

func goavroRecord(t testing.TB, s *Schema, b []byte) map[string]any {
	t.Helper()
	codec := goavroCodec(t, s)
	native, rest, err := codec.NativeFromBinary(b)
	if err != nil || len(rest) != 0 {
		t.Fatalf("goavro: %v, %d bytes left", err, len(rest))
	}
	return native.(map[string]any)
}

var goavroCodecs = map[string]*goavro.Codec{}

func goavroCodec(t testing.TB, s *Schema) *goavro.Codec {
	t.Helper()
	if goavroCodecs[s.Fingerprint()] == nil {
		codec, err := goavro.NewCodec(string(s.JSON()))
		if err != nil {
			t.Fatal(err)
		}
		goavroCodecs[s.Fingerprint()] = codec
	}
	return goavroCodecs[s.Fingerprint()]
}

// branch is what a goavro union holds.
func branch(v any) any {
	if m, ok := v.(map[string]any); ok && len(m) == 1 {
		for _, inner := range m {
			return inner
		}
	}
	return v
}

// sameValue compares a raw JSON value with what goavro decoded, by way of encoding/json.
func sameValue(k, elem kind, raw string, got any) error {
	bad := func() error { return fmt.Errorf("wrote %s, goavro read %#v", raw, got) }
	if k == kindText {
		if raw != got {
			return bad()
		}
		return nil
	}
	var want any
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&want); err != nil {
		return fmt.Errorf("%w: %w", bad(), err)
	}
	if want == nil || got == nil {
		if want != nil || got != nil {
			return bad()
		}
		return nil
	}
	if k == kindArray {
		items, ok := want.([]any)
		gots, ok2 := got.([]any)
		if !ok || !ok2 || len(items) != len(gots) {
			return bad()
		}
		for i := range items {
			text, err := json.Marshal(items[i])
			if err != nil {
				return err
			}
			if err := sameValue(elem, 0, string(text), branch(gots[i])); err != nil {
				return err
			}
		}
		return nil
	}
	text := fmt.Sprint(want)
	switch got := got.(type) {
	case bool:
		if want != got {
			return bad()
		}
	case int64:
		if text != fmt.Sprint(got) {
			return bad()
		}
	case float64, float32:
		var w, g big.Float
		if _, ok := w.SetString(text); !ok {
			if strings.Replace(fmt.Sprint(got), "+Inf", "Infinity", 1) != text && strings.Replace(fmt.Sprint(got), "-Inf", "-Infinity", 1) != text {
				return bad()
			}
			return nil
		}
		g.SetString(fmt.Sprint(got))
		a, _ := w.Float64()
		b, _ := g.Float64()
		if _, single := got.(float32); single && float32(a) == float32(b) {
			return nil
		}
		if a != b {
			return bad()
		}
	case time.Time:
		layout := time.RFC3339Nano
		if k == kindDate {
			layout = time.DateOnly
		}
		if w, err := time.Parse(layout, text); err != nil || !w.Equal(got) {
			return bad()
		}
	case string:
		if want != got {
			return bad()
		}
	case []byte:
		var w []byte
		quoted, _ := json.Marshal(text)
		if err := json.Unmarshal(quoted, &w); err != nil || !bytes.Equal(w, got) {
			return bad()
		}
	case *big.Rat:
		if w, ok := new(big.Rat).SetString(text); !ok || w.Cmp(got) != 0 {
			return bad()
		}
	default:
		return bad()
	}
	return nil
}

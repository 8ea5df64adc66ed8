package bigquerysink

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// planned is the layout for a table that is made anew.
func planned(t testing.TB, table *change.Table) *layout {
	t.Helper()
	l, _, err := plan(table, metaSchema())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// messageType compiles the layout's descriptor as a server would.
func messageType(t testing.TB, l *layout) protoreflect.MessageDescriptor {
	t.Helper()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("row.proto"), Syntax: proto.String("proto2"), MessageType: []*descriptorpb.DescriptorProto{l.schema.ProtoDescriptor},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

// readRow reads a row with protobuf's own decoder: what it says of the change, by the rules of the package comment.
func readRow(t testing.TB, l *layout, row []byte) (sinktest.Delivered, protoreflect.Message) {
	t.Helper()
	m := dynamicpb.NewMessage(messageType(t, l))
	if err := proto.Unmarshal(row, m); err != nil {
		t.Fatalf("protobuf refuses the row: %v", err)
	}
	if len(m.GetUnknown()) > 0 {
		t.Fatalf("the row has fields the descriptor lacks: %x", m.GetUnknown())
	}
	field := func(name string) (protoreflect.Value, bool) {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		return m.Get(f), m.Has(f)
	}
	text := func(name string) string { v, _ := field(name); return v.String() }
	raw := object(t, text("_raw"))
	value := func(c *column) string {
		if v, ok := raw[c.name]; ok {
			return v
		}
		v, ok := field(c.field)
		if c.repeated {
			var items []string
			for i := range v.List().Len() {
				items = append(items, scalarText(l, c, v.List().Get(i)))
			}
			return "[" + strings.Join(items, ",") + "]"
		}
		if !ok {
			return "null"
		}
		return scalarText(l, c, v)
	}
	var key []string
	for i := range l.key {
		key = append(key, value(&l.key[i]))
	}
	d := sinktest.Delivered{
		ID: text("_position"), Table: l.table.Name, Op: text("_op"), Key: "[" + strings.Join(key, ",") + "]",
		After: map[string]string{}, Before: object(t, text("_before")),
	}
	columns, _ := field("_columns")
	for i := range columns.List().Len() {
		name := columns.List().Get(i).String()
		at := slices.IndexFunc(l.row, func(c column) bool { return c.name == name })
		if at < 0 {
			t.Fatalf("_columns names %q, which is no column", name)
		}
		d.After[name] = value(&l.row[at])
	}
	return d, m
}

func object(t testing.TB, text string) map[string]string {
	t.Helper()
	members := map[string]json.RawMessage{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &members); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	out := make(map[string]string, len(members))
	for k, v := range members {
		out[k] = string(v)
	}
	return out
}

// scalarText is a value in the form of change streams.
func scalarText(l *layout, c *column, v protoreflect.Value) string {
	switch c.kind {
	case kindBool:
		return strconv.FormatBool(v.Bool())
	case kindInt:
		return `"` + strconv.FormatInt(v.Int(), 10) + `"`
	case kindFloat:
		return floatText(v.Float())
	case kindTimestamp:
		return `"` + time.UnixMicro(v.Int()).UTC().Format(time.RFC3339Nano) + `"`
	case kindDate:
		return `"` + time.Unix(v.Int()*86400, 0).UTC().Format(time.DateOnly) + `"`
	case kindBytes:
		return `"` + base64.StdEncoding.EncodeToString(v.Bytes()) + `"`
	case kindText:
		return v.String()
	}
	b, err := json.Marshal(v.String())
	if err != nil {
		panic(err)
	}
	return string(b)
}

func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return `"NaN"`
	case math.IsInf(f, 0):
		return strconv.Quote(map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0])
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// meaning makes a Delivered comparable: JSON texts by their values.
func meaning(d sinktest.Delivered) any {
	parse := func(s string) any {
		var v any
		if json.Unmarshal([]byte(s), &v) != nil {
			return s
		}
		return v
	}
	row := func(m map[string]string) map[string]any {
		out := map[string]any{}
		for k, v := range m {
			out[k] = parse(v)
		}
		return out
	}
	return []any{d.ID, d.Table, d.Op, parse(d.Key), row(d.After), row(d.Before)}
}

// TestRowsAreLossless encodes changes of every type and reads the rows back with protobuf's own decoder.
func TestRowsAreLossless(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		g := sinktest.NewGenerator(rapid.Uint64().Draw(r, "seed"))
		for range rapid.IntRange(0, 2).Draw(r, "alters") {
			g.Alter(rapid.IntRange(0, 2).Draw(r, "table"))
		}
		var e encoder
		layouts := map[*change.Table]*layout{}
		for _, c := range g.Next(20) {
			l := layouts[c.Table]
			if l == nil {
				l = planned(t, c.Table)
				layouts[c.Table] = l
			}
			row, err := e.appendRow(nil, l, &c, "chain")
			if err != nil {
				r.Fatal(err)
			}
			got, m := readRow(t, l, row)
			if diff := cmp.Diff(meaning(sinktest.Deliver(&c)), meaning(got)); diff != "" {
				r.Fatalf("%s was read back changed (-want +got):\n%s", c.ID(), diff)
			}
			get := func(name string) protoreflect.Value {
				return m.Get(m.Descriptor().Fields().ByName(protoreflect.Name(name)))
			}
			if change.Timestamp(get("_commit_timestamp").Int()) != c.Position.Commit || get("_transaction").String() != c.Position.Transaction ||
				get("_record_sequence").String() != c.Position.Sequence || int32(get("_mod").Int()) != c.Position.Mod ||
				get("_system").Bool() != c.System || get("_tag").String() != c.Tag || get("_chain").String() != "chain" ||
				get("_capture").String() != c.Capture.String() || int32(get("_transaction_records").Int()) != c.Records {
				r.Fatalf("%s: the position columns are %v", c.ID(), m)
			}
		}
	})
}

func TestGoldenRow(t *testing.T) {
	table := change.NewTable("carts", 1, []change.Column{
		{Name: "id", Type: &change.Type{Code: change.CodeInt64}, Key: true, Ordinal: 1},
		{Name: "total", Type: &change.Type{Code: change.CodeNumeric}, Ordinal: 2},
		{Name: "paid", Type: &change.Type{Code: change.CodeTimestamp}, Ordinal: 3},
	})
	c := change.Change{
		Position: change.Position{Commit: 1_767_323_045_000_001, Transaction: "77", Sequence: "00000001", Mod: 2},
		Table:    table, Op: change.Update, Capture: change.NewRowAndOldValues, Records: 1, Partitions: 1,
		Key:    []change.Value{[]byte(`"5"`)},
		After:  change.Row{nil, []byte(`"9.5"`), []byte(`"2026-01-02T03:04:05.000000001Z"`)},
		Before: change.Row{nil, []byte("null")},
	}
	var e encoder
	row, err := e.appendRow(nil, planned(t, table), &c, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(row); got != golden {
		t.Errorf("the row's bytes are now\n%s\nthey were\n%s\nreaders do not mind, but say why in the commit", got, golden)
	}
}

const golden = "0a2d3230323630313032543033303430352e3030303030315a2d742d313237372e313830303030303030312e31313210c1e6b3b2efeb91031a02373722083030303030303031280230003a0655504441544542164e45575f524f575f414e445f4f4c445f56414c554553480058016001880105920103392e359801c0e6b3b2efeb91036a05746f74616c6a0470616964720e7b22746f74616c223a6e756c6c7d7a297b2270616964223a22323032362d30312d30325430333a30343a30352e3030303030303030315a227d"

// FuzzValue gives every column kind hostile values: what comes out must be protobuf with UTF-8 strings, and must either hold
// the value or be in _raw.
func FuzzValue(f *testing.F) {
	for _, v := range []string{`null`, `"1"`, `-0`, `"NaN"`, `[null]`, `["a",null]`, `"\ud800"`, "\"\xff\"", `"2026-02-30"`, `"0001-01-01T00:00:00+23:59"`,
		`"{\"a\":1e400}"`, `"AA=\n="`, `[[1]]`, `"1e5"`, `"{}"`, "", " ", `"12345678901234567890123456789012345678.5"`, "\xff"} {
		f.Add([]byte(v))
	}
	var columns []change.Column
	codes := []change.Code{change.CodeUnknown, change.CodeBool, change.CodeInt64, change.CodeFloat64, change.CodeFloat32, change.CodeTimestamp, change.CodeDate,
		change.CodeString, change.CodeBytes, change.CodeNumeric, change.CodeJSON, change.CodeUUID}
	for _, code := range codes {
		typ := &change.Type{Code: code}
		columns = append(columns, change.Column{Name: "c" + code.String(), Type: typ},
			change.Column{Name: "a" + code.String(), Type: &change.Type{Code: change.CodeArray, Elem: typ}})
	}
	columns = append(columns, change.Column{Name: "pg", Type: &change.Type{Code: change.CodeNumeric, Annotation: change.PGNumeric}})
	table := change.NewTable("t", 1, columns)
	l := planned(f, table)
	f.Fuzz(func(t *testing.T, v []byte) {
		if v == nil {
			return
		}
		c := change.Change{Table: table, Op: change.Insert}
		for range columns {
			c.After = append(c.After, v)
		}
		c.Before = c.After
		var e encoder
		row, err := e.appendRow(nil, l, &c, "")
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(v) || !utf8.Valid(v) {
			m := dynamicpb.NewMessage(messageType(t, l))
			if err := proto.Unmarshal(row, m); err != nil {
				t.Fatalf("protobuf refuses the row: %v", err)
			}
			m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				if f.Kind() == protoreflect.StringKind && !f.IsList() && !utf8.ValidString(v.String()) {
					t.Errorf("%s is not UTF-8", f.Name())
				}
				return true
			})
			return
		}
		var want any
		if err := json.Unmarshal(v, &want); err != nil {
			return // a number beyond float64
		}
		got, _ := readRow(t, l, row)
		for name, text := range got.After {
			var value any
			if err := json.Unmarshal([]byte(text), &value); err != nil {
				t.Fatalf("%s reads %s: %v", name, text, err)
			}
			if !same(name, want, value) {
				t.Errorf("%s: %s reads back as %s", name, v, text)
			}
		}
	})
}

// same compares values; a bare number means the same as one in a string, and times may be spelt in several ways.
func same(column string, want, got any) bool {
	if cmp.Equal(want, got) {
		return true
	}
	w, _ := json.Marshal(want)
	g, _ := json.Marshal(got)
	unquoted := func(b []byte) string { return strings.ReplaceAll(string(b), `"`, "") }
	if strings.HasSuffix(column, "TIMESTAMP") {
		if list, ok := want.([]any); ok {
			other, ok := got.([]any)
			return ok && len(list) == len(other) && !slices.ContainsFunc(list, func(v any) bool { _, s := v.(string); return !s })
		}
		a, err1 := time.Parse(time.RFC3339Nano, unquoted(w))
		b, err2 := time.Parse(time.RFC3339Nano, unquoted(g))
		return err1 == nil && err2 == nil && a.Equal(b)
	}
	if strings.HasSuffix(column, "INT64") || strings.HasSuffix(column, "NUMERIC") || column == "pg" {
		return unquoted(w) == unquoted(g) || numberText(want) == numberText(got)
	}
	return false
}

func numberText(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return strconv.FormatFloat(f, 'g', -1, 64)
		}
		return v
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, numberText(e))
		}
		return strings.Join(all, ",")
	}
	return ""
}

package changestream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

// The ordinary client's decoding is the oracle.

type oracleRecord struct {
	Data      []*oracleData      `spanner:"data_change_record"`
	Heartbeat []*oracleHeartbeat `spanner:"heartbeat_record"`
	Children  []*oracleChildren  `spanner:"child_partitions_record"`
}

type oracleData struct {
	Commit      time.Time       `spanner:"commit_timestamp"`
	Sequence    string          `spanner:"record_sequence"`
	Transaction string          `spanner:"server_transaction_id"`
	Last        bool            `spanner:"is_last_record_in_transaction_in_partition"`
	Table       string          `spanner:"table_name"`
	Columns     []*oracleColumn `spanner:"column_types"`
	Mods        []*oracleMod    `spanner:"mods"`
	ModType     string          `spanner:"mod_type"`
	Capture     string          `spanner:"value_capture_type"`
	Records     int64           `spanner:"number_of_records_in_transaction"`
	Partitions  int64           `spanner:"number_of_partitions_in_transaction"`
	Tag         string          `spanner:"transaction_tag"`
	System      bool            `spanner:"is_system_transaction"`
}

type oracleColumn struct {
	Name    string           `spanner:"name"`
	Type    spanner.NullJSON `spanner:"type"`
	Key     bool             `spanner:"is_primary_key"`
	Ordinal int64            `spanner:"ordinal_position"`
}

type oracleMod struct {
	Keys spanner.NullJSON `spanner:"keys"`
	New  spanner.NullJSON `spanner:"new_values"`
	Old  spanner.NullJSON `spanner:"old_values"`
}

type oracleHeartbeat struct {
	Timestamp time.Time `spanner:"timestamp"`
}

type oracleChildren struct {
	Start    time.Time      `spanner:"start_timestamp"`
	Sequence string         `spanner:"record_sequence"`
	Children []*oracleChild `spanner:"child_partitions"`
}

type oracleChild struct {
	Token   string               `spanner:"token"`
	Parents []spanner.NullString `spanner:"parent_partition_tokens"`
}

// fataler is a test or a property.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// flat is a change in a form both decodings can be brought to.
type flat struct {
	Position                string
	Table, Op, Capture, Tag string
	System                  bool
	Records, Partitions     int32
	Key, After, Before      map[string]any
}

func oracle(t fataler, m []byte) []flat {
	t.Helper()
	var prs sppb.PartialResultSet
	if err := proto.Unmarshal(m, &prs); err != nil {
		t.Fatal(err)
	}
	var out []flat
	for _, v := range prs.Values {
		row, err := spanner.NewRow([]string{"ChangeRecord"}, []any{spanner.GenericColumnValue{Type: recordType(), Value: v}})
		if err != nil {
			t.Fatal(err)
		}
		var records []*oracleRecord
		if err := row.Column(0, &records); err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			for _, d := range r.Data {
				for i, m := range d.Mods {
					p := change.Position{Commit: change.TimestampOf(d.Commit), Transaction: d.Transaction, Sequence: d.Sequence, Mod: int32(i)}
					object := func(j spanner.NullJSON) map[string]any {
						o, _ := j.Value.(map[string]any)
						if len(o) == 0 {
							return nil
						}
						return o
					}
					out = append(out, flat{
						Position: p.String(), Table: d.Table, Op: d.ModType, Capture: d.Capture, Tag: d.Tag, System: d.System,
						Records: int32(d.Records), Partitions: int32(d.Partitions), Key: object(m.Keys), After: object(m.New), Before: object(m.Old),
					})
				}
			}
		}
	}
	return out
}

func flatten(t fataler, changes []change.Change) []flat {
	t.Helper()
	var out []flat
	for _, c := range changes {
		value := func(v change.Value) any {
			var x any
			if err := json.Unmarshal(v, &x); err != nil {
				t.Fatalf("value %q: %v", v, err)
			}
			return x
		}
		row := func(r change.Row) map[string]any {
			var m map[string]any
			for i, v := range r {
				if v == nil {
					continue
				}
				if m == nil {
					m = map[string]any{}
				}
				m[c.Table.Columns[i].Name] = value(v)
			}
			return m
		}
		f := flat{
			Position: c.Position.String(), Table: c.Table.Name, Op: c.Op.String(), Capture: c.Capture.String(), Tag: c.Tag, System: c.System,
			Records: c.Records, Partitions: c.Partitions, After: row(c.After), Before: row(c.Before),
		}
		for i, k := range c.Table.Keys() {
			if f.Key == nil {
				f.Key = map[string]any{}
			}
			f.Key[c.Table.Columns[k].Name] = value(c.Key[i])
		}
		out = append(out, f)
	}
	return out
}

// everyType has a column of each type, with values of each shape.
var everyType = []struct{ typ, value string }{
	{`{"code":"BOOL"}`, `true`},
	{`{"code":"INT64"}`, `"-9223372036854775808"`},
	{`{"code":"FLOAT64"}`, `"NaN"`},
	{`{"code":"FLOAT64"}`, `-1.5e-300`},
	{`{"code":"FLOAT32"}`, `"Infinity"`},
	{`{"code":"NUMERIC"}`, `"12345678901234567890123456789.123456789"`},
	{`{"code":"STRING"}`, `"a \"quoted\"\n\u00fc\ud83d\ude00 text"`},
	{`{"code":"BYTES"}`, `"AAEC/w=="`},
	{`{"code":"DATE"}`, `"2026-02-28"`},
	{`{"code":"TIMESTAMP"}`, `"2026-02-28T01:02:03.123456789Z"`},
	{`{"code":"JSON"}`, `"{\"a\":[1,2,{\"b\":null}]}"`},
	{`{"code":"PROTO","proto_type_fqn":"a.b"}`, `"CAE="`},
	{`{"code":"ENUM","proto_type_fqn":"a.c"}`, `"3"`},
	{`{"code":"UUID"}`, `"00000000-0000-4000-8000-000000000000"`},
	{`{"code":"INTERVAL"}`, `"P1Y2M3DT4H5M6.5S"`},
	{`{"code":"ARRAY","array_element_type":{"code":"STRING"}}`, `["a",null,""]`},
	{`{"code":"ARRAY","array_element_type":{"code":"FLOAT64"}}`, `[1, "NaN" , null]`},
	{`{"code":"ARRAY","array_element_type":{"code":"INT64"}}`, `[]`},
	{`{"code":"INT64"}`, `null`},
	{`{"code":"NUMERIC","type_annotation":"PG_NUMERIC"}`, `"NaN"`},
	{`{"code":"JSON","type_annotation":"PG_JSONB"}`, `"[true]"`},
	{`{"code":"SOMETHING_NEW"}`, `{"nested":{"x":[{}]}}`},
}

func everyTypeRecord() testRecord {
	r := cart(1_000_000, "42", "x")
	r.table, r.columns = "Sales.Every", []testColumn{{"Id", `{"code":"INT64"}`, true}, {"Second", `{"code":"STRING"}`, true}}
	var after []string
	for i, e := range everyType {
		name := fmt.Sprintf("C%d", i)
		r.columns = append(r.columns, testColumn{name, e.typ, false})
		after = append(after, fmt.Sprintf("%q:%s", name, e.value))
	}
	r.mods = []testMod{
		{keys: `{"Second":"b","Id":"1"}`, after: "{" + strings.Join(after, ",") + "}", before: ""},
		{keys: ` { "Id" : "2" , "Second" : "\u0041" } `, after: "{}", before: "{ " + strings.Join(after[5:9], " ,\t") + "\n}"},
	}
	return r
}

func TestDecodeEveryType(t *testing.T) {
	m := message(everyTypeRecord().row())
	got := flatten(t, decodeAll(t, newTestDecoder(), m))
	if diff := cmp.Diff(oracle(t, m), got); diff != "" {
		t.Fatalf("the ordinary client decodes differently (-client +ours):\n%s", diff)
	}
}

func TestDecodeKeepsNullApartFromNotCaptured(t *testing.T) {
	r := cart(5, "1", "a")
	r.mods[0].after = `{"Note":null}`
	c := decodeAll(t, newTestDecoder(), message(r.row()))[0]
	if v := c.After.At(c.Table.Index("Note")); !v.IsNull() {
		t.Errorf("NULL came as %q", v)
	}
	if v := c.After.At(c.Table.Index("Items")); v != nil {
		t.Errorf("a column not captured came as %q", v)
	}
	if c.Before != nil {
		t.Errorf("an empty object came as %q", c.Before)
	}
}

func drawRecord(t *rapid.T, commit change.Timestamp) testRecord {
	names := []string{"A", "B", "Cc", "d_d", "E1", "F", "G", "H", "I", "J"}
	n := rapid.IntRange(1, len(names)).Draw(t, "columns")
	keys := rapid.IntRange(1, min(n, 3)).Draw(t, "keys")
	r := testRecord{
		commit: commit, sequence: fmt.Sprintf("%08d", rapid.IntRange(0, 12).Draw(t, "sequence")), tx: rapid.StringMatching(`[0-9]{1,20}`).Draw(t, "tx"),
		table: rapid.SampledFrom([]string{"T", "Named.U"}).Draw(t, "table"), op: rapid.SampledFrom([]string{"INSERT", "UPDATE", "DELETE"}).Draw(t, "op"),
		capture: rapid.SampledFrom([]string{"OLD_AND_NEW_VALUES", "NEW_VALUES", "NEW_ROW", "NEW_ROW_AND_OLD_VALUES"}).Draw(t, "capture"),
		tag:     rapid.SampledFrom([]string{"", "app=x,é"}).Draw(t, "tag"), records: rapid.IntRange(1, 1<<30).Draw(t, "records"), parts: rapid.IntRange(1, 9).Draw(t, "parts"),
		system: rapid.Bool().Draw(t, "system"),
	}
	kinds := make([]int, n)
	for i := range n {
		kinds[i] = rapid.IntRange(0, len(everyType)-1).Draw(t, "type")
		r.columns = append(r.columns, testColumn{names[i], everyType[kinds[i]].typ, i < keys})
	}
	object := func(from, to int, all bool) string {
		var members []string
		for _, i := range rapid.Permutation(indexes(from, to)).Draw(t, "order") {
			if !all && rapid.Bool().Draw(t, "absent") {
				continue
			}
			value := everyType[kinds[i]].value
			switch rapid.IntRange(0, 3).Draw(t, "value") {
			case 0:
				value = "null"
			case 1:
				b, err := json.Marshal(rapid.String().Draw(t, "string"))
				if err != nil {
					t.Fatal(err)
				}
				value = string(b)
			}
			members = append(members, fmt.Sprintf("%q:%s", names[i], value))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	for range rapid.IntRange(1, 4).Draw(t, "mods") {
		m := testMod{keys: object(0, keys, true), after: object(keys, n, false), before: object(keys, n, false)}
		if rapid.IntRange(0, 3).Draw(t, "null") == 0 {
			m.before = ""
		}
		r.mods = append(r.mods, m)
	}
	return r
}

func indexes(from, to int) []int {
	var out []int
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func equivalent(t *rapid.T) {
	d := newTestDecoder()
	var want []flat
	var rows []*structpb.Value
	for i := range rapid.IntRange(1, 4).Draw(t, "rows") {
		rows = append(rows, drawRecord(t, change.Timestamp(1_000+i)).row())
	}
	m := message(rows...)
	want = oracle(t, m)
	if err := d.message(m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, flatten(t, d.frames.held)); diff != "" {
		t.Fatalf("the ordinary client decodes differently (-client +ours):\n%s", diff)
	}
}

func TestDecodeLikeTheOrdinaryClient(t *testing.T) { rapid.Check(t, equivalent) }

func FuzzDecodeLikeTheOrdinaryClient(f *testing.F) { f.Fuzz(rapid.MakeFuzz(equivalent)) }

// FuzzDecode: whatever comes, decoding answers changes or an error.
func FuzzDecode(f *testing.F) {
	f.Add(message(everyTypeRecord().row()))
	f.Add(message(cart(5, "1", "a").row(), heartbeatRow("2026-01-01T00:00:00.0000001Z"), childRow(9, part("c", 9, "p"))))
	f.Add(marshal(&sppb.PartialResultSet{Metadata: metadataOf(jsonType()), Values: []*structpb.Value{text(pgRecord)}}))
	f.Add(marshal(&sppb.PartialResultSet{Metadata: metadataOf(&sppb.Type{Code: sppb.TypeCode_BYTES}), Values: []*structpb.Value{text(protoRecord())}}))
	f.Fuzz(func(t *testing.T, m []byte) {
		d := newTestDecoder()
		for range 2 {
			if err := d.message(m); err != nil {
				return
			}
		}
		for _, c := range d.frames.held {
			for _, row := range [][]change.Value{c.Key, c.After, c.Before} {
				for _, v := range row {
					if v != nil && !json.Valid(v) {
						t.Fatalf("a value that is no JSON: %q", v)
					}
				}
			}
		}
	})
}

func TestDecodeByFieldName(t *testing.T) {
	// Fields this version does not know, in front of those it does.
	typ := recordType()
	data := typ.ArrayElementType.StructType.Fields[0].Type.ArrayElementType.StructType
	data.Fields = append([]*sppb.StructType_Field{{Name: "news", Type: str()}}, data.Fields...)
	row := cart(5, "1", "a").row()
	record := row.GetListValue().Values[0].GetListValue().Values[0].GetListValue().Values[0].GetListValue()
	record.Values = append([]*structpb.Value{structpb.NewBoolValue(true)}, record.Values...)
	changes := decodeAll(t, newTestDecoder(), marshal(&sppb.PartialResultSet{Metadata: metadataOf(typ), Values: []*structpb.Value{row}}))
	if len(changes) != 1 || string(changes[0].Key[0]) != `"a"` {
		t.Fatalf("got %+v", changes)
	}
}

func TestDecodeRefuses(t *testing.T) {
	with := func(change func(r *testRecord)) []byte {
		r := cart(5, "1", "a")
		change(&r)
		return message(r.row())
	}
	unknownKind := recordType()
	unknownKind.ArrayElementType.StructType.Fields = append(unknownKind.ArrayElementType.StructType.Fields,
		&sppb.StructType_Field{Name: "surprise_record", Type: arrayOf(str())})
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"unknown operation":    {with(func(r *testRecord) { r.op = "UPSERT" }), "UPSERT"},
		"unknown capture":      {with(func(r *testRecord) { r.capture = "DIFF" }), "DIFF"},
		"malformed JSON":       {with(func(r *testRecord) { r.mods[0].after = `{"Items":1,}` }), "malformed JSON"},
		"text after":           {with(func(r *testRecord) { r.mods[0].after = `{} {}` }), "after the object"},
		"not an object":        {with(func(r *testRecord) { r.mods[0].after = `[]` }), "want an object"},
		"missing key":          {with(func(r *testRecord) { r.mods[0].keys = `{}` }), "CartId is missing"},
		"null key object":      {with(func(r *testRecord) { r.mods[0].keys = `` }), "CartId is missing"},
		"unknown column":       {with(func(r *testRecord) { r.mods[0].after = `{"Other":1}` }), "Other"},
		"unknown key column":   {with(func(r *testRecord) { r.mods[0].keys = `{"CartId":"1","Items":"2"}` }), "Items"},
		"bad column type":      {with(func(r *testRecord) { r.columns = []testColumn{{"CartId", `{}`, true}} }), "no code"},
		"bad timestamp":        {message(heartbeatRow("yesterday")), "yesterday"},
		"unknown record kind":  {marshal(&sppb.PartialResultSet{Metadata: metadataOf(unknownKind), Values: []*structpb.Value{listOf(listOf(listOf(), listOf(), listOf(), listOf(text("x"))))}}), "surprise_record"},
		"no row type":          {marshal(&sppb.PartialResultSet{Values: []*structpb.Value{heartbeatRow("2026-01-01T00:00:00Z")}}), "before their row type"},
		"another column":       {marshal(&sppb.PartialResultSet{Metadata: metadataOf(str()), Values: []*structpb.Value{text("x")}}), "STRING"},
		"not protobuf":         {[]byte{0xff}, "protobuf"},
		"change after its end": {message(childRow(9, part("c", 9, "p")), cart(9, "1", "a").row()), "after the partition's children"},
		"end before a change":  {message(cart(9, "1", "a").row(), childRow(9, part("c", 9, "p"))), "ended at"},
		"change goes back":     {message(cart(9, "1", "a").row(), cart(8, "2", "a").row()), "was said to have come"},
		"change before beat":   {message(heartbeatRow("1970-01-01T00:00:00.000010Z"), cart(9, "1", "a").row()), "was said to have come"},
	} {
		t.Run(name, func(t *testing.T) {
			err := newTestDecoder().message(c.message)
			var d *DecodeError
			if !errors.As(err, &d) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a DecodeError that says %q", err, c.want)
			}
		})
	}
}

func TestDecodePassesUnknown(t *testing.T) {
	d := newTestDecoder()
	d.pass = true
	r := cart(5, "1", "a")
	r.op, r.capture = "UPSERT", "DIFF"
	c := decodeAll(t, d, message(r.row()))
	if len(c) != 1 || c[0].Op != change.UnknownOp || c[0].Capture != change.UnknownCapture {
		t.Fatalf("got %+v", c)
	}
}

// split cuts a message into the pieces Spanner would send: each cuts the last value somewhere inside.
func split(t *rapid.T, row *structpb.Value) []*sppb.PartialResultSet {
	pieces := []*structpb.Value{row}
	for range rapid.IntRange(1, 5).Draw(t, "cuts") {
		head, tail := cutValue(t, pieces[len(pieces)-1])
		if tail == nil {
			break
		}
		pieces = append(pieces[:len(pieces)-1], head, tail)
	}
	var out []*sppb.PartialResultSet
	for i, p := range pieces {
		out = append(out, &sppb.PartialResultSet{Values: []*structpb.Value{p}, ChunkedValue: i < len(pieces)-1})
	}
	return out
}

// cutValue cuts inside a string or a list; the tail is nil where nothing can be cut.
func cutValue(t *rapid.T, v *structpb.Value) (head, tail *structpb.Value) {
	switch k := v.Kind.(type) {
	case *structpb.Value_StringValue:
		s := []rune(k.StringValue)
		at := rapid.IntRange(0, len(s)).Draw(t, "at")
		return text(string(s[:at])), text(string(s[at:]))
	case *structpb.Value_ListValue:
		values := k.ListValue.Values
		if len(values) == 0 {
			return v, nil
		}
		at := rapid.IntRange(0, len(values)-1).Draw(t, "at")
		head, tail := cutValue(t, values[at])
		if tail != nil {
			return listOf(append(append([]*structpb.Value{}, values[:at]...), head)...), listOf(append([]*structpb.Value{tail}, values[at+1:]...)...)
		}
		// Between two values a cut is only unambiguous if the value before it cannot be continued.
		for i := at; i > 0; i-- {
			if _, isBool := values[i-1].Kind.(*structpb.Value_BoolValue); isBool {
				return listOf(values[:i]...), listOf(values[i:]...)
			}
		}
	}
	return v, nil
}

func TestDecodeChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := []*structpb.Value{drawRecord(t, 10).row(), drawRecord(t, 20).row()}
		want := oracle(t, message(whole...))
		var messages []*sppb.PartialResultSet
		for _, row := range whole {
			messages = append(messages, split(t, row)...)
		}
		messages[0].Metadata = metadataOf(recordType())
		d := newTestDecoder()
		for _, m := range messages {
			if err := d.message(marshal(m)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, flatten(t, d.frames.held)); diff != "" {
			t.Fatalf("chunks decode differently (-client +ours):\n%s", diff)
		}
	})
}

func TestDecodeLargeRowInManyChunks(t *testing.T) {
	r := cart(5, "1", "a")
	r.mods[0].after = `{"Note":"` + strings.Repeat("x", 6<<20) + `"}`
	d := newTestDecoder()
	full := r.row()
	column := full.GetListValue().Values[0].GetListValue().Values[0].GetListValue().Values[0].GetListValue()
	long := column.Values[6].GetListValue().Values[0].GetListValue()
	body := long.Values[1].GetStringValue()
	rest := column.Values[7:]
	kinds := full.GetListValue().Values[0].GetListValue()
	kinds.Values = kinds.Values[:1]
	column.Values = column.Values[:7]
	long.Values = []*structpb.Value{long.Values[0], text(body[:1<<20])}
	if err := d.message(marshal(&sppb.PartialResultSet{Metadata: metadataOf(recordType()), Values: []*structpb.Value{full}, ChunkedValue: true})); err != nil {
		t.Fatal(err)
	}
	if err := d.finish(); err == nil {
		t.Fatal("a row cut in the middle counts as whole")
	}
	for at := 1 << 20; at < len(body); at += 1 << 20 {
		piece := listOf(text(body[at:min(at+1<<20, len(body))]))
		last := at+1<<20 >= len(body)
		mod := listOf(piece)
		if last {
			piece.GetListValue().Values = append(piece.GetListValue().Values, text("{}"))
		}
		data := listOf(mod)
		if last {
			data.GetListValue().Values = append(data.GetListValue().Values, rest...)
		}
		row := listOf(listOf(listOf(data)))
		if last {
			row.GetListValue().Values[0].GetListValue().Values = append(row.GetListValue().Values[0].GetListValue().Values, listOf(), listOf())
		}
		if err := d.message(marshal(&sppb.PartialResultSet{Values: []*structpb.Value{row}, ChunkedValue: !last})); err != nil {
			t.Fatal(err)
		}
	}
	c := decodeAll(t, d)[0]
	if got := len(c.After.At(c.Table.Index("Note"))); got != 6<<20+2 {
		t.Fatalf("the note has %d bytes", got)
	}
}

func TestDecodeChunkLimit(t *testing.T) {
	d := newTestDecoder()
	d.limit = 100
	m := marshal(&sppb.PartialResultSet{Metadata: metadataOf(recordType()), Values: []*structpb.Value{listOf(text(strings.Repeat("x", 60)))}, ChunkedValue: true})
	if err := d.message(m); err != nil {
		t.Fatal(err)
	}
	var large *TooLargeError
	if err := d.message(m); !errors.As(err, &large) {
		t.Fatalf("got %v, want a TooLargeError", err)
	}
}

// Rows are not overwritten by those decoded later, and appending to one reaches no other.
func TestDecodeRowsDoNotOverlap(t *testing.T) {
	d := newTestDecoder()
	changes := decodeAll(t, d, message(cart(5, "1", "a").row(), cart(6, "2", "b").row(), everyTypeRecord().row()))
	before := flatten(t, changes)
	for _, c := range changes {
		for _, row := range [][]change.Value{c.Key, c.After, c.Before} {
			_ = append(row, change.Value("1"))
			for _, v := range row {
				_ = append(v, "junk"...)
			}
		}
	}
	decodeAll(t, d, message(cart(1_000_001, "9", "zzz").row()))
	if diff := cmp.Diff(before, flatten(t, changes)); diff != "" {
		t.Fatal(diff)
	}
}

const pgRecord = `{"data_change_record":{"commit_timestamp":"2026-01-02T03:04:05.678901+00:00","record_sequence":"00000000",
"server_transaction_id":"77","is_last_record_in_transaction_in_partition":true,"table_name":"carts",
"column_types":[{"name":"id","type":{"code":"STRING"},"is_primary_key":true,"ordinal_position":1},
{"name":"price","type":{"code":"NUMERIC","type_annotation":"PG_NUMERIC"},"is_primary_key":false,"ordinal_position":2}],
"mods":[{"keys":{"id":"a"},"new_values":{"price":"NaN"},"old_values":{}},{"keys":{"id":"b"},"new_values":{"price":null},"old_values":null}],
"mod_type":"UPDATE","value_capture_type":"NEW_VALUES","number_of_records_in_transaction":2,"number_of_partitions_in_transaction":1,
"transaction_tag":"with \"quotes\"","is_system_transaction":false}}`

func TestDecodePostgreSQL(t *testing.T) {
	d := newTestDecoder()
	m := &sppb.PartialResultSet{Metadata: metadataOf(&sppb.Type{Code: sppb.TypeCode_JSON, TypeAnnotation: sppb.TypeAnnotationCode_PG_JSONB}), Values: []*structpb.Value{text(pgRecord)}}
	got := flatten(t, decodeAll(t, d, marshal(m)))
	base := flat{Table: "carts", Op: "UPDATE", Capture: "NEW_VALUES", Tag: `with "quotes"`, Records: 2, Partitions: 1}
	first, second := base, base
	at := change.TimestampOf(time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC))
	first.Position = change.Position{Commit: at, Transaction: "77", Sequence: "00000000"}.String()
	first.Key, first.After = map[string]any{"id": "a"}, map[string]any{"price": "NaN"}
	second.Position = change.Position{Commit: at, Transaction: "77", Sequence: "00000000", Mod: 1}.String()
	second.Key, second.After = map[string]any{"id": "b"}, map[string]any{"price": nil}
	if diff := cmp.Diff([]flat{first, second}, got); diff != "" {
		t.Fatal(diff)
	}
	tail := `{"child_partitions_record":{"start_timestamp":"2027-01-01T00:00:00Z","record_sequence":"1","child_partitions":[{"token":"c","parent_partition_tokens":["p",null]}]}}`
	beat := `{"heartbeat_record":{"timestamp":"2026-06-01T02:00:00.0000019+02:00"}}`
	if err := d.message(marshal(&sppb.PartialResultSet{Values: []*structpb.Value{text(beat)}})); err != nil {
		t.Fatal(err)
	}
	if want := change.TimestampOf(time.Date(2026, 6, 1, 0, 0, 0, 1000, time.UTC)); d.frames.proven != want {
		t.Fatalf("the heartbeat proved %v, want %v", d.frames.proven, want)
	}
	if err := d.message(marshal(&sppb.PartialResultSet{Values: []*structpb.Value{text(tail)}})); err != nil {
		t.Fatal(err)
	}
	if want := []change.Partition{part("c", change.TimestampOf(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), "p")}; !reflect.DeepEqual(d.frames.children, want) {
		t.Fatalf("children: %+v", d.frames.children)
	}
}

func TestJSONScannerAgreesWithTheStandardLibrary(t *testing.T) {
	for _, s := range jsonSeeds {
		agree(t, []byte(s))
	}
}

var jsonSeeds = []string{`{}`, `{"a":1}`, `{"a":1,}`, `{,}`, `[1,2]`, `[1,]`, `[,]`, `-`, `-0`, `01`, `1.`, `1.5e+9`, `1e`, `"\u12g4"`, `"\ud800"`, `"\x"`, "\"\x01\"", `nul`, `true false`, ` [ ] `, `{"a" 1}`,
	`{"a":{"b":[{"c":null}]}}`, `"unterminated`, ``, ` `, `{"\"":0}`, "\"\xff\"", `[[[[[]]]]]`}

func agree(t *testing.T, b []byte) {
	t.Helper()
	i := skipSpace(b, 0)
	j, err := scanValue(b, i, 0)
	if err == nil && skipSpace(b, j) != len(b) {
		err = errors.New("trailing text")
	}
	if valid := json.Valid(b); valid != (err == nil) && bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) < maxJSONDepth {
		t.Fatalf("%q: valid %v, but the scanner says %v", b, valid, err)
	}
}

func FuzzJSONScanner(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(agree)
}

func FuzzTimestamp(f *testing.F) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2024-02-29T23:59:59.999999999Z", "2023-02-29T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-01-02T03:04:05.1+02:00", "1969-12-31T23:59:59.5Z", "2000-03-01T00:00:00.Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTimestamp([]byte(s))
		want, wantErr := time.Parse(time.RFC3339Nano, s)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, package time says %v", s, err, wantErr)
		}
		if err == nil && (got != change.TimestampOf(want) || belowMicro([]byte(s)) != (want.Nanosecond()%1000 != 0)) && !strings.Contains(s, ",") {
			t.Fatalf("%q: got %v, want %v", s, got, want)
		}
	})
}

package changestream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

// The decoder against the ordinary client's decoding, in every form. From drawn records both must get the same; of arbitrary
// bytes, whatever the decoder accepts the other must accept and read alike.

// clientRow decodes a row as the ordinary client does.
func clientRow(typ *sppb.Type, v *structpb.Value, into any) error {
	row, err := spanner.NewRow([]string{"ChangeRecord"}, []any{spanner.GenericColumnValue{Type: typ, Value: v}})
	if err != nil {
		return err
	}
	return row.Column(0, into)
}

func pgType() *sppb.Type {
	return &sppb.Type{Code: sppb.TypeCode_JSON, TypeAnnotation: sppb.TypeAnnotationCode_PG_JSONB}
}

// pgOracle decodes the PostgreSQL form by the ordinary client into structs.
func pgOracle(v *structpb.Value) ([]flat, error) {
	var j spanner.PGJsonB
	if err := clientRow(pgType(), v, &j); err != nil {
		return nil, err
	}
	b, err := json.Marshal(j.Value)
	if err != nil {
		return nil, err
	}
	var in struct {
		Data *struct {
			Commit      time.Time `json:"commit_timestamp"`
			Sequence    string    `json:"record_sequence"`
			Transaction string    `json:"server_transaction_id"`
			Table       string    `json:"table_name"`
			Mods        []struct {
				Keys map[string]any `json:"keys"`
				New  map[string]any `json:"new_values"`
				Old  map[string]any `json:"old_values"`
			} `json:"mods"`
			Op         string  `json:"mod_type"`
			Capture    string  `json:"value_capture_type"`
			Records    float64 `json:"number_of_records_in_transaction"`
			Partitions float64 `json:"number_of_partitions_in_transaction"`
			Tag        string  `json:"transaction_tag"`
			System     bool    `json:"is_system_transaction"`
		} `json:"data_change_record"`
	}
	if err := json.Unmarshal(b, &in); err != nil || in.Data == nil {
		return nil, err
	}
	var out []flat
	d := in.Data
	for i, m := range d.Mods {
		p := change.Position{Commit: change.TimestampOf(d.Commit), Transaction: d.Transaction, Sequence: d.Sequence, Mod: int32(i)}
		out = append(out, flat{
			Position: p.String(), Table: d.Table, Op: d.Op, Capture: d.Capture, Tag: d.Tag, System: d.System, Records: int32(d.Records),
			Partitions: int32(d.Partitions), Key: orNil(m.Keys), After: orNil(m.New), Before: orNil(m.Old),
		})
	}
	return out, nil
}

func orNil(m map[string]any) map[string]any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// protoOracle decodes the protobuf form by the generated messages.
func protoOracle(b []byte) ([]flat, error) {
	var r sppb.ChangeStreamRecord
	if err := proto.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	d := r.GetDataChangeRecord()
	var out []flat
	for i, m := range d.GetMods() {
		p := change.Position{Commit: change.TimestampOf(d.GetCommitTimestamp().AsTime()), Transaction: d.GetServerTransactionId(), Sequence: d.GetRecordSequence(), Mod: int32(i)}
		object := func(values []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue, keys bool) (map[string]any, error) {
			o := map[string]any{}
			for _, v := range values {
				if int(v.GetColumnMetadataIndex()) >= len(d.GetColumnMetadata()) || v.GetColumnMetadataIndex() < 0 {
					return nil, fmt.Errorf("column %d", v.GetColumnMetadataIndex())
				}
				if c := d.GetColumnMetadata()[v.GetColumnMetadataIndex()]; c.GetIsPrimaryKey() == keys {
					o[c.GetName()] = plain(v.GetValue())
				}
			}
			return orNil(o), nil
		}
		f := flat{
			Position: p.String(), Table: d.GetTable(), Op: d.GetModType().String(), Capture: d.GetValueCaptureType().String(), Tag: d.GetTransactionTag(),
			System: d.GetIsSystemTransaction(), Records: d.GetNumberOfRecordsInTransaction(), Partitions: d.GetNumberOfPartitionsInTransaction(),
		}
		var errs [3]error
		f.Key, errs[0] = object(m.GetKeys(), true)
		f.After, errs[1] = object(m.GetNewValues(), false)
		f.Before, errs[2] = object(m.GetOldValues(), false)
		for _, err := range errs {
			if err != nil {
				return nil, err
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// plain is a value as JSON can say it.
func plain(v *structpb.Value) any {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		switch f := k.NumberValue; {
		case math.IsNaN(f):
			return "NaN"
		case math.IsInf(f, 1):
			return "Infinity"
		case math.IsInf(f, -1):
			return "-Infinity"
		}
	case *structpb.Value_ListValue:
		out := []any{}
		for _, e := range k.ListValue.GetValues() {
			out = append(out, plain(e))
		}
		return out
	}
	return v.AsInterface()
}

// pg writes a record in the PostgreSQL form.
func (r testRecord) pg(offset string) string {
	var columns, mods []string
	for i, c := range r.columns {
		columns = append(columns, fmt.Sprintf(`{"name":%q,"type":%s,"is_primary_key":%v,"ordinal_position":%d}`, c.name, c.typ, c.key, i+1))
	}
	object := func(s string) string {
		if s == "" {
			return "null"
		}
		return s
	}
	for _, m := range r.mods {
		mods = append(mods, fmt.Sprintf(`{"keys":%s,"new_values":%s,"old_values":%s}`, object(m.keys), object(m.after), object(m.before)))
	}
	tag, _ := json.Marshal(r.tag)
	return fmt.Sprintf(`{"data_change_record":{"commit_timestamp":%q,"record_sequence":%q,"server_transaction_id":%q,"is_last_record_in_transaction_in_partition":true,
"table_name":%q,"column_types":[%s],"mods":[%s],"mod_type":%q,"value_capture_type":%q,"number_of_records_in_transaction":%d,
"number_of_partitions_in_transaction":%d,"transaction_tag":%s,"is_system_transaction":%v}}`, strings.TrimSuffix(r.commit.String(), "Z")+offset, r.sequence, r.tx,
		r.table, strings.Join(columns, ","), strings.Join(mods, ","), r.op, r.capture, r.records, r.parts, tag, r.system)
}

func drawPG(t *rapid.T) {
	r := drawRecord(t, 1_000_000)
	offset := rapid.SampledFrom([]string{"Z", "+00:00", "-07:30", "-00:00"}).Draw(t, "offset")
	v := text(r.pg(offset))
	want, err := pgOracle(v)
	if err != nil {
		t.Fatal(err)
	}
	d := newTestDecoder()
	if err := d.message(marshal(&sppb.PartialResultSet{Metadata: metadataOf(pgType()), Values: []*structpb.Value{v}})); err != nil {
		t.Fatalf("%v\n%s", err, v.GetStringValue())
	}
	if diff := cmp.Diff(want, flatten(t, d.frames.held)); diff != "" {
		t.Fatalf("the ordinary client decodes differently (-client +ours):\n%s", diff)
	}
}

func TestDecodePostgreSQLLikeTheOrdinaryClient(t *testing.T) { rapid.Check(t, drawPG) }

func FuzzPostgreSQLForm(f *testing.F) {
	for _, s := range []string{
		everyTypeRecord().pg("Z"), cart(5, "1", "a").pg("+02:00"), pgRecord,
		`{"heartbeat_record":{"timestamp":"2026-06-01T02:00:00.0000019+02:00"}}`,
		`{"child_partitions_record":{"start_timestamp":"2027-01-01T00:00:00Z","record_sequence":"1","child_partitions":[{"token":"c","parent_partition_tokens":["p",null]}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newTestDecoder()
		d.layout = &layout{form: formJSON}
		if err := d.jsonRow(value{kind: kindString, data: b}); err != nil {
			return
		}
		for name := range dataFields { // encoding/json does not mind their case
			if s := string(b); strings.Count(strings.ToLower(s), name) != strings.Count(s, name) {
				t.Skip()
			}
		}
		want, err := pgOracle(text(string(b)))
		if err != nil {
			if strings.Contains(err.Error(), "cannot unmarshal") || strings.Contains(err.Error(), "cannot parse") || strings.Contains(err.Error(), "parsing time") {
				t.Skip() // it wants one JSON type where the decoder takes the text of any
			}
			t.Fatalf("the ordinary client refuses it: %v\n%q", err, b)
		}
		if diff := cmp.Diff(want, flatten(t, d.frames.held)); diff != "" {
			t.Fatalf("the ordinary client decodes differently (-client +ours):\n%s", diff)
		}
	})
}

// proto writes a record in the protobuf form. It panics where the test's own record is malformed.
func (r testRecord) proto() []byte {
	type record = sppb.ChangeStreamRecord_DataChangeRecord
	type modValue = sppb.ChangeStreamRecord_DataChangeRecord_ModValue
	values := func(object string) []*modValue {
		in := map[string]any{}
		if object != "" {
			if err := json.Unmarshal([]byte(object), &in); err != nil {
				panic(err)
			}
		}
		var out []*modValue
		for i, c := range r.columns {
			if v, ok := in[c.name]; ok {
				value, err := structpb.NewValue(v)
				if err != nil {
					panic(err)
				}
				out = append(out, &modValue{ColumnMetadataIndex: int32(i), Value: value})
			}
		}
		return out
	}
	d := &record{
		CommitTimestamp: timestamppb.New(r.commit.Time()), RecordSequence: r.sequence, ServerTransactionId: r.tx, Table: r.table,
		ModType: sppb.ChangeStreamRecord_DataChangeRecord_ModType(sppb.ChangeStreamRecord_DataChangeRecord_ModType_value[r.op]),
		ValueCaptureType: sppb.ChangeStreamRecord_DataChangeRecord_ValueCaptureType(
			sppb.ChangeStreamRecord_DataChangeRecord_ValueCaptureType_value[r.capture]),
		NumberOfRecordsInTransaction: int32(r.records), NumberOfPartitionsInTransaction: int32(r.parts), TransactionTag: r.tag, IsSystemTransaction: r.system,
	}
	for i, c := range r.columns {
		d.ColumnMetadata = append(d.ColumnMetadata, &sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata{
			Name: c.name, Type: &sppb.Type{Code: sppb.TypeCode_STRING}, IsPrimaryKey: c.key, OrdinalPosition: int64(i + 1),
		})
	}
	for _, m := range r.mods {
		d.Mods = append(d.Mods, &sppb.ChangeStreamRecord_DataChangeRecord_Mod{Keys: values(m.keys), NewValues: values(m.after), OldValues: values(m.before)})
	}
	return marshal(&sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_DataChangeRecord_{DataChangeRecord: d}})
}

// drawProto draws a record with values as protobuf has them.
func drawProto(t *rapid.T) {
	r := drawRecord(t, 1_000_000)
	type data = sppb.ChangeStreamRecord_DataChangeRecord
	d := &data{
		CommitTimestamp: timestamppb.New(r.commit.Time()), RecordSequence: r.sequence, ServerTransactionId: r.tx, Table: r.table,
		ModType: sppb.ChangeStreamRecord_DataChangeRecord_ModType(rapid.SampledFrom([]int32{10, 20, 30}).Draw(t, "op")),
		ValueCaptureType: sppb.ChangeStreamRecord_DataChangeRecord_ValueCaptureType(
			rapid.SampledFrom([]int32{10, 20, 30, 40}).Draw(t, "capture")),
		NumberOfRecordsInTransaction: int32(r.records), NumberOfPartitionsInTransaction: int32(r.parts), TransactionTag: r.tag, IsSystemTransaction: r.system,
		IsLastRecordInTransactionInPartition: rapid.Bool().Draw(t, "last"),
	}
	keys := 0
	for i, c := range r.columns {
		d.ColumnMetadata = append(d.ColumnMetadata, &sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata{
			Name: c.name, Type: &sppb.Type{Code: sppb.TypeCode_STRING}, IsPrimaryKey: c.key, OrdinalPosition: int64(i + 1),
		})
		if c.key {
			keys++
		}
	}
	var drawValue func(depth int) *structpb.Value
	drawValue = func(depth int) *structpb.Value {
		switch rapid.IntRange(0, 4+depth).Draw(t, "kind") {
		case 0:
			return structpb.NewNullValue()
		case 1:
			return structpb.NewBoolValue(rapid.Bool().Draw(t, "bool"))
		case 2:
			return structpb.NewNumberValue(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 1e300, 5e-324})).Draw(t, "number"))
		case 5:
			l := &structpb.ListValue{}
			for range rapid.IntRange(0, 3).Draw(t, "elements") {
				l.Values = append(l.Values, drawValue(0))
			}
			return structpb.NewListValue(l)
		}
		return text(rapid.String().Draw(t, "string"))
	}
	values := func(from, to int, all bool) []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue {
		var out []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue
		for _, i := range rapid.Permutation(indexes(from, to)).Draw(t, "order") {
			if all || rapid.Bool().Draw(t, "there") {
				out = append(out, &sppb.ChangeStreamRecord_DataChangeRecord_ModValue{ColumnMetadataIndex: int32(i), Value: drawValue(1)})
			}
		}
		return out
	}
	for range r.mods {
		d.Mods = append(d.Mods, &sppb.ChangeStreamRecord_DataChangeRecord_Mod{
			Keys: values(0, keys, true), NewValues: values(keys, len(r.columns), false), OldValues: values(keys, len(r.columns), false),
		})
	}
	b := marshal(&sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_DataChangeRecord_{DataChangeRecord: d}})
	want, err := protoOracle(b)
	if err != nil {
		t.Fatal(err)
	}
	dec := newTestDecoder()
	if err := dec.message(protoMessage(base64.StdEncoding.EncodeToString(b))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, flatten(t, dec.frames.held)); diff != "" {
		t.Fatalf("the generated messages decode differently (-they +ours):\n%s", diff)
	}
}

func TestDecodeProtoLikeTheGeneratedMessages(t *testing.T) { rapid.Check(t, drawProto) }

func FuzzProtoForm(f *testing.F) {
	b, err := base64.StdEncoding.DecodeString(protoRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(marshal(&sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_HeartbeatRecord_{HeartbeatRecord: &sppb.ChangeStreamRecord_HeartbeatRecord{Timestamp: &timestamppb.Timestamp{Seconds: 2, Nanos: 1999}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newTestDecoder()
		d.layout = &layout{form: formProto}
		if err := d.protoRow(value{kind: kindString, data: []byte(base64.StdEncoding.EncodeToString(b))}); err != nil {
			return
		}
		want, err := protoOracle(b)
		if err != nil {
			t.Fatalf("the generated messages refuse it: %v\n%x", err, b)
		}
		if diff := cmp.Diff(want, flatten(t, d.frames.held)); diff != "" {
			t.Fatalf("the generated messages decode differently (-they +ours):\n%s", diff)
		}
	})
}

// FuzzRowForm takes the bytes of a row, a google.protobuf.Value.
func FuzzRowForm(f *testing.F) {
	f.Add(marshal(everyTypeRecord().row()))
	f.Add(marshal(cart(5, "1", "a").row()))
	f.Add(marshal(heartbeatRow("2026-01-01T00:00:00.0000001Z")))
	f.Add(marshal(childRow(9, part("c", 9, "p"))))
	form, err := parseLayout(marshal(metadataOf(recordType())), false)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newTestDecoder()
		d.layout = form
		if err := d.row(b); err != nil {
			return
		}
		var v structpb.Value
		if err := proto.Unmarshal(b, &v); err != nil {
			if strings.Contains(err.Error(), "invalid UTF-8") {
				t.Skip() // in a string that the decoder passes over
			}
			t.Fatalf("protobuf refuses it: %v\n%x", err, b)
		}
		var records []*oracleRecord
		if err := clientRow(recordType(), &v, &records); err != nil {
			t.Skip() // it wants every field to be there, in its own type
		}
		want := oracle(t, marshal(&sppb.PartialResultSet{Values: []*structpb.Value{&v}}))
		if diff := cmp.Diff(want, flatten(t, d.frames.held)); diff != "" {
			t.Fatalf("the ordinary client decodes differently (-client +ours):\n%s", diff)
		}
	})
}

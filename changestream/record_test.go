package changestream

import (
	"encoding/base64"
	"fmt"
	"google.golang.org/protobuf/types/known/timestamppb"
	"log/slog"
	"math"
	"strconv"
	"testing"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
)

// This file writes change records as Spanner sends them, for the other tests.

func str() *sppb.Type       { return &sppb.Type{Code: sppb.TypeCode_STRING} }
func ts() *sppb.Type        { return &sppb.Type{Code: sppb.TypeCode_TIMESTAMP} }
func boolean() *sppb.Type   { return &sppb.Type{Code: sppb.TypeCode_BOOL} }
func int64Type() *sppb.Type { return &sppb.Type{Code: sppb.TypeCode_INT64} }
func jsonType() *sppb.Type  { return &sppb.Type{Code: sppb.TypeCode_JSON} }
func arrayOf(t *sppb.Type) *sppb.Type {
	return &sppb.Type{Code: sppb.TypeCode_ARRAY, ArrayElementType: t}
}

type namedType struct {
	name string
	typ  *sppb.Type
}

func structType(fields ...namedType) *sppb.Type {
	s := &sppb.StructType{}
	for _, f := range fields {
		s.Fields = append(s.Fields, &sppb.StructType_Field{Name: f.name, Type: f.typ})
	}
	return &sppb.Type{Code: sppb.TypeCode_STRUCT, StructType: s}
}

// recordType is the type of the column ChangeRecord with immutable key ranges in GoogleSQL.
func recordType() *sppb.Type {
	return arrayOf(structType(
		namedType{"data_change_record", arrayOf(structType(
			namedType{"commit_timestamp", ts()},
			namedType{"record_sequence", str()},
			namedType{"server_transaction_id", str()},
			namedType{"is_last_record_in_transaction_in_partition", boolean()},
			namedType{"table_name", str()},
			namedType{"column_types", arrayOf(structType(namedType{"name", str()}, namedType{"type", jsonType()},
				namedType{"is_primary_key", boolean()}, namedType{"ordinal_position", int64Type()}))},
			namedType{"mods", arrayOf(structType(namedType{"keys", jsonType()}, namedType{"new_values", jsonType()}, namedType{"old_values", jsonType()}))},
			namedType{"mod_type", str()},
			namedType{"value_capture_type", str()},
			namedType{"number_of_records_in_transaction", int64Type()},
			namedType{"number_of_partitions_in_transaction", int64Type()},
			namedType{"transaction_tag", str()},
			namedType{"is_system_transaction", boolean()},
		))},
		namedType{"heartbeat_record", arrayOf(structType(namedType{"timestamp", ts()}))},
		namedType{"child_partitions_record", arrayOf(structType(
			namedType{"start_timestamp", ts()},
			namedType{"record_sequence", str()},
			namedType{"child_partitions", arrayOf(structType(namedType{"token", str()}, namedType{"parent_partition_tokens", arrayOf(str())}))},
		))},
	))
}

func metadataOf(t *sppb.Type) *sppb.ResultSetMetadata {
	return &sppb.ResultSetMetadata{RowType: &sppb.StructType{Fields: []*sppb.StructType_Field{{Name: "ChangeRecord", Type: t}}}}
}

func text(s string) *structpb.Value { return structpb.NewStringValue(s) }

// jsonValue is JSON text, or NULL for "".
func jsonValue(s string) *structpb.Value {
	if s == "" {
		return structpb.NewNullValue()
	}
	return text(s)
}

func listOf(values ...*structpb.Value) *structpb.Value {
	return structpb.NewListValue(&structpb.ListValue{Values: values})
}

type testColumn struct {
	name, typ string
	key       bool
}

type testMod struct{ keys, after, before string }

type testRecord struct {
	commit           change.Timestamp
	sequence, tx     string
	table            string
	columns          []testColumn
	mods             []testMod
	op, capture, tag string
	records, parts   int
	system           bool
}

// cartColumns are the columns of the records most tests use.
var cartColumns = []testColumn{
	{"CartId", `{"code":"STRING"}`, true},
	{"Items", `{"code":"INT64"}`, false},
	{"Note", `{"code":"STRING"}`, false},
}

// cart is an insert of one row.
func cart(commit change.Timestamp, tx, id string) testRecord {
	return testRecord{
		commit: commit, sequence: "00000000", tx: tx, table: "Carts", columns: cartColumns,
		mods: []testMod{{keys: fmt.Sprintf(`{"CartId":%q}`, id), after: `{"Items":"1","Note":null}`, before: "{}"}},
		op:   "INSERT", capture: "NEW_ROW_AND_OLD_VALUES", records: 1, parts: 1,
	}
}

func (r testRecord) row() *structpb.Value {
	var columns, mods []*structpb.Value
	for i, c := range r.columns {
		columns = append(columns, listOf(text(c.name), text(c.typ), structpb.NewBoolValue(c.key), text(strconv.Itoa(i+1))))
	}
	for _, m := range r.mods {
		mods = append(mods, listOf(jsonValue(m.keys), jsonValue(m.after), jsonValue(m.before)))
	}
	data := listOf(text(r.commit.String()), text(r.sequence), text(r.tx), structpb.NewBoolValue(true), text(r.table), listOf(columns...), listOf(mods...),
		text(r.op), text(r.capture), text(strconv.Itoa(r.records)), text(strconv.Itoa(r.parts)), text(r.tag), structpb.NewBoolValue(r.system))
	return listOf(listOf(listOf(data), structpb.NewNullValue(), listOf()))
}

func heartbeatRow(timestamp string) *structpb.Value {
	return listOf(listOf(listOf(), listOf(listOf(text(timestamp))), structpb.NewNullValue()))
}

func childRow(start change.Timestamp, children ...change.Partition) *structpb.Value {
	var tokens []*structpb.Value
	for _, c := range children {
		parents := []*structpb.Value{}
		for _, p := range c.Parents {
			parents = append(parents, text(p))
		}
		if len(parents) == 0 {
			parents = append(parents, structpb.NewNullValue()) // as documented
		}
		tokens = append(tokens, listOf(text(c.Token), listOf(parents...)))
	}
	return listOf(listOf(listOf(), listOf(), listOf(listOf(text(start.String()), text("00000001"), listOf(tokens...)))))
}

// message is a PartialResultSet with these rows and a row type.
func message(rows ...*structpb.Value) []byte {
	return marshal(&sppb.PartialResultSet{Metadata: metadataOf(recordType()), Values: rows, ResumeToken: []byte("token")})
}

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// newTestDecoder decodes into a framer that has promised everything before 1 µs.
func newTestDecoder() *decoder {
	log := slog.New(slog.DiscardHandler)
	return &decoder{token: "p", unions: newUnions(nil, log), log: log, limit: 1 << 30, frames: newFramer("p", 0, 1<<30)}
}

// decodeAll decodes messages and answers every change in them.
func decodeAll(t testing.TB, d *decoder, messages ...[]byte) []change.Change {
	t.Helper()
	for _, m := range messages {
		if err := d.message(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.finish(); err != nil {
		t.Fatal(err)
	}
	return d.frames.held
}

// protoRecord is a data change record as streams with mutable key ranges send it.
func protoRecord() string {
	type data = sppb.ChangeStreamRecord_DataChangeRecord
	value := func(column int32, v *structpb.Value) *sppb.ChangeStreamRecord_DataChangeRecord_ModValue {
		return &sppb.ChangeStreamRecord_DataChangeRecord_ModValue{ColumnMetadataIndex: column, Value: v}
	}
	column := func(name string, typ *sppb.Type, key bool, ordinal int64) *sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata {
		return &sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata{Name: name, Type: typ, IsPrimaryKey: key, OrdinalPosition: ordinal}
	}
	r := &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_DataChangeRecord_{DataChangeRecord: &data{
		CommitTimestamp: &timestamppb.Timestamp{Seconds: 1, Nanos: 5000}, RecordSequence: "00000000", ServerTransactionId: "7",
		IsLastRecordInTransactionInPartition: true, Table: "Carts",
		ColumnMetadata: []*sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata{
			column("Id", int64Type(), true, 1), column("Note", str(), false, 2), column("Sizes", arrayOf(&sppb.Type{Code: sppb.TypeCode_FLOAT64}), false, 3),
		},
		Mods: []*sppb.ChangeStreamRecord_DataChangeRecord_Mod{{
			Keys:      []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue{value(0, text("12"))},
			OldValues: []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue{value(1, structpb.NewNullValue())},
			NewValues: []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue{
				value(2, listOf(structpb.NewNumberValue(1e6), structpb.NewNumberValue(math.NaN()), structpb.NewNullValue(), structpb.NewNumberValue(-0.5))),
				value(1, text("a \"b\"\\\n\x01é")),
			},
		}},
		ModType: 20, ValueCaptureType: 10, NumberOfRecordsInTransaction: 3, NumberOfPartitionsInTransaction: 2, TransactionTag: "tag", IsSystemTransaction: true,
	}}}
	return base64.StdEncoding.EncodeToString(marshal(r))
}

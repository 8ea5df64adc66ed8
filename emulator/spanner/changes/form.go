package changes

import (
	"fmt"

	"cloud.google.com/go/spanner/apiv1/spannerpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// form is how a stream's rows are written: by the database's dialect and the stream's partition mode.
type form uint8

const (
	structForm form = iota // GoogleSQL, immutable key ranges: ARRAY<STRUCT>
	jsonForm               // PostgreSQL, immutable key ranges: one JSONB object
	protoForm              // mutable key ranges in both dialects: a serialized ChangeStreamRecord
)

func (s *stream) form() form {
	switch {
	case s.mutable:
		return protoForm
	case s.log.opts.PostgreSQL:
		return jsonForm
	}
	return structForm
}

// FunctionName is the name of the read function of a stream: READ_<stream> in GoogleSQL; read_json_<stream>, or
// read_proto_bytes_<stream> with mutable key ranges, in PostgreSQL (there in the schema "spanner").
func FunctionName(stream string, postgreSQL, mutable bool) string {
	switch {
	case !postgreSQL:
		return "READ_" + stream
	case mutable:
		return "read_proto_bytes_" + stream
	}
	return "read_json_" + stream
}

// RowType is the result type of the stream's read function: one field. NOT_FOUND if there is no such stream.
func (l *Log) RowType(name string) (*spannerpb.StructType, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.stream(name)
	if err != nil {
		return nil, err
	}
	field := func(column string, t *spannerpb.Type) *spannerpb.StructType {
		return &spannerpb.StructType{Fields: []*spannerpb.StructType_Field{{Name: column, Type: t}}}
	}
	function := FunctionName(name, l.opts.PostgreSQL, s.mutable)
	switch {
	case s.mutable && l.opts.PostgreSQL:
		return field(function, scalar(spannerpb.TypeCode_BYTES)), nil
	case s.mutable:
		return field("ChangeRecord", &spannerpb.Type{Code: spannerpb.TypeCode_PROTO, ProtoTypeFqn: "google.spanner.v1.ChangeStreamRecord"}), nil
	case l.opts.PostgreSQL:
		return field(function, &spannerpb.Type{Code: spannerpb.TypeCode_JSON, TypeAnnotation: spannerpb.TypeAnnotationCode_PG_JSONB}), nil
	}
	return field("ChangeRecord", changeRecordType()), nil
}

func changeRecordType() *spannerpb.Type {
	str, boolean, integer := scalar(spannerpb.TypeCode_STRING), scalar(spannerpb.TypeCode_BOOL), scalar(spannerpb.TypeCode_INT64)
	ts, json := scalar(spannerpb.TypeCode_TIMESTAMP), scalar(spannerpb.TypeCode_JSON)
	columnTypes := structs("name", str, "type", json, "is_primary_key", boolean, "ordinal_position", integer)
	mods := structs("keys", json, "new_values", json, "old_values", json)
	data := structs("commit_timestamp", ts, "record_sequence", str, "server_transaction_id", str,
		"is_last_record_in_transaction_in_partition", boolean, "table_name", str, "column_types", columnTypes, "mods", mods,
		"mod_type", str, "value_capture_type", str, "number_of_records_in_transaction", integer,
		"number_of_partitions_in_transaction", integer, "transaction_tag", str, "is_system_transaction", boolean)
	heartbeat := structs("timestamp", ts)
	children := structs("start_timestamp", ts, "record_sequence", str, "child_partitions",
		structs("token", str, "parent_partition_tokens", array(str)))
	return structs("data_change_record", data, "heartbeat_record", heartbeat, "child_partitions_record", children)
}

func scalar(c spannerpb.TypeCode) *spannerpb.Type { return &spannerpb.Type{Code: c} }

func array(elem *spannerpb.Type) *spannerpb.Type {
	return &spannerpb.Type{Code: spannerpb.TypeCode_ARRAY, ArrayElementType: elem}
}

// structs is ARRAY<STRUCT<...>> of alternating names and types.
func structs(namesAndTypes ...any) *spannerpb.Type {
	st := &spannerpb.StructType{}
	for i := 0; i < len(namesAndTypes); i += 2 {
		st.Fields = append(st.Fields, &spannerpb.StructType_Field{Name: namesAndTypes[i].(string), Type: namesAndTypes[i+1].(*spannerpb.Type)})
	}
	return array(&spannerpb.Type{Code: spannerpb.TypeCode_STRUCT, StructType: st})
}

func modType(op store.Op) string {
	switch op {
	case store.Insert:
		return "INSERT"
	case store.Update:
		return "UPDATE"
	}
	return "DELETE"
}

func sequenceText(n int) string { return fmt.Sprintf("%08d", n) }

// encoded is the record's row in wire form. The rows it was made from are let go, so that a record read once holds its
// encoding only, and a commit goes once all its records were read.
func (d *dataRecord) encoded() []byte {
	d.encode.Do(func() {
		switch d.txn.form {
		case structForm:
			d.wire = d.structRow()
		case jsonForm:
			d.wire = textValue(d.jsonRow())
		case protoForm:
			d.wire = d.protoRow()
		}
		d.mods, d.txn, d.columns = nil, nil, nil
	})
	return d.wire
}

// appendObject appends the JSON object of some columns of a row.
func (v *view) appendObject(b []byte, columns []int, row store.Row) []byte {
	b = append(b, '{')
	for n, i := range columns {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, v.table.Columns[i].Name), ':')
		var value store.Value
		if i < len(row) {
			value = row[i]
		}
		b = appendJSON(b, v.table.Columns[i].Type, value)
	}
	return append(b, '}')
}

// keyRow is the row that holds a change's key.
func keyRow(ch *store.RowChange) store.Row {
	if ch.New != nil {
		return ch.New
	}
	return ch.Old
}

package changestream

import (
	"fmt"
	"slices"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/proto"
)

// A query's first message says what its column is made of. Structs come as lists of values in the order of their fields, so
// a layout translates places into fields once per query; a field this version does not know is passed over.

// form is how a query's rows are encoded.
type form uint8

const (
	// formStruct: GoogleSQL, immutable key ranges: an array of structs.
	formStruct form = iota + 1
	// formJSON: PostgreSQL, immutable key ranges: one JSONB value.
	formJSON
	// formProto: mutable key ranges in both dialects: google.spanner.v1.ChangeStreamRecord, in base64.
	formProto
)

// field is one member of a change record, in any of its forms.
type field uint8

const (
	fieldUnknown field = iota
	fieldData
	fieldHeartbeat
	fieldChildren

	fieldCommit
	fieldSequence
	fieldTransaction
	fieldLast
	fieldTable
	fieldColumns
	fieldMods
	fieldModType
	fieldCapture
	fieldRecords
	fieldPartitions
	fieldTag
	fieldSystem

	fieldName
	fieldType
	fieldKey
	fieldOrdinal

	fieldKeys
	fieldNew
	fieldOld

	fieldTimestamp

	fieldStart
	fieldTokens
	fieldToken
	fieldParents
)

var (
	recordFields = map[string]field{
		"data_change_record": fieldData, "heartbeat_record": fieldHeartbeat, "child_partitions_record": fieldChildren,
	}
	dataFields = map[string]field{
		"commit_timestamp": fieldCommit, "record_sequence": fieldSequence, "server_transaction_id": fieldTransaction,
		"is_last_record_in_transaction_in_partition": fieldLast, "table_name": fieldTable, "column_types": fieldColumns,
		"mods": fieldMods, "mod_type": fieldModType, "value_capture_type": fieldCapture,
		"number_of_records_in_transaction": fieldRecords, "number_of_partitions_in_transaction": fieldPartitions,
		"transaction_tag": fieldTag, "is_system_transaction": fieldSystem,
	}
	columnFields = map[string]field{
		"name": fieldName, "type": fieldType, "is_primary_key": fieldKey, "ordinal_position": fieldOrdinal,
	}
	modFields       = map[string]field{"keys": fieldKeys, "new_values": fieldNew, "old_values": fieldOld}
	heartbeatFields = map[string]field{"timestamp": fieldTimestamp}
	childrenFields  = map[string]field{
		"start_timestamp": fieldStart, "record_sequence": fieldSequence, "child_partitions": fieldTokens,
	}
	childFields = map[string]field{"token": fieldToken, "parent_partition_tokens": fieldParents}
)

// layout is what the places of a query's structs mean.
type layout struct {
	form form

	record, data, column, mod, heartbeat, children, child []field
	// names are the record struct's field names, for messages about one that is unknown.
	names []string
}

func parseLayout(metadata []byte, strict bool) (*layout, error) {
	var m sppb.ResultSetMetadata
	if err := proto.Unmarshal(metadata, &m); err != nil {
		return nil, err
	}
	columns := m.GetRowType().GetFields()
	if len(columns) != 1 {
		return nil, fmt.Errorf("a change stream's rows have one column, these have %d", len(columns))
	}
	typ := columns[0].GetType()
	switch typ.GetCode() {
	case sppb.TypeCode_JSON:
		return &layout{form: formJSON}, nil
	case sppb.TypeCode_PROTO, sppb.TypeCode_BYTES:
		return &layout{form: formProto}, nil
	case sppb.TypeCode_ARRAY:
	default:
		return nil, fmt.Errorf("a change stream's column is an ARRAY, JSON, PROTO or BYTES, this one is %v", typ.GetCode())
	}
	l := &layout{form: formStruct}
	structOf := func(t *sppb.Type, what string, names map[string]field, places *[]field, required ...field) (*sppb.StructType, error) {
		s, err := structOf(t, what, names, places, required...)
		if i := slices.Index(*places, fieldUnknown); err == nil && i >= 0 && strict && places != &l.record {
			err = errUnknownField(what, s.GetFields()[i].GetName())
		}
		return s, err
	}
	record, err := structOf(typ, "the change record", recordFields, &l.record)
	if err != nil {
		return nil, err
	}
	for i, f := range record.GetFields() {
		l.names = append(l.names, f.GetName())
		switch l.record[i] {
		case fieldData:
			data, err := structOf(f.GetType(), f.GetName(), dataFields, &l.data, fieldCommit, fieldSequence, fieldTransaction, fieldTable, fieldColumns, fieldMods, fieldModType)
			if err != nil {
				return nil, err
			}
			for j, g := range data.GetFields() {
				switch l.data[j] {
				case fieldColumns:
					_, err = structOf(g.GetType(), g.GetName(), columnFields, &l.column, fieldName, fieldType, fieldKey)
				case fieldMods:
					_, err = structOf(g.GetType(), g.GetName(), modFields, &l.mod, fieldKeys, fieldNew, fieldOld)
				}
				if err != nil {
					return nil, err
				}
			}
		case fieldHeartbeat:
			if _, err := structOf(f.GetType(), f.GetName(), heartbeatFields, &l.heartbeat, fieldTimestamp); err != nil {
				return nil, err
			}
		case fieldChildren:
			children, err := structOf(f.GetType(), f.GetName(), childrenFields, &l.children, fieldStart, fieldTokens)
			if err != nil {
				return nil, err
			}
			for j, g := range children.GetFields() {
				if l.children[j] == fieldTokens {
					if _, err := structOf(g.GetType(), g.GetName(), childFields, &l.child, fieldToken, fieldParents); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return l, nil
}

// structOf answers the struct that t is an array of, and translates its field names into places. The required fields must
// be there: without them changes could not be told apart.
func structOf(t *sppb.Type, what string, names map[string]field, places *[]field, required ...field) (*sppb.StructType, error) {
	s := t.GetArrayElementType().GetStructType()
	if t.GetCode() != sppb.TypeCode_ARRAY || s == nil {
		return nil, fmt.Errorf("%s is not an array of structs but %v", what, t.GetCode())
	}
	seen := map[field]bool{}
	for _, f := range s.GetFields() {
		g := names[f.GetName()]
		if g != fieldUnknown && seen[g] {
			return nil, fmt.Errorf("%s has two fields called %s", what, f.GetName())
		}
		seen[g] = true
		*places = append(*places, g)
	}
	for name, g := range names {
		for _, r := range required {
			if r == g && !seen[g] {
				return nil, fmt.Errorf("%s lacks the field %s", what, name)
			}
		}
	}
	return s, nil
}

package bigquerysink

import (
	"cloud.google.com/go/bigquery"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/spanledger/spanledger/change"
)

// kind is how a Spanner type is written to BigQuery.
type kind uint8

const (
	kindText       kind = iota // STRING, the raw JSON of a type BigQuery has no match for
	kindBool                   // BOOL
	kindInt                    // INT64
	kindFloat                  // FLOAT64
	kindTimestamp              // TIMESTAMP: microseconds; the raw field has the nanoseconds
	kindDate                   // DATE
	kindString                 // STRING
	kindBytes                  // BYTES
	kindNumeric                // NUMERIC
	kindBigNumeric             // BIGNUMERIC
	kindJSON                   // JSON
)

// kinds are BigQuery's type of a kind, the protobuf type that carries it, and that type's wire form.
var kinds = [...]struct {
	field bigquery.FieldType
	proto descriptorpb.FieldDescriptorProto_Type
	wire  protowire.Type
}{
	kindText:       {bigquery.StringFieldType, descriptorpb.FieldDescriptorProto_TYPE_STRING, protowire.BytesType},
	kindBool:       {bigquery.BooleanFieldType, descriptorpb.FieldDescriptorProto_TYPE_BOOL, protowire.VarintType},
	kindInt:        {bigquery.IntegerFieldType, descriptorpb.FieldDescriptorProto_TYPE_INT64, protowire.VarintType},
	kindFloat:      {bigquery.FloatFieldType, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE, protowire.Fixed64Type},
	kindTimestamp:  {bigquery.TimestampFieldType, descriptorpb.FieldDescriptorProto_TYPE_INT64, protowire.VarintType},
	kindDate:       {bigquery.DateFieldType, descriptorpb.FieldDescriptorProto_TYPE_INT32, protowire.VarintType},
	kindString:     {bigquery.StringFieldType, descriptorpb.FieldDescriptorProto_TYPE_STRING, protowire.BytesType},
	kindBytes:      {bigquery.BytesFieldType, descriptorpb.FieldDescriptorProto_TYPE_BYTES, protowire.BytesType},
	kindNumeric:    {bigquery.NumericFieldType, descriptorpb.FieldDescriptorProto_TYPE_STRING, protowire.BytesType},
	kindBigNumeric: {bigquery.BigNumericFieldType, descriptorpb.FieldDescriptorProto_TYPE_STRING, protowire.BytesType},
	kindJSON:       {bigquery.JSONFieldType, descriptorpb.FieldDescriptorProto_TYPE_STRING, protowire.BytesType},
}

// kindOf maps a column type; repeated says that it is an array.
func kindOf(t *change.Type) (k kind, repeated bool) {
	if t == nil {
		return kindText, false
	}
	switch t.Code {
	case change.CodeBool:
		return kindBool, false
	case change.CodeInt64, change.CodeEnum:
		return kindInt, false
	case change.CodeFloat64, change.CodeFloat32:
		return kindFloat, false
	case change.CodeTimestamp:
		return kindTimestamp, false
	case change.CodeDate:
		return kindDate, false
	case change.CodeString, change.CodeUUID, change.CodeInterval:
		return kindString, false
	case change.CodeBytes, change.CodeProto:
		return kindBytes, false
	case change.CodeNumeric:
		if t.Annotation == change.PGNumeric {
			return kindBigNumeric, false
		}
		return kindNumeric, false
	case change.CodeJSON:
		return kindJSON, false
	case change.CodeArray:
		if elem, nested := kindOf(t.Elem); !nested && elem != kindText {
			return elem, true
		}
	}
	return kindText, false
}

// clusterable reports whether BigQuery can cluster a table by a column of the kind.
func (k kind) clusterable() bool {
	switch k {
	case kindFloat, kindBytes, kindJSON, kindText:
		return false
	}
	return true
}

package server

import (
	"math"
	"strings"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// maxTypeDepth bounds the nesting of types that a request may name.
const maxTypeDepth = 15

// typeOf reads a request's type.
func typeOf(t *sppb.Type, depth int) (*store.Type, error) {
	if depth > maxTypeDepth {
		return nil, store.Errorf(codes.InvalidArgument, "a parameter's type is nested deeper than %d levels", maxTypeDepth)
	}
	out := &store.Type{Code: store.Code(t.GetCode()), Name: t.GetProtoTypeFqn()}
	switch t.GetCode() {
	case sppb.TypeCode_ARRAY:
		elem, err := typeOf(t.GetArrayElementType(), depth+1)
		if err != nil {
			return nil, err
		}
		out.Elem = elem
	case sppb.TypeCode_STRUCT:
		for _, f := range t.GetStructType().GetFields() {
			ft, err := typeOf(f.GetType(), depth+1)
			if err != nil {
				return nil, err
			}
			out.Fields = append(out.Fields, store.Field{Name: f.GetName(), Type: ft})
		}
	case sppb.TypeCode_BOOL, sppb.TypeCode_INT64, sppb.TypeCode_FLOAT64, sppb.TypeCode_FLOAT32, sppb.TypeCode_TIMESTAMP,
		sppb.TypeCode_DATE, sppb.TypeCode_STRING, sppb.TypeCode_BYTES, sppb.TypeCode_NUMERIC, sppb.TypeCode_JSON,
		sppb.TypeCode_PROTO, sppb.TypeCode_ENUM, sppb.TypeCode_INTERVAL, sppb.TypeCode_UUID:
	default:
		return nil, store.Errorf(codes.InvalidArgument, "a parameter has the type %v, which is not known", t.GetCode())
	}
	return out, nil
}

func typeProto(t *store.Type) *sppb.Type {
	if t == nil {
		return &sppb.Type{Code: sppb.TypeCode_INT64} // the type of a bare NULL, as in GoogleSQL
	}
	out := &sppb.Type{Code: sppb.TypeCode(t.Code), ProtoTypeFqn: t.Name}
	switch t.Code {
	case store.Numeric:
		if t.PG {
			out.TypeAnnotation = sppb.TypeAnnotationCode_PG_NUMERIC
		}
	case store.JSON:
		if t.PG {
			out.TypeAnnotation = sppb.TypeAnnotationCode_PG_JSONB
		}
	case store.Array:
		out.ArrayElementType = typeProto(t.Elem)
	case store.Struct:
		out.StructType = rowType(t.Fields)
	}
	return out
}

func rowType(fields []store.Field) *sppb.StructType {
	out := &sppb.StructType{}
	for _, f := range fields {
		out.Fields = append(out.Fields, &sppb.StructType_Field{Name: f.Name, Type: typeProto(f.Type)})
	}
	return out
}

var null = structpb.NewNullValue()

// encode writes a value as results carry it.
func encode(t *store.Type, v store.Value) *structpb.Value {
	if !v.Valid || t == nil {
		return null
	}
	switch t.Code {
	case store.Bool:
		return structpb.NewBoolValue(v.Int != 0)
	case store.Float64, store.Float32:
		if math.IsNaN(v.Float) || math.IsInf(v.Float, 0) {
			return structpb.NewStringValue(v.AsText(t))
		}
		return structpb.NewNumberValue(v.Float)
	case store.Array:
		list := &structpb.ListValue{Values: make([]*structpb.Value, len(v.List))}
		for i, e := range v.List {
			list.Values[i] = encode(t.Elem, e)
		}
		return structpb.NewListValue(list)
	case store.Struct:
		list := &structpb.ListValue{Values: make([]*structpb.Value, len(v.List))}
		for i, e := range v.List {
			list.Values[i] = encode(t.Fields[i].Type, e)
		}
		return structpb.NewListValue(list)
	default:
		return structpb.NewStringValue(v.AsText(t))
	}
}

// decode reads a parameter, a key part or a mutation's value.
func decode(t *store.Type, p *structpb.Value) (store.Value, error) {
	bad := func() (store.Value, error) {
		return store.Value{}, store.Errorf(codes.InvalidArgument, "a %v was expected, not %.60s", sppb.TypeCode(t.Code), p.String())
	}
	switch k := p.GetKind().(type) {
	case nil:
		return store.Value{}, store.Errorf(codes.InvalidArgument, "a %v value has no kind set", sppb.TypeCode(t.Code))
	case *structpb.Value_NullValue:
		return store.Value{}, nil
	case *structpb.Value_BoolValue:
		if t.Code != store.Bool {
			return bad()
		}
		v := store.Value{Valid: true}
		if k.BoolValue {
			v.Int = 1
		}
		return v, nil
	case *structpb.Value_NumberValue:
		switch t.Code {
		case store.Float64:
			return store.Value{Valid: true, Float: k.NumberValue}, nil
		case store.Float32:
			return store.Value{Valid: true, Float: float64(float32(k.NumberValue))}, nil
		}
		return bad()
	case *structpb.Value_StringValue:
		switch t.Code {
		case store.Bool, store.Array, store.Struct:
			return bad()
		case store.Float64, store.Float32:
			if s := k.StringValue; s != "NaN" && s != "Infinity" && s != "-Infinity" {
				return bad()
			}
		}
		v, err := store.ParseText(t, k.StringValue)
		if err != nil {
			return store.Value{}, store.Errorf(codes.InvalidArgument, "could not read %.60q as %v: %v", k.StringValue, sppb.TypeCode(t.Code), err)
		}
		return v, nil
	case *structpb.Value_ListValue:
		values := k.ListValue.GetValues()
		v := store.Value{Valid: true, List: make([]store.Value, len(values))}
		if t.Code != store.Array && (t.Code != store.Struct || len(values) != len(t.Fields)) {
			return bad()
		}
		for i, e := range values {
			et := t.Elem
			if t.Code == store.Struct {
				et = t.Fields[i].Type
			}
			var err error
			if v.List[i], err = decode(et, e); err != nil {
				return store.Value{}, err
			}
		}
		return v, nil
	}
	return bad()
}

// commitTimestampText is what a mutation holds in place of the commit timestamp.
const commitTimestampText = "spanner.commit_timestamp()"

// decodeColumn reads a value for a column, where the commit timestamp's placeholder may stand.
func decodeColumn(c *store.Column, p *structpb.Value) (store.Value, error) {
	if s, ok := p.GetKind().(*structpb.Value_StringValue); ok && c.Type.Code == store.Timestamp && strings.EqualFold(s.StringValue, commitTimestampText) {
		return store.PendingCommitTimestamp(), nil
	}
	return decode(c.Type, p)
}

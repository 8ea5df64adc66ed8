package snapshot

import (
	"fmt"
	"math"
	"strconv"

	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// typeOf is a column's type as a result tells it.
func typeOf(t *spannerpb.Type) *change.Type {
	if t == nil {
		return &change.Type{Name: "UNKNOWN"}
	}
	out := &change.Type{Code: change.Code(t.GetCode()), Annotation: change.Annotation(t.GetTypeAnnotation()), ProtoName: t.GetProtoTypeFqn()}
	if out.Code.String() == "UNKNOWN" {
		out.Code, out.Name = change.CodeUnknown, t.GetCode().String()
	}
	if t.GetCode() == spannerpb.TypeCode_ARRAY {
		out.Elem = typeOf(t.GetArrayElementType())
	}
	return out
}

func bits(t *change.Type) int {
	if t != nil && t.Code == change.CodeFloat32 {
		return 32
	}
	return 64
}

// appendValue appends a result's value as change streams write it: the encoding of results, as JSON text. Only numbers are
// written in more than one way.
func appendValue(dst []byte, t *change.Type, v *structpb.Value) ([]byte, error) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NullValue:
		return append(dst, "null"...), nil
	case *structpb.Value_BoolValue:
		return strconv.AppendBool(dst, k.BoolValue), nil
	case *structpb.Value_StringValue:
		return rawjson.AppendString(dst, k.StringValue), nil
	case *structpb.Value_NumberValue:
		if math.IsNaN(k.NumberValue) || math.IsInf(k.NumberValue, 0) {
			return dst, fmt.Errorf("the number %v has no JSON", k.NumberValue)
		}
		return appendFloat(dst, k.NumberValue, bits(t)), nil
	case *structpb.Value_ListValue:
		if t == nil || t.Elem == nil {
			return dst, fmt.Errorf("a list for the type %v", t)
		}
		dst = append(dst, '[')
		for i, e := range k.ListValue.GetValues() {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendValue(dst, t.Elem, e); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	}
	return dst, fmt.Errorf("a value of kind %T", v.GetKind())
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

package changes

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// A value has two faces: JSON text inside keys, new_values and old_values, and the encoding of result sets inside the
// records of mutable key ranges. They agree except that JSON text is written here by hand, for speed and because
// encoding/json would escape what Spanner does not.

// appendJSON appends v as it stands in a mod's JSON object.
func appendJSON(b []byte, t *store.Type, v store.Value) []byte {
	if !v.Valid {
		return append(b, "null"...)
	}
	switch t.Code {
	case store.Bool:
		return strconv.AppendBool(b, v.Int != 0)
	case store.Float64, store.Float32:
		if text, ok := floatText(v.Float); ok {
			return append(append(append(b, '"'), text...), '"')
		}
		return strconv.AppendFloat(b, v.Float, 'g', -1, floatBits(t))
	case store.Array:
		b = append(b, '[')
		for i, e := range v.List {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, t.Elem, e)
		}
		return append(b, ']')
	case store.Int64, store.Enum:
		return append(strconv.AppendInt(append(b, '"'), v.Int, 10), '"')
	case store.Bytes, store.Proto:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, []byte(v.Text))
		return append(b, '"')
	case store.Timestamp:
		return append(time.Unix(v.Int, int64(v.Nanos)).UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
	case store.Date:
		return append(time.Unix(v.Int*86400, 0).UTC().AppendFormat(append(b, '"'), time.DateOnly), '"')
	}
	return appendString(b, v.Text) // also JSON: its text as a string, so encoded twice
}

// resultValue is v in the encoding of result sets.
func resultValue(t *store.Type, v store.Value) *structpb.Value {
	if !v.Valid {
		return structpb.NewNullValue()
	}
	switch t.Code {
	case store.Bool:
		return structpb.NewBoolValue(v.Int != 0)
	case store.Float64, store.Float32:
		if text, ok := floatText(v.Float); ok {
			return structpb.NewStringValue(text)
		}
		return structpb.NewNumberValue(v.Float)
	case store.Array:
		list := make([]*structpb.Value, len(v.List))
		for i, e := range v.List {
			list[i] = resultValue(t.Elem, e)
		}
		return structpb.NewListValue(&structpb.ListValue{Values: list})
	case store.Int64, store.Enum:
		return structpb.NewStringValue(strconv.FormatInt(v.Int, 10))
	case store.Bytes, store.Proto:
		return structpb.NewStringValue(base64.StdEncoding.EncodeToString([]byte(v.Text)))
	case store.Timestamp:
		return structpb.NewStringValue(time.Unix(v.Int, int64(v.Nanos)).UTC().Format(time.RFC3339Nano))
	case store.Date:
		return structpb.NewStringValue(time.Unix(v.Int*86400, 0).UTC().Format(time.DateOnly))
	}
	return structpb.NewStringValue(strings.ToValidUTF8(v.Text, "\uFFFD"))
}

func floatBits(t *store.Type) int {
	if t.Code == store.Float32 {
		return 32 // so that 3.14 is not shown as 3.140000104904175
	}
	return 64
}

// floatText is the string form of the values JSON numbers cannot hold.
func floatText(f float64) (string, bool) {
	switch {
	case math.IsNaN(f):
		return "NaN", true
	case math.IsInf(f, 1):
		return "Infinity", true
	case math.IsInf(f, -1):
		return "-Infinity", true
	}
	return "", false
}

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, since the text travels in a protobuf
// string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}

// protoType is the Spanner type message of a column type.
func protoType(t *store.Type) *spannerpb.Type {
	p := &spannerpb.Type{Code: spannerpb.TypeCode(t.Code)}
	switch t.Code {
	case store.Array:
		p.ArrayElementType = protoType(t.Elem)
	case store.Proto, store.Enum:
		p.ProtoTypeFqn = t.Name
	case store.Numeric:
		if t.PG {
			p.TypeAnnotation = spannerpb.TypeAnnotationCode_PG_NUMERIC
		}
	case store.JSON:
		if t.PG {
			p.TypeAnnotation = spannerpb.TypeAnnotationCode_PG_JSONB
		}
	}
	return p
}

// typeJSON is the type message as JSON text with the proto's field names.
func typeJSON(t *store.Type) string {
	p := protoType(t)
	b := append([]byte(`{"code":"`), p.Code.String()...)
	b = append(b, '"')
	if p.ArrayElementType != nil {
		b = append(append(b, `,"array_element_type":`...), typeJSON(t.Elem)...)
	}
	if p.TypeAnnotation != 0 {
		b = append(append(append(b, `,"type_annotation":"`...), p.TypeAnnotation.String()...), '"')
	}
	if p.ProtoTypeFqn != "" {
		b = appendString(append(b, `,"proto_type_fqn":`...), p.ProtoTypeFqn)
	}
	return string(append(b, '}'))
}

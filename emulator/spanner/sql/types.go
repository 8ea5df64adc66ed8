package sql

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// The scalar types, shared by all results.
var (
	boolType      = &store.Type{Code: store.Bool}
	int64Type     = &store.Type{Code: store.Int64}
	float64Type   = &store.Type{Code: store.Float64}
	float32Type   = &store.Type{Code: store.Float32}
	timestampType = &store.Type{Code: store.Timestamp}
	dateType      = &store.Type{Code: store.Date}
	stringType    = &store.Type{Code: store.String}
	bytesType     = &store.Type{Code: store.Bytes}
	numericType   = &store.Type{Code: store.Numeric}
	jsonType      = &store.Type{Code: store.JSON}
	uuidType      = &store.Type{Code: store.UUID}
	intervalType  = &store.Type{Code: store.Interval}
)

var scalarTypes = map[string]*store.Type{
	"BOOL": boolType, "INT64": int64Type, "FLOAT64": float64Type, "FLOAT32": float32Type, "TIMESTAMP": timestampType,
	"DATE": dateType, "STRING": stringType, "BYTES": bytesType, "NUMERIC": numericType, "JSON": jsonType,
	"UUID": uuidType, "INTERVAL": intervalType,
}

var codeNames = map[store.Code]string{
	store.Bool: "BOOL", store.Int64: "INT64", store.Float64: "FLOAT64", store.Float32: "FLOAT32",
	store.Timestamp: "TIMESTAMP", store.Date: "DATE", store.String: "STRING", store.Bytes: "BYTES",
	store.Numeric: "NUMERIC", store.JSON: "JSON", store.UUID: "UUID", store.Interval: "INTERVAL",
}

func unimplemented(format string, args ...any) error {
	return store.Errorf(codes.Unimplemented, "the embedded Spanner does not support "+format, args...)
}

func invalid(format string, args ...any) error {
	return store.Errorf(codes.InvalidArgument, format, args...)
}

func failed(format string, args ...any) error {
	return store.Errorf(codes.FailedPrecondition, format, args...)
}

// denied reports whether the session may not do something, which no other error must hide.
func denied(err error) bool {
	var se *store.Error
	return errors.As(err, &se) && se.Code == codes.PermissionDenied
}

func notFound(format string, args ...any) error { return store.Errorf(codes.NotFound, format, args...) }

// TypeName writes a type as a query would, without lengths.
func TypeName(t *store.Type) string {
	if t == nil {
		return "NULL"
	}
	switch t.Code {
	case store.Array:
		return "ARRAY<" + TypeName(t.Elem) + ">"
	case store.Struct:
		parts := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			parts[i] = strings.TrimSpace(f.Name + " " + TypeName(f.Type))
		}
		return "STRUCT<" + strings.Join(parts, ", ") + ">"
	case store.Proto, store.Enum:
		return t.Name
	}
	return codeNames[t.Code]
}

// columnTypeName writes a column's declared type, lengths included.
func columnTypeName(c *store.Column) string {
	t := c.Type
	if t.Code == store.Array {
		return "ARRAY<" + sizedName(t.Elem, c.MaxLength) + ">"
	}
	return sizedName(t, c.MaxLength)
}

func sizedName(t *store.Type, n int) string {
	name := TypeName(t)
	if t.Code == store.Proto || t.Code == store.Enum {
		return "`" + name + "`"
	}
	if t.Code != store.String && t.Code != store.Bytes {
		return name
	}
	if n == 0 {
		return name + "(MAX)"
	}
	return fmt.Sprintf("%s(%d)", name, n)
}

// columnType reads a declared column type and its length.
func (b *builder) columnType(t ast.SchemaType) (*store.Type, int, error) {
	switch t := t.(type) {
	case *ast.ScalarSchemaType:
		return scalarColumnType(string(t.Name))
	case *ast.SizedSchemaType:
		typ := scalarTypes[strings.ToUpper(string(t.Name))]
		if typ != stringType && typ != bytesType {
			return nil, 0, invalid("type %s takes no length", t.Name)
		}
		limit, what := int64(2621440), "characters"
		if typ == bytesType {
			limit, what = 10485760, "bytes"
		}
		if t.Max {
			return typ, 0, nil
		}
		lit, ok := t.Size.(*ast.IntLiteral)
		if !ok {
			return nil, 0, invalid("the length of %s must be a number", t.Name)
		}
		n, err := parseInt(lit.Value, lit.Base)
		if err != nil || n < 1 || n > limit {
			return nil, 0, invalid("the length of %s must be from 1 to %d %s, not %s", t.Name, limit, what, lit.Value)
		}
		return typ, int(n), nil
	case *ast.ArraySchemaType:
		if len(t.NamedArgs) > 0 {
			return nil, 0, unimplemented("array column parameters such as %s", t.NamedArgs[0].SQL())
		}
		elem, n, err := b.columnType(t.Item)
		if err != nil {
			return nil, 0, err
		}
		if elem.Code == store.Array {
			return nil, 0, invalid("an array of arrays is not a column type")
		}
		return &store.Type{Code: store.Array, Elem: elem}, n, nil
	case *ast.NamedType:
		name := namedPath(t)
		if typ := b.Protos.Type(name); typ != nil {
			return typ, 0, nil
		}
		if scalarTypes[strings.ToUpper(name)] == nil {
			return nil, 0, unknownType(name)
		}
		return scalarColumnType(name)
	}
	return nil, 0, unimplemented("the column type %s", t.SQL())
}

func unknownType(name string) error {
	return invalid("Type not found: %s (messages and enums need CREATE PROTO BUNDLE)", name)
}

func scalarColumnType(name string) (*store.Type, int, error) {
	typ := scalarTypes[strings.ToUpper(name)]
	switch typ {
	case nil:
		return nil, 0, unimplemented("the column type %s", name)
	case intervalType:
		return nil, 0, invalid("INTERVAL cannot be the type of a column") // Spanner's own limit
	case stringType, bytesType:
		return nil, 0, invalid("type %s needs a length, e.g. %s(MAX)", name, strings.ToUpper(name))
	}
	return typ, 0, nil
}

// exprType reads a type inside an expression, e.g. of CAST.
func (c *compiler) exprType(t ast.Type) (*store.Type, error) {
	switch t := t.(type) {
	case *ast.SimpleType:
		if typ := scalarTypes[strings.ToUpper(string(t.Name))]; typ != nil {
			return typ, nil
		}
	case *ast.NamedType:
		name := namedPath(t)
		if typ := c.schema().Protos.Type(name); typ != nil {
			return typ, nil
		}
		if typ := scalarTypes[strings.ToUpper(name)]; typ != nil {
			return typ, nil
		}
		return nil, unknownType(name)
	case *ast.ArrayType:
		elem, err := c.exprType(t.Item)
		if err != nil {
			return nil, err
		}
		return &store.Type{Code: store.Array, Elem: elem}, nil
	case *ast.StructType:
		out := &store.Type{Code: store.Struct}
		for _, f := range t.Fields {
			ft, err := c.exprType(f.Type)
			if err != nil {
				return nil, err
			}
			name := ""
			if f.Ident != nil {
				name = f.Ident.Name
			}
			out.Fields = append(out.Fields, store.Field{Name: name, Type: ft})
		}
		return out, nil
	}
	return nil, unimplemented("the type %s", t.SQL())
}

// bound is a type that a client has named with the definitions of its protos and enums.
func (c *compiler) bound(t *store.Type) (*store.Type, error) {
	if t == nil {
		return nil, nil
	}
	switch t.Code {
	case store.Proto, store.Enum:
		typ := c.schema().Protos.Type(t.Name)
		if typ == nil || typ.Code != t.Code {
			return nil, unknownType(t.Name)
		}
		return typ, nil
	case store.Array:
		elem, err := c.bound(t.Elem)
		if err != nil || elem == t.Elem {
			return t, err
		}
		return &store.Type{Code: store.Array, Elem: elem}, nil
	case store.Struct:
		out := *t
		out.Fields = make([]store.Field, len(t.Fields))
		for i, f := range t.Fields {
			ft, err := c.bound(f.Type)
			if err != nil {
				return nil, err
			}
			out.Fields[i] = store.Field{Name: f.Name, Type: ft}
		}
		return &out, nil
	}
	return t, nil
}

// sameType reports whether two types are the same but for struct field names.
func sameType(a, b *store.Type) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Code != b.Code || a.Name != b.Name || len(a.Fields) != len(b.Fields) {
		return false
	}
	if a.Code == store.Array {
		return sameType(a.Elem, b.Elem)
	}
	for i := range a.Fields {
		if !sameType(a.Fields[i].Type, b.Fields[i].Type) {
			return false
		}
	}
	return true
}

// position says where in the text a piece of it is, as error messages do.
func position(n ast.Node) string {
	if at := n.Pos(); at >= 0 {
		return fmt.Sprintf(" [at offset %d]", at)
	}
	return ""
}

package change

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Code is a Spanner type code, with the numbers and names of google.spanner.v1.TypeCode.
type Code uint8

// Every type a Spanner column can have, in both dialects. CodeUnknown is a code this version has no name for: such values are
// carried as they came.
const (
	CodeUnknown   Code = 0
	CodeBool      Code = 1
	CodeInt64     Code = 2
	CodeFloat64   Code = 3
	CodeTimestamp Code = 4
	CodeDate      Code = 5
	CodeString    Code = 6
	CodeBytes     Code = 7
	CodeArray     Code = 8
	CodeStruct    Code = 9
	CodeNumeric   Code = 10
	CodeJSON      Code = 11
	CodeProto     Code = 13
	CodeEnum      Code = 14
	CodeFloat32   Code = 15
	CodeInterval  Code = 16
	CodeUUID      Code = 17
)

var codeNames = [...]string{
	CodeBool: "BOOL", CodeInt64: "INT64", CodeFloat64: "FLOAT64", CodeTimestamp: "TIMESTAMP", CodeDate: "DATE", CodeString: "STRING", CodeBytes: "BYTES",
	CodeArray: "ARRAY", CodeStruct: "STRUCT", CodeNumeric: "NUMERIC", CodeJSON: "JSON", CodeProto: "PROTO", CodeEnum: "ENUM", CodeFloat32: "FLOAT32",
	CodeInterval: "INTERVAL", CodeUUID: "UUID",
}

// String is the code's name in Spanner's API, such as INT64; UNKNOWN for CodeUnknown and for numbers without a name.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return "UNKNOWN"
}

// Annotation tells the PostgreSQL dialect's types that share a code with a GoogleSQL type and differ in their values.
type Annotation uint8

// The annotations of google.spanner.v1.TypeAnnotationCode.
const (
	NoAnnotation Annotation = 0
	PGNumeric    Annotation = 2
	PGJSONB      Annotation = 3
	PGOID        Annotation = 4
)

var annotationNames = [...]string{PGNumeric: "PG_NUMERIC", PGJSONB: "PG_JSONB", PGOID: "PG_OID"}

// String is the annotation's name in Spanner's API, or "" for none.
func (a Annotation) String() string {
	if int(a) < len(annotationNames) {
		return annotationNames[a]
	}
	return ""
}

// Type is a column's type. Types are immutable and may be shared; compare them with Equal.
type Type struct {
	Code       Code
	Annotation Annotation
	// Elem is the element type of an Array, otherwise nil.
	Elem *Type
	// ProtoName is the fully qualified name of a Proto or Enum type, where known.
	ProtoName string
	// Name is the code's name as Spanner sent it where Code is CodeUnknown, otherwise "".
	Name string
}

// Equal reports whether t and u are the same type.
func (t *Type) Equal(u *Type) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.Code == u.Code && t.Annotation == u.Annotation && t.ProtoName == u.ProtoName && t.Name == u.Name && t.Elem.Equal(u.Elem)
}

// String is a short form for people: INT64, ARRAY<STRING>, NUMERIC(PG_NUMERIC), PROTO<name>.
func (t *Type) String() string {
	switch {
	case t == nil:
		return "UNKNOWN"
	case t.Code == CodeArray:
		return "ARRAY<" + t.Elem.String() + ">"
	case t.Code == CodeUnknown && t.Name != "":
		return t.Name
	case t.ProtoName != "":
		return t.Code.String() + "<" + t.ProtoName + ">"
	case t.Annotation != NoAnnotation:
		return t.Code.String() + "(" + t.Annotation.String() + ")"
	}
	return t.Code.String()
}

type typeJSON struct {
	Code       string    `json:"code"`
	Elem       *typeJSON `json:"array_element_type,omitempty"`
	Annotation string    `json:"type_annotation,omitempty"`
	ProtoName  string    `json:"proto_type_fqn,omitempty"`
}

// MarshalJSON writes the form change records use: {"code":"ARRAY","array_element_type":{"code":"STRING"}}.
func (t *Type) MarshalJSON() ([]byte, error) { return json.Marshal(t.toJSON()) }

func (t *Type) toJSON() *typeJSON {
	if t == nil {
		return nil
	}
	code := t.Code.String()
	if t.Code == CodeUnknown && t.Name != "" {
		code = t.Name
	}
	return &typeJSON{Code: code, Elem: t.Elem.toJSON(), Annotation: t.Annotation.String(), ProtoName: t.ProtoName}
}

// maxTypeDepth bounds nesting: Spanner has no arrays of arrays, so anything deeper is not a column type.
const maxTypeDepth = 4

// UnmarshalJSON reads the form change records use. Members it does not know are ignored; a code it does not know becomes
// CodeUnknown with its name kept. A missing code, or an array without an element type, is an error.
func (t *Type) UnmarshalJSON(b []byte) error {
	var j typeJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("change: column type: %w", err)
	}
	u, err := j.toType(0)
	if err != nil {
		return fmt.Errorf("change: column type %s: %w", b, err)
	}
	*t = *u
	return nil
}

func (j *typeJSON) toType(depth int) (*Type, error) {
	if depth >= maxTypeDepth {
		return nil, errors.New("nested too deep")
	}
	if j.Code == "" {
		return nil, errors.New("it has no code")
	}
	t := &Type{ProtoName: j.ProtoName}
	for c, name := range codeNames {
		if name == j.Code {
			t.Code = Code(c)
		}
	}
	switch {
	case j.Code == "INT": // as examples in Spanner's documentation have it
		t.Code = CodeInt64
	case t.Code == CodeUnknown:
		t.Name = j.Code
	}
	for a, name := range annotationNames {
		if name != "" && name == j.Annotation {
			t.Annotation = Annotation(a)
		}
	}
	if t.Code == CodeArray {
		if j.Elem == nil {
			return nil, errors.New("an array without array_element_type")
		}
		elem, err := j.Elem.toType(depth + 1)
		if err != nil {
			return nil, err
		}
		t.Elem = elem
	}
	return t, nil
}

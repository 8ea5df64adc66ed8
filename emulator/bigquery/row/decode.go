package row

import (
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// ErrExtraFields is wrapped by NewDecoder's error where the message has a field the table has no column for.
var ErrExtraFields = errors.New("the input schema has more fields than the table")

// ErrUnsupported is wrapped by the errors that name something the service takes and this emulator does not.
var ErrUnsupported = errors.New("not implemented in the embedded BigQuery")

// Decoder turns protobuf messages of one type, a writer's schema, into rows of one table. It is safe for concurrent use.
type Decoder struct {
	message protoreflect.MessageDescriptor
	root    *structDecoder
}

// structDecoder decodes one message type into a Row of fields.
type structDecoder struct {
	fields []Field
	// column holds a decoder for each of fields; nil where the message has no such field.
	column []*columnDecoder
}

type columnDecoder struct {
	field  *Field
	source protoreflect.FieldDescriptor
	nested *structDecoder // of a Struct
	value  func(protoreflect.Value) (Value, error)
}

// NewDecoder matches a writer's schema with a table's columns: by name, whatever the case, or by the column_name option.
// The schema must be self-contained, except for Google's well-known wrappers, Timestamp and Duration. Errors wrap
// ErrExtraFields or ErrUnsupported where that is the reason.
func NewDecoder(schema *descriptorpb.DescriptorProto, fields []Field) (*Decoder, error) {
	md, err := resolve(schema)
	if err != nil {
		return nil, fmt.Errorf("writer schema: %w", err)
	}
	root, err := newStruct(md, fields, "", 1)
	if err != nil {
		return nil, fmt.Errorf("writer schema: %w", err)
	}
	return &Decoder{message: md, root: root}, nil
}

// resolve makes a message descriptor of its serialized form, as if it stood alone in a file.
func resolve(schema *descriptorpb.DescriptorProto) (protoreflect.MessageDescriptor, error) {
	if schema.GetName() == "" {
		return nil, errors.New("the message descriptor has no name")
	}
	schema = proto.CloneOf(schema)
	if err := plain(schema, 1); err != nil {
		return nil, err
	}
	known := []protoreflect.FileDescriptor{
		wrapperspb.File_google_protobuf_wrappers_proto,
		timestamppb.File_google_protobuf_timestamp_proto,
		durationpb.File_google_protobuf_duration_proto,
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("writer_schema.proto"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{schema},
	}
	files := new(protoregistry.Files)
	for _, f := range known {
		if err := files.RegisterFile(f); err != nil {
			return nil, err
		}
		file.Dependency = append(file.Dependency, f.Path())
	}
	fd, err := protodesc.NewFile(file, files)
	if err != nil {
		return nil, err
	}
	return fd.Messages().Get(0), nil
}

// plain takes away what only a proto3 file may say: explicit optionals and the one-of each of them hides in.
func plain(m *descriptorpb.DescriptorProto, depth int) error {
	if depth > maxDepth+1 {
		return fmt.Errorf("message types nested more than %d deep", maxDepth)
	}
	synthetic := make(map[int32]bool)
	for _, f := range m.Field {
		if f.GetProto3Optional() {
			if f.OneofIndex != nil {
				synthetic[f.GetOneofIndex()] = true
			}
			f.Proto3Optional, f.OneofIndex = nil, nil
		}
	}
	// Synthetic one-ofs come last, after the real ones, so the indexes of the others stay right.
	for len(m.OneofDecl) > 0 && synthetic[int32(len(m.OneofDecl)-1)] {
		m.OneofDecl = m.OneofDecl[:len(m.OneofDecl)-1]
	}
	for _, n := range m.NestedType {
		if err := plain(n, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func newStruct(md protoreflect.MessageDescriptor, fields []Field, path string, depth int) (*structDecoder, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: more than %d levels of messages", strings.TrimSuffix(path, "."), maxDepth)
	}
	d := &structDecoder{fields: fields, column: make([]*columnDecoder, len(fields))}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		name := columnName(fd)
		if strings.EqualFold(name, "_CHANGE_TYPE") || strings.EqualFold(name, "_CHANGE_SEQUENCE_NUMBER") {
			return nil, fmt.Errorf("change data capture (field %s) is %w", name, ErrUnsupported)
		}
		at := path + name
		c := Find(fields, name)
		if c < 0 {
			return nil, fmt.Errorf("%w: field %s", ErrExtraFields, at)
		}
		if d.column[c] != nil {
			return nil, fmt.Errorf("two fields for column %s", at)
		}
		col := &columnDecoder{field: &fields[c], source: fd}
		if repeated := col.field.Mode == Repeated; fd.IsMap() || repeated != fd.IsList() {
			return nil, fmt.Errorf("field %s is %s in the message, column %s is %s", at, fd.Cardinality(), at, col.field.Mode)
		}
		var err error
		if col.field.Kind == Struct {
			if fd.Message() == nil {
				return nil, mismatch(at, fd, col.field)
			}
			if col.nested, err = newStruct(fd.Message(), col.field.Fields, at+".", depth+1); err != nil {
				return nil, err
			}
		} else if col.value = converter(fd, col.field); col.value == nil {
			return nil, mismatch(at, fd, col.field)
		}
		d.column[c] = col
	}
	return d, nil
}

func mismatch(at string, fd protoreflect.FieldDescriptor, f *Field) error {
	kind := fd.Kind().String()
	if fd.Message() != nil {
		kind = string(fd.Message().FullName())
	}
	return fmt.Errorf("field %s: the message type %s cannot be written to a column of type %s", at, kind, f.Kind)
}

// columnName is the column a message's field is for: its own name, or what the column_name option says.
func columnName(fd protoreflect.FieldDescriptor) string {
	if o, ok := fd.Options().(*descriptorpb.FieldOptions); ok && proto.HasExtension(o, storagepb.E_ColumnName) {
		if s, ok := proto.GetExtension(o, storagepb.E_ColumnName).(string); ok {
			return s
		}
	}
	return string(fd.Name())
}

// Missing says what a column that a row leaves out gets: nil for NULL, a value for its default. i is the column's index.
type Missing func(i int) (Value, error)

// Decode decodes one serialized row. What the row leaves out is NULL, or what missing (nil for always NULL) says for a
// top-level column. A REQUIRED column left out is an error, as is any field number the writer's schema does not have: it
// would be data lost without a word.
func (d *Decoder) Decode(serialized []byte, missing Missing) (Row, error) {
	m := dynamicpb.NewMessage(d.message)
	if err := proto.Unmarshal(serialized, m); err != nil {
		return nil, fmt.Errorf("the serialized row is malformed: %w", err)
	}
	return d.root.decode(m, "", missing)
}

func (d *structDecoder) decode(m protoreflect.Message, path string, missing Missing) (Row, error) {
	if len(m.GetUnknown()) > 0 {
		return nil, fmt.Errorf("the serialized row%s has a field number or wire type that the writer schema does not have", within(path))
	}
	row := make(Row, len(d.fields))
	for i := range d.fields {
		f, c := &d.fields[i], d.column[i]
		v := Value(nil)
		var err error
		switch {
		case c != nil && m.Has(c.source):
			v, err = c.decode(m.Get(c.source), path+f.Name)
		case f.Mode == Repeated:
			v = []Value(nil)
		case missing != nil:
			v, err = missing(i)
		}
		if err != nil {
			return nil, fmt.Errorf("field %s%s: %w", path, f.Name, err)
		}
		if v == nil && f.Mode == Required {
			return nil, fmt.Errorf("field %s%s: a REQUIRED column has no value", path, f.Name)
		}
		row[i] = v
	}
	return row, nil
}

func within(path string) string {
	if path == "" {
		return ""
	}
	return "'s " + strings.TrimSuffix(path, ".")
}

func (c *columnDecoder) decode(v protoreflect.Value, at string) (Value, error) {
	if c.field.Mode != Repeated {
		return c.single(v, at)
	}
	list := v.List()
	out := make([]Value, list.Len())
	for i := range out {
		e, err := c.single(list.Get(i), at)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out[i] = e
	}
	return out, nil
}

func (c *columnDecoder) single(v protoreflect.Value, at string) (Value, error) {
	if c.nested != nil {
		r, err := c.nested.decode(v.Message(), at+".", nil)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	return c.value(v)
}

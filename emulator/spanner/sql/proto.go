package sql

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func messageOf(t *store.Type) protoreflect.MessageDescriptor {
	return t.Descriptor.(protoreflect.MessageDescriptor)
}

// readProto parses a PROTO value.
func readProto(t *store.Type, v store.Value) (protoreflect.Message, error) {
	m := dynamicpb.NewMessage(messageOf(t))
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(v.Text), m); err != nil {
		return nil, outOfRange("Corrupted protocol buffer: cannot read %s: %v", t.Name, err)
	}
	return m, nil
}

// protoValue is a message as a PROTO value.
func protoValue(m protoreflect.Message) (store.Value, error) {
	b, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m.Interface())
	if err != nil {
		return store.Value{}, outOfRange("Cannot write %s: %v", m.Descriptor().FullName(), err)
	}
	return textValue(string(b)), nil
}

// enumName is an enum's value as a cast to STRING writes it: its name, or its number if it has none.
func enumName(t *store.Type, v store.Value) string {
	if d, ok := t.Descriptor.(protoreflect.EnumDescriptor); ok {
		if e := d.Values().ByNumber(protoreflect.EnumNumber(v.Int)); e != nil {
			return string(e.Name())
		}
	}
	return strconv.FormatInt(v.Int, 10)
}

// castEnum makes an enum's value of its name or its number. Names are told from other case. Of an open enum, as proto3 has
// them, every INT32 is a value.
func castEnum(from, to *store.Type, v store.Value) (store.Value, error) {
	d := to.Descriptor.(protoreflect.EnumDescriptor)
	if from.Code == store.String {
		e := d.Values().ByName(protoreflect.Name(v.Text))
		if e == nil {
			return store.Value{}, outOfRange("Out of range cast of string '%s' to enum type %s", v.Text, to.Name)
		}
		return intValue(int64(e.Number())), nil
	}
	fits := v.Int >= math.MinInt32 && v.Int <= math.MaxInt32
	if !fits || d.IsClosed() && d.Values().ByNumber(protoreflect.EnumNumber(v.Int)) == nil {
		return store.Value{}, outOfRange("Out of range cast of integer %d to enum type %s", v.Int, to.Name)
	}
	return v, nil
}

// parseProto makes a PROTO value of the text format.
func parseProto(t *store.Type, text string) (store.Value, error) {
	if depth(text) > maxNesting { // the parser of the format recurses without a bound
		return store.Value{}, outOfRange("Error parsing proto %s: it is nested too deeply", t.Name)
	}
	m := dynamicpb.NewMessage(messageOf(t))
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		return store.Value{}, outOfRange("Error parsing proto %s: %v", t.Name, err)
	}
	return protoValue(m)
}

// protoText is a PROTO value in the text format, in one line. The library's own form of it differs from one program to the
// next by design.
func protoText(t *store.Type, v store.Value) (string, error) {
	m, err := readProto(t, v)
	if err != nil {
		return "", err
	}
	return strings.Join(fieldTexts(m), " "), nil
}

func fieldTexts(m protoreflect.Message) (out []string) {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, f)
		return true
	})
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	for _, f := range fields {
		v := m.Get(f)
		switch {
		case f.IsMap():
			var entries []string
			v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
				entries = append(entries, f.TextName()+" { key: "+valueText(f.MapKey(), k.Value())+" "+fieldText("value", f.MapValue(), e)+" }")
				return true
			})
			slices.Sort(entries)
			out = append(out, entries...)
		case f.IsList():
			for i := range v.List().Len() {
				out = append(out, fieldText(f.TextName(), f, v.List().Get(i)))
			}
		default:
			out = append(out, fieldText(f.TextName(), f, v))
		}
	}
	return out
}

func fieldText(name string, f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if f.Message() == nil {
		return name + ": " + valueText(f, v)
	}
	return strings.Join(append(append([]string{name + " {"}, fieldTexts(v.Message())...), "}"), " ")
}

func valueText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.StringKind:
		return strconv.Quote(v.String())
	case protoreflect.BytesKind:
		return quotedBytes(v.Bytes())
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
		return strconv.FormatInt(int64(v.Enum()), 10)
	case protoreflect.FloatKind:
		return floatText(float32Type, v.Float())
	case protoreflect.DoubleKind:
		return floatText(float64Type, v.Float())
	}
	return v.String()
}

// quotedBytes writes bytes as the text format does, with octal escapes.
func quotedBytes(b []byte) string {
	out := []byte{'"'}
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < ' ' || c > '~':
			out = append(out, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			out = append(out, c)
		}
	}
	return string(append(out, '"'))
}

// fieldType is the type of a message's field, or an error for those that SQL has no type for.
func fieldType(f protoreflect.FieldDescriptor) (*store.Type, error) {
	var t *store.Type
	switch f.Kind() {
	case protoreflect.BoolKind:
		t = boolType
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		t = int64Type
	case protoreflect.DoubleKind:
		t = float64Type
	case protoreflect.FloatKind:
		t = float32Type
	case protoreflect.StringKind:
		t = stringType
	case protoreflect.BytesKind:
		t = bytesType
	case protoreflect.EnumKind:
		t = &store.Type{Code: store.Enum, Name: string(f.Enum().FullName()), Descriptor: f.Enum()}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		t = &store.Type{Code: store.Proto, Name: string(f.Message().FullName()), Descriptor: f.Message()}
	default: // Spanner's own limit
		return nil, invalid("Type not found: %s, the type of field %s, which SQL does not have", strings.ToUpper(f.Kind().String()), f.FullName())
	}
	if f.IsList() || f.IsMap() {
		t = &store.Type{Code: store.Array, Elem: t}
	}
	return t, nil
}

// fieldNamed finds a message's field; the case of letters does not matter unless two fields differ in nothing else.
func fieldNamed(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := d.Fields().ByName(protoreflect.Name(name)); f != nil {
		return f
	}
	for i := range d.Fields().Len() {
		if f := d.Fields().Get(i); strings.EqualFold(string(f.Name()), name) {
			return f
		}
	}
	return nil
}

// protoField is x.name: a field of a message, or for has_name whether it is set.
func protoField(x *expr, name string) (*expr, error) {
	d := messageOf(x.typ)
	f := fieldNamed(d, name)
	if f == nil && len(name) > 4 && strings.EqualFold(name[:4], "has_") {
		if f = fieldNamed(d, name[4:]); f != nil {
			return hasField(x, f)
		}
	}
	if f == nil {
		return nil, invalid("Protocol buffer %s does not have a field called %s", d.FullName(), name)
	}
	t, err := fieldType(f)
	if err != nil {
		return nil, err
	}
	return fromProto(x, t, func(m protoreflect.Message) (store.Value, error) {
		if f.Message() != nil && !f.IsList() && !f.IsMap() && !m.Has(f) {
			return store.Value{}, nil
		}
		return fieldValue(f, m.Get(f))
	}), nil
}

func hasField(x *expr, f protoreflect.FieldDescriptor) (*expr, error) {
	if f.IsList() || f.IsMap() {
		return nil, invalid("Protocol buffer %s field %s is repeated, so has_%s is not allowed", x.typ.Name, f.Name(), f.Name())
	}
	if !f.HasPresence() {
		return nil, invalid("Protocol buffer %s field %s has no presence, so has_%s is not allowed", x.typ.Name, f.Name(), f.Name())
	}
	return fromProto(x, boolType, func(m protoreflect.Message) (store.Value, error) { return boolValue(m.Has(f)), nil }), nil
}

func fromProto(x *expr, t *store.Type, get func(protoreflect.Message) (store.Value, error)) *expr {
	return derived(t, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		m, err := readProto(x.typ, v)
		if err != nil {
			return store.Value{}, err
		}
		return get(m)
	}, x)
}

// fieldValue is the value of a field in SQL.
func fieldValue(f protoreflect.FieldDescriptor, v protoreflect.Value) (store.Value, error) {
	switch {
	case f.IsMap():
		return mapEntries(f, v.Map())
	case f.IsList():
		list := make(values, v.List().Len())
		for i := range list {
			var err error
			if list[i], err = scalarField(f, v.List().Get(i)); err != nil {
				return store.Value{}, err
			}
		}
		return listValue(list), nil
	}
	return scalarField(f, v)
}

func scalarField(f protoreflect.FieldDescriptor, v protoreflect.Value) (store.Value, error) {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return boolValue(v.Bool()), nil
	case protoreflect.EnumKind:
		return intValue(int64(v.Enum())), nil
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return floatValue(v.Float()), nil
	case protoreflect.StringKind:
		return textValue(v.String()), nil
	case protoreflect.BytesKind:
		return textValue(string(v.Bytes())), nil
	case protoreflect.MessageKind, protoreflect.GroupKind:
		b, err := (proto.MarshalOptions{Deterministic: true, AllowPartial: true}).Marshal(v.Message().Interface())
		if err != nil {
			return store.Value{}, outOfRange("Cannot write field %s: %v", f.FullName(), err)
		}
		return textValue(string(b)), nil
	}
	return intValue(v.Int()), nil
}

// mapEntries are the entries of a map field as the messages they are on the wire, in the order of their bytes.
func mapEntries(f protoreflect.FieldDescriptor, m protoreflect.Map) (store.Value, error) {
	list := make(values, 0, m.Len())
	var failed error
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		entry := dynamicpb.NewMessage(f.Message())
		entry.Set(f.MapKey(), k.Value())
		entry.Set(f.MapValue(), v)
		e, err := protoValue(entry)
		list, failed = append(list, e), err
		return err == nil
	})
	slices.SortFunc(list, func(a, b store.Value) int { return strings.Compare(a.Text, b.Text) })
	return listValue(list), failed
}

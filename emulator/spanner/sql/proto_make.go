package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// assignment gives a field of a message, reached by way of others, a value.
type assignment struct {
	path  []protoreflect.FieldDescriptor
	value *expr
}

// newProto is NEW type(value AS field, …).
func (c *compiler) newProto(e *ast.NewConstructor) (*expr, error) {
	t, err := c.messageType(e.Type)
	if err != nil {
		return nil, err
	}
	var sets []assignment
	for i, a := range e.Args {
		alias, ok := a.(*ast.Alias)
		if !ok {
			return nil, invalid("Cannot construct proto because argument %d does not have an alias to match to a field name", i+1)
		}
		x, err := c.expr(alias.Expr)
		if err != nil {
			return nil, err
		}
		f := fieldNamed(messageOf(t), alias.As.Alias.Name)
		if f == nil {
			return nil, invalid("Argument %d has name %s which is not a field in proto %s", i+1, alias.As.Alias.Name, t.Name)
		}
		if sets, err = assign(sets, []protoreflect.FieldDescriptor{f}, x); err != nil {
			return nil, err
		}
	}
	return construct(t, sets)
}

func (c *compiler) messageType(n *ast.NamedType) (*store.Type, error) {
	t, err := c.exprType(n)
	if err == nil && t.Code != store.Proto {
		err = invalid("NEW constructors are not allowed for type %s", TypeName(t))
	}
	return t, err
}

// bracedProto is NEW type {field: value …}, also of a field of another such.
func (c *compiler) bracedProto(t *store.Type, body *ast.BracedConstructor) (*expr, error) {
	var sets []assignment
	for _, bf := range body.Fields {
		f := fieldNamed(messageOf(t), bf.Name.Name)
		if f == nil {
			return nil, invalid("%s is not a field in proto %s", bf.Name.Name, t.Name)
		}
		x, err := c.bracedValue(f, bf.Value)
		if err != nil {
			return nil, err
		}
		if sets, err = assign(sets, []protoreflect.FieldDescriptor{f}, x); err != nil {
			return nil, err
		}
	}
	return construct(t, sets)
}

func (c *compiler) bracedValue(f protoreflect.FieldDescriptor, tree ast.BracedConstructorFieldValue) (*expr, error) {
	var body *ast.BracedConstructor
	switch v := tree.(type) {
	case *ast.BracedConstructor:
		body = v
	case *ast.BracedConstructorFieldValueExpr:
		inner, ok := v.Expr.(*ast.BracedConstructor)
		if !ok {
			return c.expr(v.Expr)
		}
		body = inner
	default:
		return nil, unimplemented("the field value %s", tree.SQL())
	}
	if f.Message() == nil || f.IsMap() {
		return nil, invalid("field %s is no message, so it takes no {}", f.FullName())
	}
	elem := &store.Type{Code: store.Proto, Name: string(f.Message().FullName()), Descriptor: f.Message()}
	x, err := c.bracedProto(elem, body)
	if err == nil && f.IsList() {
		x = composed(&store.Type{Code: store.Array, Elem: elem}, []*expr{x})
	}
	return x, err
}

// assign adds an assignment and refuses a second one of a field.
func assign(sets []assignment, path []protoreflect.FieldDescriptor, x *expr) ([]assignment, error) {
	f := path[len(path)-1]
	t, err := fieldType(f)
	if err != nil {
		return nil, err
	}
	if f.IsMap() {
		return nil, unimplemented("setting the map field %s", f.FullName())
	}
	if !coercible(x, t) {
		return nil, invalid("Could not store value with type %s into proto field %s which has SQL type %s", TypeName(x.typ), f.FullName(), TypeName(t))
	}
	if x, err = coerce(x, t); err != nil {
		return nil, err
	}
	for _, s := range sets {
		if len(s.path) == len(path) && pathText(s.path) == pathText(path) {
			return nil, invalid("proto field %s is given twice", f.FullName())
		}
	}
	return append(sets, assignment{path, x}), nil
}

func pathText(path []protoreflect.FieldDescriptor) string {
	names := make([]string, len(path))
	for i, f := range path {
		names[i] = string(f.Name())
	}
	return strings.Join(names, ".")
}

func construct(t *store.Type, sets []assignment) (*expr, error) {
	fields := messageOf(t).Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Cardinality() != protoreflect.Required {
			continue
		}
		given := false
		for _, s := range sets {
			given = given || s.path[0] == f
		}
		if !given {
			return nil, invalid("Cannot construct proto %s because required field %s is missing", t.Name, f.Name())
		}
	}
	return made(t, nil, sets), nil
}

// replaceFields is REPLACE_FIELDS(proto, value AS path, …).
func (c *compiler) replaceFields(e *ast.ReplaceFieldsExpr) (*expr, error) {
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	if x.typ == nil || x.typ.Code != store.Proto {
		return nil, invalid("REPLACE_FIELDS() needs a protocol buffer, not %s", TypeName(x.typ))
	}
	var sets []assignment
	for _, a := range e.Fields {
		d := messageOf(x.typ)
		var path []protoreflect.FieldDescriptor
		for i, id := range a.Field.Idents {
			if i > 0 {
				last := path[i-1]
				if last.Message() == nil || last.IsList() || last.IsMap() {
					return nil, invalid("REPLACE_FIELDS() cannot reach %s: %s is not one message", pathName(a.Field), last.FullName())
				}
				d = last.Message()
			}
			f := fieldNamed(d, id.Name)
			if f == nil {
				return nil, invalid("Protocol buffer %s does not have a field named %s", d.FullName(), id.Name)
			}
			path = append(path, f)
		}
		v, err := c.expr(a.Expr)
		if err != nil {
			return nil, err
		}
		if sets, err = assign(sets, path, v); err != nil {
			return nil, err
		}
	}
	return made(x.typ, x, sets), nil
}

// made is a message with fields set, starting from another if there is one.
func made(t *store.Type, from *expr, sets []assignment) *expr {
	args := make([]*expr, len(sets), len(sets)+1)
	for i, s := range sets {
		args[i] = s.value
	}
	if from != nil {
		args = append(args, from)
	}
	return derived(t, func(f *frame) (store.Value, error) {
		var m protoreflect.Message = dynamicpb.NewMessage(messageOf(t))
		if from != nil {
			v, err := from.eval(f)
			if err != nil || !v.Valid {
				return store.Value{}, err
			}
			if m, err = readProto(t, v); err != nil {
				return store.Value{}, err
			}
		}
		for _, s := range sets {
			v, err := s.value.eval(f)
			if err != nil {
				return store.Value{}, err
			}
			if err := setField(m, s.path, v); err != nil {
				return store.Value{}, err
			}
		}
		return protoValue(m)
	}, args...)
}

func setField(m protoreflect.Message, path []protoreflect.FieldDescriptor, v store.Value) error {
	f := path[0]
	if len(path) > 1 {
		if !m.Has(f) {
			return outOfRange("REPLACE_FIELDS() cannot be used to modify the fields of an unset proto: %s", f.FullName())
		}
		return setField(m.Mutable(f).Message(), path[1:], v)
	}
	m.Clear(f)
	if !v.Valid {
		return nil
	}
	if !f.IsList() {
		pv, err := toField(f, v)
		if err == nil {
			m.Set(f, pv)
		}
		return err
	}
	list := m.Mutable(f).List()
	for _, e := range v.List {
		if !e.Valid {
			return outOfRange("Cannot encode a null value in repeated protocol message field %s", f.FullName())
		}
		pv, err := toField(f, e)
		if err != nil {
			return err
		}
		list.Append(pv)
	}
	return nil
}

// toField is a SQL value as one of a field.
func toField(f protoreflect.FieldDescriptor, v store.Value) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(v.Int != 0), nil
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(v.Int)), nil
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(v.Float), nil
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(v.Float)), nil
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(v.Text), nil
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(v.Text)), nil
	case protoreflect.MessageKind, protoreflect.GroupKind:
		m := dynamicpb.NewMessage(f.Message())
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(v.Text), m); err != nil {
			return protoreflect.Value{}, outOfRange("Corrupted protocol buffer: cannot read %s: %v", f.Message().FullName(), err)
		}
		return protoreflect.ValueOfMessage(m), nil
	}
	return protoreflect.ValueOfInt64(v.Int), nil
}

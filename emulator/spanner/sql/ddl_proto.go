package sql

import (
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
	"github.com/cloudspannerecosystem/memefish/token"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func (b *builder) createProtoBundle(t *ast.CreateProtoBundle) error {
	names, err := protoNames(t.Types)
	if err != nil {
		return err
	}
	bundle, err := store.NewProtoBundle(b.descriptors, names)
	if err != nil {
		return err
	}
	return b.setProtos(bundle)
}

func (b *builder) alterProtoBundle(t *ast.AlterProtoBundle) error {
	if b.Protos == nil {
		return failed("There is no proto bundle to alter: use CREATE PROTO BUNDLE")
	}
	var insert, update, remove []string
	for _, clause := range []struct {
		types *ast.ProtoBundleTypes
		into  *[]string
	}{
		{typesOf(t.Insert, func(c *ast.AlterProtoBundleInsert) *ast.ProtoBundleTypes { return c.Types }), &insert},
		{typesOf(t.Update, func(c *ast.AlterProtoBundleUpdate) *ast.ProtoBundleTypes { return c.Types }), &update},
		{typesOf(t.Delete, func(c *ast.AlterProtoBundleDelete) *ast.ProtoBundleTypes { return c.Types }), &remove},
	} {
		var err error
		if *clause.into, err = protoNames(clause.types); err != nil {
			return err
		}
	}
	if len(insert)+len(update)+len(remove) == 0 {
		return invalid("ALTER PROTO BUNDLE says nothing to alter")
	}
	bundle, err := b.Protos.Alter(b.descriptors, insert, update, remove)
	if err != nil {
		return err
	}
	return b.setProtos(bundle)
}

func typesOf[T any](clause *T, types func(*T) *ast.ProtoBundleTypes) *ast.ProtoBundleTypes {
	if clause == nil {
		return nil
	}
	return types(clause)
}

func (b *builder) dropProtoBundle() error {
	if b.Protos == nil {
		return failed("There is no proto bundle to drop")
	}
	return b.setProtos(nil)
}

func protoNames(t *ast.ProtoBundleTypes) ([]string, error) {
	if t == nil {
		return nil, nil
	}
	var out []string
	for _, n := range t.Types {
		name := namedPath(n)
		if slices.Contains(out, name) {
			return nil, store.Errorf(codes.AlreadyExists, "The type `%s` is named twice", name)
		}
		out = append(out, name)
	}
	return out, nil
}

// namedPath is a type's name, which is written bare or as a whole in backticks.
func namedPath(n *ast.NamedType) string {
	parts := make([]string, len(n.Path))
	for i, id := range n.Path {
		parts[i] = id.Name
	}
	return strings.Join(parts, ".")
}

// setProtos gives the schema another bundle, and its columns and their expressions the bundle's types.
func (b *builder) setProtos(bundle *store.ProtoBundle) error {
	b.Protos = bundle
	for i, old := range b.Tables {
		t := *old
		t.Columns = slices.Clone(old.Columns)
		t.Checks = slices.Clone(old.Checks)
		for j := range t.Columns {
			c := &t.Columns[j]
			typ, missing := rebound(bundle, c.Type)
			if missing != "" {
				return failed("Removed type `%s` is still being used by column %s.%s", missing, t.QualifiedName(), c.Name)
			}
			c.Type = typ
		}
		if err := b.compileColumns(&t); err != nil {
			return failed("the change of the proto bundle breaks table %s: %v", t.QualifiedName(), err)
		}
		b.Tables[i] = &t
	}
	return nil
}

// rebound is a column's type with the bundle's definition of it, or the name of the type that the bundle lacks.
func rebound(bundle *store.ProtoBundle, t *store.Type) (typ *store.Type, missing string) {
	switch t.Code {
	case store.Array:
		elem, missing := rebound(bundle, t.Elem)
		if elem == t.Elem || missing != "" {
			return t, missing
		}
		return &store.Type{Code: store.Array, Elem: elem}, ""
	case store.Proto, store.Enum:
		if now := bundle.Type(t.Name); now != nil && now.Code == t.Code {
			return now, ""
		}
		return nil, t.Name
	}
	return t, ""
}

func printProtos(p *store.ProtoBundle) string {
	text := "CREATE PROTO BUNDLE (\n"
	for _, n := range p.Names() {
		text += "  " + protoName(n) + ",\n"
	}
	return text + ")"
}

// protoName writes a type's name in the list of a bundle: in backticks if a part of it is a reserved word.
func protoName(name string) string {
	if slices.ContainsFunc(strings.Split(name, "."), func(part string) bool { return token.QuoteSQLIdent(part) != part }) {
		return "`" + name + "`"
	}
	return name
}

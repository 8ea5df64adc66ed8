package store

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// Access is what a session with a database role may do. A nil *Access may do everything, as a session without one.
type Access struct {
	role string
	// direct are the role and those that it inherits from; all has public as well.
	direct, all []*Role
}

// Access returns what a role may do, or nil for the name "". A role that does not exist is PERMISSION_DENIED.
func (s *Schema) Access(role string) (*Access, error) {
	if role == "" {
		return nil, nil
	}
	r := s.Role(role)
	if r == nil {
		return nil, Errorf(codes.PermissionDenied, "Role not found: %s.", role)
	}
	direct := s.Inherited(r)
	return &Access{role: r.Name, direct: direct, all: append(slices.Clip(direct), s.Role(PublicRole))}, nil
}

// Member reports whether the role is, or inherits from, the role of a name; orPublic counts public in.
func (a *Access) Member(role string, orPublic bool) bool {
	return a == nil || orPublic && strings.EqualFold(role, PublicRole) ||
		slices.ContainsFunc(a.direct, func(r *Role) bool { return strings.EqualFold(r.Name, role) })
}

// Everything reports whether the role sees the whole INFORMATION_SCHEMA.
func (a *Access) Everything() bool { return a.Member(InfoReaderRole, false) }

// any reports whether some grant of the role's satisfies ok.
func (a *Access) any(ok func(*Grant) bool) bool {
	for _, r := range a.all {
		for i := range r.Grants {
			if ok(&r.Grants[i]) {
				return true
			}
		}
	}
	return false
}

// Holds reports whether the role has a privilege on a whole object.
func (a *Access) Holds(p Privilege, on ObjectKind, name string) bool {
	want := Grant{Privilege: p, On: on, Object: name}
	return a == nil || a.any(func(g *Grant) bool { return g.Columns == nil && g.sameObject(&want) })
}

// HoldsColumn reports whether the role has a privilege on a column of a table.
func (a *Access) HoldsColumn(p Privilege, table, column string) bool {
	want := Grant{Privilege: p, On: TableObject, Object: table}
	return a == nil || a.any(func(g *Grant) bool {
		return g.sameObject(&want) && (g.Columns == nil || containsFold(g.Columns, column))
	})
}

// HoldsAny reports whether the role has a privilege on a table or some column of it.
func (a *Access) HoldsAny(p Privilege, table string) bool {
	want := Grant{Privilege: p, On: TableObject, Object: table}
	return a == nil || a.any(func(g *Grant) bool { return g.sameObject(&want) })
}

func (a *Access) denied(on ObjectKind, name string) error {
	return Errorf(codes.PermissionDenied, "Role %s does not have required privileges on %s %s.", a.role, on, name)
}

// usage refuses a named schema whose objects the role may not use.
func (a *Access) usage(schema string) error {
	if schema == "" || a.Holds(UsagePrivilege, SchemaObject, schema) {
		return nil
	}
	return a.denied(SchemaObject, schema)
}

// Object returns PERMISSION_DENIED unless the role has a privilege on an object by its qualified name.
func (a *Access) Object(p Privilege, on ObjectKind, name string) error {
	if a == nil {
		return nil
	}
	if schema, _, ok := strings.Cut(name, "."); ok && on != FunctionObject {
		if err := a.usage(schema); err != nil {
			return err
		}
	}
	if !a.Holds(p, on, name) {
		return a.denied(on, name)
	}
	return nil
}

// NextValue returns PERMISSION_DENIED unless the role may take values from a sequence, which UPDATE and SELECT both allow.
func (a *Access) NextValue(sequence string) error {
	if a.Object(SelectPrivilege, SequenceObject, sequence) == nil {
		return nil
	}
	return a.Object(UpdatePrivilege, SequenceObject, sequence)
}

// Insert returns PERMISSION_DENIED unless the role may insert rows with some columns, and use the sequences behind the
// defaults of the others.
func (a *Access) Insert(t *Table, columns []int) error {
	if a == nil {
		return nil
	}
	if err := a.Columns(InsertPrivilege, t, columns...); err != nil {
		return err
	}
	for i := range t.Columns {
		if slices.Contains(columns, i) {
			continue
		}
		if err := a.Default(&t.Columns[i]); err != nil {
			return err
		}
	}
	return nil
}

// Default returns PERMISSION_DENIED unless the role may use the sequences behind a column's default.
func (a *Access) Default(c *Column) error {
	for _, q := range c.DefaultUses {
		if err := a.NextValue(q); err != nil {
			return err
		}
	}
	return nil
}

// Columns returns PERMISSION_DENIED unless the role has a privilege on all of some columns of a table, which are indexes
// into Table.Columns.
func (a *Access) Columns(p Privilege, t *Table, columns ...int) error {
	if a == nil {
		return nil
	}
	if err := a.usage(t.Schema); err != nil {
		return err
	}
	for _, c := range columns {
		if !a.HoldsColumn(p, t.QualifiedName(), t.Columns[c].Name) {
			return a.denied(TableObject, t.QualifiedName())
		}
	}
	return nil
}

// Some returns PERMISSION_DENIED unless the role has a privilege on a table or on some column of it.
func (a *Access) Some(p Privilege, t *Table) error {
	if a == nil {
		return nil
	}
	if err := a.usage(t.Schema); err != nil {
		return err
	}
	if !a.HoldsAny(p, t.QualifiedName()) {
		return a.denied(TableObject, t.QualifiedName())
	}
	return nil
}

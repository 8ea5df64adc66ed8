package store

import (
	"slices"
	"strings"
)

// Role is one version of a database role, of fine-grained access control; immutable.
type Role struct {
	Name string
	// System roles are in every database and cannot be dropped.
	System bool
	// MemberOf names the roles whose privileges it inherits, and Grants are its own, both in the order they were granted.
	MemberOf []string
	Grants   []Grant
}

// The system roles. Every role inherits from public; the privileges of the other two are built in.
const (
	PublicRole     = "public"
	InfoReaderRole = "spanner_info_reader"
	SysReaderRole  = "spanner_sys_reader"
)

func systemRoles() []*Role {
	return []*Role{{Name: PublicRole, System: true}, {Name: InfoReaderRole, System: true}, {Name: SysReaderRole, System: true}}
}

// Privilege is what a grant allows.
type Privilege string

// The privileges.
const (
	SelectPrivilege  Privilege = "SELECT"
	InsertPrivilege  Privilege = "INSERT"
	UpdatePrivilege  Privilege = "UPDATE"
	DeletePrivilege  Privilege = "DELETE"
	ExecutePrivilege Privilege = "EXECUTE"
	UsagePrivilege   Privilege = "USAGE"
)

// ObjectKind is a kind of things that privileges are granted on. Its text is how errors name it.
type ObjectKind string

// The kinds.
const (
	TableObject    ObjectKind = "table"
	ViewObject     ObjectKind = "view"
	StreamObject   ObjectKind = "change stream"
	FunctionObject ObjectKind = "table function"
	SequenceObject ObjectKind = "sequence"
	SchemaObject   ObjectKind = "schema"
)

// Grant is a privilege on one object.
type Grant struct {
	Privilege Privilege
	On        ObjectKind
	// Object is the qualified name. A read function has the name that queries call it by.
	Object string
	// Columns are those of a table that the grant is limited to; nil means the whole, with the columns to come.
	Columns []string
}

// sameObject reports whether two grants are of the same privilege on the same object.
func (g *Grant) sameObject(h *Grant) bool {
	return g.Privilege == h.Privilege && g.On == h.On && strings.EqualFold(g.Object, h.Object)
}

// Granted returns a copy of the role with another grant. What it has already changes nothing.
func (r *Role) Granted(g Grant) *Role {
	out := *r
	out.Grants = slices.Clone(r.Grants)
	for i := range out.Grants {
		have := &out.Grants[i]
		if !have.sameObject(&g) || (have.Columns == nil) != (g.Columns == nil) {
			continue
		}
		have.Columns = slices.Clone(have.Columns)
		for _, c := range g.Columns {
			if !containsFold(have.Columns, c) {
				have.Columns = append(have.Columns, c)
			}
		}
		return &out
	}
	out.Grants = append(out.Grants, g)
	return &out
}

// Revoked returns a copy of the role without a grant: of the columns that g names, which leaves a grant of the whole
// table in force, or else of all that it has of the privilege on the object.
func (r *Role) Revoked(g Grant) *Role {
	out := *r
	out.Grants = nil
	for _, have := range r.Grants {
		if have.sameObject(&g) {
			if g.Columns == nil {
				continue
			}
			if have.Columns != nil {
				have.Columns = slices.DeleteFunc(slices.Clone(have.Columns), func(c string) bool { return containsFold(g.Columns, c) })
				if len(have.Columns) == 0 {
					continue
				}
			}
		}
		out.Grants = append(out.Grants, have)
	}
	return &out
}

// Role finds a role by its name, ignoring case, or returns nil.
func (s *Schema) Role(name string) *Role {
	for _, r := range s.Roles {
		if strings.EqualFold(r.Name, name) {
			return r
		}
	}
	return nil
}

// Inherited returns a role and all roles that it inherits from but public, each once.
func (s *Schema) Inherited(r *Role) []*Role {
	out := []*Role{r}
	for i := 0; i < len(out); i++ {
		for _, name := range out[i].MemberOf {
			if m := s.Role(name); m != nil && !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	return out
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(x, s) })
}

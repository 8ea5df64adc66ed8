package sql

import (
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// maxRoles is Spanner's limit on the roles of a database.
const maxRoles = 100

func (b *builder) createRole(t *ast.CreateRole) error {
	name := t.Name.Name
	lower := strings.ToLower(name)
	switch {
	case lower == store.PublicRole, strings.HasPrefix(lower, "spanner_"):
		return invalid("the role name %s is reserved for system roles", name)
	case len(name) > 128:
		return invalid("the name %s is longer than 128 characters", name)
	case b.Role(name) != nil:
		return failed("Duplicate name in schema: %s.", name)
	}
	if own := slices.DeleteFunc(slices.Clone(b.Roles), func(r *store.Role) bool { return r.System }); len(own) >= maxRoles {
		return failed("Cannot create role %s: a database can have at most %d roles", name, maxRoles)
	}
	b.Roles = append(b.Roles, &store.Role{Name: name})
	return nil
}

// role finds a role that a statement names.
func (b *builder) role(id *ast.Ident) (*store.Role, error) {
	if r := b.Role(id.Name); r != nil {
		return r, nil
	}
	return nil, notFound("Role not found: %s", id.Name)
}

func (b *builder) dropRole(t *ast.DropRole) error {
	r, err := b.role(t.Name)
	switch {
	case err != nil:
		return err
	case r.System:
		return invalid("the system role %s cannot be dropped", r.Name)
	case len(r.Grants) > 0:
		g := r.Grants[0]
		return failed("Cannot drop role %s: it has %s on %s %s. Revoke all privileges from it first.", r.Name, g.Privilege, g.On, g.Object)
	}
	b.Roles = slices.DeleteFunc(b.Roles, func(x *store.Role) bool { return x == r })
	for i, m := range b.Roles {
		if containsFold(m.MemberOf, r.Name) {
			b.Roles[i] = withoutParent(m, r.Name)
		}
	}
	return nil
}

func withoutParent(r *store.Role, parent string) *store.Role {
	out := *r
	out.MemberOf = slices.DeleteFunc(slices.Clone(r.MemberOf), func(n string) bool { return strings.EqualFold(n, parent) })
	return &out
}

// grant carries out GRANT, or REVOKE.
func (b *builder) grant(p ast.Privilege, grantees []*ast.Ident, revoke bool) error {
	var roles []*store.Role
	for _, id := range grantees {
		r, err := b.role(id)
		if err != nil {
			return err
		}
		if r.System && r.Name != store.PublicRole {
			return invalid("the privileges and memberships of the system role %s cannot be changed", r.Name)
		}
		roles = append(roles, r)
	}
	if m, ok := p.(*ast.RolePrivilege); ok {
		return b.grantRoles(m.Names, roles, revoke)
	}
	grants, err := b.grants(p)
	if err != nil {
		return err
	}
	for _, r := range roles {
		at := slices.Index(b.Roles, r)
		if at < 0 {
			continue // named twice, and changed already
		}
		for _, g := range grants {
			if revoke {
				r = r.Revoked(g)
			} else {
				r = r.Granted(g)
			}
		}
		b.Roles[at] = r
	}
	return nil
}

// grantRoles makes members of roles, or ends that.
func (b *builder) grantRoles(parents []*ast.Ident, members []*store.Role, revoke bool) error {
	for _, id := range parents {
		parent, err := b.role(id)
		if err != nil {
			return err
		}
		if parent.Name == store.PublicRole {
			return invalid("membership in the role public cannot be granted or revoked: every role is a member of it")
		}
		for _, m := range members {
			m = b.Role(m.Name) // an earlier parent may have changed it
			at := slices.Index(b.Roles, m)
			switch {
			case revoke:
				b.Roles[at] = withoutParent(m, parent.Name)
			case m.System:
				return invalid("the system role %s cannot be a member of another role", m.Name)
			case slices.Contains(b.Inherited(parent), m):
				return failed("Cannot grant role %s to role %s: %s would inherit from itself", parent.Name, m.Name, m.Name)
			case !containsFold(m.MemberOf, parent.Name):
				out := *m
				out.MemberOf = append(slices.Clone(m.MemberOf), parent.Name)
				b.Roles[at] = &out
			}
		}
	}
	return nil
}

// grants are the single grants that a statement's privilege stands for. Names of objects must be written as they were
// when the objects were made.
func (b *builder) grants(p ast.Privilege) ([]store.Grant, error) {
	switch p := p.(type) {
	case *ast.PrivilegeOnTable:
		return b.tableGrants(p.Privileges, pathNames(p.Names))
	case *ast.PrivilegeOnAllTablesInSchema:
		names, err := b.inSchemas(p.Schemas, store.TableObject)
		if err != nil {
			return nil, err
		}
		return b.tableGrants(p.Privileges, names)
	case *ast.PrivilegeOnSequence:
		return b.sequenceGrants(p.Privileges, pathNames(p.Names))
	case *ast.PrivilegeOnAllSequencesInSchema:
		names, err := b.inSchemas(p.Schemas, store.SequenceObject)
		if err != nil {
			return nil, err
		}
		return b.sequenceGrants(p.Privileges, names)
	case *ast.SelectPrivilegeOnChangeStream:
		return b.objectGrants(store.SelectPrivilege, store.StreamObject, pathNames(p.Names))
	case *ast.SelectPrivilegeOnAllChangeStreamsInSchema:
		names, err := b.inSchemas(p.Schemas, store.StreamObject)
		if err != nil {
			return nil, err
		}
		return b.objectGrants(store.SelectPrivilege, store.StreamObject, names)
	case *ast.SelectPrivilegeOnView:
		return b.objectGrants(store.SelectPrivilege, store.ViewObject, pathNames(p.Names))
	case *ast.SelectPrivilegeOnAllViewsInSchema:
		names, err := b.inSchemas(p.Schemas, store.ViewObject)
		if err != nil {
			return nil, err
		}
		return b.objectGrants(store.SelectPrivilege, store.ViewObject, names)
	case *ast.ExecutePrivilegeOnTableFunction:
		return b.objectGrants(store.ExecutePrivilege, store.FunctionObject, pathNames(p.Names))
	case *ast.UsagePrivilegeOnSchema:
		if !p.Default.Invalid() {
			return nil, nil // every role may use the default schema
		}
		return b.objectGrants(store.UsagePrivilege, store.SchemaObject, pathNames(p.Schemas))
	}
	return nil, unimplemented("the privilege %s", p.SQL())
}

func pathNames(paths []*ast.Path) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = pathName(p)
	}
	return out
}

// named are the names of all objects of a kind.
func (b *builder) named(on store.ObjectKind) (out []string) {
	switch on {
	case store.TableObject:
		for _, t := range b.Tables {
			out = append(out, t.QualifiedName())
		}
	case store.ViewObject:
		for _, v := range b.Views {
			out = append(out, v.QualifiedName())
		}
	case store.StreamObject:
		for _, s := range b.Streams {
			out = append(out, s.Name)
		}
	case store.FunctionObject:
		for _, s := range b.Streams {
			for _, f := range functionsOf(b.Schema, s) {
				out = append(out, f.called(b.Schema))
			}
		}
	case store.SequenceObject:
		for _, q := range b.Sequences {
			out = append(out, q.QualifiedName())
		}
	case store.SchemaObject:
		out = b.Namespaces
	}
	return out
}

// inSchemas are the names of the objects of a kind in some named schemas; default is the one without a name.
func (b *builder) inSchemas(schemas []*ast.Path, on store.ObjectKind) (out []string, err error) {
	for _, p := range schemas {
		schema := pathName(p)
		if strings.EqualFold(schema, "default") {
			schema = ""
		} else if !slices.Contains(b.Namespaces, schema) {
			return nil, notFound("Schema not found: %s", schema)
		}
		for _, n := range b.named(on) {
			if in, _ := splitName(n); in == schema {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

func (b *builder) objectGrants(p store.Privilege, on store.ObjectKind, names []string) (out []store.Grant, err error) {
	have := b.named(on)
	for _, n := range names {
		if !slices.Contains(have, n) {
			return nil, notFound("%s%s not found: %s", strings.ToUpper(string(on[:1])), on[1:], n)
		}
		out = append(out, store.Grant{Privilege: p, On: on, Object: n})
	}
	return out, nil
}

func (b *builder) sequenceGrants(privileges []ast.TablePrivilege, names []string) (out []store.Grant, err error) {
	for _, p := range privileges {
		privilege, _ := tablePrivilege(p)
		grants, err := b.objectGrants(privilege, store.SequenceObject, names)
		if err != nil {
			return nil, err
		}
		out = append(out, grants...)
	}
	return out, nil
}

// tablePrivilege is a privilege and the columns it is limited to.
func tablePrivilege(p ast.TablePrivilege) (store.Privilege, []*ast.Ident) {
	switch p := p.(type) {
	case *ast.SelectPrivilege:
		return store.SelectPrivilege, p.Columns
	case *ast.InsertPrivilege:
		return store.InsertPrivilege, p.Columns
	case *ast.UpdatePrivilege:
		return store.UpdatePrivilege, p.Columns
	}
	return store.DeletePrivilege, nil
}

func (b *builder) tableGrants(privileges []ast.TablePrivilege, names []string) (out []store.Grant, err error) {
	for _, p := range privileges {
		privilege, columns := tablePrivilege(p)
		grants, err := b.objectGrants(privilege, store.TableObject, names)
		if err != nil {
			return nil, err
		}
		for i := range grants {
			t := b.Table(grants[i].Object)
			for _, id := range columns {
				at := t.ColumnIndex(id.Name)
				switch {
				case at < 0 || t.Columns[at].Name != id.Name:
					return nil, notFound("Column not found in table %s: %s", t.QualifiedName(), id.Name)
				case t.Columns[at].Generated != "" && privilege != store.SelectPrivilege:
					return nil, invalid("%s cannot be granted on the generated column %s.%s", privilege, t.QualifiedName(), id.Name)
				}
				grants[i].Columns = append(grants[i].Columns, id.Name)
			}
		}
		out = append(out, grants...)
	}
	return out, nil
}

// pruneGrants drops the grants on objects and columns that the statement has dropped, so that others of their names
// do not inherit them.
func (b *builder) pruneGrants() {
	for i, r := range b.Roles {
		for _, g := range r.Grants {
			if !slices.Contains(b.named(g.On), g.Object) {
				r = r.Revoked(g)
				continue
			}
			if g.Columns == nil {
				continue
			}
			t := b.Table(g.Object)
			gone := g
			gone.Columns = slices.DeleteFunc(slices.Clone(g.Columns), func(c string) bool { return t.ColumnIndex(c) >= 0 })
			if len(gone.Columns) > 0 {
				r = r.Revoked(gone)
			}
		}
		b.Roles[i] = r
	}
}

// renameGrants lets the grants on a table follow its new name.
func (b *builder) renameGrants(was, name string) {
	for i, r := range b.Roles {
		out := *r
		out.Grants = slices.Clone(r.Grants)
		for j, g := range out.Grants {
			if g.On == store.TableObject && g.Object == was {
				out.Grants[j].Object = name
			}
		}
		b.Roles[i] = &out
	}
}

package sql

import (
	"slices"
	"strings"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// roleViews are the views about roles that only GoogleSQL has in this form.
var roleViews = map[string]func(*store.Schema) *virtual{
	"ROLES": rolesView, "ROLE_GRANTEES": roleGranteesView, "TABLE_PRIVILEGES": tablePrivilegesView, "COLUMN_PRIVILEGES": columnPrivilegesView,
	"CHANGE_STREAM_PRIVILEGES": streamPrivilegesView, "ROLE_CHANGE_STREAM_GRANTS": streamPrivilegesView,
	"ROUTINE_PRIVILEGES": routinePrivilegesView, "ROLE_ROUTINE_GRANTS": roleRoutineGrantsView,
}

// pgRoleViews are those that only the PostgreSQL dialect has in this form.
var pgRoleViews = map[string]func(*store.Schema) *virtual{
	"ENABLED_ROLES": enabledRolesView, "APPLICABLE_ROLES": applicableRolesView,
	"TABLE_PRIVILEGES": roleTableGrantsView, "COLUMN_PRIVILEGES": roleColumnGrantsView,
	"CHANGE_STREAM_PRIVILEGES": pgStreamPrivilegesView, "ROLE_CHANGE_STREAM_GRANTS": pgStreamPrivilegesView,
}

// informationView finds what makes a view in the schema's dialect, or returns nil.
func informationView(s *store.Schema, name string) func(*store.Schema) *virtual {
	own := roleViews
	if s.Postgres {
		own = pgRoleViews
	}
	if view := own[name]; view != nil {
		return view
	}
	return informationViews[name]
}

// unrestricted are the views that show all their rows to every role, though they name tables.
var unrestricted = map[string]bool{
	"TABLE_CONSTRAINTS": true, "CHECK_CONSTRAINTS": true, "REFERENTIAL_CONSTRAINTS": true, "CONSTRAINT_COLUMN_USAGE": true,
	"CONSTRAINT_TABLE_USAGE": true, "COLUMN_COLUMN_USAGE": true,
}

// restrict drops the rows about things on which the session's role has no privilege.
func (v *virtual) restrict(s *store.Schema, access *store.Access, view string) {
	if unrestricted[view] {
		return
	}
	at := func(name string) int {
		return slices.IndexFunc(v.columns, func(c column) bool { return c.name == name })
	}
	grantee, stream, sequence, table, column, role := at("GRANTEE"), at("CHANGE_STREAM_NAME"), at("NAME"), at("TABLE_NAME"), at("COLUMN_NAME"), at("ROLE_NAME")
	v.rows = slices.DeleteFunc(v.rows, func(r store.Row) bool {
		switch {
		case grantee >= 0: // who may see a grantee may see what it was granted
			return !access.Member(r[grantee].Text, !strings.HasPrefix(view, "ROLE_"))
		case role >= 0:
			return !access.Member(r[role].Text, true)
		case stream >= 0:
			return !access.Holds(store.SelectPrivilege, store.StreamObject, r[stream].Text)
		case sequence >= 0:
			name := qualifiedName(r[sequence-1].Text, r[sequence].Text)
			return !access.Holds(store.SelectPrivilege, store.SequenceObject, name) && !access.Holds(store.UpdatePrivilege, store.SequenceObject, name)
		case table >= 0:
			name := qualifiedName(r[table-1].Text, r[table].Text)
			if s.View(name) != nil {
				return !access.Holds(store.SelectPrivilege, store.ViewObject, name)
			}
			if column >= 0 {
				return !seesColumn(access, name, r[column].Text)
			}
			return !seesTable(access, name)
		}
		return false
	})
}

func qualifiedName(schema, name string) string {
	if schema == "" {
		return name
	}
	return schema + "." + name
}

func seesTable(a *store.Access, table string) bool {
	return a.HoldsAny(store.SelectPrivilege, table) || a.HoldsAny(store.InsertPrivilege, table) || a.HoldsAny(store.UpdatePrivilege, table) ||
		a.HoldsAny(store.DeletePrivilege, table)
}

func seesColumn(a *store.Access, table, column string) bool {
	return a.HoldsColumn(store.SelectPrivilege, table, column) || a.HoldsColumn(store.InsertPrivilege, table, column) ||
		a.HoldsColumn(store.UpdatePrivilege, table, column)
}

func rolesView(s *store.Schema) *virtual {
	v := define("ROLE_NAME IS_SYSTEM:b")
	for _, r := range s.Roles {
		v.add(r.Name, r.System)
	}
	return v
}

func enabledRolesView(s *store.Schema) *virtual {
	v := define("ROLE_NAME SPANNER_IS_SYSTEM:b")
	for _, r := range s.Roles {
		v.add(r.Name, r.System)
	}
	return v
}

func applicableRolesView(s *store.Schema) *virtual {
	v := define("GRANTEE ROLE_NAME IS_GRANTABLE")
	for _, r := range s.Roles {
		for _, parent := range r.MemberOf {
			v.add(r.Name, parent, "NO")
		}
	}
	return v
}

func pgStreamPrivilegesView(s *store.Schema) *virtual {
	v := define("GRANTOR GRANTEE CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME PRIVILEGE_TYPE IS_GRANTABLE")
	eachGrant(s, func(role string, g store.Grant) {
		v.add(nil, role, "", "", g.Object, string(g.Privilege), "NO")
	}, store.StreamObject)
	return v
}

func roleGranteesView(s *store.Schema) *virtual {
	v := define("ROLE_NAME GRANTEE")
	for _, r := range s.Roles {
		for _, parent := range r.MemberOf {
			v.add(parent, r.Name)
		}
	}
	return v
}

// eachGrant calls fn with every grant on objects of some kinds, and the name of the role that has it.
func eachGrant(s *store.Schema, fn func(role string, g store.Grant), kinds ...store.ObjectKind) {
	for _, r := range s.Roles {
		for _, g := range r.Grants {
			if slices.Contains(kinds, g.On) {
				fn(r.Name, g)
			}
		}
	}
}

func tablePrivilegesView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PRIVILEGE_TYPE GRANTEE")
	eachGrant(s, func(role string, g store.Grant) {
		if g.Columns == nil {
			schema, name := splitName(g.Object)
			v.add("", schema, name, string(g.Privilege), role)
		}
	}, store.TableObject, store.ViewObject)
	return v
}

// eachColumnGrant calls fn with every column on which a role has a privilege, be it by a grant on the whole table. DELETE
// is not a privilege of columns.
func eachColumnGrant(s *store.Schema, fn func(role string, g store.Grant, schema, table, column string)) {
	eachGrant(s, func(role string, g store.Grant) {
		columns := g.Columns
		if t := s.Table(g.Object); columns == nil && t != nil {
			for _, c := range t.Columns {
				columns = append(columns, c.Name)
			}
		}
		if g.Privilege == store.DeletePrivilege {
			return
		}
		schema, table := splitName(g.Object)
		for _, c := range columns {
			fn(role, g, schema, table, c)
		}
	}, store.TableObject)
}

func columnPrivilegesView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME PRIVILEGE_TYPE GRANTEE")
	eachColumnGrant(s, func(role string, g store.Grant, schema, table, column string) {
		v.add("", schema, table, column, string(g.Privilege), role)
	})
	return v
}

func streamPrivilegesView(s *store.Schema) *virtual {
	return privilegesOf(s, store.StreamObject, "CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME PRIVILEGE_TYPE GRANTEE")
}

func routinePrivilegesView(s *store.Schema) *virtual {
	return privilegesOf(s, store.FunctionObject, "SPECIFIC_CATALOG SPECIFIC_SCHEMA SPECIFIC_NAME PRIVILEGE_TYPE GRANTEE")
}

// privilegesOf lists what is granted on objects of a kind that have no named schema.
func privilegesOf(s *store.Schema, kind store.ObjectKind, columns string) *virtual {
	v := define(columns)
	eachGrant(s, func(role string, g store.Grant) {
		v.add("", "", g.Object, string(g.Privilege), role)
	}, kind)
	return v
}

func roleTableGrantsView(s *store.Schema) *virtual {
	v := define("GRANTOR GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PRIVILEGE_TYPE IS_GRANTABLE")
	eachGrant(s, func(role string, g store.Grant) {
		if g.Columns == nil {
			schema, name := splitName(g.Object)
			v.add(nil, role, "", schema, name, string(g.Privilege), "NO")
		}
	}, store.TableObject, store.ViewObject)
	return v
}

func roleColumnGrantsView(s *store.Schema) *virtual {
	v := define("GRANTOR GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME PRIVILEGE_TYPE IS_GRANTABLE")
	eachColumnGrant(s, func(role string, g store.Grant, schema, table, column string) {
		v.add(nil, role, "", schema, table, column, string(g.Privilege), "NO")
	})
	return v
}

func roleRoutineGrantsView(s *store.Schema) *virtual {
	v := define("GRANTOR GRANTEE SPECIFIC_CATALOG SPECIFIC_SCHEMA SPECIFIC_NAME PRIVILEGE_TYPE IS_GRANTABLE")
	eachGrant(s, func(role string, g store.Grant) {
		v.add(nil, role, "", "", g.Object, string(g.Privilege), "NO")
	}, store.FunctionObject)
	return v
}

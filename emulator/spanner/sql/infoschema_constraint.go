package sql

import (
	"strings"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// constraint is one constraint as the constraint views show it. NOT NULL is a CHECK there.
type constraint struct {
	table  *store.Table
	name   string
	kind   string
	clause string
	// columns are those that it constrains; used are those it depends on, in usedTable.
	columns, used []string
	usedTable     *store.Table
	fk            *store.ForeignKey
}

func constraintsOf(s *store.Schema) (out []constraint) {
	for _, t := range s.Tables {
		var key []string
		for _, k := range t.Key {
			key = append(key, t.Columns[k.Column].Name)
		}
		out = append(out, constraint{table: t, name: "PK_" + t.Name, kind: "PRIMARY KEY", columns: key, used: key, usedTable: t})
		for _, c := range t.Columns {
			if c.NotNull {
				out = append(out, constraint{table: t, name: "CK_IS_NOT_NULL_" + t.Name + "_" + c.Name, kind: "CHECK", clause: quoted(c.Name) + " IS NOT NULL", used: []string{c.Name}, usedTable: t})
			}
		}
		for _, c := range t.Checks {
			k := constraint{table: t, name: c.Name, kind: "CHECK", clause: c.Text, usedTable: t}
			for _, col := range t.Columns {
				if usesColumn(c.Text, col.Name) {
					k.used = append(k.used, col.Name)
				}
			}
			out = append(out, k)
		}
		for i := range t.ForeignKeys {
			f := &t.ForeignKeys[i]
			out = append(out, constraint{table: t, name: f.Name, kind: "FOREIGN KEY", columns: f.Columns, used: f.RefColumns, usedTable: s.Table(f.RefTable), fk: f})
		}
		for _, x := range s.IndexesOf(t) {
			if x.Managed && x.Unique {
				var cols []string
				for _, k := range x.Key {
					cols = append(cols, t.Columns[k.Column].Name)
				}
				out = append(out, constraint{table: t, name: x.Name, kind: "UNIQUE", columns: cols, used: cols, usedTable: t})
			}
		}
	}
	return out
}

// uniqueFor names the constraint that makes a foreign key's referenced columns unique.
func uniqueFor(s *store.Schema, f *store.ForeignKey) string {
	t := s.Table(f.RefTable)
	if t == nil {
		return ""
	}
	for _, x := range s.IndexesOf(t) {
		if x.Managed && x.Unique && len(x.Key) == len(f.RefColumns) && containsFold(f.RefColumns, t.Columns[x.Key[0].Column].Name) {
			return x.Name
		}
	}
	return "PK_" + t.Name
}

func tableConstraintsView(s *store.Schema) *virtual {
	v := define("CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE IS_DEFERRABLE INITIALLY_DEFERRED ENFORCED")
	for _, c := range constraintsOf(s) {
		v.add("", c.table.Schema, c.name, "", c.table.Schema, c.table.Name, c.kind, "NO", "NO", yesNo(c.fk == nil || !c.fk.NotEnforced))
	}
	return v
}

func checkConstraintsView(s *store.Schema) *virtual {
	v := define("CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME CHECK_CLAUSE SPANNER_STATE")
	for _, c := range constraintsOf(s) {
		if c.kind == "CHECK" {
			v.add("", c.table.Schema, c.name, c.clause, "COMMITTED")
		}
	}
	return v
}

func keyColumnUsageView(s *store.Schema) *virtual {
	v := define("CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i POSITION_IN_UNIQUE_CONSTRAINT:i")
	for _, c := range constraintsOf(s) {
		for i, col := range c.columns {
			var in any
			if c.fk != nil {
				in = i + 1
			}
			v.add("", c.table.Schema, c.name, "", c.table.Schema, c.table.Name, col, i+1, in)
		}
	}
	return v
}

func referentialConstraintsView(s *store.Schema) *virtual {
	v := define("CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME UNIQUE_CONSTRAINT_CATALOG UNIQUE_CONSTRAINT_SCHEMA UNIQUE_CONSTRAINT_NAME MATCH_OPTION UPDATE_RULE DELETE_RULE SPANNER_STATE")
	for _, c := range constraintsOf(s) {
		if c.fk == nil {
			continue
		}
		rule := "NO ACTION"
		if c.fk.Cascade {
			rule = "CASCADE"
		}
		schema, _ := splitName(c.fk.RefTable)
		v.add("", c.table.Schema, c.name, "", schema, uniqueFor(s, c.fk), "SIMPLE", "NO ACTION", rule, "COMMITTED")
	}
	return v
}

func constraintColumnUsageView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME")
	for _, c := range constraintsOf(s) {
		for _, col := range c.used {
			if c.usedTable != nil {
				v.add("", c.usedTable.Schema, c.usedTable.Name, col, "", c.table.Schema, c.name)
			}
		}
	}
	return v
}

func constraintTableUsageView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME")
	for _, c := range constraintsOf(s) {
		if c.usedTable != nil {
			v.add("", c.usedTable.Schema, c.usedTable.Name, "", c.table.Schema, c.name)
		}
	}
	return v
}

func columnColumnUsageView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME DEPENDENT_COLUMN")
	for _, t := range s.Tables {
		for _, c := range t.Columns {
			for _, u := range c.Uses {
				if !strings.EqualFold(t.Columns[u].Name, c.Name) {
					v.add("", t.Schema, t.Name, t.Columns[u].Name, c.Name)
				}
			}
		}
	}
	return v
}

package sql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// addConstraint adds a CHECK or FOREIGN KEY constraint to a table that is being built.
func (b *builder) addConstraint(tab *store.Table, c *ast.TableConstraint) error {
	name, named := "", c.Name != nil
	if named {
		name = c.Name.Name
		if b.hasConstraint(tab, name) {
			return failed("Duplicate name in schema: %s.", name)
		}
	}
	switch k := c.Constraint.(type) {
	case *ast.Check:
		if !named {
			name = b.freshConstraint(tab, "CK_"+tab.Name)
		}
		tab.Checks = append(slices.Clone(tab.Checks), store.Check{Name: name, Named: named, Text: b.source(k.Expr)})
		return nil
	case *ast.ForeignKey:
		if !named {
			name = b.freshConstraint(tab, fmt.Sprintf("FK_%s_%s", tab.Name, k.ReferenceTable.Idents[len(k.ReferenceTable.Idents)-1].Name))
		}
		return b.addForeignKey(tab, store.ForeignKey{Name: name, Named: named, Cascade: k.OnDelete == ast.OnDeleteCascade, NotEnforced: k.Enforcement == ast.NotEnforced}, k)
	}
	return unimplemented("the constraint %s of table %s", c.SQL(), tab.QualifiedName())
}

func (b *builder) hasConstraint(tab *store.Table, name string) bool {
	has := func(t *store.Table) bool {
		return slices.ContainsFunc(t.Checks, func(c store.Check) bool { return strings.EqualFold(c.Name, name) }) ||
			slices.ContainsFunc(t.ForeignKeys, func(f store.ForeignKey) bool { return strings.EqualFold(f.Name, name) })
	}
	return has(tab) || slices.ContainsFunc(b.Tables, has) || b.Table(name) != nil || b.Index(name) != nil
}

func (b *builder) freshConstraint(tab *store.Table, prefix string) string {
	for n := 1; ; n++ {
		if name := fmt.Sprintf("%s_%d", prefix, n); !b.hasConstraint(tab, name) {
			return name
		}
	}
}

func (b *builder) addForeignKey(tab *store.Table, fk store.ForeignKey, k *ast.ForeignKey) error {
	if fk.Cascade && fk.NotEnforced {
		return failed("foreign key %s of table %s cannot be both ON DELETE CASCADE and NOT ENFORCED", fk.Name, tab.QualifiedName())
	}
	to := b.Table(pathName(k.ReferenceTable))
	if strings.EqualFold(pathName(k.ReferenceTable), tab.QualifiedName()) {
		to = tab
	}
	if to == nil {
		return notFound("Table not found: %s, which foreign key %s of table %s refers to", pathName(k.ReferenceTable), fk.Name, tab.QualifiedName())
	}
	fk.RefTable = to.QualifiedName()
	if len(k.Columns) == 0 || len(k.Columns) != len(k.ReferenceColumns) {
		return invalid("foreign key %s of table %s names %d columns and refers to %d", fk.Name, tab.QualifiedName(), len(k.Columns), len(k.ReferenceColumns))
	}
	for i := range k.Columns {
		from, into := tab.ColumnIndex(k.Columns[i].Name), to.ColumnIndex(k.ReferenceColumns[i].Name)
		if from < 0 || into < 0 {
			return failed("foreign key %s of table %s names column %s.%s or %s.%s, which does not exist", fk.Name, tab.QualifiedName(), tab.QualifiedName(), k.Columns[i].Name, to.QualifiedName(), k.ReferenceColumns[i].Name)
		}
		if !sameType(tab.Columns[from].Type, to.Columns[into].Type) {
			return failed("foreign key %s of table %s: column %s is %s and column %s.%s is %s", fk.Name, tab.QualifiedName(), k.Columns[i].Name, TypeName(tab.Columns[from].Type), to.QualifiedName(), k.ReferenceColumns[i].Name, TypeName(to.Columns[into].Type))
		}
		if containsFold(fk.Columns, k.Columns[i].Name) || containsFold(fk.RefColumns, k.ReferenceColumns[i].Name) {
			return failed("foreign key %s of table %s names a column twice", fk.Name, tab.QualifiedName())
		}
		if !keyable(tab.Columns[from].Type) {
			return failed("foreign key %s of table %s: a column of type %s cannot be part of a key", fk.Name, tab.QualifiedName(), TypeName(tab.Columns[from].Type))
		}
		fk.Columns = append(fk.Columns, tab.Columns[from].Name)
		fk.RefColumns = append(fk.RefColumns, to.Columns[into].Name)
	}
	tab.ForeignKeys = append(slices.Clone(tab.ForeignKeys), fk)
	if !fk.NotEnforced {
		b.managedIndex(tab, fk.Columns, false)
		b.managedIndex(to, fk.RefColumns, true)
	}
	return nil
}

// managedIndex makes the index that finds rows by a foreign key's columns, unless the primary key does.
func (b *builder) managedIndex(t *store.Table, names []string, unique bool) {
	var key []store.KeyPart
	for _, n := range names {
		key = append(key, store.KeyPart{Column: t.ColumnIndex(n)})
	}
	covers := func(have []store.KeyPart) bool {
		return len(have) >= len(key) && !slices.ContainsFunc(have[:len(key)], func(p store.KeyPart) bool {
			return !slices.ContainsFunc(key, func(q store.KeyPart) bool { return p.Column == q.Column })
		})
	}
	if covers(t.Key) && (!unique || len(t.Key) == len(key)) {
		return
	}
	for _, x := range b.IndexesOf(t) {
		if x.Managed && covers(x.Key) && len(x.Key) == len(key) && x.Unique == unique {
			return
		}
	}
	id := b.newID()
	// NULLs refer to nothing and are not unique among themselves, so a unique index leaves them out.
	b.Indexes = append(b.Indexes, &store.Index{
		ID: id, Schema: t.Schema, Name: fmt.Sprintf("IDX_%s_%s_%016X", t.Name, strings.Join(names, "_"), uint64(id)*0x9E3779B97F4A7C15),
		Table: t.QualifiedName(), Key: key, Unique: unique, NullFiltered: unique, Managed: true,
	})
}

// dropManaged drops the managed indexes of t that no foreign key needs any more.
func (b *builder) dropManaged() {
	b.Indexes = slices.DeleteFunc(b.Indexes, func(x *store.Index) bool {
		if !x.Managed {
			return false
		}
		t := b.Table(x.Table)
		if t == nil {
			return true
		}
		is := func(names []string) bool {
			return len(names) == len(x.Key) && !slices.ContainsFunc(x.Key, func(p store.KeyPart) bool { return !containsFold(names, t.Columns[p.Column].Name) })
		}
		for _, other := range b.Tables {
			for _, fk := range other.ForeignKeys {
				if fk.NotEnforced {
					continue
				}
				if other == t && is(fk.Columns) || strings.EqualFold(fk.RefTable, t.QualifiedName()) && is(fk.RefColumns) {
					return false
				}
			}
		}
		return true
	})
}

func dropConstraint(tab *store.Table, name string) error {
	for i, c := range tab.Checks {
		if strings.EqualFold(c.Name, name) {
			tab.Checks = slices.Delete(slices.Clone(tab.Checks), i, i+1)
			return nil
		}
	}
	for i, f := range tab.ForeignKeys {
		if strings.EqualFold(f.Name, name) {
			tab.ForeignKeys = slices.Delete(slices.Clone(tab.ForeignKeys), i, i+1)
			return nil
		}
	}
	return notFound("%s is not a constraint in %s", name, tab.QualifiedName())
}

// usedByConstraint names a constraint that uses a column of t, here or in another table.
func (b *builder) usedByConstraint(t *store.Table, column string) string {
	for _, c := range t.Checks {
		if usesColumn(c.Text, column) {
			return c.Name
		}
	}
	for _, other := range b.Tables {
		for _, fk := range other.ForeignKeys {
			if strings.EqualFold(other.QualifiedName(), t.QualifiedName()) && containsFold(fk.Columns, column) ||
				strings.EqualFold(fk.RefTable, t.QualifiedName()) && containsFold(fk.RefColumns, column) {
				return fk.Name
			}
		}
	}
	return ""
}

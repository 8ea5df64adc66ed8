package sql

import (
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func (b *builder) createTable(t *ast.CreateTable) error {
	schema, name, err := b.objectName(t.Name)
	if err != nil {
		return err
	}
	full := pathName(t.Name)
	if t.IfNotExists && b.Table(full) != nil {
		return nil
	}
	if err := b.clash(full); err != nil {
		return err
	}
	if len(t.Synonyms) > 0 {
		return unimplemented("SYNONYM in CREATE TABLE %s", full)
	}
	if t.Options != nil {
		return unimplemented("OPTIONS on CREATE TABLE %s", full)
	}
	tab := &store.Table{ID: b.newID(), Schema: schema, Name: name}
	keys := t.PrimaryKeys
	for _, c := range t.Columns {
		if err := b.addColumn(tab, c); err != nil {
			return err
		}
		if c.PrimaryKey {
			if t.PrimaryKeys != nil {
				return invalid("table %s has more than one PRIMARY KEY", full)
			}
			keys = append(keys, &ast.IndexKey{Name: c.Name})
		}
	}
	for _, c := range t.TableConstraints {
		if pk, ok := c.Constraint.(*ast.TablePrimaryKey); ok {
			keys = append(keys, pk.Columns...)
			continue
		}
		if err := addConstraint(tab, c); err != nil {
			return err
		}
	}
	if len(keys) == 0 && t.PrimaryKeyRparen.Invalid() && !hasTableKey(t) {
		return invalid("table %s has no PRIMARY KEY", full)
	}
	if tab.Key, err = keyParts(tab, keys, "primary key of table "+full); err != nil {
		return err
	}
	if t.Cluster != nil {
		if err := b.interleave(tab, t.Cluster); err != nil {
			return err
		}
	}
	if t.RowDeletionPolicy != nil {
		if err := setRowDeletion(tab, t.RowDeletionPolicy.RowDeletionPolicy); err != nil {
			return err
		}
	}
	if err := compileColumns(tab); err != nil {
		return err
	}
	b.Tables = append(b.Tables, tab)
	return b.checkWatchLimits()
}

func hasTableKey(t *ast.CreateTable) bool {
	for _, c := range t.TableConstraints {
		if _, ok := c.Constraint.(*ast.TablePrimaryKey); ok {
			return true
		}
	}
	return false
}

func addConstraint(tab *store.Table, c *ast.TableConstraint) error {
	if fk, ok := c.Constraint.(*ast.ForeignKey); ok && fk.Enforcement == ast.NotEnforced {
		tab.Constraints = append(slices.Clone(tab.Constraints), c.SQL())
		return nil
	}
	return unimplemented("the constraint %s of table %s", c.SQL(), tab.QualifiedName())
}

func keyParts(tab *store.Table, keys []*ast.IndexKey, where string) ([]store.KeyPart, error) {
	var out []store.KeyPart
	for _, k := range keys {
		i := tab.ColumnIndex(k.Name.Name)
		if i < 0 {
			return nil, failed("the %s names column %s, which does not exist", where, k.Name.Name)
		}
		for _, have := range out {
			if have.Column == i {
				return nil, failed("the %s names column %s twice", where, k.Name.Name)
			}
		}
		switch tab.Columns[i].Type.Code {
		case store.Array, store.Struct, store.JSON, store.Proto, store.Interval:
			return nil, invalid("the %s contains column %s, whose type %s cannot be part of a key", where, k.Name.Name, TypeName(tab.Columns[i].Type))
		}
		out = append(out, store.KeyPart{Column: i, Desc: k.Dir == ast.DirectionDesc})
	}
	return out, nil
}

// addColumn appends a column; its expressions are compiled later, when all columns are known.
func (b *builder) addColumn(tab *store.Table, c *ast.ColumnDef) error {
	full := tab.QualifiedName()
	if tab.ColumnIndex(c.Name.Name) >= 0 {
		return failed("Duplicate column name %s.%s.", full, c.Name.Name)
	}
	if len(c.Name.Name) > 128 {
		return invalid("the name %s is longer than 128 characters", c.Name.Name)
	}
	typ, n, err := columnType(c.Type)
	if err != nil {
		return err
	}
	if c.PlacementKey != nil {
		return unimplemented("PLACEMENT KEY on column %s.%s", full, c.Name.Name)
	}
	tab.LastOrdinal++
	col := store.Column{Name: c.Name.Name, Type: typ, Ordinal: tab.LastOrdinal, NotNull: c.NotNull, MaxLength: n, Hidden: !c.Hidden.Invalid()}
	switch d := c.DefaultSemantics.(type) {
	case nil:
	case *ast.ColumnDefaultExpr:
		if d.OnUpdate != nil {
			return unimplemented("ON UPDATE on column %s.%s", full, c.Name.Name)
		}
		col.Default = d.Expr.SQL()
	case *ast.GeneratedColumnExpr:
		if d.Stored.Invalid() {
			return unimplemented("a generated column without STORED: %s.%s", full, c.Name.Name)
		}
		col.Generated = d.Expr.SQL()
	default:
		return unimplemented("%s on column %s.%s", d.SQL(), full, c.Name.Name)
	}
	if c.Options != nil {
		if err := setColumnOptions(&col, full, c.Options); err != nil {
			return err
		}
	}
	tab.Columns = append(tab.Columns, col)
	return nil
}

func setColumnOptions(col *store.Column, table string, o *ast.Options) error {
	for _, r := range o.Records {
		if !strings.EqualFold(r.Name.Name, "allow_commit_timestamp") {
			return unimplemented("the column option %s on %s.%s", r.Name.Name, table, col.Name)
		}
		switch v := r.Value.(type) {
		case *ast.BoolLiteral:
			col.AllowCommitTimestamp = v.Value
		case *ast.NullLiteral:
			col.AllowCommitTimestamp = false
		default:
			return invalid("the option allow_commit_timestamp of %s.%s must be true, false or null", table, col.Name)
		}
		if col.AllowCommitTimestamp && col.Type.Code != store.Timestamp {
			return failed("the option allow_commit_timestamp needs a TIMESTAMP column; %s.%s is %s", table, col.Name, TypeName(col.Type))
		}
	}
	return nil
}

func (b *builder) interleave(tab *store.Table, c *ast.Cluster) error {
	parent := b.Table(pathName(c.TableName))
	if parent == nil {
		return notFound("Table not found: %s, the interleaving parent of %s", pathName(c.TableName), tab.QualifiedName())
	}
	tab.Parent = parent.QualifiedName()
	tab.ParentEnforced = c.Enforced
	tab.OnDeleteCascade = c.OnDelete == ast.OnDeleteCascade
	if len(tab.Key) < len(parent.Key) {
		return failed("the primary key of table %s must begin with all key columns of its parent %s", tab.QualifiedName(), tab.Parent)
	}
	for i, p := range parent.Key {
		k := tab.Key[i]
		pc, cc := &parent.Columns[p.Column], &tab.Columns[k.Column]
		if !strings.EqualFold(pc.Name, cc.Name) || !sameType(pc.Type, cc.Type) || pc.MaxLength != cc.MaxLength || p.Desc != k.Desc {
			return failed("the primary key of table %s does not match its parent %s at position %d: column %s must be the same there, with its type and order", tab.QualifiedName(), tab.Parent, i+1, pc.Name)
		}
	}
	return nil
}

func setRowDeletion(tab *store.Table, p *ast.RowDeletionPolicy) error {
	i := tab.ColumnIndex(p.ColumnName.Name)
	if i < 0 || tab.Columns[i].Type.Code != store.Timestamp {
		return failed("the row deletion policy of table %s needs a TIMESTAMP column, and %s is none", tab.QualifiedName(), p.ColumnName.Name)
	}
	tab.RowDeletion = "OLDER_THAN(" + p.ColumnName.SQL() + ", INTERVAL " + p.NumDays.SQL() + " DAY)"
	return nil
}

func (b *builder) dropTable(t *ast.DropTable) error {
	name := pathName(t.Name)
	tab := b.Table(name)
	if tab == nil {
		if t.IfExists {
			return nil
		}
		return notFound("Table not found: %s", name)
	}
	for _, c := range b.Tables {
		if strings.EqualFold(c.Parent, tab.QualifiedName()) {
			return failed("Cannot drop table %s with interleaved table %s.", tab.QualifiedName(), c.QualifiedName())
		}
	}
	if xs := b.IndexesOf(tab); len(xs) > 0 {
		return failed("Cannot drop table %s with indices: %s. Drop the indices first.", tab.QualifiedName(), xs[0].QualifiedName())
	}
	for _, s := range b.Streams {
		for _, w := range s.Watch {
			if strings.EqualFold(w.Table, tab.QualifiedName()) {
				return failed("Cannot drop table %s: change stream %s tracks it by name. Alter or drop the change stream first.", tab.QualifiedName(), s.Name)
			}
		}
	}
	b.Tables = slices.DeleteFunc(b.Tables, func(x *store.Table) bool { return x == tab })
	return nil
}

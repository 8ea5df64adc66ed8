package sql

import (
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func (b *builder) alterTable(t *ast.AlterTable) error {
	old := b.Table(pathName(t.Name))
	if old == nil {
		return notFound("Table not found: %s", pathName(t.Name))
	}
	tab := *old
	tab.Columns = slices.Clone(old.Columns)
	tab.Checks = slices.Clone(old.Checks)
	var err error
	switch a := t.TableAlteration.(type) {
	case nil:
		return invalid("ALTER TABLE %s says nothing to alter", tab.QualifiedName())
	case *ast.AddColumn:
		if a.IfNotExists && tab.ColumnIndex(a.Column.Name.Name) >= 0 {
			return nil
		}
		err = b.alterAdd(&tab, a.Column)
	case *ast.DropColumn:
		return b.alterDrop(old, &tab, a.Name.Name)
	case *ast.AlterColumn:
		err = b.alterColumn(&tab, a)
	case *ast.SetOnDelete:
		if tab.Parent == "" {
			return invalid("table %s is not interleaved in a parent, so it has no ON DELETE", tab.QualifiedName())
		}
		tab.OnDeleteCascade = a.OnDelete == ast.OnDeleteCascade
	case *ast.AddRowDeletionPolicy:
		if tab.RowDeletion != "" {
			return invalid("table %s already has a row deletion policy", tab.QualifiedName())
		}
		err = setRowDeletion(&tab, a.RowDeletionPolicy)
	case *ast.ReplaceRowDeletionPolicy:
		if tab.RowDeletion == "" {
			return invalid("table %s has no row deletion policy to replace", tab.QualifiedName())
		}
		err = setRowDeletion(&tab, a.RowDeletionPolicy)
	case *ast.DropRowDeletionPolicy:
		if tab.RowDeletion == "" {
			return invalid("table %s has no row deletion policy to drop", tab.QualifiedName())
		}
		tab.RowDeletion = ""
	case *ast.AddTableConstraint:
		err = b.addConstraint(&tab, a.TableConstraint)
	case *ast.DropConstraint:
		err = dropConstraint(&tab, a.Name.Name)
	case *ast.RenameTo:
		return b.renameTable(old, &tab, a)
	default:
		return unimplemented("ALTER TABLE %s %s", old.QualifiedName(), a.SQL())
	}
	if err != nil {
		return err
	}
	if err := b.compileColumns(&tab); err != nil {
		return err
	}
	b.replaceTable(old, &tab)
	b.dropManaged()
	return b.checkWatchLimits()
}

func (b *builder) replaceTable(old, tab *store.Table) {
	for i := range b.Tables {
		if b.Tables[i] == old {
			b.Tables[i] = tab
		}
	}
}

func (b *builder) alterAdd(tab *store.Table, c *ast.ColumnDef) error {
	if err := b.addColumn(tab, c); err != nil {
		return err
	}
	col := &tab.Columns[len(tab.Columns)-1]
	if col.PlacementKey {
		return failed("the placement key %s cannot be added to the existing table %s", col.Name, tab.QualifiedName())
	}
	if col.Identity != nil {
		return nil // the rows get their values when the schema changes
	}
	if col.Default != "" {
		if err := b.compileColumns(tab); err != nil {
			return err
		}
		v, err := col.Compute(nil)
		if err != nil {
			return err
		}
		col.Backfill = v
	} else if col.NotNull && col.Generated == "" {
		// Spanner's own code for it, not the embedded Spanner's want of it.
		return store.Errorf(codes.Unimplemented, "Cannot add NOT NULL column %s.%s to existing table %s.", tab.QualifiedName(), col.Name, tab.QualifiedName())
	}
	return nil
}

func (b *builder) alterDrop(old, tab *store.Table, name string) error {
	i := tab.ColumnIndex(name)
	if i < 0 {
		return notFound("Column not found in table %s: %s", tab.QualifiedName(), name)
	}
	if tab.IsKey(i) {
		return invalid("Cannot drop key column %s from table %s.", name, tab.QualifiedName())
	}
	for _, x := range b.IndexesOf(tab) {
		uses := slices.Contains(x.Storing, i)
		for _, k := range x.Key {
			uses = uses || k.Column == i
		}
		if uses {
			return failed("Cannot drop column %s from table %s because it is used by index %s.", name, tab.QualifiedName(), x.QualifiedName())
		}
	}
	for _, s := range b.Streams {
		for _, w := range s.Watch {
			if strings.EqualFold(w.Table, tab.QualifiedName()) && containsFold(w.Columns, name) {
				return failed("Cannot drop column %s.%s: change stream %s tracks it by name. Alter or drop the change stream first.", tab.QualifiedName(), name, s.Name)
			}
		}
	}
	if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(tab.RowDeletion, "`", "")), "older_than("+strings.ToLower(name)+",") {
		return invalid("Cannot drop column %s.%s: the table's row deletion policy uses it", tab.QualifiedName(), name)
	}
	if c := b.usedByConstraint(tab, name); c != "" {
		return failed("Cannot drop column %s from table %s because it is used by constraint %s.", name, tab.QualifiedName(), c)
	}
	tab.Columns = slices.Delete(tab.Columns, i, i+1)
	tab.Key = slices.Clone(tab.Key)
	shiftKey(tab.Key, i)
	// A generated column that used the dropped one no longer compiles, and so refuses the drop.
	if err := b.compileColumns(tab); err != nil {
		return failed("Cannot drop column %s from table %s: another column depends on it: %v", name, tab.QualifiedName(), err)
	}
	for j, x := range b.Indexes {
		if !strings.EqualFold(x.Table, tab.QualifiedName()) {
			continue
		}
		nx := *x
		nx.Key = slices.Clone(x.Key)
		shiftKey(nx.Key, i)
		nx.Storing = slices.Clone(x.Storing)
		for k := range nx.Storing {
			if nx.Storing[k] > i {
				nx.Storing[k]--
			}
		}
		b.Indexes[j] = &nx
	}
	b.replaceTable(old, tab)
	return nil
}

// sameExpr reports whether an expression is the one that a text writes.
func sameExpr(e ast.Expr, text string) bool {
	tree, err := parseExpr(text)
	return err == nil && tree.SQL() == e.SQL()
}

func shiftKey(key []store.KeyPart, dropped int) {
	for i := range key {
		if key[i].Column > dropped {
			key[i].Column--
		}
	}
}

func (b *builder) alterColumn(tab *store.Table, a *ast.AlterColumn) error {
	i := tab.ColumnIndex(a.Name.Name)
	if i < 0 {
		return notFound("Column not found in table %s: %s", tab.QualifiedName(), a.Name.Name)
	}
	c := &tab.Columns[i]
	switch x := a.Alteration.(type) {
	case nil:
		return invalid("ALTER COLUMN %s says nothing to alter", c.Name)
	case *ast.AlterColumnType:
		if c.Identity != nil { // the parser knows no form that keeps it
			return invalid("Cannot alter column `%s.%s` to drop the identity property.", tab.QualifiedName(), c.Name)
		}
		typ, n, err := b.columnType(x.Type)
		if err != nil {
			return err
		}
		if b.Postgres {
			typ = pgType(typ)
		}
		if (x.GeneratedExpr != nil) != (c.Generated != "") || x.GeneratedExpr != nil && !sameExpr(x.GeneratedExpr.Expr, c.Generated) {
			return failed("Cannot change the expression of generated column %s.%s, nor make a column generated or ordinary.", tab.QualifiedName(), c.Name)
		}
		isKey := tab.IsKey(i)
		if !sameType(typ, c.Type) {
			for j := range tab.Columns {
				if g := &tab.Columns[j]; g.Generated != "" && usesColumn(g.Generated, c.Name) {
					return failed("Cannot change the data type of column `%s`, which the generated column `%s` of table %s depends on.", c.Name, g.Name, tab.QualifiedName())
				}
			}
			if !alterable(c.Type, typ) || isKey {
				return invalid("Cannot change type of column %s.%s from %s to %s.", tab.QualifiedName(), c.Name, TypeName(c.Type), TypeName(typ))
			}
		}
		if isKey && c.NotNull != x.NotNull {
			return failed("Cannot change the nullness of key column %s.%s.", tab.QualifiedName(), c.Name)
		}
		for _, ix := range b.IndexesOf(tab) {
			if c.NotNull != x.NotNull && !ix.NullFiltered && slices.ContainsFunc(ix.Key, func(k store.KeyPart) bool { return k.Column == i }) {
				return failed("Changing NOT NULL constraints on column %s is not allowed because it affects index %s.", c.Name, ix.QualifiedName())
			}
		}
		c.Type, c.MaxLength, c.NotNull = typ, n, x.NotNull
		if c.Generated == "" {
			c.Default, c.Compute = "", nil
		}
		if x.DefaultExpr != nil {
			c.Default = b.source(x.DefaultExpr.Expr)
		}
	case *ast.AlterColumnSetOptions:
		return setColumnOptions(c, tab.QualifiedName(), x.Options)
	case *ast.AlterColumnAlterIdentity:
		return alterIdentity(c, tab.QualifiedName(), x.Alteration)
	case *ast.AlterColumnSetDefault:
		if c.Identity != nil {
			return invalid("Cannot alter an identity column `%s.%s` to a generated or default column.", tab.QualifiedName(), c.Name)
		}
		if c.Generated != "" {
			return failed("generated column %s.%s cannot have a default", tab.QualifiedName(), c.Name)
		}
		c.Default = b.source(x.DefaultExpr.Expr)
	case *ast.AlterColumnDropDefault:
		if c.Default != "" {
			c.Default, c.Compute = "", nil
		}
	default:
		return unimplemented("ALTER COLUMN %s %s", c.Name, x.SQL())
	}
	return nil
}

// alterable reports whether a column's values stand for values of another type as they are stored.
func alterable(from, to *store.Type) bool {
	if from.Code == store.Array && to.Code == store.Array {
		return alterable(from.Elem, to.Elem)
	}
	either := func(a, b store.Code) bool {
		return (from.Code == a || from.Code == b) && (to.Code == a || to.Code == b)
	}
	return either(store.String, store.Bytes) || either(store.Bytes, store.Proto) || either(store.Int64, store.Enum)
}

func (b *builder) createIndex(t *ast.CreateIndex) error {
	schema, name, err := b.objectName(t.Name)
	if err != nil {
		return err
	}
	full := pathName(t.Name)
	if t.IfNotExists && b.Index(full) != nil {
		return nil
	}
	if err := b.clash(full); err != nil {
		return err
	}
	if t.Where != nil || t.Options != nil {
		return unimplemented("WHERE or OPTIONS on CREATE INDEX %s", full)
	}
	tab := b.Table(pathName(t.TableName))
	if tab == nil {
		return notFound("Table not found: %s", pathName(t.TableName))
	}
	x := &store.Index{ID: b.newID(), Schema: schema, Name: name, Table: tab.QualifiedName(), Unique: t.Unique, NullFiltered: t.NullFiltered}
	if x.Key, err = keyParts(tab, t.Keys, "key of index "+full, codes.FailedPrecondition); err != nil {
		return err
	}
	if len(x.Key) == 0 {
		return invalid("index %s has no key columns", full)
	}
	if t.Storing != nil {
		for _, c := range t.Storing.Columns {
			i, err := storable(tab, x, c.Name)
			if err != nil {
				return err
			}
			x.Storing = append(x.Storing, i)
		}
	}
	if t.InterleaveIn != nil {
		p := b.Table(t.InterleaveIn.TableName.Name)
		if p == nil {
			return notFound("Table not found: %s", t.InterleaveIn.TableName.Name)
		}
		x.InterleaveIn = p.QualifiedName()
	}
	b.Indexes = append(b.Indexes, x)
	return nil
}

// storable finds a column for STORING.
func storable(tab *store.Table, x *store.Index, name string) (int, error) {
	i := tab.ColumnIndex(name)
	switch {
	case i < 0:
		return 0, invalid("index %s stores column %s.%s, which does not exist", x.QualifiedName(), tab.QualifiedName(), name)
	case slices.ContainsFunc(x.Key, func(k store.KeyPart) bool { return k.Column == i }):
		return 0, invalid("index %s cannot store its key column %s", x.QualifiedName(), name)
	case tab.IsKey(i), slices.Contains(x.Storing, i):
		return 0, failed("index %s stores column %s already", x.QualifiedName(), name)
	}
	return i, nil
}

func (b *builder) alterIndex(t *ast.AlterIndex) error {
	old := b.Index(pathName(t.Name))
	if old == nil || old.Managed {
		return notFound("Index not found: %s", pathName(t.Name))
	}
	x := *old
	tab := b.Table(x.Table)
	switch a := t.IndexAlteration.(type) {
	case *ast.AddStoredColumn:
		i, err := storable(tab, &x, a.Name.Name)
		if err != nil {
			return err
		}
		x.Storing = append(slices.Clone(x.Storing), i)
	case *ast.DropStoredColumn:
		at := slices.Index(x.Storing, tab.ColumnIndex(a.Name.Name))
		if at < 0 {
			return failed("index %s does not store column %s", x.QualifiedName(), a.Name.Name)
		}
		x.Storing = slices.Delete(slices.Clone(x.Storing), at, at+1)
	default:
		return unimplemented("ALTER INDEX %s %s", x.QualifiedName(), a.SQL())
	}
	b.Indexes[slices.Index(b.Indexes, old)] = &x
	return nil
}

// renameTable gives a table another name in its schema, and tells everything that names it.
func (b *builder) renameTable(old, tab *store.Table, a *ast.RenameTo) error {
	if a.AddSynonym != nil {
		return unimplemented("ALTER TABLE %s RENAME TO with ADD SYNONYM", old.QualifiedName())
	}
	was := old.QualifiedName()
	tab.Name = a.Name.Name
	if err := b.clash(tab.QualifiedName()); err != nil {
		return err
	}
	for _, s := range b.Streams {
		for _, w := range s.Watch {
			if strings.EqualFold(w.Table, was) {
				return failed("Cannot rename table %s: change stream %s tracks it by name", was, s.Name)
			}
		}
	}
	b.replaceTable(old, tab)
	b.renameGrants(was, tab.QualifiedName())
	for i, t := range b.Tables {
		if strings.EqualFold(t.Parent, was) || slices.ContainsFunc(t.ForeignKeys, func(f store.ForeignKey) bool { return strings.EqualFold(f.RefTable, was) }) {
			n := *t
			if strings.EqualFold(n.Parent, was) {
				n.Parent = tab.QualifiedName()
			}
			n.ForeignKeys = slices.Clone(t.ForeignKeys)
			for j := range n.ForeignKeys {
				if strings.EqualFold(n.ForeignKeys[j].RefTable, was) {
					n.ForeignKeys[j].RefTable = tab.QualifiedName()
				}
			}
			b.Tables[i] = &n
		}
	}
	for i, x := range b.Indexes {
		if strings.EqualFold(x.Table, was) || strings.EqualFold(x.InterleaveIn, was) {
			n := *x
			if strings.EqualFold(n.Table, was) {
				n.Table = tab.QualifiedName()
			}
			if strings.EqualFold(n.InterleaveIn, was) {
				n.InterleaveIn = tab.QualifiedName()
			}
			b.Indexes[i] = &n
		}
	}
	return nil
}

func (b *builder) dropIndex(t *ast.DropIndex) error {
	x := b.Index(pathName(t.Name))
	if x == nil || x.Managed {
		if t.IfExists {
			return nil
		}
		return notFound("Index not found: %s", pathName(t.Name))
	}
	b.Indexes = slices.DeleteFunc(b.Indexes, func(y *store.Index) bool { return y == x })
	return nil
}

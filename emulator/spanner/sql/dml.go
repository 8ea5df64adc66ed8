package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// DMLResult is what a DML statement did.
type DMLResult struct {
	// RowCount is how many rows were inserted, updated or deleted.
	RowCount int64
	// Columns and Rows are those of THEN RETURN; empty without it.
	Columns []store.Field
	Rows    []store.Row
}

// Execute runs a DML statement in a transaction, on its snapshot and earlier writes: wholly, or on an error not at all.
// env.Reader must be the transaction.
func (s *Statement) Execute(ctx context.Context, txn *store.Txn, env Env) (*DMLResult, error) {
	if err := txn.Err(); err != nil {
		return nil, err
	}
	env.sequences = true
	c := &compiler{env: env, scope: &scope{}}
	if err := checkHints(hintOf(s.tree), statementHints); err != nil {
		return nil, err
	}
	switch e := s.tree.(type) {
	case *ast.Insert:
		return c.insert(ctx, txn, e)
	case *ast.Update:
		return c.update(ctx, txn, e)
	case *ast.Delete:
		return c.delete(ctx, txn, e)
	}
	return nil, unimplemented("the statement %s", firstWords(s.text))
}

func hintOf(tree ast.Statement) *ast.Hint {
	switch e := tree.(type) {
	case *ast.Insert:
		return e.Hint
	case *ast.Update:
		return e.Hint
	case *ast.Delete:
		return e.Hint
	}
	return nil
}

func (c *compiler) target(p *ast.Path) (*store.Table, error) {
	name := pathName(p)
	if c.postgres() {
		name = strings.TrimPrefix(name, "public.")
	}
	t := c.schema().Table(name)
	if t == nil {
		return nil, invalid("Table not found: %s", pathName(p))
	}
	return t, nil
}

// assigned brings an expression to a column's type.
func (c *compiler) assigned(t *store.Table, col int, d *ast.DefaultExpr) (*expr, error) {
	column := &t.Columns[col]
	if column.Generated != "" {
		return nil, invalid("Cannot write to generated column %s.%s", t.QualifiedName(), column.Name)
	}
	if d.Default {
		if !column.HasDefault() {
			return constant(column.Type, store.Value{}), nil
		}
		if err := c.env.Access.Default(column); err != nil {
			return nil, err
		}
		return &expr{typ: column.Type, eval: func(*frame) (store.Value, error) { return column.Compute(nil) }}, nil
	}
	var x *expr
	var err error
	if isPending(d.Expr) {
		x = constant(timestampType, store.PendingCommitTimestamp())
	} else if x, err = c.expr(d.Expr); err != nil {
		return nil, err
	}
	if x, err = coerce(x, column.Type); err != nil {
		return nil, invalid("column %s of table %s: %v", column.Name, t.QualifiedName(), err)
	}
	return x, nil
}

func (c *compiler) insert(ctx context.Context, txn *store.Txn, e *ast.Insert) (*DMLResult, error) {
	if e.OnConflict != nil || e.AssertRowsModified != nil {
		return nil, unimplemented("ON CONFLICT and ASSERT_ROWS_MODIFIED")
	}
	t, err := c.target(e.TableName)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(e.Columns))
	for i, id := range e.Columns {
		names[i] = id.Name
	}
	var cols []int
	seen := map[int]bool{}
	for _, n := range names {
		i := t.ColumnIndex(n)
		if i < 0 {
			return nil, invalid("Column %s is not present in table %s", n, t.QualifiedName())
		}
		if seen[i] {
			return nil, invalid("INSERT has duplicate column: %s", n)
		}
		seen[i] = true
		cols = append(cols, i)
	}
	if len(cols) == 0 {
		for i := range t.Columns {
			if t.Columns[i].Generated == "" {
				cols = append(cols, i)
			}
		}
	}
	if err := c.env.Access.Insert(t, cols); err != nil {
		return nil, err
	}
	if e.InsertOrType == ast.InsertOrTypeUpdate {
		if err := c.env.Access.Columns(store.UpdatePrivilege, t, slices.DeleteFunc(slices.Clone(cols), t.IsKey)...); err != nil {
			return nil, err
		}
	}
	rows, err := c.inputRows(ctx, t, cols, e.Input)
	if err != nil {
		return nil, err
	}
	if e.Hint != nil && e.TableHint != nil {
		if err := checkHints(e.TableHint, tableHints); err != nil {
			return nil, err
		}
	}
	cols, rows, keys, err := keyed(t, cols, rows)
	if err != nil {
		return nil, err
	}
	op := store.InsertRow
	switch e.InsertOrType {
	case "":
	case ast.InsertOrTypeUpdate:
		op = store.InsertOrUpdateRow
		if k := repeated(keys); k >= 0 {
			return nil, invalid("INSERT OR UPDATE cannot affect a row of table %s a second time: row %d of the statement has the primary key of an earlier one", t.QualifiedName(), k+1)
		}
	case ast.InsertOrTypeIgnore:
		if rows, keys, err = absentRows(txn, t, rows, keys); err != nil {
			return nil, err
		}
	default:
		return nil, unimplemented("INSERT OR %s", e.InsertOrType)
	}
	existed := make([]bool, len(rows))
	if op == store.InsertOrUpdateRow {
		for i, k := range keys {
			have, err := txn.Get(t, k)
			if err != nil {
				return nil, err
			}
			existed[i] = have != nil
		}
	}
	if err := txn.Apply(store.Mutation{Op: op, Table: t, Columns: cols, Rows: rows}); err != nil {
		return nil, err
	}
	res := &DMLResult{RowCount: int64(len(rows))}
	if e.ThenReturn == nil {
		return res, nil
	}
	written := make([]store.Row, len(rows))
	for i, k := range keys {
		if written[i], err = txn.Get(t, k); err != nil {
			return nil, err
		}
	}
	action := func(i int) string {
		if existed[i] {
			return "UPDATE"
		}
		return "INSERT"
	}
	return res, c.returned(ctx, t, t.Name, action, e.ThenReturn, written, res)
}

// inputRows evaluates the values of an INSERT.
func (c *compiler) inputRows(ctx context.Context, t *store.Table, cols []int, in ast.InsertInput) ([]store.Row, error) {
	var out []store.Row
	switch in := in.(type) {
	case *ast.ValuesInput:
		if err := checkPending(cols, in.Rows); err != nil {
			return nil, err
		}
		for _, r := range in.Rows {
			if len(r.Exprs) != len(cols) {
				return nil, invalid("Inserted row has wrong column count; Has %d, expected %d", len(r.Exprs), len(cols))
			}
			row := make(store.Row, len(cols))
			for i, d := range r.Exprs {
				x, err := c.assigned(t, cols[i], d)
				if err != nil {
					return nil, err
				}
				if row[i], err = x.eval(&frame{ctx: ctx}); err != nil {
					return nil, err
				}
			}
			out = append(out, row)
		}
		return out, nil
	case *ast.SubQueryInput:
		q, err := c.inner().query(in.Query)
		if err != nil {
			return nil, err
		}
		if len(q.columns) != len(cols) {
			return nil, invalid("Inserted row has wrong column count; Has %d, expected %d", len(q.columns), len(cols))
		}
		casts := make([]*expr, len(cols))
		for i, col := range cols {
			if t.Columns[col].Generated != "" {
				return nil, invalid("Cannot write to generated column %s.%s", t.QualifiedName(), t.Columns[col].Name)
			}
			if casts[i], err = coerce(slotExpr(i, q.columns[i].Type, 0), t.Columns[col].Type); err != nil {
				return nil, err
			}
		}
		err = q.run(&frame{ctx: ctx}, func(r []store.Value) error {
			row := make(store.Row, len(cols))
			for i, x := range casts {
				v, err := x.eval(&frame{ctx: ctx, row: r})
				if err != nil {
					return err
				}
				row[i] = v
			}
			out = append(out, row)
			return nil
		})
		return out, err
	}
	return nil, unimplemented("the INSERT input %s", in.SQL())
}

// keyed adds the key columns that an INSERT leaves to their defaults, and returns the primary keys of its rows.
func keyed(t *store.Table, cols []int, rows []store.Row) ([]int, []store.Row, []store.Key, error) {
	for _, part := range t.Key {
		c := &t.Columns[part.Column]
		if !c.HasDefault() || slices.Contains(cols, part.Column) {
			continue
		}
		cols = append(slices.Clone(cols), part.Column)
		for i := range rows {
			v, err := c.Compute(nil)
			if err != nil {
				return nil, nil, nil, err
			}
			rows[i] = append(rows[i], v)
		}
	}
	keys := make([]store.Key, len(rows))
	for i, r := range rows {
		full := make(store.Row, len(t.Columns))
		for j, col := range cols {
			full[col] = r[j]
		}
		k, err := t.ComputedKey(full)
		if err != nil {
			return nil, nil, nil, err
		}
		keys[i] = k
	}
	return cols, rows, keys, nil
}

// repeated is the index of the first key that came before, or -1.
func repeated(keys []store.Key) int {
	seen := map[store.Key]bool{}
	for i, k := range keys {
		if seen[k] {
			return i
		}
		seen[k] = true
	}
	return -1
}

// absentRows drops the rows whose keys exist, or come twice.
func absentRows(txn *store.Txn, t *store.Table, rows []store.Row, keys []store.Key) ([]store.Row, []store.Key, error) {
	seen := map[store.Key]bool{}
	var outRows []store.Row
	var outKeys []store.Key
	for i, k := range keys {
		have, err := txn.Get(t, k)
		if err != nil {
			return nil, nil, err
		}
		if have == nil && !seen[k] {
			seen[k] = true
			outRows, outKeys = append(outRows, rows[i]), append(outKeys, k)
		}
	}
	return outRows, outKeys, nil
}

// matching reads the rows that a WHERE clause selects.
func (c *compiler) matching(ctx context.Context, t *store.Table, as *ast.AsAlias, hint *ast.Hint, w *ast.Where) (rows []store.Row, err error) {
	if w == nil {
		return nil, invalid("UPDATE and DELETE must have a WHERE clause")
	}
	src, err := c.scan(t, aliasOf(as, t.Name), hint, conjuncts(w.Expr, nil))
	if err != nil {
		return nil, err
	}
	where, err := c.bool(w.Expr, "WHERE clause")
	if err != nil {
		return nil, err
	}
	f := &frame{ctx: ctx, row: make([]store.Value, c.scope.width)}
	err = src.run(f, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if ok, err := where.isTrue(f); err != nil || !ok {
			return err
		}
		rows = append(rows, append(store.Row(nil), f.row[:len(t.Columns)]...))
		return nil
	})
	return rows, err
}

func (c *compiler) update(ctx context.Context, txn *store.Txn, e *ast.Update) (*DMLResult, error) {
	t, err := c.target(e.TableName)
	if err != nil {
		return nil, err
	}
	rows, err := c.matching(ctx, t, e.As, e.TableHint, e.Where)
	if err != nil {
		return nil, err
	}
	// The key goes with the row: its columns, or what the generated ones are computed from.
	var cols []int
	var values []*expr
	for i := range t.Columns {
		if col := &t.Columns[i]; col.Generated == "" && (t.IsKey(i) || t.KeyUses(i)) {
			cols = append(cols, i)
			values = append(values, slotExpr(i, col.Type, 0))
		}
	}
	keyColumns := len(cols)
	for _, it := range e.Updates {
		set, ok := it.(*ast.UpdateItemSetValue)
		if !ok {
			return nil, unimplemented("the update item %s", it.SQL())
		}
		name := set.Path[len(set.Path)-1].Name
		if len(set.Path) > 2 {
			return nil, unimplemented("the update item %s", it.SQL())
		}
		col := t.ColumnIndex(name)
		if col < 0 {
			return nil, invalid("Unrecognized name: %s", name)
		}
		for i, have := range cols {
			if have == col && i < keyColumns {
				return nil, invalid("Cannot UPDATE value on non-writable column: %s, which is part of the primary key", name)
			}
			if have == col {
				return nil, invalid("Update item %s assigned more than once", name)
			}
		}
		if err := c.env.Access.Columns(store.UpdatePrivilege, t, col); err != nil {
			return nil, err
		}
		x, err := c.assigned(t, col, set.DefaultExpr)
		if err != nil {
			return nil, err
		}
		cols, values = append(cols, col), append(values, x)
	}
	m := store.Mutation{Op: store.UpdateRow, Table: t, Columns: cols}
	for _, r := range rows {
		row := make(store.Row, len(cols))
		for i, x := range values {
			if row[i], err = x.eval(&frame{ctx: ctx, row: r}); err != nil {
				return nil, err
			}
		}
		m.Rows = append(m.Rows, row)
	}
	if err := txn.Apply(m); err != nil {
		return nil, err
	}
	res := &DMLResult{RowCount: int64(len(rows))}
	if e.ThenReturn == nil {
		return res, nil
	}
	update := func(int) string { return "UPDATE" }
	for i, r := range rows {
		if rows[i], err = txn.Get(t, t.KeyOf(r)); err != nil {
			return nil, err
		}
	}
	return res, c.returned(ctx, t, aliasOf(e.As, t.Name), update, e.ThenReturn, rows, res)
}

func (c *compiler) delete(ctx context.Context, txn *store.Txn, e *ast.Delete) (*DMLResult, error) {
	t, err := c.target(e.TableName)
	if err != nil {
		return nil, err
	}
	if err := c.env.Access.Some(store.DeletePrivilege, t); err != nil {
		return nil, err
	}
	rows, err := c.matching(ctx, t, e.As, e.TableHint, e.Where)
	if err != nil {
		return nil, err
	}
	m := store.Mutation{Op: store.DeleteRows, Table: t}
	for _, r := range rows {
		m.Ranges = append(m.Ranges, store.PointRange(t.KeyOf(r)))
	}
	if err := txn.Apply(m); err != nil {
		return nil, err
	}
	res := &DMLResult{RowCount: int64(len(rows))}
	if e.ThenReturn == nil {
		return res, nil
	}
	return res, c.returned(ctx, t, aliasOf(e.As, t.Name), func(int) string { return "DELETE" }, e.ThenReturn, rows, res)
}

// returned evaluates THEN RETURN over the rows that were written or deleted. action says what happened to row i.
func (c *compiler) returned(ctx context.Context, t *store.Table, alias string, action func(i int) string, tr *ast.ThenReturn, rows []store.Row, res *DMLResult) error {
	rc := c.in(&scope{})
	rc.tableRelation(t, alias, tableColumns(t))
	list, err := rc.expand(tr.Items)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].tree != nil {
			if list[i].expr, err = rc.expr(list[i].tree); err != nil {
				return err
			}
		}
		res.Columns = append(res.Columns, store.Field{Name: list[i].name, Type: list[i].expr.typ})
	}
	if tr.WithAction != nil {
		name := "ACTION"
		if tr.WithAction.Alias != nil {
			name = tr.WithAction.Alias.Alias.Name
		}
		res.Columns = append(res.Columns, store.Field{Name: name, Type: stringType})
	}
	for n, r := range rows {
		out := make(store.Row, len(list))
		for i := range list {
			if out[i], err = list[i].expr.eval(&frame{ctx: ctx, row: r}); err != nil {
				return err
			}
			if out[i].IsPendingCommitTimestamp() && list[i].expr.typ.Code == store.Timestamp {
				return invalid("THEN RETURN cannot return the pending commit timestamp of column %s", list[i].name)
			}
		}
		if tr.WithAction != nil {
			out = append(out, textValue(action(n)))
		}
		res.Rows = append(res.Rows, out)
	}
	return nil
}

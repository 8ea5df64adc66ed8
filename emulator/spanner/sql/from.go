package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// source fills its part of the frame's row with each of its rows in turn and calls next.
type source interface {
	run(f *frame, next func() error) error
}

type sourceFunc func(f *frame, next func() error) error

func (s sourceFunc) run(f *frame, next func() error) error { return s(f, next) }

// from plans a table expression and adds its columns to the scope. conds are the conditions that hold for every row
// that matters, so a scan may use them to read less.
func (c *compiler) from(e ast.TableExpr, conds []ast.Expr) (source, error) {
	switch e := e.(type) {
	case *ast.TableName:
		if err := noSample(e.Sample); err != nil {
			return nil, err
		}
		return c.named([]string{e.Table.Name}, e.As, e.Hint, conds)
	case *ast.PathTableExpr:
		if err := noSample(e.Sample); err != nil {
			return nil, err
		}
		if e.WithOffset != nil {
			return nil, unimplemented("WITH OFFSET on a path")
		}
		var names []string
		for _, id := range e.Path.Idents {
			names = append(names, id.Name)
		}
		return c.named(names, e.As, e.Hint, conds)
	case *ast.SubQueryTableExpr:
		q, err := c.derivedTable(e.Query)
		if err != nil {
			return nil, err
		}
		return c.rowsOf(q, aliasOf(e.As, "")), noSample(e.Sample)
	case *ast.ParenTableExpr:
		return c.from(e.Source, conds)
	case *ast.Unnest:
		return c.unnest(e)
	case *ast.Join:
		return c.join(e, conds)
	case *ast.TVFCallExpr:
		return nil, unimplemented("the table-valued function %s together with other SQL", pathName(e.Name))
	}
	return nil, unimplemented("the FROM clause %s", e.SQL())
}

func noSample(s *ast.TableSample) error {
	if s != nil {
		return unimplemented("TABLESAMPLE")
	}
	return nil
}

func aliasOf(a *ast.AsAlias, otherwise string) string {
	if a != nil {
		return a.Alias.Name
	}
	return otherwise
}

func (c *compiler) derivedTable(e ast.QueryExpr) (*query, error) {
	return (&compiler{env: c.env, scope: &scope{parent: c.scope.parent}, ctes: c.ctes, depth: c.depth + 1}).query(e)
}

// rowsOf is a source of a query's rows.
func (c *compiler) rowsOf(q *query, alias string) source {
	r := c.scope.add(alias, columnsOf(q))
	return sourceFunc(func(f *frame, next func() error) error {
		return q.run(&frame{ctx: f.ctx, outer: f.outer}, func(row []store.Value) error {
			copy(f.row[r.offset:], row)
			return next()
		})
	})
}

func (c *compiler) named(names []string, as *ast.AsAlias, hint *ast.Hint, conds []ast.Expr) (source, error) {
	last := names[len(names)-1]
	alias := aliasOf(as, last)
	if len(names) == 1 {
		if q := c.ctes[strings.ToLower(names[0])]; q != nil {
			return c.rowsOf(q, alias), nil
		}
	}
	if len(names) == 2 && strings.EqualFold(names[0], "INFORMATION_SCHEMA") {
		v, err := informationSchema(c.env.Reader.Schema(), last)
		if err != nil {
			return nil, err
		}
		r := c.scope.add(alias, v.columns)
		return sourceFunc(func(f *frame, next func() error) error {
			for _, row := range v.rows {
				copy(f.row[r.offset:], row)
				if err := next(); err != nil {
					return err
				}
			}
			return nil
		}), nil
	}
	t := c.env.Reader.Schema().Table(strings.Join(names, "."))
	if t == nil {
		return nil, invalid("Table not found: %s", strings.Join(names, "."))
	}
	return c.scan(t, alias, hint, conds)
}

func tableColumns(t *store.Table) []column {
	cols := make([]column, len(t.Columns))
	for i := range t.Columns {
		cols[i] = column{name: t.Columns[i].Name, typ: t.Columns[i].Type, hidden: t.Columns[i].Hidden}
	}
	return cols
}

func (c *compiler) unnest(e *ast.Unnest) (source, error) {
	if err := noSample(e.Sample); err != nil {
		return nil, err
	}
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	if x.typ == nil || x.typ.Code != store.Array {
		return nil, invalid("UNNEST needs an array, not %s", TypeName(x.typ))
	}
	elem := x.typ.Elem
	cols := []column{{name: aliasOf(e.As, ""), typ: elem}}
	isStruct := elem.Code == store.Struct
	if isStruct {
		cols = nil
		for _, f := range elem.Fields {
			cols = append(cols, column{name: f.Name, typ: f.Type})
		}
	}
	if e.WithOffset != nil {
		cols = append(cols, column{name: aliasOf(e.WithOffset.As, "offset"), typ: int64Type})
	}
	r := c.scope.add(aliasOf(e.As, ""), cols)
	return sourceFunc(func(f *frame, next func() error) error {
		v, err := x.eval(f)
		if err != nil {
			return err
		}
		for i, ev := range v.List {
			switch {
			case !isStruct:
				f.row[r.offset] = ev
			case ev.Valid:
				copy(f.row[r.offset:], ev.List)
			default:
				clear(f.row[r.offset : r.offset+len(elem.Fields)])
			}
			if e.WithOffset != nil {
				f.row[r.offset+len(cols)-1] = intValue(int64(i))
			}
			if err := next(); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

func (c *compiler) join(e *ast.Join, conds []ast.Expr) (source, error) {
	outer := false
	switch e.Op {
	case ast.InnerJoin, ast.CrossJoin, ast.CommaJoin:
	case ast.LeftOuterJoin:
		outer = true
	default:
		return nil, unimplemented("%s", e.Op)
	}
	left, err := c.from(e.Left, conds)
	if err != nil {
		return nil, err
	}
	start := c.scope.width
	var on ast.Expr
	var using []string
	switch j := e.Cond.(type) {
	case nil:
	case *ast.On:
		on = j.Expr
	case *ast.Using:
		for _, id := range j.Idents {
			using = append(using, id.Name)
		}
	}
	var onConds []ast.Expr
	if on != nil {
		onConds = conjuncts(on, nil)
	}
	if !outer {
		onConds = append(onConds, conds...)
	}
	leftRelations := len(c.scope.relations)
	right, err := c.from(e.Right, onConds)
	if err != nil {
		return nil, err
	}
	end := c.scope.width
	var cond *expr
	if on != nil {
		if cond, err = c.bool(on, "JOIN ON clause"); err != nil {
			return nil, err
		}
	}
	for _, name := range using {
		eq, err := c.using(name, leftRelations)
		if err != nil {
			return nil, err
		}
		if cond == nil {
			cond = eq
		} else if cond, err = logical(ast.OpAnd, cond, eq); err != nil {
			return nil, err
		}
	}
	return sourceFunc(func(f *frame, next func() error) error {
		return left.run(f, func() error {
			matched := false
			err := right.run(f, func() error {
				if cond != nil {
					if ok, err := cond.isTrue(f); err != nil || !ok {
						return err
					}
				}
				matched = true
				return next()
			})
			if err != nil || matched || !outer {
				return err
			}
			clear(f.row[start:end])
			return next()
		})
	}), nil
}

// using compares the two columns of a USING name; the right one is no longer visible by its bare name.
func (c *compiler) using(name string, leftRelations int) (*expr, error) {
	l := &scope{relations: c.scope.relations[:leftRelations]}
	r := &scope{relations: c.scope.relations[leftRelations:]}
	ls, lt, _, ok, err := l.find("", name)
	if err != nil || !ok {
		return nil, invalid("Column %s in USING clause not found on left side of join", name)
	}
	rs, rt, _, ok, err := r.find("", name)
	if err != nil || !ok {
		return nil, invalid("Column %s in USING clause not found on right side of join", name)
	}
	for _, rel := range r.relations {
		for i := range rel.columns {
			if rel.offset+i == rs {
				rel.columns[i].name, rel.columns[i].hidden = "", true
			}
		}
	}
	return comparison(ast.OpEqual, slotExpr(ls, lt, 0), slotExpr(rs, rt, 0))
}

package sql

import (
	"math/rand/v2"
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
		return c.sampled(e.Sample, func() (source, error) { return c.named([]string{e.Table.Name}, e.As, e.Hint, conds) })
	case *ast.PathTableExpr:
		if x, ok := c.arrayPath(e); ok {
			as := e.As
			if as == nil {
				as = &ast.AsAlias{Alias: e.Path.Idents[len(e.Path.Idents)-1]}
			}
			return c.unnest(&ast.Unnest{Expr: x, As: as, WithOffset: e.WithOffset, Sample: e.Sample})
		}
		if e.WithOffset != nil {
			return nil, invalid("WITH OFFSET can only be used with arrays: %s", e.Path.SQL())
		}
		var names []string
		for _, id := range e.Path.Idents {
			names = append(names, id.Name)
		}
		return c.sampled(e.Sample, func() (source, error) { return c.named(names, e.As, e.Hint, conds) })
	case *ast.SubQueryTableExpr:
		q, err := c.derivedTable(e.Query)
		if err != nil {
			return nil, err
		}
		return c.sampled(e.Sample, func() (source, error) { return c.rowsOf(q, aliasOf(e.As, "")), nil })
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

// arrayPath is the array that a path in a FROM clause means if it begins with a relation before it, e.g. t.tags.
func (c *compiler) arrayPath(e ast.TableExpr) (ast.Expr, bool) {
	p, ok := e.(*ast.PathTableExpr)
	if !ok || len(p.Path.Idents) < 2 {
		return nil, false
	}
	for s := c.scope; s != nil; s = s.parent {
		for _, r := range s.relations {
			if strings.EqualFold(r.name, p.Path.Idents[0].Name) {
				return p.Path, true
			}
		}
	}
	return nil, false
}

// sampled is a source with its TABLESAMPLE clause, if it has one.
func (c *compiler) sampled(t *ast.TableSample, plan func() (source, error)) (source, error) {
	from := c.scope.width
	src, err := plan()
	if err != nil || t == nil {
		return src, err
	}
	to := c.scope.width
	x, ok := t.Size.Value.(ast.Expr)
	if !ok {
		return nil, unimplemented("%s", t.SQL())
	}
	size, err := c.expr(x)
	if err != nil {
		return nil, err
	}
	if size, err = coerce(size, float64Type); err != nil {
		return nil, err
	}
	n, err := size.eval(nil)
	if err != nil {
		return nil, err
	}
	byPercent := t.Size.Unit == ast.PercentTableSampleUnit
	if byPercent != (t.Method == ast.BernoulliSampleMethod) {
		return nil, invalid("BERNOULLI sampling takes a PERCENT and RESERVOIR sampling takes ROWS: %s", t.SQL())
	}
	if !n.Valid || n.Float < 0 || byPercent && n.Float > 100 {
		return nil, outOfRange("TABLESAMPLE needs a size that is not negative, and at most 100 PERCENT")
	}
	if byPercent {
		return sourceFunc(func(f *frame, next func() error) error {
			return src.run(f, func() error {
				if rand.Float64()*100 >= n.Float { //nolint:gosec // a sample, not a secret
					return nil
				}
				return next()
			})
		}), nil
	}
	return sourceFunc(func(f *frame, next func() error) error {
		rows, err := rowsOf(src, f, from, to)
		if err != nil {
			return err
		}
		rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		for _, r := range rows[:int(min(n.Float, float64(len(rows))))] {
			copy(f.row[from:], r)
			if err := next(); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

func aliasOf(a *ast.AsAlias, otherwise string) string {
	if a != nil {
		return a.Alias.Name
	}
	return otherwise
}

func (c *compiler) derivedTable(e ast.QueryExpr) (*query, error) {
	return c.beside().query(e)
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
		v, err := informationSchema(c.schema(), c.env.Access, last)
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
	if c.postgres() && len(names) > 1 && names[0] == "public" {
		names = names[1:]
	}
	full := strings.Join(names, ".")
	if v := c.schema().View(full); v != nil {
		return c.view(v, alias)
	}
	t := c.schema().Table(full)
	if t == nil {
		return nil, invalid("Table not found: %s", full)
	}
	if err := c.env.Access.Some(store.SelectPrivilege, t); err != nil {
		return nil, err
	}
	return c.scan(t, alias, hint, conds)
}

// view plans the query behind a view, which sees nothing of the query around it.
func (c *compiler) view(v *store.View, alias string) (source, error) {
	if c.depth >= maxQueryDepth {
		return nil, invalid("views are nested deeper than %d levels", maxQueryDepth)
	}
	tree, err := parseQuery(v.Query)
	if err != nil {
		return nil, err
	}
	if err := c.env.Access.Object(store.SelectPrivilege, store.ViewObject, v.QualifiedName()); err != nil {
		return nil, err
	}
	env := c.env
	if v.Definer {
		env.Access = nil // it reads with its maker's rights
	}
	q, err := (&compiler{env: env, depth: c.depth + 1}).query(tree)
	if denied(err) {
		return nil, err
	}
	if err != nil {
		return nil, invalid("view %s: %v", v.QualifiedName(), err)
	}
	return c.rowsOf(q, alias), nil
}

func tableColumns(t *store.Table) []column {
	cols := make([]column, len(t.Columns))
	for i := range t.Columns {
		cols[i] = column{name: t.Columns[i].Name, typ: t.Columns[i].Type, hidden: t.Columns[i].Hidden}
	}
	return cols
}

func (c *compiler) unnest(e *ast.Unnest) (source, error) {
	if e.Sample != nil {
		return nil, unimplemented("TABLESAMPLE of UNNEST")
	}
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	if x.typ == nil || x.typ.Code != store.Array {
		return nil, invalid("UNNEST needs an array, not %s", TypeName(x.typ))
	}
	if err := checkHints(e.Hint, tableHints); err != nil {
		return nil, err
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

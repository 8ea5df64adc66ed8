package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// item is one output column of a SELECT list.
type item struct {
	name string
	tree ast.Expr // nil where * put a slot
	slot int
	expr *expr
}

// selectQuery plans one SELECT with the ORDER BY that belongs to it.
func (c *compiler) selectQuery(e *ast.Select, order *ast.OrderBy) (*query, error) {
	switch e.As.(type) {
	case nil, *ast.AsStruct, *ast.AsValue:
	default:
		return nil, unimplemented("SELECT %s", e.As.SQL())
	}
	if e.From == nil {
		for clause, there := range map[string]bool{"WHERE": e.Where != nil, "GROUP BY": e.GroupBy != nil, "HAVING": e.Having != nil, "ORDER BY": order != nil} {
			if there {
				return nil, invalid("Query without FROM clause cannot have a %s clause%s", clause, position(e))
			}
		}
	}
	var from source
	if e.From != nil {
		var conds []ast.Expr
		if e.Where != nil {
			conds = conjuncts(e.Where.Expr, nil)
		}
		src, err := c.from(e.From.Source, conds)
		if err != nil {
			return nil, err
		}
		from = src
	}
	var where *expr
	if e.Where != nil {
		x, err := c.bool(e.Where.Expr, "WHERE clause")
		if err != nil {
			return nil, err
		}
		where = x
	}
	scan := func(f *frame, each func(*frame) error) error {
		row := &frame{ctx: f.ctx, row: make([]store.Value, c.scope.width), outer: f.outer}
		filtered := func() error {
			if err := f.ctx.Err(); err != nil {
				return err
			}
			if where != nil {
				if ok, err := where.isTrue(row); err != nil || !ok {
					return err
				}
			}
			return each(row)
		}
		if from == nil {
			return filtered()
		}
		return from.run(row, filtered)
	}
	if e.GroupBy != nil {
		if err := checkHints(e.GroupBy.Hint, groupHints); err != nil {
			return nil, err
		}
	}
	list, err := c.expand(e.Results)
	if err != nil {
		return nil, err
	}
	g, err := c.group(e, list, order)
	if err != nil {
		return nil, err
	}
	oc := c
	if g != nil {
		oc = c.in(c.scope)
		oc.grouping = g
	}
	q := &query{}
	for i := range list {
		if list[i].tree != nil {
			if list[i].expr, err = oc.expr(list[i].tree); err != nil {
				return nil, err
			}
		} else if g != nil {
			if x := g.slot(list[i].slot); x != nil {
				list[i].expr = x
			} else {
				return nil, invalid("a star expansion expression references column %s which is neither grouped nor aggregated", list[i].name)
			}
		}
		q.columns = append(q.columns, store.Field{Name: list[i].name, Type: list[i].expr.typ})
	}
	var having *expr
	if e.Having != nil {
		oc.aliases = list
		having, err = oc.bool(e.Having.Expr, "HAVING clause")
		oc.aliases = nil
		if err != nil {
			return nil, err
		}
	}
	var keys []sortKey
	if order != nil {
		for _, it := range order.Items {
			k, err := oc.sortKey(it, q.columns)
			if err != nil {
				return nil, err
			}
			if e.AllOrDistinct == ast.AllOrDistinctDistinct && !k.output && !selected(list, it.Expr) {
				return nil, invalid("ORDER BY clause expression references %s which is not visible after SELECT DISTINCT", it.Expr.SQL())
			}
			keys = append(keys, k)
		}
	}
	rows := scan
	if g != nil {
		rows = g.rows(scan)
	}
	project := func(f *frame) ([]store.Value, error) {
		out := make([]store.Value, len(list))
		for i := range list {
			v, err := list[i].expr.eval(f)
			if err != nil {
				return nil, err
			}
			out[i] = v
		}
		return out, nil
	}
	isDistinct := e.AllOrDistinct == ast.AllOrDistinctDistinct
	q.run = func(f *frame, emit func([]store.Value) error) error {
		var waiting []sorted
		seen := map[string]bool{}
		err := rows(f, func(rf *frame) error {
			if having != nil {
				if ok, err := having.isTrue(rf); err != nil || !ok {
					return err
				}
			}
			out, err := project(rf)
			if err != nil {
				return err
			}
			if isDistinct {
				k := rowKey(q.columns, out)
				if seen[k] {
					return nil
				}
				seen[k] = true
			}
			if keys == nil {
				return emit(out)
			}
			s := sorted{out: out}
			for _, k := range keys {
				v, err := k.eval(rf, out)
				if err != nil {
					return err
				}
				s.keys = append(s.keys, v)
			}
			waiting = append(waiting, s)
			return nil
		})
		if err != nil || keys == nil {
			return err
		}
		return emitSorted(waiting, keys, emit)
	}
	switch e.As.(type) {
	case *ast.AsStruct:
		return asStruct(q), nil
	case *ast.AsValue:
		if len(q.columns) != 1 {
			return nil, invalid("SELECT AS VALUE query must have exactly one column, not %d", len(q.columns))
		}
		q.columns[0].Name = ""
	}
	return q, nil
}

// selected reports whether an expression is one of the output columns.
func selected(list []item, e ast.Expr) bool {
	for _, it := range list {
		if it.tree != nil && strings.EqualFold(it.tree.SQL(), e.SQL()) || it.tree == nil && strings.EqualFold(it.name, impliedName(e)) {
			return true
		}
	}
	return false
}

// asStruct folds a query's columns into one STRUCT column.
func asStruct(q *query) *query {
	t := &store.Type{Code: store.Struct, Fields: q.columns}
	return &query{columns: []store.Field{{Type: t}}, run: func(f *frame, emit func([]store.Value) error) error {
		return q.run(f, func(r []store.Value) error {
			return emit([]store.Value{{Valid: true, List: r}})
		})
	}}
}

// expand resolves stars and names the output columns.
func (c *compiler) expand(results []ast.SelectItem) ([]item, error) {
	var out []item
	star := func(rel string, except *ast.StarModifierExcept, replace *ast.StarModifierReplace) error {
		n := len(out)
		unused := map[string]bool{}
		if except != nil {
			for _, id := range except.Columns {
				unused[strings.ToLower(id.Name)] = true
			}
		}
		replaced := map[string]ast.Expr{}
		if replace != nil {
			for _, r := range replace.Columns {
				replaced[strings.ToLower(r.Name.Name)] = r.Expr
			}
		}
		for _, r := range c.scope.relations {
			if rel != "" && !strings.EqualFold(r.name, rel) {
				continue
			}
			for i, col := range r.columns {
				name := strings.ToLower(col.name)
				switch {
				case col.hidden || col.merged && rel == "":
				case except != nil && excepted(except, col.name):
					delete(unused, name)
				case replaced[name] != nil:
					out = append(out, item{name: col.name, tree: replaced[name]})
					delete(replaced, name)
				case col.unreadable != nil:
					return col.unreadable
				default:
					if err := r.read(i); err != nil {
						return err
					}
					out = append(out, item{name: col.name, slot: r.offset + i, expr: slotExpr(r.offset+i, col.typ, 0)})
				}
			}
		}
		for name := range unused {
			return invalid("Column %s in SELECT * EXCEPT list does not exist", name)
		}
		for name := range replaced {
			return invalid("Column %s in SELECT * REPLACE list does not exist", name)
		}
		if len(out) == n {
			return invalid("SELECT * must have a FROM clause with columns")
		}
		return nil
	}
	for _, r := range results {
		switch r := r.(type) {
		case *ast.Star:
			if err := star("", r.Except, r.Replace); err != nil {
				return nil, err
			}
		case *ast.DotStar:
			id, ok := r.Expr.(*ast.Ident)
			if ok && c.scope.named(id.Name) {
				if err := star(id.Name, r.Except, r.Replace); err != nil {
					return nil, err
				}
				continue
			}
			fields, err := c.structFields(r)
			if err != nil {
				return nil, err
			}
			out = append(out, fields...)
		case *ast.Alias:
			out = append(out, item{name: r.As.Alias.Name, tree: r.Expr})
		case *ast.ExprSelectItem:
			out = append(out, item{name: impliedName(r.Expr), tree: r.Expr})
		default:
			return nil, unimplemented("the select item %s", r.SQL())
		}
	}
	return out, nil
}

// structFields expands struct.*.
func (c *compiler) structFields(r *ast.DotStar) ([]item, error) {
	if r.Except != nil || r.Replace != nil {
		return nil, unimplemented("%s", r.SQL())
	}
	x, err := c.expr(r.Expr)
	if err != nil {
		return nil, err
	}
	if x.typ == nil || x.typ.Code != store.Struct {
		return nil, invalid("Dot-star is not supported for type %s", TypeName(x.typ))
	}
	var out []item
	for i, f := range x.typ.Fields {
		out = append(out, item{name: f.Name, slot: -1, expr: derived(f.Type, func(fr *frame) (store.Value, error) {
			v, err := x.eval(fr)
			if err != nil || !v.Valid {
				return store.Value{}, err
			}
			return v.List[i], nil
		}, x)})
	}
	return out, nil
}

func excepted(e *ast.StarModifierExcept, name string) bool {
	for _, id := range e.Columns {
		if strings.EqualFold(id.Name, name) {
			return true
		}
	}
	return false
}

// impliedName is the name a column has without AS: that of a column or field, else none.
func impliedName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.Path:
		return e.Idents[len(e.Idents)-1].Name
	case *ast.SelectorExpr:
		return e.Ident.Name
	}
	return ""
}

// conjuncts splits a condition at its ANDs.
func conjuncts(e ast.Expr, out []ast.Expr) []ast.Expr {
	switch x := e.(type) {
	case *ast.ParenExpr:
		return conjuncts(x.Expr, out)
	case *ast.BinaryExpr:
		if x.Op == ast.OpAnd {
			return conjuncts(x.Right, conjuncts(x.Left, out))
		}
	}
	return append(out, e)
}

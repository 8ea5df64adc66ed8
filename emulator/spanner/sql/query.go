package sql

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// query is a planned query: its columns, and run, which calls emit with each row. The rows belong to emit.
type query struct {
	columns []store.Field
	run     func(f *frame, emit func([]store.Value) error) error
}

// stop ends a run early without being a failure. Each run that stops early makes its own, since runs nest.
func stop() error { return &stopped{} }

type stopped struct{ _ byte }

func (*stopped) Error() string { return "stopped early" }

// query compiles a query expression in the compiler's scope, which must be fresh but for its parent.
func (c *compiler) query(e ast.QueryExpr) (*query, error) {
	if c.scope == nil {
		c.scope = &scope{}
	}
	if c.depth > maxQueryDepth {
		return nil, invalid("sub-queries are nested deeper than %d levels", maxQueryDepth)
	}
	switch e := e.(type) {
	case *ast.Query:
		return c.fullQuery(e)
	case *ast.Select:
		return c.selectQuery(e, nil)
	case *ast.SubQuery:
		return c.beside().query(e.Query)
	case *ast.CompoundQuery:
		return c.compound(e)
	}
	return nil, unimplemented("the query %s", e.SQL())
}

func (c *compiler) fullQuery(e *ast.Query) (*query, error) {
	if len(e.PipeOperators) > 0 {
		return nil, unimplemented("pipe syntax")
	}
	// FOR UPDATE needs nothing more here: a read-write transaction's reads are validated at its commit.
	if e.With != nil {
		if c.ctes == nil {
			c.ctes = map[string]*query{}
		}
		c.ctes = maps.Clone(c.ctes)
		for _, cte := range e.With.CTEs {
			q, err := (&compiler{env: c.env, ctes: c.ctes, depth: c.depth + 1}).query(cte.QueryExpr)
			if err != nil {
				return nil, err
			}
			c.ctes[strings.ToLower(cte.Name.Name)] = q
		}
	}
	var q *query
	var err error
	if s, ok := e.Query.(*ast.Select); ok {
		q, err = c.selectQuery(s, e.OrderBy)
	} else if q, err = c.query(e.Query); err == nil && e.OrderBy != nil {
		q, err = c.orderOutput(q, e.OrderBy)
	}
	if err != nil || e.Limit == nil {
		return q, err
	}
	return c.limited(q, e.Limit)
}

// orderOutput sorts the rows of a query by its own columns.
func (c *compiler) orderOutput(q *query, o *ast.OrderBy) (*query, error) {
	s := &scope{parent: c.scope.parent, beside: c.scope}
	s.add("", columnsOf(q))
	oc := c.in(s)
	var keys []sortKey
	for _, item := range o.Items {
		k, err := oc.sortKey(item, q.columns)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return &query{columns: q.columns, run: func(f *frame, emit func([]store.Value) error) error {
		var rows []sorted
		err := q.run(f, func(r []store.Value) error {
			row := sorted{out: r}
			for _, k := range keys {
				v, err := k.eval(&frame{ctx: f.ctx, row: r, outer: f.outer}, r)
				if err != nil {
					return err
				}
				row.keys = append(row.keys, v)
			}
			rows = append(rows, row)
			return nil
		})
		if err != nil {
			return err
		}
		return emitSorted(rows, keys, emit)
	}}, nil
}

func columnsOf(q *query) []column {
	cols := make([]column, len(q.columns))
	for i, f := range q.columns {
		cols[i] = column{name: f.Name, typ: f.Type}
	}
	return cols
}

func (c *compiler) limited(q *query, l *ast.Limit) (*query, error) {
	count, err := c.limitValue(l.Count)
	if err != nil {
		return nil, err
	}
	offset := int64(0)
	if l.Offset != nil {
		if offset, err = c.limitValue(l.Offset.Value); err != nil {
			return nil, err
		}
	}
	return &query{columns: q.columns, run: func(f *frame, emit func([]store.Value) error) error {
		if count == 0 {
			return nil
		}
		n, enough := int64(0), stop()
		err := q.run(f, func(r []store.Value) error {
			n++
			if n <= offset {
				return nil
			}
			if err := emit(r); err != nil {
				return err
			}
			if n-offset >= count {
				return enough
			}
			return nil
		})
		if errors.Is(err, enough) {
			return nil
		}
		return err
	}}, nil
}

func (c *compiler) limitValue(v ast.IntValue) (int64, error) {
	var x *expr
	var err error
	switch v := v.(type) {
	case *ast.IntLiteral:
		x, err = c.expr(v)
	case *ast.Param:
		x, err = c.param(v.Name)
	case *ast.CastIntValue:
		return c.limitValue(v.Expr)
	default:
		return 0, unimplemented("LIMIT %s", v.SQL())
	}
	if err != nil {
		return 0, err
	}
	if x, err = coerce(x, int64Type); err != nil {
		return 0, err
	}
	n, err := x.eval(nil)
	if err != nil {
		return 0, err
	}
	if !n.Valid || n.Int < 0 {
		return 0, outOfRange("LIMIT and OFFSET must be integers that are not negative")
	}
	return n.Int, nil
}

// compound is UNION, EXCEPT or INTERSECT.
func (c *compiler) compound(e *ast.CompoundQuery) (*query, error) {
	var parts []*query
	for _, sub := range e.Queries {
		q, err := c.beside().query(sub)
		if err != nil {
			return nil, err
		}
		parts = append(parts, q)
	}
	out := &query{columns: slices.Clone(parts[0].columns)}
	for _, p := range parts[1:] {
		if len(p.columns) != len(out.columns) {
			return nil, invalid("Queries in %s have mismatched column count; query 1 has %d columns, another has %d", e.Op, len(out.columns), len(p.columns))
		}
		for i := range p.columns {
			have, is := out.columns[i].Type, p.columns[i].Type
			t := supertype(have, is)
			if t == nil && (have != nil || is != nil) {
				return nil, invalid("Column %d in %s has incompatible types: %s, %s", i+1, e.Op, TypeName(have), TypeName(is))
			}
			out.columns[i].Type = t
		}
	}
	for i, p := range parts {
		parts[i] = widened(p, out.columns)
	}
	all := e.AllOrDistinct != ast.AllOrDistinctDistinct
	if !all || e.Op != ast.SetOpUnion {
		for _, f := range out.columns {
			if f.Type != nil && (f.Type.Code == store.JSON || f.Type.Code == store.Proto || f.Type.Code == store.Array && !isComparable(f.Type.Elem)) {
				return nil, invalid("Column %s of type %s cannot be used in %s DISTINCT", f.Name, TypeName(f.Type), e.Op)
			}
		}
	}
	if e.Op != ast.SetOpUnion {
		out.run = filteredBy(out.columns, parts, e.Op == ast.SetOpIntersect, all)
		return out, nil
	}
	out.run = func(f *frame, emit func([]store.Value) error) error {
		for _, p := range parts {
			if err := p.run(f, emit); err != nil {
				return err
			}
		}
		return nil
	}
	if !all {
		return distinct(out), nil
	}
	return out, nil
}

// widened brings a query's rows to the types of columns.
func widened(q *query, columns []store.Field) *query {
	same := true
	for i, f := range q.columns {
		same = same && (f.Type == nil || sameType(f.Type, columns[i].Type))
	}
	if same {
		return q
	}
	return &query{columns: columns, run: func(f *frame, emit func([]store.Value) error) error {
		return q.run(f, func(r []store.Value) error {
			for i := range r {
				if from := q.columns[i].Type; from != nil && r[i].Valid {
					v, err := castValue(from, columns[i].Type, r[i])
					if err != nil {
						return err
					}
					r[i] = v
				}
			}
			return emit(r)
		})
	}}
}

// filteredBy is EXCEPT, or INTERSECT: the first part's rows by what the others have, as often as ALL keeps them.
func filteredBy(columns []store.Field, parts []*query, intersect, all bool) func(*frame, func([]store.Value) error) error {
	return func(f *frame, emit func([]store.Value) error) error {
		var others []map[string]int
		for _, p := range parts[1:] {
			counts := map[string]int{}
			if err := p.run(f, func(r []store.Value) error {
				counts[rowKey(columns, r)]++
				return nil
			}); err != nil {
				return err
			}
			others = append(others, counts)
		}
		seen := map[string]bool{}
		return parts[0].run(f, func(r []store.Value) error {
			k := rowKey(columns, r)
			if !all {
				if seen[k] {
					return nil
				}
				seen[k] = true
			}
			for _, counts := range others {
				has := counts[k] > 0
				if has && all {
					counts[k]--
				}
				if has != intersect {
					return nil
				}
			}
			return emit(r)
		})
	}
}

func distinct(q *query) *query {
	return &query{columns: q.columns, run: func(f *frame, emit func([]store.Value) error) error {
		seen := map[string]bool{}
		return q.run(f, func(r []store.Value) error {
			k := rowKey(q.columns, r)
			if seen[k] {
				return nil
			}
			seen[k] = true
			return emit(r)
		})
	}}
}

// rowKey is a string that equal rows share.
func rowKey(cols []store.Field, r []store.Value) string {
	var b []byte
	for i, v := range r {
		b = appendGroupKey(b, cols[i].Type, v)
	}
	return string(b)
}

func appendGroupKey(b []byte, t *store.Type, v store.Value) []byte {
	if t == nil || !v.Valid {
		return append(b, 0)
	}
	switch t.Code {
	case store.Array, store.Struct:
		b = append(b, 2)
		for i, e := range v.List {
			et := t.Elem
			if t.Code == store.Struct {
				et = t.Fields[i].Type
			}
			b = appendGroupKey(append(b, 3), et, e)
		}
		return append(b, 4)
	}
	return store.AppendKeyPart(b, t, v, false)
}

// sorted is a row waiting to be put in order.
type sorted struct{ keys, out []store.Value }

type sortKey struct {
	typ  *store.Type
	desc bool
	// nullsHigh puts NULLs behind all values instead of before them, as PostgreSQL does.
	nullsHigh bool
	// output says that the key is a column of the result.
	output bool
	eval   func(f *frame, out []store.Value) (store.Value, error)
}

// sortKey compiles one item of ORDER BY: a column of the result by alias or number, or an expression.
func (c *compiler) sortKey(item *ast.OrderByItem, cols []store.Field) (sortKey, error) {
	if item.Collate != nil {
		return sortKey{}, unimplemented("COLLATE")
	}
	k := sortKey{desc: item.Dir == ast.DirectionDesc, nullsHigh: c.postgres()}
	slot := -1
	switch e := item.Expr.(type) {
	case *ast.IntLiteral:
		n, err := parseInt(e.Value, e.Base)
		if err != nil || n < 1 || n > int64(len(cols)) {
			return k, invalid("ORDER BY column number is out of range: %s", e.Value)
		}
		slot = int(n) - 1
	case *ast.Ident:
		for i, f := range cols {
			if strings.EqualFold(f.Name, e.Name) {
				if slot >= 0 && slot != i {
					slot = -2
					break
				}
				slot = i
			}
		}
	}
	if slot >= 0 {
		k.output = true
		k.typ = cols[slot].Type
		k.eval = func(_ *frame, out []store.Value) (store.Value, error) { return out[slot], nil }
	} else {
		x, err := c.expr(item.Expr)
		if err != nil {
			return k, err
		}
		k.typ = x.typ
		k.eval = func(f *frame, _ []store.Value) (store.Value, error) { return x.eval(f) }
	}
	if !isComparable(k.typ) {
		return k, invalid("ORDER BY does not support expressions of type %s", TypeName(k.typ))
	}
	return k, nil
}

func emitSorted(rows []sorted, keys []sortKey, emit func([]store.Value) error) error {
	slices.SortStableFunc(rows, func(a, b sorted) int {
		for i, k := range keys {
			if k.typ == nil {
				continue
			}
			n := store.Compare(k.typ, a.keys[i], b.keys[i])
			if k.nullsHigh && a.keys[i].Valid != b.keys[i].Valid {
				n = -n
			}
			if k.desc {
				n = -n
			}
			if n != 0 {
				return n
			}
		}
		return 0
	})
	for _, r := range rows {
		if err := emit(r.out); err != nil {
			return err
		}
	}
	return nil
}

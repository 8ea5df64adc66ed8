package sql

import (
	"errors"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// subQuery compiles (SELECT …), ARRAY(SELECT …) and EXISTS(SELECT …). One that does not depend on the row around it runs
// once.
func (c *compiler) subQuery(e ast.Expr) (*expr, error) {
	if c.depth > maxQueryDepth {
		return nil, invalid("sub-queries are nested deeper than %d levels", maxQueryDepth)
	}
	var tree ast.QueryExpr
	switch e := e.(type) {
	case *ast.ScalarSubQuery:
		tree = e.Query
	case *ast.ArraySubQuery:
		tree = e.Query
	case *ast.ExistsSubQuery:
		tree = e.Query
	}
	in := c.inner()
	q, err := in.query(tree)
	if err != nil {
		return nil, err
	}
	x := &expr{}
	if _, ok := e.(*ast.ExistsSubQuery); ok {
		x.typ, x.eval = boolType, q.exists
	} else {
		if len(q.columns) != 1 {
			return nil, invalid("a sub-query in an expression must have one column, not %d; use SELECT AS STRUCT", len(q.columns))
		}
		x.typ, x.eval = q.columns[0].Type, q.scalar
		if _, ok := e.(*ast.ArraySubQuery); ok {
			if x.typ != nil && x.typ.Code == store.Array {
				return nil, invalid("Cannot use array subquery with column of type %s because nested arrays are not supported", TypeName(x.typ))
			}
			if x.typ == nil {
				x.typ = int64Type
			}
			x.typ, x.eval = &store.Type{Code: store.Array, Elem: x.typ}, q.array
		}
	}
	if !in.scope.correlated {
		x.eval = remembered(x.eval)
	}
	return x, nil
}

// remembered evaluates once. A plan runs in one goroutine.
func remembered(eval func(*frame) (store.Value, error)) func(*frame) (store.Value, error) {
	done := false
	var v store.Value
	return func(f *frame) (store.Value, error) {
		if done {
			return v, nil
		}
		var err error
		if v, err = eval(f); err == nil {
			done = true
		}
		return v, err
	}
}

func (q *query) exists(f *frame) (store.Value, error) {
	found, enough := false, stop()
	err := q.run(&frame{ctx: f.ctx, outer: f}, func([]store.Value) error {
		found = true
		return enough
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return boolValue(found), err
}

func (q *query) scalar(f *frame) (store.Value, error) {
	var out store.Value
	n := 0
	err := q.run(&frame{ctx: f.ctx, outer: f}, func(r []store.Value) error {
		if n++; n > 1 {
			return outOfRange("A scalar subquery returned more than one row.")
		}
		out = r[0]
		return nil
	})
	return out, err
}

func (q *query) array(f *frame) (store.Value, error) {
	var list values
	err := q.run(&frame{ctx: f.ctx, outer: f}, func(r []store.Value) error {
		list = append(list, r[0])
		return nil
	})
	return listValue(list), err
}

// structLiteral makes a STRUCT; names and types may be nil.
func (c *compiler) structLiteral(trees []ast.Expr, names []string, types []*store.Type) (*expr, error) {
	parts, err := c.exprs(trees)
	if err != nil {
		return nil, err
	}
	t := &store.Type{Code: store.Struct}
	literal := types == nil
	for i := range parts {
		if types != nil {
			if parts[i], err = coerce(parts[i], types[i]); err != nil {
				return nil, err
			}
		}
		literal = literal && (parts[i].literal || parts[i].typ == nil)
		f := store.Field{Type: parts[i].typ}
		if names != nil {
			f.Name = names[i]
		}
		t.Fields = append(t.Fields, f)
	}
	x := composed(t, parts)
	x.literal = literal
	return x, nil
}

func (c *compiler) typedStruct(e *ast.TypedStructLiteral) (*expr, error) {
	if len(e.Fields) != len(e.Values) {
		return nil, invalid("STRUCT type has %d fields but constructor call has %d fields", len(e.Fields), len(e.Values))
	}
	var names []string
	var types []*store.Type
	for _, f := range e.Fields {
		t, err := c.exprType(f.Type)
		if err != nil {
			return nil, err
		}
		name := ""
		if f.Ident != nil {
			name = f.Ident.Name
		}
		names, types = append(names, name), append(types, t)
	}
	return c.structLiteral(e.Values, names, types)
}

func (c *compiler) typelessStruct(e *ast.TypelessStructLiteral) (*expr, error) {
	var names []string
	var trees []ast.Expr
	for _, v := range e.Values {
		switch v := v.(type) {
		case *ast.ExprArg:
			names, trees = append(names, impliedName(v.Expr)), append(trees, v.Expr)
		case *ast.Alias:
			names, trees = append(names, v.As.Alias.Name), append(trees, v.Expr)
		default:
			return nil, unimplemented("the field %s of a STRUCT", v.SQL())
		}
	}
	return c.structLiteral(trees, names, nil)
}

// with is WITH(a AS x, b AS y, result): the variables are a row of their own.
func (c *compiler) with(e *ast.WithExpr) (*expr, error) {
	if c.grouping != nil {
		return nil, unimplemented("WITH(…) above GROUP BY")
	}
	in := c.inner()
	var vars []*expr
	for _, v := range e.Vars {
		x, err := in.expr(v.Expr)
		if err != nil {
			return nil, err
		}
		vars = append(vars, x)
		in.scope.add("", []column{{name: v.Name.Name, typ: x.typ}})
	}
	out, err := in.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	return &expr{typ: out.typ, eval: func(f *frame) (store.Value, error) {
		inside := &frame{ctx: f.ctx, row: make(values, len(vars)), outer: f}
		for i, x := range vars {
			v, err := x.eval(inside)
			if err != nil {
				return store.Value{}, err
			}
			inside.row[i] = v
		}
		return out.eval(inside)
	}}, nil
}

package sql

import (
	"errors"
	"strconv"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func parseInt(text string, base int) (int64, error) {
	if base == 16 {
		neg := strings.HasPrefix(text, "-")
		text = strings.TrimPrefix(strings.TrimPrefix(strings.TrimLeft(text, "+-"), "0x"), "0X")
		if neg {
			text = "-" + text
		}
	} else {
		base = 10
	}
	return strconv.ParseInt(text, base, 64)
}

func boolValue(b bool) store.Value {
	if b {
		return store.Value{Valid: true, Int: 1}
	}
	return store.Value{Valid: true}
}

func intValue(n int64) store.Value { return store.Value{Valid: true, Int: n} }

func textValue(s string) store.Value { return store.Value{Valid: true, Text: s} }

// expr compiles an expression.
func (c *compiler) expr(e ast.Expr) (*expr, error) {
	if c.grouping != nil {
		if x, err := c.grouping.lookup(e); x != nil || err != nil {
			return x, err
		}
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return c.expr(e.Expr)
	case *ast.NullLiteral:
		x := constant(nil, store.Value{})
		x.literal = true
		return x, nil
	case *ast.BoolLiteral:
		return constant(boolType, boolValue(e.Value)), nil
	case *ast.IntLiteral:
		n, err := parseInt(e.Value, e.Base)
		if err != nil {
			return nil, invalid("Invalid integer literal: %s", e.Value)
		}
		return literal(int64Type, intValue(n)), nil
	case *ast.FloatLiteral:
		f, err := strconv.ParseFloat(e.Value, 64)
		if err != nil {
			return nil, invalid("Invalid floating point literal: %s", e.Value)
		}
		return literal(float64Type, store.Value{Valid: true, Float: f}), nil
	case *ast.StringLiteral:
		return literal(stringType, textValue(e.Value)), nil
	case *ast.BytesLiteral:
		return constant(bytesType, textValue(string(e.Value))), nil
	case *ast.DateLiteral:
		return typedLiteral(dateType, e.Value)
	case *ast.TimestampLiteral:
		return typedLiteral(timestampType, e.Value)
	case *ast.NumericLiteral:
		return typedLiteral(numericType, e.Value)
	case *ast.JSONLiteral:
		return typedLiteral(jsonType, e.Value)
	case *ast.Param:
		return c.param(e.Name)
	case *ast.Ident:
		return c.column("", e.Name, e)
	case *ast.Path:
		return c.path(e)
	case *ast.SelectorExpr:
		return c.selector(e)
	case *ast.UnaryExpr:
		return c.unary(e)
	case *ast.BinaryExpr:
		return c.binary(e)
	case *ast.InExpr:
		return c.inList(e)
	case *ast.BetweenExpr:
		return c.between(e)
	case *ast.IsNullExpr:
		x, err := c.expr(e.Left)
		if err != nil {
			return nil, err
		}
		not := e.Not
		return derived(boolType, func(f *frame) (store.Value, error) {
			v, err := x.eval(f)
			return boolValue(v.Valid == not), err
		}, x), nil
	case *ast.IsBoolExpr:
		x, err := c.bool(e.Left, "the operand of IS")
		if err != nil {
			return nil, err
		}
		want, not := e.Right, e.Not
		return derived(boolType, func(f *frame) (store.Value, error) {
			v, err := x.eval(f)
			return boolValue((v.Valid && (v.Int != 0) == want) != not), err
		}, x), nil
	case *ast.CastExpr:
		return c.cast(e)
	case *ast.CaseExpr:
		return c.caseExpr(e)
	case *ast.IfExpr:
		return c.caseExpr(&ast.CaseExpr{Whens: []*ast.CaseWhen{{Cond: e.Expr, Then: e.TrueResult}}, Else: &ast.CaseElse{Expr: e.ElseResult}})
	case *ast.CallExpr:
		return c.call(e)
	case *ast.CountStarExpr:
		return nil, invalid("Aggregate function COUNT(*) not allowed here")
	case *ast.ArrayLiteral:
		return c.array(e)
	case *ast.ScalarSubQuery, *ast.ArraySubQuery, *ast.ExistsSubQuery:
		return c.subQuery(e)
	case *ast.IndexExpr:
		return c.index(e)
	}
	return nil, unimplemented("the expression %s", e.SQL())
}

func literal(t *store.Type, v store.Value) *expr {
	x := constant(t, v)
	x.literal = true
	return x
}

func typedLiteral(t *store.Type, s *ast.StringLiteral) (*expr, error) {
	v, err := castValue(stringType, t, textValue(s.Value))
	if err != nil {
		return nil, invalid("Invalid %s literal %q", TypeName(t), s.Value)
	}
	return constant(t, v), nil
}

// derived is an expression computed from others: constant if they are.
func derived(t *store.Type, eval func(*frame) (store.Value, error), from ...*expr) *expr {
	x := &expr{typ: t, eval: eval, constant: true}
	for _, y := range from {
		x.constant = x.constant && y.constant
	}
	return x
}

func (c *compiler) param(name string) (*expr, error) {
	p, ok := c.env.Params[name]
	if !ok {
		for n, q := range c.env.Params {
			if strings.EqualFold(n, name) {
				p, ok = q, true
			}
		}
	}
	if !ok {
		return nil, invalid("No parameter found for binding: %s", name)
	}
	x := constant(p.Type, p.Value)
	x.literal = p.Untyped
	return x, nil
}

func (c *compiler) column(rel, name string, at ast.Node) (*expr, error) {
	slot, typ, up, ok, err := c.scope.find(rel, name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, invalid("Unrecognized name: %s", at.SQL())
	}
	if c.grouping != nil && up == 0 {
		return nil, invalid("%s is neither grouped nor aggregated", at.SQL())
	}
	return slotExpr(slot, typ, up), nil
}

func (c *compiler) path(p *ast.Path) (*expr, error) {
	switch len(p.Idents) {
	case 1:
		return c.column("", p.Idents[0].Name, p)
	case 2:
		if _, _, _, ok, _ := c.scope.find("", p.Idents[0].Name); ok {
			x, err := c.column("", p.Idents[0].Name, p)
			if err == nil && x.typ != nil && x.typ.Code == store.Struct {
				return field(x, p.Idents[1].Name)
			}
		}
		return c.column(p.Idents[0].Name, p.Idents[1].Name, p)
	case 3:
		x, err := c.column(p.Idents[0].Name, p.Idents[1].Name, p)
		if err != nil {
			return nil, err
		}
		return field(x, p.Idents[2].Name)
	}
	return nil, unimplemented("the path %s", p.SQL())
}

func (c *compiler) selector(e *ast.SelectorExpr) (*expr, error) {
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	return field(x, e.Ident.Name)
}

func field(x *expr, name string) (*expr, error) {
	if x.typ == nil || x.typ.Code != store.Struct {
		return nil, invalid("Cannot access field %s on a value with type %s", name, TypeName(x.typ))
	}
	for i, f := range x.typ.Fields {
		if strings.EqualFold(f.Name, name) {
			return derived(f.Type, func(fr *frame) (store.Value, error) {
				v, err := x.eval(fr)
				if err != nil || !v.Valid {
					return store.Value{}, err
				}
				return v.List[i], nil
			}, x), nil
		}
	}
	return nil, invalid("Field name %s does not exist in %s", name, TypeName(x.typ))
}

func (c *compiler) array(e *ast.ArrayLiteral) (*expr, error) {
	var elem *store.Type
	if e.Type != nil {
		t, err := exprType(e.Type)
		if err != nil {
			return nil, err
		}
		elem = t
	}
	items, err := c.exprs(e.Values)
	if err != nil {
		return nil, err
	}
	if elem == nil {
		if elem, err = commonType(items, "array literal"); err != nil {
			return nil, err
		}
	}
	for i := range items {
		if items[i], err = coerce(items[i], elem); err != nil {
			return nil, err
		}
	}
	if elem == nil {
		elem = int64Type
	}
	return derived(&store.Type{Code: store.Array, Elem: elem}, func(f *frame) (store.Value, error) {
		list := make([]store.Value, len(items))
		for i, it := range items {
			v, err := it.eval(f)
			if err != nil {
				return store.Value{}, err
			}
			list[i] = v
		}
		return store.Value{Valid: true, List: list}, nil
	}, items...), nil
}

func (c *compiler) exprs(list []ast.Expr) ([]*expr, error) {
	out := make([]*expr, len(list))
	for i, e := range list {
		x, err := c.expr(e)
		if err != nil {
			return nil, err
		}
		out[i] = x
	}
	return out, nil
}

func (c *compiler) index(e *ast.IndexExpr) (*expr, error) {
	k, ok := e.Index.(*ast.SubscriptSpecifierKeyword)
	if !ok {
		return nil, unimplemented("the subscript %s", e.SQL())
	}
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	i, err := c.expr(k.Expr)
	if err != nil {
		return nil, err
	}
	if x.typ == nil || x.typ.Code != store.Array || i.typ == nil || i.typ.Code != store.Int64 {
		return nil, invalid("a subscript needs an array and an INT64, not %s and %s", TypeName(x.typ), TypeName(i.typ))
	}
	base := int64(0)
	if k.Keyword == ast.PositionKeywordOrdinal || k.Keyword == ast.PositionKeywordSafeOrdinal {
		base = 1
	}
	safe := k.Keyword == ast.PositionKeywordSafeOffset || k.Keyword == ast.PositionKeywordSafeOrdinal
	return derived(x.typ.Elem, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		n, err := i.eval(f)
		if err != nil || !n.Valid {
			return store.Value{}, err
		}
		at := n.Int - base
		if at < 0 || at >= int64(len(v.List)) {
			if safe {
				return store.Value{}, nil
			}
			return store.Value{}, outOfRange("Array index %d is out of bounds", n.Int)
		}
		return v.List[at], nil
	}, x, i), nil
}

func (c *compiler) caseExpr(e *ast.CaseExpr) (*expr, error) {
	type arm struct{ cond, then *expr }
	var arms []arm
	var thens []*expr
	for _, w := range e.Whens {
		cond := w.Cond
		if e.Expr != nil {
			cond = &ast.BinaryExpr{Op: ast.OpEqual, Left: e.Expr, Right: w.Cond}
		}
		x, err := c.bool(cond, "CASE WHEN")
		if err != nil {
			return nil, err
		}
		then, err := c.expr(w.Then)
		if err != nil {
			return nil, err
		}
		arms = append(arms, arm{x, then})
		thens = append(thens, then)
	}
	other := literal(nil, store.Value{})
	if e.Else != nil {
		x, err := c.expr(e.Else.Expr)
		if err != nil {
			return nil, err
		}
		other = x
	}
	typ, err := commonType(append(thens, other), "CASE")
	if err != nil {
		return nil, err
	}
	for i := range arms {
		if arms[i].then, err = coerce(arms[i].then, typ); err != nil {
			return nil, err
		}
	}
	if other, err = coerce(other, typ); err != nil {
		return nil, err
	}
	return &expr{typ: typ, eval: func(f *frame) (store.Value, error) {
		for _, a := range arms {
			ok, err := a.cond.isTrue(f)
			if err != nil {
				return store.Value{}, err
			}
			if ok {
				return a.then.eval(f)
			}
		}
		return other.eval(f)
	}}, nil
}

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
	q, err := c.inner().query(tree)
	if err != nil {
		return nil, err
	}
	if _, ok := e.(*ast.ExistsSubQuery); ok {
		return &expr{typ: boolType, eval: func(f *frame) (store.Value, error) {
			found, enough := false, stop()
			err := q.run(&frame{ctx: f.ctx, outer: f}, func([]store.Value) error {
				found = true
				return enough
			})
			if errors.Is(err, enough) {
				err = nil
			}
			return boolValue(found), err
		}}, nil
	}
	if len(q.columns) != 1 {
		return nil, invalid("a sub-query in an expression must have one column, not %d", len(q.columns))
	}
	typ := q.columns[0].Type
	if _, ok := e.(*ast.ArraySubQuery); ok {
		return &expr{typ: &store.Type{Code: store.Array, Elem: typ}, eval: func(f *frame) (store.Value, error) {
			out := store.Value{Valid: true}
			err := q.run(&frame{ctx: f.ctx, outer: f}, func(r []store.Value) error {
				out.List = append(out.List, r[0])
				return nil
			})
			return out, err
		}}, nil
	}
	return &expr{typ: typ, eval: func(f *frame) (store.Value, error) {
		var out store.Value
		n := 0
		err := q.run(&frame{ctx: f.ctx, outer: f}, func(r []store.Value) error {
			if n++; n > 1 {
				return invalid("A scalar subquery returned more than one row")
			}
			out = r[0]
			return nil
		})
		return out, err
	}}, nil
}

package sql

import (
	"math"
	"regexp"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func outOfRange(format string, args ...any) error {
	return store.Errorf(codes.OutOfRange, format, args...)
}

func (c *compiler) unary(e *ast.UnaryExpr) (*expr, error) {
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	t := x.typ
	if t == nil {
		if x.literal {
			return nil, nullOperand(string(e.Op))
		}
		return x, nil
	}
	var fn func(store.Value) (store.Value, error)
	switch {
	case e.Op == ast.OpNot && t.Code == store.Bool:
		fn = func(v store.Value) (store.Value, error) { return boolValue(v.Int == 0), nil }
	case e.Op == ast.OpPlus && isNumber(t):
		return x, nil
	case e.Op == ast.OpMinus && isNumber(t):
		zero, _ := castValue(int64Type, t, intValue(0))
		fn = func(v store.Value) (store.Value, error) {
			if t.Code == store.Float64 || t.Code == store.Float32 {
				return floatValue(-v.Float), nil
			}
			return arithmetic(ast.OpSub, t, zero, v)
		}
	case e.Op == ast.OpMinus && t.Code == store.Interval:
		fn = func(v store.Value) (store.Value, error) { return multiplied(v.Interval(), -1) }
	case e.Op == ast.OpBitNot && t.Code == store.Bytes:
		fn = func(v store.Value) (store.Value, error) {
			b := []byte(v.Text)
			for i := range b {
				b[i] = ^b[i]
			}
			return textValue(string(b)), nil
		}
	case e.Op == ast.OpBitNot && t.Code == store.Int64:
		fn = func(v store.Value) (store.Value, error) { return intValue(^v.Int), nil }
	default:
		return nil, invalid("No matching signature for operator %s for argument type %s", e.Op, TypeName(t))
	}
	out := derived(t, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		return fn(v)
	}, x)
	out.literal = x.literal && isNumber(t)
	return out, nil
}

func nullOperand(op string) error {
	return invalid("Operands of %s cannot be literal NULL", op)
}

func isNumber(t *store.Type) bool {
	switch t.Code {
	case store.Int64, store.Float64, store.Float32, store.Numeric:
		return true
	}
	return false
}

func (c *compiler) binary(e *ast.BinaryExpr) (*expr, error) {
	a, err := c.expr(e.Left)
	if err != nil {
		return nil, err
	}
	b, err := c.expr(e.Right)
	if err != nil {
		return nil, err
	}
	if e.Op != ast.OpAnd && e.Op != ast.OpOr && (isNull(e.Left) || isNull(e.Right)) {
		return nil, nullOperand(string(e.Op))
	}
	switch e.Op {
	case ast.OpAnd, ast.OpOr:
		return logical(e.Op, a, b)
	case ast.OpEqual, ast.OpNotEqual, ast.OpLess, ast.OpLessEqual, ast.OpGreater, ast.OpGreaterEqual:
		return comparison(e.Op, a, b)
	case ast.OpLike, ast.OpNotLike:
		return like(e.Op, a, b)
	case ast.OpConcat:
		return concat([]*expr{a, b})
	}
	if e.Op == ast.OpDiv && c.postgres() && a.typ == int64Type && b.typ == int64Type {
		return c.apply("DIV", functions["DIV"], []*expr{a, b}) // integers divide to integers there
	}
	if x := temporal(e.Op, a, b); x != nil {
		return x, nil
	}
	return arithmeticExpr(e.Op, a, b)
}

// isNull reports whether an expression is the literal NULL.
func isNull(e ast.Expr) bool {
	if p, ok := e.(*ast.ParenExpr); ok {
		return isNull(p.Expr)
	}
	_, ok := e.(*ast.NullLiteral)
	return ok
}

func logical(op ast.BinaryOp, a, b *expr) (*expr, error) {
	for _, x := range []*expr{a, b} {
		if x.typ != nil && x.typ.Code != store.Bool {
			return nil, invalid("No matching signature for operator %s for argument type %s", op, TypeName(x.typ))
		}
	}
	decisive := op == ast.OpOr // the value that decides by itself
	return derived(boolType, func(f *frame) (store.Value, error) {
		x, err := a.eval(f)
		if err != nil {
			return x, err
		}
		if x.Valid && (x.Int != 0) == decisive {
			return x, nil
		}
		y, err := b.eval(f)
		if err != nil || y.Valid && (y.Int != 0) == decisive {
			return y, err
		}
		if !x.Valid || !y.Valid {
			return store.Value{}, nil
		}
		return boolValue(!decisive), nil
	}, a, b), nil
}

// comparable reports whether a type has an order; equality needs no more here.
func isComparable(t *store.Type) bool {
	if t == nil {
		return true
	}
	switch t.Code {
	case store.Array, store.Struct, store.JSON, store.Proto:
		return false
	}
	return true
}

func comparison(op ast.BinaryOp, a, b *expr) (*expr, error) {
	t, err := commonType([]*expr{a, b}, "operator "+string(op))
	if err != nil {
		return nil, err
	}
	if structs := t != nil && t.Code == store.Struct && (op == ast.OpEqual || op == ast.OpNotEqual) && equatable(t); structs {
		if a, err = coerce(a, t); err != nil {
			return nil, err
		}
		if b, err = coerce(b, t); err != nil {
			return nil, err
		}
		return structsEqual(t, a, b, op == ast.OpNotEqual), nil
	}
	if !isComparable(t) {
		return nil, invalid("Operator %s is not defined for arguments of type %s", op, TypeName(t))
	}
	return ofBoth(boolType, t, a, b, func(x, y store.Value) (store.Value, error) {
		if (t.Code == store.Float64 || t.Code == store.Float32) && (math.IsNaN(x.Float) || math.IsNaN(y.Float)) {
			return boolValue(op == ast.OpNotEqual), nil
		}
		n := store.Compare(t, x, y)
		switch op {
		case ast.OpEqual:
			return boolValue(n == 0), nil
		case ast.OpNotEqual:
			return boolValue(n != 0), nil
		case ast.OpLess:
			return boolValue(n < 0), nil
		case ast.OpLessEqual:
			return boolValue(n <= 0), nil
		case ast.OpGreater:
			return boolValue(n > 0), nil
		}
		return boolValue(n >= 0), nil
	})
}

// equatable reports whether = is defined for a type.
func equatable(t *store.Type) bool {
	if t == nil || t.Code != store.Struct {
		return isComparable(t)
	}
	for _, f := range t.Fields {
		if !equatable(f.Type) {
			return false
		}
	}
	return true
}

func structsEqual(t *store.Type, a, b *expr, not bool) *expr {
	return negated(derived(boolType, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, a, b)
		if err != nil || !ok {
			return store.Value{}, err
		}
		return equal(t, vs[0], vs[1]), nil
	}, a, b), not)
}

// equal is = of two values: NULL where one is NULL, or where NULLs in structs leave it open.
func equal(t *store.Type, a, b store.Value) store.Value {
	if !a.Valid || !b.Valid || t == nil {
		return store.Value{}
	}
	if t.Code != store.Struct {
		return boolValue(a.Float == a.Float && b.Float == b.Float && store.Compare(t, a, b) == 0)
	}
	out := boolValue(true)
	for i, f := range t.Fields {
		switch v := equal(f.Type, a.List[i], b.List[i]); {
		case !v.Valid:
			out = store.Value{}
		case v.Int == 0:
			return v
		}
	}
	return out
}

func negated(x *expr, not bool) *expr {
	if !not {
		return x
	}
	return derived(boolType, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		return boolValue(v.Int == 0), nil
	}, x)
}

func (c *compiler) between(e *ast.BetweenExpr) (*expr, error) {
	x, err := c.expr(e.Left)
	if err != nil {
		return nil, err
	}
	lo, err := c.expr(e.RightStart)
	if err != nil {
		return nil, err
	}
	hi, err := c.expr(e.RightEnd)
	if err != nil {
		return nil, err
	}
	a, err := comparison(ast.OpGreaterEqual, x, lo)
	if err != nil {
		return nil, err
	}
	b, err := comparison(ast.OpLessEqual, x, hi)
	if err != nil {
		return nil, err
	}
	out, err := logical(ast.OpAnd, a, b)
	if err != nil {
		return nil, err
	}
	return negated(out, e.Not), nil
}

func (c *compiler) inList(e *ast.InExpr) (*expr, error) {
	x, err := c.expr(e.Left)
	if err != nil {
		return nil, err
	}
	var list *expr
	switch r := e.Right.(type) {
	case *ast.ValuesInCondition:
		items, err := c.exprs(r.Exprs)
		if err != nil {
			return nil, err
		}
		all := append([]*expr{x}, items...)
		t, err := unified(all, "operator IN")
		if err != nil {
			return nil, err
		}
		if t == nil {
			t = int64Type
		}
		x, list = all[0], composed(&store.Type{Code: store.Array, Elem: t}, all[1:])
	case *ast.UnnestInCondition:
		if list, err = c.expr(r.Expr); err != nil {
			return nil, err
		}
	case *ast.SubQueryInCondition:
		if list, err = c.subQuery(&ast.ArraySubQuery{Query: r.Query}); err != nil {
			return nil, err
		}
	default:
		return nil, unimplemented("the expression %s", e.SQL())
	}
	out, err := inArray(x, list)
	if err != nil {
		return nil, err
	}
	return negated(out, e.Not), nil
}

// inArray is x IN the array list.
func inArray(x, list *expr) (*expr, error) {
	if list.typ == nil || list.typ.Code != store.Array {
		return nil, invalid("IN UNNEST needs an array, not %s", TypeName(list.typ))
	}
	elem := list.typ.Elem
	if !coercible(x, elem) && x.typ != nil && (widens(elem, x.typ) || elem.Code == store.Struct) {
		wide, err := coerce(list, &store.Type{Code: store.Array, Elem: x.typ})
		if err != nil {
			wide = mapped(list, elem, x.typ)
		}
		list, elem = wide, x.typ
	}
	x, err := coerce(x, elem)
	if err != nil {
		return nil, err
	}
	if !equatable(elem) {
		return nil, invalid("IN is not defined for type %s", TypeName(elem))
	}
	return derived(boolType, func(f *frame) (store.Value, error) {
		l, err := list.eval(f)
		if err != nil || len(l.List) == 0 {
			return boolValue(false), err
		}
		v, err := x.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		out := boolValue(false)
		for _, y := range l.List {
			switch eq := equal(elem, v, y); {
			case !eq.Valid:
				out = store.Value{}
			case eq.Int != 0:
				return eq, nil
			}
		}
		return out, nil
	}, x, list), nil
}

// mapped is an array with its elements widened.
func mapped(list *expr, from, to *store.Type) *expr {
	return derived(&store.Type{Code: store.Array, Elem: to}, func(f *frame) (store.Value, error) {
		v, err := list.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		out := make(values, len(v.List))
		for i, e := range v.List {
			if out[i], err = castValue(from, to, e); err != nil {
				return store.Value{}, err
			}
		}
		return listValue(out), nil
	}, list)
}

func like(op ast.BinaryOp, a, b *expr) (*expr, error) {
	for _, x := range []*expr{a, b} {
		if x.typ != nil && x.typ.Code != store.String && x.typ.Code != store.Bytes {
			return nil, invalid("LIKE needs STRING or BYTES, not %s", TypeName(x.typ))
		}
	}
	return negated(derived(boolType, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, a, b)
		if err != nil || !ok {
			return store.Value{}, err
		}
		re, err := likePattern(vs[1].Text)
		if err != nil {
			return store.Value{}, err
		}
		return boolValue(re.MatchString(vs[0].Text)), nil
	}, a, b), op == ast.OpNotLike), nil
}

func likePattern(p string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	escaped := false
	for _, r := range p {
		switch {
		case escaped:
			b.WriteString(regexp.QuoteMeta(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		case r == '%':
			b.WriteString(".*")
		case r == '_':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	if escaped {
		return nil, outOfRange("LIKE pattern ends with a backslash")
	}
	b.WriteString(`\z`)
	re, err := compilePattern(b.String())
	if err != nil {
		return nil, outOfRange("LIKE pattern %.40q is not usable: %v", p, err)
	}
	return re, nil
}

func concat(args []*expr) (*expr, error) {
	t, err := unified(args, "concatenation")
	if err != nil {
		return nil, err
	}
	if t != nil && t.Code != store.String && t.Code != store.Bytes && t.Code != store.Array {
		return nil, invalid("concatenation needs STRING, BYTES or arrays, not %s", TypeName(t))
	}
	return derived(t, func(f *frame) (store.Value, error) {
		out := store.Value{Valid: true}
		for _, a := range args {
			v, err := a.eval(f)
			if err != nil || !v.Valid {
				return store.Value{}, err
			}
			out.Text += v.Text
			out.List = append(out.List, v.List...)
			if len(out.Text) > 10*maxText || len(out.List) > maxGenerated {
				return store.Value{}, outOfRange("the result of a concatenation is too large")
			}
		}
		return out, nil
	}, args...), nil
}

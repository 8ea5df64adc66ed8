package sql

import (
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
		return literal(bytesType, textValue(string(e.Value))), nil
	case *ast.DateLiteral:
		return typedLiteral(dateType, e.Value)
	case *ast.TimestampLiteral:
		return typedLiteral(timestampType, e.Value)
	case *ast.NumericLiteral:
		return typedLiteral(numericType, e.Value)
	case *ast.JSONLiteral:
		if err := exactNumbers(e.Value.Value); err != nil {
			return nil, invalid("Invalid JSON literal: %v", err)
		}
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
	case *ast.TupleStructLiteral:
		return c.structLiteral(e.Values, nil, nil)
	case *ast.TypedStructLiteral:
		return c.typedStruct(e)
	case *ast.TypelessStructLiteral:
		return c.typelessStruct(e)
	case *ast.ExtractExpr:
		return c.extract(e)
	case *ast.WithExpr:
		return c.with(e)
	case *ast.ScalarSubQuery, *ast.ArraySubQuery, *ast.ExistsSubQuery:
		return c.subQuery(e)
	case *ast.IndexExpr:
		return c.index(e)
	case *ast.IntervalLiteralSingle:
		return c.intervalLiteral(e)
	case *ast.IntervalLiteralRange:
		return intervalRange(e)
	case *ast.NewConstructor:
		return c.newProto(e)
	case *ast.BracedNewConstructor:
		t, err := c.messageType(e.Type)
		if err != nil {
			return nil, err
		}
		return c.bracedProto(t, e.Body)
	case *ast.ReplaceFieldsExpr:
		return c.replaceFields(e)
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

// ofBoth is an expression of type result over two operands, which become of type t; it is NULL if one of them is.
func ofBoth(result, t *store.Type, a, b *expr, fn func(x, y store.Value) (store.Value, error)) (*expr, error) {
	a, err := coerce(a, t)
	if err != nil {
		return nil, err
	}
	if b, err = coerce(b, t); err != nil {
		return nil, err
	}
	return derived(result, func(f *frame) (store.Value, error) {
		x, err := a.eval(f)
		if err != nil || !x.Valid {
			return store.Value{}, err
		}
		y, err := b.eval(f)
		if err != nil || !y.Valid {
			return store.Value{}, err
		}
		return fn(x, y)
	}, a, b), nil
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
	t, err := c.bound(p.Type)
	if err != nil {
		return nil, invalid("parameter %s: %v", name, err)
	}
	x := constant(t, p.Value)
	x.untyped = p.Untyped && p.Type != nil
	return x, nil
}

// lookup resolves a column name, or relation.column. It returns nil if there is none.
func (c *compiler) lookup(rel, name string) (*expr, error) {
	slot, typ, up, ok, err := c.scope.find(rel, name)
	if err != nil || !ok {
		return nil, err
	}
	if c.grouping != nil && up == 0 {
		return nil, invalid("%s is neither grouped nor aggregated", name)
	}
	return c.slotAt(slot, typ, up), nil
}

// slotAt is the slot of a row up levels outside; what lies in between depends on that row then.
func (c *compiler) slotAt(slot int, typ *store.Type, up int) *expr {
	for s, i := c.scope, 0; i < up; s, i = s.parent, i+1 {
		s.dependsOutside()
	}
	return slotExpr(slot, typ, up)
}

func (c *compiler) column(rel, name string, at ast.Node) (*expr, error) {
	if rel == "" {
		for _, it := range c.aliases {
			if it.tree != nil && strings.EqualFold(it.name, name) && it.expr != nil {
				return it.expr, nil
			}
		}
	}
	x, err := c.lookup(rel, name)
	if x != nil || err != nil {
		return x, err
	}
	if rel == "" {
		if x, err := c.wholeRow(name); x != nil || err != nil {
			return x, err
		}
		if strings.EqualFold(name, "CURRENT_TIMESTAMP") || strings.EqualFold(name, "CURRENT_DATE") {
			name = strings.ToUpper(name)
			return c.apply(name, functions[name], nil)
		}
	}
	return nil, invalid("Unrecognized name: %s%s", at.SQL(), position(at))
}

// wholeRow is the row of a relation as a STRUCT, where a name is that of a relation.
func (c *compiler) wholeRow(name string) (*expr, error) {
	up := 0
	for s := c.scope; s != nil; s, up = s.parent, up+1 {
		for _, r := range s.relations {
			if !strings.EqualFold(r.name, name) || len(r.columns) == 0 {
				continue
			}
			if c.grouping != nil && up == 0 {
				return nil, invalid("%s is neither grouped nor aggregated", name)
			}
			t := &store.Type{Code: store.Struct}
			var parts []*expr
			for i, col := range r.columns {
				if col.unreadable != nil {
					return nil, col.unreadable
				}
				if !col.hidden {
					if err := r.read(i); err != nil {
						return nil, err
					}
					t.Fields = append(t.Fields, store.Field{Name: col.name, Type: col.typ})
					parts = append(parts, c.slotAt(r.offset+i, col.typ, up))
				}
			}
			x := composed(t, parts)
			x.parts = nil
			return x, nil
		}
	}
	return nil, nil
}

// path resolves a.b.c: a column and fields in it, or a relation, its column and fields in that.
func (c *compiler) path(p *ast.Path) (*expr, error) {
	rest := p.Idents[1:]
	var x *expr
	var err error
	if len(rest) > 0 { // a relation hides a column of its name
		if x, err = c.lookup(p.Idents[0].Name, rest[0].Name); err != nil {
			return nil, err
		}
	}
	if x != nil {
		rest = rest[1:]
	} else if x, err = c.lookup("", p.Idents[0].Name); err != nil {
		return nil, err
	}
	if x == nil {
		if len(p.Idents) == 1 {
			return c.column("", p.Idents[0].Name, p)
		}
		return nil, invalid("Unrecognized name: %s%s", p.SQL(), position(p))
	}
	for _, id := range rest {
		if x, err = field(x, id.Name); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (c *compiler) selector(e *ast.SelectorExpr) (*expr, error) {
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	return field(x, e.Ident.Name)
}

func field(x *expr, name string) (*expr, error) {
	if x.typ != nil && x.typ.Code == store.JSON {
		return jsonStep(x, literal(stringType, textValue(name))), nil
	}
	if x.typ != nil && x.typ.Code == store.Proto {
		return protoField(x, name)
	}
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
		t, err := c.exprType(e.Type)
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
	if elem != nil && elem.Code == store.Array {
		return nil, invalid("Cannot construct array with element type %s because nested arrays are not supported", TypeName(elem))
	}
	soft := e.Type == nil
	for i := range items {
		soft = soft && (items[i].literal || items[i].typ == nil)
		if e.Type == nil && elem != nil {
			continue // kept as they are, so that the array can still be coerced part by part
		}
		if items[i], err = coerce(items[i], elem); err != nil {
			return nil, err
		}
	}
	if elem == nil {
		elem = int64Type
	}
	whole := make([]*expr, len(items))
	for i := range items {
		if whole[i], err = coerce(items[i], elem); err != nil {
			return nil, err
		}
	}
	x := composed(&store.Type{Code: store.Array, Elem: elem}, whole)
	if x.parts = items; e.Type != nil {
		x.parts = whole
	}
	x.literal = soft
	return x, nil
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
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	if x.typ != nil && x.typ.Code == store.JSON {
		arg, ok := e.Index.(*ast.ExprArg)
		if !ok {
			return nil, invalid("a subscript of JSON is a name or an index, not %s", e.Index.SQL())
		}
		by, err := c.expr(arg.Expr)
		if err != nil {
			return nil, err
		}
		if by.typ == nil || by.typ.Code != store.Int64 && by.typ.Code != store.String {
			return nil, invalid("a subscript of JSON is a STRING or an INT64, not %s", TypeName(by.typ))
		}
		return jsonStep(x, by), nil
	}
	k, ok := e.Index.(*ast.SubscriptSpecifierKeyword)
	if !ok {
		return nil, invalid("Array element access with array[position] is not supported. Use array[OFFSET(zero_based_offset)] or array[ORDINAL(one_based_ordinal)]")
	}
	i, err := c.expr(k.Expr)
	if err != nil {
		return nil, err
	}
	if i, err = coerce(i, int64Type); err != nil {
		return nil, err
	}
	if x.typ == nil || x.typ.Code != store.Array {
		return nil, invalid("a subscript needs an array, not %s", TypeName(x.typ))
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

package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// grouping is the level above GROUP BY: its rows hold the values of the grouping expressions, then of the aggregates.
type grouping struct {
	base  *compiler
	names []string // the text of the grouping expressions
	exprs []*expr
	slots []int // the slot below of those that are columns, else -1
	aggs  []*aggregate
	texts []string // the text of the aggregate calls
}

// aggregate is one aggregate call.
type aggregate struct {
	typ      *store.Type
	arg      *expr // nil for COUNT(*)
	distinct bool
	start    func() accumulator
	// skipNulls leaves NULLs out.
	skipNulls bool
	// having chooses the rows with the greatest (sign 1) or least (sign -1) value of an expression.
	having     *expr
	havingSign int
	// order and limit are those of ORDER BY and LIMIT among the arguments; limit -1 is none.
	order []sortKey
	limit int64
}

// accumulator takes values and gives their aggregate.
type accumulator interface {
	add(v store.Value) error
	result() (store.Value, error)
}

var aggregateNames = map[string]bool{
	"COUNT": true, "SUM": true, "MIN": true, "MAX": true, "AVG": true, "ARRAY_AGG": true, "STRING_AGG": true,
	"COUNTIF": true, "LOGICAL_AND": true, "LOGICAL_OR": true, "ANY_VALUE": true, "ARRAY_CONCAT_AGG": true, "BIT_AND": true,
	"BIT_OR": true, "BIT_XOR": true, "STDDEV": true, "STDDEV_SAMP": true, "VARIANCE": true, "VAR_SAMP": true,
}

func isAggregate(e ast.Node) bool {
	switch e := e.(type) {
	case *ast.CountStarExpr:
		return true
	case *ast.CallExpr:
		return len(e.Func.Idents) == 1 && aggregateNames[strings.ToUpper(e.Func.Idents[0].Name)]
	}
	return false
}

// hasAggregate looks for aggregate calls outside sub-queries.
func hasAggregate(e ast.Node) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		if n == nil {
			return false
		}
		if _, sub := n.(ast.QueryExpr); sub {
			return false
		}
		found = found || isAggregate(n)
		return !found
	})
	return found
}

// group makes the grouping of a SELECT, or nil if it neither groups nor aggregates.
func (c *compiler) group(e *ast.Select, list []item, order *ast.OrderBy) (*grouping, error) {
	need := e.GroupBy != nil || e.Having != nil
	for _, it := range list {
		need = need || it.tree != nil && hasAggregate(it.tree)
	}
	if order != nil {
		for _, o := range order.Items {
			need = need || hasAggregate(o.Expr)
		}
	}
	if !need {
		return nil, nil
	}
	g := &grouping{base: c}
	if e.GroupBy == nil {
		return g, nil
	}
	for _, t := range e.GroupBy.Exprs {
		tree := t
		switch x := t.(type) {
		case *ast.IntLiteral:
			n, err := parseInt(x.Value, x.Base)
			if err != nil || n < 1 || n > int64(len(list)) || list[n-1].tree == nil {
				return nil, invalid("GROUP BY column number is out of range: %s", x.Value)
			}
			tree = list[n-1].tree
		case *ast.Ident:
			if _, _, _, ok, _ := c.scope.find("", x.Name); !ok {
				for _, it := range list {
					if it.tree != nil && strings.EqualFold(it.name, x.Name) {
						tree = it.tree
					}
				}
			}
		}
		if hasAggregate(tree) {
			return nil, invalid("Cannot GROUP BY an aggregate: %s", tree.SQL())
		}
		x, err := c.expr(tree)
		if err != nil {
			return nil, err
		}
		g.slots = append(g.slots, c.slotOf(tree))
		if !equatable(x.typ) {
			return nil, invalid("Grouping by expressions of type %s is not allowed", TypeName(x.typ))
		}
		g.names = append(g.names, strings.ToLower(tree.SQL()))
		g.exprs = append(g.exprs, x)
	}
	return g, nil
}

// lookup finds what an expression is above GROUP BY: a grouping expression or an aggregate. It returns nil for others,
// which are then compiled from their parts.
func (g *grouping) lookup(e ast.Expr) (*expr, error) {
	switch e.(type) {
	case *ast.Ident, *ast.Path, *ast.CallExpr, *ast.CountStarExpr, *ast.BinaryExpr, *ast.CastExpr, *ast.IfExpr, *ast.CaseExpr, *ast.SelectorExpr:
	default:
		return nil, nil
	}
	text := strings.ToLower(e.SQL())
	for i, n := range g.names {
		if n == text {
			return slotExpr(i, g.exprs[i].typ, 0), nil
		}
	}
	// A column may be grouped under its bare name and used with its table's, or the other way round.
	if x := g.sameColumn(e); x != nil {
		return x, nil
	}
	if !isAggregate(e) {
		return nil, nil
	}
	for i, t := range g.texts {
		if t == text {
			return slotExpr(len(g.exprs)+i, g.aggs[i].typ, 0), nil
		}
	}
	a, err := g.base.aggregate(e)
	if err != nil {
		return nil, err
	}
	g.texts = append(g.texts, text)
	g.aggs = append(g.aggs, a)
	return slotExpr(len(g.exprs)+len(g.aggs)-1, a.typ, 0), nil
}

// slot is the grouping expression that is the column in a slot below, or nil.
func (g *grouping) slot(want int) *expr {
	for i, s := range g.slots {
		if s >= 0 && s == want {
			return slotExpr(i, g.exprs[i].typ, 0)
		}
	}
	return nil
}

func (g *grouping) sameColumn(e ast.Expr) *expr {
	switch e.(type) {
	case *ast.Ident, *ast.Path:
		return g.slot(g.base.slotOf(e))
	}
	return nil
}

// slotOf is the slot that a column name means at this level, or -1.
func (c *compiler) slotOf(e ast.Expr) int {
	rel, name := "", ""
	switch e := e.(type) {
	case *ast.ParenExpr:
		return c.slotOf(e.Expr)
	case *ast.Ident:
		name = e.Name
	case *ast.Path:
		if len(e.Idents) != 2 {
			return -1
		}
		rel, name = e.Idents[0].Name, e.Idents[1].Name
	default:
		return -1
	}
	slot, _, up, ok, err := c.scope.find(rel, name)
	if !ok || err != nil || up > 0 {
		return -1
	}
	return slot
}

// rows turns the rows below into grouped rows, in the order their groups first appeared.
func (g *grouping) rows(scan func(*frame, func(*frame) error) error) func(*frame, func(*frame) error) error {
	type bucket struct {
		row  []store.Value
		accs []accumulator
	}
	return func(f *frame, each func(*frame) error) error {
		buckets := map[string]*bucket{}
		var order []*bucket
		open := func(row []store.Value) *bucket {
			b := &bucket{row: row}
			for _, a := range g.aggs {
				b.accs = append(b.accs, a.accumulator())
			}
			order = append(order, b)
			return b
		}
		err := scan(f, func(rf *frame) error {
			row := make([]store.Value, len(g.exprs))
			var key []byte
			for i, x := range g.exprs {
				v, err := x.eval(rf)
				if err != nil {
					return err
				}
				row[i] = v
				key = appendGroupKey(key, x.typ, v)
			}
			b := buckets[string(key)]
			if b == nil {
				b = open(row)
				buckets[string(key)] = b
			}
			for i, a := range g.aggs {
				if err := a.add(rf, b.accs[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(order) == 0 && len(g.exprs) == 0 {
			open(nil)
		}
		for _, b := range order {
			row := b.row
			for _, a := range b.accs {
				v, err := a.result()
				if err != nil {
					return err
				}
				row = append(row, v)
			}
			if err := each(&frame{ctx: f.ctx, row: row, outer: f.outer}); err != nil {
				return err
			}
		}
		return nil
	}
}

// aggregate compiles an aggregate call over the rows below GROUP BY.
func (c *compiler) aggregate(e ast.Expr) (*aggregate, error) {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return &aggregate{typ: int64Type, limit: -1, start: func() accumulator { return &counter{} }}, nil
	}
	name := strings.ToUpper(call.Func.Idents[0].Name)
	if len(call.NamedArgs) > 0 {
		return nil, invalid("%s takes no named arguments", name)
	}
	if len(call.Args) == 0 || len(call.Args) > 1 && name != "STRING_AGG" || len(call.Args) > 2 {
		return nil, invalid("No matching signature for aggregate function %s: wrong number of arguments: %d", name, len(call.Args))
	}
	args := make([]*expr, len(call.Args))
	for i, a := range call.Args {
		ea, ok := a.(*ast.ExprArg)
		if !ok {
			return nil, unimplemented("the argument %s of %s", a.SQL(), name)
		}
		if hasAggregate(ea.Expr) {
			return nil, invalid("Aggregations of aggregations are not allowed")
		}
		x, err := c.expr(ea.Expr)
		if err != nil {
			return nil, err
		}
		args[i] = x
	}
	x := args[0]
	t := x.typ
	if t == nil {
		t = int64Type
	}
	a := &aggregate{typ: t, arg: x, distinct: call.Distinct, limit: -1}
	if a.distinct && !isComparable(t) {
		return nil, invalid("%s(DISTINCT) is not defined for %s", name, TypeName(t))
	}
	if err := c.modifiers(a, name, call); err != nil {
		return nil, err
	}
	switch name {
	case "COUNT":
		a.typ = int64Type
		a.start = func() accumulator { return &counter{} }
	case "COUNTIF":
		if t.Code != store.Bool {
			return nil, invalid("COUNTIF needs BOOL, not %s", TypeName(t))
		}
		a.typ = int64Type
		a.start = func() accumulator { return &counter{onlyTrue: true} }
	case "MIN", "MAX":
		if !isComparable(t) {
			return nil, invalid("%s is not defined for %s", name, TypeName(t))
		}
		sign := 1
		if name == "MAX" {
			sign = -1
		}
		a.start = func() accumulator { return &extreme{typ: t, sign: sign} }
	case "LOGICAL_AND", "LOGICAL_OR":
		if t.Code != store.Bool {
			return nil, invalid("%s needs BOOL, not %s", name, TypeName(t))
		}
		sign := 1
		if name == "LOGICAL_OR" {
			sign = -1
		}
		a.start = func() accumulator { return &extreme{typ: t, sign: sign} }
	case "ANY_VALUE":
		a.start = func() accumulator { return &first{} }
	case "SUM", "AVG":
		if t.Code == store.Interval {
			a.start = func() accumulator { return &intervalSum{avg: name == "AVG"} }
			break
		}
		if !isNumber(t) {
			return nil, invalid("%s needs a number, not %s", name, TypeName(t))
		}
		if t.Code == store.Float32 || name == "AVG" && t.Code == store.Int64 {
			a.typ = float64Type
		}
		avg := name == "AVG"
		out := a.typ
		a.start = func() accumulator { return &sum{typ: t, out: out, avg: avg} }
	case "ARRAY_AGG":
		if t.Code == store.Array {
			return nil, invalid("The argument to ARRAY_AGG must not be an array type but was %s", TypeName(t))
		}
		a.typ = &store.Type{Code: store.Array, Elem: t}
		a.start = func() accumulator { return &lister{} }
	case "ARRAY_CONCAT_AGG":
		if t.Code != store.Array {
			return nil, invalid("ARRAY_CONCAT_AGG needs an array, not %s", TypeName(t))
		}
		a.skipNulls = true
		a.start = func() accumulator { return &concatenator{} }
	case "BIT_AND", "BIT_OR", "BIT_XOR":
		if t.Code != store.Int64 {
			return nil, invalid("%s needs INT64, not %s", name, TypeName(t))
		}
		a.start = func() accumulator { return &bitwise{op: name} }
	case "STDDEV", "STDDEV_SAMP", "VARIANCE", "VAR_SAMP":
		if !isNumber(t) {
			return nil, invalid("%s needs a number, not %s", name, TypeName(t))
		}
		a.typ = float64Type
		root := strings.HasPrefix(name, "STDDEV")
		a.start = func() accumulator { return &variance{typ: t, root: root} }
	case "STRING_AGG":
		if t.Code != store.String && t.Code != store.Bytes {
			return nil, invalid("STRING_AGG needs STRING or BYTES, not %s", TypeName(t))
		}
		sep := ","
		if len(args) == 2 {
			if !args[1].constant {
				return nil, invalid("the separator of STRING_AGG must be constant")
			}
			v, err := args[1].eval(nil)
			if err != nil {
				return nil, err
			}
			sep = v.Text
		}
		a.start = func() accumulator { return &joiner{sep: sep} }
	default:
		return nil, unimplemented("the aggregate function %s", name)
	}
	return a, nil
}

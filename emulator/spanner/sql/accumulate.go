package sql

import (
	"math"
	"math/big"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// modifiers reads what stands behind an aggregate's arguments.
func (c *compiler) modifiers(a *aggregate, name string, call *ast.CallExpr) error {
	if call.NullHandling != nil {
		if name != "ARRAY_AGG" {
			return invalid("IGNORE NULLS and RESPECT NULLS are not allowed for aggregate function %s", name)
		}
		_, a.skipNulls = call.NullHandling.(*ast.IgnoreNulls)
	}
	var tree ast.Expr
	switch h := call.Having.(type) {
	case nil:
	case *ast.HavingMax:
		tree, a.havingSign = h.Expr, 1
	case *ast.HavingMin:
		tree, a.havingSign = h.Expr, -1
	default:
		return unimplemented("the modifier %s", h.SQL())
	}
	if tree != nil {
		x, err := c.expr(tree)
		if err != nil {
			return err
		}
		if !isComparable(x.typ) {
			return invalid("HAVING MAX and HAVING MIN do not support the type %s", TypeName(x.typ))
		}
		a.having = x
	}
	if (call.OrderBy != nil || call.Limit != nil) && name != "ARRAY_AGG" && name != "STRING_AGG" && name != "ARRAY_CONCAT_AGG" {
		return invalid("ORDER BY and LIMIT in arguments are not supported on aggregate function %s", name)
	}
	if call.OrderBy != nil {
		for _, it := range call.OrderBy.Items {
			k, err := c.sortKey(it, nil)
			if err != nil {
				return err
			}
			a.order = append(a.order, k)
		}
	}
	if call.Limit != nil {
		var err error
		a.limit, err = c.limitValue(call.Limit.Count)
		return err
	}
	return nil
}

// accumulator starts the aggregate of one group.
func (a *aggregate) accumulator() accumulator {
	acc := a.start()
	if a.order != nil || a.limit >= 0 {
		acc = &arranged{a: a, acc: acc}
	}
	if a.distinct {
		acc = &distinctAcc{typ: a.arg.typ, seen: map[string]bool{}, acc: acc}
	}
	if a.having != nil {
		acc = &chosen{a: a, start: a.start, acc: acc}
	}
	return acc
}

// add gives one row of a group to its accumulator.
func (a *aggregate) add(f *frame, acc accumulator) error {
	v := intValue(1)
	if a.arg != nil {
		var err error
		if v, err = a.arg.eval(f); err != nil {
			return err
		}
	}
	if a.skipNulls && !v.Valid {
		return nil
	}
	if c, ok := acc.(*chosen); ok {
		by, err := a.having.eval(f)
		if err != nil {
			return err
		}
		return c.addBy(v, by)
	}
	inner := acc
	if d, ok := acc.(*distinctAcc); ok {
		inner = d.acc
	}
	if s, ok := inner.(*arranged); ok {
		s.keys = nil
		for _, k := range a.order {
			key, err := k.eval(f, nil)
			if err != nil {
				return err
			}
			s.keys = append(s.keys, key)
		}
	}
	return acc.add(v)
}

// chosen is HAVING MAX and HAVING MIN: it starts again when a better row comes.
type chosen struct {
	a     *aggregate
	start func() accumulator
	acc   accumulator
	best  store.Value
}

func (c *chosen) addBy(v, by store.Value) error {
	if !by.Valid {
		return nil
	}
	if c.best.Valid {
		n := c.a.havingSign * store.Compare(c.a.having.typ, by, c.best)
		if n < 0 {
			return nil
		}
		if n == 0 {
			return c.acc.add(v)
		}
	}
	c.best, c.acc = by, c.start()
	return c.acc.add(v)
}

func (c *chosen) add(v store.Value) error      { return c.acc.add(v) }
func (c *chosen) result() (store.Value, error) { return c.acc.result() }

// arranged is ORDER BY and LIMIT among the arguments.
type arranged struct {
	a    *aggregate
	acc  accumulator
	keys values // of the next value
	rows []sorted
}

func (s *arranged) add(v store.Value) error {
	s.rows = append(s.rows, sorted{keys: s.keys, out: values{v}})
	return nil
}

func (s *arranged) result() (store.Value, error) {
	n := int64(0)
	err := emitSorted(s.rows, s.a.order, func(r []store.Value) error {
		if s.a.limit >= 0 && n >= s.a.limit {
			return nil
		}
		n++
		return s.acc.add(r[0])
	})
	if err != nil {
		return store.Value{}, err
	}
	return s.acc.result()
}

type distinctAcc struct {
	typ  *store.Type
	seen map[string]bool
	acc  accumulator
}

func (d *distinctAcc) add(v store.Value) error {
	k := string(appendGroupKey(nil, d.typ, v))
	if d.seen[k] {
		return nil
	}
	d.seen[k] = true
	return d.acc.add(v)
}

func (d *distinctAcc) result() (store.Value, error) { return d.acc.result() }

type counter struct {
	n        int64
	onlyTrue bool
}

func (c *counter) add(v store.Value) error {
	if v.Valid && (!c.onlyTrue || v.Int != 0) {
		c.n++
	}
	return nil
}

func (c *counter) result() (store.Value, error) { return intValue(c.n), nil }

type extreme struct {
	typ  *store.Type
	sign int
	v    store.Value
}

func (m *extreme) add(v store.Value) error {
	if v.Valid && (!m.v.Valid || m.sign*store.Compare(m.typ, v, m.v) < 0) {
		m.v = v
	}
	return nil
}

func (m *extreme) result() (store.Value, error) { return m.v, nil }

type first struct {
	v   store.Value
	has bool
}

func (a *first) add(v store.Value) error {
	if !a.has {
		a.v, a.has = v, true
	}
	return nil
}

func (a *first) result() (store.Value, error) { return a.v, nil }

type sum struct {
	typ, out *store.Type
	avg      bool
	n        int64
	whole    big.Rat // of INT64 and NUMERIC, which must not overflow on the way
	float    float64
}

func (s *sum) add(v store.Value) error {
	if !v.Valid {
		return nil
	}
	s.n++
	switch s.typ.Code {
	case store.Int64:
		s.whole.Add(&s.whole, new(big.Rat).SetInt64(v.Int))
	case store.Numeric:
		r, ok := new(big.Rat).SetString(v.Text)
		if !ok {
			return outOfRange("%q is not a NUMERIC", v.Text)
		}
		s.whole.Add(&s.whole, r)
	default:
		s.float += v.Float
	}
	return nil
}

func (s *sum) result() (store.Value, error) {
	if s.n == 0 {
		return store.Value{}, nil
	}
	if s.avg && s.typ.Code != store.Float64 && s.typ.Code != store.Float32 {
		s.whole.Quo(&s.whole, new(big.Rat).SetInt64(s.n))
	}
	switch {
	case s.typ.Code == store.Int64 && s.avg:
		f, _ := s.whole.Float64()
		return store.Value{Valid: true, Float: f}, nil
	case s.typ.Code == store.Int64:
		if !s.whole.Num().IsInt64() {
			return store.Value{}, outOfRange("int64 overflow in SUM")
		}
		return intValue(s.whole.Num().Int64()), nil
	case s.typ.Code == store.Numeric:
		return roundedNumeric(&s.whole)
	case s.avg:
		return store.Value{Valid: true, Float: s.float / float64(s.n)}, nil
	}
	return store.Value{Valid: true, Float: s.float}, nil
}

type lister struct{ list []store.Value }

func (l *lister) add(v store.Value) error {
	l.list = append(l.list, v)
	return nil
}

func (l *lister) result() (store.Value, error) {
	if l.list == nil {
		return store.Value{}, nil
	}
	return store.Value{Valid: true, List: l.list}, nil
}

type joiner struct {
	sep  string
	b    strings.Builder
	some bool
}

func (j *joiner) add(v store.Value) error {
	if !v.Valid {
		return nil
	}
	if j.some {
		j.b.WriteString(j.sep)
	}
	j.some = true
	j.b.WriteString(v.Text)
	return nil
}

func (j *joiner) result() (store.Value, error) {
	return store.Value{Valid: j.some, Text: j.b.String()}, nil
}

type concatenator struct {
	list values
	some bool
}

func (c *concatenator) add(v store.Value) error {
	c.list = append(c.list, v.List...)
	c.some = true
	return nil
}

func (c *concatenator) result() (store.Value, error) {
	if !c.some {
		return store.Value{}, nil
	}
	return listValue(c.list), nil
}

type bitwise struct {
	op   string
	some bool
	n    int64
}

func (b *bitwise) add(v store.Value) error {
	switch {
	case !v.Valid:
		return nil
	case !b.some:
		b.n = v.Int
	case b.op == "BIT_AND":
		b.n &= v.Int
	case b.op == "BIT_OR":
		b.n |= v.Int
	default:
		b.n ^= v.Int
	}
	b.some = true
	return nil
}

func (b *bitwise) result() (store.Value, error) {
	return store.Value{Valid: b.some, Int: b.n}, nil
}

// variance is the sample variance, or its root. Sums are kept exactly.
type variance struct {
	typ        *store.Type
	root, nan  bool
	n          int64
	sum, power big.Rat
}

func (s *variance) add(v store.Value) error {
	if !v.Valid {
		return nil
	}
	f, err := castValue(s.typ, float64Type, v)
	if err != nil {
		return err
	}
	s.n++
	x := new(big.Rat).SetFloat64(f.Float)
	if x == nil {
		s.nan = true
		return nil
	}
	s.sum.Add(&s.sum, x)
	s.power.Add(&s.power, x.Mul(x, x))
	return nil
}

func (s *variance) result() (store.Value, error) {
	switch {
	case s.n < 2:
		return store.Value{}, nil
	case s.nan:
		return floatValue(math.NaN()), nil
	}
	n := new(big.Rat).SetInt64(s.n)
	v := new(big.Rat).Mul(&s.sum, &s.sum)
	v.Sub(&s.power, v.Quo(v, n))
	f, _ := v.Quo(v, n.SetInt64(s.n-1)).Float64()
	if s.root {
		f = math.Sqrt(f)
	}
	return floatValue(f), nil
}

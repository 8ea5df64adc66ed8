package sql

import (
	"math/big"
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// makeInterval is MAKE_INTERVAL, all of whose arguments are optional and may be named.
func (c *compiler) makeInterval(e *ast.CallExpr) (*expr, error) {
	parts := []ast.DateTimePart{
		ast.DateTimePartYear, ast.DateTimePartMonth, ast.DateTimePartDay, ast.DateTimePartHour, ast.DateTimePartMinute, ast.DateTimePartSecond,
	}
	trees := make([]ast.Expr, len(parts))
	if len(e.Args) > len(parts) {
		return nil, invalid("No matching signature for function MAKE_INTERVAL: wrong number of arguments: %d", len(e.Args))
	}
	for i, a := range e.Args {
		arg, ok := a.(*ast.ExprArg)
		if !ok {
			return nil, invalid("MAKE_INTERVAL takes numbers, not %s", a.SQL())
		}
		trees[i] = arg.Expr
	}
	for _, a := range e.NamedArgs {
		i := 0
		for i < len(parts) && !strings.EqualFold(string(parts[i]), a.Name.Name) {
			i++
		}
		if i == len(parts) {
			return nil, invalid("Named argument %s not found in signature for function MAKE_INTERVAL", a.Name.Name)
		}
		if trees[i] != nil {
			return nil, invalid("MAKE_INTERVAL: the argument %s is given twice", a.Name.Name)
		}
		trees[i] = a.Value
	}
	args := make([]*expr, len(parts))
	for i, tree := range trees {
		args[i] = literal(int64Type, intValue(0))
		if tree == nil {
			continue
		}
		x, err := c.expr(tree)
		if err != nil {
			return nil, err
		}
		if args[i], err = coerce(x, int64Type); err != nil {
			return nil, invalid("argument %s of MAKE_INTERVAL: %v", strings.ToLower(string(parts[i])), err)
		}
	}
	return derived(intervalType, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, args...)
		if err != nil || !ok {
			return store.Value{}, err
		}
		months, days, nanos := new(big.Int), new(big.Int), new(big.Int)
		for i, v := range vs {
			u := intervalParts[parts[i]]
			months.Add(months, times(v.Int, u.months))
			days.Add(days, times(v.Int, u.days))
			nanos.Add(nanos, times(v.Int, u.nanos))
		}
		return intervalOf(months, days, nanos)
	}, args...), nil
}

// extractInterval is EXTRACT(part FROM an interval).
func extractInterval(part ast.DateTimePart, x *expr) (*expr, error) {
	get := func(p store.IntervalParts) int64 {
		h, m, s, ns := p.Clock()
		switch part {
		case ast.DateTimePartYear:
			return p.Months / 12
		case ast.DateTimePartMonth:
			return p.Months % 12
		case ast.DateTimePartDay:
			return p.Days
		case ast.DateTimePartHour:
			return h
		case ast.DateTimePartMinute:
			return m
		case ast.DateTimePartSecond:
			return s
		case ast.DateTimePartMillisecond:
			return ns / 1e6
		case ast.DateTimePartMicrosecond:
			return ns / 1e3
		}
		return ns
	}
	if u, ok := intervalParts[part]; !ok || part == ast.DateTimePartQuarter || u.days == 7 {
		return nil, invalid("EXTRACT from type INTERVAL does not support the %s date part", part)
	}
	return derived(int64Type, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		return intValue(get(v.Interval())), nil
	}, x), nil
}

// carry takes whole days out of nanoseconds, or months of 30 days out of days, so that both parts have one sign.
func carry(large int64, small *big.Int, per int64) (int64, *big.Int) {
	total := new(big.Int).Add(times(large, per), small)
	large64, rest := new(big.Int).QuoRem(total, big.NewInt(per), new(big.Int))
	return large64.Int64(), rest
}

func justify(hours, days bool) function {
	return sig(intervalType, func(v values) (store.Value, error) {
		p := v[0].Interval()
		perDay := int64(24 * time.Hour)
		switch {
		case hours && days: // all three of one sign: what the whole length comes to
			d, nanos := p.Total()
			total := new(big.Int).Add(times(d, perDay), big.NewInt(nanos))
			all, rest := carry(0, total, perDay)
			months, left := carry(0, big.NewInt(all), 30)
			return intervalOf(big.NewInt(months), left, rest)
		case hours:
			d, rest := carry(p.Days, p.Nanos, perDay)
			return intervalOf(big.NewInt(p.Months), big.NewInt(d), rest)
		}
		m, left := carry(p.Months, big.NewInt(p.Days), 30)
		return intervalOf(big.NewInt(m), left, p.Nanos)
	}, intervalType)
}

var intervalFunctions = map[string][]function{
	"JUSTIFY_HOURS": {justify(true, false)}, "JUSTIFY_DAYS": {justify(false, true)}, "JUSTIFY_INTERVAL": {justify(true, true)},
}

// intervalSum is SUM and AVG of intervals.
type intervalSum struct {
	avg   bool
	n     int64
	parts store.IntervalParts
}

func (s *intervalSum) add(v store.Value) error {
	if !v.Valid {
		return nil
	}
	p := v.Interval()
	if s.n++; s.n == 1 {
		s.parts = p
		return nil
	}
	s.parts.Months += p.Months
	s.parts.Days += p.Days
	s.parts.Nanos.Add(s.parts.Nanos, p.Nanos)
	return nil
}

func (s *intervalSum) result() (store.Value, error) {
	switch {
	case s.n == 0:
		return store.Value{}, nil
	case s.avg:
		return divided(s.parts, s.n)
	}
	return intervalOf(big.NewInt(s.parts.Months), big.NewInt(s.parts.Days), s.parts.Nanos)
}

package sql

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// intervalUnit is what one of a unit adds to the parts of an INTERVAL.
type intervalUnit struct {
	months, days, nanos int64
}

var intervalParts = map[ast.DateTimePart]intervalUnit{
	ast.DateTimePartYear: {months: 12}, ast.DateTimePartQuarter: {months: 3}, ast.DateTimePartMonth: {months: 1},
	ast.DateTimePartWeek: {days: 7}, ast.DateTimePartDay: {days: 1},
	ast.DateTimePartHour: {nanos: int64(time.Hour)}, ast.DateTimePartMinute: {nanos: int64(time.Minute)},
	ast.DateTimePartSecond: {nanos: int64(time.Second)}, ast.DateTimePartMillisecond: {nanos: int64(time.Millisecond)},
	ast.DateTimePartMicrosecond: {nanos: int64(time.Microsecond)}, ast.DateTimePartNanosecond: {nanos: 1},
}

// intervalOf makes an INTERVAL of parts that may be too large for one.
func intervalOf(months, days, nanos *big.Int) (store.Value, error) {
	if !months.IsInt64() || !days.IsInt64() {
		return store.Value{}, outOfRange("interval overflow: %s months, %s days", months, days)
	}
	v, err := store.IntervalValue(store.IntervalParts{Months: months.Int64(), Days: days.Int64(), Nanos: nanos})
	if err != nil {
		return store.Value{}, outOfRange("interval overflow: %v", err)
	}
	return v, nil
}

func times(a, b int64) *big.Int { return new(big.Int).Mul(big.NewInt(a), big.NewInt(b)) }

// intervalLiteral is INTERVAL n PART.
func (c *compiler) intervalLiteral(e *ast.IntervalLiteralSingle) (*expr, error) {
	n, part, err := c.interval("INTERVAL", e)
	if err != nil {
		return nil, err
	}
	u, ok := intervalParts[part]
	if !ok {
		return nil, invalid("INTERVAL does not support the %s date part", part)
	}
	return derived(intervalType, func(f *frame) (store.Value, error) {
		k, err := n.eval(f)
		if err != nil || !k.Valid {
			return store.Value{}, err
		}
		return intervalOf(times(k.Int, u.months), times(k.Int, u.days), times(k.Int, u.nanos))
	}, n), nil
}

// intervalOrder are the parts of an interval's text, from the largest, with what stands behind each.
var intervalOrder = []struct {
	part ast.DateTimePart
	sep  byte
}{
	{ast.DateTimePartYear, '-'}, {ast.DateTimePartMonth, ' '}, {ast.DateTimePartDay, ' '},
	{ast.DateTimePartHour, ':'}, {ast.DateTimePartMinute, ':'}, {ast.DateTimePartSecond, 0},
}

func partIndex(part ast.DateTimePart) int {
	for i, u := range intervalOrder {
		if u.part == part {
			return i
		}
	}
	return -1
}

// intervalRange is INTERVAL 'text' PART TO PART.
func intervalRange(e *ast.IntervalLiteralRange) (*expr, error) {
	from, to := partIndex(e.StartingDateTimePart), partIndex(e.EndingDateTimePart)
	if from < 0 || to <= from {
		return nil, invalid("INTERVAL does not support the range %s TO %s", e.StartingDateTimePart, e.EndingDateTimePart)
	}
	v, err := parseIntervalRange(e.Value.Value, from, to)
	if err != nil {
		return nil, invalid("Invalid INTERVAL literal: %v", err)
	}
	return constant(intervalType, v), nil
}

// parseIntervalRange reads the text of the parts from to to. A sign counts for all parts up to the next space.
func parseIntervalRange(text string, from, to int) (store.Value, error) {
	bad := func() (store.Value, error) {
		return store.Value{}, fmt.Errorf("%.60q is not %s TO %s", text, intervalOrder[from].part, intervalOrder[to].part)
	}
	months, days, nanos := new(big.Int), new(big.Int), new(big.Int)
	rest, sign := text, int64(1)
	for i := from; i <= to; i++ {
		if i == from || intervalOrder[i-1].sep == ' ' {
			sign = 1
			if strings.HasPrefix(rest, "-") {
				sign = -1
			}
			rest = strings.TrimLeft(rest[:min(1, len(rest))], "+-") + rest[min(1, len(rest)):]
		}
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return bad()
		}
		rest = rest[digits:]
		u := intervalParts[intervalOrder[i].part]
		months.Add(months, times(sign*n, u.months))
		days.Add(days, times(sign*n, u.days))
		nanos.Add(nanos, times(sign*n, u.nanos))
		if i == partIndex(ast.DateTimePartSecond) && strings.HasPrefix(rest, ".") {
			fraction := rest[1:]
			n, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 63)
			if err != nil || fraction == "" || len(fraction) > 9 {
				return bad()
			}
			nanos.Add(nanos, times(sign, int64(n)))
			rest = ""
		}
		if i == to {
			break
		}
		if !strings.HasPrefix(rest, string(intervalOrder[i].sep)) {
			return bad()
		}
		rest = rest[1:]
	}
	if rest != "" {
		return bad()
	}
	return intervalOf(months, days, nanos)
}

// parseIntervalText reads the texts that a cast to INTERVAL takes: ISO 8601, and that of a range of parts if its separators
// tell which.
func parseIntervalText(text string) (store.Value, error) {
	if strings.HasPrefix(text, "P") {
		return store.ParseText(intervalType, text)
	}
	shape := ""
	for i, c := range []byte(text) {
		sign := c == '-' && (i == 0 || text[i-1] == ' ')
		if !sign && strings.IndexByte("- :", c) >= 0 {
			shape += string(c)
		}
	}
	found := [][2]int{}
	for from := range intervalOrder {
		want := ""
		for to := from + 1; to < len(intervalOrder); to++ {
			want += string(intervalOrder[to-1].sep)
			if want == shape {
				found = append(found, [2]int{from, to})
			}
		}
	}
	if len(found) != 1 {
		return store.Value{}, outOfRange("Invalid INTERVAL value %.60q", text)
	}
	v, err := parseIntervalRange(text, found[0][0], found[0][1])
	if err != nil {
		return store.Value{}, outOfRange("Invalid INTERVAL value: %v", err)
	}
	return v, nil
}

// intervalText writes an INTERVAL as a cast to STRING does: Y-M D H:M:S[.F].
func intervalText(v store.Value) string {
	p := v.Interval()
	sign := func(negative bool) string {
		if negative {
			return "-"
		}
		return ""
	}
	h, m, s, ns := p.Clock()
	return fmt.Sprintf("%s%d-%d %d %s%d:%d:%s", sign(p.Months < 0), abs64(p.Months/12), abs64(p.Months%12), p.Days,
		sign(p.Nanos.Sign() < 0), abs64(h), abs64(m), store.SecondsText(abs64(s), abs64(ns), 3))
}

// temporal is arithmetic with times and intervals; it returns nil for operands that it is not about.
func temporal(op ast.BinaryOp, a, b *expr) *expr {
	is := func(x *expr, codes ...store.Code) bool {
		for _, c := range codes {
			if x.typ != nil && x.typ.Code == c {
				return true
			}
		}
		return false
	}
	var out *store.Type
	var fn func(x, y store.Value) (store.Value, error)
	sum, difference := op == ast.OpAdd, op == ast.OpSub
	switch {
	case difference && is(a, store.Timestamp) && is(b, store.Timestamp):
		out, fn = intervalType, func(x, y store.Value) (store.Value, error) {
			nanos := new(big.Int).Add(times(x.Int-y.Int, 1e9), big.NewInt(int64(x.Nanos-y.Nanos)))
			return intervalOf(new(big.Int), new(big.Int), nanos)
		}
	case difference && is(a, store.Date) && is(b, store.Date):
		out, fn = intervalType, func(x, y store.Value) (store.Value, error) {
			return intervalOf(new(big.Int), big.NewInt(x.Int-y.Int), new(big.Int))
		}
	case (sum || difference) && is(a, store.Timestamp) && is(b, store.Interval):
		out, fn = timestampType, func(x, y store.Value) (store.Value, error) { return addInterval(x, y, difference) }
	case sum && is(a, store.Interval) && is(b, store.Timestamp):
		out, fn = timestampType, func(x, y store.Value) (store.Value, error) { return addInterval(y, x, false) }
	case (sum || difference) && is(a, store.Interval) && is(b, store.Interval):
		out, fn = intervalType, func(x, y store.Value) (store.Value, error) {
			p, q := x.Interval(), y.Interval()
			if difference {
				q.Months, q.Days, q.Nanos = -q.Months, -q.Days, q.Nanos.Neg(q.Nanos)
			}
			return intervalOf(big.NewInt(p.Months+q.Months), big.NewInt(p.Days+q.Days), p.Nanos.Add(p.Nanos, q.Nanos))
		}
	case op == ast.OpMul && is(a, store.Interval) && is(b, store.Int64):
		out, fn = intervalType, func(x, y store.Value) (store.Value, error) { return multiplied(x.Interval(), y.Int) }
	case op == ast.OpMul && is(a, store.Int64) && is(b, store.Interval):
		out, fn = intervalType, func(x, y store.Value) (store.Value, error) { return multiplied(y.Interval(), x.Int) }
	case op == ast.OpDiv && is(a, store.Interval) && is(b, store.Int64):
		out, fn = intervalType, func(x, y store.Value) (store.Value, error) { return divided(x.Interval(), y.Int) }
	default:
		return nil
	}
	return derived(out, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, a, b)
		if err != nil || !ok {
			return store.Value{}, err
		}
		return fn(vs[0], vs[1])
	}, a, b)
}

// addInterval moves a timestamp. A day has 24 hours there; a month has no length.
func addInterval(at, by store.Value, back bool) (store.Value, error) {
	p := by.Interval()
	if p.Months != 0 {
		return store.Value{}, outOfRange("TIMESTAMP +/- INTERVAL is not supported for intervals with non-zero MONTH or YEAR part.")
	}
	days, nanos := p.Total()
	secs := days*24*60*60 + nanos/1e9
	nanos %= 1e9
	if back {
		secs, nanos = -secs, -nanos
	}
	return checkedTime(time.Unix(at.Int+secs, int64(at.Nanos)+nanos))
}

func multiplied(p store.IntervalParts, n int64) (store.Value, error) {
	return intervalOf(times(p.Months, n), times(p.Days, n), p.Nanos.Mul(p.Nanos, big.NewInt(n)))
}

// divided divides an interval; what is left of months goes on in days, 30 to a month, and what is left of those in hours.
func divided(p store.IntervalParts, n int64) (store.Value, error) {
	if n == 0 {
		return store.Value{}, outOfRange("division by zero: INTERVAL / 0")
	}
	by := big.NewInt(n)
	months, rest := new(big.Int).QuoRem(big.NewInt(p.Months), by, new(big.Int))
	days := new(big.Int).Add(rest.Mul(rest, big.NewInt(30)), big.NewInt(p.Days))
	days, rest = days.QuoRem(days, by, new(big.Int))
	nanos := p.Nanos.Add(p.Nanos, rest.Mul(rest, big.NewInt(int64(24*time.Hour))))
	return intervalOf(months, days, nanos.Quo(nanos, by))
}

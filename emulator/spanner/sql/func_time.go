package sql

import (
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // time zones are part of SQL: results must not depend on the machine

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// zone reads a time zone: a name of the IANA database or an offset such as +05:30.
func zone(name string) (*time.Location, error) {
	if name != "" && (name[0] == '+' || name[0] == '-') {
		h, m, _ := strings.Cut(name[1:], ":")
		hours, err := strconv.Atoi(h)
		minutes := 0
		if err == nil && m != "" {
			minutes, err = strconv.Atoi(m)
		}
		if err != nil || hours > 14 || minutes > 59 || hours < 0 || minutes < 0 {
			return nil, outOfRange("Invalid time zone: %s", name)
		}
		offset := hours*3600 + minutes*60
		if name[0] == '-' {
			offset = -offset
		}
		return time.FixedZone(name, offset), nil
	}
	if name == "" || strings.EqualFold(name, "local") {
		return nil, outOfRange("Invalid time zone: %s", name)
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil, outOfRange("Invalid time zone: %s", name)
	}
	return l, nil
}

// zoneAt is the time zone in argument i, or the default one.
func zoneAt(v values, i int) (*time.Location, error) {
	if len(v) <= i {
		return losAngeles, nil
	}
	return zone(v[i].Text)
}

func dateTime(v store.Value) time.Time { return time.Unix(v.Int*86400, 0).UTC() }

func checkedDate(t time.Time) (store.Value, error) {
	if y := t.Year(); y < 1 || y > 9999 {
		return store.Value{}, outOfRange("the date is not between the years 1 and 9999")
	}
	return dateOf(t), nil
}

// dateOf is the calendar day of t, in t's zone.
func dateOf(t time.Time) store.Value {
	y, m, d := t.Date()
	return intValue(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

func checkedTime(t time.Time) (store.Value, error) {
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return store.Value{}, outOfRange("the timestamp is not between the years 1 and 9999")
	}
	return store.TimeValue(t), nil
}

// timestampText writes a TIMESTAMP as a cast to STRING does: a fraction of 3, 6 or 9 digits, the zone's offset last.
func timestampText(v store.Value, l *time.Location) string {
	t := v.Time().In(l)
	frac := ""
	switch ns := t.Nanosecond(); {
	case ns == 0:
	case ns%1e6 == 0:
		frac = ".000"
	case ns%1e3 == 0:
		frac = ".000000"
	default:
		frac = ".000000000"
	}
	layout := "-07:00"
	if _, offset := t.Zone(); offset%3600 == 0 {
		layout = "-07"
	}
	return t.Format("2006-01-02 15:04:05" + frac + layout)
}

func unixOf(fn func(int64) time.Time) []function {
	return []function{sig(timestampType, func(v values) (store.Value, error) { return checkedTime(fn(v[0].Int)) }, int64Type)}
}

var timeFunctions = map[string][]function{
	"UNIX_SECONDS":      {pure(int64Type, func(v values) store.Value { return intValue(v[0].Int) }, timestampType)},
	"UNIX_MILLIS":       {pure(int64Type, func(v values) store.Value { return intValue(v[0].Int*1e3 + int64(v[0].Nanos)/1e6) }, timestampType)},
	"UNIX_MICROS":       {pure(int64Type, func(v values) store.Value { return intValue(v[0].Micros()) }, timestampType)},
	"TIMESTAMP_SECONDS": {sig(timestampType, func(v values) (store.Value, error) { return checkedTime(time.Unix(v[0].Int, 0)) }, int64Type)},
	"TIMESTAMP_MILLIS":  unixOf(time.UnixMilli),
	"TIMESTAMP_MICROS":  unixOf(time.UnixMicro),
	"UNIX_DATE":         {pure(int64Type, func(v values) store.Value { return intValue(v[0].Int) }, dateType)},
	"DATE_FROM_UNIX_DATE": {sig(dateType, func(v values) (store.Value, error) {
		if abs64(v[0].Int) > 10e6 {
			return store.Value{}, outOfRange("the date is not between the years 1 and 9999")
		}
		return checkedDate(dateTime(v[0]))
	}, int64Type)},
	"CURRENT_DATE": {{out: dateType, args: once(stringType), fn: func(now time.Time, v values) (store.Value, error) {
		l, err := zoneAt(v, 0)
		return dateOf(now.In(orUTC(l))), err
	}}},
	"DATE": {
		sig(dateType, func(v values) (store.Value, error) {
			y, m, d := v[0].Int, v[1].Int, v[2].Int
			t := time.Date(int(min(max(y, -1), 10000)), time.Month(min(max(m, 0), 13)), int(min(max(d, 0), 32)), 0, 0, 0, 0, time.UTC)
			if y < 1 || y > 9999 || int64(t.Month()) != m || int64(t.Day()) != d {
				return store.Value{}, outOfRange("Input calculates to invalid date: %04d-%02d-%02d", y, m, d)
			}
			return dateOf(t), nil
		}, int64Type, int64Type, int64Type),
		sig(dateType, func(v values) (store.Value, error) {
			l, err := zoneAt(v, 1)
			return dateOf(v[0].Time().In(orUTC(l))), err
		}, timestampType, stringType).optional(1),
	},
	"TIMESTAMP": {
		sig(timestampType, func(v values) (store.Value, error) {
			l, err := zoneAt(v, 1)
			if err != nil {
				return store.Value{}, err
			}
			return parseTimestamp(v[0].Text, l)
		}, stringType, stringType).optional(1),
		sig(timestampType, func(v values) (store.Value, error) {
			l, err := zoneAt(v, 1)
			if err != nil {
				return store.Value{}, err
			}
			return midnight(v[0], l)
		}, dateType, stringType).optional(1),
		pure(timestampType, func(v values) store.Value { return v[0] }, timestampType),
	},
	"STRING": {
		sig(stringType, func(v values) (store.Value, error) {
			l, err := zoneAt(v, 1)
			return textValue(timestampText(v[0], orUTC(l))), err
		}, timestampType, stringType).optional(1),
		pure(stringType, func(v values) store.Value { return textValue(v[0].AsText(dateType)) }, dateType),
	},
	"FORMAT_DATE": {sig(stringType, func(v values) (store.Value, error) {
		s, err := strftime(v[0].Text, dateTime(v[1]), true)
		return textValue(s), err
	}, stringType, dateType)},
	"FORMAT_TIMESTAMP": {sig(stringType, func(v values) (store.Value, error) {
		l, err := zoneAt(v, 2)
		if err != nil {
			return store.Value{}, err
		}
		s, err := strftime(v[0].Text, v[1].Time().In(l), false)
		return textValue(s), err
	}, stringType, timestampType, stringType).optional(1)},
	"PARSE_DATE": {sig(dateType, func(v values) (store.Value, error) {
		t, err := strptime(v[0].Text, v[1].Text, time.UTC)
		if err != nil {
			return store.Value{}, err
		}
		return checkedDate(t)
	}, stringType, stringType)},
	"PARSE_TIMESTAMP": {sig(timestampType, func(v values) (store.Value, error) {
		l, err := zoneAt(v, 2)
		if err != nil {
			return store.Value{}, err
		}
		t, err := strptime(v[0].Text, v[1].Text, l)
		if err != nil {
			return store.Value{}, err
		}
		return checkedTime(t)
	}, stringType, stringType, stringType).optional(1)},
}

// orUTC lets a result be computed beside its error.
func orUTC(l *time.Location) *time.Location {
	if l == nil {
		return time.UTC
	}
	return l
}

// midnight is the first instant of a day in a zone.
func midnight(date store.Value, l *time.Location) (store.Value, error) {
	y, m, d := dateTime(date).Date()
	return checkedTime(time.Date(y, m, d, 0, 0, 0, 0, l))
}

var intervalUnits = map[ast.DateTimePart]time.Duration{
	ast.DateTimePartNanosecond: time.Nanosecond, ast.DateTimePartMicrosecond: time.Microsecond,
	ast.DateTimePartMillisecond: time.Millisecond, ast.DateTimePartSecond: time.Second, ast.DateTimePartMinute: time.Minute,
	ast.DateTimePartHour: time.Hour, ast.DateTimePartDay: 24 * time.Hour,
}

// interval compiles INTERVAL n PART.
func (c *compiler) interval(name string, tree ast.Expr) (*expr, ast.DateTimePart, error) {
	iv, ok := tree.(*ast.IntervalLiteralSingle)
	if !ok {
		return nil, "", invalid("%s takes an INTERVAL of one part, not %s", name, tree.SQL())
	}
	count, ok := iv.Value.(ast.Expr)
	if !ok {
		return nil, "", unimplemented("%s with %s", name, tree.SQL())
	}
	n, err := c.expr(count)
	if err != nil {
		return nil, "", err
	}
	n, err = coerce(n, int64Type)
	return n, iv.DateTimePart, err
}

// timeAdd is TIMESTAMP_ADD, TIMESTAMP_SUB, DATE_ADD and DATE_SUB.
func (c *compiler) timeAdd(name string, trees []ast.Expr) (*expr, error) {
	typ := timestampType
	if strings.HasPrefix(name, "DATE") {
		typ = dateType
	}
	if len(trees) != 2 {
		return nil, invalid("%s takes a %s and an INTERVAL", name, TypeName(typ))
	}
	n, part, err := c.interval(name, trees[1])
	if err != nil {
		return nil, err
	}
	if typ == dateType && datePartStep(part) == nil || typ == timestampType && intervalUnits[part] == 0 {
		return nil, invalid("%s does not support the %s date part", name, part)
	}
	t, err := c.expr(trees[0])
	if err != nil {
		return nil, err
	}
	if t, err = coerce(t, typ); err != nil {
		return nil, err
	}
	sign := int64(1)
	if strings.HasSuffix(name, "_SUB") {
		sign = -1
	}
	return derived(typ, func(f *frame) (store.Value, error) {
		at, err := t.eval(f)
		if err != nil || !at.Valid {
			return store.Value{}, err
		}
		k, err := n.eval(f)
		if err != nil || !k.Valid {
			return store.Value{}, err
		}
		if typ == dateType {
			if abs64(k.Int) > 5e6 || k.Int == math.MinInt64 {
				return store.Value{}, outOfRange("the interval of %s is too long", name)
			}
			return checkedDate(datePartStep(part)(dateTime(at), sign*k.Int))
		}
		unit := int64(intervalUnits[part])
		// Whole seconds and the rest apart, so that no interval overflows that the result does not.
		perSecond := int64(time.Second)
		var secs, nanos int64
		if unit >= perSecond {
			secs = k.Int * (unit / perSecond)
			if secs/(unit/perSecond) != k.Int {
				return store.Value{}, outOfRange("the interval of %s is too long", name)
			}
		} else {
			secs, nanos = k.Int/(perSecond/unit), k.Int%(perSecond/unit)*unit
		}
		if abs64(secs) > 1<<40 {
			return store.Value{}, outOfRange("the interval of %s is too long", name)
		}
		return checkedTime(time.Unix(at.Int+sign*secs, int64(at.Nanos)+sign*nanos))
	}, t, n), nil
}

// datePartStep moves a date by n parts; nil for a part that dates do not have.
func datePartStep(part ast.DateTimePart) func(t time.Time, n int64) time.Time {
	months := func(t time.Time, n int64) time.Time {
		y, m, d := t.Date()
		first := time.Date(y, m+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
		last := first.AddDate(0, 1, -1).Day()
		return first.AddDate(0, 0, min(d, last)-1)
	}
	switch part {
	case ast.DateTimePartDay:
		return func(t time.Time, n int64) time.Time { return t.AddDate(0, 0, int(n)) }
	case ast.DateTimePartWeek:
		return func(t time.Time, n int64) time.Time { return t.AddDate(0, 0, 7*int(n)) }
	case ast.DateTimePartMonth:
		return months
	case ast.DateTimePartQuarter:
		return func(t time.Time, n int64) time.Time { return months(t, 3*n) }
	case ast.DateTimePartYear:
		return func(t time.Time, n int64) time.Time { return months(t, 12*n) }
	}
	return nil
}

// partName reads a date part written as an argument, e.g. MONTH.
func partName(name string, tree ast.Expr) (ast.DateTimePart, error) {
	switch t := tree.(type) {
	case *ast.Ident:
		return ast.DateTimePart(strings.ToUpper(t.Name)), nil
	case *ast.CallExpr: // WEEK(MONDAY)
		return ast.DateTimePart(strings.ToUpper(strings.ReplaceAll(t.SQL(), " ", ""))), nil
	}
	return "", invalid("%s takes a date part, not %s", name, tree.SQL())
}

func (c *compiler) generateDates(name string, trees []ast.Expr) (*expr, error) {
	if len(trees) != 2 && len(trees) != 3 {
		return nil, invalid("%s takes two dates and an INTERVAL", name)
	}
	step, part := literal(int64Type, intValue(1)), ast.DateTimePartDay
	if len(trees) == 3 {
		var err error
		if step, part, err = c.interval(name, trees[2]); err != nil {
			return nil, err
		}
	}
	move := datePartStep(part)
	if move == nil {
		return nil, invalid("%s does not support the %s date part", name, part)
	}
	var ends [2]*expr
	for i := range ends {
		x, err := c.expr(trees[i])
		if err != nil {
			return nil, err
		}
		if ends[i], err = coerce(x, dateType); err != nil {
			return nil, err
		}
	}
	return derived(&store.Type{Code: store.Array, Elem: dateType}, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, ends[0], ends[1], step)
		if err != nil || !ok {
			return store.Value{}, err
		}
		n := vs[2].Int
		if n == 0 || abs64(n) > 5e6 {
			return store.Value{}, outOfRange("Sequence step cannot be 0")
		}
		var list values
		for i := int64(0); ; i++ {
			d := dateOf(move(dateTime(vs[0]), n*i)).Int
			if n > 0 && d > vs[1].Int || n < 0 && d < vs[1].Int {
				return listValue(list), nil
			}
			if len(list) == maxGenerated {
				return store.Value{}, outOfRange("%s would make more than %d elements", name, maxGenerated)
			}
			list = append(list, intValue(d))
		}
	}, ends[0], ends[1], step), nil
}

// evalAll evaluates expressions; ok is false if one is NULL.
func evalAll(f *frame, list ...*expr) (vs values, ok bool, err error) {
	vs = make(values, len(list))
	for i, x := range list {
		if vs[i], err = x.eval(f); err != nil || !vs[i].Valid {
			return nil, false, err
		}
	}
	return vs, true, nil
}

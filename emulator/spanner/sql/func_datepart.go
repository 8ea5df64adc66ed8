package sql

import (
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// weekStart is the first day of a part's weeks.
func weekStart(part ast.DateTimePart) (time.Weekday, bool) {
	switch part {
	case ast.DateTimePartWeek, "WEEK(SUNDAY)":
		return time.Sunday, true
	case ast.DateTimePartISOWeek:
		return time.Monday, true
	}
	day, ok := strings.CutPrefix(string(part), "WEEK(")
	for d := time.Sunday; ok && d <= time.Saturday; d++ {
		if strings.EqualFold(strings.TrimSuffix(day, ")"), d.String()) {
			return d, true
		}
	}
	return 0, false
}

// truncDate is the first day of the part that the day t lies in; ok is false for a part that has no first day.
func truncDate(t time.Time, part ast.DateTimePart) (first time.Time, ok bool) {
	y, m, d := t.Date()
	day := func(y int, m time.Month, d int) (time.Time, bool) {
		return time.Date(y, m, d, 0, 0, 0, 0, t.Location()), true
	}
	switch part {
	case ast.DateTimePartDay:
		return day(y, m, d)
	case ast.DateTimePartMonth:
		return day(y, m, 1)
	case ast.DateTimePartQuarter:
		return day(y, (m-1)/3*3+1, 1)
	case ast.DateTimePartYear:
		return day(y, 1, 1)
	case ast.DateTimePartISOYear:
		iso, _ := t.ISOWeek()
		// The year's week 1 is the one with its 4th of January.
		start, _ := day(iso, 1, 4)
		return truncDate(start, ast.DateTimePartISOWeek)
	}
	if start, ok := weekStart(part); ok {
		return day(y, m, d-(int(t.Weekday())-int(start)+7)%7)
	}
	return time.Time{}, false
}

// truncTime is the start of the part that t lies in, in t's zone.
func truncTime(t time.Time, part ast.DateTimePart) (time.Time, bool) {
	unit := intervalUnits[part]
	switch {
	case part == ast.DateTimePartDay || unit == 0:
		return truncDate(t, part)
	case part == ast.DateTimePartHour || part == ast.DateTimePartMinute:
		// Zones may be off by minutes, so hours begin where the zone's clock says.
		_, offset := t.Zone()
		step := int64(unit / time.Second)
		local := t.Unix() + int64(offset)
		return time.Unix(local-((local%step)+step)%step-int64(offset), 0).In(t.Location()), true
	}
	return t.Add(-time.Duration(t.Nanosecond()) % unit), true
}

// timeTrunc is DATE_TRUNC and TIMESTAMP_TRUNC.
func (c *compiler) timeTrunc(name string, trees []ast.Expr) (*expr, error) {
	isDate := name == "DATE_TRUNC"
	if len(trees) < 2 || len(trees) > 3 || isDate && len(trees) > 2 {
		return nil, invalid("No matching signature for function %s: wrong number of arguments: %d", name, len(trees))
	}
	part, err := partName(name, trees[1])
	if err != nil {
		return nil, err
	}
	typ := timestampType
	probe := truncTime
	if isDate {
		typ, probe = dateType, truncDate
	}
	if _, ok := probe(time.Unix(0, 0).UTC(), part); !ok {
		return nil, invalid("Unsupported date part %s for function %s", part, name)
	}
	args := []*expr{nil, literal(stringType, textValue("America/Los_Angeles"))}
	if args[0], err = c.expr(trees[0]); err != nil {
		return nil, err
	}
	if args[0], err = coerce(args[0], typ); err != nil {
		return nil, err
	}
	if len(trees) == 3 {
		if args[1], err = c.expr(trees[2]); err != nil {
			return nil, err
		}
		if args[1], err = coerce(args[1], stringType); err != nil {
			return nil, err
		}
	}
	return derived(typ, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, args...)
		if err != nil || !ok {
			return store.Value{}, err
		}
		if isDate {
			t, _ := truncDate(dateTime(vs[0]), part)
			return checkedDate(t)
		}
		l, err := zone(vs[1].Text)
		if err != nil {
			return store.Value{}, err
		}
		t, _ := truncTime(vs[0].Time().In(l), part)
		return checkedTime(t)
	}, args...), nil
}

// timeDiff is DATE_DIFF and TIMESTAMP_DIFF.
func (c *compiler) timeDiff(name string, trees []ast.Expr) (*expr, error) {
	typ := timestampType
	if name == "DATE_DIFF" {
		typ = dateType
	}
	if len(trees) != 3 {
		return nil, invalid("%s takes two values of type %s and a date part", name, TypeName(typ))
	}
	part, err := partName(name, trees[2])
	if err != nil {
		return nil, err
	}
	var ends [2]*expr
	for i := range ends {
		if ends[i], err = c.expr(trees[i]); err != nil {
			return nil, err
		}
		if ends[i], err = coerce(ends[i], typ); err != nil {
			return nil, err
		}
	}
	if _, ok := dateDiff(time.Unix(0, 0).UTC(), time.Unix(0, 0).UTC(), part); typ == dateType && !ok || typ == timestampType && intervalUnits[part] == 0 {
		return nil, invalid("Unsupported date part %s for function %s", part, name)
	}
	return derived(int64Type, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, ends[0], ends[1])
		if err != nil || !ok {
			return store.Value{}, err
		}
		if typ == dateType {
			n, _ := dateDiff(dateTime(vs[0]), dateTime(vs[1]), part)
			return intValue(n), nil
		}
		return timestampDiff(vs[0], vs[1], intervalUnits[part])
	}, ends[0], ends[1]), nil
}

// dateDiff counts the boundaries of a part between two days.
func dateDiff(a, b time.Time, part ast.DateTimePart) (int64, bool) {
	days := func(x, y time.Time) int64 { return (x.Unix() - y.Unix()) / 86400 }
	months := func(t time.Time) int64 { return int64(t.Year())*12 + int64(t.Month()) - 1 }
	switch part {
	case ast.DateTimePartDay:
		return days(a, b), true
	case ast.DateTimePartMonth:
		return months(a) - months(b), true
	case ast.DateTimePartQuarter:
		return months(a)/3 - months(b)/3, true
	case ast.DateTimePartYear:
		return int64(a.Year() - b.Year()), true
	case ast.DateTimePartISOYear:
		x, _ := a.ISOWeek()
		y, _ := b.ISOWeek()
		return int64(x - y), true
	}
	if _, ok := weekStart(part); ok {
		x, _ := truncDate(a, part)
		y, _ := truncDate(b, part)
		return days(x, y) / 7, true
	}
	return 0, false
}

// timestampDiff counts whole units between two instants.
func timestampDiff(a, b store.Value, unit time.Duration) (store.Value, error) {
	secs, nanos := a.Int-b.Int, int64(a.Nanos-b.Nanos)
	if secs > 0 && nanos < 0 {
		secs, nanos = secs-1, nanos+1e9
	} else if secs < 0 && nanos > 0 {
		secs, nanos = secs+1, nanos-1e9
	}
	if unit >= time.Second {
		return intValue(secs / int64(unit/time.Second)), nil
	}
	per := int64(time.Second / unit)
	out := secs * per
	if out/per != secs {
		return store.Value{}, outOfRange("TIMESTAMP_DIFF overflows in nanoseconds")
	}
	return intValue(out + nanos/int64(unit)), nil
}

// extract is EXTRACT(part FROM value).
func (c *compiler) extract(e *ast.ExtractExpr) (*expr, error) {
	part := ast.DateTimePart(strings.ToUpper(e.Part.Name))
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	if x.typ != nil && x.typ.Code == store.Interval {
		if e.AtTimeZone != nil {
			return nil, invalid("EXTRACT from type INTERVAL does not support AT TIME ZONE")
		}
		return extractInterval(part, x)
	}
	isDate := x.typ != nil && x.typ.Code == store.Date
	typ := timestampType
	if isDate {
		typ = dateType
	}
	if x, err = coerce(x, typ); err != nil {
		return nil, err
	}
	args := []*expr{x}
	if e.AtTimeZone != nil {
		if isDate {
			return nil, invalid("EXTRACT from type DATE does not support AT TIME ZONE")
		}
		z, err := c.expr(e.AtTimeZone.Expr)
		if err != nil {
			return nil, err
		}
		if z, err = coerce(z, stringType); err != nil {
			return nil, err
		}
		args = append(args, z)
	}
	out := int64Type
	if part == ast.DateTimePartDate && !isDate {
		out = dateType
	} else if _, ok := datePart(time.Unix(0, 0), part); !ok || isDate && intervalUnits[part] != 0 && part != ast.DateTimePartDay {
		return nil, invalid("EXTRACT from type %s does not support the %s date part", TypeName(typ), part)
	}
	return derived(out, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, args...)
		if err != nil || !ok {
			return store.Value{}, err
		}
		if isDate {
			n, _ := datePart(dateTime(vs[0]), part)
			return intValue(n), nil
		}
		l, err := zoneAt(vs, 1)
		if err != nil {
			return store.Value{}, err
		}
		t := vs[0].Time().In(l)
		if out == dateType {
			return dateOf(t), nil
		}
		n, _ := datePart(t, part)
		return intValue(n), nil
	}, args...), nil
}

func datePart(t time.Time, part ast.DateTimePart) (n int64, ok bool) {
	iso, isoWeek := t.ISOWeek()
	switch part {
	case ast.DateTimePartYear:
		return int64(t.Year()), true
	case ast.DateTimePartMonth:
		return int64(t.Month()), true
	case ast.DateTimePartDay:
		return int64(t.Day()), true
	case ast.DateTimePartDayOfWeek:
		return int64(t.Weekday()) + 1, true
	case ast.DateTimePartDayOfYear:
		return int64(t.YearDay()), true
	case ast.DateTimePartQuarter:
		return int64(t.Month()-1)/3 + 1, true
	case ast.DateTimePartISOYear:
		return int64(iso), true
	case ast.DateTimePartISOWeek:
		return int64(isoWeek), true
	case ast.DateTimePartHour:
		return int64(t.Hour()), true
	case ast.DateTimePartMinute:
		return int64(t.Minute()), true
	case ast.DateTimePartSecond:
		return int64(t.Second()), true
	case ast.DateTimePartMillisecond:
		return int64(t.Nanosecond() / 1e6), true
	case ast.DateTimePartMicrosecond:
		return int64(t.Nanosecond() / 1e3), true
	case ast.DateTimePartNanosecond:
		return int64(t.Nanosecond()), true
	}
	if start, ok := weekStart(part); ok {
		// Days before the year's first such weekday are in week 0.
		return int64(t.YearDay()+6-(int(t.Weekday())-int(start)+7)%7) / 7, true
	}
	return 0, false
}

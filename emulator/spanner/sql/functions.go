package sql

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// function is a scalar function of fixed argument types; it is not called when an argument is NULL.
type function struct {
	// args are the argument types; an optional one comes after min. A nil type takes anything.
	args []*store.Type
	min  int
	out  *store.Type
	// volatile functions are evaluated anew for each row.
	volatile bool
	fn       func(now time.Time, v []store.Value) (store.Value, error)
}

func text1(fn func(string) store.Value) func(time.Time, []store.Value) (store.Value, error) {
	return func(_ time.Time, v []store.Value) (store.Value, error) { return fn(v[0].Text), nil }
}

var functions = map[string]function{
	"LOWER":       {args: []*store.Type{stringType}, min: 1, out: stringType, fn: text1(func(s string) store.Value { return textValue(strings.ToLower(s)) })},
	"UPPER":       {args: []*store.Type{stringType}, min: 1, out: stringType, fn: text1(func(s string) store.Value { return textValue(strings.ToUpper(s)) })},
	"TRIM":        {args: []*store.Type{stringType}, min: 1, out: stringType, fn: text1(func(s string) store.Value { return textValue(strings.TrimSpace(s)) })},
	"CHAR_LENGTH": {args: []*store.Type{stringType}, min: 1, out: int64Type, fn: text1(func(s string) store.Value { return intValue(int64(utf8.RuneCountInString(s))) })},
	"BYTE_LENGTH": {args: []*store.Type{nil}, min: 1, out: int64Type, fn: text1(func(s string) store.Value { return intValue(int64(len(s))) })},
	"TO_HEX":      {args: []*store.Type{bytesType}, min: 1, out: stringType, fn: text1(func(s string) store.Value { return textValue(hex.EncodeToString([]byte(s))) })},
	"SHA256": {args: []*store.Type{nil}, min: 1, out: bytesType, fn: text1(func(s string) store.Value {
		sum := sha256.Sum256([]byte(s))
		return textValue(string(sum[:]))
	})},
	"STARTS_WITH": {args: []*store.Type{stringType, stringType}, min: 2, out: boolType, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		return boolValue(strings.HasPrefix(v[0].Text, v[1].Text)), nil
	}},
	"ENDS_WITH": {args: []*store.Type{stringType, stringType}, min: 2, out: boolType, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		return boolValue(strings.HasSuffix(v[0].Text, v[1].Text)), nil
	}},
	"STRPOS": {args: []*store.Type{stringType, stringType}, min: 2, out: int64Type, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		i := strings.Index(v[0].Text, v[1].Text)
		if i >= 0 {
			i = utf8.RuneCountInString(v[0].Text[:i])
		}
		return intValue(int64(i + 1)), nil
	}},
	"REPLACE": {args: []*store.Type{stringType, stringType, stringType}, min: 3, out: stringType, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		if v[1].Text == "" {
			return v[0], nil
		}
		return textValue(strings.ReplaceAll(v[0].Text, v[1].Text, v[2].Text)), nil
	}},
	"SUBSTR": {args: []*store.Type{stringType, int64Type, int64Type}, min: 2, out: stringType, fn: substr},
	"MOD": {args: []*store.Type{int64Type, int64Type}, min: 2, out: int64Type, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		if v[1].Int == 0 {
			return store.Value{}, outOfRange("division by zero: MOD(%d, 0)", v[0].Int)
		}
		if v[1].Int == -1 {
			return intValue(0), nil
		}
		return intValue(v[0].Int % v[1].Int), nil
	}},
	"ARRAY_LENGTH": {args: []*store.Type{nil}, min: 1, out: int64Type, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		return intValue(int64(len(v[0].List))), nil
	}},
	"UNIX_MICROS": {args: []*store.Type{timestampType}, min: 1, out: int64Type, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		return intValue(v[0].Micros()), nil
	}},
	"UNIX_SECONDS": {args: []*store.Type{timestampType}, min: 1, out: int64Type, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		return intValue(v[0].Int), nil
	}},
	"TIMESTAMP_MICROS": {args: []*store.Type{int64Type}, min: 1, out: timestampType, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		return checkedTime(time.UnixMicro(v[0].Int))
	}},
	"TIMESTAMP_SECONDS": {args: []*store.Type{int64Type}, min: 1, out: timestampType, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		return checkedTime(time.Unix(v[0].Int, 0))
	}},
	"PARSE_JSON": {args: []*store.Type{stringType}, min: 1, out: jsonType, fn: func(_ time.Time, v []store.Value) (store.Value, error) {
		out, err := store.ParseText(jsonType, v[0].Text)
		if err != nil {
			return store.Value{}, outOfRange("Invalid input to PARSE_JSON: %v", err)
		}
		return out, nil
	}},
	"TO_JSON_STRING": {args: []*store.Type{jsonType}, min: 1, out: stringType, fn: text1(textValue)},
	"CURRENT_TIMESTAMP": {out: timestampType, fn: func(now time.Time, _ []store.Value) (store.Value, error) {
		return store.TimeValue(now), nil
	}},
	"PENDING_COMMIT_TIMESTAMP": {out: timestampType, fn: func(time.Time, []store.Value) (store.Value, error) {
		return store.PendingCommitTimestamp(), nil
	}},
	"GENERATE_UUID": {out: stringType, volatile: true, fn: func(time.Time, []store.Value) (store.Value, error) { return textValue(newUUID()), nil }},
	"NEW_UUID":      {out: uuidType, volatile: true, fn: func(time.Time, []store.Value) (store.Value, error) { return textValue(newUUID()), nil }},
}

func checkedTime(t time.Time) (store.Value, error) {
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return store.Value{}, outOfRange("the timestamp is not between the years 1 and 9999")
	}
	return store.TimeValue(t), nil
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func substr(_ time.Time, v []store.Value) (store.Value, error) {
	runes := []rune(v[0].Text)
	n := int64(len(runes))
	pos := v[1].Int
	switch {
	case pos < 0:
		pos = max(n+pos, 0)
	case pos > 0:
		pos--
	}
	pos = min(pos, n)
	end := n
	if len(v) == 3 {
		if v[2].Int < 0 {
			return store.Value{}, outOfRange("Third argument in SUBSTR() cannot be negative")
		}
		if v[2].Int < n-pos {
			end = pos + v[2].Int
		}
	}
	return textValue(string(runes[pos:end])), nil
}

func (c *compiler) call(e *ast.CallExpr) (*expr, error) {
	name := strings.ToUpper(pathName(e.Func))
	if isAggregate(e) {
		return nil, invalid("Aggregate function %s not allowed here", name)
	}
	if e.Distinct || len(e.NamedArgs) > 0 || e.NullHandling != nil || e.Having != nil || e.OrderBy != nil || e.Limit != nil {
		return nil, unimplemented("the modifiers of %s", e.SQL())
	}
	var trees []ast.Expr
	for _, a := range e.Args {
		ea, ok := a.(*ast.ExprArg)
		if !ok {
			return nil, unimplemented("the argument %s of %s", a.SQL(), name)
		}
		trees = append(trees, ea.Expr)
	}
	switch name {
	case "TIMESTAMP_ADD", "TIMESTAMP_SUB":
		return c.timestampAdd(name, trees)
	case "LENGTH":
		name = "BYTE_LENGTH"
		if len(trees) == 1 {
			if x, err := c.expr(trees[0]); err == nil && (x.typ == nil || x.typ.Code == store.String) {
				name = "CHAR_LENGTH"
			}
		}
	case "SUBSTRING":
		name = "SUBSTR"
	}
	args, err := c.exprs(trees)
	if err != nil {
		return nil, err
	}
	switch name {
	case "COALESCE", "IFNULL":
		return coalesce(name, args)
	case "NULLIF":
		if len(args) != 2 {
			return nil, invalid("NULLIF takes two arguments, not %d", len(args))
		}
		eq, err := comparison(ast.OpEqual, args[0], args[1])
		if err != nil {
			return nil, err
		}
		return derived(args[0].typ, func(f *frame) (store.Value, error) {
			same, err := eq.isTrue(f)
			if err != nil || same {
				return store.Value{}, err
			}
			return args[0].eval(f)
		}, args...), nil
	case "CONCAT":
		if len(args) == 0 {
			return nil, invalid("CONCAT needs an argument")
		}
		return concat(args)
	case "GREATEST", "LEAST":
		return greatest(name, args)
	case "ABS":
		if len(args) == 1 && args[0].typ != nil && isNumber(args[0].typ) {
			return abs(args[0])
		}
	}
	fn, ok := functions[name]
	if !ok {
		return nil, unimplemented("the function %s", name)
	}
	return c.apply(name, fn, args)
}

func (c *compiler) apply(name string, fn function, args []*expr) (*expr, error) {
	if len(args) < fn.min || len(args) > len(fn.args) {
		return nil, invalid("wrong number of arguments to %s: %d", name, len(args))
	}
	for i := range args {
		var err error
		if args[i], err = coerce(args[i], fn.args[i]); err != nil {
			return nil, invalid("argument %d of %s: %v", i+1, name, err)
		}
	}
	now := c.env.Now
	out := derived(fn.out, func(f *frame) (store.Value, error) {
		values := make([]store.Value, len(args))
		for i, a := range args {
			v, err := a.eval(f)
			if err != nil || !v.Valid {
				return store.Value{}, err
			}
			values[i] = v
		}
		return fn.fn(now, values)
	}, args...)
	out.constant = out.constant && !fn.volatile
	return out, nil
}

func coalesce(name string, args []*expr) (*expr, error) {
	if len(args) == 0 || name == "IFNULL" && len(args) != 2 {
		return nil, invalid("wrong number of arguments to %s: %d", name, len(args))
	}
	t, err := commonType(args, name)
	if err != nil {
		return nil, err
	}
	for i := range args {
		if args[i], err = coerce(args[i], t); err != nil {
			return nil, err
		}
	}
	return derived(t, func(f *frame) (store.Value, error) {
		for _, a := range args {
			if v, err := a.eval(f); err != nil || v.Valid {
				return v, err
			}
		}
		return store.Value{}, nil
	}, args...), nil
}

func greatest(name string, args []*expr) (*expr, error) {
	t, err := commonType(args, name)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 || !isComparable(t) {
		return nil, invalid("%s needs arguments that can be compared", name)
	}
	for i := range args {
		if args[i], err = coerce(args[i], t); err != nil {
			return nil, err
		}
	}
	sign := 1
	if name == "LEAST" {
		sign = -1
	}
	return derived(t, func(f *frame) (store.Value, error) {
		var best store.Value
		for _, a := range args {
			v, err := a.eval(f)
			if err != nil || !v.Valid {
				return store.Value{}, err
			}
			if !best.Valid || sign*store.Compare(t, v, best) > 0 {
				best = v
			}
		}
		return best, nil
	}, args...), nil
}

func abs(x *expr) (*expr, error) {
	zero, err := castValue(int64Type, x.typ, intValue(0))
	if err != nil {
		return nil, err
	}
	return derived(x.typ, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil || !v.Valid || store.Compare(x.typ, v, zero) >= 0 {
			return v, err
		}
		return arithmetic(ast.OpSub, x.typ, zero, v)
	}, x), nil
}

var intervalUnits = map[ast.DateTimePart]time.Duration{
	ast.DateTimePartNanosecond: time.Nanosecond, ast.DateTimePartMicrosecond: time.Microsecond,
	ast.DateTimePartMillisecond: time.Millisecond, ast.DateTimePartSecond: time.Second, ast.DateTimePartMinute: time.Minute,
	ast.DateTimePartHour: time.Hour, ast.DateTimePartDay: 24 * time.Hour,
}

func (c *compiler) timestampAdd(name string, trees []ast.Expr) (*expr, error) {
	if len(trees) != 2 {
		return nil, invalid("%s takes a TIMESTAMP and an INTERVAL", name)
	}
	iv, ok := trees[1].(*ast.IntervalLiteralSingle)
	if !ok || intervalUnits[iv.DateTimePart] == 0 {
		return nil, unimplemented("%s with %s", name, trees[1].SQL())
	}
	t, err := c.expr(trees[0])
	if err != nil {
		return nil, err
	}
	if t, err = coerce(t, timestampType); err != nil {
		return nil, err
	}
	count, ok := iv.Value.(ast.Expr)
	if !ok {
		return nil, unimplemented("%s with %s", name, trees[1].SQL())
	}
	n, err := c.expr(count)
	if err != nil {
		return nil, err
	}
	if n, err = coerce(n, int64Type); err != nil {
		return nil, err
	}
	unit := intervalUnits[iv.DateTimePart]
	return derived(timestampType, func(f *frame) (store.Value, error) {
		at, err := t.eval(f)
		if err != nil || !at.Valid {
			return store.Value{}, err
		}
		k, err := n.eval(f)
		if err != nil || !k.Valid {
			return store.Value{}, err
		}
		d := time.Duration(k.Int) * unit
		if k.Int != 0 && int64(d/unit) != k.Int {
			return store.Value{}, outOfRange("the interval of %s is too long", name)
		}
		if name == "TIMESTAMP_SUB" {
			d = -d
		}
		return checkedTime(at.Time().Add(d))
	}, t, n), nil
}

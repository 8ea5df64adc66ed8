package sql

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// commonType is the type that all expressions can be brought to: that of the firm ones, else of the literals.
func commonType(list []*expr, where string) (*store.Type, error) {
	var firm, soft *store.Type
	for _, x := range list {
		if x.typ == nil {
			continue
		}
		into := &firm
		if x.literal {
			into = &soft
		}
		switch {
		case *into == nil || sameType(*into, x.typ):
			*into = x.typ
		case widens(*into, x.typ):
			*into = x.typ
		case widens(x.typ, *into):
		default:
			return nil, invalid("No matching signature for %s for argument types: %s, %s", where, TypeName(*into), TypeName(x.typ))
		}
	}
	switch {
	case firm == nil:
		return soft, nil
	case soft == nil || sameType(firm, soft) || widens(soft, firm) || softens(soft, firm):
		return firm, nil
	case widens(firm, soft):
		return soft, nil
	}
	return nil, invalid("No matching signature for %s for argument types: %s, %s", where, TypeName(firm), TypeName(soft))
}

// widens reports whether every value of a is coerced to b without a cast.
func widens(a, b *store.Type) bool {
	switch a.Code {
	case store.Int64:
		return b.Code == store.Float64 || b.Code == store.Numeric
	case store.Float32:
		return b.Code == store.Float64
	case store.Numeric:
		return b.Code == store.Float64
	}
	return false
}

// softens reports whether a literal of type a is coerced to b.
func softens(a, b *store.Type) bool {
	switch a.Code {
	case store.String:
		switch b.Code {
		case store.Date, store.Timestamp, store.Bytes, store.UUID, store.JSON, store.Numeric, store.Int64, store.Enum, store.Proto, store.Interval:
			return true
		}
	case store.Int64:
		return b.Code == store.Float32 || b.Code == store.Enum
	case store.Float64:
		return b.Code == store.Float32 || b.Code == store.Numeric
	}
	return false
}

// coerce brings an expression to a type without a cast, or fails.
func coerce(x *expr, t *store.Type) (*expr, error) {
	if t == nil || sameType(x.typ, t) {
		return x, nil
	}
	if x.typ == nil {
		y := *x
		y.typ = t
		return &y, nil
	}
	if !widens(x.typ, t) && !(x.literal && softens(x.typ, t)) {
		if x.literal && x.typ.Code == store.Array && t.Code == store.Array {
			return casted(x, t, false), nil
		}
		return nil, invalid("Value has type %s which cannot be coerced to %s", TypeName(x.typ), TypeName(t))
	}
	if x.constant {
		v, err := x.eval(nil)
		if err != nil {
			return nil, err
		}
		if v, err = castValue(x.typ, t, v); err != nil {
			return nil, invalid("could not use a %s as %s: %v", TypeName(x.typ), TypeName(t), err)
		}
		return constant(t, v), nil
	}
	return casted(x, t, false), nil
}

func casted(x *expr, t *store.Type, safe bool) *expr {
	from := x.typ
	return derived(t, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		out, err := castValue(from, t, v)
		if err != nil && safe {
			return store.Value{}, nil
		}
		return out, err
	}, x)
}

func (c *compiler) cast(e *ast.CastExpr) (*expr, error) {
	x, err := c.expr(e.Expr)
	if err != nil {
		return nil, err
	}
	t, err := exprType(e.Type)
	if err != nil {
		return nil, err
	}
	if x.typ == nil {
		return coerce(x, t)
	}
	if !sameType(x.typ, t) && !castable(x.typ, t) {
		return nil, invalid("Invalid cast from %s to %s", TypeName(x.typ), TypeName(t))
	}
	return casted(x, t, e.Safe), nil
}

func castable(a, b *store.Type) bool {
	if a.Code == b.Code {
		return a.Code != store.Array || castable(a.Elem, b.Elem)
	}
	switch a.Code {
	case store.Bool:
		return b.Code == store.Int64 || b.Code == store.String
	case store.Int64, store.Float64, store.Float32, store.Numeric:
		return isNumber(b) || b.Code == store.String || b.Code == store.Bool && a.Code == store.Int64
	case store.String:
		return b.Code != store.Array && b.Code != store.Struct && b.Code != store.JSON
	case store.Bytes:
		return b.Code == store.String
	case store.Date, store.Timestamp:
		return b.Code == store.String || b.Code == store.Date || b.Code == store.Timestamp
	case store.UUID:
		return b.Code == store.String
	}
	return false
}

// losAngeles is Spanner's default time zone.
var losAngeles = func() *time.Location {
	if l, err := time.LoadLocation("America/Los_Angeles"); err == nil {
		return l
	}
	return time.FixedZone("UTC-8", -8*3600) // no time zone data on this machine
}()

var timestampLayouts = []string{
	"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999-07", "2006-01-02T15:04:05.999999999-07",
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02",
}

func parseTimestamp(s string) (store.Value, error) {
	loc := losAngeles
	if rest, ok := strings.CutSuffix(s, " UTC"); ok {
		s, loc = rest, time.UTC
	}
	for _, l := range timestampLayouts {
		if t, err := time.ParseInLocation(l, s, loc); err == nil {
			return store.TimeValue(t), nil
		}
	}
	return store.Value{}, outOfRange("Invalid timestamp: %q", s)
}

// castValue converts a value that is not NULL.
func castValue(from, to *store.Type, v store.Value) (store.Value, error) {
	if !v.Valid || from.Code == to.Code && from.Code != store.Array {
		return v, nil
	}
	bad := func() (store.Value, error) {
		return store.Value{}, outOfRange("Could not cast %s %q to type %s", TypeName(from), v.AsText(from), TypeName(to))
	}
	if from.Code == store.Array {
		out := store.Value{Valid: true, List: make([]store.Value, len(v.List))}
		for i, e := range v.List {
			var err error
			if out.List[i], err = castValue(from.Elem, to.Elem, e); err != nil {
				return store.Value{}, err
			}
		}
		return out, nil
	}
	switch to.Code {
	case store.String:
		switch from.Code {
		case store.Bytes:
			if !utf8.ValidString(v.Text) {
				return store.Value{}, outOfRange("Invalid cast of bytes to UTF8 string")
			}
			return textValue(v.Text), nil
		case store.Float64, store.Float32:
			if math.IsInf(v.Float, 0) || math.IsNaN(v.Float) {
				return textValue(strings.ToLower(strings.Replace(v.AsText(from), "Infinity", "inf", 1))), nil
			}
		case store.Timestamp:
			return textValue(v.Time().In(losAngeles).Format("2006-01-02 15:04:05.999999999-07")), nil
		}
		return textValue(v.AsText(from)), nil
	case store.Bytes:
		return textValue(v.Text), nil
	case store.Bool:
		if from.Code == store.String {
			b, err := strconv.ParseBool(strings.ToLower(v.Text))
			if err != nil {
				return bad()
			}
			return boolValue(b), nil
		}
		return boolValue(v.Int != 0), nil
	case store.Int64, store.Enum:
		return castInt(from, v, bad)
	case store.Float64, store.Float32:
		return castFloat(from, to, v, bad)
	case store.Numeric:
		return castNumeric(from, v, bad)
	case store.Timestamp:
		if from.Code == store.Date {
			y, m, d := time.Unix(v.Int*86400, 0).UTC().Date()
			return store.TimeValue(time.Date(y, m, d, 0, 0, 0, 0, losAngeles)), nil
		}
		return parseTimestamp(strings.TrimSpace(v.Text))
	case store.Date:
		if from.Code == store.Timestamp {
			y, m, d := v.Time().In(losAngeles).Date()
			return intValue(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400), nil
		}
	}
	out, err := store.ParseText(to, v.Text)
	if err != nil {
		return bad()
	}
	return out, nil
}

func castInt(from *store.Type, v store.Value, bad func() (store.Value, error)) (store.Value, error) {
	switch from.Code {
	case store.Bool, store.Int64, store.Enum:
		return intValue(v.Int), nil
	case store.Float64, store.Float32:
		r := math.Round(v.Float)
		if math.IsNaN(r) || r < -(1<<63) || r >= 1<<63 {
			return bad()
		}
		return intValue(int64(r)), nil
	case store.Numeric:
		r, ok := new(big.Rat).SetString(v.Text)
		if !ok {
			return bad()
		}
		n, ok := new(big.Int).SetString(r.FloatString(0), 10)
		if !ok || !n.IsInt64() {
			return bad()
		}
		return intValue(n.Int64()), nil
	}
	s := strings.TrimSpace(v.Text)
	base := 10
	if len(s) > 2 && strings.Contains(strings.ToLower(s[:min(3, len(s))]), "0x") {
		base = 16
	}
	n, err := parseInt(s, base)
	if err != nil {
		return bad()
	}
	return intValue(n), nil
}

func castFloat(from, to *store.Type, v store.Value, bad func() (store.Value, error)) (store.Value, error) {
	var f float64
	switch from.Code {
	case store.Int64:
		f = float64(v.Int)
	case store.Float64, store.Float32:
		f = v.Float
	default:
		var err error
		if f, err = strconv.ParseFloat(strings.TrimSpace(v.Text), 64); err != nil {
			return bad()
		}
	}
	if to.Code == store.Float32 {
		f = float64(float32(f))
	}
	return store.Value{Valid: true, Float: f}, nil
}

func castNumeric(from *store.Type, v store.Value, bad func() (store.Value, error)) (store.Value, error) {
	r := new(big.Rat)
	switch from.Code {
	case store.Int64:
		r.SetInt64(v.Int)
	case store.Float64, store.Float32:
		if r.SetFloat64(v.Float) == nil {
			return bad()
		}
	default:
		out, err := store.ParseText(numericType, strings.TrimSpace(v.Text))
		if err != nil {
			return bad()
		}
		return out, nil
	}
	return roundedNumeric(r)
}

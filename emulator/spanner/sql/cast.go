package sql

import (
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"strings"
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
		if x.literal || x.untyped {
			into = &soft
		}
		t := supertype(*into, x.typ)
		if t == nil {
			return nil, invalid("No matching signature for %s for argument types: %s, %s", where, TypeName(*into), TypeName(x.typ))
		}
		*into = t
	}
	if firm == nil {
		return soft, nil
	}
	// Literals bend to firm types, and stretch them only where any value of the firm type would fit too.
	bends := true
	for _, x := range list {
		bends = bends && (x.typ == nil || !x.literal && !x.untyped || coercible(x, firm))
	}
	if bends {
		return firm, nil
	}
	if t := supertype(firm, soft); t != nil {
		return t, nil
	}
	return nil, invalid("No matching signature for %s for argument types: %s, %s", where, TypeName(firm), TypeName(soft))
}

// supertype is the type both are coerced to, or nil.
func supertype(a, b *store.Type) *store.Type {
	switch {
	case a == nil:
		return b
	case b == nil || sameType(a, b):
		return a
	case a.Code == store.Struct && b.Code == store.Struct && len(a.Fields) == len(b.Fields):
		out := &store.Type{Code: store.Struct}
		for i := range a.Fields {
			t := supertype(a.Fields[i].Type, b.Fields[i].Type)
			if t == nil && (a.Fields[i].Type != nil || b.Fields[i].Type != nil) {
				return nil
			}
			out.Fields = append(out.Fields, store.Field{Name: a.Fields[i].Name, Type: t})
		}
		return out
	case widens(a, b):
		return b
	case widens(b, a):
		return a
	}
	return nil
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
		case store.Date, store.Timestamp, store.UUID, store.Enum, store.Proto, store.Interval:
			return true
		}
	case store.Bytes:
		return b.Code == store.Proto
	case store.Int64:
		return b.Code == store.Float32 || b.Code == store.Enum
	case store.Float64:
		return b.Code == store.Float32 || b.Code == store.Numeric
	}
	return false
}

// coercible reports whether coerce would bring x to t.
func coercible(x *expr, t *store.Type) bool {
	if t == nil || x.typ == nil || sameType(x.typ, t) || widens(x.typ, t) {
		return true
	}
	if x.untyped {
		return x.typ.Code == store.String && t.Code != store.Array && t.Code != store.Struct || x.typ.Code == store.Float64 && t.Code == store.Float32
	}
	if len(x.parts) > 0 || x.literal {
		switch {
		case x.typ.Code == store.Array && t.Code == store.Array:
			return allCoercible(x.parts, func(int) *store.Type { return t.Elem })
		case x.typ.Code == store.Struct && t.Code == store.Struct && len(x.parts) == len(t.Fields):
			return allCoercible(x.parts, func(i int) *store.Type { return t.Fields[i].Type })
		}
	}
	return x.literal && softens(x.typ, t)
}

func allCoercible(parts []*expr, to func(int) *store.Type) bool {
	for i, p := range parts {
		if !coercible(p, to(i)) {
			return false
		}
	}
	return true
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
	if !coercible(x, t) {
		return nil, invalid("Value has type %s which cannot be coerced to %s", TypeName(x.typ), TypeName(t))
	}
	if x.untyped && x.typ.Code == store.String {
		// The client named no type, so the text is in the API's form of the type that is wanted here.
		v, err := x.eval(nil)
		if err == nil && v.Valid {
			v, err = store.ParseText(t, v.Text)
		}
		if err != nil {
			return nil, invalid("Invalid value for a bind parameter of type %s: %v", TypeName(t), err)
		}
		return constant(t, v), nil
	}
	if (t.Code == store.Array || t.Code == store.Struct) && x.parts != nil {
		return coerceParts(x, t)
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

// coerceParts coerces an array or struct part by part.
func coerceParts(x *expr, t *store.Type) (*expr, error) {
	parts := make([]*expr, len(x.parts))
	for i, p := range x.parts {
		to := t.Elem
		if t.Code == store.Struct {
			to = t.Fields[i].Type
		}
		var err error
		if parts[i], err = coerce(p, to); err != nil {
			return nil, err
		}
	}
	return composed(t, parts), nil
}

// composed is an array or a struct made of its parts.
func composed(t *store.Type, parts []*expr) *expr {
	x := derived(t, func(f *frame) (store.Value, error) {
		list := make(values, len(parts))
		for i, p := range parts {
			v, err := p.eval(f)
			if err != nil {
				return store.Value{}, err
			}
			list[i] = v
		}
		return listValue(list), nil
	}, parts...)
	x.parts = parts
	return x
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
	t, err := c.exprType(e.Type)
	if err != nil {
		return nil, err
	}
	if x.typ == nil {
		return coerce(x, t)
	}
	if x.parts != nil && coercible(x, t) {
		return coerce(x, t)
	}
	if !sameType(x.typ, t) && !castable(x.typ, t) {
		return nil, invalid("Invalid cast from %s to %s", TypeName(x.typ), TypeName(t))
	}
	return casted(x, t, e.Safe), nil
}

func castable(a, b *store.Type) bool {
	if a.Code == b.Code {
		switch a.Code {
		case store.Proto, store.Enum:
			return a.Name == b.Name
		case store.Array:
			return sameType(a.Elem, b.Elem)
		case store.Struct:
			return len(a.Fields) == len(b.Fields)
		}
		return true
	}
	switch a.Code {
	case store.Bool:
		return b.Code == store.Int64 || b.Code == store.String
	case store.Int64, store.Float64, store.Float32, store.Numeric:
		if a.Code == store.Int64 && b.Code == store.Enum {
			return true
		}
		return isNumber(b) || b.Code == store.String || b.Code == store.Bool && a.Code == store.Int64
	case store.String:
		return b.Code != store.Array && b.Code != store.Struct && b.Code != store.JSON
	case store.Bytes:
		return b.Code == store.String || b.Code == store.UUID || b.Code == store.Proto
	case store.Date, store.Timestamp:
		return b.Code == store.String || b.Code == store.Date || b.Code == store.Timestamp
	case store.UUID:
		return b.Code == store.String || b.Code == store.Bytes
	case store.Enum:
		return b.Code == store.Int64 || b.Code == store.String
	case store.Proto:
		return b.Code == store.Bytes || b.Code == store.String
	case store.Interval:
		return b.Code == store.String
	}
	return false
}

// floatText writes a floating point number as a cast to STRING does: the fewest of 15 or 17 digits (6 or 9 for FLOAT32)
// that read back as the same number.
func floatText(t *store.Type, f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	case f == 0:
		return "0"
	}
	bits, short, long := 64, 15, 17
	if t.Code == store.Float32 {
		bits, short, long = 32, 6, 9
	}
	s := strconv.FormatFloat(f, 'g', short, bits)
	if back, err := strconv.ParseFloat(s, bits); err != nil || back != f {
		s = strconv.FormatFloat(f, 'g', long, bits)
	}
	return s
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
			return textValue(floatText(from, v.Float)), nil
		case store.Timestamp:
			return textValue(timestampText(v, losAngeles)), nil
		case store.Interval:
			return textValue(intervalText(v)), nil
		case store.Enum:
			return textValue(enumName(from, v)), nil
		case store.Proto:
			text, err := protoText(from, v)
			return textValue(text), err
		}
		return textValue(v.AsText(from)), nil
	case store.Proto:
		if from.Code == store.String {
			return parseProto(to, v.Text)
		}
		return textValue(v.Text), nil
	case store.Enum:
		return castEnum(from, to, v)
	case store.Interval:
		out, err := parseIntervalText(strings.TrimSpace(v.Text))
		if err != nil {
			return bad()
		}
		return out, nil
	case store.Bytes:
		if from.Code == store.UUID {
			raw, err := hex.DecodeString(strings.ReplaceAll(v.Text, "-", ""))
			return textValue(string(raw)), err
		}
		return textValue(v.Text), nil
	case store.UUID:
		if from.Code == store.Bytes {
			v.Text = hex.EncodeToString([]byte(v.Text))
		}
	case store.Bool:
		if from.Code == store.String {
			switch text := strings.TrimSpace(v.Text); {
			case strings.EqualFold(text, "true"):
				return boolValue(true), nil
			case strings.EqualFold(text, "false"):
				return boolValue(false), nil
			}
			return bad()
		}
		return boolValue(v.Int != 0), nil
	case store.Int64:
		return castInt(from, v, bad)
	case store.Float64, store.Float32:
		return castFloat(from, to, v, bad)
	case store.Numeric:
		return castNumeric(from, v, bad)
	case store.Timestamp:
		if from.Code == store.Date {
			return midnight(v, losAngeles)
		}
		return parseTimestamp(strings.TrimSpace(v.Text), losAngeles)
	case store.Date:
		if from.Code == store.Timestamp {
			return dateOf(v.Time().In(losAngeles)), nil
		}
		return parseDate(strings.TrimSpace(v.Text))
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

package sql

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// format is FORMAT: printf's verbs and %t and %T, which show any value.
func format(name string, args []*expr) (*expr, error) {
	if len(args) == 0 || args[0].typ == nil || args[0].typ.Code != store.String {
		return nil, noArray(name, args)
	}
	return derived(stringType, func(f *frame) (store.Value, error) {
		vs := make(values, len(args))
		for i, a := range args {
			v, err := a.eval(f)
			if err != nil {
				return store.Value{}, err
			}
			vs[i] = v
		}
		if !vs[0].Valid {
			return store.Value{}, nil
		}
		return formatted(vs[0].Text, args[1:], vs[1:])
	}, args...), nil
}

func formatted(layout string, args []*expr, vs values) (store.Value, error) {
	var b strings.Builder
	used := 0
	next := func() (*store.Type, store.Value, error) {
		if used == len(vs) {
			return nil, store.Value{}, outOfRange("Too few arguments to FORMAT for pattern %q", layout)
		}
		used++
		return args[used-1].typ, vs[used-1], nil
	}
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' {
			b.WriteByte(layout[i])
			continue
		}
		start := i
		for i++; i < len(layout) && strings.IndexByte("-+ #0123456789.", layout[i]) >= 0; i++ {
		}
		if i == len(layout) {
			return store.Value{}, outOfRange("Format string %q ends within a specifier", layout)
		}
		flags, verb := layout[start+1:i], layout[i]
		if verb == '%' {
			b.WriteByte('%')
			continue
		}
		for _, n := range strings.FieldsFunc(flags, func(r rune) bool { return r < '0' || r > '9' }) {
			if w, err := strconv.Atoi(n); err != nil || w > 1000 {
				return store.Value{}, outOfRange("the width in %q is too large", layout)
			}
		}
		t, v, err := next()
		if err != nil {
			return store.Value{}, err
		}
		s, null, err := verbText(flags, verb, t, v)
		if err != nil {
			return store.Value{}, err
		}
		if null {
			return store.Value{}, nil
		}
		b.WriteString(s)
		if b.Len() > maxText {
			return store.Value{}, outOfRange("the result of FORMAT is longer than %d bytes", maxText)
		}
	}
	if used != len(vs) {
		return store.Value{}, outOfRange("Too many arguments to FORMAT for pattern %q; Expected %d; Got %d", layout, used+1, len(vs)+1)
	}
	return textValue(b.String()), nil
}

// verbText writes one value; a NULL makes the whole result NULL but for %t and %T.
func verbText(flags string, verb byte, t *store.Type, v store.Value) (s string, null bool, err error) {
	is := func(codes ...store.Code) bool {
		for _, c := range codes {
			if t != nil && t.Code == c {
				return true
			}
		}
		return t == nil
	}
	bad := func() (string, bool, error) {
		return "", false, outOfRange("Invalid type for FORMAT verb %%%c: %s", verb, TypeName(t))
	}
	switch verb {
	case 't', 'T':
		return fmt.Sprintf("%"+flags+"s", display(t, v, verb == 'T')), false, nil
	case 's':
		if !is(store.String) {
			return bad()
		}
		return fmt.Sprintf("%"+flags+"s", v.Text), !v.Valid, nil
	case 'd', 'i', 'x', 'X', 'o':
		if !is(store.Int64) {
			return bad()
		}
		if verb == 'i' {
			verb = 'd'
		}
		return fmt.Sprintf("%"+flags+string(verb), v.Int), !v.Valid, nil
	case 'f', 'F', 'e', 'E', 'g', 'G':
		switch {
		case is(store.Float64, store.Float32):
			return fmt.Sprintf("%"+flags+string(verb), v.Float), !v.Valid, nil
		case is(store.Numeric):
			f, _ := ratOf(v).Float64()
			return fmt.Sprintf("%"+flags+string(verb), f), !v.Valid, nil
		}
		return bad()
	}
	return "", false, outOfRange("Invalid format specifier character %q in FORMAT", string(verb))
}

// display writes a value as FORMAT's %t does, or with literal as %T: as SQL that makes it.
func display(t *store.Type, v store.Value, literal bool) string {
	if t == nil || !v.Valid {
		return "NULL"
	}
	prefixed := func(word, text string) string {
		if literal {
			return word + ` "` + text + `"`
		}
		return text
	}
	switch t.Code {
	case store.String:
		if literal {
			return strconv.Quote(v.Text)
		}
		return v.Text
	case store.Enum:
		name := enumName(t, v)
		if literal && name != v.AsText(t) {
			return strconv.Quote(name)
		}
		return name
	case store.Proto:
		text, err := protoText(t, v)
		switch {
		case err != nil: // what cannot be read is shown as the bytes it is
			return quotedBytes([]byte(v.Text))
		case literal && strings.Contains(text, `"`):
			return "'" + strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), "'", `\'`) + "'"
		case literal:
			return strconv.Quote(text)
		}
		return text
	case store.Bytes:
		if literal {
			return "b" + strconv.Quote(v.Text)
		}
		return v.Text
	case store.Float64, store.Float32:
		s := floatText(t, v.Float)
		if !math.IsInf(v.Float, 0) && !math.IsNaN(v.Float) && !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s
	case store.Date:
		return prefixed("DATE", v.AsText(t))
	case store.Timestamp:
		return prefixed("TIMESTAMP", timestampText(v, losAngeles))
	case store.Interval:
		if literal {
			return `INTERVAL "` + intervalText(v) + `" YEAR TO SECOND`
		}
		return intervalText(v)
	case store.Numeric:
		return prefixed("NUMERIC", v.Text)
	case store.JSON:
		return prefixed("JSON", v.Text)
	case store.Array, store.Struct:
		parts := make([]string, len(v.List))
		for i, e := range v.List {
			et := t.Elem
			if t.Code == store.Struct {
				et = t.Fields[i].Type
			}
			parts[i] = display(et, e, literal)
		}
		if t.Code == store.Array {
			return "[" + strings.Join(parts, ", ") + "]"
		}
		return "(" + strings.Join(parts, ", ") + ")"
	}
	return v.AsText(t)
}

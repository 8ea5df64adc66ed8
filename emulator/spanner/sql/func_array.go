package sql

import (
	"math"
	"slices"
	"strings"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// maxGenerated bounds the arrays that functions make.
const maxGenerated = 1000000

var float64Array = &store.Type{Code: store.Array, Elem: float64Type}

func distance(fn func(a, b []float64) float64) []function {
	var out []function
	for _, t := range []*store.Type{float64Array, {Code: store.Array, Elem: float32Type}, int64Array} {
		out = append(out, sig(float64Type, func(v values) (store.Value, error) {
			a, b := floats(t.Elem, v[0].List), floats(t.Elem, v[1].List)
			if a == nil || b == nil || len(a) != len(b) {
				return store.Value{}, outOfRange("Array arguments to a distance function must have equal lengths and no NULLs")
			}
			return floatValue(fn(a, b)), nil
		}, t, t))
	}
	return out
}

func floats(t *store.Type, list values) []float64 {
	out := make([]float64, len(list))
	for i, v := range list {
		if !v.Valid {
			return nil
		}
		if out[i] = v.Float; t.Code == store.Int64 {
			out[i] = float64(v.Int)
		}
	}
	return out
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

var arrayFunctions = map[string][]function{
	"ARRAY_TO_STRING": both(itself, func(t *store.Type) []*store.Type { return []*store.Type{arrayOf(t), t, t} }, 1, infallible(func(_ bool, v values) store.Value {
		var parts []string
		for _, e := range v[0].List {
			switch {
			case e.Valid:
				parts = append(parts, e.Text)
			case len(v) == 3:
				parts = append(parts, v[2].Text)
			}
		}
		return textValue(strings.Join(parts, v[1].Text))
	})),
	"DOT_PRODUCT":        distance(dot),
	"EUCLIDEAN_DISTANCE": distance(func(a, b []float64) float64 { return math.Sqrt(dot(a, a) - 2*dot(a, b) + dot(b, b)) }),
	"COSINE_DISTANCE":    distance(func(a, b []float64) float64 { return 1 - dot(a, b)/math.Sqrt(dot(a, a)*dot(b, b)) }),
}

func isArray(x *expr) bool { return x.typ != nil && x.typ.Code == store.Array }

func noArray(name string, args []*expr) error {
	types := make([]string, len(args))
	for i, a := range args {
		types[i] = TypeName(a.typ)
	}
	return invalid("No matching signature for function %s for argument types: %s", name, strings.Join(types, ", "))
}

func arrayLength(name string, args []*expr) (*expr, error) {
	if len(args) != 1 || args[0].typ != nil && !isArray(args[0]) {
		return nil, noArray(name, args)
	}
	return derived(int64Type, func(f *frame) (store.Value, error) {
		v, err := args[0].eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		return intValue(int64(len(v.List))), nil
	}, args...), nil
}

// arrayToArray is ARRAY_REVERSE and ARRAY_SLICE.
func arrayToArray(name string, args []*expr) (*expr, error) {
	want := 1
	if name == "ARRAY_SLICE" {
		want = 3
	}
	if len(args) != want || !isArray(args[0]) {
		return nil, noArray(name, args)
	}
	for i := 1; i < want; i++ {
		var err error
		if args[i], err = coerce(args[i], int64Type); err != nil {
			return nil, err
		}
	}
	return derived(args[0].typ, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, args...)
		if err != nil || !ok {
			return store.Value{}, err
		}
		list := slices.Clone(vs[0].List)
		if name == "ARRAY_REVERSE" {
			slices.Reverse(list)
			return listValue(list), nil
		}
		// Negative positions count from the end; both ends are part of the slice.
		place := func(n int64) int64 {
			if n < 0 {
				return n + int64(len(list))
			}
			return n
		}
		from, to := max(place(vs[1].Int), 0), min(place(vs[2].Int), int64(len(list))-1)
		if from > to {
			return listValue(nil), nil
		}
		return listValue(list[from : to+1]), nil
	}, args...), nil
}

// arrayToElem is ARRAY_FIRST, ARRAY_LAST, ARRAY_MIN and ARRAY_MAX.
func arrayToElem(name string, args []*expr) (*expr, error) {
	if len(args) != 1 || !isArray(args[0]) {
		return nil, noArray(name, args)
	}
	elem := args[0].typ.Elem
	byOrder := name == "ARRAY_MIN" || name == "ARRAY_MAX"
	if byOrder && !isComparable(elem) {
		return nil, noArray(name, args)
	}
	return derived(elem, func(f *frame) (store.Value, error) {
		v, err := args[0].eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		if byOrder {
			best := &extreme{typ: elem, sign: 1}
			if name == "ARRAY_MAX" {
				best.sign = -1
			}
			for _, e := range v.List {
				if err := best.add(e); err != nil {
					return store.Value{}, err
				}
			}
			return best.result()
		}
		if len(v.List) == 0 {
			return store.Value{}, outOfRange("%s cannot get the first or last element of an empty array", name)
		}
		if name == "ARRAY_FIRST" {
			return v.List[0], nil
		}
		return v.List[len(v.List)-1], nil
	}, args...), nil
}

// arrayIncludes is ARRAY_INCLUDES, ARRAY_INCLUDES_ANY and ARRAY_INCLUDES_ALL.
func arrayIncludes(name string, args []*expr) (*expr, error) {
	if len(args) != 2 || !isArray(args[0]) {
		return nil, noArray(name, args)
	}
	elem, want := args[0].typ.Elem, args[0].typ
	if name == "ARRAY_INCLUDES" {
		want = elem
	}
	var err error
	if args[1], err = coerce(args[1], want); err != nil {
		return nil, err
	}
	if !isComparable(elem) {
		return nil, noArray(name, args)
	}
	return derived(boolType, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, args...)
		if err != nil || !ok {
			return store.Value{}, err
		}
		has := func(x store.Value) bool {
			return x.Valid && slices.ContainsFunc(vs[0].List, func(e store.Value) bool { return e.Valid && store.Compare(elem, e, x) == 0 })
		}
		switch name {
		case "ARRAY_INCLUDES":
			return boolValue(has(vs[1])), nil
		case "ARRAY_INCLUDES_ANY":
			return boolValue(slices.ContainsFunc(vs[1].List, has)), nil
		}
		return boolValue(!slices.ContainsFunc(vs[1].List, func(x store.Value) bool { return !has(x) })), nil
	}, args...), nil
}

func arrayIsDistinct(name string, args []*expr) (*expr, error) {
	if len(args) != 1 || !isArray(args[0]) {
		return nil, noArray(name, args)
	}
	elem := args[0].typ.Elem
	return derived(boolType, func(f *frame) (store.Value, error) {
		v, err := args[0].eval(f)
		if err != nil || !v.Valid {
			return store.Value{}, err
		}
		seen := map[string]bool{}
		for _, e := range v.List {
			k := string(appendGroupKey(nil, elem, e))
			if seen[k] {
				return boolValue(false), nil
			}
			seen[k] = true
		}
		return boolValue(true), nil
	}, args...), nil
}

func generateArray(name string, args []*expr) (*expr, error) {
	if len(args) == 2 {
		args = append(args, literal(int64Type, intValue(1)))
	}
	if len(args) != 3 {
		return nil, wrongCount(name, args)
	}
	t, err := unified(args, name)
	if err != nil {
		return nil, err
	}
	if t == nil || !isNumber(t) {
		return nil, noArray(name, args)
	}
	zero, err := castValue(int64Type, t, intValue(0))
	if err != nil {
		return nil, err
	}
	return derived(&store.Type{Code: store.Array, Elem: t}, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, args...)
		if err != nil || !ok {
			return store.Value{}, err
		}
		up := store.Compare(t, vs[2], zero)
		if up == 0 || vs[2].Float != vs[2].Float {
			return store.Value{}, outOfRange("Sequence step cannot be 0.")
		}
		var list values
		for i := int64(0); ; i++ {
			// Each element from the start, so that rounding does not add up.
			n, err := castValue(int64Type, t, intValue(i))
			if err != nil {
				return store.Value{}, err
			}
			step, err := arithmetic("*", t, vs[2], n)
			if err != nil {
				return listValue(list), nil // past the type's end
			}
			x, err := arithmetic("+", t, vs[0], step)
			if err != nil || up*store.Compare(t, x, vs[1]) > 0 {
				return listValue(list), nil
			}
			if len(list) == maxGenerated {
				return store.Value{}, outOfRange("%s would make more than %d elements", name, maxGenerated)
			}
			list = append(list, x)
		}
	}, args...), nil
}

package sql

import (
	"errors"
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// function is one signature of a scalar function. It is not called when an argument is NULL: the result is then NULL.
type function struct {
	out *store.Type
	// args are the argument types; those after min are optional, and with variadic the last may repeat. A nil type takes
	// anything.
	args     []*store.Type
	min      int
	variadic bool
	// volatile functions are evaluated anew for each row.
	volatile bool
	fn       func(now time.Time, v []store.Value) (store.Value, error)
}

type values = []store.Value

// sig makes a function of fixed arguments that can fail.
func sig(out *store.Type, fn func(values) (store.Value, error), args ...*store.Type) function {
	return function{out: out, args: args, min: len(args), fn: func(_ time.Time, v values) (store.Value, error) { return fn(v) }}
}

// pure makes a function of fixed arguments that cannot fail.
func pure(out *store.Type, fn func(values) store.Value, args ...*store.Type) function {
	return sig(out, func(v values) (store.Value, error) { return fn(v), nil }, args...)
}

// optional says that the last n arguments may be left out.
func (f function) optional(n int) function {
	f.min -= n
	return f
}

// functions are the scalar functions by name, each with its signatures; of several that fit, the one that needs the
// fewest coercions is taken.
var functions = func() map[string][]function {
	all := map[string][]function{}
	for _, group := range []map[string][]function{textFunctions, bytesFunctions, regexpFunctions, mathFunctions, timeFunctions, jsonFunctions, arrayFunctions, idFunctions, intervalFunctions} {
		for name, fs := range group {
			all[name] = append(all[name], fs...)
		}
	}
	return all
}()

// absent are functions that Spanner has or knows by name and that are not built here, so that a misspelt name is told from
// a missing one.
var absent = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(`AI.CLASSIFY AI.IF AI.SCORE APPROX_COUNT_DISTINCT ASCII CHR COT JSON_EXTRACT JSON_EXTRACT_SCALAR LEFT RIGHT RAND TO_BASE32 FROM_BASE32 GENERATE_TIMESTAMP_ARRAY
		APPROX_COSINE_DISTANCE APPROX_DOT_PRODUCT APPROX_EUCLIDEAN_DISTANCE
		ARRAY_FILTER ARRAY_TRANSFORM BIT_REVERSE_BYTES COLLATE DEBUG_TOKENLIST JSON_ARRAY_APPEND JSON_ARRAY_INSERT JSON_CONTAINS
		JSON_REMOVE JSON_SET JSON_STRIP_NULLS ML.PREDICT NET.HOST NET.IP_FROM_STRING NET.IP_NET_MASK NET.IP_TO_STRING
		NET.IP_TRUNC NET.IPV4_FROM_INT64 NET.IPV4_TO_INT64 NET.PUBLIC_SUFFIX NET.REG_DOMAIN NET.SAFE_IP_FROM_STRING
		NORMALIZE NORMALIZE_AND_CASEFOLD REPLACE_FIELDS SCORE SCORE_NGRAMS SEARCH SEARCH_NGRAMS SEARCH_SUBSTRING SNIPPET SOUNDEX SPLIT_SUBSTR TOKEN TOKENIZE_BOOL
		TOKENIZE_FULLTEXT TOKENIZE_JSON TOKENIZE_NGRAMS TOKENIZE_NUMBER TOKENIZE_SUBSTRING TOKENLIST_CONCAT ZSTD_COMPRESS
		ZSTD_DECOMPRESS_TO_BYTES ZSTD_DECOMPRESS_TO_STRING GET_TABLE_COLUMN_IDENTITY_STATE
		BIT_REVERSE_SIGNED`) {
		m[n] = true
	}
	return m
}()

func noFunction(name string) error {
	if absent[name] {
		return unimplemented("the function %s", name)
	}
	return invalid("Function not found: %s", name)
}

func (c *compiler) call(e *ast.CallExpr) (*expr, error) {
	name := strings.ToUpper(pathName(e.Func))
	if isAggregate(e) {
		return nil, invalid("Aggregate function %s not allowed here", name)
	}
	if e.Distinct || e.NullHandling != nil || e.Having != nil || e.OrderBy != nil || e.Limit != nil {
		return nil, invalid("%s is not an aggregate function, so it takes no DISTINCT, HAVING, ORDER BY, LIMIT or NULLS", name)
	}
	safe := false
	if rest, ok := strings.CutPrefix(name, "SAFE."); ok {
		name, safe = rest, true
	}
	x, err := c.callNamed(name, e)
	if err != nil || !safe {
		return x, err
	}
	return derived(x.typ, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if isCode(err, codes.OutOfRange) {
			return store.Value{}, nil
		}
		return v, err
	}, x), nil
}

func (c *compiler) callNamed(name string, e *ast.CallExpr) (*expr, error) {
	switch name {
	case "GET_NEXT_SEQUENCE_VALUE":
		return c.nextSequenceValue(e)
	case "GET_INTERNAL_SEQUENCE_STATE":
		return c.sequenceState(e)
	case pendingName:
		return nil, invalid("The %s() function may only be used as the value of a TIMESTAMP column in an INSERT or UPDATE, not in SELECT or inside another expression", pendingName)
	case "MAKE_INTERVAL":
		return c.makeInterval(e)
	}
	var trees []ast.Expr
	for _, a := range e.Args {
		ea, ok := a.(*ast.ExprArg)
		if !ok {
			if absent[name] {
				return nil, noFunction(name)
			}
			return nil, unimplemented("the argument %s of %s", a.SQL(), name)
		}
		trees = append(trees, ea.Expr)
	}
	if special := specialForms[name]; special != nil {
		if len(e.NamedArgs) > 0 {
			return nil, invalid("%s takes no named arguments", name)
		}
		return special(c, name, trees)
	}
	args, err := c.exprs(trees)
	if err != nil {
		return nil, err
	}
	if len(e.NamedArgs) > 0 {
		return c.namedArgs(name, args, e.NamedArgs)
	}
	if typed := typedForms[name]; typed != nil {
		return typed(name, args)
	}
	if functions[name] == nil {
		return nil, noFunction(name)
	}
	return c.apply(name, functions[name], args)
}

// namedArgs takes the one named argument there is here: PARSE_JSON's wide_number_mode.
func (c *compiler) namedArgs(name string, args []*expr, named []*ast.NamedArg) (*expr, error) {
	if name != "PARSE_JSON" || len(named) != 1 || len(args) != 1 || !strings.EqualFold(named[0].Name.Name, "wide_number_mode") {
		return nil, invalid("Named argument %s not found in signature for function %s", named[0].Name.Name, name)
	}
	mode, err := c.expr(named[0].Value)
	if err != nil {
		return nil, err
	}
	return c.apply(name, functions[name], append(args, mode))
}

// specialForms take arguments that are no ordinary expressions, such as INTERVAL 1 DAY or a date part.
var specialForms map[string]func(c *compiler, name string, trees []ast.Expr) (*expr, error)

// typedForms have a result type that follows from their arguments.
var typedForms map[string]func(name string, args []*expr) (*expr, error)

func init() { // not initializers: the forms refer to the compiler, which refers to them
	specialForms = map[string]func(*compiler, string, []ast.Expr) (*expr, error){
		"TIMESTAMP_ADD": (*compiler).timeAdd, "TIMESTAMP_SUB": (*compiler).timeAdd, "DATE_ADD": (*compiler).timeAdd, "DATE_SUB": (*compiler).timeAdd,
		"DATE_DIFF": (*compiler).timeDiff, "TIMESTAMP_DIFF": (*compiler).timeDiff,
		"DATE_TRUNC": (*compiler).timeTrunc, "TIMESTAMP_TRUNC": (*compiler).timeTrunc,
		"GENERATE_DATE_ARRAY": (*compiler).generateDates,
	}
	typedForms = map[string]func(string, []*expr) (*expr, error){
		"COALESCE": coalesce, "IFNULL": coalesce, "NULLIF": nullIf, "CONCAT": concatCall, "ARRAY_CONCAT": concatCall,
		"GREATEST": greatest, "LEAST": greatest, "ARRAY_LENGTH": arrayLength, "ARRAY_REVERSE": arrayToArray, "ARRAY_SLICE": arrayToArray,
		"ARRAY_FIRST": arrayToElem, "ARRAY_LAST": arrayToElem, "ARRAY_MIN": arrayToElem, "ARRAY_MAX": arrayToElem,
		"ARRAY_INCLUDES": arrayIncludes, "ARRAY_INCLUDES_ANY": arrayIncludes, "ARRAY_INCLUDES_ALL": arrayIncludes,
		"ARRAY_IS_DISTINCT": arrayIsDistinct, "TO_JSON": toJSON, "JSON_ARRAY": jsonArray, "JSON_OBJECT": jsonObject, "FORMAT": format,
		"ERROR": errorCall, "GENERATE_ARRAY": generateArray,
	}
}

// apply picks the signature that fits and needs the fewest coercions.
func (c *compiler) apply(name string, sigs []function, args []*expr) (*expr, error) {
	best, bestCost := -1, 1<<30
	for i, fn := range sigs {
		if cost, ok := fn.fits(args); ok && cost < bestCost {
			best, bestCost = i, cost
		}
	}
	if best < 0 {
		types := make([]string, len(args))
		for i, a := range args {
			types[i] = TypeName(a.typ)
		}
		return nil, invalid("No matching signature for function %s for argument types: %s", name, strings.Join(types, ", "))
	}
	fn := sigs[best]
	for i := range args {
		var err error
		if args[i], err = coerce(args[i], fn.arg(i)); err != nil {
			return nil, invalid("argument %d of %s: %v", i+1, name, err)
		}
	}
	now := c.env.Now
	out := derived(fn.out, func(f *frame) (store.Value, error) {
		vs := make(values, len(args))
		for i, a := range args {
			v, err := a.eval(f)
			if err != nil || !v.Valid {
				return store.Value{}, err
			}
			vs[i] = v
		}
		return fn.fn(now, vs)
	}, args...)
	out.constant = out.constant && !fn.volatile
	return out, nil
}

func (f function) arg(i int) *store.Type {
	return f.args[min(i, len(f.args)-1)]
}

// fits counts the arguments that need coercion.
func (f function) fits(args []*expr) (cost int, ok bool) {
	if len(args) < f.min || len(args) > len(f.args) && !f.variadic {
		return 0, false
	}
	for i, a := range args {
		want := f.arg(i)
		switch {
		case want == nil || sameType(a.typ, want):
		case a.typ == nil || coercible(a, want):
			cost++
		default:
			return 0, false
		}
	}
	return cost, true
}

func coalesce(name string, args []*expr) (*expr, error) {
	if len(args) == 0 || name == "IFNULL" && len(args) != 2 {
		return nil, wrongCount(name, args)
	}
	t, err := unified(args, name)
	if err != nil {
		return nil, err
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

func wrongCount(name string, args []*expr) error {
	return invalid("No matching signature for function %s: wrong number of arguments: %d", name, len(args))
}

// unified brings all expressions to their common type, in place.
func unified(args []*expr, where string) (*store.Type, error) {
	t, err := commonType(args, where)
	if err != nil {
		return nil, err
	}
	for i := range args {
		if args[i], err = coerce(args[i], t); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func nullIf(name string, args []*expr) (*expr, error) {
	if len(args) != 2 {
		return nil, wrongCount(name, args)
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
}

func concatCall(name string, args []*expr) (*expr, error) {
	if len(args) == 0 {
		return nil, wrongCount(name, args)
	}
	x, err := concat(args)
	if err == nil && x.typ != nil && (x.typ.Code == store.Array) != (name == "ARRAY_CONCAT") {
		return nil, invalid("No matching signature for function %s for argument types: %s", name, TypeName(x.typ))
	}
	return x, err
}

func greatest(name string, args []*expr) (*expr, error) {
	if len(args) == 0 {
		return nil, wrongCount(name, args)
	}
	t, err := unified(args, name)
	if err != nil {
		return nil, err
	}
	if !isComparable(t) {
		return nil, invalid("%s is not defined for arguments of type %s", name, TypeName(t))
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
			if v.Float != v.Float {
				return v, nil // NaN wins
			}
			if !best.Valid || sign*store.Compare(t, v, best) > 0 {
				best = v
			}
		}
		return best, nil
	}, args...), nil
}

func errorCall(name string, args []*expr) (*expr, error) {
	if len(args) != 1 {
		return nil, wrongCount(name, args)
	}
	x, err := coerce(args[0], stringType)
	if err != nil {
		return nil, err
	}
	return &expr{literal: true, eval: func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil {
			return store.Value{}, err
		}
		return store.Value{}, outOfRange("%s", v.Text)
	}}, nil
}

func isCode(err error, code codes.Code) bool {
	var se *store.Error
	return errors.As(err, &se) && se.Code == code
}

package sql

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// jsonTree reads canonical JSON; numbers keep their text.
func jsonTree(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, outOfRange("Invalid JSON: %v", err)
	}
	return v, nil
}

// jsonValue is the JSON value of a tree.
func jsonValue(tree any) (store.Value, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return store.Value{}, outOfRange("Invalid JSON: %v", err)
	}
	v, err := store.ParseText(jsonType, b.String())
	if err != nil {
		return store.Value{}, outOfRange("Invalid JSON: %v", err)
	}
	return v, nil
}

// jsonPath reads a path such as $.a."b c"[3]; its steps are names and indexes.
func jsonPath(path string) ([]any, error) {
	bad := outOfRange("Invalid token in JSONPath at: %s", path)
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return nil, outOfRange("JSONPath must start with '$'")
	}
	var steps []any
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, `."`):
			end := strings.IndexByte(rest[2:], '"')
			if end < 0 {
				return nil, bad
			}
			steps = append(steps, rest[2:2+end])
			rest = rest[3+end:]
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			name := rest[1 : 1+end]
			if name == "" || strings.ContainsAny(name, `$"*]`) {
				return nil, bad
			}
			steps = append(steps, name)
			rest = rest[1+end:]
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, bad
			}
			inside := rest[1:end]
			if q := strings.Trim(inside, `'"`); len(inside) >= 2 && (inside[0] == '\'' || inside[0] == '"') {
				steps = append(steps, q)
			} else if n, err := strconv.Atoi(inside); err == nil && n >= 0 {
				steps = append(steps, n)
			} else {
				return nil, bad
			}
			rest = rest[end+1:]
		default:
			return nil, bad
		}
	}
	return steps, nil
}

// follow walks a path; ok is false where it leads nowhere.
func follow(tree any, steps []any) (any, bool) {
	for _, s := range steps {
		switch s := s.(type) {
		case string:
			obj, ok := tree.(map[string]any)
			if !ok {
				return nil, false
			}
			if tree, ok = obj[s]; !ok {
				return nil, false
			}
		case int:
			list, ok := tree.([]any)
			if !ok || s >= len(list) {
				return nil, false
			}
			tree = list[s]
		}
	}
	return tree, true
}

// at reads the document in v[0] and follows the path in v[1], if there is one.
func at(v values) (tree any, ok bool, err error) {
	steps := []any(nil)
	if len(v) > 1 {
		if steps, err = jsonPath(v[1].Text); err != nil {
			return nil, false, err
		}
	}
	if tree, err = jsonTree(v[0].Text); err != nil {
		return nil, false, nil // a STRING that is no JSON has no value anywhere
	}
	tree, ok = follow(tree, steps)
	return tree, ok, nil
}

// scalarText is the text of a JSON scalar other than null.
func scalarText(tree any) store.Value {
	switch x := tree.(type) {
	case string:
		return textValue(x)
	case json.Number:
		return textValue(x.String())
	case bool:
		return textValue(strconv.FormatBool(x))
	}
	return store.Value{}
}

// onJSON gives a function of a document and a path, of which paths may be left out, its signatures for JSON and for STRING.
func onJSON(out *store.Type, paths int, fn func(tree any) (store.Value, error)) []function {
	eval := func(v values) (store.Value, error) {
		tree, ok, err := at(v)
		if err != nil || !ok {
			return store.Value{}, err
		}
		return fn(tree)
	}
	fs := []function{sig(out, eval, jsonType, stringType).optional(paths)}
	text := out
	if out == jsonType {
		text = stringType // JSON_QUERY of a STRING answers a STRING
	}
	return append(fs, sig(text, eval, stringType, stringType).optional(paths))
}

// unwrapped is a JSON scalar as a SQL value; strict refuses one of another type.
func unwrapped(name string, out *store.Type, strict bool, read func(any) (store.Value, bool)) []function {
	return []function{sig(out, func(v values) (store.Value, error) {
		tree, err := jsonTree(v[0].Text)
		if err != nil {
			return store.Value{}, err
		}
		x, ok := read(tree)
		if !ok && strict {
			return store.Value{}, outOfRange("The provided JSON input is not a %s: %s(%.40s)", TypeName(out), name, v[0].Text)
		}
		return x, nil
	}, jsonType)}
}

// unwrappedArray is a JSON array as a SQL array.
func unwrappedArray(elem *store.Type, read func(any) (store.Value, bool)) []function {
	return []function{sig(&store.Type{Code: store.Array, Elem: elem}, func(v values) (store.Value, error) {
		tree, err := jsonTree(v[0].Text)
		if err != nil {
			return store.Value{}, err
		}
		items, ok := tree.([]any)
		if !ok {
			return store.Value{}, outOfRange("The provided JSON input is not an array")
		}
		var list values
		for _, it := range items {
			x, ok := read(it)
			if !ok {
				return store.Value{}, outOfRange("The provided JSON input is not an array of %s", TypeName(elem))
			}
			list = append(list, x)
		}
		return listValue(list), nil
	}, jsonType)}
}

func jsonString(tree any) (store.Value, bool) {
	s, ok := tree.(string)
	return textValue(s), ok
}

func jsonBool(tree any) (store.Value, bool) {
	b, ok := tree.(bool)
	return boolValue(b), ok
}

func jsonFloat(tree any) (store.Value, bool) {
	n, ok := tree.(json.Number)
	if !ok {
		return store.Value{}, false
	}
	f, err := n.Float64()
	return floatValue(f), err == nil
}

func jsonInt(tree any) (store.Value, bool) {
	f, ok := jsonFloat(tree)
	if !ok {
		return f, false
	}
	if n, err := strconv.ParseInt(tree.(json.Number).String(), 10, 64); err == nil {
		return intValue(n), true
	}
	return intValue(int64(f.Float)), f.Float == math.Trunc(f.Float) && math.Abs(f.Float) < 1<<63
}

// lax reads a scalar by way of a cast, or is NULL.
func lax(out *store.Type) func(any) (store.Value, bool) {
	return func(tree any) (store.Value, bool) {
		from, v := stringType, scalarText(tree)
		switch x := tree.(type) {
		case bool:
			from, v = boolType, boolValue(x)
		case json.Number:
			from = float64Type
			if n, err := strconv.ParseInt(x.String(), 10, 64); err == nil {
				from, v = int64Type, intValue(n)
			} else if v, _ = jsonFloat(tree); out == stringType {
				return textValue(x.String()), true
			}
		}
		if !v.Valid || !sameType(from, out) && !castable(from, out) {
			return store.Value{}, true
		}
		out, err := castValue(from, out, v)
		if err != nil {
			return store.Value{}, true
		}
		return out, true
	}
}

func jsonList(out *store.Type, elem func(any) (store.Value, bool)) []function {
	return onJSON(&store.Type{Code: store.Array, Elem: out}, 1, func(tree any) (store.Value, error) {
		items, ok := tree.([]any)
		if !ok {
			return store.Value{}, nil
		}
		var list values
		for _, it := range items {
			x, ok := elem(it)
			if !ok {
				return store.Value{}, nil
			}
			list = append(list, x)
		}
		return listValue(list), nil
	})
}

var jsonFunctions = map[string][]function{
	"PARSE_JSON": {sig(jsonType, func(v values) (store.Value, error) {
		mode := "exact"
		if len(v) > 1 {
			mode = strings.ToLower(v[1].Text)
		}
		if mode != "exact" && mode != "round" {
			return store.Value{}, outOfRange("Invalid wide_number_mode %q: it must be exact or round", mode)
		}
		out, err := store.ParseText(jsonType, v[0].Text)
		if err == nil && mode == "exact" {
			err = exactNumbers(v[0].Text)
		}
		if err != nil {
			return store.Value{}, outOfRange("Invalid input to PARSE_JSON: %v", err)
		}
		return out, nil
	}, stringType, stringType).optional(1)},
	"TO_JSON_STRING":   {onText(stringType, textValue, jsonType)},
	"JSON_VALUE":       onJSON(stringType, 1, func(tree any) (store.Value, error) { return scalarText(tree), nil }),
	"JSON_QUERY":       onJSON(jsonType, 0, jsonValue),
	"JSON_VALUE_ARRAY": jsonList(stringType, func(tree any) (store.Value, bool) { v := scalarText(tree); return v, v.Valid || tree == nil }),
	"JSON_QUERY_ARRAY": jsonList(jsonType, func(tree any) (store.Value, bool) { v, err := jsonValue(tree); return v, err == nil }),
	"JSON_TYPE": {sig(stringType, func(v values) (store.Value, error) {
		tree, err := jsonTree(v[0].Text)
		if err != nil {
			return store.Value{}, err
		}
		switch tree.(type) {
		case nil:
			return textValue("null"), nil
		case string:
			return textValue("string"), nil
		case bool:
			return textValue("boolean"), nil
		case []any:
			return textValue("array"), nil
		case map[string]any:
			return textValue("object"), nil
		}
		return textValue("number"), nil
	}, jsonType)},
	"STRING": unwrapped("STRING", stringType, true, jsonString), "BOOL": unwrapped("BOOL", boolType, true, jsonBool),
	"INT64": unwrapped("INT64", int64Type, true, jsonInt), "FLOAT64": unwrapped("FLOAT64", float64Type, true, jsonFloat),
	"DOUBLE":     unwrapped("DOUBLE", float64Type, true, jsonFloat),
	"LAX_STRING": unwrapped("LAX_STRING", stringType, false, lax(stringType)), "LAX_BOOL": unwrapped("LAX_BOOL", boolType, false, lax(boolType)),
	"LAX_INT64": unwrapped("LAX_INT64", int64Type, false, lax(int64Type)), "LAX_FLOAT64": unwrapped("LAX_FLOAT64", float64Type, false, lax(float64Type)),
	"STRING_ARRAY": unwrappedArray(stringType, jsonString), "BOOL_ARRAY": unwrappedArray(boolType, jsonBool),
	"INT64_ARRAY": unwrappedArray(int64Type, jsonInt), "FLOAT64_ARRAY": unwrappedArray(float64Type, jsonFloat),
	"JSON_KEYS": {sig(stringArray, func(v values) (store.Value, error) {
		tree, err := jsonTree(v[0].Text)
		if err != nil {
			return store.Value{}, err
		}
		var list values
		for _, k := range jsonKeys("", tree) {
			list = append(list, textValue(k))
		}
		return listValue(list), nil
	}, jsonType)},
}

// exactNumbers refuses numbers that neither an integer of 64 bits nor a double holds exactly enough to be written back.
func exactNumbers(text string) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	for {
		tok, err := dec.Token()
		if err != nil {
			return nil // the end: the text has been read before
		}
		n, ok := tok.(json.Number)
		if !ok || strings.ContainsAny(n.String(), ".eE") {
			continue
		}
		if _, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
			continue
		}
		if _, err := strconv.ParseUint(n.String(), 10, 64); err != nil {
			return outOfRange("the number %s cannot be stored without loss of precision", n)
		}
	}
}

// jsonKeys are the paths of all members, sorted.
func jsonKeys(prefix string, tree any) (out []string) {
	obj, ok := tree.(map[string]any)
	if !ok {
		return nil
	}
	for k, v := range obj {
		out = append(out, prefix+k)
		out = append(out, jsonKeys(prefix+k+".", v)...)
	}
	slices.Sort(out)
	return out
}

// treeOf is a SQL value as JSON.
func treeOf(t *store.Type, v store.Value) (any, error) {
	if !v.Valid || t == nil {
		return nil, nil
	}
	switch t.Code {
	case store.Bool:
		return v.Int != 0, nil
	case store.Enum:
		if name := enumName(t, v); name != v.AsText(t) {
			return name, nil
		}
		return json.Number(v.AsText(t)), nil
	case store.Proto: // Spanner's own limit
		return nil, store.Errorf(codes.Unimplemented, "Unsupported argument type %s for TO_JSON", TypeName(t))
	case store.Int64:
		return json.Number(strconv.FormatInt(v.Int, 10)), nil
	case store.Float64, store.Float32:
		if math.IsNaN(v.Float) || math.IsInf(v.Float, 0) {
			return v.AsText(t), nil
		}
		return v.Float, nil
	case store.Numeric:
		return json.Number(v.Text), nil
	case store.JSON:
		return jsonTree(v.Text)
	case store.Bytes:
		return base64.StdEncoding.EncodeToString([]byte(v.Text)), nil
	case store.Array:
		list := make([]any, len(v.List))
		for i, e := range v.List {
			var err error
			if list[i], err = treeOf(t.Elem, e); err != nil {
				return nil, err
			}
		}
		return list, nil
	case store.Struct:
		obj := map[string]any{}
		for i, f := range t.Fields {
			x, err := treeOf(f.Type, v.List[i])
			if err != nil {
				return nil, err
			}
			if _, dup := obj[f.Name]; !dup {
				obj[f.Name] = x
			}
		}
		return obj, nil
	}
	return v.AsText(t), nil
}

func toJSON(name string, args []*expr) (*expr, error) {
	if len(args) != 1 {
		return nil, wrongCount(name, args)
	}
	x := args[0]
	return derived(jsonType, func(f *frame) (store.Value, error) {
		v, err := x.eval(f)
		if err != nil {
			return store.Value{}, err
		}
		tree, err := treeOf(x.typ, v)
		if err != nil {
			return store.Value{}, err
		}
		return jsonValue(tree)
	}, x), nil
}

func jsonArray(_ string, args []*expr) (*expr, error) {
	return derived(jsonType, func(f *frame) (store.Value, error) {
		list := make([]any, len(args))
		for i, a := range args {
			v, err := a.eval(f)
			if err != nil {
				return store.Value{}, err
			}
			if list[i], err = treeOf(a.typ, v); err != nil {
				return store.Value{}, err
			}
		}
		return jsonValue(list)
	}, args...), nil
}

func jsonObject(name string, args []*expr) (*expr, error) {
	if len(args)%2 == 1 {
		return nil, unimplemented("%s of two arrays", name)
	}
	for i := 0; i < len(args); i += 2 {
		if args[i].typ == nil || args[i].typ.Code != store.String {
			return nil, invalid("the names of %s must be STRING, not %s", name, TypeName(args[i].typ))
		}
	}
	return derived(jsonType, func(f *frame) (store.Value, error) {
		obj := map[string]any{}
		for i := 0; i < len(args); i += 2 {
			k, err := args[i].eval(f)
			if err != nil {
				return store.Value{}, err
			}
			if !k.Valid {
				return store.Value{}, outOfRange("Invalid input to JSON_OBJECT: a key cannot be NULL")
			}
			v, err := args[i+1].eval(f)
			if err != nil {
				return store.Value{}, err
			}
			tree, err := treeOf(args[i+1].typ, v)
			if err != nil {
				return store.Value{}, err
			}
			if _, dup := obj[k.Text]; !dup {
				obj[k.Text] = tree
			}
		}
		return jsonValue(obj)
	}, args...), nil
}

// jsonStep is json.name, json['name'] or json[index].
func jsonStep(x, by *expr) *expr {
	return derived(jsonType, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, x, by)
		if err != nil || !ok {
			return store.Value{}, err
		}
		tree, err := jsonTree(vs[0].Text)
		if err != nil {
			return store.Value{}, err
		}
		var step any = vs[1].Text
		if by.typ.Code == store.Int64 {
			if vs[1].Int < 0 || vs[1].Int > math.MaxInt32 {
				return store.Value{}, nil
			}
			step = int(vs[1].Int)
		}
		tree, ok = follow(tree, []any{step})
		if !ok {
			return store.Value{}, nil
		}
		return jsonValue(tree)
	}, x, by)
}

package app

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// ConfigError is one mistake in a configuration file.
type ConfigError struct {
	File string `json:"file"`
	// Line and Column count from 1; 0 where the mistake has no place, such as a file that cannot be read.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	// Hint says what to do, or is "".
	Hint string `json:"hint,omitempty"`
}

// Error is file:line:column: message (hint), as editors and people know it.
func (e *ConfigError) Error() string {
	s := e.File + ": "
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	}
	s += e.Message
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// ConfigErrors are all mistakes found in a configuration file, by line.
type ConfigErrors []*ConfigError

// Error is one line a mistake, more where a message has more.
func (e ConfigErrors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// place is a line and column of the file, both from 1.
type place struct{ line, column int }

const (
	// maxYAMLDepth and maxYAMLNodes bound what aliases can make of a small file.
	maxYAMLDepth = 50
	maxYAMLNodes = 100_000
)

// decoder fills structs from a YAML document and finds every mistake, not only the first. It knows where each value was
// written, by its path such as pipelines[0].name, for mistakes that are found later.
type decoder struct {
	file    string
	lookup  func(string) (string, bool) // the environment
	errs    ConfigErrors
	places  map[string]place
	anchors map[string]ast.Node
	nodes   int
	// substituted are the values of environment variables that went in, with their names: any of them may be a secret.
	substituted map[string]string
}

// nodeDecoder is a type that reads its node itself.
type nodeDecoder interface {
	decodeNode(d *decoder, n ast.Node, path string, depth int)
}

func newDecoder(file string, lookup func(string) (string, bool)) *decoder {
	return &decoder{file: file, lookup: lookup, places: map[string]place{}, anchors: map[string]ast.Node{}, substituted: map[string]string{}}
}

// document reads a file's one document into a pointer to a struct.
func (d *decoder) document(text []byte, into any) {
	// Mappings with a key twice are let through here, so that all of them can be reported.
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil {
			p, hint := placeOfToken(at.GetToken()), ""
			if lines := strings.Split(string(text), "\n"); p.line <= len(lines) && strings.Contains(lines[p.line-1], "${") {
				hint = "between { } and [ ] quote a variable: \"${NAME}\""
			}
			d.errorAt(p, hint, "%s", at.GetMessage())
			return
		}
		d.errorAt(place{}, "", "%v", err)
		return
	}
	var docs []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			docs = append(docs, doc.Body)
		}
	}
	switch {
	case len(docs) == 0:
		d.errorAt(place{1, 1}, "see 'spanledger config example'", "the file is empty")
		return
	case len(docs) > 1:
		d.errorAt(placeOf(docs[1]), "take the line --- out, or use two files", "a second document begins here; a configuration is one")
		return
	}
	ast.Walk(anchorFinder(d.anchors), docs[0])
	d.decode(docs[0], reflect.ValueOf(into).Elem(), "", 0)
}

type anchorFinder map[string]ast.Node

func (f anchorFinder) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		f[a.Name.String()] = a.Value
	}
	return f
}

func (d *decoder) errorAt(p place, hint, format string, args ...any) {
	d.errs = append(d.errs, &ConfigError{File: d.file, Line: p.line, Column: p.column, Message: d.redact(fmt.Sprintf(format, args...)), Hint: d.redact(hint)})
}

// errorOn is a mistake of the value at path, or of the nearest one around it that was written.
func (d *decoder) errorOn(path, hint, format string, args ...any) {
	d.errorAt(d.nearest(path), hint, format, args...)
}

func (d *decoder) nearest(path string) place {
	for {
		if p, ok := d.places[path]; ok || path == "" {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// redact puts the names of environment variables in place of their values, for those may be secrets. Values of up to three
// bytes stay: they are no secrets, and are found in every text.
func (d *decoder) redact(s string) string {
	values := make([]string, 0, len(d.substituted))
	for v := range d.substituted {
		if len(v) > 3 {
			values = append(values, v)
		}
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) }) // the longest first: one may hold another
	for _, v := range values {
		name := "${" + d.substituted[v] + "}"
		s = strings.ReplaceAll(s, v, name)
		if quoted := strconv.Quote(v); quoted != `"`+v+`"` { // as %q and JSON show it
			s = strings.ReplaceAll(s, quoted[1:len(quoted)-1], name)
		}
	}
	return s
}

func placeOfToken(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{t.Position.Line, t.Position.Column}
}

// placeOf is where a node begins: a mapping at its first key, not at its colon.
func placeOf(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return placeOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key)
	}
	return placeOfToken(n.GetToken())
}

// resolve follows aliases and anchors; nil after an error.
func (d *decoder) resolve(n ast.Node, depth int) ast.Node {
	if d.nodes++; depth > maxYAMLDepth || d.nodes > maxYAMLNodes {
		if d.nodes <= maxYAMLNodes+1 || depth == maxYAMLDepth+1 {
			d.errorAt(placeOf(n), "do aliases (*name) refer to themselves?", "the file is nested too deep, or too large")
		}
		d.nodes = maxYAMLNodes + 1
		return nil
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		return d.resolve(n.Value, depth+1)
	case *ast.AliasNode:
		target, ok := d.anchors[n.Value.String()]
		if !ok {
			d.errorAt(placeOf(n), "", "no anchor &%s", n.Value)
			return nil
		}
		return d.resolve(target, depth+1)
	case *ast.TagNode:
		d.errorAt(placeOf(n), "leave it out; quote a value to make it a string", "YAML tags such as %s are not supported", n.Start.Value)
		return nil
	}
	return n
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    place
	value ast.Node
}

// entries lists a mapping's keys once each; ok is false if n is not a mapping.
func (d *decoder) entries(n ast.Node) (list []entry, ok bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return nil, false
	}
	seen := map[string]place{}
	for _, v := range values {
		e := entry{at: placeOf(v.Key), value: v.Value}
		switch k := v.Key.(type) {
		case *ast.StringNode:
			e.key = k.Value
		case *ast.MergeKeyNode:
			d.errorAt(e.at, "write the keys out, or use an alias (*name) for a whole value", "merge keys (<<) are not supported")
			continue
		default:
			e.key = v.Key.GetToken().Value
		}
		if first, twice := seen[e.key]; twice {
			d.errorAt(e.at, "keep one of the two", "the key %s is there twice, first on line %d", e.key, first.line)
			continue
		}
		seen[e.key] = e.at
		list = append(list, e)
	}
	return list, true
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	ownDecoder      = reflect.TypeFor[nodeDecoder]()
)

func (d *decoder) decode(n ast.Node, into reflect.Value, path string, depth int) {
	if _, ok := d.places[path]; !ok {
		d.places[path] = placeOf(n)
	}
	if n = d.resolve(n, depth); n == nil {
		return
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	switch {
	case reflect.PointerTo(into.Type()).Implements(ownDecoder):
		into.Addr().Interface().(nodeDecoder).decodeNode(d, n, path, depth)
	case reflect.PointerTo(into.Type()).Implements(textUnmarshaler):
		if s, ok := d.scalar(n, path, "text"); ok {
			if err := into.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s.text)); err != nil {
				d.errorAt(placeOf(n), "", "%s: %v", lastKey(path), err)
			}
		}
	case into.Kind() == reflect.Struct:
		d.decodeStruct(n, into, path, depth)
	case into.Kind() == reflect.Slice:
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			d.wrongType(n, path, "a list")
			return
		}
		into.Set(reflect.MakeSlice(into.Type(), len(list.Values), len(list.Values)))
		for i, v := range list.Values {
			d.decode(v, into.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
	default:
		d.decodeScalar(n, into, path)
	}
}

func (d *decoder) decodeStruct(n ast.Node, into reflect.Value, path string, depth int) {
	list, ok := d.entries(n)
	if !ok {
		d.wrongType(n, path, "keys and values")
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range into.NumField() {
		name := into.Type().Field(i).Tag.Get("yaml")
		fields[name] = i
		names = append(names, name)
	}
	for _, e := range list {
		i, ok := fields[e.key]
		if !ok {
			d.errorAt(e.at, didYouMean(e.key, names), "unknown key %s%s", e.key, inside(path))
			continue
		}
		at := join(path, e.key)
		d.places[at] = e.at
		if _, isNull := e.value.(*ast.NullNode); isNull {
			continue // a key with nothing behind it, such as one whose values are commented out
		}
		d.decode(e.value, into.Field(i), at, depth+1)
	}
}

func (d *decoder) decodeScalar(n ast.Node, into reflect.Value, path string) {
	switch into.Kind() {
	case reflect.String:
		if s, ok := d.scalar(n, path, "text"); ok {
			into.SetString(s.text)
		}
	case reflect.Bool:
		if s, ok := d.scalar(n, path, "true or false"); ok {
			if s.kind != kindBool {
				d.wrongType(n, path, "true or false")
				return
			}
			into.SetBool(s.text == "true")
		}
	case reflect.Int:
		if s, ok := d.scalar(n, path, "a whole number"); ok {
			v, err := strconv.ParseInt(s.text, 10, 0)
			if s.kind != kindInt || err != nil {
				d.wrongType(n, path, "a whole number")
				return
			}
			into.SetInt(v)
		}
	default:
		panic("app: no YAML form for " + into.Type().String())
	}
}

func (d *decoder) wrongType(n ast.Node, path, want string) {
	what := "the file"
	if path != "" {
		what = lastKey(path)
	}
	d.errorAt(placeOf(n), "", "%s must be %s, but is %s", what, want, describe(n))
}

// describe is what a node is, for people. What a scalar says is shown as it was written, with variables' names, not values.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "empty"
	case *ast.LiteralNode:
		return "a text of several lines"
	default:
		s := n.GetToken().Value
		if len(s) > 60 {
			s = s[:60] + "…"
		}
		return strconv.Quote(s)
	}
}

// kind is what a scalar is in YAML.
type kind uint8

const (
	kindString kind = iota
	kindInt
	kindFloat
	kindBool
	kindNull
)

// scalar is a scalar's text after substitution.
type scalar struct {
	text string
	kind kind
}

// scalar reads a scalar; ok is false after an error. What a plain (unquoted) value becomes by substitution counts as if it
// had been written in the file: ${LANES} may be a number.
func (d *decoder) scalar(n ast.Node, path, want string) (s scalar, ok bool) {
	plain := false
	switch n := n.(type) {
	case *ast.StringNode:
		s.text = n.Value
		plain = n.Token.Type != token.SingleQuoteType && n.Token.Type != token.DoubleQuoteType
	case *ast.LiteralNode:
		s.text = n.Value.Value
	case *ast.IntegerNode:
		return scalar{fmt.Sprint(n.Value), kindInt}, true
	case *ast.FloatNode:
		return scalar{n.Token.Value, kindFloat}, true
	case *ast.BoolNode:
		return scalar{strconv.FormatBool(n.Value), kindBool}, true
	case *ast.NullNode:
		return scalar{"", kindNull}, true
	case *ast.InfinityNode, *ast.NanNode:
		return scalar{n.GetToken().Value, kindString}, true
	default:
		d.wrongType(n, path, want)
		return s, false
	}
	text, changed, err := substitute(s.text, d.lookup, d.substituted)
	if err != nil {
		d.errorAt(placeOf(n), "set it, or give a default with ${NAME:-default}; $$ is a plain $", "%s: %v", lastKey(path), err)
		return s, false
	}
	s.text = text
	if plain && changed {
		s.kind = kindOf(text)
	}
	return s, true
}

func kindOf(text string) kind {
	if text == "true" || text == "false" {
		return kindBool
	}
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return kindInt
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) && !strings.ContainsAny(text, "xX_") {
		return kindFloat
	}
	return kindString
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func inside(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"

	"encoding/json"

	"github.com/itchyny/gojq"
)

// Mapping is a compiled jq program that turns input records into events. It
// has no access to the environment, to files or to other records. It may be
// used concurrently.
type Mapping struct {
	code *gojq.Code
}

// MapError says where a jq program cannot be understood.
type MapError struct {
	Source       string // the program
	Line, Column int    // from 1, in characters; 0 if unknown
	Reason       string
}

func (e *MapError) Error() string {
	if e.Line == 0 {
		return "map: " + e.Reason
	}
	line := strings.Split(e.Source, "\n")[e.Line-1]
	return fmt.Sprintf("map, line %d column %d: %s\n  %s\n  %s^", e.Line, e.Column, e.Reason, line, strings.Repeat(" ", e.Column-1))
}

// CompileMap compiles a jq program with the variables $n, the record's number,
// and $file, its file's name. The empty program passes records on as they are.
// The error is a [*MapError].
func CompileMap(source string) (*Mapping, error) {
	if strings.TrimSpace(source) == "" {
		source = "."
	}
	query, err := gojq.Parse(source)
	if err != nil {
		var parse *gojq.ParseError
		if errors.As(err, &parse) {
			// The offset is just after the token that did not fit.
			return nil, newMapError(source, parse.Offset-len(parse.Token), err)
		}
		return nil, newMapError(source, -1, err)
	}
	code, err := gojq.Compile(query, gojq.WithVariables([]string{"$n", "$file"}))
	if err != nil {
		// The compiler names what is missing but not where.
		name := err.Error()
		name = strings.TrimSpace(name[strings.LastIndexByte(name, ':')+1:])
		name, _, _ = strings.Cut(name, "/")
		return nil, newMapError(source, indexWord(source, name), err)
	}
	return &Mapping{code: code}, nil
}

func newMapError(source string, offset int, err error) *MapError {
	e := &MapError{Source: source, Reason: err.Error()}
	if offset < 0 || offset > len(source) {
		return e
	}
	before := source[:offset]
	e.Line = strings.Count(before, "\n") + 1
	e.Column = len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
	return e
}

// indexWord finds name in source where it is not part of a longer word.
func indexWord(source, name string) int {
	part := func(c byte) bool {
		return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	for at := 0; name != ""; {
		i := strings.Index(source[at:], name)
		if i < 0 {
			break
		}
		start, end := at+i, at+i+len(name)
		if (start == 0 || !part(source[start-1])) && (end == len(source) || !part(source[end])) {
			return start
		}
		at = start + 1
	}
	return -1
}

// Apply runs the program on one record and calls fn with each value it yields.
// It ends when ctx does, also inside a program that loops for ever. The record
// is what encoding/json decodes with UseNumber; numbers a program passes on
// keep their text.
func (m *Mapping) Apply(ctx context.Context, record any, n int64, file string, fn func(any) error) error {
	results := m.code.RunWithContext(ctx, record, int(n), file)
	for {
		v, ok := results.Next()
		if !ok {
			return nil
		}
		if err, ok := v.(error); ok {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var halt *gojq.HaltError
			if errors.As(err, &halt) {
				return fmt.Errorf("map stopped with halt: %w; use `empty` to leave a record out", err)
			}
			return fmt.Errorf("map failed: %w", err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
}

// encodeJSON writes a value a jq program yielded, and refuses the numbers JSON
// cannot write, which jq itself would replace.
func encodeJSON(v any) (json.RawMessage, error) {
	if path, what := unwritable(v); what != "" {
		return nil, fmt.Errorf("at .%s the map computed %s, which JSON cannot hold", strings.TrimPrefix(path, "."), what)
	}
	return gojq.Marshal(v)
}

func unwritable(v any) (path, what string) {
	switch v := v.(type) {
	case float64:
		switch {
		case math.IsNaN(v):
			return "", "nan"
		case math.IsInf(v, 0):
			return "", "an infinite number"
		}
	case []any:
		for i, x := range v {
			if path, what := unwritable(x); what != "" {
				return fmt.Sprintf("[%d]%s", i, path), what
			}
		}
	case map[string]any:
		for k, x := range v {
			if path, what := unwritable(x); what != "" {
				return pathMember(":"+k) + path, what
			}
		}
	}
	return "", ""
}

// typeName is jq's name of a value's type, for messages.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case int, float64, *big.Int, json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("%T", v)
}

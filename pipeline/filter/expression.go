package filter

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/spanledger/spanledger/change"
)

const (
	// maxSource bounds an expression's text, in bytes: compiling takes time and memory that grow with it.
	maxSource = 16 << 10
	// maxCost bounds one evaluation in CEL's units, about one a node evaluated: it stops nested comprehensions over large
	// values, which could otherwise take minutes for one change. Simple comparisons cost below 20.
	maxCost = 1_000_000
)

// expression is a checked expression.
type expression struct{ program cel.Program }

func compile(source string) (*expression, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("the expression has %d bytes; at most %d are allowed", len(source), maxSource)
	}
	row := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewEnv(
		cel.Variable("table", cel.StringType),
		cel.Variable("op", cel.StringType),
		cel.Variable("key", row),
		cel.Variable("after", row),
		cel.Variable("before", row),
		cel.Variable("captured", cel.ListType(cel.StringType)),
		cel.Variable("tag", cel.StringType),
		cel.Variable("system", cel.BoolType),
		cel.Variable("commit_timestamp", cel.TimestampType),
	)
	if err != nil {
		return nil, fmt.Errorf("make the expression's environment: %w", err)
	}
	ast, issues := env.Compile(source)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("%w\nthe variables are table, op, key, after, before, captured, tag, system and commit_timestamp", err)
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("the expression is of type %s, but must be a bool: compare it with something, such as after.paid == true",
			cel.FormatCELType(ast.OutputType()))
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	loops := celast.MatchDescendants(celast.NavigateAST(ast.NativeRep()), celast.KindMatcher(celast.ComprehensionKind))
	if len(loops) > 0 {
		// Counting costs as much as the rest of an evaluation. Without loops each part is evaluated at most once.
		options = append(options, cel.CostLimit(maxCost))
	}
	program, err := env.Program(ast, options...)
	if err != nil {
		return nil, err
	}
	return &expression{program}, nil
}

// evaluator evaluates expressions on one change after another; it is one goroutine's.
type evaluator struct {
	change             *change.Change
	key, after, before rowMap
}

var errNotBool = errors.New("the expression did not answer true or false")

func (e *evaluator) match(x *expression, c *change.Change) (ok bool, err error) {
	e.change = c
	out, _, err := x.program.Eval(e)
	if err != nil {
		return false, fmt.Errorf("%w (a column that was not captured, or that a DELETE does not have, is absent: test has(after.column) first)", err)
	}
	b, isBool := out.(types.Bool)
	if !isBool {
		return false, errNotBool
	}
	return bool(b), nil
}

// Parent implements cel.Activation.
func (e *evaluator) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation: it is called for the names the expression uses only.
func (e *evaluator) ResolveName(name string) (any, bool) {
	c := e.change
	switch name {
	case "table":
		return types.String(c.Table.Name), true
	case "op":
		return types.String(c.Op.String()), true
	case "tag":
		return types.String(c.Tag), true
	case "system":
		return types.Bool(c.System), true
	case "commit_timestamp":
		return types.Timestamp{Time: c.Position.Commit.Time()}, true
	case "key":
		e.key = rowMap{table: c.Table, row: c.Key, isKey: true}
		return &e.key, true
	case "after":
		e.after = rowMap{table: c.Table, row: c.After}
		return &e.after, true
	case "before":
		e.before = rowMap{table: c.Table, row: c.Before}
		return &e.before, true
	case "captured":
		return captured(c), true
	}
	return nil, false
}

func captured(c *change.Change) []string {
	names := []string{}
	for i := range c.Table.Columns {
		if c.After.At(i) != nil || c.Before.At(i) != nil {
			names = append(names, c.Table.Columns[i].Name)
		}
	}
	return names
}

package sql

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// compileColumns sets what of a table is computed: defaults, generated columns, checks. b is the schema around it.
func (b *builder) compileColumns(t *store.Table) error {
	uses := make([][]int, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		var err error
		c.DefaultUses = nil
		switch {
		case c.Generated != "":
			uses[i], err = b.compileGenerated(t, c)
			c.Uses = uses[i]
		case c.Default != "":
			err = b.compileDefault(t, c)
		case c.Identity != nil:
			setIdentity(c, c.Identity)
		}
		if err != nil {
			return err
		}
	}
	order, err := computeOrder(t, uses)
	if err != nil {
		return err
	}
	t.ComputeOrder = order
	for i := range t.Checks {
		if err := b.compileCheck(t, &t.Checks[i]); err != nil {
			return err
		}
	}
	return nil
}

// Detach returns a copy of a restored schema that shares nothing with the one it comes from: its sequences go on from where
// they are now on their own, and its computed columns use them and its own clock.
func Detach(s *store.Schema) (*store.Schema, error) {
	b := &builder{Schema: s.Clone()}
	for i, q := range b.Sequences {
		b.Sequences[i] = q.Fork()
	}
	for i, old := range b.Tables {
		t := *old
		t.Columns, t.Checks = slices.Clone(old.Columns), slices.Clone(old.Checks)
		for j := range t.Columns {
			if q := t.Columns[j].Identity; q != nil {
				t.Columns[j].Identity = q.Fork()
			}
		}
		if err := b.compileColumns(&t); err != nil {
			return nil, err
		}
		b.Tables[i] = &t
	}
	return b.Schema, nil
}

// rowExpr compiles an expression over a row of t, which must be pure and without sub-queries.
func (b *builder) rowExpr(t *store.Table, what, text string) (*expr, error) {
	tree, err := parseExpr(text)
	if err != nil {
		return nil, invalid("Error parsing the %s: %v", what, err)
	}
	if name := impure(tree); name != "" {
		return nil, invalid("Error parsing the %s: %s is not allowed there, since its result changes", what, name)
	}
	sc := &scope{}
	sc.add(t.Name, tableColumns(t))
	x, err := (&compiler{env: Env{schema: b.Schema}, scope: sc, depth: maxQueryDepth + 1}).expr(tree)
	if err != nil {
		return nil, invalid("Error parsing the %s: %v", what, err)
	}
	return x, nil
}

// impure names a function in an expression whose result changes from call to call.
func impure(e ast.Node) (name string) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			switch f := strings.ToUpper(pathName(n.Func)); f {
			case "CURRENT_TIMESTAMP", "CURRENT_DATE", "GENERATE_UUID", "NEW_UUID", "PENDING_COMMIT_TIMESTAMP", "GET_NEXT_SEQUENCE_VALUE", "GET_INTERNAL_SEQUENCE_STATE":
				name = f
			}
		case *ast.Ident:
			if strings.EqualFold(n.Name, "CURRENT_TIMESTAMP") || strings.EqualFold(n.Name, "CURRENT_DATE") {
				name = n.Name
			}
		}
		return true
	})
	return name
}

func (b *builder) compileGenerated(t *store.Table, c *store.Column) (uses []int, err error) {
	what := "expression of generated column `" + t.QualifiedName() + "`.`" + c.Name + "`"
	x, err := b.rowExpr(t, what, c.Generated)
	if err != nil {
		return nil, err
	}
	if x, err = coerce(x, c.Type); err != nil {
		return nil, invalid("Error parsing the %s: %v", what, err)
	}
	c.Compute = func(r store.Row) (store.Value, error) {
		return x.eval(&frame{ctx: context.Background(), row: r})
	}
	for i := range t.Columns {
		if usesColumn(c.Generated, t.Columns[i].Name) {
			uses = append(uses, i)
		}
	}
	return uses, nil
}

func (b *builder) compileDefault(t *store.Table, c *store.Column) error {
	if c.AllowCommitTimestamp {
		return failed("Cannot use commit timestamp column `%s` as a column with default value.", c.Name)
	}
	what := "default of column `" + t.QualifiedName() + "`.`" + c.Name + "`"
	tree, err := parseExpr(c.Default)
	if err != nil {
		return invalid("Error parsing the %s: %v", what, err)
	}
	schema := b.Schema
	compile := func(now time.Time) (*expr, error) {
		x, err := (&compiler{env: Env{Now: now, schema: schema, sequences: true}, scope: &scope{}, depth: maxQueryDepth + 1}).expr(tree)
		if err != nil {
			return nil, err
		}
		return coerce(x, c.Type)
	}
	if _, err := compile(time.Time{}); err != nil {
		return invalid("Error parsing the %s: %v", what, err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if arg, ok := n.(*ast.SequenceArg); ok {
			c.DefaultUses = append(c.DefaultUses, sequenceName(arg))
		}
		return true
	})
	c.Compute = func(store.Row) (store.Value, error) {
		x, err := compile(schema.Now())
		if err != nil {
			return store.Value{}, err
		}
		return x.eval(&frame{ctx: context.Background()})
	}
	return nil
}

func (b *builder) compileCheck(t *store.Table, c *store.Check) error {
	what := "CHECK constraint `" + c.Name + "` of table `" + t.QualifiedName() + "`"
	x, err := b.rowExpr(t, what, c.Text)
	if err != nil {
		return err
	}
	if x.typ != nil && x.typ.Code != store.Bool {
		return invalid("Error parsing the %s: it must be a condition, not %s", what, TypeName(x.typ))
	}
	c.Holds = func(r store.Row) (store.Value, error) {
		return x.eval(&frame{ctx: context.Background(), row: r})
	}
	return nil
}

// computeOrder sorts the generated columns so that each comes after those it uses.
func computeOrder(t *store.Table, uses [][]int) ([]int, error) {
	var order []int
	state := make([]int, len(t.Columns)) // 0 new, 1 open, 2 done
	var visit func(i int) error
	visit = func(i int) error {
		if t.Columns[i].Generated == "" || state[i] == 2 {
			return nil
		}
		if state[i] == 1 {
			return failed("generated column %s.%s uses itself, perhaps by way of others", t.QualifiedName(), t.Columns[i].Name)
		}
		state[i] = 1
		for _, j := range uses[i] {
			if err := visit(j); err != nil {
				return err
			}
		}
		state[i] = 2
		order = append(order, i)
		return nil
	}
	for i := range t.Columns {
		if err := visit(i); err != nil {
			return nil, err
		}
	}
	return slices.Clip(order), nil
}

func usesColumn(text, name string) bool {
	tree, err := parseExpr(text)
	if err != nil {
		return false
	}
	return mentions(tree, &store.Table{Columns: []store.Column{{Name: name}}}, "")
}

// sequenceOf is the sequence that a call names: f(SEQUENCE name).
func (c *compiler) sequenceOf(f string, e *ast.CallExpr) (*store.Sequence, error) {
	if len(e.Args) != 1 {
		return nil, invalid("%s takes SEQUENCE and a name", f)
	}
	arg, ok := e.Args[0].(*ast.SequenceArg)
	if !ok {
		return nil, invalid("%s takes SEQUENCE and a name, not %s", f, e.Args[0].SQL())
	}
	name := sequenceName(arg)
	seq := c.schema().Sequence(name)
	if seq == nil {
		return nil, invalid("Sequence not found: %s", name)
	}
	return seq, nil
}

func sequenceName(arg *ast.SequenceArg) string { return strings.ReplaceAll(arg.Expr.SQL(), "`", "") }

// nextSequenceValue is GET_NEXT_SEQUENCE_VALUE(SEQUENCE name).
func (c *compiler) nextSequenceValue(e *ast.CallExpr) (*expr, error) {
	seq, err := c.sequenceOf("GET_NEXT_SEQUENCE_VALUE", e)
	if err != nil {
		return nil, err
	}
	if err := c.env.Access.NextValue(seq.QualifiedName()); err != nil {
		return nil, err
	}
	if !c.env.sequences {
		return nil, invalid("GET_NEXT_SEQUENCE_VALUE can be used only in a read-write transaction: sequence %s", seq.QualifiedName())
	}
	return &expr{typ: int64Type, eval: func(*frame) (store.Value, error) { return nextOf(seq) }}, nil
}

func nextOf(q *store.Sequence) (store.Value, error) {
	n, err := q.Next()
	return intValue(n), err
}

// sequenceState is GET_INTERNAL_SEQUENCE_STATE(SEQUENCE name): the counter behind the last value, or NULL before the first.
func (c *compiler) sequenceState(e *ast.CallExpr) (*expr, error) {
	seq, err := c.sequenceOf("GET_INTERNAL_SEQUENCE_STATE", e)
	if err != nil {
		return nil, err
	}
	if err := c.env.Access.Object(store.SelectPrivilege, store.SequenceObject, seq.QualifiedName()); err != nil {
		return nil, err
	}
	start := int64(1)
	if text := optionValue(seq.Options, "start_with_counter"); text != "" {
		if start, err = strconv.ParseInt(text, 0, 64); err != nil {
			return nil, invalid("sequence %s has a start_with_counter of %q", seq.QualifiedName(), text)
		}
	}
	return &expr{typ: int64Type, eval: func(*frame) (store.Value, error) {
		n := seq.Counter.Load()
		if n < start {
			return store.Value{}, nil
		}
		return intValue(n), nil
	}}, nil
}

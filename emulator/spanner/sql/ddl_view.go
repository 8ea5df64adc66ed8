package sql

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func (b *builder) createView(t *ast.CreateView) error {
	schema, name, err := b.objectName(t.Name)
	if err != nil {
		return err
	}
	full := pathName(t.Name)
	old := b.View(full)
	if old == nil || !t.OrReplace {
		if err := b.clash(full); err != nil {
			return err
		}
	}
	v := &store.View{Schema: schema, Name: name, Query: b.source(t.Query), Definer: t.SecurityType == ast.SecurityTypeDefiner}
	b.Views = slices.DeleteFunc(b.Views, func(x *store.View) bool { return x == old })
	q, err := (&compiler{env: Env{schema: b.Schema}}).query(t.Query)
	if err != nil {
		return invalid("Error parsing the definition of VIEW %s: %v", full, err)
	}
	seen := map[string]bool{}
	for _, f := range q.columns {
		n := strings.ToLower(f.Name)
		if n == "" || seen[n] {
			return invalid("Error parsing the definition of VIEW %s: each column needs a name of its own", full)
		}
		seen[n] = true
	}
	b.Views = append(b.Views, v)
	return nil
}

func (b *builder) dropView(t *ast.DropView) error {
	v := b.View(pathName(t.Name))
	if v == nil {
		if t.IfExists {
			return nil
		}
		return notFound("View not found: %s", pathName(t.Name))
	}
	b.Views = slices.DeleteFunc(b.Views, func(x *store.View) bool { return x == v })
	return nil
}

// checkViews refuses a schema under which a view makes no sense any more.
func (b *builder) checkViews(text string) error {
	for _, v := range b.Views {
		tree, err := parseQuery(v.Query)
		if err == nil {
			_, err = (&compiler{env: Env{schema: b.Schema}}).query(tree)
		}
		if err != nil {
			return failed("Cannot %s: view %s depends on it: %v", firstWords(text), v.QualifiedName(), err)
		}
	}
	return nil
}

func parseQuery(text string) (ast.QueryExpr, error) {
	st, err := parseStatement(text)
	if err != nil {
		return nil, err
	}
	q, ok := st.(*ast.QueryStatement)
	if !ok {
		return nil, invalid("not a query: %s", firstWords(text))
	}
	return q.Query, nil
}

func (b *builder) createSequence(t *ast.CreateSequence) error {
	schema, name, err := b.objectName(t.Name)
	if err != nil {
		return err
	}
	full := pathName(t.Name)
	if t.IfNotExists && b.Sequence(full) != nil {
		return nil
	}
	if err := b.clash(full); err != nil {
		return err
	}
	q := &store.Sequence{Schema: schema, Name: name, Counter: &atomic.Int64{}}
	for _, p := range t.Params {
		if err := sequenceParam(q, p); err != nil {
			return err
		}
	}
	if err := setSequenceOptions(q, t.Options); err != nil {
		return err
	}
	if optionValue(q.Options, "sequence_kind") == "" {
		if b.Options["default_sequence_kind"] == "" {
			return invalid("sequence %s needs a kind: write BIT_REVERSED_POSITIVE or OPTIONS (sequence_kind = 'bit_reversed_positive')", full)
		}
	}
	b.Sequences = append(b.Sequences, q)
	return nil
}

func optionValue(opts []store.Option, name string) string {
	for _, o := range opts {
		if o.Name == name {
			return o.Value
		}
	}
	return ""
}

func setOption(opts []store.Option, name, value string) []store.Option {
	opts = slices.DeleteFunc(slices.Clone(opts), func(o store.Option) bool { return o.Name == name })
	if value != "" {
		opts = append(opts, store.Option{Name: name, Value: value})
	}
	return opts
}

// sequenceParam reads BIT_REVERSED_POSITIVE, SKIP RANGE and START COUNTER WITH as the options they stand for.
func sequenceParam(q *store.Sequence, p ast.SequenceParam) error {
	switch p := p.(type) {
	case *ast.BitReversedPositive:
		q.Options = setOption(q.Options, "sequence_kind", "bit_reversed_positive")
	case *ast.SkipRange:
		q.Options = setOption(setOption(q.Options, "skip_range_min", p.Min.Value), "skip_range_max", p.Max.Value)
	case *ast.StartCounterWith:
		q.Options = setOption(q.Options, "start_with_counter", p.Counter.Value)
	default:
		return unimplemented("the sequence parameter %s", p.SQL())
	}
	return applySequenceOptions(q, true)
}

// setSequenceOptions sets what OPTIONS (…) says.
func setSequenceOptions(q *store.Sequence, o *ast.Options) error {
	if o == nil {
		return nil
	}
	counter := false
	for _, r := range o.Records {
		name := strings.ToLower(r.Name.Name)
		value := ""
		switch v := r.Value.(type) {
		case *ast.NullLiteral:
		case *ast.StringLiteral:
			value = strings.ToLower(v.Value)
		case *ast.IntLiteral:
			value = v.Value
		default:
			return invalid("the sequence option %s must be a literal, not %s", name, v.SQL())
		}
		switch name {
		case "sequence_kind":
			if value != "bit_reversed_positive" {
				return invalid("Unsupported sequence kind: %q. The one kind is bit_reversed_positive", value)
			}
		case "skip_range_min", "skip_range_max":
		case "start_with_counter":
			counter = true
		default:
			return invalid("Option: %s is unknown.", name)
		}
		q.Options = setOption(q.Options, name, value)
	}
	return applySequenceOptions(q, counter)
}

func applySequenceOptions(q *store.Sequence, counter bool) error {
	number := func(name string, least int64) (int64, error) {
		text := optionValue(q.Options, name)
		if text == "" {
			return 0, nil
		}
		n, err := strconv.ParseInt(text, 0, 64)
		if err != nil || n < least {
			return 0, invalid("the sequence option %s must be an INT64 of at least %d, not %s", name, least, text)
		}
		return n, nil
	}
	low, err := number("skip_range_min", 0)
	if err != nil {
		return err
	}
	high, err := number("skip_range_max", 0)
	if err != nil {
		return err
	}
	if low > high && high != 0 {
		return invalid("the sequence option skip_range_min must not be above skip_range_max: %d and %d", low, high)
	}
	q.SkipMin, q.SkipMax = low, high
	start, err := number("start_with_counter", 1)
	if err != nil {
		return err
	}
	if counter && start > 0 {
		q.Counter.Store(start - 1)
	}
	return nil
}

func (b *builder) alterSequence(t *ast.AlterSequence) error {
	old := b.Sequence(pathName(t.Name))
	if old == nil {
		return notFound("Sequence not found: %s", pathName(t.Name))
	}
	q := *old
	switch {
	case t.NoSkipRange != nil:
		q.Options = setOption(setOption(q.Options, "skip_range_min", ""), "skip_range_max", "")
	case t.SkipRange != nil:
		q.Options = setOption(setOption(q.Options, "skip_range_min", t.SkipRange.Min.Value), "skip_range_max", t.SkipRange.Max.Value)
	}
	if t.RestartCounterWith != nil {
		q.Options = setOption(q.Options, "start_with_counter", t.RestartCounterWith.Counter.Value)
	}
	if err := applySequenceOptions(&q, t.RestartCounterWith != nil); err != nil {
		return err
	}
	if err := setSequenceOptions(&q, t.Options); err != nil {
		return err
	}
	b.Sequences[slices.Index(b.Sequences, old)] = &q
	return b.recompile()
}

func (b *builder) dropSequence(t *ast.DropSequence) error {
	q := b.Sequence(pathName(t.Name))
	if q == nil {
		if t.IfExists {
			return nil
		}
		return notFound("Sequence not found: %s", pathName(t.Name))
	}
	b.Sequences = slices.DeleteFunc(b.Sequences, func(x *store.Sequence) bool { return x == q })
	if err := b.recompile(); err != nil {
		return failed("Cannot drop sequence %s: %v", q.QualifiedName(), err)
	}
	return nil
}

// recompile makes the tables' computed parts anew after a sequence has changed.
func (b *builder) recompile() error {
	for i, old := range b.Tables {
		if !slices.ContainsFunc(old.Columns, func(c store.Column) bool { return strings.Contains(strings.ToUpper(c.Default), "SEQUENCE") }) {
			continue
		}
		t := *old
		t.Columns = slices.Clone(old.Columns)
		t.Checks = slices.Clone(old.Checks)
		if err := b.compileColumns(&t); err != nil {
			return err
		}
		b.Tables[i] = &t
	}
	return nil
}

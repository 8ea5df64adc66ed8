package filter

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spanledger/spanledger/change"
)

// Filter is compiled Options. Apply may be called from several goroutines.
type Filter struct {
	tables, tags Names
	ops          [4]bool // by change.Op; UnknownOp passes only where no operation was named
	system       bool
	where        *expression
	drop         map[string]map[string]bool // by table

	// byTable holds what was decided for each *change.Table: its own match, and the table without the dropped columns. It
	// grows with the versions of schema unions, which the reader keeps as well.
	byTable sync.Map
}

// tablePlan is what is done with the changes of one version of a table.
type tablePlan struct {
	pass bool
	err  error
	// out is the table that sinks see; columns maps its columns to those of the source, nil where nothing is dropped.
	out     *change.Table
	columns []int
}

// New compiles options. A mistake is an error that joins an *OptionError for each. Options that let everything through
// make a nil Filter.
func New(o Options) (*Filter, error) {
	errs := []error{o.check()}
	f := &Filter{tables: o.Tables, tags: o.Tags, system: o.System == nil || *o.System, drop: map[string]map[string]bool{}}
	for op := range f.ops {
		f.ops[op] = len(o.Operations) == 0
	}
	for _, name := range o.Operations {
		for _, op := range []change.Op{change.Insert, change.Update, change.Delete} {
			if strings.EqualFold(name, op.String()) {
				f.ops[op] = true
			}
		}
	}
	for _, c := range o.Drop {
		table, column := splitColumn(c)
		if f.drop[table] == nil {
			f.drop[table] = map[string]bool{}
		}
		f.drop[table][column] = true
	}
	if strings.TrimSpace(o.Where) != "" {
		var err error
		if f.where, err = compile(o.Where); err != nil {
			errs = append(errs, &OptionError{"where", -1, err})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if o.IsZero() {
		return nil, nil
	}
	return f, nil
}

// Apply removes from the frame what is not to be delivered. It changes the frame's list of changes in place and never the
// values; everything else of the frame stays (I5). After an error the frame must not be delivered: the expression failed
// on a change, or a key column is to be dropped. A nil Filter changes nothing.
func (f *Filter) Apply(frame *change.Frame) error {
	if f == nil || len(frame.Changes) == 0 {
		return nil
	}
	kept := frame.Changes[:0]
	var plan *tablePlan
	var last *change.Table
	var eval evaluator
	var rows slab
	for i := range frame.Changes {
		c := &frame.Changes[i]
		if c.Table != last {
			last, plan = c.Table, f.plan(c.Table)
		}
		if plan.err != nil {
			return fmt.Errorf("filter: change %s: %w", c.ID(), plan.err)
		}
		if !plan.pass || !f.ops[min(int(c.Op), len(f.ops)-1)] || c.System && !f.system || !f.tags.Match(c.Tag) {
			continue
		}
		if f.where != nil {
			// The expression sees the change before columns are dropped: it may decide by what no sink gets to see.
			ok, err := eval.match(f.where, c)
			if err != nil {
				return fmt.Errorf("filter: where: change %s (%s of table %s): %w", c.ID(), c.Op, c.Table.Name, err)
			}
			if !ok {
				continue
			}
		}
		kept = append(kept, *c)
		if plan.columns != nil {
			c := &kept[len(kept)-1]
			c.Table = plan.out
			c.After, c.Before = rows.project(c.After, plan.columns), rows.project(c.Before, plan.columns)
		}
	}
	clear(frame.Changes[len(kept):]) // so that what was filtered does not keep memory alive
	frame.Changes = kept
	return nil
}

func (f *Filter) plan(t *change.Table) *tablePlan {
	if p, ok := f.byTable.Load(t); ok {
		return p.(*tablePlan)
	}
	// Two goroutines may both make it; one form must win, for sinks compare tables by pointer.
	p, _ := f.byTable.LoadOrStore(t, f.newPlan(t))
	return p.(*tablePlan)
}

// newPlan decides about one version of a table. A column of the union keeps its place in later versions, and so do those
// that are left of it; the version stays the source's.
func (f *Filter) newPlan(t *change.Table) *tablePlan {
	p := &tablePlan{pass: f.tables.Match(t.Name), out: t}
	drop := f.drop[t.Name]
	if !p.pass || len(drop) == 0 {
		return p
	}
	var left []change.Column
	var columns []int
	for i, c := range t.Columns {
		switch {
		case !drop[c.Name]:
			left, columns = append(left, c), append(columns, i)
		case c.Key:
			p.err = fmt.Errorf("column %s.%s is to be dropped, but it is part of the primary key, by which changes are told apart and "+
				"ordered: take it out of the columns to drop", t.Name, c.Name)
			return p
		}
	}
	if len(left) < len(t.Columns) {
		p.out, p.columns = change.NewTable(t.Name, t.Version, left), columns
	}
	return p
}

// slab cuts rows from larger pieces, so that dropping a column does not cost an allocation a row.
type slab struct{ free []change.Value }

// project is the row with only the given columns of it.
func (s *slab) project(row change.Row, columns []int) change.Row {
	if len(row) == 0 {
		return nil
	}
	n := 0
	for n < len(columns) && columns[n] < len(row) {
		n++
	}
	if len(s.free) < n {
		s.free = make([]change.Value, max(256, n))
	}
	out := s.free[:n:n]
	s.free = s.free[n:]
	for i := range out {
		out[i] = row[columns[i]]
	}
	return out
}

package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// joinPlan is a join whose two sides are planned.
type joinPlan struct {
	op          ast.JoinOp
	left, right source
	cond        *expr
	// The slots of each side in the frame's row.
	leftStart, leftEnd, rightEnd int
	merged                       []mergedColumn
}

// mergedColumn is a column that USING makes of two.
type mergedColumn struct{ left, right, slot int }

func (c *compiler) join(e *ast.Join, conds []ast.Expr) (source, error) {
	if err := checkHints(e.Hint, joinHints); err != nil {
		return nil, err
	}
	p := &joinPlan{op: e.Op, leftStart: c.scope.width}
	// Conditions on the whole row help to read a side only if that side's rows are not kept without a match: a condition
	// on columns that are NULL then would drop rows it must not.
	keepsLeft := e.Op == ast.LeftOuterJoin || e.Op == ast.FullOuterJoin
	keepsRight := e.Op == ast.RightOuterJoin || e.Op == ast.FullOuterJoin
	var leftConds, rightConds []ast.Expr
	if !keepsRight {
		leftConds = conds
	}
	first := len(c.scope.relations)
	var err error
	if p.left, err = c.from(e.Left, leftConds); err != nil {
		return nil, err
	}
	p.leftEnd = c.scope.width
	var on ast.Expr
	switch j := e.Cond.(type) {
	case nil:
		if _, unnest := e.Right.(*ast.Unnest); !unnest && e.Op != ast.CrossJoin && e.Op != ast.CommaJoin {
			if _, path := c.arrayPath(e.Right); !path {
				return nil, invalid("%s must have an immediately following ON or USING clause%s", e.Op, position(e.Right))
			}
		}
	case *ast.On:
		on = j.Expr
	}
	if on != nil && !keepsRight {
		rightConds = conjuncts(on, nil)
	}
	if !keepsLeft && !keepsRight {
		rightConds = append(rightConds, conds...)
	}
	middle := len(c.scope.relations)
	using, isUsing := e.Cond.(*ast.Using)
	if isUsing && !keepsRight {
		c.usingPins, err = c.pinsOfUsing(using)
		if err != nil {
			return nil, err
		}
	}
	p.right, err = c.from(e.Right, rightConds)
	c.usingPins = nil
	if err != nil {
		return nil, err
	}
	p.rightEnd = c.scope.width
	if on != nil {
		if p.cond, err = c.bool(on, "JOIN ON clause"); err != nil {
			return nil, err
		}
	}
	if isUsing {
		if err := c.using(p, using, first, middle); err != nil {
			return nil, err
		}
	}
	switch e.Op {
	case ast.InnerJoin, ast.CrossJoin, ast.CommaJoin, ast.LeftOuterJoin:
		return sourceFunc(p.forward), nil
	case ast.RightOuterJoin:
		return sourceFunc(p.backward), nil
	case ast.FullOuterJoin:
		return sourceFunc(p.full), nil
	}
	return nil, unimplemented("%s", e.Op)
}

// pinsOfUsing finds the left side's columns of USING, which pin the right side's.
func (c *compiler) pinsOfUsing(u *ast.Using) (map[string]*expr, error) {
	pins := map[string]*expr{}
	for _, id := range u.Idents {
		slot, typ, up, ok, err := c.scope.find("", id.Name)
		if err != nil {
			return nil, err
		}
		if ok && up == 0 {
			pins[strings.ToLower(id.Name)] = slotExpr(slot, typ, 0)
		}
	}
	return pins, nil
}

// using joins the columns of USING; their bare names mean the merged columns from here on, which come first in *.
func (c *compiler) using(p *joinPlan, u *ast.Using, first, middle int) error {
	l := &scope{relations: c.scope.relations[first:middle]}
	r := &scope{relations: c.scope.relations[middle:]}
	var columns []column
	start := c.scope.width
	for _, id := range u.Idents {
		ls, lt, _, ok, err := l.find("", id.Name)
		if denied(err) {
			return err
		}
		if err != nil || !ok {
			return invalid("Column %s in USING clause not found on left side of join%s", id.Name, position(id))
		}
		rs, rt, _, ok, err := r.find("", id.Name)
		if denied(err) {
			return err
		}
		if err != nil || !ok {
			return invalid("Column %s in USING clause not found on right side of join%s", id.Name, position(id))
		}
		eq, err := comparison(ast.OpEqual, slotExpr(ls, lt, 0), slotExpr(rs, rt, 0))
		if err != nil {
			return err
		}
		if p.cond == nil {
			p.cond = eq
		} else if p.cond, err = logical(ast.OpAnd, p.cond, eq); err != nil {
			return err
		}
		if !sameType(lt, rt) {
			return unimplemented("USING of columns of the types %s and %s", TypeName(lt), TypeName(rt))
		}
		merge(l, ls)
		merge(r, rs)
		p.merged = append(p.merged, mergedColumn{left: ls, right: rs, slot: start + len(columns)})
		columns = append(columns, column{name: id.Name, typ: lt})
	}
	c.scope.add("", columns)
	// The merged columns lead the join's own relations.
	rels := c.scope.relations
	added := rels[len(rels)-1]
	copy(rels[first+1:], rels[first:len(rels)-1])
	rels[first] = added
	return nil
}

func merge(s *scope, slot int) {
	for _, rel := range s.relations {
		if i := slot - rel.offset; i >= 0 && i < len(rel.columns) {
			rel.columns[i].merged = true
		}
	}
}

// emit fills the merged columns and hands the row on.
func (p *joinPlan) emit(f *frame, next func() error) error {
	for _, m := range p.merged {
		v := f.row[m.left]
		if p.op == ast.RightOuterJoin || p.op == ast.FullOuterJoin && !v.Valid {
			v = f.row[m.right]
		}
		f.row[m.slot] = v
	}
	return next()
}

func (p *joinPlan) matches(f *frame) (bool, error) {
	if p.cond == nil {
		return true, nil
	}
	return p.cond.isTrue(f)
}

// forward is every join that takes the left rows in turn.
func (p *joinPlan) forward(f *frame, next func() error) error {
	return p.left.run(f, func() error {
		matched := false
		err := p.right.run(f, func() error {
			if ok, err := p.matches(f); err != nil || !ok {
				return err
			}
			matched = true
			return p.emit(f, next)
		})
		if err != nil || matched || p.op != ast.LeftOuterJoin {
			return err
		}
		clear(f.row[p.leftEnd:p.rightEnd])
		return p.emit(f, next)
	})
}

// rows copies the slots of a side's rows.
func rowsOf(src source, f *frame, from, to int) (rows []store.Row, err error) {
	err = src.run(f, func() error {
		rows = append(rows, append(store.Row(nil), f.row[from:to]...))
		return nil
	})
	return rows, err
}

// backward is RIGHT JOIN: the right rows in turn.
func (p *joinPlan) backward(f *frame, next func() error) error {
	left, err := rowsOf(p.left, f, p.leftStart, p.leftEnd)
	if err != nil {
		return err
	}
	return p.right.run(f, func() error {
		matched := false
		for _, l := range left {
			copy(f.row[p.leftStart:], l)
			ok, err := p.matches(f)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			matched = true
			if err := p.emit(f, next); err != nil {
				return err
			}
		}
		if matched {
			return nil
		}
		clear(f.row[p.leftStart:p.leftEnd])
		return p.emit(f, next)
	})
}

// full is FULL JOIN: the left rows in turn, then the right rows that matched none.
func (p *joinPlan) full(f *frame, next func() error) error {
	right, err := rowsOf(p.right, f, p.leftEnd, p.rightEnd)
	if err != nil {
		return err
	}
	used := make([]bool, len(right))
	err = p.left.run(f, func() error {
		matched := false
		for i, r := range right {
			copy(f.row[p.leftEnd:], r)
			ok, err := p.matches(f)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			matched, used[i] = true, true
			if err := p.emit(f, next); err != nil {
				return err
			}
		}
		if matched {
			return nil
		}
		clear(f.row[p.leftEnd:p.rightEnd])
		return p.emit(f, next)
	})
	if err != nil {
		return err
	}
	clear(f.row[p.leftStart:p.leftEnd])
	for i, r := range right {
		if used[i] {
			continue
		}
		copy(f.row[p.leftEnd:], r)
		if err := p.emit(f, next); err != nil {
			return err
		}
	}
	return nil
}

package sql

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// pin holds the conditions on one key column that a scan can use.
type pin struct {
	equal  *expr // column = expr
	list   *expr // column IN UNNEST(expr), an array
	lo, hi *bound
}

type bound struct {
	x    *expr
	open bool
}

// scan plans the reading of a table: by the primary key or an index as far as conds pin a prefix of one, else whole.
func (c *compiler) scan(t *store.Table, alias string, hint *ast.Hint, conds []ast.Expr) (source, error) {
	forced, err := c.forcedIndex(t, hint)
	if err != nil {
		return nil, err
	}
	// What the conditions compare with must come from relations already in scope, so it compiles before t is added.
	pins := c.pins(t, alias, conds)
	for name, x := range c.usingPins {
		if i := t.ColumnIndex(name); i >= 0 && pins[i] == nil && sameType(x.typ, t.Columns[i].Type) {
			pins[i] = &pin{equal: x}
		}
	}
	c.usingPins = nil // they are for the join's right side itself, not for what is joined inside it
	pending := c.pending(t)
	columns, err := readable(t, forced, pending)
	if err != nil {
		return nil, err
	}
	r := c.tableRelation(t, alias, columns)
	key, index := t.Key, forced
	if forced != nil {
		key = forced.Key
	} else if usable(pins, t.Key) == 0 {
		best := 0
		for _, x := range c.schema().IndexesOf(t) {
			if n := usable(pins, x.Key); n > best && !x.NullFiltered && store.Unreadable(t, x, pending) == nil {
				best, index, key = n, x, x.Key
			}
		}
	}
	reader := c.env.Reader
	return sourceFunc(func(f *frame, next func() error) error {
		ranges, err := keyRanges(f, t, key, pins)
		if err != nil {
			return err
		}
		var failed error
		each := func(_ store.Key, row store.Row) bool {
			copy(f.row[r.offset:], row)
			failed = next()
			return failed == nil
		}
		for _, kr := range ranges {
			switch {
			case index != nil:
				err = reader.ScanIndex(index, t, kr, each)
			case kr.Start != "" && kr.End != "" && kr.End == store.PrefixEnd(kr.Start) && store.KeyParts(t, kr.Start) == len(t.Key):
				var row store.Row
				if row, err = reader.Get(t, kr.Start); err == nil && row != nil {
					each(kr.Start, row)
				}
			default:
				err = reader.Scan(t, kr, each)
			}
			if failed != nil {
				return failed
			}
			if err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// tableRelation puts a table in scope.
func (c *compiler) tableRelation(t *store.Table, alias string, columns []column) *relation {
	r := c.scope.add(alias, columns)
	if access := c.env.Access; access != nil {
		r.mayRead = func(column int) error { return access.Columns(store.SelectPrivilege, t, column) }
	}
	return r
}

// usable is how well pins fit a key: 2 for each pinned leading column, 1 for a bounded one behind them.
func usable(pins map[int]*pin, key []store.KeyPart) int {
	n := 0
	for _, k := range key {
		p := pins[k.Column]
		switch {
		case p == nil:
			return n
		case p.equal != nil || p.list != nil:
			n += 2
		default:
			return n + 1
		}
	}
	return n
}

func (c *compiler) forcedIndex(t *store.Table, hint *ast.Hint) (*store.Index, error) {
	if hint == nil {
		return nil, nil
	}
	if err := checkHints(hint, tableHints); err != nil {
		return nil, err
	}
	for _, r := range hint.Records {
		if !strings.EqualFold(pathName(r.Key), "FORCE_INDEX") {
			continue
		}
		name := strings.ReplaceAll(r.Value.SQL(), "`", "")
		if strings.EqualFold(name, "_BASE_TABLE") {
			return nil, nil
		}
		x := c.schema().Index(name)
		if x == nil || x.Managed || !strings.EqualFold(x.Table, t.QualifiedName()) {
			return nil, invalid("The table %s does not have a secondary index called %s", t.QualifiedName(), name)
		}
		return x, nil
	}
	return nil, nil
}

// pins finds, among conditions that all hold, those that compare a column of t with something known before t is read.
func (c *compiler) pins(t *store.Table, alias string, conds []ast.Expr) map[int]*pin {
	out := map[int]*pin{}
	at := func(i int) *pin {
		if out[i] == nil {
			out[i] = &pin{}
		}
		return out[i]
	}
	for _, e := range conds {
		switch e := e.(type) {
		case *ast.BinaryExpr:
			op, i, other := e.Op, c.columnOf(t, alias, e.Left), e.Right
			if i < 0 {
				i, other = c.columnOf(t, alias, e.Right), e.Left
				op = mirrored[op]
			}
			if i < 0 {
				continue
			}
			x := c.known(t, i, alias, other)
			if x == nil {
				continue
			}
			switch op {
			case ast.OpEqual:
				at(i).equal = x
			case ast.OpGreater, ast.OpGreaterEqual:
				at(i).lo = &bound{x, op == ast.OpGreater}
			case ast.OpLess, ast.OpLessEqual:
				at(i).hi = &bound{x, op == ast.OpLess}
			}
		case *ast.BetweenExpr:
			i := c.columnOf(t, alias, e.Left)
			if i < 0 || e.Not {
				continue
			}
			lo, hi := c.known(t, i, alias, e.RightStart), c.known(t, i, alias, e.RightEnd)
			if lo != nil && hi != nil {
				at(i).lo, at(i).hi = &bound{x: lo}, &bound{x: hi}
			}
		case *ast.InExpr:
			i := c.columnOf(t, alias, e.Left)
			if i < 0 || e.Not {
				continue
			}
			if x := c.knownList(t, i, alias, e.Right); x != nil {
				at(i).list = x
			}
		}
	}
	return out
}

var mirrored = map[ast.BinaryOp]ast.BinaryOp{
	ast.OpEqual: ast.OpEqual, ast.OpLess: ast.OpGreater, ast.OpLessEqual: ast.OpGreaterEqual,
	ast.OpGreater: ast.OpLess, ast.OpGreaterEqual: ast.OpLessEqual,
}

// columnOf is the column of t that an expression is, or -1. A bare name that an earlier relation also has is ambiguous
// and will be refused elsewhere.
func (c *compiler) columnOf(t *store.Table, alias string, e ast.Expr) int {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return c.columnOf(t, alias, e.Expr)
	case *ast.Ident:
		for _, r := range c.scope.relations {
			for _, col := range r.columns {
				if strings.EqualFold(col.name, e.Name) {
					return -1
				}
			}
		}
		return t.ColumnIndex(e.Name)
	case *ast.Path:
		if len(e.Idents) == 2 && strings.EqualFold(e.Idents[0].Name, alias) {
			return t.ColumnIndex(e.Idents[1].Name)
		}
	}
	return -1
}

// known compiles an expression if it does not depend on t itself, and brings it to the type of column i.
func (c *compiler) known(t *store.Table, i int, alias string, e ast.Expr) *expr {
	if mentions(e, t, alias) {
		return nil
	}
	x, err := c.expr(e)
	if err != nil {
		return nil
	}
	if x, err = coerce(x, t.Columns[i].Type); err != nil || x.typ == nil {
		return nil
	}
	return x
}

// mentions reports whether an expression names t, or any bare column that t has: such a name means t's column here even
// if an outer query has one too.
func mentions(e ast.Expr, t *store.Table, alias string) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			found = found || t.ColumnIndex(n.Name) >= 0 || strings.EqualFold(n.Name, alias)
		case *ast.Path: // of a column and its fields, or of an alias and its column
			found = found || t.ColumnIndex(n.Idents[0].Name) >= 0 || strings.EqualFold(n.Idents[0].Name, alias)
			return false
		case ast.QueryExpr:
			found = true // a sub-query may be correlated; it is not worth the risk
		}
		return !found
	})
	return found
}

func (c *compiler) knownList(t *store.Table, i int, alias string, in ast.InCondition) *expr {
	arrayType := &store.Type{Code: store.Array, Elem: t.Columns[i].Type}
	switch in := in.(type) {
	case *ast.UnnestInCondition:
		if mentions(in.Expr, t, alias) {
			return nil
		}
		x, err := c.expr(in.Expr)
		if err != nil || !sameType(x.typ, arrayType) {
			return nil
		}
		return x
	case *ast.ValuesInCondition:
		var items []*expr
		for _, e := range in.Exprs {
			x := c.known(t, i, alias, e)
			if x == nil {
				return nil
			}
			items = append(items, x)
		}
		return derived(arrayType, func(f *frame) (store.Value, error) {
			out := store.Value{Valid: true}
			for _, it := range items {
				v, err := it.eval(f)
				if err != nil {
					return store.Value{}, err
				}
				out.List = append(out.List, v)
			}
			return out, nil
		}, items...)
	}
	return nil
}

// maxProbes bounds the key prefixes that lists are multiplied out to; beyond it, the rest is filtered by the condition.
const maxProbes = 10000

// keyRanges evaluates pins to ranges of encoded keys, in key order and disjoint.
func keyRanges(f *frame, t *store.Table, key []store.KeyPart, pins map[int]*pin) ([]store.Range, error) {
	prefixes := []store.Key{""}
	for _, k := range key {
		p := pins[k.Column]
		if p == nil {
			break
		}
		col := &t.Columns[k.Column]
		var values []store.Value
		switch {
		case p.equal != nil:
			v, err := p.equal.eval(f)
			if err != nil {
				return nil, err
			}
			values = []store.Value{v}
		case p.list != nil:
			v, err := p.list.eval(f)
			if err != nil {
				return nil, err
			}
			values = v.List
		default:
			return bounded(f, prefixes, col, k.Desc, p)
		}
		if len(prefixes)*len(values) > maxProbes {
			break
		}
		var next []store.Key
		for _, pre := range prefixes {
			for _, v := range values {
				// A comparison with NULL is never true; the API does not let NaN equal itself either.
				if v.Valid && v.Float == v.Float && !v.IsPendingCommitTimestamp() {
					next = append(next, store.Key(store.AppendKeyPart([]byte(pre), col.Type, v, k.Desc)))
				}
			}
		}
		slices.Sort(next)
		prefixes = slices.Compact(next)
	}
	out := make([]store.Range, len(prefixes))
	for i, p := range prefixes {
		if p != "" {
			out[i] = store.PrefixRange(p)
		}
	}
	return out, nil
}

// bounded narrows each prefix by comparisons on the next key column.
func bounded(f *frame, prefixes []store.Key, col *store.Column, desc bool, p *pin) ([]store.Range, error) {
	lo, hi := p.lo, p.hi
	if desc {
		lo, hi = hi, lo
	}
	var out []store.Range
	for _, pre := range prefixes {
		// NULLs never satisfy a comparison. They are left in the range, for the condition itself to drop.
		r := store.Range{Start: pre, End: store.PrefixEnd(pre)}
		if lo != nil {
			v, err := lo.x.eval(f)
			if err != nil || !v.Valid {
				return nil, err
			}
			k := store.Key(store.AppendKeyPart([]byte(pre), col.Type, v, desc))
			if r.Start = k; lo.open {
				r.Start = store.PrefixEnd(k)
			}
		}
		if hi != nil {
			v, err := hi.x.eval(f)
			if err != nil || !v.Valid {
				return nil, err
			}
			k := store.Key(store.AppendKeyPart([]byte(pre), col.Type, v, desc))
			if r.End = store.PrefixEnd(k); hi.open {
				r.End = k
			}
		}
		if r.End == "" || cmp.Compare(r.Start, r.End) < 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

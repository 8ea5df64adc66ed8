package store

import (
	"slices"

	"github.com/google/btree"
	"google.golang.org/grpc/codes"
)

// pending is what a transaction has done to one row so far, relative to the row before it.
type pending struct {
	table *Table
	key   Key
	old   Row // before the transaction; nil if absent
	cur   Row // now; nil if absent
	// replaced says that a row which was there before has been deleted and inserted again.
	replaced bool
	written  []bool // columns written by updates of a row that was there before
}

// buffer holds a transaction's writes: by table in key order, and in the order the rows were first touched.
type buffer struct {
	trees map[int64]*btree.BTreeG[*pending]
	order []*pending
	undo  []undo
	// cells counts written columns and deleted rows, as commit statistics do.
	cells int64
}

type undo struct {
	p     *pending
	was   pending
	fresh bool
}

func (b *buffer) get(t *Table, k Key) *pending {
	if tr := b.trees[t.ID]; tr != nil {
		if p, ok := tr.Get(&pending{key: k}); ok {
			return p
		}
	}
	return nil
}

func (b *buffer) scan(t *Table, r Range, fn func(*pending) bool) {
	tr := b.trees[t.ID]
	if tr == nil {
		return
	}
	if r.End == "" {
		tr.AscendGreaterOrEqual(&pending{key: r.Start}, fn)
		return
	}
	tr.AscendRange(&pending{key: r.Start}, &pending{key: r.End}, fn)
}

func (b *buffer) add(p *pending) {
	if b.trees == nil {
		b.trees = map[int64]*btree.BTreeG[*pending]{}
	}
	tr := b.trees[p.table.ID]
	if tr == nil {
		tr = btree.NewG(16, func(x, y *pending) bool { return x.key < y.key })
		b.trees[p.table.ID] = tr
	}
	tr.ReplaceOrInsert(p)
	b.order = append(b.order, p)
}

// rollback undoes everything in the undo log.
func (b *buffer) rollback() {
	for _, u := range slices.Backward(b.undo) {
		if u.fresh {
			b.trees[u.p.table.ID].Delete(u.p)
			b.order = b.order[:len(b.order)-1]
			continue
		}
		*u.p = u.was
	}
}

// view reads the rows a transaction starts from.
type view interface {
	schemaVersion() *Schema
	row(t *Table, k Key) Row
	rows(t *Table, r Range, fn func(Key, Row) bool)
	entries(x *Index, r Range, fn func(k, pk Key) bool)
}

// effects applies mutations to a buffer over a view. All checks but those of unique indexes happen here.
type effects struct {
	buf  *buffer
	view view
	// latest is what columns of commit timestamps may hold at most: the present, in microseconds since 1970.
	latest int64
}

// touch returns the pending state of a row, making it if need be, and notes it for undo.
func (e effects) touch(t *Table, k Key) *pending {
	if p := e.buf.get(t, k); p != nil {
		e.buf.undo = append(e.buf.undo, undo{p: p, was: *p})
		return p
	}
	old := e.view.row(t, k)
	p := &pending{table: t, key: k, old: old, cur: old}
	e.buf.add(p)
	e.buf.undo = append(e.buf.undo, undo{p: p, fresh: true})
	return p
}

func (e effects) exists(t *Table, k Key) bool {
	if p := e.buf.get(t, k); p != nil {
		return p.cur != nil
	}
	return e.view.row(t, k) != nil
}

// keysIn returns the keys of the rows in r as the transaction sees them, in order.
func (e effects) keysIn(t *Table, r Range) []Key {
	var keys []Key
	e.view.rows(t, r, func(k Key, _ Row) bool {
		if p := e.buf.get(t, k); p == nil || p.cur != nil {
			keys = append(keys, k)
		}
		return true
	})
	n := len(keys)
	e.buf.scan(t, r, func(p *pending) bool {
		if p.cur != nil && p.old == nil {
			keys = append(keys, p.key)
		}
		return true
	})
	if len(keys) > n {
		slices.Sort(keys)
	}
	return keys
}

// applyAll carries out mutations and then checks foreign keys. The undo log is empty before.
func (e effects) applyAll(ms []Mutation) error {
	if err := checkCascades(e.view.schemaVersion(), ms); err != nil {
		return err
	}
	for _, m := range ms {
		if err := e.apply(m); err != nil {
			return err
		}
	}
	if !e.view.schemaVersion().hasForeignKeys() {
		return nil
	}
	var touched []*pending
	seen := map[*pending]bool{}
	for _, u := range e.buf.undo {
		if !seen[u.p] {
			seen[u.p] = true
			touched = append(touched, u.p)
		}
	}
	return e.checkReferences(touched)
}

// apply carries out one mutation, row by row.
func (e effects) apply(m Mutation) error {
	if m.Op == DeleteRows {
		for _, r := range m.Ranges {
			for _, k := range e.keysIn(m.Table, r) {
				if err := e.delete(m.Table, k); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, values := range m.Rows {
		if err := e.write(m, values); err != nil {
			return err
		}
	}
	return nil
}

func (e effects) write(m Mutation, values Row) error {
	t := m.Table
	given := make(Row, len(t.Columns))
	isGiven := make([]bool, len(t.Columns))
	for i, c := range m.Columns {
		given[c], isGiven[c] = values[i], true
		if t.Columns[c].Generated != "" {
			return Errorf(codes.FailedPrecondition, "cannot write to generated column %s of table %s", t.Columns[c].Name, t.QualifiedName())
		}
		// A bad value is found before a missing row, as in Spanner.
		if err := checkValue(t, &t.Columns[c], values[i]); err != nil {
			return err
		}
		if err := checkFuture(t, c, values[i], e.latest); err != nil {
			return err
		}
	}
	op := m.Op
	// Key columns that are absent are filled by their defaults where the row may be new, else missing.
	for _, p := range t.Key {
		c := &t.Columns[p.Column]
		switch {
		case isGiven[p.Column] || c.Generated != "":
		case c.HasDefault() && op != UpdateRow:
			v, err := c.Compute(nil)
			if err != nil {
				return err
			}
			given[p.Column], isGiven[p.Column] = v, true
		case op == UpdateRow || c.NotNull:
			return Errorf(codes.FailedPrecondition, "primary key column %s of table %s is not specified", c.Name, t.QualifiedName())
		}
	}
	if err := computeKey(t, given); err != nil {
		return err
	}
	key := t.KeyOf(given)
	e.buf.cells += int64(len(m.Columns))
	there := e.exists(t, key)
	switch op {
	case InsertRow:
		if there {
			return Errorf(codes.AlreadyExists, "row %s in table %s already exists", FormatKey(t, given), t.QualifiedName())
		}
	case UpdateRow:
		if !there {
			return Errorf(codes.NotFound, "row %s in table %s is missing; it cannot be updated", FormatKey(t, given), t.QualifiedName())
		}
	case InsertOrUpdateRow:
		op = InsertRow
		if there {
			op = UpdateRow
		}
	case ReplaceRow:
		op = InsertRow
		if there {
			// The row's interleaved children go with it, as the DELETE that REPLACE implies.
			if err := e.delete(t, key); err != nil {
				return err
			}
		}
	default:
		return Errorf(codes.Internal, "unknown mutation operation %d", op)
	}
	row := given
	if op == InsertRow {
		if err := e.checkParent(t, given); err != nil {
			return err
		}
		for i := range t.Columns {
			c := &t.Columns[i]
			if !isGiven[i] && c.HasDefault() {
				v, err := c.Compute(nil)
				if err != nil {
					return err
				}
				row[i] = v
			}
		}
	} else {
		row = slices.Clone(e.current(t, key))
		for i := range row {
			if isGiven[i] {
				row[i] = given[i]
			}
		}
	}
	for _, i := range t.ComputeOrder {
		if t.IsKey(i) {
			continue
		}
		v, err := t.Columns[i].Compute(row)
		if err != nil {
			return err
		}
		row[i] = v
	}
	if err := checkRow(t, row); err != nil {
		return err
	}
	p := e.touch(t, key)
	p.cur = row
	if op == InsertRow {
		p.replaced = p.old != nil
		p.written = nil
		return nil
	}
	if p.old != nil && !p.replaced {
		w := make([]bool, len(t.Columns))
		copy(w, p.written)
		for i := range w {
			w[i] = w[i] || isGiven[i] && !t.IsKey(i)
		}
		p.written = w
	}
	return nil
}

// computeKey fills the generated columns of the key, and those they use.
func computeKey(t *Table, r Row) error {
	for _, i := range t.ComputeOrder {
		if !t.IsKey(i) && !t.hasGeneratedKey() {
			continue
		}
		v, err := t.Columns[i].Compute(r)
		if err != nil {
			return err
		}
		r[i] = v
	}
	return nil
}

func (e effects) current(t *Table, k Key) Row {
	if p := e.buf.get(t, k); p != nil {
		return p.cur
	}
	return e.view.row(t, k)
}

func (e effects) checkParent(t *Table, r Row) error {
	if t.Parent == "" || !t.ParentEnforced {
		return nil
	}
	parent := e.view.schemaVersion().Table(t.Parent)
	if parent == nil {
		return Errorf(codes.Internal, "table %s is interleaved in %s, which does not exist", t.QualifiedName(), t.Parent)
	}
	var b []byte
	for i := range parent.Key {
		p := t.Key[i]
		b = AppendKeyPart(b, t.Columns[p.Column].Type, r[p.Column], p.Desc)
	}
	if !e.exists(parent, Key(b)) {
		return Errorf(codes.NotFound, "parent row for row %s in table %s is missing from %s: a row cannot be written before its parent", FormatKey(t, r), t.QualifiedName(), t.Parent)
	}
	return nil
}

// delete removes one row that is there, and its children first.
func (e effects) delete(t *Table, k Key) error {
	for _, child := range e.view.schemaVersion().Children(t) {
		keys := e.keysIn(child, PrefixRange(k))
		if len(keys) > 0 && !child.OnDeleteCascade {
			return Errorf(codes.FailedPrecondition, "cannot delete a row of table %s: rows of its interleaved table %s refer to it, which has no ON DELETE CASCADE", t.QualifiedName(), child.QualifiedName())
		}
		for _, ck := range keys {
			if err := e.delete(child, ck); err != nil {
				return err
			}
		}
	}
	p := e.touch(t, k)
	gone := p.cur
	p.cur, p.replaced, p.written = nil, false, nil
	e.buf.cells++
	return e.deleteReferring(t, gone)
}

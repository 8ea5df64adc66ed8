package store

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// referrer is a foreign key together with the table it belongs to.
type referrer struct {
	table *Table
	fk    *ForeignKey
}

func (s *Schema) hasForeignKeys() bool {
	for _, t := range s.Tables {
		if len(t.ForeignKeys) > 0 {
			return true
		}
	}
	return false
}

// referringTo lists the enforced foreign keys that refer to t.
func (s *Schema) referringTo(t *Table) []referrer {
	var out []referrer
	for _, c := range s.Tables {
		for i := range c.ForeignKeys {
			if fk := &c.ForeignKeys[i]; !fk.NotEnforced && strings.EqualFold(fk.RefTable, t.QualifiedName()) {
				out = append(out, referrer{c, fk})
			}
		}
	}
	return out
}

// pick takes columns by name out of a row; ok is false where one is NULL: such a row refers to nothing.
func pick(t *Table, r Row, names []string) (cols []int, vs []Value, ok bool) {
	for _, n := range names {
		i := t.ColumnIndex(n)
		if i < 0 || !r[i].Valid {
			return nil, nil, false
		}
		cols, vs = append(cols, i), append(vs, r[i])
	}
	return cols, vs, true
}

// leading encodes the values as the beginning of a key, or fails if the key does not begin with those columns, in any
// order.
func leading(t *Table, key []KeyPart, cols []int, vs []Value) (Key, bool) {
	if len(key) < len(cols) {
		return "", false
	}
	var b []byte
	for _, p := range key[:len(cols)] {
		found := false
		for j, c := range cols {
			if c == p.Column {
				b = AppendKeyPart(b, t.Columns[c].Type, vs[j], p.Desc)
				found = true
				break
			}
		}
		if !found {
			return "", false
		}
	}
	return Key(b), true
}

// find returns the keys of t's rows that have the values, as the transaction sees them.
func (e effects) find(t *Table, cols []int, vs []Value) []Key {
	if k, ok := leading(t, t.Key, cols, vs); ok {
		return e.keysIn(t, PrefixRange(k))
	}
	for _, x := range e.view.schemaVersion().IndexesOf(t) {
		k, ok := leading(t, x.Key, cols, vs)
		if !ok || x.NullFiltered && len(x.Key) > len(cols) {
			continue // it may leave out rows that have the values, for a NULL behind them
		}
		r := PrefixRange(k)
		var keys []Key
		e.view.entries(x, r, func(_, pk Key) bool {
			if e.buf.get(t, pk) == nil {
				keys = append(keys, pk)
			}
			return true
		})
		e.buf.scan(t, Range{}, func(p *pending) bool {
			if p.cur != nil {
				if entry, _, in := x.entryKey(t, p.cur, p.key); in && r.Contains(entry) {
					keys = append(keys, p.key)
				}
			}
			return true
		})
		return keys
	}
	return nil // every foreign key has a key or an index on both sides
}

// deleteReferring deletes the rows whose foreign keys refer to a deleted row and say ON DELETE CASCADE.
func (e effects) deleteReferring(t *Table, gone Row) error {
	if gone == nil {
		return nil
	}
	for _, ref := range e.view.schemaVersion().referringTo(t) {
		if !ref.fk.Cascade {
			continue
		}
		_, vs, ok := pick(t, gone, ref.fk.RefColumns)
		if !ok {
			continue
		}
		for _, k := range e.find(ref.table, columnsOf(ref.table, ref.fk.Columns), vs) {
			if !e.exists(ref.table, k) {
				continue // deleted meanwhile, by way of another cascade
			}
			if err := e.delete(ref.table, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func columnsOf(t *Table, names []string) []int {
	out := make([]int, len(names))
	for i, n := range names {
		out[i] = t.ColumnIndex(n)
	}
	return out
}

// sameIn reports whether two rows have the same values in some columns.
func sameIn(t *Table, cols []int, a, b Row) bool {
	for _, c := range cols {
		if a[c].Valid != b[c].Valid || Compare(t.Columns[c].Type, a[c], b[c]) != 0 {
			return false
		}
	}
	return true
}

// checkCascades refuses mutations of which one writes a column that a foreign key with ON DELETE CASCADE refers to and
// another deletes that row, in whichever order and whether or not the row is there. A REPLACE does both. Spanner forbids it
// within one commit's mutations; DML statements come one by one and may.
func checkCascades(s *Schema, ms []Mutation) error {
	if !s.hasForeignKeys() {
		return nil
	}
	deleted := map[int64][]Range{}
	for _, m := range ms {
		if m.Op == DeleteRows {
			deleted[m.Table.ID] = append(deleted[m.Table.ID], m.Ranges...)
		}
	}
	for _, m := range ms {
		ranges := deleted[m.Table.ID]
		if m.Op == DeleteRows || m.Op != ReplaceRow && len(ranges) == 0 {
			continue
		}
		column := s.cascadeColumn(m)
		if column == "" {
			continue
		}
		for _, row := range m.Rows {
			k, ok := m.key(row)
			if m.Op == ReplaceRow || ok && slices.ContainsFunc(ranges, func(r Range) bool { return r.Contains(k) }) {
				return Errorf(codes.FailedPrecondition, "Cannot write a value for the referenced column `%s.%s` and delete it in the same transaction.", m.Table.QualifiedName(), column)
			}
		}
	}
	return nil
}

// cascadeColumn is the first column of a write that a foreign key with ON DELETE CASCADE refers to, or "".
func (s *Schema) cascadeColumn(m Mutation) string {
	for _, ref := range s.referringTo(m.Table) {
		for _, name := range ref.fk.RefColumns {
			if ref.fk.Cascade && slices.Contains(m.Columns, m.Table.ColumnIndex(name)) {
				return name
			}
		}
	}
	return ""
}

// checkReferences refuses a state in which touched rows break foreign keys.
func (e effects) checkReferences(touched []*pending) error {
	s := e.view.schemaVersion()
	for _, p := range touched {
		if p.cur != nil {
			if err := e.checkRefers(s, p.table, p.cur); err != nil {
				return err
			}
		}
		if p.old == nil {
			continue
		}
		for _, ref := range s.referringTo(p.table) {
			_, was, ok := pick(p.table, p.old, ref.fk.RefColumns)
			if !ok {
				continue
			}
			cols := columnsOf(p.table, ref.fk.RefColumns)
			if p.cur != nil && sameIn(p.table, cols, p.old, p.cur) {
				continue // whatever refers to it still does
			}
			if len(e.find(ref.table, columnsOf(ref.table, ref.fk.Columns), was)) > 0 && len(e.find(p.table, cols, was)) == 0 {
				return Errorf(codes.FailedPrecondition, "Foreign key constraint violation when deleting or updating referenced row(s): referencing row(s) found in table `%s`, constraint `%s`", ref.table.QualifiedName(), ref.fk.Name)
			}
		}
	}
	return nil
}

// checkRefers refuses a row whose foreign keys find nothing.
func (e effects) checkRefers(s *Schema, t *Table, r Row) error {
	for i := range t.ForeignKeys {
		fk := &t.ForeignKeys[i]
		if fk.NotEnforced {
			continue
		}
		_, vs, ok := pick(t, r, fk.Columns)
		if !ok {
			continue
		}
		to := s.Table(fk.RefTable)
		if to == nil {
			return Errorf(codes.Internal, "foreign key %s of table %s refers to %s, which does not exist", fk.Name, t.QualifiedName(), fk.RefTable)
		}
		if len(e.find(to, columnsOf(to, fk.RefColumns), vs)) == 0 {
			return Errorf(codes.FailedPrecondition, "Foreign key constraint `%s` is violated on table `%s`. Cannot find referenced values in %s(%s).", fk.Name, t.QualifiedName(), fk.RefTable, strings.Join(fk.RefColumns, ", "))
		}
	}
	return nil
}

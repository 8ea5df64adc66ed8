package store

import (
	"slices"

	"google.golang.org/grpc/codes"
)

// ownKeys are the index keys that a transaction's own rows have in unique indexes: index to indexed values to primary key.
type ownKeys map[int64]map[Key]Key

// settle checks what a statement has done to the rows it touched, those in the undo log, for what commit checks
// again on the newest rows: a client is told by the statement, as Spanner does. It reads nothing that the commit depends on.
// It also notes the columns that can no longer be read. The caller holds t.mu.
func (t *Txn) settle() error {
	if len(t.buf.undo) == 0 {
		return nil
	}
	base := t.pin()
	unique := map[*Table][]*Index{}
	for _, u := range t.buf.undo {
		p := u.p
		if _, known := unique[p.table]; !known {
			unique[p.table] = uniqueIndexes(base.schema, p.table)
		}
		if p.cur == nil {
			continue
		}
		for i := range p.cur {
			if p.table.Columns[i].Type.Code == Timestamp && p.cur[i].IsPendingCommitTimestamp() {
				t.stamped(p.table, i)
			}
		}
	}
	if err := t.checkUnique(base, unique, t.buf.undo); err != nil {
		t.own = nil // half done: it is made anew if the transaction goes on
		return err
	}
	return nil
}

func uniqueIndexes(s *Schema, t *Table) (out []*Index) {
	for _, x := range s.IndexesOf(t) {
		if x.Unique {
			out = append(out, x)
		}
	}
	return out
}

// checkUnique moves the rows of an undo log within t.own, and refuses a second row with the same values in a unique index.
func (t *Txn) checkUnique(base *Snapshot, unique map[*Table][]*Index, log []undo) error {
	if t.own == nil {
		t.own = ownKeys{}
		log = nil
		for _, p := range t.buf.order {
			log = append(log, undo{p: p, fresh: true})
			if _, known := unique[p.table]; !known {
				unique[p.table] = uniqueIndexes(base.schema, p.table)
			}
		}
	}
	for _, u := range log {
		if u.fresh || u.was.cur == nil {
			continue
		}
		for _, x := range unique[u.p.table] {
			if k, prefix, in := x.entryKey(u.p.table, u.was.cur, u.p.key); in && t.own[x.ID][k[:prefix]] == u.p.key {
				delete(t.own[x.ID], k[:prefix])
			}
		}
	}
	for _, u := range log {
		p := u.p
		if p.cur == nil {
			continue
		}
		for _, x := range unique[p.table] {
			k, prefix, in := x.entryKey(p.table, p.cur, p.key)
			if !in {
				continue
			}
			values := k[:prefix]
			holder, taken := t.own[x.ID][values]
			taken = taken && holder != p.key
			base.entries(x, PrefixRange(values), func(_, pk Key) bool {
				taken = taken || pk != p.key && t.buf.get(p.table, pk) == nil
				return !taken
			})
			if taken {
				return notUnique(x, p.table, p.cur)
			}
			if t.own[x.ID] == nil {
				t.own[x.ID] = map[Key]Key{}
			}
			t.own[x.ID][values] = p.key
		}
	}
	return nil
}

func notUnique(x *Index, t *Table, r Row) error {
	return Errorf(codes.AlreadyExists, "unique index violation on index %s of table %s: another row has the index key of row %s", x.QualifiedName(), x.Table, FormatKey(t, r))
}

// stamped notes that a statement has written the commit timestamp, which nobody knows yet, to a column.
func (t *Txn) stamped(tab *Table, column int) {
	if t.pending == nil {
		t.pending = map[int64][]bool{}
	}
	if t.pending[tab.ID] == nil {
		t.pending[tab.ID] = make([]bool, len(tab.Columns))
	}
	t.pending[tab.ID][column] = true
}

// Pending reports, for each column of tab, whether the transaction's statements have written the commit timestamp to it, so
// that it cannot be read in this transaction any more; nil if none has. The slice must not be changed.
func (t *Txn) Pending(tab *Table) []bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending[tab.ID]
}

// Unreadable is why a transaction cannot read columns of tab, by an index or, if that is nil, by the primary key, when pending
// of its columns hold its commit timestamp; nil if it can. A key that is pending makes the whole table or index unreadable.
func Unreadable(tab *Table, by *Index, pending []bool, columns ...int) error {
	what := ""
	for i, is := range pending {
		switch {
		case !is:
		case tab.IsKey(i):
			what = "Table " + tab.QualifiedName()
		case by != nil && slices.ContainsFunc(by.Key, func(k KeyPart) bool { return k.Column == i }):
			what = "Index " + by.QualifiedName()
		case slices.Contains(columns, i) && what == "":
			what = "Column " + tab.Columns[i].Name
		}
	}
	if what == "" {
		return nil
	}
	return Errorf(codes.InvalidArgument, "%s cannot be accessed because it, or its associated index, has a pending CommitTimestamp: read it before the statement that uses PENDING_COMMIT_TIMESTAMP(), or after the commit", what)
}

package store

import (
	"slices"

	"google.golang.org/grpc/codes"
)

// CommitRequest is what Commit adds to a transaction's own writes.
type CommitRequest struct {
	// Schema is the version that Mutations refer to; needed only with Mutations.
	Schema *Schema
	// Mutations are applied after the transaction's statements, in order, to the newest rows.
	Mutations []Mutation
	// Tag is the transaction tag, System marks system transactions, Excluded is exclude_txn_from_change_streams.
	Tag      string
	System   bool
	Excluded bool
	// Cancel, once closed, ends the wait for transactions with the right of way: the commit then fails with CANCELLED. nil
	// is never.
	Cancel <-chan struct{}
}

// CommitResult is what a committed transaction is told.
type CommitResult struct {
	// Timestamp is the commit timestamp in microseconds since 1970.
	Timestamp int64
	// MutationCount is what Spanner's commit statistics count: a written row once for each column named in the write, a
	// deleted row once, and the changes of index entries likewise.
	MutationCount int64
}

// Commit makes the transaction's writes durable and visible at one new timestamp. An error leaves the database as it
// was; code ABORTED means that something the transaction read has changed and the whole transaction should be tried
// again. The transaction is over either way.
func (t *Txn) Commit(req CommitRequest) (CommitResult, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.end()
	if err := t.usable(); err != nil {
		t.db.giveWay(t)
		return CommitResult{}, err
	}
	return t.db.commit(t, req)
}

// Alone runs fn with a new transaction and commits it, while no other transaction commits: it never conflicts. fn must
// not use the database but through its transaction, and must not end it. fn's error takes the transaction back.
func (db *Database) Alone(o TxnOptions, fn func(*Txn) (CommitRequest, error)) (CommitResult, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	o.RightOfWay = 0 // it has more than that
	t := db.BeginWith(o)
	req, err := fn(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.end()
	if err != nil {
		return CommitResult{}, err
	}
	res, _, err := db.commitLocked(t, req, true)
	return res, err
}

// commit commits once no transaction has the right of way over t any more. The caller holds t.mu.
func (db *Database) commit(t *Txn, req CommitRequest) (CommitResult, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	defer db.endClaim(t)
	for {
		res, first, err := db.commitLocked(t, req, false)
		if first == nil {
			return res, err
		}
		if err := db.letPass(first, req.Cancel); err != nil {
			return CommitResult{}, err
		}
	}
}

// commitLocked commits, unless another transaction has the right of way, which it then returns: nothing has happened. The
// caller holds db.mu and t.mu. alone says that there is nobody to wait for.
func (db *Database) commitLocked(t *Txn, req CommitRequest, alone bool) (res CommitResult, first *Txn, err error) {
	old := db.current.Load()
	if what := t.conflict(old); what != "" {
		return res, nil, Errorf(codes.Aborted, "transaction was aborted: %s changed since it was read; retry the transaction", what)
	}
	if len(req.Mutations) > 0 && req.Schema != old.schema {
		return res, nil, Errorf(codes.Aborted, "transaction was aborted: the schema changed while its mutations were prepared; retry the transaction")
	}
	ts := db.nextTimestamp()
	buf := stamp(&t.buf, ts)
	now := &Snapshot{db: db, st: old, ts: ts, schema: old.schema}
	eff := effects{buf: buf, view: now, latest: ts}
	ms := make([]Mutation, len(req.Mutations))
	for i, m := range req.Mutations {
		if ms[i], err = stampMutation(m, ts); err != nil {
			return res, nil, err
		}
	}
	if err := eff.applyAll(ms); err != nil {
		return res, nil, err
	}
	if what := t.overwritten(old, buf); what != "" {
		return res, nil, Errorf(codes.Aborted, "transaction was aborted: %s was written since the transaction's snapshot; retry the transaction", what)
	}
	w := &writer{db: db, ts: ts, st: old.clone(), claims: db.first}
	w.st.ts = ts
	changes, err := w.write(buf)
	if err != nil {
		return res, nil, err
	}
	count := buf.cells + w.indexCells
	if err := t.opts.checkMutations(count); err != nil {
		return res, nil, err
	}
	if err := t.opts.checkSize(w.size); err != nil {
		return res, nil, err
	}
	if first := w.inTheWay(t); first != nil && !alone {
		return res, first, nil
	}
	// From here on nothing fails: the garbage, the state and the observers belong to a commit that happened.
	for _, other := range w.broken {
		db.endClaim(other)
	}
	db.garbage = append(db.garbage, w.garbage...)
	db.collect(w, collectAtLeast+2*len(w.garbage))
	db.last = ts
	db.current.Store(w.st)
	if db.opts.Observe != nil {
		db.opts.Observe(&Commit{
			Timestamp: ts, TransactionID: db.newTransactionID(),
			Tag: req.Tag, System: req.System, Excluded: req.Excluded, Changes: changes,
		})
	}
	return CommitResult{Timestamp: ts, MutationCount: count}, nil, nil
}

// stamp returns the statements' buffer with the commit timestamp in place of its placeholders. Keys that contain one
// are made anew, so the buffer is rebuilt.
func stamp(b *buffer, ts int64) *buffer {
	out := &buffer{cells: b.cells}
	for _, p := range b.order {
		q := *p
		if q.cur != nil {
			q.cur = stampRow(q.table, q.cur, ts)
			q.key = q.table.KeyOf(q.cur)
		}
		out.add(&q)
	}
	return out
}

func stampRow(t *Table, r Row, ts int64) Row {
	copied := false
	for i := range r {
		if t.Columns[i].Type.Code == Timestamp && r[i].IsPendingCommitTimestamp() {
			if !copied {
				r, copied = slices.Clone(r), true
			}
			r[i] = MicrosValue(ts)
		}
	}
	return r
}

// stampMutation replaces placeholders where the column allows them; elsewhere they stay for checkRow to refuse.
func stampMutation(m Mutation, ts int64) (_ Mutation, err error) {
	if m.RangesAt != nil {
		m.Ranges, err = m.RangesAt(ts)
		return m, err
	}
	for _, c := range m.Columns {
		if m.Table.Columns[c].AllowCommitTimestamp {
			return stampRows(m, ts), nil
		}
	}
	return m, nil
}

func stampRows(m Mutation, ts int64) Mutation {
	rows := make([]Row, len(m.Rows))
	for i, r := range m.Rows {
		rows[i] = slices.Clone(r)
		for j, c := range m.Columns {
			if m.Table.Columns[c].AllowCommitTimestamp && rows[i][j].IsPendingCommitTimestamp() {
				rows[i][j] = MicrosValue(ts)
			}
		}
	}
	m.Rows = rows
	return m
}

// checkFuture refuses a value of a commit-timestamp column that lies after latest, which Spanner never lets in.
func checkFuture(t *Table, column int, v Value, latest int64) error {
	c := &t.Columns[column]
	if c.AllowCommitTimestamp && c.Type.Code == Timestamp && !v.IsPendingCommitTimestamp() && Compare(c.Type, v, MicrosValue(latest)) > 0 {
		return Errorf(codes.FailedPrecondition, "cannot write timestamps in the future to column %s of table %s, which holds commit timestamps", c.Name, t.QualifiedName())
	}
	return nil
}

// storedCells is what an update counts in an index whose entry stays where it is: nothing, or the stored columns that it
// wrote and the entry itself.
func (x *Index) storedCells(p *pending) (n int64) {
	for _, c := range x.Storing {
		if p.replaced || p.written != nil && p.written[c] {
			n++
		}
	}
	if n > 0 {
		n++
	}
	return n
}

// writer builds the state that a commit publishes. It runs under the commit lock.
type writer struct {
	db      *Database
	ts      int64
	st      *state
	cloned  map[int64]bool
	garbage []garbage
	// claims are the transactions with the right of way, broken those of them that have read what is written.
	claims, broken []*Txn
	// size is the bytes of the written rows and index entries, indexCells the mutations that index entries count as.
	size, indexCells int64
}

// tree returns a tree of the new state that may be changed.
func (w *writer) tree(id int64) *tree {
	if !w.cloned[id] {
		if w.cloned == nil {
			w.cloned = map[int64]bool{}
		}
		w.cloned[id] = true
		w.st.trees[id] = w.st.trees[id].Clone()
	}
	return w.st.trees[id]
}

// put adds a version; a nil row is a deletion.
func (w *writer) put(id int64, k, pk Key, r Row, t *Table) {
	tr := w.tree(id)
	before, _ := tr.Get(entry{key: k})
	if before.head == nil && r == nil {
		return
	}
	w.breakClaims(id, k)
	v := &version{ts: w.ts, row: r, table: t}
	v.older.Store(before.head)
	tr.ReplaceOrInsert(entry{key: k, pk: pk, head: v})
	if before.head != nil {
		w.garbage = append(w.garbage, garbage{id, k, v})
	}
	w.st.lastWrite[id] = w.ts
}

// write carries a buffer into the trees and returns the changes, in the order the rows were first touched.
func (w *writer) write(b *buffer) ([]RowChange, error) {
	var changes []RowChange
	for _, p := range b.order {
		if p.cur != nil {
			for i := range p.cur {
				if err := checkFuture(p.table, i, p.cur[i], w.ts); err != nil {
					return nil, err
				}
			}
			if err := checkKey(p.table, p.cur, p.key); err != nil {
				return nil, err
			}
			w.size += p.cur.size()
		}
		c := RowChange{Table: p.table, Key: p.key, Old: p.old, New: p.cur}
		switch {
		case p.old == nil && p.cur == nil:
			continue
		case p.old == nil:
			c.Op = Insert
		case p.cur == nil:
			c.Op = Delete
		case p.replaced:
			changes = append(changes, RowChange{Table: p.table, Key: p.key, Op: Delete, Old: p.old})
			c.Op, c.Old = Insert, nil
		default:
			c.Op, c.Written = Update, p.written
			if c.Written == nil {
				c.Written = make([]bool, len(p.table.Columns))
			}
		}
		changes = append(changes, c)
		w.put(p.table.ID, p.key, "", p.cur, p.table)
	}
	return changes, w.writeIndexes(b)
}

// writeIndexes first removes all old index entries and then adds the new ones, so that two rows of one transaction may
// exchange the values of a unique index.
func (w *writer) writeIndexes(b *buffer) error {
	type add struct {
		x      *Index
		p      *pending
		key    Key
		prefix int
	}
	var adds []add
	byTable := map[int64][]*Index{}
	for _, p := range b.order {
		xs, known := byTable[p.table.ID]
		if !known {
			xs = w.st.schema.IndexesOf(p.table)
			byTable[p.table.ID] = xs
		}
		for _, x := range xs {
			var was, is Key
			var wasIn, isIn bool
			var prefix int
			if p.old != nil {
				was, _, wasIn = x.entryKey(p.table, p.old, p.key)
			}
			if p.cur != nil {
				is, prefix, isIn = x.entryKey(p.table, p.cur, p.key)
			}
			if wasIn && isIn && was == is {
				w.indexCells += x.storedCells(p)
				continue
			}
			if wasIn {
				w.indexCells++
				w.put(x.ID, was, p.key, nil, p.table)
			}
			if isIn {
				if err := checkIndexKey(x, p.table, p.cur, is[:prefix]); err != nil {
					return err
				}
				w.indexCells += 1 + int64(len(x.Storing))
				w.size += int64(len(is))
				adds = append(adds, add{x, p, is, prefix})
			}
		}
	}
	for _, a := range adds {
		if a.x.Unique && holdsOther(w.tree(a.x.ID), a.key[:a.prefix], a.p.key) {
			return notUnique(a.x, a.p.table, a.p.cur)
		}
		w.put(a.x.ID, a.key, a.p.key, Row{}, a.p.table)
	}
	return nil
}

package store

import "maps"

// Restore returns a new database with the rows and the schema of this one as they are now, as a restored backup has them:
// without older versions of the rows, and without its change streams, whose definitions it returns for the caller to create
// again. Every later commit there is above every one restored. The schema still has the source's sequences and computed
// columns: the caller's first schema change must replace them by copies. o is New's.
func (db *Database) Restore(o Options) (*Database, []*ChangeStream) {
	n := New(o)
	old := db.current.Load()
	schema := old.schema.Clone()
	streams := schema.Streams
	schema.Streams, schema.Clock = nil, n.opts.Clock
	n.last = max(n.last, old.ts)
	schema.At = n.last
	st := &state{ts: n.last, schema: schema, schemas: []*Schema{schema}, trees: map[int64]*tree{}, lastWrite: maps.Clone(old.lastWrite)}
	for _, t := range schema.Tables {
		st.trees[t.ID] = newest(old.trees[t.ID])
	}
	for _, x := range schema.Indexes {
		st.trees[x.ID] = newest(old.trees[x.ID])
	}
	n.objects.Store(db.objects.Load())
	n.txnIDs.Store(db.txnIDs.Load())
	n.horizon.Store(n.last)
	n.current.Store(st)
	return n, streams
}

// newest copies what is there now: the versions are copies too, since each database collects its own garbage.
func newest(t *tree) *tree {
	out := newTree()
	ascend(t, Range{}, func(e entry) bool {
		if v := e.head; v.row != nil {
			out.ReplaceOrInsert(entry{key: e.key, pk: e.pk, head: &version{ts: v.ts, row: v.row, table: v.table}})
		}
		return true
	})
	return out
}

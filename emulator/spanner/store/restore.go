package store

import "maps"

// Restore returns a new database with the rows and the schema of this one as they are now, as a restored backup has them:
// without older versions of the rows, and without its change streams, whose definitions it returns for the caller to create
// again. o is New's.
func (db *Database) Restore(o Options) (*Database, []*ChangeStream) {
	n := New(o)
	db.mu.Lock() // cloning a tree marks both copies, so no commit may clone the same one meanwhile
	defer db.mu.Unlock()
	old := db.current.Load()
	schema := old.schema.Clone()
	streams := schema.Streams
	schema.Streams = nil
	n.last = max(n.last, old.ts)
	schema.At = n.last
	st := &state{ts: n.last, schema: schema, schemas: []*Schema{schema}, trees: map[int64]*tree{}, lastWrite: maps.Clone(old.lastWrite)}
	for id, t := range old.trees {
		st.trees[id] = t.Clone()
	}
	n.objects.Store(db.objects.Load())
	n.txnIDs.Store(db.txnIDs.Load())
	n.horizon.Store(n.last)
	n.current.Store(st)
	return n, streams
}

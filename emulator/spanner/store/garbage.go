package store

import (
	"maps"
)

// garbage is a version that hides an older one, or a deletion: once it is older than what may be read, nobody needs what
// it hides, nor the deletion.
type garbage struct {
	tree int64
	key  Key
	v    *version
}

const (
	// collectAtLeast is how much garbage a commit removes beside twice what it leaves: the work is bounded, and garbage
	// still goes faster than it comes.
	collectAtLeast = 1000
	// collectAtOnce is how much Collect removes before it lets commits pass.
	collectAtOnce = 10_000
)

// EarliestVersion is the oldest readable timestamp, in microseconds since 1970. It only rises.
func (db *Database) EarliestVersion() int64 {
	return max(db.horizon.Load(), db.outlived())
}

// outlived is the timestamp whose versions the retention has just passed.
func (db *Database) outlived() int64 { return db.Now().Add(-db.opts.Retention).UnixMicro() }

// Collect removes the row versions and schemas that the retention has passed. Commits do so too, as far as they make new
// ones: Collect is for a database that nobody writes to any more. It holds commits up for milliseconds at most.
func (db *Database) Collect() {
	for db.collectSome() {
	}
}

func (db *Database) collectSome() (more bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	old := db.current.Load()
	w := &writer{db: db, ts: old.ts, st: old.clone()}
	more = db.collect(w, collectAtOnce)
	w.st.forgetSchemas(db.horizon.Load())
	if w.cloned != nil || len(w.st.schemas) < len(old.schemas) {
		db.current.Store(w.st)
	}
	return more
}

// collect removes up to n pieces of garbage from the trees of w's state, which is not yet published, and reports whether
// there is more. The caller holds mu.
func (db *Database) collect(w *writer, n int) (more bool) {
	horizon := db.horizon.Load()
	if o := db.outlived(); o > horizon {
		horizon = o
		db.horizon.Store(o)
	}
	done := 0
	for done < len(db.garbage) && db.garbage[done].v.ts <= horizon {
		if done == n {
			more = true
			break
		}
		g := db.garbage[done]
		db.garbage[done] = garbage{}
		done++
		g.v.older.Store(nil)
		if g.v.row != nil || w.st.trees[g.tree] == nil {
			continue
		}
		if e, ok := w.st.trees[g.tree].Get(entry{key: g.key}); ok && e.head == g.v {
			w.tree(g.tree).Delete(e)
		}
	}
	if db.garbage = db.garbage[done:]; len(db.garbage) == 0 {
		db.garbage = nil
	}
	return more
}

// forgetSchemas drops the schemas that no read at or above the horizon sees, and the trees that only they name.
func (s *state) forgetSchemas(horizon int64) {
	n := 0
	for n+1 < len(s.schemas) && s.schemas[n+1].At <= horizon {
		n++
	}
	if n == 0 {
		return
	}
	s.schemas = s.schemas[n:]
	s.forgetTrees()
}

// forgetTrees drops the trees that no readable schema names.
func (s *state) forgetTrees() {
	live := map[int64]bool{}
	for _, v := range s.schemas {
		for _, t := range v.Tables {
			live[t.ID] = true
		}
		for _, x := range v.Indexes {
			live[x.ID] = true
		}
	}
	dead := func(id int64) bool { return !live[id] }
	maps.DeleteFunc(s.trees, func(id int64, _ *tree) bool { return dead(id) })
	maps.DeleteFunc(s.lastWrite, func(id int64, _ int64) bool { return dead(id) })
}

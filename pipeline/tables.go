package pipeline

import (
	"context"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// noteTables keeps the newest version of each schema union, to be stored with the next checkpoint.
func (e *Engine) noteTables(changes []change.Change) {
	var last *change.Table
	for i := range changes {
		t := changes[i].Table
		if t == last {
			continue
		}
		last = t
		e.mu.Lock()
		if e.noteTable(t) {
			e.newTables = append(e.newTables, t)
		}
		e.mu.Unlock()
	}
}

// noteTable reports whether t is newer than what is known of the table.
func (e *Engine) noteTable(t *change.Table) bool {
	if old := e.tables[t.Name]; old != nil && old.Version >= t.Version {
		return false
	}
	e.tables[t.Name] = t
	return true
}

// storeTables stores what the source found out beyond the schema unions stored, before anything is read: a column that is
// dropped before the first change comes has its place in the union all the same.
func (e *Engine) storeTables(ctx context.Context, stored []*change.Table) error {
	var found state.Update
	e.mu.Lock()
	for _, t := range stored {
		e.noteTable(t)
	}
	for _, t := range e.source.Tables() {
		if e.noteTable(t) {
			found.Tables = append(found.Tables, t)
		}
	}
	e.mu.Unlock()
	if len(found.Tables) == 0 {
		return nil
	}
	return e.commit(ctx, []state.Update{found})
}

package pipeline

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// What the source finds in the database's schema is stored before anything is read, for a column may be dropped before the first
// change comes; and only what is new is.
func TestTablesAreStoredAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(1), 1, 2)
		store := &tablesStore{Store: w.store}
		run := func(tables ...*change.Table) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			var given []*change.Table
			src := &tape{first: []change.Partition{{Token: "P", Start: 5}}, tables: tables, frames: map[string][]*change.Frame{"P": {{Through: 10}}},
				before: func(context.Context, string, int) {
					snap, err := store.Load(t.Context(), testConfig.Pipeline)
					if err != nil {
						t.Error(err)
					}
					given = snap.Tables
					cancel()
				}}
			e := w.engine(t, func(o *Options) {
				o.Store, o.Source = store, func(context.Context, state.Snapshot) (Source, error) { return src, nil }
			})
			if err := e.Run(ctx); err != nil {
				t.Fatal(err)
			}
			for _, want := range tables {
				if !slices.ContainsFunc(given, func(t *change.Table) bool {
					return t.Name == want.Name && t.Version == want.Version && len(t.Columns) == len(want.Columns)
				}) {
					t.Errorf("%s version %d was not stored when reading began: %v", want.Name, want.Version, given)
				}
			}
		}
		one, other := scriptTables[0], scriptTables[1]
		run(one)
		run(one, other)
		wider := change.NewTable(one.Name, one.Version+1, append(slices.Clone(one.Columns), change.Column{Name: "More", Type: &change.Type{Code: change.CodeInt64}}))
		run(wider, other)
		run(wider, other)
		if want := []string{one.Name, other.Name, one.Name}; !slices.Equal(store.stored, want) {
			t.Errorf("stored %v, want %v", store.stored, want)
		}
	})
}

// tablesStore notes which schema unions are stored.
type tablesStore struct {
	state.Store
	stored []string
}

func (s *tablesStore) Commit(ctx context.Context, l state.Lease, updates []state.Update) ([]string, error) {
	for _, u := range updates {
		for _, t := range u.Tables {
			s.stored = append(s.stored, t.Name)
		}
	}
	return s.Store.Commit(ctx, l, updates)
}

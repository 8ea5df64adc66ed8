package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/spanledger/spanledger/state"
)

// orderedStore refuses an update that finishes a partition whose children are not stored.
type orderedStore struct {
	*faultyStore
	script *script

	mu       sync.Mutex
	known    map[string]bool
	finished int
}

func (s *orderedStore) Commit(ctx context.Context, lease state.Lease, updates []state.Update) ([]string, error) {
	fenced, err := s.faultyStore.Commit(ctx, lease, updates)
	if err != nil {
		return fenced, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range updates {
		for _, c := range u.Children {
			s.known[c.Token] = true
		}
	}
	for _, u := range updates {
		if !u.Finished {
			continue
		}
		s.finished++
		for _, c := range s.script.parts[u.Token].children {
			if !s.known[c.Token] {
				return nil, fmt.Errorf("%s is finished and its child %s is not stored", u.Token, c.Token)
			}
		}
	}
	return fenced, nil
}

// Children are stored no later than their parent is finished, or a crash in between loses them (I3).
func TestPitfallCheckpointOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(3), 400, 8)
		s := &orderedStore{faultyStore: w.store, script: w.script, known: map[string]bool{}}
		if err := w.engine(t, func(o *Options) { o.Store = s }).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.finished < 10 {
			t.Errorf("only %d partitions finished", s.finished)
		}
		if err := w.check(); err != nil {
			t.Error(err)
		}
	})
}

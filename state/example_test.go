package state_test

import (
	"context"
	"fmt"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// A worker claims a pipeline, stores a partition and a checkpoint; the next worker goes on from there, and what the first
// one still tries to store is refused.
func Example() {
	ctx := context.Background()
	var store state.Store = state.NewMemory()
	if _, err := store.Open(ctx, state.Config{Pipeline: "orders", Database: "projects/p/instances/i/databases/d", Stream: "all", Start: 1}); err != nil {
		fmt.Println(err)
		return
	}
	first, _ := store.Claim(ctx, "orders", "worker-1")
	store.Commit(ctx, first, []state.Update{
		{Children: []change.Partition{{Token: "a", Start: 1}}},
		{Token: "a", Progress: []state.Progress{{Sink: "archive", Through: 1_000_000}}},
	})

	second, _ := store.Claim(ctx, "orders", "worker-2")
	late := []state.Update{{Token: "a", Progress: []state.Progress{{Sink: "archive", Through: 2_000_000}}}}
	fenced, err := store.Commit(ctx, first, late)
	fmt.Println("fenced:", fenced, err)

	snapshot, _ := store.Load(ctx, "orders")
	fmt.Println("epoch:", second.Epoch, "through:", snapshot.Progress[0].Through)
	// Output:
	// fenced: [a] <nil>
	// epoch: 2 through: 1970-01-01T00:00:01.000000Z
}

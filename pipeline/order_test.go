package pipeline

import (
	"testing"

	"github.com/spanledger/spanledger/change"
)

// TestOrderWaitsForPartitionsNotBegun: a partition that is known and not read yet, because it waits for a parent or its
// turn to start, may hold the very next change of the one order.
func TestOrderWaitsForPartitionsNotBegun(t *testing.T) {
	e := newWorld(newDice(1), 1, 2).engine(t, func(o *Options) { o.Order = OrderCommit })
	p := &partition{Partition: change.Partition{Token: "running"}}
	p.through.Store(200)
	e.running["running"] = p
	if through, lowest, _ := e.readThrough(); through != 200 || lowest != p {
		t.Errorf("read through %d, want 200", through)
	}
	e.waiting["waiting"] = 100
	if through, lowest, _ := e.readThrough(); through != 99 || lowest != nil {
		t.Errorf("read through %d, want 99: the partition that waits begins at 100", through)
	}
}

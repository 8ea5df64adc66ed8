package pipeline

import (
	"testing"

	"github.com/spanledger/spanledger/change"
)

// TestTrackerIsBounded: heartbeats pass a full budget, so while a sink is down they must not pile up (I10).
func TestTrackerIsBounded(t *testing.T) {
	var tr tracker
	stuck := tr.track(10, 1)
	for i := range 1000 {
		tr.track(change.Timestamp(11+i), 0)
	}
	if len(tr.open) != 1 || tr.through != 0 {
		t.Errorf("%d marks are held at %s, want 1 at 0", len(tr.open), tr.through)
	}
	tr.resolve(stuck, 1)
	if tr.through != 1010 || !tr.idle() {
		t.Errorf("through %d, idle %v", tr.through, tr.idle())
	}
}

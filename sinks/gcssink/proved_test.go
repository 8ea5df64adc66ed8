package gcssink

import (
	"testing"

	"github.com/spanledger/spanledger/change"
)

// TestProvedChainsAreBounded: a sink lives for months while partitions come and go.
func TestProvedChainsAreBounded(t *testing.T) {
	s := &Sink{proved: map[change.Chain]struct{}{}}
	for i := range int64(2*maxProved + 1) {
		s.hasProved(change.Chain{Incarnation: i})
		if len(s.proved) > maxProved {
			t.Fatalf("%d chains are remembered", len(s.proved))
		}
	}
	if _, ok := s.proved[change.Chain{Incarnation: 2 * maxProved}]; !ok {
		t.Error("the newest chain was forgotten")
	}
}

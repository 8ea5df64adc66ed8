package archive

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spanledger/spanledger/change"
)

// ListChain finds all segments of a chain, in order, and checks that they leave no gap and do not overlap: a *ChainError
// tells where they do. A listing beside which the chain grows may see a later segment without an earlier one, so the
// caller lists again before it believes a *ChainError. It pages through the table's listing once.
func ListChain(ctx context.Context, b Bucket, chain change.Chain) ([]Segment, error) {
	suffix := chainSuffix(chain)
	var segments []Segment
	for o, err := range b.List(ctx, SegmentPrefix(chain.Table)) {
		if err != nil {
			return nil, fmt.Errorf("archive: list %s: %w", SegmentPrefix(chain.Table), err)
		}
		if !strings.HasSuffix(o.Name, suffix) {
			continue
		}
		s, err := SegmentOf(ctx, b, o)
		if err != nil {
			return nil, err
		}
		if s.Chain != chain {
			return nil, corrupt(o.Name, "it belongs to another chain, of table %s, pipeline %s, incarnation %d, partition %.40s, whose digest is the same",
				s.Chain.Table, s.Chain.Pipeline, s.Chain.Incarnation, s.Chain.Token)
		}
		segments = append(segments, s)
	}
	slices.SortFunc(segments, func(a, b Segment) int { return a.First.Compare(b.First) })
	return segments, CheckChain(segments)
}

// CheckChain checks that the segments, in order, are a chain from its beginning.
func CheckChain(segments []Segment) error {
	var previous Segment
	for i := range segments {
		s := &segments[i]
		switch {
		case s.PreviousLast != previous.Last:
			return &ChainError{s.Name, previous.Name, fmt.Sprintf("it says the one before it ends at %s", s.PreviousLast)}
		case s.Previous != previous.SHA256:
			return &ChainError{s.Name, previous.Name, fmt.Sprintf("it says the one before it has the SHA-256 %q, not %q", s.Previous, previous.SHA256)}
		}
		previous = *s
	}
	return nil
}

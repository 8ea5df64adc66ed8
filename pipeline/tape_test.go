package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/spanledger/spanledger/change"
)

// tape is a Source with given frames.
type tape struct {
	first  []change.Partition
	tables []*change.Table
	frames map[string][]*change.Frame
	// before is called before each frame, nil for none.
	before func(ctx context.Context, token string, frame int)
}

func (s *tape) Tables() []*change.Table { return s.tables }

func (s *tape) Partitions(context.Context, change.Timestamp) ([]change.Partition, error) {
	return s.first, nil
}

func (s *tape) Read(ctx context.Context, p change.Partition, after change.Timestamp, yield func(*change.Frame) error) error {
	for i, f := range s.frames[p.Token] {
		if s.before != nil {
			s.before(ctx, p.Token, i)
		}
		if ctx.Err() != nil {
			break
		}
		if f.Through <= after {
			continue
		}
		c := *f
		c.Token, c.Changes = p.Token, slices.Clone(f.Changes)
		for len(c.Changes) > 0 && c.Changes[0].Position.Commit <= after {
			c.Changes = c.Changes[1:]
		}
		if err := yield(&c); err != nil {
			return err
		}
		if c.Ended {
			return nil
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func tapeChange(table int, commit change.Timestamp) change.Change {
	return change.Change{
		Position: change.Position{Commit: commit, Transaction: "1", Sequence: fmt.Sprint("0000000", table)}, Table: scriptTables[table], Op: change.Insert,
		Key: []change.Value{change.Value(`"1"`)}, After: change.Row{nil, change.Value(`"2"`)},
	}
}

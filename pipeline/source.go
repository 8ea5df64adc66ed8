package pipeline

import (
	"context"
	"fmt"

	"github.com/spanledger/spanledger/change"
)

// Source is where changes come from: a change stream's reader. Its methods retry what is worth retrying; an error they
// return is final and stops the pipeline.
type Source interface {
	// Tables lists the schema unions that the source begins with, the newest version of each. Changes may show newer ones.
	Tables() []*change.Table
	// Partitions lists the partitions alive at start, none of them read yet.
	Partitions(ctx context.Context, start change.Timestamp) ([]change.Partition, error)
	// Read yields the frames of p with commit timestamps above after, in order, until the partition has ended (then it
	// returns nil after a frame with Ended), the context ends, or yield returns an error, which it returns. A frame belongs
	// to the receiver once it is yielded.
	Read(ctx context.Context, p change.Partition, after change.Timestamp, yield func(*change.Frame) error) error
}

// checkFrame refuses a frame that breaks the source's promises, before anything is delivered from it: a fault here would
// otherwise turn into lost or reordered changes that no later check can see (I1, I5).
func checkFrame(f *change.Frame, through change.Timestamp) error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("pipeline: the reader broke its promise in partition %s: %s; this is a fault of the program, "+
			"nothing of this frame was delivered", shortToken(f.Token), fmt.Sprintf(format, args...))
	}
	if f.Through < through {
		return fault("its watermark went back from %s to %s", through, f.Through)
	}
	for i := range f.Changes {
		c := &f.Changes[i]
		switch {
		case c.Position.Commit <= through:
			return fault("change %s comes after the promise of everything through %s", c.ID(), through)
		case c.Position.Commit > f.Through:
			return fault("change %s is past the frame's own promise %s", c.ID(), f.Through)
		case i > 0 && c.Position.Compare(f.Changes[i-1].Position) <= 0:
			return fault("change %s does not come after %s", c.ID(), f.Changes[i-1].ID())
		case c.Table == nil || len(c.Key) != len(c.Table.Keys()):
			return fault("change %s has no table, or a key of the wrong length", c.ID())
		}
	}
	return nil
}

// shortToken is enough of a token to tell partitions apart in a message.
func shortToken(token string) string {
	if len(token) > 16 {
		return token[:8] + "…" + token[len(token)-8:]
	}
	return token
}

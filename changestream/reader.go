package changestream

import (
	"context"
	"errors"

	"github.com/spanledger/spanledger/change"
)

// Reader reads one change stream. It is safe for concurrent use; one Reader serves all partitions of a pipeline.
type Reader struct {
	opts Options
}

// New connects to the database, finds out its dialect and the stream's partition mode, and seeds the schema unions.
func New(ctx context.Context, opts Options) (*Reader, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Reader{opts: opts}, nil
}

// Partitions answers the partitions alive at start: the query a new incarnation begins with.
func (r *Reader) Partitions(ctx context.Context, start change.Timestamp) ([]change.Partition, error) {
	return nil, errors.ErrUnsupported
}

// Read reads the changes of p with commit timestamps above after, and not before p.Start, to the partition's end.
func (r *Reader) Read(ctx context.Context, p change.Partition, after change.Timestamp, yield func(*change.Frame) error) error {
	return errors.ErrUnsupported
}

// Tables answers the newest version of every table's schema union, by name: what a later Reader takes in Options.Tables.
func (r *Reader) Tables() []*change.Table { return nil }

// Close ends the connections. Reads still running fail.
func (r *Reader) Close() error { return nil }

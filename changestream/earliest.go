package changestream

import (
	"context"
	"errors"
	"time"

	"github.com/spanledger/spanledger/change"
)

const (
	// maxRetention is the longest a change stream can be told to remember.
	maxRetention = 30 * 24 * time.Hour
	// retentionMargin is what has to be left of the retention at the start, for it passes while the reader begins.
	retentionMargin = time.Minute
)

// Earliest finds the first instant that the stream can be read from, by trying: the later of the stream's creation, which
// no table tells, and the end of its retention, with a minute to spare.
func (r *Reader) Earliest(ctx context.Context) (change.Timestamp, error) {
	now, err := r.Now(ctx)
	if err != nil {
		return 0, err
	}
	probe := func(at change.Timestamp) (bool, error) {
		_, err := r.Partitions(ctx, at)
		if _, lost := errors.AsType[*LostError](err); lost {
			return false, nil
		}
		return err == nil, err
	}
	lost, readable := now-change.Timestamp(maxRetention.Microseconds()), now
	for readable-lost > 1 {
		at := lost + (readable-lost)/2
		ok, err := probe(at)
		switch {
		case err != nil:
			return 0, err
		case ok:
			readable = at
		default:
			lost = at
		}
	}
	// The creation stays where it is. The end of the retention has moved on by now, and goes on moving.
	ok, err := probe(readable)
	if err == nil && !ok {
		readable = min(now, readable+change.Timestamp(retentionMargin.Microseconds()))
	}
	return readable, err
}

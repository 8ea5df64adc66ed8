package memsink

import (
	"context"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// Writer is the at-least-once form.
type Writer struct{ watch }

var _ sinks.Writer = (*Writer)(nil)

// NewWriter makes a Writer.
func NewWriter(o Options) *Writer {
	o.fill(sinks.LaneByKey)
	return &Writer{watch{Destination: o.Destination, o: o, inFlight: make(map[string]int)}}
}

// Write delivers the batch's changes, those Options.Reject names excepted.
func (w *Writer) Write(ctx context.Context, batch *sinks.Batch) error {
	lanes := w.enter(batch)
	defer w.leave(lanes)
	if err := call(ctx, w.o.Before, batch); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	taken := clone(batch.Changes)
	var rejected []sinks.Rejection
	if w.o.Reject != nil {
		taken = taken[:0]
		for i, c := range clone(batch.Changes) {
			if reason := w.o.Reject(&c); reason != nil {
				rejected = append(rejected, sinks.Rejection{Index: i, Reason: reason})
				continue
			}
			taken = append(taken, c)
		}
	}
	w.Destination.mu.Lock()
	w.deliver(taken, change.Chain{}, 0)
	w.Destination.mu.Unlock()
	if err := call(ctx, w.o.After, batch); err != nil {
		return err
	}
	if rejected != nil {
		return &sinks.RejectError{Rejected: rejected}
	}
	return nil
}

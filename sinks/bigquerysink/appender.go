package bigquerysink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// place is what End.State holds: the chain's write stream, and the offset of the next row in it.
type place struct {
	Version int    `json:"v"`
	Stream  string `json:"stream"`
	Offset  int64  `json:"offset"`
}

func (p place) end(through change.Position) (sinks.End, error) {
	p.Version = 1
	state, err := json.Marshal(p)
	if err == nil && len(state) > sinks.MaxState {
		err = fmt.Errorf("the write stream's name has %d bytes", len(p.Stream))
	}
	return sinks.End{Through: through, State: state}, err
}

// placeOf reads a state; false if it is none this sink wrote, as after a change of the delivery.
func placeOf(end sinks.End) (place, bool) {
	var p place
	if json.Unmarshal(end.State, &p) != nil || p.Version != 1 || p.Stream == "" || p.Offset < 0 {
		return place{}, false
	}
	return p, true
}

// takeovers bounds how often one call of Append takes the chain over; each time that is lost was another writer's gain.
const takeovers = 3

// Append writes the batch behind the end: at the offset its state names, where BigQuery takes rows once only (I6). doc.go has
// the protocol.
func (s *Appends) Append(ctx context.Context, batch *sinks.Batch, end sinks.End) (sinks.End, error) {
	if batch.Chain == nil || len(batch.Changes) == 0 {
		return sinks.End{}, sinks.Stop(fmt.Errorf("bigquery sink %s: a batch without a chain or changes (a fault of the engine)", s.name))
	}
	chain, changes := *batch.Chain, batch.Changes
	b := s.borrow()
	defer s.release(b)
	// Rows are made first, so that one that cannot be written is named before anything of the batch is.
	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	rejected, err := s.fill(ctx, b, changes, order, chainID(chain))
	if err != nil {
		return sinks.End{}, err
	}
	if len(rejected) > 0 {
		return sinks.End{}, &sinks.RejectError{Rejected: rejected}
	}
	at, known := placeOf(end)
	through := end.Through
	if !known {
		if at, through, err = s.begin(ctx, chain, end); err != nil {
			return sinks.End{}, err
		}
	}
	for try := 0; ; try++ {
		if through.After(end.Through) {
			return at.end(through) // an earlier attempt, or another writer, came this far
		}
		at, err = s.appendRows(ctx, b, at)
		if err == nil {
			return at.end(changes[len(changes)-1].Position)
		}
		if !placeTaken(err) || try == takeovers {
			return sinks.End{}, s.appendFault(b, chain, err)
		}
		s.forget(chain.Table)
		if _, err := s.layout(ctx, changes[0].Table); err != nil { // the table may be gone, and its streams with it
			return sinks.End{}, err
		}
		if at, through, err = s.takeOver(ctx, chain, end, ""); err != nil {
			return sinks.End{}, err
		}
	}
}

// appendRows sends the batch's rows from the place on, and returns the place behind them.
func (s *Appends) appendRows(ctx context.Context, b *rowBatch, at place) (place, error) {
	for first := 0; first < len(b.ends); {
		l, rows := b.request(first, s.requestBytes)
		if err := s.conns.append(ctx, at.Stream, at.Offset, l.schema, rows); err != nil {
			if bad, ok := errors.AsType[*rowsError](err); ok {
				return at, s.refused(b, first, bad)
			}
			return at, err
		}
		first += len(rows)
		at.Offset += int64(len(rows))
	}
	return at, nil
}

// refused turns refused rows into refused changes. It should not come to that: what a typed column cannot hold is in _raw.
func (s *Appends) refused(b *rowBatch, first int, bad *rowsError) error {
	reject := &sinks.RejectError{}
	for _, r := range bad.rows {
		if i := r.GetIndex(); i >= 0 && int(i)+first < len(b.index) {
			reject.Rejected = append(reject.Rejected, sinks.Rejection{
				Index: b.index[first+int(i)], Reason: fmt.Errorf("BigQuery refused the row: %s", r.GetMessage()),
			})
		}
	}
	if len(reject.Rejected) == 0 {
		return bad.err
	}
	return reject
}

func (s *Appends) appendFault(b *rowBatch, chain change.Chain, err error) error {
	if _, ok := errors.AsType[*sinks.RejectError](err); ok {
		return err
	}
	if storageCode(err) == storagepb.StorageError_TABLE_NOT_FOUND {
		s.forget(chain.Table)
	}
	return s.fault(fmt.Sprintf("append %d rows to the table of %s", len(b.ends), chain.Table), err)
}

// begin finds the place of a chain whose state is not known: a new stream for a new chain, or the place taken over.
func (s *Appends) begin(ctx context.Context, chain change.Chain, end sinks.End) (place, change.Position, error) {
	stream, err := s.createStream(ctx, chain)
	if err != nil {
		return place{}, end.Through, err
	}
	if !end.Through.IsZero() {
		// It has rows, and we do not know in which stream.
		return s.takeOver(ctx, chain, end, stream)
	}
	switch err := s.writeClaim(ctx, chain, nil, stream, change.Position{}); {
	case err == nil:
		return place{Stream: stream}, end.Through, nil
	case errors.Is(err, errClaimed):
		return s.takeOver(ctx, chain, end, stream)
	default:
		return place{}, end.Through, err
	}
}

// End learns a chain's end from BigQuery, and makes it final: whoever wrote to the chain before can do so no more.
func (s *Appends) End(ctx context.Context, chain change.Chain) (sinks.End, error) {
	table := s.client.Dataset(s.config.Dataset).Table(TableID(s.config.TablePrefix, chain.Table))
	c, err := s.readClaim(ctx, chain)
	if err != nil {
		return sinks.End{}, err
	}
	if _, err := table.Metadata(ctx); err != nil {
		if !isStatus(err, 404) {
			return sinks.End{}, s.fault("look at the table of "+chain.Table, err)
		}
		// The table was never made, or was dropped, its streams with it. What it held at the claim was durable.
		if c != nil {
			return sinks.End{Through: c.Base}, nil
		}
		return sinks.End{}, nil
	}
	if c == nil {
		found, err := s.lastRow(ctx, chain, change.Position{})
		if err != nil || found.rows == 0 {
			return sinks.End{}, err
		}
	}
	at, through, err := s.takeOver(ctx, chain, sinks.End{}, "")
	if err != nil || through.IsZero() {
		return sinks.End{}, err // an empty chain; its next writer takes over once more
	}
	return at.end(through)
}

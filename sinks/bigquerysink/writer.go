package bigquerysink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// Write appends the batch to its tables' default streams, and returns when all of it is durable and visible.
func (s *Writes) Write(ctx context.Context, batch *sinks.Batch) error {
	if err := ctx.Err(); err != nil {
		return s.fault("write", err)
	}
	b := s.borrow()
	defer s.release(b)
	rejected, err := s.fill(ctx, b, batch.Changes, byTable(batch.Changes), "")
	if err != nil {
		return err
	}
	for first := 0; first < len(b.ends); {
		l, rows := b.request(first, s.requestBytes)
		n := len(rows)
		refused, err := s.send(ctx, l, rows)
		if err != nil {
			if streamGone(err) {
				s.forget(l.table.Name) // the table was dropped, or is too new: the next attempt looks, and makes it
			}
			return s.fault(fmt.Sprintf("append %d rows to the table of %s", n, l.table.Name), err)
		}
		for row, reason := range refused {
			if reason != nil {
				rejected = append(rejected, sinks.Rejection{Index: b.index[first+row], Reason: reason})
			}
		}
		first += n
	}
	if len(rejected) > 0 {
		slices.SortFunc(rejected, func(a, b sinks.Rejection) int { return cmp.Compare(a.Index, b.Index) })
		return &sinks.RejectError{Rejected: rejected}
	}
	return nil
}

// send appends the rows to the default stream. BigQuery takes a request as a whole or not at all: if it refuses rows, the
// others are sent again without them. refused has the reason of each refused row; nil if there is none.
func (s *Writes) send(ctx context.Context, l *layout, rows [][]byte) (refused []error, err error) {
	at := make([]int, len(rows))
	for i := range at {
		at[i] = i
	}
	for len(rows) > 0 {
		err := s.conns.append(ctx, l.name+"/streams/_default", anywhere, l.schema, rows)
		bad, ok := errors.AsType[*rowsError](err)
		if !ok {
			return refused, err
		}
		if refused == nil {
			refused = make([]error, len(rows))
		}
		before := len(rows)
		reasons := make([]error, len(rows))
		for _, r := range bad.rows {
			if i := r.GetIndex(); i >= 0 && i < int64(len(rows)) {
				reasons[i] = fmt.Errorf("BigQuery refused the row: %s", r.GetMessage())
			}
		}
		kept, keptAt := make([][]byte, 0, len(rows)), make([]int, 0, len(rows))
		for i, reason := range reasons {
			if reason != nil {
				refused[at[i]] = reason
			} else {
				kept, keptAt = append(kept, rows[i]), append(keptAt, at[i])
			}
		}
		rows, at = kept, keptAt
		if len(rows) == before {
			return refused, err // it named no row of ours
		}
	}
	return refused, nil
}

// byTable is the batch's order with changes of one table version together, each table's in the batch's order.
func byTable(changes []change.Change) []int {
	order := make([]int, 0, len(changes))
	var seen []*change.Table
	for i := range changes {
		t := changes[i].Table
		if slices.Contains(seen, t) {
			continue
		}
		seen = append(seen, t)
		for j := i; j < len(changes); j++ {
			if changes[j].Table == t {
				order = append(order, j)
			}
		}
	}
	return order
}

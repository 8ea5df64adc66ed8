package bigquerysink

import (
	"context"
	"fmt"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// maxRequest bounds a request's rows, in bytes: BigQuery takes 10 MB, of which the table's description needs a part. A row
// that is larger by itself can never be written.
const maxRequest = 9_000_000

// rowBatch is the work of one call of Write or Append: changes as rows, in the order in which to send them.
type rowBatch struct {
	encoder
	buf   []byte
	ends  []int // of each row in buf
	index []int // of each row's change in the batch
	uses  []*layout
	rows  [][]byte
}

func (b *rowBatch) reset() {
	b.buf, b.ends, b.index, b.uses = b.buf[:0], b.ends[:0], b.index[:0], b.uses[:0]
}

// add encodes changes[i].
func (b *rowBatch) add(l *layout, changes []change.Change, i int, chain string) *sinks.Rejection {
	mark := len(b.buf)
	var err error
	if b.buf, err = b.appendRow(b.buf, l, &changes[i], chain); err == nil && len(b.buf)-mark > maxRequest {
		err = fmt.Errorf("its row has %d bytes: BigQuery takes 10,000,000 in a request", len(b.buf)-mark)
	}
	if err != nil {
		b.buf = b.buf[:mark]
		return &sinks.Rejection{Index: i, Reason: err}
	}
	b.ends, b.index, b.uses = append(b.ends, len(b.buf)), append(b.index, i), append(b.uses, l)
	return nil
}

// request gives the rows from first on that fit one request, which carries one layout; the slice is valid until the next
// call. limit is the bound in bytes; one row is always taken.
func (b *rowBatch) request(first, limit int) (l *layout, rows [][]byte) {
	b.rows = b.rows[:0]
	l = b.uses[first]
	start := 0
	if first > 0 {
		start = b.ends[first-1]
	}
	from := start
	for i := first; i < len(b.ends) && b.uses[i] == l && (i == first || b.ends[i]-from <= limit); i++ {
		b.rows = append(b.rows, b.buf[start:b.ends[i]:b.ends[i]])
		start = b.ends[i]
	}
	return l, b.rows
}

// borrow gives an empty rowBatch; put it back with release.
func (s *core) borrow() *rowBatch {
	b := s.batch.Get().(*rowBatch)
	b.reset()
	return b
}

func (s *core) release(b *rowBatch) {
	clear(b.uses)
	clear(b.rows)
	s.batch.Put(b)
}

// fill encodes the changes in the order given. A rejection is the sink's own; BigQuery was not asked.
func (s *core) fill(ctx context.Context, b *rowBatch, changes []change.Change, order []int, chain string) ([]sinks.Rejection, error) {
	var rejected []sinks.Rejection
	var table *change.Table
	var l *layout
	for _, i := range order {
		if t := changes[i].Table; t != table {
			var err error
			if l, err = s.layout(ctx, t); err != nil {
				return nil, err
			}
			table = t
		}
		if r := b.add(l, changes, i, chain); r != nil {
			rejected = append(rejected, *r)
		}
	}
	return rejected, nil
}

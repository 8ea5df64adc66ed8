package changes

import (
	"slices"
	"sync"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// transaction is what all records of one commit in one stream share.
type transaction struct {
	commit     *store.Commit
	capture    captureType
	form       form
	records    int
	partitions int
}

// dataRecord is one data change record: one table, one kind of change and one set of columns of one transaction in one
// partition.
type dataRecord struct {
	txn      *transaction
	view     *view
	op       store.Op
	sequence int
	last     bool  // in the transaction in its partition
	columns  []int // the non-key columns it describes, by position
	mods     []*store.RowChange

	encode sync.Once
	wire   []byte
}

// observe captures one commit for this stream.
func (s *stream) observe(c *store.Commit) {
	s.applyStaged(c.Timestamp)
	if c.Excluded && s.opts.allowTxnExclusion {
		return
	}
	var txn *transaction
	for i := range c.Changes {
		ch := &c.Changes[i]
		v := s.view(ch.Table)
		if !v.watched || s.excluded(c, ch.Op) || s.placement != "" && placementOf(ch) != s.placement {
			continue
		}
		if ch.Op == store.Update && !writesTracked(v, ch) {
			continue
		}
		if txn == nil {
			txn = &transaction{commit: c, capture: s.opts.capture, form: s.form()}
		}
		at := place{v.root, ch.Key}
		p := s.routes.owner(at)
		p.remember(at)
		p.taken++
		s.capture(txn, p, v, ch)
	}
	if txn == nil {
		return
	}
	txn.partitions = len(s.touched)
	for i, p := range s.touched {
		p.open.last = true
		p.open, p.openView = nil, nil
		s.touched[i] = nil
	}
	s.touched = s.touched[:0]
}

// placementOf is where a change shows: in the placement that the row has after it, or had before it was deleted.
func placementOf(ch *store.RowChange) string {
	if ch.New != nil {
		return ch.Table.PlacementOf(ch.New)
	}
	return ch.Table.PlacementOf(ch.Old)
}

// TTLTag is the transaction tag of the system transactions that row deletion policies make.
const TTLTag = "RowDeletionPolicy"

func (s *stream) excluded(c *store.Commit, op store.Op) bool {
	switch op {
	case store.Insert:
		return s.opts.excludeInsert
	case store.Update:
		return s.opts.excludeUpdate
	}
	return s.opts.excludeDelete || s.opts.excludeTTLDeletes && c.System && c.Tag == TTLTag
}

// writesTracked reports whether an update wrote (not: changed the value of) any tracked non-key column.
func writesTracked(v *view, ch *store.RowChange) bool {
	for _, i := range v.tracked {
		if i < len(ch.Written) && ch.Written[i] {
			return true
		}
	}
	return false
}

// capture adds one row to the open record of its partition, or begins a new one where table, kind or set of described
// columns differ from the row before it in the partition.
func (s *stream) capture(txn *transaction, p *partition, v *view, ch *store.RowChange) {
	if d := p.open; d != nil {
		if p.openView == v && d.op == ch.Op && (!txn.describesWritten(ch.Op) || sameWritten(v, d.columns, ch)) {
			d.mods = append(d.mods, ch)
			s.grow(ch, 0)
			return
		}
	} else {
		s.touched = append(s.touched, p)
	}
	d := &dataRecord{txn: txn, view: v, op: ch.Op, sequence: txn.records, mods: []*store.RowChange{ch}, columns: v.tracked}
	if txn.describesWritten(ch.Op) {
		d.columns = written(v, ch)
	}
	txn.records++
	p.open, p.openView = d, v
	p.add(entry{at: txn.commit.Timestamp, data: d})
	s.retain(retained{at: txn.commit.Timestamp, part: p})
	s.grow(ch, 200)
}

// describesWritten reports whether a record names the columns that were written only, rather than all that are tracked.
func (t *transaction) describesWritten(op store.Op) bool {
	return op == store.Update && (t.capture == oldAndNewValues || t.capture == newValues)
}

// written are the tracked non-key columns that an update wrote.
func written(v *view, ch *store.RowChange) []int {
	var out []int
	for _, i := range v.tracked {
		if i < len(ch.Written) && ch.Written[i] {
			out = append(out, i)
		}
	}
	return out
}

func sameWritten(v *view, written []int, ch *store.RowChange) bool {
	n := 0
	for _, i := range v.tracked {
		if i < len(ch.Written) && ch.Written[i] {
			if n == len(written) || written[n] != i {
				return false
			}
			n++
		}
	}
	return n == len(written)
}

// grow adds the estimated size of a row to what the newest retained entry holds.
func (s *stream) grow(ch *store.RowChange, extra int64) {
	if s.log.opts.MaxBytes <= 0 {
		return
	}
	n := int64(len(ch.Key)) + extra
	for _, row := range []store.Row{ch.Old, ch.New} {
		for i := range row {
			n += valueBytes(row[i])
		}
	}
	s.retained[s.newest].bytes += n
	s.bytes += n
}

func valueBytes(v store.Value) int64 {
	n := int64(8 + len(v.Text))
	for _, e := range v.List {
		n += valueBytes(e)
	}
	return n
}

// metadata is the columns a record describes: keys and columns together, by ordinal position.
func (d *dataRecord) metadata() []int {
	out := slices.Concat(d.view.keys, d.columns)
	t := d.view.table
	slices.SortStableFunc(out, func(a, b int) int { return t.Columns[a].Ordinal - t.Columns[b].Ordinal })
	return out
}

// values are the columns whose new and old values one of its mods shows; nil means none.
func (d *dataRecord) values(ch *store.RowChange) (newCols, oldCols []int) {
	all := d.view.tracked
	switch d.op {
	case store.Insert:
		return all, nil
	case store.Update:
		switch d.txn.capture {
		case newValues:
			return d.columns, nil
		case newRow:
			return all, nil
		case newRowAndOldValues:
			return all, written(d.view, ch)
		}
		return d.columns, d.columns
	}
	if d.txn.capture == oldAndNewValues || d.txn.capture == newRowAndOldValues {
		return nil, all
	}
	return nil, nil
}

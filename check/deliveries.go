package check

import (
	"fmt"

	"github.com/spanledger/spanledger/change"
)

// Delivery is one change as a sink received it.
type Delivery struct {
	Position change.Position
	Table    string
	// Key is the canonical JSON array of the key's values; see Change.Key.
	Key string
	// Op is compared unless it is "".
	Op string
	// After and Before are compared if Values is set.
	After, Before Row
	Values        bool
	// Object says where the delivery was found, for messages; it may be "".
	Object string

	// content is compared as well if it is not nil.
	content *content
}

// Deliveries holds what a sink received, in the order of delivery, against the truth: for sinks of users, and for tests of
// the engine. strict says that the sink promises each change once.
func Deliveries(t *Truth, strict bool, deliveries []Delivery) *Sink {
	l := newTally(t, strict)
	for i := range deliveries {
		l.deliver(&deliveries[i])
	}
	return l.finish()
}

// tally counts deliveries against a truth.
type tally struct {
	truth *Truth
	sink  *Sink
	// copies counts the deliveries of each change.
	copies []uint32
	// places hold, by row and partition, the last position delivered so far.
	places map[int32][]place
	taken  taken
}

type place struct {
	partition string
	index     int
}

func newTally(t *Truth, strict bool) *tally {
	return &tally{truth: t, sink: &Sink{Strict: strict}, copies: make([]uint32, len(t.Changes)), places: map[int32][]place{}}
}

// count compares one delivery with the truth and counts it, without a look at the order; it returns the change's index, -1
// if there is none, as of a snapshot's row, and whether this is its first delivery.
func (l *tally) count(d *Delivery) (i int, first bool) {
	if d.Position.Snapshot {
		first = l.countRow(d)
		return -1, first
	}
	i = l.truth.Find(d.Position)
	if i < 0 {
		l.sink.note(Example{Kind: Unexpected, ID: d.Position.String(), Object: d.Object, Table: d.Table, Key: d.Key,
			Detail: "the stream has no such change"})
		return -1, false
	}
	c := &l.truth.Changes[i]
	if why := mismatch(c, d); why != "" {
		l.sink.note(Example{Kind: Mismatched, ID: c.ID(), Object: d.Object, Table: c.Table, Key: c.Key, Detail: why})
	}
	l.copies[i]++
	if l.copies[i] > 1 {
		l.sink.note(Example{Kind: Duplicate, ID: c.ID(), Object: d.Object, Table: c.Table, Key: c.Key,
			Detail: fmt.Sprintf("copy %d", l.copies[i])})
		return i, false
	}
	l.sink.Delivered++
	return i, true
}

func mismatch(c *Change, d *Delivery) string {
	switch {
	case d.Table != c.Table:
		return fmt.Sprintf("table is %s: the stream has %s", short(d.Table), c.Table)
	case d.Key != c.Key:
		return fmt.Sprintf("key is %s: the stream has %s", short(d.Key), short(c.Key))
	case d.Op != "" && d.Op != c.Op:
		return fmt.Sprintf("operation is %s: the stream has %s", short(d.Op), c.Op)
	case d.content != nil && d.content.mismatch(c) != "":
		return d.content.mismatch(c)
	case !d.Values:
		return ""
	}
	if why := diff("after", c.After, d.After); why != "" {
		return why
	}
	return diff("before", c.Before, d.Before)
}

// deliver counts one delivery, and judges the order of first deliveries within each row (I1): a change must not come after
// a later one of its row. If the later one lies in a partition the earlier one's does not lead to, no reader that follows
// the graph could have waited; on Google's emulator that is counted apart.
func (l *tally) deliver(d *Delivery) {
	switch i, first := l.count(d); {
	case !first:
	case d.Position.Snapshot:
		l.orderRow(d)
	default:
		l.order(i, d.Object)
	}
}

func (l *tally) order(i int, object string) {
	c, row := &l.truth.Changes[i], l.truth.keys[i]
	places := l.places[row]
	mine, late, torn := -1, -1, -1
	for n, p := range places {
		if p.partition == c.Partition {
			mine = n
		}
		if p.index < i {
			continue
		}
		if !l.truth.Official || l.truth.Leads(c, &l.truth.Changes[p.index]) {
			late = p.index
		} else {
			torn = p.index
		}
	}
	switch row := l.taken.newest[rowKey{c.Table, c.Key}]; {
	case row.After(c.Position):
		l.sink.note(Example{Kind: OrderViolation, ID: c.ID(), Object: object, Table: c.Table, Key: c.Key,
			Detail: "first delivered after the row that a snapshot took later, " + row.String()})
	case late >= 0:
		l.sink.note(Example{Kind: OrderViolation, ID: c.ID(), Object: object, Table: c.Table, Key: c.Key,
			Detail: "first delivered after the later change " + l.truth.Changes[late].ID()})
	case torn >= 0:
		l.sink.note(Example{Kind: GraphBreak, ID: c.ID(), Object: object, Table: c.Table, Key: c.Key,
			Detail: "first delivered after the later change " + l.truth.Changes[torn].ID() + " of an unrelated partition"})
	}
	switch {
	case mine < 0:
		l.places[row] = append(places, place{c.Partition, i})
	case places[mine].index < i:
		places[mine].index = i
	}
}

// finish counts what is missing and gives the outcome. The watermark is just below the first missing change.
func (l *tally) finish() *Sink {
	l.sink.Watermark = l.truth.End
	for i, n := range l.copies {
		if n > 0 {
			continue
		}
		c := &l.truth.Changes[i]
		if l.sink.Missing == 0 {
			l.sink.Watermark = c.Position.Commit - 1
		}
		l.sink.note(Example{Kind: Missing, ID: c.ID(), Table: c.Table, Key: c.Key, Detail: c.Op + " was committed and is not there"})
	}
	l.missingRows()
	return l.sink
}

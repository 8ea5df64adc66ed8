package sinktest

import (
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// Harness is what a sink's author gives to Run.
type Harness struct {
	// Make makes an empty destination for one test, and cleans it up by t.Cleanup.
	Make func(t *testing.T) Destination
	// Missing makes a sink whose destination does not exist. Nil where that cannot be (a sink that writes to a terminal).
	Missing func(t *testing.T) sinks.Sink
	// Refuse alters a change so that the destination will reject it for ever. Nil for sinks that reject nothing.
	Refuse func(c *change.Change)
}

// Destination is one place to deliver to.
type Destination struct {
	// Sink makes another sink that delivers there: a restarted worker, or a second one. It is not open yet.
	Sink func(t *testing.T) sinks.Sink
	// ReadBack returns what the destination holds, as its readers would see it, in the order in which they would see each
	// key's (an Appender's: each table's) changes.
	ReadBack func(t *testing.T) []Delivered
}

// Delivered is one change as read back.
type Delivered struct {
	// ID is the change's ID.
	ID string
	// Table and Key are the table's name and the key in the form of change.Change.AppendKey; Op is the operation's name.
	Table, Key, Op string
	// After and Before hold the captured columns by name, as the JSON text change streams write. A destination that keeps
	// no values leaves both nil in all that it returns; a change without captured columns has an empty, not a nil, map.
	After, Before map[string]string
}

// Deliver is how a Destination that holds whole changes, like one in memory, makes its Delivered.
func Deliver(c *change.Change) Delivered {
	return Delivered{
		ID: c.ID(), Table: c.Table.Name, Key: string(c.AppendKey(nil)), Op: c.Op.String(),
		After: columns(c.Table, c.After), Before: columns(c.Table, c.Before),
	}
}

func columns(t *change.Table, row change.Row) map[string]string {
	m := make(map[string]string, len(row))
	for i, v := range row {
		if v != nil {
			m[t.Columns[i].Name] = string(v)
		}
	}
	return m
}

// Lend copies changes into memory that is taken back: take overwrites every value, as an engine that reuses a batch's
// memory does. What a sink kept without copying turns to rubbish then.
func Lend(changes []change.Change) (lent []change.Change, take func()) {
	lent = append([]change.Change(nil), changes...)
	var arena []byte
	rows := func(c *change.Change) [3][]change.Value { return [3][]change.Value{c.Key, c.After, c.Before} }
	size := 0
	for i := range lent {
		for _, row := range rows(&lent[i]) {
			for _, v := range row {
				size += len(v)
			}
		}
	}
	arena = make([]byte, 0, size)
	borrow := func(row []change.Value) []change.Value {
		if row == nil {
			return nil
		}
		out := make([]change.Value, len(row))
		for i, v := range row {
			if v != nil {
				start := len(arena)
				arena = append(arena, v...)
				out[i] = arena[start:len(arena):len(arena)]
			}
		}
		return out
	}
	for i := range lent {
		c := &lent[i]
		c.Key, c.After, c.Before = borrow(c.Key), borrow(c.After), borrow(c.Before)
	}
	return lent, func() {
		for i := range arena {
			arena[i] = '!'
		}
		for i := range lent {
			for _, row := range rows(&lent[i]) {
				clear(row)
			}
			lent[i] = change.Change{}
		}
	}
}

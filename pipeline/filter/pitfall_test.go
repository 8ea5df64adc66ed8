package filter

import (
	"testing"

	"github.com/spanledger/spanledger/change"
)

// A filter takes changes out and leaves the transaction's counters as Spanner sent them: who waits for all records of a
// transaction must not be told another number than others, and nothing here waits for one.
func TestPitfallFiltersAndCounters(t *testing.T) {
	f, err := New(Options{Operations: []string{"INSERT"}})
	if err != nil {
		t.Fatal(err)
	}
	table := change.NewTable("T", 1, []change.Column{{Name: "k", Type: &change.Type{Code: change.CodeString}, Key: true, Ordinal: 1}})
	frame := &change.Frame{Through: 9, Reserved: 7, Bytes: 7}
	for i, op := range []change.Op{change.Insert, change.Delete, change.Insert} {
		frame.Changes = append(frame.Changes, change.Change{Table: table, Op: op, Key: []change.Value{change.Value(`"1"`)}, Records: 3, Partitions: 2,
			Position: change.Position{Commit: 9, Transaction: "1", Sequence: "00000000", Mod: int32(i)}})
	}
	if err := f.Apply(frame); err != nil {
		t.Fatal(err)
	}
	if len(frame.Changes) != 2 || frame.Through != 9 || frame.Reserved != 7 {
		t.Fatalf("%+v", frame)
	}
	for _, c := range frame.Changes {
		if c.Records != 3 || c.Partitions != 2 {
			t.Errorf("%d records in %d partitions", c.Records, c.Partitions)
		}
	}
}

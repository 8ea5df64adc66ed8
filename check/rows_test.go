package check

import (
	"slices"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/change"
)

// withTable makes a truth know the world's table as it is at the end: the three rows of the changes, of which one is deleted, and
// one that never changed.
func withTable(t *testing.T, truth *Truth) *table {
	t.Helper()
	x := &table{whole: true, columns: map[string]*Column{}, rows: map[string]Row{}, changes: map[string][]int32{}}
	for i := range truth.Changes {
		c := &truth.Changes[i]
		x.changes[c.Key] = append(x.changes[c.Key], int32(i))
		if x.rows[c.Key] = c.After; c.Op == "DELETE" {
			delete(x.rows, c.Key)
		}
		x.keys = c.KeyColumns
	}
	x.rows[`["south","1"]`] = Row{{&Column{Name: "amount", Type: Type{Code: "INT64"}}, `"5"`}}
	truth.tables = map[string]*table{worldTable.Name: x}
	return x
}

// The rows of a snapshot are held against the table as it was: by undoing the changes since, or from those before.
func TestSnapshotRows(t *testing.T) {
	const north0, north1, south = `["north","0"]`, `["north","1"]`, `["south","1"]`
	row := func(truth *Truth, key string, after int) Delivery { // as it was after change number after
		at := worldStart + change.Timestamp(after+1)*1000 + 500
		d := Delivery{Table: worldTable.Name, Key: key, Op: "INSERT", Values: true, Position: change.SnapshotPosition(at, worldTable.Name, key)}
		if d.After = truth.tables[d.Table].rows[key]; key != south {
			d.After = truth.Changes[after].After
		}
		return d
	}
	at := func(n int, more ...Delivery) func(d []Delivery) []Delivery {
		return func(d []Delivery) []Delivery { return slices.Insert(d, n, more...) }
	}
	tests := map[string]struct {
		put     func(truth *Truth, d []Delivery) []Delivery
		kind    Kind // "" for a sound sink
		count   int64
		again   int64
		unknown int64
		strict  bool
	}{
		"sound": {put: func(u *Truth, d []Delivery) []Delivery {
			return at(5, row(u, north0, 3), row(u, north1, 4), row(u, south, 4))(d)
		}},
		"taken twice": {put: func(u *Truth, d []Delivery) []Delivery {
			return append(at(5, row(u, north0, 3), row(u, south, 4))(d), row(u, south, 11))
		}, again: 1},
		"copies":         {put: func(u *Truth, d []Delivery) []Delivery { return append(d, row(u, south, 11), row(u, south, 11)) }, kind: DuplicateRow, count: 1},
		"copies, strict": {put: func(u *Truth, d []Delivery) []Delivery { return append(d, row(u, south, 11), row(u, south, 11)) }, kind: DuplicateRow, count: 1, strict: true},
		"another value": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, south, 11)
			r.After = spoilRow(r.After, "amount", `"6"`)
			return append(d, r)
		}, kind: Mismatched, count: 1},
		"a value of another time": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, north0, 6)
			r.After = u.Changes[3].After
			return append(at(8, r)(d), row(u, south, 11))
		}, kind: Mismatched, count: 1},
		"deleted": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, north1, 7)
			r.Position = change.SnapshotPosition(worldStart+20_000, worldTable.Name, north1)
			return append(d, r, row(u, south, 11))
		}, kind: Unexpected, count: 1},
		"before its insertion": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, north0, 0)
			r.Position = change.SnapshotPosition(worldStart+10, worldTable.Name, north0)
			return append(at(0, r)(d), row(u, south, 11))
		}, kind: Unexpected, count: 1},
		"behind a newer change":  {put: func(u *Truth, d []Delivery) []Delivery { return append(d, row(u, north0, 3), row(u, south, 11)) }, kind: OrderViolation, count: 1},
		"before an older change": {put: func(u *Truth, d []Delivery) []Delivery { return append(at(3, row(u, north0, 3))(d), row(u, south, 11)) }, kind: OrderViolation, count: 1},
		"an older row behind a newer": {put: func(u *Truth, d []Delivery) []Delivery {
			return append(d, row(u, south, 11), row(u, south, 8))
		}, kind: OrderViolation, count: 1, again: 1},
		"not taken": {put: func(u *Truth, d []Delivery) []Delivery { return at(5, row(u, north0, 3))(d) }, kind: MissingRow, count: 1},
		"outside": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, south, 11)
			r.Position.Commit = worldStart - 1
			return append(d, r)
		}, kind: Unexpected, count: 1},
		"behind the end": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, south, 11)
			r.Position.Commit = worldEnd + 1
			return append(d, r)
		}, unknown: 1},
		"an update": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, south, 11)
			r.Op = "UPDATE"
			return append(d, r)
		}, kind: Mismatched, count: 1},
		"no old values, from the change before": {put: func(u *Truth, d []Delivery) []Delivery {
			for i := range u.Changes {
				u.Changes[i].Capture = "NEW_ROW"
			}
			return append(at(5, row(u, north0, 3))(d), row(u, south, 11))
		}},
		"nobody knows": {put: func(u *Truth, d []Delivery) []Delivery {
			for i := range u.Changes {
				u.Changes[i].Capture = "NEW_VALUES"
			}
			return append(at(5, row(u, north0, 3))(d), row(u, south, 11))
		}, unknown: 1},
		"the table was not read": {put: func(u *Truth, d []Delivery) []Delivery {
			r := row(u, south, 11)
			u.tables = nil
			return append(d, r)
		}, unknown: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			truth := truthOf(t, worldChanges(), worldPartitions())
			withTable(t, truth)
			all := test.put(truth, deliveriesOf(truth))
			sink := Deliveries(truth, test.strict, all)
			if sink.Delivered != 12 || sink.Missing != 0 || sink.Snapshot == nil || sink.Snapshot.Again != test.again || sink.Snapshot.Unverified != test.unknown {
				t.Errorf("%+v, %+v", sink, sink.Snapshot)
			}
			if got := map[Kind]int64{MissingRow: sink.Snapshot.Missing, DuplicateRow: sink.Snapshot.Duplicates, Mismatched: sink.Mismatched,
				Unexpected: sink.Unexpected, OrderViolation: sink.OrderViolations}; test.kind != "" && got[test.kind] != test.count {
				t.Errorf("%d of %s, want %d: %v", got[test.kind], test.kind, test.count, sink.Examples)
			}
			sound := test.kind == "" || test.kind == DuplicateRow && !test.strict
			if err := sink.Err(); (err == nil) != sound || err != nil && !strings.Contains(err.Error(), string(test.kind)+":") {
				t.Errorf("err %v", err)
			}
		})
	}
}

package store_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// uniqueTable is a table whose column b is unique.
func uniqueTable(t interface{ Fatal(...any) }) (*store.Database, *store.Table) {
	tab := newTable(1, "t", "")
	return open(t, store.Options{}, []*store.Table{tab}, &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}, Unique: true}), tab
}

func setB(tab *store.Table, k, b int64) store.Mutation {
	return store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(k), i(b)}}}
}

// A statement that repeats a value of a unique index is refused by itself, whatever the transaction did before: values are free
// again once their row has another, or is gone. What the statements let through commits.
func TestUniqueByStatement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db, tab := uniqueTable(t)
		rows := map[int64]int64{}
		for k := range int64(3) {
			rows[k] = k
			if _, err := commit(db, setB(tab, k, k)); err != nil {
				t.Fatal(err)
			}
		}
		txn := db.Begin()
		for n := range rapid.IntRange(1, 12).Draw(t, "statements") {
			k, b := rapid.Int64Range(0, 4).Draw(t, "k"), rapid.Int64Range(0, 4).Draw(t, "b")
			if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
				delete(rows, k)
				if err := txn.Apply(store.Mutation{Op: store.DeleteRows, Table: tab, Ranges: []store.Range{store.PointRange(tab.KeyOf(store.Row{i(k), {}, {}, {}}))}}); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want := codes.OK
			for other, has := range rows {
				if other != k && has == b {
					want = codes.AlreadyExists
				}
			}
			err := txn.Apply(setB(tab, k, b))
			if code(err) != want {
				t.Fatalf("statement %d sets row %d to %d with %v there: %v, want %v", n, k, b, rows, err, want)
			}
			if err != nil {
				return // the transaction can only be rolled back
			}
			rows[k] = b
		}
		if _, err := txn.Commit(store.CommitRequest{}); err != nil {
			t.Fatalf("%v does not commit: %v", rows, err)
		}
		got := map[int64]int64{}
		if err := db.Strong(false).Scan(tab, store.Range{}, func(_ store.Key, r store.Row) bool {
			got[r[0].Int] = r[3].Int
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(rows) {
			t.Fatalf("the table holds %v, want %v", got, rows)
		}
	})
}

// The statement's look at a unique index is not a read: who commits between is refused or let through by the commit, as ever.
func TestUniqueByStatementConflictsWithNobody(t *testing.T) {
	for other, want := range map[int64]codes.Code{7: codes.OK, 5: codes.AlreadyExists} {
		db, tab := uniqueTable(t)
		txn := db.Begin()
		if err := txn.Apply(setB(tab, 1, 5)); err != nil {
			t.Fatal(err)
		}
		if _, err := commit(db, setB(tab, 2, other)); err != nil {
			t.Fatal(err)
		}
		if _, err := txn.Commit(store.CommitRequest{}); code(err) != want {
			t.Errorf("row 1 with 5 commits after row 2 with %d: %v, want %v", other, err, want)
		}
	}
}

// Commit timestamps: not in the future, by the statement's clock; a commit's own timestamp may be written back even where the
// clock stands still; and the placeholder can be read by nobody.
func TestCommitTimestampByStatement(t *testing.T) {
	clock := &steppedClock{now: time.Unix(1e9, 0)}
	tab := newTable(1, "t", "")
	tab.Columns[3] = store.Column{Name: "at", Type: &store.Type{Code: store.Timestamp}, Ordinal: 4, AllowCommitTimestamp: true}
	x := &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}}
	db := open(t, store.Options{Clock: clock}, []*store.Table{tab}, x)
	set := func(v store.Value) store.Mutation {
		return store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(1), v}}}
	}
	var last int64
	for range 3 { // ahead of the clock
		res, err := commit(db, set(store.PendingCommitTimestamp()))
		if err != nil {
			t.Fatal(err)
		}
		last = res.Timestamp
	}
	if err := db.Begin().Apply(set(store.MicrosValue(last))); err != nil {
		t.Errorf("a commit's own timestamp: %v", err)
	}
	if err := db.Begin().Apply(set(store.MicrosValue(last + 1))); code(err) != codes.FailedPrecondition {
		t.Errorf("a timestamp in the future: %v", err)
	}
	txn := db.Begin()
	if pending := txn.Pending(tab); store.Unreadable(tab, x, pending, 3) != nil {
		t.Error("a column is unreadable before anything was written")
	}
	if err := txn.Apply(set(store.PendingCommitTimestamp())); err != nil {
		t.Fatal(err)
	}
	pending := txn.Pending(tab)
	if err := store.Unreadable(tab, nil, pending, 0, 2); err != nil {
		t.Errorf("other columns: %v", err)
	}
	if err := store.Unreadable(tab, nil, pending, 0, 3); code(err) != codes.InvalidArgument {
		t.Errorf("the column: %v", err)
	}
	if err := store.Unreadable(tab, x, pending, 0); code(err) != codes.InvalidArgument {
		t.Errorf("the index: %v", err)
	}
}

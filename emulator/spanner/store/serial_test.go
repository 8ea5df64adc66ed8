package store_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// action is one step of a transaction: a read with what it saw, or a write.
type action struct {
	kind string // get, scan, index, put, insert, delete, late
	k, n int64
	text string
	saw  string
}

func (a action) mutation(op store.MutationOp, tab *store.Table) store.Mutation {
	return store.Mutation{Op: op, Table: tab, Columns: []int{0, 2, 3}, Rows: []store.Row{{i(a.k), s(a.text), i(a.n)}}}
}

// script is a transaction under test and what it has done.
type script struct {
	id      int
	tx      *store.Txn
	actions []action
	late    []store.Mutation
	at      int64
}

const scanLimit = 2 // scans stop after so many rows, as LIMIT makes them

// carry carries out one action and returns what it saw.
func carry(t *rapid.T, tx *store.Txn, tab *store.Table, x *store.Index, a action) string {
	var out []string
	see := func(_ store.Key, r store.Row) bool {
		out = append(out, fmt.Sprint(r[0].Int, "=", r[2].Text, r[3].Int))
		return len(out) < scanLimit
	}
	key := func(k int64) store.Key { return tab.KeyOf(store.Row{i(k), {}, {}, {}}) }
	var err error
	switch a.kind {
	case "get":
		var r store.Row
		if r, err = tx.Get(tab, key(a.k)); r != nil {
			see("", r)
		}
	case "scan":
		err = tx.Scan(tab, store.Range{Start: key(a.k)}, see)
	case "index":
		err = tx.ScanIndex(x, tab, store.Range{Start: store.Key(store.AppendKeyPart(nil, intType, i(a.n), false))}, see)
	case "put":
		err = tx.Apply(a.mutation(store.InsertOrUpdateRow, tab))
	case "insert":
		err = tx.Apply(a.mutation(store.InsertRow, tab))
	case "delete":
		err = tx.Apply(store.Mutation{Op: store.DeleteRows, Table: tab, Ranges: []store.Range{store.PointRange(key(a.k))}})
	}
	if err != nil {
		// A refused statement is something that the transaction saw.
		out = append(out, code(err).String())
	}
	return strings.Join(out, " ")
}

// Transactions that are open at the same time and commit see what they would have seen one after another in the order
// of their commit timestamps, and leave the same rows.
func TestSerialOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tab := newTable(1, "t", "")
		x := &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}}
		db := open(rt, store.Options{}, []*store.Table{tab}, x)
		key, value := rapid.Int64Range(0, 2), rapid.Int64Range(0, 1)
		var live, done []*script
		for step := range rapid.IntRange(20, 200).Draw(rt, "steps") {
			if len(live) < 2 || len(live) < 5 && rapid.IntRange(0, 3).Draw(rt, "new") == 0 {
				live = append(live, &script{id: step, tx: db.Begin()})
			}
			n := rapid.IntRange(0, len(live)-1).Draw(rt, "which")
			s := live[n]
			a := action{kind: rapid.SampledFrom([]string{"get", "scan", "index", "put", "insert", "delete", "late", "commit", "commit"}).Draw(rt, "kind"), k: key.Draw(rt, "k"), n: value.Draw(rt, "n"), text: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "text")}
			switch a.kind {
			case "late": // a mutation that goes with the commit
				s.late = append(s.late, a.mutation(store.InsertOrUpdateRow, tab))
			case "commit":
				live = slices.Delete(live, n, n+1)
				broken := s.tx.Err()
				res, err := s.tx.Commit(store.CommitRequest{Schema: db.Schema(), Mutations: s.late})
				switch {
				case broken != nil: // a statement broke a constraint: the transaction ends with its error
					if code(err) != code(broken) || code(err) != codes.AlreadyExists {
						rt.Fatalf("a transaction that ended with %v commits with %v", broken, err)
					}
				case err == nil:
					s.at = res.Timestamp
					done = append(done, s)
				case code(err) == codes.Aborted:
					if len(s.actions) == 0 {
						rt.Fatalf("a transaction that only writes was aborted: %v", err)
					}
				default:
					rt.Fatal(err)
				}
			default:
				a.saw = carry(rt, s.tx, tab, x, a)
				s.actions = append(s.actions, a)
			}
		}
		if !slices.IsSortedFunc(done, func(a, b *script) int { return cmp.Compare(a.at, b.at) }) {
			rt.Fatal("commit timestamps do not rise in the order of the commits")
		}
		again := open(rt, store.Options{}, []*store.Table{tab}, x)
		for _, s := range done {
			tx := again.Begin()
			for _, a := range s.actions {
				if saw := carry(rt, tx, tab, x, a); saw != a.saw {
					rt.Fatalf("transaction %d: %s %d %d saw %q, and %q in serial order", s.id, a.kind, a.k, a.n, a.saw, saw)
				}
			}
			if _, err := tx.Commit(store.CommitRequest{Schema: again.Schema(), Mutations: s.late}); err != nil {
				rt.Fatal(err)
			}
		}
		if got, want := dump(rt, db.Strong(false)), dump(rt, again.Strong(false)); got != want {
			rt.Fatalf("the rows are %s, and in serial order %s", got, want)
		}
	})
}

// commits runs two transactions that both read before either commits, and returns how they end.
func commits(t *testing.T, db *store.Database, o store.TxnOptions, run [2]func(*store.Txn) error) (out [2]codes.Code) {
	t.Helper()
	var txs [2]*store.Txn
	for n := range txs {
		txs[n] = db.BeginWith(o)
		if err := run[n](txs[n]); err != nil {
			t.Fatal(err)
		}
	}
	for n, tx := range txs {
		_, err := tx.Commit(store.CommitRequest{})
		out[n] = code(err)
	}
	return out
}

// Repeatable read lets write skew pass and no lost update; serializable neither.
func TestIsolation(t *testing.T) {
	for _, c := range []struct {
		opts        store.TxnOptions
		skew, other codes.Code
	}{
		{store.TxnOptions{}, codes.Aborted, codes.Aborted},
		{store.TxnOptions{RepeatableRead: true}, codes.OK, codes.Aborted},
	} {
		tab := newTable(1, "t", "")
		db := open(t, store.Options{}, []*store.Table{tab})
		put := func(k, n int64) store.Mutation {
			return store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(k), i(n)}}}
		}
		if _, err := commit(db, put(1, 1), put(2, 1)); err != nil {
			t.Fatal(err)
		}
		readAllWrite := func(k int64) func(*store.Txn) error {
			return func(tx *store.Txn) error {
				if err := tx.Scan(tab, store.Range{}, func(store.Key, store.Row) bool { return true }); err != nil {
					return err
				}
				return tx.Apply(put(k, 0))
			}
		}
		if got := commits(t, db, c.opts, [2]func(*store.Txn) error{readAllWrite(1), readAllWrite(2)}); got != [2]codes.Code{codes.OK, c.skew} {
			t.Errorf("%+v: write skew ends %v", c.opts, got)
		}
		if got := commits(t, db, c.opts, [2]func(*store.Txn) error{readAllWrite(1), readAllWrite(1)}); got != [2]codes.Code{codes.OK, c.other} {
			t.Errorf("%+v: a lost update ends %v", c.opts, got)
		}
		// A mutation that goes with the commit is a write like any other.
		old := db.BeginWith(c.opts)
		if _, err := old.Get(tab, tab.KeyOf(store.Row{i(1), {}, {}, {}})); err != nil {
			t.Fatal(err)
		}
		if _, err := commit(db, put(1, 7)); err != nil {
			t.Fatal(err)
		}
		if _, err := old.Commit(store.CommitRequest{Schema: db.Schema(), Mutations: []store.Mutation{put(1, 8)}}); code(err) != codes.Aborted {
			t.Errorf("%+v: a mutation over a newer row ends with %v", c.opts, err)
		}
	}
}

// A scan that stops early has read no further than where it stopped.
func TestScanReadsWhatItSaw(t *testing.T) {
	tab := newTable(1, "t", "")
	db := open(t, store.Options{}, []*store.Table{tab})
	put := func(k int64) store.Mutation {
		return store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(k), i(k)}}}
	}
	if _, err := commit(db, put(2), put(4), put(6)); err != nil {
		t.Fatal(err)
	}
	for changed, want := range map[int64]codes.Code{1: codes.Aborted, 2: codes.Aborted, 3: codes.OK, 6: codes.OK} {
		tx := db.Begin()
		if err := tx.Scan(tab, store.Range{}, func(store.Key, store.Row) bool { return false }); err != nil {
			t.Fatal(err)
		}
		if _, err := commit(db, put(changed)); err != nil {
			t.Fatal(err)
		}
		if err := tx.Apply(put(9)); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Commit(store.CommitRequest{}); code(err) != want {
			t.Errorf("row %d was written after the first row was read: %v, want %v", changed, err, want)
		}
		if _, err := commit(db, store.Mutation{Op: store.DeleteRows, Table: tab, Ranges: []store.Range{store.PointRange(tab.KeyOf(store.Row{i(1), {}, {}, {}})), store.PointRange(tab.KeyOf(store.Row{i(3), {}, {}, {}}))}}); err != nil {
			t.Fatal(err)
		}
	}
}

// One transaction that runs alone commits whatever else is going on.
func TestAlone(t *testing.T) {
	tab := newTable(1, "t", "")
	db := open(t, store.Options{}, []*store.Table{tab})
	put := func(k, n int64) store.Mutation {
		return store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(k), i(n)}}}
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for n := int64(0); ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if _, err := commit(db, put(n%10, n)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for n := range int64(20) {
		res, err := db.Alone(store.TxnOptions{}, func(tx *store.Txn) (store.CommitRequest, error) {
			if err := tx.Scan(tab, store.Range{}, func(store.Key, store.Row) bool { return true }); err != nil {
				return store.CommitRequest{}, err
			}
			return store.CommitRequest{}, tx.Apply(put(100, n))
		})
		if err != nil || res.Timestamp == 0 {
			t.Errorf("round %d: %v, %v", n, res, err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestLimits(t *testing.T) {
	tab := newTable(1, "t", "")
	tab.Columns = append(slices.Clone(tab.Columns), store.Column{Name: "s", Type: stringType, Ordinal: 5}, store.Column{Name: "y", Type: &store.Type{Code: store.Bytes}, Ordinal: 6})
	text := &store.Table{ID: 2, Name: "text", LastOrdinal: 1, Columns: []store.Column{{Name: "k", Type: stringType, Ordinal: 1}}, Key: []store.KeyPart{{Column: 0}}}
	x := &store.Index{ID: 3, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}, Storing: []int{1}}
	db := open(t, store.Options{}, []*store.Table{tab, text}, x)
	rows := func(n int) store.Mutation {
		m := store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 3}}
		for k := range n {
			m.Rows = append(m.Rows, store.Row{i(int64(k)), i(1)})
		}
		return m
	}
	wide := func(column int, v string) store.Mutation {
		return store.Mutation{Op: store.InsertRow, Table: tab, Columns: []int{0, column}, Rows: []store.Row{{i(-1), s(v)}}}
	}
	key := func(n int) store.Mutation {
		return store.Mutation{Op: store.InsertRow, Table: text, Columns: []int{0}, Rows: []store.Row{{s(strings.Repeat("k", n))}}}
	}
	// A new row counts its two columns, and its index entry two more: itself and what it stores.
	for _, c := range []struct {
		what string
		m    store.Mutation
		want codes.Code
	}{
		{"the most mutations", rows(store.MaxMutations / 4), codes.OK},
		{"a mutation too many", rows(store.MaxMutations/4 + 1), codes.InvalidArgument},
		{"a long key", key(store.MaxKeyBytes), codes.OK},
		{"a key too long", key(store.MaxKeyBytes + 1), codes.InvalidArgument},
		{"a long string", wide(4, strings.Repeat("é", store.MaxStringRunes)), codes.OK},
		{"a string too long", wide(4, strings.Repeat("é", store.MaxStringRunes+1)), codes.FailedPrecondition},
		{"bytes too long", wide(5, strings.Repeat("y", store.MaxCellBytes+1)), codes.FailedPrecondition},
	} {
		fresh := open(t, store.Options{}, []*store.Table{tab, text}, x)
		if _, err := commit(fresh, c.m); code(err) != c.want {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if _, err := db.BeginWith(store.TxnOptions{NoLimits: true}).Commit(store.CommitRequest{Schema: db.Schema(), Mutations: []store.Mutation{rows(store.MaxMutations/4 + 1)}}); err != nil {
		t.Errorf("without limits: %v", err)
	}
	big := strings.Repeat("y", store.MaxCellBytes)
	m := store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 5}}
	for k := range int64(10) {
		m.Rows = append(m.Rows, store.Row{i(k), s(big)})
	}
	if _, err := commit(db, m); code(err) != codes.InvalidArgument {
		t.Errorf("a commit of 100 MiB and some: %v", err)
	}
	m.Rows = m.Rows[:9]
	if _, err := commit(db, m); err != nil {
		t.Errorf("a commit of 90 MiB: %v", err)
	}
}

// Commit statistics count what indexes cost.
func TestMutationCount(t *testing.T) {
	tab := newTable(1, "t", "")
	x := &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 1}}, Storing: []int{3}}
	db := open(t, store.Options{}, []*store.Table{tab}, x)
	for _, c := range []struct {
		what string
		m    store.Mutation
		want int64
	}{
		{"insert", store.Mutation{Op: store.InsertRow, Columns: []int{0, 1, 3}, Rows: []store.Row{{i(1), i(1), i(1)}}}, 3 + 2},
		{"a column of no index", store.Mutation{Op: store.UpdateRow, Columns: []int{0, 2}, Rows: []store.Row{{i(1), s("a")}}}, 2},
		{"a stored column", store.Mutation{Op: store.UpdateRow, Columns: []int{0, 3}, Rows: []store.Row{{i(1), i(2)}}}, 2 + 2},
		{"an indexed column", store.Mutation{Op: store.UpdateRow, Columns: []int{0, 1}, Rows: []store.Row{{i(1), i(2)}}}, 2 + 3},
		{"delete", store.Mutation{Op: store.DeleteRows, Ranges: []store.Range{{}}}, 1 + 1},
		{"delete of nothing", store.Mutation{Op: store.DeleteRows, Ranges: []store.Range{{}}}, 0},
	} {
		c.m.Table = tab
		if res, err := commit(db, c.m); err != nil || res.MutationCount != c.want {
			t.Errorf("%s: %d, %v; want %d", c.what, res.MutationCount, err, c.want)
		}
	}
}

package store_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// action is one step of a transaction: a read with what it saw, or a write.
type action struct {
	kind string // get, scan, index, put, insert, delete
	k, n int64
	text string
	saw  string
}

func (a action) mutation(op store.MutationOp, tab *store.Table) store.Mutation {
	return store.Mutation{Op: op, Table: tab, Columns: []int{0, 2, 3}, Rows: []store.Row{{i(a.k), s(a.text), i(a.n)}}}
}

// late is a mutation that goes with the commit.
func (a action) late(tab *store.Table) store.Mutation {
	if a.kind == "delete" {
		return store.Mutation{Op: store.DeleteRows, Table: tab, Ranges: []store.Range{store.PointRange(keyOf(tab, a.k))}}
	}
	return a.mutation(store.InsertOrUpdateRow, tab)
}

func keyOf(tab *store.Table, k int64) store.Key { return tab.KeyOf(store.Row{i(k), {}, {}, {}}) }

const scanLimit = 2 // scans stop after so many rows, as LIMIT makes them

// carry carries out one action and returns what it saw.
func carry(tx *store.Txn, tab *store.Table, x *store.Index, a action) string {
	var out []string
	see := func(_ store.Key, r store.Row) bool {
		out = append(out, fmt.Sprint(r[0].Int, "=", r[2].Text, r[3].Int))
		return len(out) < scanLimit
	}
	var err error
	switch a.kind {
	case "get":
		var r store.Row
		if r, err = tx.Get(tab, keyOf(tab, a.k)); r != nil {
			see("", r)
		}
	case "scan":
		err = tx.Scan(tab, store.Range{Start: keyOf(tab, a.k)}, see)
	case "index":
		err = tx.ScanIndex(x, tab, store.Range{Start: store.Key(store.AppendKeyPart(nil, intType, i(a.n), false))}, see)
	case "put":
		err = tx.Apply(a.mutation(store.InsertOrUpdateRow, tab))
	case "insert":
		err = tx.Apply(a.mutation(store.InsertRow, tab))
	case "delete":
		err = tx.Apply(a.late(tab))
	}
	if err != nil {
		// A refused statement is something that the transaction saw.
		out = append(out, code(err).String())
	}
	return strings.Join(out, " ")
}

// script is a transaction under test and what it has done.
type script struct {
	id      int
	tx      *store.Txn
	first   bool // it has the right of way
	younger bool // than another that had it at the same time
	actions []action
	late    []action
	at      int64
}

func (s *script) request(db *store.Database, tab *store.Table) store.CommitRequest {
	req := store.CommitRequest{Schema: db.Schema()}
	for _, a := range s.late {
		req.Mutations = append(req.Mutations, a.late(tab))
	}
	return req
}

// drawAction draws anything that a transaction may do.
func drawAction(rt *rapid.T) action {
	return action{
		kind: rapid.SampledFrom([]string{"get", "scan", "index", "put", "insert", "delete"}).Draw(rt, "kind"),
		k:    rapid.Int64Range(0, 2).Draw(rt, "k"), n: rapid.Int64Range(0, 1).Draw(rt, "n"),
		text: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "text"),
	}
}

// Transactions that are open at the same time and commit see what they would have seen one after another in the order
// of their commit timestamps, and leave the same rows: those of a plain map. Those with the right of way are aborted for
// nobody but an older one with it.
func TestSerialOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tab := newTable(1, "t", "")
		x := &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}}
		db := open(rt, store.Options{}, []*store.Table{tab}, x)
		noWait := make(chan struct{})
		close(noWait)
		var live, done []*script
		for step := range rapid.IntRange(20, 200).Draw(rt, "steps") {
			if len(live) < 2 || len(live) < 5 && rapid.IntRange(0, 3).Draw(rt, "new") == 0 {
				s := &script{id: step, first: rapid.IntRange(0, 4).Draw(rt, "first") == 0}
				o := store.TxnOptions{}
				if s.first {
					o = store.TxnOptions{RightOfWay: time.Hour, Age: int64(step)}
				}
				s.younger = slices.ContainsFunc(live, func(o *script) bool { return o.first })
				s.tx = db.BeginWith(o)
				live = append(live, s)
			}
			n := rapid.IntRange(0, len(live)-1).Draw(rt, "which")
			s := live[n]
			switch what := rapid.IntRange(0, 8).Draw(rt, "what"); {
			case what == 0:
				s.late = append(s.late, drawAction(rt))
			case what > 2:
				a := drawAction(rt)
				a.saw = carry(s.tx, tab, x, a)
				s.actions = append(s.actions, a)
			default:
				live = slices.Delete(live, n, n+1)
				broken := s.tx.Err()
				req := s.request(db, tab)
				req.Cancel = noWait
				res, err := s.tx.Commit(req)
				switch {
				case broken != nil: // a statement broke a constraint: the transaction ends with its error
					if code(err) != code(broken) || code(err) != codes.AlreadyExists {
						rt.Fatalf("a transaction that ended with %v commits with %v", broken, err)
					}
				case err == nil:
					s.at = res.Timestamp
					done = append(done, s)
				case code(err) == codes.Canceled:
					if !slices.ContainsFunc(live, func(o *script) bool { return o.first && (!s.first || o.id < s.id) }) {
						rt.Fatalf("a commit waited for nobody: %v", err)
					}
				case code(err) != codes.Aborted:
					rt.Fatal(err)
				case len(s.actions) == 0:
					rt.Fatalf("a transaction that only writes was aborted: %v", err)
				case s.first && !s.younger:
					rt.Fatalf("a transaction with the right of way was aborted: %v", err)
				}
			}
		}
		checkSerial(rt, done, dump(rt, db.Strong(false)))
	})
}

// Transactions of many goroutines are serial in the order of their commit timestamps too, with waits for those with the right of
// way.
func TestSerialOrderOfGoroutines(t *testing.T) {
	tab := newTable(1, "t", "")
	x := &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}}
	db := open(t, store.Options{}, []*store.Table{tab}, x)
	const workers, each = 6, 150
	var mu sync.Mutex
	var done []*script
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			draw := func() action {
				return action{kind: []string{"get", "scan", "index", "put", "delete"}[rng.IntN(5)], k: rng.Int64N(3), n: rng.Int64N(2), text: "ab"[:1+rng.IntN(2)]}
			}
			for id := range each {
				s := &script{id: w*each + id}
				o := store.TxnOptions{}
				if rng.IntN(4) == 0 {
					o = store.TxnOptions{RightOfWay: time.Second, Age: int64(s.id)}
				}
				s.tx = db.BeginWith(o)
				for range rng.IntN(5) {
					a := draw()
					a.saw = carry(s.tx, tab, x, a)
					s.actions = append(s.actions, a)
					runtime.Gosched()
				}
				for range rng.IntN(3) {
					s.late = append(s.late, draw())
				}
				res, err := s.tx.Commit(s.request(db, tab))
				if code(err) == codes.Aborted {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				s.at = res.Timestamp
				mu.Lock()
				done = append(done, s)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	t.Logf("%d of %d transactions committed", len(done), workers*each)
	slices.SortFunc(done, func(a, b *script) int { return cmp.Compare(a.at, b.at) })
	checkSerial(t, done, dump(t, db.Strong(false)))
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

package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

var (
	intType    = &store.Type{Code: store.Int64}
	stringType = &store.Type{Code: store.String}
)

// steppedClock moves only when told. Its timers are the system's.
type steppedClock struct {
	store.SystemClock
	mu  sync.Mutex
	now time.Time
}

func (c *steppedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *steppedClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newTable(id int64, name, parent string) *store.Table {
	t := &store.Table{ID: id, Name: name, Parent: parent, ParentEnforced: parent != "", OnDeleteCascade: parent != "", LastOrdinal: 4, Columns: []store.Column{
		{Name: "k", Type: intType, Ordinal: 1, NotNull: true},
		{Name: "j", Type: intType, Ordinal: 2},
		{Name: "a", Type: stringType, Ordinal: 3, MaxLength: 8},
		{Name: "b", Type: intType, Ordinal: 4},
	}, Key: []store.KeyPart{{Column: 0}}}
	if parent != "" {
		t.Key = append(t.Key, store.KeyPart{Column: 1, Desc: true})
	}
	return t
}

func i(n int64) store.Value  { return store.Value{Valid: true, Int: n} }
func s(t string) store.Value { return store.Value{Valid: true, Text: t} }

func open(t interface{ Fatal(...any) }, o store.Options, tables []*store.Table, indexes ...*store.Index) *store.Database {
	db := store.New(o)
	_, err := db.UpdateSchema(func(sc *store.Schema, _ int64) (*store.Schema, error) {
		n := sc.Clone()
		n.Tables, n.Indexes = tables, indexes
		return n, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func commit(db *store.Database, ms ...store.Mutation) (store.CommitResult, error) {
	return db.Begin().Commit(store.CommitRequest{Schema: db.Schema(), Mutations: ms})
}

func code(err error) codes.Code {
	var e *store.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return codes.Unknown
	}
	return codes.OK
}

// model is the plainest database: all versions of all rows as maps.
type model struct {
	rows map[string]string // by key text
}

func (m *model) clone() *model {
	c := &model{rows: map[string]string{}}
	for k, v := range m.rows {
		c.rows[k] = v
	}
	return c
}

func (m *model) String() string {
	var out []string
	for k, v := range m.rows {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func dump(t interface{ Fatal(...any) }, snap *store.Snapshot) string {
	var out []string
	tab := snap.Schema().Table("t")
	if err := snap.Scan(tab, store.Range{}, func(_ store.Key, r store.Row) bool {
		out = append(out, fmt.Sprintf("%d=%s/%d", r[0].Int, r[2].Text, r[3].Int))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

// Random transactions against the model: results, error codes, every past version, and the net changes observed.
func TestCommitAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		clock := &steppedClock{now: time.Unix(1000, 0)}
		var seen []*store.Commit
		tab := newTable(1, "t", "")
		db := open(rt, store.Options{Clock: clock, Observe: func(c *store.Commit) { seen = append(seen, c) }}, []*store.Table{tab})
		m := &model{rows: map[string]string{}}
		history := map[int64]string{}
		last := int64(0)
		for range rapid.IntRange(1, 25).Draw(rt, "commits") {
			clock.step(time.Duration(rapid.IntRange(-5, 5).Draw(rt, "step")) * time.Microsecond)
			next := m.clone()
			want := codes.OK
			var ms []store.Mutation
			touched := map[string]string{} // what happened to a row, as a walk of letters
			for range rapid.IntRange(1, 5).Draw(rt, "mutations") {
				k := rapid.Int64Range(0, 4).Draw(rt, "k")
				a, b := rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "a"), rapid.Int64Range(0, 3).Draw(rt, "b")
				key := fmt.Sprint(k)
				_, there := next.rows[key]
				mu := store.Mutation{Table: tab, Columns: []int{0, 2, 3}, Rows: []store.Row{{i(k), s(a), i(b)}}}
				kind := rapid.SampledFrom([]store.MutationOp{store.InsertRow, store.UpdateRow, store.InsertOrUpdateRow, store.ReplaceRow, store.DeleteRows}).Draw(rt, "op")
				mu.Op = kind
				if kind == store.DeleteRows {
					mu = store.Mutation{Op: kind, Table: tab, Ranges: []store.Range{store.PrefixRange(tab.KeyOf(store.Row{i(k), {}, {}, {}}))}}
				}
				ms = append(ms, mu)
				if want != codes.OK {
					continue
				}
				switch {
				case kind == store.InsertRow && there:
					want = codes.AlreadyExists
				case kind == store.UpdateRow && !there:
					want = codes.NotFound
				case kind == store.DeleteRows:
					if there {
						touched[key] += "d"
					}
					delete(next.rows, key)
				default:
					step := "u"
					if !there {
						step = "i"
					} else if kind == store.ReplaceRow {
						step = "di"
					}
					touched[key] += step
					next.rows[key] = fmt.Sprintf("%s/%d", a, b)
				}
			}
			before := len(seen)
			res, err := commit(db, ms...)
			if code(err) != want {
				rt.Fatalf("commit: %v, want %v", err, want)
			}
			if err != nil {
				if len(seen) != before {
					rt.Fatal("a failed commit was observed")
				}
				continue
			}
			if res.Timestamp <= last {
				rt.Fatalf("commit timestamp %d after %d", res.Timestamp, last)
			}
			last = res.Timestamp
			checkChanges(rt, seen[len(seen)-1], m, next, touched)
			m = next
			history[res.Timestamp] = m.String()
		}
		clock.step(time.Second)
		for ts, want := range history {
			snap, err := db.At(ts)
			if err != nil {
				rt.Fatal(err)
			}
			if got := dump(rt, snap); got != want {
				rt.Fatalf("at %d: %q, want %q", ts, got, want)
			}
		}
	})
}

// checkChanges compares the observed changes with the walks of letters, collapsed as section 4.3 of the change-stream
// reference has it.
func checkChanges(rt *rapid.T, c *store.Commit, before, after *model, touched map[string]string) {
	got := map[string]string{}
	for _, ch := range c.Changes {
		row := ch.New
		if row == nil {
			row = ch.Old
		}
		got[fmt.Sprint(row[0].Int)] += map[store.Op]string{store.Insert: "I", store.Update: "U", store.Delete: "D"}[ch.Op]
	}
	for key, walk := range touched {
		_, was := before.rows[key]
		_, is := after.rows[key]
		want := ""
		switch {
		case !was && is:
			want = "I"
		case was && !is:
			want = "D"
		case was && is && strings.Contains(walk, "d"):
			want = "DI"
		case was && is:
			want = "U"
		}
		if got[key] != want {
			rt.Fatalf("row %s: %s was observed as %q, want %q", key, walk, got[key], want)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		rt.Fatalf("untouched rows changed: %v", got)
	}
}

// Concurrent transfers keep the sum, and every snapshot sees it whole.
func TestSerializable(t *testing.T) {
	tab := newTable(1, "t", "")
	var mu sync.Mutex
	var order []int64
	db := open(t, store.Options{Observe: func(c *store.Commit) {
		mu.Lock()
		order = append(order, c.Timestamp)
		mu.Unlock()
	}}, []*store.Table{tab})
	const accounts, workers, each = 5, 6, 150
	for k := range int64(accounts) {
		if _, err := commit(db, store.Mutation{Op: store.InsertRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(k), i(100)}}}); err != nil {
			t.Fatal(err)
		}
	}
	key := func(k int64) store.Key { return tab.KeyOf(store.Row{i(k), {}, {}, {}}) }
	sum := func(r store.Reader) (n int64) {
		if err := r.Scan(tab, store.Range{}, func(_ store.Key, row store.Row) bool { n += row[3].Int; return true }); err != nil {
			t.Error(err)
		}
		return n
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for n := 0; n < each; {
				tx := db.Begin()
				from, to := rng.Int64N(accounts), rng.Int64N(accounts)
				if from == to {
					continue
				}
				if rng.IntN(4) == 0 && sum(tx) != accounts*100 {
					t.Error("a transaction saw half a transfer")
				}
				a, _ := tx.Get(tab, key(from))
				b, _ := tx.Get(tab, key(to))
				up := store.Mutation{Op: store.UpdateRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(from), i(a[3].Int - 1)}, {i(to), i(b[3].Int + 1)}}}
				req := store.CommitRequest{Schema: tx.Schema()}
				if rng.IntN(2) == 0 {
					if err := tx.Apply(up); err != nil {
						t.Error(err)
					}
				} else {
					req.Mutations = []store.Mutation{up}
				}
				_, err := tx.Commit(req)
				if c := code(err); c != codes.OK && c != codes.Aborted {
					t.Error(err)
				} else if c == codes.OK {
					n++
				}
				if got := sum(db.Strong(n%2 == 0)); got != accounts*100 {
					t.Errorf("a snapshot sums up to %d", got)
				}
			}
		}()
	}
	wg.Wait()
	for n := 1; n < len(order); n++ {
		if order[n] <= order[n-1] {
			t.Fatal("commits were observed out of order")
		}
	}
}

// A range that was read is protected against new rows in it, also by way of an index.
func TestPhantomsAbort(t *testing.T) {
	tab := newTable(1, "t", "")
	x := &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}}
	db := open(t, store.Options{}, []*store.Table{tab}, x)
	insert := func(k, b int64) store.Mutation {
		return store.Mutation{Op: store.InsertRow, Table: tab, Columns: []int{0, 3}, Rows: []store.Row{{i(k), i(b)}}}
	}
	none := func(store.Key, store.Row) bool { return true }
	part := store.PrefixRange(store.Key(store.AppendKeyPart(nil, intType, i(7), false)))
	for name, c := range map[string]struct {
		read func(*store.Txn) error
		w    store.Mutation
		want codes.Code
	}{
		"scan":          {func(tx *store.Txn) error { return tx.Scan(tab, store.Range{}, none) }, insert(1, 1), codes.Aborted},
		"index":         {func(tx *store.Txn) error { return tx.ScanIndex(x, tab, part, none) }, insert(2, 7), codes.Aborted},
		"index, beside": {func(tx *store.Txn) error { return tx.ScanIndex(x, tab, part, none) }, insert(3, 8), codes.OK},
		"absent point": {func(tx *store.Txn) error {
			_, err := tx.Get(tab, tab.KeyOf(store.Row{i(4), {}, {}, {}}))
			return err
		}, insert(4, 1), codes.Aborted},
		"other point": {func(tx *store.Txn) error {
			_, err := tx.Get(tab, tab.KeyOf(store.Row{i(99), {}, {}, {}}))
			return err
		}, insert(5, 1), codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			tx := db.Begin()
			if err := c.read(tx); err != nil {
				t.Fatal(err)
			}
			if _, err := commit(db, c.w); err != nil {
				t.Fatal(err)
			}
			if err := tx.Apply(insert(100+int64(len(name)), 50)); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Commit(store.CommitRequest{}); code(err) != c.want {
				t.Errorf("commit: %v, want %v", err, c.want)
			}
		})
	}
}

func TestInterleaveUniqueAndCascade(t *testing.T) {
	parent, child := newTable(1, "t", ""), newTable(2, "c", "t")
	x := &store.Index{ID: 3, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 2}}, Unique: true}
	var lastCommit *store.Commit
	db := open(t, store.Options{Observe: func(c *store.Commit) { lastCommit = c }}, []*store.Table{parent, child}, x)
	put := func(tab *store.Table, k, j int64, a string) store.Mutation {
		return store.Mutation{Op: store.InsertRow, Table: tab, Columns: []int{0, 1, 2}, Rows: []store.Row{{i(k), i(j), s(a)}}}
	}
	if _, err := commit(db, put(child, 1, 1, "")); code(err) != codes.NotFound {
		t.Errorf("orphan: %v", err)
	}
	if _, err := commit(db, put(parent, 1, 0, "a"), put(parent, 2, 0, "b"), put(child, 1, 1, ""), put(child, 1, 2, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := commit(db, put(parent, 3, 0, "a")); code(err) != codes.AlreadyExists {
		t.Errorf("unique: %v", err)
	}
	swap := store.Mutation{Op: store.UpdateRow, Table: parent, Columns: []int{0, 2}, Rows: []store.Row{{i(1), s("b")}, {i(2), s("a")}}}
	if _, err := commit(db, swap); err != nil {
		t.Errorf("exchange of unique values: %v", err)
	}
	if _, err := commit(db, store.Mutation{Op: store.UpdateRow, Table: parent, Columns: []int{0, 2}, Rows: []store.Row{{i(1), s("123456789")}}}); code(err) != codes.FailedPrecondition {
		t.Errorf("too long: %v", err)
	}
	if _, err := commit(db, store.Mutation{Op: store.DeleteRows, Table: parent, Ranges: []store.Range{{}}}); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, c := range lastCommit.Changes {
		got += fmt.Sprintf("%s%s ", c.Table.Name, store.FormatKey(c.Table, c.Old))
	}
	if want := "c[1,2] c[1,1] t[1] t[2] "; got != want {
		t.Errorf("cascade: %q, want %q", got, want)
	}
}

// A commit of many rows on both sides of a foreign key does not look at all of them for each.
func TestManyReferredRows(t *testing.T) {
	parent, child := newTable(1, "t", ""), newTable(2, "c", "")
	child.ForeignKeys = []store.ForeignKey{{Name: "fk", Columns: []string{"j"}, RefTable: "t", RefColumns: []string{"k"}}}
	x := &store.Index{ID: 3, Name: "x", Table: "c", Key: []store.KeyPart{{Column: 1}}, Managed: true}
	db := open(t, store.Options{}, []*store.Table{parent, child}, x)
	allocs := func(rows int64) float64 {
		up := store.Mutation{Op: store.InsertOrUpdateRow, Table: parent, Columns: []int{0, 3}}
		down := store.Mutation{Op: store.InsertOrUpdateRow, Table: child, Columns: []int{0, 1}}
		for k := range rows {
			up.Rows = append(up.Rows, store.Row{i(k), i(k)})
			down.Rows = append(down.Rows, store.Row{i(k), i(k)})
		}
		return testing.AllocsPerRun(1, func() { // once before, which inserts them
			if _, err := commit(db, up, down); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocs(100), allocs(400); many > 6*few {
		t.Errorf("%v allocations for a hundred rows, and %v for four hundred", few, many)
	}
	gone := store.Mutation{Op: store.DeleteRows, Table: parent, Ranges: []store.Range{store.PointRange(keyOf(parent, 7))}}
	if _, err := commit(db, gone); code(err) != codes.FailedPrecondition {
		t.Errorf("a row that is referred to is deleted: %v", err)
	}
}

// Versions older than the retention go, and reads there are refused; the newest stay.
func TestRetention(t *testing.T) {
	clock := &steppedClock{now: time.Unix(1000, 0)}
	tab := newTable(1, "t", "")
	db := open(t, store.Options{Clock: clock, Retention: time.Minute}, []*store.Table{tab})
	put := func(a string) int64 {
		clock.step(10 * time.Second)
		r, err := commit(db, store.Mutation{Op: store.InsertOrUpdateRow, Table: tab, Columns: []int{0, 2}, Rows: []store.Row{{i(1), s(a)}}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Timestamp
	}
	var at []int64
	for n := range 12 {
		at = append(at, put(fmt.Sprint(n)))
	}
	for n, ts := range at {
		snap, err := db.At(ts)
		if n < 5 {
			if code(err) != codes.FailedPrecondition {
				t.Errorf("version %d is still readable: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, want := dump(t, snap), fmt.Sprintf("1=%d/0", n); got != want {
			t.Errorf("version %d: %s", n, got)
		}
	}
	if _, err := db.At(clock.Now().UnixMicro() + 1e9); code(err) != codes.FailedPrecondition {
		t.Errorf("a read in the future: %v", err)
	}
}

// SafeTime never lets a later commit at or below it.
func TestSafeTime(t *testing.T) {
	clock := &steppedClock{now: time.Unix(1000, 0)}
	tab := newTable(1, "t", "")
	db := open(t, store.Options{Clock: clock}, []*store.Table{tab})
	for n := range int64(20) {
		safe := db.SafeTime()
		clock.step(-time.Second) // a clock that goes back does not matter
		r, err := commit(db, store.Mutation{Op: store.InsertRow, Table: tab, Columns: []int{0}, Rows: []store.Row{{i(n)}}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Timestamp <= safe {
			t.Fatalf("commit at %d after SafeTime %d", r.Timestamp, safe)
		}
	}
}

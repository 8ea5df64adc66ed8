package store_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// crossing is a database where a transaction has the right of way.
type crossing struct {
	*testing.T
	db  *store.Database
	tab *store.Table
	x   *store.Index
}

// cross runs a test in a bubble, on a database with the rows 1 to 9.
func cross(t *testing.T, test func(c *crossing)) {
	synctest.Test(t, func(t *testing.T) {
		c := &crossing{T: t, tab: newTable(1, "t", ""), x: &store.Index{ID: 2, Name: "x", Table: "t", Key: []store.KeyPart{{Column: 3}}}}
		c.db = open(t, store.Options{}, []*store.Table{c.tab}, c.x)
		for k := range int64(9) {
			c.want(codes.OK, c.put(k+1, 0))
		}
		test(c)
	})
}

func (c *crossing) mutation(k, n int64) store.Mutation {
	return store.Mutation{Op: store.InsertOrUpdateRow, Table: c.tab, Columns: []int{0, 3}, Rows: []store.Row{{i(k), i(n)}}}
}

// put starts a commit that has read nothing.
func (c *crossing) put(k, n int64) <-chan error {
	return c.commit(c.db.Begin(), store.CommitRequest{Mutations: []store.Mutation{c.mutation(k, n)}})
}

func (c *crossing) commit(tx *store.Txn, req store.CommitRequest) <-chan error {
	req.Schema = c.db.Schema()
	done := make(chan error, 1)
	go func() {
		_, err := tx.Commit(req)
		done <- err
	}()
	return done
}

// want checks how a commit has ended.
func (c *crossing) want(want codes.Code, done <-chan error) {
	c.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		if code(err) != want {
			c.Errorf("the commit ends with %v, want %v", err, want)
		}
	default:
		c.Errorf("the commit still waits; want %v", want)
	}
}

func (c *crossing) waits(done <-chan error) {
	c.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		c.Errorf("the commit did not wait: %v", err)
	default:
	}
}

func (c *crossing) first(age int64) *store.Txn {
	return c.db.BeginWith(store.TxnOptions{RightOfWay: time.Second, Age: age})
}

func (c *crossing) get(tx *store.Txn, k int64) int64 {
	c.Helper()
	r, err := tx.Get(c.tab, keyOf(c.tab, k))
	if err != nil {
		c.Fatal(err)
	}
	return r[3].Int
}

func (c *crossing) sum(tx *store.Txn, from, to int64) (sum int64) {
	c.Helper()
	if err := tx.Scan(c.tab, store.Range{Start: keyOf(c.tab, from), End: keyOf(c.tab, to)}, func(_ store.Key, r store.Row) bool {
		sum += r[3].Int
		return true
	}); err != nil {
		c.Fatal(err)
	}
	return sum
}

func TestRightOfWay(t *testing.T) {
	cross(t, func(c *crossing) {
		tx := c.first(1)
		c.want(codes.OK, c.put(1, 1)) // nothing is read yet
		if got := c.sum(tx, 1, 4); got != 1 {
			t.Errorf("the rows sum up to %d", got)
		}
		before := c.put(2, 20)
		c.waits(before)
		c.want(codes.OK, c.put(5, 5)) // beside what is read
		if got := c.get(tx, 5); got != 5 {
			t.Errorf("a later read sees %d, not the newest", got)
		}
		if err := tx.Apply(c.mutation(1, 10)); err != nil {
			t.Fatal(err)
		}
		beside := c.put(5, 50)
		c.waits(beside)
		if got := c.sum(tx, 1, 6); got != 10+5 {
			t.Errorf("later the rows sum up to %d", got)
		}
		c.want(codes.OK, c.commit(tx, store.CommitRequest{Mutations: []store.Mutation{c.mutation(2, 2)}}))
		c.want(codes.OK, before)
		c.want(codes.OK, beside)
		if got := dump(t, c.db.Strong(false)); got[:21] != "1=/10 2=/20 3=/0 4=/0" {
			t.Error(got)
		}
	})
}

// A range of an index is protected against what would come into it, and the rows behind it against any change.
func TestRightOfWayByIndex(t *testing.T) {
	cross(t, func(c *crossing) {
		c.want(codes.OK, c.put(1, 7))
		tx := c.first(1)
		part := store.PrefixRange(store.Key(store.AppendKeyPart(nil, intType, i(7), false)))
		if err := tx.ScanIndex(c.x, c.tab, part, func(store.Key, store.Row) bool { return true }); err != nil {
			t.Fatal(err)
		}
		in := c.put(2, 7)
		c.waits(in)
		text := c.commit(c.db.Begin(), store.CommitRequest{Mutations: []store.Mutation{{Op: store.UpdateRow, Table: c.tab, Columns: []int{0, 2}, Rows: []store.Row{{i(1), s("x")}}}}})
		c.waits(text)
		c.want(codes.OK, c.put(3, 8))
		tx.Rollback()
		c.want(codes.OK, in)
		c.want(codes.OK, text)

		// A row is read as it is when it is protected, not as it was when the scan began.
		tx = c.first(1)
		var seen []string
		if err := tx.ScanIndex(c.x, c.tab, part, func(_ store.Key, r store.Row) bool {
			if len(seen) == 0 {
				c.want(codes.OK, c.commit(c.db.Begin(), store.CommitRequest{Mutations: []store.Mutation{{Op: store.UpdateRow, Table: c.tab, Columns: []int{0, 2}, Rows: []store.Row{{i(2), s("new")}}}}}))
			}
			seen = append(seen, r[2].Text)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		c.get(tx, 9)
		c.want(codes.OK, c.commit(tx, store.CommitRequest{}))
		if got := strings.Join(seen, " "); got != "x new" {
			t.Errorf("the transaction, last in the order, has read %q", got)
		}
	})
}

// Nobody waits longer than RightOfWay for one who never ends; and he is then as optimistic as any.
func TestRightOfWayEnds(t *testing.T) {
	cross(t, func(c *crossing) {
		tx := c.first(1)
		c.sum(tx, 1, 9)
		time.Sleep(400 * time.Millisecond)
		began := time.Now()
		waiting := c.put(1, 1)
		c.waits(waiting)
		if err := <-waiting; err != nil || time.Since(began) != 600*time.Millisecond {
			t.Errorf("the commit waited %v: %v", time.Since(began), err)
		}
		c.want(codes.OK, c.put(2, 1)) // once over, it is over
		c.sum(tx, 1, 9)               // reading on does not bring it back
		c.want(codes.OK, c.put(3, 1))
		c.want(codes.Aborted, c.commit(tx, store.CommitRequest{}))

		quick := make(chan struct{})
		tx = c.first(1)
		c.sum(tx, 1, 9)
		waiting = c.commit(c.db.Begin(), store.CommitRequest{Mutations: []store.Mutation{c.mutation(1, 2)}, Cancel: quick})
		c.waits(waiting)
		close(quick)
		c.want(codes.Canceled, waiting)
		c.want(codes.OK, c.commit(tx, store.CommitRequest{}))
	})
}

// The older of two goes first, whoever comes first to commit; the younger waits, or is aborted.
func TestRightOfWayByAge(t *testing.T) {
	cross(t, func(c *crossing) {
		old, young := c.first(1), c.first(2)
		c.sum(young, 1, 9)
		c.sum(old, 1, 9)
		waiting := c.commit(young, store.CommitRequest{Mutations: []store.Mutation{c.mutation(1, 2)}})
		c.waits(waiting)
		c.want(codes.OK, c.commit(old, store.CommitRequest{Mutations: []store.Mutation{c.mutation(2, 1)}}))
		c.want(codes.Aborted, waiting)

		old, young = c.first(1), c.first(2)
		c.sum(old, 1, 5)
		c.sum(young, 5, 9)
		c.want(codes.OK, c.commit(young, store.CommitRequest{Mutations: []store.Mutation{c.mutation(5, 3)}})) // they do not meet
		c.want(codes.OK, c.commit(old, store.CommitRequest{}))
	})
}

// What cannot wait, a schema change and a transaction that runs alone, ends the right of those in its way.
func TestRightOfWayYields(t *testing.T) {
	cross(t, func(c *crossing) {
		tx := c.first(1)
		c.sum(tx, 1, 9)
		if _, err := c.db.Alone(store.TxnOptions{RightOfWay: time.Second}, func(tx *store.Txn) (store.CommitRequest, error) {
			c.sum(tx, 1, 9)
			return store.CommitRequest{}, tx.Apply(c.mutation(1, 1))
		}); err != nil {
			t.Fatal(err)
		}
		c.want(codes.OK, c.put(2, 1))
		c.want(codes.Aborted, c.commit(tx, store.CommitRequest{}))

		tx = c.first(1)
		c.sum(tx, 1, 9)
		if _, err := c.db.UpdateSchema(func(s *store.Schema, _ int64) (*store.Schema, error) { return s.Clone(), nil }); err != nil {
			t.Fatal(err)
		}
		c.want(codes.OK, c.put(2, 2))
		c.want(codes.Aborted, c.commit(tx, store.CommitRequest{}))
	})
}

// A statement that breaks a constraint ends the right with the transaction.
func TestRightOfWayAfterFailure(t *testing.T) {
	cross(t, func(c *crossing) {
		tx := c.first(1)
		c.sum(tx, 1, 9)
		m := c.mutation(1, 1)
		m.Op = store.InsertRow
		if err := tx.Apply(m); code(err) != codes.AlreadyExists {
			t.Fatal(err)
		}
		c.want(codes.AlreadyExists, c.commit(tx, store.CommitRequest{}))
		c.want(codes.OK, c.put(1, 1))
	})
}

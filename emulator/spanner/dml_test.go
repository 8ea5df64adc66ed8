package spanner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner"
)

func TestDML(t *testing.T) {
	w := openShop(t)
	for _, c := range []struct {
		sql  string
		n    int64
		code codes.Code
	}{
		{"INSERT INTO carts (cart, total) VALUES ('d', 1), ('e', 2.5)", 2, codes.OK},
		{"INSERT INTO carts (cart) VALUES ('f'), ('a')", 0, codes.AlreadyExists},
		{"INSERT OR IGNORE INTO carts (cart) VALUES ('f'), ('a'), ('f')", 1, codes.OK},
		{"INSERT OR UPDATE INTO carts (cart, owner) VALUES ('a', 'al'), ('g', DEFAULT)", 2, codes.OK},
		{"INSERT INTO items (cart, line, sku) SELECT cart, 9, owner FROM carts WHERE owner IS NOT NULL", 2, codes.OK},
		{"INSERT INTO items (cart, line) VALUES ('nope', 1)", 0, codes.NotFound},
		{"INSERT INTO carts (cart, big) VALUES ('z', TRUE)", 0, codes.InvalidArgument},
		{"INSERT INTO carts (owner) VALUES ('z')", 0, codes.FailedPrecondition},
		{"UPDATE carts SET cart = 'x' WHERE cart = 'a'", 0, codes.InvalidArgument},
		{"UPDATE carts SET total = 500, owner = DEFAULT WHERE cart IN ('d', 'e')", 2, codes.OK},
		{"UPDATE items AS i SET i.qty = COALESCE(i.qty, 0) + 1 WHERE i.sku = 'pen'", 2, codes.OK},
		{"UPDATE items SET sku = 'far too long a name for this column' WHERE TRUE", 0, codes.FailedPrecondition},
		{"DELETE FROM items WHERE line = 9", 2, codes.OK},
		{"DELETE FROM carts WHERE cart = 'b'", 1, codes.OK},
	} {
		var n int64
		_, err := w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) (err error) {
			n, err = tx.Update(ctx, cloudspanner.NewStatement(c.sql))
			return err
		})
		if cloudspanner.ErrCode(err) != c.code || n != c.n {
			t.Errorf("%s: %d rows, %v; want %d, %v", c.sql, n, err, c.n, c.code)
		}
	}
	if got, want := fmt.Sprint(w.query("SELECT cart, owner, total, big FROM carts")), "[[a al 10 false] [c NULL NULL NULL] [d NULL 500 true] [e NULL 500 true] [f NULL NULL NULL] [g NULL NULL NULL]]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := fmt.Sprint(w.query("SELECT cart, line, qty FROM items")), "[[a 2 1] [a 1 4]]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A transaction sees its own statements, and THEN RETURN shows what they wrote.
func TestStatementsSeeEarlierOnes(t *testing.T) {
	w := openShop(t)
	_, err := w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		out, err := texts(tx.Query(ctx, cloudspanner.NewStatement("INSERT INTO items (cart, line, sku, qty) VALUES ('c', 1, 'cap', 2) THEN RETURN line, qty * 2 AS twice")))
		if err != nil || fmt.Sprint(out) != "[[1 4]]" {
			return fmt.Errorf("THEN RETURN: %v, %w", out, err)
		}
		if out, err = texts(tx.Query(ctx, cloudspanner.NewStatement("UPDATE items SET qty = qty + 1 WHERE cart = 'c' THEN RETURN *"))); err != nil || fmt.Sprint(out) != "[[c 1 cap 3]]" {
			return fmt.Errorf("THEN RETURN: %v, %w", out, err)
		}
		if _, err := tx.Update(ctx, cloudspanner.NewStatement("DELETE FROM items WHERE cart = 'a' AND line = 1")); err != nil {
			return err
		}
		for sql, want := range map[string]string{
			"SELECT cart, line, qty FROM items":                                            "[[a 2 1] [b 2 NULL] [b 1 5] [c 1 3]]",
			"SELECT qty FROM items@{FORCE_INDEX=items_by_sku} WHERE sku IN ('pen', 'cap')": "[[3] [5]]",
			"SELECT COUNT(*) FROM items WHERE cart = 'a'":                                  "[[1]]",
		} {
			if out, err := texts(tx.Query(ctx, cloudspanner.NewStatement(sql))); err != nil || fmt.Sprint(out) != want {
				return fmt.Errorf("%s: %v, %w", sql, out, err)
			}
		}
		return tx.BufferWrite([]*cloudspanner.Mutation{cloudspanner.Update("items", []string{"cart", "line", "qty"}, []any{"c", 1, 7})})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(w.query("SELECT qty FROM items WHERE cart = 'c'")); got != "[[7]]" {
		t.Error(got)
	}
}

// Two transactions that read what the other wrote: one is aborted, and its retry sees the other's write.
func TestConflictAborts(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{1, 0}))
	tries := 0
	_, err := w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		tries++
		r, err := tx.ReadRow(ctx, "counters", cloudspanner.Key{1}, []string{"n"})
		if err != nil {
			return err
		}
		var n int64
		if err := r.Columns(&n); err != nil {
			return err
		}
		if tries == 1 {
			w.apply(cloudspanner.Update("counters", []string{"id", "n"}, []any{1, 40}))
		}
		return tx.BufferWrite([]*cloudspanner.Mutation{cloudspanner.Update("counters", []string{"id", "n"}, []any{1, n + 2})})
	})
	if err != nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
	if got := fmt.Sprint(w.query("SELECT n FROM counters")); got != "[[42]]" {
		t.Error(got)
	}
}

// CURRENT_TIMESTAMP is the database's clock wherever it stands: in a query, in DML and in a column's default.
func TestSteppedDefault(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock}, "CREATE TABLE d (k INT64, made TIMESTAMP DEFAULT (CURRENT_TIMESTAMP()), again TIMESTAMP) PRIMARY KEY (k)")
	clock.Step(time.Hour)
	w.apply(cloudspanner.Insert("d", []string{"k"}, []any{1}))
	if _, err := w.client.PartitionedUpdate(w.ctx, cloudspanner.NewStatement("UPDATE d SET again = CURRENT_TIMESTAMP() WHERE TRUE")); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(w.query("SELECT made = again AND again = CURRENT_TIMESTAMP(), UNIX_SECONDS(made) FROM d"))
	if want := fmt.Sprintf("[[true %d]]", clock.Now().Unix()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Commit timestamps come from the clock, and a read in the future waits for it.
func TestSteppedClock(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock}, counters)
	a := w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{1, 0}))
	b := w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{2, 0}))
	if b.Sub(a) != time.Microsecond {
		t.Errorf("the clock stands, and the commits are at %v and %v", a, b)
	}
	future := clock.Now().Add(time.Minute)
	got := make(chan string)
	go func() {
		out, err := texts(w.client.Single().WithTimestampBound(cloudspanner.ReadTimestamp(future)).Query(w.ctx, cloudspanner.NewStatement("SELECT COUNT(*) FROM counters")))
		got <- fmt.Sprint(out, err)
	}()
	if err := clock.AwaitTimers(w.ctx, 1); err != nil {
		t.Fatal(err)
	}
	w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{3, 0}))
	clock.Step(time.Minute)
	if out := <-got; out != "[[3]] <nil>" {
		t.Error(out)
	}
	if c := w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{4, 0})); !c.After(future) {
		t.Errorf("a commit at %v, after a read at %v", c, future)
	}
}

// A record beyond the size of one message arrives whole.
func TestLargeChangeRecord(t *testing.T) {
	w := start(t, spanner.Options{}, "CREATE TABLE t (k INT64 NOT NULL, s STRING(MAX)) PRIMARY KEY (k)", "CREATE CHANGE STREAM s FOR ALL")
	from := w.now()
	token := w.tokens(from)[0]
	big := strings.Repeat("xyz", 600_000)
	end := w.apply(cloudspanner.Insert("t", []string{"k", "s"}, []any{1, big}), cloudspanner.Insert("t", []string{"k", "s"}, []any{2, big}))
	n := 0
	err := w.stream(w.ctx, from, &end, &token, func(r *changeRecord) error {
		for _, d := range r.Data {
			for _, m := range d.Mods {
				if m.New.Value.(map[string]any)["s"] == big {
					n++
				}
			}
		}
		return nil
	})
	if err != nil || n != 2 {
		t.Errorf("%d of 2 values arrived, %v", n, err)
	}
}

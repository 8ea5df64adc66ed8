package spanner_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner"
)

const counters = `CREATE TABLE counters (id INT64 NOT NULL, n INT64 NOT NULL, ts TIMESTAMP OPTIONS (allow_commit_timestamp = true)) PRIMARY KEY (id)`

func TestApplyAndRead(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	at := w.apply(cloudspanner.Insert("counters", []string{"id", "n", "ts"}, []any{1, 5, cloudspanner.CommitTimestamp}))
	row, err := w.client.Single().ReadRow(w.ctx, "counters", cloudspanner.Key{1}, []string{"n", "ts"})
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	var got time.Time
	if err := row.Columns(&n, &got); err != nil {
		t.Fatal(err)
	}
	if n != 5 || !got.Equal(at) {
		t.Errorf("read %d, %v; want 5, %v", n, got, at)
	}
	_, err = w.client.Apply(w.ctx, []*cloudspanner.Mutation{cloudspanner.Insert("counters", []string{"id", "n"}, []any{1, 5})})
	if cloudspanner.ErrCode(err) != codes.AlreadyExists {
		t.Errorf("second insert: %v", err)
	}
	_, err = w.client.Apply(w.ctx, []*cloudspanner.Mutation{cloudspanner.Update("counters", []string{"id", "n"}, []any{2, 5})})
	if cloudspanner.ErrCode(err) != codes.NotFound {
		t.Errorf("update of an absent row: %v", err)
	}
	if _, err := w.client.Apply(w.ctx, []*cloudspanner.Mutation{cloudspanner.InsertOrUpdate("counters", []string{"id", "n"}, []any{2, 6})}, cloudspanner.ApplyAtLeastOnce()); err != nil {
		t.Errorf("ApplyAtLeastOnce: %v", err)
	}
	if got, want := w.query("SELECT id, n FROM counters ORDER BY id DESC"), [][]string{{"2", "6"}, {"1", "5"}}; !cmp.Equal(got, want) {
		t.Errorf("query: %v", got)
	}
}

func TestNoLostUpdate(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	const workers, each, rows = 8, 40, 3
	for i := range rows {
		w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{i, 0}))
	}
	g, ctx := errgroup.WithContext(w.ctx)
	for k := range workers {
		g.Go(func() error {
			for i := range each {
				_, err := w.client.ReadWriteTransaction(ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
					id := int64((i + k) % rows)
					if i%2 == 0 {
						_, err := tx.Update(ctx, cloudspanner.Statement{SQL: "UPDATE counters SET n = n + 1 WHERE id = @id", Params: map[string]any{"id": id}})
						return err
					}
					r, err := tx.ReadRow(ctx, "counters", cloudspanner.Key{id}, []string{"n"})
					if err != nil {
						return err
					}
					var n int64
					if err := r.Columns(&n); err != nil {
						return err
					}
					return tx.BufferWrite([]*cloudspanner.Mutation{cloudspanner.Update("counters", []string{"id", "n"}, []any{id, n + 1})})
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, want := w.query("SELECT SUM(n) FROM counters")[0][0], fmt.Sprint(workers*each); got != want {
		t.Errorf("the counters add up to %s, want %s", got, want)
	}
}

func TestReadOnlyTransactionIsAStableSnapshot(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	before := w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{1, 1}))
	ro := w.client.ReadOnlyTransaction()
	defer ro.Close()
	read := func() string {
		out, err := texts(ro.Query(w.ctx, cloudspanner.NewStatement("SELECT n FROM counters")))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(out)
	}
	if got := read(); got != "[[1]]" {
		t.Fatal(got)
	}
	after := w.apply(cloudspanner.Update("counters", []string{"id", "n"}, []any{1, 2}), cloudspanner.Insert("counters", []string{"id", "n"}, []any{2, 2}))
	if got := read(); got != "[[1]]" {
		t.Errorf("after another commit the snapshot reads %s", got)
	}
	ts, err := ro.Timestamp()
	if err != nil || ts.Before(before) || !ts.Before(after) {
		t.Errorf("timestamp %v, %v; want from %v to before %v", ts, err, before, after)
	}
	for _, c := range []struct {
		bound cloudspanner.TimestampBound
		want  string
	}{{cloudspanner.ReadTimestamp(before), "[[1]]"}, {cloudspanner.ReadTimestamp(after), "[[2] [2]]"}, {cloudspanner.StrongRead(), "[[2] [2]]"},
		{cloudspanner.MinReadTimestamp(after), "[[2] [2]]"}, {cloudspanner.MaxStaleness(time.Hour), "[[2] [2]]"}, {cloudspanner.ExactStaleness(0), "[[2] [2]]"}} {
		out, err := texts(w.client.Single().WithTimestampBound(c.bound).Query(w.ctx, cloudspanner.NewStatement("SELECT n FROM counters")))
		if err != nil || fmt.Sprint(out) != c.want {
			t.Errorf("%v: %v, %v; want %s", c.bound, out, err, c.want)
		}
	}
}

func TestBatchWriteAndBatchUpdate(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	groups := []*cloudspanner.MutationGroup{
		{Mutations: []*cloudspanner.Mutation{cloudspanner.Insert("counters", []string{"id", "n"}, []any{1, 1})}},
		{Mutations: []*cloudspanner.Mutation{cloudspanner.Insert("counters", []string{"id", "n"}, []any{1, 2})}},
		{Mutations: []*cloudspanner.Mutation{cloudspanner.Insert("counters", []string{"id", "n"}, []any{3, 3})}},
	}
	got := map[int32]codes.Code{}
	err := w.client.BatchWrite(w.ctx, groups).Do(func(r *spannerpb.BatchWriteResponse) error {
		for _, i := range r.GetIndexes() {
			got[i] = codes.Code(r.GetStatus().GetCode())
		}
		return nil
	})
	if want := (map[int32]codes.Code{0: codes.OK, 1: codes.AlreadyExists, 2: codes.OK}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("BatchWrite: %v, %v", got, err)
	}
	resp, err := w.client.ReadWriteTransactionWithOptions(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		counts, err := tx.BatchUpdate(ctx, []cloudspanner.Statement{
			cloudspanner.NewStatement("INSERT INTO counters (id, n, ts) VALUES (7, 1, PENDING_COMMIT_TIMESTAMP())"),
			cloudspanner.NewStatement("UPDATE counters SET n = n * 10 WHERE TRUE"),
			cloudspanner.NewStatement("DELETE FROM counters WHERE id = 3"),
		})
		if err != nil || !cmp.Equal(counts, []int64{1, 3, 1}) {
			return fmt.Errorf("BatchUpdate: %v, %w", counts, err)
		}
		_, err = tx.Update(ctx, cloudspanner.NewStatement("INSERT INTO counters (id, n) VALUES (8, 1)"))
		return err
	}, cloudspanner.TransactionOptions{CommitOptions: cloudspanner.CommitOptions{ReturnCommitStats: true}, TransactionTag: "tagged"})
	if err != nil {
		t.Fatal(err)
	}
	if resp.CommitStats.GetMutationCount() == 0 {
		t.Error("no commit statistics")
	}
	if got := fmt.Sprint(w.query("SELECT id, n FROM counters")); got != "[[1 10] [7 10] [8 1]]" {
		t.Error(got)
	}
	// A statement that breaks a constraint takes the transaction with it: the client may swallow the error, the commit has it
	// again.
	_, err = w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		counts, err := tx.BatchUpdate(ctx, []cloudspanner.Statement{
			cloudspanner.NewStatement("INSERT INTO counters (id, n) VALUES (9, 1)"),
			cloudspanner.NewStatement("INSERT INTO counters (id, n) VALUES (9, 1)"),
		})
		if cloudspanner.ErrCode(err) != codes.AlreadyExists || !cmp.Equal(counts, []int64{1}) {
			return fmt.Errorf("second BatchUpdate: %v, %w", counts, err)
		}
		return nil
	})
	if cloudspanner.ErrCode(err) != codes.AlreadyExists {
		t.Errorf("commit after a failed statement: %v", err)
	}
	if got := fmt.Sprint(w.query("SELECT id, n FROM counters")); got != "[[1 10] [7 10] [8 1]]" {
		t.Error(got)
	}
	n, err := w.client.PartitionedUpdate(w.ctx, cloudspanner.NewStatement("DELETE FROM counters WHERE n = 10"))
	if n != 2 || err != nil {
		t.Errorf("PartitionedUpdate: %d, %v", n, err)
	}
}

func TestBatchReadOnly(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	for i := range 10 {
		w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{i, i}))
	}
	tx, err := w.client.BatchReadOnlyTransaction(w.ctx, cloudspanner.StrongRead())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	parts, err := tx.PartitionRead(w.ctx, "counters", cloudspanner.AllKeys(), []string{"id"}, cloudspanner.PartitionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	qparts, err := tx.PartitionQuery(w.ctx, cloudspanner.NewStatement("SELECT id FROM counters"), cloudspanner.PartitionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ps := range [][]*cloudspanner.Partition{parts, qparts} {
		n := 0
		for _, p := range ps {
			it := tx.Execute(w.ctx, p)
			for {
				if _, err := it.Next(); err == iterator.Done {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				n++
			}
			it.Stop()
		}
		if n != 10 {
			t.Errorf("read %d rows of 10", n)
		}
	}
}

package spanner_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// failures counts the RPCs that fail, by method and code, below the client's retries.
type failures struct{ n atomic.Int64 }

func (f *failures) option() option.ClientOption {
	return option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err != nil {
			f.n.Add(1)
		}
		return err
	}))
}

// Blind writes of different rows and of the same rows never fail and never abort, not even below the client's retries;
// their commit timestamps are all different.
func TestBlindWritesNeverAbort(t *testing.T) {
	for name, rowOf := range map[string]func(worker, i int) int{
		"different rows": func(w, i int) int { return w*1000 + i },
		"the same rows":  func(_, i int) int { return i % 3 },
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, spanner.Options{}, counters)
			var failed failures
			w.opts = append(w.opts, failed.option())
			client := w.newClient()
			const workers, each = 8, 60
			var mu sync.Mutex
			stamps := map[time.Time]bool{}
			g, ctx := errgroup.WithContext(w.ctx)
			for k := range workers {
				g.Go(func() error {
					for i := range each {
						at, err := client.Apply(ctx, []*cloudspanner.Mutation{cloudspanner.InsertOrUpdate("counters", []string{"id", "n"}, []any{rowOf(k, i), i})})
						if err != nil {
							return err
						}
						mu.Lock()
						stamps[at] = true
						mu.Unlock()
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if failed.n.Load() != 0 || len(stamps) != workers*each {
				t.Errorf("%d calls failed; %d commits have %d timestamps", failed.n.Load(), workers*each, len(stamps))
			}
		})
	}
}

// Schema changes do not abort blind writes, and partitioned DML ends although the table is written all the time.
func TestBusyTable(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	var failed failures
	w.opts = append(w.opts, failed.option())
	client := w.newClient()
	ctx, stop := context.WithCancel(w.ctx)
	g, gctx := errgroup.WithContext(w.ctx)
	for k := range 4 {
		g.Go(func() error {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := client.Apply(gctx, []*cloudspanner.Mutation{cloudspanner.InsertOrUpdate("counters", []string{"id", "n"}, []any{k*100 + i%100, 1})}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i := range 10 {
		if err := w.ddl(fmt.Sprintf("ALTER TABLE counters ADD COLUMN c%d INT64", i)); err != nil {
			t.Error(err)
		}
		if _, err := w.client.PartitionedUpdate(w.ctx, cloudspanner.NewStatement("UPDATE counters SET n = n + 1 WHERE TRUE")); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := failed.n.Load(); n != 0 {
		t.Errorf("%d calls of the writers failed", n)
	}
}

// Under repeatable read a transaction is not disturbed by what it only read, and still loses no update.
func TestRepeatableRead(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	for i := range 2 {
		w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{i, 0}))
	}
	o := cloudspanner.TransactionOptions{IsolationLevel: spannerpb.TransactionOptions_REPEATABLE_READ}
	attempts := 0
	_, err := w.client.ReadWriteTransactionWithOptions(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		attempts++
		r, err := tx.ReadRow(ctx, "counters", cloudspanner.Key{0}, []string{"n"})
		if err != nil {
			return err
		}
		w.apply(cloudspanner.Update("counters", []string{"id", "n"}, []any{0, 100}))
		again, err := tx.ReadRow(ctx, "counters", cloudspanner.Key{0}, []string{"n"})
		if err != nil || again.String() != r.String() {
			return fmt.Errorf("the same row is %v and then %v, %w", r, again, err)
		}
		_, err = tx.Update(ctx, cloudspanner.NewStatement("UPDATE counters SET n = n + 1 WHERE id = 1"))
		return err
	}, o)
	if err != nil || attempts != 1 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
	attempts = 0
	_, err = w.client.ReadWriteTransactionWithOptions(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		attempts++
		_, err := tx.Update(ctx, cloudspanner.NewStatement("UPDATE counters SET n = n + 1 WHERE id = 1"))
		if attempts == 1 {
			w.apply(cloudspanner.Update("counters", []string{"id", "n"}, []any{1, 10}))
		}
		return err
	}, o)
	if err != nil || attempts != 2 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
	if got := fmt.Sprint(w.query("SELECT n FROM counters ORDER BY id")); got != "[[100] [11]]" {
		t.Error(got)
	}
}

// Every kind of write can be left out of the change streams that allow it.
func TestExcludedFromChangeStreams(t *testing.T) {
	w := start(t, spanner.Options{}, counters, "CREATE CHANGE STREAM s FOR ALL OPTIONS (allow_txn_exclusion = true)")
	from := w.now()
	token := w.tokens(from)[0]
	put := func(id int) []*cloudspanner.Mutation {
		return []*cloudspanner.Mutation{cloudspanner.InsertOrUpdate("counters", []string{"id", "n"}, []any{id, 0})}
	}
	if _, err := w.client.Apply(w.ctx, put(1), cloudspanner.ExcludeTxnFromChangeStreams()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Apply(w.ctx, put(2), cloudspanner.ExcludeTxnFromChangeStreams(), cloudspanner.ApplyAtLeastOnce()); err != nil {
		t.Fatal(err)
	}
	groups := []*cloudspanner.MutationGroup{{Mutations: put(3)}}
	err := w.client.BatchWriteWithOptions(w.ctx, groups, cloudspanner.BatchWriteOptions{ExcludeTxnFromChangeStreams: true}).Do(func(*spannerpb.BatchWriteResponse) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.client.ReadWriteTransactionWithOptions(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		_, err := tx.Update(ctx, cloudspanner.NewStatement("INSERT INTO counters (id, n) VALUES (4, 0)"))
		return err
	}, cloudspanner.TransactionOptions{ExcludeTxnFromChangeStreams: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.PartitionedUpdateWithOptions(w.ctx, cloudspanner.NewStatement("UPDATE counters SET n = 5 WHERE TRUE"), cloudspanner.QueryOptions{ExcludeTxnFromChangeStreams: true}); err != nil {
		t.Fatal(err)
	}
	last := w.apply(put(6)...)
	var got []string
	err = w.stream(w.ctx, from, &last, &token, func(r *changeRecord) error {
		for _, d := range r.Data {
			for _, m := range d.Mods {
				got = append(got, fmt.Sprint(m.Keys, d.ModType))
			}
		}
		return nil
	})
	if want := `{"id":"6"}INSERT`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("the stream has %v, %v; want %s", got, err, want)
	}
	if rows := len(w.query("SELECT id FROM counters WHERE n = 5")); rows != 4 {
		t.Errorf("%d rows were written by what is excluded, want 4", rows)
	}
}

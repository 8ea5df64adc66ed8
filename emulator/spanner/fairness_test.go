package spanner_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner"
)

func counter(id, n int) []*cloudspanner.Mutation {
	return []*cloudspanner.Mutation{cloudspanner.InsertOrUpdate("counters", []string{"id", "n"}, []any{id, n})}
}

// A transaction that reads what others write all the time commits within a few tries, and they all go on.
func TestScanUnderConstantWriters(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	w.apply(counter(0, 0)...)
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var writes atomic.Int64
	g, gctx := errgroup.WithContext(w.ctx)
	for k := range 4 {
		g.Go(func() error {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := w.client.Apply(gctx, counter(k*10+i%10, i)); err != nil {
					return err
				}
				writes.Add(1)
			}
			return nil
		})
	}
	const patience = 3 // it is starved so many times, and then must come through: see package server
	for round := range 3 {
		tries := 0
		_, err := w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
			tries++
			sum, err := texts(tx.Query(ctx, cloudspanner.NewStatement("SELECT SUM(n) FROM counters WHERE id < 1000")))
			if err != nil {
				return err
			}
			for seen := writes.Load(); tries <= patience && writes.Load() < seen+8; { // each writer has begun another since
				time.Sleep(time.Millisecond)
			}
			if _, err := tx.ReadRow(ctx, "counters", cloudspanner.Key{0}, []string{"n"}); err != nil {
				return err
			}
			_, err = tx.Update(ctx, cloudspanner.Statement{SQL: "INSERT OR UPDATE INTO counters (id, n) VALUES (1000, CAST(@sum AS INT64))", Params: map[string]any{"sum": sum[0][0]}})
			return err
		})
		// On a machine so busy that its time runs out, it tries again with more.
		if err != nil || tries <= patience || tries > patience+4 {
			t.Errorf("round %d: %d tries, %v", round, tries, err)
		}
	}
	before := writes.Load()
	for writes.Load() < before+100 && gctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// starve begins a transaction that reads all counters, on behalf of one that was aborted as often as it takes to get the right of
// way.
func (w *world) starve() *cloudspanner.ReadWriteStmtBasedTransaction {
	w.Helper()
	tx, err := cloudspanner.NewReadWriteStmtBasedTransaction(w.ctx, w.client)
	for tries := 0; err == nil; tries++ {
		if _, err = texts(tx.Query(w.ctx, cloudspanner.NewStatement("SELECT n FROM counters"))); err != nil || tries == 3 {
			break
		}
		w.apply(counter(1, tries)...)
		if _, err := tx.Commit(w.ctx); cloudspanner.ErrCode(err) != codes.Aborted {
			w.Fatalf("a commit after a change of what was read: %v", err)
		}
		tx, err = tx.ResetForRetry(w.ctx)
	}
	if err != nil {
		w.Fatal(err)
	}
	return tx
}

// Whoever waits for a client that has died, or for himself, waits a second of the server's clock.
func TestDeadClientHoldsUpForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, spanner.Options{InMemory: true}, counters, tableT)
		tx := w.starve()
		began := time.Now()
		w.apply(insertT(1, "beside what is read"))
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("a write of another table took %v", d)
		}
		began = time.Now()
		w.apply(counter(7, 7)...)
		if d := time.Since(began); d < 900*time.Millisecond || d > time.Second {
			t.Errorf("the write took %v", d)
		}
		if _, err := tx.Commit(w.ctx); cloudspanner.ErrCode(err) != codes.Aborted {
			t.Errorf("too late, it commits with %v", err)
		}

		// The next of its line has two seconds. A caller who does not want to wait so long is heard.
		tx, err := tx.ResetForRetry(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := texts(tx.Query(w.ctx, cloudspanner.NewStatement("SELECT n FROM counters"))); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		ctx, cancel := context.WithTimeout(w.ctx, 1500*time.Millisecond)
		defer cancel()
		_, err = w.client.Apply(ctx, counter(8, 8))
		if d := time.Since(began); cloudspanner.ErrCode(err) != codes.DeadlineExceeded || d > 1600*time.Millisecond {
			t.Errorf("after %v: %v", d, err)
		}
		if _, err := tx.Commit(w.ctx); err != nil {
			t.Errorf("within its time, it commits with %v", err)
		}
	})
}

// A server that closes waits for no such commit.
func TestCloseWithWaitingCommit(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0)) // it stands: the wait has no end
	w := start(t, spanner.Options{Clock: clock}, counters)
	w.starve()
	done := make(chan error)
	go func() {
		_, err := w.client.Apply(w.ctx, counter(1, 1), cloudspanner.ApplyAtLeastOnce())
		done <- err
	}()
	if err := clock.AwaitTimers(w.ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := w.srv.Close(); err != nil {
		t.Error(err)
	}
	w.client.Close()
	if err := <-done; err == nil {
		t.Error("the commit went through")
	}
}

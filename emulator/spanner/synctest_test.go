package spanner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	cloudspanner "cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

// Inside a bubble nobody waits: an hour of heartbeats, and ten days until records expire, pass at once.
func TestInASynctestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, spanner.Options{InMemory: true}, tableT, streamT)
		from := w.now()
		time.Sleep(time.Millisecond)
		token := w.tokens(from)[0]
		at := w.apply(insertT(1, "x"))
		end := at.Add(time.Hour)
		ctx, cancel := context.WithTimeout(context.Background(), 20*24*time.Hour)
		defer cancel()
		began := time.Now()
		records, beats := 0, 0
		err := w.stream(ctx, from, &end, &token, func(r *changeRecord) error {
			records += len(r.Data)
			beats += len(r.Heartbeat)
			return nil
		})
		if err != nil || records != 1 || beats < 3590 || beats > 3601 {
			t.Errorf("%d records and %d heartbeats in an hour, %v", records, beats, err)
		}
		if d := time.Since(began); d < time.Hour || d > time.Hour+time.Second {
			t.Errorf("an hour took %v of the bubble", d)
		}
		time.Sleep(10 * 24 * time.Hour)
		err = w.stream(ctx, from, &end, &token, func(*changeRecord) error { return nil })
		if cloudspanner.ErrCode(err).String() != "OutOfRange" {
			t.Errorf("after ten days: %v", err)
		}
	})
}

// Records go by the server's clock, though nobody commits or reads: a stepped one too, whose tests do not see the timer for it.
func TestExpiredRecordsGoByTheClock(t *testing.T) {
	const week = changes.DefaultRetention
	// ended reports whether the partition that ended is gone, as it is when its last record is.
	ended := func(w *world) bool {
		ps, err := w.srv.Database(dbName).Log().Partitions("s")
		if err != nil {
			w.Fatal(err)
		}
		return len(ps) == 1
	}
	record := func(w *world) {
		token := w.tokens(w.now())[0]
		w.apply(insertT(1, "x"))
		if _, err := w.srv.Database(dbName).Log().Move("s", token, 0); err != nil {
			w.Fatal(err)
		}
		if ended(w) {
			w.Error("the records are gone too soon")
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := start(t, spanner.Options{InMemory: true}, tableT, streamT)
		record(w)
		time.Sleep(week)
		if ended(w) {
			t.Error("the records are gone within the retention")
		}
		time.Sleep(2 * time.Minute)
		if !ended(w) {
			t.Error("the records are kept beyond the retention")
		}
	})
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock}, tableT, streamT)
	record(w)
	clock.Step(week + time.Second)
	for !ended(w) && w.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if !ended(w) {
		t.Error("the records are kept though the clock is beyond the retention")
	}
}

package spanner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	cloudspanner "cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/emulator/spanner"
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

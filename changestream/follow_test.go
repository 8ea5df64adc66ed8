package changestream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

func (w *embeddedWorld) put(id string, items int) change.Timestamp {
	w.Helper()
	at, err := w.client.Apply(w.Context(), []*spanner.Mutation{spanner.InsertOrUpdateMap("Carts", map[string]any{"CartId": id, "Items": int64(items)})}, spanner.ApplyAtLeastOnce())
	w.must(err)
	return change.TimestampOf(at)
}

// Follow gives every change through the end once and in key order, while partitions split, merge and move, and says so.
func TestFollowThroughAnEnd(t *testing.T) {
	w := startEmbedded(t, embedded.Options{Partitions: 3}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	start, err := r.Now(t.Context())
	w.must(err)
	const writes, keys = 200, 10
	var commits []change.Timestamp
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range writes {
		if i%10 == 9 {
			w.churn(rnd)
		}
		commits = append(commits, w.put(fmt.Sprint(i%keys), i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, n := range []int{1, writes / 2, writes} {
		end := commits[n-1]
		last, got := map[string]change.Position{}, 0
		through, err := r.Follow(ctx, start, end, func(f *change.Frame) error {
			if f.Through > end {
				t.Errorf("a promise of %v, past the end %v", f.Through, end)
			}
			for i := range f.Changes {
				c := &f.Changes[i]
				if key := string(c.Key[0]); !c.Position.After(last[key]) {
					t.Errorf("key %s: %v came after %v", key, c.Position, last[key])
				} else {
					last[key] = c.Position
				}
				got++
			}
			return nil
		})
		if err != nil || through != end || got != n {
			t.Errorf("%d of %d changes through %v, want %v: %v", got, n, through, end, err)
		}
	}
	// What one call handed over completely, the next need not read again.
	half, n := commits[writes/2-1], 0
	for c, err := range r.Changes(ctx, half+1, commits[writes-1]) {
		w.must(err)
		if n++; c.Position.Commit <= half {
			t.Errorf("%v came again", c.Position)
		}
	}
	if n != writes/2 {
		t.Errorf("%d changes in the second half, want %d", n, writes/2)
	}
	if _, err := r.Follow(ctx, half, half-1, nil); err == nil {
		t.Error("an end before the start")
	}
}

// churn changes the partitions of Everything, at random.
func (w *embeddedWorld) churn(rnd *rand.Rand) {
	w.Helper()
	log := w.database().Log()
	all, err := log.Partitions("Everything")
	w.must(err)
	var live []string
	for _, p := range all {
		if p.End == 0 {
			live = append(live, p.Token)
		}
	}
	switch a := rnd.IntN(len(live)); {
	case rnd.IntN(3) == 0:
		_, err = log.Move("Everything", live[a], 0)
	case len(live) > 4:
		_, err = log.Merge("Everything", []string{live[a], live[(a+1)%len(live)]}, 0)
	default:
		_, err = log.Split("Everything", live[a], 2, nil, 0)
	}
	if status.Code(err) != codes.InvalidArgument { // partitions that are not neighbours cannot merge
		w.must(err)
	}
}

// A caller who has seen enough gets no further call, and no goroutine is left (goleak); the promise covers what it has.
func TestFollowStops(t *testing.T) {
	w := startEmbedded(t, embedded.Options{Partitions: 2}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	start, err := r.Now(t.Context())
	w.must(err)
	at := w.put("a", 1)
	enough := errors.New("enough")
	calls := 0
	through, err := r.Follow(t.Context(), start, 0, func(f *change.Frame) error {
		if len(f.Changes) == 0 {
			return nil
		}
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 || through >= at {
		t.Errorf("%d calls, through %v with a refused change at %v: %v", calls, through, at, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := false
	through, err = r.Follow(ctx, start, 0, func(f *change.Frame) error {
		seen = seen || len(f.Changes) > 0
		if seen && f.Through > at {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || through < start-1 {
		t.Errorf("through %v: %v", through, err)
	}
	for c, err := range r.Changes(t.Context(), start, 0) {
		w.must(err)
		if string(c.Key[0]) != `"a"` {
			t.Errorf("key %s", c.Key[0])
		}
		break
	}
	w.ddl("DROP CHANGE STREAM Everything")
	for _, err := range r.Changes(t.Context(), start, 0) {
		if gone, ok := errors.AsType[*GoneError](err); !ok || gone.Cause != StreamDropped {
			t.Errorf("a dropped stream: %v", err)
		}
	}
}

// Every cause is told apart, and Earliest is the first start that works.
func TestGoneCauses(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	earliest, err := r.Earliest(t.Context())
	w.must(err)
	first, err := r.Partitions(t.Context(), earliest)
	w.must(err)
	if _, err := r.Partitions(t.Context(), earliest-1); !errors.As(err, new(*LostError)) {
		t.Errorf("a microsecond before the earliest: %v", err)
	}
	cause := func(after change.Timestamp) Cause {
		t.Helper()
		err := r.Read(t.Context(), first[0], after, func(*change.Frame) error { return nil })
		gone, ok := errors.AsType[*GoneError](err)
		if !ok {
			t.Fatalf("read of a partition that is gone: %v", err)
		}
		return gone.Cause
	}
	w.ddl("DROP CHANGE STREAM Everything")
	if c := cause(earliest); c != StreamDropped {
		t.Errorf("dropped: cause %d", c)
	}
	w.ddl("CREATE CHANGE STREAM Everything FOR ALL")
	now, err := r.Now(t.Context())
	w.must(err)
	for name, after := range map[string]change.Timestamp{"before the new one": earliest, "after it": now} {
		if c := cause(after); c != StreamRecreated {
			t.Errorf("re-created, from %s: cause %d", name, c)
		}
	}
}

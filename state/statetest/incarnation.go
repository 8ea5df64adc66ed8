package statetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/spanledger/spanledger/state"
)

func (h *harness) history() state.History {
	h.Helper()
	s, err := h.store.History(h.Context(), h.Pipeline)
	if err != nil {
		h.Fatal(err)
	}
	return s
}

func (h *harness) reopen(c state.Config, r state.Restart) state.Pipeline {
	h.Helper()
	p, err := h.store.Reopen(h.Context(), c, r)
	if err != nil {
		h.Fatal(err)
	}
	return p
}

// testReopen: a new incarnation begins without partitions and progress, keeps segments and schema unions, and fences.
func testReopen(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	first := h.lease
	h.commit(state.Update{Token: "a", Progress: through("s", 200), Segments: []state.SinkSegment{h.segment("s", "a", "t", 110, 120)}})
	c := h.Config
	c.Digest, c.Start = "another", 300
	p := h.reopen(c, state.Restart{Incarnation: 1, Reason: state.Reconfigured, Through: 299})
	if want := (state.Pipeline{Config: c, Incarnation: 2}); p != want {
		t.Fatalf("reopened as %+v, want %+v", p, want)
	}
	if d := diff(state.Snapshot{Pipeline: p}, h.load()); d != "" {
		t.Errorf("a new incarnation loads with (-want +got):\n%s", d)
	}
	if n := len(h.segments("s")); n != 1 {
		t.Errorf("%d segments are left of 1", n)
	}
	if fenced, err := h.store.Commit(t.Context(), first, []state.Update{{Token: "a", Progress: through("s", 250)}}); err != nil || len(fenced) != 1 {
		t.Errorf("I4: the worker of the incarnation before was not fenced: %q, %v", fenced, err)
	}
	if current, err := h.store.Renew(t.Context(), first); current || err != nil {
		t.Errorf("I4: its renewal says %t, %v", current, err)
	}
	if _, err := h.store.Open(t.Context(), h.Config); err == nil {
		t.Error("the configuration before still opens it")
	}
	again, err := open(t).Open(t.Context(), c)
	if err != nil || again != p {
		t.Errorf("opened as %+v, %v", again, err)
	}
	h.lease = h.claim("worker")
	if h.lease.Incarnation != 2 || h.lease.Epoch <= first.Epoch {
		t.Errorf("the next lease is %+v after %+v", h.lease, first)
	}
	h.commit(state.Update{Children: children(300, nil, "a")}) // a token may come back: it is another partition's
	if got := h.partition("a"); got.Start != 300 || got.State != state.Open {
		t.Errorf("partition %+v", got)
	}
	if p := h.progress("a", "s"); p.Through != 0 {
		t.Errorf("progress of the incarnation before: %+v", p)
	}
	history := h.history()
	if len(history.Incarnations) != 2 || history.Incarnations[0].Gap != nil || history.Incarnations[0].Reason != state.First ||
		history.Current().Reason != state.Reconfigured || history.Current().Config != c || history.Current().Opened.Before(history.Incarnations[0].Opened) {
		t.Errorf("history %+v: from 300 after everything through 299 nothing is lost", history)
	}
}

// testReopenTwice: who decides on an incarnation that is over changes nothing.
func testReopenTwice(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	c := h.Config
	c.Start = 300
	h.reopen(c, state.Restart{Incarnation: 1, Reason: state.Requested, Through: 299})
	_, err := h.store.Reopen(t.Context(), c, state.Restart{Incarnation: 1, Reason: state.Requested, Through: 299})
	if e, ok := errors.AsType[*state.IncarnationError](err); !ok || *e != (state.IncarnationError{Pipeline: c.Pipeline, Decided: 1, Current: 2}) {
		t.Errorf("the second restart: %v", err)
	}
	if n := len(h.history().Incarnations); n != 2 {
		t.Errorf("%d incarnations", n)
	}
	for name, r := range map[string]state.Restart{
		"a reason of its own": {Incarnation: 2, Reason: "because", Through: 299}, "the first's": {Incarnation: 2, Reason: state.First},
		"a time before 1970": {Incarnation: 2, Reason: state.Requested, Through: -1},
	} {
		if _, err := h.store.Reopen(t.Context(), c, r); err == nil {
			t.Errorf("a restart with %s", name)
		}
	}
	c.Start = 0
	if _, err := h.store.Reopen(t.Context(), c, state.Restart{Incarnation: 2, Reason: state.Requested}); err == nil {
		t.Error("a restart from nowhere")
	}
}

// testGap: a break is recorded once, stays over restarts, and is closed by the next incarnation.
func testGap(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	record := func(incarnation int64, g state.Gap) {
		t.Helper()
		if err := h.store.Break(t.Context(), h.Pipeline, incarnation, g); err != nil {
			t.Fatal(err)
		}
	}
	record(7, state.Gap{Reason: state.Expired, From: 150}) // of no incarnation there is
	if g := h.history().Current().Gap; g != nil {
		t.Fatalf("gap %+v", g)
	}
	record(1, state.Gap{Reason: state.Dropped, From: 150, Detail: "it says so"})
	record(1, state.Gap{Reason: state.Expired, From: 170})
	g := h.history().Current().Gap
	if g == nil || g.Reason != state.Dropped || g.From != 150 || g.Detail != "it says so" || !g.IsOpen() || g.Found.IsZero() || !g.Closed.IsZero() {
		t.Fatalf("recorded %+v", g)
	}
	c := h.Config
	c.Start = 500
	c.Snapshot = true
	h.reopen(c, state.Restart{Incarnation: 1, Reason: state.Recreated, Through: 160})
	c.Snapshot = false
	history := h.history()
	g = history.Incarnations[0].Gap
	if g == nil || g.Reason != state.Dropped || g.From != 150 || g.To != 499 || !g.Snapshot || g.IsOpen() || g.Closed.Before(g.Found) || history.Current().Gap != nil {
		t.Fatalf("closed as %+v, the next has %+v", g, history.Current().Gap)
	}
	record(1, state.Gap{Reason: state.Expired, From: 170}) // a zombie's word about the past
	if again := h.history().Incarnations[0].Gap; *again != *g {
		t.Errorf("a closed gap changed to %+v", again)
	}
	// Where nobody has recorded one, a start past what was delivered is a gap itself.
	c.Start = 900
	h.reopen(c, state.Restart{Incarnation: 2, Reason: state.Requested, Detail: "so wanted", Through: 600})
	if g := h.history().Incarnations[1].Gap; g == nil || g.Reason != state.Requested || g.Detail != "so wanted" || g.From != 601 || g.To != 899 || g.Snapshot || g.Found.IsZero() || g.Closed.IsZero() {
		t.Errorf("the second gap is %+v", g)
	}
	if err := h.store.Break(t.Context(), h.Pipeline, 3, state.Gap{Reason: "because"}); err == nil {
		t.Error("a gap of a reason of its own")
	}
}

// testMend: only the lease's holder takes a gap back.
func testMend(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	if err := h.store.Break(t.Context(), h.Pipeline, 1, state.Gap{Reason: state.Dropped, From: 150}); err != nil {
		t.Fatal(err)
	}
	old := h.lease
	h.lease = h.claim("another")
	for i, l := range []state.Lease{old, h.lease} {
		if err := h.store.Mend(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if mended := h.history().Current().Gap == nil; mended != (i == 1) {
			t.Errorf("I4: after the word of %+v: mended %t", l, mended)
		}
	}
}

// testWorkers: a worker counts as alive from its claim until it says that it has stopped.
func testWorkers(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	names := func() (list []string) {
		history := h.history()
		for _, w := range history.Alive() {
			list = append(list, w.Name)
		}
		return list
	}
	if got := names(); !slices.Equal(got, []string{"worker"}) {
		t.Errorf("alive: %q", got)
	}
	before := h.history().Workers[0]
	if current, err := h.store.Renew(t.Context(), h.lease); !current || err != nil {
		t.Errorf("renewed: %t, %v", current, err)
	}
	if after := h.history().Workers[0]; after.Started != before.Started || !after.Seen.After(before.Seen) || after.Epoch != h.lease.Epoch {
		t.Errorf("%+v was renewed to %+v", before, after)
	}
	zombie := h.lease
	h.lease = h.claim("second")
	if current, err := h.store.Renew(t.Context(), zombie); current || err != nil {
		t.Errorf("I4: a fenced worker renewed: %t, %v", current, err)
	}
	if err := h.store.Release(t.Context(), zombie); err != nil {
		t.Fatal(err)
	}
	if got := names(); !slices.Equal(got, []string{"second"}) {
		t.Errorf("alive: %q", got)
	}
	if err := h.store.Release(t.Context(), h.lease); err != nil {
		t.Fatal(err)
	}
	if got := names(); len(got) > 0 {
		t.Errorf("alive after its last word: %q", got)
	}
	if current, err := h.store.Renew(t.Context(), state.Lease{Pipeline: h.Pipeline, Incarnation: 1, Worker: "nobody", Epoch: 99}); current || err != nil {
		t.Errorf("a lease never given: %t, %v", current, err)
	}
	all, err := h.store.Pipelines(t.Context())
	if err != nil || !slices.Contains(all, h.Pipeline) || !slices.IsSorted(all) {
		t.Errorf("pipelines: %q, %v", all, err)
	}
}

// incarnationCalls are the calls that need a pipeline and a live context.
func incarnationCalls(ctx context.Context, store state.Store, c state.Config, l state.Lease) map[string]error {
	_, reopen := store.Reopen(ctx, c, state.Restart{Incarnation: 1, Reason: state.Requested})
	_, renew := store.Renew(ctx, l)
	_, history := store.History(ctx, c.Pipeline)
	return map[string]error{
		"Reopen": reopen, "Renew": renew, "History": history, "Release": store.Release(ctx, l), "Mend": store.Mend(ctx, l),
		"Break": store.Break(ctx, c.Pipeline, 1, state.Gap{Reason: state.Expired}),
	}
}

package statetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

func testOpen(t *testing.T, open func(t *testing.T) state.Store) {
	c := newConfig()
	first, err := open(t).Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if want := (state.Pipeline{Config: c, Incarnation: 1, Created: true}); first != want {
		t.Errorf("the first open returned %+v, want %+v", first, want)
	}
	again := c
	again.Start = 999 // Where a first incarnation begins says nothing to a pipeline that is there.
	second, err := open(t).Open(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if want := (state.Pipeline{Config: c, Incarnation: 1}); second != want {
		t.Errorf("the second open returned %+v, want %+v", second, want)
	}
	s, err := open(t).Load(t.Context(), c.Pipeline)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(state.Snapshot{Pipeline: second}, s); d != "" {
		t.Errorf("a new pipeline loads with (-want +got):\n%s", d)
	}
}

func testMismatch(t *testing.T, open func(t *testing.T) state.Store) {
	store := open(t)
	c := newConfig()
	if _, err := store.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for field, other := range map[string]func(*state.Config) *string{
		"database": func(c *state.Config) *string { return &c.Database },
		"stream":   func(c *state.Config) *string { return &c.Stream },
		"identity": func(c *state.Config) *string { return &c.Identity },
		"digest":   func(c *state.Config) *string { return &c.Digest },
	} {
		o := c
		*other(&o) = "other"
		_, err := store.Open(t.Context(), o)
		mismatch, ok := errors.AsType[*state.MismatchError](err)
		if !ok {
			t.Errorf("open with another %s: %v, want a MismatchError", field, err)
			continue
		}
		if want := (state.MismatchError{Pipeline: c.Pipeline, Field: field, Stored: *other(&c), Configured: "other"}); *mismatch != want {
			t.Errorf("open with another %s: %+v, want %+v", field, *mismatch, want)
		}
	}
}

func testOpenConcurrently(t *testing.T, open func(t *testing.T) state.Store) {
	c := newConfig()
	const n = 4
	var stores [n]state.Store
	for i := range stores {
		stores[i] = open(t)
	}
	var created [n]bool
	var wg sync.WaitGroup
	for i, store := range stores {
		wg.Go(func() {
			p, err := store.Open(t.Context(), c)
			if err != nil || p.Incarnation != 1 {
				t.Errorf("open %d: %+v, %v", i, p, err)
			}
			created[i] = p.Created
		})
	}
	wg.Wait()
	if slices.Index(created[:], true) < 0 || slices.Index(created[slices.Index(created[:], true)+1:], true) >= 0 {
		t.Errorf("of %d opens at once, these made the pipeline: %v, want one", n, created)
	}
}

func testNoPipeline(t *testing.T, open func(t *testing.T) state.Store) {
	store := open(t)
	name := newConfig().Pipeline
	_, claim := store.Claim(t.Context(), name, "w")
	_, load := store.Load(t.Context(), name)
	_, commit := store.Commit(t.Context(), state.Lease{Pipeline: name, Incarnation: 1, Worker: "w", Epoch: 1}, []state.Update{{Children: children(1, nil, "a")}})
	segments := store.Segments(t.Context(), name, "s", func(change.Segment) error { return nil })
	all := incarnationCalls(t.Context(), store, state.Config{Pipeline: name, Database: "d", Stream: "s", Start: 1}, state.Lease{Pipeline: name, Incarnation: 1, Worker: "w", Epoch: 1})
	maps.Copy(all, map[string]error{"Claim": claim, "Load": load, "Commit": commit, "Segments": segments})
	for what, err := range all {
		if !errors.Is(err, state.ErrNoPipeline) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s of a pipeline that is not there: %v", what, err)
		}
	}
}

func testContext(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, opened := h.store.Open(ctx, h.Config)
	_, claim := h.store.Claim(ctx, h.Pipeline, "other")
	_, load := h.store.Load(ctx, h.Pipeline)
	_, commit := h.store.Commit(ctx, h.lease, []state.Update{{Token: "a", Progress: through("s", 200)}})
	_, nothing := h.store.Commit(ctx, h.lease, nil)
	segments := h.store.Segments(ctx, h.Pipeline, "s", func(change.Segment) error { return nil })
	all := incarnationCalls(ctx, h.store, h.Config, h.lease)
	_, list := h.store.Pipelines(ctx)
	maps.Copy(all, map[string]error{"Open": opened, "Claim": claim, "Load": load, "Commit": commit, "Commit of nothing": nothing, "Segments": segments, "Pipelines": list})
	for what, err := range all {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", what, err)
		}
	}
	if p := h.progress("a", "s"); p.Through != 0 {
		t.Errorf("a commit with a cancelled context stored %+v", p)
	}
}

// testHostile gives what cannot be stored; each must be an error that stores nothing.
func testHostile(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	before := h.load()
	for _, name := range []string{"", "-a", "1a", "A", "a_b", "a b", "a\x00", strings.Repeat("a", 65)} {
		c := h.Config
		c.Pipeline = name
		if _, err := h.store.Open(t.Context(), c); err == nil {
			t.Errorf("a pipeline may be called %q", name)
		}
	}
	for _, worker := range []string{"", "\xff", strings.Repeat("w", 10_000)} {
		if _, err := h.store.Claim(t.Context(), h.Pipeline, worker); err == nil {
			t.Errorf("a worker may be called %.20q", worker)
		}
	}
	good := h.segment("s", "a", "t", 100, 200)
	segment := func(f func(*state.SinkSegment)) []state.SinkSegment {
		s := good
		f(&s)
		return []state.SinkSegment{s}
	}
	chain := func(c state.ChainEnd) state.Update {
		return state.Update{Token: "a", Progress: []state.Progress{{Sink: "s", Through: 150, Chains: []state.ChainEnd{c}}}}
	}
	long := strings.Repeat("x", 10_000)
	for what, u := range map[string]state.Update{
		"progress without a token":    {Progress: through("s", 150)},
		"finish without a token":      {Finished: true, End: 150},
		"segment without a token":     {Segments: []state.SinkSegment{good}},
		"token not UTF-8":             {Token: "\xff"},
		"token too long":              {Token: long},
		"child without a token":       {Token: "a", Children: children(150, nil, "")},
		"child's token too long":      {Token: "a", Children: children(150, nil, long)},
		"child's parent empty":        {Token: "a", Children: children(150, []string{""}, "b")},
		"child's start too early":     {Token: "a", Children: children(-1, nil, "b")},
		"child's start too late":      {Token: "a", Children: children(change.MaxTimestamp+1, nil, "b")},
		"end negative":                {Token: "a", Finished: true, End: -1},
		"sink empty":                  {Token: "a", Progress: through("", 150)},
		"sink too long":               {Token: "a", Progress: through(long, 150)},
		"through negative":            {Token: "a", Progress: through("s", -1)},
		"through too late":            {Token: "a", Progress: through("s", change.MaxTimestamp+1)},
		"progress of another":         {Token: "a", Progress: []state.Progress{{Token: "b", Sink: "s", Through: 150}}},
		"chain without a table":       chain(state.ChainEnd{Through: position(150)}),
		"chain's state too long":      chain(state.ChainEnd{Table: "t", Through: position(150), State: make([]byte, 4097)}),
		"chain's position too early":  chain(state.ChainEnd{Table: "t", Through: position(-1)}),
		"chain's position too long":   chain(state.ChainEnd{Table: "t", Through: change.Position{Transaction: strings.Repeat("x", 40_000)}}),
		"table nil":                   {Tables: []*change.Table{nil}},
		"table without a name":        {Tables: []*change.Table{change.NewTable("", 1, nil)}},
		"table without a version":     {Tables: []*change.Table{change.NewTable("t", 0, nil)}},
		"segment of another pipeline": {Token: "a", Segments: segment(func(s *state.SinkSegment) { s.Chain.Pipeline = "other" })},
		"segment of another life":     {Token: "a", Segments: segment(func(s *state.SinkSegment) { s.Chain.Incarnation++ })},
		"segment of another token":    {Token: "a", Segments: segment(func(s *state.SinkSegment) { s.Chain.Token = "b" })},
		"segment without a table":     {Token: "a", Segments: segment(func(s *state.SinkSegment) { s.Chain.Table = "" })},
		"segment without a sink":      {Token: "a", Segments: segment(func(s *state.SinkSegment) { s.Sink = "" })},
		"segment's position too long": {Token: "a", Segments: segment(func(s *state.SinkSegment) {
			s.First.Sequence, s.Last.Sequence, s.Last.Commit = long, long, 200
		})},
		"segment back to front":    {Token: "a", Segments: segment(func(s *state.SinkSegment) { s.First, s.Last = s.Last, s.First })},
		"segment's name not UTF-8": {Token: "a", Segments: segment(func(s *state.SinkSegment) { s.Name = "\xff" })},
	} {
		// All are checked before any is stored: the good one before the bad one is not.
		if fenced, err := h.store.Commit(t.Context(), h.lease, []state.Update{{Children: children(100, nil, "beside")}, u}); err == nil {
			t.Errorf("%s: stored, fenced %q", what, fenced)
		}
	}
	if d := diff(before, h.load()); d != "" {
		t.Errorf("refused updates changed (-want +got):\n%s", d)
	}
}

func testClaim(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	if h.lease != (state.Lease{Pipeline: h.Pipeline, Incarnation: 1, Worker: "worker", Epoch: 1}) {
		t.Errorf("the first lease is %+v", h.lease)
	}
	h.commit(state.Update{Token: "b", Children: children(200, []string{"b"}, "c"), Finished: true, End: 200})
	for epoch := int64(2); epoch < 5; epoch++ {
		worker := []string{"worker", "other"}[epoch%2] // A worker may claim again, as after a restart.
		if l := h.claim(worker); l != (state.Lease{Pipeline: h.Pipeline, Incarnation: 1, Worker: worker, Epoch: epoch}) {
			t.Errorf("claim %d is %+v", epoch, l)
		}
		for token, want := range map[string]struct {
			owner string
			epoch int64
		}{"a": {worker, epoch}, "b": {"worker", 1}, "c": {worker, epoch}} {
			if p := h.partition(token); p.Owner != want.owner || p.Epoch != want.epoch {
				t.Errorf("after claim %d partition %s (%s) is owned by %s at %d, want %+v", epoch, token, p.State, p.Owner, p.Epoch, want)
			}
		}
	}
}

func testClaimConcurrently(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	const n = 4
	var stores [n]state.Store
	for i := range stores {
		stores[i] = open(t)
	}
	var leases [n]state.Lease
	var wg sync.WaitGroup
	for i, store := range stores {
		wg.Go(func() {
			var err error
			if leases[i], err = store.Claim(t.Context(), h.Pipeline, string(rune('a'+i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(leases[:], func(a, b state.Lease) int { return int(a.Epoch - b.Epoch) })
	for i, l := range leases {
		if l.Epoch != int64(i+2) {
			t.Fatalf("claims at once got the leases %+v, want epochs 2 to %d", leases, n+1)
		}
	}
	for i, l := range leases {
		fenced, err := h.store.Commit(t.Context(), l, []state.Update{{Children: children(100, nil, l.Worker)}})
		if last := i == n-1; err != nil || last != (len(fenced) == 0) {
			t.Errorf("commit under epoch %d: fenced %q, %v", l.Epoch, fenced, err)
		}
	}
}

// testFence: an update without the current lease stores nothing of itself (I4).
func testFence(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	old := h.lease
	h.lease = h.claim("next")
	h.commit(state.Update{Token: "a", Progress: through("s", 150)})
	before := h.load()
	for what, l := range map[string]state.Lease{
		"the lease before":     old,
		"another worker":       {Pipeline: h.Pipeline, Incarnation: 1, Worker: "worker", Epoch: 2},
		"an old epoch":         {Pipeline: h.Pipeline, Incarnation: 1, Worker: "next", Epoch: 1},
		"an epoch to come":     {Pipeline: h.Pipeline, Incarnation: 1, Worker: "next", Epoch: 3},
		"a former incarnation": {Pipeline: h.Pipeline, Incarnation: 0, Worker: "next", Epoch: 2},
		"no lease":             {Pipeline: h.Pipeline},
	} {
		segment := h.segment("s", "a", "t", 100, 200)
		segment.Chain.Incarnation = l.Incarnation
		fenced, err := h.store.Commit(t.Context(), l, []state.Update{
			{Token: "a", Children: children(200, []string{"a"}, "c"), Progress: through("s", 199), Finished: true, End: 200,
				Segments: []state.SinkSegment{segment}},
			{Children: children(100, nil, "d"), Tables: []*change.Table{change.NewTable("t", 1, nil)}},
			{Token: "unknown", Progress: through("s", 150)},
			{Token: "b", Progress: through("s", 150)},
		})
		if want := []string{"a", "", "unknown", "b"}; err != nil || !slices.Equal(fenced, want) {
			t.Errorf("%s: fenced %q, %v, want %q", what, fenced, err, want)
		}
		if d := diff(before, h.load()); d != "" {
			t.Errorf("%s stored (-want +got):\n%s", what, d)
		}
		if list := h.segments("s"); len(list) > 0 {
			t.Errorf("%s stored segments %+v", what, list)
		}
	}
}

// testFenceRace: nothing that a former owner commits shows after Claim has returned, however the two meet.
func testFenceRace(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	zombie := open(t)
	for round := range 5 {
		old := h.lease
		started, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				at := change.Timestamp(1000*(round+1) + i)
				fenced, err := zombie.Commit(t.Context(), old, []state.Update{{Token: "a", Progress: through("s", at)}, {Token: "b", Progress: through("s", at)}})
				if i == 0 {
					close(started)
				}
				if err != nil || len(fenced) == 1 {
					t.Errorf("the old owner's commit: fenced %q, %v", fenced, err)
				}
				if err != nil || len(fenced) > 0 {
					return
				}
			}
		}()
		<-started
		h.lease = h.claim("next")
		after := h.load()
		<-done
		if d := diff(after, h.load()); d != "" {
			t.Errorf("the old owner stored after the claim (-want +got):\n%s", d)
		}
		if h.progress("a", "s").Through != h.progress("b", "s").Through || h.progress("a", "s").Through < change.Timestamp(1000*(round+1)) {
			t.Errorf("the old owner's last commit is torn or lost: %+v", after.Progress)
		}
	}
}

func testRestart(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	h.commit(
		state.Update{Token: "a", Progress: []state.Progress{{Sink: "s", Through: 150, Chains: []state.ChainEnd{{Table: "t", Through: position(150), State: []byte("x")}}}}},
		state.Update{Token: "b", Progress: through("s", 199), Children: children(200, []string{"b"}, "c", "d"), Finished: true, End: 200},
		state.Update{Tables: []*change.Table{change.NewTable("t", 1, []change.Column{{Name: "k", Type: &change.Type{Code: change.CodeInt64}, Key: true, Ordinal: 1}})}},
	)
	want := h.load()
	next := open(t)
	if p, err := next.Open(t.Context(), h.Config); err != nil || p.Created {
		t.Fatalf("open by the next process: %+v, %v", p, err)
	}
	got, err := next.Load(t.Context(), h.Pipeline)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(want, got); d != "" {
		t.Errorf("the next process loads (-want +got):\n%s", d)
	}
	lease, err := next.Claim(t.Context(), h.Pipeline, "next")
	if err != nil {
		t.Fatal(err)
	}
	if fenced, err := next.Commit(t.Context(), lease, []state.Update{{Token: "c", Progress: through("s", 250)}}); err != nil || len(fenced) > 0 {
		t.Errorf("commit by the next process: fenced %q, %v", fenced, err)
	}
	if p := h.progress("c", "s"); p.Through != 250 {
		t.Errorf("the next process stored %+v", p)
	}
}

// testParallel: the methods of one store may be called at once.
func testParallel(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b", "c", "d")
	const rounds = 10
	var wg sync.WaitGroup
	for _, token := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			for i := range int64(rounds) {
				fenced, err := h.store.Commit(t.Context(), h.lease, []state.Update{{Token: token, Progress: through("s", change.Timestamp(200+i)),
					Segments: []state.SinkSegment{h.segment("s", token, "t", 10*i, 10*i+9)}}})
				if err != nil || len(fenced) > 0 {
					t.Errorf("commit: fenced %q, %v", fenced, err)
				}
				if s, err := h.store.Load(t.Context(), h.Pipeline); err != nil || len(s.Partitions) != 4 {
					t.Errorf("load: %+v, %v", s, err)
				}
			}
		})
	}
	wg.Go(func() {
		for range rounds {
			if _, err := h.store.Open(t.Context(), h.Config); err != nil {
				t.Errorf("open: %v", err)
			}
			if err := h.store.Segments(t.Context(), h.Pipeline, "s", func(change.Segment) error { return nil }); err != nil {
				t.Errorf("segments: %v", err)
			}
		}
	})
	wg.Wait()
	if n := len(h.segments("s")); n != 4*rounds {
		t.Errorf("%d segments are stored, want %d", n, 4*rounds)
	}
	for _, p := range h.load().Progress {
		if p.Through != 200+rounds-1 {
			t.Errorf("%+v", p)
		}
	}
}

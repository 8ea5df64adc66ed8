package statetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

func testChildren(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	tokens := []string{"plain", "with/slash and space", "ünï", "_%$;'\"`--", "\x00\x01\n"}
	h.commit(state.Update{Children: children(100, nil, tokens...)})
	for _, token := range tokens {
		want := state.Partition{Partition: change.Partition{Token: token, Start: 100}, State: state.Open, Owner: "worker", Epoch: 1}
		if d := gocmp.Diff(want, h.partition(token), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("partition %q (-want +got):\n%s", token, d)
		}
	}
	h.commit(state.Update{Token: "plain", Children: children(change.MaxTimestamp, []string{"plain", "ünï"}, "last")})
	want := state.Partition{Partition: change.Partition{Token: "last", Parents: []string{"plain", "ünï"}, Start: change.MaxTimestamp},
		State: state.Open, Owner: "worker", Epoch: 1}
	if d := gocmp.Diff(want, h.partition("last")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// testChildOfTwoParents: the second announcement of a child changes nothing, whatever became of it since (I3).
func testChildOfTwoParents(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	merge := children(200, []string{"a", "b"}, "c")
	h.commit(state.Update{Token: "a", Children: merge, Finished: true, End: 200})
	h.commit(state.Update{Token: "c", Progress: through("s", 250), Children: children(300, []string{"c"}, "d")})
	want := h.load()
	h.commit(
		state.Update{Token: "b", Children: merge},
		state.Update{Token: "b", Children: children(999, []string{"other"}, "c")},
		state.Update{Token: "b", Children: slices.Concat(merge, merge)},
	)
	if d := diff(want, h.load()); d != "" {
		t.Errorf("announcing a child again changed (-want +got):\n%s", d)
	}
	h.commit(state.Update{Token: "c", Finished: true, End: 300})
	h.commit(state.Update{Token: "b", Children: merge, Finished: true, End: 200})
	if p := h.partition("c"); p.State != state.Finished || p.End != 300 || p.Start != 200 {
		t.Errorf("announcing a finished child opened it: %+v", p)
	}
}

func testFinish(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	split := state.Update{Token: "a", Progress: through("s", 199), Children: children(200, []string{"a"}, "b", "c"), Finished: true, End: 200}
	h.commit(split)
	want := state.Snapshot{
		Pipeline: state.Pipeline{Config: h.Config, Incarnation: 1},
		Partitions: []state.Partition{
			{Partition: change.Partition{Token: "a", Start: 100}, State: state.Finished, End: 200, Owner: "worker", Epoch: 1},
			{Partition: change.Partition{Token: "b", Parents: []string{"a"}, Start: 200}, State: state.Open, Owner: "worker", Epoch: 1},
			{Partition: change.Partition{Token: "c", Parents: []string{"a"}, Start: 200}, State: state.Open, Owner: "worker", Epoch: 1},
		},
		Progress: []state.Progress{{Token: "a", Sink: "s", Through: 199}},
	}
	if d := diff(want, h.load()); d != "" {
		t.Errorf("a split loads (-want +got):\n%s", d)
	}
	h.commit(split) // As after a lost answer.
	if d := diff(want, h.load()); d != "" {
		t.Errorf("a split stored twice loads (-want +got):\n%s", d)
	}
	// A finished partition is history once no unfinished one names it.
	h.commit(
		state.Update{Token: "b", Children: children(300, []string{"b", "c"}, "d"), Finished: true, End: 300},
		state.Update{Token: "c", Children: children(300, []string{"b", "c"}, "d"), Finished: true, End: 300},
	)
	if got := h.tokens(); !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("after the merge %q are loaded, want b, c, d", got)
	}
}

// testOrder: a commit's updates take effect one after another.
func testOrder(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	h.commit(
		state.Update{Children: children(100, nil, "a")},
		state.Update{Token: "a", Children: children(200, []string{"a"}, "b")},
		state.Update{Token: "a", Progress: through("s", 150)},
		state.Update{Token: "a", Progress: through("s", 199), Finished: true, End: 200},
		state.Update{Token: "b", Progress: through("s", 250)},
		state.Update{Token: "b", Children: children(300, []string{"b"}, "c"), Finished: true, End: 300},
		state.Update{Token: "a", Progress: through("s", 170)},
	)
	if p := h.partition("b"); p.State != state.Finished || p.End != 300 {
		t.Errorf("b is %+v", p)
	}
	if p := h.progress("b", "s"); p.Through != 250 {
		t.Errorf("b's progress is %+v", p)
	}
	if got := h.tokens(); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("%q are loaded, want b and c", got)
	}
}

// testErrorStoresNothing: an update that is refused leaves nothing of itself.
func testErrorStoresNothing(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	h.commit(state.Update{Token: "b", Children: children(200, []string{"b"}, "c"), Finished: true, End: 200})
	before := h.load()
	tables := []*change.Table{change.NewTable("t", 1, nil)}
	for what, u := range map[string]state.Update{
		"an unknown partition":    {Token: "unknown", Children: children(300, nil, "x"), Progress: through("s", 150), Tables: tables},
		"a finish before start":   {Token: "a", Children: children(300, nil, "x"), Progress: through("s", 150), Tables: tables, Finished: true, End: 99},
		"a second, other finish":  {Token: "b", Children: children(300, nil, "x"), Progress: through("s", 150), Tables: tables, Finished: true, End: 201},
		"a finish without an end": {Token: "a", Children: children(300, nil, "x"), Segments: []state.SinkSegment{h.segment("s", "a", "t", 100, 200)}, Finished: true},
	} {
		if fenced, err := h.store.Commit(t.Context(), h.lease, []state.Update{u}); err == nil || len(fenced) > 0 {
			t.Errorf("%s: fenced %q, %v", what, fenced, err)
		}
		if d := diff(before, h.load()); d != "" {
			t.Errorf("%s stored (-want +got):\n%s", what, d)
		}
	}
	if list := h.segments("s"); len(list) > 0 {
		t.Errorf("refused updates stored segments %+v", list)
	}
}

// testMonotone: nothing goes back (I5).
func testMonotone(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	end := func(commit int64, s string) []state.ChainEnd {
		return []state.ChainEnd{{Table: "t", Through: position(commit), State: []byte(s)}}
	}
	for i, step := range []struct {
		through change.Timestamp
		chains  []state.ChainEnd
		want    state.Progress
	}{
		{0, nil, state.Progress{}},
		{200, end(200, "one"), state.Progress{Token: "a", Sink: "s", Through: 200, Chains: end(200, "one")}},
		{150, end(150, "zombie"), state.Progress{Token: "a", Sink: "s", Through: 200, Chains: end(200, "one")}},
		{0, nil, state.Progress{Token: "a", Sink: "s", Through: 200, Chains: end(200, "one")}},
		{150, end(250, "chain only"), state.Progress{Token: "a", Sink: "s", Through: 200, Chains: end(250, "chain only")}},
		{300, end(249, "zombie"), state.Progress{Token: "a", Sink: "s", Through: 300, Chains: end(250, "chain only")}},
		{0, end(250, "other state, same place"), state.Progress{Token: "a", Sink: "s", Through: 300, Chains: end(250, "other state, same place")}},
		{change.MaxTimestamp, nil, state.Progress{Token: "a", Sink: "s", Through: change.MaxTimestamp, Chains: end(250, "other state, same place")}},
	} {
		h.commit(state.Update{Token: "a", Progress: []state.Progress{{Token: "a", Sink: "s", Through: step.through, Chains: step.chains}}})
		if d := gocmp.Diff(step.want, h.progress("a", "s"), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("step %d (-want +got):\n%s", i, d)
		}
	}
}

func testChains(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	every := make([]byte, 4096)
	for i := range every {
		every[i] = byte(i)
	}
	chains := []state.ChainEnd{
		{Table: "a", Through: position(150), State: every},
		{Table: "b.with \"quotes\" <&>\u2028", Through: change.Position{Commit: 150, Snapshot: true, Transaction: "b", Sequence: "\x00key\xff~", Mod: 1<<31 - 1}},
		{Table: "c", State: []byte{0}},
	}
	h.commit(state.Update{Token: "a", Progress: []state.Progress{{Sink: "s", Through: 150, Chains: []state.ChainEnd{chains[2], chains[0], chains[1]}}}})
	if d := gocmp.Diff(chains, h.progress("a", "s").Chains, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// One table's end replaces its own; the others stay, and so do the other sink's.
	h.commit(state.Update{Token: "a", Progress: []state.Progress{
		{Sink: "s", Chains: []state.ChainEnd{{Table: "c", Through: position(170), State: []byte("new")}, {Table: "aa", Through: position(160)}}},
		{Sink: "s2", Through: 120},
	}})
	chains[2] = state.ChainEnd{Table: "c", Through: position(170), State: []byte("new")}
	chains = slices.Insert(chains, 1, state.ChainEnd{Table: "aa", Through: position(160)})
	if d := gocmp.Diff(chains, h.progress("a", "s").Chains, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if p := h.progress("a", "s2"); p.Through != 120 || len(p.Chains) > 0 {
		t.Errorf("the other sink's progress is %+v", p)
	}
}

func testTables(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	text := &change.Type{Code: change.CodeString}
	v1 := change.NewTable("schema.orders", 1, []change.Column{{Name: "k", Type: text, Key: true, Ordinal: 1}})
	v3 := change.NewTable("schema.orders", 3, []change.Column{
		{Name: "k", Type: text, Key: true, Ordinal: 1},
		{Name: "list", Type: &change.Type{Code: change.CodeArray, Elem: text}, Ordinal: 3},
		{Name: "second", Type: &change.Type{Code: change.CodeNumeric, Annotation: change.PGNumeric}, Key: true, Ordinal: 2},
		{Name: "p \"<&>", Type: &change.Type{Code: change.CodeProto, ProtoName: "a.b"}, Ordinal: 12},
		{Name: "future", Type: &change.Type{Name: "HOLOGRAM"}, Ordinal: 13},
	})
	other := change.NewTable("other", 1, nil)
	same := change.NewTable("schema.orders", 3, nil)
	for i, step := range []struct {
		commit []*change.Table
		want   []*change.Table
	}{
		{[]*change.Table{v1}, []*change.Table{v1}},
		{[]*change.Table{v3, other}, []*change.Table{other, v3}},
		{[]*change.Table{v1}, []*change.Table{other, v3}},
		{[]*change.Table{same}, []*change.Table{other, v3}},
	} {
		h.commit(state.Update{Tables: step.commit})
		want := state.Snapshot{Pipeline: state.Pipeline{Config: h.Config, Incarnation: 1}, Tables: step.want}
		if d := diff(want, h.load()); d != "" {
			t.Errorf("step %d (-want +got):\n%s", i, d)
		}
	}
}

func testSegments(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a", "b")
	all := []state.SinkSegment{
		h.segment("s", "a", "t", 100, 120), h.segment("s", "a", "t", 121, 121), h.segment("s", "a", "t", 1000, 2000),
		h.segment("s", "a", "u", 50, 60), h.segment("s", "b", "t", 10, 20),
	}
	h.commit(
		state.Update{Token: "b", Segments: []state.SinkSegment{all[4], h.segment("s2", "b", "t", 1, 2)}},
		state.Update{Token: "a", Segments: []state.SinkSegment{all[2], all[3], all[1], all[0], all[1]}},
	)
	check := func(what string) {
		t.Helper()
		var want []change.Segment
		for _, s := range all {
			want = append(want, s.Segment)
		}
		if d := gocmp.Diff(want, h.segments("s")); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	check("the list")
	again := all[1]
	again.Name, again.SHA256, again.Generation = "other", "other", 99
	h.commit(state.Update{Token: "a", Segments: []state.SinkSegment{again, all[0]}})
	check("a segment listed again")
	if list := h.segments("none"); len(list) > 0 {
		t.Errorf("a sink without segments has %+v", list)
	}
	stop, calls := errors.New("stop"), 0
	err := h.store.Segments(t.Context(), h.Pipeline, "s", func(change.Segment) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || calls != 2 {
		t.Errorf("fn's error at call 2 came back as %v after %d calls", err, calls)
	}
}

// testSegmentPages lists more segments than a form reads at once, and uses the store meanwhile.
func testSegmentPages(t *testing.T, open func(t *testing.T) state.Store) {
	h := startWith(t, open(t), "a")
	const n = 2001
	var updates []state.Update
	for i := range int64(n) {
		updates = append(updates, state.Update{Token: "a", Segments: []state.SinkSegment{h.segment("s", "a", "t", 10*i, 10*i+9)}})
	}
	h.commit(updates...)
	seen := int64(0)
	err := h.store.Segments(t.Context(), h.Pipeline, "s", func(s change.Segment) error {
		if s.First != position(10*seen) {
			return fmt.Errorf("segment %d begins at %s", seen, s.First)
		}
		if seen++; seen%1000 == 0 {
			h.commit(state.Update{Token: "a", Progress: through("s", change.Timestamp(seen))})
		}
		return nil
	})
	if err != nil || seen != n {
		t.Errorf("saw %d of %d segments: %v", seen, n, err)
	}
}

// testOwnership: a store keeps nothing of what it is given, and gives away nothing it keeps.
func testOwnership(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	kids := children(100, []string{"p", "q"}, "a")
	ends := []state.ChainEnd{{Table: "t", Through: position(150), State: []byte("state")}}
	h.commit(state.Update{Children: kids})
	h.commit(state.Update{Token: "a", Progress: []state.Progress{{Sink: "s", Through: 150, Chains: ends}}})
	kids[0].Parents[0], ends[0].State[0], ends[0].Table = "changed", '!', "changed"
	for range 2 {
		p, g := h.partition("a"), h.progress("a", "s")
		if p.Parents[0] != "p" || g.Chains[0].Table != "t" || !bytes.Equal(g.Chains[0].State, []byte("state")) {
			t.Fatalf("stored: %+v %+v", p, g)
		}
		p.Parents[0], g.Chains[0].State[0], g.Chains[0].Table = "changed", '!', "changed"
	}
}

// testMany stores more in one call than a form may put into one transaction.
func testMany(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	const n = 3000
	var tokens []string
	var updates []state.Update
	for i := range n {
		token := fmt.Sprintf("token-%05d", i)
		tokens = append(tokens, token)
		updates = append(updates, state.Update{Token: token, Progress: []state.Progress{{Sink: "s", Through: change.Timestamp(100 + i)}, {Sink: "s2", Through: 100}}})
	}
	h.commit(state.Update{Children: children(100, nil, tokens...)})
	h.commit(updates...)
	s := h.load()
	if len(s.Partitions) != n || len(s.Progress) != 2*n {
		t.Fatalf("%d partitions and %d checkpoints are loaded, want %d and %d", len(s.Partitions), len(s.Progress), n, 2*n)
	}
	for _, p := range s.Progress {
		if p.Sink == "s" && p.Token != tokens[p.Through-100] {
			t.Errorf("%+v", p)
		}
	}
}

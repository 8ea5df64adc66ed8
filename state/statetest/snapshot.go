package statetest

import (
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/spanledger/spanledger/state"
)

func (h *harness) request(table, from, to string) (state.TableSnapshot, bool) {
	h.Helper()
	s, isNew, err := h.store.RequestSnapshot(h.Context(), h.Pipeline, state.TableSnapshot{Table: table, From: from, To: to})
	if err != nil {
		h.Fatal(err)
	}
	return s, isNew
}

func (h *harness) snapshots(unfinished bool) []state.TableSnapshot {
	h.Helper()
	list, err := h.store.Snapshots(h.Context(), h.Pipeline, unfinished)
	if err != nil {
		h.Fatal(err)
	}
	return list
}

// sameSnapshots compares without the store's own times.
func (h *harness) sameSnapshots(what string, got []state.TableSnapshot, want ...state.TableSnapshot) {
	h.Helper()
	if d := gocmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(state.TableSnapshot{}, "Requested", "Changed")); d != "" {
		h.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// A request is numbered once, is answered again while it is unfinished, and changes by updates under the lease only.
func testSnapshots(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	first, isNew := h.request("orders", `["a"]`, "")
	if !isNew || first.Number != 1 || first.State != state.SnapshotWaiting || first.Requested.IsZero() || !first.Changed.Equal(first.Requested) {
		t.Fatalf("%+v, new %t", first, isNew)
	}
	if again, isNew := h.request("orders", `["a"]`, ""); isNew || again.Number != 1 {
		t.Fatalf("asked again: %+v, new %t", again, isNew)
	}
	second, isNew := h.request("orders", "", "")
	if !isNew || second.Number != 2 {
		t.Fatalf("another range: %+v, new %t", second, isNew)
	}
	running := first
	running.State, running.Cursor, running.Total, running.Rows, running.Dropped, running.Anew = state.SnapshotRunning, `["k"]`, 9, 4, 2, 1
	running.Chunks = []state.SnapshotChunk{
		{At: 200, Through: `["c"]`, Rows: 3, Dropped: []string{`["b"]`, `["ü\""]`}},
		{At: 300, After: `["c"]`, Through: `["k"]`, Rows: 1},
	}
	h.commit(state.Update{Snapshots: []state.TableSnapshot{running}})
	h.sameSnapshots("running", h.snapshots(true), running, second)
	h.sameSnapshots("loaded", h.load().Snapshots, running, second)
	if got := h.snapshots(true)[0]; !got.Requested.Equal(first.Requested) || got.Changed.Before(first.Changed) {
		t.Errorf("times %v and %v, requested at %v", got.Requested, got.Changed, first.Requested)
	}
	done := running
	done.State, done.Read, done.Chunks = state.SnapshotDone, true, nil
	h.commit(state.Update{Snapshots: []state.TableSnapshot{done}})
	h.commit(state.Update{Snapshots: []state.TableSnapshot{running}}) // what has ended stays
	h.sameSnapshots("all", h.snapshots(false), done, second)
	h.sameSnapshots("unfinished", h.snapshots(true), second)
	h.sameSnapshots("loaded", h.load().Snapshots, second)
	if third, isNew := h.request("orders", `["a"]`, ""); !isNew || third.Number != 3 {
		t.Errorf("taken once more: %+v, new %t", third, isNew)
	}
}

// A start requests its snapshots in the transaction that stores its partitions.
func testSnapshotsAtStart(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	h.commit(state.Update{
		Children:  children(100, nil, "a", state.SnapshotToken("t", 1), state.SnapshotToken("u", 2)),
		Snapshots: []state.TableSnapshot{{Table: "t", State: state.SnapshotWaiting}, {Table: "u", State: state.SnapshotWaiting}},
	})
	h.sameSnapshots("requested", h.snapshots(true),
		state.TableSnapshot{Number: 1, Table: "t", State: state.SnapshotWaiting}, state.TableSnapshot{Number: 2, Table: "u", State: state.SnapshotWaiting})
	// Its progress is kept like a partition's.
	h.commit(state.Update{Token: state.SnapshotToken("u", 2), Progress: through("s", 150)})
	if got := h.progress(state.SnapshotToken("u", 2), "s").Through; got != 150 {
		t.Errorf("progress %d", got)
	}
	// But it is none of the stream's.
	if got := h.tokens(); len(got) != 1 || got[0] != "a" {
		t.Errorf("partitions %q", got)
	}
}

func testSnapshotsRefused(t *testing.T, open func(t *testing.T) state.Store) {
	h := start(t, open(t))
	if _, _, err := h.store.RequestSnapshot(t.Context(), "none-such", state.TableSnapshot{Table: "t"}); !errors.Is(err, state.ErrNoPipeline) {
		t.Errorf("an unknown pipeline: %v", err)
	}
	if _, err := h.store.Snapshots(t.Context(), "none-such", false); !errors.Is(err, state.ErrNoPipeline) {
		t.Errorf("an unknown pipeline: %v", err)
	}
	for _, s := range []state.TableSnapshot{{}, {Table: "t", Number: 1}, {Table: "t", From: "\xff"}} {
		if _, _, err := h.store.RequestSnapshot(t.Context(), h.Pipeline, s); err == nil {
			t.Errorf("%+v is not refused", s)
		}
	}
	s, _ := h.request("t", "", "")
	zombie := h.lease
	h.lease = h.claim("another")
	s.State = state.SnapshotFailed
	fenced, err := h.store.Commit(t.Context(), zombie, []state.Update{{Snapshots: []state.TableSnapshot{s}}}) // I4
	if err != nil || len(fenced) != 1 {
		t.Errorf("a zombie's update: fenced %q, %v", fenced, err)
	}
	for _, bad := range []state.TableSnapshot{
		{Number: 7, Table: "t", State: state.SnapshotDone}, {Number: s.Number, Table: "u", State: state.SnapshotDone},
		{Number: s.Number, Table: "t", State: "gone"}, {Number: s.Number, Table: "t", State: state.SnapshotRunning, Chunks: []state.SnapshotChunk{{At: -1}}},
	} {
		if _, err := h.store.Commit(t.Context(), h.lease, []state.Update{{Snapshots: []state.TableSnapshot{bad}}}); err == nil {
			t.Errorf("%+v is not refused", bad)
		}
	}
	h.sameSnapshots("after all", h.snapshots(false), state.TableSnapshot{Number: 1, Table: "t", State: state.SnapshotWaiting})
}

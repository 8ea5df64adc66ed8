package statetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// Run runs the suite. open is called several times; all stores it returns must share their storage, as the stores of several
// processes do. The suite leaves behind pipelines with names of its own.
func Run(t *testing.T, open func(t *testing.T) state.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open func(t *testing.T) state.Store)
	}{
		{"Open", testOpen},
		{"OpenMismatch", testMismatch},
		{"OpenConcurrently", testOpenConcurrently},
		{"NoPipeline", testNoPipeline},
		{"Context", testContext},
		{"Hostile", testHostile},
		{"Claim", testClaim},
		{"ClaimConcurrently", testClaimConcurrently},
		{"Fence", testFence},
		{"FenceRace", testFenceRace},
		{"Restart", testRestart},
		{"Children", testChildren},
		{"ChildOfTwoParents", testChildOfTwoParents},
		{"Finish", testFinish},
		{"Order", testOrder},
		{"ErrorStoresNothing", testErrorStoresNothing},
		{"Monotone", testMonotone},
		{"Chains", testChains},
		{"Tables", testTables},
		{"Segments", testSegments},
		{"SegmentPages", testSegmentPages},
		{"Ownership", testOwnership},
		{"Many", testMany},
		{"Parallel", testParallel},
		{"Reopen", testReopen},
		{"ReopenTwice", testReopenTwice},
		{"Gap", testGap},
		{"Mend", testMend},
		{"Workers", testWorkers},
		{"Snapshots", testSnapshots},
		{"SnapshotsAtStart", testSnapshotsAtStart},
		{"SnapshotsRefused", testSnapshotsRefused},
		{"Model", func(t *testing.T, open func(t *testing.T) state.Store) { Model(t, open(t), 6) }},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

var pipelines atomic.Int64

// newConfig describes a pipeline that no test has used, also when tests of several processes share a database.
func newConfig() state.Config {
	return state.Config{
		Pipeline: fmt.Sprintf("suite-%d-%d", time.Now().UnixNano(), pipelines.Add(1)),
		Database: "projects/p/instances/i/databases/d", Stream: "everything", Identity: "2026-01-01", Digest: "abc", Start: 100,
	}
}

// harness is one pipeline, opened and claimed.
type harness struct {
	*testing.T
	store state.Store
	state.Config
	lease state.Lease
}

func start(t *testing.T, store state.Store) *harness {
	t.Helper()
	h := &harness{T: t, store: store, Config: newConfig()}
	if _, err := store.Open(t.Context(), h.Config); err != nil {
		t.Fatal(err)
	}
	h.lease = h.claim("worker")
	return h
}

// startWith is start with partitions that an initial query found.
func startWith(t *testing.T, store state.Store, tokens ...string) *harness {
	t.Helper()
	h := start(t, store)
	h.commit(state.Update{Children: children(100, nil, tokens...)})
	return h
}

func (h *harness) claim(worker string) state.Lease {
	h.Helper()
	l, err := h.store.Claim(h.Context(), h.Pipeline, worker)
	if err != nil {
		h.Fatal(err)
	}
	return l
}

// commit stores updates under the current lease.
func (h *harness) commit(updates ...state.Update) {
	h.Helper()
	fenced, err := h.store.Commit(h.Context(), h.lease, updates)
	if err != nil {
		h.Fatal(err)
	}
	if len(fenced) > 0 {
		h.Fatalf("the current lease %+v was fenced for %q", h.lease, fenced)
	}
}

func (h *harness) load() state.Snapshot {
	h.Helper()
	s, err := h.store.Load(h.Context(), h.Pipeline)
	if err != nil {
		h.Fatal(err)
	}
	return s
}

func (h *harness) segments(sink string) (list []change.Segment) {
	h.Helper()
	err := h.store.Segments(h.Context(), h.Pipeline, sink, func(s change.Segment) error {
		list = append(list, s)
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return list
}

// partition is the loaded partition, which must be there.
func (h *harness) partition(token string) state.Partition {
	h.Helper()
	s := h.load()
	i := slices.IndexFunc(s.Partitions, func(p state.Partition) bool { return p.Token == token })
	if i < 0 {
		h.Fatalf("partition %s is not loaded: %+v", token, s.Partitions)
	}
	return s.Partitions[i]
}

// tokens are the loaded partitions' tokens in order.
func (h *harness) tokens() (list []string) {
	h.Helper()
	for _, p := range h.load().Partitions {
		list = append(list, p.Token)
	}
	slices.Sort(list)
	return list
}

// progress is the loaded progress, zero if there is none.
func (h *harness) progress(token, sink string) state.Progress {
	h.Helper()
	for _, p := range h.load().Progress {
		if p.Token == token && p.Sink == sink {
			return p
		}
	}
	return state.Progress{}
}

func (h *harness) segment(sink, token, table string, first, last int64) state.SinkSegment {
	return state.SinkSegment{Sink: sink, Segment: change.Segment{
		Chain: change.Chain{Pipeline: h.Pipeline, Incarnation: h.lease.Incarnation, Token: token, Table: table},
		Name:  fmt.Sprintf("%s/%s/%d.avro", table, token, first), Generation: first + 7,
		First: position(first), Last: position(last), Count: last - first + 1, Bytes: 1 << 33,
		SHA256: fmt.Sprintf("sha-%d", first), Fingerprint: "fingerprint", Previous: "previous",
	}}
}

func position(commit int64) change.Position {
	return change.Position{Commit: change.Timestamp(commit), Transaction: "tx/1", Sequence: "00000001", Mod: 3}
}

func through(sink string, t change.Timestamp) []state.Progress {
	return []state.Progress{{Sink: sink, Through: t}}
}

func children(start change.Timestamp, parents []string, tokens ...string) (list []change.Partition) {
	for _, token := range tokens {
		list = append(list, change.Partition{Token: token, Parents: parents, Start: start})
	}
	return list
}

// diff compares snapshots; orders that Load does not promise are not compared, nor nil with empty.
func diff(want, got state.Snapshot) string {
	type flat struct {
		Pipeline   state.Pipeline
		Partitions []state.Partition
		Progress   []state.Progress
		Tables     []string
	}
	flatten := func(s state.Snapshot) flat {
		f := flat{Pipeline: s.Pipeline, Partitions: slices.Clone(s.Partitions), Progress: slices.Clone(s.Progress)}
		f.Pipeline.Created = false
		slices.SortFunc(f.Partitions, func(a, b state.Partition) int { return cmp.Compare(a.Token, b.Token) })
		slices.SortFunc(f.Progress, func(a, b state.Progress) int {
			return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Sink, b.Sink))
		})
		for i := range f.Progress {
			f.Progress[i].Chains = slices.Clone(f.Progress[i].Chains)
			slices.SortFunc(f.Progress[i].Chains, func(a, b state.ChainEnd) int { return cmp.Compare(a.Table, b.Table) })
		}
		for _, t := range s.Tables {
			text, err := json.Marshal(t)
			if err != nil {
				text = []byte(err.Error())
			}
			f.Tables = append(f.Tables, fmt.Sprint(string(text), t.Keys()))
		}
		slices.Sort(f.Tables)
		return f
	}
	return gocmp.Diff(flatten(want), flatten(got), cmpopts.EquateEmpty())
}

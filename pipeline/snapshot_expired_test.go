package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// rowsAt are the rows of a table that never changes, read at given timestamps; versions of earlier times are not kept.
type rowsAt struct {
	keys []string // quoted, in order
	at   []change.Timestamp
	most int // rows of one chunk
}

func (r *rowsAt) Tables(context.Context) ([]string, error)     { return []string{"carts"}, nil }
func (r *rowsAt) Count(context.Context, string) (int64, error) { return int64(len(r.keys)), nil }
func (r *rowsAt) Read(_ context.Context, q snapshot.Range) (*snapshot.Chunk, error) {
	if q.At != 0 {
		return nil, snapshot.ErrExpired
	}
	chunk := &snapshot.Chunk{At: r.at[0]}
	if len(r.at) > 1 {
		r.at = r.at[1:]
	}
	for _, k := range r.keys {
		key := "[" + k + "]"
		if key <= q.After || q.Through != "" && key > q.Through {
			continue
		}
		if q.MaxRows > 0 && len(chunk.Rows) == q.MaxRows {
			chunk.More = true
			break
		}
		c := tapeChange(0, chunk.At)
		c.Key, c.Position = []change.Value{change.Value(k)}, change.SnapshotPosition(chunk.At, "carts", key)
		chunk.Rows, chunk.Keys, chunk.Bytes = append(chunk.Rows, c), append(chunk.Keys, key), chunk.Bytes+c.Size()
	}
	r.most = max(r.most, len(chunk.Rows))
	return chunk, nil
}

// Chunks that were with the sinks when the engine died have expired. The first is read anew and becomes durable; the engine dies
// again before the second is: that one was handed on at an earlier timestamp than what is durable by now, and still must come.
// And however many rows there are by now between a chunk's keys, a chunk is no larger than any (I2, I10).
func TestSnapshotExpiredChunksSurviveASecondCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const start = 1_000_000
		store, dest := state.NewMemory(), memsink.NewDestination()
		config := testConfig
		p, err := store.Open(t.Context(), config)
		must(t, err)
		lease, err := store.Claim(t.Context(), p.Pipeline, "before")
		must(t, err)
		stream := change.Partition{Token: "P", Start: start}
		taken := state.TableSnapshot{Table: "carts", State: state.SnapshotWaiting}
		commit := func(us ...state.Update) {
			t.Helper()
			if fenced, err := store.Commit(t.Context(), lease, us); err != nil || len(fenced) > 0 {
				t.Fatal(fenced, err)
			}
		}
		commit(state.Update{Children: []change.Partition{stream}, Snapshots: []state.TableSnapshot{taken}})
		taken.Number, taken.State = 1, state.SnapshotRunning
		key := func(i int) string { return fmt.Sprintf(`["k%02d"]`, i) }
		for i := range maxChunks {
			taken.Chunks = append(taken.Chunks, state.SnapshotChunk{At: start + 20 + change.Timestamp(i), After: taken.Cursor, Through: key(2*i + 1), Rows: 2})
			taken.Cursor, taken.Rows = key(2*i+1), taken.Rows+2
		}
		commit(state.Update{Snapshots: []state.TableSnapshot{taken}, Children: []change.Partition{{Token: taken.Token(), Start: 2}}})
		commit(state.Update{Token: "P", Progress: []state.Progress{{Token: "P", Sink: "mem", Through: start + 40}}})

		rows := &rowsAt{at: []change.Timestamp{start + 100, start + 200, start + 300, start + 400, start + 500, start + 600, start + 700, start + 800, start + 900}}
		for i := range 2*maxChunks + 3 {
			rows.keys = append(rows.keys, strconv.Quote(fmt.Sprintf("k%02d", i)))
		}
		for i := range 6 { // since then
			rows.keys = append(rows.keys, strconv.Quote(fmt.Sprintf("k00-%d", i)))
		}
		slices.Sort(rows.keys)
		run := func(through change.Timestamp) {
			source := &tape{first: []change.Partition{stream}, frames: map[string][]*change.Frame{"P": {{Through: through}}}}
			e, err := New(Options{
				Config: config, Store: store, Logger: slog.New(slog.DiscardHandler), SnapshotChunkRows: 2,
				Source: func(context.Context, state.Snapshot) (Source, error) { return source, nil },
				Rows:   func(context.Context) (Rows, error) { return rows, nil },
				Sinks:  []NamedSink{{"mem", memsink.NewWriter(memsink.Options{Destination: dest, Spec: sinks.Spec{MaxDelay: time.Millisecond}})}},
			})
			must(t, err)
			done := make(chan error, 1)
			go func() { done <- e.Run(t.Context()) }()
			time.Sleep(time.Minute)
			e.Kill()
			must(t, <-done)
		}
		run(start + 150) // the stream comes past the first chunk, and not to the second
		if n := dest.Distinct(); n != 2 {
			t.Fatalf("%d rows came, want the first chunk's", n)
		}
		for rows.at = nil; len(rows.at) < 40; {
			rows.at = append(rows.at, start+1000+change.Timestamp(len(rows.at)))
		}
		run(start + 2000)
		keys := map[string]bool{}
		for _, d := range dest.Deliveries() {
			keys[string(d.Change.Key[0])] = true
		}
		if len(keys) != len(rows.keys) {
			t.Errorf("I2: %d of %d rows came: %v", len(keys), len(rows.keys), keys)
		}
		if rows.most > 2 {
			t.Errorf("I10: a chunk had %d rows, more than 2", rows.most)
		}
		list, err := store.Snapshots(t.Context(), "test", false)
		must(t, err)
		if s := list[0]; s.State != state.SnapshotDone || s.Rows != int64(len(rows.keys)) || s.Anew == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A pipeline with an end takes what of its snapshots lies before that and comes to the end all the same; a run without one takes
// the rest. A chunk behind the end would wait for a stream that is never read that far.
func TestSnapshotBehindTheEnd(t *testing.T) {
	suspended := 0
	for seed := range uint64(24) {
		synctest.Test(t, func(t *testing.T) {
			w := newSnapshotWorld(newDice(seed), 60, 8, []Order{OrderKey, OrderCommit}[seed%2], seed%4 < 2)
			last := w.script.last()
			w.script.end = testConfig.Start + change.Timestamp(w.rng.intn(int(last-testConfig.Start)+5))
			e := w.engine(t)
			e.opts.End = w.script.end
			must(t, runToEnd(t, e))
			for _, d := range w.least.Deliveries() {
				if d.Change.Position.Commit > w.script.end {
					t.Errorf("seed %d: %s came, after the end %s", seed, d.Change.ID(), w.script.end)
				}
			}
			list, err := w.store.Snapshots(t.Context(), "test", true)
			must(t, err)
			suspended += len(list)
			w.script.end = 0
			w.tables.least = w.tables.newest
			must(t, runToEnd(t, w.engine(t)))
			if err := w.check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		})
	}
	if suspended == 0 {
		t.Error("no snapshot came to the end")
	}
}

// A range that somebody asks for before a new incarnation's first run does not take the place of the snapshot that it begins with (I2).
func TestRangeBeforeTheFirstRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSnapshotWorld(newDice(3), 20, 8, OrderKey, false)
		w.many = true
		config := testConfig
		config.Snapshot = true
		_, err := w.store.Open(t.Context(), config)
		must(t, err)
		_, _, err = w.store.RequestSnapshot(t.Context(), "test", state.TableSnapshot{Table: "carts", From: `["1"]`, To: `["2"]`})
		must(t, err)
		must(t, runToEnd(t, w.engine(t)))
		must(t, w.check())
	})
}

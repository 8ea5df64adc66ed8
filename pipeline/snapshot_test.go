package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// tables are the rows of a script's database at every timestamp: those from before the stream began, and its changes.
type tables struct {
	script *script
	rng    *dice
	// rows is the history of each row, by table and key, in position order. A deletion has no After.
	rows map[string]map[string][]change.Change
	// step is called before and after each read.
	step func() error

	mu sync.Mutex
	// expired is up to where versions are not kept; newest is the timestamp of the newest read, and least what a read after a
	// restart is later than: time has passed.
	expired, newest, least change.Timestamp
}

// newTables gives the script's database rows from before the stream, and turns some of its changes into deletions.
func newTables(s *script, rng *dice, keys int) *tables {
	t := &tables{script: s, rng: rng, rows: map[string]map[string][]change.Change{}}
	for _, table := range scriptTables {
		t.rows[table.Name] = map[string][]change.Change{}
	}
	add := func(c change.Change) {
		k := string(c.AppendKey(nil))
		t.rows[c.Table.Name][k] = append(t.rows[c.Table.Name][k], c)
	}
	for key := range keys + 4 { // some of them never change again
		if rng.intn(3) > 0 {
			add(change.Change{
				Position: change.Position{Commit: change.Timestamp(1 + rng.intn(900_000))}, Table: scriptTables[key%2], Op: change.Insert,
				Key: []change.Value{change.Value(strconv.Quote(strconv.Itoa(key)))}, After: change.Row{nil, change.Value(fmt.Sprintf(`"old %d"`, key))},
			})
		}
	}
	var all []change.Change
	for _, p := range s.parts {
		for i := range p.changes {
			if rng.intn(5) == 0 {
				p.changes[i].Op, p.changes[i].After = change.Delete, nil
			}
			all = append(all, p.changes[i])
		}
	}
	slices.SortFunc(all, func(a, b change.Change) int { return a.Position.Compare(b.Position) })
	for _, c := range all {
		add(c)
	}
	return t
}

// at is the row as it was; ok is false where there is none.
func (t *tables) at(table, key string, at change.Timestamp) (c change.Change, ok bool) {
	for _, v := range t.rows[table][key] {
		if v.Position.Commit <= at {
			c, ok = v, v.Op != change.Delete
		}
	}
	return c, ok
}

func (t *tables) Tables(context.Context) ([]string, error) { return []string{"carts", "wallets"}, nil }

func (t *tables) Count(context.Context, string) (int64, error) { return 7, nil }

// Read reads at the present anywhere between what the stream has handed over and the end of the history.
func (t *tables) Read(ctx context.Context, q snapshot.Range) (*snapshot.Chunk, error) {
	if t.step != nil {
		if err := t.step(); err != nil {
			return nil, err
		}
	}
	if q.Table != "carts" && q.Table != "wallets" {
		return nil, &snapshot.NotWatchedError{Table: q.Table}
	}
	at := q.At
	t.mu.Lock()
	if at == 0 {
		at = max(t.script.handed(), q.Floor+1, t.least+1)
		at += change.Timestamp(t.rng.intn(int(max(t.script.last()-at, 0)) + 2))
		t.newest = max(t.newest, at)
	} else if at <= t.expired {
		t.mu.Unlock()
		return nil, snapshot.ErrExpired
	}
	t.mu.Unlock()
	select { // the stream goes on meanwhile
	case <-time.After(time.Duration(t.rng.intn(3)) * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	less := func(a, b string) int { return strings.Compare(a, b) }
	var keys []string
	for k := range t.rows[q.Table] {
		_, ok := t.at(q.Table, k, at)
		if ok && (q.From == "" || k >= q.From) && (q.To == "" || k < q.To) && (q.After == "" || k > q.After) && (q.Through == "" || k <= q.Through) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, less)
	chunk := &snapshot.Chunk{At: at}
	if q.Through == "" && len(keys) > q.MaxRows {
		keys, chunk.More = keys[:q.MaxRows], true
	}
	for _, k := range keys {
		c, _ := t.at(q.Table, k, at)
		c.Op, c.Position = change.Insert, change.SnapshotPosition(at, q.Table, k)
		chunk.Rows, chunk.Keys, chunk.Bytes = append(chunk.Rows, c), append(chunk.Keys, k), chunk.Bytes+c.Size()
	}
	if t.step != nil {
		if err := t.step(); err != nil {
			return nil, err
		}
	}
	return chunk, nil
}

// snapshotWorld is a world whose pipeline takes snapshots of everything.
type snapshotWorld struct {
	*world
	tables *tables
	expire bool // versions are lost at every start
}

func newSnapshotWorld(rng *dice, commits, keys int, order Order) *snapshotWorld {
	s := newScript(rng, commits, keys, order == OrderCommit)
	w := &snapshotWorld{world: newWorldOf(s, rng), tables: newTables(s, rng, keys)}
	w.order = order
	return w
}

func (w *snapshotWorld) engine(t testing.TB) *Engine {
	return w.world.engine(t, func(o *Options) {
		o.Config.Snapshot = true
		o.Rows = func(context.Context) (Rows, error) { return w.tables, nil }
		o.SnapshotChunkRows = 1 + w.rng.intn(4)
		o.CheckpointEvery = time.Duration(1+w.rng.intn(1500)) * time.Millisecond
	})
}

// check holds both destinations against the model.
func (w *snapshotWorld) check() error {
	for name, d := range map[string]*memsink.Destination{"once": w.once, "least": w.least} {
		got := map[string]change.Change{} // by position, as whoever reads a chain or ignores what is old sees it
		changes := map[string]bool{}
		for _, v := range d.Deliveries() {
			k := v.Key()
			if have, ok := got[k]; !ok || v.Change.Position.After(have.Position) {
				got[k] = v.Change
			}
			if !v.Change.Position.Snapshot {
				changes[v.Change.ID()] = true
			} else if row, ok := w.tables.at(v.Change.Table.Name, string(v.Change.AppendKey(nil)), v.Change.Position.Commit); !ok || string(row.After.At(1)) != string(v.Change.After.At(1)) {
				return fmt.Errorf("%s: %s shows what was not there", name, v.Change.ID())
			}
		}
		if len(changes) != w.script.changes {
			return fmt.Errorf("%s: I2: %d of %d changes delivered", name, len(changes), w.script.changes)
		}
		for table, rows := range w.tables.rows {
			for k := range rows {
				want, exists := w.tables.at(table, k, change.MaxTimestamp)
				have, ok := got[table+k]
				if exists != (ok && have.Op != change.Delete) || exists && string(have.After.At(1)) != string(want.After.At(1)) {
					return fmt.Errorf("%s: row %s%s is %s %s, want %s (exists: %t)", name, table, k, have.Op, have.After.At(1), want.After.At(1), exists)
				}
			}
		}
	}
	if err := w.once.CheckOnce(); err != nil {
		return fmt.Errorf("I6: %w", err)
	}
	// Chains are in order each by itself: a snapshot's are apart from the partitions', as the partitions' are from one another.
	if err := w.least.CheckOrder(); err != nil {
		return fmt.Errorf("I1: %w", err)
	}
	if w.order == OrderCommit {
		var last change.Position
		for _, d := range w.least.Deliveries() {
			if !d.Repeat && !d.Change.Position.After(last) {
				return fmt.Errorf("I1: %s was first delivered after %s", d.Change.ID(), last)
			}
			if !d.Repeat {
				last = d.Change.Position
			}
		}
	}
	list, err := w.store.Snapshots(context.Background(), "test", false)
	if err != nil || len(list) != 2 {
		return fmt.Errorf("snapshots %+v, %w", list, err)
	}
	for _, s := range list {
		if s.State != state.SnapshotDone || !s.Read || len(s.Chunks) > 0 || s.Total != 7 {
			return fmt.Errorf("snapshot %+v", s)
		}
		if !w.expire && s.Anew > 0 {
			return fmt.Errorf("chunks were read anew: %+v", s)
		}
	}
	return nil
}

// run runs the pipeline with crashes: each after so many steps, which are the calls of sinks, store, tables and stream.
func (w *snapshotWorld) run(t *testing.T, faults int, crashes []int) error {
	w.faults, w.store.every = faults, faults
	for _, steps := range append(slices.Clone(crashes), 0) {
		var e *Engine
		var mu sync.Mutex
		step := func() error {
			mu.Lock()
			defer mu.Unlock()
			if steps--; steps == 0 {
				e.Kill()
			}
			return nil
		}
		if steps == 0 {
			w.store.every = 0
		}
		w.tables.step = step
		w.script.stop = func(string, int) error { return step() }
		w.store.onCommit = func([]state.Update) { step() }
		w.tables.mu.Lock()
		if w.tables.least = w.tables.newest; w.expire {
			w.tables.expired = w.tables.newest
		}
		w.tables.mu.Unlock()
		e = w.engine(t)
		for i := range e.sinks {
			hook := func(context.Context, *sinks.Batch) error { step(); return w.hook(nil, nil) }
			spec := e.sinks[i].spec
			if i == 0 {
				e.sinks[i].sink = memsink.NewAppender(memsink.Options{Destination: w.once, Spec: spec, Before: hook, After: hook, Segments: true, MaxPlace: 3})
			} else {
				e.sinks[i].sink = memsink.NewWriter(memsink.Options{Destination: w.least, Spec: spec, Before: hook, After: hook})
			}
		}
		last := steps == 0
		if err := e.Run(t.Context()); err != nil && (last || !errors.Is(err, errInjected)) {
			return fmt.Errorf("run: %w", err)
		}
		if used, _ := e.budget.inUse(); last && used != 0 {
			return fmt.Errorf("I10: %d bytes of the budget were never given back", used)
		}
		if n := e.watches.open.Load(); last && n != 0 {
			return fmt.Errorf("%d watches were left open", n)
		}
	}
	return w.check()
}

// TestSnapshotAmongChanges is the property of snapshots: whatever the stream, the graph, the timestamps of chunks and crashes
// between any two steps do, every row arrives, as a change or as a snapshot's row, and nothing older after something newer.
func TestSnapshotAmongChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		commits := rapid.IntRange(1, 80).Draw(rt, "commits")
		keys := rapid.IntRange(2, 12).Draw(rt, "keys")
		faults := rapid.SampledFrom([]int{0, 3, 10}).Draw(rt, "faults")
		crashes := rapid.SliceOfN(rapid.IntRange(1, 120), 0, 4).Draw(rt, "crash after so many steps")
		order := rapid.SampledFrom([]Order{OrderKey, OrderCommit}).Draw(rt, "order")
		var failure error
		synctest.Test(t, func(t *testing.T) {
			failure = newSnapshotWorld(newDice(seed), commits, keys, order).run(t, faults, crashes)
		})
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

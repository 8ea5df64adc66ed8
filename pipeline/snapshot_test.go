package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// newTables gives the script's database rows from before the stream, and turns some of its changes into insertions and
// deletions. Where the stream captures no whole rows, an update has one of the two columns.
func newTables(s *script, rng *dice, keys int, whole bool) *tables {
	t := &tables{script: s, rng: rng, rows: map[string]map[string][]change.Change{}}
	for _, table := range scriptTables {
		t.rows[table.Name] = map[string][]change.Change{}
	}
	for key := range keys + 4 { // some of them never change again
		if rng.intn(3) > 0 {
			c := change.Change{
				Position: change.Position{Commit: change.Timestamp(1 + rng.intn(900_000))}, Table: scriptTables[key%2], Op: change.Insert,
				Key: []change.Value{change.Value(strconv.Quote(strconv.Itoa(key)))}, After: change.Row{nil, change.Value(fmt.Sprintf(`"old %d"`, key)), change.Value(`"old"`)},
			}
			t.rows[c.Table.Name][string(c.AppendKey(nil))] = []change.Change{c}
		}
	}
	var all []*change.Change
	for _, p := range s.parts {
		for i := range p.changes {
			all = append(all, &p.changes[i])
		}
	}
	slices.SortFunc(all, func(a, b *change.Change) int { return a.Position.Compare(b.Position) })
	for _, c := range all {
		k := string(c.AppendKey(nil))
		versions := t.rows[c.Table.Name][k]
		var before change.Row
		if n := len(versions); n > 0 {
			before = versions[n-1].After
		}
		value := c.After[1]
		c.Capture, c.After = change.NewRow, change.Row{nil, value, value}
		if !whole {
			c.Capture = change.OldAndNewValues
		}
		full := c.After
		switch {
		case rng.intn(5) == 0:
			c.Op, c.After, full = change.Delete, nil, nil
		case before == nil:
			c.Op = change.Insert
		case rng.intn(2) == 0:
			full = change.Row{nil, before[1], value}
			if c.After = full; !whole {
				c.After = change.Row{nil, nil, value}
			}
		default:
			full = change.Row{nil, value, before[2]}
			if c.After = full; !whole {
				c.After = change.Row{nil, value}
			}
		}
		version := *c
		version.After = full
		t.rows[c.Table.Name][k] = append(versions, version)
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
	var keys []string
	for k := range t.rows[q.Table] {
		_, ok := t.at(q.Table, k, at)
		if ok && (q.From == "" || k >= q.From) && (q.To == "" || k < q.To) && (q.After == "" || k > q.After) && (q.Through == "" || k <= q.Through) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, strings.Compare)
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

func sameRow(a, b change.Row) bool {
	return string(a.At(1)) == string(b.At(1)) && string(a.At(2)) == string(b.At(2))
}

// snapshotWorld is a world whose pipeline takes snapshots of everything.
type snapshotWorld struct {
	*world
	tables *tables
	expire bool // versions are lost at every start
	// more are destinations that have everything too. options changes those of each engine, between is called before each run but the
	// first, and step now and then; all may be nil.
	more    map[string]*memsink.Destination
	options func(*Options)
	between func() error
	step    func()
	// many says that there may be any number of snapshots, and of incarnations.
	many bool
}

func newSnapshotWorld(rng *dice, commits, keys int, order Order, moving bool) *snapshotWorld {
	s := newMovingScript(rng, commits, keys)
	if !moving {
		s = newScript(rng, commits, keys, order == OrderCommit)
	}
	w := &snapshotWorld{world: newWorldOf(s, rng), tables: newTables(s, rng, keys, rng.intn(2) == 0)}
	w.order = order
	return w
}

func (w *snapshotWorld) engine(t testing.TB) *Engine {
	return w.world.engine(t, func(o *Options) {
		o.Config.Snapshot = true
		o.Rows = func(context.Context) (Rows, error) { return w.tables, nil }
		o.SnapshotChunkRows = 1 + w.rng.intn(4)
		o.CheckpointEvery = time.Duration(1+w.rng.intn(1500)) * time.Millisecond
		if w.options != nil {
			w.options(o)
		}
	})
}

// checkContent holds what came to a destination against the model.
func (w *snapshotWorld) checkContent(d *memsink.Destination) error {
	// In order of positions, as whoever reads a chain or ignores what is old sees it.
	came := d.Deliveries()
	slices.SortStableFunc(came, func(a, b memsink.Delivery) int { return a.Change.Position.Compare(b.Change.Position) })
	got := map[string]change.Row{}
	changes := map[string]bool{}
	for _, v := range came {
		c := &v.Change
		if !c.Position.Snapshot {
			changes[c.ID()] = true
		} else if row, ok := w.tables.at(c.Table.Name, string(c.AppendKey(nil)), c.Position.Commit); !ok || !sameRow(row.After, c.After) {
			return fmt.Errorf("%s shows what was not there", c.ID())
		}
		row := change.Row{nil, nil, nil}
		for i := 1; i < len(row) && c.Op != change.Delete; i++ {
			row[i] = c.After.At(i)
			if have := got[v.Key()]; row[i] == nil && have != nil {
				row[i] = have[i]
			}
		}
		got[v.Key()] = row
		if c.Op == change.Delete {
			delete(got, v.Key())
		}
	}
	if len(changes) != w.script.changes {
		return fmt.Errorf("I2: %d of %d changes delivered", len(changes), w.script.changes)
	}
	for table, rows := range w.tables.rows {
		for k := range rows {
			want, exists := w.tables.at(table, k, change.MaxTimestamp)
			if have, ok := got[table+k]; exists != ok || exists && !sameRow(have, want.After) {
				return fmt.Errorf("row %s%s is %s, want %s (exists: %t)", table, k, have, want.After, exists)
			}
		}
	}
	return nil
}

// checkOrder holds the order of what came to a Writer's destination.
func (w *snapshotWorld) checkOrder(d *memsink.Destination) error {
	if err := d.CheckOrder(); err != nil || w.order != OrderCommit {
		return err
	}
	var last change.Position
	for _, v := range d.Deliveries() {
		if !v.Repeat && !v.Change.Position.After(last) {
			return fmt.Errorf("%s was first delivered after %s", v.Change.ID(), last)
		}
		if !v.Repeat {
			last = v.Change.Position
		}
	}
	return nil
}

// check holds all destinations against the model.
func (w *snapshotWorld) check() error {
	writers := map[string]*memsink.Destination{"least": w.least}
	maps.Copy(writers, w.more)
	for name, d := range writers {
		// Chains are in order each by itself: a snapshot's are apart from the partitions', as the partitions' are from one another.
		if err := w.checkOrder(d); err != nil {
			return fmt.Errorf("%s: I1: %w", name, err)
		}
	}
	writers["once"] = w.once
	for name, d := range writers {
		if err := w.checkContent(d); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := w.once.CheckOnce(); err != nil && !w.many { // each incarnation has chains of its own
		return fmt.Errorf("I6: %w", err)
	}
	list, err := w.store.Snapshots(context.Background(), "test", false)
	if err != nil || len(list) != 2 && !w.many {
		return fmt.Errorf("snapshots %+v, %w", list, err)
	}
	for _, s := range list {
		if w.many && s.State == state.SnapshotWaiting {
			continue // asked for when the stream had ended
		}
		if s.State != state.SnapshotDone || !s.Read || len(s.Chunks) > 0 || s.Total != 7 && s.From+s.To == "" {
			return fmt.Errorf("snapshot %+v", s)
		}
		if !w.expire && s.Anew > 0 {
			return fmt.Errorf("chunks were read anew: %+v", s)
		}
	}
	return nil
}

// run runs the pipeline with crashes: each after so many steps, which are the calls of sinks, store, tables and stream; a
// negative one counts chunks handed on, and comes a few steps after that.
func (w *snapshotWorld) run(t *testing.T, faults int, crashes []int) error {
	w.faults, w.store.every = faults, faults
	for n, steps := range append(slices.Clone(crashes), 0) {
		if n > 0 && w.between != nil {
			if err := w.between(); err != nil {
				return err
			}
		}
		var e *Engine
		var mu sync.Mutex
		step := func() error {
			if w.step != nil {
				w.step()
			}
			mu.Lock()
			defer mu.Unlock()
			if steps > 0 {
				if steps--; steps == 0 {
					e.Kill()
				}
			}
			return nil
		}
		last := steps == 0
		if last {
			w.store.every = 0
		}
		w.tables.step = step
		w.script.stop = func(string, int) error {
			if w.rng.intn(2) == 0 {
				time.Sleep(time.Duration(w.rng.intn(20)) * time.Millisecond)
			}
			return step()
		}
		w.store.onCommit = func(us []state.Update) {
			step()
			for _, u := range us {
				for _, s := range u.Snapshots {
					if len(s.Chunks) == 0 {
						continue
					}
					time.Sleep(time.Duration(w.rng.intn(20)) * time.Millisecond) // the stream goes on meanwhile
					mu.Lock()
					if steps < 0 {
						if steps++; steps == 0 {
							steps = 1 + w.rng.intn(8)
						}
					}
					mu.Unlock()
				}
			}
		}
		w.tables.mu.Lock()
		if w.tables.least = w.tables.newest; w.expire {
			w.tables.expired = w.tables.newest
		}
		w.tables.mu.Unlock()
		e = w.engine(t)
		for i := range e.sinks {
			hook := func(ctx context.Context, b *sinks.Batch) error { step(); return w.hook(ctx, b) }
			spec := e.sinks[i].spec
			switch e.sinks[i].name {
			case "once":
				e.sinks[i].sink = memsink.NewAppender(memsink.Options{Destination: w.once, Spec: spec, Before: hook, After: hook, Segments: true, MaxPlace: 3})
			case "least":
				e.sinks[i].sink = memsink.NewWriter(memsink.Options{Destination: w.least, Spec: spec, Before: hook, After: hook})
			}
		}
		if err := runToEnd(t, e); err != nil && (last || !errors.Is(err, errInjected)) {
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
		crashes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 120), rapid.IntRange(-4, -1)), 0, 5).Draw(rt, "crash after so many steps")
		order := rapid.SampledFrom([]Order{OrderKey, OrderCommit}).Draw(rt, "order")
		moving := rapid.Bool().Draw(rt, "mutable key ranges")
		ahead := rapid.SampledFrom([]int{0, 600, 3000}).Draw(rt, "received ahead")
		expire := rapid.Bool().Draw(rt, "versions are lost")
		var failure error
		synctest.Test(t, func(t *testing.T) {
			w := newSnapshotWorld(newDice(seed), commits, keys, order, moving)
			w.ahead, w.expire = ahead, expire
			failure = w.run(t, faults, crashes)
		})
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// Where versions are not kept any more, chunks that were with the sinks are read anew: rows may come twice, at two positions,
// and still nothing is lost and nothing older comes after something newer.
func TestSnapshotAnew(t *testing.T) {
	anew := int64(0)
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newSnapshotWorld(newDice(seed), 60, 12, []Order{OrderKey, OrderCommit}[seed%2], seed%4 < 2)
			w.expire = true
			if err := w.run(t, int(seed%3)*3, []int{-1 - int(seed%4), -1 - int(seed%3), 60}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			list, err := w.store.Snapshots(t.Context(), "test", false)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				anew += s.Anew
			}
		})
	}
	if anew < 5 {
		t.Errorf("only %d chunks were read anew", anew)
	}
}

// Requests are taken up while the pipeline runs: the rows of a range, once more, and a table that there is not, which fails
// alone.
func TestSnapshotRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{parts: map[string]*scriptPart{}, rng: newDice(1)}
		w := &snapshotWorld{world: newWorldOf(s, s.rng), tables: newTables(s, s.rng, 12, true)}
		quiet := &tape{first: []change.Partition{{Token: "a", Start: 1_000_000}}, frames: map[string][]*change.Frame{"a": nil}}
		for i := range 2_000 {
			quiet.frames["a"] = append(quiet.frames["a"], &change.Frame{Through: change.Timestamp(1_000_000 + i)})
		}
		quiet.before = func(ctx context.Context, _ string, _ int) { sleep(ctx, 10*time.Millisecond) }
		e := w.world.engine(t, func(o *Options) {
			o.Source = func(context.Context, state.Snapshot) (Source, error) { return quiet, nil }
			o.Rows = func(context.Context) (Rows, error) { return w.tables, nil }
			o.SnapshotChunkRows = 2
		})
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- e.Run(ctx) }()
		<-e.Ready()
		ask := func(table, from, to string) {
			if _, isNew, err := w.store.RequestSnapshot(t.Context(), "test", state.TableSnapshot{Table: table, From: from, To: to}); err != nil || !isNew {
				t.Fatalf("asked for %s: new %t, %v", table, isNew, err)
			}
		}
		ask("carts", `["1"]`, `["5"]`)
		ask("no such table", "", "")
		time.Sleep(5 * time.Second)
		want := 0
		for k := range w.tables.rows["carts"] {
			if k >= `["1"]` && k < `["5"]` {
				want++
			}
		}
		status := e.Status().Snapshots
		if len(status) != 2 || status[0].State != state.SnapshotDone && status[1].State != state.SnapshotDone {
			t.Fatalf("%+v", status)
		}
		if n := w.least.Distinct(); n != want || want < 2 || w.once.Distinct() != want || e.Status().SnapshotRows != int64(want) {
			t.Errorf("%d rows came, want %d", n, want)
		}
		ask("carts", `["1"]`, `["5"]`) // done is done: this takes them again
		time.Sleep(5 * time.Second)
		if n := w.least.Distinct(); n != 2*want {
			t.Errorf("taken again: %d rows, want %d", n, 2*want)
		}
		list, err := w.store.Snapshots(t.Context(), "test", false)
		if err != nil || len(list) != 3 {
			t.Fatal(list, err)
		}
		if f := list[1]; f.State != state.SnapshotFailed || !strings.Contains(f.Error, "no such table") {
			t.Errorf("%+v", f)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// A frame is cut where a chunk that was handed on before a crash has its place: what comes before it goes on, and with it the
// partitions that are announced, which no promise may pass (I3).
func TestCutFrame(t *testing.T) {
	f := &change.Frame{Token: "a", Through: 9, Bytes: 300, Reserved: 250, Ended: true, Children: []change.Partition{{Token: "b"}}, Sources: []string{"c"},
		Changes: []change.Change{tapeChange(0, 3), tapeChange(0, 5), tapeChange(0, 7)}}
	head := cutFrame(f, 5)
	if head.Through != 5 || len(head.Changes) != 2 || head.Ended || len(head.Children) != 1 || head.Sources != nil || head.Bytes != 200 || head.Reserved != 200 {
		t.Errorf("head %+v", head)
	}
	if f.Through != 9 || len(f.Changes) != 1 || !f.Ended || f.Children != nil || f.Sources == nil || f.Bytes != 100 || f.Reserved != 50 {
		t.Errorf("rest %+v", f)
	}
}

// Keys match whatever way they are written in.
func TestMatchKeys(t *testing.T) {
	table := change.NewTable("t", 1, []change.Column{
		{Name: "s", Type: &change.Type{Code: change.CodeString}, Key: true}, {Name: "f", Type: &change.Type{Code: change.CodeFloat64}, Key: true},
		{Name: "at", Type: &change.Type{Code: change.CodeTimestamp}, Key: true},
	})
	of := func(values ...string) string {
		c := change.Change{Table: table}
		for _, v := range values {
			c.Key = append(c.Key, change.Value(v))
		}
		var m matchKeys
		return m.of(&c)
	}
	if a, b := of(`"<\"\u00e9"`, "1e3", `"2026-01-02T03:04:05.120Z"`), of(`"\u003c\"é"`, "1000.0", `"2026-01-02T03:04:05.12Z"`); a != b {
		t.Errorf("%q and %q", a, b)
	}
	if a, b := of(`"null"`, "1", `"x"`), of("null", "1", `"x"`); a == b {
		t.Errorf("%q is the key of null and of its text", a)
	}
	table = change.NewTable("t", 1, []change.Column{
		{Name: "a", Type: &change.Type{Code: change.CodeString}, Key: true}, {Name: "b", Type: &change.Type{Code: change.CodeString}, Key: true},
	})
	if a, b := of(`"x\u0000\"y"`, `"z"`), of(`"x"`, `"y\u0000\"z"`); a == b {
		t.Errorf("%q is the key of two rows", a)
	}
}

// Engines killed shortly after a chunk was handed on: those are the ones that are read again.
func TestSnapshotRecovers(t *testing.T) {
	for seed := range uint64(24) {
		synctest.Test(t, func(t *testing.T) {
			w := newSnapshotWorld(newDice(seed), 120, 6, OrderKey, seed%2 == 0)
			if err := w.run(t, 3, []int{-1 - int(seed%3), -1, -2, -1, -1 - int(seed%2), -2}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		})
	}
}

// From the moment it is decided which rows go until they are in the lanes, newer changes of theirs wait, and no others do.
func TestWatchGate(t *testing.T) {
	var ws watches
	w := ws.watch("carts", 0)
	row := tapeChange(0, 5)
	other := tapeChange(0, 9)
	other.Key = []change.Value{change.Value(`"2"`)}
	newer := []change.Change{tapeChange(0, 9)}
	ws.read(w, 5, []change.Change{row})
	out := ws.decide(w)
	if out(&row) {
		t.Fatal("a row that nothing has overtaken is left out")
	}
	for _, passes := range [][]change.Change{{tapeChange(0, 5)}, {tapeChange(1, 9)}, {other}} {
		if _, wait := ws.admit(passes); wait != nil {
			t.Errorf("%s waits", passes[0].ID())
		}
	}
	at, wait := ws.admit(newer)
	if wait == nil || at != 5 {
		t.Fatalf("I1: a newer change of the row does not wait: %v", at)
	}
	ws.pass(w)
	<-wait
	if _, wait := ws.admit(newer); wait != nil || ws.open.Load() != 0 {
		t.Error("it waits for nothing")
	}
}

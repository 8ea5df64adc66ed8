package gcssink

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/check"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// chainChanges makes n changes of one chain: over several hours, with a column added a third of the way and one whose type
// changes at two thirds, in the middle of a transaction if so it falls.
func chainChanges(seed uint64, n int) (change.Chain, []change.Change) {
	g := sinktest.NewGenerator(seed)
	changes := g.NextOf(2, n/3)
	g.Alter(2)
	changes = append(changes, g.NextOf(2, n-n/3)...)
	old := g.Tables()[2]
	columns := slices.Clone(old.Columns)
	columns[1].Type = &change.Type{Code: change.CodeBytes}
	retyped := change.NewTable(old.Name, old.Version+1, columns)
	for i := range changes {
		changes[i].Records, changes[i].Partitions = 0, 0 // the generator does not know
		if i >= 2*n/3 {
			changes[i].Table = retyped
			for _, row := range []change.Row{changes[i].After, changes[i].Before} {
				if v := row.At(1); v != nil && !v.IsNull() {
					row[1] = change.Value(`"/wA="`)
				}
			}
		}
	}
	return change.Chain{Pipeline: "p", Incarnation: 1, Token: changes[0].Partition, Table: old.Name}, changes
}

// cut is a batch of about n changes behind through, which tears no commit timestamp; nil if there are none left.
func cut(changes []change.Change, through change.Position, n int) []change.Change {
	i := slices.IndexFunc(changes, func(c change.Change) bool { return c.Position.After(through) })
	if i < 0 {
		return nil
	}
	rest := changes[i:]
	for n < len(rest) && rest[n].Position.Commit == rest[n-1].Position.Commit {
		n++
	}
	return rest[:min(n, len(rest))]
}

// ledger watches what is visible: nothing that was may change or go (I7).
type ledger struct {
	seen map[string]object
	data map[string][]byte
}

func (l *ledger) look(t tester, w *world) {
	t.Helper()
	if l.seen == nil {
		l.seen, l.data = map[string]object{}, map[string][]byte{}
	}
	now := w.objects(t)
	for name, before := range l.seen {
		if now[name] != before {
			t.Fatalf("object %s was %+v and is %+v", name, before, now[name])
		}
	}
	for name, o := range now {
		if _, ok := l.seen[name]; !ok {
			l.seen[name], l.data[name] = o, w.data(t, strings.TrimPrefix(name, testPrefix))
		}
	}
}

func (l *ledger) lookInside(t tester, w *world) {
	t.Helper()
	for name, data := range l.data {
		if !bytes.Equal(data, w.data(t, strings.TrimPrefix(name, testPrefix))) {
			t.Fatalf("the bytes of %s changed", name)
		}
	}
}

// worker is one that may be fenced off already: it has an end of its own, and faults of its own.
type worker struct {
	sink   *Sink
	faults *faults
	end    sinks.End
}

// step appends one batch as the engine does: an answer is kept, an error leaves the end as it was.
func (k *worker) step(chain change.Chain, batch []change.Change, end sinks.End, plan []fault) (got sinks.End, err error) {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	k.faults.set(stop, plan...)
	lent, take := sinktest.Lend(batch)
	defer take()
	return k.sink.Append(ctx, &sinks.Batch{Chain: &chain, Changes: lent}, end)
}

func (k *worker) ask(chain change.Chain, plan []fault) (sinks.End, error) {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	k.faults.set(stop, plan...)
	return k.sink.End(ctx, chain)
}

// TestOnce is I6 and I7: whatever the faults, restarts from older ends or none, and workers beside one another with other
// cuts, the chain holds every change once and in order, and nothing visible ever changes.
func TestOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir := ""
		if rapid.IntRange(0, 9).Draw(t, "directory") == 9 { // slower by far: it waits for the disk
			var err error
			if dir, err = os.MkdirTemp("", "gcssink"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			})
		}
		once(t, dir)
	})
}

func once(t *rapid.T, dir string) {
	w := newWorld(t, dir)
	chain, changes := chainChanges(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(3, 150).Draw(t, "changes"))
	last := changes[len(changes)-1].Position
	var workers []*worker
	codecs := []string{"deflate", "snappy", "none"} // bytes differ, places do not
	for i := range codecs {
		o := w.options()
		o.Codec = codecs[i]
		k := &worker{faults: &faults{}}
		k.sink = w.opened(t, o, k.faults)
		workers = append(workers, k)
	}
	known := []sinks.End{{}} // every end any worker was ever told
	var visible ledger
	drawPlan := func() []fault {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) fault { return fault(rapid.IntRange(0, int(faultKinds)-1).Draw(t, "fault")) }), 0, 6).Draw(t, "faults")
	}
	check := func(err error) {
		if sinks.IsStop(err) {
			t.Fatalf("a fault that passes stopped the pipeline: %v", err)
		}
	}
	for range rapid.IntRange(1, 20).Draw(t, "steps") {
		var group sync.WaitGroup
		first := rapid.IntRange(0, len(workers)-1).Draw(t, "worker")
		beside := rapid.IntRange(1, 2).Draw(t, "workers at once")
		for n := range beside {
			k := workers[(first+n)%len(workers)]
			switch rapid.IntRange(0, 5).Draw(t, "start") {
			case 0: // its state went back
				k.end = known[rapid.IntRange(0, len(known)-1).Draw(t, "known")]
			case 1: // its state is lost
				end, err := k.ask(chain, drawPlan())
				check(err)
				if err == nil {
					k.end = end
				}
			case 2: // its checkpoint was set by hand
				k.end.State = nil
			case 3: // its process is new
				k.faults.set(nil)
				k.sink = w.opened(t, k.sink.options, k.faults)
			}
			batch := cut(changes, k.end.Through, rapid.IntRange(1, 40).Draw(t, "cut"))
			plan := drawPlan()
			if len(batch) == 0 {
				continue
			}
			group.Go(func() {
				if end, err := k.step(chain, batch, k.end, plan); err == nil {
					k.end = end
				} else if sinks.IsStop(err) {
					t.Errorf("a fault that passes stopped the pipeline: %v", err)
				}
			})
		}
		group.Wait()
		if t.Failed() {
			t.FailNow()
		}
		for _, k := range workers {
			known = append(known, k.end)
		}
		visible.look(t, w)
	}
	for _, k := range workers { // all of them go on to the end
		for k.end.Through != last {
			end, err := k.step(chain, cut(changes, k.end.Through, 50), k.end, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !end.Through.After(k.end.Through) {
				t.Fatalf("Append went from %s to %s", k.end.Through, end.Through)
			}
			k.end = end
		}
		for _, request := range k.faults.requests {
			if !strings.HasPrefix(request, "GET ") && (!strings.HasPrefix(request, "POST /upload/") || !strings.Contains(request, "ifGenerationMatch=0")) {
				t.Fatalf("a request that could change what is there: %s", request)
			}
		}
	}
	visible.look(t, w)
	visible.lookInside(t, w)
	got, segments := readChain(t, w.clean, chain)
	sameChanges(t, changes, got)
	for _, s := range segments {
		if s.First.Commit.Time().Truncate(time.Hour) != s.Last.Commit.Time().Truncate(time.Hour) {
			t.Fatalf("segment %s leaves its hour", s.Name)
		}
		i := slices.IndexFunc(changes, func(c change.Change) bool { return c.Position == s.Last })
		if i+1 < len(changes) && changes[i+1].Position.Commit == s.Last.Commit {
			t.Fatalf("segment %s tears a commit timestamp", s.Name)
		}
	}
}

func sameChanges(t tester, want, got []change.Change) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		if i >= len(got) || i >= len(want) || want[i].ID() != got[i].ID() || want[i].Op != got[i].Op || want[i].Partition != got[i].Partition {
			t.Fatalf("the chain holds %d changes, not %d, and differs from the %dth on", len(got), len(want), i)
		}
	}
}

// TestIndependentCheck lets the checker, which shares no code with the writer, read an archive that several workers wrote.
func TestIndependentCheck(t *testing.T) {
	w := newWorld(t, "")
	chain, changes := chainChanges(3, 200)
	a := &worker{sink: w.opened(t, w.options(), &faults{})}
	a.faults = a.sink.transport.(*faults)
	b := &worker{sink: w.opened(t, w.options(), &faults{})}
	b.faults = b.sink.transport.(*faults)
	for i := 0; a.end.Through != changes[len(changes)-1].Position; i++ {
		k, n := a, 17
		if i%3 == 1 {
			k, n = b, 5
		}
		batch := cut(changes, k.end.Through, n)
		if len(batch) == 0 {
			continue
		}
		end, err := k.step(chain, batch, k.end, []fault{lose, pass, refuse}[:i%4%3])
		if err != nil {
			t.Fatal(err)
		}
		k.end = end
	}
	truth := truthOf(t, changes)
	truth.Database, truth.Stream = w.options().Database, w.options().Stream
	result, err := check.Archive(t.Context(), truth, check.Bucket(w.client, testBucket, testPrefix))
	if err != nil {
		t.Fatal(err)
	}
	if result.Err() != nil || result.Delivered != int64(len(changes)) {
		t.Errorf("%v: %+v", result.Err(), result)
	}
}

// truthOf is the changes in the checker's own words.
func truthOf(t *testing.T, changes []change.Change) *check.Truth {
	t.Helper()
	columns := func(table *change.Table) (all []*check.Column) {
		for _, c := range table.Columns {
			column := &check.Column{Name: c.Name}
			text, err := json.Marshal(c.Type)
			if err == nil {
				err = json.Unmarshal(text, &column.Type)
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, column)
		}
		return all
	}
	canonical := func(column *check.Column, v change.Value) string {
		text, err := column.Type.Canonical(v)
		if err != nil {
			t.Fatalf("column %s: %v", column.Name, err)
		}
		return text
	}
	var all []check.Change
	for i := range changes {
		c := &changes[i]
		of := columns(c.Table)
		row := func(r change.Row) check.Row {
			var values []check.Value
			for i, v := range r {
				if v != nil {
					values = append(values, check.Value{Column: of[i], Text: canonical(of[i], v)})
				}
			}
			row, err := check.MakeRow(values...)
			if err != nil {
				t.Fatal(err)
			}
			return row
		}
		x := check.Change{
			Position: c.Position, Table: c.Table.Name, Op: c.Op.String(), Capture: c.Capture.String(), Partition: c.Partition,
			Tag: c.Tag, System: c.System, After: row(c.After), Before: row(c.Before),
		}
		var keys []string
		for n, k := range c.Table.Keys() {
			x.KeyColumns = append(x.KeyColumns, of[k])
			keys = append(keys, canonical(of[k], c.Key[n]))
		}
		x.Key = "[" + strings.Join(keys, ",") + "]"
		all = append(all, x)
	}
	first, last := changes[0].Position.Commit, changes[len(changes)-1].Position.Commit
	truth, err := check.NewTruth(all, []check.Partition{{Token: changes[0].Partition, Start: first}}, first, last)
	if err != nil {
		t.Fatal(err)
	}
	return truth
}

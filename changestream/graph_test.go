package changestream

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

func part(token string, start change.Timestamp, parents ...string) change.Partition {
	return change.Partition{Token: token, Start: start, Parents: parents}
}

func tokens(ps []change.Partition) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Token)
	}
	return out
}

func wantStartable(t *testing.T, g *Graph, want ...string) {
	t.Helper()
	if got := tokens(g.Startable()); !slices.Equal(got, want) {
		t.Fatalf("startable: got %q, want %q", got, want)
	}
}

func wantWatermark(t *testing.T, g *Graph, want change.Timestamp) {
	t.Helper()
	if got := g.Watermark(); got != want {
		t.Fatalf("watermark: got %d, want %d", got, want)
	}
}

func finish(t *testing.T, g *Graph, token string) {
	t.Helper()
	if err := g.Finish(token); err != nil {
		t.Fatal(err)
	}
}

func TestGraphSplitAndMerge(t *testing.T) {
	g := NewGraph()
	g.Add(part("b", 10))
	g.Add(part("a", 10))
	wantStartable(t, g, "a", "b")
	wantStartable(t, g)
	wantWatermark(t, g, 9)
	g.Promise("a", 19)
	g.Promise("b", 15)
	wantWatermark(t, g, 15)
	g.Add(part("m", 20, "a", "b"))
	g.Add(part("m", 20, "a", "b"))
	finish(t, g, "a")
	wantStartable(t, g)
	g.Promise("b", 19)
	wantWatermark(t, g, 19)
	finish(t, g, "b")
	finish(t, g, "b")
	wantStartable(t, g, "m")
	wantWatermark(t, g, 19)
	if err := g.Finish("stranger"); err == nil {
		t.Fatal("an unknown partition finished")
	}
}

// A merge may be announced while one of its parents is still unknown, because the branch that will announce it is slow.
func TestGraphUnknownParentOfSlowBranch(t *testing.T) {
	g := NewGraph()
	g.Add(part("s", 10))
	g.Add(part("p", 10))
	wantStartable(t, g, "p", "s")
	g.Promise("s", 12)
	g.Promise("p", 29)
	g.Add(part("c", 30, "p", "r")) // s is going to split into r and x at 20
	finish(t, g, "p")
	wantStartable(t, g)
	g.Promise("s", 19)
	g.Add(part("r", 20, "s"))
	g.Add(part("x", 20, "s"))
	finish(t, g, "s")
	wantStartable(t, g, "r", "x")
	g.Promise("x", 40)
	g.Promise("r", 29)
	wantStartable(t, g)
	finish(t, g, "r")
	wantStartable(t, g, "c")
}

// A parent that finished and was purged stays unknown for ever; only the watermark can let its child go.
func TestGraphUnknownParentPurged(t *testing.T) {
	g := NewGraph()
	g.Add(part("slow", 10))
	g.Add(part("c", 30, "purged"))
	wantStartable(t, g, "slow")
	g.Promise("slow", 28)
	wantStartable(t, g)
	g.Promise("slow", 29)
	wantStartable(t, g, "c")
	if len(g.dependents) > 0 {
		t.Errorf("%v is kept for parents that will never come", g.dependents)
	}
}

func TestGraphFinishedFromStore(t *testing.T) {
	g := NewGraph()
	g.Add(part("c", 30, "a", "b"))
	g.Add(part("slow", 5))
	g.AddFinished("a")
	wantStartable(t, g, "slow")
	g.AddFinished("b")
	g.AddFinished("slow")
	wantStartable(t, g, "c")
	if g.Forget("c") || !g.Forget("a") || g.Forget("a") {
		t.Fatal("only finished partitions are forgotten, once")
	}
}

func TestGraphFinishedWhileQueued(t *testing.T) {
	g := NewGraph()
	g.Add(part("a", 10))
	g.AddFinished("a")
	wantStartable(t, g)
	g.Add(part("c", 30, "stranger"))
	g.AddFinished("c")
	wantStartable(t, g)
	g.Add(part("d", 30, "e"))
	g.Add(part("d", 30, "e"))
	g.Add(part("e", 20))
	g.Add(part("f", 40, "e", "e"))
	wantStartable(t, g, "e")
	finish(t, g, "e")
	wantStartable(t, g, "d", "f")
}

func TestGraphPromiseNeverGoesBack(t *testing.T) {
	g := NewGraph()
	g.Add(part("a", 10))
	g.Promise("a", 50)
	g.Promise("a", 40)
	g.Promise("stranger", 1)
	wantWatermark(t, g, 50)
	g.Add(part("late", 20)) // no honest stream announces a partition behind the watermark
	wantWatermark(t, g, 50)
	if u := g.Unfinished(); len(u) != 2 || u[0].Token != "a" || u[0].Through != 50 || !u[1].Startable {
		t.Fatalf("unfinished: %+v", u)
	}
}

func TestGraphWithoutParents(t *testing.T) {
	g := NewGraph()
	g.Add(part("a", 10, "", "a"))
	wantStartable(t, g, "a")
	if got := NewGraph().Watermark(); got != change.MaxTimestamp {
		t.Fatalf("an empty graph has the watermark %v", got)
	}
}

// history is the truth: what a stream's partitions were, unknown to the reader until announced.
type history struct {
	parts map[string]*truth
	order []string
	end   change.Timestamp
}

type truth struct {
	change.Partition
	end      change.Timestamp // 0: lives on
	children []string
	keys     uint
}

func drawHistory(t *rapid.T) *history {
	h := &history{parts: map[string]*truth{}}
	now := change.Timestamp(10)
	n := 0
	add := func(keys uint, parents ...string) {
		token := fmt.Sprintf("p%02d", n)
		n++
		h.parts[token] = &truth{Partition: part(token, now, parents...), keys: keys}
		h.order = append(h.order, token)
		for _, p := range parents {
			h.parts[p].children = append(h.parts[p].children, token)
			h.parts[p].end = now
		}
	}
	add(0b000111)
	add(0b111000)
	for range rapid.IntRange(1, 14).Draw(t, "changes") {
		now += change.Timestamp(rapid.IntRange(1, 5).Draw(t, "pause"))
		var live []string
		for _, token := range h.order {
			if h.parts[token].end == 0 {
				live = append(live, token)
			}
		}
		a := rapid.SampledFrom(live).Draw(t, "partition")
		keys := h.parts[a].keys
		switch rapid.IntRange(0, 2).Draw(t, "split, merge or move") {
		case 0:
			if low := keys & -keys; low != keys {
				add(low, a)
				add(keys&^low, a)
				continue
			}
		case 1:
			if b := rapid.SampledFrom(live).Draw(t, "other"); b != a {
				add(keys|h.parts[b].keys, a, b)
				continue
			}
		}
		add(keys, a)
	}
	h.end = now + 5
	return h
}

// row is what the model store keeps of a partition.
type row struct {
	change.Partition
	through  change.Timestamp
	finished bool
}

// world is a reader's engine in small: it reads by the graph's word and may crash between any two steps.
type world struct {
	t       *rapid.T
	h       *history
	store   map[string]*row
	purged  map[string]bool
	g       *Graph
	running map[string]change.Timestamp // read through
	low     change.Timestamp
}

// must fails the property.
func (w *world) must(ok bool, format string, args ...any) {
	if !ok {
		w.t.Fatalf(format, args...)
	}
}

func (w *world) done(token string) bool {
	r := w.store[token]
	return w.purged[token] || r != nil && r.finished
}

func (w *world) startAll() {
	for _, p := range w.g.Startable() {
		_, runs := w.running[p.Token]
		w.must(!runs, "%s was started twice", p.Token)
		w.must(!w.done(p.Token), "%s was started although it is finished", p.Token)
		for _, parent := range w.h.parts[p.Token].Parents {
			w.must(w.done(parent), "%s was started before its parent %s was finished", p.Token, parent)
		}
		// Per-key order: whoever held one of the keys before is through.
		for _, other := range w.h.parts {
			if other.keys&w.h.parts[p.Token].keys != 0 && other.end != 0 && other.end <= p.Start {
				w.must(w.done(other.Token), "%s was started before %s, which held its keys until %d", p.Token, other.Token, other.end)
			}
		}
		w.running[p.Token] = w.store[p.Token].through
	}
}

func (w *world) check() {
	for parent, waiting := range w.g.dependents {
		for _, d := range waiting {
			n := w.g.nodes[parent]
			w.must(n == nil && d.unknown > 0 || n != nil && !n.finished, "%s is kept for %s, which it does not wait for", d.Token, parent)
		}
	}
	low := w.g.Watermark()
	if low == change.MaxTimestamp {
		return
	}
	w.must(low >= w.low, "the watermark went back from %d to %d", w.low, low)
	w.low = low
	for token, p := range w.h.parts {
		if w.done(token) || p.Start > low {
			continue
		}
		need := low
		if p.end != 0 {
			need = min(need, p.end-1)
		}
		r := w.store[token]
		w.must(r != nil && r.through >= need, "the watermark is %d but %s is not durable through %d", low, token, need)
	}
}

// last is how far a partition can be read.
func (w *world) last(token string) change.Timestamp {
	if end := w.h.parts[token].end; end != 0 {
		return end - 1
	}
	return w.h.end
}

func (w *world) advance(token string, to change.Timestamp) {
	w.running[token] = max(w.running[token], min(to, w.last(token)))
}

// checkpoint stores how far a partition came, then promises it; crash says whether the process dies in between.
func (w *world) checkpoint(token string, crash bool) {
	r := w.store[token]
	r.through = max(r.through, w.running[token])
	if crash {
		w.crash()
		return
	}
	w.g.Promise(token, w.running[token])
	if w.running[token] > 0 {
		w.g.Promise(token, w.running[token]-1) // a stale promise changes nothing
	}
}

// storeChildren stores some or all children of a partition read to its end.
func (w *world) storeChildren(token string, n int) {
	for _, c := range w.h.parts[token].children[:min(n, len(w.h.parts[token].children))] {
		if w.store[c] == nil && !w.purged[c] {
			p := w.h.parts[c].Partition
			w.store[c] = &row{Partition: p, through: p.Start - 1}
		}
		if r := w.store[c]; r != nil && !r.finished {
			w.g.Add(w.h.parts[c].Partition)
		}
	}
}

func (w *world) atEnd(token string) bool {
	through, runs := w.running[token]
	return runs && w.h.parts[token].end != 0 && through == w.last(token)
}

func (w *world) finish(token string, crash bool) {
	w.storeChildren(token, len(w.h.parts[token].children))
	w.checkpoint(token, false)
	w.store[token].finished = true
	delete(w.running, token)
	if crash {
		w.crash()
		return
	}
	if err := w.g.Finish(token); err != nil {
		w.t.Fatal(err)
	}
}

// crash loses the graph and what was read but not stored; the graph is built again from the store, in any order.
func (w *world) crash() {
	w.g, w.running = NewGraph(), map[string]change.Timestamp{}
	stored := slices.SortedFunc(maps.Keys(w.store), cmp.Compare)
	if len(stored) > 1 {
		stored = rapid.Permutation(stored).Draw(w.t, "load order")
	}
	for _, token := range stored {
		if r := w.store[token]; r.finished {
			w.g.AddFinished(token)
		} else {
			w.g.Add(r.Partition)
			w.g.Promise(token, r.through)
		}
	}
}

// purge deletes a finished partition whose children have started and whose end the watermark has passed.
func (w *world) purge(token string) {
	r := w.store[token]
	if r == nil || !r.finished || w.low < w.h.parts[token].end {
		return
	}
	for _, c := range w.h.parts[token].children {
		if _, runs := w.running[c]; !runs && !w.done(c) {
			return
		}
	}
	delete(w.store, token)
	w.purged[token] = true
	w.g.Forget(token)
}

// TestGraphHistories reads random histories of splits, merges and moves at random speeds with crashes between the steps.
func TestGraphHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		w := &world{t: t, h: h, store: map[string]*row{}, purged: map[string]bool{}}
		for _, token := range h.order[:2] {
			w.store[token] = &row{Partition: h.parts[token].Partition, through: h.parts[token].Start - 1}
		}
		w.crash()
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			w.startAll()
			runs := slices.Sorted(maps.Keys(w.running))
			if len(runs) == 0 {
				continue
			}
			token := rapid.SampledFrom(runs).Draw(t, "runner")
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1:
				w.advance(token, w.running[token]+change.Timestamp(rapid.IntRange(1, 30).Draw(t, "by")))
			case 2:
				w.checkpoint(token, rapid.IntRange(0, 9).Draw(t, "crash") == 0)
			case 3:
				if w.atEnd(token) {
					w.storeChildren(token, rapid.IntRange(1, 3).Draw(t, "children"))
				}
			case 4, 5:
				if w.atEnd(token) {
					w.finish(token, rapid.IntRange(0, 5).Draw(t, "crash") == 0)
				}
			case 6:
				w.purge(rapid.SampledFrom(h.order).Draw(t, "purged"))
			case 7:
				if rapid.IntRange(0, 5).Draw(t, "crash") == 0 {
					w.crash()
				}
			}
			w.check()
		}
		// From here on all goes well: everything must come to its end.
		for progress := true; progress; {
			progress = false
			w.startAll()
			for _, token := range slices.Sorted(maps.Keys(w.running)) {
				if w.store[token].through < w.last(token) {
					progress = true
				}
				w.advance(token, h.end)
				w.checkpoint(token, false)
				if w.atEnd(token) {
					w.finish(token, false)
					progress = true
				}
				w.check()
			}
		}
		for token, p := range h.parts {
			if p.end != 0 && !w.done(token) {
				t.Fatalf("deadlock: %s never finished; unfinished: %+v", token, w.g.Unfinished())
			}
		}
		w.startAll()
		w.check()
		if got := w.g.Watermark(); got != h.end {
			t.Fatalf("the watermark stopped at %d, not at the end %d", got, h.end)
		}
	})
}

func BenchmarkGraphTenThousand(b *testing.B) {
	g := NewGraph()
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("token-%05d", i)
		g.Add(part(names[i], 10))
	}
	g.Startable()
	b.ReportAllocs()
	now := change.Timestamp(10)
	for i := 0; b.Loop(); i++ {
		now++
		g.Promise(names[i%len(names)], now)
		g.Watermark()
		g.Startable()
	}
}

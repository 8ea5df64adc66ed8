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

func hold1(t *testing.T, g *Graph, token string, at change.Timestamp, sources ...string) {
	t.Helper()
	must(t, g.Hold(token, at, sources))
}

func wantReleased(t *testing.T, g *Graph, want ...string) {
	t.Helper()
	if got := g.Released(); !slices.Equal(got, want) {
		t.Fatalf("released: got %q, want %q", got, want)
	}
}

func TestMoveWaitsForItsSources(t *testing.T) {
	g := NewGraph()
	for _, token := range []string{"p", "q", "r"} {
		g.Add(part(token, 10))
	}
	wantStartable(t, g, "p", "q", "r")
	g.Promise("q", 20)
	hold1(t, g, "q", 20, "p", "r", "p", "q", "")
	wantReleased(t, g)
	if u := g.Unfinished(); u[1].HeldAt != 20 || u[1].Waiting != 2 {
		t.Fatalf("unfinished: %+v", u)
	}
	g.Promise("p", 20)
	g.Promise("r", 19)
	wantReleased(t, g)
	wantWatermark(t, g, 19)
	finish(t, g, "r")
	wantReleased(t, g, "q")
	wantReleased(t, g)
	hold1(t, g, "q", 21, "r") // it has finished
	wantReleased(t, g, "q")
	g.Promise("p", 40)
	hold1(t, g, "q", 30, "p") // it is through already
	wantReleased(t, g, "q")
	hold1(t, g, "q", 50, "p")
	finish(t, g, "q") // nothing of it is left to hold
	g.Promise("p", 60)
	wantReleased(t, g)
	for what, err := range map[string]error{"a stranger": g.Hold("x", 1, nil), "a finished one": g.Hold("q", 90, nil), "one that is through": g.Hold("p", 59, nil)} {
		if err == nil {
			t.Errorf("%s was held", what)
		}
	}
	hold1(t, g, "p", 60, "x")
	if err := g.Hold("p", 61, []string{"x"}); err == nil {
		t.Error("a partition was held twice")
	}
	if len(g.holds.waiting) != 1 {
		t.Errorf("left behind: %v", g.holds.waiting)
	}
}

// Partitions that take keys from one another at one timestamp, in pairs and in circles, do not wait for each other's holds.
func TestExchangesAtOneTimestamp(t *testing.T) {
	g := NewGraph()
	names := []string{"p", "q", "r", "s"}
	for _, token := range names {
		g.Add(part(token, 10))
	}
	hold1(t, g, "p", 20, "q", "s")
	hold1(t, g, "q", 20, "p")
	hold1(t, g, "r", 20, "q")
	hold1(t, g, "s", 20, "r")
	for _, token := range names {
		g.Promise(token, 19)
	}
	wantReleased(t, g)
	for _, token := range names {
		g.Promise(token, 20)
	}
	wantReleased(t, g, "p", "q", "r", "s")
}

// S tells of R at 20, P tells at 30 of C, which takes keys from P and R, while S is read slowly: R is unknown when C is held.
func TestUnknownSourceOfSlowBranch(t *testing.T) {
	g := NewGraph()
	g.Add(part("s", 10))
	g.Add(part("p", 10))
	g.Promise("p", 30)
	g.Promise("s", 15)
	g.Add(part("c", 30))
	g.Promise("c", 30)
	hold1(t, g, "c", 30, "p", "r")
	wantReleased(t, g)
	g.Add(part("r", 20))
	g.Promise("s", 40)
	wantReleased(t, g)
	g.Promise("r", 29)
	wantReleased(t, g)
	g.Promise("r", 30)
	wantReleased(t, g, "c")
}

// A source that finished and was purged stays unknown for ever; only the watermark can let its destination go, and the
// destinations' own holds at that timestamp do not keep it back.
func TestUnknownSourcePurged(t *testing.T) {
	g := NewGraph()
	g.Add(part("slow", 10))
	g.Add(part("c", 30))
	g.Add(part("d", 30))
	hold1(t, g, "c", 30, "purged")
	hold1(t, g, "d", 30, "purged", "c")
	g.Promise("c", 30)
	g.Promise("d", 30)
	g.Promise("slow", 29)
	wantReleased(t, g)
	g.Promise("slow", 30)
	wantReleased(t, g, "c", "d")
	if len(g.holds.waiting) != 0 || len(g.holds.blocked) != 0 {
		t.Errorf("left behind: %+v", g.holds)
	}
}

// moved is a partition's move in the truth.
type moved struct {
	at      change.Timestamp
	sources []string
	began   []string
}

type movingTruth struct {
	change.Partition
	end   change.Timestamp // 0: lives on; a change at the end is its own
	moves []*moved
}

// tenure is a key's time in a partition: changes committed after from, until the next one's from.
type tenure struct {
	token string
	from  change.Timestamp
}

type movingHistory struct {
	parts map[string]*movingTruth
	order []string
	keys  [][]tenure
	end   change.Timestamp
}

func drawMoves(t *rapid.T) *movingHistory {
	h := &movingHistory{parts: map[string]*movingTruth{}, keys: make([][]tenure, 6)}
	now := change.Timestamp(10)
	var live []string
	add := func() string {
		token := fmt.Sprintf("m%02d", len(h.order))
		h.parts[token] = &movingTruth{Partition: part(token, now)}
		h.order, live = append(h.order, token), append(live, token)
		return token
	}
	first := []string{add(), add()}
	for k := range h.keys {
		h.keys[k] = []tenure{{first[k%2], 0}}
	}
	announced := map[string]bool{first[0]: true, first[1]: true}
	at := func(token string) *moved {
		p := h.parts[token]
		if n := len(p.moves); n == 0 || p.moves[n-1].at != now {
			p.moves = append(p.moves, &moved{at: now})
		}
		return p.moves[len(p.moves)-1]
	}
	owned := func(token string) (keys []int) {
		for k, list := range h.keys {
			if list[len(list)-1].token == token {
				keys = append(keys, k)
			}
		}
		return keys
	}
	shift := func(keys []int, from, to string) {
		for _, k := range keys {
			h.keys[k] = append(h.keys[k], tenure{to, now})
		}
		if m := at(from); !announced[to] { // one of the sources tells of a new partition
			announced[to] = true
			m.began = append(m.began, to)
		}
		if m := at(to); !slices.Contains(m.sources, from) {
			m.sources = append(m.sources, from)
		}
	}
	end := func(token string) {
		h.parts[token].end = now
		live = slices.DeleteFunc(live, func(other string) bool { return other == token })
	}
	for range rapid.IntRange(1, 14).Draw(t, "redraws") {
		now += change.Timestamp(rapid.IntRange(1, 4).Draw(t, "pause"))
		p, q := rapid.SampledFrom(live).Draw(t, "p"), rapid.SampledFrom(live).Draw(t, "q")
		keys := owned(p)
		half := keys[:len(keys)/2]
		switch kind := rapid.IntRange(0, 6).Draw(t, "kind"); {
		case kind == 0: // split
			a, b := add(), add()
			shift(half, p, a)
			shift(keys[len(half):], p, b)
			end(p)
		case kind == 1 && p != q: // merge
			m := add()
			shift(keys, p, m)
			shift(owned(q), q, m)
			end(p)
			end(q)
		case kind == 2 && p != q: // exchange
			back := owned(q)
			shift(half, p, q)
			shift(back, q, p)
		case kind == 3 && len(live) > 2: // a circle of all
			all := make([][]int, len(live))
			for i := range live {
				all[i] = owned(live[i])
			}
			for i := range live {
				shift(all[i], live[i], live[(i+1)%len(live)])
			}
		case kind == 4 && p != q: // an end without a start
			shift(keys, p, q)
			end(p)
		case kind == 5: // a start without an end
			shift(half, p, add())
		case p != q:
			shift(half, p, q)
		}
	}
	h.end = now + 5
	return h
}

// movingRow is what the model store keeps of a partition.
type movingRow struct {
	change.Partition
	through  change.Timestamp
	finished bool
}

// reading is a partition being read: how far, and the move that holds it.
type reading struct {
	through change.Timestamp
	held    bool
}

// mover is an engine in small for mutable key ranges, which may crash between any two steps.
type mover struct {
	t       *rapid.T
	h       *movingHistory
	store   map[string]*movingRow
	g       *Graph
	running map[string]*reading
	// durable is how far each partition has ever been delivered: what no crash undoes.
	durable map[string]change.Timestamp
	low     change.Timestamp
}

func (w *mover) last(token string) change.Timestamp {
	if end := w.h.parts[token].end; end != 0 {
		return end
	}
	return w.h.end
}

func (w *mover) settle() {
	for _, token := range w.g.Released() {
		r := w.running[token]
		if r == nil || !r.held {
			w.t.Fatalf("%s was released without being held", token)
		}
		r.held = false
	}
	for _, p := range w.g.Startable() {
		if w.running[p.Token] != nil || w.store[p.Token].finished {
			w.t.Fatalf("%s was started twice", p.Token)
		}
		w.running[p.Token] = &reading{through: w.store[p.Token].through}
	}
	low := w.g.Watermark()
	if low == change.MaxTimestamp {
		return
	}
	if low < w.low {
		w.t.Fatalf("the watermark went back from %d to %d", w.low, low)
	}
	w.low = low
	for token, p := range w.h.parts {
		if need := min(low, w.last(token)); p.Start <= low && w.durable[token] < need {
			w.t.Fatalf("the watermark is %d but %s is durable through %d only", low, token, w.durable[token])
		}
	}
}

// advance reads and delivers up to the next move-in.
func (w *mover) advance(token string, by change.Timestamp) {
	r := w.running[token]
	if r.held {
		return
	}
	to := min(r.through+by, w.last(token))
	for _, m := range w.h.parts[token].moves {
		if m.at > r.through && m.at <= to && len(m.sources) > 0 {
			to = m.at
			if to < w.last(token) || w.h.parts[token].end == 0 {
				r.held = true
			}
			break
		}
	}
	r.through = to
	if r.held {
		for _, m := range w.h.parts[token].moves {
			if m.at == to {
				if err := w.g.Hold(token, to, m.sources); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
	// Per-key order: whoever had one of the keys before has been delivered.
	for k, tenures := range w.h.keys {
		for i := 1; i < len(tenures); i++ {
			before, mine := tenures[i-1], tenures[i]
			if mine.token == token && to > mine.from && w.durable[before.token] < mine.from {
				w.t.Fatalf("key %d: %s was delivered through %d before %s, which had it until %d and is durable through %d",
					k, token, to, before.token, mine.from, w.durable[before.token])
			}
		}
	}
	w.durable[token] = max(w.durable[token], to)
}

// limit is how far a checkpoint may go.
func (w *mover) limit(token string) change.Timestamp {
	r := w.running[token]
	if r.held || w.h.parts[token].end != 0 && r.through == w.last(token) {
		return r.through - 1
	}
	return r.through
}

// checkpoint stores how far a partition came and who began by then, then tells the graph; a crash may come between.
func (w *mover) checkpoint(token string, crash bool) {
	r := w.running[token]
	for _, m := range w.h.parts[token].moves {
		for _, c := range m.began {
			if m.at <= r.through && w.store[c] == nil {
				w.store[c] = &movingRow{Partition: w.h.parts[c].Partition, through: w.h.parts[c].Start - 1}
			}
		}
	}
	w.store[token].through = max(w.store[token].through, w.limit(token))
	if crash {
		w.crash()
		return
	}
	for _, m := range w.h.parts[token].moves {
		for _, c := range m.began {
			if row := w.store[c]; m.at <= r.through && row != nil && !row.finished {
				w.g.Add(row.Partition)
			}
		}
	}
	w.g.Promise(token, r.through)
}

func (w *mover) finish(token string, crash bool) {
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
	w.g.Forget(token) // a source that is not known any more must not be waited for for ever
}

func (w *mover) atEnd(token string) bool {
	r := w.running[token]
	return r != nil && w.h.parts[token].end != 0 && r.through == w.last(token)
}

// crash loses the graph and what was read but not stored. Only the unfinished are loaded.
func (w *mover) crash() {
	w.g, w.running = NewGraph(), map[string]*reading{}
	stored := slices.SortedFunc(maps.Keys(w.store), cmp.Compare)
	if len(stored) > 1 {
		stored = rapid.Permutation(stored).Draw(w.t, "load order")
	}
	for _, token := range stored {
		if row := w.store[token]; !row.finished {
			w.g.Add(row.Partition)
			w.g.Promise(token, row.through)
		}
	}
	// A promise may be 1 µs above the checkpoint of a held partition: it stays true, only the new graph does not know it.
	w.low = min(w.low, max(w.g.Watermark(), w.low-1))
}

// TestMoves reads random histories of splits, merges, moves, exchanges and circles at random speeds with crashes between the
// steps, and holds the deliveries against the keys' owners.
func TestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawMoves(t)
		w := &mover{t: t, h: h, store: map[string]*movingRow{}, durable: map[string]change.Timestamp{}}
		for token, p := range h.parts {
			w.durable[token] = p.Start - 1
		}
		for _, token := range h.order[:2] {
			w.store[token] = &movingRow{Partition: h.parts[token].Partition, through: h.parts[token].Start - 1}
		}
		w.crash()
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			w.settle()
			runs := slices.Sorted(maps.Keys(w.running))
			if len(runs) == 0 {
				continue
			}
			token := rapid.SampledFrom(runs).Draw(t, "runner")
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1, 2:
				w.advance(token, change.Timestamp(rapid.IntRange(1, 20).Draw(t, "by")))
			case 3, 4:
				w.checkpoint(token, rapid.IntRange(0, 9).Draw(t, "crash") == 0)
			case 5:
				if w.atEnd(token) {
					w.finish(token, rapid.IntRange(0, 5).Draw(t, "crash") == 0)
				}
			case 6:
				if rapid.IntRange(0, 5).Draw(t, "crash") == 0 {
					w.crash()
				}
			}
		}
		for progress := true; progress; {
			progress = false
			w.settle()
			for _, token := range slices.Sorted(maps.Keys(w.running)) {
				before := *w.running[token]
				w.advance(token, 100)
				w.checkpoint(token, false)
				progress = progress || *w.running[token] != before
				if w.atEnd(token) {
					w.finish(token, false)
					progress = true
				}
				low, runs := w.low, len(w.running)
				w.settle()
				progress = progress || w.low > low || len(w.running) > runs
			}
		}
		for _, token := range h.order {
			if w.durable[token] != w.last(token) {
				t.Fatalf("deadlock: %s is durable through %d of %d; unfinished: %+v", token, w.durable[token], w.last(token), w.g.Unfinished())
			}
		}
		if got := w.g.Watermark(); got != h.end {
			t.Fatalf("the watermark stopped at %d, not at the end %d", got, h.end)
		}
	})
}

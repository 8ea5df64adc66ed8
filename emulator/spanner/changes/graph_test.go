package changes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// A model of a database under random commits and redraws, read by followers of the graph that stop and resume at random.

var errStop = errors.New("stopped by the test")

// follower reads a whole stream from one start by the tokens it is told.
type follower struct {
	t       testing.TB
	b       *bench
	rng     *rand.Rand
	end     int64
	mutable bool
	rows    map[string][]row // by token, in order of arrival
	start   map[string]int64
	parents map[string][]string
	order   []string // tokens in order of discovery
	done    map[string]bool
}

func (f *follower) discover(token string, start int64, parents []string) {
	if have, ok := f.start[token]; ok {
		if have != start || fmt.Sprint(f.parents[token]) != fmt.Sprint(parents) && !f.mutable {
			f.t.Fatalf("partition %.8s announced with start %d and parents %v, then %d and %v", token, have, f.parents[token], start, parents)
		}
		return
	}
	f.start[token], f.parents[token] = start, parents
	f.order = append(f.order, token)
}

// readAll reads one token to the end of the window, stopping and resuming at random rows, and checks what a single query
// promises.
func (f *follower) readAll(token string, start, end int64) {
	q := query(start, end, token)
	q.HeartbeatMillis = new(int64(100 + f.rng.IntN(900)))
	seen := map[string]bool{}
	finished := false
	var rows []row
	for !finished {
		stopAfter := 1 + f.rng.IntN(12)
		err := f.b.log.Query(context.Background(), q, func(r Record) error {
			if seen[r.Resume] {
				f.t.Fatalf("resume position repeated")
			}
			seen[r.Resume] = true
			q.Resume = r.Resume
			rows = append(rows, decode(f.t, r))
			if stopAfter--; stopAfter == 0 {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			f.t.Fatalf("reading %.8s from %d to %d: %v", token, start, end, err)
		}
		finished = err == nil
	}
	if len(rows) == 0 {
		f.t.Fatalf("a query must give at least one row")
	}
	at := time.Time{}
	beat, seq := time.Time{}, ""
	for i, r := range rows {
		if r.Timestamp.Before(at) {
			f.t.Fatalf("row %d of %.8s goes back from %v to %v", i, token, at, r.Timestamp)
		}
		if !beat.IsZero() && !r.Timestamp.After(beat) {
			f.t.Fatalf("%v at %v follows a heartbeat at %v", r.Kind, r.Timestamp, beat)
		}
		if r.Kind == Heartbeat {
			if r.Timestamp.Equal(at) {
				f.t.Fatalf("heartbeat shares its timestamp with another row")
			}
			beat = r.Timestamp
		}
		if r.Timestamp.Equal(at) && r.seq <= seq && r.Kind != Heartbeat && r.Kind != ChildPartitions {
			f.t.Fatalf("sequence %s follows %s at one timestamp", r.seq, seq)
		}
		at, seq = r.Timestamp, r.seq
		for _, c := range r.children {
			f.discover(c.token, r.Timestamp.UnixMicro(), c.parents)
		}
		if r.Kind == PartitionEnd || r.Kind == ChildPartitions {
			f.done[token] = true
		}
	}
	f.rows[token] = append(f.rows[token], rows...)
}

func (f *follower) run(start int64) {
	q := query(start, f.end, "")
	for _, r := range f.b.read(q) {
		for _, c := range r.children {
			f.discover(c.token, start, nil)
		}
	}
	read := map[string]bool{}
	for len(read) < len(f.order) {
		var open []string
		for _, token := range f.order {
			if !read[token] {
				open = append(open, token)
			}
		}
		token := open[f.rng.IntN(len(open))]
		read[token] = true
		from := max(f.start[token], start)
		if !f.mutable {
			f.readAll(token, from, f.end)
			continue
		}
		for !f.done[token] && from <= f.end { // a chain of windows, none overlapping
			to := min(f.end, from+f.rng.Int64N(3_000_000))
			f.readAll(token, from, to)
			from = to + 1
		}
	}
}

// history checks the followed rows against what was committed: each change once, and for each key in commit order
// where the graph orders its partitions.
func (f *follower) check(want map[string][]int64, from int64) {
	f.t.Helper()
	got := map[string]map[int64]string{} // key, version: partition
	for token, rows := range f.rows {
		for _, r := range rows {
			for _, m := range r.mods {
				at := r.Timestamp.UnixMicro()
				id := r.table + m.keys
				if got[id] == nil {
					got[id] = map[int64]string{}
				}
				if other, ok := got[id][at]; ok {
					f.t.Fatalf("change of %s at %d came twice, from %.8s and %.8s", id, at, other, token)
				}
				got[id][at] = token
			}
		}
	}
	for id, versions := range want {
		prev := ""
		n := 0
		for _, v := range versions {
			if v < from {
				continue
			}
			n++
			token, ok := got[id][v]
			if !ok {
				f.t.Fatalf("change of %s at %d never came", id, v)
			}
			if prev != "" && prev != token && !f.mutable && !f.descends(token, prev) {
				f.t.Fatalf("change of %s at %d came from a partition that does not descend from the one before", id, v)
			}
			prev = token
		}
		if n != len(got[id]) {
			f.t.Fatalf("%s: %d changes came, %d were made", id, len(got[id]), n)
		}
	}
}

func (f *follower) descends(token, from string) bool {
	for _, p := range f.parents[token] {
		if p == from || f.descends(p, from) {
			return true
		}
	}
	return false
}

func TestPropertyGraph(t *testing.T) {
	for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
		t.Run(mode, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				seed := rapid.Uint64().Draw(rt, "seed")
				parts := rapid.IntRange(1, 5).Draw(rt, "partitions")
				steps := rapid.IntRange(5, 60).Draw(rt, "steps")
				synctest.Test(t, func(t *testing.T) { graphRun(t, mode, seed, parts, steps) })
			})
		})
	}
}

func graphRun(t *testing.T, mode string, seed uint64, parts, steps int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := newBench(t, Options{Partitions: parts})
	defer b.log.Close()
	created := b.ddl(all("S", "partition_mode", mode))
	mutable := mode == "MUTABLE_KEY_RANGE"
	end := created + 10_000_000
	starts := []int64{created}
	want := map[string][]int64{}
	live := map[string]store.Row{}

	// Some followers read while the history is made, others afterwards.
	var followers []*follower
	follow := func(start int64) *follower {
		f := &follower{t: t, b: b, rng: rand.New(rand.NewPCG(seed, uint64(len(followers)+2))), end: end, mutable: mutable, rows: map[string][]row{}, start: map[string]int64{}, parents: map[string][]string{}, done: map[string]bool{}}
		followers = append(followers, f)
		return f
	}
	finished := make(chan struct{})
	early := follow(created)
	go func() { defer close(finished); early.run(created) }()

	for range steps {
		if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.IntN(200_000)) * time.Microsecond)
		}
		if rng.IntN(10) == 0 {
			starts = append(starts, b.safe())
		}
		if rng.IntN(2) == 0 {
			redrawAny(t, b, rng, mutable)
			continue
		}
		var changes []store.RowChange
		keys := map[int64]bool{}
		for range 1 + rng.IntN(4) {
			k := rng.Int64N(30)
			if keys[k] {
				continue
			}
			keys[k] = true
			table := []*store.Table{tableT, tableU}[rng.IntN(2)]
			id := table.Name + canonical(t, fmt.Sprintf(`{"k":"%d"}`, k))
			r := store.Row{num(k), str(strconv.Itoa(rng.IntN(9))), num(1)}[:len(table.Columns)]
			switch old := live[id]; {
			case old == nil:
				changes = append(changes, insert(table, r))
				live[id] = r
			case rng.IntN(4) == 0:
				changes = append(changes, remove(table, old))
				live[id] = nil
			default:
				changes = append(changes, update(table, old, r, "a"))
				live[id] = r
			}
		}
		at := b.commit(changes...)
		for _, c := range changes {
			id := c.Table.Name + canonical(t, fmt.Sprintf(`{"k":"%d"}`, keyRow(&c)[0].Int))
			want[id] = append(want[id], at)
		}
	}
	time.Sleep(time.Until(micros(end)) + time.Millisecond)
	<-finished
	early.check(want, created)
	early.replay(created)
	for _, start := range starts {
		f := follow(start)
		f.run(start)
		f.check(want, start)
		f.replay(start)
	}
}

// redrawAny runs one random command; the model does not care which, and too small a range may refuse it.
func redrawAny(t *testing.T, b *bench, rng *rand.Rand, mutable bool) {
	ps, err := b.log.Partitions("S")
	if err != nil {
		t.Fatal(err)
	}
	var live []Partition
	for _, p := range ps {
		if p.End == 0 {
			live = append(live, p)
		}
	}
	p := live[rng.IntN(len(live))]
	at := int64(0)
	if rng.IntN(4) == 0 { // ahead
		at = b.safe() + 1 + rng.Int64N(300_000)
	}
	key := func() Point {
		return Point{[]string{"T", "U"}[rng.IntN(2)], store.Key(store.AppendKeyPart(nil, int64Type, num(rng.Int64N(30)), false))}
	}
	switch rng.IntN(4) {
	case 0:
		_, err = b.log.Split("S", p.Token, 2+rng.IntN(2), nil, at)
	case 1:
		_, err = b.log.Split("S", p.Token, 0, []Point{key()}, at)
	case 2:
		_, err = b.log.Move("S", p.Token, at)
	default:
		if mutable && rng.IntN(2) == 0 && len(live) > 1 {
			q := live[rng.IntN(len(live))]
			sh := []Shift{{From: p.Token, To: q.Token, Low: &p.Ranges[0].Low, High: &p.Ranges[0].High}}
			if q.Token != p.Token && rng.IntN(2) == 0 { // an exchange at one timestamp
				sh = append(sh, Shift{From: q.Token, To: p.Token, Low: &q.Ranges[0].Low, High: &q.Ranges[0].High})
			}
			_, err = b.log.Reassign("S", sh, at)
			break
		}
		for _, q := range live {
			if q.Ranges[0].Low == p.Ranges[len(p.Ranges)-1].High {
				_, err = b.log.Merge("S", []string{p.Token, q.Token}, at)
				break
			}
		}
	}
	if code := status.Code(err); code != codes.OK && code != codes.InvalidArgument && code != codes.FailedPrecondition {
		t.Errorf("redraw: %v", err)
	}
}

// replay handles the rows that were read as a reader does that wants order: it takes the next row of a random partition
// whose rules allow it, and checks that every key's changes come in commit order. All rows must get their turn.
func (f *follower) replay(start int64) {
	f.t.Helper()
	next := map[string]int{}
	known := map[string]bool{}
	for token, at := range f.start {
		if at == start && len(f.parents[token]) == 0 && !f.announced(token) {
			known[token] = true
		}
	}
	through := func(token string, at int64) bool { // everything before the token's own event at that time was handled
		rows := f.rows[token]
		i := next[token]
		return known[token] && (i == len(rows) || rows[i].Timestamp.UnixMicro() > at || rows[i].Timestamp.UnixMicro() == at && rows[i].Kind != Data)
	}
	newest := map[string]int64{}
	for {
		var ready []string
		left := 0
		for _, token := range f.order {
			rows := f.rows[token]
			if next[token] == len(rows) {
				continue
			}
			left++
			ok := known[token]
			for _, p := range f.parents[token] {
				ok = ok && (next[p] == len(f.rows[p]))
			}
			for _, source := range rows[next[token]].in {
				ok = ok && through(source, rows[next[token]].Timestamp.UnixMicro())
			}
			if ok {
				ready = append(ready, token)
			}
		}
		if left == 0 {
			return
		}
		if len(ready) == 0 {
			f.t.Fatalf("%d partitions wait for each other", left)
		}
		token := ready[f.rng.IntN(len(ready))]
		r := f.rows[token][next[token]]
		next[token]++
		for _, c := range r.children {
			known[c.token] = true
		}
		for _, m := range r.mods {
			id, at := r.table+m.keys, r.Timestamp.UnixMicro()
			if at <= newest[id] {
				f.t.Fatalf("%s at %d was handled after %d", id, at, newest[id])
			}
			newest[id] = at
		}
	}
}

// announced reports whether any row that was read tells of the token.
func (f *follower) announced(token string) bool {
	for _, rows := range f.rows {
		for _, r := range rows {
			for _, c := range r.children {
				if c.token == token {
					return true
				}
			}
		}
	}
	return false
}

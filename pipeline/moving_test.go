package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// scriptMove is what a partition of a moving script tells at one timestamp, behind the changes of that timestamp.
type scriptMove struct {
	at      change.Timestamp
	sources []string
	out     bool
	began   []change.Partition
}

// newMovingScript draws a history of a stream with mutable key ranges: keys move to living partitions and to new ones, are
// exchanged and go round in circles at one timestamp; partitions split, merge and end. A change at the time of a move still
// is the source's. Only one of the sources of a new partition announces it.
func newMovingScript(rng *dice, commits, keys int) *script {
	s := &script{parts: map[string]*scriptPart{}, rng: rng, moving: true}
	now := change.Timestamp(1_000_000)
	var live []*scriptPart
	add := func() *scriptPart {
		p := &scriptPart{Partition: change.Partition{Token: "P" + strconv.Itoa(len(s.parts)), Start: now}}
		s.parts[p.Token] = p
		live = append(live, p)
		return p
	}
	first := []*scriptPart{add(), add(), add()}
	owner := make([]*scriptPart, keys)
	for k := range owner {
		owner[k] = first[k%3]
	}
	at := func(p *scriptPart) *scriptMove {
		if n := len(p.moves); n == 0 || p.moves[n-1].at != now {
			p.moves = append(p.moves, scriptMove{at: now})
		}
		return &p.moves[len(p.moves)-1]
	}
	// shift moves keys from one partition to another; a new one is announced by the first who gives it keys.
	announced := map[*scriptPart]bool{first[0]: true, first[1]: true, first[2]: true}
	shift := func(keys []int, from, to *scriptPart) {
		for _, k := range keys {
			owner[k] = to
		}
		out := at(from)
		out.out = true
		if !announced[to] {
			announced[to] = true
			out.began = append(out.began, to.Partition)
		}
		if in := at(to); !slices.Contains(in.sources, from.Token) {
			in.sources = append(in.sources, from.Token)
		}
	}
	of := func(p *scriptPart) (list []int) {
		for k, o := range owner {
			if o == p {
				list = append(list, k)
			}
		}
		return list
	}
	end := func(p *scriptPart) {
		p.end = now
		live = slices.DeleteFunc(live, func(q *scriptPart) bool { return q == p })
	}
	now++ // so that Partitions has no doubt about who was alive at the start
	value := 0
	touched := map[int]change.Position{}
	for n := range commits {
		now += change.Timestamp(rng.intn(3))
		for mod := range 1 + rng.intn(4) {
			key := rng.intn(keys)
			p := owner[key]
			pos := change.Position{Commit: now, Transaction: strconv.Itoa(n + 1), Sequence: fmt.Sprintf("%08d", rng.intn(2)), Mod: int32(mod)}
			if last, ok := touched[key]; ok && last.Commit == now && last.Transaction != pos.Transaction {
				continue
			}
			touched[key] = pos
			value++
			p.changes = append(p.changes, change.Change{
				Position: pos, Table: scriptTables[key%2], Op: change.Update, Key: []change.Value{change.Value(strconv.Quote(strconv.Itoa(key)))},
				After: change.Row{nil, change.Value(strconv.Quote(strconv.Itoa(value)))}, Partition: p.Token,
			})
			s.changes++
		}
		if rng.intn(4) > 0 {
			continue
		}
		p := live[rng.intn(len(live))]
		q := live[rng.intn(len(live))]
		has := of(p)
		half := has[:(len(has)+1)/2]
		switch kind := rng.intn(6); {
		case kind == 0 && len(has) > 1: // split: the parts are new and the old one ends
			a, b := add(), add()
			shift(half, p, a)
			shift(has[len(half):], p, b)
			end(p)
		case kind == 1 && p != q: // merge: one of the two tells of the new one
			m := add()
			shift(has, p, m)
			shift(of(q), q, m)
			end(p)
			end(q)
		case kind == 2 && p != q: // exchange
			back := of(q)
			shift(half, p, q)
			shift(back, q, p)
		case kind == 3 && len(live) > 2: // a circle of all
			var all [][]int
			for _, l := range live {
				all = append(all, of(l))
			}
			for i, l := range live {
				shift(all[i], l, live[(i+1)%len(live)])
			}
		case kind == 4 && p != q: // an end without a start
			shift(has, p, q)
			end(p)
		case p != q:
			shift(half, p, q)
		default:
			shift(half, p, add())
		}
		now++ // what follows lies behind the move
	}
	for _, p := range live {
		p.end = now
	}
	for _, p := range s.parts {
		slices.SortFunc(p.changes, func(a, b change.Change) int { return a.Position.Compare(b.Position) })
	}
	return s
}

// readMoving reads a partition of a moving script, in frames that end anywhere between timestamps and exactly at move-ins.
func (s *script) readMoving(ctx context.Context, part *scriptPart, after change.Timestamp, yield func(*change.Frame) error) error {
	changes, moves := part.changes, part.moves
	for len(changes) > 0 && changes[0].Position.Commit <= after {
		changes = changes[1:]
	}
	for len(moves) > 0 && moves[0].at <= after {
		moves = moves[1:]
	}
	for frame := 0; ; frame++ {
		if s.stop != nil {
			if err := s.stop(part.Token, frame); err != nil {
				return err
			}
		}
		f := &change.Frame{Token: part.Token, Through: min(part.end, after+change.Timestamp(s.rng.intn(8)))}
		if s.end != 0 {
			f.Through = min(f.Through, s.end)
		}
		for len(moves) > 0 && moves[0].at <= f.Through {
			m := moves[0]
			moves = moves[1:]
			f.MovedOut = f.MovedOut || m.out
			f.Children = append(f.Children, m.began...)
			if len(m.sources) > 0 {
				f.Through, f.Sources = m.at, m.sources
			}
		}
		if len(moves) > 0 && s.rng.intn(3) == 0 {
			f.Children = append(f.Children, moves[0].began...) // earlier than it must be, and again later
		}
		n := 0
		for n < len(changes) && changes[n].Position.Commit <= f.Through {
			f.Bytes += changes[n].Size()
			n++
		}
		f.Changes, changes = slices.Clone(changes[:n]), changes[n:]
		f.Ended = f.Through == part.end
		after = f.Through
		s.handing(f)
		if err := yield(f); err != nil {
			return err
		}
		if f.Ended || s.end != 0 && f.Through >= s.end {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// TestEnd checks that a run with an end delivers everything at or below it and nothing above, and that a later one goes on
// from there.
func TestEnd(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := newDice(seed)
			s := newMovingScript(rng, 80, 6)
			if seed%2 == 0 {
				s = newScript(rng, 80, 6, false)
			}
			w := newWorldOf(s, rng)
			var last change.Timestamp
			for _, p := range s.parts {
				last = max(last, p.end)
			}
			s.end = testConfig.Start + change.Timestamp(rng.intn(int(last-testConfig.Start)+5))
			e := w.engine(t, func(o *Options) { o.End = s.end })
			if err := e.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			has := map[string]bool{}
			for _, d := range w.least.Deliveries() {
				if has[d.Change.ID()] = true; d.Change.Position.Commit > s.end {
					t.Errorf("%s was delivered, after the end %s", d.Change.ID(), s.end)
				}
			}
			for _, p := range s.parts {
				for _, c := range p.changes {
					if c.Position.Commit <= s.end && !has[c.ID()] {
						t.Errorf("I2: %s is missing, before the end %s", c.ID(), s.end)
					}
				}
			}
			s.end = 0
			if err := w.engine(t, nil).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := w.check(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestMoveHoldsTheDestination checks I3 at the engine: behind a move nothing is handed to a sink before the source is through
// it, whatever the destination has read; the checkpoint stays below the hold, so that a restart finds it again; and a source
// that is held itself at that timestamp counts.
func TestMoveHoldsTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 1_000_010
		start := testConfig.Start
		row := func(commit change.Timestamp, key string) change.Change {
			c := tapeChange(0, commit)
			c.Key = []change.Value{change.Value(key)}
			return c
		}
		source := &tape{
			first: []change.Partition{{Token: "P", Start: start}, {Token: "Q", Start: start}},
			frames: map[string][]*change.Frame{
				"P": {{Changes: []change.Change{row(at, `"1"`)}, Through: at, Sources: []string{"Q"}, MovedOut: true}, {Through: at + 50}},
				"Q": {{Changes: []change.Change{row(at-5, `"2"`)}, Through: at, Sources: []string{"P"}, MovedOut: true}, {Changes: []change.Change{row(at+5, `"1"`)}, Through: at + 50}},
			},
		}
		letGo := make(chan struct{})
		source.before = func(ctx context.Context, token string, frame int) {
			if token == "P" && frame == 0 {
				select {
				case <-letGo:
				case <-ctx.Done():
				}
			}
		}
		store := state.NewMemory()
		dest := memsink.NewDestination()
		run := func(ctx context.Context) chan error {
			e, err := New(Options{
				Config: testConfig, Store: store, Logger: slog.New(slog.DiscardHandler),
				Source: func(context.Context, state.Snapshot) (Source, error) { return source, nil },
				Sinks:  []NamedSink{{"mem", memsink.NewWriter(memsink.Options{Destination: dest, Spec: sinks.Spec{MaxDelay: time.Hour}})}},
			})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx) }()
			return done
		}
		stored := func() change.Timestamp {
			snap, err := store.Load(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range snap.Progress {
				if p.Token == "Q" {
					return p.Through
				}
			}
			return 0
		}
		for range 2 { // the second run begins where the first stopped in the hold
			ctx, cancel := context.WithCancel(t.Context())
			done := run(ctx)
			time.Sleep(time.Minute)
			if n := dest.Distinct(); n != 1 {
				t.Fatalf("I3: %d changes came before the source was through the move, want the one before it", n)
			}
			if got := stored(); got != at-1 {
				t.Errorf("I5: the checkpoint of the held partition is %s, want just below the move", got)
			}
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		close(letGo)
		ctx, cancel := context.WithCancel(t.Context())
		done := run(ctx)
		time.Sleep(10 * time.Second)
		if n := dest.Distinct(); n != 2 { // the change behind the move waits for its batch's age
			t.Fatalf("%d changes came, want those at or before the move", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := stored(); dest.Distinct() != 3 || got != at+50 {
			t.Fatalf("%d changes came and the checkpoint is %s", dest.Distinct(), got)
		}
		if err := dest.CheckOrder(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAnnouncedInMidLife checks I3: no checkpoint passes a partition's start without the store having that partition.
func TestAnnouncedInMidLife(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := newDice(seed)
			w := newWorldOf(newMovingScript(rng, 80, 6), rng)
			var mu sync.Mutex
			known := map[string]bool{}
			w.store.onCommit = func(us []state.Update) {
				mu.Lock()
				defer mu.Unlock()
				for _, u := range us {
					for _, c := range u.Children {
						known[c.Token] = true
					}
					for _, pr := range u.Progress {
						for _, m := range w.script.parts[pr.Token].moves {
							for _, c := range m.began {
								if m.at <= pr.Through && !known[c.Token] {
									t.Errorf("I3: the checkpoint %s of %s passes the start of %s, which is not stored", pr.Through, pr.Token, c.Token)
								}
							}
						}
					}
				}
			}
			if err := w.engine(t, func(o *Options) { o.CheckpointEvery = 10 * time.Millisecond }).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAnnouncedAgain checks I3: a partition that has come to its end while its announcement may still be read again is not
// stored as finished, or it would be begun anew after a restart.
func TestAnnouncedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 1_000_010
		start := testConfig.Start
		source := &tape{
			first: []change.Partition{{Token: "P", Start: start}, {Token: "Q", Start: start}},
			frames: map[string][]*change.Frame{
				// P takes keys from Q and gives some to the new C, all at once, and is held while C lives and dies.
				"P": {{Through: at, Sources: []string{"Q"}, MovedOut: true, Children: []change.Partition{{Token: "C", Start: at}}}, {Through: at + 50}},
				"C": {{Through: at, Sources: []string{"P"}}, {Changes: []change.Change{tapeChange(0, at+5)}, Through: at + 5, Ended: true}},
				"Q": {{Through: at + 50}},
			},
		}
		letGo := make(chan struct{})
		source.before = func(ctx context.Context, token string, _ int) {
			if token == "Q" {
				select {
				case <-letGo:
				case <-ctx.Done():
				}
			}
		}
		store, dest := state.NewMemory(), memsink.NewDestination()
		e, err := New(Options{
			Config: testConfig, Store: store, Logger: slog.New(slog.DiscardHandler),
			Source: func(context.Context, state.Snapshot) (Source, error) { return source, nil },
			Sinks:  []NamedSink{{"mem", memsink.NewWriter(memsink.Options{Destination: dest})}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		open := func() bool {
			snap, err := store.Load(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(snap.Partitions, func(p state.Partition) bool { return p.Token == "C" && p.State == state.Open })
		}
		time.Sleep(time.Minute)
		if dest.Distinct() != 1 || !open() {
			t.Errorf("C delivered %d changes; the store has it as open: %t, want that while P may announce it again", dest.Distinct(), open())
		}
		close(letGo)
		time.Sleep(time.Minute)
		if open() {
			t.Error("C is never finished")
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

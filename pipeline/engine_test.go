package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

func TestMain(m *testing.M) {
	// Spanner's client library starts this one when it is imported, and it never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		// It also asks for a metadata server, and keeps the connection idle for a while.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

var testConfig = state.Config{
	Pipeline: "test", Database: "projects/p/instances/i/databases/d", Stream: "s", Identity: "1", Digest: "x", Start: 1_000_000,
}

// faultyStore fails some commits, before or after they took effect.
type faultyStore struct {
	state.Store
	rng *dice
	// every is the mean number of commits between faults, 0 for none.
	every int
	// onCommit sees each commit's updates before they take effect.
	onCommit func([]state.Update)
}

func (s *faultyStore) Commit(ctx context.Context, l state.Lease, u []state.Update) ([]string, error) {
	if s.onCommit != nil {
		s.onCommit(u)
	}
	fault := 0
	if s.every > 0 && s.rng.intn(s.every) == 0 {
		fault = 1 + s.rng.intn(2)
	}
	if fault == 1 {
		return nil, errInjected
	}
	fenced, err := s.Store.Commit(ctx, l, u)
	if fault == 2 && err == nil {
		return nil, errInjected // a lost response
	}
	return fenced, err
}

// world is a stream, a store and two destinations that outlive engines.
type world struct {
	script *script
	store  *faultyStore
	once   *memsink.Destination
	least  *memsink.Destination
	rng    *dice
	config state.Config
	order  Order
	faults int // mean number of sink calls between faults, 0 for none
	// ahead is what the source has received of the next frame while the engine has one; 0 for a source without a budget.
	ahead   int
	recalls atomic.Int64 // how often it was asked to give back
}

func newWorld(rng *dice, commits, keys int) *world {
	return newWorldOf(newScript(rng, commits, keys, false), rng)
}

func newWorldOf(s *script, rng *dice) *world {
	return &world{
		script: s, rng: rng, order: OrderKey,
		store: &faultyStore{Store: state.NewMemory(), rng: rng},
		once:  memsink.NewDestination(), least: memsink.NewDestination(),
	}
}

// hook fails now and then.
func (w *world) hook(context.Context, *sinks.Batch) error {
	if w.faults > 0 && w.rng.intn(w.faults) == 0 {
		return errInjected
	}
	return nil
}

func (w *world) engine(t testing.TB, change func(*Options)) *Engine {
	t.Helper()
	spec := sinks.Spec{MaxChanges: 1 + w.rng.intn(8), MaxBytes: 1 << 20, MaxDelay: time.Duration(w.rng.intn(3)) * time.Second}
	var e *Engine
	opts := Options{
		Config: testConfig, Store: w.store,
		Source: func(context.Context, state.Snapshot) (Source, error) {
			if w.ahead == 0 {
				return w.script, nil
			}
			return &reserving{Source: w.script, budget: e.Budget(), ahead: w.ahead, recalls: func() { w.recalls.Add(1) }}, nil
		},
		Sinks: []NamedSink{
			{"once", memsink.NewAppender(memsink.Options{Destination: w.once, Spec: spec, Before: w.hook, After: w.hook, MaxPlace: 1 + w.rng.intn(6), Segments: true})},
			{"least", memsink.NewWriter(memsink.Options{Destination: w.least, Spec: spec, Before: w.hook, After: w.hook})},
		},
		Order: w.order, BudgetBytes: 2000 + w.rng.intn(20000), Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&opts)
	}
	var err error
	if e, err = New(opts); err != nil {
		t.Fatal(err)
	}
	return e
}

// check holds what was delivered against the script.
func (w *world) check() error {
	for name, d := range map[string]*memsink.Destination{"once": w.once, "least": w.least} {
		if d.Distinct() != w.script.changes {
			return fmt.Errorf("%s: I2: %d of %d changes delivered", name, d.Distinct(), w.script.changes)
		}
	}
	if err := w.once.CheckOnce(); err != nil {
		return fmt.Errorf("I6: %w", err)
	}
	for name, d := range map[string]*memsink.Destination{"once": w.once, "least": w.least} {
		if w.order == OrderCommit && d == w.once {
			continue // keys may hop between chains, and chains are in order each by itself
		}
		if err := d.CheckOrder(); err != nil {
			return fmt.Errorf("%s: I1: %w", name, err)
		}
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
	listed := 0
	err := w.store.Segments(context.Background(), "test", "once", func(s change.Segment) error { listed += int(s.Count); return nil })
	if err != nil || listed != w.script.changes {
		return fmt.Errorf("segments listed with the checkpoints hold %d of %d changes: %w", listed, w.script.changes, errors.Join(err, errors.New("want all")))
	}
	return nil
}

// TestEveryChangeOnceInOrder is the engine's main property: whatever the partition graph does, whichever calls fail before
// or after their effect, and wherever engines are killed and started again, every change arrives; in the chains once.
func TestEveryChangeOnceInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		commits := rapid.IntRange(1, 120).Draw(rt, "commits")
		keys := rapid.IntRange(2, 12).Draw(rt, "keys")
		faults := rapid.SampledFrom([]int{0, 3, 10}).Draw(rt, "faults")
		crashes := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 4).Draw(rt, "crash after so many sink calls")
		order := rapid.SampledFrom([]Order{OrderKey, OrderCommit}).Draw(rt, "order")
		moving := rapid.Bool().Draw(rt, "mutable key ranges")
		ahead := rapid.SampledFrom([]int{0, 600, 3000}).Draw(rt, "received ahead")
		var failure error
		synctest.Test(t, func(t *testing.T) {
			rng := newDice(seed)
			// Order by commit has to hold where keys hop between partitions, too; order by key cannot.
			s := newMovingScript(rng, commits, keys)
			if !moving {
				s = newScript(rng, commits, keys, order == OrderCommit)
			}
			w := newWorldOf(s, rng)
			w.order, w.ahead = order, ahead
			failure = runWorld(t, w, faults, crashes)
		})
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// runToEnd runs an engine until every partition has finished, and makes a standstill an error that shows who waits for whom:
// time is synctest's, so a pipeline that waits for ever would otherwise tick through the ages until the test times out.
func runToEnd(t *testing.T, e *Engine) error {
	var standstill error
	late := time.AfterFunc(24*time.Hour, func() {
		standstill = fmt.Errorf("I10: the pipeline stands still: %s", e.describe())
		e.Kill()
	})
	defer late.Stop()
	return errors.Join(e.Run(t.Context()), standstill)
}

// describe shows what each partition, each lane and the budget wait for.
func (e *Engine) describe() string {
	var b strings.Builder
	used, waiting := e.budget.inUse()
	fmt.Fprintf(&b, "budget %d of %d, %d waiting\n", used, e.opts.BudgetBytes, waiting)
	e.mu.Lock()
	for token, start := range e.waiting {
		fmt.Fprintf(&b, "%s waits for its parents, start %d\n", token, start)
	}
	for token, p := range e.running {
		fmt.Fprintf(&b, "%s of %v read through %d, ended %v, %s:", token, p.Parents, p.through.Load(), p.hasEnded(), p.account)
		for _, pr := range p.progress {
			pr.mu.Lock()
			fmt.Fprintf(&b, " %s stored %d tracked %d open %d", pr.sink.name, pr.stored, pr.tracker.through, len(pr.tracker.open))
			pr.mu.Unlock()
		}
		b.WriteByte('\n')
	}
	for n, s := range e.snapshots {
		fmt.Fprintf(&b, "snapshot %d through %d, account: %s\n", n, s.through.Load(), s.account)
	}
	e.mu.Unlock()
	fmt.Fprintf(&b, "used %d small %d beyond %d over %v denied %v\n", e.budget.used, e.budget.small, e.budget.beyond, e.budget.over != nil, e.budget.denied)
	for _, s := range e.sinks {
		for i, l := range s.allLanes() {
			l.mu.Lock()
			if len(l.pending) > 0 || l.running {
				fmt.Fprintf(&b, "%s lane %d: %d pending, running %v, flush %v\n", s.name, i, len(l.pending), l.running, l.flush)
			}
			l.mu.Unlock()
		}
	}
	if e.sequencer != nil {
		e.sequencer.mu.Lock()
		fmt.Fprintf(&b, "released through %d, %d partitions held\n", e.sequencer.released, len(e.sequencer.held))
		e.sequencer.mu.Unlock()
	}
	return b.String()
}

func runWorld(t *testing.T, w *world, faults int, crashes []int) error {
	w.faults, w.store.every = faults, faults
	for _, calls := range crashes {
		var e *Engine
		var mu sync.Mutex
		crash := func(context.Context, *sinks.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			if calls--; calls == 0 {
				e.Kill()
			}
			return nil
		}
		e = w.engine(t, func(o *Options) {
			spec := o.Sinks[0].Sink.Spec()
			o.Sinks[0].Sink = memsink.NewAppender(memsink.Options{Destination: w.once, Spec: spec, Before: w.hook, After: crash, Segments: true, MaxPlace: 3})
		})
		if err := runToEnd(t, e); err != nil && !errors.Is(err, errInjected) {
			return fmt.Errorf("run before a crash: %w", err)
		}
	}
	w.store.every = 0
	e := w.engine(t, nil)
	if err := runToEnd(t, e); err != nil {
		return fmt.Errorf("last run: %w", err)
	}
	if used, _ := e.budget.inUse(); used != 0 {
		return fmt.Errorf("I10: %d bytes of the budget were never given back", used)
	}
	return w.check()
}

// TestChildWaitsForParents checks I3 at the engine: a child is read only when all its parents are stored as finished, and
// a finished partition's children are stored by then.
func TestChildWaitsForParents(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(newDice(seed), 100, 8)
			var mu sync.Mutex
			known, finished := map[string]bool{}, map[string]bool{}
			w.store.onCommit = func(us []state.Update) {
				mu.Lock()
				defer mu.Unlock()
				for _, u := range us {
					for _, c := range u.Children {
						known[c.Token] = true
					}
					if u.Finished {
						finished[u.Token] = true
						for _, c := range w.script.parts[u.Token].children {
							if !known[c.Token] {
								t.Errorf("I3: %s finished before its child %s was stored", u.Token, c.Token)
							}
						}
						for _, p := range u.Progress {
							if p.Through >= u.End {
								t.Errorf("I5: the checkpoint %s reaches the end %s of %s", p.Through, u.End, u.Token)
							}
						}
					}
				}
			}
			w.script.stop = func(token string, frame int) error {
				mu.Lock()
				defer mu.Unlock()
				for _, parent := range w.script.parts[token].Parents {
					if !finished[parent] {
						t.Errorf("I3: %s is read before its parent %s is finished", token, parent)
					}
				}
				return nil
			}
			if err := w.engine(t, nil).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := w.check(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestCheckpointWaitsForEverySink checks I2: while one sink fails, no checkpoint of it passes what it lacks, and a restart
// delivers it.
func TestCheckpointWaitsForEverySink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(7), 50, 6)
		e := w.engine(t, func(o *Options) {
			o.DrainTimeout = time.Second
			o.Sinks[1].Sink = memsink.NewWriter(memsink.Options{
				Destination: w.least, Before: func(context.Context, *sinks.Batch) error { return errInjected },
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		snap, err := w.store.Load(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range snap.Progress {
			if p.Sink != "least" {
				continue
			}
			for _, c := range w.script.parts[p.Token].changes {
				if c.Position.Commit <= p.Through {
					t.Fatalf("I2: the checkpoint of a sink that took nothing passes %s", c.ID())
				}
			}
		}
		if f := e.Status().Sinks[1].Failure; f == nil || !errors.Is(f.Err, errInjected) {
			t.Errorf("Status does not show the failure: %+v", f)
		}
		if err := w.engine(t, nil).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	})
}

// askingAppender notes which chains the engine began at zero without asking: a destination whose places are named by what
// lies in them, as an archive's are, cannot tell that from a new chain.
type askingAppender struct {
	*memsink.Appender
	mu          sync.Mutex
	asked, anew map[string]bool // by token
}

func (a *askingAppender) note(m *map[string]bool, token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if *m == nil {
		*m = map[string]bool{}
	}
	(*m)[token] = true
}

func (a *askingAppender) began(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.anew[token] && !a.asked[token]
}

func (a *askingAppender) End(ctx context.Context, chain change.Chain) (sinks.End, error) {
	a.note(&a.asked, chain.Token)
	return a.Appender.End(ctx, chain)
}

func (a *askingAppender) Append(ctx context.Context, batch *sinks.Batch, end sinks.End) (sinks.End, error) {
	if end.Through.IsZero() {
		a.note(&a.anew, batch.Chain.Token)
	}
	return a.Appender.Append(ctx, batch, end)
}

// TestLostStateRepeatsNothing checks I6 where the state is gone and the pipeline begins again somewhere in the middle: the
// destination knows how far its chains are.
func TestLostStateRepeatsNothing(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(newDice(seed), 100, 8)
			if err := w.engine(t, nil).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var last change.Timestamp
			for _, p := range w.script.parts {
				last = max(last, p.end)
			}
			w.store.Store = state.NewMemory()
			start := testConfig.Start + (last-testConfig.Start)/2
			alive, _ := w.script.Partitions(t.Context(), start)
			asking := &askingAppender{Appender: memsink.NewAppender(memsink.Options{Destination: w.once, Segments: true})}
			e := w.engine(t, func(o *Options) {
				o.Config.Start = start
				o.Sinks[0].Sink = asking
			})
			if err := e.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, p := range alive {
				if asking.began(p.Token) {
					t.Errorf("I6: a chain of %s was begun anew without asking where it ends", p.Token)
				}
			}
			if err := w.once.CheckOnce(); err != nil {
				t.Fatalf("I6: %v", err)
			}
		})
	}
}

// TestSinksComeAndGo checks I2 where the list of sinks changes: a new sink begins where the pipeline is and misses nothing
// from there on, through crashes; one that left an archive behind is not let back into it.
func TestSinksComeAndGo(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(newDice(seed), 150, 8)
			// Only "once" at first, stopped in the middle.
			var calls atomic.Int64
			var e *Engine
			e = w.engine(t, func(o *Options) {
				o.Sinks = o.Sinks[:1]
				o.Sinks[0].Sink = memsink.NewAppender(memsink.Options{Destination: w.once, Segments: true, MaxPlace: 3, After: func(context.Context, *sinks.Batch) error {
					if calls.Add(1) == 20 {
						e.stopSoft(errStopped)
					}
					return nil
				}})
			})
			if err := e.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			snap, err := w.store.Load(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			// A joining sink is listed wherever others are before anything is read, so that no crash can move where it begins.
			joining := w.engine(t, nil)
			if err := joining.load(t.Context()); err != nil {
				t.Fatal(err)
			}
			joining.Kill()
			listed, err := w.store.Load(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			rows := map[string]map[string]bool{}
			for _, p := range listed.Progress {
				if rows[p.Token] == nil {
					rows[p.Token] = map[string]bool{}
				}
				rows[p.Token][p.Sink] = true
			}
			for _, p := range listed.Partitions {
				if r := rows[p.Token]; p.State != state.Finished && r["once"] && !r["least"] {
					t.Errorf("I2: the new sink is not listed in %s", p.Token)
				}
			}
			// Now "least" joins, is killed at once, and started again: it has everything behind the checkpoints it found.
			began := map[string]change.Timestamp{}
			for _, p := range snap.Progress {
				began[p.Token] = p.Through
			}
			e = w.engine(t, func(o *Options) {
				o.Sinks[1].Sink = memsink.NewWriter(memsink.Options{Destination: w.least, Before: func(context.Context, *sinks.Batch) error { e.Kill(); return errInjected }})
			})
			if err := e.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := w.engine(t, nil).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			has := map[string]bool{}
			for _, d := range w.least.Deliveries() {
				has[d.Change.ID()] = true
			}
			for token, through := range began {
				for _, c := range w.script.parts[token].changes {
					if c.Position.Commit > through && !has[c.ID()] {
						t.Fatalf("I2: the new sink began in %s after %s and lacks %s", token, through, c.ID())
					}
				}
			}
		})
	}
	returned := 0
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(newDice(100+seed), 150, 8)
			run := func(from, stopAfter int) error {
				var e *Engine
				e = w.engine(t, func(o *Options) {
					o.CheckpointEvery = time.Millisecond
					o.Sinks[1].Sink = &stoppingWriter{Writer: o.Sinks[1].Sink.(sinks.Writer), left: stopAfter, stop: func() { e.stopSoft(errStopped) }}
					o.Sinks = o.Sinks[from:]
				})
				return e.Run(t.Context())
			}
			// Both sinks, then without "once", then with it again.
			if err := errors.Join(run(0, 10), run(1, 40)); err != nil {
				t.Fatal(err)
			}
			snap, err := w.store.Load(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			rows := map[string]int{}
			for _, p := range snap.Progress {
				rows[p.Token]++
			}
			lacks := slices.ContainsFunc(snap.Partitions, func(p state.Partition) bool { return p.State != state.Finished && rows[p.Token] == 1 })
			if !lacks || w.once.Distinct() == 0 {
				return
			}
			returned++
			err = run(0, 1000)
			if err == nil || !strings.Contains(err.Error(), "sink once") || !strings.Contains(err.Error(), "gap") {
				t.Fatalf("a sink came back into its archive: %v", err)
			}
		})
	}
	if returned == 0 {
		t.Error("no history had a sink return")
	}
}

// stoppingWriter stops the engine after some calls.
type stoppingWriter struct {
	sinks.Writer
	mu   sync.Mutex
	left int
	stop func()
}

func (s *stoppingWriter) Write(ctx context.Context, b *sinks.Batch) error {
	s.mu.Lock()
	s.left--
	if s.left == 0 {
		s.stop()
	}
	s.mu.Unlock()
	return s.Writer.Write(ctx, b)
}

// TestZombieIsFenced checks I4: an engine that lost its lease stops, and its late writes repeat places but add nothing.
func TestZombieIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(9), 80, 6)
		started := make(chan struct{})
		var once sync.Once
		zombie := w.engine(t, func(o *Options) {
			o.Sinks = o.Sinks[:1]
			o.Sinks = append(o.Sinks, NamedSink{"least", memsink.NewWriter(memsink.Options{Destination: w.least, Before: func(ctx context.Context, b *sinks.Batch) error {
				once.Do(func() { close(started) })
				return memsink.Delay(5*time.Second)(ctx, b)
			}})})
		})
		done := make(chan error)
		go func() { done <- zombie.Run(t.Context()) }()
		<-started
		if err := w.engine(t, nil).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := <-done
		if _, ok := errors.AsType[*FencedError](err); !ok {
			t.Fatalf("the zombie ended with %v, want a FencedError", err)
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRejectAndStopEndThePipelineLoudly(t *testing.T) {
	boom := errors.New("the destination will never take this")
	for name, o := range map[string]memsink.Options{
		"reject": {Reject: func(c *change.Change) error { return boom }},
		"stop":   {Before: func(context.Context, *sinks.Batch) error { return sinks.Stop(boom) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(newDice(3), 30, 4)
				err := w.engine(t, func(opts *Options) { opts.Sinks[1].Sink = memsink.NewWriter(o) }).Run(t.Context())
				if !errors.Is(err, boom) || !strings.Contains(err.Error(), "sink least") {
					t.Fatalf("Run: %v", err)
				}
				if err := w.engine(t, nil).Run(t.Context()); err != nil { // nothing was dropped
					t.Fatal(err)
				}
				if err := w.check(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestBrokenPromisesAreRefused feeds frames no reader may yield; nothing of them may be delivered (I1, I5).
func TestBrokenPromisesAreRefused(t *testing.T) {
	at := func(commit change.Timestamp, seq string) change.Change {
		return change.Change{Position: change.Position{Commit: commit, Transaction: "1", Sequence: seq}, Table: scriptTables[0], Key: []change.Value{change.Value(`"1"`)}}
	}
	for name, f := range map[string]*change.Frame{
		"watermark back":        {Through: 5},
		"change behind":         {Through: 30, Changes: []change.Change{at(10, "0")}},
		"change ahead":          {Through: 30, Changes: []change.Change{at(31, "0")}},
		"out of order":          {Through: 30, Changes: []change.Change{at(20, "1"), at(20, "0")}},
		"the same change twice": {Through: 30, Changes: []change.Change{at(20, "1"), at(20, "1")}},
	} {
		if err := checkFrame(f, 10); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := checkFrame(&change.Frame{Through: 30, Changes: []change.Change{at(20, "0"), at(20, "1")}}, 10); err != nil {
		t.Error(err)
	}
}

// TestBudget checks I10: what is read and not durable stays within the budget and one frame, and reading goes on as soon
// as bytes come free, without waiting for a batch's age.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newDice(5), 300, 4)
		var e *Engine
		var mu sync.Mutex
		most, largest := 0, 0
		w.script.stop = func(string, int) error {
			used, _ := e.budget.inUse()
			mu.Lock()
			defer mu.Unlock()
			most = max(most, used)
			return nil
		}
		for _, p := range w.script.parts {
			for _, c := range p.changes {
				largest = max(largest, c.Size())
			}
		}
		e = w.engine(t, func(o *Options) {
			o.BudgetBytes = 20 * largest
			o.Sinks = []NamedSink{{"once", memsink.NewAppender(memsink.Options{Destination: w.once, Segments: true,
				Spec: sinks.Spec{MaxChanges: 1 << 20, MaxBytes: 1 << 30, MaxDelay: 24 * time.Hour}})}}
		})
		start := time.Now()
		if err := e.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if bound := 20*largest + 30*largest; most > bound || most < 5*largest {
			t.Errorf("at most %d bytes were held, want about %d and never above %d", most, 20*largest, bound)
		}
		if d := time.Since(start); d > time.Hour {
			t.Errorf("it took %s: batches waited for their age while the budget was full", d)
		}
		if w.once.Distinct() != w.script.changes {
			t.Errorf("%d of %d", w.once.Distinct(), w.script.changes)
		}
	})
}

// TestTrackerModel holds the tracker against the definition of a checkpoint.
func TestTrackerModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tr tracker
		type frame struct {
			m       *mark
			through change.Timestamp
			left    int
		}
		var frames []*frame
		var through change.Timestamp
		rt.Repeat(map[string]func(*rapid.T){
			"track": func(rt *rapid.T) {
				through += change.Timestamp(rapid.IntRange(0, 3).Draw(rt, "step"))
				n := rapid.IntRange(0, 3).Draw(rt, "changes")
				frames = append(frames, &frame{tr.track(through, n), through, n})
			},
			"resolve": func(rt *rapid.T) {
				open := slices.DeleteFunc(slices.Clone(frames), func(f *frame) bool { return f.left == 0 })
				if len(open) == 0 {
					rt.Skip("nothing open")
				}
				f := rapid.SampledFrom(open).Draw(rt, "frame")
				n := rapid.IntRange(1, f.left).Draw(rt, "n")
				tr.resolve(f.m, n)
				f.left -= n
			},
			"": func(rt *rapid.T) {
				want, idle := change.Timestamp(0), true
				for _, f := range frames {
					if f.left > 0 {
						idle = false
						break
					}
					want = f.through
				}
				if tr.through != want || tr.idle() != idle {
					rt.Fatalf("through %d idle %v, want %d %v", tr.through, tr.idle(), want, idle)
				}
			},
		})
	})
}

package bigquerysink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	emulator "github.com/spanledger/spanledger/emulator/bigquery"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// faults injects errors into the calls to the embedded BigQuery.
type faults struct {
	mu   sync.Mutex
	plan []fault // for the calls to come, the first first
	park chan struct{}
	held chan struct{} // closed when a request is parked
}

// fault is what happens to one call: 0 nothing, 1 it fails without effect, 2 it takes effect and its answer is lost.
type fault int

func (f *faults) hook(ctx context.Context, c emulator.Call) error {
	f.mu.Lock()
	if c.Method == "AppendRows" && !c.Effect && f.park != nil {
		park := f.park
		f.park = nil
		close(f.held)
		f.mu.Unlock()
		<-park // the writer may have gone meanwhile: the request is in the network
		return nil
	}
	var now fault
	if len(f.plan) > 0 {
		if now = f.plan[0]; c.Effect || now == 1 { // that was the last question about this call
			f.plan = f.plan[1:]
		}
	}
	f.mu.Unlock()
	if now == 1 && !c.Effect || now == 2 && c.Effect {
		if c.Request == nil {
			return &googleapi.Error{Code: 418, Message: "injected", Errors: []googleapi.ErrorItem{{Reason: "injected"}}} // a code the client library does not repeat
		}
		return status.Error(codes.Internal, "injected")
	}
	return nil
}

func (f *faults) set(plan []fault) {
	f.mu.Lock()
	f.plan = plan
	f.mu.Unlock()
}

// parkNext makes the next append request wait, until release, before it takes effect; held is closed when it does.
func (f *faults) parkNext() (held chan struct{}, release func()) {
	park := make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.park, f.held = park, make(chan struct{})
	return f.held, sync.OnceFunc(func() {
		f.mu.Lock()
		f.park = nil
		f.mu.Unlock()
		close(park)
	})
}

// worker is one process that believes it owns the chain.
type worker struct {
	sink *Appends
	end  sinks.End
}

var runs int

func (w *world) worker(t testing.TB, prefix string, requestBytes int) *worker {
	t.Helper()
	o := w.options(ExactlyOnce)
	o.TablePrefix = prefix
	s, err := New("test", o)
	if err != nil {
		t.Fatal(err)
	}
	a := s.(*Appends)
	a.requestBytes = requestBytes
	if err := a.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(context.Background()) })
	return &worker{sink: a}
}

// positions are the _position values of a table in the order of its rows.
func (w *world) positions(t testing.TB, table string) []string {
	t.Helper()
	fields, rows, err := w.server.Rows("p", "d", table)
	if err != nil {
		return nil // not made yet
	}
	if fields[0].Name != "_position" {
		t.Fatalf("the first column is %s", fields[0].Name)
	}
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.At(0).(string)
	}
	return out
}

// rest is a batch of about n changes behind the end, cut between commit timestamps.
func rest(changes []change.Change, end change.Position, n int) []change.Change {
	i := slices.IndexFunc(changes, func(c change.Change) bool { return c.Position.After(end) })
	if i < 0 {
		return nil
	}
	changes = changes[i:]
	for n = min(n, len(changes)); n < len(changes) && changes[n].Position.Commit == changes[n-1].Position.Commit; n++ {
	}
	return changes[:n]
}

// TestOnceProperty lets workers append to one chain that crash, restart from old checkpoints or without any, lose answers
// at every call, and whose requests arrive long after others took over. Whatever they did, the table holds each change once
// and in order, and no answer ever claimed more than was there (I6).
func TestOnceProperty(t *testing.T) {
	w := start(t)
	var f faults
	w.server.SetFault(f.hook)
	changes := sinktest.NewGenerator(11).NextOf(1, 90)
	all := make([]string, len(changes))
	for i := range changes {
		all[i] = changes[i].ID()
	}
	rapid.Check(t, func(r *rapid.T) {
		runs++
		prefix := fmt.Sprintf("r%d_", runs)
		id := TableID(prefix, changes[0].Table.Name)
		chain := change.Chain{Pipeline: "p", Incarnation: 1, Token: "t", Table: changes[0].Table.Name}
		requestBytes := rapid.SampledFrom([]int{900, 3000, maxRequest}).Draw(r, "request bytes")
		workers := []*worker{w.worker(t, prefix, requestBytes), w.worker(t, prefix, requestBytes)}
		var stored []sinks.End // checkpoints, any of which a restart may find
		stored = append(stored, sinks.End{})
		truthful := func(end sinks.End) {
			n := len(changes) - len(rest(changes, end.Through, len(changes)))
			if there := w.positions(t, id); len(there) < n || !slices.Equal(there[:n], all[:n]) {
				r.Fatalf("the answer is through %s, %d changes; the table holds %d", end.Through, n, len(there))
			}
		}
		call := func(k *worker, n int, timeout time.Duration) (sinks.End, error) {
			batch := rest(changes, k.end.Through, n)
			if len(batch) == 0 {
				return k.end, nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			return k.sink.Append(ctx, &sinks.Batch{Chain: &chain, Changes: batch}, k.end)
		}
		var release func()
		var late chan struct{}
		letGo := func() {
			if release != nil {
				release()
				<-late
				release = nil
			}
		}
		defer func() { f.set(nil); letGo() }()
		for range rapid.IntRange(1, 14).Draw(r, "steps") {
			k := workers[rapid.IntRange(0, len(workers)-1).Draw(r, "worker")]
			n := rapid.IntRange(1, 20).Draw(r, "changes")
			var plan []fault
			for range rapid.IntRange(0, 7).Draw(r, "calls") {
				plan = append(plan, fault(rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(r, "fault")))
			}
			switch rapid.SampledFrom([]string{"append", "append", "append", "restart", "lost state", "late", "arrive"}).Draw(r, "step") {
			case "restart":
				k.end = stored[rapid.IntRange(0, len(stored)-1).Draw(r, "checkpoint")]
			case "lost state":
				f.set(plan)
				end, err := k.sink.End(context.Background(), chain)
				f.set(nil)
				if err == nil {
					truthful(end)
					k.end = end
				}
			case "late":
				if release != nil {
					continue
				}
				held, free := f.parkNext()
				batch, from := rest(changes, k.end.Through, n), k.end
				if len(batch) == 0 {
					free()
					continue
				}
				done := make(chan struct{})
				go func() { // a zombie: nobody listens to it any more
					defer close(done)
					_, _ = k.sink.Append(context.Background(), &sinks.Batch{Chain: &chain, Changes: batch}, from)
				}()
				select {
				case <-held:
					release, late = free, done
				case <-done: // it sent no rows
					free()
				}
			case "arrive":
				letGo()
			case "append":
				f.set(plan)
				end, err := call(k, n, time.Minute)
				f.set(nil)
				if err != nil {
					if sinks.IsStop(err) {
						r.Fatalf("a passing fault stopped the pipeline: %v", err)
					}
					continue
				}
				truthful(end)
				k.end = end
				if rapid.Bool().Draw(r, "stored") {
					stored = append(stored, end)
				}
			}
		}
		letGo()
		// One worker finishes in peace.
		k := workers[0]
		for tries := 0; len(rest(changes, k.end.Through, 1)) > 0; tries++ {
			end, err := call(k, 25, time.Minute)
			if err != nil || tries > 40 {
				r.Fatalf("the last writer: %v (try %d)", err, tries)
			}
			truthful(end)
			k.end = end
		}
		if there := w.positions(t, id); !slices.Equal(there, all) {
			r.Fatalf("the table holds %d rows, want %d, each once and in order:\n%v", len(there), len(all), there)
		}
	})
}

// TestOnceContended lets several workers append to one chain at the same time, all of them believing that it is theirs.
func TestOnceContended(t *testing.T) {
	w := start(t)
	changes := sinktest.NewGenerator(12).NextOf(1, 120)
	chain := change.Chain{Pipeline: "p", Incarnation: 1, Token: "t", Table: changes[0].Table.Name}
	last := changes[len(changes)-1].Position
	r := rand.New(rand.NewPCG(3, 3))
	var rmu sync.Mutex
	random := func(n int) int { rmu.Lock(); defer rmu.Unlock(); return r.IntN(n) }
	w.server.SetFault(func(_ context.Context, c emulator.Call) error {
		if c.Request != nil && random(12) == 0 {
			return status.Error(codes.Internal, "injected")
		}
		return nil
	})
	var wg sync.WaitGroup
	for range 3 {
		k := w.worker(t, "", 2000)
		wg.Go(func() {
			for range 400 {
				batch := rest(changes, k.end.Through, 1+random(12))
				if len(batch) == 0 {
					return
				}
				end, err := k.sink.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: batch}, k.end)
				switch {
				case sinks.IsStop(err):
					t.Error(err)
					return
				case err == nil:
					k.end = end
				}
			}
			if k.end.Through != last {
				t.Errorf("a worker came no further than %s", k.end.Through)
			}
		})
	}
	wg.Wait()
	var all []string
	for i := range changes {
		all = append(all, changes[i].ID())
	}
	if there := w.positions(t, TableID("", chain.Table)); !slices.Equal(there, all) {
		t.Fatalf("the table holds %d rows, want %d, each once and in order", len(there), len(all))
	}
}

// TestClaimAnswerLost has the client library repeat a claim whose answer was lost: it finds its own claim, and must know it.
func TestClaimAnswerLost(t *testing.T) {
	w := start(t)
	asked, done := 0, 0
	w.server.SetFault(func(_ context.Context, c emulator.Call) error {
		if c.Method != "tables.insert" {
			return nil
		}
		if !c.Effect {
			asked++
		} else if done++; done == 2 { // the first table is the changelog's own
			return &googleapi.Error{Code: 503, Message: "injected", Errors: []googleapi.ErrorItem{{Reason: "backendError"}}}
		}
		return nil
	})
	changes := sinktest.NewGenerator(13).NextOf(0, 10)
	chain := change.Chain{Pipeline: "p", Token: "t", Table: "orders"}
	k := w.worker(t, "", maxRequest)
	end, err := k.sink.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: changes}, sinks.End{})
	if err != nil || end.Through != changes[9].Position {
		t.Fatalf("Append = %+v, %v", end, err)
	}
	if at, ok := placeOf(end); !ok || at.Offset != 10 {
		t.Errorf("the state is %s", end.State)
	}
	if asked != 3 {
		t.Errorf("%d tables were asked for, want the changelog, the claim, and the claim again", asked)
	}
}

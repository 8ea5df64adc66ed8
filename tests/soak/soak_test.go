package soak

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/state"
)

// faults strike the change-stream queries; an opportunity is a query.
const faults = `seed=5
unavailable p=0.03 method=ExecuteStreamingSql
exhausted p=0.03 for=100ms method=ExecuteStreamingSql
stall p=0.05 for=300ms after=0-10 method=ChangeStream
cut p=0.1 after=0-30 method=ChangeStream
reset p=0.05 after=0-30 method=ChangeStream
cancel p=0.05 after=0-30 method=ChangeStream
end p=0.05 after=0-30
slow-heartbeat p=0.05 for=2s
replay p=0.05
no-heartbeat every=40`

const (
	// overBytes is what the budget gives the lowest partition beyond it, a frame and the messages it is filled from, and
	// idleBytes what it gives each that holds nothing.
	overBytes, idleBytes = 64<<10 + 3*80<<10, 1 << 10
	// partitionBytes is what a partition may take of the heap beside the budget: what gRPC may hold of its query (64 KiB), its
	// goroutines' 15 KB, and its lanes, its state and what the last collection had not found yet.
	partitionBytes = 128 << 10
)

// size is how much a run does.
type size struct {
	load
	budget    int // bytes
	kills     int
	heartbeat time.Duration
	// still is how long nothing may arrive.
	still time.Duration
}

// TestSoak reads a stream whose partitions split, merge and move while queries fail in all ways, sinks fail before and after
// their work, and the engine is killed: the chain has each change once, the writer has each at least once, both in key order,
// and the memory stays within the budget and what partitions are said to cost beside it.
//
//	SPANLEDGER_SOAK=1000000 go test ./tests/soak -v -timeout 20m
//
// makes that many changes over 1,000 partitions, with a redraw every 100 ms.
func TestSoak(t *testing.T) {
	s := size{load{Changes: 20_000, Rows: 200, PerSecond: 8_000, Keys: 1000, Partitions: 100, Churn: 20 * time.Millisecond, Faults: faults},
		2 << 20, 1, 200 * time.Millisecond, time.Minute}
	if text := os.Getenv("SPANLEDGER_SOAK"); text != "" {
		n, err := strconv.Atoi(text)
		must(t, err)
		s = size{load{Changes: n, Rows: 1000, PerSecond: 15_000, Keys: 20_000, Partitions: 1000, Churn: 100 * time.Millisecond, Faults: faults},
			16 << 20, 3, time.Second, time.Minute}
	}
	for _, mutable := range []bool{false, true} {
		name := "fixed"
		if mutable {
			name = "moving"
		}
		t.Run(name, func(t *testing.T) {
			s := s
			s.Mutable = mutable
			soak(t, s)
		})
	}
}

func soak(t *testing.T, s size) {
	server := startServer(t, s.load)
	once, least := newDestination("chain", s.Keys, true, 3), newDestination("writer", s.Keys, false, 4)
	r := &runner{size: s, addr: server.addr, store: state.NewMemory(), sinks: []pipeline.NamedSink{{Name: "once", Sink: newAppender(once)}, {Name: "least", Sink: newWriter(least)}}}
	r.start(t)
	defer func() { r.stop(t) }()

	stop := watch(func() (pipeline.Status, bool) {
		e := r.engine.Load()
		return e.Status(), true
	})
	began := time.Now()
	written := make(chan error, 1)
	var sum summary
	go func() {
		var err error
		sum, err = server.ask()
		written <- err
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for moved, before, kills := time.Now(), -1, 0; ; <-tick.C {
		select {
		case err := <-written:
			must(t, err)
		case err := <-r.done:
			t.Fatalf("the engine ended: %v", err)
		default:
		}
		arrived := min(once.arrived(), least.arrived())
		if arrived != before {
			before, moved = arrived, time.Now()
		}
		if err := errors.Join(once.errors(), least.errors()); err != nil {
			t.Fatalf("%d and %d of %d changes have come: %v", once.arrived(), least.arrived(), s.Changes, err)
		}
		if time.Since(moved) > s.still {
			var all strings.Builder
			if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
				t.Error(err)
			}
			t.Fatalf("%d of %d changes have come, and nothing for %v: %+v\n%s", arrived, s.Changes, s.still, r.engine.Load().Status(), all.String())
		}
		if kills < s.kills && arrived > (kills+1)*s.Changes/(s.kills+1) {
			kills++
			r.engine.Load().Kill()
			r.stop(t)
			r.start(t)
		}
		if arrived == s.Changes && r.engine.Load().Status().Watermark >= change.Timestamp(sum.Last) && sum.Last > 0 {
			break
		}
	}
	took := time.Since(began)
	p := stop()
	sum, err := server.ask()
	must(t, err)
	t.Logf("%d changes written in %v and delivered in %v, over %d partitions (%d at once), in %d chains", s.Changes, sum.Took.Round(time.Millisecond), took.Round(time.Millisecond), sum.Partitions, p.Partitions, len(once.ends))
	t.Logf("faults: %v of Spanner; %d and %d failed calls of the sinks; %d kills", sum.Struck, once.failed, least.failed, s.kills)
	t.Logf("chain: %d repeats, %d batches came to a taken place; writer: %d repeats", once.repeats, once.taken, least.repeats)
	t.Logf("at most %d KiB of a budget of %d KiB; heap %d KiB live, %d KiB with garbage, %d KiB of stacks, %d goroutines", p.Budget>>10, s.budget>>10, p.Live>>10, p.Heap>>10, p.Stacks>>10, p.Goroutines)
	if most := s.budget + p.Partitions*idleBytes + overBytes; p.Budget > most {
		t.Errorf("I10: %d bytes were held, want at most %d and with the idle partitions' %d", p.Budget, s.budget, most)
	}
	if most := uint64(2*s.budget + p.Partitions*partitionBytes); p.Live > most {
		t.Errorf("I10: the heap had %d bytes, want at most %d", p.Live, most)
	}
	if err := errors.Join(once.errors(), least.errors()); err != nil {
		t.Error(err)
	}
}

// runner starts one engine after another on the same state and sinks.
type runner struct {
	size
	addr   string
	store  state.Store
	sinks  []pipeline.NamedSink
	from   change.Timestamp
	engine atomic.Pointer[pipeline.Engine]
	done   chan error
	cancel context.CancelFunc
}

func (r *runner) options() changestream.Options {
	return changestream.Options{
		Database: database, Stream: "S", Heartbeat: r.heartbeat, SilentHeartbeats: 2, Window: 5 * time.Second, MaxBackoff: time.Second, MaxFrameBytes: 64 << 10,
		MaxTimestampBytes: r.budget, Logger: slog.New(slog.DiscardHandler),
		ClientOptions: []option.ClientOption{
			option.WithEndpoint("passthrough:///" + r.addr), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		},
	}
}

func (r *runner) start(t *testing.T) {
	t.Helper()
	if r.from == 0 {
		clock, err := changestream.New(t.Context(), r.options())
		must(t, err)
		r.from, err = clock.Now(t.Context())
		must(t, errors.Join(err, clock.Close()))
	}
	var reader *changestream.Reader
	var e *pipeline.Engine
	e, err := pipeline.New(pipeline.Options{
		Config: state.Config{Pipeline: "soak", Database: database, Stream: "S", Identity: "1", Digest: "x", Start: r.from},
		Store:  r.store, Sinks: r.sinks, BudgetBytes: r.budget, CheckpointEvery: 200 * time.Millisecond, MinBackoff: 10 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
		Source: func(ctx context.Context, snap state.Snapshot) (pipeline.Source, error) {
			o := r.options()
			o.Tables, o.Budget = snap.Tables, e.Budget()
			var err error
			reader, err = changestream.New(ctx, o)
			return reader, err
		},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		err := e.Run(ctx)
		if reader != nil {
			err = errors.Join(err, reader.Close())
		}
		done <- err
	}()
	r.done, r.cancel = done, cancel
	r.engine.Store(e)
	select {
	case <-e.Ready():
	case err := <-done:
		t.Fatalf("the engine did not start: %v", err)
	}
}

func (r *runner) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("the engine ended with %v", err)
	}
}

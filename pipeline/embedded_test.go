package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

const (
	ledgerInstance = "projects/moving/instances/moving"
	ledger         = ledgerInstance + "/databases/moving"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startSpanner starts an embedded Spanner with the table and the stream of testConfig, whose key ranges are mutable.
func startSpanner(t *testing.T) (*embedded.Server, []option.ClientOption) {
	t.Helper()
	srv, err := embedded.Start(t.Context(), embedded.Options{Partitions: 4})
	must(t, err)
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	options := []option.ClientOption{
		option.WithEndpoint("passthrough:///" + srv.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	instances, err := instance.NewInstanceAdminClient(t.Context(), options...)
	must(t, err)
	defer instances.Close()
	made, err := instances.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{Parent: "projects/moving", InstanceId: "moving", Instance: &instancepb.Instance{DisplayName: "moving", NodeCount: 1}})
	must(t, err)
	_, err = made.Wait(t.Context())
	must(t, err)
	databases, err := database.NewDatabaseAdminClient(t.Context(), options...)
	must(t, err)
	defer databases.Close()
	op, err := databases.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{Parent: ledgerInstance, CreateStatement: "CREATE DATABASE moving", ExtraStatements: []string{
		"CREATE TABLE Wallets (Id STRING(36) NOT NULL, Coins INT64) PRIMARY KEY (Id)",
		"CREATE CHANGE STREAM s FOR ALL OPTIONS (partition_mode = 'MUTABLE_KEY_RANGE')",
	}})
	must(t, err)
	_, err = op.Wait(t.Context())
	must(t, err)
	return srv, options
}

// redraw changes who owns which keys: by splits, merges and moves, and by exchanges of halves at one timestamp.
func redraw(t *testing.T, log *changes.Log, rng *rand.Rand) {
	all, err := log.Partitions("s")
	must(t, err)
	var live []changes.Partition
	for _, p := range all {
		if p.End == 0 {
			live = append(live, p)
		}
	}
	i := rng.IntN(len(live))
	p, q := live[i], live[(i+1)%len(live)]
	switch kind := rng.IntN(4); {
	case kind == 0 && len(live) < 8:
		_, err = log.Split("s", p.Token, 2, nil, 0)
	case kind == 1 && len(live) > 3:
		_, err = log.Merge("s", []string{p.Token, q.Token}, 0)
	case kind == 2 && p.Token != q.Token: // all that either has goes to the other
		_, err = log.Reassign("s", []changes.Shift{{From: p.Token, To: q.Token}, {From: q.Token, To: p.Token}}, 0)
	default:
		_, err = log.Move("s", p.Token, 0)
	}
	switch status.Code(err) {
	case codes.OK, codes.FailedPrecondition, codes.InvalidArgument: // too small to be divided, or in several pieces
	default:
		must(t, err)
	}
}

// TestMutableKeyRangesEndToEnd writes to an embedded Spanner while keys move between partitions, and while the engine that
// reads the stream is stopped and killed again and again: each change is in its chain once, and each key's changes come first
// in the order they were written.
func TestMutableKeyRangesEndToEnd(t *testing.T) {
	srv, options := startSpanner(t)
	client, err := spanner.NewClientWithConfig(t.Context(), ledger, spanner.ClientConfig{DisableNativeMetrics: true}, options...)
	must(t, err)
	defer client.Close()
	log := srv.Database(ledger).Log()
	store, once, least := state.NewMemory(), memsink.NewDestination(), memsink.NewDestination()
	var start change.Timestamp
	open := func(ctx context.Context, tables []*change.Table, end change.Timestamp) (*changestream.Reader, error) {
		return changestream.New(ctx, changestream.Options{
			Database: ledger, Stream: "s", Heartbeat: 100 * time.Millisecond, Window: 200 * time.Millisecond, End: end,
			ClientOptions: options, Tables: tables, Logger: slog.New(slog.DiscardHandler),
		})
	}
	r, err := open(t.Context(), nil, 0)
	must(t, err)
	start, err = r.Now(t.Context())
	must(t, err)
	must(t, r.Close())

	engine := func(end change.Timestamp) (*Engine, chan error, context.CancelFunc) {
		config := testConfig
		config.Database, config.Start = ledger, start
		spec := sinks.Spec{MaxChanges: 20, MaxBytes: 1 << 20, MaxDelay: 20 * time.Millisecond}
		var reader *changestream.Reader
		e, err := New(Options{
			Config: config, Store: store, End: end, CheckpointEvery: 30 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
			Source: func(ctx context.Context, snap state.Snapshot) (Source, error) {
				var err error
				reader, err = open(ctx, snap.Tables, end)
				return reader, err
			},
			Sinks: []NamedSink{
				{"once", memsink.NewAppender(memsink.Options{Destination: once, Spec: spec, MaxPlace: 5, Segments: true})},
				{"least", memsink.NewWriter(memsink.Options{Destination: least, Spec: spec})},
			},
		})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			err := e.Run(ctx)
			if reader != nil {
				if cerr := reader.Close(); err == nil {
					err = cerr
				}
			}
			done <- err
		}()
		return e, done, cancel
	}

	const keys, writers, perWriter, redraws, perRedraw, behind = 24, 4, 250, 120, 8, 40
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var mu sync.Mutex
	written := map[string][]string{} // values by key, in commit order
	var last time.Time
	var busy sync.WaitGroup
	turn := make(chan struct{}) // lets one write begin
	for n := range writers {    // a key has one writer
		busy.Go(func() {
			for i := range perWriter {
				select {
				case <-turn:
				case <-ctx.Done():
					return
				}
				key, value := fmt.Sprintf("wallet-%02d", n+writers*(i%(keys/writers))), int64(n*perWriter+i)
				at, err := client.Apply(ctx, []*spanner.Mutation{spanner.InsertOrUpdate("Wallets", []string{"Id", "Coins"}, []any{key, value})}, spanner.ApplyAtLeastOnce())
				if err != nil {
					t.Error(err)
					stop()
					return
				}
				mu.Lock()
				written[key] = append(written[key], fmt.Sprintf(`"%d"`, value))
				if at.After(last) {
					last = at
				}
				mu.Unlock()
			}
		})
	}
	write := func(n int) {
		for range n {
			select {
			case turn <- struct{}{}:
			case <-ctx.Done():
				t.Fatal(context.Cause(ctx))
			}
		}
	}
	rng := rand.New(rand.NewPCG(7, 7))
	e, done, cancel := engine(0)
	for i := range redraws {
		redraw(t, log, rng)
		write(perRedraw)
		if i%12 != 11 {
			continue
		}
		must(t, least.Wait(ctx, (i+1)*perRedraw-behind)) // it gets on, and is stopped in the middle
		if i%24 == 11 {
			e.Kill()
		}
		cancel()
		must(t, <-done)
		e, done, cancel = engine(0)
	}
	write(writers*perWriter - redraws*perRedraw)
	busy.Wait()
	must(t, least.Wait(ctx, writers*perWriter))
	cancel()
	must(t, <-done)
	// The watermark comes to the last commit, or this one would not end.
	_, done, cancel = engine(change.TimestampOf(last))
	defer cancel()
	select {
	case err := <-done:
		must(t, err)
	case <-ctx.Done():
		t.Fatalf("the watermark does not come to the last commit, at %s", last)
	}

	if err := once.CheckOnce(); err != nil {
		t.Errorf("I6: %v", err)
	}
	for name, d := range map[string]*memsink.Destination{"once": once, "least": least} {
		if err := d.CheckOrder(); err != nil {
			t.Errorf("%s: I1: %v", name, err)
		}
		got := map[string][]string{}
		for _, dv := range d.Deliveries() {
			if c := &dv.Change; !dv.Repeat {
				got[string(c.Key[0])] = append(got[string(c.Key[0])], string(c.After[1]))
			}
		}
		for key, values := range written {
			if have := got[fmt.Sprintf("%q", key)]; fmt.Sprint(have) != fmt.Sprint(values) {
				t.Errorf("%s: %s has %d changes that came in the order %v, want %v", name, key, len(have), have, values)
			}
		}
	}
	all, err := log.Partitions("s")
	must(t, err)
	t.Logf("%d writes, %d redraws, %d partitions", writers*perWriter, redraws, len(all))
}

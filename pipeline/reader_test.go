package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/changestream"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// TestBudgetHoldsTheReader (I10): a backlog many times the budget, in many partitions, before a slow sink. What the real reader
// has received, decoded and not handed over is inside the budget too, and everything arrives.
func TestBudgetHoldsTheReader(t *testing.T) {
	const (
		name                       = "projects/budget/instances/budget/databases/budget"
		partitions, rows, rowBytes = 40, 2000, 4 << 10
		budgetBytes, frameBytes    = 1 << 20, 64 << 10
	)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	server, err := embedded.Start(t.Context(), embedded.Options{Partitions: partitions})
	must(err)
	defer server.Close()
	options := []option.ClientOption{
		option.WithEndpoint("passthrough:///" + server.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	instances, err := instance.NewInstanceAdminClient(t.Context(), options...)
	must(err)
	defer instances.Close()
	made, err := instances.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{Parent: "projects/budget", InstanceId: "budget", Instance: &instancepb.Instance{DisplayName: "budget", NodeCount: 1}})
	must(err)
	_, err = made.Wait(t.Context())
	must(err)
	databases, err := database.NewDatabaseAdminClient(t.Context(), options...)
	must(err)
	defer databases.Close()
	op, err := databases.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{Parent: "projects/budget/instances/budget", CreateStatement: "CREATE DATABASE budget",
		ExtraStatements: []string{"CREATE TABLE T (K STRING(36) NOT NULL, V STRING(MAX)) PRIMARY KEY (K)", "CREATE CHANGE STREAM S FOR ALL"}})
	must(err)
	_, err = op.Wait(t.Context())
	must(err)
	log := slog.New(slog.DiscardHandler)
	readerOptions := changestream.Options{Database: name, Stream: "S", ClientOptions: options, Logger: log,
		Heartbeat: 100 * time.Millisecond, MaxFrameBytes: frameBytes, MaxTimestampBytes: budgetBytes}
	clock, err := changestream.New(t.Context(), readerOptions)
	must(err)
	config := testConfig
	config.Database = name
	config.Start, err = clock.Now(t.Context())
	must(err)
	must(clock.Close())
	client, err := spanner.NewClientWithConfig(t.Context(), name, spanner.ClientConfig{DisableNativeMetrics: true}, options...)
	must(err)
	defer client.Close()
	for i := 0; i < rows; i += 20 {
		var ms []*spanner.Mutation
		for j := i; j < i+20; j++ {
			// Ten keys of a commit lie near each other, so that a timestamp is some of a partition's memory.
			ms = append(ms, spanner.InsertMap("T", map[string]any{"K": fmt.Sprintf("%c%d", rune('0'+j/10*7%75), j), "V": strings.Repeat("v", rowBytes)}))
		}
		_, err := client.Apply(t.Context(), ms, spanner.ApplyAtLeastOnce())
		must(err)
	}

	var e *Engine
	var most atomic.Int64
	least := memsink.NewDestination()
	e, err = New(Options{
		Config: config, Store: state.NewMemory(), Logger: log, BudgetBytes: budgetBytes,
		Source: func(ctx context.Context, _ state.Snapshot) (Source, error) {
			o := readerOptions
			o.Budget = e.Budget()
			r, err := changestream.New(ctx, o)
			if err == nil {
				t.Cleanup(func() { must(r.Close()) })
			}
			return r, err
		},
		Sinks: []NamedSink{{"least", memsink.NewWriter(memsink.Options{Destination: least, Spec: sinks.Spec{Lanes: 4, MaxChanges: 50, MaxBytes: 1 << 20, MaxDelay: 500 * time.Millisecond},
			Before: func(ctx context.Context, b *sinks.Batch) error {
				used, _ := e.budget.inUse()
				for old := most.Load(); int64(used) > old && !most.CompareAndSwap(old, int64(used)); old = most.Load() {
				}
				return memsink.Delay(2*time.Millisecond)(ctx, b)
			}})}},
	})
	must(err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	must(least.Wait(ctx, rows))
	cancel()
	must(<-done)
	// The lowest partition's frame may be beyond the budget, with the messages of some 80 KB that it is being filled from.
	if bound := int64(budgetBytes + frameBytes + 3*80<<10 + partitions*smallReserve); most.Load() > bound || most.Load() < budgetBytes/2 {
		t.Errorf("%d bytes were held, want about %d and at most %d", most.Load(), budgetBytes, bound)
	}
	if used, _ := e.budget.inUse(); used != 0 {
		t.Errorf("%d bytes of the budget were never given back", used)
	}
	t.Logf("at most %d bytes of a budget of %d", most.Load(), budgetBytes)
}

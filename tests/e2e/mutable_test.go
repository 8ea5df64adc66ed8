package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/check"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

const mutableFile = `pipelines:
  - name: mutable
    source: {database: %[1]s, stream: changes, heartbeat: 100ms}
    state: {database: %[2]s}
    checkpoint_every: 50ms
    sinks:
      - {name: archive, type: gcs, options: {bucket: archive, prefix: mutable, max_delay: 50ms}}
      - {name: messages, type: pubsub, options: {project: e2e-project, topic: changes}}
      - {name: tables, type: bigquery, options: {project: e2e-project, dataset: changes, max_delay: 50ms}}
setup: {mutable: true, watch: ALL}
`

// TestMutableKeyRanges runs what a configuration says on a change stream with mutable key ranges, as init makes it, while others
// write and partitions split, merge and hand keys to one another; it is stopped and begun again in the middle. In the end
// everything is everywhere, in the archive and in BigQuery once, and in order per key (I1, I2, I3, I6).
func TestMutableKeyRanges(t *testing.T) {
	cloud, err := app.StartCloud(t.Context(), app.CloudOptions{
		Spanner: embedded.Options{Partitions: 3, Churn: changes.Churn{Interval: 40 * time.Millisecond, Split: 1, Merge: 1, Move: 2, Ways: 3, Seed: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, v := range cloud.Variables() {
		t.Setenv(v.Name, v.Value)
	}
	c, err := app.ParseConfig("mutable.yaml", fmt.Appendf(nil, mutableFile, resources.Database, resources.StateDatabase), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if _, err := app.Init(t.Context(), app.InitOptions{Config: c, Out: t.Output(), Logger: log}); err != nil {
		t.Fatal(err)
	}
	s := &system{t: t}
	admin, err := database.NewDatabaseAdminClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	op, err := admin.UpdateDatabaseDdl(t.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: resources.Database, Statements: []string{accountsTable}})
	if err == nil {
		err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.client, err = spanner.NewClientWithConfig(t.Context(), resources.Database, spanner.ClientConfig{DisableNativeMetrics: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	pipeline := &c.Pipelines[0]
	start := s.now()
	pipeline.Start = change.TimestampOf(start)

	var stopped atomic.Bool
	var writing sync.WaitGroup
	var writeErr error
	writing.Go(func() { writeErr = s.write(t.Context(), &stopped) })
	published := func() int { return len(cloud.Messages.Messages("projects/e2e-project/topics/changes")) }
	for range 3 {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- app.Run(ctx, app.RunOptions{Config: c, Out: t.Output(), Logger: log}) }()
		tick := time.NewTicker(5 * time.Millisecond)
		for before, deadline := published(), time.Now().Add(time.Minute); published() < before+150; <-tick.C {
			if time.Now().After(deadline) {
				t.Fatal("not within a minute: 150 messages are published")
			}
		}
		tick.Stop()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	stopped.Store(true)
	writing.Wait()
	if writeErr != nil {
		t.Fatal(writeErr)
	}
	// The last one ends by itself, when everything is everywhere.
	end := s.now()
	pipeline.End = change.TimestampOf(end)
	if err := app.Run(t.Context(), app.RunOptions{Config: c, Out: t.Output(), Logger: log}); err != nil {
		t.Fatal(err)
	}
	report, err := cloud.Check(t.Context(), app.CheckOptions{
		Resources: resources, Prefix: "mutable", Start: start, End: end, Messages: func() []check.Message { return cloud.PublishedMessages(resources) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Fatal(err)
	}
	if report.Changes < 450 || report.Graph.Moves < 10 || report.Graph.Children != 0 {
		t.Errorf("%d changes and %+v: that proves little", report.Changes, report.Graph)
	}
	for name, k := range report.Sinks {
		if k.Delivered != report.Changes {
			t.Errorf("%s has %d changes of %d", name, k.Delivered, report.Changes)
		}
	}
	t.Logf("%d changes; %+v; Pub/Sub: %d repeats, %d of undecided order", report.Changes, report.Graph, report.Sinks["pubsub"].Duplicates, report.Sinks["pubsub"].Undecided)
}

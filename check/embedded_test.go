package check

import (
	"context"
	"slices"
	"testing"
	"time"

	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"

	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

// TestTruthEmbedded: on the embedded Spanner, whose partitions split, merge and move many times a second and whose
// transactions span them, the truth is what was written, agrees with the events table and shows none of the deviations of
// Google's emulator. A second stream of the same tables, with mutable key ranges, says the same.
func TestTruthEmbedded(t *testing.T) {
	server, err := spanner.Start(context.WithoutCancel(t.Context()), spanner.Options{Partitions: 3, Churn: changes.Churn{Interval: 100 * time.Millisecond, Seed: 11}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("SPANNER_EMULATOR_HOST", server.Addr()) // without it clients ask Google's metadata server where they are
	options := emulatorOptions("passthrough:///" + server.Addr())
	instances, err := instance.NewInstanceAdminClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer instances.Close()
	created, err := instances.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{
		Parent: "projects/check", InstanceId: "check", Instance: &instancepb.Instance{DisplayName: "check", NodeCount: 1}})
	if err == nil {
		_, err = created.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	databases, err := database.NewDatabaseAdminClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer databases.Close()
	made, err := databases.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{
		Parent: "projects/check/instances/check", CreateStatement: "CREATE DATABASE `check`", ExtraStatements: append(slices.Clone(testDDL),
			`CREATE CHANGE STREAM moving FOR ALL OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES', partition_mode = 'MUTABLE_KEY_RANGE')`)})
	if err == nil {
		_, err = made.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	truth := testTruth(t, options, false, 2*time.Second)
	if truth == nil {
		return
	}
	if truth.Hops() != 0 {
		t.Errorf("%d hops between unrelated partitions", truth.Hops())
	}
	// Short windows, the first of which ends on a record, give what one long one gives.
	short := truth.Changes[len(truth.Changes)/20].Position.Commit - truth.Start
	for _, window := range []time.Duration{0, time.Duration(short) * time.Microsecond} {
		moving, err := ReadTruth(t.Context(), SpannerOptions{Client: newClient(t, options...), Database: testDatabase, Stream: "moving",
			Start: truth.Start.Time(), End: truth.End.Time(), Parallel: 16, window: window})
		if err != nil {
			t.Fatal(err)
		}
		compareTruths(t, truth, moving)
		moves, most := 0, 0
		for _, p := range moving.Partitions {
			moves += len(p.Moves)
			most = max(most, len(p.Moves))
		}
		if moving.Hops() != 0 || len(moving.graph) != moves || most < 2 {
			t.Errorf("%d hops between partitions that no move leads between; %d moves, the most into one partition %d", moving.Hops(), moves, most)
		}
		t.Logf("windows of %s: %d partitions, %d moves, at most %d into one", window, len(moving.Partitions), moves, most)
	}
}

// compareTruths wants the same changes, wherever they lie.
func compareTruths(t *testing.T, want, got *Truth) {
	t.Helper()
	if len(got.Changes) != len(want.Changes) {
		t.Fatalf("%d changes, want %d", len(got.Changes), len(want.Changes))
	}
	for i := range want.Changes {
		w, g := want.Changes[i], got.Changes[i]
		if w.Position != g.Position || w.Table != g.Table || w.Op != g.Op || w.Capture != g.Capture || w.Key != g.Key || w.Records != g.Records ||
			diff("after", w.After, g.After) != "" || diff("before", w.Before, g.Before) != "" {
			t.Fatalf("change %d is\n%+v, want\n%+v", i, g, w)
		}
	}
}

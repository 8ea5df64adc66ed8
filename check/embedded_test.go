package check

import (
	"context"
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
// Google's emulator.
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
		Parent: "projects/check/instances/check", CreateStatement: "CREATE DATABASE `check`", ExtraStatements: testDDL})
	if err == nil {
		_, err = made.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	truth := testTruth(t, options, false, 2*time.Second)
	if truth != nil && truth.Hops() != 0 {
		t.Errorf("%d hops between unrelated partitions", truth.Hops())
	}
}

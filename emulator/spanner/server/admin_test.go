package server_test

import (
	"context"
	"strings"
	"testing"

	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

const testInstance = "projects/p/instances/in"

// A protected database is not dropped, nor is its instance.
func TestDropProtection(t *testing.T) {
	conn, _ := dial(t)
	dbs, ins, ctx := databasepb.NewDatabaseAdminClient(conn), instancepb.NewInstanceAdminClient(conn), context.Background()
	protect := func(on bool, paths ...string) error {
		op, err := dbs.UpdateDatabase(ctx, &databasepb.UpdateDatabaseRequest{Database: &databasepb.Database{Name: testDB, EnableDropProtection: on}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		if err != nil {
			return err
		}
		var meta databasepb.UpdateDatabaseMetadata
		var db databasepb.Database
		if err := op.GetMetadata().UnmarshalTo(&meta); err != nil || meta.GetProgress().GetProgressPercent() != 100 {
			t.Errorf("the metadata are %v, %v", &meta, err)
		}
		if err := op.GetResponse().UnmarshalTo(&db); err != nil || db.GetEnableDropProtection() != on || db.Name != testDB {
			t.Errorf("the answer is %v, %v", &db, err)
		}
		return nil
	}
	for _, paths := range [][]string{nil, {"name"}, {"enable_drop_protection", "state"}, {"enable_drop_protection.x"}} {
		if err := protect(true, paths...); status.Code(err) != codes.InvalidArgument {
			t.Errorf("the mask %v: %v", paths, err)
		}
	}
	if _, err := dbs.UpdateDatabase(ctx, &databasepb.UpdateDatabaseRequest{UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"enable_drop_protection"}}}); status.Code(err) != codes.NotFound {
		t.Errorf("no database: %v", err)
	}
	if err := protect(true, "enable_drop_protection"); err != nil {
		t.Fatal(err)
	}
	if list, err := dbs.ListDatabases(ctx, &databasepb.ListDatabasesRequest{Parent: testInstance}); err != nil || len(list.Databases) != 1 || !list.Databases[0].EnableDropProtection {
		t.Errorf("the list is %v, %v", list, err)
	}
	_, err := dbs.DropDatabase(ctx, &databasepb.DropDatabaseRequest{Database: testDB})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "because the `enable_drop_protection` setting is currently enabled for it. Please disable the setting and try again.") {
		t.Errorf("a drop: %v", err)
	}
	_, err = ins.DeleteInstance(ctx, &instancepb.DeleteInstanceRequest{Name: testInstance})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "because it contains databases with drop protection enabled.") {
		t.Errorf("its instance: %v", err)
	}
	// The name of a project is not one of an instance, and takes nothing with it.
	if _, err = ins.DeleteInstance(ctx, &instancepb.DeleteInstanceRequest{Name: "projects/p"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a project: %v", err)
	}
	if err := protect(false, "enable_drop_protection"); err != nil {
		t.Fatal(err)
	}
	if _, err = dbs.DropDatabase(ctx, &databasepb.DropDatabaseRequest{Database: testDB}); err != nil {
		t.Error(err)
	}
	if _, err = dbs.GetDatabase(ctx, &databasepb.GetDatabaseRequest{Name: testDB}); status.Code(err) != codes.NotFound {
		t.Errorf("a dropped database: %v", err)
	}
}

func TestUpdateInstance(t *testing.T) {
	conn, _ := dial(t)
	ins, ctx := instancepb.NewInstanceAdminClient(conn), context.Background()
	update := func(in *instancepb.Instance, paths ...string) error {
		in.Name = testInstance
		op, err := ins.UpdateInstance(ctx, &instancepb.UpdateInstanceRequest{Instance: in, FieldMask: &fieldmaskpb.FieldMask{Paths: paths}})
		if err != nil {
			return err
		}
		var meta instancepb.UpdateInstanceMetadata
		var out instancepb.Instance
		got, err := ins.GetInstance(ctx, &instancepb.GetInstanceRequest{Name: testInstance})
		if op.GetMetadata().UnmarshalTo(&meta) != nil || op.GetResponse().UnmarshalTo(&out) != nil || err != nil || !proto.Equal(&out, got) || !proto.Equal(meta.Instance, got) {
			t.Errorf("the operation says %v and %v, the instance is %v, %v", &out, &meta, got, err)
		}
		return nil
	}
	want := func(what string, check func(*instancepb.Instance) bool) {
		t.Helper()
		got, err := ins.GetInstance(ctx, &instancepb.GetInstanceRequest{Name: testInstance})
		if err != nil || !check(got) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	full := &instancepb.Instance{DisplayName: "shown", NodeCount: 3, Labels: map[string]string{"a": "b"}, Config: "other", Edition: instancepb.Instance_ENTERPRISE,
		AutoscalingConfig: &instancepb.AutoscalingConfig{AutoscalingTargets: &instancepb.AutoscalingConfig_AutoscalingTargets{StorageUtilizationPercent: 70}}}
	for _, paths := range [][]string{nil, {"config"}, {"name"}, {"state"}, {"nope"}, {"labels.a"}, {"display_name", "create_time"}, {""}} {
		if err := update(proto.CloneOf(full), paths...); status.Code(err) != codes.InvalidArgument {
			t.Errorf("the mask %v: %v", paths, err)
		}
	}
	if err := update(proto.CloneOf(full), "display_name", "labels", "node_count"); err != nil {
		t.Fatal(err)
	}
	want("what the mask names", func(in *instancepb.Instance) bool {
		return in.DisplayName == "shown" && in.NodeCount == 3 && in.ProcessingUnits == 3000 && in.Labels["a"] == "b" && in.Config == "" && in.Edition == 0 && in.AutoscalingConfig == nil
	})
	if err := update(proto.CloneOf(full), "edition", "autoscaling_config.autoscaling_targets.storage_utilization_percent"); err != nil {
		t.Fatal(err)
	}
	want("a field of a field", func(in *instancepb.Instance) bool {
		return in.Edition == instancepb.Instance_ENTERPRISE && in.AutoscalingConfig.GetAutoscalingTargets().GetStorageUtilizationPercent() == 70
	})
	if err := update(&instancepb.Instance{ProcessingUnits: 500}, "processing_units", "labels"); err != nil {
		t.Fatal(err)
	}
	want("what is empty clears", func(in *instancepb.Instance) bool {
		return in.NodeCount == 0 && in.ProcessingUnits == 500 && len(in.Labels) == 0 && in.DisplayName == "shown"
	})
	for _, size := range [][2]int32{{-1, 0}, {0, 150}, {0, 1500}, {2, 1000}, {0, -100}, {2_000_000, 0}} {
		if err := update(&instancepb.Instance{NodeCount: size[0], ProcessingUnits: size[1]}, "node_count", "processing_units"); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a size of %v: %v", size, err)
		}
	}
	if _, err := ins.UpdateInstance(ctx, &instancepb.UpdateInstanceRequest{Instance: &instancepb.Instance{Name: testInstance + "x"}, FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"labels"}}}); status.Code(err) != codes.NotFound {
		t.Errorf("an instance that is not there: %v", err)
	}
	parts, err := ins.ListInstancePartitions(ctx, &instancepb.ListInstancePartitionsRequest{Parent: testInstance})
	if err != nil || len(parts.InstancePartitions) != 0 {
		t.Errorf("the partitions: %v, %v", parts, err)
	}
	if _, err := ins.ListInstancePartitions(ctx, &instancepb.ListInstancePartitionsRequest{Parent: "projects/p/instances/none"}); status.Code(err) != codes.NotFound {
		t.Errorf("the partitions of no instance: %v", err)
	}
	configs, err := ins.ListInstanceConfigs(ctx, &instancepb.ListInstanceConfigsRequest{Parent: "projects/p", PageSize: 1})
	if err != nil || len(configs.InstanceConfigs) != 1 || configs.NextPageToken != "" {
		t.Fatalf("the configurations: %v, %v", configs, err)
	}
	rest, err := ins.ListInstanceConfigs(ctx, &instancepb.ListInstanceConfigsRequest{Parent: "projects/p", PageToken: configs.InstanceConfigs[0].Name})
	if err != nil || len(rest.InstanceConfigs) != 0 {
		t.Errorf("behind the last configuration: %v, %v", rest, err)
	}
}

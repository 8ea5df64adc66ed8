package server

import (
	"context"
	"slices"
	"strings"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// masked checks a field mask: it must name something, and nothing but fields that can be updated, or what is in them.
func masked(mask *fieldmaskpb.FieldMask, of proto.Message, updatable ...string) error {
	if len(mask.GetPaths()) == 0 {
		return errorf(codes.InvalidArgument, "the field mask must name what is to be updated: one or more of %s", strings.Join(updatable, ", "))
	}
	for _, p := range mask.GetPaths() {
		field, _, _ := strings.Cut(p, ".")
		if !slices.Contains(updatable, field) {
			return errorf(codes.InvalidArgument, "the field %.100q cannot be updated: only %s can", p, strings.Join(updatable, ", "))
		}
	}
	if !mask.IsValid(of) {
		return errorf(codes.InvalidArgument, "the field mask %.200q names a field that is not there", mask.GetPaths())
	}
	return nil
}

// assign copies the field at a path of a valid mask from one message to another of its type.
func assign(to, from protoreflect.Message, path []string) {
	fd := to.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	switch {
	case len(path) > 1:
		assign(to.Mutable(fd).Message(), from.Get(fd).Message(), path[1:])
	case from.Has(fd):
		to.Set(fd, from.Get(fd))
	default:
		to.Clear(fd)
	}
}

// UpdateDatabase sets what of a database can be updated: its drop protection.
func (a *databaseService) UpdateDatabase(_ context.Context, r *databasepb.UpdateDatabaseRequest) (*longrunningpb.Operation, error) {
	d, err := a.find(r.GetDatabase().GetName())
	if err != nil {
		return nil, err
	}
	if err := masked(r.GetUpdateMask(), r.GetDatabase(), "enable_drop_protection"); err != nil {
		return nil, err
	}
	c := &a.s.catalog
	d.protected.Store(r.GetDatabase().GetEnableDropProtection())
	now := timestamppb.New(c.clock.Now())
	meta := &databasepb.UpdateDatabaseMetadata{Request: r, Progress: &databasepb.OperationProgress{ProgressPercent: 100, StartTime: now, EndTime: now}}
	return a.s.done(d.name, "", meta, c.databaseProto(d))
}

// UpdateInstance sets the fields of an instance that the mask names.
func (a *instanceService) UpdateInstance(_ context.Context, r *instancepb.UpdateInstanceRequest) (*longrunningpb.Operation, error) {
	given := r.GetInstance()
	c := &a.s.catalog
	now := timestamppb.New(c.clock.Now())
	c.mu.Lock()
	in, err := updated(c.instances[given.GetName()], r)
	if err == nil {
		in.UpdateTime = now
		c.instances[in.Name] = in
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return a.s.done(in.Name, "", &instancepb.UpdateInstanceMetadata{Instance: in, StartTime: now, EndTime: now}, in)
}

// updated is an instance after an update.
func updated(in *instancepb.Instance, r *instancepb.UpdateInstanceRequest) (*instancepb.Instance, error) {
	given, mask := r.GetInstance(), r.GetFieldMask()
	if in == nil {
		return nil, missingInstance(given.GetName())
	}
	if err := masked(mask, given, "display_name", "node_count", "processing_units", "labels", "autoscaling_config", "edition", "default_backup_schedule_type"); err != nil {
		return nil, err
	}
	in = proto.CloneOf(in)
	given = proto.CloneOf(given)
	for _, p := range mask.GetPaths() {
		assign(in.ProtoReflect(), given.ProtoReflect(), strings.Split(p, "."))
	}
	// One of the two says how large the instance is, and the other follows.
	units := slices.Contains(mask.GetPaths(), "processing_units")
	switch nodes := slices.Contains(mask.GetPaths(), "node_count"); {
	case units && !nodes:
		in.NodeCount = 0
	case nodes && !units:
		in.ProcessingUnits = 0
	}
	return in, sized(in)
}

// unitsOfNode is how many processing units make a node.
const unitsOfNode = 1000

// sized checks an instance's size and writes it both ways, as nodes and as processing units.
func sized(in *instancepb.Instance) error {
	nodes, units := in.GetNodeCount(), in.GetProcessingUnits()
	switch {
	case nodes < 0 || units < 0 || nodes > 1_000_000:
		return errorf(codes.InvalidArgument, "%d nodes and %d processing units are no size of an instance", nodes, units)
	case units > 0 && (units%unitsOfNode != 0 && units > unitsOfNode || units%100 != 0):
		return errorf(codes.InvalidArgument, "an instance has a multiple of 100 processing units up to %d, and of %d above, not %d", unitsOfNode, unitsOfNode, units)
	case nodes > 0 && units > 0 && units != nodes*unitsOfNode:
		return errorf(codes.InvalidArgument, "node_count and processing_units disagree: %d and %d", nodes, units)
	case nodes > 0:
		in.ProcessingUnits = nodes * unitsOfNode
	default:
		in.NodeCount = units / unitsOfNode
	}
	return nil
}

// ListInstancePartitions lists none: an instance has no partitions but the default one, which is not listed.
func (a *instanceService) ListInstancePartitions(_ context.Context, r *instancepb.ListInstancePartitionsRequest) (*instancepb.ListInstancePartitionsResponse, error) {
	if err := a.s.catalog.hasInstance(r.GetParent()); err != nil {
		return nil, err
	}
	return &instancepb.ListInstancePartitionsResponse{}, nil
}

// GetInstancePartition finds none, for the same reason.
func (a *instanceService) GetInstancePartition(_ context.Context, r *instancepb.GetInstancePartitionRequest) (*instancepb.InstancePartition, error) {
	return nil, missing("Instance Partition", "google.spanner.admin.instance.v1.InstancePartition", r.GetName())
}

// ListInstancePartitionOperations lists the operations on an instance's partitions, which are none.
func (a *instanceService) ListInstancePartitionOperations(_ context.Context, r *instancepb.ListInstancePartitionOperationsRequest) (*instancepb.ListInstancePartitionOperationsResponse, error) {
	if err := a.s.catalog.hasInstance(r.GetParent()); err != nil {
		return nil, err
	}
	return &instancepb.ListInstancePartitionOperationsResponse{}, nil
}

// ListInstanceConfigOperations lists the operations on a project's configurations, which are none.
func (a *instanceService) ListInstanceConfigOperations(_ context.Context, r *instancepb.ListInstanceConfigOperationsRequest) (*instancepb.ListInstanceConfigOperationsResponse, error) {
	if !projectName.MatchString(r.GetParent()) {
		return nil, errorf(codes.InvalidArgument, "invalid project name %q", r.GetParent())
	}
	return &instancepb.ListInstanceConfigOperationsResponse{}, nil
}

// ListBackupOperations lists the operations on an instance's backups, which are none.
func (a *databaseService) ListBackupOperations(_ context.Context, r *databasepb.ListBackupOperationsRequest) (*databasepb.ListBackupOperationsResponse, error) {
	if err := a.s.catalog.hasInstance(r.GetParent()); err != nil {
		return nil, err
	}
	return &databasepb.ListBackupOperationsResponse{}, nil
}

// ListBackupSchedules lists none: backups cannot be made here.
func (a *databaseService) ListBackupSchedules(_ context.Context, r *databasepb.ListBackupSchedulesRequest) (*databasepb.ListBackupSchedulesResponse, error) {
	if _, err := a.find(r.GetParent()); err != nil {
		return nil, err
	}
	return &databasepb.ListBackupSchedulesResponse{}, nil
}

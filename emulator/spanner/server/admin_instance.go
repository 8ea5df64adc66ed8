package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// instanceService is InstanceAdmin; methods it lacks answer UNIMPLEMENTED.
type instanceService struct {
	instancepb.UnimplementedInstanceAdminServer
	s *Server
}

const emulatorConfig = "/instanceConfigs/emulator-config"

func configOf(project string) *instancepb.InstanceConfig {
	return &instancepb.InstanceConfig{
		Name: project + emulatorConfig, DisplayName: "Spanledger embedded Spanner",
		ConfigType: instancepb.InstanceConfig_GOOGLE_MANAGED, State: instancepb.InstanceConfig_READY,
	}
}

func (a *instanceService) ListInstanceConfigs(_ context.Context, r *instancepb.ListInstanceConfigsRequest) (*instancepb.ListInstanceConfigsResponse, error) {
	if !projectName.MatchString(r.GetParent()) {
		return nil, errorf(codes.InvalidArgument, "invalid project name %q", r.GetParent())
	}
	names, _, err := page([]string{r.GetParent() + emulatorConfig}, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &instancepb.ListInstanceConfigsResponse{}
	for range names {
		out.InstanceConfigs = append(out.InstanceConfigs, configOf(r.GetParent()))
	}
	return out, nil
}

func (a *instanceService) GetInstanceConfig(_ context.Context, r *instancepb.GetInstanceConfigRequest) (*instancepb.InstanceConfig, error) {
	project, ok := strings.CutSuffix(r.GetName(), emulatorConfig)
	if !ok || !projectName.MatchString(project) {
		return nil, errorf(codes.NotFound, "Instance Config not found: %s", r.GetName())
	}
	return configOf(project), nil
}

func (a *instanceService) CreateInstance(_ context.Context, r *instancepb.CreateInstanceRequest) (*longrunningpb.Operation, error) {
	name := r.GetParent() + "/instances/" + r.GetInstanceId()
	if !instanceName.MatchString(name) {
		return nil, errorf(codes.InvalidArgument, "invalid CreateInstance request: %q is not an instance name (ids have 2 to 64 lower-case letters, digits and hyphens)", name)
	}
	in := &instancepb.Instance{}
	if r.GetInstance() != nil {
		in = proto.Clone(r.GetInstance()).(*instancepb.Instance)
	}
	if err := sized(in); err != nil {
		return nil, err
	}
	in.Name, in.State = name, instancepb.Instance_READY
	in.CreateTime = timestamppb.New(a.s.catalog.clock.Now())
	in.UpdateTime = in.CreateTime
	c := &a.s.catalog
	c.mu.Lock()
	_, dup := c.instances[name]
	if !dup {
		c.instances[name] = in
	}
	c.mu.Unlock()
	if dup {
		return nil, errorf(codes.AlreadyExists, "Instance already exists: %s", name)
	}
	meta := &instancepb.CreateInstanceMetadata{Instance: in, StartTime: in.CreateTime, EndTime: in.CreateTime}
	return a.s.done(name, "", meta, in)
}

// done makes a finished operation and remembers it.
func (s *Server) done(owner, id string, meta, response proto.Message) (*longrunningpb.Operation, error) {
	m, err := anypb.New(meta)
	if err != nil {
		return nil, errorf(codes.Internal, "packing operation metadata: %v", err)
	}
	res, err := anypb.New(response)
	if err != nil {
		return nil, errorf(codes.Internal, "packing operation response: %v", err)
	}
	if id == "" {
		s.catalog.mu.Lock()
		s.catalog.nextOp++
		id = fmt.Sprintf("_auto_%d", s.catalog.nextOp)
		s.catalog.mu.Unlock()
	}
	op := &longrunningpb.Operation{Name: owner + "/operations/" + id, Metadata: m, Done: true, Result: &longrunningpb.Operation_Response{Response: res}}
	s.catalog.finish(op)
	return op, nil
}

func (a *instanceService) GetInstance(_ context.Context, r *instancepb.GetInstanceRequest) (*instancepb.Instance, error) {
	c := &a.s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.instances[r.GetName()]; in != nil {
		return proto.Clone(in).(*instancepb.Instance), nil
	}
	return nil, missingInstance(r.GetName())
}

func (a *instanceService) ListInstances(_ context.Context, r *instancepb.ListInstancesRequest) (*instancepb.ListInstancesResponse, error) {
	if !projectName.MatchString(r.GetParent()) {
		return nil, errorf(codes.InvalidArgument, "invalid project name %q", r.GetParent())
	}
	f, err := parseFilter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	c := &a.s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	found := slices.DeleteFunc(childrenOf(c.instances, r.GetParent()), func(n string) bool {
		in := c.instances[n]
		return !f.matches(map[string]string{"name": n, "display_name": in.GetDisplayName()}, in.GetLabels())
	})
	names, next, err := page(found, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &instancepb.ListInstancesResponse{NextPageToken: next}
	for _, n := range names {
		out.Instances = append(out.Instances, proto.Clone(c.instances[n]).(*instancepb.Instance))
	}
	return out, nil
}

func (a *instanceService) DeleteInstance(_ context.Context, r *instancepb.DeleteInstanceRequest) (*emptypb.Empty, error) {
	if !instanceName.MatchString(r.GetName()) { // a project's name would take all its databases
		return nil, errorf(codes.InvalidArgument, "%q is not an instance name", r.GetName())
	}
	c := &a.s.catalog
	c.mu.Lock()
	for _, n := range childrenOf(c.databases, r.GetName()) {
		if c.databases[n].protected.Load() {
			c.mu.Unlock()
			return nil, errorf(codes.FailedPrecondition, "Cannot delete instance %s because it contains databases with drop protection enabled. Please disable drop protection for all databases in the instance before deleting it.", r.GetName())
		}
	}
	var dropped []*Database
	for _, n := range childrenOf(c.databases, r.GetName()) {
		dropped = append(dropped, c.databases[n])
		delete(c.databases, n)
	}
	delete(c.instances, r.GetName())
	c.mu.Unlock()
	for _, d := range dropped {
		d.log.Close()
	}
	return &emptypb.Empty{}, nil
}

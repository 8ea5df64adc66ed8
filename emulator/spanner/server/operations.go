package server

import (
	"context"
	"slices"
	"strconv"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"
)

// operationService answers for operations, all of which are finished when they are made.
type operationService struct {
	longrunningpb.UnimplementedOperationsServer
	s *Server
}

func (o *operationService) GetOperation(_ context.Context, r *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	c := &o.s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	if op := c.ops[r.GetName()]; op != nil {
		return op, nil
	}
	return nil, errorf(codes.NotFound, "Operation not found: %s", r.GetName())
}

func (o *operationService) WaitOperation(ctx context.Context, r *longrunningpb.WaitOperationRequest) (*longrunningpb.Operation, error) {
	return o.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: r.GetName()})
}

// list lists the operations under a name that a filter lets through.
func (o *operationService) list(name, filter string, size int32, token string) (*longrunningpb.ListOperationsResponse, error) {
	f, err := parseFilter(filter)
	if err != nil {
		return nil, err
	}
	c := &o.s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	found := slices.DeleteFunc(childrenOf(c.ops, name), func(n string) bool {
		op := c.ops[n]
		return !f.matches(map[string]string{
			"name": n, "done": strconv.FormatBool(op.GetDone()),
			"metadata.@type": op.GetMetadata().GetTypeUrl(), "response.@type": op.GetResponse().GetTypeUrl(),
		}, nil)
	})
	names, next, err := page(found, size, token)
	if err != nil {
		return nil, err
	}
	out := &longrunningpb.ListOperationsResponse{NextPageToken: next}
	for _, n := range names {
		out.Operations = append(out.Operations, c.ops[n])
	}
	return out, nil
}

func (o *operationService) ListOperations(_ context.Context, r *longrunningpb.ListOperationsRequest) (*longrunningpb.ListOperationsResponse, error) {
	return o.list(r.GetName(), r.GetFilter(), r.GetPageSize(), r.GetPageToken())
}

// ListDatabaseOperations lists the operations of an instance's databases.
func (a *databaseService) ListDatabaseOperations(_ context.Context, r *databasepb.ListDatabaseOperationsRequest) (*databasepb.ListDatabaseOperationsResponse, error) {
	out, err := a.s.ops.list(r.GetParent()+"/databases", r.GetFilter(), r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &databasepb.ListDatabaseOperationsResponse{Operations: out.Operations, NextPageToken: out.NextPageToken}, nil
}

// CancelOperation does nothing, since every operation is finished.
func (o *operationService) CancelOperation(ctx context.Context, r *longrunningpb.CancelOperationRequest) (*emptypb.Empty, error) {
	if _, err := o.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: r.GetName()}); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (o *operationService) DeleteOperation(_ context.Context, r *longrunningpb.DeleteOperationRequest) (*emptypb.Empty, error) {
	c := &o.s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.ops[r.GetName()]; !ok {
		return nil, errorf(codes.NotFound, "Operation not found: %s", r.GetName())
	}
	delete(c.ops, r.GetName())
	return &emptypb.Empty{}, nil
}

package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

const instance = "projects/p/instances/differential"

// server is one of the two, by its gRPC stubs: no client library stands between, with retries of its own.
type server struct {
	name       string
	conn       *grpc.ClientConn
	spanner    sppb.SpannerClient
	databases  databasepb.DatabaseAdminClient
	operations longrunningpb.OperationsClient
}

func dial(ctx context.Context, name, addr string) (*server, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	s := &server{name: name, conn: conn, spanner: sppb.NewSpannerClient(conn),
		databases: databasepb.NewDatabaseAdminClient(conn), operations: longrunningpb.NewOperationsClient(conn)}
	op, err := instancepb.NewInstanceAdminClient(conn).CreateInstance(ctx, &instancepb.CreateInstanceRequest{
		Parent: "projects/p", InstanceId: "differential",
		Instance: &instancepb.Instance{Config: "projects/p/instanceConfigs/emulator-config", DisplayName: "differential", NodeCount: 1},
	})
	if err = s.wait(ctx, op, err); err != nil {
		return nil, errors.Join(fmt.Errorf("create %s on %s: %w", instance, name, err), conn.Close())
	}
	return s, nil
}

// wait waits for a long-running operation and returns its error.
func (s *server) wait(ctx context.Context, op *longrunningpb.Operation, err error) error {
	for err == nil && !op.GetDone() {
		time.Sleep(time.Millisecond) // the only way to wait: WaitOperation is not served
		op, err = s.operations.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: op.GetName()})
	}
	if err != nil {
		return err
	}
	return status.ErrorProto(op.GetError())
}

func (s *server) createDatabase(ctx context.Context, id string, statements []string) error {
	op, err := s.databases.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{
		Parent: instance, CreateStatement: "CREATE DATABASE `" + id + "`", ExtraStatements: statements,
	})
	return s.wait(ctx, op, err)
}

// table is a result set.
type table struct {
	columns []string
	types   []*sppb.Type
	rows    [][]any
	count   int64     // rows changed by DML
	at      time.Time // read timestamp, if asked for
}

// execute runs a statement to its end.
func (s *server) execute(ctx context.Context, req *sppb.ExecuteSqlRequest) (*table, error) {
	stream, err := s.spanner.ExecuteStreamingSql(ctx, req)
	if err != nil {
		return nil, err
	}
	return collect(stream)
}

// read reads a whole table in key order.
func (s *server) read(ctx context.Context, session, name string, columns []string) (*table, error) {
	stream, err := s.spanner.StreamingRead(ctx, &sppb.ReadRequest{
		Session: session, Transaction: singleUse(), Table: name, Columns: columns, KeySet: &sppb.KeySet{All: true},
	})
	if err != nil {
		return nil, err
	}
	return collect(stream)
}

func singleUse() *sppb.TransactionSelector {
	return &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_SingleUse{SingleUse: &sppb.TransactionOptions{
		Mode: &sppb.TransactionOptions_ReadOnly_{ReadOnly: &sppb.TransactionOptions_ReadOnly{
			TimestampBound: &sppb.TransactionOptions_ReadOnly_Strong{Strong: true}}},
	}}}
}

func collect(stream grpc.ServerStreamingClient[sppb.PartialResultSet]) (*table, error) {
	var out table
	var flat []*structpb.Value
	chunked := false
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if at := part.GetMetadata().GetTransaction().GetReadTimestamp(); at != nil {
			out.at = at.AsTime()
		}
		for _, f := range part.GetMetadata().GetRowType().GetFields() {
			out.columns = append(out.columns, f.GetName())
			out.types = append(out.types, f.GetType())
		}
		values := part.GetValues()
		if chunked && len(values) > 0 {
			flat[len(flat)-1] = merge(flat[len(flat)-1], values[0])
			values = values[1:]
		}
		flat = append(flat, values...)
		chunked = part.GetChunkedValue()
		out.count += part.GetStats().GetRowCountExact() + part.GetStats().GetRowCountLowerBound()
	}
	width := len(out.types)
	if width == 0 {
		return &out, nil
	}
	if len(flat)%width != 0 {
		return nil, fmt.Errorf("a result of %d columns has %d values", width, len(flat))
	}
	for ; len(flat) > 0; flat = flat[width:] {
		row := make([]any, width)
		for i := range row {
			row[i] = decode(out.types[i], flat[i])
		}
		out.rows = append(out.rows, row)
	}
	return &out, nil
}

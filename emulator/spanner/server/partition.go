package server

import (
	"bytes"
	"context"
	"crypto/sha256"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// A partitioned read or query has one partition here: the data is in one process. Its token is a digest of the request,
// so that a token cannot be used for another one.

func readDigest(r *sppb.ReadRequest) []byte {
	return digest(&sppb.PartitionReadRequest{Table: r.GetTable(), Index: r.GetIndex(), Columns: r.GetColumns(), KeySet: r.GetKeySet()})
}

func queryDigest(r *sppb.ExecuteSqlRequest) []byte {
	return digest(&sppb.PartitionQueryRequest{Sql: r.GetSql(), Params: r.GetParams(), ParamTypes: r.GetParamTypes()})
}

func digest(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Only text that is not UTF-8 cannot be marshalled, and the request was unmarshalled: any constant will do.
		b = nil
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

func checkPartition(token, want []byte) error {
	if len(token) > 0 && !bytes.Equal(token, want) {
		return errorf(codes.InvalidArgument, "the partition token belongs to another request")
	}
	return nil
}

func (a *dataService) PartitionRead(ctx context.Context, r *sppb.PartitionReadRequest) (*sppb.PartitionResponse, error) {
	read := &sppb.ReadRequest{Table: r.GetTable(), Index: r.GetIndex(), Columns: r.GetColumns(), KeySet: r.GetKeySet()}
	return a.partition(ctx, r.GetSession(), r.GetTransaction(), readDigest(read), func(src *source) error {
		_, err := planRead(src.reader.Schema(), read)
		return err
	})
}

func (a *dataService) PartitionQuery(ctx context.Context, r *sppb.PartitionQueryRequest) (*sppb.PartitionResponse, error) {
	query := &sppb.ExecuteSqlRequest{Sql: r.GetSql(), Params: r.GetParams(), ParamTypes: r.GetParamTypes()}
	return a.partition(ctx, r.GetSession(), r.GetTransaction(), queryDigest(query), func(src *source) error {
		_, err := prepareQuery(query, src, 0)
		return err
	})
}

func (a *dataService) partition(ctx context.Context, session string, sel *sppb.TransactionSelector, token []byte, check func(*source) error) (*sppb.PartitionResponse, error) {
	ses, err := a.s.session(session)
	if err != nil {
		return nil, err
	}
	switch sel.GetSelector().(type) {
	case *sppb.TransactionSelector_Begin, *sppb.TransactionSelector_Id:
	default:
		return nil, errorf(codes.InvalidArgument, "partitions need a read-only transaction that is not single-use")
	}
	src, err := ses.resolve(ctx, sel, "")
	if err != nil {
		return nil, err
	}
	if src.snapshot == nil {
		src.fail(ses.db)
		return nil, errorf(codes.InvalidArgument, "partitions need a read-only transaction")
	}
	if err := check(src); err != nil {
		return nil, wire(err)
	}
	return &sppb.PartitionResponse{Partitions: []*sppb.Partition{{PartitionToken: token}}, Transaction: src.meta}, nil
}

package server

import (
	"bytes"
	"context"
	"crypto/sha256"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// A partitioned read or query deals its rows out to the partitions in turn: row i goes to partition i modulo their
// number. Each partition computes the whole result, which is the same for all since they share a snapshot; that is more
// work than to cut the key space, but right for every query. A token begins with a digest of its request, so that it
// cannot be used for another one.

const (
	// usualPartitions is how many partitions there are unless the client wants fewer or more, mostPartitions the limit.
	usualPartitions = 4
	mostPartitions  = 16
)

// partition is one of the partitions of a result; the zero value is the whole result.
type partition struct{ index, count int64 }

// has reports whether the n-th row, counted from 1, is the partition's.
func (p partition) has(n int64) bool { return p.count == 0 || (n-1)%p.count == p.index }

// parsePartition reads a partition token, which may be empty and must be of the request with this digest.
func parsePartition(token, digest []byte) (p partition, err error) {
	if len(token) == 0 {
		return p, nil
	}
	rest, ok := bytes.CutPrefix(token, digest)
	if !ok || len(rest) != 2 || rest[0] >= rest[1] || rest[1] > mostPartitions {
		return p, errorf(codes.InvalidArgument, "the partition token belongs to another request")
	}
	return partition{int64(rest[0]), int64(rest[1])}, nil
}

func partitionTokens(o *sppb.PartitionOptions, digest []byte) (out []*sppb.Partition, err error) {
	if o.GetMaxPartitions() < 0 || o.GetPartitionSizeBytes() < 0 {
		return nil, errorf(codes.InvalidArgument, "max_partitions and partition_size_bytes must not be negative")
	}
	n := o.GetMaxPartitions()
	if n == 0 {
		n = usualPartitions
	}
	n = min(n, mostPartitions)
	for i := range n {
		out = append(out, &sppb.Partition{PartitionToken: append(bytes.Clone(digest), byte(i), byte(n))})
	}
	return out, nil
}

func readDigest(r *sppb.ReadRequest) []byte {
	return digest(&sppb.PartitionReadRequest{Table: r.GetTable(), Index: r.GetIndex(), Columns: r.GetColumns(), KeySet: r.GetKeySet()})
}

func queryDigest(r *sppb.ExecuteSqlRequest) []byte {
	return digest(&sppb.PartitionQueryRequest{Sql: r.GetSql(), Params: r.GetParams(), ParamTypes: r.GetParamTypes()})
}

func batchDigest(r *sppb.ExecuteBatchDmlRequest) []byte {
	return digest(&sppb.ExecuteBatchDmlRequest{Statements: r.GetStatements()})
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

func (a *dataService) PartitionRead(ctx context.Context, r *sppb.PartitionReadRequest) (*sppb.PartitionResponse, error) {
	read := &sppb.ReadRequest{Table: r.GetTable(), Index: r.GetIndex(), Columns: r.GetColumns(), KeySet: r.GetKeySet()}
	return a.partition(ctx, r.GetSession(), r.GetTransaction(), r.GetPartitionOptions(), readDigest(read), func(src *source) error {
		_, err := planRead(src.reader.Schema(), src.access, read)
		return err
	})
}

func (a *dataService) PartitionQuery(ctx context.Context, r *sppb.PartitionQueryRequest) (*sppb.PartitionResponse, error) {
	query := &sppb.ExecuteSqlRequest{Sql: r.GetSql(), Params: r.GetParams(), ParamTypes: r.GetParamTypes()}
	return a.partition(ctx, r.GetSession(), r.GetTransaction(), r.GetPartitionOptions(), queryDigest(query), func(src *source) error {
		_, err := prepareQuery(query, src, 0)
		return err
	})
}

func (a *dataService) partition(ctx context.Context, session string, sel *sppb.TransactionSelector, o *sppb.PartitionOptions, digest []byte, check func(*source) error) (*sppb.PartitionResponse, error) {
	ses, access, err := a.s.using(session)
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
	defer src.release(ses.db)
	if src.snapshot == nil {
		src.fail(ses.db)
		return nil, errorf(codes.InvalidArgument, "partitions need a read-only transaction")
	}
	src.access = access
	if err := check(src); err != nil {
		return nil, wire(err)
	}
	parts, err := partitionTokens(o, digest)
	if err != nil {
		return nil, err
	}
	return &sppb.PartitionResponse{Partitions: parts, Transaction: src.meta}, nil
}

package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// A partitioned read or query deals its rows out to the partitions in turn: row i goes to partition i modulo their
// number. Each partition computes the whole result, which is the same for all since they share a snapshot; that is more
// work than to cut the key space, but right for every query. A token names its request, session and transaction by their
// digests, so that it cannot be used for others.

const (
	// usualPartitions is how many partitions there are unless the client wants fewer or more, mostPartitions the limit.
	usualPartitions = 4
	mostPartitions  = 16
	// mark is how much of a digest a token holds, in bytes.
	mark = 8
)

// partition is one of the partitions of a result; the zero value is the whole result.
type partition struct{ index, count int64 }

// has reports whether the n-th row, counted from 1, is the partition's.
func (p partition) has(n int64) bool { return p.count == 0 || (n-1)%p.count == p.index }

// tokenMarks are what the tokens of a request's partitions begin with: the marks of the session, the transaction and the
// request.
func tokenMarks(session string, transaction, digest []byte) []byte {
	ses, txn := sha256.Sum256([]byte(session)), sha256.Sum256(transaction)
	return slices.Concat(ses[:mark], txn[:mark], digest[:mark])
}

// parsePartition reads a partition token, which may be empty and must be of this session, transaction and request.
func parsePartition(token []byte, session string, sel *sppb.TransactionSelector, digest []byte) (p partition, err error) {
	if len(token) == 0 {
		return p, nil
	}
	if len(token) != 3*mark+2 || token[3*mark] >= token[3*mark+1] || token[3*mark+1] > mostPartitions {
		return p, errorf(codes.InvalidArgument, "Invalid partition token.")
	}
	want := tokenMarks(session, sel.GetId(), digest)
	for i, what := range []string{"a different session", "a different transaction", "different read or sql parameters"} {
		if !bytes.Equal(token[i*mark:(i+1)*mark], want[i*mark:(i+1)*mark]) {
			return p, errorf(codes.InvalidArgument, "Partitioned request was created for %s.", what)
		}
	}
	return partition{int64(token[3*mark]), int64(token[3*mark+1])}, nil
}

func partitionTokens(o *sppb.PartitionOptions, marks []byte) (out []*sppb.Partition, err error) {
	if o.GetPartitionSizeBytes() < 0 {
		return nil, errorf(codes.InvalidArgument, "Invalid partition_options: bytes per batch must be greater than zero.")
	}
	if o.GetMaxPartitions() < 0 {
		return nil, errorf(codes.InvalidArgument, "Invalid partition_options: max partition count must be greater than zero.")
	}
	n := o.GetMaxPartitions()
	if n == 0 {
		n = usualPartitions
	}
	n = min(n, mostPartitions)
	for i := range n {
		out = append(out, &sppb.Partition{PartitionToken: slices.Concat(marks, []byte{byte(i), byte(n)})})
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
	case nil:
		return nil, errorf(codes.InvalidArgument, "No value provided for required field: TransactionSelector.selector")
	default:
		return nil, errorf(codes.InvalidArgument, "Partition reads may not be performed in single-use transactions, since the response needs to be reused.")
	}
	src, err := ses.resolve(ctx, sel, "")
	if err != nil {
		return nil, err
	}
	defer src.release(ses.db)
	if src.snapshot == nil {
		src.fail(ses.db)
		return nil, errorf(codes.InvalidArgument, "Partitioned reads can only be performed in a read-only transaction.")
	}
	src.access = access
	if err := check(src); err != nil {
		return nil, wire(err)
	}
	id := sel.GetId()
	if src.meta != nil {
		id = src.meta.GetId()
	}
	parts, err := partitionTokens(o, tokenMarks(session, id, digest))
	if err != nil {
		return nil, err
	}
	return &sppb.PartitionResponse{Partitions: parts, Transaction: src.meta}, nil
}

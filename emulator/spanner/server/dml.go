package server

import (
	"context"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// streamDML answers a DML statement as a stream, whose rows, those of THEN RETURN, can be resumed like a query's: the
// statement itself is known by its seqno and does not run again.
func (a *dataService) streamDML(ctx context.Context, ses *session, access *store.Access, r *sppb.ExecuteSqlRequest, st *sql.Statement, send func(*sppb.PartialResultSet) error) error {
	digest := queryDigest(r)
	pos := newPosition(digest)
	if len(r.GetResumeToken()) > 0 {
		var err error
		if pos, err = parsePosition(r.GetResumeToken(), digest); err != nil {
			return err
		}
	}
	res, err := a.dml(ctx, ses, access, r, st)
	if err != nil {
		return err
	}
	f := frames{send: send, meta: res.Metadata, token: res.PrecommitToken, pos: pos, skip: pos.rows}
	for _, row := range res.Rows {
		if err := f.row(row.GetValues()); err != nil {
			return err
		}
	}
	return f.finish(res.Stats)
}

// dml runs one DML statement of a read-write or partitioned transaction.
func (a *dataService) dml(ctx context.Context, ses *session, access *store.Access, r *sppb.ExecuteSqlRequest, st *sql.Statement) (*sppb.ResultSet, error) {
	src, err := ses.resolve(ctx, r.GetTransaction(), r.GetRequestOptions().GetTransactionTag())
	if err != nil {
		return nil, err
	}
	defer src.release(ses.db)
	src.access = access
	out, err := src.dml(ctx, ses.db, r, st)
	if err != nil {
		src.fail(ses.db)
		return nil, wire(err)
	}
	return out, nil
}

func (s *source) dml(ctx context.Context, d *Database, r *sppb.ExecuteSqlRequest, st *sql.Statement) (*sppb.ResultSet, error) {
	if r.GetQueryMode() == sppb.ExecuteSqlRequest_PLAN {
		return nil, errorf(codes.Unimplemented, "the embedded Spanner does not support the query mode PLAN for DML statements")
	}
	if err := s.direct(r.GetDirectedReadOptions()); err != nil {
		return nil, err
	}
	ps, err := params(r.GetParams(), r.GetParamTypes())
	if err != nil {
		return nil, err
	}
	if t := s.partitioned; t != nil {
		return t.once(r.GetSeqno(), queryDigest(r), func() (*sppb.ResultSet, error) {
			out, err := d.partitionedDML(ctx, st, ps, s.access, t.excluded)
			if err != nil {
				return nil, wire(err)
			}
			out.Metadata.Transaction = s.meta
			return out, nil
		})
	}
	t := s.txn
	if t == nil {
		return nil, errorf(codes.InvalidArgument, "DML statements can only be executed in a read-write or partitioned transaction")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	answer, err := t.once(r.GetSeqno(), queryDigest(r), func() (proto.Message, error) {
		out, err := d.runDML(ctx, t, st, ps, s.access)
		if err != nil {
			return nil, wire(err)
		}
		t.last = r.GetLastStatement()
		out.Metadata.Transaction, out.PrecommitToken = s.meta, t.precommitToken()
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	return asked[*sppb.ResultSet](answer)
}

// asked is a remembered answer, unless the client has given two kinds of requests one seqno.
func asked[M proto.Message](answer proto.Message) (M, error) {
	m, ok := answer.(M)
	if !ok {
		return m, errorf(codes.InvalidArgument, "Previously received a different request with this seqno.")
	}
	return m, nil
}

// runDML runs a statement in an open transaction whose mu the caller holds.
func (d *Database) runDML(ctx context.Context, t *transaction, st *sql.Statement, ps map[string]sql.Param, access *store.Access) (*sppb.ResultSet, error) {
	res, err := st.Execute(ctx, t.txn, sql.Env{Reader: t.txn, Params: ps, Now: d.clock.Now(), Access: access})
	if err != nil {
		return nil, err
	}
	out := &sppb.ResultSet{
		Metadata: &sppb.ResultSetMetadata{RowType: rowType(res.Columns)},
		Stats:    &sppb.ResultSetStats{RowCount: &sppb.ResultSetStats_RowCountExact{RowCountExact: res.RowCount}},
	}
	for _, row := range res.Rows {
		out.Rows = append(out.Rows, &structpb.ListValue{Values: encodeRow(res.Columns, row)})
	}
	return out, nil
}

// partitionedDML runs a statement in a transaction of its own, with nothing else committing meanwhile: Spanner does it
// piece by piece under locks, and a busy table must not keep it from ending.
func (d *Database) partitionedDML(ctx context.Context, st *sql.Statement, ps map[string]sql.Param, access *store.Access, excluded bool) (*sppb.ResultSet, error) {
	if err := st.Partitionable(d.store.Schema()); err != nil {
		return nil, err
	}
	var rows int64
	_, err := d.store.Alone(store.TxnOptions{NoLimits: true}, func(t *store.Txn) (store.CommitRequest, error) {
		res, err := st.Execute(ctx, t, sql.Env{Reader: t, Params: ps, Now: d.clock.Now(), Access: access})
		if err == nil {
			rows = res.RowCount
		}
		return store.CommitRequest{Excluded: excluded}, err
	})
	if err != nil {
		return nil, err
	}
	return &sppb.ResultSet{
		Metadata: &sppb.ResultSetMetadata{RowType: rowType(nil)},
		Stats:    &sppb.ResultSetStats{RowCount: &sppb.ResultSetStats_RowCountLowerBound{RowCountLowerBound: rows}},
	}, nil
}

// ExecuteBatchDml runs DML statements in order up to the first that fails.
func (a *dataService) ExecuteBatchDml(ctx context.Context, r *sppb.ExecuteBatchDmlRequest) (*sppb.ExecuteBatchDmlResponse, error) {
	ses, access, err := a.s.using(r.GetSession())
	if err != nil {
		return nil, err
	}
	if len(r.GetStatements()) == 0 {
		return nil, errorf(codes.InvalidArgument, "ExecuteBatchDml needs at least one statement")
	}
	src, err := ses.resolve(ctx, r.GetTransaction(), r.GetRequestOptions().GetTransactionTag())
	if err != nil {
		return nil, err
	}
	defer src.release(ses.db)
	if src.txn == nil {
		return nil, errorf(codes.InvalidArgument, "DML statements can only be executed in a read-write transaction")
	}
	src.access = access
	t := src.txn
	t.mu.Lock()
	defer t.mu.Unlock()
	answer, err := t.once(r.GetSeqno(), batchDigest(r), func() (proto.Message, error) {
		return src.batch(ctx, ses.db, r)
	})
	if err != nil {
		src.fail(ses.db)
		return nil, wire(err)
	}
	return asked[*sppb.ExecuteBatchDmlResponse](answer)
}

// batch runs the statements of a batch. The caller holds the transaction's mu.
func (s *source) batch(ctx context.Context, d *Database, r *sppb.ExecuteBatchDmlRequest) (*sppb.ExecuteBatchDmlResponse, error) {
	out := &sppb.ExecuteBatchDmlResponse{Status: status.New(codes.OK, "").Proto()}
	for _, one := range r.GetStatements() {
		res, err := d.batchStatement(ctx, s.txn, one, s.access)
		if err != nil {
			st := status.Convert(wire(err))
			if st.Code() == codes.Aborted || len(out.ResultSets) == 0 && s.fresh {
				// The transaction is not usable, or its id could not be told: the call itself fails.
				return nil, st.Err()
			}
			out.Status = st.Proto()
			break
		}
		if len(out.ResultSets) == 0 {
			res.Metadata.Transaction = s.meta
		}
		out.ResultSets = append(out.ResultSets, res)
	}
	s.txn.last = r.GetLastStatements() && len(out.ResultSets) == len(r.GetStatements())
	out.PrecommitToken = s.txn.precommitToken()
	return out, nil
}

func (d *Database) batchStatement(ctx context.Context, t *transaction, s *sppb.ExecuteBatchDmlRequest_Statement, access *store.Access) (*sppb.ResultSet, error) {
	st, err := sql.ParseIn(d.store.Schema(), s.GetSql())
	if err != nil {
		return nil, err
	}
	if st.Kind() != sql.DML {
		return nil, errorf(codes.InvalidArgument, "ExecuteBatchDml takes DML statements only, not %.60q", s.GetSql())
	}
	ps, err := params(s.GetParams(), s.GetParamTypes())
	if err != nil {
		return nil, err
	}
	return d.runDML(ctx, t, st, ps, access)
}

package server

import (
	"context"
	"errors"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// params reads a statement's parameters. One without a type takes it from its use, so it stays text.
func params(in *structpb.Struct, types map[string]*sppb.Type) (map[string]sql.Param, error) {
	out := make(map[string]sql.Param, len(in.GetFields()))
	for name, p := range in.GetFields() {
		t := types[name]
		if t.GetCode() == sppb.TypeCode_TYPE_CODE_UNSPECIFIED {
			untyped, err := untypedParam(name, p)
			if err != nil {
				return nil, err
			}
			out[name] = untyped
			continue
		}
		st, err := typeOf(t, 0)
		if err != nil {
			return nil, err
		}
		v, err := decode(st, p)
		if err != nil {
			return nil, errorf(codes.InvalidArgument, "Invalid value for bind parameter %s: %v", name, err)
		}
		out[name] = sql.Param{Type: st, Value: v}
	}
	return out, nil
}

func untypedParam(name string, p *structpb.Value) (sql.Param, error) {
	t := &store.Type{Code: store.String}
	switch p.GetKind().(type) {
	case *structpb.Value_NullValue:
		return sql.Param{Untyped: true}, nil
	case *structpb.Value_BoolValue:
		t = &store.Type{Code: store.Bool}
	case *structpb.Value_NumberValue:
		t = &store.Type{Code: store.Float64}
	case *structpb.Value_StringValue:
	default:
		return sql.Param{}, errorf(codes.InvalidArgument, "bind parameter %s has no type: param_types must name one", name)
	}
	v, err := decode(t, p)
	return sql.Param{Type: t, Value: v, Untyped: true}, err
}

func prepareQuery(r *sppb.ExecuteSqlRequest, src *source, now int64) (*sql.Plan, error) {
	st, err := sql.ParseIn(src.reader.Schema(), r.GetSql())
	if err != nil {
		return nil, err
	}
	if st.Kind() != sql.Query {
		return nil, errorf(codes.InvalidArgument, "only queries can be partitioned")
	}
	ps, err := params(r.GetParams(), r.GetParamTypes())
	if err != nil {
		return nil, err
	}
	return st.Prepare(sql.Env{Reader: src.reader, Params: ps, Now: time.UnixMicro(now)})
}

// ExecuteStreamingSql runs a query, a DML statement or a change-stream query.
func (a *dataService) ExecuteStreamingSql(r *sppb.ExecuteSqlRequest, stream sppb.Spanner_ExecuteStreamingSqlServer) error {
	ctx := stream.Context()
	ses, err := a.s.session(r.GetSession())
	if err != nil {
		return err
	}
	st, err := parseStatement(ses.db, r)
	if err != nil {
		return wire(err)
	}
	switch st.Kind() {
	case sql.ChangeStream:
		return wire(a.changeStream(ctx, ses, r, st, stream))
	case sql.DML:
		res, err := a.dml(ctx, ses, r, st)
		if err != nil {
			return err
		}
		f := frames{send: stream.Send, meta: res.Metadata}
		for _, row := range res.Rows {
			if err := f.row(row.GetValues()); err != nil {
				return err
			}
		}
		return f.finish(res.Stats)
	}
	return a.query(ctx, ses, r, st, stream.Send)
}

func parseStatement(d *Database, r *sppb.ExecuteSqlRequest) (*sql.Statement, error) {
	switch r.GetQueryMode() {
	case sppb.ExecuteSqlRequest_NORMAL, sppb.ExecuteSqlRequest_PROFILE, sppb.ExecuteSqlRequest_WITH_STATS, sppb.ExecuteSqlRequest_WITH_PLAN_AND_STATS:
	default:
		return nil, errorf(codes.Unimplemented, "the embedded Spanner does not support the query mode %v: it has no query plans", r.GetQueryMode())
	}
	return sql.ParseIn(d.store.Schema(), r.GetSql())
}

// ExecuteSql runs a query or a DML statement in one answer.
func (a *dataService) ExecuteSql(ctx context.Context, r *sppb.ExecuteSqlRequest) (*sppb.ResultSet, error) {
	ses, err := a.s.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	st, err := parseStatement(ses.db, r)
	if err != nil {
		return nil, wire(err)
	}
	switch st.Kind() {
	case sql.ChangeStream:
		return nil, errorf(codes.InvalidArgument, "Change stream queries are not supported for the ExecuteSql API. Use ExecuteStreamingSql with a single-use strong read-only transaction.")
	case sql.DML:
		return a.dml(ctx, ses, r, st)
	}
	var out resultSet
	if err := a.query(ctx, ses, r, st, out.add); err != nil {
		return nil, err
	}
	return &out.ResultSet, nil
}

func (a *dataService) query(ctx context.Context, ses *session, r *sppb.ExecuteSqlRequest, st *sql.Statement, send func(*sppb.PartialResultSet) error) error {
	pos, src, err := ses.resume(ctx, r.GetTransaction(), r.GetRequestOptions().GetTransactionTag(), r.GetResumeToken())
	if err != nil {
		return err
	}
	if err = checkPartition(r.GetPartitionToken(), queryDigest(r)); err == nil {
		err = a.runQuery(ctx, r, st, pos, src, send)
	}
	if err != nil {
		src.fail(ses.db)
	}
	return wire(err)
}

func (a *dataService) runQuery(ctx context.Context, r *sppb.ExecuteSqlRequest, st *sql.Statement, pos position, src *source, send func(*sppb.PartialResultSet) error) error {
	if src.partitioned {
		return errorf(codes.InvalidArgument, "a partitioned DML transaction cannot run queries")
	}
	ps, err := params(r.GetParams(), r.GetParamTypes())
	if err != nil {
		return err
	}
	plan, err := st.Prepare(sql.Env{Reader: src.reader, Params: ps, Now: time.UnixMicro(pos.now)})
	if err != nil {
		return err
	}
	fields := plan.Columns()
	f := frames{send: send, pos: pos, skip: pos.rows, meta: &sppb.ResultSetMetadata{RowType: rowType(fields), Transaction: src.meta}}
	err = plan.Run(ctx, func(row []store.Value) error {
		return f.row(encodeRow(fields, row))
	})
	if err != nil {
		return err
	}
	var stats *sppb.ResultSetStats
	if r.GetQueryMode() != sppb.ExecuteSqlRequest_NORMAL {
		qs, err := structpb.NewStruct(map[string]any{"rows_returned": float64(f.pos.rows), "query_text": r.GetSql()})
		if err != nil {
			return errorf(codes.Internal, "query statistics: %v", err)
		}
		stats = &sppb.ResultSetStats{QueryStats: qs}
	}
	return f.finish(stats)
}

func encodeRow(fields []store.Field, row []store.Value) []*structpb.Value {
	values := make([]*structpb.Value, len(fields))
	for i, fl := range fields {
		values[i] = encode(fl.Type, row[i])
	}
	return values
}

// dml runs one DML statement of a read-write or partitioned transaction.
func (a *dataService) dml(ctx context.Context, ses *session, r *sppb.ExecuteSqlRequest, st *sql.Statement) (*sppb.ResultSet, error) {
	src, err := ses.resolve(ctx, r.GetTransaction(), r.GetRequestOptions().GetTransactionTag())
	if err != nil {
		return nil, err
	}
	ps, err := params(r.GetParams(), r.GetParamTypes())
	if err != nil {
		src.fail(ses.db)
		return nil, wire(err)
	}
	if src.partitioned {
		return ses.db.partitionedDML(ctx, st, ps, src.excluded)
	}
	if src.txn == nil {
		return nil, errorf(codes.InvalidArgument, "DML statements can only be executed in a read-write or partitioned transaction")
	}
	t := src.txn
	t.mu.Lock()
	defer t.mu.Unlock()
	if done := t.replies[r.GetSeqno()]; done != nil && r.GetSeqno() != 0 {
		return done, nil
	}
	out, err := ses.db.runDML(ctx, t, st, ps)
	if err != nil {
		src.fail(ses.db)
		return nil, wire(err)
	}
	out.Metadata.Transaction = src.meta
	if t.replies == nil {
		t.replies = map[int64]*sppb.ResultSet{}
	}
	t.replies[r.GetSeqno()] = out
	return out, nil
}

func (d *Database) runDML(ctx context.Context, t *transaction, st *sql.Statement, ps map[string]sql.Param) (*sppb.ResultSet, error) {
	res, err := st.Execute(ctx, t.txn, sql.Env{Reader: t.txn, Params: ps, Now: d.clock.Now()})
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

// partitionedDML runs a statement in a transaction of its own, again while it is aborted.
func (d *Database) partitionedDML(ctx context.Context, st *sql.Statement, ps map[string]sql.Param, excluded bool) (*sppb.ResultSet, error) {
	if !st.Partitionable() {
		return nil, errorf(codes.InvalidArgument, "only UPDATE and DELETE statements without THEN RETURN can run as partitioned DML")
	}
	for {
		t := d.store.Begin()
		res, err := st.Execute(ctx, t, sql.Env{Reader: t, Params: ps, Now: d.clock.Now()})
		if err == nil {
			_, err = t.Commit(store.CommitRequest{Excluded: excluded})
		}
		var se *store.Error
		if errors.As(err, &se) && se.Code == codes.Aborted && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, wire(err)
		}
		return &sppb.ResultSet{
			Metadata: &sppb.ResultSetMetadata{RowType: rowType(nil)},
			Stats:    &sppb.ResultSetStats{RowCount: &sppb.ResultSetStats_RowCountLowerBound{RowCountLowerBound: res.RowCount}},
		}, nil
	}
}

// ExecuteBatchDml runs DML statements in order up to the first that fails.
func (a *dataService) ExecuteBatchDml(ctx context.Context, r *sppb.ExecuteBatchDmlRequest) (*sppb.ExecuteBatchDmlResponse, error) {
	ses, err := a.s.session(r.GetSession())
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
	if src.txn == nil {
		return nil, errorf(codes.InvalidArgument, "DML statements can only be executed in a read-write transaction")
	}
	t := src.txn
	t.mu.Lock()
	defer t.mu.Unlock()
	if done := t.batches[r.GetSeqno()]; done != nil && r.GetSeqno() != 0 {
		return done, nil
	}
	out := &sppb.ExecuteBatchDmlResponse{Status: status.New(codes.OK, "").Proto()}
	for _, s := range r.GetStatements() {
		res, err := a.batchStatement(ctx, ses, t, s)
		if err != nil {
			st := status.Convert(wire(err))
			if st.Code() == codes.Aborted || len(out.ResultSets) == 0 && src.fresh {
				// The transaction is not usable, or its id could not be told: the call itself fails.
				src.fail(ses.db)
				return nil, st.Err()
			}
			out.Status = st.Proto()
			break
		}
		if len(out.ResultSets) == 0 {
			res.Metadata.Transaction = src.meta
		}
		out.ResultSets = append(out.ResultSets, res)
	}
	if t.batches == nil {
		t.batches = map[int64]*sppb.ExecuteBatchDmlResponse{}
	}
	t.batches[r.GetSeqno()] = out
	return out, nil
}

func (a *dataService) batchStatement(ctx context.Context, ses *session, t *transaction, s *sppb.ExecuteBatchDmlRequest_Statement) (*sppb.ResultSet, error) {
	st, err := sql.ParseIn(ses.db.store.Schema(), s.GetSql())
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
	return ses.db.runDML(ctx, t, st, ps)
}

package server

import (
	"context"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
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
	if err := st.RootPartitionable(src.reader.Schema()); err != nil {
		return nil, err
	}
	ps, err := params(r.GetParams(), r.GetParamTypes())
	if err != nil {
		return nil, err
	}
	return st.Prepare(sql.Env{Reader: src.reader, Params: ps, Now: time.UnixMicro(now), Access: src.access})
}

// ExecuteStreamingSql runs a query, a DML statement or a change-stream query.
func (a *dataService) ExecuteStreamingSql(r *sppb.ExecuteSqlRequest, stream sppb.Spanner_ExecuteStreamingSqlServer) error {
	ctx := stream.Context()
	ses, access, err := a.s.using(r.GetSession())
	if err != nil {
		return err
	}
	st, err := parseStatement(ses.db, r)
	if err != nil {
		return wire(err)
	}
	switch st.Kind() {
	case sql.ChangeStream:
		return wire(a.changeStream(ctx, ses, access, r, st, stream))
	case sql.DML:
		return a.streamDML(ctx, ses, access, r, st, stream.Send)
	}
	return a.query(ctx, ses, access, r, st, stream.Send)
}

func parseStatement(d *Database, r *sppb.ExecuteSqlRequest) (*sql.Statement, error) {
	if _, ok := sppb.ExecuteSqlRequest_QueryMode_name[int32(r.GetQueryMode())]; !ok {
		return nil, errorf(codes.InvalidArgument, "the query mode %v is not known", r.GetQueryMode())
	}
	if r.GetDataBoostEnabled() && len(r.GetPartitionToken()) == 0 {
		return nil, errorf(codes.InvalidArgument, "data_boost_enabled needs a partition token")
	}
	return sql.ParseIn(d.store.Schema(), r.GetSql())
}

// ExecuteSql runs a query or a DML statement in one answer.
func (a *dataService) ExecuteSql(ctx context.Context, r *sppb.ExecuteSqlRequest) (*sppb.ResultSet, error) {
	ses, access, err := a.s.using(r.GetSession())
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
		return a.dml(ctx, ses, access, r, st)
	}
	var out resultSet
	if err := a.query(ctx, ses, access, r, st, out.add); err != nil {
		return nil, err
	}
	return &out.ResultSet, nil
}

func (a *dataService) query(ctx context.Context, ses *session, access *store.Access, r *sppb.ExecuteSqlRequest, st *sql.Statement, send func(*sppb.PartialResultSet) error) error {
	digest := queryDigest(r)
	part, err := parsePartition(r.GetPartitionToken(), r.GetSession(), r.GetTransaction(), digest)
	if err != nil {
		return err
	}
	if len(r.GetPartitionToken()) > 0 && r.GetQueryMode() != sppb.ExecuteSqlRequest_NORMAL {
		return errorf(codes.InvalidArgument, "Query modes returning query plan and profile information cannot be used with partitioned queries.")
	}
	pos, src, err := ses.resume(ctx, r.GetTransaction(), r.GetRequestOptions().GetTransactionTag(), r.GetResumeToken(), digest)
	if err != nil {
		return err
	}
	defer src.release(ses.db)
	src.access = access
	if err = src.query(ctx, r, st, frames{send: send, pos: pos, skip: pos.rows, part: part}); err != nil {
		src.fail(ses.db)
	}
	return wire(err)
}

// query runs a query on the source, into f.
func (s *source) query(ctx context.Context, r *sppb.ExecuteSqlRequest, st *sql.Statement, f frames) error {
	if s.partitioned != nil {
		return errPartitionedReads
	}
	if err := s.direct(r.GetDirectedReadOptions()); err != nil {
		return err
	}
	ps, err := params(r.GetParams(), r.GetParamTypes())
	if err != nil {
		return err
	}
	plan, err := st.Prepare(sql.Env{Reader: s.reader, Params: ps, Now: time.UnixMicro(f.pos.now), Access: s.access})
	if err != nil {
		return err
	}
	fields := plan.Columns()
	if f.token, err = s.admit(r.GetLastStatement()); err != nil {
		return err
	}
	f.meta = &sppb.ResultSetMetadata{RowType: rowType(fields), Transaction: s.meta}
	mode := r.GetQueryMode()
	if mode != sppb.ExecuteSqlRequest_PLAN {
		err = plan.Run(ctx, func(row []store.Value) error {
			return f.row(encodeRow(fields, row))
		})
		if err != nil {
			return err
		}
	}
	stats := &sppb.ResultSetStats{}
	switch mode {
	case sppb.ExecuteSqlRequest_NORMAL:
		return f.finish(nil)
	case sppb.ExecuteSqlRequest_PLAN, sppb.ExecuteSqlRequest_PROFILE, sppb.ExecuteSqlRequest_WITH_PLAN_AND_STATS:
		stats.QueryPlan = planOf(r.GetSql())
	}
	if mode != sppb.ExecuteSqlRequest_PLAN {
		if stats.QueryStats, err = structpb.NewStruct(map[string]any{"rows_returned": float64(f.pos.rows), "query_text": r.GetSql()}); err != nil {
			return errorf(codes.Internal, "query statistics: %v", err)
		}
	}
	return f.finish(stats)
}

// planOf is the plan of any query: there is no optimizer here whose choices could be shown, so it is one node.
func planOf(text string) *sppb.QueryPlan {
	return &sppb.QueryPlan{PlanNodes: []*sppb.PlanNode{{
		Kind: sppb.PlanNode_RELATIONAL, DisplayName: "Embedded Query",
		ShortRepresentation: &sppb.PlanNode_ShortRepresentation{Description: text},
	}}}
}

func encodeRow(fields []store.Field, row []store.Value) []*structpb.Value {
	values := make([]*structpb.Value, len(fields))
	for i, fl := range fields {
		values[i] = encode(fl.Type, row[i])
	}
	return values
}

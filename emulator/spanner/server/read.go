package server

import (
	"context"
	"slices"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// readPlan is a checked read request.
type readPlan struct {
	table   *store.Table
	index   *store.Index // nil: the primary key
	columns []int
	ranges  []store.Range
	limit   int64
}

func planRead(s *store.Schema, access *store.Access, r *sppb.ReadRequest) (*readPlan, error) {
	t, err := tableNamed(s, r.GetTable())
	if err != nil {
		return nil, err
	}
	p := &readPlan{table: t, limit: r.GetLimit()}
	if p.limit < 0 {
		return nil, errorf(codes.InvalidArgument, "the limit of a read must not be negative")
	}
	if len(r.GetColumns()) == 0 {
		return nil, errorf(codes.InvalidArgument, "a read must name at least one column")
	}
	for _, n := range r.GetColumns() {
		c := t.ColumnIndex(n)
		if c < 0 {
			return nil, errorf(codes.NotFound, "Column not found in table %s: %s", t.QualifiedName(), n)
		}
		p.columns = append(p.columns, c)
	}
	if err := access.Columns(store.SelectPrivilege, t, p.columns...); err != nil {
		return nil, err
	}
	parts := tableKey(t)
	if r.GetIndex() != "" {
		x := s.Index(r.GetIndex())
		if x == nil || x.Table != t.QualifiedName() {
			return nil, errorf(codes.NotFound, "Index not found on table %s: %s", t.QualifiedName(), r.GetIndex())
		}
		for _, c := range p.columns {
			if !covers(x, t, c) {
				return nil, errorf(codes.Unimplemented, "Reading non-indexed columns using an index is not supported. Consider adding %s to the index using a STORING clause.", t.Columns[c].Name)
			}
		}
		p.index, parts = x, indexKey(x, t)
	}
	where := t.QualifiedName()
	if p.index != nil {
		where = "index " + p.index.QualifiedName()
	}
	if r.GetKeySet() == nil {
		return nil, errorf(codes.InvalidArgument, "a read must have a key set")
	}
	if p.ranges, err = keySet(parts, where, r.GetKeySet()); err != nil {
		return nil, err
	}
	return p, nil
}

func covers(x *store.Index, t *store.Table, c int) bool {
	if t.IsKey(c) || slices.Contains(x.Storing, c) {
		return true
	}
	for _, k := range x.Key {
		if k.Column == c {
			return true
		}
	}
	return false
}

func (p *readPlan) fields() []store.Field {
	out := make([]store.Field, len(p.columns))
	for i, c := range p.columns {
		out[i] = store.Field{Name: p.table.Columns[c].Name, Type: p.table.Columns[c].Type}
	}
	return out
}

// run calls fn with the rows in key order.
func (p *readPlan) run(ctx context.Context, reader store.Reader, fn func([]*structpb.Value) error) error {
	n := int64(0)
	var failed error
	each := func(_ store.Key, row store.Row) bool {
		if failed = ctx.Err(); failed != nil {
			return false
		}
		values := make([]*structpb.Value, len(p.columns))
		for i, c := range p.columns {
			values[i] = encode(p.table.Columns[c].Type, row[c])
		}
		failed = fn(values)
		n++
		return failed == nil && (p.limit == 0 || n < p.limit)
	}
	for _, r := range p.ranges {
		var err error
		switch {
		case p.index != nil:
			err = reader.ScanIndex(p.index, p.table, r, each)
		case r.Start != "" && r.End == store.PrefixEnd(r.Start) && r.End != "":
			err = p.prefix(reader, r, each)
		default:
			err = reader.Scan(p.table, r, each)
		}
		if failed != nil || err != nil {
			if failed == nil {
				failed = err
			}
			return failed
		}
		if p.limit > 0 && n >= p.limit {
			return nil
		}
	}
	return nil
}

// prefix reads one whole key as a point, which a transaction can check more cheaply than a range.
func (p *readPlan) prefix(reader store.Reader, r store.Range, each func(store.Key, store.Row) bool) error {
	if store.KeyParts(p.table, r.Start) < len(p.table.Key) {
		return reader.Scan(p.table, r, each)
	}
	row, err := reader.Get(p.table, r.Start)
	if err == nil && row != nil {
		each(r.Start, row)
	}
	return err
}

// StreamingRead reads rows by key.
func (a *dataService) StreamingRead(r *sppb.ReadRequest, stream sppb.Spanner_StreamingReadServer) error {
	return a.read(stream.Context(), r, stream.Send)
}

// Read is StreamingRead in one answer.
func (a *dataService) Read(ctx context.Context, r *sppb.ReadRequest) (*sppb.ResultSet, error) {
	var out resultSet
	if err := a.read(ctx, r, out.add); err != nil {
		return nil, err
	}
	return &out.ResultSet, nil
}

func (a *dataService) read(ctx context.Context, r *sppb.ReadRequest, send func(*sppb.PartialResultSet) error) error {
	ses, access, err := a.s.using(r.GetSession())
	if err != nil {
		return err
	}
	digest := readDigest(r)
	part, err := parsePartition(r.GetPartitionToken(), r.GetSession(), r.GetTransaction(), digest)
	if err != nil {
		return err
	}
	pos, src, err := ses.resume(ctx, r.GetTransaction(), r.GetRequestOptions().GetTransactionTag(), r.GetResumeToken(), digest)
	if err != nil {
		return err
	}
	defer src.release(ses.db)
	src.access = access
	if err = src.read(ctx, r, frames{send: send, pos: pos, skip: pos.rows, part: part}); err != nil {
		src.fail(ses.db)
	}
	return wire(err)
}

// read runs a read request on the source, into f.
func (s *source) read(ctx context.Context, r *sppb.ReadRequest, f frames) error {
	if s.partitioned != nil {
		return errPartitionedReads
	}
	if err := s.direct(r.GetDirectedReadOptions()); err != nil {
		return err
	}
	if len(r.GetPartitionToken()) > 0 && r.GetLimit() > 0 {
		return errorf(codes.InvalidArgument, "A limit cannot be used when a partition_token is specified.")
	}
	p, err := planRead(s.reader.Schema(), s.access, r)
	if err != nil {
		return err
	}
	if txn, ok := s.reader.(*store.Txn); ok {
		if err := store.Unreadable(p.table, p.index, txn.Pending(p.table), p.columns...); err != nil {
			return err
		}
	}
	if f.token, err = s.admit(false); err != nil {
		return err
	}
	f.meta = &sppb.ResultSetMetadata{RowType: rowType(p.fields()), Transaction: s.meta}
	if err := p.run(ctx, s.reader, f.row); err != nil {
		return err
	}
	return f.finish(nil)
}

// resultSet gathers the frames of one result.
type resultSet struct {
	sppb.ResultSet
	partial []*structpb.Value
	chunked bool
	size    int
}

// maxResultBytes is how large a result may be that goes out in one answer.
const maxResultBytes = 10 << 20

func (s *resultSet) add(m *sppb.PartialResultSet) error {
	if s.size += proto.Size(m); s.size > maxResultBytes {
		return errorf(codes.FailedPrecondition, "the result is larger than %d MiB, which is too much for one answer: use the streaming call", maxResultBytes>>20)
	}
	if m.PrecommitToken != nil {
		s.PrecommitToken = m.PrecommitToken
	}
	if m.Metadata != nil {
		s.Metadata = m.Metadata
	}
	values := m.Values
	if s.chunked && len(values) > 0 {
		last := len(s.partial) - 1
		s.partial[last] = merge(s.partial[last], values[0])
		values = values[1:]
	}
	s.partial = append(s.partial, values...)
	s.chunked = m.ChunkedValue
	if m.Stats != nil {
		s.Stats = m.Stats
	}
	if n := len(s.Metadata.GetRowType().GetFields()); n > 0 && !s.chunked {
		for len(s.partial) >= n {
			s.Rows = append(s.Rows, &structpb.ListValue{Values: s.partial[:n:n]})
			s.partial = s.partial[n:]
		}
	}
	return nil
}

func merge(a, b *structpb.Value) *structpb.Value {
	if _, ok := a.GetKind().(*structpb.Value_StringValue); ok {
		return structpb.NewStringValue(a.GetStringValue() + b.GetStringValue())
	}
	av, bv := a.GetListValue().GetValues(), b.GetListValue().GetValues()
	if len(av) > 0 && len(bv) > 0 && emptyLike(av[len(av)-1]) != nil {
		av[len(av)-1] = merge(av[len(av)-1], bv[0])
		bv = bv[1:]
	}
	return structpb.NewListValue(&structpb.ListValue{Values: append(av, bv...)})
}

package spanner_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// wire is a bare gRPC connection with a session: nothing retries, and every message shows.
type wire struct {
	*world
	conn    *grpc.ClientConn
	api     spannerpb.SpannerClient
	session string
}

func (w *world) wire() *wire {
	w.Helper()
	conn, err := grpc.NewClient(w.srv.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	l := &wire{world: w, conn: conn, api: spannerpb.NewSpannerClient(conn)}
	ses, err := l.api.CreateSession(w.ctx, &spannerpb.CreateSessionRequest{Database: dbName, Session: &spannerpb.Session{Multiplexed: true}})
	if err != nil {
		w.Fatal(err)
	}
	l.session = ses.Name
	return l
}

// call is one call of a read function; zero fields are NULL, but a heartbeat of 0 means a second.
type call struct {
	stream      string // "" is s
	from, end   time.Time
	token       string
	heartbeat   int64
	resume      []byte
	transaction *spannerpb.TransactionSelector
	sql         string // instead of the ordinary one
}

func (c call) request(session string) *spannerpb.ExecuteSqlRequest {
	if c.stream == "" {
		c.stream = "s"
	}
	if c.heartbeat == 0 {
		c.heartbeat = 1000
	}
	if c.sql == "" {
		c.sql = "SELECT ChangeRecord FROM READ_" + c.stream + "(@start, @end, @token, @heartbeat)"
	}
	stamp := func(t time.Time) *structpb.Value {
		if t.IsZero() {
			return structpb.NewNullValue()
		}
		return structpb.NewStringValue(t.UTC().Format(time.RFC3339Nano))
	}
	token := structpb.NewNullValue()
	if c.token != "" {
		token = structpb.NewStringValue(c.token)
	}
	return &spannerpb.ExecuteSqlRequest{
		Session: session, Sql: c.sql, Transaction: c.transaction, ResumeToken: c.resume,
		Params: &structpb.Struct{Fields: map[string]*structpb.Value{
			"start": stamp(c.from), "end": stamp(c.end), "token": token, "heartbeat": structpb.NewStringValue(fmt.Sprint(c.heartbeat)),
		}},
		ParamTypes: map[string]*spannerpb.Type{
			"start": {Code: spannerpb.TypeCode_TIMESTAMP}, "end": {Code: spannerpb.TypeCode_TIMESTAMP},
			"token": {Code: spannerpb.TypeCode_STRING}, "heartbeat": {Code: spannerpb.TypeCode_INT64},
		},
	}
}

// rec is one row of a change-stream query, of any kind and partition mode.
type rec struct {
	kind     string // data, heartbeat, children, start, event, end
	at       time.Time
	sequence string
	resume   []byte
	arrived  time.Time

	data    *changeData // immutable key ranges
	mutable *spannerpb.ChangeStreamRecord_DataChangeRecord
	proto   *spannerpb.ChangeStreamRecord
	tokens  []string // of children or starts
	parents [][]string
	in, out []string
}

// each hands over the rows of a query, in order, until fn fails or the query ends.
func (l *wire) each(ctx context.Context, c call, fn func(rec) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.api.ExecuteStreamingSql(ctx, c.request(l.session))
	if err != nil {
		return err
	}
	var typ *spannerpb.Type
	var partial *structpb.Value
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Metadata != nil {
			if typ != nil {
				return errors.New("metadata came twice")
			}
			typ = m.Metadata.RowType.Fields[0].Type
		}
		for i, v := range m.Values {
			if partial != nil {
				v = joined(partial, v)
				partial = nil
			}
			if m.ChunkedValue && i == len(m.Values)-1 {
				partial = v
				break
			}
			r, err := decodeRow(typ, v)
			if err != nil {
				return err
			}
			r.resume, r.arrived = m.ResumeToken, time.Now()
			if len(r.resume) == 0 {
				return fmt.Errorf("a row without a resume token: %v", r)
			}
			if err := fn(r); err != nil {
				return err
			}
		}
	}
}

// joined merges chunks as the API says.
func joined(a, b *structpb.Value) *structpb.Value {
	if s, ok := a.Kind.(*structpb.Value_StringValue); ok {
		return structpb.NewStringValue(s.StringValue + b.GetStringValue())
	}
	x, y := a.GetListValue().Values, b.GetListValue().Values
	if len(x) == 0 || len(y) == 0 {
		return structpb.NewListValue(&structpb.ListValue{Values: append(x, y...)})
	}
	switch x[len(x)-1].Kind.(type) {
	case *structpb.Value_StringValue, *structpb.Value_ListValue:
		x[len(x)-1] = joined(x[len(x)-1], y[0])
		y = y[1:]
	}
	return structpb.NewListValue(&structpb.ListValue{Values: append(x, y...)})
}

func decodeRow(typ *spannerpb.Type, v *structpb.Value) (rec, error) {
	if typ.GetCode() == spannerpb.TypeCode_PROTO {
		return decodeProtoRow(v)
	}
	var list []*changeRecord
	if err := (cloudspanner.GenericColumnValue{Type: typ, Value: v}).Decode(&list); err != nil {
		return rec{}, err
	}
	if len(list) != 1 || len(list[0].Data)+len(list[0].Heartbeat)+len(list[0].Children) != 1 {
		return rec{}, fmt.Errorf("a row must hold one record: %v", v)
	}
	switch c := list[0]; {
	case len(c.Data) == 1:
		return rec{kind: "data", at: c.Data[0].CommitTimestamp, sequence: c.Data[0].Sequence, data: c.Data[0]}, nil
	case len(c.Heartbeat) == 1:
		return rec{kind: "heartbeat", at: c.Heartbeat[0].Timestamp}, nil
	default:
		r := rec{kind: "children", at: c.Children[0].Start, sequence: c.Children[0].Sequence}
		for _, p := range c.Children[0].Partitions {
			r.tokens, r.parents = append(r.tokens, p.Token), append(r.parents, p.Parents)
		}
		return r, nil
	}
}

func decodeProtoRow(v *structpb.Value) (rec, error) {
	raw, err := base64.StdEncoding.DecodeString(v.GetStringValue())
	m := &spannerpb.ChangeStreamRecord{}
	if err == nil {
		err = proto.Unmarshal(raw, m)
	}
	if err != nil {
		return rec{}, err
	}
	r := rec{proto: m}
	switch x := m.Record.(type) {
	case *spannerpb.ChangeStreamRecord_DataChangeRecord_:
		r.kind, r.at, r.sequence = "data", x.DataChangeRecord.CommitTimestamp.AsTime(), x.DataChangeRecord.RecordSequence
		r.mutable = x.DataChangeRecord
	case *spannerpb.ChangeStreamRecord_HeartbeatRecord_:
		r.kind, r.at = "heartbeat", x.HeartbeatRecord.Timestamp.AsTime()
	case *spannerpb.ChangeStreamRecord_PartitionStartRecord_:
		p := x.PartitionStartRecord
		r.kind, r.at, r.sequence, r.tokens = "start", p.StartTimestamp.AsTime(), p.RecordSequence, p.PartitionTokens
	case *spannerpb.ChangeStreamRecord_PartitionEndRecord_:
		p := x.PartitionEndRecord
		r.kind, r.at, r.sequence, r.tokens = "end", p.EndTimestamp.AsTime(), p.RecordSequence, []string{p.PartitionToken}
	case *spannerpb.ChangeStreamRecord_PartitionEventRecord_:
		p := x.PartitionEventRecord
		r.kind, r.at, r.sequence = "event", p.CommitTimestamp.AsTime(), p.RecordSequence
		for _, e := range p.MoveInEvents {
			r.in = append(r.in, e.SourcePartitionToken)
		}
		for _, e := range p.MoveOutEvents {
			r.out = append(r.out, e.DestinationPartitionToken)
		}
	default:
		return rec{}, fmt.Errorf("unknown record %v", m)
	}
	return r, nil
}

// read runs a query to its end.
func (l *wire) read(c call) ([]rec, error) {
	var out []rec
	err := l.each(l.ctx, c, func(r rec) error { out = append(out, r); return nil })
	return out, err
}

func (l *wire) mustRead(c call) []rec {
	l.Helper()
	out, err := l.read(c)
	if err != nil {
		l.Fatalf("%+v: %v", c, err)
	}
	return out
}

// tokens runs the initial query.
func (l *wire) tokens(stream string, from time.Time) []string {
	l.Helper()
	end := from
	var out []string
	for _, r := range l.mustRead(call{stream: stream, from: from, end: end}) {
		out = append(out, r.tokens...)
	}
	return out
}

// records are the data records between two times, over all partitions and their children.
func (l *wire) records(stream string, from, end time.Time) []*changeData {
	l.Helper()
	var out []*changeData
	seen := map[string]bool{}
	var walk func(token string, from time.Time)
	walk = func(token string, from time.Time) {
		if seen[token] {
			return
		}
		seen[token] = true
		for _, r := range l.mustRead(call{stream: stream, from: from, end: end, token: token}) {
			if r.kind == "data" {
				out = append(out, r.data)
			}
			for _, child := range r.tokens {
				walk(child, r.at)
			}
		}
	}
	for _, token := range l.tokens(stream, from) {
		walk(token, from)
	}
	return out
}

// mods are the changes between two times, as "OP table key new old", one a line.
func (l *wire) mods(stream string, from, end time.Time) string {
	l.Helper()
	var b strings.Builder
	for _, d := range l.records(stream, from, end) {
		b.WriteString(brief(d))
	}
	return b.String()
}

func brief(d *changeData) string {
	var b strings.Builder
	for _, m := range d.Mods {
		fmt.Fprintln(&b, d.ModType, d.Table, m.Keys, m.New, m.Old)
	}
	return b.String()
}

func lines(l ...string) string {
	if len(l) == 0 {
		return ""
	}
	return strings.Join(l, "\n") + "\n"
}

func wantCode(t testing.TB, err error, code codes.Code, what ...any) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%v: got %v, want %v", fmt.Sprint(what...), err, code)
	}
}

func wantText(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

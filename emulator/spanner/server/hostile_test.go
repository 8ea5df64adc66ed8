package server_test

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/spanledger/spanledger/emulator/spanner/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial serves one database with a table and returns a connection and a session's name.
func dial(t interface {
	Fatal(...any)
	Cleanup(func())
}) (*grpc.ClientConn, string) {
	srv := server.New(server.Options{})
	g := grpc.NewServer(server.GRPCOptions(0)...)
	srv.Register(g)
	lis := bufconn.Listen(1 << 20)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///b", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); srv.Close(); g.Stop(); <-done })
	ctx := context.Background()
	if _, err := instancepb.NewInstanceAdminClient(conn).CreateInstance(ctx, &instancepb.CreateInstanceRequest{Parent: "projects/p", InstanceId: "in"}); err != nil {
		t.Fatal(err)
	}
	if _, err := databasepb.NewDatabaseAdminClient(conn).CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{Parent: "projects/p/instances/in", CreateStatement: "CREATE DATABASE db", ExtraStatements: []string{
		"CREATE TABLE t (k INT64 NOT NULL, s STRING(MAX), a ARRAY<STRING(MAX)>) PRIMARY KEY (k)", "CREATE INDEX x ON t (s)", "CREATE CHANGE STREAM c FOR ALL",
	}}); err != nil {
		t.Fatal(err)
	}
	ses, err := sppb.NewSpannerClient(conn).CreateSession(ctx, &sppb.CreateSessionRequest{Database: "projects/p/instances/in/databases/db"})
	if err != nil {
		t.Fatal(err)
	}
	return conn, ses.Name
}

// filler makes random messages whose strings are, often, ones that mean something.
type filler struct {
	rng     *rand.Rand
	session string
}

var words = []string{
	"", "t", "x", "k", "s", "a", "c", "1", "-1", "spanner.commit_timestamp()", "SELECT * FROM t", "SELECT @s", "INSERT INTO t (k, s) VALUES (1, @s)",
	"DELETE FROM t WHERE TRUE", "SELECT ChangeRecord FROM READ_c(@s, NULL, NULL, 1000)", "2026-01-01T00:00:00Z", "projects/p", "projects/p/instances/in",
	"projects/p/instances/in/databases/db", "CREATE DATABASE other", "CREATE TABLE t2 (k INT64) PRIMARY KEY (k)", "rw/1", "ro/1", "ro/9223372036854775807", "pd/true", "Q\x02\x02\x02", "Cxx",
}

func (f *filler) word() string { return words[f.rng.IntN(len(words))] }

func (f *filler) fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if f.rng.IntN(3) == 0 || depth > 6 {
			continue
		}
		switch {
		case fd.Name() == "session" && fd.Kind() == protoreflect.StringKind:
			m.Set(fd, protoreflect.ValueOfString(f.session))
		case fd.IsMap():
			mp := m.Mutable(fd).Map()
			k := protoreflect.ValueOfString(f.word()).MapKey()
			if fd.MapKey().Kind() != protoreflect.StringKind {
				continue
			}
			v := mp.NewValue()
			if fd.MapValue().Kind() == protoreflect.MessageKind {
				f.fill(v.Message(), depth+1)
			} else {
				v = f.scalar(fd.MapValue())
			}
			mp.Set(k, v)
		case fd.IsList():
			l := m.Mutable(fd).List()
			for range f.rng.IntN(3) {
				if fd.Kind() == protoreflect.MessageKind {
					f.fill(l.AppendMutable().Message(), depth+1)
				} else {
					l.Append(f.scalar(fd))
				}
			}
		case fd.Kind() == protoreflect.MessageKind:
			f.fill(m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, f.scalar(fd))
		}
	}
}

func (f *filler) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	n := []int64{0, 1, -1, 5, 1 << 40, -1 << 63, 1<<63 - 1}[f.rng.IntN(7)]
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(f.word())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.word()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(f.rng.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(f.rng.IntN(20)))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n))
	default:
		return protoreflect.ValueOfFloat64(float64(n))
	}
}

// requests are the calls that take anything a client can send.
var requests = []struct {
	method string
	stream bool
	req    proto.Message
	resp   proto.Message
}{
	{"/google.spanner.v1.Spanner/ExecuteSql", false, &sppb.ExecuteSqlRequest{}, &sppb.ResultSet{}},
	{"/google.spanner.v1.Spanner/ExecuteStreamingSql", true, &sppb.ExecuteSqlRequest{}, &sppb.PartialResultSet{}},
	{"/google.spanner.v1.Spanner/ExecuteBatchDml", false, &sppb.ExecuteBatchDmlRequest{}, &sppb.ExecuteBatchDmlResponse{}},
	{"/google.spanner.v1.Spanner/Read", false, &sppb.ReadRequest{}, &sppb.ResultSet{}},
	{"/google.spanner.v1.Spanner/StreamingRead", true, &sppb.ReadRequest{}, &sppb.PartialResultSet{}},
	{"/google.spanner.v1.Spanner/BeginTransaction", false, &sppb.BeginTransactionRequest{}, &sppb.Transaction{}},
	{"/google.spanner.v1.Spanner/Commit", false, &sppb.CommitRequest{}, &sppb.CommitResponse{}},
	{"/google.spanner.v1.Spanner/Rollback", false, &sppb.RollbackRequest{}, &sppb.PartitionResponse{}},
	{"/google.spanner.v1.Spanner/PartitionQuery", false, &sppb.PartitionQueryRequest{}, &sppb.PartitionResponse{}},
	{"/google.spanner.v1.Spanner/PartitionRead", false, &sppb.PartitionReadRequest{}, &sppb.PartitionResponse{}},
	{"/google.spanner.v1.Spanner/BatchWrite", true, &sppb.BatchWriteRequest{}, &sppb.BatchWriteResponse{}},
	{"/google.spanner.v1.Spanner/CreateSession", false, &sppb.CreateSessionRequest{}, &sppb.Session{}},
	{"/google.spanner.v1.Spanner/BatchCreateSessions", false, &sppb.BatchCreateSessionsRequest{}, &sppb.BatchCreateSessionsResponse{}},
	{"/google.spanner.v1.Spanner/ListSessions", false, &sppb.ListSessionsRequest{}, &sppb.ListSessionsResponse{}},
	{"/google.spanner.admin.database.v1.DatabaseAdmin/CreateDatabase", false, &databasepb.CreateDatabaseRequest{}, &sppb.Session{}},
	{"/google.spanner.admin.database.v1.DatabaseAdmin/UpdateDatabaseDdl", false, &databasepb.UpdateDatabaseDdlRequest{}, &sppb.Session{}},
	{"/google.spanner.admin.database.v1.DatabaseAdmin/ListDatabases", false, &databasepb.ListDatabasesRequest{}, &databasepb.ListDatabasesResponse{}},
	{"/google.spanner.admin.instance.v1.InstanceAdmin/CreateInstance", false, &instancepb.CreateInstanceRequest{}, &sppb.Session{}},
}

func call(conn *grpc.ClientConn, i int, req proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	r := requests[i]
	if !r.stream {
		return conn.Invoke(ctx, r.method, req, proto.Clone(r.resp))
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, r.method)
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		if err := s.RecvMsg(proto.Clone(r.resp)); err != nil {
			return err
		}
	}
}

// Random messages of every kind get an answer; a panic would end the test's process.
func TestHostileRequests(t *testing.T) {
	conn, session := dial(t)
	f := &filler{rng: rand.New(rand.NewPCG(1, 2)), session: session}
	for i, r := range requests {
		// An empty message first: every field at its zero.
		if err := call(conn, i, r.req); status.Code(err) == codes.Internal || status.Code(err) == codes.Unknown && err.Error() != "EOF" {
			t.Errorf("%s with nothing: %v", r.method, err)
		}
	}
	for range 3000 {
		i := f.rng.IntN(len(requests))
		m := requests[i].req.ProtoReflect().New()
		f.fill(m, 0)
		if err := call(conn, i, m.Interface()); status.Code(err) == codes.Internal {
			t.Errorf("%s: %v\n%v", requests[i].method, err, m.Interface())
		}
	}
}

func FuzzRequests(f *testing.F) {
	for i := range requests {
		f.Add(uint8(i), []byte{})
	}
	f.Add(uint8(0), []byte("\x0a\x01x\x1a\x08SELECT 1"))
	conn, session := dial(f)
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		i := int(which) % len(requests)
		m := requests[i].req.ProtoReflect().New()
		if proto.Unmarshal(data, m.Interface()) != nil {
			return
		}
		if fd := m.Descriptor().Fields().ByName("session"); fd != nil && fd.Kind() == protoreflect.StringKind {
			m.Set(fd, protoreflect.ValueOfString(session))
		}
		if err := call(conn, i, m.Interface()); status.Code(err) == codes.Internal {
			t.Errorf("%s: %v", requests[i].method, err)
		}
	})
}

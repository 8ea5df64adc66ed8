package server_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path"
	"strings"
	"testing"
	"time"

	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

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
	rng      *rand.Rand
	sessions []string
}

var words = []string{
	"", "t", "x", "k", "s", "a", "c", "1", "-1", "spanner.commit_timestamp()", "SELECT * FROM t", "SELECT @s", "INSERT INTO t (k, s) VALUES (1, @s)",
	"DELETE FROM t WHERE TRUE", "SELECT ChangeRecord FROM READ_c(@s, NULL, NULL, 1000)", "2026-01-01T00:00:00Z", "projects/p", "projects/p/instances/in",
	"projects/p/instances/in/databases/db", "projects/p/instances/in/databases/db/operations/_auto_2", "projects/p/instanceConfigs/emulator-config", "name:x labels.a:*", "(a:b) AND c=d", "CREATE DATABASE other", "CREATE TABLE t2 (k INT64) PRIMARY KEY (k)", "rw/1", "ro/1", "ro/9223372036854775807", "pd/1", "reader", "public", "CREATE ROLE reader", "GRANT SELECT(k) ON TABLE t TO ROLE reader", "enable_drop_protection", "labels", "display_name", "Q\x00\x00\x00\x00\x00\x00\x00\x00\x02\x02\x02", "Cxx",
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
			m.Set(fd, protoreflect.ValueOfString(f.sessions[f.rng.IntN(len(f.sessions))]))
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

// request is a call that takes anything a client can send.
type request struct {
	method string
	stream bool
	req    proto.Message
}

// services are the gRPC services that the server has.
var services = []protoreflect.FullName{"google.spanner.v1.Spanner", "google.spanner.admin.database.v1.DatabaseAdmin", "google.spanner.admin.instance.v1.InstanceAdmin", "google.longrunning.Operations"}

// requests are all methods of all services. What removes the things that the others work on comes last.
var requests = func() (out []request) {
	var last []request
	for _, name := range services {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			panic(err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			m := methods.Get(i)
			in, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
			if err != nil {
				panic(err)
			}
			r := request{"/" + string(name) + "/" + string(m.Name()), m.IsStreamingServer(), in.New().Interface()}
			switch m.Name() {
			case "DeleteSession", "DropDatabase", "DeleteInstance":
				last = append(last, r)
			default:
				out = append(out, r)
			}
		}
	}
	return append(out, last...)
}()

const removals = 3

// rawBytes is a message that is sent as it is.
type rawBytes []byte

// rawCodec sends rawBytes as they are and everything else as protobuf.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(rawBytes); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// call makes a call with req, a proto.Message or rawBytes, and returns its error; answers are read and thrown away.
func call(conn *grpc.ClientConn, r request, req any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	raw := grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")})
	if !r.stream {
		return conn.Invoke(ctx, r.method, req, &emptypb.Empty{}, raw)
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, r.method, raw)
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
		if err := s.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
	}
}

// unanswered reports an error that is none of Spanner's.
func unanswered(err error) bool {
	c := status.Code(err)
	return c == codes.Internal || c == codes.Unknown && !errors.Is(err, io.EOF)
}

// serves checks that the server still does its work, in a new database.
func serves(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const instance = "projects/after/instances/after"
	_, err := instancepb.NewInstanceAdminClient(conn).CreateInstance(ctx, &instancepb.CreateInstanceRequest{Parent: "projects/after", InstanceId: "after"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := databasepb.NewDatabaseAdminClient(conn).CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{Parent: instance, CreateStatement: "CREATE DATABASE db"}); err != nil {
		t.Fatal(err)
	}
	data := sppb.NewSpannerClient(conn)
	ses, err := data.CreateSession(ctx, &sppb.CreateSessionRequest{Database: instance + "/databases/db"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := data.ExecuteSql(ctx, &sppb.ExecuteSqlRequest{Session: ses.Name, Sql: "SELECT 1"})
	if err != nil || len(res.Rows) != 1 {
		t.Fatalf("%v, %v", res, err)
	}
}

// withRole makes a session whose role may do some things in the table.
func withRole(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	_, err := databasepb.NewDatabaseAdminClient(conn).UpdateDatabaseDdl(t.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: testDB,
		Statements: []string{"CREATE ROLE limited", "GRANT SELECT(k), INSERT, UPDATE(s) ON TABLE t TO ROLE limited", "GRANT SELECT ON CHANGE STREAM c TO ROLE limited"}})
	if err != nil {
		t.Fatal(err)
	}
	ses, err := sppb.NewSpannerClient(conn).CreateSession(t.Context(), &sppb.CreateSessionRequest{Database: testDB, Session: &sppb.Session{CreatorRole: "limited"}})
	if err != nil {
		t.Fatal(err)
	}
	return ses.Name
}

// Every method answers an empty request and random ones, and none with INTERNAL or UNKNOWN; a panic would end the test's
// process. Methods that are not built say so, and what stands for them.
func TestHostileRequests(t *testing.T) {
	conn, session := dial(t)
	f := &filler{rng: rand.New(rand.NewPCG(1, 2)), sessions: []string{session, withRole(t, conn)}}
	var built []request
	for i, r := range requests {
		err := call(conn, r, r.req) // every field at its zero
		if unanswered(err) {
			t.Errorf("%s with nothing: %v", r.method, err)
		}
		switch {
		case i >= len(requests)-removals:
		case status.Code(err) != codes.Unimplemented:
			built = append(built, r)
		case !strings.Contains(err.Error(), "the embedded Spanner does not support ") || !strings.Contains(err.Error(), path.Base(r.method)+": "):
			t.Errorf("%s: %v does not say what stands for it", r.method, err)
		}
	}
	if len(built) < 40 {
		t.Errorf("only %d methods are built", len(built))
	}
	for n := range 5000 {
		r := built[f.rng.IntN(len(built))]
		if n >= 4800 {
			r = requests[f.rng.IntN(len(requests))]
		}
		m := r.req.ProtoReflect().New()
		f.fill(m, 0)
		if err := call(conn, r, m.Interface()); unanswered(err) {
			t.Errorf("%s: %v\n%v", r.method, err, m.Interface())
		}
	}
	serves(t, conn)
}

// FuzzRequests sends any bytes to every method. What is not a message of its type is refused by gRPC itself.
func FuzzRequests(f *testing.F) {
	conn, session := dial(f)
	fill := &filler{rng: rand.New(rand.NewPCG(3, 4)), sessions: []string{session}}
	for i, r := range requests[:len(requests)-removals] {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte("\xff\xff\xff"))
		for range 4 {
			m := r.req.ProtoReflect().New()
			fill.fill(m, 0)
			b, err := proto.Marshal(m.Interface())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), b)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		r := requests[int(which)%(len(requests)-removals)]
		m := r.req.ProtoReflect().New()
		if err := proto.Unmarshal(data, m.Interface()); err != nil {
			if err := call(conn, r, rawBytes(data)); status.Code(err) != codes.Internal && status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%s: %v", r.method, err)
			}
			return
		}
		if fd := m.Descriptor().Fields().ByName("session"); fd != nil && fd.Kind() == protoreflect.StringKind {
			m.Set(fd, protoreflect.ValueOfString(session))
		}
		if err := call(conn, r, m.Interface()); unanswered(err) {
			t.Errorf("%s: %v", r.method, err)
		}
	})
}

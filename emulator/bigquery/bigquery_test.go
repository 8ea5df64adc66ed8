package bigquery_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"cloud.google.com/go/bigquery/storage/managedwriter/adapt"
	"go.uber.org/goleak"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	emulator "github.com/spanledger/spanledger/emulator/bigquery"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The client libraries import OpenCensus, which starts one goroutine for ever in its init.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		// The managed writer leaves a goroutine asleep for minutes after each connection it opens.
		goleak.IgnoreAnyFunction("cloud.google.com/go/bigquery/storage/managedwriter.(*connection).getStream.func1"))
}

// world is a running server, its clients, and the dataset p.d.
type world struct {
	t      *testing.T
	server *emulator.Server
	client *bigquery.Client
	writer *managedwriter.Client
}

func start(t *testing.T) *world {
	t.Helper()
	s, err := emulator.Start(t.Context(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, server: s}
	if w.client, err = bigquery.NewClient(t.Context(), "p", s.ClientOptions()...); err != nil {
		t.Fatal(err)
	}
	if w.writer, err = managedwriter.NewClient(context.Background(), "p", s.WriteClientOptions()...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.writer.Close()
		w.client.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error("closed again:", err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	if err := w.client.Dataset("d").Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// table creates the table p.d.name.
func (w *world) table(name string, schema bigquery.Schema) *bigquery.Table {
	w.t.Helper()
	table := w.client.Dataset("d").Table(name)
	if err := table.Create(w.t.Context(), &bigquery.TableMetadata{Schema: schema}); err != nil {
		w.t.Fatal(err)
	}
	return table
}

func path(table string) string { return "projects/p/datasets/d/tables/" + table }

// message makes the writer's schema the client library makes for a table's.
func message(t testing.TB, schema bigquery.Schema) (protoreflect.MessageDescriptor, *descriptorpb.DescriptorProto) {
	t.Helper()
	s, err := adapt.BQSchemaToStorageTableSchema(schema)
	if err != nil {
		t.Fatal(err)
	}
	d, err := adapt.StorageSchemaToProto2Descriptor(s, "root")
	if err != nil {
		t.Fatal(err)
	}
	md := d.(protoreflect.MessageDescriptor)
	dp, err := adapt.NormalizeDescriptor(md)
	if err != nil {
		t.Fatal(err)
	}
	return md, dp
}

// encode serializes one row of name, value pairs.
func encode(t testing.TB, md protoreflect.MessageDescriptor, pairs ...any) []byte {
	t.Helper()
	m := dynamicpb.NewMessage(md)
	for i := 0; i < len(pairs); i += 2 {
		m.Set(md.Fields().ByName(protoreflect.Name(pairs[i].(string))), protoreflect.ValueOf(pairs[i+1]))
	}
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// all reads everything an iterator has.
func all(t *testing.T, it *bigquery.RowIterator, err error) [][]bigquery.Value {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var out [][]bigquery.Value
	for {
		var r []bigquery.Value
		err := it.Next(&r)
		if errors.Is(err, iterator.Done) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
}

func wantHTTP(t *testing.T, err error, code int, reason string) {
	t.Helper()
	e, ok := errors.AsType[*googleapi.Error](err)
	if !ok || e.Code != code || len(e.Errors) != 1 || e.Errors[0].Reason != reason {
		t.Errorf("got %v, want %d %s", err, code, reason)
	}
}

var people = bigquery.Schema{
	{Name: "id", Type: bigquery.IntegerFieldType, Required: true},
	{Name: "name", Type: bigquery.StringFieldType},
}

func TestDefaultStream(t *testing.T) {
	w := start(t)
	table := w.table("people", people)
	md, dp := message(t, people)
	ms, err := w.writer.NewManagedStream(t.Context(), managedwriter.WithDestinationTable(path("people")),
		managedwriter.WithType(managedwriter.DefaultStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		t.Fatal(err)
	}
	defer ms.Close()
	res, err := ms.AppendRows(t.Context(), [][]byte{encode(t, md, "id", int64(1), "name", "Ada"), encode(t, md, "id", int64(2))})
	if err != nil {
		t.Fatal(err)
	}
	if at, err := res.GetResult(t.Context()); err != nil || at != managedwriter.NoStreamOffset {
		t.Fatalf("offset %d, %v", at, err)
	}
	got := all(t, table.Read(t.Context()), nil)
	if len(got) != 2 || got[0][0] != int64(1) || got[0][1] != "Ada" || got[1][1] != nil {
		t.Errorf("got %v", got)
	}
}

func TestCommittedStream(t *testing.T) {
	w := start(t)
	w.table("people", people)
	md, dp := message(t, people)
	ms, err := w.writer.NewManagedStream(t.Context(), managedwriter.WithDestinationTable(path("people")),
		managedwriter.WithType(managedwriter.CommittedStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		t.Fatal(err)
	}
	defer ms.Close()
	for i := range int64(3) {
		res, err := ms.AppendRows(t.Context(), [][]byte{encode(t, md, "id", i), encode(t, md, "id", i)}, managedwriter.WithOffset(2*i))
		if err != nil {
			t.Fatal(err)
		}
		if at, err := res.GetResult(t.Context()); err != nil || at != 2*i {
			t.Fatalf("offset %d, %v", at, err)
		}
	}
	if n, err := ms.Finalize(t.Context()); err != nil || n != 6 {
		t.Errorf("finalized %d rows, %v", n, err)
	}
	fields, rows, err := w.server.Rows("p", "d", "people")
	if err != nil || len(fields) != 2 || len(rows) != 6 {
		t.Errorf("%d columns, %d rows, %v", len(fields), len(rows), err)
	}
}

// dial connects to the Storage API without a client library between.
func (w *world) dial() *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient(w.server.GRPCEndpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

package bigquery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	emulator "github.com/spanledger/spanledger/emulator/bigquery"
)

// wantStorage checks an error's code and, unless 0, its StorageError.
func wantStorage(t *testing.T, err error, code codes.Code, storage storagepb.StorageError_StorageErrorCode) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("got %v, want %s", err, code)
		return
	}
	if storage == 0 {
		return
	}
	e := &storagepb.StorageError{}
	a, ok := apierror.FromError(err)
	if !ok || a.Details().ExtractProtoMessage(e) != nil || e.Code != storage {
		t.Errorf("got %v with details %v, want %s", err, e, storage)
	}
}

// committed opens a managed writer on a new committed stream of people.
func (w *world) committed(table string, dp *descriptorpb.DescriptorProto) *managedwriter.ManagedStream {
	w.t.Helper()
	ms, err := w.writer.NewManagedStream(w.t.Context(), managedwriter.WithDestinationTable(path(table)),
		managedwriter.WithType(managedwriter.CommittedStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ms.Close() })
	return ms
}

// appendRows appends and waits for the answer.
func appendRows(t *testing.T, ms *managedwriter.ManagedStream, rows [][]byte, o ...managedwriter.AppendOption) (*storagepb.AppendRowsResponse, error) {
	t.Helper()
	res, err := ms.AppendRows(t.Context(), rows, o...)
	if err != nil {
		t.Fatal(err)
	}
	return res.FullResponse(t.Context())
}

func (w *world) count(table string) int {
	w.t.Helper()
	_, rows, err := w.server.Rows("p", "d", table)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(rows)
}

func TestOffsets(t *testing.T) {
	w := start(t)
	w.table("people", people)
	md, dp := message(t, people)
	ms := w.committed("people", dp)
	row := [][]byte{encode(t, md, "id", int64(1))}
	for _, step := range []struct {
		offset  int64
		code    codes.Code
		storage storagepb.StorageError_StorageErrorCode
	}{
		{1, codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE},
		{0, codes.OK, 0},
		{0, codes.AlreadyExists, storagepb.StorageError_OFFSET_ALREADY_EXISTS},
		{5, codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE},
		{1, codes.OK, 0},  // the connection has survived all of that
		{-1, codes.OK, 0}, // no offset: at the end
	} {
		var o []managedwriter.AppendOption
		if step.offset >= 0 {
			o = append(o, managedwriter.WithOffset(step.offset))
		}
		resp, err := appendRows(t, ms, row, o...)
		wantStorage(t, err, step.code, step.storage)
		if err == nil && step.offset >= 0 && resp.GetAppendResult().GetOffset().GetValue() != step.offset {
			t.Errorf("answered offset %v, want %d", resp.GetAppendResult().GetOffset(), step.offset)
		}
	}
	if n, err := ms.Finalize(t.Context()); err != nil || n != 3 || w.count("people") != 3 {
		t.Errorf("finalized %d rows, %v; the table has %d", n, err, w.count("people"))
	}
	if n, err := ms.Finalize(t.Context()); err != nil || n != 3 {
		t.Errorf("finalized again: %d rows, %v", n, err)
	}
	_, err := appendRows(t, ms, row, managedwriter.WithOffset(3))
	wantStorage(t, err, codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED)
	if next, finalized, err := w.server.Stream(ms.StreamName()); next != 3 || !finalized || err != nil {
		t.Errorf("stream: %d, %t, %v", next, finalized, err)
	}
}

// Many writers race for the offsets of one stream: each offset is won once.
func TestConcurrentOffsets(t *testing.T) {
	w := start(t)
	w.table("people", people)
	md, dp := message(t, people)
	stream, err := w.writer.CreateWriteStream(t.Context(), &storagepb.CreateWriteStreamRequest{
		Parent: path("people"), WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED},
	})
	if err != nil {
		t.Fatal(err)
	}
	const writers, offsets = 4, 200
	won := make([][]int64, writers)
	var wg sync.WaitGroup
	for i := range writers {
		ms, err := w.writer.NewManagedStream(t.Context(), managedwriter.WithStreamName(stream.Name), managedwriter.WithSchemaDescriptor(dp))
		if err != nil {
			t.Fatal(err)
		}
		defer ms.Close()
		wg.Go(func() {
			for at := range int64(offsets) {
				for {
					res, err := ms.AppendRows(t.Context(), [][]byte{encode(t, md, "id", at, "name", fmt.Sprint(i))}, managedwriter.WithOffset(at))
					if err == nil {
						_, err = res.GetResult(t.Context())
					}
					if status.Code(err) == codes.OutOfRange {
						continue // another writer has yet to fill the offset before
					}
					if err == nil {
						won[i] = append(won[i], at)
					} else if status.Code(err) != codes.AlreadyExists {
						t.Errorf("offset %d: %v", at, err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, o := range won {
		total += len(o)
	}
	_, rows, _ := w.server.Rows("p", "d", "people")
	if total != offsets || len(rows) != offsets {
		t.Fatalf("%d offsets won, %d rows, want %d", total, len(rows), offsets)
	}
	for i, r := range rows {
		if r.At(0) != int64(i) {
			t.Fatalf("row %d has id %v", i, r.At(0))
		}
	}
}

// The answer is lost after the rows are in: the retry at the same offset finds them there.
func TestLostResponse(t *testing.T) {
	w := start(t)
	w.table("people", people)
	md, dp := message(t, people)
	ms := w.committed("people", dp)
	row := [][]byte{encode(t, md, "id", int64(1))}
	var once sync.Once
	lose := func(effect bool, with error) {
		once = sync.Once{}
		w.server.SetFault(func(_ context.Context, c emulator.Call) (err error) {
			if c.Method == "AppendRows" && c.Effect == effect && c.Resource == ms.StreamName() {
				once.Do(func() { err = with })
			}
			return err
		})
	}
	lost := status.Error(codes.Unavailable, "injected")
	lose(true, lost)
	_, err := appendRows(t, ms, row, managedwriter.WithOffset(0))
	wantStorage(t, err, codes.Unavailable, 0)
	_, err = appendRows(t, ms, row, managedwriter.WithOffset(0))
	wantStorage(t, err, codes.AlreadyExists, storagepb.StorageError_OFFSET_ALREADY_EXISTS)
	// Lost before the effect: the retry appends.
	lose(false, lost)
	_, err = appendRows(t, ms, row, managedwriter.WithOffset(1))
	wantStorage(t, err, codes.Unavailable, 0)
	_, err = appendRows(t, ms, row, managedwriter.WithOffset(1))
	wantStorage(t, err, codes.OK, 0)
	// A quota's error comes in the stream, which goes on.
	lose(false, emulator.InStream(status.Error(codes.ResourceExhausted, "injected quota")))
	_, err = appendRows(t, ms, row, managedwriter.WithOffset(2))
	wantStorage(t, err, codes.ResourceExhausted, 0)
	// So does a stream that the service has ended by itself.
	lose(false, emulator.InStream(emulator.StorageError(codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED, ms.StreamName(), "injected")))
	_, err = appendRows(t, ms, row, managedwriter.WithOffset(2))
	wantStorage(t, err, codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED)
	w.server.SetFault(nil)
	if _, err := appendRows(t, ms, row, managedwriter.WithOffset(2)); err != nil || w.count("people") != 3 {
		t.Errorf("%v, %d rows", err, w.count("people"))
	}
}

func TestRowErrors(t *testing.T) {
	w := start(t)
	w.table("people", people)
	md, dp := message(t, people)
	dp.Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum() // so only the table requires it
	ms := w.committed("people", dp)
	good := encode(t, md, "id", int64(1))
	resp, err := appendRows(t, ms, [][]byte{good, encode(t, md, "name", "no id"), good, []byte("\xff"), append(bytes.Clone(good), 0x78, 1)})
	wantStorage(t, err, codes.InvalidArgument, 0)
	var at []int64
	for _, e := range resp.GetRowErrors() {
		at = append(at, e.Index)
	}
	if fmt.Sprint(at) != "[1 3 4]" || w.count("people") != 0 {
		t.Errorf("row errors %v, %d rows in the table", resp.GetRowErrors(), w.count("people"))
	}
	if resp, err := appendRows(t, ms, [][]byte{good}); err != nil || resp.GetAppendResult().GetOffset().GetValue() != 0 {
		t.Errorf("after row errors: %v, %v", resp, err)
	}
}

func TestSchemaChanges(t *testing.T) {
	w := start(t)
	table := w.table("people", people)
	wider := append(people[:2:2], &bigquery.FieldSchema{Name: "age", Type: bigquery.IntegerFieldType})
	md, dp := message(t, people)
	wideMD, wideDP := message(t, wider)
	// A field the table lacks is refused, until the table has it.
	ahead := w.committed("people", wideDP)
	wide := [][]byte{encode(t, wideMD, "id", int64(1), "age", int64(40))}
	_, err := appendRows(t, ahead, wide)
	wantStorage(t, err, codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS)
	behind := w.committed("people", dp)
	narrow := [][]byte{encode(t, md, "id", int64(2))}
	if resp, err := appendRows(t, behind, narrow); err != nil || resp.UpdatedSchema != nil {
		t.Fatalf("%v, %v", resp, err)
	}
	if _, err := table.Update(t.Context(), bigquery.TableMetadataToUpdate{Schema: wider}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := appendRows(t, ahead, wide); err != nil {
		t.Error(err)
	}
	for i := range 2 { // a writer of the older schema is told once
		resp, err := appendRows(t, behind, narrow)
		if err != nil || (len(resp.UpdatedSchema.GetFields()) == 3) != (i == 0) {
			t.Errorf("append %d after the update: %v, %v", i, resp, err)
		}
	}
	if got := fmt.Sprint(all(t, table.Read(t.Context()), nil)); got != "[[2 <nil> <nil>] [1 <nil> 40] [2 <nil> <nil>] [2 <nil> <nil>]]" {
		t.Error(got)
	}
}

func TestMissingAndUnsupportedStreams(t *testing.T) {
	w := start(t)
	table := w.table("people", people)
	md, dp := message(t, people)
	row := [][]byte{encode(t, md, "id", int64(1))}
	_, err := w.writer.CreateWriteStream(t.Context(), &storagepb.CreateWriteStreamRequest{
		Parent: path("gone"), WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED},
	})
	wantStorage(t, err, codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND)
	for _, kind := range []storagepb.WriteStream_Type{storagepb.WriteStream_PENDING, storagepb.WriteStream_BUFFERED} {
		_, err = w.writer.CreateWriteStream(t.Context(), &storagepb.CreateWriteStreamRequest{
			Parent: path("people"), WriteStream: &storagepb.WriteStream{Type: kind},
		})
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), kind.String()) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	_, err = w.writer.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{Name: path("people") + "/streams/gone"})
	wantStorage(t, err, codes.NotFound, storagepb.StorageError_STREAM_NOT_FOUND)
	_, err = storagepb.NewBigQueryWriteClient(w.dial()).FinalizeWriteStream(t.Context(), &storagepb.FinalizeWriteStreamRequest{Name: path("people") + "/streams/_default"})
	wantStorage(t, err, codes.InvalidArgument, storagepb.StorageError_INVALID_STREAM_TYPE)

	ms := w.committed("people", dp)
	full, err := w.writer.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{Name: ms.StreamName(), View: storagepb.WriteStreamView_FULL})
	if err != nil || len(full.GetTableSchema().GetFields()) != 2 || full.Type != storagepb.WriteStream_COMMITTED || full.CreateTime == nil {
		t.Errorf("%v, %v", full, err)
	}
	if _, err := appendRows(t, ms, row, managedwriter.WithOffset(0)); err != nil {
		t.Fatal(err)
	}
	// A table made again under the name has none of the old one's streams.
	if err := table.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = appendRows(t, ms, row, managedwriter.WithOffset(1))
	wantStorage(t, err, codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND)
	w.table("people", people)
	_, err = appendRows(t, ms, row, managedwriter.WithOffset(1))
	wantStorage(t, err, codes.NotFound, storagepb.StorageError_STREAM_NOT_FOUND)
	if n := w.count("people"); n != 0 {
		t.Errorf("%d rows in the new table", n)
	}
}

// raw sends requests on one connection and returns the last answer.
func (w *world) raw(requests ...*storagepb.AppendRowsRequest) (*storagepb.AppendRowsResponse, error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	conn := w.dial()
	stream, err := storagepb.NewBigQueryWriteClient(conn).AppendRows(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	var resp *storagepb.AppendRowsResponse
	for _, r := range requests {
		if err := stream.Send(r); err != nil {
			break // Recv has the reason
		}
		if resp, err = stream.Recv(); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func TestConnectionRules(t *testing.T) {
	w := start(t)
	w.table("people", people)
	w.table("other", people)
	md, dp := message(t, people)
	request := func(stream string, schema bool, rows ...[]byte) *storagepb.AppendRowsRequest {
		data := &storagepb.AppendRowsRequest_ProtoData{Rows: &storagepb.ProtoRows{SerializedRows: rows}}
		if schema {
			data.WriterSchema = &storagepb.ProtoSchema{ProtoDescriptor: dp}
		}
		return &storagepb.AppendRowsRequest{WriteStream: stream, Rows: &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: data}}
	}
	people, other := path("people")+"/streams/_default", path("other")+"/_default"
	row := encode(t, md, "id", int64(1))

	// One connection may serve several default streams.
	resp, err := w.raw(request(people, true, row), request(other, true, row), request("", false, row))
	if err != nil || resp.GetAppendResult() == nil || resp.GetAppendResult().Offset != nil {
		t.Errorf("%v, %v", resp, err)
	}
	if w.count("people") != 1 || w.count("other") != 2 {
		t.Errorf("%d and %d rows", w.count("people"), w.count("other"))
	}
	_, err = w.raw(request("", true, row))
	wantStorage(t, err, codes.InvalidArgument, 0)
	_, err = w.raw(request(path("gone")+"/streams/_default", true, row))
	wantStorage(t, err, codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND)
	if resp, err = w.raw(request(people, false, row)); err != nil || codes.Code(resp.GetError().GetCode()) != codes.InvalidArgument {
		t.Errorf("without a schema: %v, %v", resp, err)
	}
	at := request(people, true, row)
	at.Offset = wrapperspb.Int64(0)
	if resp, err = w.raw(at); err != nil || codes.Code(resp.GetError().GetCode()) != codes.InvalidArgument {
		t.Errorf("offset on a default stream: %v, %v", resp, err)
	}
	ms := w.committed("people", dp)
	_, err = w.raw(request(ms.StreamName(), true, row), request(people, true, row))
	wantStorage(t, err, codes.InvalidArgument, 0)

	large := encode(t, md, "id", int64(1), "name", strings.Repeat("x", 19_000_000))
	if resp, err = w.raw(request(people, true, large)); err != nil || resp.GetAppendResult() == nil {
		t.Errorf("19 MB: %v, %v", resp.GetError(), err)
	}
	large = encode(t, md, "id", int64(1), "name", strings.Repeat("x", 20_000_000))
	_, err = w.raw(request(people, true, large))
	wantStorage(t, err, codes.InvalidArgument, 0)

	cdc := proto.CloneOf(dp)
	cdc.Field = append(cdc.Field, &descriptorpb.FieldDescriptorProto{
		Name: proto.String("_CHANGE_TYPE"), Number: proto.Int32(9),
		Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	})
	change := request(people, true, row)
	change.GetProtoRows().WriterSchema.ProtoDescriptor = cdc
	if resp, err = w.raw(change); err != nil || codes.Code(resp.GetError().GetCode()) != codes.Unimplemented {
		t.Errorf("change data capture: %v, %v", resp, err)
	}
}

func TestMissingValues(t *testing.T) {
	w := start(t)
	schema := append(people[:2:2], &bigquery.FieldSchema{Name: "state", Type: bigquery.StringFieldType, DefaultValueExpression: "'new'"})
	w.table("people", schema)
	md, dp := message(t, people) // its rows cannot hold a state at all
	ms, err := w.writer.NewManagedStream(t.Context(), managedwriter.WithDestinationTable(path("people")),
		managedwriter.WithType(managedwriter.DefaultStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		t.Fatal(err)
	}
	defer ms.Close()
	row := [][]byte{encode(t, md, "id", int64(1))}
	if _, err := appendRows(t, ms, row); err != nil {
		t.Fatal(err)
	}
	if _, err := appendRows(t, ms, row, managedwriter.UpdateDefaultMissingValueInterpretation(storagepb.AppendRowsRequest_DEFAULT_VALUE)); err != nil {
		t.Fatal(err)
	}
	_, rows, err := w.server.Rows("p", "d", "people")
	if err != nil || len(rows) != 2 || rows[0].At(2) != nil || rows[1].At(2) != "new" {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestFaultsOfUnaryCalls(t *testing.T) {
	w := start(t)
	w.table("people", people)
	w.server.SetFault(func(_ context.Context, c emulator.Call) error {
		if c.Method == "CreateWriteStream" && c.Effect {
			return errors.New("lost")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := w.dial()
	_, err := storagepb.NewBigQueryWriteClient(conn).CreateWriteStream(ctx, &storagepb.CreateWriteStreamRequest{
		Parent: path("people"), WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED},
	})
	wantStorage(t, err, codes.Unavailable, 0)

}

// Close ends calls that a fault holds up, on both ports.
func TestCloseEndsHeldCalls(t *testing.T) {
	w := start(t)
	w.table("people", people)
	held := make(chan string, 2)
	w.server.SetFault(func(ctx context.Context, c emulator.Call) error {
		held <- c.Method
		<-ctx.Done()
		return ctx.Err()
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := http.Post(w.server.Endpoint()+"/projects/p/datasets", "application/json", strings.NewReader("{}")); err == nil {
			resp.Body.Close()
			t.Errorf("a held call was answered: %s", resp.Status)
		}
	})
	wg.Go(func() {
		_, err := storagepb.NewBigQueryWriteClient(w.dial()).CreateWriteStream(t.Context(), &storagepb.CreateWriteStreamRequest{
			Parent: path("people"), WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED},
		})
		if err == nil {
			t.Error("a held call was answered")
		}
	})
	<-held
	<-held
	if err := w.server.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// BenchmarkAppend is one writer on one committed stream, 500 rows of about 200 bytes an append, through the client.
func BenchmarkAppend(b *testing.B) {
	s, err := emulator.Start(b.Context(), emulator.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	rest, err := bigquery.NewClient(b.Context(), "p", s.ClientOptions()...)
	if err != nil {
		b.Fatal(err)
	}
	defer rest.Close()
	writer, err := managedwriter.NewClient(b.Context(), "p", s.WriteClientOptions()...)
	if err != nil {
		b.Fatal(err)
	}
	defer writer.Close()
	if err := rest.Dataset("d").Create(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	if err := rest.Dataset("d").Table("people").Create(b.Context(), &bigquery.TableMetadata{Schema: people}); err != nil {
		b.Fatal(err)
	}
	md, dp := message(b, people)
	ms, err := writer.NewManagedStream(b.Context(), managedwriter.WithDestinationTable(path("people")),
		managedwriter.WithType(managedwriter.CommittedStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		b.Fatal(err)
	}
	defer ms.Close()
	rows := make([][]byte, 500)
	for i := range rows {
		rows[i] = encode(b, md, "id", int64(i), "name", strings.Repeat("x", 190))
	}
	for b.Loop() {
		res, err := ms.AppendRows(b.Context(), rows)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := res.GetResult(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
}

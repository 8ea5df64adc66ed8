package gcssink

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/sinks"
)

// discard is a Cloud Storage that keeps nothing and says of every upload what the client said of it.
func discard(w http.ResponseWriter, r *http.Request) {
	reply := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if r.Method != http.MethodPost {
		if r.URL.Path == "/storage/v1/b/"+testBucket+"/o" {
			reply(map[string]any{})
			return
		}
		http.NotFound(w, r)
		return
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	object := map[string]any{}
	part, err := parts.NextPart()
	if err == nil {
		err = json.NewDecoder(part).Decode(&object)
	}
	if err == nil {
		part, err = parts.NextPart()
	}
	var size int64
	if err == nil {
		size, err = io.Copy(io.Discard, part)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	object["size"], object["generation"], object["name"] = fmt.Sprint(size), "1", r.URL.Query().Get("name")
	reply(object)
}

// benchChanges are n orders as a shop would write them, of one transaction each, inside an hour.
func benchChanges(n int) (change.Chain, []change.Change) {
	table := change.NewTable("orders", 1, []change.Column{
		{Name: "id", Type: &change.Type{Code: change.CodeString}, Key: true, Ordinal: 1},
		{Name: "customer", Type: &change.Type{Code: change.CodeInt64}, Ordinal: 2},
		{Name: "placed", Type: &change.Type{Code: change.CodeTimestamp}, Ordinal: 3},
		{Name: "total", Type: &change.Type{Code: change.CodeNumeric}, Ordinal: 4},
		{Name: "lines", Type: &change.Type{Code: change.CodeJSON}, Ordinal: 5},
	})
	changes := make([]change.Change, n)
	for i := range changes {
		text := func(format string, args ...any) change.Value { return change.Value(fmt.Sprintf(format, args...)) }
		changes[i] = change.Change{
			Position: change.Position{Commit: 1_767_322_800_000_000 + change.Timestamp(i)*300, Transaction: fmt.Sprint(1_000_000 + i), Sequence: "00000000"},
			Table:    table, Op: change.Insert, Capture: change.NewRow, Partition: "__token==", Records: 1, Partitions: 1,
			Key: []change.Value{text(`"%08x-9dad-11d1-80b4-00c04fd430c8"`, uint32(i)*2654435761)},
			After: change.Row{nil, text(`"%d"`, i*7919%100_003), text(`"2026-01-02T03:04:05.%06dZ"`, i), text(`"%d.%02d"`, i%997, i%100),
				text(`"{\"lines\":[{\"sku\":\"A-%d\",\"count\":%d}]}"`, i%5000, i%9+1)},
		}
	}
	return change.Chain{Pipeline: "p", Incarnation: 1, Token: "__token==", Table: "orders"}, changes
}

func size(changes []change.Change) (n int64) {
	for i := range changes {
		n += int64(changes[i].Size())
	}
	return n
}

// BenchmarkAppend is 10,000 changes in one segment to a service that discards them; BenchmarkEncode is the part of it that
// makes the file. MB/s are of the changes' size in memory.
func BenchmarkAppend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(discard))
	defer server.Close()
	chain, changes := benchChanges(10_000)
	o := Options{}
	o.Bucket, o.Database, o.Stream, o.Endpoint = testBucket, "d", "s", server.URL
	s, err := New("bench", o)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	b.SetBytes(size(changes))
	b.ReportAllocs()
	for b.Loop() {
		end, err := s.Append(b.Context(), &sinks.Batch{Chain: &chain, Changes: changes}, sinks.End{})
		if err != nil || end.Segments[0].Count != int64(len(changes)) {
			b.Fatal(end, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(changes)), "ns/change")
}

func BenchmarkEncode(b *testing.B) {
	chain, changes := benchChanges(10_000)
	schema, err := avro.SchemaOf(changes[0].Table)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size(changes))
	b.ReportAllocs()
	var bytes int64
	for b.Loop() {
		segment, _, _, err := archive.Encode(chain, archive.Link{}, schema, avro.Deflate, changes)
		if err != nil {
			b.Fatal(err)
		}
		bytes = segment.Bytes
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(changes)), "ns/change")
	b.ReportMetric(float64(bytes)/float64(len(changes)), "file-B/change")
}

package pubsubsink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/emulator/pubsub"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

func TestMain(m *testing.M) {
	// The client libraries import OpenCensus, which starts one goroutine for ever in its init.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const topic = "projects/test/topics/changes"

func startServer(t testing.TB) *pubsub.Server {
	t.Helper()
	server, err := pubsub.Start(pubsub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := server.CreateTopic(context.Background(), topic); err != nil {
		t.Fatal(err)
	}
	return server
}

func newSink(t testing.TB, endpoint string, o Options) *Sink {
	t.Helper()
	o.EmulatorHost = endpoint
	if o.Topic == "" {
		o.Topic = topic
	}
	s, err := New("test", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openSink(t testing.TB, endpoint string, o Options) *Sink {
	t.Helper()
	s := newSink(t, endpoint, o)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// read decodes a message's data without the code that wrote it, where that is not package avro's own.
func read(t testing.TB, format Format, data []byte) sinktest.Delivered {
	t.Helper()
	if format == AvroOCF {
		r, err := avro.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var c change.Change
		if err := r.Next(&c); err != nil {
			t.Fatal(err)
		}
		return sinktest.Deliver(&c)
	}
	var doc struct {
		ID, Table, Op string
		Key           json.RawMessage
		After, Before map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	d := sinktest.Delivered{ID: doc.ID, Table: doc.Table, Op: doc.Op, After: map[string]string{}, Before: map[string]string{}}
	for name, v := range doc.After {
		d.After[name] = string(v)
	}
	for name, v := range doc.Before {
		d.Before[name] = string(v)
	}
	// The key's values in the order they stand in.
	tokens := json.NewDecoder(bytes.NewReader(doc.Key))
	tokens.Token()
	for tokens.More() {
		tokens.Token()
		var v json.RawMessage
		if err := tokens.Decode(&v); err != nil {
			t.Fatal(err)
		}
		d.Key += "," + string(v)
	}
	d.Key = "[" + strings.TrimPrefix(d.Key, ",") + "]"
	return d
}

func TestConformance(t *testing.T) {
	server := startServer(t)
	topics := 0
	for _, o := range []Options{
		{},
		{Format: JSON, Ordering: "full-key", MaxChanges: 7},
		{Format: JSON, Ordering: "{table}", Lanes: 1, Requests: 1},
		{Ordering: "none"},
	} {
		t.Run(fmt.Sprintf("%s %s", o.Format, o.Ordering), func(t *testing.T) {
			sinktest.Run(t, sinktest.Harness{
				Make: func(t *testing.T) sinktest.Destination {
					topics++
					o := o
					o.Topic = fmt.Sprintf("projects/test/topics/changes-%d", topics)
					if err := server.CreateTopic(t.Context(), o.Topic); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(server.Clear)
					return sinktest.Destination{
						Sink: func(t *testing.T) sinks.Sink { return newSink(t, server.Endpoint(), o) },
						ReadBack: func(t *testing.T) (all []sinktest.Delivered) {
							for _, m := range server.Messages(o.Topic) {
								all = append(all, read(t, Format(m.Attributes["format"]), m.Data))
							}
							return all
						},
					}
				},
				Missing: func(t *testing.T) sinks.Sink {
					return newSink(t, server.Endpoint(), Options{Topic: "projects/test/topics/missing"})
				},
				Refuse: func(c *change.Change) {
					c.After = change.Row{change.Value(`"` + strings.Repeat("x", 10_000_000) + `"`)}
				},
			})
		})
	}
}

// rows makes changes of different rows that a two-bucket ordering spreads.
func rows(n int) []change.Change { return sinktest.NewGenerator(9).NextOf(1, n) }

func ids(server *pubsub.Server, key string) (ids []string) {
	for _, m := range server.Messages(topic) {
		if key == "" || m.OrderingKey == key {
			ids = append(ids, m.Attributes["position"])
		}
	}
	return ids
}

// A failed request holds back what follows under its ordering key, and nothing else; the repeat is in order.
func TestOneOrderingKeyFails(t *testing.T) {
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{OrderingBuckets: 2, Requests: 2})
	changes := rows(2500) // at least two requests a bucket
	var calls atomic.Int32
	server.SetFault(func(_ context.Context, method string, req proto.Message, effect bool) error {
		if method == "Publish" && !effect && req.(*pubsubpb.PublishRequest).Messages[0].OrderingKey == "bucket-1" && calls.Add(1) == 1 {
			return status.Error(codes.Unavailable, "injected")
		}
		return nil
	})
	err := s.Write(t.Context(), &sinks.Batch{Changes: changes})
	if status.Code(errors.Unwrap(err)) != codes.Unavailable || sinks.IsStop(err) || calls.Load() != 1 {
		t.Fatalf("Write: %v after %d requests of the failing key, want UNAVAILABLE after 1", err, calls.Load())
	}
	if got := ids(server, "bucket-1"); len(got) != 0 {
		t.Fatalf("%d messages of the failed ordering key were published behind the failure", len(got))
	}
	if err := s.Write(t.Context(), &sinks.Batch{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range changes {
		want = append(want, changes[i].ID())
	}
	for _, key := range []string{"bucket-0", "bucket-1"} {
		got := ids(server, key)
		if key == "bucket-0" {
			got = got[len(got)/2:] // its first attempt was durable
		}
		rest := want
		for _, id := range got {
			i := 0
			for i < len(rest) && rest[i] != id {
				i++
			}
			if i == len(rest) {
				t.Fatalf("%s: %s is out of order", key, id)
			}
			rest = rest[i+1:]
		}
	}
}

func TestLostResponseIsRepeated(t *testing.T) {
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{})
	changes := rows(20)
	var lost atomic.Bool
	server.SetFault(func(_ context.Context, method string, _ proto.Message, effect bool) error {
		if method == "Publish" && effect && lost.CompareAndSwap(false, true) {
			return status.Error(codes.DeadlineExceeded, "injected")
		}
		return nil
	})
	if err := s.Write(t.Context(), &sinks.Batch{Changes: changes}); err == nil {
		t.Fatal("Write returned nil although an answer was lost")
	}
	if err := s.Write(t.Context(), &sinks.Batch{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, id := range ids(server, "") {
		seen[id]++
	}
	twice := 0
	for i := range changes {
		switch seen[changes[i].ID()] {
		case 0:
			t.Errorf("%s is lost", changes[i].ID())
		case 2:
			twice++
		}
	}
	if twice == 0 {
		t.Error("nothing was published twice: the fault did not strike")
	}
}

// A service that does not answer holds a call only as long as its context.
func TestSlowServiceAndDeadline(t *testing.T) {
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{})
	server.SetFault(func(ctx context.Context, method string, _ proto.Message, effect bool) error {
		if method == "Publish" && !effect {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.Write(ctx, &sinks.Batch{Changes: rows(50)})
	if err == nil || sinks.IsStop(err) {
		t.Fatalf("Write: %v, want an error that is retried", err)
	}
}

func TestErrorsAreInstructions(t *testing.T) {
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{})
	hint, err := status.New(codes.ResourceExhausted, "quota").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		give  error
		stop  bool
		after time.Duration
		says  string
	}{
		{status.Error(codes.NotFound, "x"), true, 0, "spanledger init"},
		{status.Error(codes.PermissionDenied, "x"), true, 0, "roles/pubsub.publisher"},
		{status.Error(codes.Unauthenticated, "x"), true, 0, "credentials"},
		{status.Error(codes.InvalidArgument, "x"), true, 0, "describe"},
		{status.Error(codes.Unimplemented, "x"), true, 0, "endpoint"},
		{hint.Err(), false, 7 * time.Second, topic},
		{status.Error(codes.Unavailable, "x"), false, 0, topic},
		{status.Error(codes.Internal, "x"), false, 0, topic},
		{status.Error(codes.DeadlineExceeded, "x"), false, 0, topic},
	} {
		var calls atomic.Int32
		server.SetFault(func(_ context.Context, method string, _ proto.Message, _ bool) error {
			calls.Add(1)
			return test.give
		})
		err := s.Write(t.Context(), &sinks.Batch{Changes: rows(1)})
		if err == nil || sinks.IsStop(err) != test.stop || sinks.RetryAfter(err) != test.after || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v became %v (stop %t, after %v); want stop %t, after %v, and the words %q", test.give, err, sinks.IsStop(err),
				sinks.RetryAfter(err), test.stop, test.after, test.says)
		}
		if calls.Load() != 1 {
			t.Errorf("%v: %d attempts, want one: the engine retries", test.give, calls.Load())
		}
	}
}

func TestOpenErrors(t *testing.T) {
	server := startServer(t)
	for _, test := range []struct {
		give error
		says string
	}{
		{status.Error(codes.PermissionDenied, "x"), "roles/pubsub.publisher"},
		{status.Error(codes.Unauthenticated, "x"), "credentials"},
		{status.Error(codes.NotFound, "x"), "gcloud pubsub topics create " + topic},
		{status.Error(codes.InvalidArgument, "x"), topic},
	} {
		server.SetFault(func(_ context.Context, method string, _ proto.Message, _ bool) error { return test.give })
		err := newSink(t, server.Endpoint(), Options{}).Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v became %v, want the words %q", test.give, err, test.says)
		}
	}
}

func TestAttributes(t *testing.T) {
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{Format: JSON})
	c := rows(1)[0]
	c.Tag, c.Op = "app=\xffcheckout", change.Op(77)
	c.Position.Transaction = "tx"
	if err := s.Write(t.Context(), &sinks.Batch{Changes: []change.Change{c}}); err != nil {
		t.Fatal(err)
	}
	got := server.Messages(topic)[0].Attributes
	schema, err := avro.SchemaOf(c.Table)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"table": "shop.stock", "op": "UNKNOWN", "commit_timestamp": c.Position.Commit.String(), "position": c.ID(), "transaction": "tx",
		"tag": "app=\ufffdcheckout", "format": "json", "schema": schema.Fingerprint(),
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("attribute %s is %q, want %q", name, got[name], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("attributes %v, want %v", got, want)
	}
}

// A snapshot row's position holds its key, which may be longer than an attribute may be.
func TestOverlongAttributeIsLeftOut(t *testing.T) {
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{Format: JSON, Ordering: "full-key"})
	c := rows(1)[0]
	long := strings.Repeat("k", 3000)
	c.Key = []change.Value{change.Value(`"` + long + `"`), c.Key[1]}
	c.Position = change.Position{Commit: c.Position.Commit, Snapshot: true, Transaction: "shop.stock", Sequence: long}
	if err := s.Write(t.Context(), &sinks.Batch{Changes: []change.Change{c}}); err != nil {
		t.Fatal(err)
	}
	m := server.Messages(topic)[0]
	if _, ok := m.Attributes["position"]; ok || m.Attributes["table"] != "shop.stock" {
		t.Errorf("attributes %v", m.Attributes)
	}
	if !strings.HasPrefix(m.OrderingKey, "sha256:") || len(m.OrderingKey) != 7+64 {
		t.Errorf("ordering key %q", m.OrderingKey)
	}
	if read(t, JSON, m.Data).ID != c.ID() {
		t.Error("the data lacks the position")
	}
}

// Lanes that share an ordering key do not disturb each other, failures included.
func TestLanesShareAnOrderingKey(t *testing.T) {
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{OrderingBuckets: 1})
	var n atomic.Int32
	server.SetFault(func(_ context.Context, method string, _ proto.Message, effect bool) error {
		if i := n.Add(1); i%5 == 0 {
			return status.Error(codes.Unavailable, "injected")
		}
		return nil
	})
	changes := rows(600)
	lanes := make([][]change.Change, 4)
	for i := range changes {
		lane := bucket(changes[i].AppendKey(nil), len(lanes))
		lanes[lane] = append(lanes[lane], changes[i])
	}
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(func() {
			for len(lane) > 0 {
				n := min(10, len(lane))
				for s.Write(t.Context(), &sinks.Batch{Changes: lane[:n]}) != nil {
				}
				lane = lane[n:]
			}
		})
	}
	wg.Wait()
	order := map[string]int{}
	for i := range changes {
		order[changes[i].ID()] = i
	}
	last, seen := map[string]int{}, map[string]bool{}
	for _, m := range server.Messages(topic) {
		id := m.Attributes["position"]
		if seen[id] {
			continue
		}
		seen[id] = true
		c := &changes[order[id]]
		key := string(c.AppendKey(nil))
		if l, ok := last[key]; ok && order[id] < l {
			t.Fatalf("row %s: %s was first published behind a later change", key, id)
		}
		last[key] = order[id]
	}
	if len(seen) != len(changes) {
		t.Errorf("%d of %d changes", len(seen), len(changes))
	}
}

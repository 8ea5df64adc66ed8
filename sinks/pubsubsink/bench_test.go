package pubsubsink

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	library "cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// The bytes of a message in each format, for a narrow and a wide table: what goes over the wire, ordering key and
// attributes included. Run with -v to see them.
func TestBytesPerMessage(t *testing.T) {
	g := sinktest.NewGenerator(1)
	for table, name := range []string{"orders", "shop.stock"} {
		changes := g.NextOf(table, 200)
		values := 0
		for i := range changes {
			for _, row := range [][]change.Value{changes[i].Key, changes[i].After, changes[i].Before} {
				for _, v := range row {
					values += len(v)
				}
			}
		}
		sizes := map[Format]int{}
		for _, format := range []Format{AvroOCF, JSON} {
			s := newSink(t, "127.0.0.1:1", Options{Format: format})
			var e encoder
			for i := range changes {
				info, err := s.info(changes[i].Table)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.encode(info, &changes[i], "bucket-100"); err != nil {
					t.Fatal(err)
				}
				sizes[format] += e.messageSize()
			}
			t.Logf("%-10s (%2d columns, %4d bytes of values) %-8s %5d bytes a message", name, len(changes[0].Table.Columns), values/len(changes),
				format, sizes[format]/len(changes))
		}
		schema, err := avro.SchemaOf(changes[0].Table)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-10s of an avro-ocf message %d bytes are the schema", name, len(schema.JSON()))
		// A guard, not a goal: attributes and framing must not outgrow what they describe.
		if most := values/len(changes) + len(schema.JSON()) + 1200; sizes[AvroOCF]/len(changes) > most {
			t.Errorf("%s: avro-ocf has %d bytes a message, more than %d", name, sizes[AvroOCF]/len(changes), most)
		}
	}
}

// sinkhole is a publisher service that counts messages and does nothing else, so that clients are measured, not servers.
type sinkhole struct {
	pubsubpb.UnimplementedPublisherServer
	messages atomic.Int64
}

func (s *sinkhole) Publish(_ context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	s.messages.Add(int64(len(r.Messages)))
	ids := make([]string, len(r.Messages))
	for i := range ids {
		ids[i] = "1234567890123456"
	}
	return &pubsubpb.PublishResponse{MessageIds: ids}, nil
}

func (s *sinkhole) GetTopic(_ context.Context, r *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	return &pubsubpb.Topic{Name: r.Topic}, nil
}

func startSinkhole(b *testing.B) (*sinkhole, string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(math.MaxInt32))
	hole := new(sinkhole)
	pubsubpb.RegisterPublisherServer(server, hole)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	b.Cleanup(func() {
		server.Stop()
		<-done
	})
	return hole, listener.Addr().String()
}

// BenchmarkPublish compares this sink with the client library's publisher, given the same messages, on one server: one op is
// a batch of 4,000 changes with 256 ordering keys, encoded, published and acknowledged. The server's cost is in both.
func BenchmarkPublish(b *testing.B) {
	const batch = 4000
	changes := sinktest.NewGenerator(1).NextOf(1, batch)
	for i := range changes {
		changes[i].Key = []change.Value{change.Value(fmt.Sprintf(`"store-%d"`, i)), change.Value(`"AA=="`)}
	}
	for _, format := range []Format{JSON, AvroOCF} {
		for _, buckets := range []int{1, 256} {
			b.Run(fmt.Sprintf("sink/%s/%d", format, buckets), func(b *testing.B) {
				hole, endpoint := startSinkhole(b)
				s := openSink(b, endpoint, Options{Format: format, OrderingBuckets: buckets})
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Write(b.Context(), &sinks.Batch{Changes: changes}); err != nil {
						b.Fatal(err)
					}
				}
				report(b, hole, batch)
			})
			b.Run(fmt.Sprintf("library/%s/%d", format, buckets), func(b *testing.B) {
				hole, endpoint := startSinkhole(b)
				client, err := library.NewClient(b.Context(), "test", option.WithEndpoint(endpoint), option.WithoutAuthentication(),
					option.WithTelemetryDisabled(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
				if err != nil {
					b.Fatal(err)
				}
				defer client.Close()
				p := client.Publisher(topic)
				defer p.Stop()
				p.EnableMessageOrdering = true
				p.PublishSettings.CountThreshold = 1000
				ordering, err := parseOrdering(orderBuckets, buckets)
				if err != nil {
					b.Fatal(err)
				}
				encode, fingerprint, err := formatOf(format, changes[0].Table)
				if err != nil {
					b.Fatal(err)
				}
				results := make([]*library.PublishResult, batch)
				b.ReportAllocs()
				for b.Loop() {
					for i := range changes {
						c := &changes[i]
						data, err := encode(nil, c)
						if err != nil {
							b.Fatal(err)
						}
						results[i] = p.Publish(b.Context(), &library.Message{
							Data: data, OrderingKey: string(ordering.appendKey(nil, c, nil)),
							Attributes: map[string]string{
								"table": c.Table.Name, "op": c.Op.String(), "commit_timestamp": c.Position.Commit.String(), "position": c.ID(),
								"transaction": c.Position.Transaction, "format": string(format), "schema": fingerprint,
							},
						})
					}
					p.Flush()
					for _, r := range results {
						if _, err := r.Get(b.Context()); err != nil {
							b.Fatal(err)
						}
					}
				}
				report(b, hole, batch)
			})
		}
	}
}

func report(b *testing.B, hole *sinkhole, batch int) {
	if n := hole.messages.Load(); n < int64(b.N*batch) {
		b.Errorf("the server got %d messages of %d", n, b.N*batch)
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "msgs/s")
}

// BenchmarkEncode is the work for one message before the network.
func BenchmarkEncode(b *testing.B) {
	changes := sinktest.NewGenerator(1).NextOf(1, 100)
	for _, format := range []Format{JSON, AvroOCF} {
		b.Run(string(format), func(b *testing.B) {
			s := newSink(b, "127.0.0.1:1", Options{Format: format})
			info, err := s.info(changes[0].Table)
			if err != nil {
				b.Fatal(err)
			}
			var e encoder
			var once sync.Once
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if e.count == maxRequestMessages {
					once.Do(func() { b.SetBytes(int64(len(e.request) / e.count)) })
					e.reset()
				}
				if err := e.encode(info, &changes[i%len(changes)], "bucket-100"); err != nil {
					b.Fatal(err)
				}
				e.add()
				i++
			}
		})
	}
}

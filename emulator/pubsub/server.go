package pubsub

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// Options configure a Server; the zero value is good.
type Options struct {
	// Address is where to listen, host and port; empty means a free port on 127.0.0.1.
	Address string
	// Fault is the first fault hook; see Server.SetFault.
	Fault Fault
}

// Fault is called around every unary call, with the method's bare name, such as "Publish", and its request: first with
// effect false, before anything happens, then with effect true, when it has been carried out but not yet answered. An
// error ends the call with it; make it with package status. A Fault may block, for as long as ctx lasts: it holds up this
// one call only. It runs concurrently with itself.
type Fault func(ctx context.Context, method string, request proto.Message, effect bool) error

// Message is a message as published.
type Message struct {
	ID, Topic, OrderingKey string
	Attributes             map[string]string
	Data                   []byte
	PublishTime            time.Time
}

// Server is a running Pub/Sub. Its methods are safe for concurrent use.
type Server struct {
	fake     *pstest.Server
	grpc     *grpc.Server
	endpoint string
	fault    atomic.Pointer[Fault]
	served   chan error
	closing  sync.Once
	closed   error
}

// Start starts a server and returns when it accepts connections. Close stops it.
func Start(o Options) (*Server, error) {
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("pubsub emulator: %w", err)
	}
	fake, err := newFake()
	if err != nil {
		listener.Close()
		return nil, err
	}
	s := &Server{fake: fake, endpoint: listener.Addr().String(), served: make(chan error, 1)}
	s.SetFault(o.Fault)
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32), // check refuses what is too large
		grpc.UnaryInterceptor(s.intercept), grpc.StreamInterceptor(guardStream),
	)
	pubsubpb.RegisterPublisherServer(s.grpc, &fake.GServer)
	pubsubpb.RegisterSubscriberServer(s.grpc, &fake.GServer)
	pubsubpb.RegisterSchemaServiceServer(s.grpc, &fake.GServer)
	go func() { s.served <- s.grpc.Serve(listener) }()
	return s, nil
}

// newFake makes the fake; it opens a listener of its own, which nobody uses, and panics where that fails.
func newFake() (s *pstest.Server, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("pubsub emulator: %v", p)
		}
	}()
	return pstest.NewServerWithAddress("127.0.0.1:0"), nil
}

// Endpoint is the server's host and port, as PUBSUB_EMULATOR_HOST wants it.
func (s *Server) Endpoint() string { return s.endpoint }

// ClientOptions make a client of Google's libraries talk to this server.
func (s *Server) ClientOptions() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(s.endpoint),
		option.WithoutAuthentication(),
		option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// SetFault replaces the fault hook; nil takes it away.
func (s *Server) SetFault(f Fault) { s.fault.Store(&f) }

// Messages are the messages published to a topic ("projects/P/topics/T"; "" for all topics) in the order of their
// publishing.
func (s *Server) Messages(topic string) []Message {
	var messages []Message
	for _, m := range s.fake.Messages() {
		if topic == "" || m.Topic == topic {
			messages = append(messages, Message{
				ID: m.ID, Topic: m.Topic, OrderingKey: m.OrderingKey,
				Attributes: m.Attributes, Data: m.Data, PublishTime: m.PublishTime,
			})
		}
	}
	return messages
}

// Clear forgets every message, delivered or not.
func (s *Server) Clear() { s.fake.ClearMessages() }

// CreateTopic creates a topic, named "projects/P/topics/T", without going through a client.
func (s *Server) CreateTopic(ctx context.Context, name string) error {
	_, err := s.fake.GServer.CreateTopic(ctx, &pubsubpb.Topic{Name: name})
	return err
}

// Close ends all calls and stops the server. It may be called again and returns the same.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.grpc.Stop()
		s.closed = <-s.served
		if err := s.fake.Close(); s.closed == nil {
			s.closed = err
		}
		s.fake.Wait()
	})
	return s.closed
}

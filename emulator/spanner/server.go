package spanner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
	"github.com/spanledger/spanledger/emulator/spanner/server"
)

// Options configure Start. The zero value serves on a free loopback port with the system clock.
type Options struct {
	// Addr is the TCP address to listen on; "" means 127.0.0.1:0. The server has no authentication.
	Addr string
	// InMemory serves inside the process only, without a port: for testing/synctest, whose bubbles know no networks. Only
	// clients made with Server.ClientOptions reach it.
	InMemory bool
	// Clock is the time that commit timestamps, retention and heartbeats live by; nil is the system clock. See StepClock.
	Clock changes.Clock
	// VersionRetention is how long old row versions stay readable; 0 means one hour, as in Spanner.
	VersionRetention time.Duration
	// StreamRetention overrides retention_period of all change streams if positive.
	StreamRetention time.Duration
	// Partitions is how many partitions a new change stream begins with, up to 10,000; 0 means 1.
	Partitions int
	// Churn redraws change-stream partitions by the clock or by load; its zero value leaves them alone.
	Churn changes.Churn
	// Faults is what goes wrong; its zero value is nothing. Server.Faults adds more at any time.
	Faults fault.Plan
	// StreamBytes bounds the bytes of records each change stream retains; 0 means no bound but retention.
	StreamBytes int64
	// MaxConcurrentStreams bounds the streams of one connection; 0 means 100, as in production.
	MaxConcurrentStreams uint32
	// GRPC are more options for the gRPC server, for example interceptors.
	GRPC []grpc.ServerOption
}

// Server is a running embedded Spanner. Its methods are safe for concurrent use.
type Server struct {
	addr   string
	memory *bufconn.Listener // nil unless Options.InMemory
	srv    *server.Server
	faults *fault.Injector
	grpc   *grpc.Server

	close  sync.Once
	closed chan struct{}
	tidier sync.WaitGroup
	served chan error
}

// tidyEvery is how often, by the server's clock, the memory of what has expired is given back.
const tidyEvery = time.Minute

// memoryBytes is how much an in-memory connection holds in each direction.
const memoryBytes = 1 << 20

// Start listens and serves until Close, or until ctx is done.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Partitions < 0 || o.Partitions > changes.MaxPartitions {
		return nil, fmt.Errorf("embedded Spanner: %d partitions: want 1 to %d, or 0 for 1", o.Partitions, changes.MaxPartitions)
	}
	faults, err := fault.New(o.Faults)
	if err != nil {
		return nil, fmt.Errorf("embedded Spanner: %w", err)
	}
	clock := o.Clock
	if clock == nil {
		clock = changes.SystemClock{}
	}
	s := &Server{faults: faults, closed: make(chan struct{}), served: make(chan error, 1)}
	var lis net.Listener
	if o.InMemory {
		s.memory = bufconn.Listen(memoryBytes)
		lis, s.addr = s.memory, "in-memory"
	} else {
		addr := o.Addr
		if addr == "" {
			addr = "127.0.0.1:0"
		}
		var lc net.ListenConfig
		if lis, err = lc.Listen(ctx, "tcp", addr); err != nil {
			return nil, fmt.Errorf("embedded Spanner: cannot listen on %s: %w", addr, err)
		}
		s.addr = lis.Addr().String()
	}
	s.srv = server.New(server.Options{
		Clock: faults.Clock(clock), VersionRetention: o.VersionRetention, Faults: faults,
		Changes: changes.Options{Partitions: o.Partitions, Retention: o.StreamRetention, MaxBytes: o.StreamBytes, Churn: o.Churn},
	})
	s.grpc = grpc.NewServer(slices.Concat(server.GRPCOptions(o.MaxConcurrentStreams), server.Recover(), s.srv.Interceptors(), o.GRPC)...)
	s.srv.Register(s.grpc)
	s.tidier.Go(func() { s.tidy(clock) })
	stop := context.AfterFunc(ctx, s.shutdown)
	go func() {
		err := s.grpc.Serve(lis)
		stop()
		s.served <- err
	}()
	return s, nil
}

// InMemory reports whether it serves inside the process only; see Options.
func (s *Server) InMemory() bool { return s.memory != nil }

// ClientOptions make the clients of Google's libraries, data and admin, talk to this server.
func (s *Server) ClientOptions() []option.ClientOption {
	o := []option.ClientOption{
		option.WithEndpoint("passthrough:///" + s.addr), option.WithoutAuthentication(), option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	if s.memory != nil {
		o = append(o, option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return s.memory.DialContext(ctx)
		})))
	}
	return o
}

// Faults decides what goes wrong from now on: add rules to it for faults on command, and ask it what has struck.
func (s *Server) Faults() *fault.Injector { return s.faults }

// CreateDatabase creates a database by its full name, projects/P/instances/I/databases/D, with the schema of ddl, and its
// instance if that is missing: without a client, and done when it returns.
func (s *Server) CreateDatabase(ctx context.Context, name string, ddl ...string) (*server.Database, error) {
	return s.srv.CreateDatabase(ctx, name, ddl...)
}

// RestoreDatabase creates the database to with the rows and the schema that the database from has now, as if a backup had
// been restored: its change streams are empty, and tokens of from are not theirs.
func (s *Server) RestoreDatabase(from, to string) (*server.Database, error) {
	return s.srv.RestoreDatabase(from, to)
}

// Addr is the address to dial, host:port: what SPANNER_EMULATOR_HOST should hold. It means nothing with Options.InMemory.
func (s *Server) Addr() string { return s.addr }

// Database gives direct access to a database by its full name, projects/P/instances/I/databases/D; nil if there is
// none. It does on command what Spanner does by itself: its Log redraws change-stream partitions, DeleteExpired carries row
// deletion policies out.
func (s *Server) Database(name string) *server.Database { return s.srv.Database(name) }

// tidy gives memory back by the clock, until the server closes.
func (s *Server) tidy(clock changes.Clock) {
	newTimer := clock.NewTimer
	if c, ok := clock.(*StepClock); ok {
		newTimer = func(d time.Duration) (<-chan time.Time, func()) { return c.newTimer(d, true) }
	}
	for {
		fired, stop := newTimer(tidyEvery)
		select {
		case <-fired:
			s.srv.Tidy()
		case <-s.closed:
			stop()
			return
		}
	}
}

func (s *Server) shutdown() {
	s.close.Do(func() {
		close(s.closed)
		s.srv.Close()
		s.grpc.Stop()
	})
}

// Close ends all calls and stops serving. No goroutine of the server is left when it returns. It may be called more
// than once.
func (s *Server) Close() error {
	s.shutdown()
	err := <-s.served
	s.tidier.Wait()
	s.served <- nil
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

package spanner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/server"
)

// Options configure Start. The zero value serves on a free loopback port with the system clock.
type Options struct {
	// Addr is the TCP address to listen on; "" means 127.0.0.1:0. The server has no authentication.
	Addr string
	// Clock is the time that commit timestamps, retention and heartbeats live by; nil is the system clock.
	Clock changes.Clock
	// VersionRetention is how long old row versions stay readable; 0 means one hour, as in Spanner.
	VersionRetention time.Duration
	// StreamRetention overrides retention_period of all change streams if positive.
	StreamRetention time.Duration
	// Partitions is how many partitions a new change stream begins with; 0 means 1.
	Partitions int
	// Churn redraws change-stream partitions by the clock; its zero value leaves them alone.
	Churn changes.Churn
	// StreamBytes bounds the bytes of records each change stream retains; 0 means no bound but retention.
	StreamBytes int64
	// MaxConcurrentStreams bounds the streams of one connection; 0 means 100, as in production.
	MaxConcurrentStreams uint32
	// GRPC are more options for the gRPC server, for example interceptors that inject faults.
	GRPC []grpc.ServerOption
}

// Server is a running embedded Spanner. Its methods are safe for concurrent use.
type Server struct {
	addr string
	srv  *server.Server
	grpc *grpc.Server

	close  sync.Once
	served chan error
}

// Start listens and serves until Close, or until ctx is done.
func Start(ctx context.Context, o Options) (*Server, error) {
	addr := o.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("embedded Spanner: cannot listen on %s: %w", addr, err)
	}
	s := &Server{
		addr: lis.Addr().String(),
		srv: server.New(server.Options{
			Clock: o.Clock, VersionRetention: o.VersionRetention,
			Changes: changes.Options{Partitions: o.Partitions, Retention: o.StreamRetention, MaxBytes: o.StreamBytes, Churn: o.Churn},
		}),
		grpc:   grpc.NewServer(slices.Concat(server.GRPCOptions(o.MaxConcurrentStreams), server.Recover(), o.GRPC)...),
		served: make(chan error, 1),
	}
	s.srv.Register(s.grpc)
	stop := context.AfterFunc(ctx, s.shutdown)
	go func() {
		err := s.grpc.Serve(lis)
		stop()
		s.served <- err
	}()
	return s, nil
}

// Addr is the address to dial, host:port: what SPANNER_EMULATOR_HOST should hold.
func (s *Server) Addr() string { return s.addr }

// Database gives direct access to a database by its full name, projects/P/instances/I/databases/D; nil if there is
// none. Its Log redraws change-stream partitions on command.
func (s *Server) Database(name string) *server.Database { return s.srv.Database(name) }

func (s *Server) shutdown() {
	s.close.Do(func() {
		s.srv.Close()
		s.grpc.Stop()
	})
}

// Close ends all calls and stops serving. No goroutine of the server is left when it returns. It may be called more
// than once.
func (s *Server) Close() error {
	s.shutdown()
	err := <-s.served
	s.served <- nil
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

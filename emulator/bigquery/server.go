package bigquery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
	"github.com/spanledger/spanledger/emulator/bigquery/store"
)

// Options configure a Server; the zero value is good.
type Options struct {
	// RESTAddr and GRPCAddr are where to listen, host:port; "" means a free port of 127.0.0.1.
	RESTAddr, GRPCAddr string
	// Clock tells the time of creations and modifications; nil is time.Now. It is called concurrently.
	Clock func() time.Time
	// Fault is the first fault hook; see Server.SetFault.
	Fault Fault
}

// Server is a running BigQuery. Its methods are safe for concurrent use.
type Server struct {
	store *store.Store
	now   func() time.Time
	jobs  jobs
	hook  atomic.Pointer[Fault]

	rest, grpcAddr string
	http           *http.Server
	grpc           *grpc.Server
	served         chan error // one result of each listener
	stop           context.CancelFunc
	calls          sync.RWMutex // read-locked by each REST call under way, so that Close can wait for them

	closing sync.Once
	closed  error
}

// Start starts a server and returns when it accepts connections. ctx bounds the start only; Close stops the server.
func Start(ctx context.Context, o Options) (*Server, error) {
	var lc net.ListenConfig
	listen := func(what, addr string) (net.Listener, error) {
		if addr == "" {
			addr = "127.0.0.1:0"
		}
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("bigquery emulator: %s: %w", what, err)
		}
		return l, nil
	}
	rest, err := listen("REST API", o.RESTAddr)
	if err != nil {
		return nil, err
	}
	rpc, err := listen("Storage API", o.GRPCAddr)
	if err != nil {
		rest.Close()
		return nil, err
	}
	s := &Server{now: o.Clock, rest: rest.Addr().String(), grpcAddr: rpc.Addr().String(), served: make(chan error, 2)}
	if s.now == nil {
		s.now = time.Now
	}
	s.store = store.New(s.now)
	s.SetFault(o.Fault)
	// Calls end when the server is closed, not when ctx is done.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return base },
	}
	// What is too large is refused with the service's own error, so gRPC's limit must be out of the way.
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(2*maxRequestBytes), grpc.MaxSendMsgSize(math.MaxInt32), grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(recoverUnary), grpc.StreamInterceptor(recoverStream))
	storagepb.RegisterBigQueryWriteServer(s.grpc, &writeServer{Server: s})
	go func() { s.served <- s.http.Serve(rest) }()
	go func() { s.served <- s.grpc.Serve(rpc) }()
	return s, nil
}

// Endpoint is the REST API's address, http://host:port, as option.WithEndpoint wants it.
func (s *Server) Endpoint() string { return "http://" + s.rest }

// GRPCEndpoint is the Storage API's address, host:port.
func (s *Server) GRPCEndpoint() string { return s.grpcAddr }

// ClientOptions make bigquery.NewClient talk to this server.
func (s *Server) ClientOptions() []option.ClientOption {
	return []option.ClientOption{option.WithEndpoint(s.Endpoint()), option.WithoutAuthentication(), option.WithTelemetryDisabled()}
}

// WriteClientOptions make managedwriter.NewClient, or a client of the storage API, talk to this server.
func (s *Server) WriteClientOptions() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(s.grpcAddr), option.WithoutAuthentication(), option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// SetFault replaces the fault hook; nil takes it away.
func (s *Server) SetFault(f Fault) { s.hook.Store(&f) }

// Rows returns a table's columns and its rows in the order they were appended in, past all clients. The slices are shared
// and must not be changed. A row may be shorter than the columns: use row.Row.At.
func (s *Server) Rows(project, dataset, table string) ([]row.Field, []row.Row, error) {
	snap, err := s.store.Read(store.Ref{Project: project, Dataset: dataset, Table: table})
	if err != nil {
		return nil, nil, fmt.Errorf("bigquery emulator: %w", err)
	}
	return snap.Fields, snap.Rows, nil
}

// Stream returns a committed stream's next offset and whether it is finalized, past all clients. name is the resource name.
func (s *Server) Stream(name string) (next int64, finalized bool, err error) {
	n, err := store.ParseStream(name)
	if err == nil {
		var i store.StreamInfo
		if i, err = s.store.Stream(n); err == nil {
			return i.Rows, i.Finalized, nil
		}
	}
	return 0, false, fmt.Errorf("bigquery emulator: %w", err)
}

// Close ends all calls, waits for them, and stops the server; a Fault that ignores its ctx holds it up. It may be called
// again and returns the same.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.grpc.Stop()
		s.stop()
		err := s.http.Close()
		s.calls.Lock()
		s.calls.Unlock() //nolint:staticcheck // an empty critical section: only the waiting is wanted
		for range 2 {
			if e := <-s.served; !errors.Is(e, http.ErrServerClosed) {
				err = errors.Join(err, e)
			}
		}
		s.closed = err
	})
	return s.closed
}

package server

import (
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

// Options configure a Server. The zero value is usable.
type Options struct {
	// Clock is the time of all databases; nil is the system clock.
	Clock changes.Clock
	// VersionRetention is how long old row versions stay readable; 0 is one hour.
	VersionRetention time.Duration
	// Changes configures the change streams of every database; its Clock and SafeTime are set by the server.
	Changes changes.Options
	// Faults decides what goes wrong; nil is nothing. The gRPC server needs Interceptors, and Clock must be one of
	// Faults.Clock if it is to jump.
	Faults *fault.Injector
}

// Server answers Cloud Spanner's services. All state is in memory. It is safe for concurrent use.
type Server struct {
	opts    Options
	catalog catalog

	data      dataService
	databases databaseService
	instances instanceService
	ops       operationService
}

// New returns a Server with no instances.
func New(o Options) *Server {
	s := &Server{opts: o}
	s.catalog.init(o)
	s.data.s, s.databases.s, s.instances.s, s.ops.s = s, s, s, s
	return s
}

// Register adds all services to a gRPC server, which must have been made with ServerOptions.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	sppb.RegisterSpannerServer(r, &s.data)
	r.RegisterService(explained(&databasepb.DatabaseAdmin_ServiceDesc), &s.databases)
	r.RegisterService(explained(&instancepb.InstanceAdmin_ServiceDesc), &s.instances)
	longrunningpb.RegisterOperationsServer(r, &s.ops)
}

// Close stops the background work of all databases and ends their change-stream queries.
func (s *Server) Close() { s.catalog.close() }

// Database returns a database by its full name, projects/P/instances/I/databases/D, or nil.
func (s *Server) Database(name string) *Database { return s.catalog.database(name) }

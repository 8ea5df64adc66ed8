package server

import (
	"context"
	"path"
	"regexp"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// databaseService is DatabaseAdmin; methods it lacks answer UNIMPLEMENTED.
type databaseService struct {
	databasepb.UnimplementedDatabaseAdminServer
	s *Server
}

// applyDDL runs statements in order; it stops at the first that fails. Timestamps are those of the ones that ran. descriptors
// are the proto_descriptors that came with them.
func (d *Database) applyDDL(statements []string, descriptors []byte) (at []*timestamppb.Timestamp, err error) {
	parsed := make([]*sql.DDL, len(statements))
	parse := sql.ParseDDL
	if d.postgres() {
		parse = sql.ParsePostgresDDL
	}
	for i, text := range statements {
		if parsed[i], err = parse(text); err != nil {
			return nil, err
		}
		parsed[i].Descriptors = descriptors
	}
	for _, p := range parsed {
		us, err := d.store.UpdateSchema(func(s *store.Schema, at int64) (*store.Schema, error) {
			return p.Apply(s, at, d.store.NewObjectID)
		})
		if err != nil {
			return at, err
		}
		at = append(at, micros(us))
	}
	return at, nil
}

func (a *databaseService) CreateDatabase(_ context.Context, r *databasepb.CreateDatabaseRequest) (*longrunningpb.Operation, error) {
	readName := sql.DatabaseName
	postgres := r.GetDatabaseDialect() == databasepb.DatabaseDialect_POSTGRESQL
	if postgres {
		readName = sql.PostgresDatabaseName
		if len(r.GetExtraStatements()) > 0 {
			return nil, errorf(codes.InvalidArgument, "a database of the PostgreSQL dialect is created without extra statements: send them with UpdateDatabaseDdl")
		}
	}
	id, err := readName(r.GetCreateStatement())
	if err != nil {
		return nil, err
	}
	name := r.GetParent() + "/databases/" + id
	if !databaseName.MatchString(name) {
		return nil, errorf(codes.InvalidArgument, "%q is not a database name (ids have 2 to 30 lower-case letters, digits, underscores and hyphens)", name)
	}
	switch r.GetDatabaseDialect() {
	case databasepb.DatabaseDialect_DATABASE_DIALECT_UNSPECIFIED, databasepb.DatabaseDialect_GOOGLE_STANDARD_SQL, databasepb.DatabaseDialect_POSTGRESQL:
	default:
		return nil, errorf(codes.Unimplemented, "the embedded Spanner does not support the dialect %v", r.GetDatabaseDialect())
	}
	c := &a.s.catalog
	if err := c.hasInstance(r.GetParent()); err != nil {
		return nil, err
	}
	if c.database(name) != nil {
		return nil, errorf(codes.AlreadyExists, "Database already exists: %s", name)
	}
	d, err := c.newDatabase(name, postgres, nil)
	if err != nil {
		return nil, err
	}
	if _, err := d.applyDDL(r.GetExtraStatements(), r.GetProtoDescriptors()); err != nil {
		d.log.Close()
		return nil, err
	}
	d.store.Found()
	if err := c.add(d); err != nil {
		return nil, err
	}
	return a.s.done(name, "", &databasepb.CreateDatabaseMetadata{Database: name}, c.databaseProto(d))
}

func (a *databaseService) find(name string) (*Database, error) {
	if d := a.s.catalog.database(name); d != nil {
		return d, nil
	}
	return nil, missingDatabase(name)
}

func (a *databaseService) GetDatabase(_ context.Context, r *databasepb.GetDatabaseRequest) (*databasepb.Database, error) {
	d, err := a.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return a.s.catalog.databaseProto(d), nil
}

func (a *databaseService) ListDatabases(_ context.Context, r *databasepb.ListDatabasesRequest) (*databasepb.ListDatabasesResponse, error) {
	c := &a.s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.instances[r.GetParent()]; !ok {
		return nil, missingInstance(r.GetParent())
	}
	names, next, err := page(childrenOf(c.databases, r.GetParent()), r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &databasepb.ListDatabasesResponse{NextPageToken: next}
	for _, n := range names {
		out.Databases = append(out.Databases, c.databaseProto(c.databases[n]))
	}
	return out, nil
}

var operationID = regexp.MustCompile(`^[a-z][a-z0-9_]{0,127}$`)

func (a *databaseService) UpdateDatabaseDdl(_ context.Context, r *databasepb.UpdateDatabaseDdlRequest) (*longrunningpb.Operation, error) {
	d, err := a.find(r.GetDatabase())
	if err != nil {
		return nil, err
	}
	if len(r.GetStatements()) == 0 {
		return nil, errorf(codes.InvalidArgument, "UpdateDatabaseDdl needs at least one statement")
	}
	if id := r.GetOperationId(); id != "" {
		if !operationID.MatchString(id) {
			return nil, errorf(codes.InvalidArgument, "%q is not an operation id", id)
		}
		c := &a.s.catalog
		c.mu.Lock()
		_, dup := c.ops[d.name+"/operations/"+id]
		c.mu.Unlock()
		if dup {
			return nil, errorf(codes.AlreadyExists, "the operation %s already exists", id)
		}
	}
	meta := &databasepb.UpdateDatabaseDdlMetadata{Database: d.name, Statements: r.GetStatements()}
	at, err := d.applyDDL(r.GetStatements(), r.GetProtoDescriptors())
	meta.CommitTimestamps = at
	op, packErr := a.s.done(d.name, r.GetOperationId(), meta, &emptypb.Empty{})
	if packErr != nil {
		return nil, packErr
	}
	if err == nil {
		return op, nil
	}
	if len(at) == 0 {
		return nil, err
	}
	// Statements before the failing one stay: the operation tells which, and fails.
	op = proto.Clone(op).(*longrunningpb.Operation)
	op.Result = &longrunningpb.Operation_Error{Error: status.Convert(err).Proto()}
	a.s.catalog.finish(op)
	return op, nil
}

func (a *databaseService) GetDatabaseDdl(_ context.Context, r *databasepb.GetDatabaseDdlRequest) (*databasepb.GetDatabaseDdlResponse, error) {
	d, err := a.find(r.GetDatabase())
	if err != nil {
		return nil, err
	}
	schema := d.store.Schema()
	out := &databasepb.GetDatabaseDdlResponse{Statements: sql.PrintDDL(schema)}
	out.Statements = append(out.Statements, sql.PrintOptions(path.Base(d.name), schema)...)
	if out.ProtoDescriptors, err = schema.Protos.Descriptors(); err != nil {
		return nil, errorf(codes.Internal, "%v", err)
	}
	return out, nil
}

func (a *databaseService) DropDatabase(_ context.Context, r *databasepb.DropDatabaseRequest) (*emptypb.Empty, error) {
	if !databaseName.MatchString(r.GetDatabase()) {
		return nil, errorf(codes.InvalidArgument, "%q is not a database name", r.GetDatabase())
	}
	c := &a.s.catalog
	c.mu.Lock()
	d := c.databases[r.GetDatabase()]
	protected := d != nil && d.protected.Load()
	if !protected {
		delete(c.databases, r.GetDatabase())
	}
	c.mu.Unlock()
	if protected {
		return nil, errorf(codes.FailedPrecondition, "Cannot drop database %s because the `enable_drop_protection` setting is currently enabled for it. Please disable the setting and try again.", d.name)
	}
	if d != nil {
		d.log.Close()
	}
	return &emptypb.Empty{}, nil
}

// ListBackups lists none: clean-up code asks before it deletes an instance. Backups cannot be made here.
func (a *databaseService) ListBackups(_ context.Context, r *databasepb.ListBackupsRequest) (*databasepb.ListBackupsResponse, error) {
	if err := a.s.catalog.hasInstance(r.GetParent()); err != nil {
		return nil, err
	}
	return &databasepb.ListBackupsResponse{}, nil
}

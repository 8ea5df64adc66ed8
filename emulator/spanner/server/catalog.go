package server

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// catalog holds instances, databases and finished operations.
type catalog struct {
	opts  Options
	clock changes.Clock

	mu        sync.Mutex
	instances map[string]*instancepb.Instance
	databases map[string]*Database
	ops       map[string]*longrunningpb.Operation
	opOrder   []string
	nextOp    int64
	closed    bool
}

// maxOperations bounds the finished operations that are remembered.
const maxOperations = 10000

func (c *catalog) init(o Options) {
	c.opts = o
	c.clock = o.Clock
	if c.clock == nil {
		c.clock = changes.SystemClock{}
	}
	c.instances = map[string]*instancepb.Instance{}
	c.databases = map[string]*Database{}
	c.ops = map[string]*longrunningpb.Operation{}
}

func (c *catalog) close() {
	c.mu.Lock()
	dbs := c.databases
	c.databases = map[string]*Database{}
	c.closed = true
	c.mu.Unlock()
	for _, d := range dbs {
		d.log.Close()
	}
}

func (c *catalog) database(name string) *Database {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.databases[name]
}

// all lists the databases there are.
func (c *catalog) all() []*Database {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.databases))
}

// hasInstance returns NOT_FOUND unless there is an instance of the name.
func (c *catalog) hasInstance(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instances[name] == nil {
		return missingInstance(name)
	}
	return nil
}

// Database is one database: its rows, its change streams, its sessions and open transactions.
type Database struct {
	name    string
	created *timestamppb.Timestamp
	clock   changes.Clock
	// protected is the drop protection.
	protected atomic.Bool
	store     *store.Database
	log       *changes.Log

	mu       sync.Mutex
	sessions map[string]*session
	txns     map[string]*transaction
	outcomes outcomes
	nextID   int64

	partitioned partitionedTxns // under mu
}

// Store is the database's storage.
func (d *Database) Store() *store.Database { return d.store }

// Log is the database's change streams: redraw their partitions here.
func (d *Database) Log() *changes.Log { return d.log }

// newDatabase makes a database that is not listed yet: empty, or a copy of another, whose dialect it then has.
func (c *catalog) newDatabase(name string, postgres bool, from *Database) (*Database, error) {
	if from != nil {
		postgres = from.postgres()
	}
	d := &Database{
		name: name, clock: c.clock, created: timestamppb.New(c.clock.Now()),
		sessions: map[string]*session{}, txns: map[string]*transaction{},
	}
	co := c.opts.Changes
	co.Clock = c.clock
	co.SafeTime = func() int64 { return d.store.SafeTime() }
	co.PostgreSQL = postgres
	so := store.Options{
		Postgres: postgres, Clock: c.clock, Retention: c.opts.VersionRetention,
		Observe: func(cm *store.Commit) { d.log.Observe(cm) },
		ObserveSchema: func(s *store.Schema, at int64) error {
			d.log.ObserveTables(s.Tables)
			d.log.ObservePlacements(s.PlacementNames())
			return d.log.ObserveSchema(s.Streams, at)
		},
	}
	if from == nil {
		d.store = store.New(so)
		d.log = changes.New(co)
		return d, nil
	}
	var streams []*store.ChangeStream
	d.store, streams = from.store.Restore(so)
	d.log = changes.New(co)
	// The sequences are copies, and the streams begin anew, and empty: records are no part of a backup.
	_, err := d.store.UpdateSchema(func(s *store.Schema, at int64) (*store.Schema, error) {
		s, err := sql.Detach(s)
		if err != nil {
			return nil, err
		}
		for _, def := range streams {
			again := *def
			again.Created = at
			s.Streams = append(s.Streams, &again)
		}
		return s, nil
	})
	if err != nil {
		d.log.Close()
		return nil, err
	}
	return d, nil
}

// add lists a database; the error is ALREADY_EXISTS, and then d is closed.
func (c *catalog) add(d *Database) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.databases[d.name] != nil || c.closed {
		d.log.Close()
		return errorf(codes.AlreadyExists, "Database already exists: %s", d.name)
	}
	c.databases[d.name] = d
	return nil
}

var (
	projectName  = regexp.MustCompile(`^projects/[a-z0-9:.\-]{1,64}$`)
	instanceName = regexp.MustCompile(`^(projects/[a-z0-9:.\-]{1,64})/instances/([a-z][a-z0-9\-]{0,62}[a-z0-9])$`)
	databaseName = regexp.MustCompile(`^(projects/[a-z0-9:.\-]{1,64}/instances/[a-z0-9\-]{2,64})/databases/([a-z][a-z0-9_\-]{0,28}[a-z0-9])$`)
	sessionName  = regexp.MustCompile(`^(projects/[^/]+/instances/[^/]+/databases/[^/]+)/sessions/([^/]+)$`)
)

// finish records an operation that is done already.
func (c *catalog) finish(op *longrunningpb.Operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops[op.Name] = op
	c.opOrder = append(c.opOrder, op.Name)
	if len(c.opOrder) > maxOperations {
		delete(c.ops, c.opOrder[0])
		c.opOrder = c.opOrder[1:]
	}
}

func (c *catalog) databaseProto(d *Database) *databasepb.Database {
	retention := c.opts.VersionRetention
	if retention <= 0 {
		retention = store.DefaultRetention
	}
	return &databasepb.Database{
		Name: d.name, State: databasepb.Database_READY, CreateTime: d.created,
		VersionRetentionPeriod: fmt.Sprintf("%ds", int64(retention.Seconds())), EarliestVersionTime: micros(max(d.store.EarliestVersion(), d.created.AsTime().UnixMicro())),
		DatabaseDialect: d.dialect(), EnableDropProtection: d.protected.Load(),
	}
}

func (d *Database) postgres() bool { return d.store.Schema().Postgres }

func (d *Database) dialect() databasepb.DatabaseDialect {
	if d.postgres() {
		return databasepb.DatabaseDialect_POSTGRESQL
	}
	return databasepb.DatabaseDialect_GOOGLE_STANDARD_SQL
}

// page cuts a sorted list of names for a List call. Tokens are the last name given.
func page(names []string, size int32, token string) (out []string, next string, err error) {
	if size < 0 {
		return nil, "", errorf(codes.InvalidArgument, "page_size must not be negative")
	}
	slices.Sort(names)
	i, found := slices.BinarySearch(names, token)
	if found {
		i++
	}
	names = names[i:]
	if size == 0 || size > 1000 {
		size = 1000
	}
	if len(names) <= int(size) {
		return names, "", nil
	}
	return names[:size], names[size-1], nil
}

func childrenOf[T any](m map[string]T, parent string) []string {
	var names []string
	for n := range m {
		if strings.HasPrefix(n, parent+"/") {
			names = append(names, n)
		}
	}
	return names
}

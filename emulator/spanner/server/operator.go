package server

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// What Spanner does by itself, on command.

// CreateDatabase creates a database by its full name, projects/P/instances/I/databases/D, and its instance if that is
// missing. A database that exists is ALREADY_EXISTS; errors in ddl are those of the admin API.
func (s *Server) CreateDatabase(ctx context.Context, name string, ddl ...string) (*Database, error) {
	m := databaseName.FindStringSubmatch(name)
	if m == nil {
		return nil, errorf(codes.InvalidArgument, "%q is not the name of a database: want projects/P/instances/I/databases/D", name)
	}
	parent := m[1]
	project, instance, _ := strings.Cut(parent, "/instances/")
	_, err := s.instances.CreateInstance(ctx, &instancepb.CreateInstanceRequest{Parent: project, InstanceId: instance})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return nil, err
	}
	_, err = s.databases.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{Parent: parent, CreateStatement: "CREATE DATABASE `" + m[2] + "`", ExtraStatements: ddl})
	if err != nil {
		return nil, err
	}
	return s.Database(name), nil
}

// RestoreDatabase creates the database to with the rows and the schema that the database from has now, as if a backup had
// been restored: its change streams are empty and give out tokens of their own. Both are full names.
func (s *Server) RestoreDatabase(from, to string) (*Database, error) {
	src := s.Database(from)
	if src == nil {
		return nil, missingDatabase(from)
	}
	m := databaseName.FindStringSubmatch(to)
	if m == nil {
		return nil, errorf(codes.InvalidArgument, "%q is not the name of a database: want projects/P/instances/I/databases/D", to)
	}
	if err := s.catalog.hasInstance(m[1]); err != nil {
		return nil, err
	}
	d, err := s.catalog.newDatabase(to, false, src)
	if err != nil {
		return nil, err
	}
	if err := s.catalog.add(d); err != nil {
		return nil, err
	}
	return d, nil
}

// UpdateDDL runs schema statements in order, up to the first that fails.
func (d *Database) UpdateDDL(statements ...string) error {
	_, err := d.applyDDL(statements, nil)
	return wire(err)
}

// CommitSystem commits mutations as a system transaction, as Spanner's own background work is marked in change records.
// It returns the commit timestamp.
func (d *Database) CommitSystem(tag string, ms ...*sppb.Mutation) (time.Time, error) {
	schema := d.store.Schema()
	req := store.CommitRequest{Tag: tag, System: true, Schema: schema}
	var err error
	if req.Mutations, err = mutations(schema, nil, ms, d.store.Latest()); err != nil {
		return time.Time{}, err
	}
	res, err := d.store.Begin().Commit(req)
	if err != nil {
		return time.Time{}, wire(err)
	}
	return time.UnixMicro(res.Timestamp).UTC(), nil
}

var rowDeletion = regexp.MustCompile("^OLDER_THAN\\(`?([^`,]+)`?, INTERVAL ([0-9]+) DAY\\)$")

// DeleteExpired deletes the rows that row deletion policies have expired by now, one system transaction a table, with the
// tag RowDeletionPolicy, and returns how many. A row with children that may not be deleted with it stays, as in Spanner. So
// does one whose column is NULL.
func (d *Database) DeleteExpired() (rows int, err error) {
	for _, t := range d.store.Schema().Tables {
		if t.RowDeletion == "" {
			continue
		}
		n, err := d.deleteExpired(t.QualifiedName())
		if err != nil {
			return rows, err
		}
		rows += n
	}
	return rows, nil
}

func (d *Database) deleteExpired(name string) (rows int, err error) {
	_, err = d.store.Alone(store.TxnOptions{}, func(txn *store.Txn) (store.CommitRequest, error) {
		rows, err = deleteExpired(txn, name, d.store.Now())
		return store.CommitRequest{System: true, Tag: changes.TTLTag}, err
	})
	if errors.Is(err, errNothing) {
		return 0, nil
	}
	return rows, wire(err)
}

// errNothing takes back a transaction that has nothing to do.
var errNothing = errors.New("no row has expired")

func deleteExpired(txn *store.Txn, name string, now time.Time) (rows int, err error) {
	t := txn.Schema().Table(name)
	if t == nil || t.RowDeletion == "" {
		return 0, errNothing
	}
	m := rowDeletion.FindStringSubmatch(t.RowDeletion)
	if m == nil {
		return 0, errorf(codes.Internal, "the row deletion policy %s of table %s cannot be read", t.RowDeletion, name)
	}
	days, err := strconv.ParseInt(m[2], 10, 64)
	column := t.ColumnIndex(m[1])
	if err != nil || column < 0 {
		return 0, errorf(codes.Internal, "the row deletion policy %s of table %s cannot be read", t.RowDeletion, name)
	}
	limit := store.MicrosValue(now.UnixMicro() - min(days, 100*365)*24*time.Hour.Microseconds())
	var old []store.Row
	if err := txn.Scan(t, store.Range{}, func(_ store.Key, r store.Row) bool {
		if v := r[column]; v.Valid && store.Compare(t.Columns[column].Type, v, limit) <= 0 {
			old = append(old, r)
		}
		return true
	}); err != nil {
		return 0, err
	}
	for _, r := range old {
		k := t.KeyOf(r)
		err := txn.Try(store.Mutation{Op: store.DeleteRows, Table: t, Ranges: []store.Range{store.PrefixRange(k)}})
		var se *store.Error
		if errors.As(err, &se) && se.Code == codes.FailedPrecondition {
			continue // it has children that may not go with it
		}
		if err != nil {
			return 0, err
		}
		rows++
	}
	if rows == 0 {
		return 0, errNothing
	}
	return rows, nil
}

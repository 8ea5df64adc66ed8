package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/pipeline/filter"
)

// stateCreated is when a pipeline's row in the state was made; zero if it has none yet.
func stateCreated(ctx context.Context, client *spanner.Client, database, name string) (time.Time, error) {
	row, err := client.Single().ReadRow(ctx, "spanledger_pipelines", spanner.Key{name}, []string{"created_at"})
	if errors.Is(err, spanner.ErrRowNotFound) {
		return time.Time{}, nil
	}
	var t time.Time
	if err == nil {
		err = row.Column(0, &t)
	}
	switch {
	case err == nil:
		return t.UTC(), nil
	case isMissing(err):
		return t, fmt.Errorf("state: database %s, or its tables, are not there: 'spanledger init' makes them: %w", database, err)
	}
	return t, fmt.Errorf("state: read database %s: %w", database, err)
}

// isMissing reports whether a database or a table does not exist. Servers differ in what they call a missing table.
func isMissing(err error) bool {
	c := spanner.ErrCode(err)
	return c == codes.NotFound || c == codes.InvalidArgument && strings.Contains(strings.ToLower(status.Convert(err).Message()), "not found")
}

// startOf is where a new pipeline begins.
func (e Endpoints) startOf(ctx context.Context, c PipelineConfig, isNew bool, log *slog.Logger) (change.Timestamp, error) {
	if c.Start != 0 {
		return c.Start, nil
	}
	t, err := e.now(ctx, c.Database, c.Reader.Role)
	if err != nil || !c.Earliest || !isNew {
		return change.TimestampOf(t), err
	}
	return e.earliest(ctx, c, log)
}

// earliest finds the first instant that the stream can be read from.
func (e Endpoints) earliest(ctx context.Context, c PipelineConfig, log *slog.Logger) (change.Timestamp, error) {
	r, err := changestream.New(ctx, c.readerOptions(e, log))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	t, err := r.Earliest(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the earliest timestamp of change stream %s: %w", c.Stream, err)
	}
	return t, nil
}

// errNoStream says that a database has no change stream of a name.
var errNoStream = errors.New("no such change stream")

// checkStream looks whether the change stream exists, before a sink is opened: opening an archive writes whose it is.
func (e Endpoints) checkStream(ctx context.Context, c PipelineConfig) error {
	have, err := e.streams(ctx, c.Database, c.Reader.Role)
	if err != nil {
		return err
	}
	for _, name := range have {
		if strings.EqualFold(name, c.Stream) { // the reader decides about upper and lower case, by dialect
			return nil
		}
	}
	if role := c.Reader.Role; role != "" { // it sees only the streams that it may read
		return fmt.Errorf("database %s has no change stream %s that the database role %s may read, who may read %s: correct the name, or grant the role SELECT "+
			"on the change stream and EXECUTE on its read function (%w)", c.Database, c.Stream, role, cmp.Or(strings.Join(have, ", "), "none"), errNoStream)
	}
	if len(have) == 0 {
		return fmt.Errorf("database %s has no change stream %s, nor any other: 'spanledger init' or CREATE CHANGE STREAM makes one (%w)", c.Database, c.Stream, errNoStream)
	}
	return fmt.Errorf("database %s has no change stream %s: %s (%w)", c.Database, c.Stream, didYouMean(c.Stream, have), errNoStream)
}

// orEmulator is what else may be wrong where a database is not found.
func (e Endpoints) orEmulator() string {
	if e.Spanner == "" {
		return ""
	}
	return ", or make it in the emulator at " + e.Spanner + ", which forgets everything with each start ('spanledger init' makes what a configuration names)"
}

// streams lists the names of a database's change streams, as the role sees them.
func (e Endpoints) streams(ctx context.Context, database, role string) (have []string, err error) {
	client, err := e.spannerClientAs(ctx, database, role)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	err = client.Single().Query(ctx, spanner.NewStatement("SELECT change_stream_name FROM information_schema.change_streams")).Do(func(row *spanner.Row) error {
		var name string
		err := row.Columns(&name)
		have = append(have, name)
		return err
	})
	if spanner.ErrCode(err) == codes.NotFound {
		return nil, fmt.Errorf("there is no database %s: correct the name%s: %w", database, e.orEmulator(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the change streams of database %s: %w", database, err)
	}
	return have, nil
}

// checkFilter looks whether the tables and columns that a filter names exist. A name that does not would silently let
// nothing through, or a column that nobody was to see. To a pipeline that has begun it is a warning only: tables may be
// dropped, and the filter of an incarnation cannot change.
func (e Endpoints) checkFilter(ctx context.Context, c PipelineConfig, isNew bool, log *slog.Logger) error {
	if len(c.Filter.Drop) == 0 && len(c.Filter.Tables.Include) == 0 && len(c.Filter.Tables.Exclude) == 0 {
		return nil
	}
	columns, err := e.columns(ctx, c.Database, c.Reader.Role)
	if err != nil {
		return err
	}
	var errs []error
	tables := sortedKeys(columns)
	for _, list := range [][]string{c.Filter.Tables.Include, c.Filter.Tables.Exclude} {
		for _, name := range list {
			if _, ok := columns[name]; !ok && !filter.IsPattern(name) {
				errs = append(errs, fmt.Errorf("filter.tables: database %s has no table %s: %s", c.Database, name, didYouMean(name, tables)))
			}
		}
	}
	for _, name := range c.Filter.Drop {
		i := strings.LastIndexByte(name, '.')
		table, column := name[:i], name[i+1:]
		have, ok := columns[table]
		switch isKey, there := have[column]; {
		case !ok:
			errs = append(errs, fmt.Errorf("columns.drop: database %s has no table %s: %s", c.Database, table, didYouMean(table, tables)))
		case !there:
			errs = append(errs, fmt.Errorf("columns.drop: table %s has no column %s: %s", table, column, didYouMean(column, sortedKeys(have))))
		case isKey:
			errs = append(errs, fmt.Errorf("columns.drop: %s is part of the primary key, by which changes are told apart and ordered: it cannot be dropped", name))
		}
	}
	err = errors.Join(errs...)
	if err != nil && c.Reader.Role != "" {
		err = fmt.Errorf("%w (the database role %s sees only what it has privileges on, unless it is a member of spanner_info_reader: GRANT ROLE spanner_info_reader)", err, c.Reader.Role)
	}
	if err != nil && !isNew {
		log.Warn("the filter names what the database does not have", "pipeline", c.Name, "error", err)
		return nil
	}
	return err
}

// columns lists the tables of a database with their columns, and whether those are in the primary key.
func (e Endpoints) columns(ctx context.Context, database, role string) (map[string]map[string]bool, error) {
	client, err := e.spannerClientAs(ctx, database, role)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	tables := map[string]map[string]bool{}
	read := func(query string, isKey bool) error {
		return client.Single().Query(ctx, spanner.NewStatement(query)).Do(func(row *spanner.Row) error {
			var schema, table, column string
			if err := row.Columns(&schema, &table, &column); err != nil {
				return err
			}
			if schema != "" && schema != "public" {
				table = schema + "." + table
			}
			if tables[table] == nil {
				tables[table] = map[string]bool{}
			}
			tables[table][column] = isKey
			return nil
		})
	}
	err = read("SELECT table_schema, table_name, column_name FROM information_schema.columns "+
		"WHERE table_schema NOT IN ('INFORMATION_SCHEMA', 'SPANNER_SYS', 'information_schema', 'spanner_sys', 'pg_catalog')", false)
	if err == nil {
		err = read("SELECT table_schema, table_name, column_name FROM information_schema.index_columns WHERE index_type = 'PRIMARY_KEY' "+
			"AND table_schema NOT IN ('INFORMATION_SCHEMA', 'SPANNER_SYS', 'information_schema', 'spanner_sys', 'pg_catalog')", true)
	}
	if err != nil {
		return nil, fmt.Errorf("read the tables of database %s: %w", database, err)
	}
	return tables, nil
}

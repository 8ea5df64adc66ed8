package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"cloud.google.com/go/spanner"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/state"
)

// checkOwnState refuses a pipeline whose change stream watches the tables that its state is kept in: each checkpoint would
// be a change to deliver, and so the cause of the next, for ever. Where the state lies in the same database and is not
// watched, a warning says what must stay so.
func (e Endpoints) checkOwnState(ctx context.Context, c PipelineConfig, log *slog.Logger) error {
	if c.Database != c.StateDatabase {
		return nil
	}
	watched, err := e.watchedState(ctx, c)
	if err != nil {
		return fmt.Errorf("read what change stream %s of database %s watches: %w", c.Stream, c.Database, err)
	}
	if watched == "" {
		log.Warn("the pipeline's state is in the database it reads; its change stream must never watch the tables of the state, spanledger_...",
			"pipeline", c.Name, "stream", c.Stream, "database", c.Database)
		return nil
	}
	return fmt.Errorf("change stream %s watches %s, and the pipeline's own state is in the same database %s: "+
		"every checkpoint would be a change to deliver, for ever. Keep the state in a database of its own (state.database), "+
		"or have the stream watch the other tables by name", c.Stream, watched, c.Database)
}

// watchedState says which of the state's tables the change stream watches; "" if none.
func (e Endpoints) watchedState(ctx context.Context, c PipelineConfig) (watched string, err error) {
	client, err := e.spannerClientAs(ctx, c.Database, c.Reader.Role)
	if err != nil {
		return "", err
	}
	defer client.Close()
	// Every column: one is called ALL, which the dialects quote in ways of their own.
	err = client.Single().Query(ctx, spanner.NewStatement("SELECT * FROM information_schema.change_streams")).Do(func(row *spanner.Row) error {
		name, all := cell(row, "change_stream_name"), cell(row, "all")
		if strings.EqualFold(name.GetStringValue(), c.Stream) && (all.GetBoolValue() || strings.EqualFold(all.GetStringValue(), "YES")) {
			watched = "every table"
		}
		return nil
	})
	if err != nil || watched != "" {
		return watched, err
	}
	own := map[string]bool{}
	for _, statement := range state.DDL() {
		_, name := objectOf(statement)
		own[name] = true
	}
	var tables []string
	err = client.Single().Query(ctx, spanner.NewStatement("SELECT change_stream_name, table_name FROM information_schema.change_stream_tables")).Do(func(row *spanner.Row) error {
		var stream, table string
		err := row.Columns(&stream, &table)
		if strings.EqualFold(stream, c.Stream) && own[strings.ToLower(table)] {
			tables = append(tables, table)
		}
		return err
	})
	slices.Sort(tables)
	return strings.Join(tables, ", "), err
}

// cell is a row's value in the column of this name, in either case; nil if there is none.
func cell(row *spanner.Row, name string) *structpb.Value {
	for i, n := range row.ColumnNames() {
		if strings.EqualFold(n, name) {
			return row.ColumnValue(i)
		}
	}
	return nil
}

package changestream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
)

// Info is what New found out about the stream.
type Info struct {
	// Stream is the stream's name in its own spelling.
	Stream string
	// Dialect is the database's: "GoogleSQL" or "PostgreSQL".
	Dialect string
	// Capture is the value capture type now in force; each Change carries the one it was written under.
	Capture change.Capture
	// Retention is the stream's retention_period as it was set, "" for Spanner's default.
	Retention string
	// Mutable says that the stream's partition_mode is MUTABLE_KEY_RANGE: keys move between partitions that live on.
	Mutable bool
	// PerPlacement says that the stream has the option per_placement_tvf: a read function for each of Placements.
	PerPlacement bool
	Placements   []string
}

// RetentionPeriod is Retention as a duration, 0 for Spanner's default. Spanner writes a whole number of s, m, h or d.
func (i Info) RetentionPeriod() (time.Duration, error) {
	if i.Retention == "" {
		return 0, nil
	}
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	last := len(i.Retention) - 1
	unit, n := units[i.Retention[last]], int64(0)
	if unit > 0 {
		var err error
		if n, err = strconv.ParseInt(i.Retention[:last], 10, 32); err != nil {
			n = 0
		}
	}
	if n <= 0 {
		return 0, fmt.Errorf("changestream: stream %s has a retention_period of %q: want a number of s, m, h or d, such as 7d", i.Stream, i.Retention)
	}
	return time.Duration(n) * unit, nil
}

// describe fills in what the database says of itself and of the stream.
func (r *Reader) describe(ctx context.Context) error {
	options, err := r.rows(ctx, "SELECT option_value FROM information_schema.database_options WHERE option_name = 'database_dialect'")
	if err != nil {
		return err
	}
	if len(options) > 0 && strings.EqualFold(options[0][0], "POSTGRESQL") {
		r.dialect = postgreSQL
	}
	names, err := r.streams(ctx)
	if err != nil {
		return err
	}
	for _, s := range names {
		// GoogleSQL names ignore case; the functions of the PostgreSQL dialect do not.
		if s == r.opts.Stream || r.dialect == googleSQL && strings.EqualFold(s, r.opts.Stream) {
			r.stream = s
		}
	}
	if r.stream == "" {
		slices.Sort(names)
		have := "it has none; make one with CREATE CHANGE STREAM"
		if len(names) > 0 {
			have = "it has " + strings.Join(names, ", ")
		}
		if role := r.opts.DatabaseRole; role != "" { // it sees only the streams that it may read
			have = "it may read " + cmp.Or(strings.Join(names, ", "), "none")
			return fmt.Errorf("changestream: database %s has no change stream %s that the database role %s may read: correct the name, or grant the role "+
				"SELECT on the change stream and EXECUTE on its read function; %s", r.opts.Database, r.opts.Stream, role, have)
		}
		return fmt.Errorf("changestream: database %s has no change stream %s: %s", r.opts.Database, r.opts.Stream, have)
	}
	r.info = Info{Stream: r.stream, Dialect: r.dialect.String(), Capture: change.OldAndNewValues}
	settings, err := r.rows(ctx, "SELECT option_name, option_value FROM information_schema.change_stream_options WHERE change_stream_name = '"+r.stream+"'")
	if err != nil {
		return err
	}
	for _, s := range settings {
		switch s[0] {
		case "partition_mode":
			r.info.Mutable = strings.EqualFold(s[1], "MUTABLE_KEY_RANGE")
		case "value_capture_type":
			if r.info.Capture, err = parseCapture([]byte(s[1]), r.opts.PassUnknown); err != nil {
				return fmt.Errorf("changestream: change stream %s: %w", r.stream, err)
			}
		case "retention_period":
			r.info.Retention = s[1]
		case "per_placement_tvf":
			r.info.PerPlacement = strings.EqualFold(s[1], "true")
		}
	}
	if r.info.PerPlacement {
		if r.looked, err = r.Now(ctx); err != nil {
			return err
		}
		if r.info.Placements, err = r.findPlacements(ctx, names); err != nil {
			return err
		}
		if len(r.info.Placements) == 0 {
			return fmt.Errorf("changestream: change stream %s has the option per_placement_tvf, and information_schema.routines shows no function %s%s_<placement>: "+
				"the account, or the database role, needs EXECUTE on all of them", r.stream, r.dialect.functionPrefix(r.info.Mutable), r.stream)
		}
		if err := r.checkPlacements(r.opts.Open); err != nil {
			return err
		}
	}
	return r.seed(ctx)
}

// streams lists the names of the database's change streams.
func (r *Reader) streams(ctx context.Context) (names []string, err error) {
	rows, err := r.rows(ctx, "SELECT change_stream_name FROM information_schema.change_streams")
	for _, row := range rows {
		names = append(names, row[0])
	}
	return names, err
}

func systemSchema(schema string) bool {
	switch strings.ToLower(schema) {
	case "information_schema", "spanner_sys", "pg_catalog", "spanner":
		return true
	}
	return false
}

// rows runs a query of the information schema and answers its cells as text; NULL is "".
func (r *Reader) rows(ctx context.Context, sql string) ([][]string, error) {
	rs, err := r.conns.query(ctx, &sppb.ExecuteSqlRequest{Sql: sql, Transaction: strongRead()})
	if err != nil {
		advice := ""
		switch status.Code(err) {
		case codes.NotFound:
			advice = " (check the database's name)"
		case codes.PermissionDenied, codes.Unauthenticated:
			advice = " (the account needs spanner.databases.select and spanner.sessions.create)"
			if role := r.opts.DatabaseRole; role != "" {
				advice = " (the account needs the use of the database role " + role + ")"
				if roleMissing(err) {
					advice = " (" + noRole(role) + ")"
				}
			}
		}
		if errors.Is(err, errClosed) {
			return nil, err
		}
		return nil, fmt.Errorf("changestream: asking %s about its schema%s: %w", r.opts.Database, advice, err)
	}
	out := make([][]string, 0, len(rs.GetRows()))
	width := len(rs.GetMetadata().GetRowType().GetFields())
	for _, row := range rs.GetRows() {
		if len(row.GetValues()) != width {
			return nil, fmt.Errorf("changestream: %s answers a row of %d values for %d columns to %q", r.opts.Database, len(row.GetValues()), width, sql)
		}
		cells := make([]string, width)
		for i, v := range row.GetValues() {
			cells[i] = v.GetStringValue()
			if b, ok := v.AsInterface().(bool); ok {
				cells[i] = strconv.FormatBool(b)
			}
		}
		out = append(out, cells)
	}
	return out, nil
}

// Now answers Spanner's clock: the start for a pipeline that begins now.
func (r *Reader) Now(ctx context.Context) (change.Timestamp, error) {
	sql := "SELECT CURRENT_TIMESTAMP()"
	if r.dialect == postgreSQL {
		sql = "SELECT CURRENT_TIMESTAMP"
	}
	rows, err := r.rows(ctx, sql)
	if err != nil {
		return 0, err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return 0, fmt.Errorf("changestream: %s does not tell the time", r.opts.Database)
	}
	t, err := parseTimestamp([]byte(rows[0][0]))
	if err != nil {
		return 0, fmt.Errorf("changestream: %s tells the time as %w", r.opts.Database, err)
	}
	return t, nil
}

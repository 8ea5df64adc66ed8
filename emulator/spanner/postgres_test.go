package spanner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner"
)

const pgName = project + "/instances/" + instanceID + "/databases/pg"

// startPostgres is a world whose database has the PostgreSQL dialect.
func startPostgres(t *testing.T, ddl ...string) *world {
	t.Helper()
	w := start(t, spanner.Options{})
	op, err := w.admin.CreateDatabase(w.ctx, &databasepb.CreateDatabaseRequest{
		Parent: project + "/instances/" + instanceID, CreateStatement: `CREATE DATABASE "pg"`, DatabaseDialect: databasepb.DatabaseDialect_POSTGRESQL,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.Wait(w.ctx); err != nil {
		t.Fatal(err)
	}
	if w.client, err = cloudspanner.NewClientWithConfig(w.ctx, pgName, cloudspanner.ClientConfig{DisableNativeMetrics: true}, w.opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	if err := w.pgDDL(ddl...); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) pgDDL(statements ...string) error {
	if len(statements) == 0 {
		return nil
	}
	op, err := w.admin.UpdateDatabaseDdl(w.ctx, &databasepb.UpdateDatabaseDdlRequest{Database: pgName, Statements: statements})
	if err != nil {
		return err
	}
	return op.Wait(w.ctx)
}

func (w *world) printed(database string) string {
	w.Helper()
	r, err := w.admin.GetDatabaseDdl(w.ctx, &databasepb.GetDatabaseDdlRequest{Database: database})
	if err != nil {
		w.Fatal(err)
	}
	return strings.Join(r.GetStatements(), ";\n")
}

var pgShop = []string{
	`CREATE TABLE carts (id bigint NOT NULL, owner varchar(20), note text DEFAULT 'it''s', total numeric, doc jsonb, raw bytea,
		made timestamptz DEFAULT CURRENT_TIMESTAMP, day date, ok boolean DEFAULT true, f double precision, f4 real, u uuid,
		tags varchar(5)[], big boolean GENERATED ALWAYS AS (total > 100) STORED, changed spanner.commit_timestamp,
		CONSTRAINT positive CHECK (total >= 0), PRIMARY KEY (id))`,
	`CREATE TABLE "Items" (id bigint, line bigint, sku character varying, PRIMARY KEY (id, line)) INTERLEAVE IN PARENT carts ON DELETE CASCADE`,
	`CREATE UNIQUE INDEX by_owner ON carts (owner DESC) INCLUDE (total) WHERE owner IS NOT NULL`,
	`CREATE TABLE ttl (id bigint PRIMARY KEY, at timestamp with time zone) TTL INTERVAL '3 days' ON at`,
	`CREATE CHANGE STREAM every FOR ALL WITH (retention_period = '36h', value_capture_type = 'NEW_ROW')`,
	`CREATE CHANGE STREAM few FOR carts(owner), "Items"()`,
}

// What GetDatabaseDdl prints in the PostgreSQL dialect makes the same schema again.
func TestPostgresDDL(t *testing.T) {
	w := startPostgres(t, pgShop...)
	if err := w.pgDDL(
		"ALTER TABLE carts ADD COLUMN IF NOT EXISTS extra bigint", "ALTER TABLE carts ALTER COLUMN owner SET NOT NULL",
		"ALTER TABLE carts ALTER COLUMN owner TYPE varchar(40)", "ALTER TABLE carts ALTER COLUMN owner DROP NOT NULL",
		"ALTER TABLE carts ALTER COLUMN extra SET DEFAULT -5", "ALTER TABLE carts DROP COLUMN f4",
		"ALTER CHANGE STREAM every SET (retention_period = '2d', exclude_insert = true)", "ALTER CHANGE STREAM every RESET (exclude_insert)",
		"ALTER CHANGE STREAM few SET FOR carts", `ALTER DATABASE pg SET "spanner.version_retention_period" = '2h'`,
		"DROP TABLE ttl", "-- a comment\nCREATE INDEX /* none */ by_day ON public.carts (day)",
	); err != nil {
		t.Fatal(err)
	}
	first := w.printed(pgName)
	for _, want := range []string{
		"owner character varying(40),", `note character varying DEFAULT ('it''s')`, "total numeric", "doc jsonb", "raw bytea", "tags character varying(5)[]",
		"made timestamp with time zone DEFAULT (CURRENT_TIMESTAMP)", "changed spanner.commit_timestamp", `CREATE TABLE "Items"`,
		"GENERATED ALWAYS AS (total > 100) STORED", "WHERE owner IS NOT NULL", "retention_period = '2d'", "extra bigint DEFAULT (-5)",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is missing in\n%s", want, first)
		}
	}
	again := startPostgres(t, strings.Split(first, ";\n")...)
	if second := again.printed(pgName); second != first {
		t.Errorf("printed\n%s\nand then\n%s", first, second)
	}
	for _, c := range []struct {
		ddl  string
		code codes.Code
	}{
		{"CREATE TABLE", codes.InvalidArgument},
		{"CREATE TABLE x (a bigint)", codes.InvalidArgument},
		{"CREATE TABLE x (a money PRIMARY KEY)", codes.Unimplemented},
		{"CREATE TABLE x (a bigint PRIMARY KEY, b bigint DEFAULT random())", codes.Unimplemented},
		{"CREATE TABLE carts (a bigint PRIMARY KEY)", codes.FailedPrecondition},
		{"CREATE TABLE IF NOT EXISTS carts (a bigint PRIMARY KEY)", codes.OK},
		{"CREATE VIEW v AS SELECT 1", codes.Unimplemented},
		{"SELECT 1", codes.InvalidArgument},
		{"CREATE CHANGE STREAM x WITH (retention_period = '1h')", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x OPTIONS (retention_period = '1d')", codes.InvalidArgument},
		{"CREATE CHANGE STREAM x FOR nope", codes.FailedPrecondition},
		{"DROP CHANGE STREAM few", codes.OK},
		{"DROP TABLE nope", codes.NotFound},
		{"DROP TABLE x; DROP TABLE y", codes.InvalidArgument},
		{"CREATE TABLE x (a bigint PRIMARY KEY, b text DEFAULT 'open)", codes.InvalidArgument},
	} {
		if got := status.Code(w.pgDDL(c.ddl)); got != c.code {
			t.Errorf("%s: %v, want %v", c.ddl, got, c.code)
		}
	}
}

func TestPostgresQueries(t *testing.T) {
	w := startPostgres(t, pgShop...)
	w.apply(
		cloudspanner.Insert("carts", []string{"id", "owner", "total", "doc", "changed"}, []any{1, "ann", cloudspanner.PGNumeric{Numeric: "150.5", Valid: true}, cloudspanner.PGJsonB{Value: map[string]int{"a": 1}, Valid: true}, cloudspanner.CommitTimestamp}),
		cloudspanner.Insert("carts", []string{"id", "total"}, []any{2, cloudspanner.PGNumeric{Numeric: "3", Valid: true}}),
		cloudspanner.Insert("Items", []string{"id", "line", "sku"}, []any{1, 1, "pen"}))
	for _, c := range []struct {
		sql, want string
		params    []any
	}{
		{"SELECT id, owner FROM carts ORDER BY owner", "[[1 ann] [2 NULL]]", nil}, // NULLs come last
		{"SELECT id FROM public.carts WHERE total > 100 AND big", "[[1]]", nil},
		{"SELECT total, doc, note FROM carts WHERE id = $1", `[[150.5 {"a":1} it's]]`, []any{"p1", int64(1)}},
		{`SELECT c.id, i.sku FROM carts c JOIN "Items" i ON c.id = i.id`, "[[1 pen]]", nil},
		{"SELECT 7 / 2, 'a' || 'b', CAST('5' AS bigint)", "[[3 ab 5]]", nil},
		{"SELECT COUNT(*) FROM carts WHERE owner IS NULL", "[[1]]", nil},
		{"SELECT option_value FROM information_schema.database_options WHERE option_name = 'database_dialect'", "[[POSTGRESQL]]", nil},
		{"SELECT change_stream_name FROM information_schema.change_streams", "[[every] [few]]", nil},
		{"SELECT option_name, option_value FROM information_schema.change_stream_options WHERE change_stream_name = 'every'", "[[retention_period 36h] [value_capture_type NEW_ROW]]", nil},
		{"SELECT table_schema, table_name, all_columns FROM information_schema.change_stream_tables WHERE change_stream_name = 'few'", "[[public carts NO] [public Items NO]]", nil},
		{"SELECT table_schema, table_name, column_name FROM information_schema.change_stream_columns WHERE change_stream_name = 'few'", "[[public carts owner]]", nil},
		{"SELECT table_name, column_name FROM information_schema.index_columns WHERE index_type = 'PRIMARY_KEY' AND table_name = 'Items'", "[[Items id] [Items line]]", nil},
		{"SELECT column_name, ordinal_position, is_generated, spanner_type FROM information_schema.columns WHERE table_name = 'carts' AND ordinal_position IN (1, 2, 4, 5, 7, 13, 14)", "[[id 1 NEVER bigint] [owner 2 NEVER character varying(20)] [total 4 NEVER numeric] [doc 5 NEVER jsonb] [made 7 NEVER timestamp with time zone] [tags 13 NEVER character varying(5)[]] [big 14 ALWAYS boolean]]", nil},
	} {
		got, err := w.tryQuery(c.sql, c.params...)
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
		} else if fmt.Sprint(got) != c.want {
			t.Errorf("%s:\n got %v\nwant %v", c.sql, got, c.want)
		}
	}
	if now := w.query("SELECT CURRENT_TIMESTAMP"); len(now) != 1 {
		t.Errorf("the time: %v", now)
	}
	for sql, code := range map[string]codes.Code{
		"SELECT id FROM carts WHERE owner ILIKE 'a'": codes.Unimplemented, "SELECT '5'::bigint": codes.Unimplemented, "SELECT doc->'a' FROM carts": codes.Unimplemented,
		"SELECT nope FROM carts": codes.InvalidArgument, "SELECT": codes.InvalidArgument, "SELECT $$x$$": codes.Unimplemented, "SELECT E'x'": codes.Unimplemented,
		`SELECT * FROM "spanner"."read_json_every"($1, NULL, NULL, $2)`: codes.InvalidArgument,
	} {
		if _, err := w.tryQuery(sql, "p1", time.Now(), "p2", int64(1000)); cloudspanner.ErrCode(err) != code {
			t.Errorf("%s: %v, want %v", sql, err, code)
		}
	}
}

// A change stream's records come as JSONB from the function of the PostgreSQL dialect.
func TestPostgresChangeStream(t *testing.T) {
	w := startPostgres(t, append(pgShop, "CREATE CHANGE STREAM mutable FOR carts WITH (partition_mode = 'MUTABLE_KEY_RANGE')")...)
	began := w.apply(cloudspanner.Insert("carts", []string{"id", "owner"}, []any{7, "eve"}))
	end := w.apply(cloudspanner.Update("carts", []string{"id", "owner"}, []any{7, "eva"}))
	read := func(function string, token any) [][]string {
		return w.query(`SELECT * FROM "spanner"."`+function+`"($1, $2, $3, $4, NULL)`, "p1", began, "p2", end, "p3", token, "p4", int64(1000))
	}
	var changes []string
	for _, child := range read("read_json_every", cloudspanner.NullString{}) {
		_, token, ok := strings.Cut(child[0], `"token":"`)
		if token, _, _ = strings.Cut(token, `"`); !ok {
			t.Fatalf("not a child partition: %s", child[0])
		}
		for _, rec := range read("read_json_every", token) {
			if strings.Contains(rec[0], "data_change_record") {
				changes = append(changes, rec[0])
			}
		}
	}
	all := strings.Join(changes, "\n")
	if len(changes) != 2 || !strings.Contains(all, `"table_name":"carts"`) || !strings.Contains(all, `"owner":"eva"`) || !strings.Contains(all, "PG_NUMERIC") {
		t.Errorf("the changes are\n%s", all)
	}
	if got := read("read_proto_bytes_mutable", cloudspanner.NullString{}); len(got) == 0 {
		t.Error("the stream with mutable key ranges has no records")
	}
	if _, err := w.tryQuery(`SELECT * FROM "spanner"."read_json_mutable"($1, $2, NULL, $3, NULL)`, "p1", began, "p2", end, "p3", int64(1000)); cloudspanner.ErrCode(err) != codes.InvalidArgument {
		t.Errorf("the JSON function of a stream with mutable key ranges: %v", err)
	}
}

// A restored database has the dialect of its source, and no other.
func TestPostgresRestored(t *testing.T) {
	w := startPostgres(t, "CREATE TABLE t (k bigint PRIMARY KEY, v varchar)", "CREATE CHANGE STREAM s FOR ALL")
	const copyName = project + "/instances/" + instanceID + "/databases/pg-copy"
	if _, err := w.srv.RestoreDatabase(pgName, copyName); err != nil {
		t.Fatal(err)
	}
	db, err := w.admin.GetDatabase(w.ctx, &databasepb.GetDatabaseRequest{Name: copyName})
	if err != nil || db.GetDatabaseDialect() != databasepb.DatabaseDialect_POSTGRESQL {
		t.Errorf("the copy is of the dialect %v, %v", db.GetDatabaseDialect(), err)
	}
	if got, want := w.printed(copyName), w.printed(pgName); got != want {
		t.Errorf("the copy's DDL is\n%s\nwant\n%s", got, want)
	}
}

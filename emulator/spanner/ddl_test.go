package spanner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	cloudspanner "cloud.google.com/go/spanner"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// What GetDatabaseDdl prints makes the same schema again.
func TestDDLPrintsWhatItWas(t *testing.T) {
	ddl := append([]string{"CREATE SCHEMA sales"}, shop...)
	ddl = append(ddl,
		"CREATE TABLE sales.`order` (`select` INT64 NOT NULL, d STRING(5) DEFAULT ('x'), ts TIMESTAMP OPTIONS (allow_commit_timestamp = true), l ARRAY<STRING(7)>) PRIMARY KEY (`select` DESC), ROW DELETION POLICY (OLDER_THAN(ts, INTERVAL 3 DAY))",
		"CREATE CHANGE STREAM everything FOR ALL OPTIONS (retention_period = '7d', exclude_insert = true)",
		"CREATE CHANGE STREAM several FOR carts(owner), items()",
		"CREATE CHANGE STREAM none",
		"CREATE PLACEMENT eu OPTIONS (instance_partition = 'p')",
		"CREATE TABLE placed (k INT64 NOT NULL, region STRING(MAX) NOT NULL PLACEMENT KEY) PRIMARY KEY (k)",
	)
	w := start(t, spanner.Options{}, ddl...)
	print := func() []string {
		r, err := w.admin.GetDatabaseDdl(w.ctx, &databasepb.GetDatabaseDdlRequest{Database: dbName})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStatements()
	}
	first := print()
	if len(first) != len(ddl) {
		t.Fatalf("%d statements, want %d: %q", len(first), len(ddl), first)
	}
	if err := w.admin.DropDatabase(w.ctx, &databasepb.DropDatabaseRequest{Database: dbName}); err != nil {
		t.Fatal(err)
	}
	op, err := w.admin.CreateDatabase(w.ctx, &databasepb.CreateDatabaseRequest{Parent: project + "/instances/" + instanceID, CreateStatement: "CREATE DATABASE `db`", ExtraStatements: first})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.Wait(w.ctx); err != nil {
		t.Fatal(err)
	}
	if second := print(); strings.Join(first, ";") != strings.Join(second, ";") {
		t.Errorf("first %q\nsecond %q", first, second)
	}
}

func TestDDLErrors(t *testing.T) {
	w := start(t, spanner.Options{}, append(shop, "CREATE CHANGE STREAM s FOR carts(owner)")...)
	for _, c := range []struct {
		ddl  string
		code codes.Code
	}{
		{"CREATE TABLE", codes.InvalidArgument},
		{"CREATE TABLE carts (a INT64) PRIMARY KEY (a)", codes.FailedPrecondition},
		{"CREATE TABLE IF NOT EXISTS carts (a INT64) PRIMARY KEY (a)", codes.OK},
		{"CREATE TABLE t (a INT64)", codes.InvalidArgument},
		{"CREATE TABLE t (a INT64, a INT64) PRIMARY KEY (a)", codes.FailedPrecondition},
		{"CREATE TABLE t (a ARRAY<INT64>) PRIMARY KEY (a)", codes.InvalidArgument},
		{"CREATE TABLE t (a INT64) PRIMARY KEY (a), INTERLEAVE IN PARENT carts", codes.FailedPrecondition},
		{"CREATE TABLE t (a INT64, v TOKENLIST) PRIMARY KEY (a)", codes.Unimplemented},
		{"CREATE MODEL m REMOTE OPTIONS (endpoint = 'x')", codes.Unimplemented},
		{"DROP TABLE nope", codes.NotFound},
		{"DROP TABLE carts", codes.FailedPrecondition},
		{"DROP TABLE items", codes.FailedPrecondition},
		{"ALTER TABLE carts DROP COLUMN owner", codes.FailedPrecondition},
		{"ALTER TABLE carts DROP COLUMN total", codes.FailedPrecondition},
		{"ALTER TABLE carts ADD COLUMN x INT64 NOT NULL", codes.Unimplemented},
		{"ALTER TABLE items ALTER COLUMN sku STRING(MAX) NOT NULL", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM s", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM IF NOT EXISTS s", codes.OK},
		{"CREATE CHANGE STREAM x FOR carts(cart)", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x FOR carts(big)", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x FOR carts, carts", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x FOR carts(owner, owner)", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x FOR nope", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x FOR items_by_sku", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x OPTIONS (nope = true)", codes.InvalidArgument},
		{"CREATE CHANGE STREAM x OPTIONS (exclude_insert = 'true')", codes.InvalidArgument},
		{"CREATE CHANGE STREAM x OPTIONS (retention_period = '1d', retention_period = '1d')", codes.InvalidArgument},
		{"CREATE CHANGE STREAM x OPTIONS (retention_period = '1d12h')", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x OPTIONS (retention_period = '31d')", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM x OPTIONS (value_capture_type = 'ALL')", codes.FailedPrecondition},
		{"ALTER CHANGE STREAM nope DROP FOR ALL", codes.NotFound},
		{"ALTER CHANGE STREAM s SET OPTIONS (partition_mode = 'MUTABLE_KEY_RANGE')", codes.FailedPrecondition},
		{"DROP CHANGE STREAM nope", codes.NotFound},
		{"CREATE CHANGE STREAM w1 FOR carts", codes.OK},
		{"CREATE CHANGE STREAM w2 FOR ALL", codes.OK},
		{"CREATE CHANGE STREAM w3 FOR carts(owner)", codes.FailedPrecondition},
		{"CREATE CHANGE STREAM w3 FOR carts()", codes.OK},
		{"ALTER CHANGE STREAM w2 DROP FOR ALL", codes.OK},
		{"ALTER CHANGE STREAM w2 DROP FOR ALL", codes.FailedPrecondition},
		{"ALTER CHANGE STREAM w2 SET FOR items", codes.OK},
	} {
		if got := status.Code(w.ddl(c.ddl)); got != c.code {
			t.Errorf("%s: %v, want %v", c.ddl, got, c.code)
		}
	}
	for i := range 6 {
		if err := w.ddl(fmt.Sprintf("CREATE CHANGE STREAM more%d", i)); err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	if err := w.ddl("CREATE CHANGE STREAM eleventh"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the 11th change stream: %v", err)
	}
}

// Rows written before a schema change read as the new schema has them, and at old timestamps as the old one had.
func TestAlterTable(t *testing.T) {
	w := openShop(t)
	before := w.now()
	for _, ddl := range []string{
		"ALTER TABLE items ADD COLUMN note STRING(10) DEFAULT ('none')", "ALTER TABLE items ADD COLUMN extra INT64",
		"DROP INDEX items_by_sku", "ALTER TABLE items DROP COLUMN qty", "ALTER TABLE items ADD COLUMN qty STRING(3)",
	} {
		if err := w.ddl(ddl); err != nil {
			t.Fatalf("%s: %v", ddl, err)
		}
	}
	w.apply(cloudspanner.Insert("items", []string{"cart", "line", "qty"}, []any{"c", 1, "few"}))
	if got, want := fmt.Sprint(w.query("SELECT * FROM items WHERE line = 1")), "[[a 1 pen none NULL NULL] [b 1 pen none NULL NULL] [c 1 NULL none NULL few]]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fmt.Sprint(w.query("SELECT COLUMN_NAME, ORDINAL_POSITION FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'items'")); got != "[[cart 1] [line 2] [sku 3] [note 4] [extra 5] [qty 6]]" {
		t.Error(got)
	}
	old, err := texts(w.client.Single().WithTimestampBound(cloudspanner.ReadTimestamp(before)).Query(w.ctx, cloudspanner.NewStatement("SELECT * FROM items WHERE line = 1")))
	if err != nil || fmt.Sprint(old) != "[[a 1 pen 3] [b 1 pen 5]]" {
		t.Errorf("in the past: %v, %v", old, err)
	}
	if err := w.ddl("ALTER TABLE items ALTER COLUMN qty STRING(3) NOT NULL"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("NOT NULL over NULLs: %v", err)
	}
	if err := w.ddl("CREATE UNIQUE INDEX u ON items (note)"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("unique index over duplicates: %v", err)
	}
	// A transaction that spans a schema change is tried again under the new one.
	tries := 0
	_, err = w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		if _, err := tx.Update(ctx, cloudspanner.NewStatement("UPDATE items SET note = 'x' WHERE cart = 'a'")); err != nil {
			return err
		}
		if tries++; tries == 1 {
			return w.ddl("ALTER TABLE items ADD COLUMN late BOOL")
		}
		return nil
	})
	if err != nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestInformationSchema(t *testing.T) {
	w := start(t, spanner.Options{}, append(shop,
		"CREATE TABLE e (id INT64 NOT NULL, ts TIMESTAMP OPTIONS (allow_commit_timestamp = true)) PRIMARY KEY (id DESC)",
		"CREATE CHANGE STREAM every FOR ALL OPTIONS (retention_period = '2d', partition_mode = 'MUTABLE_KEY_RANGE')",
		"CREATE CHANGE STREAM several FOR carts(owner), items, e()")...)
	for _, c := range []struct{ sql, want string }{
		{"SELECT TABLE_NAME, PARENT_TABLE_NAME, ON_DELETE_ACTION FROM INFORMATION_SCHEMA.TABLES", "[[carts NULL NULL] [items carts CASCADE] [e NULL NULL]]"},
		{"SELECT COLUMN_NAME, SPANNER_TYPE, IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'items' ORDER BY ORDINAL_POSITION", "[[cart STRING(36) NO] [line INT64 NO] [sku STRING(20) YES] [qty INT64 YES]]"},
		{"SELECT INDEX_NAME, IS_UNIQUE FROM INFORMATION_SCHEMA.INDEXES WHERE TABLE_NAME = 'carts'", "[[PRIMARY_KEY true] [carts_by_owner true]]"},
		{"SELECT COLUMN_NAME, ORDINAL_POSITION, COLUMN_ORDERING FROM INFORMATION_SCHEMA.INDEX_COLUMNS WHERE TABLE_NAME = 'items' AND INDEX_TYPE = 'PRIMARY_KEY'", "[[cart 1 ASC] [line 2 DESC]]"},
		{"SELECT TABLE_NAME, COLUMN_NAME, OPTION_NAME, OPTION_VALUE FROM INFORMATION_SCHEMA.COLUMN_OPTIONS", "[[e ts allow_commit_timestamp TRUE]]"},
		{"SELECT OPTION_VALUE FROM information_schema.database_options WHERE OPTION_NAME = 'database_dialect'", "[[GOOGLE_STANDARD_SQL]]"},
		{"SELECT CHANGE_STREAM_NAME, `ALL` FROM INFORMATION_SCHEMA.CHANGE_STREAMS", "[[every true] [several false]]"},
		{"SELECT TABLE_NAME, ALL_COLUMNS FROM INFORMATION_SCHEMA.CHANGE_STREAM_TABLES", "[[carts false] [items true] [e false]]"},
		{"SELECT TABLE_NAME, COLUMN_NAME FROM INFORMATION_SCHEMA.CHANGE_STREAM_COLUMNS", "[[carts owner]]"},
		{"SELECT CHANGE_STREAM_NAME, OPTION_NAME, OPTION_TYPE, OPTION_VALUE FROM INFORMATION_SCHEMA.CHANGE_STREAM_OPTIONS", "[[every retention_period STRING 2d] [every partition_mode STRING MUTABLE_KEY_RANGE]]"},
		{"SELECT SCHEMA_NAME FROM INFORMATION_SCHEMA.SCHEMATA", "[[] [INFORMATION_SCHEMA] [SPANNER_SYS]]"},
	} {
		if got := fmt.Sprint(w.query(c.sql)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

// A change stream may watch tables of named schemas; its records name them in full.
func TestNamedSchemasInStreams(t *testing.T) {
	l := bed(t, "CREATE SCHEMA s", "CREATE TABLE s.t (k INT64, a STRING(9), b INT64) PRIMARY KEY (k)", "CREATE TABLE t (k INT64, a STRING(9), b INT64) PRIMARY KEY (k)",
		"CREATE CHANGE STREAM IF NOT EXISTS one FOR s.t(a), `t`()", "CREATE CHANGE STREAM two")
	l.must("ALTER CHANGE STREAM two SET FOR t, s . t(b)", "CREATE CHANGE STREAM IF NOT EXISTS one FOR s.nope", "DROP CHANGE STREAM IF EXISTS nope")
	l.refuses(codes.FailedPrecondition, "ALTER CHANGE STREAM two SET FOR s.t, `s.t`")
	l.refuses(codes.FailedPrecondition, "ALTER CHANGE STREAM two SET FOR nope.t")
	l.refuses(codes.FailedPrecondition, "DROP TABLE s.t")
	l.refuses(codes.InvalidArgument, "CREATE CHANGE STREAM three FOR s.")
	l.refuses(codes.InvalidArgument, "CREATE CHANGE STREAM three FOR s.t(a.b")
	l.refuses(codes.Unimplemented, "CREATE CHANGE STREAM s.three")
	row := func(table string) *cloudspanner.Mutation {
		return cloudspanner.Insert(table, []string{"k", "a", "b"}, []any{1, "x", 5})
	}
	at := l.apply(row("s.t"), row("t"))
	wantText(t, l.mods("one", at, at), lines(`INSERT s.t {"k":"1"} {"a":"x"} {}`, `INSERT t {"k":"1"} {} {}`))
	wantText(t, l.mods("two", at, at), lines(`INSERT s.t {"k":"1"} {"b":"5"} {}`, `INSERT t {"k":"1"} {"a":"x","b":"5"} {}`))
}

// An identity column that is added gives each row that is there a value of its own, at the time of the schema change and
// without a change record; where its sequence has none left, nothing changes.
func TestIdentityAdded(t *testing.T) {
	l := bed(t, "CREATE TABLE T (k INT64 NOT NULL, a STRING(9), b INT64) PRIMARY KEY (k)", "CREATE CHANGE STREAM s FOR ALL")
	from := l.apply(insertT(1, "x"), insertT(2, "y"))
	l.apply(updateT(2, "a", "z"))
	old := l.client.ReadOnlyTransaction()
	defer old.Close()
	if _, err := old.ReadRow(l.ctx, "T", cloudspanner.Key{1}, []string{"k"}); err != nil {
		t.Fatal(err)
	}
	l.refuses(codes.FailedPrecondition, "ALTER TABLE T ADD COLUMN id INT64 GENERATED BY DEFAULT AS IDENTITY (BIT_REVERSED_POSITIVE SKIP RANGE 0, 9223372036854775807)")
	l.must("ALTER TABLE T ADD COLUMN id INT64 NOT NULL GENERATED BY DEFAULT AS IDENTITY (BIT_REVERSED_POSITIVE)", "CREATE UNIQUE INDEX by_id ON T (id)")
	got := l.query("SELECT k, a, id FROM T ORDER BY k")
	if len(got) != 2 || fmt.Sprint(got) != "[[1 x 4611686018427387904] [2 z 2305843009213693952]]" {
		t.Errorf("rows after the change: %v", got)
	}
	if again := l.query("SELECT k, a, id FROM T ORDER BY k"); fmt.Sprint(again) != fmt.Sprint(got) {
		t.Errorf("the values do not stay: %v", again)
	}
	if k := l.query("SELECT k FROM T@{FORCE_INDEX=by_id} WHERE id = 2305843009213693952"); fmt.Sprint(k) != "[[2]]" {
		t.Errorf("by the index: %v", k)
	}
	if rows, err := texts(old.Query(l.ctx, cloudspanner.NewStatement("SELECT * FROM T ORDER BY k"))); err != nil || fmt.Sprint(rows) != "[[1 x NULL] [2 z NULL]]" {
		t.Errorf("a snapshot from before: %v, %v", rows, err)
	}
	end := l.apply(updateT(1, "a", "w"))
	wantText(t, l.mods("s", from, end), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`, `INSERT T {"k":"2"} {"a":"y","b":null} {}`,
		`UPDATE T {"k":"2"} {"a":"z"} {"a":"y"}`, `UPDATE T {"k":"1"} {"a":"w"} {"a":"x"}`))
	l.must("ALTER TABLE T ALTER COLUMN id ALTER IDENTITY RESTART COUNTER WITH 7", "ALTER TABLE T ALTER COLUMN id ALTER IDENTITY SET SKIP RANGE 1, 5")
	l.apply(insertT(3, "v"))
	if row := l.query("SELECT id FROM T WHERE k = 3"); fmt.Sprint(row) != "[[8070450532247928832]]" {
		t.Errorf("after the restart: %v", row)
	}
	if ddl := l.printed(dbName); !strings.Contains(ddl, "GENERATED BY DEFAULT AS IDENTITY (BIT_REVERSED_POSITIVE SKIP RANGE 1, 5 START COUNTER WITH 7)") {
		t.Errorf("GetDatabaseDdl: %s", ddl)
	}
}

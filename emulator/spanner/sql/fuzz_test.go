package sql_test

import (
	"context"
	"testing"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

var fuzzSchema = []string{
	"CREATE SCHEMA s",
	"CREATE TABLE t (k INT64 NOT NULL, a STRING(9) DEFAULT ('x'), b ARRAY<FLOAT64>, c TIMESTAMP OPTIONS (allow_commit_timestamp = true), g BOOL AS (a = 'y') STORED) PRIMARY KEY (k DESC)",
	"CREATE TABLE s.u (k INT64, d DATE) PRIMARY KEY (k, d)",
	"CREATE TABLE v (k INT64 NOT NULL, n NUMERIC, j JSON) PRIMARY KEY (k DESC, n), INTERLEAVE IN PARENT t ON DELETE CASCADE",
	"CREATE UNIQUE NULL_FILTERED INDEX x ON t (a, k) STORING (c)",
	"CREATE CHANGE STREAM c1 FOR t(a), v() OPTIONS (retention_period = '2d', exclude_insert = true)",
	"ALTER CHANGE STREAM c1 SET OPTIONS (retention_period = null)",
	"ALTER TABLE t ALTER COLUMN a SET DEFAULT ('z')",
}

func build(t interface{ Fatal(...any) }, statements []string) *store.Database {
	db := store.New(store.Options{})
	for _, text := range statements {
		d, err := sql.ParseDDL(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.UpdateSchema(func(s *store.Schema, at int64) (*store.Schema, error) { return d.Apply(s, at, db.NewObjectID) }); err != nil {
			t.Fatal(text, err)
		}
	}
	return db
}

// Any statement is refused or applied; what is applied can be printed, and what is printed can be applied.
func FuzzDDL(f *testing.F) {
	for _, s := range fuzzSchema {
		f.Add(s)
	}
	for _, s := range []string{"DROP TABLE t", "ALTER TABLE t DROP COLUMN c", "CREATE TABLE `a b` (k INT64 AS (1) STORED) PRIMARY KEY ()", "DROP INDEX x", "ALTER DATABASE d SET OPTIONS (version_retention_period = '7d')", "CREATE TABLE w (k INT64 PRIMARY KEY, CONSTRAINT f FOREIGN KEY (k) REFERENCES t (k) NOT ENFORCED)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := sql.ParseDDL(text)
		if err != nil {
			return
		}
		db := build(t, fuzzSchema)
		if _, err := db.UpdateSchema(func(s *store.Schema, at int64) (*store.Schema, error) { return d.Apply(s, at, db.NewObjectID) }); err != nil {
			return
		}
		printed := sql.PrintDDL(db.Schema())
		again := sql.PrintDDL(build(t, printed).Schema())
		for i := range printed {
			if printed[i] != again[i] {
				t.Fatalf("%q prints as %q, then as %q", text, printed[i], again[i])
			}
		}
	})
}

// No statement crashes the front or runs away.
func FuzzStatement(f *testing.F) {
	for _, s := range []string{
		"SELECT * FROM t WHERE k = 1 AND a IN ('x', @p) ORDER BY 1 LIMIT 3",
		"SELECT COUNT(*), SUM(k), a FROM t GROUP BY 3 HAVING COUNT(*) > 0",
		"SELECT t.k, u.d FROM t LEFT JOIN s.u AS u ON t.k = u.k, UNNEST(t.b) AS e WITH OFFSET",
		"INSERT INTO t (k, a, c) VALUES (1, DEFAULT, PENDING_COMMIT_TIMESTAMP()), (2, 'y', NULL) THEN RETURN k",
		"INSERT OR UPDATE INTO v (k, n) SELECT k, 1.5 FROM t", "UPDATE t SET a = CONCAT(a, 'b') WHERE k BETWEEN 0 AND 9", "DELETE FROM t WHERE TRUE",
		"SELECT ChangeRecord FROM READ_c1(@p, NULL, NULL, 1000)", "SELECT * FROM INFORMATION_SCHEMA.COLUMNS", "SELECT (((1)))",
		"WITH q AS (SELECT 1 AS n UNION DISTINCT SELECT 2) SELECT ARRAY(SELECT n FROM q), EXISTS(SELECT 1), CAST('1' AS FLOAT64) / 0",
		"SELECT SUBSTR('abc', -2, 9223372036854775807), MOD(-9223372036854775808, -1), 1 << 64, NUMERIC '1e28' * 99",
	} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, text, p string) {
		st, err := sql.Parse(text)
		if err != nil {
			return
		}
		db := build(t, fuzzSchema)
		params := map[string]sql.Param{"p": {Type: &store.Type{Code: store.String}, Value: store.Value{Valid: true, Text: p}, Untyped: true}}
		tx := db.Begin()
		env := sql.Env{Reader: tx, Params: params, Now: time.Unix(0, 0)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		switch st.Kind() {
		case sql.ChangeStream:
			_, _ = st.ChangeStreamQuery(db.Schema(), params)
		case sql.DML:
			if _, err := st.Execute(ctx, tx, env); err == nil {
				_, _ = tx.Commit(store.CommitRequest{})
			}
		default:
			plan, err := st.Prepare(env)
			if err != nil {
				return
			}
			rows := 0
			_ = plan.Run(ctx, func(r []store.Value) error {
				if rows++; len(r) != len(plan.Columns()) {
					t.Fatalf("a row of %d values for %d columns", len(r), len(plan.Columns()))
				}
				return nil
			})
		}
	})
}

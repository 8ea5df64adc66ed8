package sql_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// drawSchema draws statements that make a schema.
func drawSchema(t *rapid.T) []string {
	types := []string{"INT64", "STRING(9)", "STRING(MAX)", "BYTES(5)", "BOOL", "FLOAT64", "FLOAT32", "NUMERIC", "DATE", "TIMESTAMP", "JSON", "UUID", "ARRAY<STRING(3)>", "ARRAY<INT64>"}
	defaults := map[string]string{"INT64": "(1 + 2)", "STRING(9)": "('it\\'s')", "STRING(MAX)": "(GENERATE_UUID())", "BOOL": "(TRUE)", "TIMESTAMP": "(CURRENT_TIMESTAMP())", "NUMERIC": "(1.5)"}
	out := []string{"CREATE SCHEMA sc", "CREATE SEQUENCE sq OPTIONS (sequence_kind = 'bit_reversed_positive')"}
	tables := rapid.IntRange(1, 4).Draw(t, "tables")
	streams := 0
	for n := range tables {
		name := fmt.Sprintf("t%d", n)
		if rapid.IntRange(0, 3).Draw(t, "named") == 0 {
			name = "sc." + name
		}
		cols := []string{"id INT64 NOT NULL"}
		if rapid.Bool().Draw(t, "sequence") {
			cols[0] += " DEFAULT (GET_NEXT_SEQUENCE_VALUE(SEQUENCE sq))"
		}
		var scalars []string
		for i := range rapid.IntRange(0, 5).Draw(t, "columns") {
			typ := rapid.SampledFrom(types).Draw(t, "type")
			c := fmt.Sprintf("`c %d` %s", i, typ)
			if i%2 == 0 {
				c = fmt.Sprintf("c%d %s", i, typ)
				if typ == "INT64" {
					scalars = append(scalars, fmt.Sprintf("c%d", i))
				}
			}
			if rapid.Bool().Draw(t, "not null") {
				c += " NOT NULL"
			}
			if d := defaults[typ]; d != "" && rapid.Bool().Draw(t, "default") {
				c += " DEFAULT " + d
			} else if typ == "TIMESTAMP" && rapid.Bool().Draw(t, "commit") {
				c += " OPTIONS (allow_commit_timestamp = true)"
			}
			cols = append(cols, c)
		}
		for i, s := range scalars {
			if rapid.Bool().Draw(t, "generated") {
				cols = append(cols, fmt.Sprintf("g%d INT64 AS (%s * 2 + id)%s", i, s, rapid.SampledFrom([]string{"", " STORED"}).Draw(t, "stored")))
			}
			if rapid.Bool().Draw(t, "check") {
				cols = append(cols, rapid.SampledFrom([]string{"", fmt.Sprintf("CONSTRAINT ck%d_%d ", n, i)}).Draw(t, "name")+fmt.Sprintf("CHECK (%s > 0 OR %s IS NULL)", s, s))
			}
			if n > 0 && rapid.Bool().Draw(t, "foreign") {
				cols = append(cols, fmt.Sprintf("FOREIGN KEY (%s) REFERENCES k (id)%s", s, rapid.SampledFrom([]string{"", " ON DELETE CASCADE", " NOT ENFORCED"}).Draw(t, "on delete")))
			}
		}
		if n == 0 {
			out = append(out, "CREATE TABLE k (id INT64 NOT NULL, ts TIMESTAMP) PRIMARY KEY (id), ROW DELETION POLICY (OLDER_THAN(ts, INTERVAL 5 DAY))")
		}
		text := "CREATE TABLE " + name + " (" + strings.Join(cols, ", ") + ") PRIMARY KEY (id)"
		if rapid.Bool().Draw(t, "interleaved") {
			text += ", INTERLEAVE IN " + rapid.SampledFrom([]string{"PARENT k", "PARENT k ON DELETE CASCADE", "k"}).Draw(t, "parent")
		}
		out = append(out, text)
		for i, s := range scalars {
			if rapid.Bool().Draw(t, "index") {
				out = append(out, fmt.Sprintf("CREATE %sINDEX i%d_%d ON %s (%s DESC)", rapid.SampledFrom([]string{"", "UNIQUE ", "NULL_FILTERED ", "UNIQUE NULL_FILTERED "}).Draw(t, "kind"), n, i, name, s))
			}
		}
		if !strings.Contains(name, ".") && streams < 3 && rapid.Bool().Draw(t, "stream") {
			streams++
			out = append(out, fmt.Sprintf("CREATE CHANGE STREAM s%d FOR %s%s", n, name, rapid.SampledFrom([]string{"", "()", " OPTIONS (retention_period = '2d', exclude_delete = true)"}).Draw(t, "options")))
		}
	}
	if rapid.Bool().Draw(t, "view") {
		out = append(out, "CREATE VIEW v SQL SECURITY INVOKER AS SELECT k.id, 'a\\n' AS b FROM k WHERE k.id > 1")
	}
	return append(out, drawRoles(t)...)
}

// drawRoles draws roles and what they are granted on drawSchema's things.
func drawRoles(t *rapid.T) []string {
	out := []string{"CREATE ROLE `role 1`", "CREATE ROLE r2", "CREATE ROLE r3"}
	roles := []string{"`role 1`", "r2", "r3", "public", "r3, public, r2"}
	grants := []string{"SELECT(id), INSERT(id) ON TABLE k", "DELETE ON TABLE k", "UPDATE ON ALL TABLES IN SCHEMA default", "SELECT(ts), UPDATE(ts) ON TABLE k", "USAGE ON SCHEMA sc", "SELECT ON SEQUENCE sq", "SELECT ON ALL CHANGE STREAMS IN SCHEMA default", "ROLE spanner_sys_reader, r3"}
	for range rapid.IntRange(0, 12).Draw(t, "grants") {
		verb, to := "GRANT ", " TO ROLE "
		if rapid.IntRange(0, 3).Draw(t, "revoke") == 0 {
			verb, to = "REVOKE ", " FROM ROLE "
		}
		what, role := rapid.SampledFrom(grants).Draw(t, "what"), rapid.SampledFrom(roles).Draw(t, "role")
		if strings.HasPrefix(what, "ROLE") {
			role = rapid.SampledFrom(roles[:2]).Draw(t, "member")
		}
		out = append(out, verb+what+to+role)
	}
	return out
}

// What PrintDDL writes makes, on an empty database, a schema that it writes alike.
func TestPrintedSchemaIsTheSame(t *testing.T) {
	apply := func(t *rapid.T, db *store.Database, statements []string) {
		for _, text := range statements {
			d, err := sql.ParseDDL(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.UpdateSchema(func(s *store.Schema, at int64) (*store.Schema, error) { return d.Apply(s, at, db.NewObjectID) }); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		first, second := store.New(store.Options{}), store.New(store.Options{})
		apply(t, first, drawSchema(t))
		printed := sql.PrintDDL(first.Schema())
		apply(t, second, printed)
		again := sql.PrintDDL(second.Schema())
		if strings.Join(printed, ";\n") != strings.Join(again, ";\n") {
			t.Fatalf("printed\n%s\nand then\n%s", strings.Join(printed, ";\n"), strings.Join(again, ";\n"))
		}
	})
}

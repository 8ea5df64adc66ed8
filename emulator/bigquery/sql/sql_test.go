package sql

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
)

var (
	columns = []row.Field{
		{Name: "id", Kind: row.Int64}, {Name: "x", Kind: row.Float64}, {Name: "s", Kind: row.String},
		{Name: "r", Kind: row.Struct, Fields: []row.Field{{Name: "in", Kind: row.Int64}}}, {Name: "l", Kind: row.Int64, Mode: row.Repeated},
	}
	rows = []row.Row{
		{int64(1), 1.5, "a", row.Row{int64(10)}, []row.Value{int64(1)}},
		{int64(2), math.NaN(), "b", nil, []row.Value(nil)},
		{int64(3)}, // written before the other columns were added
	}
)

func TestComparisons(t *testing.T) {
	for where, want := range map[string]int{
		"x = 1.5": 1, "x != 1.5": 1, "x < 100": 1, "x IS NULL": 1, "s IN ('a', 'b')": 2, "s NOT IN ('a')": 1, "l IS NOT NULL": 3,
		"r.in = 10": 1, "r.in IS NULL": 2, "id = @n": 1, "id = @none": 0, "id >= -1 AND `s` <= \"b\"": 2, "S = 'a\\'' -- not": 0,
	} {
		q, err := Parse("SELECT id FROM t WHERE " + where)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		got, err := q.Run(columns, rows, map[string]Parameter{"n": {Kind: row.Int64, Text: "3"}, "none": {Kind: row.Int64, Null: true}})
		if err != nil || len(got.Rows) != want {
			t.Errorf("%s: %d rows, %v, want %d", where, len(got.Rows), err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT id + 1 FROM t":                        `"+"`,
		"SELECT * EXCEPT (id) FROM t":                 "EXCEPT",
		"SELECT DISTINCT id FROM t":                   "DISTINCT",
		"SELECT id FROM t, u":                         `","`,
		"SELECT id FROM (SELECT 1)":                   `"("`,
		"SELECT id FROM t u":                          "alias",
		"SELECT id FROM t WHERE NOT id = 1":           "NOT",
		"SELECT id FROM t WHERE id BETWEEN 1 AND 2":   "BETWEEN",
		"SELECT id FROM t WHERE s LIKE 'a%'":          "LIKE",
		"SELECT id FROM t WHERE id = id":              `"id"`,
		"WITH a AS (SELECT 1) SELECT * FROM a":        "WITH",
		"SELECT id, COUNT(*) FROM t":                  "GROUP BY",
		"SELECT COUNT(*) FROM t ORDER BY id":          "ORDER BY",
		"SELECT id FROM t UNION ALL SELECT id FROM t": "UNION",
		"SELECT '''a''' FROM t WHERE s = '''a'''":     "triple",
		"SELECT id FROM t WHERE s = '\\x41'":          "escape",
	} {
		q, err := Parse(query)
		if err == nil {
			_, err = q.Run(columns, rows, nil)
		}
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s unsupported", query, err, want)
		}
	}
	for _, query := range []string{
		"", "SELECT", "SELECT FROM t", "SELECT id FROM", "SELECT id FROM t LIMIT", "SELECT id FROM t LIMIT -1", "SELECT id FROM t WHERE",
		"SELECT id FROM t WHERE s = 'a", "SELECT id FROM `t", "SELECT id FROM a.b.c.d", "SELECT id FROM t WHERE id = 1x",
		"SELECT id FROM t WHERE id IN ()", "SELECT id FROM t /*", "SELECT id, id FROM t", "SELECT id.in FROM t", "SELECT id FROM t ORDER BY r",
		"SELECT id FROM t ORDER BY l", "SELECT id FROM t WHERE id = 99999999999999999999", "SELECT id FROM t; SELECT id FROM t", "SELECT id FROM ``",
	} {
		q, err := Parse(query)
		if err == nil {
			_, err = q.Run(columns, rows, nil)
		}
		if err == nil || errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, want an error of its own", query, err)
		}
	}
}

// FuzzParse: whatever the query, it is an error or it runs.
func FuzzParse(f *testing.F) {
	for _, q := range []string{
		"SELECT * FROM `p.d.t` WHERE id >= -1 AND s IN ('a', @p) ORDER BY x DESC, id LIMIT 2 OFFSET 1;",
		"SELECT COUNT(*), COUNT(DISTINCT s) AS n, MAX(r.in), MIN(x) FROM my-project.d.t WHERE l IS NOT NULL",
		"SELECT r.in AS a FROM t WHERE s = \"x\\n\" AND x != 1.5e-3 -- c",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := Parse(query)
		if err != nil {
			return
		}
		got, err := q.Run(columns, rows, map[string]Parameter{"p": {Kind: row.String, Text: "b"}})
		if err != nil {
			return
		}
		for _, r := range got.Rows {
			row.TableRow(got.Fields, r, row.Seconds)
		}
	})
}

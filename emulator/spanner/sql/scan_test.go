package sql_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// counting is a Reader that counts what a query reads.
type counting struct {
	store.Reader
	gets, rows int
}

func (c *counting) Get(t *store.Table, k store.Key) (store.Row, error) {
	c.gets++
	return c.Reader.Get(t, k)
}

func (c *counting) Scan(t *store.Table, r store.Range, fn func(store.Key, store.Row) bool) error {
	return c.Reader.Scan(t, r, func(k store.Key, row store.Row) bool {
		c.rows++
		return fn(k, row)
	})
}

func (c *counting) ScanIndex(x *store.Index, t *store.Table, r store.Range, fn func(store.Key, store.Row) bool) error {
	return c.Reader.ScanIndex(x, t, r, func(k store.Key, row store.Row) bool {
		c.rows++
		return fn(k, row)
	})
}

// A condition that pins a key, or a part of one, reads no more than it has to.
func TestScansReadWhatConditionsPin(t *testing.T) {
	db := build(t, []string{
		"CREATE TABLE p (id INT64 NOT NULL, name STRING(20)) PRIMARY KEY (id)",
		"CREATE TABLE c (id INT64 NOT NULL, n INT64 NOT NULL) PRIMARY KEY (id, n DESC), INTERLEAVE IN PARENT p",
		"CREATE INDEX by_name ON p (name)",
	})
	tx := db.Begin()
	for i := range 100 {
		for _, text := range []string{fmt.Sprintf("INSERT INTO p (id, name) VALUES (%d, 'n%d')", i, i%10), fmt.Sprintf("INSERT INTO c (id, n) VALUES (%d, 1), (%d, 2)", i, i)} {
			st, err := sql.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Execute(t.Context(), tx, sql.Env{Reader: tx, Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := tx.Commit(store.CommitRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sql        string
		gets, rows int
	}{
		{"SELECT * FROM p WHERE id = 5", 1, 0},
		{"SELECT * FROM p WHERE id IN (5, 6, 500)", 3, 0},
		{"SELECT * FROM p WHERE id = 5 AND name = 'n5'", 1, 0},
		{"SELECT * FROM p WHERE id >= 10 AND id < 20", 0, 10},
		{"SELECT * FROM p WHERE id BETWEEN 10 AND 12", 0, 3},
		{"SELECT * FROM p WHERE name = 'n3'", 0, 10},
		{"SELECT * FROM c WHERE id = 5", 0, 2},
		{"SELECT * FROM c WHERE id = 5 AND n > 1", 0, 1},
		{"SELECT * FROM p JOIN c ON p.id = c.id WHERE p.id = 7", 1, 2},
		{"SELECT * FROM p JOIN c USING (id) WHERE p.id = 7", 1, 2},
		{"SELECT (SELECT COUNT(*) FROM c WHERE c.id = p.id) FROM p WHERE p.id < 3", 0, 3 + 6},
		{"SELECT id FROM p WHERE id < 4 AND id IN (SELECT id FROM c WHERE n = 2)", 0, 4 + 200}, // the sub-query runs once
		{"SELECT * FROM p LIMIT 3", 0, 3},
		{"SELECT * FROM p WHERE id = 3 OR id = 4", 0, 100}, // disjunctions are not looked into
	} {
		st, err := sql.Parse(c.sql)
		if err != nil {
			t.Fatal(err)
		}
		r := &counting{Reader: db.Strong(false)}
		plan, err := st.Prepare(sql.Env{Reader: r, Now: time.Now()})
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		if err := plan.Run(t.Context(), func([]store.Value) error { return nil }); err != nil {
			t.Errorf("%s: %v", c.sql, err)
		}
		if r.gets != c.gets || r.rows != c.rows {
			t.Errorf("%s: %d rows by key and %d by scan, want %d and %d", c.sql, r.gets, r.rows, c.gets, c.rows)
		}
	}
}

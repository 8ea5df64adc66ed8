package bigquery_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/managedwriter"
)

// fill appends rows of people with ids 0 to n-1 to a table through its default stream; every third has no name.
func (w *world) fill(table string, n int) {
	w.t.Helper()
	md, dp := message(w.t, people)
	ms, err := w.writer.NewManagedStream(w.t.Context(), managedwriter.WithDestinationTable(path(table)),
		managedwriter.WithType(managedwriter.DefaultStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		w.t.Fatal(err)
	}
	defer ms.Close()
	var rows [][]byte
	for i := range n {
		if i%3 == 2 {
			rows = append(rows, encode(w.t, md, "id", int64(i)))
		} else {
			rows = append(rows, encode(w.t, md, "id", int64(i), "name", fmt.Sprintf("n%d", i/2)))
		}
	}
	res, err := ms.AppendRows(w.t.Context(), rows)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := res.GetResult(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func TestQuery(t *testing.T) {
	w := start(t)
	w.table("people", people)
	w.fill("people", 7) // names: n0 n0 - n1 n2 - n3
	for query, want := range map[string]string{
		"SELECT * FROM `p.d.people` ORDER BY id LIMIT 3":                                   "[[0 n0] [1 n0] [2 <nil>]]",
		"SELECT id AS n FROM d.people WHERE name = 'n0' ORDER BY n DESC":                   "[[1] [0]]",
		"SELECT name, id FROM people WHERE id >= 3 AND id < @to ORDER BY name, id":         "[[<nil> 5] [n1 3] [n2 4]]",
		"SELECT COUNT(*), COUNT(name) AS named, COUNT(DISTINCT name), MAX(id) FROM people": "[[7 5 4 6]]",
		"SELECT MIN(name) FROM people WHERE name IS NOT NULL AND id NOT IN (0, 1)":         "[[n1]]",
		"SELECT id FROM people WHERE name IS NULL LIMIT 1 OFFSET 1":                        "[[5]]",
		"SELECT MAX(id) FROM people WHERE id > 100":                                        "[[<nil>]]",
	} {
		q := w.client.Query(query)
		q.DefaultDatasetID = "d"
		q.Parameters = []bigquery.QueryParameter{{Name: "to", Value: 6}}
		it, err := q.Read(t.Context())
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := fmt.Sprint(all(t, it, nil)); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", query, got, want)
		}
	}
}

func TestQueryPages(t *testing.T) {
	w := start(t)
	table := w.table("people", people)
	const n = 25_001
	w.fill("people", n)
	for name, read := range map[string]func() (*bigquery.RowIterator, error){
		"table": func() (*bigquery.RowIterator, error) { return table.Read(t.Context()), nil },
		"query": func() (*bigquery.RowIterator, error) {
			return w.client.Query("SELECT * FROM d.people").Read(t.Context())
		},
		"job": func() (*bigquery.RowIterator, error) {
			q := w.client.Query("SELECT * FROM d.people")
			q.JobID = "mine"
			return q.Read(t.Context())
		},
	} {
		it, err := read()
		got := all(t, it, err)
		if len(got) != n {
			t.Fatalf("%s: %d rows, want %d", name, len(got), n)
		}
		for i, r := range got {
			if r[0] != int64(i) {
				t.Fatalf("%s: row %d is %v", name, i, r)
			}
		}
	}
	q := w.client.Query("SELECT * FROM d.people")
	q.JobID = "mine"
	_, err := q.Run(t.Context())
	wantHTTP(t, err, http.StatusConflict, "duplicate")
}

func TestQueryErrors(t *testing.T) {
	w := start(t)
	w.table("people", people)
	for query, want := range map[string]struct {
		code         int
		reason, text string
	}{
		"SELECT nope FROM d.people": {400, "invalidQuery", "nope"},
		"SELEC id":                  {400, "invalidQuery", "SELECT"},
		"SELECT * FROM d.gone":      {404, "notFound", "p:d.gone"},
		"SELECT * FROM gone.t":      {404, "notFound", "p:gone"},
		"SELECT name, COUNT(*) FROM d.people GROUP BY name": {501, "notImplemented", "GROUP"},
		"SELECT * FROM d.people JOIN d.people":              {501, "notImplemented", "JOIN"},
		"INSERT INTO d.people VALUES (1)":                   {501, "notImplemented", "INSERT"},
		"SELECT SUM(id) FROM d.people":                      {501, "notImplemented", "SUM"},
		"SELECT * FROM d.INFORMATION_SCHEMA.TABLES":         {501, "notImplemented", "INFORMATION_SCHEMA"},
		"SELECT * FROM d.people WHERE id = 1 OR id = 2":     {501, "notImplemented", "OR"},
		"SELECT * FROM d.people WHERE id = 'x'":             {400, "invalidQuery", "INTEGER"},
		"SELECT * FROM d.people WHERE id = @missing":        {400, "invalidQuery", "@missing"},
		"SELECT * FROM people":                              {400, "invalidQuery", "qualified"},
	} {
		_, err := w.client.Query(query).Read(t.Context())
		wantHTTP(t, err, want.code, want.reason)
		if err == nil || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v does not name %s", query, err, want.text)
		}
	}
}

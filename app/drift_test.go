package app

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change/avro"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// The schema changes while nobody reads: a column is added and dropped, a table is dropped and made again in another shape.
// Every record still decodes by what it says itself, into the union's version that has its columns; updates of different
// columns in turn make no version; each version has an Avro schema.
func TestSchemaDriftWhileStopped(t *testing.T) {
	b := newBreaking(t, startEmbedded(t, embedded.Options{}).Addr())
	b.must(b.run(nil))
	c, err := b.spannerClient(t.Context(), b.config.Database)
	b.must(err)
	defer c.Close()
	put := func(table string, row map[string]any) {
		t.Helper()
		_, err := c.Apply(t.Context(), []*spanner.Mutation{spanner.InsertOrUpdateMap(table, row)})
		b.must(err)
	}
	put("Carts", map[string]any{"CartId": "x", "Items": 1})
	b.ddl("ALTER TABLE Carts ADD COLUMN Note STRING(MAX)")
	put("Carts", map[string]any{"CartId": "x", "Note": "n"})
	put("Carts", map[string]any{"CartId": "x", "Items": 2})
	put("Carts", map[string]any{"CartId": "x", "Note": "m"})
	b.ddl("ALTER TABLE Carts DROP COLUMN Note")
	put("Carts", map[string]any{"CartId": "x", "Items": 3})
	b.ddl("DROP TABLE Carts", "CREATE TABLE Carts (CartId STRING(36) NOT NULL, Items STRING(9)) PRIMARY KEY (CartId)")
	put("Carts", map[string]any{"CartId": "x", "Items": "four"})
	b.ddl("DROP TABLE Carts", breakDDL[0])

	before := b.sink.Distinct()
	b.must(b.runFor(6 + 1))
	var got []string
	for _, d := range b.sink.Deliveries()[before:] {
		if string(d.Change.Key[0]) != `"x"` {
			continue
		}
		var columns []string
		for i, v := range d.Change.After {
			if v != nil && !v.IsNull() {
				columns = append(columns, fmt.Sprintf("%s=%s", d.Change.Table.Columns[i].Name, v))
			}
		}
		got = append(got, fmt.Sprintf("%s %s", d.Change.Op, strings.Join(columns, " ")))
		if _, err := avro.SchemaOf(d.Change.Table); err != nil {
			t.Errorf("version %d: %v", d.Change.Table.Version, err)
		}
	}
	want := []string{`INSERT Items="1"`, `UPDATE Note="n"`, `UPDATE Items="2"`, `UPDATE Note="m"`, `UPDATE Items="3"`, `INSERT Items="four"`}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	snap, err := b.store.Load(t.Context(), b.config.Name)
	b.must(err)
	if len(snap.Tables) != 1 || snap.Tables[0].Version > 4 || snap.Tables[0].Index("Note") < 0 {
		t.Errorf("stored unions: %+v", snap.Tables)
	}
}

package changestream

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spanledger/spanledger/change"
)

// WatchedTable is a table that the stream watches, as the database's schema has it now.
type WatchedTable struct {
	// Name is qualified with the named schema, as in changes.
	Name string
	// Columns are those that the stream captures, the primary key's among them, by ordinal position. A type this version
	// cannot read in the schema is nil.
	Columns []change.Column
	// PrimaryKey are the places in Columns of the key's columns, in the key's own order.
	PrimaryKey []int

	listed bool // the stream names it
}

// Watched lists the tables that the stream watches now, by name. It asks the database.
func (r *Reader) Watched(ctx context.Context) ([]WatchedTable, error) {
	quoted := "`ALL`"
	if r.dialect == postgreSQL {
		quoted = `"all"`
	}
	rows, err := r.rows(ctx, "SELECT "+quoted+" FROM information_schema.change_streams WHERE change_stream_name = '"+r.stream+"'")
	if err != nil {
		return nil, err
	}
	all := len(rows) == 1 && isTrue(rows[0][0])
	tables, err := r.schema(ctx)
	if err != nil {
		return nil, err
	}
	if all {
		return tables, nil
	}
	return slices.DeleteFunc(tables, func(t WatchedTable) bool { return !t.listed }), nil
}

type columnName struct{ schema, table, column string }

type tableName struct{ schema, table string }

// schema reads the columns that the stream captures. Of a stream that lists no tables it reads all: it watches everything or
// nothing.
func (r *Reader) schema(ctx context.Context) ([]WatchedTable, error) {
	filter := " WHERE change_stream_name = '" + r.stream + "'"
	tables, err := r.rows(ctx, "SELECT table_schema, table_name, all_columns FROM information_schema.change_stream_tables"+filter)
	if err != nil {
		return nil, err
	}
	listed, err := r.rows(ctx, "SELECT table_schema, table_name, column_name FROM information_schema.change_stream_columns"+filter)
	if err != nil {
		return nil, err
	}
	keys, err := r.rows(ctx, "SELECT table_schema, table_name, column_name, ordinal_position FROM information_schema.index_columns WHERE index_type = 'PRIMARY_KEY'")
	if err != nil {
		return nil, err
	}
	columns, err := r.rows(ctx, "SELECT table_schema, table_name, column_name, ordinal_position, is_generated, spanner_type FROM information_schema.columns")
	if err != nil {
		return nil, err
	}
	keyAt := map[columnName]int{} // from 1
	for _, k := range keys {
		if keyAt[columnName{k[0], k[1], k[2]}], err = strconv.Atoi(k[3]); err != nil {
			return nil, fmt.Errorf("changestream: key column %s.%s has the ordinal position %q", k[1], k[2], k[3])
		}
	}
	whole := map[tableName]bool{} // a watched table's name; true if all its columns are watched
	for _, t := range tables {
		whole[tableName{t[0], t[1]}] = isTrue(t[2])
	}
	watched := map[columnName]bool{}
	for _, c := range listed {
		watched[columnName{c[0], c[1], c[2]}] = true
	}
	all := len(tables) == 0
	found := map[tableName]*WatchedTable{}
	for _, c := range columns {
		n := columnName{c[0], c[1], c[2]}
		t, key := tableName{n.schema, n.table}, keyAt[n] > 0
		allColumns, some := whole[t]
		switch {
		case systemSchema(n.schema):
			continue
		case !all && !allColumns && !watched[n] && !(key && some): // the key is always tracked
			continue
		case !key && strings.EqualFold(c[4], "ALWAYS"): // generated columns are tracked only in the key
			continue
		}
		ordinal, err := strconv.Atoi(c[3])
		if err != nil {
			return nil, fmt.Errorf("changestream: column %s.%s has the ordinal position %q", n.table, n.column, c[3])
		}
		if found[t] == nil {
			found[t] = &WatchedTable{Name: r.qualified(t), listed: some}
		}
		found[t].Columns = append(found[t].Columns, change.Column{Name: n.column, Type: r.dialect.parseType(c[5]), Key: key, Ordinal: ordinal})
	}
	var out []WatchedTable
	for n, t := range found {
		slices.SortFunc(t.Columns, func(a, b change.Column) int { return a.Ordinal - b.Ordinal })
		place := func(i int) int { return keyAt[columnName{n.schema, n.table, t.Columns[i].Name}] }
		for i := range t.Columns {
			if t.Columns[i].Key {
				t.PrimaryKey = append(t.PrimaryKey, i)
			}
		}
		slices.SortFunc(t.PrimaryKey, func(a, b int) int { return place(a) - place(b) })
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b WatchedTable) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// qualified is a table's name as records have it.
func (r *Reader) qualified(t tableName) string {
	if t.schema == "" || r.dialect == postgreSQL && t.schema == "public" {
		return t.table
	}
	return t.schema + "." + t.table
}

func isTrue(s string) bool { return strings.EqualFold(s, "true") || strings.EqualFold(s, "YES") }

// seed makes schema unions of the tables the stream watches, so that a first record that names few columns does not look
// like the whole table. Seeding too much does no harm.
func (r *Reader) seed(ctx context.Context) error {
	tables, err := r.schema(ctx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		known := slices.DeleteFunc(slices.Clone(t.Columns), func(c change.Column) bool { return c.Type == nil }) // a record will tell
		if len(known) > 0 {
			r.unions.seedTable(t.Name, known)
		}
	}
	return nil
}

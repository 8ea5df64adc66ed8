package check

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
)

// The hand-made world of the tests: one table with a column of nearly every type, in partitions a → b and c (unrelated).
const (
	worldDatabase = "projects/p/instances/i/databases/d"
	worldStart    = change.Timestamp(1_790_000_000_000_000)
	worldEnd      = worldStart + 3_600_000_000
)

var worldTable = change.NewTable("shop.stock", 1, []change.Column{
	{Name: "store", Type: &change.Type{Code: change.CodeString}, Key: true, Ordinal: 1},
	{Name: "item", Type: &change.Type{Code: change.CodeInt64}, Key: true, Ordinal: 2},
	{Name: "amount", Type: &change.Type{Code: change.CodeInt64}, Ordinal: 3},
	{Name: "price", Type: &change.Type{Code: change.CodeNumeric}, Ordinal: 4},
	{Name: "at", Type: &change.Type{Code: change.CodeTimestamp}, Ordinal: 5},
	{Name: "day", Type: &change.Type{Code: change.CodeDate}, Ordinal: 6},
	{Name: "doc", Type: &change.Type{Code: change.CodeJSON}, Ordinal: 7},
	{Name: "raw", Type: &change.Type{Code: change.CodeBytes}, Ordinal: 8},
	{Name: "ratio", Type: &change.Type{Code: change.CodeFloat64}, Ordinal: 9},
	{Name: "small", Type: &change.Type{Code: change.CodeFloat32}, Ordinal: 10},
	{Name: "ok", Type: &change.Type{Code: change.CodeBool}, Ordinal: 11},
	{Name: "tags", Type: &change.Type{Code: change.CodeArray, Elem: &change.Type{Code: change.CodeString}}, Ordinal: 12},
	{Name: "odd name", Type: &change.Type{Code: change.CodeString}, Ordinal: 13},
})

func value(s string) change.Value { return change.Value(s) }

// worldChanges are 12 changes of 3 rows: rows 0 and 1 go from partition a to its child b, row 2 stays in c.
func worldChanges() []change.Change {
	var all []change.Change
	for n := range 12 {
		row := n % 3
		c := change.Change{
			Position: change.Position{Commit: worldStart + change.Timestamp(n+1)*1000, Transaction: strconv.Itoa(100 + n), Sequence: "00000000"},
			Table:    worldTable, Op: change.Update, Capture: change.NewRowAndOldValues, Tag: "app=test", Records: 1, Partitions: 1,
			Key:       []change.Value{value(`"north"`), value(`"` + strconv.Itoa(row) + `"`)},
			Partition: "a",
		}
		switch {
		case row == 2:
			c.Partition = "c"
		case n >= 6:
			c.Partition = "b"
		}
		amount := value(`"` + strconv.Itoa(n) + `"`)
		c.After = change.Row{nil, nil, amount, value(`"12.50"`), value(`"9999-12-31T23:59:59Z"`), value(`"2026-02-28"`), value(`"{\"b\": 1, \"a\": [null, 1.50]}"`),
			value(`"AP8="`), value(`1e+21`), value(`3.140000104904175`), value("true"), value(`["x",null]`), value(`"\u00e9<&>"`)}
		c.Before = change.Row{nil, nil, value(`"` + strconv.Itoa(n-3) + `"`)}
		if n < 3 {
			c.Op, c.Before = change.Insert, nil
			c.After[4] = value(`"2026-01-02T03:04:05.123456789Z"`) // finer than a microsecond: goes to the raw field
			c.After[8] = value("null")
		}
		if n >= 9 && row == 1 {
			c.Op, c.Before, c.After = change.Delete, c.After, nil
		}
		all = append(all, c)
	}
	return all
}

func worldPartitions() []Partition {
	return []Partition{{Token: "a", Start: worldStart}, {Token: "c", Start: worldStart}, {Token: "b", Parents: []string{"a"}, Start: worldStart + 7000}}
}

// truthOf is the truth that has just these changes.
func truthOf(t testing.TB, changes []change.Change, partitions []Partition) *Truth {
	t.Helper()
	columns := map[string]*Column{}
	for _, c := range worldTable.Columns {
		text, err := json.Marshal(c.Type)
		if err != nil {
			t.Fatal(err)
		}
		column := &Column{Name: c.Name}
		if err := json.Unmarshal(text, &column.Type); err != nil {
			t.Fatal(err)
		}
		columns[c.Name] = column
	}
	canonical := func(column *Column, v change.Value) string {
		s, err := column.Type.Canonical(v)
		if err != nil {
			t.Fatalf("column %s: %v", column.Name, err)
		}
		return s
	}
	rowOf := func(r change.Row) Row {
		var values []Value
		for i, v := range r {
			if v != nil {
				column := columns[worldTable.Columns[i].Name]
				values = append(values, Value{column, canonical(column, v)})
			}
		}
		row, err := MakeRow(values...)
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	var all []Change
	for i := range changes {
		c := &changes[i]
		x := Change{Position: c.Position, Table: c.Table.Name, Op: c.Op.String(), Capture: c.Capture.String(), Partition: c.Partition, Tag: c.Tag, System: c.System,
			Records: int64(c.Records), Partitions: int64(c.Partitions), After: rowOf(c.After), Before: rowOf(c.Before)}
		for n, k := range worldTable.Keys() {
			column := columns[worldTable.Columns[k].Name]
			x.KeyColumns = append(x.KeyColumns, column)
			sep := ","
			if n == 0 {
				sep = "["
			}
			x.Key += sep + canonical(column, c.Key[n])
		}
		x.Key += "]"
		all = append(all, x)
	}
	truth, err := NewTruth(all, partitions, worldStart, worldEnd)
	if err != nil {
		t.Fatal(err)
	}
	truth.Database, truth.Stream = worldDatabase, "everything"
	return truth
}

// memory is an archive in memory that tests can spoil.
type memory map[string]*stored

type stored struct {
	data     []byte
	metadata map[string]string
}

func (m memory) List(context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for name, s := range m {
			if !yield(Object{name, s.metadata}, nil) {
				return
			}
		}
	}
}

func (m memory) Read(_ context.Context, name string) ([]byte, error) {
	s := m[name]
	if s == nil {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return s.data, nil
}

// link is the end of a chain.
type link struct {
	last   change.Position
	digest string
}

// put writes a segment of a run of changes behind the link.
func (m memory) put(t testing.TB, token string, after link, changes ...change.Change) (string, link) {
	t.Helper()
	schema, err := avro.SchemaOf(worldTable)
	if err != nil {
		t.Fatal(err)
	}
	s := segment{pipeline: "pipe", incarnation: 1, token: token, table: worldTable.Name, first: changes[0].Position}
	header := []avro.Metadata{{Key: "spanledger-format", Value: "1"}, {Key: "spanledger-pipeline", Value: "pipe"}, {Key: "spanledger-incarnation", Value: "1"},
		{Key: "spanledger-token", Value: token}, {Key: "spanledger-table", Value: worldTable.Name}, {Key: "spanledger-first", Value: changes[0].ID()},
		{Key: "spanledger-last", Value: changes[len(changes)-1].ID()}, {Key: "spanledger-count", Value: strconv.Itoa(len(changes))},
		{Key: "spanledger-fingerprint", Value: schema.Fingerprint()}}
	if after.digest != "" {
		header = append(header, avro.Metadata{Key: "spanledger-previous-last", Value: after.last.String()}, avro.Metadata{Key: "spanledger-previous-sha256", Value: after.digest})
	}
	data, err := avro.AppendOCF(nil, schema, avro.Container{Metadata: header}, changes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	o := &stored{data: data, metadata: map[string]string{"spanledger-sha256": hex.EncodeToString(sum[:])}}
	for _, h := range header {
		o.metadata[h.Key] = h.Value
	}
	name := s.path()
	m[name] = o
	m[schemaName(worldTable.Name, schema.Fingerprint())] = &stored{schema.JSON(), map[string]string{}}
	return name, link{changes[len(changes)-1].Position, o.metadata["spanledger-sha256"]}
}

// archiveOf is a sound archive of the changes in segments of two; its segments' names are by chain.
func archiveOf(t testing.TB, changes []change.Change) (memory, map[string][]string) {
	t.Helper()
	m := memory{"archive.json": {[]byte(`{"format":1,"database":"` + worldDatabase + `","stream":"everything"}`), map[string]string{}}}
	names := map[string][]string{}
	chains := map[string][]change.Change{}
	for _, c := range changes {
		chains[c.Partition] = append(chains[c.Partition], c)
	}
	for token, chain := range chains {
		var end link
		for run := range slices.Chunk(chain, 2) {
			var name string
			name, end = m.put(t, token, end, run...)
			names[token] = append(names[token], name)
		}
	}
	return m, names
}

package sinktest

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/spanledger/spanledger/change"
)

// Generator makes changes such as a database's change stream would carry: of several tables, whose columns have every type,
// in position order, with transactions of several changes. The same seed makes the same changes. Not safe for concurrent
// use.
type Generator struct {
	rand   *rand.Rand
	tables []*change.Table
	commit change.Timestamp
	tx     int
}

// Keys is the number of different keys a Generator uses in each table: few, so that keys repeat.
const Keys = 40

func scalar(c change.Code) *change.Type { return &change.Type{Code: c} }

var scalarTypes = []*change.Type{
	scalar(change.CodeBool), scalar(change.CodeInt64), scalar(change.CodeFloat64), scalar(change.CodeFloat32),
	scalar(change.CodeTimestamp), scalar(change.CodeDate), scalar(change.CodeString), scalar(change.CodeBytes),
	scalar(change.CodeNumeric), scalar(change.CodeJSON), scalar(change.CodeUUID),
	{Code: change.CodeNumeric, Annotation: change.PGNumeric}, {Code: change.CodeJSON, Annotation: change.PGJSONB},
}

// NewGenerator makes a Generator with three tables: "orders" with an INT64 key and a column of every type, "shop.stock" in
// a named schema with a key of two columns, and "notes", whose names and keys need escaping everywhere.
func NewGenerator(seed uint64) *Generator {
	orders := []change.Column{{Name: "id", Type: scalar(change.CodeInt64), Key: true, Ordinal: 1}}
	for _, t := range scalarTypes {
		name := "c_" + t.Code.String()
		if t.Annotation != 0 {
			name = "c_" + t.Annotation.String()
		}
		orders = append(orders,
			change.Column{Name: name, Type: t, Ordinal: len(orders) + 1},
			change.Column{Name: name + "_list", Type: &change.Type{Code: change.CodeArray, Elem: t}, Ordinal: len(orders) + 2})
	}
	return &Generator{
		rand:   rand.New(rand.NewPCG(seed, 1)),
		commit: 1_767_323_045_000_000, // 2026-01-02
		tables: []*change.Table{
			change.NewTable("orders", 1, orders),
			change.NewTable("shop.stock", 1, []change.Column{
				{Name: "amount", Type: scalar(change.CodeInt64), Ordinal: 3},
				{Name: "store", Type: scalar(change.CodeString), Key: true, Ordinal: 1},
				{Name: "item", Type: scalar(change.CodeBytes), Key: true, Ordinal: 2},
				{Name: "price", Type: scalar(change.CodeNumeric), Ordinal: 4},
			}),
			change.NewTable("notes", 1, []change.Column{
				{Name: "Key", Type: scalar(change.CodeString), Key: true, Ordinal: 1},
				{Name: "größe", Type: scalar(change.CodeString), Ordinal: 2},
				{Name: "_2", Type: scalar(change.CodeString), Ordinal: 3},
			}),
		},
	}
}

// Tables are the tables in their present versions, in the order of NewGenerator's doc.
func (g *Generator) Tables() []*change.Table { return g.tables }

// Alter makes the next version of a table, with a nullable STRING column more, as ALTER TABLE would.
func (g *Generator) Alter(table int) *change.Table {
	old := g.tables[table]
	columns := append([]change.Column(nil), old.Columns...)
	columns = append(columns, change.Column{
		Name: fmt.Sprintf("added_%d", old.Version), Type: scalar(change.CodeString), Ordinal: len(columns) + 1,
	})
	g.tables[table] = change.NewTable(old.Name, old.Version+1, columns)
	return g.tables[table]
}

// Next makes the next n changes over all tables. The caller owns them and everything in them but the tables.
func (g *Generator) Next(n int) []change.Change {
	return g.next(n, func() *change.Table { return g.tables[g.rand.IntN(len(g.tables))] })
}

// NextOf makes the next n changes of one table.
func (g *Generator) NextOf(table, n int) []change.Change {
	return g.next(n, func() *change.Table { return g.tables[table] })
}

func (g *Generator) next(n int, table func() *change.Table) []change.Change {
	changes := make([]change.Change, 0, n)
	for len(changes) < n {
		// One transaction: a few records of a few mods. Now and then it shares its commit timestamp with the one before.
		if g.rand.IntN(4) > 0 {
			g.commit += 1 + change.Timestamp(g.rand.IntN(2_000_000))
		}
		if g.rand.IntN(50) == 0 {
			g.commit += 50 * 60 * 1_000_000 // over the hour, where destinations with a layout by time begin anew
		}
		g.tx++
		id := strconv.Itoa(1_000_000 + g.tx)
		used := map[string]bool{}
		for record := range 1 + g.rand.IntN(3) {
			t := table()
			op := change.Op(1 + g.rand.IntN(3))
			for mod := range 1 + g.rand.IntN(3) {
				c := g.change(t, op)
				key := t.Name + string(c.AppendKey(nil))
				if used[key] || len(changes) == n {
					continue
				}
				used[key] = true
				c.Position = change.Position{
					Commit: g.commit, Transaction: id, Sequence: fmt.Sprintf("%08d", record), Mod: int32(mod),
				}
				c.Records, c.Partitions = 3, 1
				changes = append(changes, c)
			}
		}
	}
	return changes
}

func (g *Generator) change(t *change.Table, op change.Op) change.Change {
	c := change.Change{
		Table: t, Op: op, Capture: change.NewRowAndOldValues, Partition: "__token==",
		System: op == change.Delete && g.rand.IntN(8) == 0,
	}
	if g.rand.IntN(4) == 0 {
		c.Tag = `app=checkout,action="pay"`
	}
	k := g.rand.IntN(Keys)
	for i, col := range t.Keys() {
		c.Key = append(c.Key, keyValue(t.Columns[col].Type, k>>i))
	}
	if op != change.Delete {
		c.After = g.row(t, 0)
	}
	if op != change.Insert {
		c.Before = g.row(t, 2)
	}
	return c
}

// row makes a row of which about one column in skip is not captured; 0 captures all. A row that ends early is legal.
func (g *Generator) row(t *change.Table, skip int) change.Row {
	row := make(change.Row, len(t.Columns))
	for i, col := range t.Columns {
		if col.Key || skip > 0 && g.rand.IntN(skip) == 0 {
			continue
		}
		row[i] = g.Value(col.Type)
	}
	for len(row) > 0 && row[len(row)-1] == nil {
		row = row[:len(row)-1]
	}
	return row
}

// keyValue makes keys that are equal for equal k only, and awkward where the type allows it.
func keyValue(t *change.Type, k int) change.Value {
	switch t.Code {
	case change.CodeInt64:
		return change.Value(strconv.Quote(strconv.Itoa(k*1_000_003 - 5)))
	case change.CodeBytes:
		return change.Value(strconv.Quote(base64.StdEncoding.EncodeToString([]byte{0xff, 0, byte(k)})))
	}
	return change.Value(fmt.Sprintf(`"k\"%d/\\ ünï,]"`, k))
}

// samples are values as change streams write them, edges included.
var samples = map[change.Code][]string{
	change.CodeBool:      {`true`, `false`},
	change.CodeInt64:     {`"0"`, `"-1"`, `"9223372036854775807"`, `"-9223372036854775808"`},
	change.CodeFloat64:   {`0`, `-1.5`, `1e+300`, `0.1`, `"NaN"`, `"Infinity"`, `"-Infinity"`},
	change.CodeFloat32:   {`0`, `-1.5`, `3.25`, `"NaN"`, `"Infinity"`, `"-Infinity"`},
	change.CodeTimestamp: {`"2026-01-02T03:04:05.123456Z"`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59.999999999Z"`, `"2026-01-02T03:04:05.000000001Z"`},
	change.CodeDate:      {`"2026-02-28"`, `"0001-01-01"`, `"9999-12-31"`},
	change.CodeString:    {`""`, `"plain"`, `"quote \" back \\ line \n tab \t nul \u0000"`, `"日本語 🙂"`, `"\u2028<&>"`},
	change.CodeBytes:     {`""`, `"AA=="`, `"//79"`},
	change.CodeNumeric:   {`"0"`, `"-1.5"`, `"99999999999999999999999999999.999999999"`},
	change.CodeJSON:      {`"{}"`, `"{\"a\":[1,null,\"x\"]}"`, `"null"`, `"\"text\""`},
	change.CodeUUID:      {`"00000000-0000-0000-0000-000000000000"`, `"6ba7b810-9dad-11d1-80b4-00c04fd430c8"`},
}

// Value makes a value of a type, NULL now and then.
func (g *Generator) Value(t *change.Type) change.Value {
	if g.rand.IntN(8) == 0 {
		return change.Value("null")
	}
	if t.Code == change.CodeArray {
		v := change.Value("[")
		for i := range g.rand.IntN(4) {
			if i > 0 {
				v = append(v, ',')
			}
			v = append(v, g.Value(t.Elem)...)
		}
		return append(v, ']')
	}
	if t.Annotation == change.PGNumeric && g.rand.IntN(4) == 0 {
		return change.Value(`"NaN"`)
	}
	all := samples[t.Code]
	return change.Value(all[g.rand.IntN(len(all))])
}

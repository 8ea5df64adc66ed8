package check

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"
	"google.golang.org/api/iterator"

	"github.com/spanledger/spanledger/change"
)

// BigQuery holds the changelog tables of a dataset against the truth: every table labelled spanledger=changelog is read
// with the ordinary client, row by row, and each change must be there exactly once, unaltered. A table has no order of its
// own, so none is judged. The error is about the reading only; what is wrong with the tables is in the Sink.
func BigQuery(ctx context.Context, t *Truth, client *bigquery.Client, project, dataset string) (*Sink, error) {
	l := newTally(t, true)
	tables := client.DatasetInProject(project, dataset).Tables(ctx)
	for {
		table, err := tables.Next()
		if errors.Is(err, iterator.Done) {
			return l.finish(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("check: list the tables of %s.%s: %w", project, dataset, err)
		}
		meta, err := table.Metadata(ctx)
		if err != nil {
			return nil, fmt.Errorf("check: table %s.%s.%s: %w", project, dataset, table.TableID, err)
		}
		if meta.Labels["spanledger"] != "changelog" {
			continue
		}
		deliveries, faults, err := readChangelog(ctx, t, table, meta)
		if err != nil {
			return nil, err
		}
		for _, f := range faults {
			l.sink.fault("table "+table.TableID, "%v", f)
		}
		for i := range deliveries {
			l.count(&deliveries[i])
		}
	}
}

// BigQueryTable reads one changelog table, in the order of positions. A table this version cannot read, or a row that
// contradicts itself, is an error.
func BigQueryTable(ctx context.Context, table *bigquery.Table) ([]Delivery, error) {
	meta, err := table.Metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("check: table %s: %w", table.TableID, err)
	}
	deliveries, faults, err := readChangelog(ctx, nil, table, meta)
	return deliveries, errors.Join(append(faults, err)...)
}

// changelog reads the rows of one table.
type changelog struct {
	truth *Truth
	table string // Spanner's name
	id    string
	place map[string]int // of each field in a row
	keys  []bqField
	row   []bqField
	types map[string]*Column // by Spanner's name, of the field made last
}

// bqField is one BigQuery column that holds a Spanner column.
type bqField struct {
	column *Column
	place  int
}

func readChangelog(ctx context.Context, t *Truth, table *bigquery.Table, meta *bigquery.TableMetadata) (all []Delivery, faults []error, err error) {
	c := changelog{truth: t, id: table.TableID, place: map[string]int{}, types: map[string]*Column{}}
	if c.table, err = describedTable(meta.Description); err != nil {
		return nil, []error{err}, nil
	}
	for i, f := range meta.Schema {
		c.place[f.Name] = i
		if strings.HasPrefix(f.Description, "{") {
			if err := c.field(i, f); err != nil {
				return nil, []error{err}, nil
			}
		}
	}
	for _, name := range []string{"_position", "_commit_timestamp", "_transaction", "_record_sequence", "_mod", "_snapshot", "_op", "_capture", "_system",
		"_tag", "_transaction_records", "_transaction_partitions", "_columns", "_before", "_raw"} {
		if _, ok := c.place[name]; !ok {
			return nil, []error{fmt.Errorf("it has no column %s", name)}, nil
		}
	}
	for it := table.Read(ctx); ; {
		var values []bigquery.Value
		err := it.Next(&values)
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("check: read table %s: %w", c.id, err)
		}
		d, err := c.delivery(values)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, *d)
	}
	slices.SortStableFunc(all, func(a, b Delivery) int {
		return a.Position.Compare(b.Position)
	})
	return all, faults, nil
}

// describedTable finds Spanner's name in a table's description, between the first two grave accents.
func describedTable(description string) (string, error) {
	parts := strings.SplitN(description, "`", 3)
	if len(parts) != 3 || parts[1] == "" {
		return "", fmt.Errorf("its description %q names no Spanner table", short(description))
	}
	return parts[1], nil
}

func (c *changelog) field(place int, f *bigquery.FieldSchema) error {
	var note struct {
		Column string `json:"spanner_column"`
		Type   string `json:"spanner_type"`
		Key    bool   `json:"key"`
	}
	if err := json.Unmarshal([]byte(f.Description), &note); err != nil || note.Column == "" {
		return fmt.Errorf("the description of its column %s names no Spanner column", f.Name)
	}
	column := &Column{Name: note.Column, Type: typeNamed(note.Type)}
	c.types[note.Column] = column
	if note.Key {
		c.keys = append(c.keys, bqField{column, place})
	} else {
		c.row = append(c.row, bqField{column, place})
	}
	return nil
}

// typeNamed reads the short form of a type: INT64, ARRAY<STRING>, NUMERIC(PG_NUMERIC), PROTO<a.B>.
func typeNamed(s string) Type {
	if elem, ok := strings.CutPrefix(s, "ARRAY<"); ok {
		t := typeNamed(strings.TrimSuffix(elem, ">"))
		return Type{Code: "ARRAY", Elem: &t}
	}
	code, rest, annotated := strings.Cut(s, "(")
	code, _, _ = strings.Cut(code, "<")
	t := Type{Code: code}
	if annotated {
		t.Annotation = strings.TrimSuffix(rest, ")")
	}
	return t
}

func (c *changelog) text(row []bigquery.Value, name string) string {
	s, _ := row[c.place[name]].(string) // NULL, and a column of another type, read as empty and are then found to differ
	return s
}

func (c *changelog) int(row []bigquery.Value, name string) int64 {
	n, _ := row[c.place[name]].(int64)
	return n
}

func (c *changelog) bool(row []bigquery.Value, name string) bool {
	b, _ := row[c.place[name]].(bool)
	return b
}

// delivery reads one row.
func (c *changelog) delivery(row []bigquery.Value) (*Delivery, error) {
	if len(row) < len(c.place) {
		return nil, fmt.Errorf("a row has %d values, the table %d columns", len(row), len(c.place))
	}
	at, _ := row[c.place["_commit_timestamp"]].(time.Time)
	m := &content{
		id: c.text(row, "_position"), commit: change.TimestampOf(at), table: c.table,
		op: c.text(row, "_op"), capture: c.text(row, "_capture"), tag: c.text(row, "_tag"), system: c.bool(row, "_system"),
		records: c.int(row, "_transaction_records"), parts: c.int(row, "_transaction_partitions"),
	}
	m.position = change.Position{
		Commit: m.commit, Snapshot: c.bool(row, "_snapshot"), Transaction: c.text(row, "_transaction"),
		Sequence: c.text(row, "_record_sequence"), Mod: int32(c.int(row, "_mod")),
	}
	types := c.typesOf(m.position)
	bad := func(err error) (*Delivery, error) { return nil, fmt.Errorf("row %s: %w", short(m.id), err) }
	raw, err := members(c.text(row, "_raw"))
	if err != nil {
		return bad(fmt.Errorf("_raw: %w", err))
	}
	var key, after, before []Value
	for _, k := range c.keys {
		v, err := c.value(row, k.column.Name, c.keys, raw, types)
		if err != nil {
			return bad(err)
		}
		key = append(key, v)
	}
	captured, _ := row[c.place["_columns"]].([]bigquery.Value)
	for _, name := range captured {
		v, err := c.value(row, fmt.Sprint(name), c.row, raw, types)
		if err != nil {
			return bad(err)
		}
		after = append(after, v)
	}
	old, err := members(c.text(row, "_before"))
	if err != nil {
		return bad(fmt.Errorf("_before: %w", err))
	}
	for name, text := range old {
		v, err := canonicalValue(name, text, types)
		if err != nil {
			return bad(fmt.Errorf("_before: %w", err))
		}
		before = append(before, v)
	}
	for _, part := range []struct {
		from []Value
		to   *Row
	}{{key, &m.key}, {after, &m.after}, {before, &m.before}} {
		if *part.to, err = MakeRow(part.from...); err != nil {
			return bad(err)
		}
	}
	if c.truth != nil {
		return m.delivery(c.truth, "table "+c.id), nil
	}
	text, err := list(len(key), func(i int) (string, error) { return key[i].Text, nil })
	return &Delivery{Position: m.position, Table: m.table, Key: text, Op: m.op, After: m.after, Before: m.before, Values: true, Object: "table " + c.id}, err
}

// typesOf are the columns as the truth's change has them, which is what values are compared by, or as the table says.
func (c *changelog) typesOf(p change.Position) map[string]*Column {
	if c.truth == nil {
		return c.types
	}
	_, columns := c.truth.columnsOf(p)
	if len(columns) == 0 {
		return c.types
	}
	types := maps.Clone(c.types)
	maps.Copy(types, columns)
	return types
}

// members reads _raw or _before.
func members(text string) (map[string]json.RawMessage, error) {
	if text == "" {
		return nil, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil || m == nil {
		return nil, fmt.Errorf("%s is not a JSON object", short(text))
	}
	return m, nil
}

func canonicalValue(name string, text []byte, types map[string]*Column) (Value, error) {
	column := types[name]
	if column == nil {
		column = &Column{Name: name}
	}
	s, err := column.Type.Canonical(text)
	return Value{column, s}, err
}

// value is a captured column: what _raw says, else what its BigQuery column holds. A Spanner column whose type changed has
// several; at most one holds something.
func (c *changelog) value(row []bigquery.Value, name string, fields []bqField, raw map[string]json.RawMessage, types map[string]*Column) (Value, error) {
	if text, ok := raw[name]; ok {
		return canonicalValue(name, text, types)
	}
	column, known := types[name], false
	if column == nil {
		return Value{}, fmt.Errorf("_columns names %q, which no column is", name)
	}
	var found any
	for _, f := range fields {
		if f.column.Name != name {
			continue
		}
		v, err := cell(row[f.place], column.Type)
		if err != nil {
			return Value{}, fmt.Errorf("column %s: %w", name, err)
		}
		array := f.column.Type.Code == "ARRAY"
		if empty, _ := v.([]any); !known || v != nil && !(array && len(empty) == 0) {
			found = v
			if array && v == nil {
				found = []any{} // BigQuery has no NULL array: NULL would be in _raw
			}
		}
		known = true
	}
	if !known {
		return Value{}, fmt.Errorf("_columns names %q, which no column is", name)
	}
	s, err := column.Type.canonical(found)
	return Value{column, s}, err
}

// cell is a value of the client library in the form canonical takes.
func cell(v bigquery.Value, t Type) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strings.Trim(floatText(v, 64), `"`), nil
		}
		return json.Number(strconv.FormatFloat(v, 'g', -1, 64)), nil
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), nil
	case civil.Date:
		return v.String(), nil
	case *big.Rat:
		return ratText(v), nil
	case []byte:
		return base64.StdEncoding.EncodeToString(v), nil
	case string:
		switch t.Code {
		case "BOOL", "INT64", "FLOAT64", "FLOAT32", "TIMESTAMP", "DATE", "STRING", "BYTES", "NUMERIC", "JSON", "PROTO", "ENUM", "UUID", "INTERVAL":
			return v, nil
		}
		return parseJSON([]byte(v)) // a type without a match is kept as JSON text
	case []bigquery.Value:
		var elem Type
		if t.Elem != nil {
			elem = *t.Elem
		}
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = cell(v[i], elem); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("a %T is not a value changelogs hold", v)
}

package bigquerysink

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// The position columns' numbers in the row message; the table's own columns follow. The first fifteen take one byte.
const (
	fieldPosition protowire.Number = 1 + iota
	fieldCommit
	fieldTransaction
	fieldSequence
	fieldMod
	fieldSnapshot
	fieldOp
	fieldCapture
	fieldSystem
	fieldTag
	fieldRecords
	fieldPartitions
	fieldColumns
	fieldBefore
	fieldRaw
	fieldChain
	firstColumn
)

// metaColumns are the columns every changelog table has, in the order of their numbers.
var metaColumns = [...]struct {
	name     string
	kind     kind
	repeated bool
	required bool
	doc      string
}{
	{"_position", kindString, false, true, "The change's name for ever, and its place in the order of all changes: sorting by it is sorting by that order."},
	{"_commit_timestamp", kindTimestamp, false, true, "When the transaction was committed."},
	{"_transaction", kindString, false, false, "The server transaction id."},
	{"_record_sequence", kindString, false, false, "The record's number in the transaction."},
	{"_mod", kindInt, false, false, "The row's number in the record."},
	{"_snapshot", kindBool, false, false, "The row was read by a snapshot at _commit_timestamp."},
	{"_op", kindString, false, false, "INSERT, UPDATE, DELETE."},
	{"_capture", kindString, false, false, "The change stream's value capture type."},
	{"_system", kindBool, false, false, "The transaction was one of Spanner's own, such as a TTL delete."},
	{"_tag", kindString, false, false, "The transaction tag."},
	{"_transaction_records", kindInt, false, false, "The records of the whole transaction in the stream."},
	{"_transaction_partitions", kindInt, false, false, "The partitions that hold them."},
	{"_columns", kindString, true, false, "Spanner's names of the columns captured after the change: what is not listed is unknown, not NULL."},
	{"_before", kindString, false, false, "The columns captured before the change, as a JSON object in the form of change streams: JSON_VALUE(_before, '$.name')."},
	{"_raw", kindString, false, false, "Values their columns cannot hold in full, as a JSON object by Spanner's name: where a name is here, this is its value."},
	{"_chain", kindString, false, false, "Which partition's writer appended the row; for exactly-once delivery."},
}

// column is how one column of a table is written.
type column struct {
	index    int // in change.Table.Columns
	name     string
	field    string // BigQuery's name
	kind     kind
	repeated bool
	tag      uint64
	quoted   []byte // the name and a colon, as in a JSON object
}

// layout is how the changes of one version of a table become rows. It is immutable.
type layout struct {
	table *change.Table
	// name is the table's resource name, projects/…/datasets/…/tables/…
	name   string
	schema *storagepb.ProtoSchema
	key    []column // in the order of table.Keys
	// row are the other columns; byIndex finds one by its index in table.Columns, -1 for a key.
	row     []column
	byIndex []int32
	// allCaptured is the field _columns when every column of row was captured.
	allCaptured []byte
}

// note is what a column's description in BigQuery says: it is how the sink, and every reader, knows a column again.
type note struct {
	Column string `json:"spanner_column"`
	Type   string `json:"spanner_type"`
	Key    bool   `json:"key,omitempty"`
}

// longestColumn bounds a Spanner column's name, in bytes; Spanner's own limit is 128 characters.
const longestColumn = 512

func describe(c *change.Column) (string, error) {
	if len(c.Name) > longestColumn {
		return "", fmt.Errorf("a column's name has %d bytes, at most %d are supported", len(c.Name), longestColumn)
	}
	text := c.Type.String()
	b, err := json.Marshal(note{c.Name, text[:min(len(text), 128)], c.Key})
	return string(b), err
}

// metaSchema is the schema of the position columns.
func metaSchema() bigquery.Schema {
	var schema bigquery.Schema
	for _, m := range metaColumns {
		schema = append(schema, &bigquery.FieldSchema{
			Name: m.name, Type: kinds[m.kind].field, Repeated: m.repeated, Required: m.required, Description: m.doc,
		})
	}
	return schema
}

// plan finds the table's columns among the fields of a BigQuery table, and says which must be added.
//
// A column is the field whose description names it, if the field's type is the one the column's type is written as. A
// column without such a field gets one of its own name; if that is taken (by a position column, by a name that differs in
// case only, or by the column itself before its type changed) then its name with the type behind it, and a number if need
// be. So a changed type becomes a second field, the old one keeps what it holds, and the table itself is the memory of who
// has which name, for every worker and every restart.
func plan(t *change.Table, have bigquery.Schema) (l *layout, add bigquery.Schema, err error) {
	fields := make(map[string]bool, len(have)+len(t.Columns)) // lower case: BigQuery's names do not differ by case
	type place struct {
		column   string
		kind     bigquery.FieldType
		repeated bool
	}
	known := make(map[place]string, len(have))
	for _, f := range have {
		fields[strings.ToLower(f.Name)] = true
		var n note
		if json.Unmarshal([]byte(f.Description), &n) == nil && n.Column != "" {
			p := place{n.Column, f.Type, f.Repeated}
			if _, twice := known[p]; !twice {
				known[p] = f.Name
			}
		}
	}
	for _, m := range metaColumns {
		fields[strings.ToLower(m.name)] = true
	}
	l = &layout{table: t, byIndex: make([]int32, len(t.Columns))}
	seen := make(map[string]bool, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		if seen[c.Name] {
			return nil, nil, fmt.Errorf("table %s has two columns named %q", t.Name, c.Name)
		}
		seen[c.Name] = true
		col := column{index: i, name: c.Name, quoted: append(rawjson.AppendString(nil, c.Name), ':')}
		col.kind, col.repeated = kindOf(c.Type)
		p := place{c.Name, kinds[col.kind].field, col.repeated}
		name, ok := known[p]
		if !ok {
			name = freeName(fields, c.Name, p.kind, p.repeated)
			fields[strings.ToLower(name)] = true
			text, err := describe(c)
			if err != nil {
				return nil, nil, fmt.Errorf("table %s: %w", t.Name, err)
			}
			add = append(add, &bigquery.FieldSchema{Name: name, Type: p.kind, Repeated: p.repeated, Description: text})
		}
		col.field = name
		wire := kinds[col.kind].wire
		col.tag = protowire.EncodeTag(columnNumber(i), wire)
		if c.Key {
			l.byIndex[i] = -1
			l.key = append(l.key, col)
		} else {
			l.byIndex[i] = int32(len(l.row))
			l.row = append(l.row, col)
			l.allCaptured = protowire.AppendTag(l.allCaptured, fieldColumns, protowire.BytesType)
			l.allCaptured = protowire.AppendString(l.allCaptured, c.Name)
		}
	}
	l.schema = l.descriptor()
	return l, add, nil
}

// columnNumber is a column's field number; protobuf keeps 19000 to 19999 for itself.
func columnNumber(i int) protowire.Number {
	n := firstColumn + protowire.Number(i)
	if n >= protowire.FirstReservedNumber {
		n += protowire.LastReservedNumber - protowire.FirstReservedNumber + 1
	}
	return n
}

func freeName(taken map[string]bool, column string, typ bigquery.FieldType, repeated bool) string {
	base := columnName(column)
	name := base
	if taken[strings.ToLower(name)] {
		base += "_" + strings.ToLower(string(typ))
		if repeated {
			base += "_array"
		}
		name = base
	}
	for n := 2; taken[strings.ToLower(name)]; n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	return name
}

// descriptor describes the row message to BigQuery, which matches fields to columns by name.
func (l *layout) descriptor() *storagepb.ProtoSchema {
	d := &descriptorpb.DescriptorProto{Name: proto.String("Row")}
	add := func(name string, number protowire.Number, k kind, repeated bool) {
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if repeated {
			label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		d.Field = append(d.Field, &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(int32(number)), Type: kinds[k].proto.Enum(), Label: label.Enum(),
		})
	}
	for i, m := range metaColumns {
		add(m.name, fieldPosition+protowire.Number(i), m.kind, m.repeated)
	}
	for _, cols := range [...][]column{l.key, l.row} {
		for _, c := range cols {
			add(c.field, columnNumber(c.index), c.kind, c.repeated)
		}
	}
	return &storagepb.ProtoSchema{ProtoDescriptor: d}
}

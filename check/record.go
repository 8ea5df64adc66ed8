package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
)

// fields is a STRUCT value, read by field name so that new fields and another order do no harm.
type fields struct {
	typ    *sppb.StructType
	values []*structpb.Value
}

func structOf(t *sppb.Type, v *structpb.Value) (fields, error) {
	f := fields{typ: t.GetStructType(), values: v.GetListValue().GetValues()}
	if f.typ == nil || len(f.typ.Fields) != len(f.values) {
		return fields{}, fmt.Errorf("check: want a STRUCT of %d fields, got %d", len(f.typ.GetFields()), len(f.values))
	}
	return f, nil
}

func (f fields) get(name string) (*sppb.Type, *structpb.Value) {
	for i, field := range f.typ.Fields {
		if field.Name == name {
			return field.Type, f.values[i]
		}
	}
	return nil, nil
}

// structs are the elements of a field of type ARRAY<STRUCT>; none if it is NULL, empty or absent.
func (f fields) structs(name string) ([]fields, error) {
	t, v := f.get(name)
	var all []fields
	for _, elem := range v.GetListValue().GetValues() {
		if _, null := elem.GetKind().(*structpb.Value_NullValue); null {
			continue
		}
		s, err := structOf(t.GetArrayElementType(), elem)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func (f fields) text(name string) string {
	_, v := f.get(name)
	return v.GetStringValue()
}

func (f fields) bool(name string) bool {
	_, v := f.get(name)
	return v.GetBoolValue()
}

func (f fields) int(name string) (int64, error) {
	n, err := strconv.ParseInt(f.text(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("check: field %s: %w", name, err)
	}
	return n, nil
}

func (f fields) time(name string) (change.Timestamp, error) {
	at, err := time.Parse(time.RFC3339Nano, f.text(name))
	if err != nil {
		return 0, fmt.Errorf("check: field %s: %w", name, err)
	}
	return change.TimestampOf(at), nil
}

// decoder turns change records into changes of one partition. Columns are interned.
type decoder struct {
	columns map[string]*Column
	shapes  map[string][]*Column
	strings map[string]string
}

func newDecoder() *decoder {
	return &decoder{columns: map[string]*Column{}, shapes: map[string][]*Column{}, strings: map[string]string{}}
}

// intern keeps one copy of strings that come again and again.
func (d *decoder) intern(s string) string {
	if kept, ok := d.strings[s]; ok {
		return kept
	}
	d.strings[s] = s
	return s
}

func (d *decoder) column(name, typeJSON string) (*Column, error) {
	id := name + "\x00" + typeJSON
	if c, ok := d.columns[id]; ok {
		return c, nil
	}
	c := &Column{Name: name}
	if err := json.Unmarshal([]byte(typeJSON), &c.Type); err != nil {
		return nil, fmt.Errorf("check: column %s: %q is not a type: %w", name, typeJSON, err)
	}
	if c.Type.Code == "" {
		return nil, fmt.Errorf("check: column %s: the type %q has no code", name, typeJSON)
	}
	d.columns[id] = c
	return c, nil
}

// shape is the one copy of a list of columns.
func (d *decoder) shape(columns []*Column) []*Column {
	id := ""
	for _, c := range columns {
		id += fmt.Sprintf("%p,", c)
	}
	if known, ok := d.shapes[id]; ok {
		return known
	}
	d.shapes[id] = columns
	return columns
}

// complete refuses a change without what every change has.
func (c *Change) complete() error {
	if c.Position.Transaction == "" || c.Position.Sequence == "" || c.Table == "" || c.Op == "" {
		return errors.New("check: a record lacks its transaction id, sequence, table or operation")
	}
	return nil
}

// changes decodes one data change record.
func (d *decoder) changes(token string, r fields) ([]Change, error) {
	commit, err := r.time("commit_timestamp")
	if err != nil {
		return nil, err
	}
	base := Change{
		Position: change.Position{Commit: commit, Transaction: r.text("server_transaction_id"), Sequence: d.intern(r.text("record_sequence"))},
		Table:    d.intern(r.text("table_name")), Op: d.intern(r.text("mod_type")), Capture: d.intern(r.text("value_capture_type")),
		Partition: token, Tag: d.intern(r.text("transaction_tag")), System: r.bool("is_system_transaction"),
	}
	if err := base.complete(); err != nil {
		return nil, err
	}
	if base.Records, err = r.int("number_of_records_in_transaction"); err != nil {
		return nil, err
	}
	if base.Partitions, err = r.int("number_of_partitions_in_transaction"); err != nil {
		return nil, err
	}
	columnTypes, err := r.structs("column_types")
	if err != nil {
		return nil, err
	}
	byName, keys := make(map[string]*Column, len(columnTypes)), []*Column(nil)
	for _, ct := range columnTypes {
		c, err := d.column(ct.text("name"), ct.text("type"))
		if err != nil {
			return nil, err
		}
		byName[c.Name] = c
		if ct.bool("is_primary_key") {
			keys = append(keys, c)
		}
	}
	keys = d.shape(keys)
	base.KeyColumns = keys
	mods, err := r.structs("mods")
	if err != nil {
		return nil, err
	}
	all := make([]Change, len(mods))
	for i, m := range mods {
		c := base
		c.Position.Mod = int32(i)
		if c.Key, err = d.key(m.text("keys"), keys); err != nil {
			return nil, fmt.Errorf("change %s, keys: %w", c.ID(), err)
		}
		if c.After, err = d.row(m.text("new_values"), byName); err != nil {
			return nil, fmt.Errorf("change %s, new values: %w", c.ID(), err)
		}
		if c.Before, err = d.row(m.text("old_values"), byName); err != nil {
			return nil, fmt.Errorf("change %s, old values: %w", c.ID(), err)
		}
		all[i] = c
	}
	return all, nil
}

func (d *decoder) key(text string, columns []*Column) (string, error) {
	v, err := parseJSON([]byte(text))
	if err != nil {
		return "", err
	}
	members, ok := v.(map[string]any)
	if !ok || len(members) != len(columns) {
		return "", fmt.Errorf("check: %s does not hold the %d key columns", short(text), len(columns))
	}
	return list(len(columns), func(i int) (string, error) {
		v, ok := members[columns[i].Name]
		if !ok {
			return "", fmt.Errorf("check: %s lacks the key column %s", short(text), columns[i].Name)
		}
		return columns[i].Type.canonical(v)
	})
}

// row decodes the captured values; NULL or nothing is a row without any.
func (d *decoder) row(text string, columns map[string]*Column) (Row, error) {
	if text == "" || text == "{}" || text == "null" {
		return nil, nil
	}
	v, err := parseJSON([]byte(text))
	if err != nil {
		return nil, err
	}
	members, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("check: %s is not an object", short(text))
	}
	values := make([]Value, 0, len(members))
	for name, v := range members {
		c := columns[name]
		if c == nil {
			return nil, fmt.Errorf("check: column %s has a value and no type", name)
		}
		s, err := c.Type.canonical(v)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
		values = append(values, Value{c, s})
	}
	return MakeRow(values...)
}

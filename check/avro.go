package check

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/spanledger/spanledger/change"
)

// columns say how a schema's fields are called and typed in Spanner.
type columns struct {
	table    string
	key, row map[string]*Column // by field name
}

func readColumns(schema []byte) (*columns, error) {
	var j struct {
		Table  string `json:"spanner.table"`
		Fields []struct {
			Name string          `json:"name"`
			Type json.RawMessage `json:"type"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(schema, &j); err != nil {
		return nil, fmt.Errorf("its schema: %w", err)
	}
	c := &columns{table: j.Table}
	for _, f := range j.Fields {
		var err error
		switch f.Name {
		case "key":
			c.key, err = readRecord(f.Type)
		case "after":
			record := f.Type
			var union []json.RawMessage
			if json.Unmarshal(f.Type, &union) == nil {
				if len(union) != 2 {
					return nil, errors.New("its schema: field after is a union of other than two")
				}
				record = union[1]
			}
			c.row, err = readRecord(record)
		}
		if err != nil {
			return nil, fmt.Errorf("its schema: field %s: %w", f.Name, err)
		}
	}
	return c, nil
}

func readRecord(text json.RawMessage) (map[string]*Column, error) {
	if string(text) == `"null"` {
		return nil, nil
	}
	var j struct {
		Fields []struct {
			Name    string          `json:"name"`
			Type    json.RawMessage `json:"type"`
			Spanner string          `json:"spanner.name"`
			Typed   *Type           `json:"spanner.type"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, err
	}
	all := make(map[string]*Column, len(j.Fields))
	for _, f := range j.Fields {
		c := &Column{Name: f.Name}
		if f.Spanner != "" {
			c.Name = f.Spanner
		}
		if f.Typed != nil {
			c.Type = *f.Typed
		} else {
			t, err := spannerType(f.Type)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", f.Name, err)
			}
			c.Type = t
		}
		all[f.Name] = c
	}
	return all, nil
}

// spannerType is the Spanner type of a nullable Avro type that needs no note of its own.
func spannerType(text json.RawMessage) (Type, error) {
	var union []json.RawMessage
	if json.Unmarshal(text, &union) != nil || len(union) != 2 || string(union[0]) != `"null"` {
		return Type{}, fmt.Errorf("%s is not nullable", short(string(text)))
	}
	var name string
	var j struct {
		Type    string          `json:"type"`
		Logical string          `json:"logicalType"`
		SQL     string          `json:"sqlType"`
		Items   json.RawMessage `json:"items"`
	}
	if json.Unmarshal(union[1], &name) == nil {
		j.Type = name
	} else if err := json.Unmarshal(union[1], &j); err != nil {
		return Type{}, err
	}
	code, ok := map[string]string{"boolean": "BOOL", "long": "INT64", "double": "FLOAT64", "float": "FLOAT32", "string": "STRING",
		"bytes": "BYTES", "long timestamp-micros": "TIMESTAMP", "int date": "DATE", "bytes decimal": "NUMERIC", "string uuid": "UUID"}[joined(j.Type, j.Logical)]
	switch {
	case j.Type == "array":
		elem, err := spannerType(j.Items)
		return Type{Code: "ARRAY", Elem: &elem}, err
	case j.Type == "string" && j.SQL == "JSON":
		return Type{Code: "JSON"}, nil
	case !ok:
		return Type{}, fmt.Errorf("%s is not the type of a column", short(string(text)))
	}
	return Type{Code: code}, nil
}

func joined(a, b string) string {
	if b == "" {
		return a
	}
	return a + " " + b
}

// field reads one field of a decoded record.
func field[T any](record map[string]any, name string, err *error) T {
	v, ok := record[name].(T)
	if !ok && *err == nil {
		*err = fmt.Errorf("field %s is %T", name, record[name])
	}
	return v
}

// branch is the value of a decoded union, nil for null.
func branch(v any) any {
	if m, ok := v.(map[string]any); ok && len(m) == 1 {
		for _, inner := range m {
			return inner
		}
	}
	return v
}

func (c *columns) content(native any) (*content, error) {
	record, ok := native.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is %T, not a record", native)
	}
	var err error
	m := &content{
		id: field[string](record, "id", &err), commit: change.TimestampOf(field[time.Time](record, "commit_timestamp", &err)),
		table: field[string](record, "table", &err), op: field[string](record, "op", &err), capture: field[string](record, "capture", &err),
		tag: field[string](record, "tag", &err), system: field[bool](record, "system", &err),
		records: int64(field[int32](record, "records", &err)), parts: int64(field[int32](record, "partitions", &err)),
	}
	m.position = change.Position{
		Commit: m.commit, Snapshot: field[bool](record, "snapshot", &err), Transaction: field[string](record, "transaction", &err),
		Sequence: field[string](record, "sequence", &err), Mod: field[int32](record, "mod", &err),
	}
	raw := map[[2]string]string{}
	for _, r := range field[[]any](record, "raw", &err) {
		fields, ok := r.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("a raw value is %T", r)
		}
		raw[[2]string{field[string](fields, "row", &err), field[string](fields, "column", &err)}] = field[string](fields, "json", &err)
	}
	after, before := names(record, "columns", &err), names(record, "before_columns", &err)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) {
		if m.inconsistent == "" {
			m.inconsistent = fmt.Sprintf(format, args...)
		}
	}
	if m.key, err = c.values("key", c.key, record["key"], nil, raw, bad); err != nil {
		return nil, err
	}
	if m.after, err = c.values("after", c.row, branch(record["after"]), after, raw, bad); err != nil {
		return nil, err
	}
	if m.before, err = c.values("before", c.row, branch(record["before"]), before, raw, bad); err != nil {
		return nil, err
	}
	for at := range raw {
		bad("the raw value of column %s belongs to no captured column of %s", at[1], at[0])
	}
	if m.table != c.table {
		bad("its table is %s, its schema is of %s", m.table, c.table)
	}
	return m, nil
}

func names(record map[string]any, name string, err *error) map[string]bool {
	set := map[string]bool{}
	for _, v := range field[[]any](record, name, err) {
		s, ok := v.(string)
		if (!ok || set[s]) && *err == nil {
			*err = fmt.Errorf("field %s holds %v twice or not as a string", name, v)
		}
		set[s] = true
	}
	return set
}

// values are the captured values of one row; captured is nil for the key, of which all are. Used raw values are removed.
func (c *columns) values(what string, fields map[string]*Column, native any, captured map[string]bool, raw map[[2]string]string, bad func(string, ...any)) (Row, error) {
	record, ok := native.(map[string]any)
	if native != nil && !ok {
		return nil, fmt.Errorf("field %s is %T", what, native)
	}
	var values []Value
	for name, column := range fields {
		v := branch(record[name])
		if captured != nil && !captured[column.Name] {
			if v != nil {
				bad("%s column %s has the value %s and is not among the captured ones", what, column.Name, short(fmt.Sprint(v)))
			}
			continue
		}
		if record == nil {
			bad("%s is null, but column %s is captured", what, column.Name)
			continue
		}
		if text, ok := raw[[2]string{what, column.Name}]; ok {
			// A type has changed inside one commit timestamp, or the value is beyond the type: compared as JSON.
			delete(raw, [2]string{what, column.Name})
			s, err := column.Type.Canonical([]byte(text))
			if err != nil {
				if s, err = (Type{}).Canonical([]byte(text)); err != nil {
					return nil, err
				}
			}
			values = append(values, Value{column, s})
			continue
		}
		s, err := column.Type.nativeText(v)
		if err != nil {
			return nil, fmt.Errorf("%s column %s: %w", what, column.Name, err)
		}
		values = append(values, Value{column, s})
	}
	for name := range captured {
		known := false
		for _, column := range fields {
			known = known || column.Name == name
		}
		if !known {
			bad("%s is said to have captured column %s, which is not in the schema", what, name)
		}
	}
	return MakeRow(values...)
}

// nativeText is the canonical text of a value as goavro gives it.
func (t Type) nativeText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "null", nil
	case bool:
		return t.canonical(v)
	case int64:
		return t.canonical(strconv.FormatInt(v, 10))
	case float64:
		return floatText(v, 64), nil
	case float32:
		return floatText(float64(v), 32), nil
	case *big.Rat:
		return `"` + ratText(v) + `"`, nil
	case []byte:
		return `"` + base64.StdEncoding.EncodeToString(v) + `"`, nil
	case time.Time:
		if t.Code == "DATE" {
			return `"` + v.UTC().Format(time.DateOnly) + `"`, nil
		}
		return `"` + v.UTC().Format(time.RFC3339Nano) + `"`, nil
	case string:
		switch t.Code {
		case "STRING", "JSON", "NUMERIC", "UUID", "INTERVAL":
			return t.canonical(v)
		}
		return t.Canonical([]byte(v)) // a type without a field of its own: JSON text
	case fmt.Stringer:
		return t.canonical(v.String())
	case []any:
		if t.Elem == nil {
			return "", fmt.Errorf("check: %s cannot be an array", t)
		}
		return list(len(v), func(i int) (string, error) { return t.Elem.nativeText(branch(v[i])) })
	}
	return "", fmt.Errorf("check: %s cannot be %T", t, v)
}

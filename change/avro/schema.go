package avro

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// Schema is the Avro schema of the changes of one version of a table's schema union. It is immutable and safe for
// concurrent use. Making one costs some microseconds; callers keep it with the *change.Table it was made of.
//
// The record, named Change in the namespace spanledger.<table>, has these fields:
//
//	id                string            the position's text: the change's name for ever
//	commit_timestamp  timestamp-micros
//	snapshot          boolean           the row was taken by a snapshot at commit_timestamp
//	transaction       string            server transaction id
//	sequence          string            record sequence in the transaction
//	mod               int               number in the record
//	table             string
//	op                enum              UNKNOWN, INSERT, UPDATE, DELETE
//	capture           enum              UNKNOWN, OLD_AND_NEW_VALUES, NEW_VALUES, NEW_ROW, NEW_ROW_AND_OLD_VALUES
//	tag               string            transaction tag
//	system            boolean           a transaction of Spanner's own, such as TTL
//	records           int               records of the whole transaction in the stream
//	partitions        int               partitions that hold them
//	key               record Key        the key columns, each nullable
//	after             null or Row       the other columns after the change; null if none was captured
//	before            null or Row       the same before the change
//	columns           array of string   Spanner's names of the columns captured in after
//	before_columns    array of string   and in before
//	raw               array of Raw      row ("key", "after", "before"), column, json: values a typed field cannot hold
//
// For a table without key columns the type of key is null; without other columns, those of after and before are.
type Schema struct {
	table       *change.Table
	text        []byte
	canonical   []byte
	rabin       uint64
	fingerprint string

	tableName   []byte // the table's name as an Avro string
	key, row    []column
	allCaptured []byte // the columns array when every column of row is captured
	byIndex     []int8 // what each of table.Columns is: inKey or inRow
}

// column is how one table column is written.
type column struct {
	index   int // in table.Columns
	name    string
	kind    kind
	elem    kind   // of an array
	encoded []byte // the column's name as an Avro string
}

// kind is the shape of an Avro field.
type kind uint8

const (
	kindText      kind = iota // any JSON, carried as its text
	kindBool                  // boolean
	kindInt                   // long
	kindFloat64               // double
	kindFloat32               // float
	kindTimestamp             // long, timestamp-micros
	kindDate                  // int, date
	kindString                // string
	kindBytes                 // bytes
	kindNumeric               // bytes, decimal(38, 9)
	kindUUID                  // string, uuid
	kindJSON                  // string, sqlType JSON as BigQuery reads it
	kindArray
)

// kindOf maps a column type, and says whether ParseSchema can tell the type from the Avro type alone.
func kindOf(t *change.Type) (k kind, plain bool) {
	if t == nil {
		return kindText, false
	}
	plain = t.Annotation == change.NoAnnotation && t.ProtoName == ""
	switch t.Code {
	case change.CodeBool:
		return kindBool, plain
	case change.CodeInt64:
		return kindInt, plain
	case change.CodeFloat64:
		return kindFloat64, plain
	case change.CodeFloat32:
		return kindFloat32, plain
	case change.CodeTimestamp:
		return kindTimestamp, plain
	case change.CodeDate:
		return kindDate, plain
	case change.CodeString:
		return kindString, plain
	case change.CodeBytes:
		return kindBytes, plain
	case change.CodeProto:
		return kindBytes, false
	case change.CodeEnum:
		return kindInt, false
	case change.CodeNumeric:
		if t.Annotation == change.PGNumeric {
			return kindString, false // up to 147,455 digits before the point, and NaN: no decimal holds it
		}
		return kindNumeric, plain
	case change.CodeJSON:
		return kindJSON, plain
	case change.CodeUUID:
		return kindUUID, plain
	case change.CodeInterval:
		return kindString, false
	case change.CodeArray:
		if elem, elemPlain := kindOf(t.Elem); elem != kindArray && elem != kindText {
			return kindArray, plain && elemPlain
		}
	}
	return kindText, false
}

// avroTypes are the types' texts: in full, and in Avro's canonical form, which strips all but the layout.
var avroTypes = [...][2]string{
	kindText:      {`"string"`, `"string"`},
	kindBool:      {`"boolean"`, `"boolean"`},
	kindInt:       {`"long"`, `"long"`},
	kindFloat64:   {`"double"`, `"double"`},
	kindFloat32:   {`"float"`, `"float"`},
	kindTimestamp: {`{"type":"long","logicalType":"timestamp-micros"}`, `"long"`},
	kindDate:      {`{"type":"int","logicalType":"date"}`, `"int"`},
	kindString:    {`"string"`, `"string"`},
	kindBytes:     {`"bytes"`, `"bytes"`},
	kindNumeric:   {`{"type":"bytes","logicalType":"decimal","precision":38,"scale":9}`, `"bytes"`},
	kindUUID:      {`{"type":"string","logicalType":"uuid"}`, `"string"`},
	kindJSON:      {`{"type":"string","sqlType":"JSON"}`, `"string"`},
}

// SchemaOf makes the schema of a table's union. It fails only on a table it could not name: no name, or a column twice.
func SchemaOf(table *change.Table) (*Schema, error) {
	if table == nil || table.Name == "" {
		return nil, errors.New("avro: a schema needs a table with a name")
	}
	s := &Schema{table: table, tableName: appendString(nil, table.Name), byIndex: make([]int8, len(table.Columns))}
	var keyNames, rowNames nameSet
	seen := make(map[string]bool, len(table.Columns))
	for i := range table.Columns {
		c := &table.Columns[i]
		if seen[c.Name] {
			return nil, fmt.Errorf("avro: table %s has two columns named %q", table.Name, c.Name)
		}
		seen[c.Name] = true
		col := column{index: i, encoded: appendString(nil, c.Name)}
		col.kind, _ = kindOf(c.Type)
		if col.kind == kindArray {
			col.elem, _ = kindOf(c.Type.Elem)
		}
		if c.Key {
			col.name = keyNames.pick(c.Name)
			s.key, s.byIndex[i] = append(s.key, col), inKey
		} else {
			col.name = rowNames.pick(c.Name)
			s.row, s.byIndex[i] = append(s.row, col), inRow
		}
	}
	s.allCaptured = appendNames(nil, s.row)
	s.text = s.appendText(nil, false)
	s.canonical = s.appendText(nil, true)
	s.rabin = rabin(s.canonical)
	sum := sha256.Sum256(s.text)
	s.fingerprint = fmt.Sprintf("%016x-%016x", s.rabin, binary.BigEndian.Uint64(sum[:8]))
	return s, nil
}

const (
	inKey = 1
	inRow = 2
)

// Table is the union the schema was made of.
func (s *Schema) Table() *change.Table { return s.table }

// JSON is the schema's text, compact, with logical types and Spanner's names and types where Avro's do not tell them. The
// caller must not change it.
func (s *Schema) JSON() []byte { return s.text }

// Canonical is the schema in Avro's parsing canonical form: the layout only. The caller must not change it.
func (s *Schema) Canonical() []byte { return s.canonical }

// Rabin is the CRC-64-AVRO fingerprint of the canonical form, as single-object messages carry it. Schemas which differ in
// logical types only share it; Fingerprint tells them apart.
func (s *Schema) Rabin() uint64 { return s.rabin }

// Fingerprint names the schema in the archive: Rabin in 16 hex digits, "-", and the first 16 hex digits of JSON's SHA-256.
// A reader of single-object messages finds it by the first half.
func (s *Schema) Fingerprint() string { return s.fingerprint }

// Covers reports whether changes of table t can be written with this schema without a typed field becoming raw: t is the
// schema's table or an older version of the same union.
func (s *Schema) Covers(t *change.Table) bool {
	if t == s.table {
		return true
	}
	if !s.fits(t) {
		return false
	}
	for i := range t.Columns {
		if !t.Columns[i].Type.Equal(s.table.Columns[i].Type) {
			return false
		}
	}
	return true
}

// fits reports whether Append accepts changes of t: no column the schema does not know, the same key.
func (s *Schema) fits(t *change.Table) bool {
	if t == nil || t.Name != s.table.Name || len(t.Columns) > len(s.table.Columns) || len(t.Keys()) != len(s.key) {
		return false
	}
	for i := range t.Columns {
		if t.Columns[i].Name != s.table.Columns[i].Name || t.Columns[i].Key != s.table.Columns[i].Key {
			return false
		}
	}
	return true
}

func (s *Schema) appendText(b []byte, canonical bool) []byte {
	w := schemaWriter{b: b, canonical: canonical, namespace: namespaceOf(s.table.Name)}
	if canonical {
		w.str(`{"name":"` + w.namespace + `.Change","type":"record","fields":[`)
	} else {
		w.str(`{"type":"record","name":"Change","namespace":"` + w.namespace + `","spanner.table":`)
		w.quoted(s.table.Name)
		w.str(`,"fields":[`)
	}
	w.field("id", `"string"`)
	w.field("commit_timestamp", w.kind(kindTimestamp))
	w.field("snapshot", `"boolean"`)
	w.field("transaction", `"string"`)
	w.field("sequence", `"string"`)
	w.field("mod", `"int"`)
	w.field("table", `"string"`)
	w.field("op", w.enum("Op", opSymbols))
	w.field("capture", w.enum("Capture", captureSymbols))
	w.field("tag", `"string"`)
	w.field("system", `"boolean"`)
	w.field("records", `"int"`)
	w.field("partitions", `"int"`)
	w.field("key", w.columns("Key", s.table, s.key))
	if row := w.columns("Row", s.table, s.row); row == `"null"` {
		w.optional("after", row)
		w.optional("before", row)
	} else {
		again := `"Row"`
		if canonical {
			again = `"` + w.namespace + `.Row"`
		}
		w.optional("after", `["null",`+row+`]`)
		w.optional("before", `["null",`+again+`]`)
	}
	w.field("columns", w.array(`"string"`))
	w.field("before_columns", w.array(`"string"`))
	raw := schemaWriter{b: w.open("Raw"), canonical: canonical}
	raw.field("row", `"string"`)
	raw.field("column", `"string"`)
	raw.field("json", `"string"`)
	w.field("raw", w.array(string(raw.b)+`]}`))
	return append(w.b, `]}`...)
}

const (
	opSymbols      = `["UNKNOWN","INSERT","UPDATE","DELETE"]`
	captureSymbols = `["UNKNOWN","OLD_AND_NEW_VALUES","NEW_VALUES","NEW_ROW","NEW_ROW_AND_OLD_VALUES"]`
)

// schemaWriter writes a schema in full or in canonical form; both from the same calls, so that they cannot differ.
type schemaWriter struct {
	b         []byte
	canonical bool
	namespace string
}

func (w *schemaWriter) str(s string) { w.b = append(w.b, s...) }

func (w *schemaWriter) quoted(s string) { w.b = rawjson.AppendString(w.b, s) }

func (w *schemaWriter) kind(k kind) string {
	if w.canonical {
		return avroTypes[k][1]
	}
	return avroTypes[k][0]
}

func (w *schemaWriter) array(items string) string {
	return `{"type":"array","items":` + items + `}`
}

func (w *schemaWriter) enum(name, symbols string) string {
	if w.canonical {
		return `{"name":"` + w.namespace + `.` + name + `","type":"enum","symbols":` + symbols + `}`
	}
	return `{"type":"enum","name":"` + name + `","symbols":` + symbols + `,"default":"UNKNOWN"}`
}

func (w *schemaWriter) open(name string) []byte {
	if w.canonical {
		return []byte(`{"name":"` + w.namespace + `.` + name + `","type":"record","fields":[`)
	}
	return []byte(`{"type":"record","name":"` + name + `","fields":[`)
}

func (w *schemaWriter) comma() {
	if n := len(w.b); w.b[n-1] != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *schemaWriter) field(name, typ string) {
	w.comma()
	w.str(`{"name":"` + name + `","type":` + typ + `}`)
}

func (w *schemaWriter) optional(name, typ string) {
	w.comma()
	w.str(`{"name":"` + name + `","type":` + typ)
	if !w.canonical {
		w.str(`,"default":null`)
	}
	w.str(`}`)
}

// columns is the record type of a key or row; a record without fields, which readers refuse, is null instead.
func (w *schemaWriter) columns(name string, table *change.Table, cols []column) string {
	if len(cols) == 0 {
		return `"null"`
	}
	r := schemaWriter{b: w.open(name), canonical: w.canonical}
	for i := range cols {
		c, def := &cols[i], &table.Columns[cols[i].index]
		r.comma()
		r.str(`{"name":"` + c.name + `","type":["null",`)
		if c.kind == kindArray {
			r.str(w.array(`["null",` + w.kind(c.elem) + `]`))
		} else {
			r.str(w.kind(c.kind))
		}
		r.str(`]`)
		if !w.canonical {
			r.str(`,"default":null`)
			if c.name != def.Name {
				r.str(`,"spanner.name":`)
				r.quoted(def.Name)
			}
			if _, plain := kindOf(def.Type); !plain {
				r.str(`,"spanner.type":`)
				r.b = appendType(r.b, def.Type)
			}
		}
		r.str(`}`)
	}
	return string(r.b) + `]}`
}

// appendType writes a column type in the form change records use, members in a fixed order.
func appendType(b []byte, t *change.Type) []byte {
	if t == nil || t.Code == change.CodeArray && t.Elem == nil {
		return append(b, `{"code":"UNKNOWN"}`...)
	}
	code := t.Code.String()
	if t.Code == change.CodeUnknown && t.Name != "" {
		code = t.Name
	}
	b = rawjson.AppendString(append(b, `{"code":`...), code)
	if t.Elem != nil {
		b = appendType(append(b, `,"array_element_type":`...), t.Elem)
	}
	if a := t.Annotation.String(); a != "" {
		b = rawjson.AppendString(append(b, `,"type_annotation":`...), a)
	}
	if t.ProtoName != "" {
		b = rawjson.AppendString(append(b, `,"proto_type_fqn":`...), t.ProtoName)
	}
	return append(b, '}')
}

// ParseSchema reads a schema's text as JSON writes it, from a container's header or an .avsc file, white space aside. Its
// Table has the key columns first and ordinals counted in that order; names, types and the order inside key and row are
// those of the union it was made of. A schema that this package did not write is refused.
func ParseSchema(text []byte) (*Schema, error) {
	var j struct {
		Table  string `json:"spanner.table"`
		Fields []struct {
			Name string          `json:"name"`
			Type json.RawMessage `json:"type"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, fmt.Errorf("avro: schema: %w", err)
	}
	if j.Table == "" {
		return nil, errors.New(`avro: schema: no "spanner.table" property: not a schema of changes`)
	}
	var columns []change.Column
	for _, f := range j.Fields {
		typ := f.Type
		switch f.Name {
		case "key":
		case "after":
			var union []json.RawMessage
			if json.Unmarshal(typ, &union) == nil && len(union) == 2 {
				typ = union[1]
			}
		default:
			continue
		}
		if string(typ) == `"null"` {
			continue
		}
		cols, err := parseColumns(typ, f.Name == "key", len(columns))
		if err != nil {
			return nil, fmt.Errorf("avro: schema of table %s: field %s: %w", j.Table, f.Name, err)
		}
		columns = append(columns, cols...)
	}
	s, err := SchemaOf(change.NewTable(j.Table, 1, columns))
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("avro: schema: %w", err)
	}
	if !bytes.Equal(compact.Bytes(), s.text) {
		return nil, fmt.Errorf("avro: the schema of table %s was not written by this version's format: use a newer release, or check where the file comes from", j.Table)
	}
	return s, nil
}

func parseColumns(record json.RawMessage, key bool, ordinal int) ([]change.Column, error) {
	var j struct {
		Fields []struct {
			Name  string            `json:"name"`
			Type  []json.RawMessage `json:"type"`
			Real  string            `json:"spanner.name"`
			SType *change.Type      `json:"spanner.type"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(record, &j); err != nil {
		return nil, err
	}
	var columns []change.Column
	for _, f := range j.Fields {
		ordinal++
		c := change.Column{Name: f.Name, Type: f.SType, Key: key, Ordinal: ordinal}
		if f.Real != "" {
			c.Name = f.Real
		}
		if c.Type == nil {
			if len(f.Type) != 2 {
				return nil, fmt.Errorf("column %s: its type is not a union of null and one type", strconv.Quote(f.Name))
			}
			if c.Type = plainType(f.Type[1], 0); c.Type == nil {
				return nil, fmt.Errorf("column %s: no Spanner type has the Avro type %.200s", strconv.Quote(f.Name), f.Type[1])
			}
		}
		columns = append(columns, c)
	}
	return columns, nil
}

var plainCodes = [...]struct {
	kind kind
	code change.Code
}{
	{kindBool, change.CodeBool}, {kindInt, change.CodeInt64}, {kindFloat64, change.CodeFloat64}, {kindFloat32, change.CodeFloat32},
	{kindTimestamp, change.CodeTimestamp}, {kindDate, change.CodeDate}, {kindString, change.CodeString}, {kindBytes, change.CodeBytes},
	{kindNumeric, change.CodeNumeric}, {kindUUID, change.CodeUUID}, {kindJSON, change.CodeJSON},
}

func plainType(text json.RawMessage, depth int) *change.Type {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return nil
	}
	for _, p := range plainCodes {
		if b.String() == avroTypes[p.kind][0] {
			return &change.Type{Code: p.code}
		}
	}
	var array struct {
		Type  string            `json:"type"`
		Items []json.RawMessage `json:"items"`
	}
	if depth > 0 || json.Unmarshal(text, &array) != nil || array.Type != "array" || len(array.Items) != 2 {
		return nil
	}
	if elem := plainType(array.Items[1], depth+1); elem != nil {
		return &change.Type{Code: change.CodeArray, Elem: elem}
	}
	return nil
}

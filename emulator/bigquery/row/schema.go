package row

import (
	"fmt"
	"strings"

	api "google.golang.org/api/bigquery/v2"
)

// Kind is a column's type.
type Kind int

// The kinds, by their GoogleSQL names.
const (
	String Kind = iota + 1
	Bytes
	Int64
	Float64
	Numeric
	BigNumeric
	Bool
	Timestamp
	Date
	Time
	DateTime
	JSON
	Geography
	Struct
)

// kinds holds every name the API takes for a kind; the first name of a kind is the one it answers with.
var kinds = []struct {
	name string
	kind Kind
}{
	{"STRING", String},
	{"BYTES", Bytes},
	{"INTEGER", Int64}, {"INT64", Int64},
	{"FLOAT", Float64}, {"FLOAT64", Float64},
	{"NUMERIC", Numeric}, {"DECIMAL", Numeric},
	{"BIGNUMERIC", BigNumeric}, {"BIGDECIMAL", BigNumeric},
	{"BOOLEAN", Bool}, {"BOOL", Bool},
	{"TIMESTAMP", Timestamp},
	{"DATE", Date},
	{"TIME", Time},
	{"DATETIME", DateTime},
	{"JSON", JSON},
	{"GEOGRAPHY", Geography},
	{"RECORD", Struct}, {"STRUCT", Struct},
}

// String is the kind's name as the REST API answers it, such as INTEGER.
func (k Kind) String() string {
	for _, e := range kinds {
		if e.kind == k {
			return e.name
		}
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Mode says whether a column may, must or may repeatedly hold a value.
type Mode int

// The modes.
const (
	Nullable Mode = iota
	Required
	Repeated
)

// String is the mode's name in the API.
func (m Mode) String() string { return [...]string{"NULLABLE", "REQUIRED", "REPEATED"}[m] }

// Field is one column, or one member of a STRUCT column. Fields are immutable once made.
type Field struct {
	Name string
	Kind Kind
	Mode Mode
	// Fields are the members of a Struct, in order.
	Fields []Field
	// MaxLength bounds a String (in runes) or Bytes (in bytes); 0 is no bound.
	MaxLength int64
	// Precision and Scale bound a Numeric or BigNumeric's decimal digits in all and after the point; Precision 0 is no bound.
	Precision, Scale int64
	// Default is the column's default value expression; "" is NULL.
	Default string
}

// Find returns the index of the field of a name, whatever its case, or -1.
func Find(fields []Field, name string) int {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return i
		}
	}
	return -1
}

// The service's limits, https://cloud.google.com/bigquery/quotas#table_limits and /docs/schemas.
const (
	maxColumns    = 10_000
	maxDepth      = 15
	maxColumnName = 300
)

// reserved are the prefixes no column may have, https://cloud.google.com/bigquery/docs/schemas#column_names.
var reserved = []string{
	"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_SEQUENCE_NUMBER",
	"_CHANGE_TYPE", "_CHANGE_TIMESTAMP",
}

// Parse checks a schema of the REST API and returns its columns. A nil schema has none.
func Parse(s *api.TableSchema) ([]Field, error) {
	if s == nil {
		return nil, nil
	}
	n := 0
	return parse(s.Fields, "", 1, &n)
}

func parse(in []*api.TableFieldSchema, path string, depth int, n *int) ([]Field, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("schema: %s: more than %d levels of RECORD", strings.TrimSuffix(path, "."), maxDepth)
	}
	fields := make([]Field, 0, len(in))
	for _, f := range in {
		if f == nil {
			return nil, fmt.Errorf("schema: %s has a null field", path)
		}
		at := path + f.Name
		if *n++; *n > maxColumns {
			return nil, fmt.Errorf("schema: more than %d columns", maxColumns)
		}
		if err := checkName(f.Name); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		if Find(fields, f.Name) >= 0 {
			return nil, fmt.Errorf("schema: duplicate field name: %s", at)
		}
		parsed, err := parseField(f, at)
		if err != nil {
			return nil, err
		}
		if parsed.Kind == Struct {
			if len(f.Fields) == 0 {
				return nil, fmt.Errorf("schema: field %s is type RECORD but has no schema", at)
			}
			if parsed.Fields, err = parse(f.Fields, at+".", depth+1, n); err != nil {
				return nil, err
			}
		} else if len(f.Fields) > 0 {
			return nil, fmt.Errorf("schema: field %s is type %s and cannot have fields", at, parsed.Kind)
		}
		fields = append(fields, parsed)
	}
	return fields, nil
}

func parseField(f *api.TableFieldSchema, at string) (Field, error) {
	out := Field{Name: f.Name, MaxLength: f.MaxLength, Precision: f.Precision, Scale: f.Scale, Default: f.DefaultValueExpression}
	out.Kind, _ = KindOf(f.Type)
	switch {
	case out.Kind == 0 && (strings.EqualFold(f.Type, "INTERVAL") || strings.EqualFold(f.Type, "RANGE")):
		return out, fmt.Errorf("schema: field %s: type %s is not implemented in the embedded BigQuery", at, f.Type)
	case out.Kind == 0:
		return out, fmt.Errorf("schema: field %s: invalid type %q", at, f.Type)
	}
	switch strings.ToUpper(f.Mode) {
	case "", "NULLABLE":
	case "REQUIRED":
		out.Mode = Required
	case "REPEATED":
		out.Mode = Repeated
	default:
		return out, fmt.Errorf("schema: field %s: invalid mode %q", at, f.Mode)
	}
	if f.MaxLength < 0 || f.MaxLength > 0 && out.Kind != String && out.Kind != Bytes {
		return out, fmt.Errorf("schema: field %s: maxLength %d is not valid for type %s", at, f.MaxLength, out.Kind)
	}
	if f.Precision != 0 || f.Scale != 0 {
		limit, ok := map[Kind][2]int64{Numeric: {29, 9}, BigNumeric: {38, 38}}[out.Kind]
		if !ok || f.Scale < 0 || f.Scale > limit[1] || f.Precision < max(1, f.Scale) || f.Precision > f.Scale+limit[0] {
			return out, fmt.Errorf("schema: field %s: precision %d and scale %d are not valid for type %s", at, f.Precision, f.Scale, out.Kind)
		}
	}
	return out, nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxColumnName {
		return fmt.Errorf("field name %.40q has %d bytes, 1 to %d are allowed", name, len(name), maxColumnName)
	}
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return fmt.Errorf("invalid field name %.40q: it must contain only letters, numbers and underscores and start with a letter or "+
				"underscore (the embedded BigQuery takes no flexible column names)", name)
		}
	}
	for _, p := range reserved {
		if len(name) >= len(p) && strings.EqualFold(name[:len(p)], p) {
			return fmt.Errorf("invalid field name %q: the prefix %s is reserved", name, p)
		}
	}
	return nil
}

// KindOf finds a kind by any of its names.
func KindOf(name string) (Kind, bool) {
	for _, e := range kinds {
		if strings.EqualFold(e.name, name) {
			return e.kind, true
		}
	}
	return 0, false
}

// Schema is the REST API's form of columns, such as a query's result has.
func Schema(fields []Field) *api.TableSchema { return &api.TableSchema{Fields: schemaFields(fields)} }

func schemaFields(fields []Field) []*api.TableFieldSchema {
	var out []*api.TableFieldSchema
	for _, f := range fields {
		out = append(out, &api.TableFieldSchema{
			Name: f.Name, Type: f.Kind.String(), Mode: f.Mode.String(), Fields: schemaFields(f.Fields),
			MaxLength: f.MaxLength, Precision: f.Precision, Scale: f.Scale,
		})
	}
	return out
}

package sql

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// virtual is a table of INFORMATION_SCHEMA.
type virtual struct {
	columns []column
	rows    []store.Row
}

// define makes columns from "NAME TYPE" words; the type is s, b or i.
func define(words string) *virtual {
	v := &virtual{}
	for _, w := range strings.Fields(words) {
		name, t, _ := strings.Cut(w, ":")
		typ := stringType
		switch t {
		case "b":
			typ = boolType
		case "i":
			typ = int64Type
		}
		v.columns = append(v.columns, column{name: name, typ: typ})
	}
	return v
}

// add appends a row of strings, bools, ints and nils.
func (v *virtual) add(values ...any) {
	row := make(store.Row, len(v.columns))
	for i, x := range values {
		switch x := x.(type) {
		case string:
			row[i] = textValue(x)
		case bool:
			row[i] = boolValue(x)
		case int:
			row[i] = intValue(int64(x))
		}
	}
	v.rows = append(v.rows, row)
}

func yesNo(b bool) string {
	if b {
		return "YES"
	}
	return "NO"
}

// orNull turns an empty text into NULL.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func splitName(qualified string) (schema, name string) {
	if i := strings.LastIndexByte(qualified, '.'); i >= 0 {
		return qualified[:i], qualified[i+1:]
	}
	return "", qualified
}

// informationViews are the views by name. Catalog names are always empty.
var informationViews map[string]func(*store.Schema) *virtual

func init() { // not an initializer: the columns of views are found by planning them, which may read these
	informationViews = map[string]func(*store.Schema) *virtual{
		"SCHEMATA": schemataView, "TABLES": tablesView, "COLUMNS": columnsView, "COLUMN_OPTIONS": columnOptionsView,
		"INDEXES": indexesView, "INDEX_COLUMNS": indexColumnsView, "DATABASE_OPTIONS": databaseOptionsView,
		"TABLE_CONSTRAINTS": tableConstraintsView, "CHECK_CONSTRAINTS": checkConstraintsView, "KEY_COLUMN_USAGE": keyColumnUsageView,
		"REFERENTIAL_CONSTRAINTS": referentialConstraintsView, "CONSTRAINT_COLUMN_USAGE": constraintColumnUsageView,
		"CONSTRAINT_TABLE_USAGE": constraintTableUsageView, "COLUMN_COLUMN_USAGE": columnColumnUsageView,
		"CHANGE_STREAMS": changeStreamsView, "CHANGE_STREAM_TABLES": changeStreamTablesView,
		"CHANGE_STREAM_COLUMNS": changeStreamColumnsView, "CHANGE_STREAM_OPTIONS": changeStreamOptionsView,
		"ROUTINES": routinesView, "PLACEMENTS": placementsView,
		"VIEWS": viewsView, "SEQUENCES": sequencesView, "SEQUENCE_OPTIONS": sequenceOptionsView,
		"ROLE_TABLE_GRANTS": roleTableGrantsView, "ROLE_COLUMN_GRANTS": roleColumnGrantsView,
	}
}

// absentViews are views of Spanner that are not built here.
var absentViews = map[string]bool{
	"ROUTINE_OPTIONS": true, "PARAMETERS": true, "SPANNER_STATISTICS": true,
	"MODELS": true, "MODEL_OPTIONS": true, "MODEL_COLUMNS": true, "MODEL_COLUMN_OPTIONS": true, "MODEL_PRIVILEGES": true,
	"ROLE_MODEL_GRANTS": true, "PROPERTY_GRAPHS": true, "LOCALITY_GROUP_OPTIONS": true, "TABLE_OPTIONS": true,
	"PLACEMENT_OPTIONS": true, "INDEX_OPTIONS": true, "TABLE_SYNONYMS": true, "SCHEMA_PRIVILEGES": true,
}

// informationSchema makes one of the views over a schema version, with the rows that the session may see.
func informationSchema(s *store.Schema, access *store.Access, name string) (*virtual, error) {
	name = strings.ToUpper(name)
	if view := informationView(s, name); view != nil {
		v := view(s)
		if !access.Everything() {
			v.restrict(s, access, name)
		}
		if s.Postgres {
			v.toPostgres()
		}
		return v, nil
	}
	if absentViews[name] {
		return nil, unimplemented("the view INFORMATION_SCHEMA.%s", name)
	}
	return nil, invalid("Table not found: INFORMATION_SCHEMA.%s", name)
}

// spannerType is a column's type as the dialect writes it.
func spannerType(s *store.Schema, c *store.Column) string {
	if s.Postgres {
		return pgColumnType(c)
	}
	return columnTypeName(c)
}

// toPostgres gives a view the form it has in the PostgreSQL dialect: names in lower case, YES and NO for booleans, and
// public for the default schema.
func (v *virtual) toPostgres() {
	for i := range v.columns {
		c := &v.columns[i]
		c.name = strings.ToLower(c.name)
		schema := strings.HasSuffix(c.name, "_schema") || c.name == "schema_name"
		for _, r := range v.rows {
			switch {
			case c.typ == boolType && r[i].Valid:
				r[i] = textValue(yesNo(r[i].Int != 0))
			case schema && r[i].Valid && r[i].Text == "":
				r[i] = textValue("public")
			case schema && r[i].Text == "INFORMATION_SCHEMA", schema && r[i].Text == "SPANNER_SYS":
				r[i] = textValue(strings.ToLower(r[i].Text))
			}
		}
		if c.typ == boolType {
			c.typ = stringType
		}
	}
}

func schemataView(s *store.Schema) *virtual {
	v := define("CATALOG_NAME SCHEMA_NAME SCHEMA_OWNER EFFECTIVE_TIMESTAMP:i")
	for _, n := range append([]string{"", "INFORMATION_SCHEMA", "SPANNER_SYS"}, s.Namespaces...) {
		v.add("", n)
	}
	if s.Postgres {
		return v
	}
	// The proto bundle is the default schema's.
	v.columns = append(v.columns, column{name: "PROTO_BUNDLE", typ: bytesType})
	for i := range v.rows {
		v.rows[i] = append(v.rows[i], store.Value{})
	}
	if descriptors, err := s.Protos.Descriptors(); err == nil && s.Protos != nil { // what was read can be written
		v.rows[0][len(v.columns)-1] = textValue(string(descriptors))
	}
	return v
}

func tablesView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE PARENT_TABLE_NAME ON_DELETE_ACTION SPANNER_STATE INTERLEAVE_TYPE ROW_DELETION_POLICY_EXPRESSION")
	for _, t := range s.Tables {
		var parent, action, how any
		if t.Parent != "" {
			_, name := splitName(t.Parent)
			parent, how = name, "IN"
			if t.ParentEnforced {
				how, action = "IN PARENT", "NO ACTION"
				if t.OnDeleteCascade {
					action = "CASCADE"
				}
			}
		}
		v.add("", t.Schema, t.Name, "BASE TABLE", parent, action, "COMMITTED", how, orNull(t.RowDeletion))
	}
	for _, w := range s.Views {
		v.add("", w.Schema, w.Name, "VIEW")
	}
	return v
}

func columnsView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i COLUMN_DEFAULT DATA_TYPE IS_NULLABLE SPANNER_TYPE IS_GENERATED GENERATION_EXPRESSION IS_STORED IS_HIDDEN SPANNER_STATE IS_IDENTITY IDENTITY_GENERATION IDENTITY_KIND IDENTITY_START_WITH_COUNTER IDENTITY_SKIP_RANGE_MIN IDENTITY_SKIP_RANGE_MAX")
	for _, t := range s.Tables {
		for i := range t.Columns {
			c := &t.Columns[i]
			generated, stored := "NEVER", any(nil)
			if c.Generated != "" {
				generated, stored = "ALWAYS", yesNo(!c.Virtual)
			}
			var generation, kind, start, low, high any
			if q := c.Identity; q != nil {
				generation, kind = "BY DEFAULT", "BIT_REVERSED_POSITIVE_SEQUENCE"
				start = orNull(optionValue(q.Options, "start_with_counter"))
				low, high = orNull(optionValue(q.Options, "skip_range_min")), orNull(optionValue(q.Options, "skip_range_max"))
			}
			v.add("", t.Schema, t.Name, c.Name, i+1, orNull(c.Default), nil, yesNo(!c.NotNull), spannerType(s, c), generated, orNull(c.Generated), stored, yesNo(c.Hidden), "COMMITTED", yesNo(c.Identity != nil), generation, kind, start, low, high)
		}
	}
	for _, w := range s.Views {
		tree, err := parseQuery(w.Query)
		if err != nil {
			continue // it was parsed when the view was made
		}
		q, err := (&compiler{env: Env{schema: s}}).query(tree)
		if err != nil {
			continue // likewise
		}
		for i, f := range q.columns {
			t := f.Type
			if t == nil {
				t = int64Type
			}
			v.add("", w.Schema, w.Name, f.Name, i+1, nil, nil, "YES", columnTypeName(&store.Column{Type: t}), "NEVER", nil, nil, "NO", "COMMITTED", "NO")
		}
	}
	return v
}

func columnOptionsView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME OPTION_NAME OPTION_TYPE OPTION_VALUE")
	for _, t := range s.Tables {
		for _, c := range t.Columns {
			if c.AllowCommitTimestamp {
				v.add("", t.Schema, t.Name, c.Name, "allow_commit_timestamp", "BOOL", "TRUE")
			}
		}
	}
	return v
}

func indexesView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME INDEX_NAME INDEX_TYPE PARENT_TABLE_NAME IS_UNIQUE:b IS_NULL_FILTERED:b INDEX_STATE SPANNER_IS_MANAGED:b")
	for _, t := range s.Tables {
		v.add("", t.Schema, t.Name, "PRIMARY_KEY", "PRIMARY_KEY", "", true, false, nil, false)
		for _, x := range s.IndexesOf(t) {
			v.add("", t.Schema, t.Name, x.Name, "INDEX", x.InterleaveIn, x.Unique, x.NullFiltered, "READ_WRITE", x.Managed)
		}
	}
	return v
}

func indexColumnsView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME INDEX_NAME INDEX_TYPE COLUMN_NAME ORDINAL_POSITION:i COLUMN_ORDERING IS_NULLABLE SPANNER_TYPE")
	for _, t := range s.Tables {
		add := func(index, kind string, col int, nullable bool, pos, order any) {
			c := &t.Columns[col]
			v.add("", t.Schema, t.Name, index, kind, c.Name, pos, order, yesNo(nullable), spannerType(s, c))
		}
		keys := func(index, kind string, key []store.KeyPart, filtered bool) {
			for i, k := range key {
				order := "ASC"
				if k.Desc {
					order = "DESC"
				}
				add(index, kind, k.Column, !filtered && !t.Columns[k.Column].NotNull, i+1, order)
			}
		}
		keys("PRIMARY_KEY", "PRIMARY_KEY", t.Key, false)
		for _, x := range s.IndexesOf(t) {
			keys(x.Name, "INDEX", x.Key, x.NullFiltered)
			for _, c := range x.Storing {
				add(x.Name, "INDEX", c, !t.Columns[c].NotNull, nil, nil)
			}
		}
	}
	return v
}

func databaseOptionsView(s *store.Schema) *virtual {
	v := define("CATALOG_NAME SCHEMA_NAME OPTION_NAME OPTION_TYPE OPTION_VALUE")
	dialect := "GOOGLE_STANDARD_SQL"
	if s.Postgres {
		dialect = "POSTGRESQL"
	}
	v.add("", "", "database_dialect", "STRING", dialect)
	for _, n := range slices.Sorted(maps.Keys(s.Options)) {
		value := s.Options[n]
		if text, err := unquoted(value); err == nil {
			v.add("", "", n, "STRING", text)
		} else {
			v.add("", "", n, "INT64", value)
		}
	}
	return v
}

// unquoted reads a string literal.
func unquoted(text string) (string, error) {
	tree, err := parseExpr(text)
	if err != nil {
		return "", err
	}
	lit, ok := tree.(*ast.StringLiteral)
	if !ok {
		return "", strconv.ErrSyntax
	}
	return lit.Value, nil
}

func changeStreamsView(s *store.Schema) *virtual {
	v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME ALL:b")
	for _, c := range s.Streams {
		v.add("", "", c.Name, c.All)
	}
	return v
}

func changeStreamTablesView(s *store.Schema) *virtual {
	v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME ALL_COLUMNS:b")
	for _, c := range s.Streams {
		for _, w := range c.Watch {
			schema, table := splitName(w.Table)
			v.add("", "", c.Name, "", schema, table, w.AllColumns)
		}
	}
	return v
}

func changeStreamColumnsView(s *store.Schema) *virtual {
	v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME")
	for _, c := range s.Streams {
		for _, w := range c.Watch {
			schema, table := splitName(w.Table)
			for _, col := range w.Columns {
				v.add("", "", c.Name, "", schema, table, col)
			}
		}
	}
	return v
}

func changeStreamOptionsView(s *store.Schema) *virtual {
	v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME OPTION_NAME OPTION_TYPE OPTION_VALUE")
	for _, c := range s.Streams {
		for _, o := range c.Options {
			typ, value := "STRING", o.Value
			if value == "true" || value == "false" {
				typ, value = "BOOL", strings.ToUpper(value)
			}
			v.add("", "", c.Name, o.Name, typ, value)
		}
	}
	return v
}

func viewsView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION SECURITY_TYPE")
	for _, w := range s.Views {
		security := "INVOKER"
		if w.Definer {
			security = "DEFINER"
		}
		v.add("", w.Schema, w.Name, w.Query, security)
	}
	return v
}

func sequencesView(s *store.Schema) *virtual {
	v := define("CATALOG SCHEMA NAME DATA_TYPE")
	for _, q := range s.Sequences {
		v.add("", q.Schema, q.Name, "INT64")
	}
	return v
}

func sequenceOptionsView(s *store.Schema) *virtual {
	v := define("CATALOG SCHEMA NAME OPTION_NAME OPTION_TYPE OPTION_VALUE")
	for _, q := range s.Sequences {
		for _, o := range q.Options {
			typ := "INT64"
			if o.Name == "sequence_kind" {
				typ = "STRING"
			}
			v.add("", q.Schema, q.Name, o.Name, typ, o.Value)
		}
	}
	return v
}

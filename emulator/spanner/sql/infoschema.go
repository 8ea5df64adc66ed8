package sql

import (
	"slices"
	"strings"

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
	row := make(store.Row, len(values))
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

// informationSchema makes one of the views over a schema version.
func informationSchema(s *store.Schema, name string) (*virtual, error) {
	switch strings.ToUpper(name) {
	case "SCHEMATA":
		v := define("CATALOG_NAME SCHEMA_NAME EFFECTIVE_TIMESTAMP:i")
		v.add("", "", nil)
		v.add("", "INFORMATION_SCHEMA", nil)
		v.add("", "SPANNER_SYS", nil)
		for _, n := range s.Namespaces {
			v.add("", n, nil)
		}
		return v, nil
	case "TABLES":
		v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE PARENT_TABLE_NAME ON_DELETE_ACTION SPANNER_STATE INTERLEAVE_TYPE ROW_DELETION_POLICY_EXPRESSION")
		for _, t := range s.Tables {
			var parent, action, how any
			if t.Parent != "" {
				_, parent = splitAny(t.Parent)
				how = "IN"
				if t.ParentEnforced {
					how, action = "IN PARENT", "NO ACTION"
					if t.OnDeleteCascade {
						action = "CASCADE"
					}
				}
			}
			v.add("", t.Schema, t.Name, "BASE TABLE", parent, action, "COMMITTED", how, orNull(t.RowDeletion))
		}
		return v, nil
	case "COLUMNS":
		return columnsView(s), nil
	case "COLUMN_OPTIONS":
		v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME OPTION_NAME OPTION_TYPE OPTION_VALUE")
		for _, t := range s.Tables {
			for _, c := range t.Columns {
				if c.AllowCommitTimestamp {
					v.add("", t.Schema, t.Name, c.Name, "allow_commit_timestamp", "BOOL", "TRUE")
				}
			}
		}
		return v, nil
	case "INDEXES":
		return indexesView(s), nil
	case "INDEX_COLUMNS":
		return indexColumnsView(s), nil
	case "TABLE_CONSTRAINTS":
		v := define("CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE IS_DEFERRABLE INITIALLY_DEFERRED ENFORCED")
		for _, t := range s.Tables {
			v.add("", t.Schema, "PK_"+t.Name, "", t.Schema, t.Name, "PRIMARY KEY", "NO", "NO", "YES")
		}
		return v, nil
	case "KEY_COLUMN_USAGE":
		v := define("CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i POSITION_IN_UNIQUE_CONSTRAINT:i")
		for _, t := range s.Tables {
			for i, k := range t.Key {
				v.add("", t.Schema, "PK_"+t.Name, "", t.Schema, t.Name, t.Columns[k.Column].Name, i+1, nil)
			}
		}
		return v, nil
	case "DATABASE_OPTIONS":
		v := define("CATALOG_NAME SCHEMA_NAME OPTION_NAME OPTION_TYPE OPTION_VALUE")
		v.add("", "", "database_dialect", "STRING", "GOOGLE_STANDARD_SQL")
		names := make([]string, 0, len(s.Options))
		for n := range s.Options {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			v.add("", "", n, "STRING", strings.Trim(s.Options[n], `"'`))
		}
		return v, nil
	case "CHANGE_STREAMS":
		v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME ALL:b")
		for _, c := range s.Streams {
			v.add("", "", c.Name, c.All)
		}
		return v, nil
	case "CHANGE_STREAM_TABLES":
		v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME ALL_COLUMNS:b")
		for _, c := range s.Streams {
			for _, w := range c.Watch {
				schema, table := splitName(w.Table)
				v.add("", "", c.Name, "", schema, table, w.AllColumns)
			}
		}
		return v, nil
	case "CHANGE_STREAM_COLUMNS":
		v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME")
		for _, c := range s.Streams {
			for _, w := range c.Watch {
				schema, table := splitName(w.Table)
				for _, col := range w.Columns {
					v.add("", "", c.Name, "", schema, table, col)
				}
			}
		}
		return v, nil
	case "CHANGE_STREAM_OPTIONS":
		v := define("CHANGE_STREAM_CATALOG CHANGE_STREAM_SCHEMA CHANGE_STREAM_NAME OPTION_NAME OPTION_TYPE OPTION_VALUE")
		for _, c := range s.Streams {
			for _, o := range c.Options {
				v.add("", "", c.Name, o.Name, "STRING", o.Value)
			}
		}
		return v, nil
	}
	return nil, unimplemented("the view INFORMATION_SCHEMA.%s", name)
}

func splitAny(qualified string) (string, any) {
	s, n := splitName(qualified)
	return s, n
}

func columnsView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i COLUMN_DEFAULT DATA_TYPE IS_NULLABLE SPANNER_TYPE IS_GENERATED GENERATION_EXPRESSION IS_STORED IS_HIDDEN SPANNER_STATE IS_IDENTITY")
	for _, t := range s.Tables {
		for i := range t.Columns {
			c := &t.Columns[i]
			generated, stored := "NEVER", any(nil)
			if c.Generated != "" {
				generated, stored = "ALWAYS", "YES"
			}
			v.add("", t.Schema, t.Name, c.Name, i+1, orNull(c.Default), nil, yesNo(!c.NotNull), columnTypeName(c), generated, orNull(c.Generated), stored, yesNo(c.Hidden), "COMMITTED", "NO")
		}
	}
	return v
}

func indexesView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME INDEX_NAME INDEX_TYPE PARENT_TABLE_NAME IS_UNIQUE:b IS_NULL_FILTERED:b INDEX_STATE SPANNER_IS_MANAGED:b")
	for _, t := range s.Tables {
		v.add("", t.Schema, t.Name, "PRIMARY_KEY", "PRIMARY_KEY", "", true, false, nil, false)
		for _, x := range s.IndexesOf(t) {
			v.add("", t.Schema, t.Name, x.Name, "INDEX", x.InterleaveIn, x.Unique, x.NullFiltered, "READ_WRITE", false)
		}
	}
	return v
}

func indexColumnsView(s *store.Schema) *virtual {
	v := define("TABLE_CATALOG TABLE_SCHEMA TABLE_NAME INDEX_NAME INDEX_TYPE COLUMN_NAME ORDINAL_POSITION:i COLUMN_ORDERING IS_NULLABLE SPANNER_TYPE")
	for _, t := range s.Tables {
		add := func(index, kind string, col int, pos, order any) {
			c := &t.Columns[col]
			v.add("", t.Schema, t.Name, index, kind, c.Name, pos, order, yesNo(!c.NotNull), columnTypeName(c))
		}
		keys := func(index, kind string, key []store.KeyPart) {
			for i, k := range key {
				order := "ASC"
				if k.Desc {
					order = "DESC"
				}
				add(index, kind, k.Column, i+1, order)
			}
		}
		keys("PRIMARY_KEY", "PRIMARY_KEY", t.Key)
		for _, x := range s.IndexesOf(t) {
			keys(x.Name, "INDEX", x.Key)
			for _, c := range x.Storing {
				add(x.Name, "INDEX", c, nil, nil)
			}
		}
	}
	return v
}

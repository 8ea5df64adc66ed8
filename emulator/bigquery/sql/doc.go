// Package sql is the embedded BigQuery's queries: as much of GoogleSQL as one needs to look at a table's rows.
//
//	SELECT *|column [AS name], …|COUNT(*), COUNT([DISTINCT] column), MIN(column), MAX(column)
//	FROM [project.][dataset.]table [WHERE column op value | IS [NOT] NULL | IN (values) [AND …]]
//	[ORDER BY column [ASC|DESC], …] [LIMIT n [OFFSET m]]
//
// A column may be a member of a STRUCT (a.b); a value is a literal or a named parameter. Anything else GoogleSQL has is
// answered by an error that wraps ErrUnsupported and names it. The package knows columns and rows, not where they are kept.
package sql

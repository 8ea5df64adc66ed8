// Package store keeps the embedded BigQuery's datasets, tables, rows and write streams, in memory, behind one lock. It knows
// no protocol: the package above turns requests into its calls and its errors into answers.
//
// Rows once appended are never changed. A stream's offsets are true: a row is appended at exactly the offset the stream has
// reached, or not at all.
package store

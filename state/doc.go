// Package state keeps what must survive a crash: pipelines and their incarnations, the partitions of the graph, how far
// each sink is in each of them, schema unions, and the list of archive segments. Store is the interface; Memory is a form
// in memory for tests and throw-away runs, Spanner the form in a metadata database that production uses. Both pass the
// conformance suite in package statetest.
//
// What an update may change is decided in one place, rows.apply, for both forms: fencing (I4), children before their parent's
// finish (I3), checkpoints that never go back (I5). Spanner's tables are in tables.sql; DDL returns the statements.
//
// A pipeline's life is a row of incarnations: Reopen ends one and opens the next in one transaction that fences every worker
// (I4), and between the two a Gap says what may be missing in every sink, and why.
//
// The package knows neither the reader nor the sinks.
package state

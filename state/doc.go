// Package state keeps what must survive a crash: pipelines and their incarnations, the partitions of the graph, how far
// each sink is in each of them, schema unions, and the list of archive segments. Store is the interface; Memory is a form
// in memory for tests and throw-away runs, Spanner the form in a metadata database that production uses. Both pass the
// conformance suite in package statetest.
//
// The package knows neither the reader nor the sinks.
package state

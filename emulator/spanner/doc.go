// Package spanner is an embedded, in-memory Cloud Spanner: one call starts a gRPC server inside the process that the
// official clients talk to as they would to Google's own emulator.
//
// It is four packages behind one door: store keeps the rows, changes the change streams, sql plans statements, server
// speaks gRPC. It has what Google's emulator lacks: multiplexed sessions with many transactions at once, change streams
// whose resume tokens work and whose partitions split, merge and move on command, and a clock that tests can step.
//
// CLIENT_TESTS.md beside this file lists the official client's integration tests, what becomes of each here, and why.
//
// Nothing is persisted and nothing is authenticated: bind it to loopback.
package spanner

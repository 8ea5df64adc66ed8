// Package spanner is an embedded, in-memory Cloud Spanner: one call starts a gRPC server inside the process that the
// official clients talk to as they would to Google's own emulator.
//
// It is four packages behind one door: store keeps the rows, changes the change streams, sql plans statements, server
// speaks gRPC. It has what Google's emulator lacks: multiplexed sessions with many transactions at once, change streams
// whose resume tokens work and whose partitions split, merge and move on command, and a clock that tests can step.
//
// Nothing is persisted and nothing is authenticated: bind it to loopback.
package spanner

// Package spanner is an embedded, in-memory Cloud Spanner: one call starts a gRPC server inside the process that the
// official clients talk to as they would to Google's own emulator.
//
// It is four packages behind one door: store keeps the rows, changes the change streams, sql plans statements, server
// speaks gRPC; fault says what goes wrong. It has what Google's emulator lacks: multiplexed sessions with many transactions
// at once, change streams whose resume tokens work and whose partitions split, merge and move, both partition modes, faults,
// and a clock that tests can step.
//
// # Change streams
//
// Everything is there that Spanner documents, in the GoogleSQL dialect: options, capture types, filters, retention, both
// partition modes, limits and errors. Partitions change by the clock or by load ([Options].Churn), or on command: see
// Split, Merge, Move and Reassign of [changes.Log], which [Server.Database] leads to. What Spanner does by itself happens on
// command only: rows expire by DeleteExpired, records by Expire besides retention, and RestoreDatabase stands for a backup.
// A stream with per_placement_tvf has the read function of the placement "default", since there are no others.
//
// # Faults
//
// [Options].Faults, and at any time [Server.Faults], make calls fail as production does: see package fault.
//
// # Time
//
// Give [Options].Clock a [StepClock] to decide when things happen. Inside a testing/synctest bubble the system clock is the
// bubble's: serve with [Options].InMemory, and make clients with [Server.ClientOptions]. The official client works there,
// with DisableNativeMetrics; close it and the server before the bubble ends.
//
// # Speed
//
// Through gRPC, on two busy cores with the receiver on them too, one partition gives 145,000 changes/s of 100-byte rows written a
// hundred to a commit, and twenty thousand of them in 200 messages (BenchmarkServeChanges); changestream reads ten thousand partitions
// of one stream at once. Package changes has the figures of the change streams alone, and BenchmarkOneRowCommits and
// BenchmarkThousandRowCommits compare commits with Google's emulator.
//
// CLIENT_TESTS.md beside this file lists the official client's integration tests, what becomes of each here, and why.
//
// Nothing is persisted and nothing is authenticated: bind it to loopback.
package spanner

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
// Placements (CREATE PLACEMENT, PLACEMENT KEY) decide only which read function of a stream with per_placement_tvf shows a row, each
// with partitions of its own; a change that gives a row another placement shows in the new one.
//
// # Database roles
//
// Nobody is authenticated, so a session may do everything, unless it was created with a database role (DatabaseRole in the
// client's configuration): then it may do what that role, the roles it is a member of and public were granted. Grants are
// on tables, columns, views, change streams, read functions, sequences and named schemas. A change-stream query needs SELECT
// on the stream and EXECUTE on its function. Revoking takes effect with the next request; queries that run go on. These
// things are the product's as far as its pages tell; that grants go with what is dropped is our own.
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
// # Transactions
//
// Any number of read-write transactions run at the same time, and are serializable in the order of their commit timestamps. They
// are optimistic: one that has read what another has committed since is ABORTED at its commit, and one that has read nothing never
// is. None starves: the fourth try, at the latest, has the right of way, and others wait at their commit rather than change what
// it has read, for a second at most (then two, up to ten). A transaction that nobody has used for ten seconds is aborted; see
// package store for the rest.
//
// # Memory
//
// Everything is in memory, and bounded by what was written within the retention: an overwritten row of 100 bytes takes 400 for
// [Options].VersionRetention, an hour unless said, and as a change record 600 to 730 for each stream's retention_period, a week
// unless said. Lower the first, and set [Options].StreamBytes, where much is written for long. What has expired goes with the
// commits that follow, or within a minute by the clock.
//
// # Speed
//
// Beside Google's emulator 1.5.28 in one run on two quiet cores, rows of 100 bytes watched by one change stream, through the
// official client with eight goroutines on one client; "store" is ours without gRPC:
//
//	one-row commits/s                ours    Google's
//	store                          68,841                31 times
//	client, at least once          10,273       2,247     4.6
//	client, Apply                   5,891           -     2.6 of its at least once: it cannot serve these
//
//	rows/s in 1,000-row commits
//	store                         260,553       5,434    48
//
// Redo it with
//
//	go test ./emulator/spanner -run '^$' -bench Commits -benchtime 2s
//
// What is left is gRPC and the client. Of all CPU samples of -bench OneRowCommits/embedded/apply -benchtime 20000x -cpuprofile
// the client library takes 28 %, the gRPC server 18 %, the HTTP/2 writers 13.5 %, garbage collection 13 %, system calls 11 %, and
// the Commit handler 9.7 %: the store's commit 7.5 %, with 0.8 % for the change stream.
//
// Through gRPC, on two busy cores with the receiver on them too, one partition gives 145,000 changes/s of 100-byte rows written a
// hundred to a commit, and twenty thousand of them in 200 messages (BenchmarkServeChanges); changestream reads ten thousand partitions
// of one stream at once. Package changes has the figures of the change streams alone.
//
// CLIENT_TESTS.md beside this file lists the official client's integration tests, what becomes of each here, and why.
//
// Nothing is persisted and nobody is authenticated: bind it to loopback.
package spanner

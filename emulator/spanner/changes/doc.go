// Package changes is the change streams of the embedded Spanner: it turns the store's commits into change records, keeps
// them by partition for the stream's retention, and serves the read function.
//
// # Neighbours
//
// Package store calls [Log.Observe] for each commit, in commit order, and [Log.ObserveSchema] for each DDL. The SQL layer
// recognises the read function and checks the shape of its arguments; the gRPC layer then calls [Log.Query] and sends
// the [Record] values it is given. The package knows neither SQL nor RPCs; it answers errors as gRPC statuses because
// their codes are part of what a reader depends on.
//
// # Key space
//
// All rows a stream can watch lie in one order: first the name of the root of the row's interleaving hierarchy, then the
// bytes of the primary key. An interleaved row's key begins with its parent's, so it follows the parent directly. A
// partition owns ranges of this order; together the partitions alive at any commit timestamp cover all of it exactly
// once, so each change lands in one partition. [Log.Split], [Log.Merge], [Log.Move] and [Log.Reassign] redraw the ranges
// on command, and [Churn] does so by the clock or by load.
//
// With immutable key ranges a redraw at T ends the old partitions and starts their children: a change committed exactly
// at T is the child's. With mutable key ranges a change committed exactly at T still is the source's, and comes before
// the source's partition event record at T.
//
// # Guarantees
//
//   - Within one query rows come in timestamp order, each once; a query with [Query.Resume] goes on exactly after the
//     record the position came with.
//   - A heartbeat at T follows every row at or below T of its partition, and never shares a timestamp with another row.
//   - What retention, or Options.MaxBytes, has removed is out of bounds for good, whatever becomes of the clock or of
//     retention_period. It goes with the commits and reads that follow, or by [Log.Collect].
//   - Every redraw lies above all commits observed and all heartbeats sent, so no promise is taken back.
//   - The work of Observe grows with the changes of the commit and the logarithm of the number of partitions only. A
//     partition without a reader costs no goroutine and no timer.
//
// # Speed and size
//
// On two cores, with records of 1.3 to 1.5 KB that are read the first time, and so encoded, and again:
//
//	go test ./emulator/spanner/changes -run '^$' -bench 'Serve|Retain'
//
//	immutable key ranges     53,000 records/s    70 MB/s, then 5,000,000 records/s
//	mutable key ranges       80,000 records/s   120 MB/s, then 1,700,000 records/s
//
// A stored change of a key and 100 bytes takes 730 bytes before anyone has read it and 600 after, when its record is kept
// encoded. [Options].MaxBytes caps what a stream retains (TestMaxBytes), retention_period and [Log.Expire] remove it by age.
// Ten thousand partitions of one stream, the most there may be, are all alive at once (TestTenThousandPartitions), and Observe
// finds the one of a change by bisection (BenchmarkObserve).
package changes

// Package store is the embedded Spanner's storage: rows in many versions by commit timestamp, schemas in many versions,
// and one Commit. It knows neither gRPC services nor SQL nor change streams; what it commits it hands to an observer.
//
// # How reads and writes meet
//
// All of a database hangs from one immutable state: the schema, and for each table and index an ordered tree of rows. A
// commit clones the trees it touches (copy on write), changes the clones and publishes a new state. So a reader takes a
// state with one atomic load and never waits: neither for a lock nor for a long transaction.
//
// Read-write transactions are optimistic. They read at the timestamp of the state they began with, remember the keys and
// ranges they read, and Commit refuses them (ABORTED) when any of that has changed since. What was not read aborts nobody:
// blind writes never abort. The one lock lives in Commit, schema changes and SafeTime.
//
// A transaction that others would abort again and again can have the right of way ([TxnOptions].RightOfWay): for a bounded
// time, commits that would change what it has read wait for it. That is what Spanner's locks, under which the older of two
// transactions wins, do for all; here it costs nothing until somebody needs it.
//
// Conflicts are by row, where Spanner has them by cell: transactions that read and write different columns of one row abort
// each other here. Cells would need the columns of every scan from the SQL planner, a set of written columns in every
// version, and a merge of buffered rows with newer ones at the commit; all they save is a retry.
//
// # Guarantees
//
//   - Commit timestamps are microseconds and strictly rise; they never fall behind the clock by more than the commit takes.
//   - Transactions are serializable in the order of their commit timestamps.
//   - Observers see every commit and schema change in timestamp order, before Commit returns.
//   - Rows are readable at any timestamp within the version retention. What is older goes with the commits that follow, faster
//     than they make more of it, or by [Database.Collect]: memory is bounded by what is written within the retention.
//   - A commit waits for transactions with the right of way only, and for each no longer than its RightOfWay.
package store

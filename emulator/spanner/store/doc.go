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
// ranges they read, and Commit refuses them (ABORTED) when any of that has changed since. The one lock lives in Commit,
// schema changes and SafeTime.
//
// # Guarantees
//
//   - Commit timestamps are microseconds and strictly rise; they never fall behind the clock by more than the commit takes.
//   - Transactions are serializable in the order of their commit timestamps.
//   - Observers see every commit and schema change in timestamp order, before Commit returns.
//   - Rows are readable at any timestamp within the version retention.
package store

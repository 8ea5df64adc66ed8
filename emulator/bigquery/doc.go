// Package bigquery is the embedded BigQuery: the part of Google's service that a program needs which makes tables, appends
// rows through the Storage Write API, and looks at them. It runs in this process, in memory, on two loopback ports: the REST
// API and the Storage API's gRPC. Google's Go clients work against it unchanged.
//
// What it serves:
//
//   - datasets and tables: insert, get, list, patch, update, delete, with etags (If-Match, 412); schema changes are held to
//     BigQuery's rules (new NULLABLE or REPEATED columns, REQUIRED relaxed); partitioning, clustering, primary key, labels
//     and descriptions are checked and kept;
//   - BigQueryWrite: the default stream and committed streams, with true offsets. A row is appended at exactly the offset
//     its stream has reached; below it the answer is ALREADY_EXISTS, above it OUT_OF_RANGE, each with its StorageError, so
//     what exactly-once writers rely on can be tested. Bad rows are refused by index, and their whole request with them;
//   - tabledata.list, and queries as far as package sql goes.
//
// An error of one append is answered in the stream, which goes on, as the service does; a connection ends where it cannot go
// on (no stream named, stream or table missing at the start, request too large).
//
// It is stricter than the service in one point: a serialized row with a field number that the writer's schema lacks is
// refused; the service would drop that data without a word. It is more forgiving in others: a new column can be written at
// once, and there are no permissions and no quotas (inject them with a Fault). What is not there answers that it is not
// implemented, naming it: pending and buffered streams, change data capture, load jobs, DML, views, insertAll, the read API.
//
// Neighbours: row (columns and values), store (tables and streams), sql (queries). None of them knows HTTP or gRPC.
package bigquery

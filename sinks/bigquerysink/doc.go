// Package bigquerysink is the sink that writes a changelog to BigQuery: one table for each Spanner table, one row for each
// change, and no row is ever altered.
//
// # The tables
//
// [TableID] names the table; its description has Spanner's name between grave accents. Its position columns begin with an underscore: _position (the change's name for ever; sorting by
// it is the order of changes), _commit_timestamp (by whose day the table is partitioned), _transaction, _record_sequence, _mod,
// _snapshot, _op, _capture, _system, _tag, _transaction_records, _transaction_partitions, _columns, _before, _raw, _chain.
// Then come the key columns, by which the table is clustered, and all other columns with their values after the change:
//
//	BOOL, INT64, DATE, STRING, BYTES, NUMERIC, JSON   the same
//	FLOAT64, FLOAT32      FLOAT64
//	TIMESTAMP             TIMESTAMP; one with nanoseconds is cut to microseconds, and in full in _raw
//	PostgreSQL numeric    BIGNUMERIC; NaN and what has more than 38 digits on a side of the point is NULL, and in _raw
//	ENUM, PROTO           INT64, BYTES
//	UUID, INTERVAL        STRING
//	ARRAY                 REPEATED; NULL, or one with a NULL element, which BigQuery cannot hold, is empty, and in _raw
//	types yet unknown     STRING, as JSON text
//
// So nothing is lost and no row is refused: whatever a typed column cannot hold in full is in _raw, a JSON object by Spanner's
// column names in the form change streams use, and where a column is in _raw that is its value. _columns lists the columns that
// were captured: of the others nothing is known, and their NULL does not mean NULL. _before is a JSON object of the columns
// captured before the change, as text, which JSON_VALUE(_before, '$.price') reads; text, because BigQuery's JSON type alters
// numbers, and because a second set of typed columns would double the schema for values most queries do not look at. A value
// that is no UTF-8, which Spanner never sends, is in either object as "base64:NAME".
//
// Columns are added when the stream shows them, with a patch that an etag guards against other workers; none is dropped.
// A column whose type changed becomes a second column, of its name with the type behind it; so does one whose name differs
// from another's in case only, as BigQuery's names may not. A column's description says in JSON which Spanner column it is,
// and that, not the name, is how the sink and readers find it.
//
// # At least once
//
// With delivery at-least-once the rows go to the table's default stream. A repeat has the same _position.
//
// # Exactly once
//
// With delivery exactly-once (the default) each chain (incarnation, partition, table) has one write stream of type COMMITTED at a
// time, and rows are appended at known offsets, where BigQuery takes rows once only. The chain's state, stored with the
// checkpoint, is the stream's name and the next offset. Stream names are BigQuery's to choose, so a writer without state cannot
// guess one: which stream is the chain's is written in its claim, the description of an empty table named after the chain.
// BigQuery makes a table once only, and patches it only for the etag's holder; that is the one compare-and-swap it has.
//
//	new chain      make stream S; create the claim (S, base = nothing). Exists already: take over.
//	append         append at (S, offset). Done: the answer is the state (S, offset + rows).
//	               ALREADY_EXISTS, STREAM_FINALIZED, NOT_FOUND, OUT_OF_RANGE: take over.
//	take over      1 read the claim: stream C, base B, etag
//	               2 finalize C: no one can add rows to it any more; the answer is its number of rows
//	               3 if there are more than the state accounts for, ask the table for this chain's last _position behind
//	                 the known one, and compare the number of rows found with the number C has: that they agree proves
//	                 that the query saw everything
//	               4 make stream N, and patch the claim to (N, base = what 3 found) if its etag is still that of 1;
//	                 if not, another writer has taken over: begin again
//	               If 3 found rows the caller did not know of, Append writes nothing and answers their end.
//	lost state     End takes over, too: its answer stays true, because whoever wrote before can do so no more.
//
// Rows are appended only to a stream that the claim names or has named, and a stream leaves the claim only after it was
// finalized and counted. So no two writers can append behind the same end, whatever they believe about leases and clocks.
// The points at which a writer may die, or its answer be lost, or at which it may be a zombie that wakes up later:
//
//   - before the claim: the stream stays empty and unknown; BigQuery drops it in time.
//   - between claim and append: the next writer takes over a stream of no rows, without a query.
//   - append done, answer lost: the retry finds ALREADY_EXISTS, takes over, and answers how far the earlier attempt came, be
//     it shorter or longer than the retry. An attempt of several requests may have come to the middle of a commit timestamp;
//     the position of the end says so, and the order inside a timestamp is the same for every writer.
//   - append on its way while another takes over: it arrives before the finalization, and is counted, or after, and is refused.
//   - between finalization and claim: the next writer finds the stream finalized and goes the same way.
//   - a zombie with an old state appends to a finalized stream and is refused; it takes over, and then the true owner is refused
//     and takes over in turn. They contend, visibly, until the lease ends it (I4); no row is doubled or lost.
//
// What remains: the claim must stay. It expires 180 days after its last change, and if it is gone (by age, or dropped by hand)
// while the state is lost as well, the table's position columns alone decide, and a zombie that still holds an open stream could
// append after the question was asked; then the lease's fence is what bounds it. The same holds if BigQuery has dropped the
// finalized stream and cannot tell its number of rows: the query is believed without the proof.
//
// # Rights
//
// roles/bigquery.dataEditor on the dataset (tables, write streams) and, for the queries of exactly-once, roles/bigquery.jobUser on
// the project.
package bigquerysink

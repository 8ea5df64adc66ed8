// Package ingest is the write path: an event store in one Spanner table, group
// commit, and a bulk loader for JSON, JSON lines and CSV files.
//
// Events are appended to streams. A stream's versions are 1, 2, 3 and so on
// without gaps; an event is never updated. The change stream over the table,
// read by package changestream, carries what is appended here to every sink;
// nothing here knows about that.
//
// # Guarantees
//
//   - Commit first: an append is answered only after Spanner has committed it.
//   - Idempotence: an event is known by (stream, source, id). Appending it
//     again returns its first version and first commit timestamp, also when the
//     stream has moved past the expected version since. The same id with other
//     content is a [*ConflictError], never an overwrite.
//   - A batch is all new, all old, or an error; several streams appended by
//     [Store.AppendAll] commit together or not at all.
//   - Exactness: what Spanner's JSON type would silently change (a number out
//     of a double's precision, a repeated member) is refused with the path of
//     the value, see [CheckJSON].
//   - Order: a [Batcher] commits the batches of one stream in the order they
//     were added, and Load keeps the order of the input within a stream.
//
// # Times in maps
//
// The time of an event is an RFC 3339 string; a number is refused, because it
// could count seconds or milliseconds. For whole seconds jq's todate does. It
// drops fractions, so milliseconds since 1970 keep theirs with integer
// arithmetic:
//
//	def millis: (. / 1000 | floor | strftime("%Y-%m-%dT%H:%M:%S."))
//	  + (((. % 1000 + 1000) % 1000 + 1000) | tostring | .[1:]) + "Z";
//	.features[] | {stream: "quake", id: .id, type: "earthquake.recorded",
//	  time: (.properties.time | millis), data: .}
package ingest

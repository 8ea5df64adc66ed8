// Package check reads a change stream and every sink behind it once more, by other means than the engine, and compares:
// what the stream says was committed against what each sink holds. It is what the summary of `spanledger dev` and the
// end-to-end tests trust, so it shares no code with the engine: the stream is read with the ordinary Spanner client and
// bounded queries, Avro is decoded by another library, and names and digests are computed here, from the formats'
// descriptions. Of our own packages it imports only change, for Position and Timestamp.
//
// The order of work is: [ReadTruth] gives the list of changes to expect; [Truth.EventsCheck] proves that list against the
// rows of the events table, so that the truth is not taken on faith either; then [Archive], [PubSub] and [Deliveries] each
// hold one sink against it and answer a [Sink]; a [Report] collects them and [Report.Err] says whether all is well.
//
// # What counts as what
//
//   - delivered: changes of the truth found at least once; missing: the others.
//   - duplicates: further copies. Information for an at-least-once sink, an error for a strict one.
//   - order_violations: first deliveries that come after a later change of the same key (I1).
//   - graph_breaks: the same, where the two changes lie in partitions of which neither leads to the other, by children or by
//     moves of keys, so that no reader that follows the partition graph could know better. Google's emulator does this; Spanner does not, so only
//     with Official are they told apart from order violations.
//   - unexpected: what the truth does not have; mismatched: what differs from the truth in key, operation or values.
//   - faults: what is wrong with the destination itself: a digest, a name, a link, a message that cannot be read.
//   - snapshot: rows that snapshots took, which no transaction committed: counted apart, and held against the tables and the
//     stream's history by [Truth.ReadRows]. They take part in the order of their key, at the instant they were read at.
//   - watermark: the last instant up to which nothing is missing.
package check

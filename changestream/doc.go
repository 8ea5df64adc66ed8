// Package changestream is the read path: it queries a Spanner change stream, decodes its records straight into changes,
// and yields them as frames, each complete through a commit timestamp and in position order. The partition graph, which
// says when a partition may deliver, is a pure state machine here; the engine drives it.
//
// A Reader gives, for each partition read:
//
//   - every change once in a call of Read, whatever fails and is asked again in between;
//   - frames whose promises only grow, never tear a commit timestamp apart, and never reach the partition's end, so that
//     a stored promise can always be resumed from (I5);
//   - the children with the last frame, after which the partition is read (I3).
//
// A Graph gives the order between partitions: a child is startable once all its parents are finished and durable.
//
// Reader.Follow drives the two without anything stored, and Reader.Changes is Follow as a loop over changes: for programs
// that look at a stream, as 'spanledger tail' does. What must survive a crash takes package pipeline.
//
// Records are parsed once, from the bytes gRPC received: no protobuf trees, no reflection and no maps stand between. A
// change's values are slices of those bytes, kept alive by whatever refers to them.
//
// Streams with immutable key ranges are read in both dialects. Those with mutable key ranges are refused by New; their
// records can be decoded, their moves are not followed yet.
//
// The package does not know sinks exist.
package changestream

// Package changestream is the read path: it queries a Spanner change stream, decodes its records straight into changes,
// and yields them as frames, each complete through a commit timestamp and in position order. The partition graph, which
// says when a partition may deliver, is a pure state machine here; the engine drives it.
//
// A Reader gives, for each partition read:
//
//   - every change once in a call of Read, whatever fails and is asked again in between;
//   - frames whose promises only grow, never tear a commit timestamp apart, and never reach the partition's end, so that
//     a stored promise can always be resumed from (I5);
//   - the partitions that begin, no later than with the frame that reaches their start (I3).
//
// A Graph gives the order between partitions. With immutable key ranges a child is startable once all its parents are finished
// and durable. With mutable ones a partition begins at once and lives on while keys come and go: where keys come to it, it is
// held until those that had them are through that timestamp. Why that cannot deadlock stands at the type holds.
//
// Reader.Follow drives the two without anything stored, and Reader.Changes is Follow as a loop over changes: for programs
// that look at a stream, as 'spanledger tail' does. What must survive a crash takes package pipeline.
//
// Records are parsed once, from the bytes gRPC received: no protobuf trees, no reflection and no maps stand between. A
// change's values are slices of those bytes, kept alive by whatever refers to them.
//
// Both dialects and both partition modes are read. What has come is proven by records only: a row at T proves T - 1 µs, as a
// start, a move or an end does, and a heartbeat what lies before it. The good end of a query proves nothing, for a server that
// gives up early ends a query in the same way. A query of a stream with mutable key ranges must have an end, so such a partition
// is read in windows, each from behind what is proven to some time ahead of Spanner's clock. Where reading itself has an end,
// Options.End, a partition is done when something proves that, at the latest a heartbeat.
//
// A stream with a read function for each placement (per_placement_tvf) is read whole, all functions as one graph; a partition's
// token is then led by its placement. Placements made later are looked for each Options.PlacementsEvery and at each start with
// Options.Open, and end reading with a *PlacementError: a new incarnation takes them in. Where a row changes its placement the
// order of its changes is not kept: nothing Spanner documents says that one function's partition waits for another's.
//
// # Memory
//
// A Budget is asked before anything is received, so that what waits here is inside the pipeline's one bound (I10). Beside it
// are, for each partition, what gRPC may hold of a query whose partition waits for memory (64 KiB, for 10 s at most: then the
// query is given up and asked again later), and what an idle partition costs: three goroutines, about 15 KB of heap and 20 KB
// of stacks. Connections carry Options.StreamsPerConnection queries each; they are opened and closed as partitions come and go.
// Ten thousand idle partitions on 112 connections took 3.06 goroutines, 14.6 KB of heap and 19.5 KB of stacks each, 340 MB
// together:
//
//	SPANLEDGER_PARTITIONS=10000 go test ./changestream -run TestPitfallStreamsPerConnection -bench IdlePartitions -benchtime 1x
//
// # Pitfalls
//
// What readers of change streams have stumbled over is listed in pitfall_test.go, each with the test named for it. What a reader
// must do is listed in conformance.md, each case with its tests and the servers they run against.
//
// The package does not know sinks exist.
package changestream

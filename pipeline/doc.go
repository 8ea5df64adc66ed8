// Package pipeline is the engine between the reader and the sinks. It reads the partitions the graph allows, spreads their
// changes over each sink's lanes, batches, retries, and stores a checkpoint once everything up to it is durable.
//
// # Who owns what
//
// One goroutine reads each partition; it hands frames to the lanes and waits when the byte budget is full. One goroutine
// works each lane that has something to do, with one batch in flight. One goroutine, the checkpointer, owns the partition
// graph: it stores progress, finishes partitions and starts their children. They share the partition's per-sink progress,
// each under its own lock; no lock is held while another is taken, nor during a call to a sink, the source or the store.
//
// # Moves of keys
//
// With mutable key ranges a frame may end in a move-in at T. Its reader then waits until the graph releases it, which is when
// the sources are through T. What is stored of the held partition stays at T - 1 µs, so that a restart reads the move again
// and holds again; what the graph is told is T, so that partitions which take keys from one another at one timestamp do not
// wait for each other. The end of a partition is kept from the checkpoint in the same way. With order commit nothing is held:
// there every change waits for all partitions anyway.
//
// A partition announced in mid-life is stored no later than the checkpoint that passes its start, and stays open until no
// stored checkpoint lies before it: whoever announced it may be read again after a crash, and must not begin it anew.
//
// # Where the guarantees live
//
// I1 order: lane.go (one batch at a time, later changes of a key behind a failed one) and checkpointer.go (children only
// after their parents, and nothing behind a move of keys before its sources are through it). I2 no loss: tracker.go, the only place that says how far a checkpoint may move. I6 once: chain.go.
// I10 bounded: budget.go.
package pipeline

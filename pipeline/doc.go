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
// # Where the guarantees live
//
// I1 order: lane.go (one batch at a time, later changes of a key behind a failed one) and checkpointer.go (children only
// after their parents). I2 no loss: tracker.go, the only place that says how far a checkpoint may move. I6 once: chain.go.
// I10 bounded: budget.go.
package pipeline

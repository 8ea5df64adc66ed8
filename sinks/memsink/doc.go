// Package memsink is a sink that keeps everything in memory, in both delivery protocols: a Writer (at least once) and an
// Appender (chain append, exactly once). It is for tests, and it is the shortest complete example of either contract.
//
// What sinks deliver into is a Destination, apart from the sinks themselves, as a topic or a bucket is: several sinks may
// share one, which is how a test plays a takeover, a zombie or a restart. A delivered change is a deep copy.
//
// Both sinks do what the contract says, no less and no more, and hooks make them as rude as a real destination: an error
// from Before is a call that had no effect, an error from After is an answer that was lost on the way. They also watch the
// engine: Violations lists what it did against the contract of package sinks, and Destination.CheckOrder and CheckOnce
// check the invariants I1 and I6 over everything delivered.
package memsink

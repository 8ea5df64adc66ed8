// Package sinktest is the conformance suite of package sinks: a sink, ours or a user's, keeps the contract when Run passes.
//
// Its author writes a Harness, which makes an empty destination for each test and reads back what it holds, and calls Run
// from an ordinary test. Run plays the engine: it routes changes to lanes, cuts batches inside the sink's bounds, takes
// its memory back as soon as a call returns, loses answers, forgets ends, and lets two workers at one chain. What it
// checks is named by its subtests:
//
//	Spec        bounds are positive and lanes fit the protocol
//	Open        an absent destination is an error; Close is harmless then
//	Values      every type, NULL and "not captured", every operation, a new version of a table; memory taken back
//	Order       lanes at once, many batches: nothing lost, each key's first deliveries in order (I1, I2)
//	Repeat      the same batch again, as after a lost answer
//	Cancel      a call returns promptly when its context ends, and can be repeated
//	Reject      refused changes are named by index, the others are durable
//	Places      (chains) a second write at a place, shorter, equal or longer, writes nothing and tells what is there
//	End         (chains) a writer that lost the end learns it from the destination
//	Once        (chains) lost answers, lost ends, zombies, at random: each change once and in order (I6, I7)
//
// The Generator of its changes is exported for other tests. The package uses the standard library's testing only.
package sinktest

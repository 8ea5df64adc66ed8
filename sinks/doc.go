// Package sinks is the contract between the engine and a destination, and the registry of destinations.
//
// A sink's author imports this package and package change, and writes a type with Spec, Open, Write (or Append and End)
// and Close. A sink does not retry, batch, start goroutines that outlive a call, count or log: the engine does, the same
// way for every sink. A sink does not know checkpoints exist.
package sinks

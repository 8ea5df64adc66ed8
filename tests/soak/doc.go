// Package soak holds the test that tires the read path out: many changes over many partitions that split, merge and move all
// the time, while seeded faults strike the queries, the sinks fail and the engine is killed.
package soak

// Package all is the one list of built-in sinks. A program with sinks of its own registers them beside these.
package all

import (
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/bigquerysink"
	"github.com/spanledger/spanledger/sinks/gcssink"
	"github.com/spanledger/spanledger/sinks/pubsubsink"
	"github.com/spanledger/spanledger/sinks/stdoutsink"
)

// Types lists the built-in sinks. The slice is the caller's.
func Types() []sinks.Type {
	return []sinks.Type{
		bigquerysink.Type,
		gcssink.Type,
		pubsubsink.Type,
		stdoutsink.Type,
	}
}

// Register registers them all with package sinks. Call it once, from main: nothing registers itself by being imported.
func Register() {
	for _, t := range Types() {
		sinks.Register(t)
	}
}

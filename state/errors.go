package state

import (
	"errors"
	"fmt"
)

// MismatchError says that a stored pipeline is not the one the configuration describes.
type MismatchError struct {
	Pipeline string
	// Field is what differs: database, identity, stream or digest.
	Field string
	// Stored and Configured are the two values.
	Stored, Configured string
}

// Error says what differs and what to do.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("pipeline %s: its stored %s is %q but the configuration says %q: nothing was read; "+
		"use another pipeline name, or open a new incarnation of this one", e.Pipeline, e.Field, e.Stored, e.Configured)
}

// ErrNoPipeline is wrapped by the errors of all methods but Open for a pipeline that is not stored.
var ErrNoPipeline = errors.New("no such pipeline")

func unknownPipeline(name string) error {
	return fmt.Errorf("state: pipeline %q: %w: it was never opened in this store, or its rows were deleted", name, ErrNoPipeline)
}

package sinks

import (
	"errors"
	"fmt"
	"time"
)

// RejectError says which changes of a batch the destination will never take; all others of the batch are durable.
type RejectError struct {
	// Rejected is in ascending order of Index, not empty.
	Rejected []Rejection
}

// Rejection is one refused change.
type Rejection struct {
	// Index is the change's place in Batch.Changes.
	Index int
	// Reason says why, for the operator.
	Reason error
}

// Error names the first refusal and counts the others.
func (e *RejectError) Error() string {
	if len(e.Rejected) == 0 {
		return "sink rejected no change (a fault of the sink)"
	}
	first := e.Rejected[0]
	if len(e.Rejected) == 1 {
		return fmt.Sprintf("sink rejected change %d of the batch: %v", first.Index, first.Reason)
	}
	return fmt.Sprintf("sink rejected %d changes of the batch, the first at %d: %v", len(e.Rejected), first.Index, first.Reason)
}

// Unwrap gives the reasons.
func (e *RejectError) Unwrap() []error {
	errs := make([]error, len(e.Rejected))
	for i, r := range e.Rejected {
		errs[i] = r.Reason
	}
	return errs
}

type retryError struct {
	err   error
	after time.Duration
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// Retry marks err as passing: the engine waits at least the given time, then sends the same batch again. An error that is
// marked neither Retry nor Stop is retried after the engine's own back-off.
func Retry(err error, after time.Duration) error { return &retryError{err, after} }

// RetryAfter is the wait that Retry put into err, or 0.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*retryError](err); ok {
		return e.after
	}
	return 0
}

type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// Stop marks err as final: trying again cannot help and an operator must act (a missing permission, a foreign archive). The
// message says what to do. The engine stops the pipeline.
func Stop(err error) error { return &stopError{err} }

// IsStop reports whether err was marked by Stop.
func IsStop(err error) bool {
	_, ok := errors.AsType[*stopError](err)
	return ok
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
)

// FieldError says which field of an event cannot be stored, and why.
type FieldError struct {
	Field  string // the column's name
	Reason string
	Err    error // more about it, or nil; a *JSONError for JSON
}

func (e *FieldError) Error() string {
	if e.Err != nil {
		return e.Field + " " + e.Reason + ": " + e.Err.Error()
	}
	return e.Field + " " + e.Reason
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// EventError says which event of an append an error is about.
type EventError struct {
	Stream string
	Index  int // from 0
	ID     string
	Err    error
}

func (e *EventError) Error() string {
	return fmt.Sprintf("append to stream %q, event %d (id %q): %v", e.Stream, e.Index, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *EventError) Unwrap() error { return e.Err }

// ConflictError says that an id is taken by an event of other content. Nothing
// was written.
type ConflictError struct {
	Stream, Source, ID string
	Version            int64  // of the event that has the id; 0 if it is in the same append
	Field              string // the first field that differs
}

func (e *ConflictError) Error() string {
	holder := fmt.Sprintf("version %d of the stream has it", e.Version)
	if e.Version == 0 {
		holder = "another event of the same append has it"
	}
	return fmt.Sprintf("stream %q: id %q of source %q is taken: %s, with another %s; events are never changed, so give a new fact a new id",
		e.Stream, e.ID, e.Source, holder, e.Field)
}

// VersionError says that a stream was not at the expected version. Nothing was
// written.
type VersionError struct {
	Stream   string
	Expected Expected
	Actual   int64 // 0 means the stream has no events
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("stream %q is at version %d, expected %s; read the newer events and decide again", e.Stream, e.Actual, e.Expected)
}

// MixedError says that an append holds events stored before together with new
// ones. Nothing was written: it cannot have one answer.
type MixedError struct {
	Stream   string
	Old, New int    // how many of each
	OldID    string // one stored before
	NewID    string // one that is new
}

func (e *MixedError) Error() string {
	return fmt.Sprintf("append to stream %q mixes %d stored events (as id %q) with %d new ones (as id %q); append them apart",
		e.Stream, e.Old, e.OldID, e.New, e.NewID)
}

// LimitError says that an append does not fit into one transaction.
type LimitError struct {
	What        string // "events" or "bytes"
	Have, Limit int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("append has %d %s, one transaction takes at most %d; append in smaller batches", e.Have, e.What, e.Limit)
}

// MissingTableError says that the database lacks the events table.
type MissingTableError struct {
	Database string
	Err      error
}

func (e *MissingTableError) Error() string {
	return fmt.Sprintf("database %s has no %s table as this version needs it: run `spanledger init` on it first (%v)", e.Database, Table, e.Err)
}

// Unwrap returns Spanner's error.
func (e *MissingTableError) Unwrap() error { return e.Err }

// UnreachableError says that Spanner gave no answer in time.
type UnreachableError struct {
	Database string
	Err      error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from Spanner for %s: %v; check the endpoint (SPANNER_EMULATOR_HOST, if set, must name a running emulator), the network and the credentials, then run the same again: what was stored already is recognised", e.Database, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// IsRefusal reports whether err is about what was to be appended, so that the
// same append fails again and others may succeed; false for errors about
// Spanner, the network, permissions or a cancelled context.
func IsRefusal(err error) bool {
	var (
		field    *FieldError
		conflict *ConflictError
		version  *VersionError
		mixed    *MixedError
		limit    *LimitError
		table    *MissingTableError
	)
	switch {
	case errors.As(err, &field), errors.As(err, &conflict), errors.As(err, &version),
		errors.As(err, &mixed), errors.As(err, &limit):
		return true
	case errors.As(err, &table):
		return false
	}
	switch spanner.ErrCode(err) {
	case codes.InvalidArgument, codes.OutOfRange, codes.AlreadyExists:
		return true
	case codes.FailedPrecondition:
		// Spanner's code for values a column does not take, and also its
		// emulator's for two transactions at once, which says nothing about
		// the values.
		text := err.Error()
		return !strings.Contains(text, "transaction")
	}
	return false
}

// explain turns Spanner's error into one that says what to do; op names what
// was being done.
func (s *Store) explain(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	database := s.client.DatabaseName()
	text := err.Error()
	switch code := spanner.ErrCode(err); {
	case (code == codes.NotFound || code == codes.InvalidArgument) &&
		(strings.Contains(text, "Table not found") || strings.Contains(text, "Index not found") || strings.Contains(text, "Column not found") ||
			strings.Contains(text, "Unrecognized name") || strings.Contains(text, "does not have a column")):
		return fmt.Errorf("%s: %w", op, &MissingTableError{Database: database, Err: err})
	case code == codes.NotFound:
		return fmt.Errorf("%s: %w; create %s first, `spanledger init` does", op, err, database)
	case code == codes.DeadlineExceeded, code == codes.Unavailable, errors.Is(err, context.DeadlineExceeded):
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return fmt.Errorf("%s: %w", op, &UnreachableError{Database: database, Err: err})
	case strings.Contains(text, "nested transactions") || strings.Contains(text, "Transaction ID must be"):
		return fmt.Errorf("%s: %w; Google's emulator runs one transaction at a time per client: open the store with Options.MaxTransactions = 1 and share its client with nobody", op, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

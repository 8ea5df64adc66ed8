package state

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
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
	return fmt.Sprintf("pipeline %s: its stored %s is %q but the configuration says %q: nothing was read; use another pipeline name, or "+
		"open a new incarnation of this one with 'spanledger pipeline restart', which says first what that loses and repeats",
		e.Pipeline, e.Field, e.Stored, e.Configured)
}

// ErrNoPipeline is wrapped by the errors of all methods but Open for a pipeline that is not stored.
var ErrNoPipeline = errors.New("no such pipeline")

func unknownPipeline(name string) error {
	return fmt.Errorf("state: pipeline %q: %w: it has not begun ('spanledger run' begins it), or its rows in this metadata database were deleted", name, ErrNoPipeline)
}

// TooLargeError says that a single update is more than one Spanner transaction takes. Nothing of the Commit's updates from
// this one on is stored.
type TooLargeError struct {
	Pipeline, Token string
	// Size is the update's and Limit the most a transaction takes, both in Unit: "mutations" or "bytes".
	Size, Limit int
	Unit        string
}

// Error says what is too large and how to make it smaller.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("state: pipeline %s: the update of partition %q takes %d %s, more than the %d of one transaction: "+
		"commit its children, segments and tables in several updates first, its progress and finish in the last",
		e.Pipeline, e.Token, e.Size, e.Unit, e.Limit)
}

// explain adds to an error from Spanner what was done where, and what helps.
func (s *Spanner) explain(ctx context.Context, op, pipeline string, err error) error {
	if err == nil || isOurs(err) {
		return err
	}
	where := fmt.Sprintf("state: %s pipeline %s in metadata database %s", op, pipeline, s.client.DatabaseName())
	text := err.Error()
	switch {
	case ctx.Err() != nil:
		// Spanner's error has a status of its own in the context's place; it may also say what kept the call from ending.
		return fmt.Errorf("%s: no answer before the deadline or the stop: %w: %w", where, ctx.Err(), err)
	case (strings.Contains(text, "Table not found") || strings.Contains(text, "Index not found")) && strings.Contains(text, "spanledger_"):
		return fmt.Errorf("%s: its tables are missing or of another version: run `spanledger init`: %w", where, err)
	case strings.Contains(text, "Database not found"):
		return fmt.Errorf("%s: there is no such database: create it and run `spanledger init`, or correct the name: %w", where, err)
	case spanner.ErrCode(err) == codes.PermissionDenied || spanner.ErrCode(err) == codes.Unauthenticated:
		return fmt.Errorf("%s: the credentials are refused; the role roles/spanner.databaseUser is needed: %w", where, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// isOurs reports whether err says everything already.
func isOurs(err error) bool {
	if _, ok := errors.AsType[*MismatchError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*TooLargeError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*IncarnationError](err); ok {
		return true
	}
	return errors.Is(err, ErrNoPipeline)
}

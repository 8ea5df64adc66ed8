package changestream

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
)

// LostError says that changes are gone: the stream no longer holds what comes after From. The pipeline must record a gap
// and begin a new incarnation.
type LostError struct {
	Stream string
	// Token is the partition, "" if the whole stream is meant.
	Token string
	// From is the first commit timestamp that cannot be read any more.
	From change.Timestamp
	// Err is what Spanner answered.
	Err error
}

func (e *LostError) Error() string {
	where := "change stream " + e.Stream
	if e.Token != "" {
		where = "partition " + abbreviate(e.Token) + " of " + where
	}
	return fmt.Sprintf("changestream: %s can no longer be read from %v: the retention period has passed, or the stream was made later; "+
		"what was committed between then and the earliest timestamp retained is lost to the reader. "+
		"Begin again from now or from the earliest, and raise the stream's retention_period if the reader was slow: %v",
		where, e.From, e.Err)
}

// Unwrap answers Spanner's error.
func (e *LostError) Unwrap() error { return e.Err }

// GoneError says that the stream, or the partition's token in it, does not exist any more: the stream was dropped, dropped
// and made again, or the database was restored or, on an emulator, restarted.
type GoneError struct {
	Stream string
	Token  string
	// Through is how far the partition had been read.
	Through change.Timestamp
	// Cause is what the database says of the stream now.
	Cause Cause
	Err   error
}

func (e *GoneError) Error() string {
	what := "change stream " + e.Stream
	if e.Token != "" {
		what = fmt.Sprintf("partition %s of change stream %s, read through %v,", abbreviate(e.Token), e.Stream, e.Through)
	}
	var why string
	switch e.Cause {
	case StreamDropped:
		why = "the stream was dropped, and its records with it; make it again with CREATE CHANGE STREAM"
	case StreamRecreated:
		why = "the stream of that name is another one: it was dropped and made again, or the database was restored or lost"
	case DatabaseGone:
		why = "the database is not there; check its name, or whether it was dropped"
	default:
		why = "the stream was dropped, dropped and made again, or the database was restored"
	}
	return fmt.Sprintf("changestream: %s is not there any more: %s. What was committed since cannot be read from it: %v",
		what, why, e.Err)
}

// Unwrap answers Spanner's error.
func (e *GoneError) Unwrap() error { return e.Err }

// TooLargeError says that the changes of one partition at one commit timestamp need more memory than
// Options.MaxTimestampBytes (I10).
type TooLargeError struct {
	Token string
	// Commit is the commit timestamp, 0 if a single row was too large to be read at all.
	Commit       change.Timestamp
	Bytes, Limit int
}

func (e *TooLargeError) Error() string {
	what := "a row of partition " + abbreviate(e.Token)
	if e.Commit != 0 {
		what = fmt.Sprintf("the changes committed at %v in partition %s", e.Commit, abbreviate(e.Token))
	}
	return fmt.Sprintf("changestream: %s need %d bytes or more, above the limit of %d: raise the limit of bytes per commit timestamp, or split such transactions", what, e.Bytes, e.Limit)
}

// DecodeError says that Spanner sent something this version cannot read. It is never skipped: a change would be lost.
type DecodeError struct {
	Token string
	// Commit is the commit timestamp of the record, 0 if it was not read yet.
	Commit change.Timestamp
	// What names the part of the record.
	What string
	Err  error
}

func (e *DecodeError) Error() string {
	at := ""
	if e.Commit != 0 {
		at = fmt.Sprintf(" committed at %v", e.Commit)
	}
	return fmt.Sprintf("changestream: partition %s sent a record%s that cannot be read: %s: %v", abbreviate(e.Token), at, e.What, e.Err)
}

// Unwrap answers the cause.
func (e *DecodeError) Unwrap() error { return e.Err }

// roleMissing reports whether Spanner's error is that the database has no such role. The text chooses between two pieces of
// advice only.
func roleMissing(err error) bool {
	return status.Code(err) == codes.PermissionDenied && strings.Contains(status.Convert(err).Message(), "Role not found")
}

func noRole(role string) string {
	return fmt.Sprintf("the database has no role %s: correct the name, or make it with CREATE ROLE", role)
}

// DeniedError says that the account, or its database role, may not read the change stream. It will not pass by waiting.
type DeniedError struct {
	// What was asked, Role the database role it was asked with, "" for none.
	What, Role string
	Err        error
}

func (e *DeniedError) Error() string {
	advice := "grant it spanner.databases.select on the database (roles/spanner.databaseReader)"
	switch {
	case e.Role != "" && roleMissing(e.Err):
		advice = noRole(e.Role)
	case e.Role != "":
		advice = fmt.Sprintf("grant the database role %s SELECT on the change stream and EXECUTE on its read function, and the account the use of that role", e.Role)
	}
	return fmt.Sprintf("changestream: the account may not read %s: %s: %v", e.What, advice, e.Err)
}

// Unwrap answers Spanner's error.
func (e *DeniedError) Unwrap() error { return e.Err }

// RefusedError says that Spanner refuses a query for another reason than those that have errors of their own, and that
// waiting will not change that.
type RefusedError struct {
	What string
	// From is the commit timestamp it was to be read from.
	From   change.Timestamp
	Advice string
	Err    error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("changestream: Spanner refuses %s from %v: %s: %v", e.What, e.From, e.Advice, e.Err)
}

// Unwrap answers Spanner's error.
func (e *RefusedError) Unwrap() error { return e.Err }

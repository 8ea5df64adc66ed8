package changestream

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
)

var (
	// Texts are no contract: they only choose between two refusals of the same code, both final.
	unknownToken = regexp.MustCompile(`(?i)token|table-valued function|read_json_|read_proto_bytes_|does not exist|not found|change stream`)
	streamGone   = regexp.MustCompile(`(?i)change stream|table-valued function`)
)

// clockSlack is how far the local clock may be wrong when an out-of-range start is told apart as lying in the future.
const clockSlack = time.Minute

// judge answers nil for an error that may pass, otherwise the error to stop with. through is how far the partition was read.
func (r *Reader) judge(token string, through change.Timestamp, err error) error {
	var (
		decode      *DecodeError
		large       *TooLargeError
		unsupported *UnsupportedError
		session     *sessionLostError
	)
	switch {
	case errors.As(err, &decode), errors.As(err, &large), errors.As(err, &unsupported), errors.Is(err, errClosed):
		return err
	case errors.As(err, &session):
		return nil
	}
	what := "the initial query of change stream " + r.opts.Stream
	if token != "" {
		what = "partition " + abbreviate(token) + " of change stream " + r.opts.Stream
	}
	refused := func(advice string) error {
		return fmt.Errorf("changestream: Spanner refuses %s from %v: %s: %w", what, through+1, advice, err)
	}
	s, ok := status.FromError(err)
	if !ok {
		return nil // silence, an end without children, a broken row: all ours, all may pass
	}
	switch s.Code() {
	case codes.Unavailable, codes.Internal, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded, codes.Unknown:
		return nil
	case codes.Canceled:
		return nil // by the server: our own context was looked at before
	case codes.OutOfRange:
		if (through + 1).Time().After(time.Now().Add(clockSlack)) {
			return refused("the start lies in the future; take it from Spanner's clock")
		}
		// I5: no checkpoint reaches its partition's end, so this means lost data.
		return &LostError{Stream: r.opts.Stream, Token: token, From: through + 1, Err: err}
	case codes.InvalidArgument:
		if unknownToken.MatchString(s.Message()) {
			return &GoneError{Stream: r.opts.Stream, Token: token, Through: through, Err: err}
		}
		return refused("the request is not valid")
	case codes.NotFound:
		return &GoneError{Stream: r.opts.Stream, Token: token, Through: through, Err: err}
	case codes.PermissionDenied, codes.Unauthenticated:
		return refused("the account needs spanner.databases.select on the database, or with a database role SELECT on the change stream and EXECUTE on its read function")
	}
	return refused("it will not pass by waiting")
}

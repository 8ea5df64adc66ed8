package changestream

import (
	"errors"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
)

var (
	// Texts are no contract: they only choose between two refusals of the same code, both final.
	unknownToken = regexp.MustCompile(`(?i)token|table-valued function|read_json_|read_proto_bytes_|does not exist|not found|change stream`)
	tooLarge     = regexp.MustCompile(`(?i)message larger than max|message after decompression larger`)
	streamGone   = regexp.MustCompile(`(?i)change stream|table-valued function`)
)

// clockSlack is how far the local clock may be wrong when an out-of-range start is told apart as lying in the future.
const clockSlack = time.Minute

// judge answers nil for an error that may pass, otherwise the error to stop with. through is how far the partition was read.
func (r *Reader) judge(token string, through change.Timestamp, err error) error {
	var (
		decode  *DecodeError
		large   *TooLargeError
		session *sessionLostError
	)
	switch {
	case errors.As(err, &decode), errors.As(err, &large), errors.Is(err, errClosed):
		return err
	case errors.As(err, &session):
		return nil
	}
	what := "the initial query of change stream " + r.opts.Stream
	if token != "" {
		what = "partition " + abbreviate(token) + " of change stream " + r.opts.Stream
	}
	refused := func(advice string) error {
		return &RefusedError{What: what, From: through + 1, Advice: advice, Err: err}
	}
	s, ok := status.FromError(err)
	if !ok {
		return nil // silence, an end without children, a broken row: all ours, all may pass
	}
	switch s.Code() {
	case codes.ResourceExhausted:
		if tooLarge.MatchString(s.Message()) { // said by gRPC on this side: it would be as large the next time
			return refused("a message is larger than the connection takes; raise grpc.MaxCallRecvMsgSize of the connection given")
		}
		return nil
	case codes.Unavailable, codes.Internal, codes.Aborted, codes.DeadlineExceeded, codes.Unknown:
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
	case codes.Unauthenticated:
		if credentials.MatchString(s.Message()) {
			return nil
		}
		return &DeniedError{What: what, Role: r.opts.DatabaseRole, Err: err}
	case codes.PermissionDenied:
		return &DeniedError{What: what, Role: r.opts.DatabaseRole, Err: err}
	}
	return refused("it will not pass by waiting")
}

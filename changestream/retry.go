package changestream

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// slowBackoff is the first wait after an error that a quick return would only make worse.
	slowBackoff = time.Second
	// maxAdvised is the longest wait that Spanner's advice is followed to.
	maxAdvised = 5 * time.Minute
)

// brokenStream is what gRPC makes of a connection that broke, which is no fault inside Spanner.
var brokenStream = regexp.MustCompile(`(?i)rst_stream|http/2 error|connection closed|unexpected eos|transport|\beof\b`)

// credentials is what gRPC says when no token could be had, as during a short failure of the metadata server: unlike a
// token that is refused it may pass.
var credentials = regexp.MustCompile(`(?i)per-rpc creds failed`)

// pause is how long to wait before another attempt after err, the attempt-th failure since the last progress.
//
//   - A lost session is replaced, and a query given back for its memory is asked again, at once: both say nothing of
//     Spanner's health.
//   - A broken connection (UNAVAILABLE, INTERNAL for RST_STREAM or EOF), CANCELLED by the server, ABORTED,
//     DEADLINE_EXCEEDED, silence and an end without children start at the shortest wait.
//   - RESOURCE_EXHAUSTED, other INTERNAL errors and UNKNOWN start at a second.
//   - Where Spanner names a wait (RetryInfo) it is at least that.
func (r *Reader) pause(attempt int, err error) time.Duration {
	var session *sessionLostError
	if attempt == 1 && errors.As(err, &session) {
		return 0
	}
	shortest, advised := r.opts.MinBackoff, time.Duration(0)
	if s, ok := status.FromError(err); ok {
		switch s.Code() {
		case codes.ResourceExhausted, codes.Unknown:
			shortest = max(shortest, slowBackoff)
		case codes.Internal:
			if !brokenStream.MatchString(s.Message()) {
				shortest = max(shortest, slowBackoff)
			}
		}
		for _, d := range s.Details() {
			if info, ok := d.(*errdetails.RetryInfo); ok {
				advised = min(info.GetRetryDelay().AsDuration(), maxAdvised)
			}
		}
	}
	wait := backoff(attempt, shortest, max(shortest, r.opts.MaxBackoff))
	if advised > 0 {
		// On top of the advice, which all partitions get alike: they must not all come back at once.
		wait = max(wait, advised+rand.N(shortest))
	}
	return wait
}

// backoff doubles from shortest with each attempt and takes between half and all of that, so that many partitions do not
// come at once.
func backoff(attempt int, shortest, longest time.Duration) time.Duration {
	d := longest
	if shift := attempt - 1; shift < 30 && shortest < longest>>shift {
		d = shortest << shift
	}
	return d/2 + rand.N(d/2+1)
}

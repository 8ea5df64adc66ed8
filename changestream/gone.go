package changestream

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Cause says what became of a change stream that cannot be read on.
type Cause uint8

// The causes.
const (
	// UnknownCause: the database could not be asked.
	UnknownCause Cause = iota
	// StreamDropped: the database has no change stream of that name.
	StreamDropped
	// StreamRecreated: it has one, which does not know the partition: the stream was dropped and made again, or the whole
	// database was, restored from a backup or lost by an emulator.
	StreamRecreated
	// DatabaseGone: there is no such database.
	DatabaseGone
)

// diagnoseTimeout bounds the question about what became of a stream; the answer only makes a message better.
const diagnoseTimeout = 10 * time.Second

// diagnose fills in the cause of a *GoneError.
func (r *Reader) diagnose(ctx context.Context, err error) error {
	gone, ok := errors.AsType[*GoneError](err)
	if !ok {
		return err
	}
	if status.Code(gone.Err) == codes.NotFound && !streamGone.MatchString(gone.Err.Error()) {
		gone.Cause = DatabaseGone
	}
	if r.conns == nil || gone.Cause != UnknownCause {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	streams, ask := r.rows(ctx, "SELECT change_stream_name FROM information_schema.change_streams")
	switch {
	case status.Code(ask) == codes.NotFound:
		gone.Cause = DatabaseGone
	case ask != nil:
		r.opts.Logger.Warn("what became of the change stream cannot be found out", "stream", r.opts.Stream, "error", ask)
	default:
		gone.Cause = StreamDropped
		for _, s := range streams {
			if s[0] == r.stream || r.dialect == googleSQL && strings.EqualFold(s[0], r.stream) {
				gone.Cause = StreamRecreated
			}
		}
	}
	return err
}

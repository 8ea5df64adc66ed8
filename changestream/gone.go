package changestream

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
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

// diagnose finds out what became of a stream that cannot be read on. It fills in the cause of a *GoneError, and makes a
// *LostError one where the stream is another: Spanner looks at a query's start before its token, and the stream made anew is
// younger than the checkpoint.
func (r *Reader) diagnose(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	if lost, ok := errors.AsType[*LostError](err); ok {
		if lost.Token != "" && r.conns != nil && r.isForeign(ctx, lost.Token) {
			return &GoneError{Stream: lost.Stream, Token: lost.Token, Through: lost.From - 1, Cause: StreamRecreated, Err: lost.Err}
		}
		return err
	}
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
	streams, ask := r.streams(ctx)
	switch {
	case status.Code(ask) == codes.NotFound:
		gone.Cause = DatabaseGone
	case ask != nil:
		r.opts.Logger.Warn("what became of the change stream cannot be found out", "stream", r.opts.Stream, "error", ask)
	default:
		gone.Cause = StreamDropped
		for _, s := range streams {
			if s == r.stream || r.dialect == googleSQL && strings.EqualFold(s, r.stream) {
				gone.Cause = StreamRecreated
			}
		}
	}
	return err
}

// isForeign reports whether the stream does not know a partition at all, by asking for it from now on.
func (r *Reader) isForeign(ctx context.Context, token string) bool {
	now, err := r.Now(ctx)
	if err != nil {
		return false
	}
	end, err := r.reach(ctx, now)
	if err != nil {
		return false
	}
	known := errors.New("it answers")
	err = r.run(ctx, r.decoder(token, newFramer(token, now-1, r.opts.MaxTimestampBytes)), now, end, new(ledger), func(*change.Frame) error { return known })
	return status.Code(err) == codes.InvalidArgument && unknownToken.MatchString(err.Error())
}

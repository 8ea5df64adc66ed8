package changestream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/spanledger/spanledger/change"
)

const (
	// inboxBytes is how far a query is received ahead of the decoder. gRPC's own flow control adds its window.
	inboxBytes = 128 << 10
	// A query is asked again after this much silence: Spanner sends something at least once a heartbeat.
	silentHeartbeats = 10
	silentMargin     = 5 * time.Second

	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// Partitions answers the partitions alive at start, each starting then: the query a new incarnation begins with. It
// retries what may pass, as Read does, and fails with a *LostError if start is older than the stream's retention.
func (r *Reader) Partitions(ctx context.Context, start change.Timestamp) ([]change.Partition, error) {
	for attempt := 1; ; attempt++ {
		d := r.decoder("", nil)
		err := r.run(ctx, d, start, nil)
		if err == nil && len(d.initial) == 0 {
			err = errors.New("the initial query named no partitions")
		}
		if err == nil {
			return d.initial, nil
		}
		if err := r.wait(ctx, "", start-1, attempt, err); err != nil {
			return nil, err
		}
	}
}

// Read reads the changes of p with commit timestamps above after, and not before p.Start, to the partition's end, and
// hands them to yield frame by frame: changes complete through Frame.Through and in position order. The last frame has
// Ended set and the children; Read then answers nil. It answers yield's error as it is.
//
// Read waits and asks again for as long as ctx lives when Spanner fails in a way that may pass, or ends a query without an
// end of the partition; nothing is handed over twice. Errors that will not pass are *LostError, *GoneError,
// *TooLargeError, *DecodeError, or say what Spanner refused.
//
// While it runs Read holds at most about Options.MaxFrameBytes of changes, the changes of one commit timestamp not yet
// proven complete, and 128 KiB received ahead. A frame belongs to yield, which may keep it.
func (r *Reader) Read(ctx context.Context, p change.Partition, after change.Timestamp, yield func(*change.Frame) error) error {
	frames := newFramer(p.Token, max(after, p.Start-1), r.opts.MaxTimestampBytes)
	for attempt := 1; ; attempt++ {
		before := frames.through
		d := r.decoder(p.Token, frames)
		err := r.run(ctx, d, frames.through+1, yield)
		if err == nil {
			return nil
		}
		if frames.through > before {
			attempt = 1
		}
		if err := r.wait(ctx, p.Token, frames.through, attempt, err); err != nil {
			return err
		}
		frames.drop()
	}
}

func (r *Reader) decoder(token string, frames *framer) *decoder {
	return &decoder{token: token, unions: r.unions, pass: r.opts.PassUnknown, log: r.opts.Logger, limit: r.opts.MaxTimestampBytes, frames: frames}
}

// yieldError is an error of the caller's, not to be retried.
type yieldError struct{ err error }

func (e *yieldError) Error() string { return e.err.Error() }

// errSilent: see silentHeartbeats.
var errSilent = errors.New("the query has been silent for too long, without even a heartbeat")

// run runs one query from start. It answers nil at the partition's end, or at an initial query's.
func (r *Reader) run(ctx context.Context, d *decoder, start change.Timestamp, yield func(*change.Frame) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	in := receive(ctx, inboxBytes, func(ctx context.Context) (messages, error) {
		return r.source.open(ctx, r.dialect.readStream(r.stream, start, d.token, r.opts.Heartbeat, r.opts.RequestTag))
	})
	silence := silentHeartbeats*r.opts.Heartbeat + silentMargin
	defer func() {
		cancel()
		if errors.Is(err, errSilent) {
			in.stop(silence)
		} else {
			in.stop(0)
		}
	}()
	cut := func() error {
		if d.frames == nil {
			return nil
		}
		return deliver(d.frames.cut(), yield)
	}
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		batch, end := in.take()
		for _, b := range batch {
			if err := d.message(b); err != nil {
				return errors.Join(cut(), err)
			}
			// I10: a frame is closed when it is full, however much has come already.
			if d.frames != nil && d.frames.heldBytes >= r.opts.MaxFrameBytes && d.frames.ready() >= r.opts.MaxFrameBytes {
				if err := cut(); err != nil {
					return err
				}
			}
		}
		if len(batch) > 0 {
			continue // a frame takes what has come meanwhile
		}
		// Nothing more is there: hand over what is proven now rather than wait for more.
		if !errors.Is(end, io.EOF) {
			if err := cut(); err != nil {
				return err
			}
		}
		if end != nil {
			return r.ended(d, end, yield)
		}
		timer.Reset(silence)
		select {
		case <-in.ready:
		case <-timer.C:
			return errSilent
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ended judges the end of a query.
func (r *Reader) ended(d *decoder, end error, yield func(*change.Frame) error) error {
	if !errors.Is(end, io.EOF) {
		return end
	}
	if err := d.finish(); err != nil {
		return err
	}
	if d.frames == nil {
		return nil
	}
	// Only an end with children is the partition's. An end without any may come from a server that gave up.
	frame, err := d.frames.finish()
	if err != nil {
		return errors.Join(deliver(d.frames.cut(), yield), err)
	}
	return deliver(frame, yield)
}

func deliver(frame *change.Frame, yield func(*change.Frame) error) error {
	if frame == nil {
		return nil
	}
	if err := yield(frame); err != nil {
		return &yieldError{err}
	}
	return nil
}

// wait judges err: it answers what will not pass, or nil after the pause that precedes another attempt.
func (r *Reader) wait(ctx context.Context, token string, through change.Timestamp, attempt int, err error) error {
	var y *yieldError
	if errors.As(err, &y) {
		return y.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if final := r.judge(token, through, err); final != nil {
		return r.diagnose(ctx, final)
	}
	pause := backoff(attempt)
	if r.opts.OnRetry != nil {
		r.opts.OnRetry(token, attempt, err)
	}
	r.logRetry(token, attempt, pause, err)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// backoff doubles with each attempt and takes between half and all of that, so that many partitions do not come at once.
func backoff(attempt int) time.Duration {
	d := maxBackoff
	if attempt < 10 {
		d = min(maxBackoff, minBackoff<<(attempt-1))
	}
	return d/2 + rand.N(d/2)
}

// logRetry logs at most about one retry a second over all partitions, and says how many it left out.
func (r *Reader) logRetry(token string, attempt int, pause time.Duration, err error) {
	r.logMu.Lock()
	now := time.Now()
	if now.Sub(r.lastLog) < time.Second {
		r.unlogged++
		r.logMu.Unlock()
		return
	}
	n := r.unlogged
	r.lastLog, r.unlogged = now, 0
	r.logMu.Unlock()
	what := "the initial query"
	if token != "" {
		what = "partition " + abbreviate(token)
	}
	r.opts.Logger.Warn(fmt.Sprintf("reading %s again", what), "stream", r.opts.Stream, "attempt", attempt, "pause", pause, "error", err, "not_logged", n)
}

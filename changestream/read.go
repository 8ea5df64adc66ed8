package changestream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spanledger/spanledger/change"
)

const (
	// inboxBytes is how far a query is received ahead of the decoder. gRPC's own flow control adds its window.
	inboxBytes = 128 << 10
	// silentMargin is what a query may be silent beyond Options.SilentHeartbeats before it is asked again: Spanner sends
	// something at least once a heartbeat.
	silentMargin = 5 * time.Second
)

// Partitions answers the partitions alive at start, each starting then: the query a new incarnation begins with, asked of every
// placement where the stream has one read function for each. It retries what may pass, as Read does, and fails with a
// *LostError if start is older than the stream's retention.
func (r *Reader) Partitions(ctx context.Context, start change.Timestamp) ([]change.Partition, error) {
	ctx, cancel := r.within(ctx)
	defer cancel()
	var all []change.Partition
	for _, placement := range r.functions() {
		found, err := r.initial(ctx, placement, start)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// initial asks one read function for its partitions.
func (r *Reader) initial(ctx context.Context, placement string, start change.Timestamp) ([]change.Partition, error) {
	for attempt := 1; ; attempt++ {
		d := r.decoder("", nil)
		d.placement = placement
		end, err := r.reach(ctx, start)
		if err == nil {
			err = r.run(ctx, d, start, end, new(ledger), nil)
		}
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
// Ended set and the children; Read then answers nil. With Options.End it answers nil as well once a frame's Through is
// that, or after was: the partition then lives on. It answers yield's error as it is.
//
// With mutable key ranges it asks for one window after another, each through Options.Window from now, and yield may keep a
// frame with Sources waiting for as long as the move holds: the query waits with it.
//
// Read waits and asks again for as long as ctx lives when Spanner fails in a way that may pass, or ends a query without an
// end of the partition; nothing is handed over twice. Errors that will not pass are *LostError, *GoneError,
// *PlacementError, *TooLargeError, *DecodeError, or say what Spanner refused.
//
// While it runs Read holds at most about Options.MaxFrameBytes of changes, the changes of one commit timestamp not yet
// proven complete, and 128 KiB received ahead; with Options.Budget all of that is taken from it before it is received. A
// frame belongs to yield, which may keep it.
func (r *Reader) Read(ctx context.Context, p change.Partition, after change.Timestamp, yield func(*change.Frame) error) error {
	frames := newFramer(p.Token, max(after, p.Start-1), r.opts.MaxTimestampBytes)
	if r.opts.End != 0 {
		frames.last = r.opts.End
	}
	if frames.through >= frames.last {
		return nil
	}
	ctx, cancel := r.within(ctx)
	defer cancel()
	expect := minReserve
	var account Account
	if r.opts.Budget != nil {
		account = r.opts.Budget.Partition(p.Token)
	}
	for attempt := 1; ; attempt++ {
		before := frames.through
		d := r.decoder(p.Token, frames)
		d.expect = expect
		end, err := r.reach(ctx, before+1)
		if err == nil {
			err = r.run(ctx, d, before+1, end, &ledger{account: account}, yield)
			expect = d.expect
		}
		if err == nil || errors.Is(err, errReached) {
			return nil
		}
		progress := frames.through > before
		if progress {
			attempt = 1
		}
		switch {
		case gaveBack(err):
			attempt-- // no failure: the next reservation waits
		case progress && errors.Is(err, errWindow):
			attempt = 0 // none either
		default:
			r.clock.forget() // were it wrong, no window would reach as far as something that proves the last
			if err := r.wait(ctx, p.Token, frames.through, attempt, err); err != nil {
				return err
			}
		}
		frames.drop()
	}
}

// gaveBack says that a run ended only because its memory was needed elsewhere.
func gaveBack(err error) bool {
	var y *yieldError
	return errors.Is(err, ErrGiveBack) && !errors.As(err, &y)
}

func (r *Reader) decoder(token string, frames *framer) *decoder {
	placement, _ := r.placed(token)
	return &decoder{token: token, placement: placement, unions: r.unions, pass: r.opts.PassUnknown, strict: r.opts.RefuseUnknownFields, log: r.opts.Logger, limit: r.opts.MaxTimestampBytes, frames: frames}
}

// reach is the end_timestamp of a query that begins at start, 0 for none. Only mutable key ranges ask for one. It lies ahead of
// Spanner's clock, however far back the query starts: so what has been committed is read by one query, and heartbeats come,
// which prove the last of it.
func (r *Reader) reach(ctx context.Context, start change.Timestamp) (change.Timestamp, error) {
	if !r.info.Mutable {
		return 0, nil
	}
	now, err := r.clock.now(ctx)
	return max(start, now) + change.Timestamp(r.opts.Window.Microseconds()), err
}

// yieldError is an error of the caller's, not to be retried.
type yieldError struct{ err error }

func (e *yieldError) Error() string { return e.err.Error() }

// errSilent: see Options.SilentHeartbeats.
var errSilent = errors.New("the query has been silent for too long, without even a heartbeat")

// run runs one query from start through end (0: without an end). It answers nil at the partition's end or an initial query's,
// and errReached when Options.End is.
func (r *Reader) run(ctx context.Context, d *decoder, start, end change.Timestamp, memory *ledger, yield func(*change.Frame) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	_, token := r.placed(d.token)
	in := receive(ctx, min(inboxBytes, r.opts.MaxFrameBytes), memory, d.expect, func(ctx context.Context) (messages, error) {
		return r.source.open(ctx, r.dialect.readStream(r.function(d.placement), r.info.Mutable, start, end, token, r.opts.Heartbeat))
	})
	limit := time.Duration(r.opts.SilentHeartbeats)*r.opts.Heartbeat + silentMargin
	defer func() {
		cancel()
		if errors.Is(err, errSilent) {
			in.stop(limit)
		} else {
			in.stop(0)
		}
		d.expect = in.expect
		memory.close()
	}()
	mine := func(frame *change.Frame) error { return deliver(frame, memory, yield) }
	cut := func() error {
		if d.frames == nil {
			return nil
		}
		if err := d.frames.cutAll(mine); err != nil {
			return err
		}
		if d.frames.through >= d.frames.last && d.frames.ended == 0 {
			return errReached
		}
		return nil
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		batch, done := in.take()
		for _, b := range batch {
			before := d.holds()
			if err := d.message(b); err != nil {
				return cmp.Or(cut(), err)
			}
			memory.adjust(d.holds() - before - weight(len(b)))
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
		if !errors.Is(done, io.EOF) {
			if err := cut(); err != nil {
				return err
			}
		}
		if done != nil {
			return r.ended(ctx, d, done, end, mine)
		}
		timer.Reset(limit - in.silent())
		select {
		case <-in.ready:
		case <-timer.C:
			if in.silent() >= limit {
				return errSilent
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ended judges the end of a query that was asked through end (0: without an end).
//
// I2: a good end of a query says nothing of what has come, only its records do. A server that gives up early ends a query in
// the same way, and what it had not sent would be lost; so the next query begins behind what is proven. At an end_timestamp
// that is the last row or two once more.
func (r *Reader) ended(ctx context.Context, d *decoder, done error, end change.Timestamp, yield func(*change.Frame) error) error {
	if !errors.Is(done, io.EOF) {
		return done
	}
	if err := d.finish(); err != nil {
		return err
	}
	switch {
	case d.frames == nil:
		return nil
	case d.frames.ended != 0:
		return d.frames.finish(yield)
	}
	if err := d.frames.cutAll(yield); err != nil {
		return err
	}
	if d.frames.through >= d.frames.last {
		return errReached
	}
	if end == 0 {
		return errNoChildren
	}
	if now, err := r.clock.now(ctx); err != nil || end > now+change.Timestamp(clockSlack.Microseconds()) {
		return errEarly
	}
	return errWindow
}

// cutAll hands over all that is proven.
func (f *framer) cutAll(yield func(*change.Frame) error) error {
	for {
		frame := f.cut()
		if frame == nil {
			return nil
		}
		if err := yield(frame); err != nil {
			return err
		}
	}
}

// deliver hands a frame over with the memory reserved for it.
func deliver(frame *change.Frame, memory *ledger, yield func(*change.Frame) error) error {
	frame.Reserved = memory.handOver(frame.Reserved)
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
	pause := r.pause(attempt, err)
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

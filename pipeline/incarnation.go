package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/state"
)

// BrokenError says that a pipeline's incarnation cannot go on: what comes next in its change stream cannot be read any
// more. The gap is recorded in the state; a new incarnation must be opened.
type BrokenError struct {
	Pipeline    string
	Incarnation int64
	// Gap is what is lost, as far as it is known: from Gap.From on, until a new incarnation begins.
	Gap state.Gap
	Err error
}

// Error says what is lost, why, and which command goes on.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("pipeline %s: incarnation %d cannot go on (%s): everything committed before %s is in every sink, what was committed since may be lost; "+
		"see 'spanledger pipeline show --pipeline %s', then open a new incarnation with 'spanledger pipeline restart --pipeline %s --from now', "+
		"or from earliest, a timestamp or a snapshot: %v",
		e.Pipeline, e.Incarnation, e.Gap.Reason, e.Gap.From, e.Pipeline, e.Pipeline, e.Err)
}

// Unwrap answers the reader's error.
func (e *BrokenError) Unwrap() error { return e.Err }

// placementsMargin is how long a placement may have been there, unseen, before the pipeline last stopped.
const placementsMargin = 2 * time.Minute

// breakTimeout bounds the recording of a gap, of a mended one, and of a worker's life and end.
const breakTimeout = 10 * time.Second

// broken records a gap if err says that changes are lost, and makes it a *BrokenError then (I11). Another error it answers
// as it is.
func (e *Engine) broken(ctx context.Context, err error) error {
	reason, cause := lossOf(err)
	if reason == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakTimeout)
	defer cancel()
	if _, mismatch := errors.AsType[*state.MismatchError](err); mismatch {
		// The state was not opened: how far it came must be read.
		snap, lerr := e.opts.Store.Load(ctx, e.opts.Config.Pipeline)
		if lerr != nil {
			return errors.Join(err, fmt.Errorf("the gap is not recorded: %w", lerr))
		}
		e.opened(snap)
	}
	if e.opts.Diagnose != nil {
		reason = e.opts.Diagnose(ctx, reason, e.pipeline)
	}
	from := e.from
	if w := e.graph.Watermark(); w != change.MaxTimestamp {
		from = max(from, w+1)
	}
	if p, ok := errors.AsType[*changestream.PlacementError](err); ok {
		// I5: nobody knew of the placement when the watermark passed its first changes.
		since := p.Since
		if since == 0 {
			since = max(0, from-change.Timestamp(placementsMargin.Microseconds()))
		}
		from = min(from, since+1)
	}
	e.log.Error("the pipeline's incarnation cannot go on", "incarnation", e.pipeline.Incarnation, "reason", reason, "from", from)
	return Break(ctx, e.opts.Store, e.pipeline, state.Gap{Reason: reason, From: from, Detail: cause.Error()}, cause)
}

// Break records a gap of the pipeline's current incarnation, and answers it as a *BrokenError because of err: for who finds
// out that changes are lost before an engine runs.
func Break(ctx context.Context, s state.Store, p state.Pipeline, g state.Gap, err error) error {
	b := &BrokenError{Pipeline: p.Pipeline, Incarnation: p.Incarnation, Gap: g, Err: err}
	if err := s.Break(ctx, p.Pipeline, p.Incarnation, g); err != nil {
		return errors.Join(b, fmt.Errorf("the gap is not recorded, and is found again at the next start: %w", err))
	}
	return b
}

// lossOf is why err means lost changes, and the part of it that says so; "" if it does not.
func lossOf(err error) (state.Reason, error) {
	if lost, ok := errors.AsType[*changestream.LostError](err); ok {
		return state.Expired, lost
	}
	if gone, ok := errors.AsType[*changestream.GoneError](err); ok {
		if gone.Cause == changestream.StreamDropped || gone.Cause == changestream.DatabaseGone {
			return state.Dropped, gone
		}
		return state.Recreated, gone
	}
	if more, ok := errors.AsType[*changestream.PlacementError](err); ok {
		return state.Extended, more
	}
	if m, ok := errors.AsType[*state.MismatchError](err); ok && m.Field == "identity" {
		return state.Restored, m
	}
	return "", nil
}

// opened notes what the stored state says of the incarnation.
func (e *Engine) opened(snap state.Snapshot) {
	e.mu.Lock()
	e.pipeline = snap.Pipeline
	e.mu.Unlock()
	e.from = snap.Through() + 1
}

// recall finds out whether the incarnation is known to be broken. It is tried again all the same: who took the stream for
// dropped may have lacked a right, and a longer retention brings records back.
func (e *Engine) recall(ctx context.Context) error {
	h, err := e.opts.Store.History(ctx, e.opts.Config.Pipeline)
	if err != nil {
		return fmt.Errorf("pipeline %s: look for gaps: %w", e.opts.Config.Pipeline, err)
	}
	if e.gap = h.Current().Gap; e.gap != nil {
		e.log.Warn("this incarnation was found broken: trying once more", "reason", e.gap.Reason, "from", e.gap.From, "found", e.gap.Found, "detail", e.gap.Detail)
	}
	return nil
}

// mend takes the recorded gap back once everything has been read and stored past its beginning.
func (e *Engine) mend(ctx context.Context) {
	if w := e.graph.Watermark(); e.gap == nil || w < e.gap.From || w == change.MaxTimestamp {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, breakTimeout)
	defer cancel()
	if err := e.opts.Store.Mend(ctx, e.lease); err != nil {
		e.log.Warn("the recorded gap is none, but cannot be taken back yet", "error", err)
		return
	}
	e.log.Warn("the recorded gap is none: what was taken for lost has been read", "reason", e.gap.Reason, "from", e.gap.From)
	e.gap = nil
}

// renew says now and then that this worker lives. It stops a worker that has been fenced off and has nothing to store.
func (e *Engine) renew(ctx context.Context) {
	if time.Since(e.renewed) < state.RenewEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, breakTimeout)
	defer cancel()
	switch current, err := e.opts.Store.Renew(ctx, e.lease); {
	case err != nil:
		if ctx.Err() == nil {
			e.log.Warn("the worker's lease cannot be renewed, trying again", "error", err)
		}
	case !current:
		e.fenced(&FencedError{Worker: e.lease.Worker, Epoch: e.lease.Epoch, Partitions: e.Status().Partitions})
	default:
		e.renewed = time.Now()
	}
}

// fenced stops delivering: another worker owns the partitions (I4).
func (e *Engine) fenced(err *FencedError) {
	e.fail(err)
	e.stopHard(err)
}

// release says that this worker has stopped, after its last checkpoint. One that was killed says nothing.
func (e *Engine) release(ctx context.Context) {
	if cause := context.Cause(e.hard); e.lease.Epoch == 0 || cause != nil && !errors.Is(cause, errDrained) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakTimeout)
	defer cancel()
	if err := e.opts.Store.Release(ctx, e.lease); err != nil {
		e.log.Warn("the worker's lease cannot be given back: a restart of the pipeline waits until it counts as dead", "error", err)
	}
}

package state

import (
	"context"
	"fmt"
	"time"

	"github.com/spanledger/spanledger/change"
)

// Incarnations is the part of a Store that begins and ends a pipeline's incarnations, and tells their history.
type Incarnations interface {
	// Break records that an incarnation cannot go on: what comes after g.From can no longer be read. The first record of an
	// incarnation stays; later ones, and one about an incarnation that is over, change nothing. It needs no lease, for a
	// break may be found before one is taken.
	Break(ctx context.Context, pipeline string, incarnation int64, g Gap) error

	// Mend takes the current incarnation's open gap back: the holder of the lease has read past it after all. Without a
	// current lease (I4), or without an open gap, nothing changes.
	Mend(ctx context.Context, l Lease) error

	// Reopen ends the pipeline's current incarnation and opens the next, which reads what c says from c.Start on. In the
	// same transaction it closes the open gap, or records one where r says that something is lost, and fences every worker
	// by a new epoch (I4). Partitions and progress begin anew; segments and schema unions stay. It is an
	// *IncarnationError when r.Incarnation is not the current one.
	Reopen(ctx context.Context, c Config, r Restart) (Pipeline, error)

	// Renew says that the lease's worker is alive. It reports false when another worker, or another incarnation, has
	// fenced it off.
	Renew(ctx context.Context, l Lease) (current bool, err error)

	// Release says that the lease's worker has stopped: nobody need wait for it. A lease that is not current is left alone.
	Release(ctx context.Context, l Lease) error

	// History tells a pipeline's incarnations and who works on it.
	History(ctx context.Context, pipeline string) (History, error)

	// Pipelines lists the names of all pipelines in the store, in order.
	Pipelines(ctx context.Context) ([]string, error)
}

// Reason says why an incarnation ended, or why one was opened.
type Reason string

// The reasons.
const (
	// First: the pipeline is new. It is an incarnation's only.
	First Reason = "first"
	// Expired: the stream's retention period had passed before the changes were read.
	Expired Reason = "expired"
	// Dropped: the change stream is not there any more.
	Dropped Reason = "dropped"
	// Recreated: a change stream of the name is there, but not the one that was read.
	Recreated Reason = "recreated"
	// Extended: the change stream has got a placement that is not read.
	Extended Reason = "extended"
	// Restored: the database is not the one that was read, although it has its name.
	Restored Reason = "restored"
	// Restarted: the database is an emulator's that has lost its memory.
	Restarted Reason = "restarted"
	// Reconfigured: the filter, the columns or the source were changed.
	Reconfigured Reason = "reconfigured"
	// Requested: an operator wanted it.
	Requested Reason = "requested"
)

// Gap is a break between an incarnation and the next: a range of commit timestamps of which changes may be missing in
// every sink.
type Gap struct {
	Reason Reason
	// Detail is what was answered or found, for people.
	Detail string
	// From is the first commit timestamp of which a change may be missing.
	From change.Timestamp
	// To is the last one; 0 while it is not known, because no new incarnation has been opened. Below From nothing is missing.
	To change.Timestamp
	// Snapshot says that the next incarnation began with a snapshot: what is missing are versions of rows, not rows.
	Snapshot bool
	// Found is when the gap was recorded, Closed when the next incarnation was opened (zero before), by the store's clock.
	Found, Closed time.Time
}

// IsOpen reports whether no new incarnation has closed the gap yet.
func (g Gap) IsOpen() bool { return g.To == 0 }

// Restart says how a new incarnation follows the one before.
type Restart struct {
	// Incarnation is the one to end: what the operator saw when he decided.
	Incarnation int64
	// Reason and Detail say why, for the new incarnation and for a gap that was not recorded before.
	Reason Reason
	Detail string
	// Through is how far the one before came in every sink: from the next microsecond to the new start changes are lost.
	Through change.Timestamp
}

// IncarnationError says that a restart was decided on another incarnation than the current one.
type IncarnationError struct {
	Pipeline string
	// Decided is the incarnation that was to be ended, Current the one there is.
	Decided, Current int64
}

// Error says what happened.
func (e *IncarnationError) Error() string {
	return fmt.Sprintf("state: pipeline %s: its incarnation is %d, not %d: somebody else has opened one meanwhile; nothing was changed, look again",
		e.Pipeline, e.Current, e.Decided)
}

// History is what became of a pipeline.
type History struct {
	Pipeline string
	// Incarnations are in order, the current one last.
	Incarnations []Incarnation
	// Workers are those that have not said that they stopped.
	Workers []Worker
	// At is when this was read, by the store's clock.
	At time.Time
}

// Current is the incarnation there is.
func (h History) Current() *Incarnation { return &h.Incarnations[len(h.Incarnations)-1] }

// Incarnation is one incarnation of a pipeline.
type Incarnation struct {
	Config
	Number int64
	// Reason says why it was opened.
	Reason Reason
	// Opened is when, by the store's clock.
	Opened time.Time
	// Gap is the break that ended it, or that the next incarnation has to mend; nil for none.
	Gap *Gap
}

// Worker is a worker that holds a pipeline's lease.
type Worker struct {
	Name  string
	Epoch int64
	// Started is when it claimed the pipeline, Seen when it last renewed, by the store's clock.
	Started, Seen time.Time
}

// RenewEvery is how often a worker says that it lives, and WorkerSilence how long after the last word it still counts as
// alive.
const (
	RenewEvery    = 10 * time.Second
	WorkerSilence = 45 * time.Second
)

// Alive are the workers that were heard of lately.
func (h History) Alive() []Worker {
	var list []Worker
	for _, w := range h.Workers {
		if h.At.Sub(w.Seen) < WorkerSilence {
			list = append(list, w)
		}
	}
	return list
}

// Unfinished lists the tokens of the unfinished partitions.
func (s Snapshot) Unfinished() (tokens []string) {
	for _, p := range s.Partitions {
		if p.State != Finished {
			tokens = append(tokens, p.Token)
		}
	}
	return tokens
}

// Through is how far the pipeline is durable in every sink that has checkpoints: the least of them over the unfinished
// partitions. A partition without any counts as its start less 1 µs, an incarnation without partitions likewise.
func (s Snapshot) Through() change.Timestamp {
	least := change.MaxTimestamp
	lowest := map[string]change.Timestamp{}
	for _, p := range s.Progress {
		if t, ok := lowest[p.Token]; !ok || p.Through < t {
			lowest[p.Token] = p.Through
		}
	}
	for _, p := range s.Partitions {
		if p.State == Finished {
			continue
		}
		t, ok := lowest[p.Token]
		if !ok {
			t = p.Start - 1
		}
		least = min(least, t)
	}
	if least == change.MaxTimestamp {
		return s.Pipeline.Start - 1
	}
	return least
}

// check refuses a gap that cannot be stored.
func (g *Gap) check(pipeline string) error {
	if err := checkTime(g.From); err != nil {
		return fmt.Errorf("state: pipeline %s: gap: from: %w", pipeline, err)
	}
	return checkReason(pipeline, g.Reason)
}

func (r *Restart) check(c *Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Start <= 0 {
		return fmt.Errorf("state: pipeline %s: a new incarnation needs a start", c.Pipeline)
	}
	if err := checkTime(r.Through); err != nil {
		return fmt.Errorf("state: pipeline %s: restart: through: %w", c.Pipeline, err)
	}
	return checkReason(c.Pipeline, r.Reason)
}

func checkReason(pipeline string, r Reason) error {
	switch r {
	case Expired, Dropped, Recreated, Extended, Restored, Restarted, Reconfigured, Requested:
		return nil
	}
	return fmt.Errorf("state: pipeline %s: %q is no reason for the end of an incarnation", pipeline, r)
}

// after is what becomes of an incarnation's gap when the next one begins as next says: the open one is closed, and one that
// nobody has recorded is made where something is lost. It is nil for none.
func (r *Restart) after(open *Gap, next Config) *Gap {
	g := open
	switch {
	case g != nil:
	case next.Start-1 > r.Through:
		g = &Gap{Reason: r.Reason, Detail: r.Detail, From: r.Through + 1}
	default:
		return nil
	}
	closed := *g
	closed.To, closed.Snapshot = next.Start-1, next.Snapshot
	return &closed
}

package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spanledger/spanledger/ingest"
	"github.com/spanledger/spanledger/state"
)

// takeSnapshots has snapshots of the events table taken, one after another, until the function it answers is called: that waits for
// the one on the way and, if the load has ended well, takes one more, of all there is. Without DevOptions.Snapshot it does nothing.
func (d *dev) takeSnapshots(ctx context.Context) (finish func(loaded bool) error) {
	if !d.Snapshot {
		return func(bool) error { return nil }
	}
	enough, done := make(chan struct{}), make(chan error, 1)
	client, err := d.cloud.spannerClient(ctx, d.resources.StateDatabase)
	if err != nil {
		return func(bool) error { return err }
	}
	take := snapshotTaker{dev: d, store: state.NewSpanner(client, state.SpannerOptions{})}
	go func() {
		for {
			if err := take.one(ctx); err != nil {
				done <- err
				return
			}
			select {
			case <-enough:
				done <- nil
				return
			default:
			}
		}
	}()
	return func(loaded bool) error {
		defer client.Close()
		close(enough)
		err := <-done
		if err == nil && loaded {
			err = take.one(ctx)
		}
		if errors.Is(err, context.Cause(ctx)) && ctx.Err() != nil {
			return nil // the load says why
		}
		return err
	}
}

// snapshotTaker asks for snapshots as the command does.
type snapshotTaker struct {
	*dev
	store *state.Spanner
}

// one takes one snapshot and notes what became of it.
func (t snapshotTaker) one(ctx context.Context) error {
	asked, _, err := t.store.RequestSnapshot(ctx, "dev", state.TableSnapshot{Table: ingest.Table})
	if err != nil {
		return fmt.Errorf("ask for a snapshot: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, s := range t.pipeline.Status().Snapshots {
			if s.Number == asked.Number && !s.Unfinished() {
				t.summary.Snapshots = append(t.summary.Snapshots, snapshotResult("dev", s))
				if s.State == state.SnapshotFailed {
					return fmt.Errorf("the snapshot of table %s failed: %s", s.Table, s.Error)
				}
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

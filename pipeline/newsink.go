package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// listNewSinks gives every sink a row in every partition that has rows of others, before anything is read. A sink that lacks
// one is new, or came back after it had been taken out: it begins at the pipeline's watermark, in all partitions, and from then on
// its own rows say so (I2). The checkpoints themselves would not do (I1): a partition whose keys go to another at T may be stored
// through T - 1 µs when that one is stored behind T, which repeats changes to the sinks there are and would reorder them for
// this one. Old rows of one that came back are brought forward: the partitions that came and went meanwhile are lost to
// it, and what it took up before them would reach it behind their successors' changes (I1). It must not come back to an archive
// that it left: the gap would look like a whole one.
func (e *Engine) listNewSinks(ctx context.Context, snap state.Snapshot) error {
	missing := map[string]int{}
	begun := func(p state.Partition) []state.Progress {
		if p.State == state.Finished {
			return nil
		}
		return e.progress[p.Token] // none: nothing of it is durable anywhere, and all sinks begin at its start
	}
	for _, p := range snap.Partitions {
		rows := begun(p)
		for _, s := range e.sinks {
			if len(rows) > 0 && rowOf(rows, s.name) == nil {
				missing[s.name]++
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, s := range e.sinks {
		if missing[s.name] == 0 {
			continue
		}
		if err := e.refuseReturn(ctx, s.name); err != nil {
			return err
		}
		e.log.Warn("this sink is new to the pipeline, or was away: it begins where the pipeline is, and has nothing from before",
			"sink", s.name, "partitions", missing[s.name])
	}
	low := change.MaxTimestamp
	for _, p := range snap.Partitions {
		if p.State == state.Finished {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(begun(p)), func(r state.Progress) bool { return missing[r.Sink] > 0 })
		if len(others) == 0 {
			others = begun(p)
		}
		low = min(low, e.checkpointOf(others, p.Start-1))
	}
	var updates []state.Update
	for _, p := range snap.Partitions {
		rows := begun(p)
		if len(rows) == 0 {
			continue
		}
		at := max(low, p.Start-1)
		u := state.Update{Token: p.Token}
		for name := range missing {
			row := rowOf(rows, name)
			if row == nil {
				rows = append(rows, state.Progress{Token: p.Token, Sink: name})
				row = &rows[len(rows)-1]
			}
			if row.Through < at {
				row.Through = at
				u.Progress = append(u.Progress, state.Progress{Token: p.Token, Sink: name, Through: at})
			}
		}
		e.progress[p.Token] = rows
		if len(u.Progress) > 0 {
			updates = append(updates, u)
		}
	}
	if err := e.commit(ctx, updates); err != nil {
		return fmt.Errorf("pipeline %s: store where its new sinks begin: %w", e.opts.Config.Pipeline, err)
	}
	return nil
}

// rowOf is a sink's row, nil for none. It points into rows.
func rowOf(rows []state.Progress, sink string) *state.Progress {
	for i := range rows {
		if rows[i].Sink == sink {
			return &rows[i]
		}
	}
	return nil
}

// refuseReturn is an error if a sink without a checkpoint has written segments in this incarnation.
func (e *Engine) refuseReturn(ctx context.Context, sink string) error {
	var last change.Segment
	found := errors.New("found")
	err := e.opts.Store.Segments(ctx, e.opts.Config.Pipeline, sink, func(s change.Segment) error {
		last = s
		return found
	})
	switch {
	case errors.Is(err, found):
		return fmt.Errorf("pipeline %s: sink %s wrote an archive here (%s …), was taken out, and would come back with a gap that nothing "+
			"shows: nothing was read; give it another name and another place, and it begins there anew",
			e.opts.Config.Pipeline, sink, last.Name)
	case err != nil:
		return fmt.Errorf("pipeline %s: look for what sink %s has written: %w", e.opts.Config.Pipeline, sink, err)
	}
	return nil
}

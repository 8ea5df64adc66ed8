package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

// listNewSinks gives every sink a row in every partition that has rows of others, before anything is read. A sink without
// one is new, or came back after it had been taken out: it begins where the partition is read from, and from then on its own
// row says so (I2). It must not come back to an archive that it left: the gap would look like a whole one.
func (e *Engine) listNewSinks(ctx context.Context, snap state.Snapshot) error {
	var updates []state.Update
	missing := map[string]int{}
	for _, p := range snap.Partitions {
		rows := e.progress[p.Token]
		if p.State == state.Finished || len(rows) == 0 {
			continue // nothing of it is durable anywhere: all sinks begin at its start
		}
		u := state.Update{Token: p.Token}
		for _, s := range e.sinks {
			if !hasRow(rows, s.name) {
				u.Progress = append(u.Progress, state.Progress{Token: p.Token, Sink: s.name, Through: e.checkpoint(p.Partition)})
				missing[s.name]++
			}
		}
		if len(u.Progress) > 0 {
			updates = append(updates, u)
		}
	}
	if len(updates) == 0 {
		return nil
	}
	for _, s := range e.sinks {
		if missing[s.name] == 0 {
			continue
		}
		if err := e.refuseReturn(ctx, s.name); err != nil {
			return err
		}
		e.log.Warn("this sink is new to the pipeline: it begins where the pipeline is, and has nothing from before",
			"sink", s.name, "partitions", missing[s.name])
	}
	if err := e.commit(ctx, updates); err != nil {
		return fmt.Errorf("pipeline %s: store where its new sinks begin: %w", e.opts.Config.Pipeline, err)
	}
	for _, u := range updates {
		e.progress[u.Token] = append(e.progress[u.Token], u.Progress...)
	}
	return nil
}

func hasRow(rows []state.Progress, sink string) bool {
	for _, r := range rows {
		if r.Sink == sink {
			return true
		}
	}
	return false
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

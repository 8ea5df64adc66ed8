package pipeline

import (
	"context"
	"fmt"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// chainWriter appends to one chain, exactly once (I6). The destination refuses a second write at a place; whatever it
// answers, the chain goes on behind what it really holds.
type chainWriter struct {
	at    *progress
	chain change.Chain
	end   sinks.End
	// known is false while the end must be asked of the destination.
	known bool
}

func newChainWriter(at *progress, table string) *chainWriter {
	w := &chainWriter{at: at, chain: at.sink.engine.chain(at.partition.Token, table)}
	for _, e := range at.ends {
		if e.Table == table {
			w.end, w.known = sinks.End{Through: e.Through, State: e.State}, true
		}
	}
	// A partition discovered as a child by this very engine has empty chains. For every other one without a stored end the
	// destination is asked: the state may have been lost, or the checkpoint moved.
	w.known = w.known || !at.inherited
	return w
}

// append makes the changes durable behind the chain's end; it reports false when the engine stops first.
func (w *chainWriter) append(r *sinkRunner, changes []change.Change) bool {
	appender := r.sink.(sinks.Appender)
	if !w.known {
		ok := r.try(func(ctx context.Context) (err error) {
			w.end, err = appender.End(ctx, w.chain)
			return err
		}, changes)
		if !ok {
			return false
		}
		if !w.end.Through.IsZero() {
			w.at.appended(w.chain.Table, w.end) // its segments are listed again; those listed already stay as they are
		}
		w.end.Segments = nil
		w.known = true
	}
	for {
		for len(changes) > 0 && !changes[0].Position.After(w.end.Through) {
			changes = changes[1:] // there already: an attempt before a crash or a lost answer came this far
		}
		if len(changes) == 0 {
			return true
		}
		batch := &sinks.Batch{Chain: &w.chain, Changes: changes}
		var end sinks.End
		ok := r.try(func(ctx context.Context) (err error) {
			end, err = appender.Append(ctx, batch, w.end)
			return err
		}, changes)
		if !ok {
			return false
		}
		if !end.Through.After(w.end.Through) || len(end.State) > sinks.MaxState {
			r.engine.fail(fmt.Errorf("sink %s: appending to the chain of table %s in partition %s answered an end of %s (%d bytes of state) "+
				"after %s: this is a fault of the sink", r.name, w.chain.Table, shortToken(w.chain.Token), end.Through, len(end.State), w.end.Through))
			return false
		}
		w.at.appended(w.chain.Table, end)
		r.stats.wrote(end.Segments)
		end.Segments = nil
		w.end = end
	}
}

package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// A sink that was taken out and comes back lacks what the partitions held that have come and gone meanwhile, so it begins anew
// everywhere, where the pipeline is: its old checkpoints in partitions that live on would bring changes of before that behind
// later ones (I1), and would have the stream read from where it may have expired long ago.
func TestReturningSinkBeginsAnew(t *testing.T) {
	returned := 0
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := newDice(seed)
			w := newWorldOf(newMovingScript(rng, 150, 8), rng)
			run := func(both bool, calls int) {
				t.Helper()
				var e *Engine
				e = w.engine(t, func(o *Options) {
					o.CheckpointEvery = time.Millisecond
					spec := o.Sinks[1].Sink.Spec()
					stays := &stoppingWriter{Writer: memsink.NewWriter(memsink.Options{Destination: w.once, Spec: spec}), left: calls, stop: func() { e.stopSoft(errStopped) }}
					o.Sinks[0] = NamedSink{"stays", sinks.Writer(stays)}
					if !both {
						o.Sinks = o.Sinks[:1]
					}
				})
				must(t, e.Run(t.Context()))
			}
			progress := func() map[string]map[string]state.Progress {
				snap, err := w.store.Load(t.Context(), "test")
				must(t, err)
				rows := map[string]map[string]state.Progress{}
				for _, p := range snap.Partitions {
					if p.State != state.Finished {
						rows[p.Token] = map[string]state.Progress{}
					}
				}
				for _, p := range snap.Progress {
					if rows[p.Token] != nil {
						rows[p.Token][p.Sink] = p
					}
				}
				return rows
			}
			run(true, 10)
			run(false, 30)
			lacks, behind := false, false
			for _, rows := range progress() {
				_, has := rows["least"]
				lacks = lacks || !has && len(rows) > 0
				behind = behind || has && rows["least"].Through < rows["stays"].Through
			}
			joining := w.engine(t, func(o *Options) { o.Sinks[0].Name = "stays" })
			must(t, joining.load(t.Context()))
			joining.Kill()
			if lacks && behind {
				returned++
				snap, err := w.store.Load(t.Context(), "test")
				must(t, err)
				low := change.MaxTimestamp
				for _, p := range snap.Partitions {
					if p.State != state.Finished {
						low = min(low, max(p.Start-1, progress()[p.Token]["stays"].Through))
					}
				}
				for token, rows := range progress() {
					if r, ok := rows["least"]; ok && r.Through < low {
						t.Errorf("seed %d: it begins at %s in %s, where the pipeline is through %s", seed, r.Through, token, low)
					}
				}
			}
			run(true, -1)
			if err := w.least.CheckOrder(); err != nil {
				t.Errorf("seed %d: I1: %v", seed, err)
			}
			if n := w.once.Distinct(); n != w.script.changes {
				t.Errorf("seed %d: I2: the sink that stayed has %d of %d changes", seed, n, w.script.changes)
			}
		})
	}
	if returned < 3 {
		t.Errorf("only %d histories had a sink return", returned)
	}
}

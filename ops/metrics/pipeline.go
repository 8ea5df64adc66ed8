package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
)

// Pipeline is one pipeline's numbers. It is the engine's Observer.
type Pipeline struct {
	name             string
	engine           atomic.Pointer[Engine]
	readerRetries    *errorCounts
	checkpointErrors *errorCounts
	retention        atomic.Int64 // seconds, 0 if it is not known

	mu    sync.Mutex
	sinks map[string]*sink
}

var _ pipeline.Observer = (*Pipeline)(nil)

// sink is what is counted of a sink beside its Status.
type sink struct {
	errors *errorCounts
	bytes  atomic.Int64

	commitToDurable, delivery, batch *histogram
}

// Bounds of the histograms' buckets. A replay after an outage of hours must not fall in the last one.
var (
	commitToDurableBounds = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400}
	deliveryBounds        = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}
	batchBounds           = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000}
)

// Watch gives the pipeline its engine; until then it shows nothing.
func (p *Pipeline) Watch(e Engine) { p.engine.Store(&e) }

func (p *Pipeline) sink(name string) *sink {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sinks[name]
	if s == nil {
		s = &sink{
			errors:          newErrorCounts(),
			commitToDurable: newHistogram(commitToDurableBounds), delivery: newHistogram(deliveryBounds), batch: newHistogram(batchBounds),
		}
		p.sinks[name] = s
	}
	return s
}

// Delivered is the engine's.
func (p *Pipeline) Delivered(name string, changes []change.Change, took time.Duration) {
	s, now := p.sink(name), change.TimestampOf(time.Now())
	bytes := 0
	// Changes of one commit are neighbours and equally old: they are observed together.
	for i := 0; i < len(changes); {
		commit, n := changes[i].Position.Commit, 0
		for ; i < len(changes) && changes[i].Position.Commit == commit; i++ {
			bytes += changes[i].Size()
			n++
		}
		// Spanner's clock may be ahead of this machine's.
		s.commitToDurable.observe(float64(max(now-commit, 0))/1e6, n)
	}
	s.delivery.observe(took.Seconds(), 1)
	s.batch.observe(float64(len(changes)), 1)
	s.bytes.Add(int64(bytes))
}

// SinkFailed is the engine's.
func (p *Pipeline) SinkFailed(name string, err error) { p.sink(name).errors.add(err) }

// CheckpointFailed is the engine's.
func (p *Pipeline) CheckpointFailed(err error) { p.checkpointErrors.add(err) }

// ReaderRetried is the reader's: see changestream.Options.OnRetry.
func (p *Pipeline) ReaderRetried(_ string, _ int, err error) { p.readerRetries.add(err) }

// SetRetention says how long the change stream keeps its records, once that is known.
func (p *Pipeline) SetRetention(d time.Duration) { p.retention.Store(int64(d.Seconds())) }

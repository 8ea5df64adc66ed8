package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/api/option"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/ops/metrics"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/all"
	"github.com/spanledger/spanledger/state"
)

// PipelineConfig is one pipeline: a change stream and the sinks it feeds.
type PipelineConfig struct {
	// Name is the pipeline's name in the state.
	Name string
	// Database and Stream are what is read, StateDatabase is where the state is kept; full database names.
	Database, Stream, StateDatabase string
	// Start is where a new pipeline begins; zero is now. It has no effect on one that has begun.
	Start change.Timestamp
	// Heartbeat is how often idle partitions report, which bounds the delay of the last change before a pause; 0 means 1 s.
	Heartbeat time.Duration
	// BudgetBytes, CheckpointEvery and DrainTimeout are the engine's; 0 means its defaults.
	BudgetBytes     int
	CheckpointEvery time.Duration
	DrainTimeout    time.Duration
	Sinks           []SinkConfig
	// Metrics takes the pipeline's numbers; nil for none.
	Metrics *metrics.Pipeline
}

// SinkConfig is one sink of a pipeline.
type SinkConfig struct {
	// Name is the sink's name in the pipeline and in its state, Type its kind.
	Name, Type string
	// Options are the kind's options, a JSON object.
	Options json.RawMessage
}

// Pipeline is a configured pipeline, ready to run.
type Pipeline struct {
	*pipeline.Engine
	close []func() error
}

// Close releases the clients, after Run has returned.
func (p *Pipeline) Close() error {
	var errs []error
	for i := len(p.close) - 1; i >= 0; i-- {
		errs = append(errs, p.close[i]())
	}
	p.close = nil
	return errors.Join(errs...)
}

var registerSinks = sync.OnceFunc(all.Register)

// NewPipeline wires a pipeline: it connects to Spanner, and leaves the sinks to be opened when it runs.
func NewPipeline(ctx context.Context, e Endpoints, c PipelineConfig, log *slog.Logger) (_ *Pipeline, err error) {
	registerSinks()
	p := &Pipeline{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	source, err := parseDatabase(c.Database)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", c.Name, err)
	}
	if _, err := parseDatabase(c.StateDatabase); err != nil {
		return nil, fmt.Errorf("pipeline %s: state: %w", c.Name, err)
	}
	if c.Metrics == nil {
		c.Metrics = metrics.New().Pipeline(c.Name) // counts, and nobody looks
	}
	opts := pipeline.Options{
		Observer:    c.Metrics,
		BudgetBytes: c.BudgetBytes, CheckpointEvery: c.CheckpointEvery, DrainTimeout: c.DrainTimeout, Logger: log,
	}
	for _, s := range c.Sinks {
		sink, err := sinks.New(s.Type, s.Name, s.Options)
		if err != nil {
			return nil, fmt.Errorf("pipeline %s: %w", c.Name, err)
		}
		opts.Sinks = append(opts.Sinks, pipeline.NamedSink{Name: s.Name, Sink: sink})
	}
	identity, err := e.identity(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", c.Name, err)
	}
	start := c.Start
	if start == 0 {
		t, err := e.now(ctx, c.Database)
		if err != nil {
			return nil, fmt.Errorf("pipeline %s: %w", c.Name, err)
		}
		start = change.TimestampOf(t)
	}
	opts.Config = state.Config{
		Pipeline: c.Name, Database: c.Database, Stream: c.Stream, Identity: identity, Digest: digest(c), Start: start,
	}
	client, err := e.spannerClient(ctx, c.StateDatabase)
	if err != nil {
		return nil, err
	}
	p.close = append(p.close, func() error { client.Close(); return nil })
	opts.Store = state.NewSpanner(client, state.SpannerOptions{})
	opts.Source = func(ctx context.Context, snap state.Snapshot) (pipeline.Source, error) {
		r, err := changestream.New(ctx, changestream.Options{
			Database: c.Database, Stream: c.Stream, Heartbeat: c.Heartbeat, Tables: snap.Tables,
			ClientOptions: e.readerOptions(), RequestTag: "spanledger=" + c.Name, Logger: log, OnRetry: c.Metrics.ReaderRetried,
		})
		if err != nil {
			return nil, err
		}
		p.close = append(p.close, r.Close)
		retention, err := r.Info().RetentionPeriod()
		if err != nil {
			return nil, err
		}
		// Spanner has had defaults of one and of seven days: the shorter warns in time for both.
		c.Metrics.SetRetention(cmp.Or(retention, 24*time.Hour))
		return r, nil
	}
	if p.Engine, err = pipeline.New(opts); err != nil {
		return nil, err
	}
	c.Metrics.Watch(p.Engine)
	return p, nil
}

func (e Endpoints) readerOptions() []option.ClientOption { return plaintext(e.Spanner) }

// digest is over what decides which changes are delivered, and in what form of the order. Sinks may come and go; filters
// and dropped columns will be part of it.
func digest(c PipelineConfig) string {
	sum := sha256.Sum256([]byte("v1\x00" + c.Stream))
	return hex.EncodeToString(sum[:8])
}

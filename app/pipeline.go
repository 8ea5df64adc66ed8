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
	"os"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/ops/metrics"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/pipeline/filter"
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
	// Start is where a new pipeline begins; zero is now. Earliest begins where the change stream's memory does. Snapshot begins
	// now and takes the rows that the watched tables hold. None has an effect on a pipeline that has begun.
	Start              change.Timestamp
	Earliest, Snapshot bool
	// End is the last commit timestamp to deliver, inclusive; zero goes on for ever. It may be changed or left out later: the
	// pipeline goes on from where it ended.
	End change.Timestamp
	// Heartbeat is how often idle partitions report, which bounds the delay of the last change before a pause; 0 means 1 s.
	Heartbeat time.Duration
	// Reader is how Spanner is asked.
	Reader ReaderConfig
	// BudgetBytes, CheckpointEvery and DrainTimeout are the engine's; 0 means its defaults.
	BudgetBytes     int
	CheckpointEvery time.Duration
	DrainTimeout    time.Duration
	// Order is the order of delivery: "" or "key" keeps that of each key, "commit" the whole database's.
	Order pipeline.Order
	// Filter is what is delivered.
	Filter filter.Options
	Sinks  []SinkConfig
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
	// Config is what the pipeline was made of.
	Config PipelineConfig
	ddl    *ddlKeeper
	close  []func() error
}

// Run is the engine's, and stores the database's DDL in the archives meanwhile.
func (p *Pipeline) Run(ctx context.Context) error {
	keeping, stop := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		select {
		case <-p.Ready(): // the sinks are open
			p.ddl.run(keeping)
		case <-keeping.Done():
		}
	}()
	err := p.Engine.Run(ctx)
	stop()
	<-kept
	return err
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

// NewPipeline wires a pipeline: it connects to Spanner, and leaves the sinks to be opened when it runs. ctx must last as
// long as the pipeline: clients hold on to it.
func NewPipeline(ctx context.Context, e Endpoints, c PipelineConfig, log *slog.Logger) (_ *Pipeline, err error) {
	registerSinks()
	p := &Pipeline{Config: c}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("pipeline %s: %w", c.Name, err), p.Close())
		}
	}()
	source, err := parseDatabase(c.Database)
	if err != nil {
		return nil, err
	}
	if _, err := parseDatabase(c.StateDatabase); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if err := c.Order.Check(); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	if c.Metrics == nil {
		c.Metrics = metrics.New().Pipeline(c.Name) // counts, and nobody looks
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	opts := pipeline.Options{
		Worker:   fmt.Sprintf("%s-%d", host, os.Getpid()),
		Observer: c.Metrics, Order: c.Order, End: c.End,
		BudgetBytes: c.BudgetBytes, CheckpointEvery: c.CheckpointEvery, DrainTimeout: c.DrainTimeout, Logger: log,
	}
	passes, err := filter.New(c.Filter)
	if err != nil {
		return nil, err
	}
	if passes != nil {
		opts.Filter = passes
	}
	client, err := e.spannerClient(ctx, c.StateDatabase)
	if err != nil {
		return nil, err
	}
	p.close = append(p.close, func() error { client.Close(); return nil })
	store := state.NewSpanner(client, state.SpannerOptions{})
	opts.Store = store
	begun, err := stateCreated(ctx, client, c.StateDatabase, c.Name)
	if err != nil {
		return nil, err
	}
	if err := e.checkStream(ctx, c); err != nil {
		if !begun.IsZero() {
			err = e.lostBefore(ctx, store, c, err)
		}
		return nil, err
	}
	if err := e.checkOwnState(ctx, c, log); err != nil {
		return nil, err
	}
	if err := e.checkOwnState(ctx, c, log); err != nil {
		return nil, err
	}
	opts.Diagnose = e.diagnose
	if err := e.checkFilter(ctx, c, begun.IsZero(), log); err != nil {
		return nil, err
	}
	opts.Config = state.Config{Pipeline: c.Name, Database: c.Database, Stream: c.Stream, Digest: digest(c), Snapshot: c.Snapshot}
	if opts.Config.Identity, err = e.identity(ctx, source); err != nil {
		return nil, err
	}
	if opts.Config.Start, err = e.startOf(ctx, c, begun.IsZero(), log); err != nil {
		return nil, err
	}
	if begun.IsZero() && c.End != 0 && c.End < opts.Config.Start {
		return nil, fmt.Errorf("its end %s lies before its start %s: nothing would be read", c.End, opts.Config.Start)
	}
	if opts.Sinks, err = newSinks(ctx, c, opts.Config, store, client, begun); err != nil {
		return nil, err
	}
	var reader *changestream.Reader
	opts.Rows = func(context.Context) (pipeline.Rows, error) {
		rows, err := e.spannerClient(ctx, c.Database)
		if err != nil {
			return nil, err
		}
		p.close = append(p.close, func() error { rows.Close(); return nil })
		return snapshot.New(rows, reader, "spanledger="+c.Name), nil
	}
	p.ddl = newDDLKeeper(e, c, opts.Sinks, log)
	opts.Source = func(ctx context.Context, snap state.Snapshot) (pipeline.Source, error) {
		o := c.readerOptions(e, log)
		o.End, o.Tables, o.OnRetry, o.OnTable, o.Budget = c.End, snap.Tables, c.Metrics.ReaderRetried, p.ddl.tableChanged, p.Engine.Budget()
		o.Open = snap.Unfinished()
		r, err := changestream.New(ctx, o)
		if err != nil {
			return nil, err
		}
		p.close, reader = append(p.close, r.Close), r
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

// newSinks makes the sinks, with what they need to know of the pipeline filled in.
func newSinks(ctx context.Context, c PipelineConfig, stored state.Config, store state.Store, client *spanner.Client, begun time.Time) ([]pipeline.NamedSink, error) {
	identity := stored.Identity
	if identity == "" && slices.ContainsFunc(c.Sinks, needsIdentity) {
		// The server does not say when it made the database, as Google's emulator does not. The pipeline's own row, which is
		// made once and lost with the emulator, then tells this life of the database from another.
		if begun.IsZero() {
			if _, err := store.Open(ctx, stored); err != nil {
				return nil, fmt.Errorf("open its state: %w", err)
			}
			var err error
			if begun, err = stateCreated(ctx, client, c.StateDatabase, c.Name); err != nil {
				return nil, err
			}
		}
		identity = "pipeline " + begun.Format(time.RFC3339Nano)
	}
	var list []pipeline.NamedSink
	for _, s := range c.Sinks {
		options, err := fillOptions(s, c, identity)
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", s.Name, err)
		}
		sink, err := sinks.New(s.Type, s.Name, options)
		if err != nil {
			return nil, err
		}
		list = append(list, pipeline.NamedSink{Name: s.Name, Sink: sink})
	}
	return list, nil
}

func needsIdentity(s SinkConfig) bool {
	var given struct {
		Identity string `json:"identity"`
	}
	_ = json.Unmarshal(s.Options, &given) // the sink itself refuses what is not an object
	return given.Identity == "" && hasOption(s.Type, "identity")
}

func hasOption(typeName, option string) bool {
	for _, t := range sinks.Types() {
		if t.Name == typeName {
			return slices.ContainsFunc(t.Options, func(o sinks.Option) bool { return o.Name == option })
		}
	}
	return false
}

// fillOptions adds to a sink's options those that the pipeline knows, where the sink has them and they were not given:
// database, stream, identity and pipeline.
func fillOptions(s SinkConfig, c PipelineConfig, identity string) (json.RawMessage, error) {
	given := map[string]json.RawMessage{}
	if len(s.Options) > 0 {
		if err := json.Unmarshal(s.Options, &given); err != nil {
			return nil, fmt.Errorf("options: %w", err)
		}
	}
	for name, value := range map[string]string{"database": c.Database, "stream": c.Stream, "identity": identity, "pipeline": c.Name} {
		if _, ok := given[name]; !ok && value != "" && hasOption(s.Type, name) && hasOption(s.Type, "identity") {
			b, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			given[name] = b
		}
	}
	return json.Marshal(given)
}

// digest is over what decides which changes are delivered, and what of them: the stream, the filter and the dropped
// columns. Sinks may come and go.
func digest(c PipelineConfig) string {
	sum := sha256.Sum256([]byte("v1\x00" + c.Stream + "\x00" + c.Filter.Canonical()))
	return hex.EncodeToString(sum[:8])
}

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/state"
)

// SnapshotOptions are the options of `spanledger snapshot`.
type SnapshotOptions struct {
	Config *Config
	// Pipeline is the pipeline's name; "" means the only one of the configuration.
	Pipeline string
	// Table is the table to take, From and To its bounds: the first key and the one behind the last, a JSON array with the
	// values of the first columns of the primary key, or the bare value of its first; "" for none.
	Table, From, To string
	// Wait waits until the rows are durable in every sink.
	Wait bool
	// Poll is how often Wait looks; 0 means a second.
	Poll time.Duration
	// Out is where people read of the progress.
	Out    io.Writer
	Logger *slog.Logger
}

// SnapshotResult is a snapshot as `spanledger snapshot` shows it.
type SnapshotResult struct {
	Pipeline string `json:"pipeline"`
	Number   int64  `json:"number"`
	Table    string `json:"table"`
	From     string `json:"from,omitempty"`
	To       string `json:"to,omitempty"`
	// State is waiting, running, done or failed.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Rows were handed to the sinks, Dropped were left out because newer changes were on their way; Total is what the table
	// had at the start, 0 if it was not counted. Anew counts the chunks that were read a second time at a later timestamp.
	Rows    int64 `json:"rows"`
	Dropped int64 `json:"rows_dropped"`
	Total   int64 `json:"rows_total,omitempty"`
	Anew    int64 `json:"chunks_anew,omitempty"`
	// Requested and Changed are by the clock of the metadata database.
	Requested time.Time `json:"requested"`
	Changed   time.Time `json:"changed"`
	// New says that this call asked for it: it was not being taken already.
	New bool `json:"new,omitempty"`
}

func snapshotResult(pipeline string, s state.TableSnapshot) SnapshotResult {
	return SnapshotResult{
		Pipeline: pipeline, Number: s.Number, Table: s.Table, From: s.From, To: s.To, State: string(s.State), Error: s.Error,
		Rows: s.Rows, Dropped: s.Dropped, Total: s.Total, Anew: s.Anew, Requested: s.Requested, Changed: s.Changed,
	}
}

// String is one line for people.
func (r SnapshotResult) String() string {
	text := fmt.Sprintf("%d  %-8s %s", r.Number, r.State, r.Table)
	if r.From != "" {
		text += " from " + r.From
	}
	if r.To != "" {
		text += " to " + r.To
	}
	s := state.TableSnapshot{State: state.SnapshotState(r.State), Rows: r.Rows, Dropped: r.Dropped, Total: r.Total}
	if p, ok := s.Percent(); ok {
		text += fmt.Sprintf("  %.1f %%", p)
	}
	text += fmt.Sprintf("  %d rows", r.Rows)
	if r.Dropped > 0 {
		text += fmt.Sprintf(", %d changed meanwhile and come by the stream", r.Dropped)
	}
	if r.Error != "" {
		text += ": " + r.Error
	}
	return text
}

// pipelineOrOnly finds a pipeline by its name, or the only one.
func (c *Config) pipelineOrOnly(name string) (PipelineConfig, error) {
	if name == "" && len(c.Pipelines) == 1 {
		return c.Pipelines[0], nil
	}
	if name == "" {
		var have []string
		for _, p := range c.Pipelines {
			have = append(have, p.Name)
		}
		return PipelineConfig{}, fmt.Errorf("the file has %d pipelines, name one with --pipeline: %v", len(have), have)
	}
	return c.Pipeline(name)
}

// snapshots is what the commands about snapshots work with.
type snapshots struct {
	SnapshotOptions
	endpoints Endpoints
	pipeline  PipelineConfig
	store     *state.Spanner
}

func openSnapshots(ctx context.Context, o SnapshotOptions) (*snapshots, func(), error) {
	c, err := o.Config.pipelineOrOnly(o.Pipeline)
	if err != nil {
		return nil, nil, err
	}
	s := &snapshots{SnapshotOptions: o, endpoints: EndpointsFromEnv(), pipeline: c}
	client, err := s.endpoints.spannerClient(ctx, c.StateDatabase)
	if err != nil {
		return nil, nil, err
	}
	s.store = state.NewSpanner(client, state.SpannerOptions{})
	return s, client.Close, nil
}

// Snapshot asks for a snapshot of a table, which the pipeline's worker takes beside the stream, and waits for it if so
// wanted. Asking for one that is not done yet is harmless. A wait whose context ends leaves the worker at it.
func Snapshot(ctx context.Context, o SnapshotOptions) (SnapshotResult, error) {
	s, done, err := openSnapshots(ctx, o)
	if err != nil {
		return SnapshotResult{}, err
	}
	defer done()
	from, to, err := s.bounds(ctx)
	if err != nil {
		return SnapshotResult{}, fmt.Errorf("pipeline %s: %w", s.pipeline.Name, err)
	}
	got, isNew, err := s.store.RequestSnapshot(ctx, s.pipeline.Name, state.TableSnapshot{Table: o.Table, From: from, To: to})
	if err != nil {
		return SnapshotResult{}, s.explain(err)
	}
	result := snapshotResult(s.pipeline.Name, got)
	if result.New = isNew; o.Wait {
		return s.wait(ctx, result)
	}
	return result, nil
}

// bounds checks the table and its bounds against the database.
func (s *snapshots) bounds(ctx context.Context) (from, to string, err error) {
	stream, err := changestream.New(ctx, s.pipeline.readerOptions(s.endpoints, s.Logger))
	if err != nil {
		return "", "", err
	}
	defer stream.Close()
	client, err := s.endpoints.spannerClient(ctx, s.pipeline.Database)
	if err != nil {
		return "", "", err
	}
	defer client.Close()
	return snapshot.New(client, stream, "").Bounds(ctx, s.Table, s.From, s.To)
}

func (s *snapshots) explain(err error) error {
	if errors.Is(err, state.ErrNoPipeline) {
		return fmt.Errorf("%w: a snapshot is taken beside a running stream: start the pipeline first, with start: snapshot for one of everything", err)
	}
	return err
}

// wait shows the progress until the snapshot has ended.
func (s *snapshots) wait(ctx context.Context, r SnapshotResult) (SnapshotResult, error) {
	poll := s.Poll
	if poll == 0 {
		poll = time.Second
	}
	last := ""
	for {
		if text := r.String(); text != last {
			fmt.Fprintln(s.Out, text)
			last = text
		}
		switch state.SnapshotState(r.State) {
		case state.SnapshotDone:
			if r.Rows+r.Dropped == 0 && (r.From != "" || r.To != "") {
				fmt.Fprintln(s.Out, "the range held no rows: --from is the first key and --to the one behind the last, in the order of the primary key")
			}
			return r, nil
		case state.SnapshotFailed:
			return r, fmt.Errorf("the snapshot of table %s failed: %s", r.Table, r.Error)
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("%w: the pipeline goes on taking the snapshot; 'spanledger snapshot --list' shows how far it is", ErrInterrupted)
		case <-time.After(poll):
		}
		list, err := s.store.Snapshots(ctx, s.pipeline.Name, false)
		if err != nil {
			return r, err
		}
		isNew, found := r.New, false
		for _, t := range list {
			if t.Number == r.Number {
				r, found = snapshotResult(s.pipeline.Name, t), true
				r.New = isNew
			}
		}
		if !found {
			return r, fmt.Errorf("the snapshot of table %s is gone: a new incarnation of pipeline %s has begun", r.Table, r.Pipeline)
		}
	}
}

// Snapshots lists the snapshots of the pipeline's current incarnation, by number.
func Snapshots(ctx context.Context, o SnapshotOptions) ([]SnapshotResult, error) {
	s, done, err := openSnapshots(ctx, o)
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := s.store.Snapshots(ctx, s.pipeline.Name, false)
	if err != nil {
		return nil, s.explain(err)
	}
	results := []SnapshotResult{}
	for _, t := range list {
		results = append(results, snapshotResult(s.pipeline.Name, t))
	}
	return results, nil
}

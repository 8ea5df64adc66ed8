package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/state"
)

// RestartOptions are the options of `spanledger pipeline restart`.
type RestartOptions struct {
	Config *Config
	// Pipeline names the one to restart.
	Pipeline string
	// From is where the new incarnation begins.
	From When
	// Fence takes the pipeline away from workers that are alive; without it they are an error.
	Fence bool
	// Confirm is shown what would happen, and says whether it shall; nil means yes.
	Confirm func(*RestartPlan) (bool, error)
	Logger  *slog.Logger
}

// RestartPlan is what a restart does.
type RestartPlan struct {
	Pipeline string `json:"pipeline"`
	// Ends is the incarnation that ends, Begins the one that begins.
	Ends   int64 `json:"ends"`
	Begins int64 `json:"begins"`
	// Reason says why, Detail what was found.
	Reason state.Reason `json:"reason"`
	Detail string       `json:"detail,omitempty"`
	// Through is how far every sink has everything, Start where the new incarnation begins.
	Through change.Timestamp `json:"through"`
	Start   change.Timestamp `json:"start"`
	// Lost are the commit timestamps of which changes may be missing, Repeated those delivered once more; nil for none.
	Lost     *TimeRange `json:"lost,omitempty"`
	Repeated *TimeRange `json:"repeated,omitempty"`
	// Changes are what the configuration says otherwise than before.
	Changes []string `json:"changes,omitempty"`
	// Notes are what else there is to know.
	Notes []string `json:"notes,omitempty"`
	// Fenced are workers alive, which the restart ends.
	Fenced []string `json:"fenced,omitempty"`
	// Done says that it has been carried out.
	Done bool `json:"done"`

	stored state.Config
}

// TimeRange is a range of commit timestamps, both ends included.
type TimeRange struct {
	From change.Timestamp `json:"from"`
	To   change.Timestamp `json:"to"`
}

func (r TimeRange) String() string {
	return fmt.Sprintf("%s to %s (%s)", r.From, r.To, r.To.Time().Sub(r.From.Time()).Round(time.Millisecond))
}

// String is the plan for people.
func (p *RestartPlan) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "pipeline %s: incarnation %d ends, %d begins\n", p.Pipeline, p.Ends, p.Begins)
	line("why", "%s", p.Reason)
	if p.Detail != "" {
		line("", "%s", p.Detail)
	}
	for _, c := range p.Changes {
		line("changed", "%s", c)
	}
	line("stored", "everything through %s is in every sink", p.Through)
	line("start", "%s", p.Start)
	switch {
	case p.Lost != nil && p.stored.Snapshot:
		line("LOST", "what was committed from %s: the snapshot brings the rows there are then, but no deletion and no version of between", p.Lost)
	case p.Lost != nil:
		line("LOST", "what was committed from %s is delivered to no sink", p.Lost)
	default:
		line("lost", "nothing")
	}
	if p.Repeated != nil {
		line("repeated", "what was committed from %s is delivered once more, by an archive kept in chains of their own", p.Repeated)
	} else {
		line("repeated", "nothing but what some sinks have ahead of the others")
	}
	for _, n := range p.Notes {
		line("note", "%s", n)
	}
	for _, w := range p.Fenced {
		line("FENCED", "worker %s is alive and stores nothing more from then on; what it still delivers, the new one repeats", w)
	}
	return b.String()
}

// ErrAlive says that a worker runs the pipeline that was to be restarted.
var ErrAlive = errors.New("the pipeline is running")

// Restart ends a pipeline's incarnation and opens the next, after showing what that loses and repeats. The plan is not nil
// once it was made; Done says whether it was carried out, which it is not if Confirm says no.
func Restart(ctx context.Context, o RestartOptions) (*RestartPlan, error) {
	c, err := o.Config.Pipeline(o.Pipeline)
	if err != nil {
		return nil, err
	}
	e := EndpointsFromEnv()
	client, store, err := e.stateStore(ctx, c.StateDatabase)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	p, err := e.planRestart(ctx, store, c, o)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", c.Name, err)
	}
	if len(p.Fenced) > 0 && !o.Fence {
		return p, fmt.Errorf("%w: worker %s was heard of within the last %s: stop it first, or take the pipeline away from it with --fence",
			ErrAlive, strings.Join(p.Fenced, ", "), state.WorkerSilence)
	}
	if o.Confirm != nil {
		if ok, err := o.Confirm(p); err != nil || !ok {
			return p, err
		}
	}
	_, err = store.Reopen(ctx, p.stored, state.Restart{
		Incarnation: p.Ends, Reason: p.Reason, Detail: p.Detail, Through: p.Through,
	})
	p.Done = err == nil
	return p, err
}

// planRestart finds out what a restart does, and changes nothing.
func (e Endpoints) planRestart(ctx context.Context, store state.Store, c PipelineConfig, o RestartOptions) (*RestartPlan, error) {
	h, err := store.History(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	snap, err := store.Load(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	p := &RestartPlan{Pipeline: c.Name, Ends: snap.Pipeline.Incarnation, Begins: snap.Pipeline.Incarnation + 1, Reason: state.Requested, Through: snap.Through()}
	for _, w := range h.Alive() {
		p.Fenced = append(p.Fenced, w.Name)
	}
	if err := e.checkStream(ctx, c); err != nil {
		return nil, err
	}
	n, err := parseDatabase(c.Database)
	if err != nil {
		return nil, err
	}
	p.stored = state.Config{Pipeline: c.Name, Database: c.Database, Stream: c.Stream, Digest: digest(c), Snapshot: o.From.kind == "snapshot"}
	if p.stored.Identity, err = e.identity(ctx, n); err != nil {
		return nil, err
	}
	if err := e.startRestart(ctx, p, c, o); err != nil {
		return nil, err
	}
	p.compare(snap.Pipeline.Config, p.stored)
	switch gap := h.Current().Gap; {
	case gap != nil:
		p.Reason, p.Detail = gap.Reason, gap.Detail
		p.Through = min(p.Through, gap.From-1)
	case snap.Pipeline.Identity != p.stored.Identity && snap.Pipeline.Database == c.Database:
		p.Reason = e.diagnose(ctx, state.Restored, snap.Pipeline)
	case len(p.Changes) > 0:
		p.Reason = state.Reconfigured
	}
	if p.Reason == state.Restored || p.Reason == state.Restarted {
		p.Notes = append(p.Notes, "the database is another one than before: an archive of the one before refuses it, so give archive sinks a new prefix")
	}
	if p.Start > p.Through+1 {
		p.Lost = &TimeRange{p.Through + 1, p.Start - 1}
	}
	if p.Start <= p.Through {
		p.Repeated = &TimeRange{p.Start, p.Through}
	}
	return p, nil
}

// startRestart finds where the new incarnation begins, and whether the stream can be read from there.
func (e Endpoints) startRestart(ctx context.Context, p *RestartPlan, c PipelineConfig, o RestartOptions) error {
	r, err := changestream.New(ctx, c.readerOptions(e, o.Logger))
	if err != nil {
		return err
	}
	defer r.Close()
	now, err := r.Now(ctx)
	if err != nil {
		return err
	}
	p.Start, err = o.From.resolve(now, func() (change.Timestamp, error) { return r.Earliest(ctx) })
	if err != nil {
		return fmt.Errorf("find the earliest timestamp of change stream %s: %w", c.Stream, err)
	}
	p.stored.Start = p.Start
	return readableFrom(ctx, r, p.Start, now)
}

// readableFrom is an error if a stream cannot be read from start.
func readableFrom(ctx context.Context, r *changestream.Reader, start, now change.Timestamp) error {
	if start > now {
		return fmt.Errorf("%s lies in the future: it is %s by the database's clock", start, now)
	}
	_, err := r.Partitions(ctx, start)
	if _, lost := errors.AsType[*changestream.LostError](err); !lost {
		return err
	}
	earliest, eerr := r.Earliest(ctx)
	if eerr != nil {
		return errors.Join(err, eerr)
	}
	return fmt.Errorf("%s is too early: change stream %s can be read from %s on, its creation or the end of its retention", start, r.Info().Stream, earliest)
}

// compare notes what the configuration says otherwise than before.
func (p *RestartPlan) compare(before, after state.Config) {
	for _, f := range []struct{ name, before, after string }{
		{"the database", before.Database, after.Database}, {"the change stream", before.Stream, after.Stream},
	} {
		if f.before != f.after {
			p.Changes = append(p.Changes, fmt.Sprintf("%s: %s, was %s", f.name, f.after, f.before))
		}
	}
	if before.Digest != after.Digest && before.Stream == after.Stream {
		p.Changes = append(p.Changes, "the filter or the dropped columns")
	}
}

// stateStore connects to a state database.
func (e Endpoints) stateStore(ctx context.Context, database string) (*spanner.Client, *state.Spanner, error) {
	client, err := e.spannerClient(ctx, database)
	if err != nil {
		return nil, nil, err
	}
	return client, state.NewSpanner(client, state.SpannerOptions{}), nil
}

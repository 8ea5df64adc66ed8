package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spanledger/spanledger/ops/metrics"
)

// RunOptions are the options of `spanledger run`.
type RunOptions struct {
	Config *Config
	// Pipelines are the names of those to run; none means all.
	Pipelines []string
	// StartTimeout bounds how long connecting to Spanner may take at start; 0 means a minute. Opening each sink has the
	// engine's bound, a minute as well.
	StartTimeout time.Duration
	// Out is where people read what runs.
	Out    io.Writer
	Logger *slog.Logger
}

var errStartTimeout = errors.New("the time for the start is over")

// Run runs the pipelines of a configuration until ctx ends, and then lets what was read become durable. A pipeline with an
// end stops there by itself, and Run returns once all have. What cannot be reached at start is an error within StartTimeout;
// what is lost later is tried again for ever. If one pipeline fails for good the others are drained and the error is returned:
// a supervisor that starts the process again starts all of them.
func Run(ctx context.Context, o RunOptions) (err error) {
	if o.StartTimeout == 0 {
		o.StartTimeout = time.Minute
	}
	configs := o.Config.Pipelines
	if len(o.Pipelines) > 0 {
		configs = nil
		for _, name := range o.Pipelines {
			c, err := o.Config.Pipeline(name)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(configs, func(other PipelineConfig) bool { return other.Name == name }) {
				return fmt.Errorf("pipeline %s is named twice: the second would take the first one's partitions away", name)
			}
			configs = append(configs, c)
		}
	}
	e := EndpointsFromEnv()
	if text := e.String(); text != "" {
		fmt.Fprintf(o.Out, "emulators, not Google Cloud: %s\n", text)
	}
	var pipelines []*Pipeline
	defer func() {
		for _, p := range pipelines {
			err = errors.Join(err, p.Close())
		}
	}()
	numbers := metrics.New()
	for _, c := range configs {
		c.Metrics = numbers.Pipeline(c.Name)
		p, err := start(ctx, e, c, o)
		if err != nil {
			return err
		}
		pipelines = append(pipelines, p)
		fmt.Fprintf(o.Out, "pipeline %s: change stream %s of %s → %s\n", c.Name, c.Stream, c.Database, sinkList(c))
	}
	if addr := o.Config.Admin.Listen; addr != "" {
		server, err := startAdmin(adminOptions{addr: addr}, numbers, o.Logger, pipelines...)
		if err != nil {
			return err
		}
		defer stopAdmin(server, o.Logger) // it answers until everything has drained
		fmt.Fprintf(o.Out, "admin: http://%s (/metrics /readyz /status.json)\n", server.Addr())
	}
	return runAll(ctx, pipelines, o)
}

// start wires a pipeline within the time there is. Its clients hold on to the context, which therefore lives on.
func start(ctx context.Context, e Endpoints, c PipelineConfig, o RunOptions) (*Pipeline, error) {
	starting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	late := time.AfterFunc(o.StartTimeout, func() { cancel(errStartTimeout) })
	defer late.Stop()
	p, err := NewPipeline(starting, e, c, o.Logger)
	if err == nil {
		p.close = append([]func() error{func() error { cancel(nil); return nil }}, p.close...)
		return p, nil
	}
	defer cancel(nil)
	if errors.Is(context.Cause(starting), errStartTimeout) {
		at := "Cloud Spanner"
		if e.Spanner != "" {
			at = "the Spanner emulator at " + e.Spanner
		}
		return nil, fmt.Errorf("%s did not answer within %s: is it running, and reachable from here? (--start-timeout waits longer): %w", at, o.StartTimeout, err)
	}
	return nil, err
}

// runAll runs pipelines until ctx ends or one fails, and returns when all have stopped.
func runAll(ctx context.Context, pipelines []*Pipeline, o RunOptions) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	said := make(chan struct{})
	unsaid := context.AfterFunc(ctx, func() {
		defer close(said)
		fmt.Fprintln(o.Out, "stopping: what was read becomes durable first; a second signal ends at once")
	})
	defer func() {
		if !unsaid() {
			<-said // Out is the caller's again
		}
	}()
	results := make(chan error, len(pipelines))
	for _, p := range pipelines {
		go func() {
			err := p.Run(running)
			if err == nil && running.Err() == nil && p.Config.End != 0 && p.Status().Watermark >= p.Config.End-1 {
				o.Logger.Info("everything through the pipeline's end is delivered", "pipeline", p.Config.Name, "end", p.Config.End)
				results <- nil
				return
			}
			if err == nil && running.Err() == nil {
				err = errors.New("every partition of the change stream has ended: was it dropped?")
			}
			if err != nil {
				if named := "pipeline " + p.Config.Name + ": "; !strings.HasPrefix(err.Error(), named) { // the engine's do
					err = fmt.Errorf("%s%w", named, err)
				}
				o.Logger.Error("pipeline failed", "pipeline", p.Config.Name, "error", err)
				stop()
			}
			results <- err
		}()
	}
	var errs []error
	for range pipelines {
		if err := <-results; err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func sinkList(c PipelineConfig) string {
	var list []string
	for _, s := range c.Sinks {
		list = append(list, fmt.Sprintf("%s (%s)", s.Name, s.Type))
	}
	return strings.Join(list, ", ")
}

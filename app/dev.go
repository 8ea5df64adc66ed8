package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spanledger/spanledger/examples/earthquakes"
	"github.com/spanledger/spanledger/ingest"
)

// DevOptions are the options of `spanledger dev`.
type DevOptions struct {
	// Ingest are the files to load; none, with an empty Map, loads the earthquakes that come with the program.
	Ingest []string
	// Map is the jq map for all files.
	Map string
	// Reject is the file rejected records are written to; "" for none.
	Reject string
	// ExitWhenIdle ends the run once every sink's checkpoint has reached the last append's commit timestamp. Otherwise it
	// waits for the context.
	ExitWhenIdle bool
	// DataDir keeps the objects as plain files under DataDir/storage; "" keeps them in memory.
	DataDir string
	// Official uses Google's own Spanner and Pub/Sub emulators.
	Official bool
	// Out is where people read: progress and the live table. IsTerminal says that it can be redrawn.
	Out        io.Writer
	IsTerminal bool
	Logger     *slog.Logger
}

// The names of what dev makes.
const (
	devProject  = "spanledger-dev"
	devDatabase = "projects/spanledger-dev/instances/dev/databases/ledger"
	devState    = "projects/spanledger-dev/instances/dev/databases/spanledger"
	devStream   = "changes"
	devTopic    = "changes"
	devBucket   = "archive"
	devCheckSub = "check"
	devPipeline = "dev"
)

// Dev runs the whole system in one process: the embedded cloud, the event store, a pipeline into the archive and Pub/Sub,
// and at the end an independent check of both. It returns what it found also when it returns an error; the error says
// what went wrong first.
func Dev(ctx context.Context, o DevOptions) (*DevSummary, error) {
	d := &dev{DevOptions: o, summary: &DevSummary{Official: o.Official}, began: time.Now()}
	defer d.close()
	err := d.run(ctx)
	if ctx.Err() != nil {
		d.summary.Interrupted = true
	}
	d.summary.Seconds = time.Since(d.began).Seconds()
	if err == nil {
		err = d.summary.Err()
	}
	return d.summary, err
}

type dev struct {
	DevOptions
	summary  *DevSummary
	began    time.Time
	cloud    *Cloud
	dir      *dataDir
	archive  string // the archive's prefix in the bucket
	pipeline *Pipeline
	start    time.Time // where the pipeline begins
}

func (d *dev) close() {
	if d.pipeline != nil {
		if err := d.pipeline.Close(); err != nil {
			d.Logger.Warn("closing the pipeline's clients", "error", err)
		}
	}
	if d.cloud != nil {
		if err := d.cloud.Close(); err != nil {
			d.Logger.Warn("stopping the embedded cloud", "error", err)
		}
	}
	d.dir.close()
}

func (d *dev) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

func (d *dev) run(ctx context.Context) (err error) {
	if d.dir, err = openDataDir(d.DataDir); err != nil {
		return err
	}
	if d.cloud, err = StartCloud(ctx, CloudOptions{Official: d.Official, StorageDir: d.dir.storage()}); err != nil {
		return err
	}
	if err := d.setup(ctx); err != nil {
		return err
	}
	engine := make(chan error, 1)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() { engine <- d.pipeline.Run(running) }()

	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() { // a dead pipeline ends the load as well
		defer close(watched)
		select {
		case err := <-engine:
			engine <- err
			cancel(fmt.Errorf("the pipeline ended early: %w", errors.Join(err, errEngineEnded)))
		case <-work.Done():
		}
	}()
	loadErr := d.load(work)
	if loadErr == nil {
		loadErr = d.wait(work)
	}
	cancel(nil)
	<-watched
	d.summary.ChangesRead = d.pipeline.Status().Read
	stop()
	engineErr := <-engine
	if engineErr != nil {
		return engineErr
	}
	if loadErr != nil && ctx.Err() == nil {
		return loadErr
	}
	if ctx.Err() != nil {
		d.say("stopped: what was read is delivered; checking what the sinks hold")
	}
	checking, cancelCheck := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancelCheck()
	return d.check(checking)
}

var errEngineEnded = errors.New("nothing reads the change stream any more")

// load appends the events.
func (d *dev) load(ctx context.Context) error {
	client, err := d.cloud.spannerClient(ctx, devDatabase)
	if err != nil {
		return err
	}
	defer client.Close()
	opts := ingest.LoadOptions{Map: d.Map, Reject: d.Reject, IsTerminal: d.IsTerminal, Progress: d.Out}
	files := d.Ingest
	if len(files) == 0 {
		doc, err := earthquakes.Open()
		if err != nil {
			return err
		}
		defer doc.Close()
		files, opts.Stdin, opts.Source, opts.Format = []string{"-"}, doc, earthquakes.Name, ingest.FormatJSON
		if opts.Map == "" {
			opts.Map = earthquakes.Map
		}
	}
	storeOptions := ingest.Options{}
	if d.Official {
		storeOptions.MaxTransactions = 1
	}
	sum, err := ingest.Load(ctx, ingest.New(client, storeOptions), files, opts)
	d.summary.Ingested, d.summary.AlreadyThere, d.summary.Rejected = sum.Ingested, sum.AlreadyThere, sum.Rejected
	d.summary.Rejects = sum.Examples
	d.summary.lastCommit = sum.LastCommit
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// wait waits until every sink has everything, or for the end of the context where the run is to go on.
func (d *dev) wait(ctx context.Context) error {
	table := newLiveTable(d.Out, d.IsTerminal, d.pipeline)
	defer table.done()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; {
		table.show()
		if !d.pipeline.Status().Watermark.Time().Before(d.summary.lastCommit) {
			if d.ExitWhenIdle {
				return nil
			}
			if !said {
				said = true
				table.note("every sink has every event; the change stream is being followed. Ctrl-C checks and ends.")
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/check"
	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/ingest"
	"github.com/spanledger/spanledger/ops/admin"
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
	// Mutable makes a change stream with mutable key ranges; not with Official, whose emulator knows none.
	Mutable bool
	// Snapshot takes snapshots of the events table beside the stream: one after another while events are loaded, and one of all of
	// them.
	Snapshot bool
	// Sinks are further sinks of the pipeline, beside the ones that dev has. Its check does not read them back: the summary
	// counts what they took.
	Sinks []SinkConfig
	// Admin is host:port of the admin server; "" is a free port of 127.0.0.1, which Out tells.
	Admin string
	// Profiler serves Go's profiler there too.
	Profiler bool
	// Out is where people read: progress and the live table. IsTerminal says that it can be redrawn; a Logger that writes
	// there too then needs Out to be a [Screen], and to write to that.
	Out        io.Writer
	IsTerminal bool
	Logger     *slog.Logger
}

// Dev runs the whole system in one process: the embedded cloud, the event store, a pipeline into the archive, Pub/Sub
// and BigQuery, and at the end an independent check of all three. It returns what it found also when it returns an error; the error says
// what went wrong first.
func Dev(ctx context.Context, o DevOptions) (*DevSummary, error) {
	if _, ok := o.Out.(*Screen); o.IsTerminal && !ok {
		o.Out = NewScreen(o.Out)
	}
	d := &dev{DevOptions: o, summary: &DevSummary{Official: o.Official}, began: time.Now()}
	if o.Official && o.Mutable {
		return d.summary, errors.New("mutable key ranges: Google's emulator has no such change streams; the embedded Spanner has")
	}
	defer d.close()
	err := d.run(ctx)
	d.summary.Interrupted = ctx.Err() != nil && (!d.loaded || o.ExitWhenIdle)
	if d.summary.Interrupted {
		err = errors.Join(ErrInterrupted, err)
	}
	d.summary.Seconds = time.Since(d.began).Seconds()
	if err == nil || d.summary.Interrupted { // what was rejected, or is missing, is to be told after an interruption too
		err = errors.Join(err, d.summary.Err())
	}
	return d.summary, err
}

type dev struct {
	DevOptions
	summary  *DevSummary
	began    time.Time
	cloud    *Cloud
	dir      *dataDir
	pipeline *Pipeline
	admin    *admin.Server
	loaded   bool // every file was read to its end

	resources Resources
	archive   string    // the archive's prefix in the bucket
	identity  string    // the database's
	start     time.Time // where the pipeline begins
}

func (d *dev) close() {
	if d.admin != nil {
		stopAdmin(d.admin, d.Logger)
	}
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
	// Partitions that split, merge and move while one looks: what a real change stream does in an hour. Where key ranges are
	// mutable keys move the more often: no partition need end for it.
	churn := changes.Churn{Interval: 2 * time.Second}
	if d.Mutable {
		churn = changes.Churn{Interval: 250 * time.Millisecond, Split: 1, Merge: 1, Move: 2}
	}
	if d.cloud, err = StartCloud(ctx, CloudOptions{
		Official: d.Official, StorageDir: d.dir.storage(), Spanner: spanner.Options{Partitions: 4, Churn: churn},
	}); err != nil {
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
	end, workErr := d.work(work)
	cancel(nil)
	<-watched
	d.count(d.pipeline.Status())
	stop()
	if err := <-engine; err != nil {
		return err
	}
	if workErr != nil && ctx.Err() == nil {
		return workErr
	}
	select {
	case <-d.pipeline.Ready():
	default:
		return nil // stopped before anything was read or written: there is nothing to check
	}
	d.say("checking what the sinks hold")
	checking, cancelCheck := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancelCheck()
	report, err := d.cloud.Check(checking, d.checkOptions(end))
	if err != nil {
		return err
	}
	d.summary.report = report
	d.summary.Sinks, d.summary.Events, d.summary.Graph, d.summary.Deviations = report.Sinks, report.Events, &report.Graph, report.Deviations
	return nil
}

// work loads the events and waits: until every sink has them, or for Ctrl-C. It returns the instant through which the
// sinks hold everything.
func (d *dev) work(ctx context.Context) (end time.Time, err error) {
	select {
	case <-d.pipeline.Ready():
	case <-ctx.Done():
		return end, context.Cause(ctx)
	}
	takeAll := d.takeSnapshots(ctx)
	err = d.load(ctx)
	d.loaded = err == nil
	end = d.summary.lastCommit
	if err = errors.Join(err, takeAll(d.loaded)); err == nil && d.Snapshot {
		end, err = d.cloud.now(ctx, d.resources.Database, "") // the rows were read after the last commit
	}
	if err == nil {
		err = d.wait(ctx, end)
	}
	if err == nil {
		return end, nil
	}
	// Stopped: what has been committed until now, by this load or by others, still goes to the sinks before the end.
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if errors.Is(context.Cause(ctx), errEngineEnded) {
		return end, err
	}
	d.say("stopping: what was committed reaches the sinks first, within a minute; a second signal ends at once")
	end, nowErr := d.cloud.now(rest, d.resources.Database, "")
	if nowErr != nil {
		return end, errors.Join(err, nowErr)
	}
	return end, errors.Join(err, d.reach(rest, end, nil))
}

func (d *dev) checkOptions(end time.Time) CheckOptions {
	o := CheckOptions{Resources: d.resources, Prefix: d.archive, Start: d.start, End: end, Official: d.Official}
	if d.Snapshot {
		o.Snapshots = []string{ingest.Table}
	}
	if end.Before(d.start) {
		o.End = d.start // nothing was committed
	}
	if d.cloud.Messages != nil {
		o.Messages = func() []check.Message { return d.cloud.PublishedMessages(d.resources) }
	}
	return o
}

var errEngineEnded = errors.New("nothing reads the change stream any more")

// load appends the events.
func (d *dev) load(ctx context.Context) error {
	client, err := d.cloud.spannerClient(ctx, d.resources.Database)
	if err != nil {
		return err
	}
	defer client.Close()
	opts := ingest.LoadOptions{Map: d.Map, Reject: d.Reject, IsTerminal: d.IsTerminal, Progress: d.Out}
	files := d.Ingest
	if len(files) == 0 {
		var example io.Closer
		if files, example, err = openExample("earthquakes", &opts); err != nil {
			return err
		}
		defer example.Close()
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

// wait shows what each sink has until all have everything through end, or for the end of the context where the run is to
// go on.
func (d *dev) wait(ctx context.Context, end time.Time) error {
	table := newLiveTable(d.Out, d.pipeline)
	defer table.done()
	if err := d.reach(ctx, end, table.show); err != nil || d.ExitWhenIdle {
		return err
	}
	table.note("every sink has every event; new ones are followed")
	table.note("Ctrl-C ends, with a check of every sink")
	return d.reach(ctx, change.MaxTimestamp.Time(), table.show)
}

// reach waits until the stored checkpoint of every sink has reached end.
func (d *dev) reach(ctx context.Context, end time.Time, show func()) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for d.pipeline.Status().Watermark < change.TimestampOf(end) {
		if show != nil {
			show()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

package app

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/ops/metrics"
)

// devResources are what dev makes on its embedded cloud.
var devResources = Resources{
	Database:      "projects/spanledger-dev/instances/dev/databases/ledger",
	StateDatabase: "projects/spanledger-dev/instances/dev/databases/spanledger",
	Stream:        "changes",
	Project:       "spanledger-dev",
	Topic:         "changes",
	Bucket:        "archive",
	Dataset:       "changes",
}

// setup makes what the pipeline reads and writes, and wires the pipeline from the present moment on.
func (d *dev) setup(ctx context.Context) error {
	r := devResources
	r.Mutable = d.Mutable
	if d.cloud.Messages == nil {
		r.Subscription = "check" // made before the first message, so that the check can read every one back
	}
	if err := d.cloud.Setup(ctx, r); err != nil {
		return err
	}
	d.resources = r
	if err := d.identify(ctx); err != nil {
		return err
	}
	d.sayWhere()
	var err error
	if d.start, err = d.cloud.now(ctx, r.Database, ""); err != nil {
		return err
	}
	sinks, err := d.sinks()
	if err != nil {
		return err
	}
	numbers := metrics.New()
	d.pipeline, err = NewPipeline(ctx, d.cloud.Endpoints, PipelineConfig{
		Name: "dev", Database: r.Database, Stream: r.Stream, StateDatabase: r.StateDatabase,
		Start: change.TimestampOf(d.start), Heartbeat: 200 * time.Millisecond, CheckpointEvery: 250 * time.Millisecond, Sinks: sinks,
		Metrics: numbers.Pipeline("dev"),
	}, d.Logger)
	if err != nil {
		return err
	}
	if d.admin, err = startAdmin(adminOptions{d.Admin, d.Profiler}, numbers, d.Logger, d.pipeline); err != nil {
		return err
	}
	d.say("admin          http://%s  (/metrics /readyz /status.json)", d.admin.Addr())
	return nil
}

// identify names the archive after the database and the time it was created, so that the archive of each run is its own.
func (d *dev) identify(ctx context.Context) error {
	n, err := parseDatabase(d.resources.Database)
	if err != nil {
		return err
	}
	created, err := d.cloud.created(ctx, n)
	if err != nil {
		return err
	}
	if created.IsZero() {
		created = time.Now().UTC() // Google's emulator does not say; this run has just made the database
	}
	d.identity = created.Format(time.RFC3339Nano)
	d.archive = n.database + "-" + created.Format("20060102T150405.000000Z")
	return nil
}

// DevSinks are the names of the sinks that dev has by itself.
var DevSinks = []string{"archive", "pubsub", "bigquery"}

// sinks are dev's: the archive, with young batches so that one sees it grow, Pub/Sub and BigQuery.
func (d *dev) sinks() ([]SinkConfig, error) {
	archive, err := json.Marshal(map[string]any{
		"bucket": d.resources.Bucket, "prefix": d.archive, "endpoint": d.cloud.Storage, "max_delay": "1s",
		"database": d.resources.Database, "stream": d.resources.Stream, "identity": d.identity,
	})
	if err != nil {
		return nil, err
	}
	messages, err := json.Marshal(map[string]any{
		"project": d.resources.Project, "topic": d.resources.Topic, "emulator_host": d.cloud.PubSub,
	})
	if err != nil {
		return nil, err
	}
	tables, err := json.Marshal(map[string]any{
		"project": d.resources.Project, "dataset": d.resources.Dataset, "endpoint": d.cloud.BigQuery, "grpc_endpoint": d.cloud.BigQueryStorage,
		"max_delay": "250ms",
	})
	if err != nil {
		return nil, err
	}
	return append([]SinkConfig{
		{Name: "archive", Type: "gcs", Options: archive},
		{Name: "pubsub", Type: "pubsub", Options: messages},
		{Name: "bigquery", Type: "bigquery", Options: tables},
	}, d.Sinks...), nil
}

// sayWhere tells where things are, and what becomes of what an earlier run left.
func (d *dev) sayWhere() {
	d.summary.Archive = "gs://" + d.resources.Bucket + "/" + d.archive + " (in memory)"
	if d.dir != nil {
		d.summary.Archive = filepath.Join(d.dir.storage(), d.resources.Bucket, d.archive)
		d.summary.OlderArchives = d.dir.older
	}
	d.say("Spanner        SPANNER_EMULATOR_HOST=%s   %s", d.cloud.Spanner, d.resources.Database)
	d.say("Pub/Sub        PUBSUB_EMULATOR_HOST=%s    projects/%s/topics/%s", d.cloud.PubSub, d.resources.Project, d.resources.Topic)
	d.say("Cloud Storage  STORAGE_EMULATOR_HOST=%s", d.cloud.Storage)
	d.say("BigQuery       BIGQUERY_EMULATOR_HOST=%s BIGQUERY_STORAGE_EMULATOR_HOST=%s   dataset %s.%s", d.cloud.BigQuery, d.cloud.BigQueryStorage,
		d.resources.Project, d.resources.Dataset)
	d.say("archive        %s", d.summary.Archive)
	if d.dir != nil && len(d.dir.older) > 0 {
		d.say("the directory also holds %d archive(s) of earlier runs, each of a database that is gone: %s; they stay as they are: "+
			"this run has a new database, and an archive of its own", len(d.dir.older), strings.Join(d.dir.older, ", "))
	}
}

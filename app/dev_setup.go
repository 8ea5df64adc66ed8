package app

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/ingest"
	"github.com/spanledger/spanledger/state"
)

// StreamDDL is the statement that makes the change stream of the events table, with everything a sink can want to know
// about a change.
func StreamDDL(name string) string {
	return "CREATE CHANGE STREAM `" + name + "` FOR events OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES')"
}

// setup makes what the pipeline reads and writes, and wires the pipeline from the present moment on.
func (d *dev) setup(ctx context.Context) error {
	source, err := parseDatabase(devDatabase)
	if err != nil {
		return err
	}
	metadata, err := parseDatabase(devState)
	if err != nil {
		return err
	}
	if err := d.cloud.ensureDatabase(ctx, source, append(ingest.DDL(), StreamDDL(devStream))); err != nil {
		return err
	}
	if err := d.cloud.ensureDatabase(ctx, metadata, state.DDL()); err != nil {
		return err
	}
	subscription := ""
	if d.cloud.Messages == nil {
		subscription = devCheckSub // made before the first message, so that the check can read every one back
	}
	if err := d.cloud.ensureTopic(ctx, devProject, devTopic, subscription); err != nil {
		return err
	}
	objects, err := d.cloud.storageClient(ctx)
	if err != nil {
		return err
	}
	defer objects.Close()
	if err := ensureBucket(ctx, objects, devProject, devBucket); err != nil {
		return err
	}
	identity, err := d.cloud.databaseIdentity(ctx, source)
	if err != nil {
		return err
	}
	created, err := time.Parse(time.RFC3339Nano, identity)
	if err != nil {
		return err
	}
	d.archive = "ledger-" + created.Format("20060102T150405.000000Z")
	d.sayWhere()

	client, err := d.cloud.spannerClient(ctx, devDatabase)
	if err != nil {
		return err
	}
	d.start, err = now(ctx, client)
	client.Close()
	if err != nil {
		return err
	}
	sinks, err := d.sinks()
	if err != nil {
		return err
	}
	d.pipeline, err = NewPipeline(ctx, d.cloud.Endpoints, PipelineConfig{
		Name: devPipeline, Database: devDatabase, Stream: devStream, StateDatabase: devState,
		Start: change.TimestampOf(d.start), Heartbeat: 200 * time.Millisecond, CheckpointEvery: 250 * time.Millisecond, Sinks: sinks,
	}, d.Logger)
	return err
}

// sinks are dev's: the archive, with small batches so that one sees it grow, and Pub/Sub.
func (d *dev) sinks() ([]SinkConfig, error) {
	archive, err := json.Marshal(map[string]any{
		"bucket": devBucket, "prefix": d.archive, "endpoint": d.cloud.Storage, "max_delay": "1s",
	})
	if err != nil {
		return nil, err
	}
	messages, err := json.Marshal(map[string]any{
		"project": devProject, "topic": devTopic, "emulator_host": d.cloud.PubSub,
	})
	if err != nil {
		return nil, err
	}
	return []SinkConfig{
		{Name: "archive", Type: "gcs", Options: archive},
		{Name: "pubsub", Type: "pubsub", Options: messages},
	}, nil
}

// sayWhere tells where things are, and what becomes of what an earlier run left.
func (d *dev) sayWhere() {
	d.summary.Archive = "memory: gs://" + devBucket + "/" + d.archive
	if d.dir != nil {
		d.summary.Archive = filepath.Join(d.dir.storage(), devBucket, d.archive)
		d.summary.OlderArchives = d.dir.older
	}
	d.say("Spanner       SPANNER_EMULATOR_HOST=%s  %s", d.cloud.Spanner, devDatabase)
	d.say("Pub/Sub       PUBSUB_EMULATOR_HOST=%s  projects/%s/topics/%s", d.cloud.PubSub, devProject, devTopic)
	d.say("Cloud Storage STORAGE_EMULATOR_HOST=%s", d.cloud.Storage)
	d.say("archive       %s", d.summary.Archive)
	if d.dir != nil && len(d.dir.older) > 0 {
		d.say("the directory also holds %d archive(s) of earlier runs, each of a database that is gone: %s; they stay as they are, "+
			"and this run, a new database, has one of its own", len(d.dir.older), strings.Join(d.dir.older, ", "))
	}
}

var _ = fmt.Sprintf

package app

import (
	"context"
	"fmt"
	"time"

	"github.com/spanledger/spanledger/check"
)

// check holds every sink against the change stream and the events table, by other means than the pipeline's.
func (d *dev) check(ctx context.Context) error {
	client, err := d.cloud.spannerClient(ctx, devDatabase)
	if err != nil {
		return err
	}
	defer client.Close()
	end := d.summary.lastCommit
	if end.IsZero() {
		end = d.start
	}
	truth, err := check.ReadTruth(ctx, check.SpannerOptions{
		Client: client, Database: devDatabase, Stream: devStream, Start: d.start, End: end, Official: d.Official,
	})
	if err != nil {
		return fmt.Errorf("check: read the change stream: %w", err)
	}
	events, err := truth.EventsCheck(ctx, check.EventsOptions{Client: client})
	if err != nil {
		return fmt.Errorf("check: read the events table: %w", err)
	}
	report := check.NewReport(truth, events)
	if report.Sinks["archive"], err = d.checkArchive(ctx, truth); err != nil {
		return fmt.Errorf("check: read the archive: %w", err)
	}
	if report.Sinks["pubsub"], err = d.checkMessages(ctx, truth); err != nil {
		return fmt.Errorf("check: read Pub/Sub: %w", err)
	}
	d.summary.report = report
	d.summary.Sinks, d.summary.Events, d.summary.Deviations = report.Sinks, report.Events, report.Deviations
	return nil
}

var _ = time.Second

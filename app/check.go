package app

import (
	"context"
	"fmt"
	"time"

	"github.com/spanledger/spanledger/check"
)

// CheckOptions say what to hold against what.
type CheckOptions struct {
	Resources Resources
	// Prefix is the archive's in the bucket.
	Prefix string
	// Start and End bound the history that is compared, both inclusive.
	Start, End time.Time
	// Snapshots are the tables of which snapshots were taken in that time, of all of each.
	Snapshots []string
	// Official says that Spanner is Google's emulator, whose known deviations are named and tolerated.
	Official bool
	// Messages are what was published, where that is known; nil pulls Resources.Subscription instead.
	Messages func() []check.Message
}

// Check holds the archive, Pub/Sub and BigQuery, where there is a dataset, against the change stream, and that against the
// events table, by other means than the pipeline's. The error is about the reading; what is wrong with the sinks is in the report.
func (e Endpoints) Check(ctx context.Context, o CheckOptions) (*check.Report, error) {
	client, err := e.spannerClient(ctx, o.Resources.Database)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	truth, err := check.ReadTruth(ctx, check.SpannerOptions{
		Client: client, Database: o.Resources.Database, Stream: o.Resources.Stream, Start: o.Start, End: o.End, Official: o.Official,
	})
	if err != nil {
		return nil, fmt.Errorf("check: read the change stream: %w", err)
	}
	if err := truth.ReadRows(ctx, check.RowsOptions{Client: client, Tables: o.Snapshots, Whole: true}); err != nil {
		return nil, err
	}
	events, err := truth.EventsCheck(ctx, check.EventsOptions{Client: client})
	if err != nil {
		return nil, fmt.Errorf("check: read the events table: %w", err)
	}
	report := check.NewReport(truth, events)

	objects, err := e.storageClient(ctx)
	if err != nil {
		return nil, err
	}
	defer objects.Close()
	if report.Sinks["archive"], err = check.Archive(ctx, truth, check.Bucket(objects, o.Resources.Bucket, o.Prefix+"/")); err != nil {
		return nil, fmt.Errorf("check: read the archive: %w", err)
	}

	messages := o.Messages
	if messages == nil {
		received, err := e.receive(ctx, truth, o.Resources)
		if err != nil {
			return nil, fmt.Errorf("check: read Pub/Sub: %w", err)
		}
		messages = func() []check.Message { return received }
	}
	report.Sinks["pubsub"] = check.PubSub(truth, messages())
	if o.Resources.Dataset == "" {
		return report, nil
	}
	tables, err := e.bigqueryClient(ctx, o.Resources.Project)
	if err != nil {
		return nil, err
	}
	defer tables.Close()
	if report.Sinks["bigquery"], err = check.BigQuery(ctx, truth, tables, o.Resources.Project, o.Resources.Dataset); err != nil {
		return nil, fmt.Errorf("check: read BigQuery: %w", err)
	}
	return report, nil
}

func (e Endpoints) receive(ctx context.Context, truth *check.Truth, r Resources) ([]check.Message, error) {
	client, err := e.pubsubClient(ctx, r.Project)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return check.Receive(ctx, truth, client.Subscriber(r.Subscription), 10*time.Second)
}

// PublishedMessages are all messages of a topic that the embedded Pub/Sub was given, in the order of publication.
func (c *Cloud) PublishedMessages(r Resources) []check.Message {
	var messages []check.Message
	for i, m := range c.Messages.Messages("projects/" + r.Project + "/topics/" + r.Topic) {
		messages = append(messages, check.Message{
			ID: m.ID, Data: m.Data, Attributes: m.Attributes, OrderingKey: m.OrderingKey, Sequence: int64(i + 1), Published: m.PublishTime,
		})
	}
	return messages
}

package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/ingest"
	"github.com/spanledger/spanledger/state"
)

// Resources are what a pipeline of the events table reads and writes.
type Resources struct {
	// Database holds the events table and the change stream Stream; StateDatabase the pipeline's state. Full names.
	Database, Stream, StateDatabase string
	// Mutable makes Stream one with mutable key ranges, where it is missing; Google's emulator refuses that.
	Mutable bool
	// Project holds the topic, the subscription and the bucket.
	Project, Topic string
	// Subscription of the topic, without ordering, is made if named: to read back what was published.
	Subscription string
	Bucket       string
	// Dataset is BigQuery's; "" for none.
	Dataset string
}

// Setup makes what is missing of the resources: databases with their tables and the change stream (and on an emulator
// their instance), topic, subscription, bucket and dataset. What is there is left as it is.
func (e Endpoints) Setup(ctx context.Context, r Resources) error {
	source, err := parseDatabase(r.Database)
	if err != nil {
		return err
	}
	metadata, err := parseDatabase(r.StateDatabase)
	if err != nil {
		return err
	}
	if err := e.ensureDatabase(ctx, source, append(ingest.DDL(), streamDDL(r.Stream, ingest.Table, r.Mutable))); err != nil {
		return err
	}
	if err := e.ensureDatabase(ctx, metadata, state.DDL()); err != nil {
		return err
	}
	if err := e.ensureTopic(ctx, r.Project, r.Topic, r.Subscription); err != nil {
		return err
	}
	objects, err := e.storageClient(ctx)
	if err != nil {
		return fmt.Errorf("connect to Cloud Storage: %w", err)
	}
	defer objects.Close()
	if err := ensureBucket(ctx, objects, r.Project, r.Bucket); err != nil || r.Dataset == "" {
		return err
	}
	return e.ensureDataset(ctx, r.Project, r.Dataset)
}

// ensureDataset makes a BigQuery dataset where it is missing.
func (e Endpoints) ensureDataset(ctx context.Context, project, dataset string) error {
	c, err := e.bigqueryClient(ctx, project)
	if err != nil {
		return fmt.Errorf("connect to BigQuery: %w", err)
	}
	defer c.Close()
	if err := c.Dataset(dataset).Create(ctx, nil); err != nil && !isConflict(err) {
		return fmt.Errorf("create dataset %s.%s: %w", project, dataset, err)
	}
	return nil
}

// databaseName is a database's full name, taken apart.
type databaseName struct{ project, instance, database string }

func parseDatabase(name string) (databaseName, error) {
	p := strings.Split(name, "/")
	if len(p) != 6 || p[0] != "projects" || p[2] != "instances" || p[4] != "databases" || slices.Contains(p, "") {
		return databaseName{}, fmt.Errorf("database %q: want projects/PROJECT/instances/INSTANCE/databases/DATABASE", name)
	}
	return databaseName{p[1], p[3], p[5]}, nil
}

func (n databaseName) parent() string {
	return "projects/" + n.project + "/instances/" + n.instance
}

func (n databaseName) String() string { return n.parent() + "/databases/" + n.database }

// ensureDatabase makes a database, and its instance on an emulator, where they are missing, and applies the statements to
// a database that it made.
func (e Endpoints) ensureDatabase(ctx context.Context, n databaseName, ddl []string) error {
	if e.Spanner != "" {
		if _, err := e.ensureInstance(ctx, n); err != nil {
			return fmt.Errorf("create instance %s: %w", n.parent(), err)
		}
	}
	_, err := e.createDatabase(ctx, n, ddl)
	return err
}

// createDatabase makes a database with the statements, and reports whether it was not there before.
func (e Endpoints) createDatabase(ctx context.Context, n databaseName, ddl []string) (made bool, err error) {
	admin, err := e.databaseAdmin(ctx)
	if err != nil {
		return false, fmt.Errorf("create database %s: %w", n, err)
	}
	defer admin.Close()
	op, err := admin.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{
		Parent: n.parent(), CreateStatement: "CREATE DATABASE `" + n.database + "`", ExtraStatements: ddl,
	})
	if err == nil {
		_, err = op.Wait(ctx)
	}
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return false, fmt.Errorf("create database %s: %w", n, err)
	}
	return err == nil, nil
}

// ensureInstance makes an emulator's instance, and reports whether it was not there before.
func (e Endpoints) ensureInstance(ctx context.Context, n databaseName) (made bool, err error) {
	admin, err := e.instanceAdmin(ctx)
	if err != nil {
		return false, err
	}
	defer admin.Close()
	op, err := admin.CreateInstance(ctx, &instancepb.CreateInstanceRequest{
		Parent: "projects/" + n.project, InstanceId: n.instance,
		Instance: &instancepb.Instance{
			Config: "projects/" + n.project + "/instanceConfigs/emulator-config", DisplayName: n.instance, NodeCount: 1,
		},
	})
	if err == nil {
		_, err = op.Wait(ctx)
	}
	if status.Code(err) == codes.AlreadyExists {
		return false, nil
	}
	return err == nil, err
}

// created is when a database was created, which tells it from an earlier or later one of the same name; a restored
// database has a time of its own. Google's emulator does not say: then it is the zero time.
func (e Endpoints) created(ctx context.Context, n databaseName) (time.Time, error) {
	admin, err := e.databaseAdmin(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("look at database %s: %w", n, err)
	}
	defer admin.Close()
	db, err := admin.GetDatabase(ctx, &databasepb.GetDatabaseRequest{Name: n.String()})
	if err != nil {
		return time.Time{}, fmt.Errorf("look at database %s: %w", n, err)
	}
	if !db.GetCreateTime().IsValid() {
		return time.Time{}, nil
	}
	return db.GetCreateTime().AsTime().UTC(), nil
}

// identity is created as text, "" where the server does not say: then databases are told apart by their names only.
func (e Endpoints) identity(ctx context.Context, n databaseName) (string, error) {
	t, err := e.created(ctx, n)
	if err != nil || t.IsZero() {
		return "", err
	}
	return t.Format(time.RFC3339Nano), nil
}

// now is the database's own time, which local clocks may be ahead of.
func (e Endpoints) now(ctx context.Context, db, role string) (time.Time, error) {
	var t time.Time
	c, err := e.spannerClientAs(ctx, db, role)
	if err != nil {
		return t, err
	}
	defer c.Close()
	it := c.Single().Query(ctx, spanner.NewStatement("SELECT CURRENT_TIMESTAMP()"))
	defer it.Stop()
	row, err := it.Next()
	if err == nil {
		err = row.Columns(&t)
	}
	if errors.Is(err, iterator.Done) {
		err = errors.New("no row")
	}
	if err != nil {
		return t, fmt.Errorf("ask Spanner for its time: %w", err)
	}
	return t, nil
}

// ensureTopic makes a Pub/Sub topic, and a subscription of it if one is named, where they are missing.
func (e Endpoints) ensureTopic(ctx context.Context, project, topic, subscription string) error {
	c, err := e.pubsubClient(ctx, project)
	if err != nil {
		return fmt.Errorf("connect to Pub/Sub: %w", err)
	}
	defer c.Close()
	name := "projects/" + project + "/topics/" + topic
	if _, err := c.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: name}); err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	if subscription == "" {
		return nil
	}
	sub := &pubsubpb.Subscription{Name: "projects/" + project + "/subscriptions/" + subscription, Topic: name, AckDeadlineSeconds: 60}
	if _, err := c.SubscriptionAdminClient.CreateSubscription(ctx, sub); err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("create subscription %s: %w", sub.Name, err)
	}
	return nil
}

// ensureBucket makes a bucket where it is missing.
func ensureBucket(ctx context.Context, c *storage.Client, project, bucket string) error {
	err := c.Bucket(bucket).Create(ctx, project, nil)
	var apiErr *googleapi.Error
	if errors.As(err, &apiErr) && apiErr.Code == 409 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", bucket, err)
	}
	return nil
}

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Where sinks write to, and where that is served; "" is Google's own.
type (
	topicTarget   struct{ project, topic, emulator, endpoint string }
	bucketTarget  struct{ project, bucket, endpoint string }
	datasetTarget struct{ project, dataset, endpoint string }
)

// name is the topic's full name.
func (t topicTarget) name() string { return "projects/" + t.project + "/topics/" + t.topic }

// targets adds what a pipeline's sinks write to. It knows the options of the built-in sinks by name; other sinks make what
// they need themselves.
func (i *initializer) targets(plan *initPlan, p PipelineConfig) error {
	n, err := parseDatabase(p.Database)
	if err != nil {
		return err
	}
	for _, s := range p.Sinks {
		var o struct {
			Project  string `json:"project"`
			Topic    string `json:"topic"`
			Emulator string `json:"emulator_host"`
			Endpoint string `json:"endpoint"`
			Bucket   string `json:"bucket"`
			Dataset  string `json:"dataset"`
		}
		if len(s.Options) > 0 {
			if err := json.Unmarshal(s.Options, &o); err != nil {
				return fmt.Errorf("pipeline %s: sink %s: options: %w", p.Name, s.Name, err)
			}
		}
		switch s.Type {
		case "pubsub":
			t := topicTarget{project: firstOf(o.Project, os.Getenv("GOOGLE_CLOUD_PROJECT")), topic: o.Topic, emulator: firstOf(o.Emulator, i.PubSub), endpoint: o.Endpoint}
			if rest, ok := strings.CutPrefix(o.Topic, "projects/"); ok {
				t.project, t.topic, _ = strings.Cut(rest, "/topics/")
			}
			plan.topics = appendOnce(plan.topics, t)
		case "gcs":
			plan.buckets = appendOnce(plan.buckets, bucketTarget{firstOf(i.Config.Setup.Project, n.project), o.Bucket, firstOf(o.Endpoint, i.Storage)})
		case "bigquery":
			t := datasetTarget{firstOf(o.Project, os.Getenv("GOOGLE_CLOUD_PROJECT"), n.project), o.Dataset, firstOf(o.Endpoint, i.BigQuery)}
			if dot := strings.LastIndexByte(o.Dataset, '.'); dot >= 0 {
				t.project, t.dataset = o.Dataset[:dot], o.Dataset[dot+1:]
			}
			plan.datasets = appendOnce(plan.datasets, t)
		}
	}
	return nil
}

func appendOnce[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// addresses are the emulators that the plan needs, by what they are.
func (p *initPlan) addresses(e Endpoints) map[string]string {
	list := map[string]string{}
	add := func(what, address string) {
		if u, err := url.Parse(address); err == nil && u.Scheme == "http" && u.Host != "" {
			address = u.Host
		}
		if _, _, err := net.SplitHostPort(address); err == nil && address != "" {
			list[address] = what
		}
	}
	add("Spanner", e.Spanner)
	for _, t := range p.topics {
		add("Pub/Sub", t.emulator)
	}
	for _, t := range p.buckets {
		add("Cloud Storage", t.endpoint)
	}
	for _, t := range p.datasets {
		add("BigQuery", t.endpoint)
	}
	return list
}

// waitFor waits until each address accepts a connection, and says now and then for what it waits.
func waitFor(ctx context.Context, addresses map[string]string, out io.Writer) error {
	for _, address := range sortedKeys(addresses) {
		last := time.Now()
		for {
			dialer := net.Dialer{Timeout: 2 * time.Second}
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err == nil {
				conn.Close()
				break
			}
			if time.Since(last) > 3*time.Second {
				last = time.Now()
				fmt.Fprintf(out, "wait   for %s at %s: %v\n", addresses[address], address, err)
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s at %s does not answer: is it running, and reachable from here? %w: %w", addresses[address], address, context.Cause(ctx), err)
			}
		}
	}
	return nil
}

func (i *initializer) destinations(ctx context.Context, plan *initPlan) error {
	for _, t := range plan.topics {
		if err := i.topic(ctx, t, plan.subscriptions); err != nil {
			return err
		}
	}
	for _, s := range plan.subscriptions {
		if !slices.ContainsFunc(plan.topics, func(t topicTarget) bool { return s.Topic == t.topic || s.Topic == t.name() }) {
			return fmt.Errorf("setup.subscriptions: subscription %s is of topic %s, to which no pipeline publishes", s.Name, s.Topic)
		}
	}
	for _, t := range plan.buckets {
		if err := i.bucket(ctx, t); err != nil {
			return err
		}
	}
	for _, t := range plan.datasets {
		if err := i.dataset(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// topic makes a topic and its subscriptions. It looks first: a topic that exists needs no right to make one.
func (i *initializer) topic(ctx context.Context, t topicTarget, subscriptions []SubscriptionConfig) error {
	e := i.Endpoints
	e.PubSub = t.emulator
	c, err := e.pubsubClient(ctx, t.project)
	if err != nil {
		return fmt.Errorf("connect to Pub/Sub: %w", err)
	}
	defer c.Close()
	name := t.name()
	_, err = c.TopicAdminClient.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: name})
	made := status.Code(err) == codes.NotFound
	if made {
		if _, err = c.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: name}); status.Code(err) == codes.AlreadyExists {
			made, err = false, nil
		}
	}
	if err != nil {
		return explain(fmt.Errorf("make topic %s: %w", name, err))
	}
	i.note("topic", name, "", made)
	for _, s := range subscriptions {
		if s.Topic != t.topic && s.Topic != name {
			continue
		}
		sub := &pubsubpb.Subscription{
			Name: "projects/" + t.project + "/subscriptions/" + s.Name, Topic: name, AckDeadlineSeconds: 60,
			EnableMessageOrdering: s.Ordered == nil || *s.Ordered,
		}
		have, err := c.SubscriptionAdminClient.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: sub.Name})
		made := status.Code(err) == codes.NotFound
		if made {
			if have, err = c.SubscriptionAdminClient.CreateSubscription(ctx, sub); status.Code(err) == codes.AlreadyExists {
				made, err = false, nil
			}
		}
		if err != nil {
			return explain(fmt.Errorf("make subscription %s: %w", sub.Name, err))
		}
		if have != nil && (have.GetTopic() != name || have.GetEnableMessageOrdering() != sub.EnableMessageOrdering) {
			return fmt.Errorf("subscription %s is there, but of topic %s and with ordered: %t: neither can be changed; choose another name or delete it",
				sub.Name, have.GetTopic(), have.GetEnableMessageOrdering())
		}
		i.note("subscription", sub.Name, "", made)
	}
	return nil
}

func (i *initializer) bucket(ctx context.Context, t bucketTarget) error {
	e := i.Endpoints
	e.Storage = t.endpoint
	c, err := e.storageClient(ctx)
	if err != nil {
		return fmt.Errorf("connect to Cloud Storage: %w", err)
	}
	defer c.Close()
	_, err = c.Bucket(t.bucket).Attrs(ctx)
	made := errors.Is(err, storage.ErrBucketNotExist)
	if made {
		var attrs *storage.BucketAttrs
		if location := i.Config.Setup.Location; location != "" {
			attrs = &storage.BucketAttrs{Location: location}
		}
		if err = c.Bucket(t.bucket).Create(ctx, t.project, attrs); isConflict(err) {
			made, err = false, nil
		}
	}
	if err != nil {
		return explainHTTP(fmt.Errorf("make bucket %s in project %s: %w", t.bucket, t.project, err), "roles/storage.admin")
	}
	i.note("bucket", "gs://"+t.bucket, "", made)
	return nil
}

func (i *initializer) dataset(ctx context.Context, t datasetTarget) error {
	var opts []option.ClientOption
	if t.endpoint != "" {
		opts = append(opts, option.WithEndpoint(strings.TrimSuffix(t.endpoint, "/")+"/bigquery/v2/"))
		if strings.HasPrefix(t.endpoint, "http://") {
			opts = append(opts, option.WithoutAuthentication())
		}
	}
	c, err := bigquery.NewClient(ctx, t.project, opts...)
	if err != nil {
		return fmt.Errorf("connect to BigQuery: %w", err)
	}
	defer c.Close()
	d := c.Dataset(t.dataset)
	_, err = d.Metadata(ctx)
	made := isHTTP(err, 404)
	if made {
		if err = d.Create(ctx, &bigquery.DatasetMetadata{Location: i.Config.Setup.Location}); isConflict(err) {
			made, err = false, nil
		}
	}
	if err != nil {
		return explainHTTP(fmt.Errorf("make dataset %s.%s: %w", t.project, t.dataset, err), "roles/bigquery.dataEditor")
	}
	i.note("dataset", t.project+"."+t.dataset, "", made)
	return nil
}

func isHTTP(err error, code int) bool {
	var apiErr *googleapi.Error
	return errors.As(err, &apiErr) && apiErr.Code == code
}

func isConflict(err error) bool { return isHTTP(err, 409) }

func explainHTTP(err error, role string) error {
	if isHTTP(err, 403) || isHTTP(err, 401) {
		return fmt.Errorf("%w (the account that runs init needs the right to look at and to make it: %s)", err, role)
	}
	return err
}

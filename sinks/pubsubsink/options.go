package pubsubsink

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spanledger/spanledger/sinks"
)

// Type registers the sink as "pubsub".
var Type = sinks.Type{
	Name:    "pubsub",
	Summary: "Publishes each change as a message to a Cloud Pub/Sub topic, in order for each row, at least once.",
	Options: []sinks.Option{
		{Name: "topic", Doc: "The topic: its id, or projects/P/topics/T."},
		{Name: "project", Default: "from topic, else $GOOGLE_CLOUD_PROJECT", Doc: "The topic's project, when topic is only an id."},
		{Name: "format", Default: string(AvroOCF), Doc: "avro-ocf or json. Avro containers carry their schema, so a consumer needs nothing else " +
			"to read a message written before or after a change of the schema."},
		{Name: "ordering", Default: orderBuckets, Doc: "The ordering key: buckets (a hash of table and key, in ordering_buckets buckets), full-key " +
			"(table and key), none, or a template such as {table}/{store}, whose names are {table}, {key} or key columns. Buckets because a " +
			"request holds one ordering key: with a key of its own for each row each message is a request, at twenty times the cost."},
		{Name: "ordering_buckets", Default: "256", Doc: "1 to 65536. The service takes 1 MB/s for each ordering key and gives a key to one consumer at " +
			"a time: 256 allow 256 MB/s and hundreds of consumers, while requests under load still hold dozens of messages. Changing it loses " +
			"the order between what was published before and after."},
		{Name: "endpoint", Default: "the global endpoint", Doc: "Host and port, such as us-central1-pubsub.googleapis.com:443. Order holds within a " +
			"region: workers in several regions need one regional endpoint."},
		{Name: "emulator_host", Default: "$PUBSUB_EMULATOR_HOST", Doc: "Host and port of an emulator, which is used without TLS and credentials " +
			"and wins over endpoint."},
		{Name: "lanes", Default: "8", Doc: "1 to 256 batches in flight at once. With 32 requests each that is 256 requests in flight: where one " +
			"takes 20 ms, 12,800 a second, which is more than a core can make."},
		{Name: "requests", Default: "32", Doc: "1 to 256 requests in flight at once for one batch, which holds many ordering keys. lanes × requests " +
			"above 400 gain nothing: the sink's four connections carry about 100 each."},
		{Name: "max_changes", Default: "4000", Doc: "Largest batch, in changes: some dozen a request with 256 buckets. At least 1."},
		{Name: "max_bytes", Default: "8388608", Doc: "Largest batch, in bytes of memory. lanes × max_bytes is what the sink may hold of the budget."},
		{Name: "max_delay", Default: "0s", Doc: "How long a batch may wait for more changes, up to 1m. With 0s a lane sends what is there as soon as it " +
			"is free, so batches grow with the load by themselves and an idle pipeline adds no delay."},
	},
	New: func(name string, decode func(any) error) (sinks.Sink, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(name, o)
	},
}

// Format is how a change becomes a message's data.
type Format string

// The formats.
const (
	AvroOCF Format = "avro-ocf"
	JSON    Format = "json"
)

// Options are the sink's options as configuration has them; Type.Options documents each. Zero values take the defaults.
type Options struct {
	Topic           string `json:"topic"`
	Project         string `json:"project"`
	Format          Format `json:"format"`
	Ordering        string `json:"ordering"`
	OrderingBuckets int    `json:"ordering_buckets"`
	Endpoint        string `json:"endpoint"`
	EmulatorHost    string `json:"emulator_host"`
	Lanes           int    `json:"lanes"`
	Requests        int    `json:"requests"`
	MaxChanges      int    `json:"max_changes"`
	MaxBytes        int    `json:"max_bytes"`
	MaxDelay        string `json:"max_delay"`
}

// config is Options checked, with every default filled in.
type config struct {
	Options
	topic    string // projects/P/topics/T
	ordering ordering
	maxDelay time.Duration
}

var (
	fullTopic = regexp.MustCompile(`^projects/([^/]+)/topics/([^/]+)$`)
	// topicID is the service's rule: https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
	topicID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}$`)
)

func (o Options) check() (config, error) {
	c := config{Options: o}
	if c.Format == "" {
		c.Format = AvroOCF
	}
	if c.Format != AvroOCF && c.Format != JSON {
		return c, fmt.Errorf("format: %q is not one of %s, %s", o.Format, AvroOCF, JSON)
	}
	if err := c.checkTopic(); err != nil {
		return c, err
	}
	var err error
	c.maxDelay, err = sinks.Delay("max_delay", c.MaxDelay, 0, time.Minute)
	err = errors.Join(err,
		sinks.Count("ordering_buckets", &c.OrderingBuckets, 256, 1, 65536),
		sinks.Count("lanes", &c.Lanes, 8, 1, 256),
		sinks.Count("requests", &c.Requests, 32, 1, 256),
		sinks.Count("max_changes", &c.MaxChanges, 4000, 1, 1_000_000),
		sinks.Count("max_bytes", &c.MaxBytes, 8<<20, 1, 1<<30))
	if err != nil {
		return c, err
	}
	if c.ordering, err = parseOrdering(o.Ordering, c.OrderingBuckets); err != nil {
		return c, fmt.Errorf("ordering: %w", err)
	}
	if c.EmulatorHost == "" {
		c.EmulatorHost = os.Getenv("PUBSUB_EMULATOR_HOST")
	}
	return c, nil
}

func (c *config) checkTopic() error {
	if c.Topic == "" {
		return errors.New("topic is required: a topic's id, or projects/P/topics/T")
	}
	id := c.Topic
	if m := fullTopic.FindStringSubmatch(c.Topic); m != nil {
		if c.Project != "" && c.Project != m[1] {
			return fmt.Errorf("project is %q but topic names project %q: leave one out", c.Project, m[1])
		}
		c.Project, id = m[1], m[2]
	}
	if !topicID.MatchString(id) || strings.HasPrefix(id, "goog") {
		return fmt.Errorf("topic: %q is not a topic's id (a letter, then 2 to 254 letters, digits or -_.~+%%, not beginning with goog) "+
			"nor of the form projects/P/topics/T", c.Topic)
	}
	if c.Project == "" {
		c.Project = os.Getenv("GOOGLE_CLOUD_PROJECT")
	}
	if c.Project == "" {
		return errors.New("project is required when topic is only an id and $GOOGLE_CLOUD_PROJECT is not set")
	}
	if strings.ContainsAny(c.Project, "/ ") {
		return fmt.Errorf("project: %q is not a project's id", c.Project)
	}
	c.topic = "projects/" + c.Project + "/topics/" + id
	return nil
}

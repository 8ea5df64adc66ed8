package bigquerysink

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spanledger/spanledger/sinks"
)

// Type registers the sink as "bigquery".
var Type = sinks.Type{
	Name:    "bigquery",
	Summary: "Writes every change as a row of a changelog table in BigQuery, one table for each Spanner table, exactly once by default.",
	Options: []sinks.Option{
		{Name: "project", Default: "from dataset, else $GOOGLE_CLOUD_PROJECT", Doc: "The dataset's project."},
		{Name: "dataset", Doc: "The dataset: its id, or project.dataset. It must exist; the sink makes the tables in it."},
		{Name: "mode", Default: string(Changelog), Doc: "changelog: every change is a row, and none is ever altered. replica, which keeps the present state of " +
			"each row, is not there yet."},
		{Name: "delivery", Default: string(ExactlyOnce), Doc: "exactly-once: one committed write stream for each partition and table, appended to at known offsets. " +
			"at-least-once: the table's default stream, which costs no stream quota (BigQuery allows some ten thousand new streams an hour in a region) and is " +
			"the choice for thousands of partitions; readers drop repeats by _position."},
		{Name: "table_prefix", Default: `""`, Doc: "What the tables' names begin with: letters, digits and underscores, at most 64. Two pipelines that carry the same " +
			"table to one dataset need two prefixes."},
		{Name: "endpoint", Default: "$BIGQUERY_EMULATOR_HOST, else Google's", Doc: "The URL of another BigQuery API, such as an emulator's http://127.0.0.1:9050, " +
			"which is used without credentials; https addresses with them."},
		{Name: "grpc_endpoint", Default: "$BIGQUERY_STORAGE_EMULATOR_HOST, else Google's", Doc: "Host and port of that API's Storage Write service, such as " +
			"127.0.0.1:9060. Without credentials and TLS when endpoint is an http address."},
		{Name: "lanes", Default: "4", Doc: "1 to 64 batches in flight at once, with at-least-once only: exactly-once has a lane for each partition and table."},
		{Name: "max_changes", Default: "20000", Doc: "Largest batch, in changes; 1 to 1000000. A batch becomes as many requests as its rows need."},
		{Name: "max_bytes", Default: "8388608", Doc: "Largest batch, in bytes of memory; 65536 to 268435456. Rows come out at about half of that, and one request " +
			"may carry 10 MB: the default is one request a batch."},
		{Name: "max_delay", Default: "100ms", Doc: "How long a batch may wait for more changes, 0s to 5m: the table's delay, against the number of requests."},
	},
	New: func(name string, decode func(any) error) (sinks.Sink, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(name, o)
	},
}

// Mode is what the tables hold.
type Mode string

// The modes.
const (
	Changelog Mode = "changelog"
	Replica   Mode = "replica"
)

// Delivery is how often a change may be in its table.
type Delivery string

// The deliveries.
const (
	ExactlyOnce Delivery = "exactly-once"
	AtLeastOnce Delivery = "at-least-once"
)

// Options are the sink's options as configuration has them; Type.Options documents each. Zero values take the defaults.
type Options struct {
	Project      string   `json:"project"`
	Dataset      string   `json:"dataset"`
	Mode         Mode     `json:"mode"`
	Delivery     Delivery `json:"delivery"`
	TablePrefix  string   `json:"table_prefix"`
	Endpoint     string   `json:"endpoint"`
	GRPCEndpoint string   `json:"grpc_endpoint"`
	Lanes        int      `json:"lanes"`
	MaxChanges   int      `json:"max_changes"`
	MaxBytes     int      `json:"max_bytes"`
	MaxDelay     string   `json:"max_delay"`
}

// config is Options checked, with every default filled in.
type config struct {
	Options
	maxDelay time.Duration
	// plaintext says that the endpoints are an emulator's: no credentials, no TLS.
	plaintext bool
}

var (
	datasetID = regexp.MustCompile(`^[A-Za-z0-9_]{1,1000}$`)
	projectID = regexp.MustCompile(`^[a-z0-9.:-]{1,100}$`)
	prefixOK  = regexp.MustCompile(`^[A-Za-z0-9_]{0,64}$`)
)

func (o Options) check() (config, error) {
	c := config{Options: o}
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if project, dataset, both := cutLast(c.Dataset, "."); both {
		require(c.Project == "" || c.Project == project, "project is %q but dataset names project %q: leave one out", c.Project, project)
		c.Project, c.Dataset = project, dataset
	}
	if c.Project == "" {
		c.Project = os.Getenv("GOOGLE_CLOUD_PROJECT")
	}
	require(datasetID.MatchString(c.Dataset), "dataset %q: give the dataset's id (letters, digits, underscores), or project.dataset", o.Dataset)
	require(projectID.MatchString(c.Project), "project %q: give the project's id, in the option project, in dataset, or in $GOOGLE_CLOUD_PROJECT", c.Project)
	require(prefixOK.MatchString(c.TablePrefix), "table_prefix %q: at most 64 letters, digits and underscores", c.TablePrefix)
	switch c.Mode {
	case "":
		c.Mode = Changelog
	case Changelog:
	case Replica:
		require(false, "mode: replica is not supported in this version: use changelog, and a view that takes each key's last _position")
	default:
		require(false, "mode: %q is not one of %s", c.Mode, Changelog)
	}
	if c.Delivery == "" {
		c.Delivery = ExactlyOnce
	}
	require(c.Delivery == ExactlyOnce || c.Delivery == AtLeastOnce, "delivery: %q is not one of %s, %s", c.Delivery, ExactlyOnce, AtLeastOnce)
	require(c.Lanes == 0 || c.Delivery == AtLeastOnce, "lanes: only delivery %s has lanes to choose", AtLeastOnce)
	var err error
	c.maxDelay, err = sinks.Delay("max_delay", c.MaxDelay, 100*time.Millisecond, 5*time.Minute)
	errs = append(errs, err,
		sinks.Count("lanes", &c.Lanes, 4, 1, 64),
		sinks.Count("max_changes", &c.MaxChanges, 20_000, 1, 1_000_000),
		sinks.Count("max_bytes", &c.MaxBytes, 8<<20, 64<<10, 256<<20),
		c.endpoints())
	return c, errors.Join(errs...)
}

func (c *config) endpoints() error {
	if c.Endpoint == "" {
		c.Endpoint = os.Getenv("BIGQUERY_EMULATOR_HOST")
		if c.Endpoint != "" && !strings.Contains(c.Endpoint, "://") {
			c.Endpoint = "http://" + c.Endpoint
		}
	}
	if c.GRPCEndpoint == "" {
		c.GRPCEndpoint = os.Getenv("BIGQUERY_STORAGE_EMULATOR_HOST")
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("endpoint %q: give a URL such as http://127.0.0.1:9050", c.Endpoint)
		}
		c.plaintext = u.Scheme == "http"
	}
	if c.GRPCEndpoint != "" {
		if _, _, err := net.SplitHostPort(c.GRPCEndpoint); err != nil {
			return fmt.Errorf("grpc_endpoint %q: give host and port, such as 127.0.0.1:9060", c.GRPCEndpoint)
		}
	}
	// Half an emulator would send the other half of the data to Google.
	if c.plaintext && c.GRPCEndpoint == "" {
		return fmt.Errorf("endpoint is %s, an emulator: grpc_endpoint (or $BIGQUERY_STORAGE_EMULATOR_HOST) is needed as well", c.Endpoint)
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

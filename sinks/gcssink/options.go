package gcssink

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/sinks"
)

// Type describes the sink to the registry.
var Type = sinks.Type{
	Name:    "gcs",
	Summary: "Archives every change exactly once, in order, as immutable Avro segments on Cloud Storage.",
	Options: []sinks.Option{
		{Name: "bucket", Doc: "The bucket. It must exist; a locked retention policy is welcome."},
		{Name: "database", Doc: "The database's full name, projects/…/instances/…/databases/…: an archive is of one database, and another's is refused."},
		{Name: "stream", Doc: "The change stream's name: an archive is of one stream."},
		{Name: "identity", Default: `""`, Doc: "What tells the database from another of the same name, such as its creation time. Empty compares names only."},
		{Name: "pipeline", Default: `""`, Doc: "The pipeline that writes the archive: another's archive is refused, because both would write every change. Empty compares no names."},
		{Name: "prefix", Default: `""`, Doc: "The folder in the bucket the archive lies in. One archive a prefix."},
		{Name: "codec", Default: "deflate", Doc: "How segments are compressed: deflate (at its fastest level: every Avro reader knows it), snappy, zstd or none."},
		{Name: "max_bytes", Default: "33554432", Doc: "The most memory, in bytes, the changes of one segment may take; 65536 to 1073741824. Larger segments are fewer objects and faster reads; each open one counts against the pipeline's budget. Files come out some ten times smaller."},
		{Name: "max_changes", Default: "100000", Doc: "The most changes in one segment; 1 to 10000000. It bounds what a reader must sort."},
		{Name: "max_delay", Default: "1m", Doc: "How long a segment may stay open for more changes, 0s to 1h: the archive's delay, against the number of objects. A segment ends at an hour of commit time in any case."},
		{Name: "endpoint", Default: `""`, Doc: "The address of another Cloud Storage, such as an emulator's http://127.0.0.1:4443, which is used without credentials; https addresses with them. Empty means Google's, or STORAGE_EMULATOR_HOST where that is set."},
	},
	New: func(name string, decode func(into any) error) (sinks.Sink, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(name, o)
	},
}

// Options configure a sink; Type.Options says what each means. Zero values take the defaults.
type Options struct {
	Bucket     string `json:"bucket"`
	Database   string `json:"database"`
	Stream     string `json:"stream"`
	Identity   string `json:"identity"`
	Pipeline   string `json:"pipeline"`
	Prefix     string `json:"prefix"`
	Codec      string `json:"codec"`
	MaxBytes   int    `json:"max_bytes"`
	MaxChanges int    `json:"max_changes"`
	MaxDelay   string `json:"max_delay"`
	Endpoint   string `json:"endpoint"`
}

// check fills in the defaults and answers the codec and how long a segment may stay open.
func (o *Options) check() (avro.Codec, time.Duration, error) {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(o.Bucket != "" && !strings.ContainsAny(o.Bucket, "/:"), "bucket %q: give the bucket's name alone, such as my-archive", o.Bucket)
	require(o.Database != "", "database: required")
	require(o.Stream != "", "stream: required")
	require(len(o.Prefix) <= 400, "prefix: %d bytes, at most 400, so that names stay below Cloud Storage's 1,024", len(o.Prefix))
	require(!strings.HasPrefix(o.Prefix, "/") && !strings.Contains(o.Prefix, "//"), "prefix %q: it must not begin with a slash or have two in a row", o.Prefix)
	delay, err := sinks.Delay("max_delay", o.MaxDelay, time.Minute, time.Hour)
	errs = append(errs, err,
		sinks.Count("max_bytes", &o.MaxBytes, 32<<20, 64<<10, 1<<30),
		sinks.Count("max_changes", &o.MaxChanges, 100_000, 1, 10_000_000))
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		require(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "endpoint %q: give a URL such as http://127.0.0.1:4443", o.Endpoint)
	}
	if o.Codec == "" {
		o.Codec = string(avro.Deflate)
	}
	codec, err := avro.ParseCodec(o.Codec)
	if err != nil {
		errs = append(errs, fmt.Errorf("codec: %w", err))
	}
	if o.Prefix != "" && !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	return codec, delay, errors.Join(errs...)
}

package gcssink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/archive/gcs"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/sinks"
)

// Sink is the archive's sink; it implements sinks.Appender.
type Sink struct {
	name    string
	options Options
	codec   avro.Codec
	// maxDelay is how long a segment may stay open.
	maxDelay time.Duration

	// transport carries requests to a plain http endpoint; a test may put its own in its place.
	transport http.RoundTripper
	backoff   gax.Backoff
	client    *storage.Client
	bucket    archive.Bucket

	mu      sync.Mutex
	schemas map[*change.Table]*avro.Schema
	stored  map[string]bool           // names of schema files known to be there
	proved  map[change.Chain]struct{} // chains whose end was found in this archive or made by this Sink
}

// New makes a sink; it does not touch the network. name is the sink's name in its pipeline. Errors name every option that
// is wrong.
func New(name string, o Options) (*Sink, error) {
	codec, delay, err := o.check()
	if err != nil {
		return nil, err
	}
	return &Sink{
		name: name, options: o, codec: codec, maxDelay: delay,
		backoff: gax.Backoff{Initial: 200 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2},
		schemas: map[*change.Table]*avro.Schema{}, stored: map[string]bool{}, proved: map[change.Chain]struct{}{},
	}, nil
}

// Spec implements sinks.Sink.
func (s *Sink) Spec() sinks.Spec {
	return sinks.Spec{
		LaneBy:     sinks.LaneByChain,
		MaxChanges: s.options.MaxChanges,
		MaxBytes:   s.options.MaxBytes,
		MaxDelay:   s.maxDelay,
		// A segment of the largest size over a slow link, and the listing of a table's whole archive, take their time.
		WriteTimeout: 5 * time.Minute,
	}
}

// attempts is how often the client itself sends a request before the engine, whose back-off is visible, takes over.
const attempts = 4

// Open implements sinks.Sink: it finds the bucket and claims the archive in it for this database and stream.
func (s *Sink) Open(ctx context.Context) error {
	var options []option.ClientOption
	if s.options.Endpoint != "" {
		u, err := url.Parse(s.options.Endpoint)
		if err != nil {
			return fmt.Errorf("gcs sink %s: endpoint: %w", s.name, err)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/storage/v1/"
		}
		options = append(options, option.WithEndpoint(u.String()), storage.WithJSONReads())
		if u.Scheme == "http" {
			if s.transport == nil {
				s.transport = http.DefaultTransport.(*http.Transport).Clone()
			}
			options = append(options, option.WithHTTPClient(&http.Client{Transport: s.transport}))
		}
	}
	client, err := storage.NewClient(ctx, options...)
	if err != nil {
		return fmt.Errorf("gcs sink %s: cannot make a client: %w: check the application default credentials (gcloud auth application-default login), or set endpoint", s.name, err)
	}
	client.SetRetry(storage.WithBackoff(s.backoff), storage.WithMaxAttempts(attempts))
	s.client = client
	s.bucket = gcs.New(client, s.options.Bucket, s.options.Prefix)
	// A listing tells a missing bucket from a missing object, and needs no right beyond those Append and End need.
	_, err = client.Bucket(s.options.Bucket).Objects(ctx, &storage.Query{Prefix: s.options.Prefix + "archive.json"}).Next()
	if err == nil || errors.Is(err, iterator.Done) {
		err = archive.Claim(ctx, s.bucket, archive.Manifest{
			Database: s.options.Database, Stream: s.options.Stream, Identity: s.options.Identity, Pipeline: s.options.Pipeline,
		})
	}
	if err != nil {
		return errors.Join(s.fault("open the archive", err), s.Close(ctx))
	}
	return nil
}

// Close implements sinks.Sink.
func (s *Sink) Close(context.Context) error {
	if s.client == nil {
		return nil
	}
	err := s.client.Close()
	s.client = nil
	if t, ok := s.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	return err
}

// Bucket is the archive the sink writes to, between Open and Close: for readers in the same process.
func (s *Sink) Bucket() archive.Bucket { return s.bucket }

// schemaOf caches schemas by table: tables are interned.
func (s *Sink) schemaOf(t *change.Table) (*avro.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if schema := s.schemas[t]; schema != nil {
		return schema, nil
	}
	schema, err := avro.SchemaOf(t)
	if err == nil {
		s.schemas[t] = schema
	}
	return schema, err
}

func (s *Sink) storeSchema(ctx context.Context, schema *avro.Schema) error {
	name := archive.SchemaName(schema)
	s.mu.Lock()
	stored := s.stored[name]
	s.mu.Unlock()
	if stored {
		return nil
	}
	if err := archive.StoreSchema(ctx, s.bucket, schema); err != nil {
		return err
	}
	s.mu.Lock()
	s.stored[name] = true
	s.mu.Unlock()
	return nil
}

package gcssink

import (
	"context"
	"encoding/json"
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

	// transport carries requests to a plain http endpoint; a test may put its own in its place.
	transport http.RoundTripper
	backoff   gax.Backoff
	client    *storage.Client
	bucket    archive.Bucket

	mu      sync.Mutex
	schemas map[*change.Table]*avro.Schema
	stored  map[string]bool // names of schema files known to be there
}

// New makes a sink; it does not touch the network. name is the sink's name in its pipeline. Errors name every option that
// is wrong.
func New(name string, o Options) (*Sink, error) {
	codec, err := o.check()
	if err != nil {
		return nil, err
	}
	return &Sink{
		name: name, options: o, codec: codec,
		backoff: gax.Backoff{Initial: 200 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2},
		schemas: map[*change.Table]*avro.Schema{}, stored: map[string]bool{},
	}, nil
}

// Spec implements sinks.Sink.
func (s *Sink) Spec() sinks.Spec {
	return sinks.Spec{
		LaneBy:     sinks.LaneByChain,
		MaxChanges: s.options.MaxChanges,
		MaxBytes:   s.options.MaxBytes,
		MaxDelay:   time.Duration(s.options.MaxDelay),
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
		err = archive.Claim(ctx, s.bucket, archive.Manifest{Database: s.options.Database, Stream: s.options.Stream, Identity: s.options.Identity})
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

// chainState is what End.State holds: the digest the next segment must name. The position is in End.Through; it may be
// larger than a state.
type chainState struct {
	Version int    `json:"v"`
	SHA256  string `json:"sha256"`
}

func endOf(last archive.Segment, segments ...change.Segment) (sinks.End, error) {
	state, err := json.Marshal(chainState{1, last.SHA256})
	if err != nil {
		return sinks.End{}, err
	}
	return sinks.End{Through: last.Last, State: state, Segments: segments}, nil
}

// link is what the next segment says of the one the end tells of; ok is false if the end does not know.
func link(end sinks.End) (l archive.Link, ok bool) {
	if end.Through.IsZero() {
		return archive.Link{}, true
	}
	var state chainState
	if json.Unmarshal(end.State, &state) != nil || state.Version != 1 || len(state.SHA256) != 64 {
		return archive.Link{}, false
	}
	return archive.Link{Last: end.Through, SHA256: state.SHA256}, true
}

// Append implements sinks.Appender: it writes one segment behind the end, cut at an hour of commit time or where the
// schema changes beyond a new column.
func (s *Sink) Append(ctx context.Context, batch *sinks.Batch, end sinks.End) (sinks.End, error) {
	if batch.Chain == nil || len(batch.Changes) == 0 {
		return sinks.End{}, sinks.Stop(fmt.Errorf("gcs sink %s: a batch without a chain or changes (a fault of the engine)", s.name))
	}
	chain := *batch.Chain
	previous, ok := link(end)
	if !ok {
		// The checkpoint was moved: the chain itself knows.
		found, err := s.End(ctx, chain)
		if err != nil {
			return sinks.End{}, err
		}
		if end.Through.After(found.Through) {
			return sinks.End{}, sinks.Stop(fmt.Errorf("gcs sink %s: the checkpoint says table %s of partition %.40s is archived through %s, but the archive at gs://%s/%s ends at %s: segments are missing; restore them, or start a new incarnation",
				s.name, chain.Table, chain.Token, end.Through, s.options.Bucket, s.options.Prefix, found.Through))
		}
		if found.Through != end.Through {
			found.Segments = behind(found.Segments, end.Through)
			return found, nil
		}
		previous, _ = link(found)
	}
	n, schema, err := archive.Run(batch.Changes, s.schemaOf)
	if err != nil {
		return sinks.End{}, sinks.Stop(fmt.Errorf("gcs sink %s: %w", s.name, err))
	}
	segment, object, data, err := archive.Encode(chain, previous, schema, s.codec, batch.Changes[:n])
	if err != nil {
		return sinks.End{}, sinks.Stop(fmt.Errorf("gcs sink %s: %w", s.name, err))
	}
	if err := s.storeSchema(ctx, schema); err != nil {
		return sinks.End{}, s.fault("store the schema of table "+chain.Table, err)
	}
	// I6, I7: created only if there is none at this place; whoever was first decided how far the segment reaches.
	created, err := s.bucket.Create(ctx, object, data)
	if errors.Is(err, archive.ErrExists) {
		return s.existing(ctx, segment)
	}
	if err != nil {
		return sinks.End{}, s.fault("create "+segment.Name, err)
	}
	segment.Generation = created.Generation
	return endOf(segment, segment.Segment)
}

// existing is the end behind the segment that stands where ours should: an earlier attempt's or another worker's.
func (s *Sink) existing(ctx context.Context, ours archive.Segment) (sinks.End, error) {
	have, err := archive.Stat(ctx, s.bucket, ours.Name)
	if err != nil {
		return sinks.End{}, s.fault("read what stands at "+ours.Name, err)
	}
	if have.Chain != ours.Chain || have.First != ours.First {
		return sinks.End{}, s.fault("append", &archive.CorruptError{Name: ours.Name, Reason: errors.New("another chain's segment stands in this place")})
	}
	if have.PreviousLast != ours.PreviousLast || have.Previous != ours.Previous {
		return sinks.End{}, s.fault("append", &archive.ChainError{Name: ours.Name, Reason: fmt.Sprintf("it says the one before it ends at %s with SHA-256 %q; the checkpoint says %s and %q",
			have.PreviousLast, have.Previous, ours.PreviousLast, ours.Previous)})
	}
	return endOf(have, have.Segment)
}

func behind(segments []change.Segment, through change.Position) []change.Segment {
	for i := range segments {
		if segments[i].Last.After(through) {
			return segments[i:]
		}
	}
	return nil
}

// listings is how often End lists before it believes that a chain is broken: beside a writer that is not fenced off yet, a
// page may be read before a segment that precedes one of the next page.
const listings = 3

// End implements sinks.Appender. It pages through the table's part of the archive: it is for writers that lost their
// state, not for every start.
func (s *Sink) End(ctx context.Context, chain change.Chain) (sinks.End, error) {
	var segments []archive.Segment
	var err error
	for range listings {
		segments, err = archive.ListChain(ctx, s.bucket, chain)
		if _, broken := errors.AsType[*archive.ChainError](err); !broken {
			break
		}
	}
	if err != nil {
		return sinks.End{}, s.fault("find the end of a chain of table "+chain.Table, err)
	}
	if len(segments) == 0 {
		return sinks.End{}, nil
	}
	plain := make([]change.Segment, len(segments))
	for i := range segments {
		plain[i] = segments[i].Segment
	}
	return endOf(segments[len(segments)-1], plain...)
}

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

package bigquerysink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/sinks"
)

// core is what both deliveries share.
type core struct {
	name   string
	config config

	// transport carries requests to a plain http endpoint; it is the sink's own, to be closed with it.
	transport *http.Transport
	client    *bigquery.Client
	writes    *storage.BigQueryWriteClient
	conns     *connections
	tables    tables
	batch     sync.Pool // of *rowBatch
	// requestBytes is maxRequest, but for tests of batches of several requests.
	requestBytes int
}

// Appends is the sink with delivery exactly-once.
type Appends struct{ core }

// Writes is the sink with delivery at-least-once.
type Writes struct{ core }

var (
	_ sinks.Appender = (*Appends)(nil)
	_ sinks.Writer   = (*Writes)(nil)
)

// New makes a sink from its options, *Appends or *Writes as the delivery demands; it does not touch the network. name is
// the sink's name in its pipeline. Errors name every option that is wrong.
func New(name string, o Options) (sinks.Sink, error) {
	c, err := o.check()
	if err != nil {
		return nil, err
	}
	if c.Delivery == AtLeastOnce {
		s := &Writes{}
		s.init(name, c)
		return s, nil
	}
	s := &Appends{}
	s.init(name, c)
	return s, nil
}

func (s *core) init(name string, c config) {
	s.name, s.config, s.requestBytes = name, c, maxRequest
	s.batch.New = func() any { return new(rowBatch) }
}

// writeTimeout bounds a call: a batch may be several requests, and a new table or column takes BigQuery some seconds.
const writeTimeout = 2 * time.Minute

func (s *core) spec(by sinks.LaneBy, lanes int) sinks.Spec {
	return sinks.Spec{
		LaneBy: by, Lanes: lanes,
		MaxChanges: s.config.MaxChanges, MaxBytes: s.config.MaxBytes, MaxDelay: s.config.maxDelay, WriteTimeout: writeTimeout,
	}
}

// Spec asks for a lane for each chain.
func (s *Appends) Spec() sinks.Spec { return s.spec(sinks.LaneByChain, 0) }

// Spec asks for lanes by key.
func (s *Writes) Spec() sinks.Spec { return s.spec(sinks.LaneByKey, s.config.Lanes) }

const (
	// openTimeout bounds Open, whose calls the client library would repeat for long.
	openTimeout = 20 * time.Second
	// grpcConnections share the append calls, of which each carries about 100 at once.
	grpcConnections = 4
)

// Open connects and checks that the dataset exists and may be read.
func (s *core) Open(ctx context.Context) error {
	var rest, rpc []option.ClientOption
	rest = append(rest, option.WithUserAgent("spanledger"))
	rpc = append(rpc, option.WithUserAgent("spanledger"), option.WithGRPCConnectionPool(grpcConnections))
	if s.config.Endpoint != "" {
		rest = append(rest, option.WithEndpoint(s.config.Endpoint))
	}
	if s.config.GRPCEndpoint != "" {
		rpc = append(rpc, option.WithEndpoint(s.config.GRPCEndpoint))
	}
	if s.config.plaintext {
		s.transport = http.DefaultTransport.(*http.Transport).Clone()
		rest = append(rest, option.WithHTTPClient(&http.Client{Transport: s.transport}))
		rpc = append(rpc, option.WithoutAuthentication(), option.WithTelemetryDisabled(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	client, err := bigquery.NewClient(ctx, s.config.Project, rest...)
	if err != nil {
		return s.clientError(err)
	}
	s.client = client
	checkCtx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	meta, err := client.Dataset(s.config.Dataset).Metadata(checkCtx)
	if err != nil {
		return errors.Join(s.datasetError(err), s.Close(ctx))
	}
	client.Location = meta.Location
	if s.writes, err = storage.NewBigQueryWriteClient(ctx, rpc...); err != nil {
		return errors.Join(s.clientError(err), s.Close(ctx))
	}
	s.conns = newConnections(s.writes)
	s.tables.init()
	return nil
}

func (s *core) clientError(err error) error {
	return fmt.Errorf("bigquery sink %s: cannot make a client: %w: check the application default credentials (gcloud auth application-default login), "+
		"or set endpoint and grpc_endpoint", s.name, err)
}

// Close closes the connections; without a successful Open it does nothing. Write streams stay open: a chain's next writer
// goes on with them, or finalizes them.
func (s *core) Close(context.Context) error {
	var errs []error
	if s.conns != nil {
		s.conns.close()
		s.conns = nil
	}
	if s.writes != nil {
		errs = append(errs, s.writes.Close())
		s.writes = nil
	}
	if s.client != nil {
		errs = append(errs, s.client.Close())
		s.client = nil
	}
	if s.transport != nil {
		s.transport.CloseIdleConnections()
		s.transport = nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bigquery sink %s: closing: %w", s.name, err)
	}
	return nil
}

func (s *core) tableName(id string) string {
	return "projects/" + s.config.Project + "/datasets/" + s.config.Dataset + "/tables/" + id
}

// Package emulator is Google Cloud in one process, as far as change streams and what follows them need it: Cloud Spanner
// with change streams, Pub/Sub, Cloud Storage and BigQuery, for Go tests and for development. No Docker, no other process,
// nothing to install.
//
// [Start] serves them on free ports of 127.0.0.1. Google's clients find them by the options of each service's ClientOptions,
// or, in programs that make clients of their own, by the environment variables of [Cloud.Env]. Each service has a package of
// its own, which says what it has, what it lacks, and how to make it fail: emulator/spanner, emulator/pubsub,
// emulator/storage, emulator/bigquery. Package official runs Google's own emulators, where they are installed.
//
// Nothing is authenticated: keep the services on loopback addresses.
package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/spanledger/spanledger/emulator/bigquery"
	"github.com/spanledger/spanledger/emulator/pubsub"
	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/storage"
)

// Service names a service.
type Service string

// The services.
const (
	Spanner  Service = "spanner"
	PubSub   Service = "pubsub"
	Storage  Service = "storage"
	BigQuery Service = "bigquery"
)

// Services are all of them.
func Services() []Service { return []Service{Spanner, PubSub, Storage, BigQuery} }

// Options configure Start; the zero value starts every service, in memory, on free ports of 127.0.0.1. An address without a
// host, such as ":9010", is one of 127.0.0.1 too.
type Options struct {
	Spanner  spanner.Options
	PubSub   pubsub.Options
	Storage  storage.Options
	BigQuery bigquery.Options
	// Without leaves services out.
	Without []Service
}

// Cloud is the running services; those left out are nil. Its methods are safe for concurrent use.
type Cloud struct {
	Spanner  *spanner.Server
	PubSub   *pubsub.Server
	Storage  *storage.Server
	BigQuery *bigquery.Server

	close []func() error
}

// Start starts the services and returns when all accept connections; ctx bounds the start only. An address that cannot be
// listened on is an error, and then nothing is left running. Close stops them.
func Start(ctx context.Context, o Options) (_ *Cloud, err error) {
	for _, s := range o.Without {
		if !slices.Contains(Services(), s) {
			return nil, fmt.Errorf("emulator: there is no service %q to leave out: want one of %v", s, Services())
		}
	}
	c := &Cloud{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	lives := context.WithoutCancel(ctx)
	start := func(s Service, begin func() (func() error, error)) {
		if err != nil || slices.Contains(o.Without, s) {
			return
		}
		if err = ctx.Err(); err != nil {
			return
		}
		var stop func() error
		if stop, err = begin(); err != nil {
			err = fmt.Errorf("start %s: %w", s, err)
			return
		}
		c.close = append(c.close, stop)
	}
	start(Storage, func() (stop func() error, err error) {
		o.Storage.Addr = loopback(o.Storage.Addr)
		if c.Storage, err = storage.Start(lives, o.Storage); err != nil {
			return nil, err
		}
		return c.Storage.Close, nil
	})
	start(BigQuery, func() (stop func() error, err error) {
		o.BigQuery.RESTAddr, o.BigQuery.GRPCAddr = loopback(o.BigQuery.RESTAddr), loopback(o.BigQuery.GRPCAddr)
		if c.BigQuery, err = bigquery.Start(lives, o.BigQuery); err != nil {
			return nil, err
		}
		return c.BigQuery.Close, nil
	})
	start(Spanner, func() (stop func() error, err error) {
		o.Spanner.Addr = loopback(o.Spanner.Addr)
		if c.Spanner, err = spanner.Start(lives, o.Spanner); err != nil {
			return nil, err
		}
		return c.Spanner.Close, nil
	})
	start(PubSub, func() (stop func() error, err error) {
		o.PubSub.Address = loopback(o.PubSub.Address)
		if c.PubSub, err = pubsub.Start(o.PubSub); err != nil {
			return nil, err
		}
		return c.PubSub.Close, nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// loopback gives an address without a host that of this machine alone: the services ask nobody who they are.
func loopback(addr string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil && host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// The environment variables that say where emulators are. Google's Go clients know the first three; those for BigQuery are
// Spanledger's.
const (
	SpannerVariable         = "SPANNER_EMULATOR_HOST"
	PubSubVariable          = "PUBSUB_EMULATOR_HOST"
	StorageVariable         = "STORAGE_EMULATOR_HOST"
	BigQueryVariable        = "BIGQUERY_EMULATOR_HOST"
	BigQueryStorageVariable = "BIGQUERY_STORAGE_EMULATOR_HOST"
)

// Env is the environment variables that lead clients here, by name; those of services left out, and of a Spanner that is
// in memory only, are missing. The caller owns it.
func (c *Cloud) Env() map[string]string {
	env := map[string]string{}
	if c.Spanner != nil && !c.Spanner.InMemory() {
		env[SpannerVariable] = c.Spanner.Addr()
	}
	if c.PubSub != nil {
		env[PubSubVariable] = c.PubSub.Endpoint()
	}
	if c.Storage != nil {
		env[StorageVariable] = "http://" + c.Storage.Addr()
	}
	if c.BigQuery != nil {
		env[BigQueryVariable], env[BigQueryStorageVariable] = c.BigQuery.Endpoint(), c.BigQuery.GRPCEndpoint()
	}
	return env
}

// Close stops the services, the last started first. It may be called again and returns the same.
func (c *Cloud) Close() error {
	var errs []error
	for _, stop := range slices.Backward(c.close) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

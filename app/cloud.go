package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spanledger/spanledger/emulator/bigquery"
	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/pubsub"
	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/storage"
)

// CloudOptions configure an embedded cloud.
type CloudOptions struct {
	// Official runs Google's own Spanner and Pub/Sub emulators, as processes, instead of ours.
	Official bool
	// Spanner are the embedded Spanner's options; not for Official.
	Spanner spanner.Options
	// OfficialSpanner are those of Google's.
	OfficialSpanner official.SpannerOptions
	// StorageDir keeps objects as plain files, StorageDir/BUCKET/NAME; "" keeps them in memory.
	StorageDir string
	// Listen says where each service listens; with Official it is for Cloud Storage and BigQuery only.
	Listen Listen
}

// Listen are addresses to listen on, host:port each. "" is a free port of 127.0.0.1, Off leaves the service out.
// BigQuery is the REST API's, BigQueryStorage that of the Storage API over gRPC: Off in one leaves out both.
type Listen struct{ Spanner, PubSub, Storage, BigQuery, BigQueryStorage string }

// Off in Listen leaves a service out.
const Off = "off"

// Cloud is Google Cloud as far as Spanledger needs it, on loopback ports of this machine: in this process, or with
// Google's own emulators beside it.
type Cloud struct {
	Endpoints
	// Messages is the embedded Pub/Sub, nil with Google's.
	Messages *pubsub.Server

	close []func() error
}

// StartCloud starts the services; Close stops them.
func StartCloud(ctx context.Context, o CloudOptions) (_ *Cloud, err error) {
	c := &Cloud{}
	ctx = context.WithoutCancel(ctx) // the services end with Close, after everything that uses them has drained
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if o.Listen.Storage != Off {
		objects, err := storage.Start(ctx, storage.Options{Addr: o.Listen.Storage, Dir: o.StorageDir})
		if err != nil {
			return nil, fmt.Errorf("start the embedded Cloud Storage: %w", err)
		}
		c.close = append(c.close, objects.Close)
		c.Storage = "http://" + objects.Addr()
	}
	if o.Listen.BigQuery != Off && o.Listen.BigQueryStorage != Off {
		tables, err := bigquery.Start(ctx, bigquery.Options{RESTAddr: o.Listen.BigQuery, GRPCAddr: o.Listen.BigQueryStorage})
		if err != nil {
			return nil, fmt.Errorf("start the embedded BigQuery: %w", err)
		}
		c.close = append(c.close, tables.Close)
		c.BigQuery, c.BigQueryStorage = tables.Endpoint(), tables.GRPCEndpoint()
	}
	if o.Official {
		return c, c.startOfficial(ctx, o.OfficialSpanner)
	}
	if o.Listen.Spanner != Off {
		o.Spanner.Addr = cmp.Or(o.Listen.Spanner, o.Spanner.Addr)
		db, err := spanner.Start(ctx, o.Spanner)
		if err != nil {
			return nil, fmt.Errorf("start the embedded Spanner: %w", err)
		}
		c.close = append(c.close, db.Close)
		c.Spanner = db.Addr()
	}
	if o.Listen.PubSub != Off {
		if c.Messages, err = pubsub.Start(pubsub.Options{Address: o.Listen.PubSub}); err != nil {
			return nil, fmt.Errorf("start the embedded Pub/Sub: %w", err)
		}
		c.close = append(c.close, c.Messages.Close)
		c.PubSub = c.Messages.Endpoint()
	}
	return c, nil
}

func (c *Cloud) startOfficial(ctx context.Context, o official.SpannerOptions) error {
	db, err := official.StartSpanner(ctx, o)
	if err != nil {
		return err
	}
	c.close = append(c.close, db.Stop)
	c.Spanner = db.Endpoint()
	messages, err := official.StartPubSub(ctx, official.PubSubOptions{})
	if err != nil {
		return err
	}
	c.close = append(c.close, messages.Stop)
	c.PubSub = messages.Endpoint()
	return nil
}

// Close stops the services, the last started first.
func (c *Cloud) Close() error {
	var errs []error
	for i := len(c.close) - 1; i >= 0; i-- {
		errs = append(errs, c.close[i]())
	}
	c.close = nil
	return errors.Join(errs...)
}

package app

import (
	"cmp"
	"context"
	"errors"

	"github.com/spanledger/spanledger/emulator"
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

// Listen are addresses to listen on, host:port each. "" is a free port of 127.0.0.1, an address without a host one of
// 127.0.0.1, Off leaves the service out. BigQuery is the REST API's, BigQueryStorage that of the Storage API over gRPC: Off
// in one leaves out both.
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
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	l := o.Listen
	o.Spanner.Addr = cmp.Or(l.Spanner, o.Spanner.Addr)
	eo := emulator.Options{
		Spanner:  o.Spanner,
		PubSub:   pubsub.Options{Address: l.PubSub},
		Storage:  storage.Options{Addr: l.Storage, Dir: o.StorageDir},
		BigQuery: bigquery.Options{RESTAddr: l.BigQuery, GRPCAddr: l.BigQueryStorage},
	}
	for service, off := range map[emulator.Service]bool{
		emulator.Spanner: l.Spanner == Off || o.Official, emulator.PubSub: l.PubSub == Off || o.Official,
		emulator.Storage: l.Storage == Off, emulator.BigQuery: l.BigQuery == Off || l.BigQueryStorage == Off,
	} {
		if off {
			eo.Without = append(eo.Without, service)
		}
	}
	embedded, err := emulator.Start(ctx, eo)
	if err != nil {
		return nil, err
	}
	c.close = append(c.close, embedded.Close)
	c.Messages = embedded.PubSub
	c.Endpoints = endpoints(func(name string) string { return embedded.Env()[name] })
	if o.Official {
		return c, c.startOfficial(context.WithoutCancel(ctx), o.OfficialSpanner)
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

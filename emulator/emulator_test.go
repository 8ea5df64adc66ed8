package emulator_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"
	pubsub "cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	cloudspanner "cloud.google.com/go/spanner"
	"cloud.google.com/go/storage"
	"go.uber.org/goleak"

	"github.com/spanledger/spanledger/emulator"
	embeddedpubsub "github.com/spanledger/spanledger/emulator/pubsub"
	"github.com/spanledger/spanledger/emulator/spanner"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The clients' metrics library starts it and never stops it.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		// The client libraries ask for a metadata server and keep the connection idle for a while.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

// Google's own clients talk to every service, by its options.
func TestEveryServiceAnswers(t *testing.T) {
	ctx := t.Context()
	cloud, err := emulator.Start(ctx, emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for range 2 {
			if err := cloud.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	for name, value := range cloud.Env() {
		if !strings.Contains(value, "127.0.0.1:") {
			t.Errorf("%s=%s is not a loopback address", name, value)
		}
	}
	if n := len(cloud.Env()); n != 5 {
		t.Errorf("%d variables", n)
	}

	const db = "projects/p/instances/in/databases/db"
	if _, err := cloud.Spanner.CreateDatabase(ctx, db, "CREATE TABLE t (k INT64) PRIMARY KEY (k)"); err != nil {
		t.Fatal(err)
	}
	rows, err := cloudspanner.NewClientWithConfig(ctx, db, cloudspanner.ClientConfig{DisableNativeMetrics: true}, cloud.Spanner.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if _, err := rows.Apply(ctx, []*cloudspanner.Mutation{cloudspanner.Insert("t", []string{"k"}, []any{1})}); err != nil {
		t.Error(err)
	}

	messages, err := pubsub.NewClient(ctx, "p", cloud.PubSub.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Close()
	if _, err := messages.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: "projects/p/topics/topic"}); err != nil {
		t.Error(err)
	}

	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	objects, err := storage.NewClient(ctx, cloud.Storage.ClientOptions(&http.Client{Transport: transport})...)
	if err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	if err := objects.Bucket("bucket").Create(ctx, "p", nil); err != nil {
		t.Error(err)
	}

	tables, err := bigquery.NewClient(ctx, "p", cloud.BigQuery.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer tables.Close()
	if err := tables.Dataset("d").Create(ctx, nil); err != nil {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	without := func(keep emulator.Service) []emulator.Service {
		return slices.DeleteFunc(emulator.Services(), func(s emulator.Service) bool { return s == keep })
	}
	cloud, err := emulator.Start(t.Context(), emulator.Options{Spanner: spanner.Options{Addr: ":0"}, Without: without(emulator.Spanner)})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	if cloud.PubSub != nil || cloud.Storage != nil || cloud.BigQuery != nil || len(cloud.Env()) != 1 {
		t.Errorf("services left out are there: %v", cloud.Env())
	}
	taken := cloud.Spanner.Addr()
	if host, _, err := net.SplitHostPort(taken); err != nil || host != "127.0.0.1" {
		t.Errorf(":0 is %s", taken)
	}
	// A failure leaves nothing running: goleak looks.
	if _, err := emulator.Start(t.Context(), emulator.Options{PubSub: embeddedpubsub.Options{Address: taken}}); err == nil || !strings.Contains(err.Error(), "start pubsub") {
		t.Errorf("an address in use: %v", err)
	}
	if _, err := emulator.Start(t.Context(), emulator.Options{Without: []emulator.Service{"kafka"}}); err == nil {
		t.Error("an unknown service can be left out")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := emulator.Start(done, emulator.Options{}); err == nil {
		t.Error("a cancelled start succeeded")
	}
}

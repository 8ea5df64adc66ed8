package ingest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instanceadmin "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"go.uber.org/goleak"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/emulator/official"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// backends are the Spanners the tests run against; each answers a client of a
// new database with the given statements applied.
var backends = []struct {
	name string
	open func(t testing.TB, ddl []string) *spanner.Client
	// one transaction at a time per client
	options Options
}{
	{"official", openOfficial, Options{MaxTransactions: 1}},
	{"embedded", openEmbedded, Options{}},
}

// officialEmulator is shared: each test has a database of its own.
var officialEmulator atomic.Pointer[official.Process]

func TestMain(m *testing.M) {
	flag.Parse()
	// Each step is a transaction; -rapid.checks asks for more.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("25"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if p := officialEmulator.Load(); p != nil {
		if err := p.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := goleak.Find(
		// Kept for the life of the process by the client libraries.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		// The client asks Google's metadata server where it runs, on a
		// connection of its own that idles on.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var databases atomic.Int64

func openOfficial(t testing.TB, ddl []string) *spanner.Client {
	t.Helper()
	p := officialEmulator.Load()
	if p == nil {
		// Stopped by TestMain, not by the first test that needs it.
		var err error
		if p, err = official.StartSpanner(t.Context(), official.SpannerOptions{}); err != nil {
			_ = official.SpannerForTest(t, official.SpannerOptions{}) // skips loudly
			t.Fatal(err)
		}
		officialEmulator.Store(p)
	}
	name := fmt.Sprintf("projects/test/instances/ingest/databases/db%d", databases.Add(1))
	if err := p.CreateDatabase(t.Context(), name, ddl...); err != nil {
		t.Fatal(err)
	}
	return openClient(t, p, name)
}

// openEmbedded starts an embedded Spanner for the test.
func openEmbedded(t testing.TB, ddl []string) *spanner.Client {
	t.Helper()
	srv, err := embedded.Start(context.Background(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	options := []option.ClientOption{
		option.WithEndpoint(srv.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	admin, err := database.NewDatabaseAdminClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	const instance = "projects/test/instances/ingest"
	instances, err := instanceadmin.NewInstanceAdminClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer instances.Close()
	made, err := instances.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{
		Parent: "projects/test", InstanceId: "ingest", Instance: &instancepb.Instance{Config: "projects/test/instanceConfigs/emulator-config", DisplayName: "ingest", NodeCount: 1},
	})
	if err == nil {
		_, err = made.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	op, err := admin.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{
		Parent: instance, CreateStatement: "CREATE DATABASE `ledger`", ExtraStatements: ddl,
	})
	if err == nil {
		_, err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return openWith(t, instance+"/databases/ledger", options)
}

func openClient(t testing.TB, p *official.Process, name string) *spanner.Client {
	t.Helper()
	return openWith(t, name, p.ClientOptions())
}

func openWith(t testing.TB, name string, options []option.ClientOption) *spanner.Client {
	t.Helper()
	client, err := spanner.NewClientWithConfig(t.Context(), name, spanner.ClientConfig{DisableNativeMetrics: true}, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// eachBackend runs a test with an empty store on every backend.
func eachBackend(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			test(t, New(b.open(t, DDL()), b.options))
		})
	}
}

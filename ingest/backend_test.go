package ingest

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/spanner"
	"github.com/spanledger/spanledger/emulator/official"
	"go.uber.org/goleak"
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
}

// officialEmulator is shared: each test has a database of its own.
var officialEmulator atomic.Pointer[official.Process]

func TestMain(m *testing.M) {
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

func openClient(t testing.TB, p *official.Process, name string) *spanner.Client {
	t.Helper()
	client, err := spanner.NewClientWithConfig(t.Context(), name,
		spanner.ClientConfig{DisableNativeMetrics: true}, p.ClientOptions()...)
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

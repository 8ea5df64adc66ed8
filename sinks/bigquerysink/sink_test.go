package bigquerysink

import (
	"net/http"
	"testing"

	"cloud.google.com/go/bigquery"
	"go.uber.org/goleak"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/spanledger/spanledger/check"
	emulator "github.com/spanledger/spanledger/emulator/bigquery"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

func TestMain(m *testing.M) {
	// The client libraries import OpenCensus, which starts one goroutine for ever in its init.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// world is a running BigQuery with the dataset p.d.
type world struct {
	server *emulator.Server
	client *bigquery.Client
}

func start(t testing.TB) *world {
	t.Helper()
	server, err := emulator.Start(t.Context(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{server: server}
	// A transport of the world's own: a port may be had again, and an idle connection to its last owner with it.
	transport := &http.Transport{DisableKeepAlives: true}
	w.client, err = bigquery.NewClient(t.Context(), "p", option.WithEndpoint(server.Endpoint()), option.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.Dataset("d").Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.client.Close(); err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	})
	return w
}

func (w *world) options(delivery Delivery) Options {
	return Options{Project: "p", Dataset: "d", Delivery: delivery, Endpoint: w.server.Endpoint(), GRPCEndpoint: w.server.GRPCEndpoint()}
}

// sink makes a sink that is not open yet.
func (w *world) sink(t testing.TB, delivery Delivery) sinks.Sink {
	t.Helper()
	s, err := New("test", w.options(delivery))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readBack reads the changelog tables with package check's reader, which shares no code with the sink.
func (w *world) readBack(t testing.TB) []sinktest.Delivered {
	t.Helper()
	var all []sinktest.Delivered
	tables := w.client.Dataset("d").Tables(t.Context())
	for {
		table, err := tables.Next()
		if err == iterator.Done {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		meta, err := table.Metadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if meta.Labels["spanledger"] != "changelog" {
			continue
		}
		rows, err := check.BigQueryTable(t.Context(), table)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range rows {
			all = append(all, sinktest.Delivered{
				ID: d.Position.String(), Table: d.Table, Key: d.Key, Op: d.Op, After: texts(d.After), Before: texts(d.Before),
			})
		}
	}
	return all
}

func texts(row check.Row) map[string]string {
	m := map[string]string{}
	for _, v := range row {
		m[v.Column.Name] = v.Text
	}
	return m
}

func harness(delivery Delivery) sinktest.Harness {
	return sinktest.Harness{
		Make: func(t *testing.T) sinktest.Destination {
			w := start(t)
			return sinktest.Destination{
				Sink:     func(t *testing.T) sinks.Sink { return w.sink(t, delivery) },
				ReadBack: func(t *testing.T) []sinktest.Delivered { return w.readBack(t) },
			}
		},
		Missing: func(t *testing.T) sinks.Sink {
			w := start(t)
			o := w.options(delivery)
			o.Dataset = "missing"
			s, err := New("test", o)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
}

func TestConformanceAtLeastOnce(t *testing.T) { sinktest.Run(t, harness(AtLeastOnce)) }

func TestConformanceExactlyOnce(t *testing.T) { sinktest.Run(t, harness(ExactlyOnce)) }

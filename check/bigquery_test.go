package check

import (
	"net/http"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/spanledger/spanledger/change"
	emulator "github.com/spanledger/spanledger/emulator/bigquery"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/bigquerysink"
)

// bigQueryWorld is an embedded BigQuery with the dataset p.d, and a sink that repeats if told to.
func bigQueryWorld(t *testing.T) (*bigquery.Client, sinks.Writer) {
	t.Helper()
	server, err := emulator.Start(t.Context(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client, err := bigquery.NewClient(t.Context(), "p", option.WithEndpoint(server.Endpoint()), option.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Dataset("d").Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	sink, err := bigquerysink.New("test", bigquerysink.Options{
		Project: "p", Dataset: "d", Delivery: bigquerysink.AtLeastOnce, Endpoint: server.Endpoint(), GRPCEndpoint: server.GRPCEndpoint(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{sink.Close(t.Context()), client.Close(), server.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
		transport.CloseIdleConnections()
	})
	return client, sink.(sinks.Writer)
}

func TestBigQuery(t *testing.T) {
	tests := map[string]struct {
		spoil func(c []change.Change) []change.Change
		kind  Kind
		count int64
		want  string
	}{
		"sound":   {},
		"missing": {spoil: func(c []change.Change) []change.Change { return append(c[:4:4], c[5:]...) }, kind: Missing, count: 1},
		"duplicate": {spoil: func(c []change.Change) []change.Change { return append(c, c[4]) },
			kind: Duplicate, count: 1},
		"unexpected": {spoil: func(c []change.Change) []change.Change {
			x := c[4]
			x.Position.Transaction = "999"
			return append(c, x)
		}, kind: Unexpected, count: 1},
		"changed value": {spoil: func(c []change.Change) []change.Change { c[4].After[2] = value(`"77"`); return c },
			kind: Mismatched, count: 1, want: `amount (INT64) is "77"`},
		"changed raw value": {spoil: func(c []change.Change) []change.Change { c[4].After[11] = value(`["x",null,null]`); return c },
			kind: Mismatched, count: 1, want: "column tags"},
		"nanoseconds lost": {spoil: func(c []change.Change) []change.Change {
			c[1].After[4] = value(`"2026-01-02T03:04:05.123456Z"`)
			return c
		},
			kind: Mismatched, count: 1, want: "column at"},
		"changed before": {spoil: func(c []change.Change) []change.Change { c[4].Before[2] = value(`"77"`); return c },
			kind: Mismatched, count: 1, want: "before column amount"},
		"NULL for not captured": {spoil: func(c []change.Change) []change.Change { c[4].Before = append(c[4].Before, value("null")); return c },
			kind: Mismatched, count: 1, want: "before has column price"},
		"not captured for NULL": {spoil: func(c []change.Change) []change.Change { c[1].After[8] = nil; return c },
			kind: Mismatched, count: 1, want: "lacks column ratio"},
		"changed key": {spoil: func(c []change.Change) []change.Change {
			c[4].Key = []change.Value{value(`"south"`), c[4].Key[1]}
			return c
		},
			kind: Mismatched, count: 1, want: "key is"},
		"changed operation": {spoil: func(c []change.Change) []change.Change { c[4].Op = change.Insert; return c },
			kind: Mismatched, count: 1, want: "operation is"},
		"changed tag": {spoil: func(c []change.Change) []change.Change { c[4].Tag = ""; return c },
			kind: Mismatched, count: 1, want: "transaction tag"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client, sink := bigQueryWorld(t)
			changes := worldChanges()
			for i := range changes { // what is spoilt must not be spoilt in the truth
				changes[i].After = append(change.Row(nil), changes[i].After...)
			}
			if test.spoil != nil {
				changes = test.spoil(changes)
			}
			if err := sink.Write(t.Context(), &sinks.Batch{Changes: changes}); err != nil {
				t.Fatal(err)
			}
			got, err := BigQuery(t.Context(), truthOf(t, worldChanges(), worldPartitions()), client, "p", "d")
			if err != nil {
				t.Fatal(err)
			}
			if test.kind == "" {
				if err := got.Err(); err != nil || got.Delivered != 12 {
					t.Fatalf("%d delivered: %v", got.Delivered, err)
				}
				return
			}
			counts := map[Kind]int64{Missing: got.Missing, Duplicate: got.Duplicates, Unexpected: got.Unexpected, Mismatched: got.Mismatched, Fault: got.Faults}
			for kind, n := range counts {
				if want := map[bool]int64{true: test.count}[kind == test.kind]; n != want {
					t.Errorf("%s: %d, want %d", kind, n, want)
				}
			}
			if err := got.Err(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Err() = %v, want something with %q", err, test.want)
			}
		})
	}
}

// TestBigQueryFaults spoils the table itself.
func TestBigQueryFaults(t *testing.T) {
	client, sink := bigQueryWorld(t)
	if err := sink.Write(t.Context(), &sinks.Batch{Changes: worldChanges()}); err != nil {
		t.Fatal(err)
	}
	truth := truthOf(t, worldChanges(), worldPartitions())
	table := client.Dataset("d").Table("shop__stock")
	if _, err := table.Update(t.Context(), bigquery.TableMetadataToUpdate{Description: "mine"}, ""); err != nil {
		t.Fatal(err)
	}
	got, err := BigQuery(t.Context(), truth, client, "p", "d")
	if err != nil || got.Faults != 1 || got.Missing != 12 {
		t.Errorf("a table without a name: %+v, %v", got, err)
	}
	if _, err := table.Update(t.Context(), bigquery.TableMetadataToUpdate{Description: "of `other`"}, ""); err != nil {
		t.Fatal(err)
	}
	if got, err = BigQuery(t.Context(), truth, client, "p", "d"); err != nil || got.Mismatched != 12 {
		t.Errorf("a table of another name: %+v, %v", got, err)
	}
	if _, err := BigQuery(t.Context(), truth, client, "p", "missing"); err == nil {
		t.Error("a missing dataset is no error")
	}
}

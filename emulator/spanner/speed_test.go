package spanner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	cloudspanner "cloud.google.com/go/spanner"
	"google.golang.org/api/option"

	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// The benchmarks compare with Google's emulator, where it is installed: one run, the same rows, the same client.
//
//	go test ./emulator/spanner -run '^$' -bench Commits -benchtime 2s
//
// A row is an INT64 key and a 100-byte STRING, watched by one change stream. store has no gRPC; the others go through the
// official client with eight goroutines on one client. "apply" is the client's ordinary Apply, which Google's emulator 1.5.28
// cannot serve there (one transaction at a time per client), "atleastonce" its ApplyAtLeastOnce, which it can.

const speedTable = "CREATE TABLE T (k INT64 NOT NULL, a STRING(MAX)) PRIMARY KEY (k)"

const speedStream = "CREATE CHANGE STREAM S FOR ALL"

var speedText = strings.Repeat("x", 100)

// writers is how many goroutines share one client.
const writers = 8

func BenchmarkOneRowCommits(b *testing.B) { benchmarkCommits(b, 1) }

func BenchmarkThousandRowCommits(b *testing.B) { benchmarkCommits(b, 1000) }

func benchmarkCommits(b *testing.B, rows int) {
	b.Run("store", func(b *testing.B) { storeCommits(b, rows) })
	b.Run("embedded/apply", func(b *testing.B) { clientCommits(b, embeddedClient(b), rows) })
	b.Run("embedded/atleastonce", func(b *testing.B) {
		clientCommits(b, embeddedClient(b), rows, cloudspanner.ApplyAtLeastOnce())
	})
	b.Run("official/atleastonce", func(b *testing.B) {
		clientCommits(b, officialClient(b), rows, cloudspanner.ApplyAtLeastOnce())
	})
}

// storeCommits commits to the store alone, from one goroutine: an open database's change stream included.
func storeCommits(b *testing.B, rows int) {
	srv := embeddedServer(b)
	db := srv.Database(dbName).Store()
	schema := db.Schema()
	var table *store.Table
	for _, t := range schema.Tables {
		if t.Name == "T" {
			table = t
		}
	}
	var k int64
	for b.Loop() {
		m := store.Mutation{Op: store.InsertRow, Table: table, Columns: []int{0, 1}}
		for range rows {
			k++
			m.Rows = append(m.Rows, store.Row{{Valid: true, Int: k}, {Valid: true, Text: speedText}})
		}
		if _, err := db.Begin().Commit(store.CommitRequest{Schema: schema, Mutations: []store.Mutation{m}}); err != nil {
			b.Fatal(err)
		}
	}
	reportCommits(b, rows)
}

func reportCommits(b *testing.B, rows int) {
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(b.N)/seconds, "commits/s")
	b.ReportMetric(float64(b.N*rows)/seconds, "rows/s")
	b.ReportMetric(0, "ns/op")
}

func clientCommits(b *testing.B, client *cloudspanner.Client, rows int, options ...cloudspanner.ApplyOption) {
	ctx := b.Context()
	write := func(n int64) error {
		ms := make([]*cloudspanner.Mutation, rows)
		for i := range ms {
			ms[i] = cloudspanner.Insert("T", []string{"k", "a"}, []any{n*int64(rows) + int64(i), speedText})
		}
		_, err := client.Apply(ctx, ms, options...)
		return err
	}
	if err := write(-1); err != nil { // the client's session
		b.Fatal(err)
	}
	var next atomic.Int64
	failed := make([]error, writers)
	b.ResetTimer()
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			for failed[w] == nil {
				n := next.Add(1) - 1
				if n >= int64(b.N) {
					return
				}
				failed[w] = write(n)
			}
		})
	}
	running.Wait()
	b.StopTimer()
	if err := errors.Join(failed...); err != nil {
		b.Fatalf("a commit failed that must not: %v", err)
	}
	reportCommits(b, rows)
}

func embeddedServer(b *testing.B) *spanner.Server {
	srv, err := spanner.Start(context.Background(), spanner.Options{StreamBytes: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := srv.Close(); err != nil {
			b.Error(err)
		}
	})
	if _, err := srv.CreateDatabase(b.Context(), dbName, speedTable, speedStream); err != nil {
		b.Fatal(err)
	}
	return srv
}

func embeddedClient(b *testing.B) *cloudspanner.Client {
	return speedClient(b, embeddedServer(b).ClientOptions())
}

func officialClient(b *testing.B) *cloudspanner.Client {
	p := official.SpannerForTest(b, official.SpannerOptions{})
	if err := p.CreateDatabase(b.Context(), dbName, speedTable, speedStream); err != nil {
		b.Fatal(err)
	}
	return speedClient(b, p.ClientOptions())
}

func speedClient(b *testing.B, opts []option.ClientOption) *cloudspanner.Client {
	c, err := cloudspanner.NewClientWithConfig(b.Context(), dbName, cloudspanner.ClientConfig{DisableNativeMetrics: true}, opts...)
	if err != nil {
		b.Fatal(fmt.Errorf("client: %w", err))
	}
	b.Cleanup(c.Close)
	return c
}

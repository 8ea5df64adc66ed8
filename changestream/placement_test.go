package changestream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"

	"github.com/spanledger/spanledger/change"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

func placement(name string) string {
	return "CREATE PLACEMENT " + name + " OPTIONS (instance_partition = '" + name + "-partition')"
}

var placedDDL = []string{
	placement("eu"),
	"CREATE TABLE T (K INT64 NOT NULL, Region STRING(MAX) NOT NULL PLACEMENT KEY) PRIMARY KEY (K)",
	"CREATE CHANGE STREAM Placed FOR ALL OPTIONS (per_placement_tvf = true)",
	"CREATE CHANGE STREAM PlacedMoving FOR ALL OPTIONS (per_placement_tvf = true, partition_mode = 'MUTABLE_KEY_RANGE')",
	"CREATE CHANGE STREAM Placed_eu_too FOR ALL", // its function looks like one for a placement of Placed
}

func (w *embeddedWorld) place(key int, region string) change.Timestamp {
	w.Helper()
	at, err := w.client.Apply(w.Context(), []*spanner.Mutation{spanner.InsertOrUpdate("T", []string{"K", "Region"}, []any{key, region})}, spanner.ApplyAtLeastOnce())
	w.must(err)
	return change.TimestampOf(at)
}

// All placements are read as one graph, in both partition modes, while their partitions split and merge; a partition's token
// leads to its function, also when another Reader goes on with it.
func TestEmbeddedPlacements(t *testing.T) {
	for _, stream := range []string{"Placed", "PlacedMoving"} {
		t.Run(stream, func(t *testing.T) {
			w := startEmbedded(t, embedded.Options{Partitions: 2}, placedDDL...)
			r := w.open(Options{Stream: stream})
			if got := r.Info(); !slices.Equal(got.Placements, []string{"default", "eu"}) || !got.PerPlacement {
				t.Fatalf("the reader says %+v", got)
			}
			start, err := r.Now(t.Context())
			w.must(err)
			var last change.Timestamp
			want := map[string]string{}
			log := w.database().Log()
			for i := range 40 {
				region := []string{"eu", "default"}[i%2]
				last, want[fmt.Sprintf("%q", fmt.Sprint(i))] = w.place(i, region), region
				if i%10 == 9 {
					part := stream + "_" + region
					all, err := log.Partitions(part)
					w.must(err)
					_, err = log.Split(part, all[len(all)-1].Token, 2, nil, 0)
					w.must(err)
				}
			}
			got, open, starts := map[string]string{}, map[string]change.Timestamp{}, map[string]change.Timestamp{}
			through, err := r.Follow(t.Context(), start, last, func(f *change.Frame) error {
				for _, c := range f.Changes {
					got[string(c.Key[0])], _, _ = strings.Cut(c.Partition, placementMark)
				}
				for _, c := range f.Children {
					starts[c.Token] = c.Start
				}
				if open[f.Token] = f.Through; f.Ended {
					delete(open, f.Token)
				}
				return nil
			})
			if err != nil || through != last || len(got) != len(want) {
				t.Fatalf("%d of %d changes came, through %v: %v", len(got), len(want), through, err)
			}
			for key, region := range want {
				if got[key] != region {
					t.Errorf("the change of key %s came from placement %q, want %q", key, got[key], region)
				}
			}
			// What is stored of it is enough to go on with, by a Reader that knows nothing.
			var tokens []string
			for token := range open {
				tokens = append(tokens, token)
			}
			end := w.place(100, "eu")
			again, found := w.open(Options{Stream: stream, Open: tokens, End: end}), 0
			for token, through := range open {
				w.must(again.Read(t.Context(), change.Partition{Token: token, Start: starts[token]}, through, func(f *change.Frame) error {
					found += len(f.Changes)
					return nil
				}))
			}
			if found != 1 {
				t.Errorf("going on brought %d changes, want 1", found)
			}
		})
	}
}

// A placement that is made while the stream is read, or before the next start, ends reading with an error that names it and
// since when it may have had changes.
func TestPlacementAddedLater(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, placedDDL...)
	r := w.open(Options{Stream: "Placed", PlacementsEvery: 20 * time.Millisecond})
	start, err := r.Now(t.Context())
	w.must(err)
	first, err := r.Partitions(t.Context(), start)
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reading, done := make(chan struct{}), make(chan error, 1)
	go func() {
		told := false
		_, err := r.Follow(ctx, start, 0, func(*change.Frame) error {
			if !told {
				close(reading)
			}
			told = true
			return nil
		})
		done <- err
	}()
	<-reading
	before := w.place(1, "eu")
	w.ddl(placement("us"))
	at := w.place(2, "us")
	var added *PlacementError
	if err := <-done; !errors.As(err, &added) || !slices.Equal(added.Placements, []string{"us"}) || added.Since >= at || added.Since < start {
		t.Fatalf("got %v; want that us came after %v and before %v", err, before, at)
	}
	if err := r.Read(ctx, first[0], start, func(*change.Frame) error { return nil }); !errors.As(err, &added) {
		t.Errorf("reading went on: %v", err)
	}

	var tokens []string
	for _, p := range first {
		tokens = append(tokens, p.Token)
	}
	o := Options{Database: testDatabase, Stream: "Placed", ClientOptions: w.options, Open: tokens}
	if _, err := New(ctx, o); !errors.As(err, &added) || !slices.Equal(added.Placements, []string{"us"}) || added.Since != 0 || !strings.Contains(err.Error(), "us came since") {
		t.Errorf("at the next start: %v", err)
	}
	// A new incarnation reads it with the others: from when it was there.
	fresh := w.open(Options{Stream: "Placed"})
	keys := 0
	if _, err := fresh.Follow(ctx, at, at, func(f *change.Frame) error { keys += len(f.Changes); return nil }); err != nil || keys != 1 {
		t.Errorf("a new one has %d changes: %v", keys, err)
	}
}

// In the PostgreSQL dialect the functions have other names, which keep their case.
func TestEmbeddedPlacementsPostgreSQL(t *testing.T) {
	const name = "projects/reader/instances/reader/databases/postgres"
	w := startEmbedded(t, embedded.Options{}, testDDL...)
	admin, err := database.NewDatabaseAdminClient(t.Context(), w.options...)
	w.must(err)
	defer admin.Close()
	made, err := admin.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{Parent: "projects/reader/instances/reader",
		CreateStatement: `CREATE DATABASE "postgres"`, DatabaseDialect: databasepb.DatabaseDialect_POSTGRESQL})
	w.must(err)
	_, err = made.Wait(t.Context())
	w.must(err)
	altered, err := admin.UpdateDatabaseDdl(t.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: name, Statements: []string{
		`CREATE TABLE t (k bigint PRIMARY KEY)`,
		`CREATE CHANGE STREAM "Placed" FOR ALL WITH (per_placement_tvf = true, partition_mode = 'MUTABLE_KEY_RANGE')`,
		`CREATE CHANGE STREAM other FOR ALL`,
	}})
	w.must(err)
	w.must(altered.Wait(t.Context()))
	r, err := New(t.Context(), Options{Database: name, Stream: "Placed", Heartbeat: minHeartbeat, ClientOptions: w.options})
	w.must(err)
	defer r.Close()
	start, err := r.Now(t.Context())
	w.must(err)
	client, err := spanner.NewClientWithConfig(t.Context(), name, spanner.ClientConfig{DisableNativeMetrics: true}, w.options...)
	w.must(err)
	defer client.Close()
	at, err := client.Apply(t.Context(), []*spanner.Mutation{spanner.Insert("t", []string{"k"}, []any{1})})
	w.must(err)
	var from []string
	_, err = r.Follow(t.Context(), start, change.TimestampOf(at), func(f *change.Frame) error {
		for _, c := range f.Changes {
			from = append(from, c.Partition)
		}
		return nil
	})
	if err != nil || len(from) != 1 || !strings.HasPrefix(from[0], "default"+placementMark) {
		t.Errorf("changes came from %q: %v", from, err)
	}
}

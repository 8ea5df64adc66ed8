package app

import (
	"context"
	"fmt"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/check"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/state"
)

// Snapshots are taken one after another while a writer inserts, updates and deletes rows without a pause, on a stream that
// captures what was written only, and while keys go from partition to partition. An independent reader finds in each sink every
// row as it was when it was read, behind no newer change of its own, and every row of the table.
func TestSnapshotsWhileWriting(t *testing.T) {
	for name, options := range map[string]string{"old and new values": "", "new rows, mutable": "OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES', partition_mode = 'MUTABLE_KEY_RANGE')"} {
		t.Run(name, func(t *testing.T) {
			d := newDrifting(t, embedded.Options{Partitions: 3, Churn: changes.Churn{Interval: 100 * time.Millisecond}},
				"CREATE TABLE Carts (Id STRING(9) NOT NULL, A STRING(MAX), B INT64, Twice INT64 AS (B * 2) STORED) PRIMARY KEY (Id)", "CREATE CHANGE STREAM Everything FOR ALL "+options)
			client, err := d.cloud.spannerClient(t.Context(), d.config.StateDatabase)
			d.must(err)
			defer client.Close()
			store := state.NewSpanner(client, state.SpannerOptions{})
			const rows, snapshots = 150, 2
			var old []*spanner.Mutation
			for n := range rows { // from before the stream is read
				old = append(old, spanner.InsertMap("Carts", map[string]any{"Id": fmt.Sprint(n * 7919 % 1000), "A": "old", "B": n}))
			}
			_, err = d.client.Apply(t.Context(), old)
			d.must(err)
			d.start = d.now()
			d.config.Start = change.TimestampOf(d.start)
			writes := 0
			d.run(func() {
				writing, stop := context.WithCancel(t.Context())
				wrote := make(chan error, 1)
				go func() {
					for n := 0; writing.Err() == nil; n++ {
						id := fmt.Sprint(n * 31 % (2 * rows) * 7919 % 1000)
						m := spanner.InsertOrUpdateMap("Carts", map[string]any{"Id": id, []string{"A", "B"}[n%2]: []any{fmt.Sprint(n), n}[n%2]})
						if n%9 == 0 {
							m = spanner.Delete("Carts", spanner.Key{id})
						}
						if _, err := d.client.Apply(t.Context(), []*spanner.Mutation{m}); err != nil && spanner.ErrCode(err) != codes.Aborted {
							wrote <- err
							return
						}
						writes++
						time.Sleep(time.Millisecond)
					}
					wrote <- nil
				}()
				for range snapshots {
					asked, _, err := store.RequestSnapshot(t.Context(), d.config.Name, state.TableSnapshot{Table: "Carts"})
					d.must(err)
					for unfinished := true; unfinished; time.Sleep(20 * time.Millisecond) {
						list, err := store.Snapshots(t.Context(), d.config.Name, false)
						d.must(err)
						for _, s := range list {
							if s.Number == asked.Number {
								unfinished = s.Unfinished()
								if s.State == state.SnapshotFailed {
									t.Error(s.Error)
								}
							}
						}
					}
				}
				stop()
				d.must(<-wrote)
			})
			truth, err := check.ReadTruth(t.Context(), check.SpannerOptions{
				Client: d.client, Database: d.config.Database, Stream: d.config.Stream, Start: d.start, End: d.now(),
			})
			d.must(err)
			d.must(truth.ReadRows(t.Context(), check.RowsOptions{Client: d.client, Tables: []string{"Carts"}, Whole: true}))
			archived, err := check.Archive(t.Context(), truth, check.Bucket(d.objects, driftResources.Bucket, ""))
			d.must(err)
			tables, err := d.cloud.bigqueryClient(t.Context(), driftResources.Project)
			d.must(err)
			defer tables.Close()
			logged, err := check.BigQuery(t.Context(), truth, tables, driftResources.Project, driftResources.Dataset)
			d.must(err)
			for name, sink := range map[string]*check.Sink{"archive": archived, "bigquery": logged} {
				s := sink.Snapshot
				if err := sink.Err(); err != nil || s == nil || s.Rows < snapshots*rows/3 || s.Again == 0 || s.Unverified != 0 {
					t.Errorf("%s: %+v, %v", name, s, err)
				}
			}
			d.must(d.seen.CheckOnce())
			t.Logf("%d writes, %d changes, rows of snapshots %+v", writes, len(truth.Changes), archived.Snapshot)
		})
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/emulator/official"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/storage"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/gcssink"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

const (
	stockDatabase = "projects/e2e-project/instances/stock/databases/stock"
	stockKeys     = 300
)

var stockDDL = []string{
	"CREATE TABLE Stock (Shop STRING(16) NOT NULL, Item INT64 NOT NULL, Count INT64, Note STRING(MAX)) PRIMARY KEY (Shop, Item DESC)",
	"CREATE CHANGE STREAM StockChanges FOR Stock OPTIONS (value_capture_type = 'NEW_ROW')",
}

// stock is a table whose rows are written all the time, and a pipeline that carries it to three sinks and is killed.
type stock struct {
	*testing.T
	options  []option.ClientOption
	client   *spanner.Client
	official bool
	store    *state.Memory
	once     *memsink.Destination
	least    *memsink.Destination
	bucket   *storage.Server
}

func (s *stock) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stock) newClient() *spanner.Client {
	s.Helper()
	c, err := spanner.NewClientWithConfig(s.Context(), stockDatabase, spanner.ClientConfig{DisableNativeMetrics: true}, s.options...)
	s.must(err)
	s.Cleanup(c.Close)
	return c
}

func newStock(t *testing.T, google bool) *stock {
	s := &stock{T: t, official: google, store: state.NewMemory(), once: memsink.NewDestination(), least: memsink.NewDestination()}
	if google {
		p := official.SpannerForTest(t, official.SpannerOptions{PartitionTokenAlive: 3 * time.Second})
		s.options = p.ClientOptions()
		s.must(p.CreateDatabase(t.Context(), stockDatabase, stockDDL...))
	} else {
		srv, err := embedded.Start(context.Background(), embedded.Options{Partitions: 3, Churn: changes.Churn{Interval: 100 * time.Millisecond, Seed: 1}})
		s.must(err)
		t.Cleanup(func() { s.must(srv.Close()) })
		s.options = []option.ClientOption{
			option.WithEndpoint("passthrough:///" + srv.Addr()), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		}
		instances, err := instance.NewInstanceAdminClient(t.Context(), s.options...)
		s.must(err)
		defer instances.Close()
		made, err := instances.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{Parent: "projects/e2e-project", InstanceId: "stock", Instance: &instancepb.Instance{DisplayName: "stock", NodeCount: 1}})
		s.must(err)
		_, err = made.Wait(t.Context())
		s.must(err)
		databases, err := database.NewDatabaseAdminClient(t.Context(), s.options...)
		s.must(err)
		defer databases.Close()
		op, err := databases.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{Parent: "projects/e2e-project/instances/stock", CreateStatement: "CREATE DATABASE stock", ExtraStatements: stockDDL})
		s.must(err)
		_, err = op.Wait(t.Context())
		s.must(err)
	}
	s.client = s.newClient()
	var err error
	s.bucket, err = storage.Start(t.Context(), storage.Options{})
	s.must(err)
	t.Cleanup(func() { s.must(s.bucket.Close()) })
	s.must(s.bucket.CreateBucket(t.Context(), "stock"))
	var rows []*spanner.Mutation
	for i := range stockKeys * 2 / 3 {
		rows = append(rows, put(i, -1))
	}
	_, err = s.client.Apply(t.Context(), rows, spanner.ApplyAtLeastOnce())
	s.must(err)
	return s
}

func stockKey(i int) (string, int64) { return fmt.Sprintf("shop-%d", i%5), int64(i / 5) }

func put(i, count int) *spanner.Mutation {
	shop, item := stockKey(i)
	return spanner.InsertOrUpdateMap("Stock", map[string]any{"Shop": shop, "Item": item, "Count": int64(count), "Note": fmt.Sprint("n", count)})
}

// write writes until stop is set.
func (s *stock) write(seed int, stop *atomic.Bool) error {
	client, rng := s.newClient(), rand.New(rand.NewPCG(uint64(seed), 0))
	for n := 0; !stop.Load(); n++ {
		i := rng.IntN(stockKeys)
		m := put(i, seed*1_000_000+n)
		if rng.IntN(5) == 0 {
			shop, item := stockKey(i)
			m = spanner.Delete("Stock", spanner.Key{shop, item})
		}
		_, err := client.Apply(s.Context(), []*spanner.Mutation{m}, spanner.ApplyAtLeastOnce())
		if err != nil && spanner.ErrCode(err) != codes.Aborted {
			return err
		}
		time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond) // the pace of the writers, not a wait for something
	}
	return nil
}

// run runs an engine until ctx ends, or it is killed.
func (s *stock) engine(start change.Timestamp, step func()) *pipeline.Engine {
	s.Helper()
	var reader *changestream.Reader
	hook := func(context.Context, *sinks.Batch) error { step(); return nil }
	var o gcssink.Options
	o.Bucket, o.Database, o.Stream, o.Identity, o.Pipeline, o.Endpoint = "stock", stockDatabase, "StockChanges", "1", "stock", "http://"+s.bucket.Addr()
	o.MaxDelay = "100ms"
	files, err := gcssink.New("archive", o)
	s.must(err)
	order, chunk := pipeline.OrderKey, 12
	if s.official {
		// It moves keys between partitions that are not related; and each chunk waits for partitions that come and go slowly.
		order, chunk = pipeline.OrderCommit, 60
	}
	e, err := pipeline.New(pipeline.Options{
		Config: state.Config{Pipeline: "stock", Database: stockDatabase, Stream: "StockChanges", Identity: "1", Start: start, Snapshot: true},
		Store:  s.store, Order: order, CheckpointEvery: 50 * time.Millisecond, MinBackoff: time.Millisecond, SnapshotChunkRows: chunk, BudgetBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
		Source: func(ctx context.Context, snap state.Snapshot) (pipeline.Source, error) {
			r, err := changestream.New(ctx, changestream.Options{Database: stockDatabase, Stream: "StockChanges", Heartbeat: 100 * time.Millisecond,
				Tables: snap.Tables, ClientOptions: s.options, Logger: slog.New(slog.DiscardHandler)})
			reader = r
			return r, err
		},
		Rows: func(context.Context) (pipeline.Rows, error) {
			return stepping{snapshot.New(s.newClient(), reader, ""), step}, nil
		},
		Sinks: []pipeline.NamedSink{
			{Name: "least", Sink: memsink.NewWriter(memsink.Options{Destination: s.least, Before: hook, After: hook})},
			{Name: "once", Sink: memsink.NewAppender(memsink.Options{Destination: s.once, Before: hook, After: hook})},
			{Name: "archive", Sink: files},
		},
	})
	s.must(err)
	s.Cleanup(func() {
		if reader != nil {
			s.must(reader.Close())
		}
	})
	return e
}

// stepping calls step around each reading.
type stepping struct {
	pipeline.Rows
	step func()
}

func (r stepping) Read(ctx context.Context, q snapshot.Range) (*snapshot.Chunk, error) {
	r.step()
	defer r.step()
	return r.Rows.Read(ctx, q)
}

// A pipeline that begins with a snapshot, of a table that is written all the time, over partitions that come and go, killed
// again and again: every sink ends with the table's rows, and none saw an older value after a newer one.
func TestSnapshotWithWriters(t *testing.T) {
	for name, google := range map[string]bool{"embedded": false, "official": true} {
		t.Run(name, func(t *testing.T) {
			s := newStock(t, google)
			var stop atomic.Bool
			var writers sync.WaitGroup
			for i := range 2 {
				writers.Go(func() {
					if err := s.write(i+1, &stop); err != nil {
						t.Error(err)
					}
				})
			}
			defer writers.Wait()
			defer stop.Store(true)
			start := s.now()
			rng := rand.New(rand.NewPCG(7, 7))
			kills := 0
			for range map[bool]int{false: 5, true: 2}[google] {
				var e *pipeline.Engine
				var left atomic.Int64
				left.Store(5 + rng.Int64N(60))
				e = s.engine(start, func() {
					if left.Add(-1) == 0 {
						e.Kill()
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				s.must(e.Run(ctx))
				cancel()
				kills++
			}
			e := s.engine(start, func() {})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx) }()
			deadline := time.Now().Add(60 * time.Second)
			wait := func(what string, cond func() bool) {
				for !cond() {
					if time.Now().After(deadline) {
						t.Fatalf("%s: %+v", what, e.Status())
					}
					select {
					case err := <-done:
						t.Fatalf("the engine ended: %v", err)
					case <-time.After(20 * time.Millisecond):
					}
				}
			}
			var list []state.TableSnapshot
			wait("the snapshot", func() bool {
				var err error
				list, err = s.store.Snapshots(t.Context(), "stock", false)
				s.must(err)
				return len(list) == 1 && !list[0].Unfinished()
			})
			// A range again, while the stream runs.
			again, isNew, err := s.store.RequestSnapshot(t.Context(), "stock", state.TableSnapshot{Table: "Stock", From: `["shop-1"]`, To: `["shop-2"]`})
			if err != nil || !isNew {
				t.Fatal(isNew, err)
			}
			wait("the range", func() bool {
				list, err = s.store.Snapshots(t.Context(), "stock", false)
				s.must(err)
				return len(list) == 2 && !list[1].Unfinished()
			})
			stop.Store(true)
			writers.Wait()
			end := s.now()
			wait("the last changes", func() bool { return e.Status().Watermark >= end })
			cancel()
			s.must(<-done)
			for _, sn := range list {
				if sn.State != state.SnapshotDone || sn.Anew > 0 {
					t.Errorf("%+v", sn)
				}
			}
			t.Logf("%d kills; %d rows and %d superseded, then %d and %d of snapshot %d", kills, list[0].Rows, list[0].Dropped, list[1].Rows, list[1].Dropped, again.Number)
			s.check()
		})
	}
}

func (s *stock) now() change.Timestamp {
	s.Helper()
	var now time.Time
	s.must(s.newClient().Single().Query(s.Context(), spanner.NewStatement("SELECT CURRENT_TIMESTAMP()")).Do(func(r *spanner.Row) error { return r.Columns(&now) }))
	return change.TimestampOf(now)
}

// check holds every sink against the table.
func (s *stock) check() {
	s.Helper()
	want := map[string]string{}
	s.must(s.client.Single().Read(s.Context(), "Stock", spanner.AllKeys(), []string{"Shop", "Item", "Count", "Note"}).Do(func(r *spanner.Row) error {
		var shop, note string
		var item, count int64
		if err := r.Columns(&shop, &item, &count, &note); err != nil {
			return err
		}
		want[fmt.Sprintf(`["%s","%d"]`, shop, item)] = fmt.Sprintf(`"%d" "%s"`, count, note)
		return nil
	}))
	all := map[string][]change.Change{"archive": s.archived()}
	for name, d := range map[string]*memsink.Destination{"least": s.least, "once": s.once} {
		for _, v := range d.Deliveries() {
			all[name] = append(all[name], v.Change)
		}
	}
	for name, list := range all {
		got := map[string]change.Change{}
		seen := map[string]bool{}
		rows := 0
		for i := range list {
			c := &list[i]
			if name != "least" && seen[c.ID()] {
				s.Errorf("I6: %s holds %s twice", name, c.ID())
			}
			if seen[c.ID()] = true; c.Position.Snapshot {
				rows++
			}
			k := string(c.AppendKey(nil))
			if have, ok := got[k]; !ok || c.Position.After(have.Position) {
				got[k] = *c
			}
		}
		if rows == 0 {
			s.Errorf("%s has no rows of a snapshot", name)
		}
		wrong := 0
		for i := range stockKeys {
			shop, item := stockKey(i)
			k := fmt.Sprintf(`["%s","%d"]`, shop, item)
			text := ""
			if c, ok := got[k]; ok && c.Op != change.Delete {
				text = fmt.Sprintf("%s %s", c.After.At(c.Table.Index("Count")), c.After.At(c.Table.Index("Note")))
			}
			if text != want[k] {
				if wrong++; wrong < 5 {
					s.Errorf("%s: row %s is %s by %s, want %s", name, k, text, got[k].Position, want[k])
				}
			}
		}
		s.Logf("%s: %d deliveries, %d of them rows of snapshots", name, len(list), rows)
	}
	if err := s.least.CheckOrder(); err != nil {
		s.Errorf("I1: %v", err)
	}
	if err := s.once.CheckOnce(); err != nil {
		s.Errorf("I6: %v", err)
	}
}

// archived reads the whole archive, by its chains.
func (s *stock) archived() (list []change.Change) {
	s.Helper()
	var o gcssink.Options
	o.Bucket, o.Database, o.Stream, o.Identity, o.Pipeline, o.Endpoint = "stock", stockDatabase, "StockChanges", "1", "stock", "http://"+s.bucket.Addr()
	sink, err := gcssink.New("reader", o)
	s.must(err)
	s.must(sink.Open(s.Context()))
	defer sink.Close(s.Context())
	chains := map[change.Chain]bool{}
	s.must(s.store.Segments(s.Context(), "stock", "archive", func(g change.Segment) error { chains[g.Chain] = true; return nil }))
	for chain := range chains {
		segments, err := archive.ListChain(s.Context(), sink.Bucket(), chain)
		s.must(err)
		for _, g := range segments {
			r, err := archive.Read(s.Context(), sink.Bucket(), g)
			s.must(err)
			for {
				var c change.Change
				if err := r.Next(&c); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					s.Fatal(err)
				}
				list = append(list, c)
			}
			s.must(r.Close())
		}
	}
	return list
}

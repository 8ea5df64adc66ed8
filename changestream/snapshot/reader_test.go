package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/civil"
	"cloud.google.com/go/spanner"
	databaseadmin "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instanceadmin "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"go.uber.org/goleak"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/changestream/snapshot"
	"github.com/spanledger/spanledger/emulator/official"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const database = "projects/rows/instances/rows/databases/chunks"

var ddl = []string{
	`CREATE TABLE Wide (Id INT64 NOT NULL, B BOOL, F FLOAT64, G FLOAT32, T TIMESTAMP, D DATE, S STRING(MAX), Y BYTES(MAX), N NUMERIC, J JSON,
	   SA ARRAY<STRING(MAX)>, IA ARRAY<INT64>, FA ARRAY<FLOAT64>, Gen STRING(MAX) AS (CONCAT(S, '!')) STORED) PRIMARY KEY (Id)`,
	`CREATE TABLE Orders (Shop STRING(64), Number INT64 NOT NULL, Placed TIMESTAMP NOT NULL, Note STRING(MAX), Other INT64) PRIMARY KEY (Shop, Number DESC, Placed)`,
	`CREATE TABLE Lines (Shop STRING(64), Number INT64 NOT NULL, Placed TIMESTAMP NOT NULL, Line INT64 NOT NULL, What STRING(MAX)) PRIMARY KEY (Shop, Number DESC, Placed, Line),
	   INTERLEAVE IN PARENT Orders ON DELETE CASCADE`,
	`CREATE TABLE Keys (K BYTES(16) NOT NULL, V INT64) PRIMARY KEY (K)`,
	`CREATE TABLE Unwatched (K INT64 NOT NULL) PRIMARY KEY (K)`,
	`CREATE CHANGE STREAM Chosen FOR Wide, Orders(Note), Lines, Keys() OPTIONS (value_capture_type = 'NEW_ROW')`,
	`CREATE CHANGE STREAM Everything FOR ALL`,
	`CREATE CHANGE STREAM Nothing`,
}

// world is a database on one of the servers.
type world struct {
	*testing.T
	options []option.ClientOption
	client  *spanner.Client
}

// onBoth runs a test on the embedded Spanner and on Google's emulator.
func onBoth(t *testing.T, test func(w *world)) {
	t.Run("embedded", func(t *testing.T) {
		srv, err := embedded.Start(context.Background(), embedded.Options{Partitions: 3})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := srv.Close(); err != nil {
				t.Error(err)
			}
		})
		w := &world{T: t, options: []option.ClientOption{
			option.WithEndpoint("passthrough:///" + srv.Addr()), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		}}
		w.createDatabase()
		test(w)
	})
	t.Run("official", func(t *testing.T) {
		p := official.SpannerForTest(t, official.SpannerOptions{})
		if err := p.CreateDatabase(t.Context(), database, ddl...); err != nil {
			t.Fatal(err)
		}
		test(&world{T: t, options: p.ClientOptions()})
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) createDatabase() {
	w.Helper()
	instances, err := instanceadmin.NewInstanceAdminClient(w.Context(), w.options...)
	w.must(err)
	defer instances.Close()
	made, err := instances.CreateInstance(w.Context(), &instancepb.CreateInstanceRequest{Parent: "projects/rows", InstanceId: "rows", Instance: &instancepb.Instance{DisplayName: "rows", NodeCount: 1}})
	w.must(err)
	_, err = made.Wait(w.Context())
	w.must(err)
	databases, err := databaseadmin.NewDatabaseAdminClient(w.Context(), w.options...)
	w.must(err)
	defer databases.Close()
	op, err := databases.CreateDatabase(w.Context(), &databasepb.CreateDatabaseRequest{Parent: "projects/rows/instances/rows", CreateStatement: "CREATE DATABASE chunks", ExtraStatements: ddl})
	w.must(err)
	_, err = op.Wait(w.Context())
	w.must(err)
}

// newClient makes a client of its own: Google's emulator serves one transaction of a client at a time.
func (w *world) newClient() *spanner.Client {
	w.Helper()
	c, err := spanner.NewClientWithConfig(w.Context(), database, spanner.ClientConfig{DisableNativeMetrics: true}, w.options...)
	w.must(err)
	w.Cleanup(c.Close)
	return c
}

func (w *world) stream(name string) *changestream.Reader {
	w.Helper()
	r, err := changestream.New(w.Context(), changestream.Options{Database: database, Stream: name, Heartbeat: 100 * time.Millisecond, ClientOptions: w.options, Logger: slog.New(slog.DiscardHandler)})
	w.must(err)
	w.Cleanup(func() {
		if err := r.Close(); err != nil {
			w.Error(err)
		}
	})
	return r
}

var orderTimes = []time.Time{
	time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 120_000_000, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 123_456_789, time.UTC),
}

// rows writes rows of all types and keys, and answers how many there are of each table.
func (w *world) write() map[string]int {
	w.Helper()
	var ms []*spanner.Mutation
	put := func(table string, m map[string]any) { ms = append(ms, spanner.InsertMap(table, m)) }
	// Google's emulator has no NaN in change records, cuts fractions of timestamps, and answers some of these not at all.
	official := strings.Contains(w.Name(), "official")
	whole := map[string]any{
		"Id": int64(-5), "B": true, "F": 2.5, "D": civil.Date{Year: 2026, Month: 2, Day: 3}, "S": "<&> \"q\" ü 漢", "N": big.NewRat(-314, 100),
	}
	if !official {
		whole = map[string]any{
			"Id": int64(math.MinInt64), "B": true, "F": 1e21, "G": float32(3.14), "T": time.Date(2026, 1, 2, 3, 4, 5, 123_456_000, time.UTC),
			"D": civil.Date{Year: 1, Month: 2, Day: 3}, "S": "<&> \"q\" \\ \u2028 ü 漢 \n\t\x01", "Y": []byte{0, 255, '+'}, "N": big.NewRat(-314, 100),
			"J":  spanner.NullJSON{Value: map[string]any{"b": []any{1, "<"}, "a": nil}, Valid: true},
			"SA": []spanner.NullString{{}, {StringVal: "x\ny", Valid: true}}, "IA": []int64{1, math.MaxInt64}, "FA": []float64{math.NaN(), math.Inf(-1), 1e-7, 0},
		}
	}
	put("Wide", whole)
	put("Wide", map[string]any{"Id": int64(math.MaxInt64)})
	put("Wide", map[string]any{"Id": int64(0), "S": "", "F": 0.5, "B": false})
	times := orderTimes
	if official {
		times = times[:1]
	}
	orders, lines := 0, 0
	for _, shop := range []spanner.NullString{{}, {StringVal: "a", Valid: true}, {StringVal: "a/<b>\"", Valid: true}, {StringVal: "ü", Valid: true}} {
		for n := range int64(5) {
			for _, at := range times {
				put("Orders", map[string]any{"Shop": shop, "Number": n, "Placed": at, "Note": fmt.Sprint("n", n), "Other": n})
				orders++
				if n%2 == 0 {
					put("Lines", map[string]any{"Shop": shop, "Number": n, "Placed": at, "Line": n, "What": "w"})
					lines++
				}
			}
		}
	}
	for n := range byte(3) {
		put("Keys", map[string]any{"K": []byte{n, 255}, "V": int64(n)})
	}
	put("Unwatched", map[string]any{"K": int64(1)})
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	_, err := w.client.Apply(ctx, ms, spanner.ApplyAtLeastOnce())
	w.must(err)
	return map[string]int{"Wide": 3, "Orders": orders, "Lines": lines, "Keys": 3}
}

// text shows what a change says of its row.
func text(c *change.Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s v%d %s %s", c.Table.Name, c.Table.Version, c.Op, c.AppendKey(nil))
	for i := range c.Table.Columns {
		if v := c.After.At(i); v != nil {
			fmt.Fprintf(&b, " %s=%s", c.Table.Columns[i].Name, v)
		}
	}
	return b.String()
}

// Whatever the types and keys, the rows of a snapshot are what the stream says of the same rows, in chunks of any size.
func TestRowsAreAsTheStreamHasThem(t *testing.T) {
	onBoth(t, func(w *world) {
		w.client = w.newClient()
		stream := w.stream("Chosen")
		start, err := stream.Now(t.Context())
		w.must(err)
		counts := w.write()
		total := 0
		for _, n := range counts {
			total += n
		}
		want := map[string][]string{}
		ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
		defer cancel()
		partitions, err := stream.Partitions(ctx, start)
		w.must(err)
		frames, errs := make(chan *change.Frame), make(chan error, len(partitions))
		for _, p := range partitions {
			go func() {
				errs <- stream.Read(ctx, p, 0, func(f *change.Frame) error {
					select {
					case frames <- f:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
			}()
		}
		for seen := 0; seen < total; {
			select {
			case f := <-frames:
				for i := range f.Changes {
					want[f.Changes[i].Table.Name] = append(want[f.Changes[i].Table.Name], text(&f.Changes[i]))
					seen++
				}
			case <-ctx.Done():
				w.Fatalf("%d of %d changes came", seen, total)
			}
		}
		cancel()
		for range partitions {
			<-errs
		}

		r := snapshot.New(w.newClient(), stream, "rows-test")
		tables, err := r.Tables(w.Context())
		if err != nil || !slices.Equal(tables, []string{"Keys", "Lines", "Orders", "Wide"}) {
			w.Fatalf("tables %q, %v", tables, err)
		}
		for _, table := range tables {
			if n, err := r.Count(w.Context(), table); err != nil || int(n) != counts[table] {
				w.Errorf("%s: counted %d, %v", table, n, err)
			}
			for _, size := range []int{1, 4, 1000} {
				var got []string
				seen := map[change.Position]bool{}
				floor, after := change.Timestamp(0), ""
				for more := true; more; {
					chunk, err := r.Read(w.Context(), snapshot.Range{Table: table, After: after, Floor: floor, MaxRows: size})
					w.must(err)
					if more = chunk.More; len(chunk.Rows) > size || chunk.At <= floor || more && len(chunk.Rows) == 0 {
						w.Fatalf("%s: %d rows at %v after %v", table, len(chunk.Rows), chunk.At, floor)
					}
					again, err := r.Read(w.Context(), snapshot.Range{Table: table, After: after, Through: chunk.Keys[len(chunk.Keys)-1], At: chunk.At, MaxRows: 1})
					w.must(err)
					for i := range chunk.Rows {
						c := &chunk.Rows[i]
						got = append(got, text(c))
						if seen[c.Position] || c.Position.Commit != chunk.At || !c.Position.Snapshot {
							w.Errorf("position %s", c.Position)
						}
						seen[c.Position] = true
						if len(again.Rows) != len(chunk.Rows) || text(&again.Rows[i]) != text(c) || again.Rows[i].Position != c.Position {
							w.Fatalf("%s: read again at %v: %d rows of %d", table, chunk.At, len(again.Rows), len(chunk.Rows))
						}
					}
					floor, after = chunk.At, chunk.Keys[len(chunk.Keys)-1]
				}
				slices.Sort(got)
				slices.Sort(want[table])
				if !slices.Equal(got, want[table]) {
					w.Errorf("%s in chunks of %d:\n%s\nwant\n%s", table, size, strings.Join(got, "\n"), strings.Join(want[table], "\n"))
				}
			}
		}
	})
}

// A range takes bounds as people write them; what does not fit is told.
func TestBounds(t *testing.T) {
	onBoth(t, func(w *world) {
		w.client = w.newClient()
		w.write()
		r := snapshot.New(w.newClient(), w.stream("Chosen"), "")
		for _, c := range []struct {
			table, from, to string
			rows            int
		}{
			{"Wide", "0", "", 2}, {"Wide", "[0]", "1", 1}, {"Wide", "", "0", 1}, {"Wide", `"-4"`, "5", 1},
			{"Orders", "a", "b", 10}, {"Orders", `["a"]`, `["a/<b>\""]`, 5}, {"Orders", "null", `["a"]`, 5},
			{"Orders", `["a", 3]`, `["a", 1]`, 2}, // descending
			{"Orders", `["a", 3, "2026-01-02T03:04:05Z"]`, `["a", "2"]`, 1}, {"Keys", "AP8=", "Af8=", 1}, {"Keys", "", "", 3},
		} {
			from, to, err := r.Bounds(w.Context(), c.table, c.from, c.to)
			if err != nil {
				w.Errorf("%+v: %v", c, err)
				continue
			}
			chunk, err := r.Read(w.Context(), snapshot.Range{Table: c.table, From: from, To: to, MaxRows: 100})
			w.must(err)
			want := c.rows
			if c.table == "Orders" && !strings.Contains(w.Name(), "official") {
				want *= len(orderTimes)
			}
			if len(chunk.Rows) != want || chunk.More {
				w.Errorf("%+v (%s to %s): %d rows, more: %t", c, from, to, len(chunk.Rows), chunk.More)
			}
		}
		for _, c := range []struct{ table, from, want string }{
			{"Wide", "x", "column Id (INT64)"}, {"Wide", "[1, 2]", "2 values, the primary key has 1 columns: Id"}, {"Wide", "[", "not a JSON array"},
			{"Wide", "[]", "no values"}, {"Wide", "[true]", "want a value"}, {"Orders", `["a", 1, "yesterday"]`, "column Placed (TIMESTAMP)"},
			{"Keys", "*", "base64"}, {"Orders", `[5]`, "in quotes"}, {"Wide", `[{"a":1}]`, "want"}, {"Wide", `["99999999999999999999"]`, "64 bits"},
		} {
			if _, _, err := r.Bounds(w.Context(), c.table, c.from, ""); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "table "+c.table+": from") {
				w.Errorf("%+v: %v", c, err)
			}
		}
		var unwatched *snapshot.NotWatchedError
		if _, _, err := r.Bounds(w.Context(), "Unwatched", "", ""); !errors.As(err, &unwatched) || !strings.Contains(err.Error(), "it watches Keys, Lines, Orders, Wide") {
			w.Errorf("an unwatched table: %v", err)
		}
		if _, err := r.Read(w.Context(), snapshot.Range{Table: "None"}); !errors.As(err, &unwatched) {
			w.Errorf("no table: %v", err)
		}
		if tables, err := snapshot.New(w.client, w.stream("Nothing"), "").Tables(w.Context()); err != nil || len(tables) != 0 {
			w.Errorf("a stream of nothing: %q, %v", tables, err)
		}
		if tables, err := snapshot.New(w.client, w.stream("Everything"), "").Tables(w.Context()); err != nil || len(tables) != 5 {
			w.Errorf("a stream of everything: %q, %v", tables, err)
		}
		if _, err := r.Read(w.Context(), snapshot.Range{Table: "Wide", At: change.TimestampOf(time.Now().Add(-2 * time.Hour))}); !errors.Is(err, snapshot.ErrExpired) {
			w.Errorf("at a time long ago: %v", err)
		}
	})
}

// A chunk of before a column was there cannot be read again as it was, and must be read anew: whoever tried for ever would hold
// up the table's changes for ever. Bounded chunks stay bounded where the timestamp had to be a later one, or where they end
// before a key.
func TestReadAgainUnderAnotherSchema(t *testing.T) {
	onBoth(t, func(w *world) {
		w.client = w.newClient()
		w.write()
		stream := w.stream("Everything")
		r := snapshot.New(w.newClient(), stream, "")
		before, err := r.Read(w.Context(), snapshot.Range{Table: "Keys"})
		w.must(err)
		last := before.Keys[len(before.Keys)-1]
		later := change.TimestampOf(time.Now().Add(200 * time.Millisecond))
		bounded, err := r.Read(w.Context(), snapshot.Range{Table: "Keys", Through: last, MaxRows: 2, Floor: later})
		w.must(err)
		if len(bounded.Rows) != 2 || !bounded.More || bounded.At <= later {
			w.Errorf("%d rows at %v, more: %t", len(bounded.Rows), bounded.At, bounded.More)
		}
		if bounded, err = r.Read(w.Context(), snapshot.Range{Table: "Keys", Through: bounded.Keys[0], Floor: bounded.At + 1000}); err != nil || len(bounded.Rows) != 1 {
			w.Errorf("%+v, %v", bounded, err)
		}
		databases, err := databaseadmin.NewDatabaseAdminClient(w.Context(), w.options...)
		w.must(err)
		defer databases.Close()
		op, err := databases.UpdateDatabaseDdl(w.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: database, Statements: []string{"ALTER TABLE Keys ADD COLUMN Later STRING(MAX)"}})
		w.must(err)
		w.must(op.Wait(w.Context()))
		_, err = r.Read(w.Context(), snapshot.Range{Table: "Keys", Through: last, At: before.At})
		if !errors.Is(err, snapshot.ErrExpired) {
			w.Errorf("at a time before the column: %v", err)
		}
		w.Log(err)
	})
}

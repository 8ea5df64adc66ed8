package changestream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
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
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/server"
)

type embeddedWorld struct {
	*testing.T
	server  *embedded.Server
	options []option.ClientOption
	client  *spanner.Client
}

func startEmbedded(t *testing.T, o embedded.Options, ddl ...string) *embeddedWorld {
	t.Helper()
	srv, err := embedded.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &embeddedWorld{T: t, server: srv, options: []option.ClientOption{
		option.WithEndpoint("passthrough:///" + srv.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}}
	instances, err := instance.NewInstanceAdminClient(t.Context(), w.options...)
	w.must(err)
	defer instances.Close()
	made, err := instances.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{Parent: "projects/reader", InstanceId: "reader", Instance: &instancepb.Instance{DisplayName: "reader", NodeCount: 1}})
	w.must(err)
	_, err = made.Wait(t.Context())
	w.must(err)
	databases, err := database.NewDatabaseAdminClient(t.Context(), w.options...)
	w.must(err)
	defer databases.Close()
	op, err := databases.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{Parent: "projects/reader/instances/reader", CreateStatement: "CREATE DATABASE reader", ExtraStatements: ddl})
	w.must(err)
	_, err = op.Wait(t.Context())
	w.must(err)
	w.client, err = spanner.NewClientWithConfig(t.Context(), testDatabase, spanner.ClientConfig{DisableNativeMetrics: true}, w.options...)
	w.must(err)
	t.Cleanup(w.client.Close)
	return w
}

func (w *embeddedWorld) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *embeddedWorld) database() *server.Database { return w.server.Database(testDatabase) }

func (w *embeddedWorld) ddl(statements ...string) {
	w.Helper()
	databases, err := database.NewDatabaseAdminClient(w.Context(), w.options...)
	w.must(err)
	defer databases.Close()
	op, err := databases.UpdateDatabaseDdl(w.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: testDatabase, Statements: statements})
	w.must(err)
	w.must(op.Wait(w.Context()))
}

func (w *embeddedWorld) open(o Options) *Reader {
	w.Helper()
	o.Database, o.ClientOptions, o.Logger = testDatabase, w.options, slog.New(slog.DiscardHandler)
	if o.Heartbeat == 0 {
		o.Heartbeat = 100 * time.Millisecond
	}
	r, err := New(w.Context(), o)
	w.must(err)
	w.Cleanup(func() {
		if err := r.Close(); err != nil {
			w.Error(err)
		}
	})
	return r
}

const movingStream = "CREATE CHANGE STREAM Moving FOR ALL OPTIONS (partition_mode = 'MUTABLE_KEY_RANGE')"

// Partitions split, merge and move under load: each change comes once and per key in order, in both partition modes. With
// mutable key ranges the windows are so short that many moves fall on their ends.
func TestEmbeddedChurn(t *testing.T) {
	for _, stream := range []string{"Everything", "Moving"} {
		t.Run(stream, func(t *testing.T) { embeddedChurn(t, stream) })
	}
}

func embeddedChurn(t *testing.T, stream string) {
	w := startEmbedded(t, embedded.Options{Partitions: 3}, append(testDDL, movingStream)...)
	r := w.open(Options{Stream: stream, Window: 200 * time.Millisecond})
	if r.Info().Mutable != (stream == "Moving") {
		t.Fatalf("the reader says %+v", r.Info())
	}
	start, err := r.Now(t.Context())
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	const writes, keys = 600, 20
	seen := map[string]bool{}
	last := map[string]change.Position{}
	ended, moves := 0, 0
	done := make(chan error, 1)
	life := newLifecycle(t)
	go func() {
		done <- follow(ctx, r, start, func(f *change.Frame) {
			if !r.Info().Mutable {
				life.frame(f)
			}
			if f.Ended {
				ended++
			}
			if len(f.Sources) > 0 {
				moves++
			}
			for i := range f.Changes {
				c := &f.Changes[i]
				if seen[c.ID()] {
					t.Errorf("%s came twice", c.ID())
				}
				seen[c.ID()] = true
				key := string(c.Key[0])
				if !c.Position.After(last[key]) {
					t.Errorf("key %s: %v came after %v", key, c.Position, last[key])
				}
				last[key] = c.Position
			}
			if len(seen) == writes {
				cancel()
			}
		})
	}()
	rnd := rand.New(rand.NewPCG(1, 2))
	log := w.database().Log()
	for i := range writes {
		if i%15 == 14 {
			all, err := log.Partitions(stream)
			w.must(err)
			var live []string
			for _, p := range all {
				if p.End == 0 {
					live = append(live, p.Token)
				}
			}
			switch a := rnd.IntN(len(live)); {
			case rnd.IntN(3) == 0:
				_, err = log.Move(stream, live[a], 0)
			case len(live) > 4:
				_, err = log.Merge(stream, []string{live[a], live[(a+1)%len(live)]}, 0)
			default:
				_, err = log.Split(stream, live[a], 2, nil, 0)
			}
			switch status.Code(err) {
			case codes.InvalidArgument, codes.FailedPrecondition: // not neighbours, or a range that cannot be divided
			default:
				w.must(err)
			}
		}
		_, err := w.client.Apply(t.Context(), []*spanner.Mutation{spanner.InsertOrUpdateMap("Carts", map[string]any{"CartId": fmt.Sprint(i % keys), "Items": int64(i)})}, spanner.ApplyAtLeastOnce())
		w.must(err)
	}
	err = <-done
	if ctx.Err() == context.DeadlineExceeded || len(seen) != writes {
		t.Fatalf("%d of %d changes came: %v", len(seen), writes, err)
	}
	t.Logf("%d partitions ended, keys moved into living ones %d times", ended, moves)
	if ended < 10 || r.Info().Mutable && moves < 10 {
		t.Errorf("only %d partitions ended, keys moved into living ones %d times", ended, moves)
	}
}

// Past the server's limit of streams on a connection queries wait for ever and without an error, so that connections must
// grow with the partitions, and shrink again. SPANLEDGER_PARTITIONS=10000 is the size to plan for.
func TestPitfallStreamsPerConnection(t *testing.T) {
	n := 1000
	if s := os.Getenv("SPANLEDGER_PARTITIONS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	w := startEmbedded(t, embedded.Options{Partitions: n, MaxConcurrentStreams: 100}, testDDL...)
	r := w.open(Options{Stream: "Everything", Heartbeat: time.Second})
	start, err := r.Now(t.Context())
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// A partition has one place at a time, and a connection is opened when no other has room: so they are never more than the
	// partitions fill, but for those that are given up because Spanner has not been heard on them for long.
	want := (n + defaultStreamsPerConn - 1) / defaultStreamsPerConn
	connections := func() (taking, retired int) {
		r.conns.mu.Lock()
		defer r.conns.mu.Unlock()
		streams := 0
		for _, k := range r.conns.conns {
			if k.streams > defaultStreamsPerConn {
				t.Errorf("%d streams on a connection, want at most %d", k.streams, defaultStreamsPerConn)
			}
			if streams += k.streams; k.retired {
				retired++
			} else {
				taking++
			}
		}
		if taking > want || streams > n {
			t.Errorf("%d streams on %d connections for %d partitions, want at most %d", streams, taking, n, want)
		}
		return taking, retired
	}
	alive := map[string]bool{}
	err = follow(ctx, r, start, func(f *change.Frame) {
		if alive[f.Token] { // frames may still come while the queries end
			return
		}
		if alive[f.Token] = true; len(alive)%max(1, n/100) == 0 {
			connections()
		}
		if len(alive) == n {
			if taking, retired := connections(); taking != want && retired == 0 {
				t.Errorf("%d connections for %d partitions, want %d", taking, n, want)
			} else {
				t.Logf("%d partitions on %d connections, and %d given up", n, taking, retired)
			}
			cancel()
		}
	})
	if len(alive) != n {
		t.Fatalf("%d of %d partitions sent something: %v", len(alive), n, err)
	}
	if taking, retired := connections(); taking+retired != 1 {
		t.Errorf("%d connections are left without a partition", taking+retired)
	}
}

func TestEmbeddedTypesAndSchemaChange(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	seeded := r.Tables()
	if len(seeded) != 1 || seeded[0].Name != "Carts" || len(seeded[0].Columns) != 6 || len(seeded[0].Keys()) != 1 {
		t.Fatalf("seeded: %+v", seeded)
	}
	start, err := r.Now(t.Context())
	w.must(err)
	put := func(m map[string]any) {
		t.Helper()
		_, err := w.client.Apply(t.Context(), []*spanner.Mutation{spanner.InsertOrUpdateMap("Carts", m)})
		w.must(err)
	}
	put(map[string]any{"CartId": "a", "Items": int64(1) << 60, "Total": 1.5, "Tags": []string{"x", "y"}, "Extra": spanner.NullJSON{Value: map[string]any{"k": 1}, Valid: true}})
	// Updates of different columns in turn are no schema change.
	put(map[string]any{"CartId": "a", "Items": int64(2)})
	put(map[string]any{"CartId": "a", "Note": "n"})
	put(map[string]any{"CartId": "a", "Items": int64(3)})
	w.ddl("ALTER TABLE Carts ADD COLUMN Added INT64")
	put(map[string]any{"CartId": "a", "Added": int64(4)})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	err = follow(ctx, r, start, func(f *change.Frame) {
		for i := range f.Changes {
			c := &f.Changes[i]
			var b strings.Builder
			fmt.Fprintf(&b, "%s v%d", c.Op, c.Table.Version)
			for j, v := range c.After {
				if v != nil && !v.IsNull() {
					fmt.Fprintf(&b, " %s=%s", c.Table.Columns[j].Name, v)
				}
			}
			got = append(got, b.String())
		}
		if len(got) == 5 {
			cancel()
		}
	})
	want := []string{
		`INSERT v1 Items="1152921504606846976" Total=1.5 Tags=["x","y"] Extra="{\"k\":1}"`,
		`UPDATE v1 Items="2"`, `UPDATE v1 Note="n"`, `UPDATE v1 Items="3"`, `UPDATE v2 Added="4"`,
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"), err)
	}
}

func TestEmbeddedStreamIsMissing(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, append(testDDL, movingStream)...)
	_, err := New(t.Context(), Options{Database: testDatabase, Stream: "Nothing", ClientOptions: w.options})
	if err == nil || !strings.Contains(err.Error(), "it has Everything, Moving") {
		t.Errorf("got %v", err)
	}
	if _, err = New(t.Context(), Options{Database: testDatabase + "x", Stream: "Moving", ClientOptions: w.options}); err == nil || !strings.Contains(err.Error(), "check the database's name") {
		t.Errorf("got %v", err)
	}
	if _, err = New(t.Context(), Options{Database: "db", Stream: "a b", Heartbeat: time.Hour}); err == nil || strings.Count(err.Error(), "changestream:") != 3 {
		t.Errorf("got %v", err)
	}
}

func TestPitfallTokensVanish(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	var lost *LostError
	if _, err := r.Partitions(t.Context(), change.TimestampOf(time.Now().Add(-time.Hour))); !errors.As(err, &lost) {
		t.Errorf("a start before the stream: got %v", err)
	}
	start, err := r.Now(t.Context())
	w.must(err)
	partitions, err := r.Partitions(t.Context(), start)
	w.must(err)
	first := true
	err = r.Read(t.Context(), partitions[0], 0, func(*change.Frame) error {
		if first {
			first = false
			w.ddl("DROP CHANGE STREAM Everything", "CREATE CHANGE STREAM Everything FOR ALL")
		}
		return nil
	})
	var gone *GoneError
	if !errors.As(err, &gone) || gone.Through < start {
		t.Fatalf("got %v", err)
	}
	// The new stream of that name does not know the old one's partitions.
	err = r.Read(t.Context(), partitions[0], change.TimestampOf(time.Now()), func(*change.Frame) error { return nil })
	if !errors.As(err, &gone) {
		t.Fatalf("got %v", err)
	}
}

func TestEmbeddedSessionLost(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	r.conns.sessionMu.Lock()
	r.conns.session += "lost"
	r.conns.sessionMu.Unlock()
	start, err := r.Now(t.Context())
	w.must(err)
	r.conns.sessionMu.Lock()
	r.conns.session += "lost"
	r.conns.sessionMu.Unlock()
	if _, err := r.Partitions(t.Context(), start); err != nil {
		t.Fatal(err)
	}
}

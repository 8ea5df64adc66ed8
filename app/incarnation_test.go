package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/emulator/official"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

var breakDDL = []string{
	"CREATE TABLE Carts (CartId STRING(36) NOT NULL, Items INT64) PRIMARY KEY (CartId)",
	"CREATE CHANGE STREAM Everything FOR ALL",
}

// breaking is a pipeline whose state and sink outlive the Spanner it reads.
type breaking struct {
	*testing.T
	Endpoints
	config PipelineConfig
	store  *state.Memory
	sink   *memsink.Destination
	writes int
	more   int // changes run waits for, beside its own
}

// runFor is run with nothing of its own awaited but n changes in all.
func (b *breaking) runFor(n int) error {
	b.more = n - 1
	defer func() { b.more = 0 }()
	return b.run(nil)
}

func newBreaking(t *testing.T, addr string) *breaking {
	b := &breaking{T: t, Endpoints: Endpoints{Spanner: addr}, store: state.NewMemory(), sink: memsink.NewDestination()}
	b.config = PipelineConfig{Name: "ledger", Database: "projects/proj/instances/inst/databases/ledger", Stream: "Everything"}
	b.makeDatabase()
	return b
}

func (b *breaking) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *breaking) name() databaseName {
	n, err := parseDatabase(b.config.Database)
	b.must(err)
	return n
}

func (b *breaking) makeDatabase() {
	b.Helper()
	b.must(b.ensureDatabase(b.Context(), b.name(), breakDDL))
}

func (b *breaking) dropDatabase() {
	b.Helper()
	admin, err := b.databaseAdmin(b.Context())
	b.must(err)
	defer admin.Close()
	b.must(admin.DropDatabase(b.Context(), &databasepb.DropDatabaseRequest{Database: b.config.Database}))
}

func (b *breaking) ddl(statements ...string) {
	b.Helper()
	admin, err := b.databaseAdmin(b.Context())
	b.must(err)
	defer admin.Close()
	op, err := admin.UpdateDatabaseDdl(b.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: b.config.Database, Statements: statements})
	b.must(err)
	b.must(op.Wait(b.Context()))
}

func (b *breaking) write() {
	b.Helper()
	c, err := b.spannerClient(b.Context(), b.config.Database)
	b.must(err)
	defer c.Close()
	b.writes++
	_, err = c.Apply(b.Context(), []*spanner.Mutation{spanner.InsertMap("Carts", map[string]any{"CartId": fmt.Sprint(b.writes), "Items": b.writes})})
	b.must(err)
}

// run runs the pipeline as run does, with another store, until what was written has arrived, or it fails.
func (b *breaking) run(during func()) error {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	if err := b.checkStream(ctx, b.config); err != nil {
		return b.lostBefore(ctx, b.store, b.config, err)
	}
	identity, err := b.identity(ctx, b.name())
	b.must(err)
	now, err := b.now(ctx, b.config.Database, "")
	b.must(err)
	log := slog.New(slog.DiscardHandler)
	e, err := pipeline.New(pipeline.Options{
		Config: state.Config{Pipeline: b.config.Name, Database: b.config.Database, Stream: b.config.Stream, Identity: identity, Start: change.TimestampOf(now)},
		Store:  b.store, Diagnose: b.diagnose, CheckpointEvery: 10 * time.Millisecond, Logger: log,
		Source: func(ctx context.Context, snap state.Snapshot) (pipeline.Source, error) {
			r, err := changestream.New(ctx, changestream.Options{
				Database: b.config.Database, Stream: b.config.Stream, Heartbeat: 100 * time.Millisecond, Tables: snap.Tables, Open: snap.Unfinished(), PlacementsEvery: 20 * time.Millisecond,
				ClientOptions: plaintext(b.Spanner), Logger: log,
			})
			if err == nil {
				b.Cleanup(func() { r.Close() })
			}
			return r, err
		},
		Sinks: []pipeline.NamedSink{{Name: "all", Sink: memsink.NewAppender(memsink.Options{Destination: b.sink})}},
	})
	b.must(err)
	done := make(chan error, 1)
	running, ended := context.WithCancel(ctx)
	go func() { done <- e.Run(ctx); ended() }()
	select {
	case <-e.Ready():
	case err := <-done:
		return err
	}
	if during != nil {
		during()
		return <-done
	}
	want := b.sink.Distinct() + b.more + 1
	b.write()
	arrived := b.sink.Wait(running, want)
	cancel()
	err = <-done
	if err == nil {
		b.must(arrived)
	}
	return err
}

func (b *breaking) broken(err error, want state.Reason) {
	b.Helper()
	b.brokenAs(err, want, want)
}

// brokenAs expects the error's reason, and another one that was recorded before.
func (b *breaking) brokenAs(err error, want, recorded state.Reason) {
	b.Helper()
	broken, ok := errors.AsType[*pipeline.BrokenError](err)
	if !ok || broken.Gap.Reason != want {
		b.Fatalf("got %v, want an incarnation broken because %s", err, want)
	}
	if !NeedsIncarnation(err) {
		b.Error("the program would not end with its own exit code")
	}
	h, err := b.store.History(b.Context(), b.config.Name)
	b.must(err)
	snap, err := b.store.Load(b.Context(), b.config.Name)
	b.must(err)
	if gap := h.Current().Gap; gap == nil || gap.Reason != recorded || gap.From != snap.Through()+1 || !gap.IsOpen() {
		b.Fatalf("recorded %+v, everything through %s was delivered", gap, snap.Through())
	}
}

// goOn opens the next incarnation from now, as restart does, and shows that it delivers.
func (b *breaking) goOn() {
	b.Helper()
	o := RestartOptions{From: When{kind: "now"}, Logger: slog.New(slog.DiscardHandler)}
	p, err := b.planRestart(b.Context(), b.store, b.config, o)
	b.must(err)
	if p.Lost == nil || p.Lost.From != p.Through+1 || p.Lost.To != p.Start-1 {
		b.Errorf("the plan loses %v between %s and %s", p.Lost, p.Through, p.Start)
	}
	p.stored.Digest = "" // as run's
	_, err = b.store.Reopen(b.Context(), p.stored, state.Restart{Incarnation: p.Ends, Reason: p.Reason, Through: p.Through})
	b.must(err)
	b.must(b.run(nil))
	h, err := b.store.History(b.Context(), b.config.Name)
	b.must(err)
	if gap := h.Incarnations[0].Gap; len(h.Incarnations) != 2 || gap == nil || gap.To != p.Start-1 || h.Current().Reason != gap.Reason {
		b.Errorf("history %+v", h)
	}
}

func startEmbedded(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestExpiredRetentionIsAGap(t *testing.T) {
	b := newBreaking(t, startEmbedded(t, embedded.Options{StreamRetention: 300 * time.Millisecond}).Addr())
	b.must(b.run(nil))
	b.write() // never read
	r, err := changestream.New(t.Context(), changestream.Options{Database: b.config.Database, Stream: b.config.Stream, ClientOptions: plaintext(b.Spanner)})
	b.must(err)
	defer r.Close()
	snap, err := b.store.Load(t.Context(), b.config.Name)
	b.must(err)
	for !errors.As(err, new(*changestream.LostError)) {
		_, err = r.Partitions(t.Context(), snap.Through()+1)
	}
	b.broken(b.run(nil), state.Expired)
	b.goOn()
}

func TestDroppedStreamIsAGap(t *testing.T) {
	b := newBreaking(t, startEmbedded(t, embedded.Options{}).Addr())
	b.must(b.run(nil))
	b.broken(b.run(func() { b.ddl("DROP CHANGE STREAM Everything") }), state.Dropped) // while it runs
	b.broken(b.run(nil), state.Dropped)                                               // and at the next start
	b.ddl("CREATE CHANGE STREAM Everything FOR ALL")
	b.goOn()
}

// A placement made later has changes that nobody reads, be it made while the pipeline runs or while it does not.
func TestNewPlacementIsAGap(t *testing.T) {
	placement := func(name string) string { return "CREATE PLACEMENT " + name + " OPTIONS (instance_partition = 'p')" }
	for name, running := range map[string]bool{"running": true, "stopped": false} {
		t.Run(name, func(t *testing.T) {
			b := newBreaking(t, startEmbedded(t, embedded.Options{}).Addr())
			b.ddl("DROP CHANGE STREAM Everything", "CREATE CHANGE STREAM Everything FOR ALL OPTIONS (per_placement_tvf = true)")
			b.must(b.run(nil))
			before, err := b.store.Load(t.Context(), b.config.Name)
			b.must(err)
			var during func()
			if add := func() { b.ddl(placement("eu")) }; running {
				during = add
			} else {
				add()
			}
			for i := range 2 { // and again at the next start
				err := b.run(during)
				during = nil
				broken, ok := errors.AsType[*pipeline.BrokenError](err)
				if !ok || broken.Gap.Reason != state.Extended || !NeedsIncarnation(err) {
					t.Fatalf("got %v", err)
				}
				// Whatever was committed in the placement, it was not before this.
				snap, err := b.store.Load(t.Context(), b.config.Name)
				b.must(err)
				if from := broken.Gap.From; from > snap.Through()+1 || running && i == 0 && from < before.Pipeline.Start {
					t.Errorf("a gap from %v, everything through %v was delivered, of a pipeline begun at %v", from, snap.Through(), before.Pipeline.Start)
				}
			}
			p, err := b.planRestart(t.Context(), b.store, b.config, RestartOptions{From: When{kind: "now"}, Logger: slog.New(slog.DiscardHandler)})
			b.must(err)
			if p.Lost == nil || p.Reason != state.Extended {
				t.Errorf("the plan is %+v", p)
			}
			p.stored.Digest = "" // as run's
			_, err = b.store.Reopen(t.Context(), p.stored, state.Restart{Incarnation: p.Ends, Reason: p.Reason, Through: p.Through})
			b.must(err)
			b.must(b.run(nil))
		})
	}
}

func TestDroppedStreamIsFoundAtStart(t *testing.T) {
	b := newBreaking(t, startEmbedded(t, embedded.Options{}).Addr())
	b.must(b.run(nil))
	b.ddl("DROP CHANGE STREAM Everything")
	b.broken(b.run(nil), state.Dropped)
	// A misspelt name is no gap.
	b.config.Stream = "Everythin"
	if err := b.run(nil); err == nil || errors.As(err, new(*pipeline.BrokenError)) {
		t.Errorf("another stream than the one that was read: %v", err)
	}
}

func TestRecreatedStreamIsAGap(t *testing.T) {
	b := newBreaking(t, startEmbedded(t, embedded.Options{}).Addr())
	b.must(b.run(nil))
	b.ddl("DROP CHANGE STREAM Everything", "CREATE CHANGE STREAM Everything FOR ALL")
	b.write() // in the new stream, and in no sink
	b.broken(b.run(nil), state.Recreated)
	b.goOn()
}

// A database restored from a backup has another time of creation, and no change stream records.
func TestRestoredDatabaseIsAGap(t *testing.T) {
	b := newBreaking(t, startEmbedded(t, embedded.Options{}).Addr())
	b.must(b.run(nil))
	b.dropDatabase()
	b.broken(b.run(nil), state.Dropped)
	b.store = state.NewMemory() // as if nobody had looked in between
	b.makeDatabase()
	b.must(b.run(nil))
	b.dropDatabase()
	b.makeDatabase()
	b.write()
	b.broken(b.run(nil), state.Restored)
	b.goOn()
}

func TestRestartedEmulatorIsAGap(t *testing.T) {
	first := startEmbedded(t, embedded.Options{})
	b := newBreaking(t, first.Addr())
	b.must(b.run(nil))
	b.must(first.Close())
	startEmbedded(t, embedded.Options{Addr: first.Addr()})
	b.broken(b.run(nil), state.Restarted) // nothing is there
	b.makeDatabase()
	b.broken(b.run(nil), state.Restarted) // a database of the name
	b.goOn()
}

// Google's emulator does not say when a database was made. Once the database is made again, its restart looks like a stream
// that was made again.
func TestOfficialRestartedEmulatorIsAGap(t *testing.T) {
	p := official.SpannerForTest(t, official.SpannerOptions{})
	b := newBreaking(t, p.Endpoint())
	b.must(b.run(nil))
	b.must(p.Stop())
	b.Endpoints.Spanner = official.SpannerForTest(t, official.SpannerOptions{}).Endpoint()
	b.broken(b.run(nil), state.Restarted)
	b.makeDatabase()
	b.brokenAs(b.run(nil), state.Recreated, state.Restarted) // what was recorded first stays
	b.goOn()
}

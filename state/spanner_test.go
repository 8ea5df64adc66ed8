package state_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	databaseadmin "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instanceadmin "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/spanner/server"
	"github.com/spanledger/spanledger/state"
	"github.com/spanledger/spanledger/state/statetest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// backend is a Spanner server to test on.
type backend struct {
	// create makes a database with the statements and returns its name.
	create func(t *testing.T, ddl ...string) string
	// alter runs more statements on a database.
	alter func(t *testing.T, database string, ddl ...string)
	// options are a client's.
	options []option.ClientOption
}

// backends start the servers that the Spanner form must work on.
var backends = []struct {
	name  string
	start func(t *testing.T) backend
}{
	{"official", startOfficial},
	{"embedded", startEmbedded},
}

var databases atomic.Int64

func startOfficial(t *testing.T) backend {
	p := official.SpannerForTest(t, official.SpannerOptions{})
	return backend{
		options: p.ClientOptions(),
		alter:   func(t *testing.T, database string, ddl ...string) { alter(t, p.ClientOptions(), database, ddl...) },
		create: func(t *testing.T, ddl ...string) string {
			t.Helper()
			name := fmt.Sprintf("projects/p1/instances/state/databases/db%d", databases.Add(1))
			if err := p.CreateDatabase(t.Context(), name, ddl...); err != nil {
				t.Fatal(err)
			}
			return name
		},
	}
}

func startEmbedded(t *testing.T) backend {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	emulator := server.New(server.Options{})
	grpcServer := grpc.NewServer(server.GRPCOptions(0)...)
	emulator.Register(grpcServer)
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(listener) }()
	t.Cleanup(func() {
		emulator.Close()
		grpcServer.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	options := insecureOptions(listener.Addr().String())
	admin, err := instanceadmin.NewInstanceAdminClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	op, err := admin.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{Parent: "projects/p1", InstanceId: "state",
		Instance: &instancepb.Instance{Config: "projects/p1/instanceConfigs/emulator-config", DisplayName: "state", NodeCount: 1}})
	if err == nil {
		_, err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return backend{
		options: options,
		alter:   func(t *testing.T, database string, ddl ...string) { alter(t, options, database, ddl...) },
		create:  func(t *testing.T, ddl ...string) string { return create(t, options, ddl...) },
	}
}

// insecureOptions are for a server on this machine.
func insecureOptions(address string) []option.ClientOption {
	return []option.ClientOption{option.WithEndpoint(address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))}
}

// create makes a database in the instance projects/p1/instances/state.
func create(t *testing.T, options []option.ClientOption, ddl ...string) string {
	t.Helper()
	admin, err := databaseadmin.NewDatabaseAdminClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	id := fmt.Sprintf("db%d", databases.Add(1))
	op, err := admin.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{Parent: "projects/p1/instances/state",
		CreateStatement: "CREATE DATABASE " + id, ExtraStatements: ddl})
	if err == nil {
		_, err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return "projects/p1/instances/state/databases/" + id
}

func alter(t *testing.T, options []option.ClientOption, database string, ddl ...string) {
	t.Helper()
	admin, err := databaseadmin.NewDatabaseAdminClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	op, err := admin.UpdateDatabaseDdl(t.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: database, Statements: ddl})
	if err == nil {
		err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b backend) client(t *testing.T, database string) *spanner.Client {
	t.Helper()
	c, err := spanner.NewClientWithConfig(context.Background(), database, spanner.ClientConfig{DisableNativeMetrics: true}, b.options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// onEach runs test on each backend with the tables made.
func onEach(t *testing.T, test func(t *testing.T, b backend, database string)) {
	for _, each := range backends {
		t.Run(each.name, func(t *testing.T) {
			b := each.start(t)
			test(t, b, b.create(t, state.DDL()...))
		})
	}
}

func TestSpanner(t *testing.T) {
	onEach(t, func(t *testing.T, b backend, database string) {
		t.Run("Suite", func(t *testing.T) {
			statetest.Run(t, func(t *testing.T) state.Store {
				return state.NewSpanner(b.client(t, database), state.SpannerOptions{})
			})
		})
		t.Run("Split", func(t *testing.T) { testSplit(t, b.client(t, database)) })
		t.Run("TooLarge", func(t *testing.T) { testTooLarge(t, b.client(t, database)) })
		t.Run("Partly", func(t *testing.T) { testPartlyFenced(t, b.client(t, database)) })
		t.Run("Unchanged", func(t *testing.T) { testUnchanged(t, b.client(t, database)) })
		t.Run("Workers", func(t *testing.T) { testWorkers(t, b.client(t, database)) })
		t.Run("InitAgain", func(t *testing.T) { b.alter(t, database, state.DDL()...) })
		t.Run("NoTables", func(t *testing.T) { testNoTables(t, b.client(t, b.create(t))) })
		t.Run("NoDatabase", func(t *testing.T) {
			missing := state.NewSpanner(b.client(t, database+"x"), state.SpannerOptions{})
			if _, err := missing.Open(t.Context(), config("p")); err == nil || !strings.Contains(err.Error(), "no such database") {
				t.Errorf("%v", err)
			}
		})
		t.Run("Forms", func(t *testing.T) { testForms(t, b.client(t, database)) })
	})
}

func config(name string) state.Config {
	return state.Config{Pipeline: name, Database: "d", Stream: "s", Identity: "i", Digest: "g", Start: 100}
}

// claimed opens and claims a pipeline with the partitions given.
func claimed(t *testing.T, s state.Store, name string, tokens ...string) state.Lease {
	t.Helper()
	if _, err := s.Open(t.Context(), config(name)); err != nil {
		t.Fatal(err)
	}
	l, err := s.Claim(t.Context(), name, "w")
	if err != nil {
		t.Fatal(err)
	}
	var u state.Update
	for _, token := range tokens {
		u.Children = append(u.Children, change.Partition{Token: token, Start: 100})
	}
	if fenced, err := s.Commit(t.Context(), l, []state.Update{u}); err != nil || len(fenced) > 0 {
		t.Fatal(fenced, err)
	}
	return l
}

// count is the number of a table's rows of a pipeline, and of their different commit timestamps in the column.
func count(t *testing.T, c *spanner.Client, table, column, pipeline string) (rows, commits int) {
	t.Helper()
	times := map[time.Time]bool{}
	err := c.Single().Read(t.Context(), table, spanner.Key{pipeline}.AsPrefix(), []string{column}).Do(func(r *spanner.Row) error {
		var at time.Time
		err := r.Columns(&at)
		times[at] = true
		rows++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, len(times)
}

// testSplit: many updates take several transactions, by mutations or by bytes, and no update is torn.
func testSplit(t *testing.T, c *spanner.Client) {
	for name, opts := range map[string]state.SpannerOptions{
		"mutations": {MaxMutations: 100},
		"bytes":     {MaxBytes: 20_000},
	} {
		s := state.NewSpanner(c, opts)
		name = "split-" + name
		const n = 40
		var tokens []string
		var updates []state.Update
		for i := range n {
			token := fmt.Sprintf("t%02d", i)
			tokens = append(tokens, token)
			updates = append(updates, state.Update{Token: token, Progress: []state.Progress{
				{Sink: "a", Through: 150, Chains: []state.ChainEnd{{Table: "t", State: make([]byte, 1000)}}}, {Sink: "b", Through: 150}}})
		}
		l := claimed(t, s, name, tokens[:n/8]...)
		for i := n / 8; i < n; i += n / 8 {
			claimedMore(t, s, l, tokens[i:i+n/8])
		}
		if fenced, err := s.Commit(t.Context(), l, updates); err != nil || len(fenced) > 0 {
			t.Fatal(fenced, err)
		}
		perCommit := map[time.Time]int{}
		rows := 0
		err := c.Single().Read(t.Context(), "spanledger_progress", spanner.Key{name}.AsPrefix(), []string{"updated_at"}).Do(func(r *spanner.Row) error {
			var at time.Time
			err := r.Columns(&at)
			perCommit[at]++
			rows++
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if rows != 2*n || len(perCommit) < 3 || len(perCommit) > 10 {
			t.Errorf("%s: %d rows in %d transactions, want %d in several", name, rows, len(perCommit), 2*n)
		}
		for _, k := range perCommit {
			if k%2 != 0 {
				t.Errorf("%s: an update is torn: %v", name, perCommit)
			}
		}
	}
}

func claimedMore(t *testing.T, s state.Store, l state.Lease, tokens []string) {
	t.Helper()
	var u state.Update
	for _, token := range tokens {
		u.Children = append(u.Children, change.Partition{Token: token, Start: 100})
	}
	if fenced, err := s.Commit(t.Context(), l, []state.Update{u}); err != nil || len(fenced) > 0 {
		t.Fatal(fenced, err)
	}
}

// testTooLarge: one update above the limit is a clear error that stores nothing, by mutations not even the others; chains
// that have grown in the store are counted.
func testTooLarge(t *testing.T, c *spanner.Client) {
	s := state.NewSpanner(c, state.SpannerOptions{MaxMutations: 100})
	l := claimed(t, s, "large", "a", "b")
	u := state.Update{Token: "a", Finished: true, End: 200}
	for i := range 20 {
		u.Children = append(u.Children, change.Partition{Token: fmt.Sprint("child", i), Start: 200})
	}
	_, err := s.Commit(t.Context(), l, []state.Update{{Token: "b", Progress: []state.Progress{{Sink: "s", Through: 150}}}, u})
	large, ok := errors.AsType[*state.TooLargeError](err)
	if !ok || large.Token != "a" || large.Limit != 100 || large.Size <= 100 || large.Unit != "mutations" {
		t.Fatalf("%v", err)
	}
	if p, err := s.Load(t.Context(), "large"); err != nil || len(p.Partitions) != 2 || len(p.Progress) != 0 {
		t.Errorf("it stored %+v, %v", p, err)
	}
	// What its message says helps.
	first, last := u, u
	first.Children, first.Finished, first.End, last.Children = u.Children[:7], false, 0, u.Children[14:]
	second := first
	second.Children = u.Children[7:14]
	if fenced, err := s.Commit(t.Context(), l, []state.Update{first, second, last}); err != nil || len(fenced) > 0 {
		t.Errorf("%q %v", fenced, err)
	}

	s = state.NewSpanner(c, state.SpannerOptions{MaxBytes: 10_000})
	for i := range 4 {
		_, err = s.Commit(t.Context(), l, []state.Update{{Token: "b", Progress: []state.Progress{{Sink: "s", Through: 150,
			Chains: []state.ChainEnd{{Table: fmt.Sprint("t", i), State: make([]byte, 2000)}}}}}})
		large, ok := errors.AsType[*state.TooLargeError](err)
		if want := i == 3; ok != want || !want && err != nil || ok && (large.Unit != "bytes" || large.Token != "b") {
			t.Errorf("chain %d: %v", i, err)
		}
	}
	// Updates that fit singly, but not together because of what is stored, go one by one.
	var updates []state.Update
	for _, token := range []string{"child1", "child2", "child3"} {
		u := state.Update{Token: token, Progress: []state.Progress{{Sink: "s", Through: 250, Chains: []state.ChainEnd{{Table: "small"}}}}}
		for i := range 2 {
			u.Progress[0].Chains = append(u.Progress[0].Chains, state.ChainEnd{Table: fmt.Sprint("t", i), State: make([]byte, 2000)})
		}
		if fenced, err := s.Commit(t.Context(), l, []state.Update{u}); err != nil || len(fenced) > 0 {
			t.Fatal(fenced, err)
		}
		updates = append(updates, state.Update{Token: token, Progress: []state.Progress{{Sink: "s", Through: 260}}})
	}
	if fenced, err := s.Commit(t.Context(), l, updates); err != nil || len(fenced) > 0 {
		t.Errorf("%q %v", fenced, err)
	}
	loaded, err := s.Load(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for _, p := range loaded.Progress {
		if p.Through == 260 && len(p.Chains) == 3 {
			moved++
		}
	}
	if moved != 3 {
		t.Errorf("%d of 3 checkpoints moved", moved)
	}
	if fenced, err := s.Commit(t.Context(), state.Lease{Pipeline: "large", Incarnation: 1, Worker: "w"}, updates); err != nil || len(fenced) != 3 {
		t.Errorf("fenced %q, %v", fenced, err)
	}
}

// testPartlyFenced gives one partition away, as scaling out does: the claim's owner is fenced for it and for it only, and the
// next claim takes it back.
func testPartlyFenced(t *testing.T, c *spanner.Client) {
	s := state.NewSpanner(c, state.SpannerOptions{})
	l := claimed(t, s, "partly", "a", "b", "c")
	_, err := c.Apply(t.Context(), []*spanner.Mutation{
		spanner.Update("spanledger_pipelines", []string{"pipeline", "epoch"}, []any{"partly", 2}),
		spanner.Update("spanledger_partitions", []string{"pipeline", "incarnation", "token", "owner", "epoch"}, []any{"partly", 1, "b", "v", 2}),
	})
	if err != nil {
		t.Fatal(err)
	}
	updates := func(at change.Timestamp) (list []state.Update) {
		for _, token := range []string{"a", "b", "c"} {
			list = append(list, state.Update{Token: token, Progress: []state.Progress{{Sink: "s", Through: at}}, Finished: true, End: 200,
				Children: []change.Partition{{Token: token + "2", Parents: []string{token}, Start: 200}}})
		}
		return list
	}
	fenced, err := s.Commit(t.Context(), l, updates(150))
	if err != nil || len(fenced) != 1 || fenced[0] != "b" {
		t.Fatalf("fenced %q, %v, want b", fenced, err)
	}
	loaded, err := s.Load(t.Context(), "partly")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range loaded.Partitions {
		if p.Token == "b2" || p.Token == "b" && (p.State != state.Open || p.Owner != "v" || p.Epoch != 2) {
			t.Errorf("after the fenced update: %+v", p)
		}
	}
	if len(loaded.Partitions) != 5 || len(loaded.Progress) != 2 {
		t.Errorf("the others were not stored: %+v", loaded)
	}
	v := state.Lease{Pipeline: "partly", Incarnation: 1, Worker: "v", Epoch: 2}
	if fenced, err = s.Commit(t.Context(), v, updates(160)[1:]); err != nil || len(fenced) != 1 || fenced[0] != "c" {
		t.Errorf("the new owner: fenced %q, %v, want c", fenced, err)
	}
	again, err := s.Claim(t.Context(), "partly", "w")
	if err != nil || again.Epoch != 3 {
		t.Fatalf("%+v, %v: an epoch was used twice", again, err)
	}
	if fenced, err = s.Commit(t.Context(), v, updates(170)[1:2]); err != nil || len(fenced) != 1 {
		t.Errorf("after the claim: fenced %q, %v", fenced, err)
	}
}

// testUnchanged: a commit that says what is known already writes no row.
func testUnchanged(t *testing.T, c *spanner.Client) {
	s := state.NewSpanner(c, state.SpannerOptions{})
	l := claimed(t, s, "unchanged", "a", "b")
	updates := []state.Update{
		{Token: "a", Progress: []state.Progress{{Sink: "s", Through: 150, Chains: []state.ChainEnd{{Table: "t", Through: change.Position{Commit: 150}, State: []byte("x")}}}},
			Children: []change.Partition{{Token: "c", Start: 200}}, Finished: true, End: 200},
		{Tables: []*change.Table{change.NewTable("t", 1, nil)}},
	}
	versions := map[string]map[time.Time]bool{}
	for range 3 {
		if fenced, err := s.Commit(t.Context(), l, updates); err != nil || len(fenced) > 0 {
			t.Fatal(fenced, err)
		}
		for table, column := range map[string]string{"spanledger_partitions": "finished_at", "spanledger_progress": "updated_at", "spanledger_schemas": "updated_at"} {
			if versions[table] == nil {
				versions[table] = map[time.Time]bool{}
			}
			err := c.Single().Read(t.Context(), table, spanner.Key{"unchanged"}.AsPrefix(), []string{column}).Do(func(r *spanner.Row) error {
				var at spanner.NullTime
				err := r.Columns(&at)
				if at.Valid {
					versions[table][at.Time] = true
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for table, at := range versions {
		if len(at) != 1 {
			t.Errorf("%s was written %d times", table, len(at))
		}
	}
}

// testWorkers: a claim leaves one lease, with commit timestamps.
func testWorkers(t *testing.T, c *spanner.Client) {
	s := state.NewSpanner(c, state.SpannerOptions{})
	claimed(t, s, "workers")
	for _, w := range []string{"x", "y", "w"} {
		if _, err := s.Claim(t.Context(), "workers", w); err != nil {
			t.Fatal(err)
		}
	}
	row, err := c.Single().ReadRow(t.Context(), "spanledger_workers", spanner.Key{"workers", "w"}, []string{"epoch", "started_at", "renewed_at"})
	if err != nil {
		t.Fatal(err)
	}
	var epoch int64
	var started, renewed time.Time
	if err := row.Columns(&epoch, &started, &renewed); err != nil || epoch != 4 || started.IsZero() || !started.Equal(renewed) {
		t.Errorf("epoch %d, started %s, renewed %s, %v", epoch, started, renewed, err)
	}
	if rows, _ := count(t, c, "spanledger_workers", "started_at", "workers"); rows != 1 {
		t.Errorf("%d leases are left", rows)
	}
}

func testNoTables(t *testing.T, c *spanner.Client) {
	s := state.NewSpanner(c, state.SpannerOptions{})
	_, opened := s.Open(t.Context(), config("p"))
	_, claim := s.Claim(t.Context(), "p", "w")
	_, load := s.Load(t.Context(), "p")
	_, commit := s.Commit(t.Context(), state.Lease{Pipeline: "p"}, []state.Update{{}})
	segments := s.Segments(t.Context(), "p", "s", func(change.Segment) error { return nil })
	for what, err := range map[string]error{"Open": opened, "Claim": claim, "Load": load, "Commit": commit, "Segments": segments} {
		if err == nil || !strings.Contains(err.Error(), "spanledger init") || !strings.Contains(err.Error(), c.DatabaseName()) {
			t.Errorf("%s without tables: %v", what, err)
		}
	}
}

// TestUnreachable: a server that is not there does not hold a call longer than its context.
func TestUnreachable(t *testing.T) {
	b := backend{options: insecureOptions("127.0.0.1:1")}
	s := state.NewSpanner(b.client(t, "projects/p/instances/i/databases/d"), state.SpannerOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.Open(ctx, config("p"))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "database projects/p/instances/i/databases/d: no answer") {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
}

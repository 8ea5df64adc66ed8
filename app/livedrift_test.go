package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/check"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

var driftResources = Resources{
	Database: "projects/drift-project/instances/drift/databases/shop", StateDatabase: "projects/drift-project/instances/drift/databases/state",
	Stream: "Everything", Project: "drift-project", Bucket: "archive", Dataset: "changes",
}

// destinations are those of the kind of sink "memory", by name.
var destinations sync.Map

var registerMemory = sync.OnceFunc(func() {
	sinks.Register(sinks.Type{Name: "memory", New: func(_ string, decode func(any) error) (sinks.Sink, error) {
		var o struct {
			Destination string `json:"destination"`
		}
		if err := decode(&o); err != nil {
			return nil, err
		}
		destination, _ := destinations.Load(o.Destination)
		return memsink.NewAppender(memsink.Options{Destination: destination.(*memsink.Destination)}), nil
	}})
})

// drifting is a pipeline into memory, an archive and BigQuery, all in this process, whose source's schema is changed.
type drifting struct {
	*testing.T
	cloud   *Cloud
	client  *spanner.Client
	objects *storage.Client
	seen    *memsink.Destination
	config  PipelineConfig
	start   time.Time
	writes  int
	ddlLook time.Duration // how often the pipeline looks for another schema; 0 means as usual
}

func newDrifting(t *testing.T, o embedded.Options, ddl ...string) *drifting {
	d := &drifting{T: t, seen: memsink.NewDestination()}
	var err error
	d.cloud, err = StartCloud(context.Background(), CloudOptions{Listen: Listen{PubSub: Off}, Spanner: o})
	d.must(err)
	t.Cleanup(func() { d.must(d.cloud.Close()) })
	r := driftResources
	source, err := parseDatabase(r.Database)
	d.must(err)
	metadata, err := parseDatabase(r.StateDatabase)
	d.must(err)
	d.must(d.cloud.ensureDatabase(t.Context(), source, ddl))
	d.must(d.cloud.ensureDatabase(t.Context(), metadata, state.DDL()))
	d.objects, err = d.cloud.storageClient(t.Context())
	d.must(err)
	t.Cleanup(func() { d.must(d.objects.Close()) })
	d.must(ensureBucket(t.Context(), d.objects, r.Project, r.Bucket))
	d.must(d.cloud.ensureDataset(t.Context(), r.Project, r.Dataset))
	d.client, err = d.cloud.spannerClient(t.Context(), r.Database)
	d.must(err)
	t.Cleanup(d.client.Close)
	d.start, err = d.cloud.now(t.Context(), r.Database, "")
	d.must(err)
	registerMemory()
	memory := fmt.Sprintf("%p", d.seen)
	destinations.Store(memory, d.seen)
	t.Cleanup(func() { destinations.Delete(memory) })
	options := func(o map[string]any) json.RawMessage {
		b, err := json.Marshal(o)
		d.must(err)
		return b
	}
	d.config = PipelineConfig{
		Name: "drift", Database: r.Database, Stream: r.Stream, StateDatabase: r.StateDatabase,
		Start: change.TimestampOf(d.start), Heartbeat: 100 * time.Millisecond, CheckpointEvery: 20 * time.Millisecond,
		Sinks: []SinkConfig{
			{Name: "memory", Type: "memory", Options: options(map[string]any{"destination": memory})},
			{Name: "archive", Type: "gcs", Options: options(map[string]any{"bucket": r.Bucket, "endpoint": d.cloud.Storage, "max_delay": "20ms"})},
			{Name: "bigquery", Type: "bigquery", Options: options(map[string]any{
				"project": r.Project, "dataset": r.Dataset, "endpoint": d.cloud.BigQuery, "grpc_endpoint": d.cloud.BigQueryStorage, "max_delay": "20ms",
			})},
		},
	}
	return d
}

func (d *drifting) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// run runs the pipeline while during goes on, and until it has delivered all that was committed by then.
func (d *drifting) run(during func()) {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), time.Minute)
	defer cancel()
	p, err := NewPipeline(ctx, d.cloud.Endpoints, d.config, slog.New(slog.DiscardHandler))
	d.must(err)
	defer func() { d.must(p.Close()) }()
	if d.ddlLook != 0 {
		p.ddl.every = d.ddlLook
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.Run(running) }()
	select {
	case <-p.Ready():
	case err := <-done:
		d.Fatal(err)
	}
	during()
	end := change.TimestampOf(d.now())
	for p.Status().Watermark < end {
		select {
		case err := <-done:
			d.Fatalf("the pipeline ended early: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	stop()
	d.must(<-done)
}

func (d *drifting) now() time.Time {
	d.Helper()
	t, err := d.cloud.now(d.Context(), d.config.Database, "")
	d.must(err)
	return t
}

func (d *drifting) put(m ...*spanner.Mutation) {
	d.Helper()
	_, err := d.client.Apply(d.Context(), m)
	d.must(err)
	d.writes += len(m)
}

func (d *drifting) ddl(statements ...string) {
	d.Helper()
	admin, err := d.cloud.databaseAdmin(d.Context())
	d.must(err)
	defer admin.Close()
	op, err := admin.UpdateDatabaseDdl(d.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: d.config.Database, Statements: statements})
	d.must(err)
	d.must(op.Wait(d.Context()))
}

// stored lists the archive's objects below a folder, with their content, in the order of their names.
func (d *drifting) stored(folder string) (names, texts []string) {
	d.Helper()
	it := d.objects.Bucket(driftResources.Bucket).Objects(d.Context(), &storage.Query{Prefix: folder + "/"})
	for {
		o, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return names, texts
		}
		d.must(err)
		r, err := d.objects.Bucket(o.Bucket).Object(o.Name).NewReader(d.Context())
		d.must(err)
		text, err := io.ReadAll(r)
		d.must(errors.Join(err, r.Close()))
		names, texts = append(names, o.Name), append(texts, string(text))
	}
}

// delivered are the changes of a table's row, as memory has them: operation, and each captured column with its type, before
// and after.
func (d *drifting) delivered(table, key string) (list []string, versions map[int]bool) {
	versions = map[int]bool{}
	for _, v := range d.seen.Deliveries() {
		c := &v.Change
		if c.Table.Name != table || string(c.Key[0]) != key {
			continue
		}
		versions[c.Table.Version] = true
		text := c.Op.String()
		for i, column := range c.Table.Columns {
			if after := c.After.At(i); after != nil {
				before := ""
				if old := c.Before.At(i); old != nil {
					before = string(old) + "→"
				}
				text += fmt.Sprintf(" %s:%s=%s%s", column.Name, column.Type, before, after)
			}
		}
		list = append(list, text)
	}
	return list, versions
}

// The schema changes again and again while everything runs and another table is written without a pause: every record says
// by itself what it holds, and nothing is restarted.
func TestSchemaDriftWhileRunning(t *testing.T) {
	d := newDrifting(t, embedded.Options{Partitions: 3, Churn: changes.Churn{Interval: 150 * time.Millisecond}}, "CREATE SCHEMA sales",
		"CREATE TABLE sales.Orders (Id STRING(9) NOT NULL, A STRING(MAX), B INT64) PRIMARY KEY (Id)",
		"CREATE TABLE Carts (Id STRING(9) NOT NULL, N INT64) PRIMARY KEY (Id)",
		"CREATE CHANGE STREAM Everything FOR ALL")
	row := func(op func(string, map[string]any) *spanner.Mutation, table string, pairs ...any) *spanner.Mutation {
		m := map[string]any{"Id": "x"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return op(table, m)
	}
	update := func(pairs ...any) { t.Helper(); d.put(row(spanner.UpdateMap, "sales.Orders", pairs...)) }
	background := 0
	d.run(func() {
		writing, stop := context.WithCancel(t.Context())
		wrote := make(chan error, 1)
		go func() { // rows all over the key space
			for writing.Err() == nil {
				m := spanner.InsertOrUpdateMap("Carts", map[string]any{"Id": fmt.Sprint(background*7919%1000 + 100000), "N": background})
				if _, err := d.client.Apply(t.Context(), []*spanner.Mutation{m}); err != nil {
					wrote <- err
					return
				}
				background++
			}
			wrote <- nil
		}()
		defer func() { stop(); d.must(<-wrote) }()
		d.put(row(spanner.InsertMap, "sales.Orders", "A", "a1", "B", 1))
		update("A", "a2")
		update("B", 2)
		update("A", "a3")
		d.ddl("ALTER TABLE sales.Orders ADD COLUMN C BOOL")
		update("C", true)
		update("B", 3)
		d.ddl("ALTER TABLE sales.Orders ALTER COLUMN A BYTES(MAX)")
		update("A", []byte("a4"))
		d.ddl("ALTER TABLE sales.Orders DROP COLUMN B")
		update("C", false)
		d.ddl("DROP TABLE sales.Orders", "CREATE TABLE sales.Orders (Id STRING(9) NOT NULL, D FLOAT64, B STRING(9)) PRIMARY KEY (Id)")
		d.put(row(spanner.InsertMap, "sales.Orders", "D", 0.5, "B", "b"))
		d.ddl("CREATE TABLE sales.Late (Id STRING(9) NOT NULL) PRIMARY KEY (Id)")
		d.put(row(spanner.InsertMap, "sales.Late"))
	})

	got, versions := d.delivered("sales.Orders", `"x"`)
	want := []string{
		`INSERT A:STRING="a1" B:INT64="1"`,
		`UPDATE A:STRING="a1"→"a2"`,
		`UPDATE B:INT64="1"→"2"`,
		`UPDATE A:STRING="a2"→"a3"`,
		`UPDATE C:BOOL=null→true`,
		`UPDATE B:INT64="2"→"3"`,
		`UPDATE A:BYTES="YTM="→"YTQ="`,
		`UPDATE C:BOOL=true→false`,
		`INSERT B:STRING="b" D:FLOAT64=0.5`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("delivered\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(versions) != 4 { // as made, C added, A retyped, made anew
		t.Errorf("versions %v", versions)
	}
	if late, _ := d.delivered("sales.Late", `"x"`); !slices.Equal(late, []string{"INSERT"}) {
		t.Errorf("the table made meanwhile: %q", late)
	}
	if background == 0 || d.seen.Distinct() != d.writes+background {
		t.Errorf("%d changes of %d", d.seen.Distinct(), d.writes+background)
	}
	d.must(d.seen.CheckOrder())
	d.must(d.seen.CheckOnce())

	d.check(d.writes + background)
	// A segment may take changes of several versions where those only add columns.
	if names, _ := d.stored("schemas/sales.Orders"); len(names) < 3 || len(names) > len(versions) {
		t.Errorf("%d versions, and the schemas %q", len(versions), names)
	}
}

// Two shapes of one table are in flight at once: one partition is read only after the others have shown the new one.
func TestTwoShapesInFlight(t *testing.T) {
	plan, err := fault.Parse("stall for=700ms method=ChangeStream nth=2") // the first query is for the partitions
	if err != nil {
		t.Fatal(err)
	}
	d := newDrifting(t, embedded.Options{Partitions: 3, Faults: plan},
		"CREATE TABLE Carts (Id STRING(9) NOT NULL, Note STRING(MAX), N INT64) PRIMARY KEY (Id)", "CREATE CHANGE STREAM Everything FOR ALL")
	const rows = 16
	put := func(column string, value any) { // in one row of each part of the key space
		t.Helper()
		var all []*spanner.Mutation
		for i := range rows {
			all = append(all, spanner.InsertOrUpdate("Carts", []string{"Id", column}, []any{string(rune(16*i)) + "row", value}))
		}
		d.put(all...)
	}
	put("Note", "old")
	put("N", 1)
	d.ddl("ALTER TABLE Carts ALTER COLUMN Note BYTES(MAX)")
	put("Note", []byte("new"))
	put("N", 2)
	d.run(func() {})

	var versions []int // in the order of delivery
	for _, v := range d.seen.Deliveries() {
		c := &v.Change
		versions = append(versions, c.Table.Version)
		note := c.After.At(c.Table.Index("Note"))
		if typ := c.Table.Columns[c.Table.Index("Note")].Type.String(); note != nil && string(note) != map[string]string{"STRING": `"old"`, "BYTES": `"bmV3"`}[typ] &&
			!(c.Op == change.Insert && note.IsNull()) {
			t.Errorf("%s is delivered as %s", note, typ)
		}
	}
	if slices.IsSorted(versions) {
		t.Errorf("no old shape came after a new one: %v", versions)
	}
	if slices.Sort(versions); len(slices.Compact(versions)) != 2 {
		t.Errorf("two shapes made other versions: %v", versions)
	}
	d.must(d.seen.CheckOrder())
	d.must(d.seen.CheckOnce())
	d.check(d.writes)
}

// check holds the archive and the tables in BigQuery, read by another decoder, against the change stream's n changes: old
// segments as new ones.
func (d *drifting) check(n int) {
	d.Helper()
	truth, err := check.ReadTruth(d.Context(), check.SpannerOptions{
		Client: d.client, Database: d.config.Database, Stream: d.config.Stream, Start: d.start, End: d.now(),
	})
	d.must(err)
	if len(truth.Changes) != n {
		d.Errorf("the truth has %d changes of %d", len(truth.Changes), n)
	}
	archived, err := check.Archive(d.Context(), truth, check.Bucket(d.objects, driftResources.Bucket, ""))
	d.must(err)
	d.must(archived.Err())
	tables, err := d.cloud.bigqueryClient(d.Context(), driftResources.Project)
	d.must(err)
	defer tables.Close()
	logged, err := check.BigQuery(d.Context(), truth, tables, driftResources.Project, driftResources.Dataset)
	d.must(err)
	d.must(logged.Err())
}

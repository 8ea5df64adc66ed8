package bigquerysink

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/bigquery"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

func typ(c change.Code) *change.Type { return &change.Type{Code: c} }

func TestTableID(t *testing.T) {
	for name, want := range map[string]string{
		"carts":      "x_carts",
		"shop.stock": "x_shop__stock",
		"a_b.c_d":    "x_a_b__c_d",
	} {
		if got := TableID("x_", name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"a__b", "a_.b", "a._b", "größe", "a.b.c", "", ".", "a-b", strings.Repeat("x", 300), "a.0b"} {
		if got := TableID("", name); !regexp.MustCompile(`^\w*__0[0-9a-f]{16}$`).MatchString(got) {
			t.Errorf("%q becomes %s", name, got)
		}
	}
	name := rapid.StringMatching(`[ab_.0-]{0,8}(__0[0-9a-f]{16})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		if a != b && TableID("", a) == TableID("", b) {
			t.Fatalf("%q and %q are both %s", a, b, TableID("", a))
		}
		if id := claimID("", change.Chain{Token: b}); id == TableID("", a) {
			t.Fatalf("%q is a claim's table: %s", a, id)
		}
	})
}

// TestPlan gives plan the unions a table goes through, each on top of the schema the ones before it made: names are
// legal and different without regard to case, and a column keeps its field for ever, in whatever order it comes.
func TestPlan(t *testing.T) {
	legal := regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	codes := []change.Code{change.CodeInt64, change.CodeString, change.CodeFloat64, change.CodeUUID, change.CodeJSON}
	rapid.Check(t, func(t *rapid.T) {
		schema := metaSchema()
		known := map[string]string{}
		for range 4 {
			names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "A", "_op", "_OP", "ü", "Ü", "_PARTITIONTIME", "1", "a_string", "A_STRING", "", "_table_x"}),
				1, 8, rapid.ID).Draw(t, "names")
			var columns []change.Column
			for i, n := range names {
				ty := typ(rapid.SampledFrom(codes).Draw(t, "type"))
				if rapid.Bool().Draw(t, "array") {
					ty = &change.Type{Code: change.CodeArray, Elem: ty}
				}
				columns = append(columns, change.Column{Name: n, Type: ty, Key: i == 0})
			}
			if len(columns[0].Name) == 0 {
				columns[0].Name = "nameless"
			}
			for i := range columns {
				if columns[i].Name == "" {
					columns[i].Name = "empty"
				}
			}
			l, add, err := plan(change.NewTable("t", 1, columns), schema)
			if err != nil {
				t.Fatal(err)
			}
			schema = append(schema, add...)
			seen := map[string]bool{}
			for _, f := range schema {
				if low := strings.ToLower(f.Name); seen[low] || !legal.MatchString(f.Name) {
					t.Fatalf("field %s is there twice or illegal", f.Name)
				} else {
					seen[low] = true
				}
			}
			for _, c := range append(l.key, l.row...) {
				id := fmt.Sprint(c.name, kinds[c.kind].field, c.repeated)
				if was, ok := known[id]; ok && was != c.field {
					t.Fatalf("column %s moved from %s to %s", id, was, c.field)
				}
				known[id] = c.field
			}
		}
	})
}

func version(n int, columns ...change.Column) *change.Table {
	return change.NewTable("carts", n, append([]change.Column{{Name: "id", Type: typ(change.CodeInt64), Key: true}}, columns...))
}

func rowOf(t *change.Table, n int, values ...string) change.Change {
	c := change.Change{
		Position: change.Position{Commit: change.Timestamp(1_767_323_045_000_000 + n), Transaction: "1", Sequence: "0"},
		Table:    t, Op: change.Insert, Capture: change.NewRow, Key: []change.Value{[]byte(`"1"`)}, After: change.Row{nil},
	}
	for _, v := range values {
		c.After = append(c.After, []byte(v))
	}
	return c
}

func TestSchemaChanges(t *testing.T) {
	w := start(t)
	s := opened(t, w.sink(t, AtLeastOnce)).(sinks.Writer)
	v1 := version(1, change.Column{Name: "price", Type: typ(change.CodeInt64)})
	v2 := version(2, change.Column{Name: "price", Type: typ(change.CodeInt64)}, change.Column{Name: "Price", Type: typ(change.CodeInt64)})
	v3 := version(3, change.Column{Name: "price", Type: typ(change.CodeString)}, change.Column{Name: "Price", Type: typ(change.CodeInt64)},
		change.Column{Name: "tags", Type: &change.Type{Code: change.CodeArray, Elem: typ(change.CodeString)}})
	// The old version's record comes last, as from a partition that lags behind.
	changes := []change.Change{
		rowOf(v1, 1, `"10"`), rowOf(v2, 2, `"11"`, `"12"`), rowOf(v3, 3, `"thirteen"`, `"14"`, `["x"]`), rowOf(v1, 4, `"15"`),
	}
	if err := s.Write(t.Context(), &sinks.Batch{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	meta, err := w.client.Dataset("d").Table("carts").Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range meta.Schema[len(metaColumns):] {
		names = append(names, f.Name+" "+string(f.Type))
	}
	if got := strings.Join(names, ", "); got != "id INTEGER, price INTEGER, Price_integer INTEGER, price_string STRING, tags STRING" {
		t.Errorf("the columns are %s", got)
	}
	if meta.TimePartitioning == nil || meta.TimePartitioning.Field != "_commit_timestamp" || meta.Clustering == nil || meta.Clustering.Fields[0] != "id" {
		t.Errorf("partitioned by %v, clustered by %v", meta.TimePartitioning, meta.Clustering)
	}
	var got []string
	for _, d := range w.readBack(t) {
		got = append(got, fmt.Sprint(d.After))
	}
	want := `map[price:"10"] map[Price:"12" price:"11"] map[Price:"14" price:"thirteen" tags:["x"]] map[price:"15"]`
	if s := strings.Join(got, " "); s != want {
		t.Errorf("the rows are %s, want %s", s, want)
	}
}

func opened(t testing.TB, s sinks.Sink) sinks.Sink {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestSchemaRace has workers add different columns to one table at the same time: the etag lets none undo another's.
func TestSchemaRace(t *testing.T) {
	w := start(t)
	var wg sync.WaitGroup
	for i := range 4 {
		s := opened(t, w.sink(t, AtLeastOnce)).(sinks.Writer)
		wg.Go(func() {
			for n := range 4 {
				table := version(1, change.Column{Name: fmt.Sprintf("c%d_%d", i, n), Type: typ(change.CodeInt64)})
				if err := s.Write(t.Context(), &sinks.Batch{Changes: []change.Change{rowOf(table, i*10+n, `"5"`)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if rows := w.readBack(t); len(rows) != 16 {
		t.Errorf("%d rows", len(rows))
	}
	meta, err := w.client.Dataset("d").Table("carts").Metadata(t.Context())
	if err != nil || len(meta.Schema) != len(metaColumns)+1+16 {
		t.Errorf("%d columns, %v", len(meta.Schema), err)
	}
}

func TestForeignTable(t *testing.T) {
	w := start(t)
	if err := w.client.Dataset("d").Table("carts").Create(t.Context(), &bigquery.TableMetadata{Schema: bigquery.Schema{{Name: "id", Type: bigquery.IntegerFieldType}}}); err != nil {
		t.Fatal(err)
	}
	s := opened(t, w.sink(t, AtLeastOnce)).(sinks.Writer)
	err := s.Write(t.Context(), &sinks.Batch{Changes: []change.Change{rowOf(version(1), 1)}})
	if !sinks.IsStop(err) || !strings.Contains(err.Error(), "_position") {
		t.Errorf("Write to a foreign table: %v", err)
	}
}

// TestDroppedTable drops the table under both deliveries: the next attempts make it anew and go on.
func TestDroppedTable(t *testing.T) {
	for _, delivery := range []Delivery{AtLeastOnce, ExactlyOnce} {
		w := start(t)
		s := opened(t, w.sink(t, delivery))
		chain := change.Chain{Pipeline: "p", Token: "t", Table: "carts"}
		var end sinks.End
		write := func(n int) (err error) {
			changes := []change.Change{rowOf(version(1), n)}
			if a, ok := s.(sinks.Appender); ok {
				var got sinks.End
				if got, err = a.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: changes}, end); err == nil {
					end = got
				}
				return err
			}
			return s.(sinks.Writer).Write(t.Context(), &sinks.Batch{Changes: changes})
		}
		if err := write(1); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Dataset("d").Table("carts").Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		for range 3 {
			if err = write(2); err == nil {
				break
			}
		}
		if rows := w.readBack(t); err != nil || len(rows) != 1 {
			t.Errorf("%s: %d rows, %v", delivery, len(rows), err)
		}
	}
}

// TestRefusedRows has tables that refuse long tags, as an owner who narrows a column may make them.
func TestRefusedRows(t *testing.T) {
	refuse := func(c *change.Change) { c.Tag = strings.Repeat("x", 100) }
	narrow := func(t *testing.T, w *world) {
		for _, table := range sinktest.NewGenerator(1).Tables() {
			schema := metaSchema()
			for _, f := range schema {
				if f.Name == "_tag" {
					f.MaxLength = 64
				}
			}
			id := TableID("", table.Name)
			err := w.client.Dataset("d").Table(id).Create(t.Context(), &bigquery.TableMetadata{
				Schema: schema, Description: describeTable(table.Name), Labels: map[string]string{label: labelChangelog},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("at least once", func(t *testing.T) {
		h := harness(AtLeastOnce)
		h.Refuse, h.Missing = refuse, nil
		h.Make = func(t *testing.T) sinktest.Destination {
			w := start(t)
			narrow(t, w)
			return sinktest.Destination{
				Sink:     func(t *testing.T) sinks.Sink { return w.sink(t, AtLeastOnce) },
				ReadBack: func(t *testing.T) []sinktest.Delivered { return w.readBack(t) },
			}
		}
		sinktest.Run(t, h)
	})
	t.Run("exactly once", func(t *testing.T) {
		w := start(t)
		narrow(t, w)
		s := opened(t, w.sink(t, ExactlyOnce)).(sinks.Appender)
		changes := sinktest.NewGenerator(2).NextOf(0, 5)
		refuse(&changes[3])
		chain := change.Chain{Pipeline: "p", Token: "t", Table: "orders"}
		_, err := s.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: changes}, sinks.End{})
		reject, ok := err.(*sinks.RejectError)
		if !ok || len(reject.Rejected) != 1 || reject.Rejected[0].Index != 3 {
			t.Errorf("Append = %v", err)
		}
	})
}

func TestOversizeRow(t *testing.T) {
	w := start(t)
	s := opened(t, w.sink(t, ExactlyOnce)).(sinks.Appender)
	table := version(1, change.Column{Name: "doc", Type: typ(change.CodeString)})
	changes := []change.Change{rowOf(table, 1, `"x"`), rowOf(table, 2, `"`+strings.Repeat("x", maxRequest)+`"`)}
	chain := change.Chain{Pipeline: "p", Token: "t", Table: "carts"}
	_, err := s.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: changes}, sinks.End{})
	reject, ok := err.(*sinks.RejectError)
	if !ok || len(reject.Rejected) != 1 || reject.Rejected[0].Index != 1 || len(w.readBack(t)) != 0 {
		t.Errorf("Append = %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Setenv("GOOGLE_CLOUD_PROJECT", "")
	for want, o := range map[string]Options{
		"dataset":               {Project: "p"},
		"project":               {Dataset: "d"},
		"leave one out":         {Project: "p", Dataset: "q.d"},
		"replica is not":        {Dataset: "p.d", Mode: Replica},
		"mode":                  {Dataset: "p.d", Mode: "x"},
		"delivery":              {Dataset: "p.d", Delivery: "x"},
		"lanes":                 {Dataset: "p.d", Lanes: 2},
		"max_bytes":             {Dataset: "p.d", MaxBytes: 5},
		"max_changes":           {Dataset: "p.d", MaxChanges: -5},
		"max_delay":             {Dataset: "p.d", MaxDelay: "x"},
		"table_prefix":          {Dataset: "p.d", TablePrefix: "a-b"},
		"endpoint \"nonsense\"": {Dataset: "p.d", Endpoint: "nonsense"},
		"grpc_endpoint":         {Dataset: "p.d", Endpoint: "http://127.0.0.1:1"},
	} {
		if _, err := New("s", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want something with %s", o, err, want)
		}
	}
	if s, err := New("s", Options{Dataset: "my-project.d"}); err != nil || s.Spec().LaneBy != sinks.LaneByChain {
		t.Errorf("the least options: %v, %v", s, err)
	}
}

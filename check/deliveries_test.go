package check

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

func deliveriesOf(t *Truth) []Delivery {
	var all []Delivery
	for i := range t.Changes {
		c := &t.Changes[i]
		all = append(all, Delivery{Position: c.Position, Table: c.Table, Key: c.Key, Op: c.Op, After: c.After, Before: c.Before, Values: true})
	}
	return all
}

func TestDeliveries(t *testing.T) {
	// Rows 0 and 1 go from a to its child b at change 6; row 2 stays in c, but its change 8 is put into d, which descends
	// from nothing: a hop.
	changes := worldChanges()
	changes[8].Partition, changes[11].Partition = "d", "d"
	partitions := append(worldPartitions(), Partition{Token: "d", Start: worldStart})
	move := func(from, to int) func([]Delivery) []Delivery {
		return func(d []Delivery) []Delivery {
			x := d[from]
			return slices.Insert(slices.Delete(slices.Clone(d), from, from+1), to, x)
		}
	}
	edit := func(f func(*Delivery)) func([]Delivery) []Delivery {
		return func(d []Delivery) []Delivery { f(&d[3]); return d }
	}
	tests := map[string]struct {
		official  bool
		spoil     func([]Delivery) []Delivery
		kind      Kind
		count     int64
		watermark change.Timestamp
	}{
		"sound":                      {spoil: func(d []Delivery) []Delivery { return d }},
		"other rows may overtake":    {spoil: move(0, 2)},
		"order in a partition":       {spoil: move(0, 3), kind: OrderViolation, count: 1},
		"order parent to child":      {spoil: move(3, 6), kind: OrderViolation, count: 1},
		"child before its parent":    {spoil: move(6, 0), kind: OrderViolation, count: 2},
		"unrelated, official":        {official: true, spoil: move(5, 8), kind: GraphBreak, count: 1},
		"unrelated, Spanner":         {spoil: move(5, 8), kind: OrderViolation, count: 1},
		"related, official":          {official: true, spoil: move(3, 6), kind: OrderViolation, count: 1},
		"later in d, official":       {official: true, spoil: move(8, 11), kind: OrderViolation, count: 1},
		"repeat of the first":        {spoil: func(d []Delivery) []Delivery { return append(d, d[0]) }, kind: Duplicate, count: 1},
		"repeat is no disorder":      {spoil: func(d []Delivery) []Delivery { return append(d, d[0], d[3], d[0]) }, kind: Duplicate, count: 3},
		"missing":                    {spoil: func(d []Delivery) []Delivery { return slices.Delete(d, 4, 6) }, kind: Missing, count: 2, watermark: worldStart + 5*1000 - 1},
		"all missing":                {spoil: func([]Delivery) []Delivery { return nil }, kind: Missing, count: 12, watermark: worldStart + 1000 - 1},
		"unexpected commit":          {spoil: edit(func(d *Delivery) { d.Position.Commit++ }), kind: Unexpected, count: 1, watermark: worldStart + 4*1000 - 1},
		"unexpected mod":             {spoil: edit(func(d *Delivery) { d.Position.Mod++ }), kind: Unexpected, count: 1, watermark: worldStart + 4*1000 - 1},
		"table":                      {spoil: edit(func(d *Delivery) { d.Table = "shop" }), kind: Mismatched, count: 1},
		"key":                        {spoil: edit(func(d *Delivery) { d.Key = `["north","9"]` }), kind: Mismatched, count: 1},
		"operation":                  {spoil: edit(func(d *Delivery) { d.Op = "INSERT" }), kind: Mismatched, count: 1},
		"value":                      {spoil: edit(func(d *Delivery) { d.After = spoilRow(d.After, "amount", `"8"`) }), kind: Mismatched, count: 1},
		"column not captured":        {spoil: edit(func(d *Delivery) { d.After = d.After[1:] }), kind: Mismatched, count: 1},
		"before not captured":        {spoil: edit(func(d *Delivery) { d.Before = nil }), kind: Mismatched, count: 1},
		"values not given":           {spoil: edit(func(d *Delivery) { d.After, d.Values = nil, false })},
		"before where there is none": {spoil: func(d []Delivery) []Delivery { d[0].Before = d[3].Before; return d }, kind: Mismatched, count: 1},
	}
	for name, test := range tests {
		for _, strict := range []bool{false, true} {
			truth := truthOf(t, slices.Clone(changes), slices.Clone(partitions))
			truth.Official = test.official
			if truth.Hops() != 1 {
				t.Fatalf("%d hops, want 1", truth.Hops())
			}
			sink := Deliveries(truth, strict, test.spoil(deliveriesOf(truth)))
			if test.watermark == 0 {
				test.watermark = worldEnd
			}
			if sink.Watermark != test.watermark {
				t.Errorf("%s: watermark %s, want %s", name, sink.Watermark, test.watermark)
			}
			if test.kind == "" {
				if err := sink.Err(); err != nil || len(sink.Examples) > 0 {
					t.Errorf("%s: %v, %v", name, err, sink.Examples)
				}
				continue
			}
			t.Run(name, func(t *testing.T) { wantFinding(t, sink, test.kind, test.count, "") })
		}
	}
}

// TestDeliveriesAnyOrder: for every order of delivery with repeats, a violation is counted exactly where a naive look at
// all pairs finds one.
func TestDeliveriesAnyOrder(t *testing.T) {
	truth := truthOf(t, worldChanges(), worldPartitions())
	all := deliveriesOf(truth)
	rapid.Check(t, func(r *rapid.T) {
		picks := rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 0, 40).Draw(r, "deliveries")
		var deliveries []Delivery
		var first []int
		want, duplicates := int64(0), int64(0)
		for _, p := range picks {
			deliveries = append(deliveries, all[p])
			if slices.Contains(first, p) {
				duplicates++
				continue
			}
			if slices.ContainsFunc(first, func(q int) bool { return q > p && q%3 == p%3 }) {
				want++
			}
			first = append(first, p)
		}
		sink := Deliveries(truth, false, deliveries)
		if sink.OrderViolations != want || sink.Duplicates != duplicates || sink.Delivered != int64(len(first)) || sink.Missing != int64(len(all)-len(first)) {
			r.Fatalf("%v: %+v, want %d violations, %d duplicates, %d delivered", picks, sink, want, duplicates, len(first))
		}
		if (sink.Err() == nil) != (want == 0 && sink.Missing == 0) {
			r.Fatalf("%v: %v", picks, sink.Err())
		}
	})
}

func TestNewTruthRefuses(t *testing.T) {
	truth := truthOf(t, worldChanges(), worldPartitions())
	for want, spoil := range map[string]func(c []Change, p []Partition) ([]Change, []Partition){
		"twice (partitions": func(c []Change, p []Partition) ([]Change, []Partition) { return append(c, c[3]), p },
		"unknown partition": func(c []Change, p []Partition) ([]Change, []Partition) { c[3].Partition = "x"; return c, p },
		"is listed twice":   func(c []Change, p []Partition) ([]Change, []Partition) { return c, append(p, p[0]) },
		"lies outside": func(c []Change, p []Partition) ([]Change, []Partition) {
			c[3].Position.Commit = worldEnd + 1
			return c, p
		},
		"says it has 2 records in 1 partitions: the stream gave 1 in 1": func(c []Change, p []Partition) ([]Change, []Partition) { c[3].Records = 2; return c, p },
		"says it has 1 records in 2 partitions: the stream gave 1 in 1": func(c []Change, p []Partition) ([]Change, []Partition) { c[3].Partitions = 2; return c, p },
	} {
		changes, partitions := spoil(slices.Clone(truth.Changes), slices.Clone(truth.Partitions))
		if _, err := NewTruth(changes, partitions, worldStart, worldEnd); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestLeads: keys come from one partition to another by children and by moves, and only in the time between two changes.
func TestLeads(t *testing.T) {
	truth, err := NewTruth(nil, []Partition{
		{Token: "a"}, {Token: "b"}, {Token: "a1", Parents: []string{"a"}, Start: 10}, {Token: "a2", Parents: []string{"a"}, Start: 10},
		{Token: "m", Parents: []string{"a2", "b"}, Start: 20}, {Token: "z", Parents: []string{"m"}, Start: 30},
		// Keys go from p to q at 10 and back at 20, and from q to r and from r to p at 30.
		{Token: "p", Moves: []Move{{At: 20, Source: "q"}, {At: 30, Source: "r"}}}, {Token: "q", Moves: []Move{{At: 10, Source: "p"}}},
		{Token: "r", Moves: []Move{{At: 30, Source: "q"}}, Start: 30},
	}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from   string
		at     change.Timestamp
		to     string
		later  change.Timestamp
		expect bool
	}{
		{"a", 5, "a", 6, true}, {"a", 5, "a1", 10, true}, {"a", 5, "z", 30, true}, {"b", 5, "z", 30, true}, {"a1", 12, "z", 30, false},
		{"a", 5, "b", 6, false}, {"a1", 12, "a2", 13, false}, {"m", 20, "z", 30, true},
		{"p", 5, "q", 11, true}, {"p", 10, "q", 11, true}, {"p", 5, "q", 10, false}, {"p", 11, "q", 25, false},
		{"q", 5, "p", 21, true}, {"q", 21, "p", 29, false}, {"p", 5, "r", 31, true}, {"q", 25, "r", 31, true},
		{"q", 25, "p", 40, false}, // from q to r and from r to p at one instant are two keys
	} {
		from, to := &Change{Partition: c.from}, &Change{Partition: c.to}
		from.Position.Commit, to.Position.Commit = c.at, c.later
		if got := truth.Leads(from, to); got != c.expect {
			t.Errorf("%s at %d leads to %s at %d: %t", c.from, c.at, c.to, c.later, got)
		}
	}
	if _, err := NewTruth(nil, []Partition{{Token: "p", Moves: []Move{{At: 20, Source: "q"}}}}, 19, 100); err == nil || !strings.Contains(err.Error(), "unknown partition q") {
		t.Errorf("a source that nobody announced: %v", err)
	}
	if _, err := NewTruth(nil, []Partition{{Token: "p", Moves: []Move{{At: 20, Source: "q"}}}}, 20, 100); err != nil {
		t.Errorf("a source that ended at the start: %v", err)
	}
}

func TestReport(t *testing.T) {
	changes := worldChanges()
	changes[8].Partition, changes[11].Partition = "d", "d"
	truth := truthOf(t, changes, append(worldPartitions(), Partition{Token: "d", Start: worldStart}))
	truth.Official = true
	r := NewReport(truth, &Events{Rows: 7, deviations: map[string]int64{CommitTimestampPlaceholder: 7, TimestampFractionCut: 0}})
	r.Sinks["mem"] = Deliveries(truth, false, deliveriesOf(truth))
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	text, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var j struct {
		Ingested int64 `json:"ingested"`
		Sinks    map[string]map[string]any
	}
	if err := json.Unmarshal(text, &j); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"delivered", "watermark", "missing", "duplicates", "order_violations", "graph_breaks"} {
		if _, ok := j.Sinks["mem"][k]; !ok {
			t.Errorf("no %s in %s", k, text)
		}
	}
	if j.Ingested != 7 || len(r.Deviations) != 2 || r.Deviations[0].Name != CommitTimestampPlaceholder || r.Deviations[1].Name != PartitionHops {
		t.Errorf("%s", text)
	}
	r.Sinks["lossy"] = Deliveries(truth, false, deliveriesOf(truth)[1:])
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "sink lossy: 11 delivered, 1 missing") {
		t.Error(err)
	}
	for i := range 30 {
		r.Sinks["lossy"].fault("object", "fault %d", i)
	}
	if s := r.Sinks["lossy"]; s.Faults != 30 || len(s.Examples) != maxExamples+1 {
		t.Errorf("%d faults, %d examples", s.Faults, len(s.Examples))
	}
}

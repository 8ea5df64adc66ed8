package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spanledger/spanledger/change"
)

func typ(c change.Code) *change.Type { return &change.Type{Code: c} }

var orders = change.NewTable("orders", 3, []change.Column{
	{Name: "id", Type: typ(change.CodeString), Key: true, Ordinal: 1},
	{Name: "card", Type: typ(change.CodeString), Ordinal: 2},
	{Name: "total", Type: typ(change.CodeInt64), Ordinal: 3},
	{Name: "paid", Type: typ(change.CodeBool), Ordinal: 4},
	{Name: "placed", Type: typ(change.CodeTimestamp), Ordinal: 5},
	{Name: "doc", Type: typ(change.CodeJSON), Ordinal: 6},
	{Name: "rate", Type: typ(change.CodeFloat64), Ordinal: 7},
	{Name: "blob", Type: typ(change.CodeBytes), Ordinal: 8},
	{Name: "tags", Type: &change.Type{Code: change.CodeArray, Elem: typ(change.CodeInt64)}, Ordinal: 9},
	{Name: "price", Type: typ(change.CodeNumeric), Ordinal: 10},
})

var users = change.NewTable("sales.users", 1, []change.Column{
	{Name: "id", Type: typ(change.CodeInt64), Key: true, Ordinal: 1},
	{Name: "name", Type: typ(change.CodeString), Ordinal: 2},
})

func row(values ...string) change.Row {
	r := make(change.Row, len(values))
	for i, v := range values {
		if v != "" {
			r[i] = change.Value(v)
		}
	}
	return r
}

var full = row("", `"4242"`, `"150"`, `true`, `"2026-01-02T03:04:05.5Z"`, `"{\"n\":[1,2.5],\"s\":\"x\"}"`, `"NaN"`, `"AAE="`, `["1",null,"3"]`, `"9.99"`)

func at(i int, t *change.Table, op change.Op, after, before change.Row) change.Change {
	return change.Change{
		Position: change.Position{Commit: change.Timestamp(1_767_323_045_000_000 + int64(i)), Transaction: "1", Sequence: "00000000"},
		Table:    t, Op: op, Key: []change.Value{change.Value(fmt.Sprintf(`"%d"`, i))}, After: after, Before: before,
	}
}

func frame(changes ...change.Change) *change.Frame {
	return &change.Frame{
		Token: "t", Changes: changes, Through: 1_800_000_000_000_000, Children: []change.Partition{{Token: "c"}}, Ended: true, Bytes: 77,
	}
}

func apply(t *testing.T, o Options, f *change.Frame) []string {
	t.Helper()
	x, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Apply(f); err != nil {
		t.Fatal(err)
	}
	if f.Through != 1_800_000_000_000_000 || len(f.Children) != 1 || !f.Ended || f.Bytes != 77 {
		t.Errorf("the frame's promises changed: %+v", f)
	}
	var ids []string
	for i := range f.Changes {
		ids = append(ids, strings.Trim(string(f.Changes[i].Key[0]), `"`))
	}
	return ids
}

func TestSelection(t *testing.T) {
	no := false
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"everything":     {Options{}, "0 1 2 3 4"},
		"table":          {Options{Tables: Names{Include: []string{"orders"}}}, "0 1 2"},
		"pattern":        {Options{Tables: Names{Include: []string{"sales.*"}}}, "3 4"},
		"excluded":       {Options{Tables: Names{Exclude: []string{"sales.users"}}}, "0 1 2"},
		"include and ex": {Options{Tables: Names{Include: []string{"*"}, Exclude: []string{"orders"}}}, "3 4"},
		"operations":     {Options{Operations: []string{"insert", "DELETE"}}, "0 2 3"},
		"system":         {Options{System: &no}, "0 1 3 4"},
		"tag":            {Options{Tags: Names{Include: []string{"app=*"}}}, "1"},
		"no tag":         {Options{Tags: Names{Include: []string{""}}}, "0 2 3 4"},
		"tag excluded":   {Options{Tags: Names{Exclude: []string{"app=shop"}}}, "0 2 3 4"},
		"where":          {Options{Where: `table == "orders" && op != "DELETE" && after.total > 100`}, "0"},
		"all of it":      {Options{Tables: Names{Include: []string{"orders"}}, Operations: []string{"UPDATE"}, Where: "has(before.total)"}, "1"},
		"nothing":        {Options{Where: "false"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := frame(at(0, orders, change.Insert, full, nil), at(1, orders, change.Update, row("", "", `"5"`), row("", "", `"4"`)),
				at(2, orders, change.Delete, nil, full), at(3, users, change.Insert, row("", `"ann"`), nil), at(4, users, change.Update, row("", `null`), nil))
			f.Changes[1].Tag = "app=shop"
			f.Changes[2].System = true
			if got := strings.Join(apply(t, c.o, f), " "); got != c.want {
				t.Errorf("let %q through, want %q", got, c.want)
			}
		})
	}
}

func TestExpressions(t *testing.T) {
	c := at(7, orders, change.Update, full, row("", "", "null"))
	c.Tag = "app=shop"
	for _, where := range []string{
		`key.id == "7"`, `after.total == 150`, `after["total"] + 1 == 151`, `after.paid`, `after.paid == true`, `before.total == null`,
		`after.placed > timestamp("2026-01-01T00:00:00Z")`, `after.placed.getFullYear() == 2026`, `after.doc.n[1] > 2`, `after.doc.s == "x"`,
		`after.rate != after.rate`, `after.blob == b"\x00\x01"`, `after.tags[2] == 3 && after.tags[1] == null && size(after.tags) == 3`,
		`double(after.price) > 9.5`, `!has(before.card)`, `"card" in after && !("id" in after)`, `size(after) == 9`, `size(before) == 1`,
		`captured.exists(c, c == "total") && size(captured) == 9`, `after.exists(c, c == "card")`, `tag.startsWith("app=")`, `!system`,
		`commit_timestamp >= timestamp("2026-01-02T03:04:05Z")`, `table.matches("^ord")`, `after.total != before.total`, `key == key`,
		`type(after.total) == int && type(after.price) == string`,
	} {
		where := where
		if where == "after.paid" {
			if _, err := New(Options{Where: where}); err == nil || !strings.Contains(err.Error(), "must be a bool") {
				t.Errorf("%s: %v, want that it must be a bool", where, err)
			}
			continue
		}
		if got := apply(t, Options{Where: where}, frame(c)); len(got) != 1 {
			t.Errorf("%s was not true", where)
		}
	}
}

// An expression that fails must not lose the change.
func TestEvaluationErrorIsLoud(t *testing.T) {
	broken := at(9, orders, change.Insert, row("", "", `"12x"`), nil)
	for where, c := range map[string]change.Change{
		"after.total > 1":     at(8, orders, change.Delete, nil, full), // a DELETE has no after
		"after.total > 2":     broken,
		"after.nothing == 1":  at(8, orders, change.Insert, full, nil),
		"after.doc.n[9] == 1": at(8, orders, change.Insert, full, nil),
		"after.tags.all(a, after.tags.all(b, after.tags.all(c, after.tags.all(d, a == a))))": func() change.Change {
			r := full
			r = append(change.Row{}, r...)
			r[8] = change.Value("[" + strings.Repeat(`"1",`, 400) + `"1"]`)
			return at(8, orders, change.Insert, r, nil)
		}(),
	} {
		x, err := New(Options{Where: where})
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Apply(frame(c)); err == nil || !strings.Contains(err.Error(), c.ID()) {
			t.Errorf("%s: error %v, want one that names change %s", where, err, c.ID())
		}
	}
}

func TestDrop(t *testing.T) {
	x, err := New(Options{Drop: []string{"orders.card", "orders.tags"}, Where: `!has(after.card) || after.card != ""`})
	if err != nil {
		t.Fatal(err)
	}
	f := frame(at(0, orders, change.Insert, full, nil), at(1, orders, change.Update, row("", `"1"`, `"5"`), row("", "", `"4"`)),
		at(2, users, change.Insert, row("", `"ann"`), nil), at(3, orders, change.Delete, nil, row("", `"1"`)))
	if err := x.Apply(f); err != nil {
		t.Fatal(err)
	}
	got := f.Changes[0].Table
	if got == orders || got != f.Changes[1].Table || got.Version != 3 || got.Name != "orders" || got.Index("card") >= 0 || got.Index("total") != 1 || len(got.Keys()) != 1 {
		t.Errorf("derived table %+v", got)
	}
	if f.Changes[2].Table != users {
		t.Error("a table without dropped columns was replaced")
	}
	want := row("", `"150"`, `true`, `"2026-01-02T03:04:05.5Z"`, `"{\"n\":[1,2.5],\"s\":\"x\"}"`, `"NaN"`, `"AAE="`, `"9.99"`)
	if d := cmp.Diff(want, f.Changes[0].After); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(row("", `"5"`), f.Changes[1].After); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(row("", `"4"`), f.Changes[1].Before); d != "" {
		t.Error(d)
	}
	for i := range f.Changes {
		for _, r := range []change.Row{f.Changes[i].After, f.Changes[i].Before} {
			if len(r) > len(f.Changes[i].Table.Columns) {
				t.Errorf("change %d has more values than columns", i)
			}
		}
	}
	if string(full[1]) != `"4242"` {
		t.Error("the source's row was written to")
	}

	// The same source pointer gives the same table, a later version keeps the places of what was there.
	again := frame(at(4, orders, change.Insert, full, nil))
	later := change.NewTable("orders", 4, append(append([]change.Column{}, orders.Columns...), change.Column{Name: "new", Type: typ(change.CodeBool), Ordinal: 11}))
	next := frame(at(5, later, change.Insert, full, nil))
	if err := errors.Join(x.Apply(again), x.Apply(next)); err != nil {
		t.Fatal(err)
	}
	if again.Changes[0].Table != got {
		t.Error("the derived table is not interned")
	}
	for i, c := range got.Columns {
		if d := next.Changes[0].Table; d.Version != 4 || d.Columns[i].Name != c.Name {
			t.Errorf("column %d of the next version is %s, was %s", i, d.Columns[i].Name, c.Name)
		}
	}
}

func TestDroppedKeyIsRefused(t *testing.T) {
	x, err := New(Options{Drop: []string{"orders.id"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Apply(frame(at(0, orders, change.Insert, full, nil))); err == nil || !strings.Contains(err.Error(), "orders.id") {
		t.Errorf("error %v", err)
	}
}

func TestOptionErrors(t *testing.T) {
	_, err := New(Options{Tables: Names{Include: []string{"ok", "["}}, Operations: []string{"UPSERT"}, Where: "after.", Drop: []string{"x"}})
	for _, want := range []string{"tables.include[1]", "operations[0]", "where", "drop[0]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	for where, want := range map[string]string{
		`after.x`: "must be a bool", `1 + 1`: "must be a bool", `nothing == 1`: "undeclared reference", `op == 1`: "no matching overload",
		strings.Repeat("(", 20000): "at most", strings.Repeat("!", 5000) + "true": "",
	} {
		if _, err := New(Options{Where: where}); err == nil && want != "" || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v, want %q", where, err, want)
		}
	}
}

func TestCanonical(t *testing.T) {
	no, yes := false, true
	same := []Options{
		{Tables: Names{Include: []string{"b", "a"}}, Operations: []string{"insert", "DELETE"}, System: &yes, Where: " true ", Drop: []string{"t.b", "t.a"}},
		{Tables: Names{Include: []string{"a", "b", "a"}}, Operations: []string{"DELETE", "INSERT"}, Where: "true", Drop: []string{"t.a", "t.b"}},
	}
	if same[0].Canonical() != same[1].Canonical() {
		t.Errorf("%s\n%s", same[0].Canonical(), same[1].Canonical())
	}
	seen := map[string]bool{}
	for _, o := range []Options{
		{}, {Tables: Names{Include: []string{"a"}}}, {Tables: Names{Exclude: []string{"a"}}}, {Tags: Names{Include: []string{"a"}}},
		{Operations: []string{"INSERT"}}, {System: &no}, {Where: "true"}, {Drop: []string{"t.a"}},
	} {
		if seen[o.Canonical()] {
			t.Errorf("%+v is equal to another", o)
		}
		seen[o.Canonical()] = true
	}
}

// FuzzExpression: whatever compiles answers or fails, and neither panics nor changes the frame's promises.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		`op == "DELETE" || after.total > 100`, `captured.all(c, c in after)`, `after.map(k, after[k]).size() > 0`, `string(after) == ""`,
		`after.doc.n.exists(x, x > 1.0)`, `before == after`, `has(after.x) ? after.x == 1 : true`, `[after][0] == key`, `dyn(after) == {}`,
		`type(after) == map`, `after in [before]`, `timestamp(after.placed) > commit_timestamp`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, where string) {
		x, err := New(Options{Where: where, Drop: []string{"orders.card"}})
		if err != nil || x == nil {
			return
		}
		fr := frame(at(0, orders, change.Insert, full, nil), at(1, orders, change.Delete, nil, full), at(2, users, change.Update, row("", "null"), nil))
		if err := x.Apply(fr); err != nil {
			return
		}
		if fr.Through != 1_800_000_000_000_000 || len(fr.Changes) > 3 {
			t.Error("the frame's promises changed")
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for name, o := range map[string]Options{
		"none": {}, "tables": {Tables: Names{Include: []string{"orders"}}}, "where": {Where: `op != "DELETE" && after.total > 100`},
		"drop": {Drop: []string{"orders.card"}},
	} {
		b.Run(name, func(b *testing.B) {
			x, err := New(o)
			if err != nil {
				b.Fatal(err)
			}
			source := make([]change.Change, 1000)
			for i := range source {
				source[i] = at(i, orders, change.Insert, full, nil)
			}
			f := frame()
			f.Changes = make([]change.Change, len(source))
			b.ReportAllocs()
			for b.Loop() {
				f.Changes = f.Changes[:len(source)]
				copy(f.Changes, source)
				if err := x.Apply(f); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/change")
		})
	}
}

package differential

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// seen is a history without any deviation. Each kind of change is in it, with each capture type.
const seen = `create
  CREATE TABLE T (K INT64, A INT64, B STRING(MAX)) PRIMARY KEY (K)
  CREATE TABLE U (K INT64, L INT64, A INT64) PRIMARY KEY (K, L), INTERLEAVE IN PARENT T ON DELETE CASCADE
  CREATE CHANGE STREAM S FOR ALL
  CREATE CHANGE STREAM R FOR ALL OPTIONS (value_capture_type = 'NEW_ROW')
  CREATE CHANGE STREAM RO FOR ALL OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES')
once
  insert T (K, A, B) ["1", "1", "x"] ["2", "2", null] ["3", "3", "z"]
  insert U (K, L, A) ["1", "1", "1"] ["2", "1", "1"]
commit "a tag"
  update T (K, A) ["1", "10"] ["2", "20"]
  delete U (K, L) ["1", "1"]
commit
  sql DELETE FROM T WHERE K = 3 THEN RETURN K, B
  query SELECT K, A FROM T ORDER BY K
`

// TestSeen alters what one of two servers sent, one thing at a time: each must be seen as a difference, on whichever side it is.
// Both servers are ours, so that it runs everywhere.
func TestSeen(t *testing.T) {
	h, err := parseHistory(seen)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	srv, err := spanner.Start(context.WithoutCancel(ctx), spanner.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := dial(ctx, "ours", srv.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close() })
	databases := 0
	run := func(t *testing.T) *outcome {
		databases++
		o, err := s.run(ctx, h, fmt.Sprintf("seen%d", databases))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	good := run(t)
	if c := compare(h, good, run(t)); len(c.differences) > 0 || len(c.used) > 0 {
		t.Fatalf("the same differs by %v, or needs %v", c.differences, c.used)
	}
	first := func(o *outcome, stream, modType string) *dataRecord {
		records := o.streams[stream]
		return &records[slices.IndexFunc(records, func(r dataRecord) bool { return r.modType == modType })]
	}
	without := func(stream, modType string) func(*outcome) {
		return func(o *outcome) {
			o.streams[stream] = slices.DeleteFunc(o.streams[stream], func(r dataRecord) bool { return r.modType == modType })
		}
	}
	alterations := map[string]func(*outcome){
		"a server's answer is an error":  func(o *outcome) { o.answers[1].code = codes.Aborted },
		"an answer more":                 func(o *outcome) { o.answers = append(o.answers, o.answers[0]) },
		"a row that DML returns":         func(o *outcome) { o.answers[3].result.rows[0][1] = "y" },
		"the number of rows that it did": func(o *outcome) { o.answers[3].result.count++ },
		"a row of a query":               func(o *outcome) { o.answers[4].result.rows[0][1] = "11" },
		"the order of a query":           func(o *outcome) { slices.Reverse(o.answers[4].result.rows) },
		"a row of a table":               func(o *outcome) { o.tables["T"].rows[0][2] = "y" },
		"a row less":                     func(o *outcome) { o.tables["T"].rows = o.tables["T"].rows[1:] },
		"a table less":                   func(o *outcome) { delete(o.tables, "U") },
		"a column of the catalogue":      func(o *outcome) { o.views["COLUMNS"].rows[0][4] = "BOOL" },
		"a change stream less":           func(o *outcome) { o.streams["S"] = nil },
		"no INSERT":                      without("S", "INSERT"),
		"no UPDATE":                      without("S", "UPDATE"),
		"no DELETE":                      without("S", "DELETE"),
		"no UPDATE in NEW_ROW":           without("R", "UPDATE"),
		"no UPDATE in NEW_ROW_AND_OLD":   without("RO", "UPDATE"),
		"no DELETE in NEW_ROW":           without("R", "DELETE"),
		"a mod less":                     func(o *outcome) { r := first(o, "S", "UPDATE"); r.mods = r.mods[1:] },
		"a mod more":                     func(o *outcome) { r := first(o, "S", "UPDATE"); r.mods = append(r.mods, r.mods[0]) },
		"another kind":                   func(o *outcome) { first(o, "S", "UPDATE").modType = "INSERT" },
		"another table":                  func(o *outcome) { first(o, "S", "UPDATE").table = "U" },
		"another capture type":           func(o *outcome) { first(o, "S", "UPDATE").capture = "NEW_VALUES" },
		"another tag":                    func(o *outcome) { first(o, "S", "UPDATE").tag = "another" },
		"a system transaction":           func(o *outcome) { first(o, "S", "UPDATE").system = true },
		"another sequence":               func(o *outcome) { first(o, "S", "UPDATE").sequence = "00000007" },
		"another count of records":       func(o *outcome) { first(o, "S", "UPDATE").records = "7" },
		"another count of partitions":    func(o *outcome) { first(o, "S", "UPDATE").partitions = "2" },
		"the last flag":                  func(o *outcome) { r := first(o, "S", "UPDATE"); r.last = !r.last },
		"another transaction":            func(o *outcome) { o.streams["S"][1].transaction = "another" },
		"another commit timestamp":       func(o *outcome) { r := first(o, "S", "UPDATE"); r.commit = r.commit.Add(time.Microsecond) },
		"another step's timestamp":       func(o *outcome) { first(o, "S", "UPDATE").commit = o.streams["S"][0].commit },
		"a column less":                  func(o *outcome) { r := first(o, "S", "INSERT"); r.columns = r.columns[1:] },
		"a column's type":                func(o *outcome) { first(o, "S", "INSERT").columns[1].typ = is("FLOAT64") },
		"a column's name":                func(o *outcome) { first(o, "S", "INSERT").columns[1].name = "C" },
		"a column's place":               func(o *outcome) { first(o, "S", "INSERT").columns[1].ordinal = "7" },
		"a column in the key":            func(o *outcome) { first(o, "S", "INSERT").columns[1].key = true },
		"a key":                          func(o *outcome) { first(o, "S", "INSERT").mods[0].keys["K"] = "7" },
		"a key less":                     func(o *outcome) { delete(first(o, "S", "INSERT").mods[0].keys, "K") },
		"a new value":                    func(o *outcome) { first(o, "S", "INSERT").mods[0].new["A"] = "7" },
		"a null for a value":             func(o *outcome) { first(o, "S", "INSERT").mods[0].new["A"] = nil },
		"a value for a null":             func(o *outcome) { first(o, "S", "INSERT").mods[1].new["B"] = "" },
		"a new value less":               func(o *outcome) { delete(first(o, "S", "INSERT").mods[0].new, "A") },
		"an old value":                   func(o *outcome) { first(o, "S", "UPDATE").mods[0].old["A"] = "7" },
		"an old value more":              func(o *outcome) { first(o, "S", "UPDATE").mods[0].old["B"] = "x" },
		"an old value of a deleted row":  func(o *outcome) { first(o, "S", "DELETE").mods[0].old["A"] = "7" },
		"old values in NEW_ROW":          func(o *outcome) { first(o, "R", "UPDATE").mods[0].old = map[string]any{"A": "1"} },
		"values of another row":          func(o *outcome) { m := first(o, "S", "UPDATE").mods; m[0].new, m[1].new = m[1].new, m[0].new },
	}
	for name, alter := range alterations {
		t.Run(name, func(t *testing.T) {
			altered := good.clone()
			alter(altered)
			if c := compare(h, altered, good); len(c.differences) == 0 {
				t.Errorf("not seen in ours: explained by %v", c.used)
			}
			if c := compare(h, good, altered); len(c.differences) == 0 {
				t.Errorf("not seen in the official emulator's: explained by %v", c.used)
			}
		})
	}
}

// clone copies all that an alteration changes.
func (o *outcome) clone() *outcome {
	out := *o
	out.answers = slices.Clone(o.answers)
	for i := range out.answers {
		out.answers[i].result = o.answers[i].result.clone()
	}
	tables := func(of map[string]*table) map[string]*table {
		m := map[string]*table{}
		for name, t := range of {
			m[name] = t.clone()
		}
		return m
	}
	out.tables, out.views, out.streams = tables(o.tables), tables(o.views), map[string][]dataRecord{}
	for name, records := range o.streams {
		records = slices.Clone(records)
		for i := range records {
			r := &records[i]
			r.columns, r.mods = slices.Clone(r.columns), slices.Clone(r.mods)
			for j, m := range r.mods {
				r.mods[j] = mod{maps.Clone(m.keys), maps.Clone(m.new), maps.Clone(m.old)}
			}
		}
		out.streams[name] = records
	}
	return &out
}

func (t *table) clone() *table {
	if t == nil {
		return nil
	}
	out := *t
	out.rows = slices.Clone(t.rows)
	for i, row := range out.rows {
		out.rows[i] = slices.Clone(row)
	}
	return &out
}

// What a DML statement updates is told from what Google's emulator makes of it: an UPDATE that ours lacks is a difference.
func TestSeenUpdate(t *testing.T) {
	h, err := parseHistory(strings.ReplaceAll(seen, "update T (K, A) [\"1\", \"10\"] [\"2\", \"20\"]", "sql UPDATE T SET A = 5, B = \"b, A = \" WHERE TRUE"))
	if err != nil {
		t.Fatal(err)
	}
	record := func(columns ...string) change {
		r := &dataRecord{table: "T", modType: "UPDATE"}
		for _, c := range columns {
			r.columns = append(r.columns, column{name: c, key: c == "K"})
		}
		return change{r, mod{keys: map[string]any{"K": "1"}}}
	}
	other := record("K", "A")
	other.record.table = "U"
	if step := h[2]; !step.writes(record("K", "A")) || !step.writes(record("K", "B")) || step.writes(record("K", "C")) || step.writes(other) {
		t.Errorf("%s writes A and B and nothing else", step)
	}
}

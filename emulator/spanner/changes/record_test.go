package changes

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// forms runs a test in every form of the records: both dialects, both partition modes.
func forms(t *testing.T, run func(t *testing.T, b *bench, options ...string)) {
	for _, pg := range []bool{false, true} {
		for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
			t.Run(fmt.Sprintf("pg=%v/%s", pg, mode), func(t *testing.T) {
				inBubble(t, Options{PostgreSQL: pg}, func(t *testing.T, b *bench) { run(t, b, "partition_mode", mode) })
			})
		}
	}
}

// records are the data records of one commit in stream S.
func (b *bench) records(at int64) []row {
	b.t.Helper()
	var out []row
	for _, token := range b.tokens(at) {
		out = append(out, b.data(at, at, token)...)
	}
	slices.SortFunc(out, func(x, y row) int { return strings.Compare(x.seq, y.seq) })
	return out
}

// wantBrief compares records by kind, table and mods.
func wantBrief(t *testing.T, rows []row, want ...string) {
	t.Helper()
	var got []string
	for _, r := range rows {
		got = append(got, r.brief())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCase5AllCoversLaterTables(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		later := &store.Table{Schema: "app", Name: "Later", Key: tableU.Key, Columns: tableU.Columns}
		wantBrief(t, b.records(b.commit(insert(later, store.Row{num(1), str("x")}))), `INSERT app.Later [{"k":"1"} {"a":"x"} {}]`)
	})
}

func TestCase6LaterColumnIsNotWatched(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(watching("S", []store.Watch{{Table: "T", Columns: []string{"a"}}}))
		wantBrief(t, b.records(b.commit(update(tableT, rowT(1, "x", 1), rowT(1, "x", 2), "b"))))
		wantBrief(t, b.records(b.commit(update(tableT, rowT(1, "x", 1), rowT(1, "y", 2), "a", "b"))), `UPDATE T [{"k":"1"} {"a":"y"} {"a":"x"}]`)
	})
}

func TestCase8SuspendedStream(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		at := b.commit(insert(tableT, rowT(1, "x", 1)))
		b.ddl(watching("S", nil))
		wantBrief(t, b.records(b.commit(insert(tableT, rowT(2, "x", 1)))))
		if len(b.records(at)) != 1 {
			t.Error("older records must stay readable")
		}
	})
}

func TestCase28InsertCarriesAllTrackedColumns(t *testing.T) {
	forms(t, func(t *testing.T, b *bench, options ...string) {
		b.ddl(all("S", options...))
		rows := b.records(b.commit(insert(tableT, store.Row{num(7), str("x"), {}})))
		wantBrief(t, rows, `INSERT T [{"k":"7"} {"a":"x","b":null} {}]`)
		if !slices.Equal(rows[0].cols, []string{"k", "a", "b"}) {
			t.Errorf("columns %v", rows[0].cols)
		}
	})
}

func TestCase29And30CaptureTypes(t *testing.T) {
	want := map[string][2]string{
		"OLD_AND_NEW_VALUES":     {`UPDATE T [{"k":"1"} {"a":"y"} {"a":"x"}]`, `DELETE T [{"k":"1"} {} {"a":"y","b":"1"}]`},
		"NEW_VALUES":             {`UPDATE T [{"k":"1"} {"a":"y"} {}]`, `DELETE T [{"k":"1"} {} {}]`},
		"NEW_ROW":                {`UPDATE T [{"k":"1"} {"a":"y","b":"1"} {}]`, `DELETE T [{"k":"1"} {} {}]`},
		"NEW_ROW_AND_OLD_VALUES": {`UPDATE T [{"k":"1"} {"a":"y","b":"1"} {"a":"x"}]`, `DELETE T [{"k":"1"} {} {"a":"y","b":"1"}]`},
	}
	forms(t, func(t *testing.T, b *bench, options ...string) {
		for capture, w := range want {
			b.ddl(all("S", append(slices.Clone(options), "value_capture_type", capture)...))
			rows := b.records(b.commit(update(tableT, rowT(1, "x", 1), rowT(1, "y", 1), "a")))
			wantBrief(t, rows, w[0])
			cols := []string{"k", "a", "b"}
			if !strings.HasPrefix(capture, "NEW_ROW") {
				cols = []string{"k", "a"}
			}
			if rows[0].capture != capture || !slices.Equal(rows[0].cols, cols) {
				t.Errorf("%s: %s describes %v", capture, rows[0].capture, rows[0].cols)
			}
			rows = b.records(b.commit(remove(tableT, rowT(1, "y", 1))))
			wantBrief(t, rows, w[1])
			if !slices.Equal(rows[0].cols, []string{"k", "a", "b"}) {
				t.Errorf("%s: DELETE describes %v", capture, rows[0].cols)
			}
		}
	})
}

func TestCase31EqualValueIsAnUpdate(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		wantBrief(t, b.records(b.commit(update(tableT, rowT(1, "x", 1), rowT(1, "x", 1), "a"))), `UPDATE T [{"k":"1"} {"a":"x"} {"a":"x"}]`)
	})
}

func TestCase32KeysOnlyStream(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(watching("S", []store.Watch{{Table: "T"}}))
		wantBrief(t, b.records(b.commit(update(tableT, rowT(1, "x", 1), rowT(1, "y", 2), "a", "b"))))
		wantBrief(t, b.records(b.commit(insert(tableT, rowT(1, "x", 1)))), `INSERT T [{"k":"1"} {} {}]`)
		wantBrief(t, b.records(b.commit(remove(tableT, rowT(1, "x", 1)))), `DELETE T [{"k":"1"} {} {}]`)
		wantBrief(t, b.records(b.commit(insert(tableU, store.Row{num(1), {}}))))
	})
}

func TestCase35DeleteThenInsertOfOneRow(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		rows := b.records(b.commit(remove(tableT, rowT(1, "x", 1)), insert(tableT, rowT(1, "y", 2))))
		wantBrief(t, rows, `DELETE T [{"k":"1"} {} {"a":"x","b":"1"}]`, `INSERT T [{"k":"1"} {"a":"y","b":"2"} {}]`)
		if rows[0].seq != "00000000" || rows[1].seq != "00000001" {
			t.Errorf("sequences %s, %s", rows[0].seq, rows[1].seq)
		}
	})
}

func TestCase36RecordsByColumnSet(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		change := func(k int64, cols ...string) store.RowChange {
			return update(tableT, rowT(k, "x", 1), rowT(k, "y", 2), cols...)
		}
		wantBrief(t, b.records(b.commit(change(1, "a"), change(2, "a"), change(3, "b"), change(4, "a"))),
			`UPDATE T [{"k":"1"} {"a":"y"} {"a":"x"} {"k":"2"} {"a":"y"} {"a":"x"}]`,
			`UPDATE T [{"k":"3"} {"b":"2"} {"b":"1"}]`,
			`UPDATE T [{"k":"4"} {"a":"y"} {"a":"x"}]`) // equal but not adjacent stay apart
		if n := len(b.records(b.commit(insert(tableT, store.Row{num(5), {}, num(1)}), insert(tableT, rowT(6, "x", 1))))); n != 1 {
			t.Errorf("inserts of different columns are one record, got %d", n)
		}
	})
}

func TestCase37SequencesAndCounters(t *testing.T) {
	forms(t, func(t *testing.T, b *bench, options ...string) {
		b.ddl(all("S", options...))
		rows := b.records(b.commit(insert(tableU, store.Row{num(1), {}}), insert(tableT, rowT(1, "x", 1))))
		if len(rows) != 2 {
			t.Fatalf("%d records", len(rows))
		}
		for i, r := range rows {
			if r.seq != sequenceText(i) || r.records != 2 || r.partitions != 1 || r.last != (i == 1) || r.table != []string{"U", "T"}[i] || r.txn != rows[0].txn {
				t.Errorf("record %d: %+v", i, r)
			}
		}
	})
}

func TestCase37AcrossPartitions(t *testing.T) {
	forms(t, func(t *testing.T, b *bench, options ...string) {
		at := b.ddl(all("S", options...))
		if _, err := b.log.Split("S", b.tokens(at)[0], 0, []Point{{Table: "U"}}, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // past the redraw: mutable ranges change hands after it
		rows := b.records(b.commit(insert(tableU, store.Row{num(1), {}}), insert(tableT, rowT(1, "x", 1)), remove(tableU, store.Row{num(2), {}}), insert(tableT, rowT(2, "x", 1)), insert(tableC, store.Row{num(1), num(2), {}})))
		wantBrief(t, rows, `INSERT U [{"k":"1"} {"a":null} {}]`, `INSERT T [{"k":"1"} {"a":"x","b":"1"} {} {"k":"2"} {"a":"x","b":"1"} {}]`, `DELETE U [{"k":"2"} {} {"a":null}]`, `INSERT C [{"k":"1","n":"2"} {"v":null} {}]`)
		for i, r := range rows {
			if r.records != 4 || r.partitions != 2 || r.last != (i >= 2) || r.seq != sequenceText(i) {
				t.Errorf("record %d: %+v", i, r)
			}
		}
	})
}

func TestCase38ExcludeFilters(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		everything := []store.RowChange{insert(tableT, rowT(1, "x", 1)), update(tableT, rowT(2, "x", 1), rowT(2, "y", 1), "a"), remove(tableT, rowT(3, "x", 1)), remove(tableC, store.Row{num(3), num(1), {}})}
		for option, want := range map[string][]string{"exclude_insert": {"UPDATE", "DELETE", "DELETE"}, "exclude_update": {"INSERT", "DELETE", "DELETE"}, "exclude_delete": {"INSERT", "UPDATE"}, "allow_txn_exclusion": {"INSERT", "UPDATE", "DELETE", "DELETE"}} {
			b.ddl(all("S", option, "true"))
			rows := b.records(b.commit(everything...))
			var got []string
			for _, r := range rows {
				got = append(got, r.modType)
				if r.records != len(want) {
					t.Errorf("%s: counts %d records", option, r.records)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v", option, got)
			}
		}
		b.ddl(all("S", "exclude_ttl_deletes", "true"))
		ttl := store.Commit{System: true, Tag: "RowDeletionPolicy"}
		wantBrief(t, b.records(b.commitAs(ttl, remove(tableU, store.Row{num(3), {}}))))
		if len(b.records(b.commit(remove(tableU, store.Row{num(3), {}})))) != 1 {
			t.Error("a user's delete is none of TTL")
		}
		b.ddl(all("S"))
		if rows := b.records(b.commitAs(ttl, remove(tableU, store.Row{num(3), {}}))); len(rows) != 1 || !rows[0].system || rows[0].tag != "RowDeletionPolicy" {
			t.Errorf("TTL delete: %v", rows)
		}
	})
}

func TestCase39GeneratedColumns(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		g := &store.Table{Name: "G", Key: []store.KeyPart{{Column: 2}, {Column: 0}}, Columns: []store.Column{
			{Name: "k", Type: int64Type, Ordinal: 1}, {Name: "g", Type: int64Type, Ordinal: 2, Generated: "k+1"}, {Name: "gk", Type: int64Type, Ordinal: 3, Generated: "k+2"},
		}}
		rows := b.records(b.commit(insert(g, store.Row{num(1), num(2), num(3)})))
		wantBrief(t, rows, `INSERT G [{"gk":"3","k":"1"} {} {}]`)
		if !slices.Equal(rows[0].cols, []string{"k", "gk"}) {
			t.Errorf("columns %v", rows[0].cols)
		}
	})
}

func TestCase40EveryType(t *testing.T) {
	array := func(e *store.Type) *store.Type { return &store.Type{Code: store.Array, Elem: e} }
	list := func(vs ...store.Value) store.Value { return store.Value{Valid: true, List: vs} }
	float := func(f float64) store.Value { return store.Value{Valid: true, Float: f} }
	cases := []struct {
		typ  *store.Type
		v    store.Value
		want string // in the JSON of immutable key ranges
		name string // type as JSON
	}{
		{&store.Type{Code: store.Bool}, num(1), `true`, `{"code":"BOOL"}`},
		{int64Type, num(math.MinInt64), `"-9223372036854775808"`, `{"code":"INT64"}`},
		{int64Type, num(math.MaxInt64), `"9223372036854775807"`, `{"code":"INT64"}`},
		{&store.Type{Code: store.Float64}, float(0.1), `0.1`, `{"code":"FLOAT64"}`},
		{&store.Type{Code: store.Float64}, float(1e300), `1e+300`, `{"code":"FLOAT64"}`},
		{&store.Type{Code: store.Float64}, float(math.NaN()), `"NaN"`, `{"code":"FLOAT64"}`},
		{&store.Type{Code: store.Float64}, float(math.Inf(1)), `"Infinity"`, `{"code":"FLOAT64"}`},
		{&store.Type{Code: store.Float64}, float(math.Inf(-1)), `"-Infinity"`, `{"code":"FLOAT64"}`},
		{&store.Type{Code: store.Float32}, float(float64(float32(3.14))), `3.14`, `{"code":"FLOAT32"}`},
		{&store.Type{Code: store.Timestamp}, store.Value{Valid: true, Int: 1, Nanos: 250_000_000}, `"1970-01-01T00:00:01.25Z"`, `{"code":"TIMESTAMP"}`},
		{&store.Type{Code: store.Timestamp}, store.Value{Valid: true, Int: 253402300799, Nanos: 999_999_999}, `"9999-12-31T23:59:59.999999999Z"`, `{"code":"TIMESTAMP"}`},
		{&store.Type{Code: store.Timestamp}, num(-62135596800), `"0001-01-01T00:00:00Z"`, `{"code":"TIMESTAMP"}`},
		{&store.Type{Code: store.Date}, num(-1), `"1969-12-31"`, `{"code":"DATE"}`},
		{stringType, str("q\"\\\n\x01ü<&"), `"q\"\\\n\u0001ü<&"`, `{"code":"STRING"}`},
		{stringType, str("\xff"), `"�"`, `{"code":"STRING"}`},
		{&store.Type{Code: store.Bytes}, str("\x00\xff\xfe"), `"AP/+"`, `{"code":"BYTES"}`},
		{&store.Type{Code: store.Numeric}, str("1.5"), `"1.5"`, `{"code":"NUMERIC"}`},
		{&store.Type{Code: store.Numeric, PG: true}, str("NaN"), `"NaN"`, `{"code":"NUMERIC","type_annotation":"PG_NUMERIC"}`},
		{&store.Type{Code: store.JSON}, str(`"Hello"`), `"\"Hello\""`, `{"code":"JSON"}`},
		{&store.Type{Code: store.JSON, PG: true}, str(`{"a": 1}`), `"{\"a\": 1}"`, `{"code":"JSON","type_annotation":"PG_JSONB"}`},
		{&store.Type{Code: store.Proto, Name: "x.Y"}, str("\x01"), `"AQ=="`, `{"code":"PROTO","proto_type_fqn":"x.Y"}`},
		{&store.Type{Code: store.Enum, Name: "x.E"}, num(3), `"3"`, `{"code":"ENUM","proto_type_fqn":"x.E"}`},
		{&store.Type{Code: store.UUID}, str("00000000-0000-0000-0000-000000000001"), `"00000000-0000-0000-0000-000000000001"`, `{"code":"UUID"}`},
		{&store.Type{Code: store.Interval}, str("P1Y"), `"P1Y"`, `{"code":"INTERVAL"}`},
		{array(int64Type), list(num(1), store.Value{}), `["1",null]`, `{"code":"ARRAY","array_element_type":{"code":"INT64"}}`},
		{array(stringType), list(), `[]`, `{"code":"ARRAY","array_element_type":{"code":"STRING"}}`},
		{array(stringType), store.Value{}, `null`, `{"code":"ARRAY","array_element_type":{"code":"STRING"}}`},
	}
	forms(t, func(t *testing.T, b *bench, options ...string) {
		b.ddl(all("S", options...))
		for _, c := range cases {
			table := &store.Table{Name: "X", Key: []store.KeyPart{{Column: 0}}, Columns: []store.Column{{Name: "k", Type: int64Type, Ordinal: 1}, {Name: "v", Type: c.typ, Ordinal: 2}}}
			rows := b.records(b.commit(insert(table, store.Row{num(1), c.v})))
			if got, want := rows[0].mods[0].new, canonical(t, `{"v":`+c.want+`}`); got != want && c.typ.Code != store.Float32 {
				t.Errorf("%s: %s, want %s", c.name, got, want)
			}
			if options[1] == "IMMUTABLE_KEY_RANGE" && rows[0].types["v"] != c.name {
				t.Errorf("type %s, want %s", rows[0].types["v"], c.name)
			}
			if options[1] == "IMMUTABLE_KEY_RANGE" && string(appendJSON(nil, c.typ, c.v)) != c.want {
				t.Errorf("%s: %s, want %s", c.name, appendJSON(nil, c.typ, c.v), c.want)
			}
		}
	})
}

func TestCase42TransactionTag(t *testing.T) {
	forms(t, func(t *testing.T, b *bench, options ...string) {
		b.ddl(all("S", options...))
		rows := b.records(b.commitAs(store.Commit{Tag: `app="x"`}, insert(tableT, rowT(1, "x", 1))))
		if rows[0].tag != `app="x"` || rows[0].system {
			t.Errorf("%+v", rows[0])
		}
	})
}

func TestCase43ExcludedTransaction(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S", "allow_txn_exclusion", "true"), all("Other"))
		at := b.commitAs(store.Commit{Excluded: true}, insert(tableT, rowT(1, "x", 1)))
		wantBrief(t, b.records(at))
		q := query(at, at, "")
		q.Stream = "Other"
		q.Token = &b.read(q)[0].children[0].token
		if rows := b.read(q); len(rows) != 1 || rows[0].Kind != Data {
			t.Errorf("the other stream has %v", rows)
		}
	})
}

func TestCase44EachRecordDescribesItsOwnColumns(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		wider := *tableU
		wider.Columns = append(slices.Clone(tableU.Columns), store.Column{Name: "n", Type: int64Type, Ordinal: 5})
		first := b.commit(insert(tableU, store.Row{num(1), str("x")}))
		second := b.commit(update(&wider, store.Row{num(1), str("x")}, store.Row{num(1), str("x"), num(9)}, "n"))
		wantBrief(t, b.records(first), `INSERT U [{"k":"1"} {"a":"x"} {}]`)
		wantBrief(t, b.records(second), `UPDATE U [{"k":"1"} {"n":"9"} {"n":null}]`)
	})
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name, value string
		code        codes.Code
	}{
		{"retention_period", "7d", codes.OK}, {"retention_period", "720h", codes.OK}, {"retention_period", "86400s", codes.OK}, {"retention_period", "null", codes.OK},
		{"retention_period", "23h", codes.FailedPrecondition}, {"retention_period", "31d", codes.FailedPrecondition}, {"retention_period", "1d2h", codes.FailedPrecondition},
		{"retention_period", "d", codes.FailedPrecondition}, {"retention_period", "-1d", codes.FailedPrecondition}, {"retention_period", "99999999999999999999d", codes.FailedPrecondition},
		{"value_capture_type", "NEW_ROW", codes.OK}, {"value_capture_type", "NEW", codes.FailedPrecondition}, {"value_capture_type", "VALUE_CAPTURE_TYPE_UNSPECIFIED", codes.FailedPrecondition},
		{"partition_mode", "MUTABLE_KEY_RANGE", codes.OK}, {"partition_mode", "X", codes.FailedPrecondition},
		{"exclude_insert", "true", codes.OK}, {"exclude_insert", "1", codes.InvalidArgument}, {"nope", "true", codes.InvalidArgument},
	} {
		wantCode(t, CheckOptions(all("S", c.name, c.value)), c.code)
	}
	wantCode(t, CheckOptions(all("S", "exclude_insert", "true", "exclude_insert", "true")), codes.InvalidArgument)
	wantCode(t, New(Options{}).ObserveSchema([]*store.ChangeStream{all("S", "nope", "1")}, 1), codes.InvalidArgument)
}

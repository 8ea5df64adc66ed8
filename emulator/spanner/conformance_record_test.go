package spanner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/civil"
	cloudspanner "cloud.google.com/go/spanner"
	"github.com/google/uuid"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// captured runs fn on a row (1, "x", 5) under each capture type, and returns the last record's line.
func captured(t *testing.T, fn func(l *wire) time.Time) map[string]string {
	out := map[string]string{}
	for _, capture := range []string{"OLD_AND_NEW_VALUES", "NEW_VALUES", "NEW_ROW", "NEW_ROW_AND_OLD_VALUES"} {
		l := bed(t, tableT, "CREATE CHANGE STREAM s FOR ALL OPTIONS (value_capture_type = '"+capture+"')")
		from := l.apply(cloudspanner.Insert("T", []string{"k", "a", "b"}, []any{1, "x", 5}))
		records := l.records("s", from, fn(l))
		if len(records) != 2 {
			t.Fatalf("%s: %d records", capture, len(records))
		}
		for _, d := range records {
			if d.Capture != capture {
				t.Errorf("%s: the record says %s", capture, d.Capture)
			}
		}
		wantText(t, brief(records[0]), lines(`INSERT T {"k":"1"} {"a":"x","b":"5"} {}`))
		var columns []string
		for _, c := range records[1].ColumnTypes {
			columns = append(columns, c.Name)
		}
		out[capture] = fmt.Sprint(columns, " ", strings.TrimSpace(brief(records[1])))
	}
	return out
}

func wantEach(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%s:\ngot  %s\nwant %s", k, got[k], w)
		}
	}
}

func TestCase28Insert(t *testing.T) {
	l := bed(t, tableT, streamT)
	at := l.apply(insertT(1, "x"))
	r := l.records("s", at, at)[0]
	wantText(t, brief(r), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`))
	got, err := json.Marshal(r.ColumnTypes)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, string(got)+"\n", `[{"Name":"k","Type":{"code":"INT64"},"IsKey":true,"Ordinal":1},{"Name":"a","Type":{"code":"STRING"},"IsKey":false,"Ordinal":2},{"Name":"b","Type":{"code":"INT64"},"IsKey":false,"Ordinal":3}]`+"\n")
}

func TestCase29Update(t *testing.T) {
	wantEach(t, captured(t, func(l *wire) time.Time { return l.apply(updateT(1, "a", "y")) }), map[string]string{
		"OLD_AND_NEW_VALUES":     `[k a] UPDATE T {"k":"1"} {"a":"y"} {"a":"x"}`,
		"NEW_VALUES":             `[k a] UPDATE T {"k":"1"} {"a":"y"} {}`,
		"NEW_ROW":                `[k a b] UPDATE T {"k":"1"} {"a":"y","b":"5"} {}`,
		"NEW_ROW_AND_OLD_VALUES": `[k a b] UPDATE T {"k":"1"} {"a":"y","b":"5"} {"a":"x"}`,
	})
}

func TestCase30Delete(t *testing.T) {
	wantEach(t, captured(t, func(l *wire) time.Time { return l.apply(deleteT(1)) }), map[string]string{
		"OLD_AND_NEW_VALUES":     `[k a b] DELETE T {"k":"1"} {} {"a":"x","b":"5"}`,
		"NEW_VALUES":             `[k a b] DELETE T {"k":"1"} {} {}`,
		"NEW_ROW":                `[k a b] DELETE T {"k":"1"} {} {}`,
		"NEW_ROW_AND_OLD_VALUES": `[k a b] DELETE T {"k":"1"} {} {"a":"x","b":"5"}`,
	})
}

// after runs mutations in one transaction on a database with the row (1, "x", NULL), and returns their records.
func after(t *testing.T, ms ...*cloudspanner.Mutation) string {
	t.Helper()
	l := bed(t, tableT, streamT)
	from := l.apply(insertT(1, "x")).Add(time.Microsecond)
	return l.mods("s", from, l.apply(ms...))
}

func TestCase31EqualValue(t *testing.T) {
	wantText(t, after(t, updateT(1, "a", "x")), lines(`UPDATE T {"k":"1"} {"a":"x"} {"a":"x"}`))
}

func TestCase32NothingTracked(t *testing.T) {
	l := bed(t, tableT, streamA, "CREATE CHANGE STREAM keys FOR T()")
	from := l.apply(insertT(1, "x")).Add(time.Microsecond)
	l.apply(updateT(1, "b", 7))
	end := l.apply(deleteT(99))
	wantText(t, l.mods("s", from, end), "")
	l.apply(updateT(1, "a", "y"))
	wantText(t, l.mods("keys", from.Add(-time.Microsecond), l.apply(deleteT(1))), lines(`INSERT T {"k":"1"} {} {}`, `DELETE T {"k":"1"} {} {}`))
}

func TestCase33InsertThenUpdate(t *testing.T) {
	wantText(t, after(t, insertT(2, "y"), updateT(2, "b", 3), updateT(2, "a", "z")), lines(`INSERT T {"k":"2"} {"a":"z","b":"3"} {}`))
	wantText(t, after(t, updateT(1, "a", "y"), updateT(1, "b", 3)), lines(`UPDATE T {"k":"1"} {"a":"y","b":"3"} {"a":"x","b":null}`))
}

func TestCase34InsertThenDelete(t *testing.T) {
	wantText(t, after(t, insertT(2, "y"), deleteT(2)), "")
	wantText(t, after(t, insertT(2, "y"), updateT(2, "a", "z"), deleteT(2)), "")
	wantText(t, after(t, insertT(2, "y"), deleteT(2), insertT(2, "z")), lines(`INSERT T {"k":"2"} {"a":"z","b":null} {}`))
	wantText(t, after(t, updateT(1, "a", "y"), deleteT(1)), lines(`DELETE T {"k":"1"} {} {"a":"x","b":null}`))
	wantText(t, after(t, deleteT(1), insertT(1, "y"), deleteT(1)), lines(`DELETE T {"k":"1"} {} {"a":"x","b":null}`))
}

func TestCase35DeleteThenInsert(t *testing.T) {
	want := lines(`DELETE T {"k":"1"} {} {"a":"x","b":null}`, `INSERT T {"k":"1"} {"a":"y","b":null} {}`)
	wantText(t, after(t, deleteT(1), insertT(1, "y")), want)
	wantText(t, after(t, cloudspanner.Replace("T", []string{"k", "a"}, []any{1, "y"})), want)
	wantText(t, after(t, cloudspanner.Replace("T", []string{"k", "a"}, []any{2, "y"})), lines(`INSERT T {"k":"2"} {"a":"y","b":null} {}`))
	wantText(t, after(t, cloudspanner.InsertOrUpdate("T", []string{"k", "a"}, []any{1, "y"})), lines(`UPDATE T {"k":"1"} {"a":"y"} {"a":"x"}`))
}

func TestCase36RecordsByColumns(t *testing.T) {
	l := bed(t, tableT, streamT)
	l.apply(insertT(1, "x"), insertT(2, "x"))
	count := func(ms ...*cloudspanner.Mutation) (n []int) {
		at := l.apply(ms...)
		for _, d := range l.records("s", at, at) {
			n = append(n, len(d.Mods))
		}
		return n
	}
	if n := count(updateT(1, "a", "y"), updateT(2, "b", 1)); fmt.Sprint(n) != "[1 1]" {
		t.Errorf("different columns: records of %v mods", n)
	}
	if n := count(updateT(1, "a", "z"), updateT(2, "a", "z")); fmt.Sprint(n) != "[2]" {
		t.Errorf("the same columns: records of %v mods", n)
	}
	if n := count(insertT(3, "x"), cloudspanner.Insert("T", []string{"k", "b"}, []any{4, 1})); fmt.Sprint(n) != "[2]" {
		t.Errorf("inserts: records of %v mods", n)
	}
}

func TestCase37Counters(t *testing.T) {
	l := bed(t, tableT, "CREATE TABLE U (k INT64) PRIMARY KEY (k)", "CREATE CHANGE STREAM s FOR ALL", "CREATE CHANGE STREAM t1 FOR T")
	at := l.apply(insertT(1, "x"), cloudspanner.Insert("U", []string{"k"}, []any{1}))
	var got []string
	ids := map[string]bool{}
	for _, d := range append(l.records("s", at, at), l.records("t1", at, at)...) {
		got = append(got, fmt.Sprint(d.Table, " ", d.Sequence, " ", d.IsLast, " ", d.Records, " ", d.Partitions))
		ids[d.TransactionID] = true
	}
	wantText(t, lines(got...), lines("T 00000000 false 2 1", "U 00000001 true 2 1", "T 00000000 true 1 1"))
	if len(ids) != 1 {
		t.Errorf("transaction ids %v", ids)
	}
	// Over two partitions each has a last record, and the counters cover both.
	p := l.tokens("s", at)[0]
	if _, err := l.srv.Database(dbName).Log().Split("s", p, 2, nil, 0); err != nil {
		t.Fatal(err)
	}
	at = l.apply(updateT(1, "a", "y"), cloudspanner.Delete("U", cloudspanner.Key{1}))
	last := 0
	for _, d := range l.records("s", at, at) {
		if d.Records != 2 || d.Partitions != 2 || !d.IsLast {
			t.Errorf("%s: %d records in %d partitions, last %v", d.Table, d.Records, d.Partitions, d.IsLast)
		}
		last++
	}
	if last != 2 {
		t.Errorf("%d records", last)
	}
}

func TestCase38Cascade(t *testing.T) {
	l := bed(t, tableT, "CREATE TABLE C (k INT64 NOT NULL, n INT64) PRIMARY KEY (k, n), INTERLEAVE IN PARENT T ON DELETE CASCADE",
		"CREATE CHANGE STREAM s FOR ALL", "CREATE CHANGE STREAM kept FOR ALL OPTIONS (exclude_delete = true)",
		"CREATE CHANGE STREAM rest FOR ALL OPTIONS (exclude_insert = true, exclude_update = true)")
	from := l.apply(insertT(1, "x"), cloudspanner.Insert("C", []string{"k", "n"}, []any{1, 1}), cloudspanner.Insert("C", []string{"k", "n"}, []any{1, 2}))
	l.apply(updateT(1, "a", "y"))
	end := l.apply(deleteT(1))
	deletes := map[string]int{}
	for _, d := range l.records("s", end, end) {
		if d.ModType != "DELETE" {
			t.Errorf("a %s", d.ModType)
		}
		deletes[d.Table] += len(d.Mods)
	}
	if deletes["T"] != 1 || deletes["C"] != 2 {
		t.Errorf("deleted %v", deletes)
	}
	for stream, not := range map[string]string{"kept": "DELETE", "rest": "INSERT UPDATE"} {
		records := l.records(stream, from, end)
		if len(records) == 0 {
			t.Errorf("%s has nothing", stream)
		}
		for _, d := range records {
			if strings.Contains(not, d.ModType) {
				t.Errorf("%s shows a %s", stream, d.ModType)
			}
		}
	}
}

func TestCase39GeneratedColumns(t *testing.T) {
	l := bed(t, "CREATE TABLE T (k INT64 NOT NULL, g INT64 AS (k * 2) STORED, a STRING(MAX), h STRING(MAX) AS (UPPER(a)) STORED) PRIMARY KEY (g)", streamT)
	at := l.apply(insertT(1, "x"))
	wantText(t, l.mods("s", at, at), lines(`INSERT T {"g":"2"} {"a":"x","k":"1"} {}`))
}

func TestCase40EveryType(t *testing.T) {
	l := bed(t, `CREATE TABLE T (k INT64 NOT NULL, b BOOL, f FLOAT64, g FLOAT32, n NUMERIC, s STRING(MAX), y BYTES(MAX), d DATE, t TIMESTAMP, j JSON,
		u UUID, a ARRAY<INT64>, e ARRAY<STRING(MAX)>) PRIMARY KEY (k)`, streamT)
	columns := []string{"k", "b", "f", "g", "n", "s", "y", "d", "t", "j", "u", "a", "e"}
	id := uuid.MustParse("F47AC10B-58CC-4372-A567-0E02B2C3D479")
	for i, c := range []struct {
		row  []any
		want string
	}{
		{[]any{math.MinInt64, true, 1.5, float32(3.14), *big.NewRat(-12345, 1000), "é\n\"", []byte{0, 255}, civil.Date{Year: 2026, Month: 2, Day: 3},
			time.Date(2026, 2, 3, 4, 5, 6, 7_000, time.UTC), cloudspanner.NullJSON{Value: map[string]any{"x": "y"}, Valid: true}, id,
			[]cloudspanner.NullInt64{{Int64: math.MaxInt64, Valid: true}, {}}, []string{}},
			`{"a":["9223372036854775807",null],"b":true,"d":"2026-02-03","e":[],"f":1.5,"g":3.14,"j":"{\"x\":\"y\"}","n":"-12.345","s":"é\n\"","t":"2026-02-03T04:05:06.000007Z","u":"f47ac10b-58cc-4372-a567-0e02b2c3d479","y":"AP8="}`},
		{[]any{math.MaxInt64, nil, math.NaN(), float32(math.Inf(1)), nil, "", []byte{}, nil, time.Unix(0, 1).UTC(), cloudspanner.NullJSON{Value: "Hello", Valid: true}, nil, nil, nil},
			`{"a":null,"b":null,"d":null,"e":null,"f":"NaN","g":"Infinity","j":"\"Hello\"","n":null,"s":"","t":"1970-01-01T00:00:00.000000001Z","u":null,"y":""}`},
	} {
		at := l.apply(cloudspanner.Insert("T", columns, c.row))
		r := l.records("s", at, at)
		if len(r) != 1 {
			t.Fatalf("row %d: %d records", i, len(r))
		}
		got, err := json.Marshal(r[0].Mods[0].New.Value)
		if err != nil {
			t.Fatal(err)
		}
		wantText(t, string(got)+"\n", c.want+"\n")
		if i == 0 {
			wantText(t, fmt.Sprintln(r[0].Mods[0].Keys), `{"k":"-9223372036854775808"}`+"\n")
			types, err := json.Marshal(r[0].ColumnTypes[11].Type)
			if err != nil || string(types) != `{"array_element_type":{"code":"INT64"},"code":"ARRAY"}` {
				t.Errorf("the type of an array is %s, %v", types, err)
			}
		}
	}
}

func TestCase41CommitTimestamp(t *testing.T) {
	l := bed(t, "CREATE TABLE T (k INT64, a TIMESTAMP OPTIONS (allow_commit_timestamp = true)) PRIMARY KEY (k)", streamT)
	check := func(at time.Time) {
		t.Helper()
		wantText(t, fmt.Sprintln(l.records("s", at, at)[0].Mods[0].New), fmt.Sprintf(`{"a":"%s"}`+"\n", at.UTC().Format("2006-01-02T15:04:05.999999Z")))
	}
	check(l.apply(insertT(1, cloudspanner.CommitTimestamp)))
	at, err := l.client.ReadWriteTransaction(l.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		_, err := tx.Update(ctx, cloudspanner.NewStatement("UPDATE T SET a = PENDING_COMMIT_TIMESTAMP() WHERE k = 1"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	check(at)
}

func TestCase42TransactionTag(t *testing.T) {
	l := bed(t, tableT, streamT)
	for _, tag := range []string{"", "app=cart,action=add"} {
		at, err := l.client.Apply(l.ctx, []*cloudspanner.Mutation{cloudspanner.InsertOrUpdate("T", []string{"k", "a"}, []any{1, "x"})}, cloudspanner.TransactionTag(tag))
		if err != nil {
			t.Fatal(err)
		}
		if r := l.records("s", at, at)[0]; r.Tag != tag || r.System {
			t.Errorf("tag %q of a system transaction %v, want %q", r.Tag, r.System, tag)
		}
	}
}

func TestCase43ExcludedTransaction(t *testing.T) {
	l := bed(t, tableT, streamT, "CREATE CHANGE STREAM open FOR T OPTIONS (allow_txn_exclusion = true)")
	for i, excluded := range []bool{false, true} {
		at, err := l.client.Apply(l.ctx, []*cloudspanner.Mutation{insertT(i, "x")}, cloudspanner.ExcludeTxnFromChangeStreams())
		if !excluded {
			at, err = l.client.Apply(l.ctx, []*cloudspanner.Mutation{insertT(i+10, "x")})
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(l.records("s", at, at)); n != 1 {
			t.Errorf("excluded %v: %d records in the stream that does not allow it", excluded, n)
		}
		if n := len(l.records("open", at, at)); (n == 0) != excluded {
			t.Errorf("excluded %v: %d records in the stream that allows it", excluded, n)
		}
	}
}

func TestCase44ColumnAddedBetween(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.apply(insertT(1, "x"))
	l.must("ALTER TABLE T ADD COLUMN c INT64", "ALTER TABLE T DROP COLUMN b")
	l.apply(updateT(1, "c", 7))
	end := l.apply(deleteT(1))
	var got []string
	for _, d := range l.records("s", from, end) {
		line := d.ModType
		for _, c := range d.ColumnTypes {
			line += fmt.Sprint(" ", c.Name, c.Ordinal)
		}
		got = append(got, line)
	}
	wantText(t, lines(got...), lines("INSERT k1 a2 b3", "UPDATE k1 c3", "DELETE k1 a2 c3"))
}

// Rows that a row deletion policy has expired go on command, in system transactions.
func TestTTLOnCommand(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock},
		"CREATE TABLE T (k INT64, a TIMESTAMP) PRIMARY KEY (k), ROW DELETION POLICY (OLDER_THAN(a, INTERVAL 3 DAY))",
		"CREATE TABLE C (k INT64, n INT64) PRIMARY KEY (k, n), INTERLEAVE IN PARENT T", counters,
		"CREATE CHANGE STREAM s FOR ALL", "CREATE CHANGE STREAM without FOR ALL OPTIONS (exclude_ttl_deletes = true)")
	l := w.wire()
	day := func(n int) time.Time { return clock.Now().Add(time.Duration(n) * 24 * time.Hour) }
	l.apply(insertT(1, day(-1)), insertT(2, day(0)), insertT(3, nil), insertT(4, day(-2)), cloudspanner.Insert("C", []string{"k", "n"}, []any{4, 1}))
	clock.Step(49 * time.Hour)
	from := w.now().Add(time.Microsecond)
	db := l.srv.Database(dbName)
	if n, err := db.DeleteExpired(); n != 1 || err != nil {
		t.Errorf("%d rows went, %v: one is young, one NULL, one has a child", n, err)
	}
	wantText(t, fmt.Sprintln(l.query("SELECT k FROM T ORDER BY k")), "[[2] [3] [4]]\n")
	if n, err := db.DeleteExpired(); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	end := w.now()
	clock.Step(time.Millisecond)
	records := l.records("s", from, end)
	if len(records) != 1 || records[0].Tag != "RowDeletionPolicy" || !records[0].System || records[0].ModType != "DELETE" {
		t.Errorf("%+v", records)
	}
	if n := len(l.records("without", from, end)); n != 0 {
		t.Errorf("%d records where they are excluded", n)
	}
	at, err := db.CommitSystem("backfill", insertOf(9))
	clock.Step(time.Millisecond)
	if r := l.records("s", at, at); err != nil || len(r) != 1 || r[0].Tag != "backfill" || !r[0].System {
		t.Errorf("a system transaction: %+v, %v", r, err)
	}
	if _, err := db.CommitSystem("backfill", insertOf(9)); err == nil {
		t.Error("a row was inserted twice")
	}
}

// A restored database has the rows, and streams that are empty and know no token of the first.
func TestRestoredDatabase(t *testing.T) {
	l := bed(t, tableT, "CREATE INDEX x ON T (a)", streamT)
	at := l.apply(insertT(1, "x"))
	token := l.tokens("s", at)[0]
	const copyName = project + "/instances/" + instanceID + "/databases/copy"
	db, err := l.srv.RestoreDatabase(dbName, copyName)
	if err != nil {
		t.Fatal(err)
	}
	l.apply(updateT(1, "a", "later"))
	c, err := cloudspanner.NewClientWithConfig(l.ctx, copyName, cloudspanner.ClientConfig{DisableNativeMetrics: true}, l.srv.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rows, err := texts(c.Single().Query(l.ctx, cloudspanner.NewStatement("SELECT k, a FROM T@{FORCE_INDEX=x} WHERE a = 'x'")))
	wantText(t, fmt.Sprintln(rows, err), "[[1 x]] <nil>\n")
	created := time.UnixMicro(db.Store().Schema().Streams[0].Created)
	if !created.After(at) {
		t.Errorf("the stream was created at %v, before the backup at %v", created, at)
	}
	other := *l
	other.client = c
	if _, err := c.Apply(l.ctx, []*cloudspanner.Mutation{insertT(1, "again")}); cloudspanner.ErrCode(err).String() != "AlreadyExists" {
		t.Errorf("the restored row: %v", err)
	}
	end, err := c.Apply(l.ctx, []*cloudspanner.Mutation{insertT(2, "y")})
	if err != nil {
		t.Fatal(err)
	}
	query := func(start time.Time, token *string) (got []string, err error) {
		err = other.stream(l.ctx, start, &end, token, func(r *changeRecord) error {
			for _, d := range r.Data {
				got = append(got, strings.TrimSpace(brief(d)))
			}
			for _, ch := range r.Children {
				got = append(got, ch.Partitions[0].Token)
			}
			return nil
		})
		return got, err
	}
	if _, err := query(at, nil); cloudspanner.ErrCode(err).String() != "OutOfRange" {
		t.Errorf("the time before the restore: %v", err)
	}
	if _, err := query(created, &token); cloudspanner.ErrCode(err).String() != "InvalidArgument" {
		t.Errorf("a token of the first database: %v", err)
	}
	tokens, err := query(created, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := query(created, &tokens[0])
	wantText(t, fmt.Sprintln(got, err), fmt.Sprintln([]string{`INSERT T {"k":"2"} {"a":"y","b":null} {}`}, nil))
	for _, bad := range [][2]string{{dbName + "x", copyName + "2"}, {dbName, "copy"}, {dbName, copyName}, {dbName, "projects/p/instances/nothing/databases/copy"}} {
		if _, err := l.srv.RestoreDatabase(bad[0], bad[1]); err == nil {
			t.Errorf("restored %s to %s", bad[0], bad[1])
		}
	}
}

// A restored database has sequences of its own, which go on from where they were, and the roles and what they were granted.
func TestRestoredSchema(t *testing.T) {
	w := start(t, spanner.Options{},
		"CREATE SEQUENCE sq OPTIONS (sequence_kind = 'bit_reversed_positive', start_with_counter = 100)",
		"CREATE TABLE d (k INT64 DEFAULT (GET_NEXT_SEQUENCE_VALUE(SEQUENCE sq)), v INT64, twice INT64 AS (v * 2) STORED, CHECK (v > 0)) PRIMARY KEY (k)",
		"CREATE TABLE i (k INT64 GENERATED BY DEFAULT AS IDENTITY (BIT_REVERSED_POSITIVE), v INT64) PRIMARY KEY (k)",
		"CREATE CHANGE STREAM st FOR ALL", "CREATE ROLE r", "GRANT SELECT ON CHANGE STREAM st TO ROLE r", "GRANT SELECT(k) ON TABLE d TO ROLE r")
	insert := func(c *cloudspanner.Client, table string) (key string) {
		t.Helper()
		_, err := c.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
			got, err := texts(tx.Query(ctx, cloudspanner.NewStatement("INSERT INTO "+table+" (v) VALUES (1) THEN RETURN k")))
			if err == nil {
				key = got[0][0]
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	insert(w.client, "d")
	insert(w.client, "i")
	const copyName = project + "/instances/" + instanceID + "/databases/copy"
	db, err := w.srv.RestoreDatabase(dbName, copyName)
	if err != nil {
		t.Fatal(err)
	}
	if db.Store().Schema().Clock == nil {
		t.Error("the copy's schema has no clock")
	}
	other := w.of(copyName, "")
	for _, table := range []string{"d", "i"} {
		first, second := insert(w.client, table), insert(w.client, table)
		if a, b := insert(other.client, table), insert(other.client, table); a != first || b != second || a == b {
			t.Errorf("table %s: the copy gives %s and %s, the first %s and %s", table, a, b, first, second)
		}
	}
	if got, want := fmt.Sprint(other.query("SELECT COUNT(*), SUM(twice) FROM d")), "[[3 6]]"; got != want {
		t.Errorf("the generated column: %s, want %s", got, want)
	}
	if err := other.write("INSERT INTO d (v) VALUES (-1)"); cloudspanner.ErrCode(err).String() != "OutOfRange" {
		t.Errorf("the check: %v", err)
	}
	if got, want := w.printed(copyName), w.printed(dbName); got != want {
		t.Errorf("the copy's DDL is\n%s\nwant\n%s", got, want)
	}
	_, err = w.of(copyName, "r").tryQuery("SELECT v FROM d")
	wantAccess(t, "the copy's role", err, "Role r does not have required privileges on table d.")
}

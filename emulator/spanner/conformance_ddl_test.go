package spanner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

// The conformance cases of change streams, 1 to 57 without those that only a reader can hold to, each over gRPC. Package
// changes has tests of the same numbers that go deeper into its part with a clock of their own.

const (
	tableT  = "CREATE TABLE T (k INT64 NOT NULL, a STRING(MAX), b INT64) PRIMARY KEY (k)"
	streamT = "CREATE CHANGE STREAM s FOR T"
	streamA = "CREATE CHANGE STREAM s FOR T(a)"
)

// bed is a server with one schema, seen over a bare connection.
func bed(t *testing.T, ddl ...string) *wire {
	t.Helper()
	return start(t, spanner.Options{}, ddl...).wire()
}

func (w *world) must(statements ...string) {
	w.Helper()
	if err := w.ddl(statements...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) refuses(code codes.Code, statement string) {
	w.Helper()
	wantCode(w, w.ddl(statement), code, statement)
}

func insertT(k int, a any) *cloudspanner.Mutation {
	return cloudspanner.Insert("T", []string{"k", "a"}, []any{k, a})
}

func updateT(k int, column string, v any) *cloudspanner.Mutation {
	return cloudspanner.Update("T", []string{"k", column}, []any{k, v})
}

func deleteT(k int) *cloudspanner.Mutation { return cloudspanner.Delete("T", cloudspanner.Key{k}) }

func TestCase1InformationSchema(t *testing.T) {
	l := bed(t, tableT, streamA, "CREATE CHANGE STREAM every FOR ALL", "CREATE CHANGE STREAM keys FOR T()",
		"CREATE CHANGE STREAM whole FOR T OPTIONS (retention_period = '3d', partition_mode = 'MUTABLE_KEY_RANGE', exclude_insert = true)")
	view := func(name, columns string) string {
		return fmt.Sprint(l.query("SELECT CHANGE_STREAM_NAME, " + columns + " FROM INFORMATION_SCHEMA." + name + " ORDER BY 1, 2"))
	}
	wantText(t, view("CHANGE_STREAMS", "`ALL`")+"\n", "[[every true] [keys false] [s false] [whole false]]\n")
	wantText(t, view("CHANGE_STREAM_TABLES", "TABLE_NAME, ALL_COLUMNS")+"\n", "[[keys T false] [s T false] [whole T true]]\n")
	wantText(t, view("CHANGE_STREAM_COLUMNS", "TABLE_NAME, COLUMN_NAME")+"\n", "[[s T a]]\n")
	wantText(t, view("CHANGE_STREAM_OPTIONS", "OPTION_NAME, OPTION_TYPE, OPTION_VALUE")+"\n",
		"[[whole exclude_insert BOOL TRUE] [whole partition_mode STRING MUTABLE_KEY_RANGE] [whole retention_period STRING 3d]]\n")
}

func TestCase2KeyColumnListed(t *testing.T) {
	l := bed(t, tableT, "CREATE INDEX x ON T (a)", "CREATE TABLE G (k INT64, g INT64 AS (k + 1) STORED) PRIMARY KEY (k)")
	for _, f := range []string{"T(k)", "T(a, k)", "T, T", "T(a, a)", "T(nothing)", "nothing", "x", "G(g)"} {
		l.refuses(codes.FailedPrecondition, "CREATE CHANGE STREAM s FOR "+f)
	}
	l.must("CREATE CHANGE STREAM s FOR T(a)")
	l.refuses(codes.FailedPrecondition, "CREATE CHANGE STREAM s FOR T")  // the name is taken
	l.refuses(codes.FailedPrecondition, "CREATE CHANGE STREAM s2 FOR s") // a stream is no table
	l.refuses(codes.FailedPrecondition, "ALTER CHANGE STREAM s SET FOR T(k)")
	l.refuses(codes.NotFound, "ALTER CHANGE STREAM nothing SET FOR T")
	l.refuses(codes.NotFound, "DROP CHANGE STREAM nothing")
	l.refuses(codes.InvalidArgument, "CREATE CHANGE STREAM "+strings.Repeat("n", 119)+" FOR T")
	l.must("CREATE CHANGE STREAM IF NOT EXISTS s FOR ALL", "ALTER CHANGE STREAM s DROP FOR ALL")
	l.refuses(codes.FailedPrecondition, "ALTER CHANGE STREAM s DROP FOR ALL")
}

func TestOptionsOfDDL(t *testing.T) {
	l := bed(t, tableT, streamT)
	for option, code := range map[string]codes.Code{
		"nothing = true": codes.InvalidArgument, "exclude_insert = 'true'": codes.InvalidArgument, "": codes.InvalidArgument,
		"exclude_insert = true, exclude_insert = true": codes.InvalidArgument, "retention_period = 7": codes.InvalidArgument,
		"retention_period = '23h'": codes.FailedPrecondition, "retention_period = '31d'": codes.FailedPrecondition,
		"retention_period = '1d12h'": codes.FailedPrecondition, "value_capture_type = 'ALL'": codes.FailedPrecondition,
		"partition_mode = 'MUTABLE_KEY_RANGE'": codes.FailedPrecondition,
	} {
		l.refuses(code, "ALTER CHANGE STREAM s SET OPTIONS ("+option+")")
	}
	l.must("ALTER CHANGE STREAM s SET OPTIONS (retention_period = '36h', value_capture_type = 'NEW_ROW')",
		"ALTER CHANGE STREAM s SET OPTIONS (retention_period = null)")
	wantText(t, fmt.Sprintln(l.query("SELECT OPTION_NAME, OPTION_VALUE FROM INFORMATION_SCHEMA.CHANGE_STREAM_OPTIONS")), "[[value_capture_type NEW_ROW]]\n")
}

// With per_placement_tvf there is one read function a placement; the rows of a database without placements are in "default".
func TestPerPlacementFunctions(t *testing.T) {
	l := bed(t, tableT, "CREATE CHANGE STREAM s FOR T OPTIONS (per_placement_tvf = true)", "CREATE CHANGE STREAM plain FOR T")
	at := l.apply(insertT(1, "x"))
	for function, code := range map[string]codes.Code{"s_default": codes.OK, "s": codes.InvalidArgument, "s_eu": codes.InvalidArgument, "plain_default": codes.InvalidArgument, "plain": codes.OK} {
		_, err := l.read(call{stream: function, from: at})
		wantCode(t, err, code, function)
	}
	wantText(t, l.mods("s_default", at, at), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`))
}

func TestCase3StreamsOnOneColumn(t *testing.T) {
	l := bed(t, tableT, "CREATE CHANGE STREAM s1 FOR T(a)", "CREATE CHANGE STREAM s2 FOR T", "CREATE CHANGE STREAM s3 FOR ALL")
	l.refuses(codes.FailedPrecondition, "CREATE CHANGE STREAM s4 FOR T(a)")
	l.refuses(codes.FailedPrecondition, "CREATE CHANGE STREAM s4 FOR T")
	l.refuses(codes.FailedPrecondition, "CREATE CHANGE STREAM s4 FOR ALL")
	l.must("CREATE CHANGE STREAM s4 FOR T(b)", "CREATE CHANGE STREAM s5 FOR T()", "CREATE CHANGE STREAM s6")
	l.refuses(codes.FailedPrecondition, "ALTER CHANGE STREAM s6 SET FOR T(b)")
	l.must("DROP CHANGE STREAM s1", "ALTER CHANGE STREAM s6 SET FOR T(a)")
}

func TestCase4TenStreams(t *testing.T) {
	l := bed(t, tableT)
	for i := range 10 {
		l.must(fmt.Sprintf("CREATE CHANGE STREAM s%d", i))
	}
	l.refuses(codes.FailedPrecondition, "CREATE CHANGE STREAM s10")
	l.must("DROP CHANGE STREAM s3", "CREATE CHANGE STREAM s10")
}

func TestCase5AllCoversLaterTables(t *testing.T) {
	l := bed(t, "CREATE CHANGE STREAM s FOR ALL")
	from := l.now()
	l.must(tableT)
	wantText(t, l.mods("s", from, l.apply(insertT(1, "x"))), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`))
}

func TestCase6LaterColumnIsNotWatched(t *testing.T) {
	l := bed(t, tableT, streamA, "CREATE CHANGE STREAM whole FOR T")
	from := l.now()
	l.apply(insertT(1, "x"))
	l.must("ALTER TABLE T ADD COLUMN c STRING(MAX)")
	end := l.apply(updateT(1, "c", "y"))
	wantText(t, l.mods("s", from, end), lines(`INSERT T {"k":"1"} {"a":"x"} {}`))
	wantText(t, l.mods("whole", from, end), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`, `UPDATE T {"k":"1"} {"c":"y"} {"c":null}`))
}

func TestCase7DropOfAWatchedTable(t *testing.T) {
	l := bed(t, tableT, streamT, "CREATE CHANGE STREAM every FOR ALL", "CREATE CHANGE STREAM column FOR T(b)")
	from := l.now()
	l.apply(insertT(1, "x"))
	l.refuses(codes.FailedPrecondition, "DROP TABLE T")
	l.must("DROP CHANGE STREAM s")
	l.refuses(codes.FailedPrecondition, "DROP TABLE T")
	l.refuses(codes.FailedPrecondition, "ALTER TABLE T DROP COLUMN b")
	l.must("ALTER TABLE T DROP COLUMN a", "DROP CHANGE STREAM column", "DROP TABLE T")
	wantText(t, l.mods("every", from, l.now()), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`))
}

func TestCase8SuspendedStream(t *testing.T) {
	l := bed(t, tableT, "CREATE CHANGE STREAM s FOR ALL", "CREATE CHANGE STREAM none")
	from := l.now()
	l.apply(insertT(1, "x"))
	l.must("ALTER CHANGE STREAM s DROP FOR ALL")
	end := l.apply(insertT(2, "y"))
	wantText(t, l.mods("s", from, end), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`))
	wantText(t, l.mods("none", from, end), "")
	l.must("ALTER CHANGE STREAM s SET FOR T")
	wantText(t, l.mods("s", from, l.apply(insertT(3, "z"))), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`, `INSERT T {"k":"3"} {"a":"z","b":null} {}`))
}

func TestCase9IndexMakesNoRecord(t *testing.T) {
	l := bed(t, tableT, "CREATE CHANGE STREAM s FOR ALL")
	l.apply(insertT(1, "x"))
	from := l.now().Add(time.Microsecond)
	l.must("CREATE INDEX x ON T (a)")
	wantText(t, l.mods("s", from, l.now()), "")
}

func selector(o *spannerpb.TransactionOptions) *spannerpb.TransactionSelector {
	return &spannerpb.TransactionSelector{Selector: &spannerpb.TransactionSelector_SingleUse{SingleUse: o}}
}

func readOnly(ro *spannerpb.TransactionOptions_ReadOnly) *spannerpb.TransactionOptions {
	return &spannerpb.TransactionOptions{Mode: &spannerpb.TransactionOptions_ReadOnly_{ReadOnly: ro}}
}

func TestCase10TransactionKinds(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.now()
	strong := &spannerpb.TransactionOptions_ReadOnly{TimestampBound: &spannerpb.TransactionOptions_ReadOnly_Strong{Strong: true}, ReturnReadTimestamp: true}
	tx, err := l.api.BeginTransaction(l.ctx, &spannerpb.BeginTransactionRequest{Session: l.session, Options: readOnly(strong)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		selector *spannerpb.TransactionSelector
		code     codes.Code
	}{
		"none":       {nil, codes.OK},
		"strong":     {selector(readOnly(strong)), codes.OK},
		"id":         {&spannerpb.TransactionSelector{Selector: &spannerpb.TransactionSelector_Id{Id: tx.Id}}, codes.InvalidArgument},
		"begin":      {&spannerpb.TransactionSelector{Selector: &spannerpb.TransactionSelector_Begin{Begin: readOnly(strong)}}, codes.InvalidArgument},
		"stale":      {selector(readOnly(&spannerpb.TransactionOptions_ReadOnly{TimestampBound: &spannerpb.TransactionOptions_ReadOnly_ExactStaleness{ExactStaleness: durationpb.New(1)}})), codes.InvalidArgument},
		"read-write": {selector(&spannerpb.TransactionOptions{Mode: &spannerpb.TransactionOptions_ReadWrite_{ReadWrite: &spannerpb.TransactionOptions_ReadWrite{}}}), codes.InvalidArgument},
	} {
		_, err := l.read(call{from: from, transaction: c.selector})
		wantCode(t, err, c.code, name)
	}
	_, err = l.api.ExecuteSql(l.ctx, call{from: from}.request(l.session))
	wantCode(t, err, codes.InvalidArgument, "ExecuteSql")
	plan := call{from: from}.request(l.session)
	plan.QueryMode = spannerpb.ExecuteSqlRequest_PLAN
	s, err := l.api.ExecuteStreamingSql(l.ctx, plan)
	if err == nil {
		_, err = s.Recv()
	}
	wantCode(t, err, codes.Unimplemented, "PLAN")
}

func TestCase11OtherSQL(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.now()
	const f = "READ_s(@start, NULL, NULL, 1000)"
	for sql, code := range map[string]codes.Code{
		"SELECT ChangeRecord FROM " + f: codes.OK, "SELECT * FROM " + f: codes.OK,
		"SELECT ChangeRecord FROM READ_s(start_timestamp => @start, heartbeat_milliseconds => 1000)": codes.OK,

		"SELECT ChangeRecord FROM " + f + " WHERE TRUE":                                            codes.Unimplemented,
		"SELECT ChangeRecord FROM " + f + " LIMIT 1":                                               codes.Unimplemented,
		"SELECT ChangeRecord FROM " + f + " ORDER BY 1":                                            codes.Unimplemented,
		"SELECT ChangeRecord FROM " + f + " GROUP BY 1":                                            codes.Unimplemented,
		"SELECT ChangeRecord FROM " + f + " JOIN T ON TRUE":                                        codes.Unimplemented,
		"SELECT ChangeRecord FROM " + f + " UNION ALL SELECT ChangeRecord FROM " + f:               codes.Unimplemented,
		"WITH w AS (SELECT 1) SELECT ChangeRecord FROM " + f:                                       codes.Unimplemented,
		"SELECT COUNT(*) FROM " + f:                                                                codes.Unimplemented,
		"SELECT ChangeRecord[0] FROM " + f:                                                         codes.Unimplemented,
		"SELECT ChangeRecord AS c FROM " + f:                                                       codes.Unimplemented,
		"SELECT 1 FROM " + f:                                                                       codes.Unimplemented,
		"SELECT ChangeRecord FROM READ_s(TIMESTAMP_ADD(@start, INTERVAL 1 DAY), NULL, NULL, 1000)": codes.InvalidArgument,
		"SELECT ChangeRecord FROM READ_s(@start, NULL, NULL, (SELECT 1000))":                       codes.InvalidArgument,
		"SELECT ChangeRecord FROM READ_s(@start, NULL, NULL, 1000, NULL, NULL)":                    codes.InvalidArgument,
		"SELECT ChangeRecord FROM READ_s(@start, nothing => 1)":                                    codes.InvalidArgument,
		"SELECT ChangeRecord FROM READ_nothing(@start, NULL, NULL, 1000)":                          codes.InvalidArgument,
		"SELECT ChangeRecord FROM READ_s('yesterday', NULL, NULL, 1000)":                           codes.InvalidArgument,
		"SELECT ChangeRecord FROM READ_s(@start, NULL, NULL, 'often')":                             codes.InvalidArgument,
	} {
		_, err := l.read(call{from: from, sql: sql})
		wantCode(t, err, code, sql)
	}
}

func TestCase12HeartbeatBounds(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.now()
	for ms, code := range map[int64]codes.Code{99: codes.OutOfRange, 100: codes.OK, 300_000: codes.OK, 300_001: codes.OutOfRange, -1: codes.OutOfRange} {
		_, err := l.read(call{from: from, heartbeat: ms})
		wantCode(t, err, code, ms)
	}
	_, err := l.read(call{from: from, sql: "SELECT ChangeRecord FROM READ_s(@start, NULL, NULL, NULL)"})
	wantCode(t, err, codes.InvalidArgument, "NULL")
}

func TestCase13StartBounds(t *testing.T) {
	l := bed(t, tableT)
	before := l.now()
	l.must(streamT)
	for at, code := range map[time.Time]codes.Code{
		before: codes.OutOfRange, time.Unix(0, 0): codes.OutOfRange, time.Now().Add(11 * time.Minute): codes.OutOfRange, {}: codes.InvalidArgument,
	} {
		_, err := l.read(call{from: at})
		wantCode(t, err, code, at)
		if strings.HasPrefix(status.Convert(err).Message(), "Specified start_timestamp is invalid") {
			t.Errorf("%v belongs to one partition only", err)
		}
	}
}

func TestCase14EndBounds(t *testing.T) {
	l := bed(t, tableT, streamT)
	at := l.apply(insertT(1, "x"))
	_, err := l.read(call{from: at, end: at.Add(-time.Microsecond)})
	wantCode(t, err, codes.InvalidArgument)
	wantText(t, l.mods("s", at, at), lines(`INSERT T {"k":"1"} {"a":"x","b":null} {}`))
}

func TestCase15ForeignTokens(t *testing.T) {
	l := bed(t, tableT, streamT, "CREATE CHANGE STREAM other FOR ALL")
	at := l.now()
	mine, other := l.tokens("s", at)[0], l.tokens("other", at)[0]
	l.must("DROP CHANGE STREAM s", streamT)
	at = l.now()
	for name, token := range map[string]string{
		"another stream's": other, "an earlier stream's of this name": mine, "made up": "token", "not base64": "!!!",
		"cut off": other[:len(other)-1], "long": strings.Repeat(other, 100),
	} {
		_, err := l.read(call{from: at, end: at, token: token})
		wantCode(t, err, codes.InvalidArgument, name)
	}
	_, err := l.read(call{from: at, sql: "SELECT ChangeRecord FROM READ_s(@start, NULL, '', 1000)"})
	wantCode(t, err, codes.InvalidArgument, "an empty token is not NULL")
}

func TestCase16PartitionLife(t *testing.T) {
	l := bed(t, tableT, streamT)
	log := l.srv.Database(dbName).Log()
	at := l.apply(insertT(1, "x"))
	token := l.tokens("s", at)[0]
	cut, err := log.Split("s", token, 2, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := time.UnixMicro(cut.At)
	rows := l.mustRead(call{from: end, token: token})
	if len(rows) != 2 || rows[0].kind != "children" || rows[1].kind != "children" {
		t.Errorf("start == token end: %v", rows)
	}
	for name, c := range map[string]call{
		"after the end":    {from: end.Add(time.Microsecond), token: token},
		"before the start": {from: end.Add(-time.Microsecond), token: cut.Tokens[0]},
	} {
		_, err := l.read(c)
		wantCode(t, err, codes.OutOfRange, name)
		if !strings.HasPrefix(status.Convert(err).Message(), "Specified start_timestamp is invalid") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCase17ReadOptions(t *testing.T) {
	l := bed(t, tableT, streamT)
	_, err := l.read(call{from: l.now(), sql: "SELECT ChangeRecord FROM READ_s(@start, NULL, NULL, 1000, ['x'])"})
	wantCode(t, err, codes.Unimplemented)
	if _, err := l.read(call{from: l.now(), sql: "SELECT ChangeRecord FROM READ_s(@start, NULL, NULL, 1000, NULL)"}); err != nil {
		t.Error(err)
	}
}

func TestCase18DroppedWhileReading(t *testing.T) {
	l := bed(t, tableT, streamT)
	at := l.apply(insertT(1, "x"))
	token := l.tokens("s", at)[0]
	err := l.each(l.ctx, call{from: at, token: token}, func(r rec) error {
		if r.kind == "data" {
			l.must("DROP CHANGE STREAM s")
		}
		return nil
	})
	wantCode(t, err, codes.NotFound)
	_, err = l.read(call{from: at})
	wantCode(t, err, codes.InvalidArgument, "the function is gone")
}

func TestReadersOfOnePartition(t *testing.T) {
	l := bed(t, tableT, streamT)
	at := l.apply(insertT(1, "x"))
	token := l.tokens("s", at)[0]
	begun := make(chan error, 20)
	for range 20 {
		go func() {
			first := true
			err := l.each(l.ctx, call{from: at, token: token}, func(rec) error {
				if first {
					first = false
					begun <- nil
				}
				return nil
			})
			if first {
				begun <- err
			}
		}()
	}
	for range 20 {
		if err := <-begun; err != nil {
			t.Fatal(err)
		}
	}
	_, err := l.read(call{from: at, end: at, token: token})
	wantCode(t, err, codes.ResourceExhausted)
	if n := l.srv.Faults().Count(fault.Exhausted); n != 0 {
		t.Errorf("%d were injected", n)
	}
}

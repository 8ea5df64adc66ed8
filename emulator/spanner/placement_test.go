package spanner_test

import (
	"fmt"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
)

const placedTable = "CREATE TABLE T (k INT64 NOT NULL, region STRING(MAX) NOT NULL PLACEMENT KEY, a STRING(MAX)) PRIMARY KEY (k)"

func placeT(k int64, region, a string) *cloudspanner.Mutation {
	return cloudspanner.InsertOrUpdate("T", []string{"k", "region", "a"}, []any{k, region, a})
}

// A stream with per_placement_tvf shows each row by the function of its placement, with partitions that are that function's only,
// and one made later by one more.
func TestPlacements(t *testing.T) {
	l := bed(t, "CREATE PLACEMENT eu OPTIONS (instance_partition = 'eu-partition')", placedTable,
		"CREATE CHANGE STREAM s FOR T OPTIONS (per_placement_tvf = true)", "CREATE CHANGE STREAM whole FOR T")
	functions := func() string { return fmt.Sprint(l.query("SELECT ROUTINE_NAME FROM INFORMATION_SCHEMA.ROUTINES")) }
	wantText(t, functions()+"\n", "[[READ_s_default] [READ_s_eu] [READ_whole]]\n")
	wantText(t, fmt.Sprintln(l.query("SELECT * FROM INFORMATION_SCHEMA.PLACEMENTS")), "[[default true] [eu false]]\n")

	from := l.apply(placeT(1, "eu", "x"))
	l.apply(placeT(2, "default", "y"))
	l.must("CREATE PLACEMENT us OPTIONS (instance_partition = 'us-partition')")
	wantText(t, functions()+"\n", "[[READ_s_default] [READ_s_eu] [READ_s_us] [READ_whole]]\n")
	l.apply(placeT(3, "us", "z"))
	_, err := l.client.Apply(l.ctx, []*cloudspanner.Mutation{placeT(4, "asia", "z")})
	wantCode(t, err, codes.FailedPrecondition, "a row in a placement that is not there")
	l.refuses(codes.FailedPrecondition, "DROP PLACEMENT us")
	end := l.apply(cloudspanner.Delete("T", cloudspanner.Key{3}))
	wantText(t, l.mods("s_eu", from, end), lines(`INSERT T {"k":"1"} {"a":"x","region":"eu"} {}`))
	wantText(t, l.mods("s_default", from, end), lines(`INSERT T {"k":"2"} {"a":"y","region":"default"} {}`))
	young := end.Add(-time.Microsecond)
	wantText(t, l.mods("s_us", young, end), lines(`DELETE T {"k":"3"} {} {"a":"z","region":"us"}`))
	if n := len(l.records("whole", from, end)); n != 4 {
		t.Errorf("the stream without placements has %d records", n)
	}
	_, err = l.read(call{stream: "s_us", from: from})
	wantCode(t, err, codes.OutOfRange, "before the placement was made")
	_, err = l.read(call{stream: "s_default", from: from, token: l.tokens("s_eu", from)[0]})
	wantCode(t, err, codes.InvalidArgument, "another placement's token")

	l.must("DROP PLACEMENT us")
	_, err = l.read(call{stream: "s_us", from: end})
	wantCode(t, err, codes.InvalidArgument, "a placement that is gone")
	for _, ddl := range []string{"CREATE PLACEMENT EU OPTIONS (instance_partition = 'x')", "CREATE PLACEMENT `default` OPTIONS (instance_partition = 'x')", "DROP PLACEMENT us", "CREATE PLACEMENT x OPTIONS (color = 'red')",
		"CREATE TABLE U (k INT64, r STRING(MAX) PLACEMENT KEY) PRIMARY KEY (k)", "CREATE TABLE U (k INT64 NOT NULL PLACEMENT KEY) PRIMARY KEY (k)",
		"CREATE TABLE U (k INT64 NOT NULL, n INT64) PRIMARY KEY (k, n), INTERLEAVE IN PARENT T",
		"ALTER TABLE T ADD COLUMN r STRING(MAX) NOT NULL DEFAULT ('eu') PLACEMENT KEY"} {
		if err := l.ddl(ddl); err == nil {
			t.Errorf("%s was taken", ddl)
		}
	}
}

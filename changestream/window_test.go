package changestream

import (
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
)

// moving is a message with records of mutable key ranges.
func moving(records ...*sppb.ChangeStreamRecord) []byte {
	p := &sppb.PartialResultSet{Metadata: metadataOf(&sppb.Type{Code: sppb.TypeCode_PROTO})}
	for _, r := range records {
		p.Values = append(p.Values, text(base64.StdEncoding.EncodeToString(marshal(r))))
	}
	return marshal(p)
}

func dataRecord(commit change.Timestamp, transaction string) *sppb.ChangeStreamRecord {
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_DataChangeRecord_{DataChangeRecord: &sppb.ChangeStreamRecord_DataChangeRecord{
		CommitTimestamp: protoTime(commit), RecordSequence: "00000000", ServerTransactionId: transaction, Table: "Carts",
		ColumnMetadata: []*sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata{{Name: "Id", Type: str(), IsPrimaryKey: true, OrdinalPosition: 1}},
		Mods: []*sppb.ChangeStreamRecord_DataChangeRecord_Mod{{
			Keys: []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue{{ColumnMetadataIndex: 0, Value: structpb.NewStringValue("a")}},
		}},
		ModType: 30, ValueCaptureType: 20, NumberOfRecordsInTransaction: 1, NumberOfPartitionsInTransaction: 1,
	}}}
}

func beatRecord(at change.Timestamp) *sppb.ChangeStreamRecord {
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_HeartbeatRecord_{HeartbeatRecord: &sppb.ChangeStreamRecord_HeartbeatRecord{Timestamp: protoTime(at)}}}
}

func movingReader(t *testing.T, s *script, o Options) *Reader {
	r := scriptedReader(t, s, o)
	r.info.Mutable = true
	return r
}

func wantQueries(t *testing.T, s *script, bounds ...change.Timestamp) {
	t.Helper()
	var starts, ends []string
	for i := 0; i < len(bounds); i += 2 {
		starts, ends = append(starts, micro(bounds[i])), append(ends, micro(bounds[i+1]))
	}
	if !slices.Equal(s.starts, starts) || !slices.Equal(s.ends, ends) {
		t.Fatalf("queries from %q\nthrough %q,\nwant from %q\nthrough %q", s.starts, s.ends, starts, ends)
	}
}

// Windows are chained so that no row is lost and none comes twice, whatever falls on their ends (R 59), and none follows the
// partition's end (R 60).
func TestWindowsAreChained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onEnd := []any{moving(dataRecord(10_000, "2")), moving(eventRecord(10_000, []string{"s"})), moving(dataRecord(10_000, "3")), io.EOF}
		s := &script{streams: []*scripted{
			play(append([]any{moving(dataRecord(10, "1"))}, onEnd...)...),
			play(onEnd...), // asked again, for the end was not proven
			play(moving(dataRecord(10_001, "4"), startRecord(20_000, "c"), eventRecord(20_000, nil, "c")), io.EOF),
			play(moving(startRecord(20_000, "c"), eventRecord(20_000, nil, "c")), io.EOF),
			play(moving(startRecord(20_000, "c"), eventRecord(20_000, nil, "c")), io.EOF), // the first time the start had been handed over
			play(moving(dataRecord(20_002, "6"), beatRecord(30_000)), io.EOF),             // this end is proven at once
			play(moving(beatRecord(30_100)), time.Millisecond, moving(dataRecord(30_500, "5"), eventRecord(30_500, []string{"u"}, "c"), endRecord(30_500)), io.EOF),
		}}
		got, err := readScript(t, movingReader(t, s, Options{Window: 10 * time.Millisecond}))
		must(t, err)
		joined := strings.Join(got, "|") // where frames are cut, apart from moves, is free
		if want := "2@10000 3@10000 <=10000 <-s|"; !strings.Contains(joined, want) {
			t.Errorf("no frame ends with %q in %q", want, got)
		}
		if want := "5@30500 <=30500 out <-u end"; got[len(got)-1] != want {
			t.Errorf("the last frame of %q is not %q", got, want)
		}
		seen := 0
		for n := range 6 {
			seen += strings.Count(joined, string(rune('1'+n))+"@")
		}
		if seen != 6 || strings.Count(joined, "+c") != 2 { // told again with the query that was asked again
			t.Errorf("frames %q", got)
		}
		wantQueries(t, s, 1, 10_000, 10_000, 10_000, 10_001, 20_000, 20_000, 20_000, 20_000, 20_000, 20_001, 30_000, 30_001, 40_000)
	})
}

// A query that breaks behind the announcement of the end is asked again from the end, where it still may begin (I5).
func TestEndIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(moving(dataRecord(50, "1"), endRecord(50)), time.Second, status.Error(codes.Unavailable, "broken")),
			play(moving(dataRecord(50, "1"), endRecord(50)), io.EOF),
		}}
		got, err := readScript(t, movingReader(t, s, Options{Window: 10 * time.Millisecond}))
		must(t, err)
		wantFrames(t, got, "<=49", "1@50 <=50 end")
		wantQueries(t, s, 1, 10_000, 50, 10_049)
	})
}

// A start that was told of in a frame which did not reach it is told again after a broken query.
func TestStartIsNeverPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(moving(dataRecord(10, "1"), startRecord(50, "c")), time.Second, status.Error(codes.Unavailable, "broken")),
			play(moving(startRecord(50, "c"), endRecord(60)), time.Second, io.EOF),
		}}
		got, err := readScript(t, movingReader(t, s, Options{Window: 10 * time.Millisecond}))
		must(t, err)
		wantFrames(t, got, "1@10 <=49 +c", "<=59 +c", "<=60 end")
	})
}

// A query that ends long before its end_timestamp has come proves nothing: what it did not send may still come.
func TestEarlyEndProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := change.TimestampOf(time.Now())
		s := &script{streams: []*scripted{
			play(moving(beatRecord(now+10)), io.EOF),
			play(moving(dataRecord(now+20, "1"), endRecord(now+30)), io.EOF),
		}}
		r := movingReader(t, s, Options{})
		var got []change.Timestamp
		changes := 0
		must(t, r.Read(t.Context(), part("p", now), 0, func(f *change.Frame) error {
			got = append(got, f.Through)
			changes += len(f.Changes)
			return nil
		}))
		if got[0] != now+9 || got[len(got)-1] != now+30 || changes != 1 {
			t.Fatalf("frames through %v with %d changes", got, changes)
		}
		wantQueries(t, s, now, now+20*60_000_000-1, now+10, now+10+20*60_000_000-1)
	})
}

// A query that gives up early, when its end_timestamp has long come, ends as a complete one does. What it did not send comes
// all the same, be it before, behind or at the last timestamp that it did send, and no window begins behind the partition's end.
func TestEarlyEndInThePastLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(moving(dataRecord(10, "1")), io.EOF),
			play(moving(dataRecord(10, "1"), dataRecord(10, "2")), io.EOF),
			play(moving(dataRecord(10, "1"), dataRecord(10, "2"), dataRecord(20, "3")), io.EOF),
			play(io.EOF),
			play(moving(dataRecord(20, "3"), dataRecord(30, "4"), endRecord(40)), time.Second, io.EOF),
		}}
		got, err := readScript(t, movingReader(t, s, Options{Window: 10 * time.Millisecond}))
		must(t, err)
		wantFrames(t, got, "<=9", "1@10 2@10 <=19", "3@20 4@30 <=39", "<=40 end")
		wantQueries(t, s, 1, 10_000, 10, 10_000, 10, 10_000, 20, 10_000, 20, 10_000)
	})
}

// A bounded read is complete once its query has ended well and another has said the same, although its last row lies before
// the end (R 50). It is asked for nothing more, and a partition that goes on lives on.
func TestEndOfReading(t *testing.T) {
	for _, mutable := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			first := []any{message(cart(10, "1", "a").row(), cart(50, "2", "a").row()), io.EOF}
			second := []any{message(childRow(40, childC)), io.EOF}
			if mutable {
				first[0] = moving(dataRecord(10, "1"), dataRecord(50, "2"))
				second[0] = moving(endRecord(40))
			}
			again := []any{message(cart(50, "2", "a").row()), io.EOF}
			if mutable {
				again[0] = moving(dataRecord(50, "2"))
			}
			s := &script{streams: []*scripted{play(first...), play(again...), play(second...)}}
			r := scriptedReader(t, s, Options{End: 60})
			r.info.Mutable = mutable
			got, err := readScript(t, r)
			must(t, err)
			if last := got[len(got)-1]; !strings.HasSuffix(last, "<=60") {
				t.Errorf("the last of %q does not end at 60", got)
			}
			if joined := strings.Join(got, " "); !strings.Contains(joined, "1@10") || !strings.Contains(joined, "2@50") {
				t.Errorf("frames %q", got)
			}
			must(t, r.Read(t.Context(), part("p", 1), 60, func(*change.Frame) error { return errors.New("read on behind the end") }))
			wantQueries(t, s, 1, 60, 50, 60)
			// A partition that ends before the end of reading ends as always.
			got, err = readScript(t, r)
			must(t, err)
			if last := got[len(got)-1]; !strings.HasSuffix(last, " end") {
				t.Errorf("the last of %q is not the partition's end", got)
			}
		})
	}
}

func TestQueriesOfBothDialects(t *testing.T) {
	for _, c := range []struct {
		dialect dialect
		mutable bool
		sql     string
		names   []string
	}{
		{googleSQL, false, "SELECT ChangeRecord FROM READ_S(start_timestamp => @start, end_timestamp => @end, partition_token => @token, heartbeat_milliseconds => @heartbeat)", []string{"start", "end", "token", "heartbeat"}},
		{googleSQL, true, "SELECT ChangeRecord FROM READ_S(start_timestamp => @start, end_timestamp => @end, partition_token => @token, heartbeat_milliseconds => @heartbeat)", []string{"start", "end", "token", "heartbeat"}},
		{postgreSQL, false, `SELECT * FROM "spanner"."read_json_S"($1, $2, $3, $4, NULL)`, []string{"p1", "p2", "p3", "p4"}},
		{postgreSQL, true, `SELECT * FROM "spanner"."read_proto_bytes_S"($1, $2, $3, $4, NULL)`, []string{"p1", "p2", "p3", "p4"}},
	} {
		req := c.dialect.readStream("S", c.mutable, 1, 2, "token", time.Second)
		if req.Sql != c.sql {
			t.Errorf("got %s\nwant %s", req.Sql, c.sql)
		}
		for i, want := range []string{micro(1), micro(2), "token", "1000"} {
			if got := req.Params.Fields[c.names[i]].GetStringValue(); got != want {
				t.Errorf("%v: parameter %s is %q, want %q", c.dialect, c.names[i], got, want)
			}
		}
		open := c.dialect.readStream("S", c.mutable, 1, 0, "", time.Second)
		for _, i := range []int{1, 2} {
			if _, null := open.Params.Fields[c.names[i]].GetKind().(*structpb.Value_NullValue); !null {
				t.Errorf("%v: without an end and a token parameter %s is not NULL", c.dialect, c.names[i])
			}
		}
	}
}

package changestream

import (
	"context"
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

func wantQueries(t *testing.T, s *script, starts ...change.Timestamp) {
	t.Helper()
	var want []string
	for _, at := range starts {
		want = append(want, micro(at))
	}
	if !slices.Equal(s.starts, want) {
		t.Fatalf("queries from %q,\nwant from %q", s.starts, want)
	}
}

// Windows are chained so that no row is lost and none comes twice, whatever falls on their ends (R 59), and none follows the
// partition's end (R 60). Each reaches as far ahead of Spanner's clock.
func TestWindowsAreChained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 2 * time.Second
		onEnd := []any{moving(dataRecord(10_000, "2")), moving(eventRecord(10_000, []string{"s"})), moving(dataRecord(10_000, "3"))}
		inMidlife := []any{moving(startRecord(20_000, "c"), eventRecord(20_000, nil, "c"))}
		s := &script{streams: []*scripted{
			play(slices.Concat([]any{moving(dataRecord(10, "1"))}, onEnd, []any{window, io.EOF})...),
			play(slices.Concat(onEnd, []any{moving(dataRecord(10_001, "4"))}, inMidlife, []any{window, io.EOF})...),
			play(slices.Concat(inMidlife, []any{moving(dataRecord(20_002, "6"), beatRecord(30_000)), window, io.EOF})...),
			play(moving(beatRecord(30_100)), time.Millisecond, moving(dataRecord(30_500, "5"), eventRecord(30_500, []string{"u"}, "c"), endRecord(30_500)), io.EOF),
		}}
		began := change.TimestampOf(time.Now())
		r := movingReader(t, s, Options{Window: window, OnRetry: func(_ string, _ int, err error) { t.Errorf("a window's end counts as a failure: %v", err) }})
		got, err := readScript(t, r)
		must(t, err)
		joined := strings.Join(got, "|") // where frames are cut, apart from moves, is free
		if want := "2@10000 3@10000 <=10000 <-s|"; !strings.Contains(strings.ReplaceAll(joined, " +c", ""), want) {
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
		wantQueries(t, s, 1, 10_000, 20_000, 30_000)
		for i, end := range s.ends {
			if want := began + change.Timestamp(i+1)*change.Timestamp(window.Microseconds()); end != micro(want) {
				t.Errorf("query %d reaches to %s, want %s", i, end, micro(want))
			}
		}
	})
}

// A query that breaks behind the announcement of the end is asked again from the end, where it still may begin (I5).
func TestEndIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(moving(dataRecord(50, "1"), endRecord(50)), time.Second, status.Error(codes.Unavailable, "broken")),
			play(moving(dataRecord(50, "1"), endRecord(50)), io.EOF),
		}}
		got, err := readScript(t, movingReader(t, s, Options{}))
		must(t, err)
		wantFrames(t, got, "<=49", "1@50 <=50 end")
		wantQueries(t, s, 1, 50)
	})
}

// A start that was told of in a frame which did not reach it is told again after a broken query.
func TestStartIsNeverPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(moving(dataRecord(10, "1"), startRecord(50, "c")), time.Second, status.Error(codes.Unavailable, "broken")),
			play(moving(startRecord(50, "c"), endRecord(60)), time.Second, io.EOF),
		}}
		got, err := readScript(t, movingReader(t, s, Options{}))
		must(t, err)
		wantFrames(t, got, "1@10 <=49 +c", "<=59 +c", "<=60 end")
	})
}

// A query that gives up early, be it before or long after its end_timestamp has come, ends as a complete one does. What it did
// not send comes all the same, be it before, behind or at the last timestamp that it did send, and no window begins behind the
// partition's end. One that brings nothing new is not asked again at once.
func TestEarlyEndLosesNothing(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{streams: []*scripted{
				play(moving(dataRecord(10, "1")), pause, io.EOF),
				play(moving(dataRecord(10, "1"), dataRecord(10, "2")), pause, io.EOF),
				play(moving(dataRecord(10, "1")), pause, io.EOF), // it may even say less
				play(moving(dataRecord(10, "1"), dataRecord(10, "2"), dataRecord(20, "3")), pause, io.EOF),
				play(pause, io.EOF),
				play(moving(dataRecord(20, "3"), dataRecord(30, "4"), endRecord(40)), time.Second, io.EOF),
			}}
			var attempts []int
			got, err := readScript(t, movingReader(t, s, Options{Window: 2 * time.Second, OnRetry: func(_ string, attempt int, _ error) { attempts = append(attempts, attempt) }}))
			must(t, err)
			wantFrames(t, got, "<=9", "1@10 2@10 <=19", "3@20 4@30 <=39", "<=40 end")
			wantQueries(t, s, 1, 10, 10, 10, 20, 20)
			if want := []int{1, 2, 1}; !slices.Equal(attempts, want) {
				t.Errorf("attempts %v, want %v", attempts, want)
			}
		})
	}
}

// Long before its end_timestamp such an end is told of as the failure it is, and Spanner's clock says when that is.
func TestEarlyEndIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(moving(beatRecord(10)), io.EOF),
			play(moving(dataRecord(20, "1"), endRecord(30)), io.EOF),
		}}
		var failures []error
		r := movingReader(t, s, Options{OnRetry: func(_ string, _ int, err error) { failures = append(failures, err) }})
		const ahead = change.Timestamp(3_600_000_000)
		asked := 0
		r.clock.ask = func(context.Context) (change.Timestamp, error) {
			asked++
			return change.TimestampOf(time.Now()) + ahead, nil
		}
		first := change.TimestampOf(time.Now()) + ahead + 20*60_000_000
		got, err := readScript(t, r)
		must(t, err)
		if n := strings.Count(strings.Join(got, " "), "1@20"); n != 1 || got[0] != "<=9" || !strings.HasSuffix(got[len(got)-1], "<=30 end") {
			t.Errorf("frames %q", got)
		}
		if len(failures) != 1 || !errors.Is(failures[0], errEarly) || s.ends[0] != micro(first) || asked != 2 {
			t.Errorf("failures %v, the first query reached to %s, the clock was asked %d times", failures, s.ends[0], asked)
		}
	})
}

// A read with an end is complete once something proves the end, although the last change lies before it (R 50). Nothing
// committed behind it is handed over, nothing more is asked for, and a partition that goes on lives on.
func TestEndOfReading(t *testing.T) {
	for _, mutable := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			record := func(c testRecord) []byte {
				if mutable {
					return moving(dataRecord(c.commit, c.tx))
				}
				return message(c.row())
			}
			end := func(last change.Timestamp) []byte {
				if mutable {
					return moving(endRecord(last))
				}
				return message(childRow(last+1, part("c", last+1, "p")))
			}
			first, last, behind := record(cart(10, "1", "a")), record(cart(50, "2", "a")), record(cart(70, "3", "a"))
			s := &script{}
			read := func(want string, starts []change.Timestamp, streams ...*scripted) {
				t.Helper()
				s.starts, s.streams = nil, streams
				r := scriptedReader(t, s, Options{End: 60})
				r.info.Mutable = mutable
				got, err := readScript(t, r)
				must(t, err)
				joined := strings.Join(got, " ")
				if !strings.HasSuffix(joined, want) || strings.Count(joined, "1@10") != 1 || strings.Contains(joined, "3@70") {
					t.Errorf("frames %q, want the last to be %q", got, want)
				}
				wantQueries(t, s, starts...)
				must(t, r.Read(t.Context(), part("p", 1), 60, func(*change.Frame) error { return errors.New("read on behind the end") }))
			}
			read("2@50 <=60", []change.Timestamp{1, 50}, play(first, last, io.EOF), play(last, behind))
			// A partition that ends at or before the end of reading ends as always; one that ends later lives on.
			children := ""
			if !mutable {
				children = " +c"
			}
			read("<=40"+children+" end", []change.Timestamp{1}, play(first, end(40), io.EOF))
			read("<=60"+children+" end", []change.Timestamp{1}, play(first, end(60), io.EOF))
			read("<=60", []change.Timestamp{1}, play(first, end(80), io.EOF))
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

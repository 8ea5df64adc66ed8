package changestream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// pitfalls are the traps that readers of change streams have fallen into, each with the test named for it and the package
// that has it, below the module's root.
var pitfalls = []struct{ pitfall, pkg, test string }{
	{"start and end are inclusive, so that windows and resumed queries repeat rows at their border", "changestream", "TestPitfallBoundaryRepeats"},
	{"an end taken as exclusive drops the last row", "changestream", "TestPitfallLastRowBeforeTheEnd"},
	{"several transactions share a commit timestamp", "changestream", "TestPitfallEqualCommitTimestamps"},
	{"a query with an end ends well before it", "changestream", "TestPitfallBoundedEnd"},
	{"an unbounded query ends well without children", "changestream", "TestPitfallEndWithoutChildren"},
	{"a query from the partition's end returns its children only", "changestream", "TestPitfallStartAtTheEnd"},
	{"a deadline on the query", "changestream", "TestPitfallDeadline"},
	{"UNAVAILABLE, INTERNAL, RESOURCE_EXHAUSTED, ABORTED pass", "changestream", "TestPitfallPassingErrors"},
	{"CANCELLED may come from the server", "changestream", "TestPitfallCancelledByTheServer"},
	{"a dead stream looks like an idle one", "changestream", "TestPitfallDeadStream"},
	{"the retention has passed", "changestream", "TestPitfallRetentionExpiry"},
	{"tokens vanish with the stream", "changestream", "TestPitfallTokensVanish"},
	{"a start in the future", "changestream", "TestPitfallStartInTheFuture"},
	{"a start before the stream's creation", "changestream", "TestPitfallStartBeforeCreation"},
	{"idle partitions hold the watermark", "changestream", "TestPitfallIdlePartitions"},
	{"too many heartbeats", "changestream", "TestPitfallHeartbeatsTooFrequent"},
	{"the watermark goes back", "changestream", "TestPitfallWatermarkGoesBack"},
	{"children are stored after their parent is finished", "pipeline", "TestPitfallCheckpointOrder"},
	{"the schema changes in mid-stream", "changestream", "TestPitfallSchemaChange"},
	{"large transactions and rows", "changestream", "TestPitfallLargeRow"},
	{"the reader's own state is in the stream", "app", "TestPitfallOwnMetadataTable"},
	{"filters and the record counters", "pipeline/filter", "TestPitfallFiltersAndCounters"},
	{"more than 20 concurrent readers of a partition", "changestream", "TestPitfallConcurrentReaders"},
	{"more streams than a connection carries", "changestream", "TestPitfallStreamsPerConnection"},
	{"unknown enum values", "changestream", "TestPitfallUnknownEnumValues"},
	{"the precision of INT64", "changestream", "TestPitfallInt64Precision"},
	{"numbers in JSON become floating point", "changestream", "TestPitfallNullJSON"},
	{"names of mixed case in the PostgreSQL dialect", "changestream", "TestPitfallPostgreSQLNames"},
	{"delivery at least once", "changestream", "TestPitfallDelivery"},
}

func TestEveryPitfallHasItsTest(t *testing.T) {
	for _, p := range pitfalls {
		if !hasTest(t, p.pkg, p.test) {
			t.Errorf("%s: package %s has no %s", p.pitfall, p.pkg, p.test)
		}
	}
}

// protoAppend is protoRecord's data change record with more fields.
func protoAppend(fields []byte) string {
	b, err := base64.StdEncoding.DecodeString(protoRecord())
	if err != nil {
		panic(err)
	}
	_, _, n := protowire.ConsumeTag(b)
	data, _ := protowire.ConsumeBytes(b[n:])
	data = append(slices.Clone(data), fields...)
	return base64.StdEncoding.EncodeToString(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), data))
}

// readPlay reads partition p, which starts at 1, from these streams.
func readPlay(t *testing.T, o Options, streams ...*scripted) (frames []string, starts []string, err error) {
	t.Helper()
	s := &script{streams: streams}
	frames, err = readScript(t, scriptedReader(t, s, o))
	return frames, s.starts, err
}

func TestPitfallBoundaryRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := status.Error(codes.Unavailable, "broken")
		frames, starts, err := readPlay(t, Options{},
			play(message(cart(10, "1", "a").row()), message(heartbeatRow("1970-01-01T00:00:00.0000105Z")), time.Second, broken),
			play(message(cart(12, "2", "a").row()), message(childRow(100, childC)), io.EOF))
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(frames, " "); strings.Count(all, "1@10") != 1 || strings.Count(all, "2@12") != 1 {
			t.Errorf("frames: %q", frames)
		}
		// Everything through 10 is promised, so the next query begins just behind it and repeats nothing.
		if want := []string{micro(1), micro(11)}; !slices.Equal(starts, want) {
			t.Errorf("queries from %q, want %q", starts, want)
		}
	})
}

func TestPitfallLastRowBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frames, _, err := readPlay(t, Options{}, play(message(cart(99, "1", "a").row()), message(childRow(100, childC)), io.EOF))
		if err != nil || !strings.Contains(strings.Join(frames, " "), "1@99") {
			t.Fatalf("frames %q: %v", frames, err)
		}
	})
}

// A read with an end is complete once something proves the end, however long before it the last row was; to wait for a row at
// the end would be for ever. No end of a query is proof, broken or good.
func TestPitfallBoundedEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frames, starts, err := readPlay(t, Options{End: 99},
			play(message(cart(10, "1", "a").row()), time.Second, status.Error(codes.Unavailable, "broken")),
			play(message(cart(10, "1", "a").row()), io.EOF), play(message(cart(10, "1", "a").row()), time.Second, message(heartbeatRow("1970-01-01T00:00:00.000200Z"))))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{micro(1), micro(10), micro(10)}; !slices.Equal(starts, want) {
			t.Errorf("queries from %q, want %q", starts, want)
		}
		if n := len(frames); strings.Count(strings.Join(frames, " "), "1@10") != 1 || !strings.HasSuffix(frames[n-1], "<=99") {
			t.Errorf("frames: %q", frames)
		}
	})
}

// A query that breaks between two transactions of one commit timestamp: both come, once, and in position order.
func TestPitfallEqualCommitTimestamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frames, starts, err := readPlay(t, Options{},
			play(message(cart(10, "2", "a").row()), time.Second, status.Error(codes.Unavailable, "broken")),
			play(message(cart(10, "2", "a").row()), message(cart(10, "1", "b").row()), message(childRow(100, childC)), io.EOF))
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(frames, " "); strings.Count(all, "@10") != 2 || !strings.Contains(all, "1@10 2@10") {
			t.Errorf("frames: %q", frames)
		}
		if starts[1] != micro(10) {
			t.Errorf("the second query began at %s: a row at 10 promises 9", starts[1])
		}
	})
}

// No deadline is set (TestQueryOnTheWire looks on the wire); one that someone else has set, such as a proxy, passes.
func TestPitfallDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beat := func(second int) []byte {
			return message(heartbeatRow(time.Unix(int64(second), 0).UTC().Format(time.RFC3339)))
		}
		var steps []any
		for i := range 10_000 { // almost three hours
			steps = append(steps, time.Second, beat(i+1))
		}
		end := change.Timestamp(20_000_000_000)
		frames, starts, err := readPlay(t, Options{}, play(append(steps, status.Error(codes.DeadlineExceeded, "too slow"))...),
			play(message(childRow(end, part("c", end))), io.EOF))
		if err != nil || len(frames) < 10_000 || len(starts) != 2 {
			t.Fatalf("%d frames by %d queries: %v", len(frames), len(starts), err)
		}
	})
}

func TestPitfallRetentionExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, starts, err := readPlay(t, Options{}, play(message(cart(10, "1", "a").row()), message(cart(20, "2", "a").row()), time.Second,
			status.Error(codes.OutOfRange, "start_timestamp is too far in the past")))
		var lost *LostError
		if !errors.As(err, &lost) || lost.From != 20 || len(starts) != 1 {
			t.Fatalf("got %v; want what is lost from 20 on, at once", err)
		}
	})
}

func TestPitfallStartBeforeCreation(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	start := change.TimestampOf(time.Now().Add(-time.Hour))
	var lost *LostError
	if _, err := r.Partitions(t.Context(), start); !errors.As(err, &lost) || lost.From != start || !strings.Contains(err.Error(), "made later") {
		t.Fatalf("got %v", err)
	}
}

func TestPitfallIdlePartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		graph := NewGraph()
		graph.Add(part("p", 1))
		graph.Startable()
		var marks []change.Timestamp
		s := &script{streams: []*scripted{play(time.Second, message(heartbeatRow("1970-01-01T00:00:01.5Z")), time.Second,
			message(heartbeatRow("1970-01-01T00:00:02.5Z")), time.Second, message(childRow(3_000_000, part("c", 3_000_000))), io.EOF)}}
		err := scriptedReader(t, s, Options{}).Read(t.Context(), part("p", 1), 0, func(f *change.Frame) error {
			graph.Promise(f.Token, f.Through)
			marks = append(marks, graph.Watermark())
			return nil
		})
		if want := []change.Timestamp{1_499_999, 2_499_999, 2_999_999}; err != nil || !slices.Equal(slices.Compact(marks), want) {
			t.Fatalf("watermarks %v, want %v: %v", marks, want, err)
		}
	})
}

// Heartbeats that have piled up are one frame, and Spanner is not asked for more than it takes.
func TestPitfallHeartbeatsTooFrequent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []any
		for i := range 1000 {
			steps = append(steps, message(heartbeatRow(change.Timestamp(10+i).String())))
		}
		s := &script{streams: []*scripted{play(append(steps, message(childRow(10_000, part("c", 10_000))), io.EOF)...)}}
		frames := 0
		err := scriptedReader(t, s, Options{}).Read(t.Context(), part("p", 1), 0, func(*change.Frame) error {
			frames++
			time.Sleep(time.Second) // the receiver is busy meanwhile
			return nil
		})
		if err != nil || frames > 50 {
			t.Fatalf("%d frames for 1000 heartbeats: %v", frames, err)
		}
	})
	for heartbeat, ok := range map[time.Duration]bool{99 * time.Millisecond: false, 100 * time.Millisecond: true, 5 * time.Minute: true, 6 * time.Minute: false, 0: true} {
		o, err := Options{Database: testDatabase, Stream: "S", Heartbeat: heartbeat}.withDefaults()
		if (err == nil) != ok || heartbeat == 0 && o.Heartbeat != time.Second {
			t.Errorf("a heartbeat of %v: %v", heartbeat, err)
		}
	}
}

func TestPitfallWatermarkGoesBack(t *testing.T) {
	g := NewGraph()
	g.Add(part("p", 1))
	g.Startable()
	g.Promise("p", 50)
	g.Promise("p", 40)
	if w := g.Watermark(); w != 50 {
		t.Errorf("the watermark went back to %d", w)
	}
	f := newFramer("p", 0, 1<<20)
	f.heartbeat(50)
	first := f.cut()
	f.heartbeat(40)
	if again := f.cut(); first.Through != 50 || again != nil {
		t.Errorf("frames %+v, then %+v", first, again)
	}
	if err := f.begin(50); err == nil {
		t.Error("a change at 50 was taken after the promise of everything through 50")
	}
}

// One column changes its type, one is dropped, one added: each record is decoded by itself alone.
func TestPitfallSchemaChange(t *testing.T) {
	old := cart(10, "1", "a")
	retyped := cart(20, "2", "a")
	retyped.columns = []testColumn{{"CartId", `{"code":"STRING"}`, true}, {"Items", `{"code":"STRING"}`, false}, {"Added", `{"code":"BOOL"}`, false}}
	retyped.mods[0].after, retyped.mods[0].before = `{"Items":"many","Added":true}`, `{"Items":"1"}`
	changes := decodeAll(t, newTestDecoder(), message(old.row(), retyped.row(), cart(30, "3", "a").row()))
	var got []string
	for _, c := range changes {
		for i, v := range c.After {
			if v != nil {
				got = append(got, fmt.Sprintf("%s %s=%s", c.Table.Columns[i].Type, c.Table.Columns[i].Name, v))
			}
		}
	}
	want := []string{`INT64 Items="1"`, `STRING Note=null`, `STRING Items="many"`, `BOOL Added=true`, `INT64 Items="1"`, `STRING Note=null`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// A row of 9 MB, above gRPC's usual limit of 4 MiB a message.
func TestPitfallLargeRow(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	start, err := r.Now(t.Context())
	w.must(err)
	note := strings.Repeat("0123456789", 240_000)
	_, err = w.client.Apply(t.Context(), []*spanner.Mutation{spanner.InsertMap("Carts", map[string]any{"CartId": "a", "Note": note, "Tags": []string{note, note, note}})})
	w.must(err)
	partitions, err := r.Partitions(t.Context(), start)
	w.must(err)
	enough := errors.New("enough")
	err = r.Read(t.Context(), partitions[0], start-1, func(f *change.Frame) error {
		if len(f.Changes) == 0 {
			return nil
		}
		c := f.Changes[0]
		if got := c.After.At(c.Table.Index("Tags")); len(got) != 3*(len(note)+3)+1 || f.Bytes < 4*len(note) {
			t.Errorf("%d bytes came in a frame of %d", len(got), f.Bytes)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
}

// However often a partition is read again, it is read once at a time.
func TestPitfallConcurrentReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := status.Error(codes.Unavailable, "broken")
		streams := []*scripted{play(broken), play(message(cart(10, "1", "a").row())), play(io.EOF), play(message(childRow(100, childC)), io.EOF)}
		s := &script{streams: slices.Clone(streams)}
		s.opened = func(n int) {
			for _, earlier := range streams[:n] {
				select {
				case <-earlier.closed:
				default:
					t.Errorf("query %d was asked while an earlier one was open", n)
				}
			}
		}
		if _, err := readScript(t, scriptedReader(t, s, Options{})); err != nil || len(s.starts) != 4 {
			t.Fatalf("%d queries: %v", len(s.starts), err)
		}
	})
}

// Values that a later Spanner may send: they stop the reader, or pass, by choice. So do fields, which pass unless told.
func TestPitfallUnknownEnumValues(t *testing.T) {
	op := cart(10, "1", "a")
	op.op = "UPSERT"
	capture := cart(10, "1", "a")
	capture.capture = "NEW_DIFF"
	typ := recordType()
	record := typ.ArrayElementType.StructType
	record.Fields = append(record.Fields, &sppb.StructType_Field{Name: "news_record", Type: arrayOf(structType(namedType{"x", str()}))})
	kind := marshal(&sppb.PartialResultSet{Metadata: metadataOf(typ), Values: []*structpb.Value{listOf(listOf(listOf(), listOf(), listOf(), listOf(listOf(text("x")))))}})
	withField := recordType()
	data := withField.ArrayElementType.StructType.Fields[0].Type.ArrayElementType.StructType
	data.Fields = append(data.Fields, &sppb.StructType_Field{Name: "news", Type: str()})
	pg := func(s string) []byte {
		return marshal(&sppb.PartialResultSet{Metadata: metadataOf(pgType()), Values: []*structpb.Value{text(s)}})
	}
	newEnum := protowire.AppendVarint(protowire.AppendTag(nil, 8, protowire.VarintType), 70)
	for name, c := range map[string]struct {
		message []byte
		field   bool // it is a field, not a value
		changes int
	}{
		"operation":        {message: message(op.row()), changes: 1},
		"capture type":     {message: message(capture.row()), changes: 1},
		"record":           {message: kind},
		"PG operation":     {message: pg(op.pg("Z")), changes: 1},
		"PG record":        {message: pg(`{"news_record":{}}`)},
		"proto operation":  {message: protoMessage(protoAppend(newEnum)), changes: 1},
		"field":            {message: marshal(&sppb.PartialResultSet{Metadata: metadataOf(withField), Values: []*structpb.Value{cart(10, "1", "a").row()}}), field: true, changes: 1},
		"PG field":         {message: pg(strings.Replace(cart(10, "1", "a").pg("Z"), `"table_name"`, `"news":[],"table_name"`, 1)), field: true, changes: 1},
		"PG field of mod":  {message: pg(strings.Replace(cart(10, "1", "a").pg("Z"), `"new_values"`, `"news":1,"new_values"`, 1)), field: true, changes: 1},
		"PG field of type": {message: pg(strings.Replace(cart(10, "1", "a").pg("Z"), `"is_primary_key"`, `"news":1,"is_primary_key"`, 1)), field: true, changes: 1},
		"proto field":      {message: protoMessage(protoAppend(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "news"))), field: true, changes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestDecoder()
			d.pass, d.strict = !c.field, c.field
			err := d.message(c.message)
			if c.field == (err == nil) {
				t.Errorf("pass %v, strict %v: %v", d.pass, d.strict, err)
			}
			if !c.field && len(d.frames.held) != c.changes {
				t.Errorf("%d changes", len(d.frames.held))
			}
			d = newTestDecoder()
			var decode *DecodeError
			if err = d.message(c.message); c.field != (err == nil) || err != nil && !(errors.As(err, &decode) && strings.Contains(err.Error(), "does not know")) {
				t.Errorf("by default: %v", err)
			}
			if c.field && len(d.frames.held) != c.changes {
				t.Errorf("%d changes", len(d.frames.held))
			}
		})
	}
}

func TestPitfallInt64Precision(t *testing.T) {
	r := cart(10, "1", "a")
	r.mods[0].after = `{"Items":"9223372036854775807","Note":null}`
	r.mods[0].before = `{"Items":"-9007199254740993"}`
	pg := marshal(&sppb.PartialResultSet{Metadata: metadataOf(pgType()), Values: []*structpb.Value{text(strings.Replace(r.pg("Z"), `"9223372036854775807"`, "9223372036854775807", 1))}})
	for form, m := range map[string][]byte{`"9223372036854775807"`: message(r.row()), `9223372036854775807`: pg} { // a number where it comes as one
		c := decodeAll(t, newTestDecoder(), m)[0]
		if got := string(c.After.At(c.Table.Index("Items"))); got != form {
			t.Errorf("got %s, want %s", got, form)
		}
		if got := string(c.Before.At(c.Table.Index("Items"))); got != `"-9007199254740993"` {
			t.Errorf("got %s", got)
		}
	}
}

// Keys and values stay the text that Spanner sent: no number is turned into floating point and back.
func TestPitfallNullJSON(t *testing.T) {
	r := cart(10, "1", "a")
	r.columns = []testColumn{{"CartId", `{"code":"FLOAT64"}`, true}, {"Items", `{"code":"JSON"}`, false}}
	r.mods[0] = testMod{keys: `{"CartId":1.0}`, after: `{"Items":"{\"n\":12345678901234567890.10}"}`}
	c := decodeAll(t, newTestDecoder(), message(r.row()))[0]
	if string(c.Key[0]) != "1.0" || string(c.After.At(c.Table.Index("Items"))) != `"{\"n\":12345678901234567890.10}"` {
		t.Errorf("key %s, value %s", c.Key[0], c.After.At(c.Table.Index("Items")))
	}
}

func TestPitfallPostgreSQLNames(t *testing.T) {
	req := postgreSQL.readStream("MixedCase", false, 1, 0, "t", time.Second)
	if !strings.Contains(req.GetSql(), `"spanner"."read_json_MixedCase"(`) {
		t.Errorf("%s", req.GetSql())
	}
	for _, bad := range []string{`a"b`, "a b", "a;", ""} { // the name stands in the query's text
		if _, err := (Options{Database: testDatabase, Stream: bad}).withDefaults(); err == nil {
			t.Errorf("the name %q passes", bad)
		}
	}
}

// Whatever is delivered again has the same identity.
func TestPitfallDelivery(t *testing.T) {
	rows := message(cart(10, "2", "a").row(), cart(10, "1", "b").row(), everyTypeRecord().row())
	var ids [2][]string
	for i := range ids {
		d := newTestDecoder()
		d.token = fmt.Sprint("partition ", i)
		for _, c := range decodeAll(t, d, rows) {
			ids[i] = append(ids[i], c.ID())
		}
	}
	if len(ids[0]) != 4 || !slices.Equal(ids[0], ids[1]) || len(slices.Compact(slices.Sorted(slices.Values(ids[0])))) != 4 {
		t.Errorf("identities %q and %q", ids[0], ids[1])
	}
}

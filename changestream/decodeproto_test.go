package changestream

import (
	"encoding/base64"
	"testing"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/change"
)

func protoMessage(record string) []byte {
	return marshal(&sppb.PartialResultSet{Metadata: metadataOf(&sppb.Type{Code: sppb.TypeCode_PROTO}), Values: []*structpb.Value{text(record)}})
}

func TestDecodeMutableForm(t *testing.T) {
	got := flatten(t, decodeAll(t, newTestDecoder(), protoMessage(protoRecord())))
	want := []flat{{
		Position: change.Position{Commit: 1_000_005, Transaction: "7", Sequence: "00000000"}.String(), Table: "Carts", Op: "UPDATE",
		Capture: "OLD_AND_NEW_VALUES", Tag: "tag", System: true, Records: 3, Partitions: 2, Key: map[string]any{"Id": "12"},
		After:  map[string]any{"Note": "a \"b\"\\\n\x01é", "Sizes": []any{1e6, "NaN", nil, -0.5}},
		Before: map[string]any{"Note": nil},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestDecodeMutableHeartbeatAndEvents(t *testing.T) {
	d := newTestDecoder()
	beat := &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_HeartbeatRecord_{HeartbeatRecord: &sppb.ChangeStreamRecord_HeartbeatRecord{Timestamp: &timestamppb.Timestamp{Seconds: 2, Nanos: 1999}}}}
	if err := d.message(protoMessage(base64.StdEncoding.EncodeToString(marshal(beat)))); err != nil {
		t.Fatal(err)
	}
	if d.frames.proven != 2_000_001 {
		t.Fatalf("the heartbeat proved %d", d.frames.proven)
	}
	sent := func(m *sppb.ChangeStreamRecord) error {
		return d.message(protoMessage(base64.StdEncoding.EncodeToString(marshal(m))))
	}
	for what, m := range map[string]*sppb.ChangeStreamRecord{
		"a start without its time":  {Record: &sppb.ChangeStreamRecord_PartitionStartRecord_{PartitionStartRecord: &sppb.ChangeStreamRecord_PartitionStartRecord{PartitionTokens: []string{"a"}}}},
		"a start of nothing":        startRecord(3_000_000),
		"a start without a token":   startRecord(3_000_000, ""),
		"an event without its time": {Record: &sppb.ChangeStreamRecord_PartitionEventRecord_{PartitionEventRecord: &sppb.ChangeStreamRecord_PartitionEventRecord{}}},
		"a move-in from nowhere":    eventRecord(3_000_000, []string{""}),
		"an end without its time":   {Record: &sppb.ChangeStreamRecord_PartitionEndRecord_{PartitionEndRecord: &sppb.ChangeStreamRecord_PartitionEndRecord{}}},
	} {
		if err := sent(m); err == nil {
			t.Errorf("%s is no error", what)
		}
	}
	for _, m := range []*sppb.ChangeStreamRecord{startRecord(3_000_000, "a", "b"), eventRecord(3_000_000, []string{"s"}, "a", "b"), endRecord(3_000_000)} {
		must(t, sent(m))
	}
	if got := finished(t, d.frames); len(got) != 1 || logFrame(got[0]) != "<=3000000 +a +b out <-s end" || got[0].Children[1].Start != 3_000_000 {
		t.Fatalf("frames %+v", got)
	}
}

func protoTime(t change.Timestamp) *timestamppb.Timestamp { return timestamppb.New(t.Time()) }

func startRecord(at change.Timestamp, tokens ...string) *sppb.ChangeStreamRecord {
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_PartitionStartRecord_{PartitionStartRecord: &sppb.ChangeStreamRecord_PartitionStartRecord{
		StartTimestamp: protoTime(at), RecordSequence: "00000000", PartitionTokens: tokens,
	}}}
}

func eventRecord(at change.Timestamp, sources []string, destinations ...string) *sppb.ChangeStreamRecord {
	e := &sppb.ChangeStreamRecord_PartitionEventRecord{CommitTimestamp: protoTime(at), RecordSequence: "00000001", PartitionToken: "p"}
	for _, s := range sources {
		e.MoveInEvents = append(e.MoveInEvents, &sppb.ChangeStreamRecord_PartitionEventRecord_MoveInEvent{SourcePartitionToken: s})
	}
	for _, s := range destinations {
		e.MoveOutEvents = append(e.MoveOutEvents, &sppb.ChangeStreamRecord_PartitionEventRecord_MoveOutEvent{DestinationPartitionToken: s})
	}
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_PartitionEventRecord_{PartitionEventRecord: e}}
}

func endRecord(at change.Timestamp) *sppb.ChangeStreamRecord {
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_PartitionEndRecord_{PartitionEndRecord: &sppb.ChangeStreamRecord_PartitionEndRecord{
		EndTimestamp: protoTime(at), RecordSequence: "00000002", PartitionToken: "p",
	}}}
}

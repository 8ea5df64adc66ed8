package changestream

import (
	"encoding/base64"
	"errors"
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
	start := &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_PartitionStartRecord_{PartitionStartRecord: &sppb.ChangeStreamRecord_PartitionStartRecord{PartitionTokens: []string{"a"}}}}
	var unsupported *UnsupportedError
	if err := d.message(protoMessage(base64.StdEncoding.EncodeToString(marshal(start)))); !errors.As(err, &unsupported) {
		t.Fatalf("got %v, want an UnsupportedError", err)
	}
}

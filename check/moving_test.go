package check

import (
	"encoding/base64"
	"strings"
	"testing"

	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/change"
)

// The records of the tests, at microseconds behind worldStart.

func protoTime(at int) *timestamppb.Timestamp {
	return timestamppb.New((worldStart + change.Timestamp(at)).Time())
}

func heartbeatAt(at int) *sppb.ChangeStreamRecord {
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_HeartbeatRecord_{HeartbeatRecord: &sppb.ChangeStreamRecord_HeartbeatRecord{Timestamp: protoTime(at)}}}
}

func startAt(at int, tokens ...string) *sppb.ChangeStreamRecord {
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_PartitionStartRecord_{PartitionStartRecord: &sppb.ChangeStreamRecord_PartitionStartRecord{
		StartTimestamp: protoTime(at), PartitionTokens: tokens}}}
}

func endAt(at int, token string) *sppb.ChangeStreamRecord {
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_PartitionEndRecord_{PartitionEndRecord: &sppb.ChangeStreamRecord_PartitionEndRecord{
		EndTimestamp: protoTime(at), PartitionToken: token}}}
}

func eventAt(at int, token, from, to string) *sppb.ChangeStreamRecord {
	e := &sppb.ChangeStreamRecord_PartitionEventRecord{CommitTimestamp: protoTime(at), PartitionToken: token}
	if from != "" {
		e.MoveInEvents = append(e.MoveInEvents, &sppb.ChangeStreamRecord_PartitionEventRecord_MoveInEvent{SourcePartitionToken: from})
	}
	if to != "" {
		e.MoveOutEvents = append(e.MoveOutEvents, &sppb.ChangeStreamRecord_PartitionEventRecord_MoveOutEvent{DestinationPartitionToken: to})
	}
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_PartitionEventRecord_{PartitionEventRecord: e}}
}

func dataAt(at int) *sppb.ChangeStreamRecord {
	str, i64 := &sppb.Type{Code: sppb.TypeCode_STRING}, &sppb.Type{Code: sppb.TypeCode_INT64}
	value := func(column int32, v string) []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue {
		return []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue{{ColumnMetadataIndex: column, Value: structpb.NewStringValue(v)}}
	}
	return &sppb.ChangeStreamRecord{Record: &sppb.ChangeStreamRecord_DataChangeRecord_{DataChangeRecord: &sppb.ChangeStreamRecord_DataChangeRecord{
		CommitTimestamp: protoTime(at), RecordSequence: "00000000", ServerTransactionId: "7", Table: "T",
		ModType: sppb.ChangeStreamRecord_DataChangeRecord_UPDATE, ValueCaptureType: sppb.ChangeStreamRecord_DataChangeRecord_NEW_ROW_AND_OLD_VALUES,
		ColumnMetadata: []*sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata{{Name: "id", Type: str, IsPrimaryKey: true}, {Name: "n", Type: i64}},
		Mods:           []*sppb.ChangeStreamRecord_DataChangeRecord_Mod{{Keys: value(0, "k"), NewValues: value(1, "2"), OldValues: value(1, "1")}},
	}}}
}

// TestMovingRecords: what one partition's query may give, and what contradicts itself.
func TestMovingRecords(t *testing.T) {
	type records = []*sppb.ChangeStreamRecord
	spoiled := func(f func(*sppb.ChangeStreamRecord_DataChangeRecord)) records {
		r := dataAt(5)
		f(r.GetDataChangeRecord())
		return records{r}
	}
	for name, c := range map[string]struct {
		records records
		want    string
	}{
		"sound":                    {records{eventAt(0, "p", "o", ""), dataAt(5), heartbeatAt(7), dataAt(8), startAt(8, "q"), eventAt(8, "p", "", "q"), endAt(8, "p")}, ""},
		"announced again":          {records{startAt(8, "q"), startAt(8, "q")}, ""},
		"announced in two ways":    {records{startAt(8, "q"), startAt(9, "q")}, "partition q is announced in two ways"},
		"before the start":         {records{dataAt(-1)}, "out of order"},
		"back in time":             {records{dataAt(5), eventAt(4, "p", "o", "")}, "out of order"},
		"not above a heartbeat":    {records{heartbeatAt(5), dataAt(5)}, "out of order"},
		"behind the end":           {records{endAt(5, "p"), dataAt(5)}, "partition ended true"},
		"of another partition":     {records{eventAt(5, "q", "p", "")}, "it gave a record of partition q"},
		"another partition's end":  {records{endAt(5, "q")}, "it gave a record of partition q"},
		"starts nothing":           {records{startAt(5)}, "names none"},
		"starts without a token":   {records{startAt(5, "")}, "has no token"},
		"unknown kind":             {records{{}}, "not known"},
		"no timestamp":             {spoiled(func(r *sppb.ChangeStreamRecord_DataChangeRecord) { r.CommitTimestamp = nil }), "timestamp"},
		"no transaction":           {spoiled(func(r *sppb.ChangeStreamRecord_DataChangeRecord) { r.ServerTransactionId = "" }), "lacks its transaction id"},
		"no key":                   {spoiled(func(r *sppb.ChangeStreamRecord_DataChangeRecord) { r.Mods[0].Keys = nil }), "it has 0 values, the key 1 columns"},
		"another column for a key": {spoiled(func(r *sppb.ChangeStreamRecord_DataChangeRecord) { r.Mods[0].Keys = r.Mods[0].NewValues }), "lacks the key column id"},
		"no such column":           {spoiled(func(r *sppb.ChangeStreamRecord_DataChangeRecord) { r.Mods[0].NewValues[0].ColumnMetadataIndex = 2 }), "of column 2, and there are 2"},
		"not of its type": {spoiled(func(r *sppb.ChangeStreamRecord_DataChangeRecord) {
			r.Mods[0].NewValues[0].Value = structpb.NewBoolValue(true)
		}), "want a string of digits"},
		"no type": {spoiled(func(r *sppb.ChangeStreamRecord_DataChangeRecord) { r.ColumnMetadata[1].Type = nil }), "has no code"},
	} {
		w := &walk{o: SpannerOptions{Start: worldStart.Time(), End: worldEnd.Time()}, known: map[string]*Partition{}, given: map[handover]bool{}}
		m := moving{walk: w, p: &Partition{Token: "p", Start: worldStart}, decoder: newDecoder()}
		var err error
		for _, r := range c.records {
			if err = m.take(t, r); err != nil {
				break
			}
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if name == "sound" {
			if len(m.changes) != 2 || m.changes[0].Key != `["k"]` || m.changes[0].Op != "UPDATE" || m.changes[0].Capture != "NEW_ROW_AND_OLD_VALUES" || !m.ended ||
				len(m.p.Moves) != 1 || m.p.Moves[0] != (Move{worldStart, "o"}) || len(w.todo) != 1 || w.todo[0].Token != "q" {
				t.Errorf("%+v", m)
			}
			if after, _ := m.changes[0].After.Get("n"); after != `"2"` {
				t.Errorf("after is %s", after)
			}
		}
	}
	initial := moving{walk: &walk{known: map[string]*Partition{}}, decoder: newDecoder()}
	if err := initial.take(t, dataAt(5)); err == nil || !strings.Contains(err.Error(), "initial query") {
		t.Errorf("data of the initial query: %v", err)
	}
}

func (m *moving) take(t *testing.T, r *sppb.ChangeStreamRecord) error {
	b, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return m.row(spanner.GenericColumnValue{Value: structpb.NewStringValue(base64.StdEncoding.EncodeToString(b))})
}

// TestMovesAreToldTwice: a move that only one of its two partitions tells of is a contradiction.
func TestMovesAreToldTwice(t *testing.T) {
	at := worldStart + 5
	w := &walk{o: SpannerOptions{Start: worldStart.Time(), End: worldEnd.Time()}, known: map[string]*Partition{
		"p": {Token: "p"}, "q": {Token: "q", Moves: []Move{{at, "p"}, {worldStart, "gone"}}}}, given: map[handover]bool{{at, "p", "q"}: true}}
	if err := w.checkMoves(); err != nil {
		t.Error(err) // what ended at the very start is not read
	}
	w.given[handover{at + 1, "q", "p"}] = true
	if err := w.checkMoves(); err == nil || !strings.Contains(err.Error(), "from partition q to p is told by its source only") {
		t.Error(err)
	}
	w.given = map[handover]bool{}
	if err := w.checkMoves(); err == nil || !strings.Contains(err.Error(), "from partition p to q is told by its destination only") {
		t.Error(err)
	}
}

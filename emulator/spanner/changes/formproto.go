package changes

import (
	"encoding/base64"
	"slices"
	"time"

	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// protoRow is the record as a serialized ChangeStreamRecord in base64.
func (d *dataRecord) protoRow() []byte {
	c, t := d.txn.commit, d.view.table
	meta := d.metadata()
	r := &spannerpb.ChangeStreamRecord_DataChangeRecord{
		CommitTimestamp:                      timestamppb.New(micros(c.Timestamp)),
		RecordSequence:                       sequenceText(d.sequence),
		ServerTransactionId:                  c.TransactionID,
		IsLastRecordInTransactionInPartition: d.last,
		Table:                                d.view.name,
		ValueCaptureType:                     d.txn.capture,
		NumberOfRecordsInTransaction:         int32(d.txn.records),
		NumberOfPartitionsInTransaction:      int32(d.txn.partitions),
		TransactionTag:                       c.Tag,
		IsSystemTransaction:                  c.System,
	}
	switch d.op {
	case store.Insert:
		r.ModType = spannerpb.ChangeStreamRecord_DataChangeRecord_INSERT
	case store.Update:
		r.ModType = spannerpb.ChangeStreamRecord_DataChangeRecord_UPDATE
	case store.Delete:
		r.ModType = spannerpb.ChangeStreamRecord_DataChangeRecord_DELETE
	}
	for _, i := range meta {
		r.ColumnMetadata = append(r.ColumnMetadata, &spannerpb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata{
			Name: t.Columns[i].Name, Type: d.view.columns[i].typ, IsPrimaryKey: t.IsKey(i), OrdinalPosition: int64(i + 1),
		})
	}
	pick := func(cols []int, row store.Row) []*spannerpb.ChangeStreamRecord_DataChangeRecord_ModValue {
		out := make([]*spannerpb.ChangeStreamRecord_DataChangeRecord_ModValue, 0, len(cols))
		for _, i := range cols {
			var v store.Value
			if i < len(row) {
				v = row[i]
			}
			out = append(out, &spannerpb.ChangeStreamRecord_DataChangeRecord_ModValue{
				ColumnMetadataIndex: int32(slices.Index(meta, i)), Value: resultValue(t.Columns[i].Type, v),
			})
		}
		return out
	}
	for _, ch := range d.mods {
		newCols, oldCols := d.values(ch)
		r.Mods = append(r.Mods, &spannerpb.ChangeStreamRecord_DataChangeRecord_Mod{
			Keys: pick(d.view.keys, keyRow(ch)), OldValues: pick(oldCols, ch.Old), NewValues: pick(newCols, ch.New),
		})
	}
	return protoValue(&spannerpb.ChangeStreamRecord{Record: &spannerpb.ChangeStreamRecord_DataChangeRecord_{DataChangeRecord: r}})
}

func protoHeartbeat(t time.Time) []byte {
	return protoValue(&spannerpb.ChangeStreamRecord{Record: &spannerpb.ChangeStreamRecord_HeartbeatRecord_{
		HeartbeatRecord: &spannerpb.ChangeStreamRecord_HeartbeatRecord{Timestamp: timestamppb.New(t)},
	}})
}

func protoStart(start time.Time, sequence int, token string) []byte {
	return protoValue(&spannerpb.ChangeStreamRecord{Record: &spannerpb.ChangeStreamRecord_PartitionStartRecord_{
		PartitionStartRecord: &spannerpb.ChangeStreamRecord_PartitionStartRecord{
			StartTimestamp: timestamppb.New(start), RecordSequence: sequenceText(sequence), PartitionTokens: []string{token},
		},
	}})
}

func (c *controlRow) protoRow() []byte {
	at, sequence := timestamppb.New(micros(c.at)), sequenceText(c.sequence)
	switch c.kind {
	case PartitionStart:
		return protoStart(micros(c.at), c.sequence, c.token)
	case PartitionEnd:
		return protoValue(&spannerpb.ChangeStreamRecord{Record: &spannerpb.ChangeStreamRecord_PartitionEndRecord_{
			PartitionEndRecord: &spannerpb.ChangeStreamRecord_PartitionEndRecord{EndTimestamp: at, RecordSequence: sequence, PartitionToken: c.token},
		}})
	}
	event := &spannerpb.ChangeStreamRecord_PartitionEventRecord{CommitTimestamp: at, RecordSequence: sequence, PartitionToken: c.token}
	for _, source := range c.in {
		event.MoveInEvents = append(event.MoveInEvents, &spannerpb.ChangeStreamRecord_PartitionEventRecord_MoveInEvent{SourcePartitionToken: source})
	}
	for _, destination := range c.out {
		event.MoveOutEvents = append(event.MoveOutEvents, &spannerpb.ChangeStreamRecord_PartitionEventRecord_MoveOutEvent{DestinationPartitionToken: destination})
	}
	return protoValue(&spannerpb.ChangeStreamRecord{Record: &spannerpb.ChangeStreamRecord_PartitionEventRecord_{PartitionEventRecord: event}})
}

func protoValue(r *spannerpb.ChangeStreamRecord) []byte {
	b, err := proto.Marshal(r)
	if err != nil {
		panic("changes: cannot serialize a change stream record: " + err.Error()) // only invalid UTF-8, which the store refuses
	}
	return textValue(base64.StdEncoding.EncodeToString(b))
}

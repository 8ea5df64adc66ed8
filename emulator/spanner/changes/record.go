package changes

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Kind says what a Record tells.
type Kind uint8

// The kinds of records. ChildPartitions occurs with immutable key ranges only, the Partition kinds with mutable ones.
const (
	Data Kind = iota + 1
	Heartbeat
	ChildPartitions
	PartitionStart
	PartitionEnd
	PartitionEvent
)

// String is the kind's name as in the wire forms.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data_change_record"
	case Heartbeat:
		return "heartbeat_record"
	case ChildPartitions:
		return "child_partitions_record"
	case PartitionStart:
		return "partition_start_record"
	case PartitionEnd:
		return "partition_end_record"
	case PartitionEvent:
		return "partition_event_record"
	}
	return "unknown record"
}

// Record is one row of the read function's result.
type Record struct {
	Kind Kind
	// Timestamp is the commit, heartbeat, start or end timestamp the record shows.
	Timestamp time.Time
	// Resume is the position just behind this record, for Query.Resume. It differs from that of every other record of the
	// query, is opaque, and is URL-safe text.
	Resume string

	data *dataRecord
	wire []byte
}

// Wire is the row's one value as a serialized google.protobuf.Value. For data records it is made once, at first use, and
// shared by all readers; nobody may change it.
func (r Record) Wire() []byte {
	if r.data != nil {
		return r.data.encoded()
	}
	return r.wire
}

// Value is the row's one value, decoded from Wire for this call; the caller owns it.
func (r Record) Value() *structpb.Value {
	v := new(structpb.Value)
	if err := proto.Unmarshal(r.Wire(), v); err != nil {
		panic("changes: record is not a valid google.protobuf.Value: " + err.Error()) // only our encoder wrote it
	}
	return v
}

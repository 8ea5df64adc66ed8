package changestream

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/change"
)

// The records of mutable key ranges that are no changes: partitions begin, hand keys over to one another, and end.

var errNoToken = errors.New("a partition without a token")

// protoStart decodes a partition_start_record. Its partitions have no parents: what they take over, their own first record,
// a move-in, says.
func (d *decoder) protoStart(raw []byte) error {
	var start change.Timestamp
	has := false
	var tokens []string
	err := eachField(raw, func(num protowire.Number, raw []byte, _ uint64) (err error) {
		switch num {
		case 1:
			has = true
			start, _, err = protoTimestamp(raw)
		case 3:
			tokens = append(tokens, string(raw))
		}
		return err
	})
	if err == nil && (!has || len(tokens) == 0) {
		err = errors.New("without a timestamp or without partitions")
	}
	if err != nil {
		return fmt.Errorf("partition start record: %w", err)
	}
	began := make([]change.Partition, len(tokens))
	for i, token := range tokens {
		began[i] = change.Partition{Token: token, Start: start}
	}
	return d.announce(start, began)
}

// protoEvent decodes a partition_event_record. Which partitions keys went to does not matter: it is they who wait.
func (d *decoder) protoEvent(raw []byte) error {
	var sources []string
	out := false
	return d.protoAt("partition event record", raw, func(num protowire.Number, raw []byte) error {
		switch num {
		case 4:
			source := ""
			err := eachField(raw, func(num protowire.Number, raw []byte, _ uint64) error {
				if num == 1 {
					source = string(raw)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if source == "" {
				return errNoToken
			}
			sources = append(sources, d.place(source))
		case 5:
			out = true
		}
		return nil
	}, func(at change.Timestamp) error { return d.frames.moved(at, sources, out) })
}

// protoEnd decodes a partition_end_record.
func (d *decoder) protoEnd(raw []byte) error {
	return d.protoAt("partition end record", raw, func(protowire.Number, []byte) error { return nil },
		func(at change.Timestamp) error { return d.frames.endAt(at) })
}

// protoAt decodes a record of something that happens to a partition at the time of its field 1; other takes its other fields.
func (d *decoder) protoAt(record string, raw []byte, other func(num protowire.Number, raw []byte) error, tell func(at change.Timestamp) error) error {
	var at change.Timestamp
	has := false
	err := eachField(raw, func(num protowire.Number, raw []byte, _ uint64) (err error) {
		if num != 1 {
			return other(num, raw)
		}
		has = true
		at, _, err = protoTimestamp(raw)
		return err
	})
	switch {
	case err != nil:
	case !has:
		err = errors.New("without a timestamp")
	case d.frames == nil:
		err = errors.New("in an initial query")
	default:
		err = tell(at)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", record, err)
	}
	return nil
}

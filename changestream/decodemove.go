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
	var at change.Timestamp
	has, out := false, false
	var sources []string
	err := eachField(raw, func(num protowire.Number, raw []byte, _ uint64) (err error) {
		switch num {
		case 1:
			has = true
			at, _, err = protoTimestamp(raw)
		case 4:
			source := ""
			err = eachField(raw, func(num protowire.Number, raw []byte, _ uint64) error {
				if num == 1 {
					source = string(raw)
				}
				return nil
			})
			if err == nil && source == "" {
				err = errNoToken
			}
			sources = append(sources, d.place(source))
		case 5:
			out = true
		}
		return err
	})
	switch {
	case err != nil:
	case !has:
		err = errors.New("without a timestamp")
	case d.frames == nil:
		err = errors.New("in an initial query")
	default:
		err = d.frames.moved(at, sources, out)
	}
	if err != nil {
		return fmt.Errorf("partition event record: %w", err)
	}
	return nil
}

// protoEnd decodes a partition_end_record.
func (d *decoder) protoEnd(raw []byte) error {
	var at change.Timestamp
	has := false
	err := eachField(raw, func(num protowire.Number, raw []byte, _ uint64) (err error) {
		if num == 1 {
			has = true
			at, _, err = protoTimestamp(raw)
		}
		return err
	})
	switch {
	case err != nil:
	case !has:
		err = errors.New("without a timestamp")
	case d.frames == nil:
		err = errors.New("in an initial query")
	default:
		err = d.frames.endAt(at)
	}
	if err != nil {
		return fmt.Errorf("partition end record: %w", err)
	}
	return nil
}

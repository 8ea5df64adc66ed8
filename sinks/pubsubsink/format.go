package pubsubsink

import (
	"encoding/binary"
	"fmt"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/change/plainjson"
)

// encode appends a change as a message's data.
type encode func(dst []byte, c *change.Change) ([]byte, error)

// formatOf makes the encoder of one version of a table, and says the fingerprint of its schema.
func formatOf(f Format, t *change.Table) (encode, string, error) {
	schema, err := avro.SchemaOf(t)
	if err != nil {
		return nil, "", fmt.Errorf("schema of table %s: %w", t.Name, err)
	}
	if f == JSON {
		return plainjson.Append, schema.Fingerprint(), nil
	}
	container, err := containerOf(schema)
	return container, schema.Fingerprint(), err
}

// containerOf makes an encoder of containers of one change. All of them begin with the same header, so it is made, and its
// digest taken, once a table and not once a message. The block is not compressed: what is large is the schema in the header,
// which a container never compresses.
func containerOf(schema *avro.Schema) (encode, error) {
	header, err := avro.AppendOCF(nil, schema, avro.Container{Codec: avro.None}, nil)
	if err != nil {
		return nil, err
	}
	marker := header[len(header)-16:] // a container's header ends with the marker that also ends each block
	return func(dst []byte, c *change.Change) ([]byte, error) {
		start := len(dst)
		dst = append(dst, header...)
		dst = binary.AppendVarint(dst, 1) // changes in the block; Avro's long is the zigzag varint
		// The block's size stands before it: the record is written behind the largest size, then moved up.
		at := len(dst)
		dst = append(dst, make([]byte, binary.MaxVarintLen64)...)
		record := len(dst)
		dst, err := schema.Append(dst, c)
		if err != nil {
			return dst[:start], err
		}
		n := len(dst) - record
		size := binary.PutVarint(dst[at:record], int64(n))
		copy(dst[at+size:], dst[record:])
		return append(dst[:at+size+n], marker...), nil
	}, nil
}

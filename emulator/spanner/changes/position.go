package changes

import (
	"encoding/base64"
	"encoding/binary"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// position is how far a query got: what Record.Resume says.
type position struct {
	uid  uint64 // stream
	part uint64 // partition, 0 for the initial query
	// next is the absolute number of the next entry; in the initial query the id of the last partition announced.
	next uint64
	// child counts the child rows sent, or in the initial query the rows.
	child uint64
	// at is the last row's timestamp, microseconds.
	at int64
	// phase keeps positions that are otherwise alike apart: a row moves next, a heartbeat at; phase says that the end of a
	// partition with mutable key ranges, or the closing heartbeat of a query, was sent.
	phase uint64
}

const (
	running uint64 = iota
	ended
)

func (p position) String() string {
	var raw [6 * binary.MaxVarintLen64]byte
	b := raw[:0]
	for _, n := range [...]uint64{p.uid, p.part, p.next, p.child, uint64(p.at), p.phase} {
		b = binary.AppendUvarint(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parsePosition reads what String wrote; "" is the zero position.
func parsePosition(text string) (position, error) {
	var p position
	if text == "" {
		return p, nil
	}
	bad := status.Errorf(codes.InvalidArgument, "resume position %q is invalid: want the one of an earlier row of the same change stream query", text)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return p, bad
	}
	var fields [6]uint64
	for i := range fields {
		n, k := binary.Uvarint(b)
		if k <= 0 {
			return p, bad
		}
		fields[i], b = n, b[k:]
	}
	if len(b) > 0 || fields[5] > ended {
		return p, bad
	}
	return position{fields[0], fields[1], fields[2], fields[3], int64(fields[4]), fields[5]}, nil
}

package server

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	// frameBytes is when a message with whole rows is sent.
	frameBytes = 256 << 10
	// chunkBytes is the largest value, or part of a row, that one message carries.
	chunkBytes = 1 << 20
)

// position is where a stream of rows can go on: exactly behind row rows of the result at timestamp ts, computed with
// the clock at now (both microseconds since 1970). request tells which request's result it is.
type position struct {
	request       [8]byte
	ts, now, rows int64
}

func newPosition(digest []byte) (p position) {
	copy(p.request[:], digest)
	return p
}

func (p position) token() []byte {
	b := append([]byte{'Q'}, p.request[:]...)
	b = binary.AppendVarint(b, p.ts)
	b = binary.AppendVarint(b, p.now)
	return binary.AppendVarint(b, p.rows)
}

// parsePosition reads a resume token that must be of the request with this digest.
func parsePosition(token, digest []byte) (position, error) {
	p := newPosition(digest)
	bad := errorf(codes.InvalidArgument, "the resume token is not one of this request's")
	rest, ok := bytes.CutPrefix(token, append([]byte{'Q'}, p.request[:]...))
	if !ok {
		return p, bad
	}
	for _, f := range []*int64{&p.ts, &p.now, &p.rows} {
		v, n := binary.Varint(rest)
		if n <= 0 {
			return p, bad
		}
		*f, rest = v, rest[n:]
	}
	if len(rest) > 0 || p.rows < 0 {
		return p, bad
	}
	return p, nil
}

// frames cuts rows into partial result sets: metadata in the first, a new resume token wherever a row ends.
type frames struct {
	send func(*sppb.PartialResultSet) error
	meta *sppb.ResultSetMetadata
	pos  position
	// part is the partition whose rows are sent, and token goes out with the first message.
	part  partition
	token *sppb.MultiplexedSessionPrecommitToken

	seen   int64 // the number of the next row, of all partitions
	skip   int64 // rows that the client has already
	values []*structpb.Value
	size   int
}

func (f *frames) flush(chunked, rowEnds bool, stats *sppb.ResultSetStats, last bool) error {
	m := &sppb.PartialResultSet{Metadata: f.meta, Values: f.values, ChunkedValue: chunked, Stats: stats, Last: last, PrecommitToken: f.token}
	if rowEnds {
		m.ResumeToken = f.pos.token()
	}
	f.meta, f.token, f.values, f.size = nil, nil, nil, 0
	return f.send(m)
}

// row adds one row.
func (f *frames) row(values []*structpb.Value) error {
	f.seen++
	if !f.part.has(f.seen) {
		return nil
	}
	if f.skip > 0 {
		f.skip--
		return nil
	}
	total := 0
	for _, v := range values {
		total += proto.Size(v) + 4
	}
	if f.size > 0 && f.size+total > frameBytes {
		if err := f.flush(false, true, nil, false); err != nil {
			return err
		}
	}
	if total <= chunkBytes {
		f.values = append(f.values, values...)
		f.size += total
	} else if err := f.bigRow(values); err != nil {
		return err
	}
	f.pos.rows++
	return nil
}

func (f *frames) bigRow(values []*structpb.Value) error {
	for _, v := range values {
		n := proto.Size(v)
		if f.size > 0 && f.size+n > chunkBytes {
			if err := f.flush(false, false, nil, false); err != nil {
				return err
			}
		}
		if n <= chunkBytes {
			f.values = append(f.values, v)
			f.size += n
			continue
		}
		parts := chunks(v)
		for i, p := range parts {
			f.values = append(f.values, p)
			f.size += proto.Size(p)
			if i == len(parts)-1 {
				break
			}
			if err := f.flush(true, false, nil, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish sends what is left, with the statistics, and marks the end.
func (f *frames) finish(stats *sppb.ResultSetStats) error {
	return f.flush(false, true, stats, true)
}

// chunks cuts a value into parts of about chunkBytes that clients merge again: strings are joined, lists are joined
// with the last element of one merged with the first of the next if those are strings or lists.
func chunks(v *structpb.Value) []*structpb.Value {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		var out []*structpb.Value
		s := k.StringValue
		for len(s) > chunkBytes {
			n := chunkBytes
			for n > 0 && !utf8.RuneStart(s[n]) {
				n--
			}
			out = append(out, structpb.NewStringValue(s[:n]))
			s = s[n:]
		}
		return append(out, structpb.NewStringValue(s))
	case *structpb.Value_ListValue:
		var out []*structpb.Value
		cur := &structpb.ListValue{}
		size := 0
		cut := func() {
			out = append(out, structpb.NewListValue(cur))
			cur, size = &structpb.ListValue{}, 0
		}
		for _, e := range k.ListValue.GetValues() {
			n := proto.Size(e) + 4
			if size > 0 && size+n > chunkBytes {
				last := cur.Values[len(cur.Values)-1]
				cut()
				if filler := emptyLike(last); filler != nil {
					cur.Values = append(cur.Values, filler)
				}
			}
			if n <= chunkBytes {
				cur.Values = append(cur.Values, e)
				size += n
				continue
			}
			parts := chunks(e)
			for i, p := range parts {
				cur.Values = append(cur.Values, p)
				size += proto.Size(p)
				if i < len(parts)-1 {
					cut()
				}
			}
		}
		return append(out, structpb.NewListValue(cur))
	}
	return []*structpb.Value{v}
}

// emptyLike is what merges with v without changing it, or nil if v's kind does not merge.
func emptyLike(v *structpb.Value) *structpb.Value {
	switch v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return structpb.NewStringValue("")
	case *structpb.Value_ListValue:
		return structpb.NewListValue(&structpb.ListValue{})
	}
	return nil
}

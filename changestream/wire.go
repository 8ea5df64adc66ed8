package changestream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// This file reads google.spanner.v1.PartialResultSet and google.protobuf.Value straight from their bytes. Everything it
// answers points into the input.

var errWire = errors.New("malformed protobuf")

// kind is which member of a google.protobuf.Value is set; the numbers are its field numbers.
type kind uint8

const (
	kindNone   kind = 0
	kindNull   kind = 1
	kindNumber kind = 2
	kindString kind = 3
	kindBool   kind = 4
	kindStruct kind = 5
	kindList   kind = 6
)

func (k kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown kind"
}

var kindNames = [...]string{"nothing", "null", "number", "string", "bool", "struct", "list"}

// value is a google.protobuf.Value: data holds a string's text, or a list's or struct's message; bits a bool or a number.
type value struct {
	kind kind
	bits uint64
	data []byte
}

func (v value) number() float64 { return math.Float64frombits(v.bits) }

// parseValue reads a Value message. A message with two kinds, which no encoder writes, is refused.
func parseValue(b []byte) (value, error) {
	var v value
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return v, errWire
		}
		b = b[n:]
		if num < 1 || num > 6 {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return v, errWire
			}
			b = b[n:]
			continue
		}
		if v.kind != kindNone {
			return v, fmt.Errorf("%w: a value of two kinds", errWire)
		}
		v.kind = kind(num)
		switch v.kind {
		case kindNull, kindBool:
			if typ != protowire.VarintType {
				return v, errWire
			}
			v.bits, n = protowire.ConsumeVarint(b)
		case kindNumber:
			if typ != protowire.Fixed64Type {
				return v, errWire
			}
			v.bits, n = protowire.ConsumeFixed64(b)
		default:
			if typ != protowire.BytesType {
				return v, errWire
			}
			v.data, n = consumeBytes(b)
		}
		if n < 0 {
			return v, errWire
		}
		b = b[n:]
	}
	return v, nil
}

// consumeBytes is protowire.ConsumeBytes with the result's capacity cut to its length, so that no append can reach over.
func consumeBytes(b []byte) ([]byte, int) {
	if len(b) > 0 && b[0] < 0x80 { // the usual case: a length below 128
		n := int(b[0]) + 1
		if n > len(b) {
			return nil, -1
		}
		return b[1:n:n], n
	}
	v, n := protowire.ConsumeBytes(b)
	return v[:len(v):len(v)], n
}

// list iterates over the values of a ListValue message.
type list struct {
	rest []byte
	err  error
}

// next answers the next value; false at the end and at an error.
func (l *list) next() (value, bool) {
	raw, ok := l.nextRaw()
	if !ok {
		return value{}, false
	}
	v, err := parseValue(raw)
	if err != nil {
		l.err = err
		return v, false
	}
	return v, true
}

func (l *list) nextRaw() ([]byte, bool) {
	for len(l.rest) > 0 && l.err == nil {
		num, typ, n := protowire.ConsumeTag(l.rest)
		if n < 0 {
			l.err = errWire
			break
		}
		l.rest = l.rest[n:]
		if num == 1 && typ == protowire.BytesType {
			raw, n := consumeBytes(l.rest)
			if n < 0 {
				l.err = errWire
				break
			}
			l.rest = l.rest[n:]
			return raw, true
		}
		if n = protowire.ConsumeFieldValue(num, typ, l.rest); n < 0 {
			l.err = errWire
			break
		}
		l.rest = l.rest[n:]
	}
	return nil, false
}

// partialResult is a PartialResultSet.
type partialResult struct {
	metadata []byte
	values   [][]byte
	chunked  bool
}

// parse reads b into r, reusing r.values.
func (r *partialResult) parse(b []byte) error {
	*r = partialResult{values: r.values[:0]}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.BytesType:
			r.metadata, n = consumeBytes(b)
		case num == 2 && typ == protowire.BytesType:
			var raw []byte
			raw, n = consumeBytes(b)
			r.values = append(r.values, raw)
		case num == 3 && typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			r.chunked = v != 0
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]
	}
	return nil
}

// tree is a value taken apart far enough to be merged with the value that continues it: a row above about 1 MB comes in
// pieces, cut inside a string or a list at any depth.
type tree struct {
	kind kind
	// raw is the Value message of a kind that is never cut; text a string's text; list a list's values.
	raw  []byte
	text []byte
	list []tree
}

const maxTreeDepth = 32

func parseTree(raw []byte, depth int) (tree, error) {
	if depth > maxTreeDepth {
		return tree{}, fmt.Errorf("%w: nested too deep", errWire)
	}
	v, err := parseValue(raw)
	if err != nil {
		return tree{}, err
	}
	t := tree{kind: v.kind}
	switch v.kind {
	case kindString:
		t.text = v.data
	case kindList:
		l := list{rest: v.data}
		for {
			elem, ok := l.nextRaw()
			if !ok {
				break
			}
			sub, err := parseTree(elem, depth+1)
			if err != nil {
				return tree{}, err
			}
			t.list = append(t.list, sub)
		}
		if l.err != nil {
			return tree{}, l.err
		}
	default:
		t.raw = raw
	}
	return t, nil
}

// merge appends the continuation u: strings are joined, lists are joined with their last and first values merged when those
// can be cut.
func (t *tree) merge(u tree) error {
	if t.kind != u.kind || (t.kind != kindString && t.kind != kindList) {
		return fmt.Errorf("a cut %v is continued by a %v", t.kind, u.kind)
	}
	if t.kind == kindString {
		t.text = append(t.text, u.text...)
		return nil
	}
	rest := u.list
	if len(t.list) > 0 && len(rest) > 0 {
		last := &t.list[len(t.list)-1]
		if last.kind == kindString || last.kind == kindList {
			if err := last.merge(rest[0]); err != nil {
				return err
			}
			rest = rest[1:]
		}
	}
	t.list = append(t.list, rest...)
	return nil
}

// append appends the Value message.
func (t *tree) append(dst []byte) []byte {
	switch t.kind {
	case kindString:
		dst = protowire.AppendTag(dst, 3, protowire.BytesType)
		return protowire.AppendBytes(dst, t.text)
	case kindList:
		dst = protowire.AppendTag(dst, 6, protowire.BytesType)
		return appendMessage(dst, func(dst []byte) []byte {
			for i := range t.list {
				dst = protowire.AppendTag(dst, 1, protowire.BytesType)
				dst = appendMessage(dst, t.list[i].append)
			}
			return dst
		})
	}
	return append(dst, t.raw...)
}

// appendMessage appends what body appends, behind its length in a fixed five bytes: the length is known only afterwards.
func appendMessage(dst []byte, body func([]byte) []byte) []byte {
	at := len(dst)
	dst = body(append(dst, 0x80, 0x80, 0x80, 0x80, 0))
	n := uint32(len(dst) - at - 5)
	binary.LittleEndian.PutUint32(dst[at:], n&0x7f|n>>7&0x7f<<8|n>>14&0x7f<<16|n>>21&0x7f<<24|0x80808080)
	dst[at+4] = byte(n >> 28)
	return dst
}

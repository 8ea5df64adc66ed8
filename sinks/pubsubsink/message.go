package pubsubsink

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/change"
)

// The service's limits: https://cloud.google.com/pubsub/quotas#resource_limits
const (
	maxRequestBytes    = 10_000_000
	maxRequestMessages = 1000
	maxAttribute       = 1024
	// requestBytes is where a request is cut: far below the limit, because beyond a megabyte a request gets no cheaper and
	// lanes × requests of them are in memory at once.
	requestBytes = 1_000_000
)

// Field numbers of google.pubsub.v1, whose messages are written here by hand.
const (
	fieldRequestTopic    = 1
	fieldRequestMessages = 2
	fieldData            = 1
	fieldAttributes      = 2
	fieldOrderingKey     = 5
	fieldMapKey          = 1
	fieldMapValue        = 2
)

// tableInfo is what messages of one version of a table share.
type tableInfo struct {
	table  *change.Table
	format encode
	fixed  []byte // the attributes that are equal for all, in wire form
	at     []int  // ordering.keyParts
}

// info returns the table's tableInfo. Only the newest version of each table is kept, so it cannot grow without bound.
func (s *Sink) info(t *change.Table) (*tableInfo, error) {
	if v, ok := s.tables.Load(t.Name); ok {
		if info := v.(*tableInfo); info.table == t {
			return info, nil
		}
	}
	at, err := s.config.ordering.keyParts(t)
	if err != nil {
		return nil, err
	}
	format, fingerprint, err := formatOf(s.config.Format, t)
	if err != nil {
		return nil, err
	}
	info := &tableInfo{table: t, format: format, at: at}
	info.fixed = appendAttribute(info.fixed, "table", []byte(strings.ToValidUTF8(t.Name, "\ufffd")))
	info.fixed = appendAttribute(info.fixed, "format", []byte(s.config.Format))
	info.fixed = appendAttribute(info.fixed, "schema", []byte(fingerprint))
	s.tables.Store(t.Name, info)
	return info, nil
}

// appendAttribute appends one entry of PubsubMessage.attributes; one the service would refuse is left out.
func appendAttribute(dst []byte, name string, value []byte) []byte {
	if len(value) == 0 || len(value) > maxAttribute {
		return dst
	}
	dst = protowire.AppendTag(dst, fieldAttributes, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(protowire.SizeBytes(len(name))+protowire.SizeBytes(len(value))+2))
	dst = protowire.AppendTag(dst, fieldMapKey, protowire.BytesType)
	dst = protowire.AppendString(dst, name)
	dst = protowire.AppendTag(dst, fieldMapValue, protowire.BytesType)
	return protowire.AppendBytes(dst, value)
}

// encoder holds the memory in which one request after another is made.
type encoder struct {
	request []byte // PublishRequest.messages in wire form
	count   int
	data    []byte // the present message's data
	rest    []byte // and its attributes and ordering key
	text    []byte
}

// reset empties the encoder for a new request, giving back memory that a giant message took.
func (e *encoder) reset() {
	e.count = 0
	if cap(e.request) > 4*requestBytes {
		*e = encoder{}
	}
	e.request = e.request[:0]
}

// encode makes the change's message, to be appended to the request by add. The error is the change's fault: it is to be
// rejected.
func (e *encoder) encode(info *tableInfo, c *change.Change, orderingKey string) (err error) {
	if e.data, err = info.format(e.data[:0], c); err != nil {
		return err
	}
	r := append(e.rest[:0], info.fixed...)
	r = appendAttribute(r, "op", opName(c.Op))
	e.text = c.Position.Commit.Time().AppendFormat(e.text[:0], "2006-01-02T15:04:05.000000Z")
	r = appendAttribute(r, "commit_timestamp", e.text)
	if e.text, err = c.Position.AppendText(e.text[:0]); err != nil {
		return err
	}
	r = appendAttribute(r, "position", e.text)
	e.text = appendValid(e.text[:0], c.Position.Transaction)
	r = appendAttribute(r, "transaction", e.text)
	e.text = appendValid(e.text[:0], c.Tag)
	r = appendAttribute(r, "tag", e.text)
	if orderingKey != "" {
		r = protowire.AppendTag(r, fieldOrderingKey, protowire.BytesType)
		r = protowire.AppendString(r, orderingKey)
	}
	e.rest = r
	return nil
}

// opNames are the operations' names by their number; a number without a name is 0's.
var opNames = [4][]byte{[]byte(change.UnknownOp.String()), []byte("INSERT"), []byte("UPDATE"), []byte("DELETE")}

func opName(op change.Op) []byte {
	if int(op) >= len(opNames) {
		op = change.UnknownOp
	}
	return opNames[op]
}

func appendValid(dst []byte, s string) []byte {
	return append(dst, strings.ToValidUTF8(s, "\ufffd")...)
}

// messageSize is the size of the present message, and addedSize what it adds to a request.
func (e *encoder) messageSize() int { return 1 + protowire.SizeBytes(len(e.data)) + len(e.rest) }
func (e *encoder) addedSize() int   { return 1 + protowire.SizeBytes(e.messageSize()) }

// add appends the present message to the request.
func (e *encoder) add() {
	r := protowire.AppendTag(e.request, fieldRequestMessages, protowire.BytesType)
	r = protowire.AppendVarint(r, uint64(e.messageSize()))
	r = protowire.AppendTag(r, fieldData, protowire.BytesType)
	r = protowire.AppendBytes(r, e.data)
	e.request = append(r, e.rest...)
	e.count++
}

// tooLarge says so for a message that no request can hold.
func tooLarge(size int) error {
	return fmt.Errorf("its message would have %d bytes; a Pub/Sub request holds at most %d: leave large columns out of this "+
		"sink, or send the table to another one", size, maxRequestBytes)
}

package bigquerysink

import (
	"encoding/base64"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// encoder turns changes into rows in protobuf's wire form, straight from the raw JSON; layout.descriptor describes what it
// writes. It is reused; not safe for concurrent use.
type encoder struct {
	raw     []byte // the row's _raw so far, without the closing brace
	before  []byte
	scratch []byte
}

func appendBool(dst []byte, n protowire.Number, b bool) []byte {
	dst = protowire.AppendTag(dst, n, protowire.VarintType)
	return protowire.AppendVarint(dst, protowire.EncodeBool(b))
}

func appendInt(dst []byte, n protowire.Number, i int64) []byte {
	dst = protowire.AppendTag(dst, n, protowire.VarintType)
	return protowire.AppendVarint(dst, uint64(i))
}

func appendText(dst []byte, n protowire.Number, s string) []byte {
	dst = protowire.AppendTag(dst, n, protowire.BytesType)
	if !utf8.ValidString(s) {
		// BigQuery refuses such a string, and with it the row; _position, which is ASCII, tells the very bytes.
		s = string([]rune(s))
	}
	return protowire.AppendString(dst, s)
}

// appendRow appends the row of a change; chain is "" for at-least-once delivery. It fails only on a change that has no
// position's text.
func (e *encoder) appendRow(dst []byte, l *layout, c *change.Change, chain string) ([]byte, error) {
	position, err := c.Position.AppendText(e.scratch[:0])
	e.scratch = position
	if err != nil {
		return dst, err
	}
	dst = protowire.AppendTag(dst, fieldPosition, protowire.BytesType)
	dst = protowire.AppendBytes(dst, position)
	dst = appendInt(dst, fieldCommit, int64(c.Position.Commit))
	dst = appendText(dst, fieldTransaction, c.Position.Transaction)
	dst = appendText(dst, fieldSequence, c.Position.Sequence)
	dst = appendInt(dst, fieldMod, int64(c.Position.Mod))
	dst = appendBool(dst, fieldSnapshot, c.Position.Snapshot)
	dst = appendText(dst, fieldOp, c.Op.String())
	dst = appendText(dst, fieldCapture, c.Capture.String())
	dst = appendBool(dst, fieldSystem, c.System)
	if c.Tag != "" {
		dst = appendText(dst, fieldTag, c.Tag)
	}
	dst = appendInt(dst, fieldRecords, int64(c.Records))
	dst = appendInt(dst, fieldPartitions, int64(c.Partitions))
	if chain != "" {
		dst = appendText(dst, fieldChain, chain)
	}
	e.raw, e.before = e.raw[:0], e.before[:0]
	for i := range l.key {
		if i < len(c.Key) {
			dst = e.appendColumn(dst, &l.key[i], c.Key[i])
		}
	}
	dst = e.appendAfter(dst, l, c.After)
	if e.appendBefore(l, c.Before) {
		dst = protowire.AppendTag(dst, fieldBefore, protowire.BytesType)
		dst = protowire.AppendBytes(dst, e.before)
	}
	if len(e.raw) > 0 {
		e.raw = append(e.raw, '}')
		dst = protowire.AppendTag(dst, fieldRaw, protowire.BytesType)
		dst = protowire.AppendBytes(dst, e.raw)
	}
	return dst, nil
}

func (e *encoder) appendAfter(dst []byte, l *layout, row change.Row) []byte {
	captured := 0
	for i := range l.row {
		col := &l.row[i]
		if v := row.At(col.index); v != nil {
			dst = e.appendColumn(dst, col, v)
			captured++
		}
	}
	if captured == len(l.row) {
		return append(dst, l.allCaptured...)
	}
	for i := range l.row {
		if col := &l.row[i]; row.At(col.index) != nil {
			dst = appendText(dst, fieldColumns, col.name)
		}
	}
	return dst
}

// appendColumn writes a captured value to its column and, where that cannot hold it in full, to _raw.
func (e *encoder) appendColumn(dst []byte, col *column, v []byte) []byte {
	f := exact
	switch {
	case col.repeated:
		dst, f = e.appendArray(dst, col, rawjson.Trim(v)) // NULL is a misfit: a repeated column has no NULL, only nothing
	case !rawjson.IsNull(v):
		mark := len(dst)
		dst, f = e.appendValue(dst, col, rawjson.Trim(v))
		if f == misfit {
			dst = dst[:mark]
		}
	}
	if f != exact {
		e.raw = appendMember(e.raw, col, v)
	}
	return dst
}

// appendBefore makes the text of _before, an object of the captured columns; false if there is none.
func (e *encoder) appendBefore(l *layout, row change.Row) bool {
	for i, v := range row {
		if v == nil || i >= len(l.byIndex) || l.byIndex[i] < 0 {
			continue
		}
		e.before = appendMember(e.before, &l.row[l.byIndex[i]], v)
	}
	if len(e.before) == 0 {
		return false
	}
	e.before = append(e.before, '}')
	return true
}

// appendMember appends a member to an object that is not closed yet. A value that is not UTF-8, which neither JSON nor
// BigQuery's STRING can hold, becomes a member "base64:NAME".
func appendMember(dst []byte, col *column, v []byte) []byte {
	if len(dst) == 0 {
		dst = append(dst, '{')
	} else {
		dst = append(dst, ',')
	}
	if utf8.Valid(v) {
		return append(append(dst, col.quoted...), v...)
	}
	dst = append(append(dst, `"base64:`...), col.quoted[1:]...)
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, v)
	return append(dst, '"')
}

package changes

import (
	"encoding/binary"
	"strconv"
	"time"
)

// The struct form is written straight as the bytes of google.protobuf.Value messages: a tree of Go values for each of
// them would cost some hundred allocations a record.

// Tags of google.protobuf.Value's fields, and of ListValue.values.
const (
	tagNull   = 1 << 3
	tagString = 3<<3 | 2
	tagBool   = 4 << 3
	tagList   = 6<<3 | 2
	tagItem   = 1<<3 | 2
)

// wireBuilder writes nested values; lengths are patched in when a level closes.
type wireBuilder struct {
	b []byte
	// open holds where the length of each open level stands.
	open []int
}

func (w *wireBuilder) begin(tag byte) {
	w.b = append(w.b, tag, 0)
	w.open = append(w.open, len(w.b)-1)
}

func (w *wireBuilder) end() {
	at := w.open[len(w.open)-1]
	w.open = w.open[:len(w.open)-1]
	n := uint64(len(w.b) - at - 1)
	if n < 0x80 {
		w.b[at] = byte(n)
		return
	}
	var length [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(length[:], n)
	w.b = append(w.b, length[:k-1]...) // room; overwritten by the move
	copy(w.b[at+k:], w.b[at+1:])
	copy(w.b[at:], length[:k])
}

// list opens a list value as the next item; at the top there is no item around it.
func (w *wireBuilder) list() {
	if len(w.open) > 0 {
		w.begin(tagItem)
	}
	w.begin(tagList)
}

func (w *wireBuilder) endList() {
	w.end()
	if len(w.open) > 0 {
		w.end()
	}
}

func (w *wireBuilder) text(s string) {
	w.begin(tagItem)
	w.begin(tagString)
	w.b = append(w.b, s...)
	w.end()
	w.end()
}

func (w *wireBuilder) time(t time.Time) {
	w.begin(tagItem)
	w.begin(tagString)
	w.b = t.UTC().AppendFormat(w.b, time.RFC3339Nano)
	w.end()
	w.end()
}

func (w *wireBuilder) integer(n int64) {
	w.begin(tagItem)
	w.begin(tagString)
	w.b = strconv.AppendInt(w.b, n, 10)
	w.end()
	w.end()
}

func (w *wireBuilder) boolean(v bool) {
	bit := byte(0)
	if v {
		bit = 1
	}
	w.b = append(w.b, tagItem, 2, tagBool, bit)
}

func (w *wireBuilder) emptyList() { w.list(); w.endList() }

// changeRecord writes ARRAY<STRUCT> of one element whose field number field (0 to 2) holds one record.
func (w *wireBuilder) changeRecord(field int, record func()) []byte {
	w.list()
	w.list()
	for i := range 3 {
		if i != field {
			w.emptyList()
			continue
		}
		w.list()
		w.list()
		record()
		w.endList()
		w.endList()
	}
	w.endList()
	w.endList()
	return w.b
}

func (d *dataRecord) structRow() []byte {
	w := wireBuilder{b: make([]byte, 0, 512+256*len(d.mods))}
	c, t := d.txn.commit, d.view.table
	out := w.changeRecord(0, func() {
		w.time(micros(c.Timestamp))
		w.text(sequenceText(d.sequence))
		w.text(c.TransactionID)
		w.boolean(d.last)
		w.text(d.view.name)
		w.list()
		for _, i := range d.metadata() {
			w.list()
			w.text(t.Columns[i].Name)
			w.text(d.view.columns[i].typeJSON)
			w.boolean(t.IsKey(i))
			w.integer(int64(i + 1))
			w.endList()
		}
		w.endList()
		w.list()
		for _, ch := range d.mods {
			newCols, oldCols := d.values(ch)
			w.list()
			for n, cols := range [][]int{d.view.keys, newCols, oldCols} {
				row := ch.New
				switch n {
				case 0:
					row = keyRow(ch)
				case 2:
					row = ch.Old
				}
				w.begin(tagItem)
				w.begin(tagString)
				w.b = d.view.appendObject(w.b, cols, row)
				w.end()
				w.end()
			}
			w.endList()
		}
		w.endList()
		w.text(modType(d.op))
		w.text(d.txn.capture.String())
		w.integer(int64(d.txn.records))
		w.integer(int64(d.txn.partitions))
		w.text(c.Tag)
		w.boolean(c.System)
	})
	return append(make([]byte, 0, len(out)), out...) // kept for the whole retention, so without spare room
}

func structHeartbeat(t time.Time) []byte {
	var w wireBuilder
	return w.changeRecord(1, func() { w.time(t) })
}

func structChild(start time.Time, sequence int, token string, parents []string) []byte {
	var w wireBuilder
	return w.changeRecord(2, func() {
		w.time(start)
		w.text(sequenceText(sequence))
		w.list()
		w.list()
		w.text(token)
		w.list()
		for _, p := range parents {
			w.text(p)
		}
		w.endList()
		w.endList()
		w.endList()
	})
}

// textValue is a string value in wire form.
func textValue[T string | []byte](s T) []byte {
	b := make([]byte, 0, len(s)+1+binary.MaxVarintLen64)
	b = binary.AppendUvarint(append(b, tagString), uint64(len(s)))
	return append(b, s...)
}

package avro

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// Decode reads one record, as Append wrote it with this schema, into c and returns the bytes behind it. Every field of c is
// set except Partition, which a record does not carry. Values are equal to those written: byte for byte where they stood in
// the raw field, otherwise in the canonical form of change streams. They share memory with neither b nor other changes.
func (s *Schema) Decode(b []byte, c *change.Change) (rest []byte, err error) {
	var d decoder
	d.schema = s
	return d.decode(b, c)
}

var (
	errShort = errors.New("the record ends too early")
	errLong  = errors.New("a number is out of bounds")
)

// decoder reads records. It remembers the first fault; after it every read gives zero, so that callers check once.
type decoder struct {
	schema *Schema
	b      []byte
	err    error
	arena  []byte
	// the last strings made, because neighbours in a container mostly share them
	transaction, sequence, tag string
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) long() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int(most int64) int64 {
	v := d.long()
	if v < 0 || v > most {
		d.fail(errLong)
		return 0
	}
	return v
}

func (d *decoder) take(n int64) []byte {
	if n < 0 || n > int64(len(d.b)) {
		d.fail(errShort)
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) bytes() []byte { return d.take(d.long()) }

func (d *decoder) bool() bool {
	b := d.take(1)
	if len(b) == 1 && b[0] > 1 {
		d.fail(errors.New("a boolean is neither 0 nor 1"))
	}
	return len(b) == 1 && b[0] == 1
}

// text is a string, the last one again if it is equal.
func (d *decoder) text(last *string) string {
	if b := d.bytes(); string(b) != *last {
		*last = string(b)
	}
	return *last
}

func (d *decoder) decode(b []byte, c *change.Change) (rest []byte, err error) {
	s := d.schema
	d.b, d.err = b, nil
	id := d.bytes()
	*c = change.Change{Table: s.table}
	c.Position.Commit = change.Timestamp(d.int(int64(change.MaxTimestamp)))
	c.Position.Snapshot = d.bool()
	c.Position.Transaction = d.text(&d.transaction)
	c.Position.Sequence = d.text(&d.sequence)
	c.Position.Mod = int32(d.int(math.MaxInt32))
	if d.err == nil {
		var text [128]byte
		want, err := c.Position.AppendText(text[:0])
		if err != nil {
			d.fail(err)
		} else if string(want) != string(id) {
			d.fail(fmt.Errorf("its id %.200q is not its position %s", id, want))
		}
	}
	if name := d.bytes(); d.err == nil && string(name) != s.table.Name {
		d.fail(fmt.Errorf("it is of table %.200q", name))
	}
	c.Op = change.Op(d.int(int64(change.Delete)))
	c.Capture = change.Capture(d.int(int64(change.NewRowAndOldValues)))
	c.Tag = d.text(&d.tag)
	c.System = d.bool()
	c.Records = d.int32()
	c.Partitions = d.int32()
	if len(s.key) > 0 {
		c.Key = make([]change.Value, len(s.key))
		for i := range s.key {
			c.Key[i] = d.column(&s.key[i])
		}
	}
	c.After = d.row()
	c.Before = d.row()
	c.After = d.captured(c.After)
	c.Before = d.captured(c.Before)
	d.raws(c)
	if d.err != nil {
		return nil, fmt.Errorf("avro: record of table %s: %w", s.table.Name, d.err)
	}
	return d.b, nil
}

func (d *decoder) int32() int32 {
	v := d.long()
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.fail(errLong)
	}
	return int32(v)
}

// some reads a union of null and a type: false for null.
func (d *decoder) some() bool {
	b := d.take(1)
	if len(b) == 1 && b[0] != 0 && b[0] != 2 {
		d.fail(errors.New("a union has a branch that does not exist"))
	}
	return len(b) == 1 && b[0] == 2
}

func (d *decoder) row() change.Row {
	if len(d.schema.row) == 0 || !d.some() {
		return nil
	}
	row := make(change.Row, len(d.schema.table.Columns))
	for i := range d.schema.row {
		col := &d.schema.row[i]
		row[col.index] = d.column(col)
	}
	return row
}

// count reads the header of an Avro array's next block, 0 at its end. Every item has at least one byte, so a count above
// what is left is a lie.
func (d *decoder) count() int64 {
	n := d.long()
	if n < 0 {
		n = -n
		d.long() // the block's size, which we do not need
	}
	if n < 0 || n > int64(len(d.b)) {
		d.fail(errShort)
		return 0
	}
	return n
}

// captured drops the columns the names do not list. They come in the schema's order.
func (d *decoder) captured(row change.Row) change.Row {
	cols, next, names := d.schema.row, 0, 0
	for n := d.count(); n > 0; n = d.count() {
		for range n {
			name := d.bytes()
			names++
			for ; next < len(cols); next++ {
				def := &d.schema.table.Columns[cols[next].index]
				if def.Name == string(name) {
					break
				}
				if row != nil {
					row[cols[next].index] = nil
				}
			}
			if d.err != nil {
				return nil
			}
			if next == len(cols) || row == nil {
				d.fail(fmt.Errorf("it lists a captured column %.200q that is not there, or not in order", name))
				return nil
			}
			next++
		}
	}
	if d.err == nil && row != nil && names == 0 {
		d.fail(errors.New("it has a row without captured columns"))
		return nil
	}
	for ; row != nil && next < len(cols); next++ {
		row[cols[next].index] = nil
	}
	return row
}

// raws puts the raw values over the typed ones.
func (d *decoder) raws(c *change.Change) {
	for n := d.count(); n > 0; n = d.count() {
		for range n {
			where, name, value := d.bytes(), d.bytes(), d.bytes()
			if d.err != nil {
				return
			}
			i := d.schema.index(name)
			if i < 0 {
				d.fail(fmt.Errorf("it has a raw value of column %.200q, which the schema does not have", name))
				return
			}
			var slot *change.Value
			switch string(where) {
			case rowNames[whereKey]:
				for k := range d.schema.key {
					if d.schema.key[k].index == i {
						slot = &c.Key[k]
					}
				}
			case rowNames[whereAfter]:
				slot = at(c.After, i)
			case rowNames[whereBefore]:
				slot = at(c.Before, i)
			}
			if slot == nil {
				d.fail(fmt.Errorf("it has a raw value of column %.200q in %.50q, where none was captured", name, where))
				return
			}
			mark := d.room(len(value))
			d.arena = append(d.arena, value...)
			*slot = d.arena[mark:len(d.arena):len(d.arena)]
		}
	}
}

func at(row change.Row, i int) *change.Value {
	if i < len(row) && row[i] != nil {
		return &row[i]
	}
	return nil
}

func (s *Schema) index(name []byte) int {
	for i := range s.table.Columns {
		if s.table.Columns[i].Name == string(name) {
			return i
		}
	}
	return -1
}

// room makes sure that n bytes can be appended to the arena without moving it much, and says where they begin. Values
// taken from a former arena keep it alive.
func (d *decoder) room(n int) int {
	if cap(d.arena)-len(d.arena) < n {
		d.arena = make([]byte, 0, max(n, 4096, min(2*cap(d.arena), 1<<16)))
	}
	return len(d.arena)
}

var null = change.Value("null")

func (d *decoder) column(col *column) change.Value {
	if !d.some() {
		return null[:4:4]
	}
	mark := d.room(64)
	switch col.kind {
	case kindText:
		d.arena = append(d.arena, d.bytes()...)
	case kindArray:
		d.arena = append(d.arena, '[')
		for n := d.count(); n > 0; n = d.count() {
			for range n {
				if len(d.arena) > mark+1 {
					d.arena = append(d.arena, ',')
				}
				if d.some() {
					d.scalar(col.elem)
				} else {
					d.arena = append(d.arena, "null"...)
				}
				if d.err != nil {
					return nil
				}
			}
		}
		d.arena = append(d.arena, ']')
	default:
		d.scalar(col.kind)
	}
	return change.Value(d.arena[mark:len(d.arena):len(d.arena)])
}

// scalar appends a value's JSON to the arena.
func (d *decoder) scalar(k kind) {
	switch k {
	case kindBool:
		d.arena = strconv.AppendBool(d.arena, d.bool())
	case kindInt:
		d.arena = append(strconv.AppendInt(append(d.arena, '"'), d.long(), 10), '"')
	case kindFloat64:
		if b := d.take(8); b != nil {
			d.float(math.Float64frombits(binary.LittleEndian.Uint64(b)), 64)
		}
	case kindFloat32:
		if b := d.take(4); b != nil {
			d.float(float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 32)
		}
	case kindTimestamp:
		micros := d.long()
		if micros < rawjson.MinDay*86400_000_000 || micros >= (rawjson.MaxDay+1)*86400_000_000 {
			d.fail(errLong)
			return
		}
		d.arena = append(rawjson.AppendTimestamp(append(d.arena, '"'), micros), '"')
	case kindDate:
		day := d.long()
		if day < rawjson.MinDay || day > rawjson.MaxDay {
			d.fail(errLong)
			return
		}
		d.arena = append(rawjson.AppendDate(append(d.arena, '"'), int(day)), '"')
	case kindBytes:
		d.arena = append(base64.StdEncoding.AppendEncode(append(d.arena, '"'), d.bytes()), '"')
	case kindNumeric:
		b := d.bytes()
		if d.err != nil {
			return
		}
		var ok bool
		if d.arena, ok = appendNumeric(append(d.arena, '"'), b); !ok {
			d.fail(errLong)
			return
		}
		d.arena = append(d.arena, '"')
	default:
		b := d.bytes()
		if !utf8.Valid(b) {
			d.fail(errors.New("a string is not UTF-8"))
			return
		}
		d.arena = rawjson.AppendString(d.arena, b)
	}
}

func (d *decoder) float(f float64, bits int) {
	switch {
	case math.IsNaN(f):
		d.arena = append(d.arena, `"NaN"`...)
	case math.IsInf(f, 1):
		d.arena = append(d.arena, `"Infinity"`...)
	case math.IsInf(f, -1):
		d.arena = append(d.arena, `"-Infinity"`...)
	default:
		d.arena = strconv.AppendFloat(d.arena, f, 'g', -1, bits)
	}
}

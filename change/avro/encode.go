package avro

import (
	"encoding/binary"
	"fmt"

	"github.com/spanledger/spanledger/change"
)

// rawRef names a value that goes to the raw field.
type rawRef struct {
	where int // in rowNames
	name  []byte
	value change.Value
}

const (
	whereKey = iota
	whereAfter
	whereBefore
)

var rowNames = [...]string{whereKey: "key", whereAfter: "after", whereBefore: "before"}

// Append appends the change as one Avro record. The change may have been read with an older version of the schema's union:
// a value whose column has since changed its type stands in the raw field. It allocates only to grow dst and for changes
// with more than eight raw values. Errors mean that the change does not belong to the schema's table, has columns the
// schema does not know, or an impossible position; dst is then returned as it was.
func (s *Schema) Append(dst []byte, c *change.Change) ([]byte, error) {
	older := c.Table != s.table
	if older && !s.fits(c.Table) {
		return dst, s.mismatch(c)
	}
	if len(c.Key) != len(s.key) || len(c.After) > len(s.table.Columns) || len(c.Before) > len(s.table.Columns) {
		return dst, fmt.Errorf("avro: change %s of table %s has %d key values, %d and %d columns: its table has %d and %d",
			c.ID(), s.table.Name, len(c.Key), len(c.After), len(c.Before), len(s.key), len(s.table.Columns))
	}
	start := len(dst)
	var id [128]byte
	text, err := c.Position.AppendText(id[:0])
	if err != nil {
		return dst, fmt.Errorf("avro: table %s: %w", s.table.Name, err)
	}
	dst = appendBytes(dst, text)
	dst = appendLong(dst, int64(c.Position.Commit))
	dst = appendBool(dst, c.Position.Snapshot)
	dst = appendString(dst, c.Position.Transaction)
	dst = appendString(dst, c.Position.Sequence)
	dst = appendLong(dst, int64(c.Position.Mod))
	dst = append(dst, s.tableName...)
	dst = appendLong(dst, enum(uint8(c.Op), uint8(change.Delete)))
	dst = appendLong(dst, enum(uint8(c.Capture), uint8(change.NewRowAndOldValues)))
	dst = appendString(dst, c.Tag)
	dst = appendBool(dst, c.System)
	dst = appendLong(dst, int64(c.Records))
	dst = appendLong(dst, int64(c.Partitions))

	var few [8]rawRef
	raws := few[:0]
	for i := range s.key {
		col, v := &s.key[i], c.Key[i]
		if v == nil {
			return dst[:start], fmt.Errorf("avro: change %s of table %s has no value for key column %s", c.ID(), s.table.Name, s.table.Columns[col.index].Name)
		}
		var raw bool
		if dst, raw = s.appendColumn(dst, col, v, older, c.Table); raw {
			raws = append(raws, rawRef{whereKey, col.encoded, v})
		}
	}
	var after, before int
	if dst, raws, after, err = s.appendRow(dst, c, c.After, whereAfter, older, raws); err != nil {
		return dst[:start], err
	}
	if dst, raws, before, err = s.appendRow(dst, c, c.Before, whereBefore, older, raws); err != nil {
		return dst[:start], err
	}
	dst = s.appendCaptured(dst, c.After, after)
	dst = s.appendCaptured(dst, c.Before, before)
	if len(raws) > 0 {
		dst = appendLong(dst, int64(len(raws)))
		for i := range raws {
			dst = appendString(dst, rowNames[raws[i].where])
			dst = append(dst, raws[i].name...)
			dst = appendBytes(dst, raws[i].value)
		}
	}
	return append(dst, 0), nil
}

func enum(v, most uint8) int64 {
	if v > most {
		return 0
	}
	return int64(v)
}

func (s *Schema) mismatch(c *change.Change) error {
	if c.Table == nil {
		return fmt.Errorf("avro: change %s has no table: the schema is of table %s", c.ID(), s.table.Name)
	}
	return fmt.Errorf("avro: change %s is of table %s, version %d: it does not fit the schema of table %s, version %d, which needs the same name, the same key and no column less",
		c.ID(), c.Table.Name, c.Table.Version, s.table.Name, s.table.Version)
}

// appendRow writes after or before: null if nothing was captured. captured counts the columns that were.
func (s *Schema) appendRow(dst []byte, c *change.Change, row change.Row, where int, older bool, raws []rawRef) (_ []byte, _ []rawRef, captured int, err error) {
	for i, v := range row {
		if v == nil {
			continue
		}
		if s.byIndex[i] == inKey {
			return dst, raws, 0, fmt.Errorf("avro: change %s of table %s has a value of key column %s outside its key", c.ID(), s.table.Name, s.table.Columns[i].Name)
		}
		captured++
	}
	if len(s.row) == 0 {
		return dst, raws, 0, nil // the field's type is null: no bytes
	}
	if captured == 0 {
		return append(dst, 0), raws, 0, nil
	}
	dst = append(dst, 2)
	for i := range s.row {
		col := &s.row[i]
		v := row.At(col.index)
		if v == nil {
			dst = append(dst, 0)
			continue
		}
		var raw bool
		if dst, raw = s.appendColumn(dst, col, v, older, c.Table); raw {
			raws = append(raws, rawRef{where, col.encoded, v})
		}
	}
	return dst, raws, captured, nil
}

// appendColumn writes one nullable value; raw says that it must stand in the raw field as well.
func (s *Schema) appendColumn(dst []byte, col *column, v change.Value, older bool, table *change.Table) (_ []byte, raw bool) {
	if older && !table.Columns[col.index].Type.Equal(s.table.Columns[col.index].Type) {
		return append(dst, 0), true
	}
	return appendValue(dst, col, v)
}

func (s *Schema) appendCaptured(dst []byte, row change.Row, captured int) []byte {
	switch captured {
	case 0:
		return append(dst, 0)
	case len(s.row):
		return append(dst, s.allCaptured...)
	}
	dst = appendLong(dst, int64(captured))
	for i := range s.row {
		if row.At(s.row[i].index) != nil {
			dst = append(dst, s.row[i].encoded...)
		}
	}
	return append(dst, 0)
}

func appendNames(dst []byte, cols []column) []byte {
	if len(cols) > 0 {
		dst = appendLong(dst, int64(len(cols)))
		for i := range cols {
			dst = append(dst, cols[i].encoded...)
		}
	}
	return append(dst, 0)
}

// AppendSingle appends the change in Avro's single-object form: two marker bytes, the schema's Rabin fingerprint, the
// record. Errors are those of Append.
func (s *Schema) AppendSingle(dst []byte, c *change.Change) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 0xc3, 0x01)
	dst = binary.LittleEndian.AppendUint64(dst, s.rabin)
	dst, err := s.Append(dst, c)
	if err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// SingleRabin is the fingerprint a single-object message begins with and the record behind it; false if b is none.
func SingleRabin(b []byte) (rabin uint64, record []byte, ok bool) {
	if len(b) < 10 || b[0] != 0xc3 || b[1] != 0x01 {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint64(b[2:]), b[10:], true
}

// appendLong writes Avro's int and long: zigzag, seven bits a byte.
func appendLong(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendString(dst []byte, s string) []byte {
	return append(appendLong(dst, int64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(appendLong(dst, int64(len(b))), b...)
}

// insertLong writes v at mark, moving what stands behind it: for counts known only afterwards.
func insertLong(dst []byte, mark int, v int64) []byte {
	var tmp [binary.MaxVarintLen64]byte
	n := binary.PutVarint(tmp[:], v)
	dst = append(dst, tmp[:n]...)
	copy(dst[mark+n:], dst[mark:len(dst)-n])
	copy(dst[mark:], tmp[:n])
	return dst
}

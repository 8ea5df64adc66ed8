package plainjson

import (
	"bytes"
	"strconv"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// Append appends the change's object, without a line break at its end, and returns the longer slice. It allocates only to
// grow dst. The error is a position that has no text form, or a change whose key does not fit its table: dst is then
// returned as it was.
func Append(dst []byte, c *change.Change) ([]byte, error) {
	start := len(dst)
	if keys := c.Table.Keys(); len(keys) != len(c.Key) {
		return dst, &KeyError{Table: c.Table.Name, Columns: len(keys), Values: len(c.Key)}
	}
	p := &c.Position
	dst = append(dst, `{"id":"`...)
	dst, err := p.AppendText(dst)
	if err != nil {
		return dst[:start], err
	}
	dst = append(dst, `","commit_timestamp":"`...)
	dst = p.Commit.Time().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	dst = append(dst, `","transaction":`...)
	dst = rawjson.AppendString(dst, p.Transaction)
	dst = append(dst, `,"sequence":`...)
	dst = rawjson.AppendString(dst, p.Sequence)
	dst = append(dst, `,"mod":`...)
	dst = strconv.AppendInt(dst, int64(p.Mod), 10)
	dst = append(dst, `,"table":`...)
	dst = rawjson.AppendString(dst, c.Table.Name)
	dst = append(dst, `,"op":"`...)
	dst = append(dst, c.Op.String()...)
	dst = append(dst, `","capture":"`...)
	dst = append(dst, c.Capture.String()...)
	dst = append(dst, '"')
	if c.Tag != "" {
		dst = append(dst, `,"tag":`...)
		dst = rawjson.AppendString(dst, c.Tag)
	}
	if c.System {
		dst = append(dst, `,"system":true`...)
	}
	if p.Snapshot {
		dst = append(dst, `,"snapshot":true`...)
	}
	dst = append(dst, `,"records":`...)
	dst = strconv.AppendInt(dst, int64(c.Records), 10)
	dst = append(dst, `,"partitions":`...)
	dst = strconv.AppendInt(dst, int64(c.Partitions), 10)
	dst = append(dst, `,"key":{`...)
	for i, column := range c.Table.Keys() {
		dst = appendMember(dst, i == 0, c.Table.Columns[column].Name, c.Key[i])
	}
	dst = append(dst, `},"after":{`...)
	dst = appendRow(dst, c.Table, c.After)
	dst = append(dst, `},"before":{`...)
	dst = appendRow(dst, c.Table, c.Before)
	return append(dst, '}', '}'), nil
}

// KeyError says that a change has not as many key values as its table has key columns.
type KeyError struct {
	Table           string
	Columns, Values int
}

// Error names the table and both numbers.
func (e *KeyError) Error() string {
	return "change of table " + e.Table + " has " + strconv.Itoa(e.Values) + " key values for " + strconv.Itoa(e.Columns) +
		" key columns (a fault of its reader)"
}

func appendRow(dst []byte, t *change.Table, row change.Row) []byte {
	first := true
	for i := range min(len(row), len(t.Columns)) {
		if row[i] != nil { // nil is "not captured", which is not NULL
			dst = appendMember(dst, first, t.Columns[i].Name, row[i])
			first = false
		}
	}
	return dst
}

func appendMember(dst []byte, first bool, name string, v change.Value) []byte {
	if !first {
		dst = append(dst, ',')
	}
	dst = append(rawjson.AppendString(dst, name), ':')
	if len(v) == 0 {
		return append(dst, "null"...) // a key value that is missing; Append's callers have checked rows
	}
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return append(dst, v...)
	}
	// A raw line break in JSON is white space between tokens; one line a change matters more.
	for _, b := range v {
		if b == '\n' || b == '\r' {
			b = ' '
		}
		dst = append(dst, b)
	}
	return dst
}

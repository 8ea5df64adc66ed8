package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/plainjson"
)

// TailStyle is how `spanledger tail` shows changes.
type TailStyle struct {
	// JSON writes one object a line, as the stdout sink does; else one line a change for people, in columns.
	JSON bool
	// Raw adds to each object the partition and the types of the table's columns; it implies JSON.
	Raw bool
	// Keys leaves the values of columns outside the key out.
	Keys bool
	// Partitions shows where partitions end and which follow, Heartbeats each partition's promises.
	Partitions, Heartbeats bool
	// Colour marks operations and values with a terminal's colours.
	Colour bool
	// Whole does not cut long values in lines for people.
	Whole bool
}

// tailWriter writes what tail shows.
type tailWriter struct {
	out   io.Writer
	style TailStyle
	buf   []byte
	// begun says that the heading is written; tableWidth and keyWidth grow with what was shown.
	begun                bool
	tableWidth, keyWidth int
}

const (
	timeWidth = len("2006-01-02T15:04:05.000000Z")
	maxColumn = 40 // columns grow to this width, in runes
	maxValue  = 60 // longer values are cut, in runes
)

// newTailWriter makes room for the tables that are known beforehand.
func newTailWriter(out io.Writer, s TailStyle, tables []*change.Table) *tailWriter {
	s.JSON = s.JSON || s.Raw
	w := &tailWriter{out: out, style: s, tableWidth: len("TABLE"), keyWidth: 12}
	for _, t := range tables {
		w.tableWidth = max(w.tableWidth, min(utf8.RuneCountInString(t.Name), maxColumn))
	}
	return w
}

// frame writes a frame's changes, and what else is to be shown of it.
func (w *tailWriter) frame(f *change.Frame) error {
	w.buf = w.buf[:0]
	for i := range f.Changes {
		if err := w.change(&f.Changes[i]); err != nil {
			return err
		}
	}
	if w.style.Heartbeats {
		w.note("heartbeat", f, fmt.Sprintf("everything through %s was read of partition %s", f.Through, shortToken(f.Token)))
	}
	if w.style.Partitions && (f.Ended || len(f.Children) > 0) {
		var next []string
		for _, c := range f.Children {
			next = append(next, shortToken(c.Token))
		}
		what := "goes on beside"
		if f.Ended {
			what = "ended; it is followed by"
		}
		if len(next) == 0 {
			next = []string{"none"}
		}
		w.note("partition", f, fmt.Sprintf("partition %s %s %s", shortToken(f.Token), what, strings.Join(next, ", ")))
	}
	_, err := w.out.Write(w.buf)
	return err
}

// shortToken is enough of a token to tell partitions apart.
func shortToken(token string) string {
	if len(token) > 16 {
		return token[:8] + "…" + token[len(token)-8:]
	}
	return token
}

// note writes a line that is no change.
func (w *tailWriter) note(kind string, f *change.Frame, text string) {
	if !w.style.JSON {
		w.buf = append(w.buf, w.paint(dim, "# "+text)...)
		w.buf = append(w.buf, '\n')
		return
	}
	line := struct {
		Record   string             `json:"record"`
		Token    string             `json:"token"`
		Through  change.Timestamp   `json:"through"`
		Ended    bool               `json:"ended,omitempty"`
		Children []change.Partition `json:"children,omitempty"`
	}{Record: kind, Token: f.Token, Through: f.Through}
	if kind == "partition" {
		line.Ended, line.Children = f.Ended, f.Children
	}
	b, err := json.Marshal(line)
	if err != nil {
		panic("app: " + err.Error()) // strings and times always marshal
	}
	w.buf = append(append(w.buf, b...), '\n')
}

func (w *tailWriter) change(c *change.Change) error {
	if w.style.JSON {
		return w.json(c)
	}
	if !w.begun {
		w.begun = true
		w.line("COMMITTED", "OP", "TABLE", "KEY", "COLUMNS", bold)
	}
	columns := ""
	if !w.style.Keys {
		columns = w.columns(c)
	}
	colour := ""
	switch c.Op {
	case change.Insert:
		colour = green
	case change.Update:
		colour = yellow
	case change.Delete:
		colour = red
	}
	w.line(c.Position.Commit.String(), c.Op.String(), c.Table.Name, w.key(c), columns, colour)
	return nil
}

func (w *tailWriter) json(c *change.Change) error {
	shown := *c
	if w.style.Keys {
		shown.After, shown.Before = nil, nil
	}
	b, err := plainjson.Append(w.buf, &shown)
	if err != nil {
		return fmt.Errorf("show change %s: %w", c.ID(), err)
	}
	if w.style.Raw {
		more, err := json.Marshal(struct {
			Partition string          `json:"partition"`
			Columns   []change.Column `json:"columns"`
		}{c.Partition, c.Table.Columns})
		if err != nil {
			return fmt.Errorf("show change %s: %w", c.ID(), err)
		}
		b = append(append(b[:len(b)-1], ','), more[1:]...) // into the object
	}
	w.buf = append(b, '\n')
	return nil
}

// line writes columns below one another. colour is the operation's.
func (w *tailWriter) line(at, op, table, key, columns, colour string) {
	w.tableWidth = max(w.tableWidth, min(utf8.RuneCountInString(table), maxColumn))
	w.keyWidth = max(w.keyWidth, min(utf8.RuneCountInString(key), maxColumn))
	text := fmt.Sprintf("%-*s  %s  %-*s  %-*s  %s", timeWidth, at, w.paint(colour, fmt.Sprintf("%-7s", op)), w.tableWidth, table, w.keyWidth, key, columns)
	w.buf = append(append(w.buf, strings.TrimRight(text, " ")...), '\n')
}

func (w *tailWriter) key(c *change.Change) string {
	var parts []string
	for i, column := range c.Table.Keys() {
		parts = append(parts, w.value(c.Table.Columns[column].Type, c.Key[i]))
	}
	return strings.Join(parts, ", ")
}

// columns are those that were written, or, of a change whose stream captures whole rows, those that differ.
func (w *tailWriter) columns(c *change.Change) string {
	var parts []string
	for i := range c.Table.Columns {
		column := &c.Table.Columns[i]
		after, before := c.After.At(i), c.Before.At(i)
		name := column.Name
		switch {
		case after == nil && before == nil: // not captured
		case c.Op == change.Update && after != nil && before != nil:
			if !bytes.Equal(after, before) {
				parts = append(parts, fmt.Sprintf("%s %s → %s", name, w.paint(dim, w.value(column.Type, before)), w.value(column.Type, after)))
			}
		case after != nil:
			if c.Op != change.Insert || !after.IsNull() {
				parts = append(parts, name+"="+w.value(column.Type, after))
			}
		default:
			if !before.IsNull() {
				parts = append(parts, w.paint(dim, name+"="+w.value(column.Type, before)))
			}
		}
	}
	if len(parts) == 0 && c.Op == change.Update {
		return w.paint(dim, "no captured column differs")
	}
	return strings.Join(parts, "  ")
}

// value is a value for people: numbers and times without quotes, JSON columns as the JSON they hold. What a terminal would
// not print is escaped.
func (w *tailWriter) value(t *change.Type, v change.Value) string {
	text := string(v)
	if v.IsNull() || len(v) == 0 {
		return "NULL"
	}
	if v[0] == '"' && t != nil && t.Code != change.CodeString {
		var s string
		if json.Unmarshal(v, &s) == nil {
			text = s
		}
	}
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxValue && !w.style.Whole {
			b.WriteRune('…')
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
)

func (w *tailWriter) paint(colour, text string) string {
	if !w.style.Colour || colour == "" {
		return text
	}
	return colour + text + "\x1b[0m"
}

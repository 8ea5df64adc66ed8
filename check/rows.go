package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
)

// RowsOptions say which tables snapshots took rows of.
type RowsOptions struct {
	// Client is an ordinary client of the database; it makes single-use reads, of the tables at the truth's end.
	Client *spanner.Client
	// Tables are the tables' names, as the stream has them.
	Tables []string
	// Whole says that every row that a table has at the truth's end must have come, from a snapshot or by a change that holds it.
	Whole bool
}

// ReadRows reads tables as they are at the truth's end, so that the rows of snapshots can be held against what was in them at
// any earlier instant: it is found by undoing the changes since, which needs their old values, or else by the last change
// before that holds the whole row. Without it, and where neither is there, rows of snapshots are counted as unverified.
func (t *Truth) ReadRows(ctx context.Context, o RowsOptions) error {
	for _, name := range o.Tables {
		if err := t.readTable(ctx, o, name); err != nil {
			return fmt.Errorf("check: rows of table %s: %w", name, err)
		}
	}
	return nil
}

// table is what is known of a table beside its changes.
type table struct {
	whole   bool
	keys    []*Column
	columns map[string]*Column // those that the stream captures, the key's too
	// rows are those at the truth's end, without their keys, by key; changes the indexes of the changes of each, in order.
	rows    map[string]Row
	changes map[string][]int32
}

func (t *Truth) readTable(ctx context.Context, o RowsOptions, name string) error {
	if o.Client == nil {
		return errors.New("no client")
	}
	x := &table{whole: o.Whole, columns: map[string]*Column{}, rows: map[string]Row{}, changes: map[string][]int32{}}
	keys, names, err := t.captured(ctx, o.Client, name)
	if err != nil {
		return err
	}
	for i := range t.Changes {
		if c := &t.Changes[i]; c.Table == name {
			x.changes[c.Key] = append(x.changes[c.Key], int32(i))
		}
	}
	at := o.Client.Single().WithTimestampBound(spanner.ReadTimestamp(t.End.Time()))
	err = at.Read(ctx, name, spanner.AllKeys(), names).Do(func(r *spanner.Row) error {
		values := make(map[string]Value, len(names))
		var rest []Value
		for i, column := range names {
			var cell spanner.GenericColumnValue
			if err := r.Column(i, &cell); err != nil {
				return err
			}
			if x.columns[column] == nil {
				x.columns[column] = &Column{column, typeOf(cell.Type)}
			}
			c := x.columns[column]
			text, err := c.Type.canonical(cellValue(cell.Value))
			if err != nil {
				return fmt.Errorf("column %s: %w", column, err)
			}
			values[column] = Value{c, text}
			if !slices.Contains(keys, column) {
				rest = append(rest, values[column])
			}
		}
		key, err := list(len(keys), func(i int) (string, error) { return values[keys[i]].Text, nil })
		if err != nil {
			return err
		}
		x.rows[key], err = MakeRow(rest...)
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		c := x.columns[k]
		if c == nil {
			c = &Column{Name: k} // the table is empty
		}
		x.keys = append(x.keys, c)
	}
	if t.tables == nil {
		t.tables = map[string]*table{}
	}
	t.tables[name] = x
	return nil
}

// captured are the key's columns of a table, in their order, and all that the stream captures.
func (t *Truth) captured(ctx context.Context, client *spanner.Client, name string) (keys, names []string, err error) {
	schema, table, found := strings.Cut(name, ".")
	if !found {
		schema, table = "", name
	}
	params := map[string]any{"stream": t.Stream, "schema": schema, "table": table}
	ask := func(sql string, row func(*spanner.Row) error) {
		if err == nil {
			err = client.Single().Query(ctx, spanner.Statement{SQL: sql, Params: params}).Do(row)
		}
	}
	ask(`SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.INDEX_COLUMNS
		WHERE TABLE_SCHEMA = @schema AND TABLE_NAME = @table AND INDEX_TYPE = 'PRIMARY_KEY' ORDER BY ORDINAL_POSITION`, func(r *spanner.Row) error {
		var column string
		err := r.Columns(&column)
		keys = append(keys, column)
		return err
	})
	all, chosen := false, map[string]bool{}
	ask("SELECT `ALL` FROM INFORMATION_SCHEMA.CHANGE_STREAMS WHERE CHANGE_STREAM_NAME = @stream", func(r *spanner.Row) error { return r.Columns(&all) })
	ask(`SELECT ALL_COLUMNS FROM INFORMATION_SCHEMA.CHANGE_STREAM_TABLES
		WHERE CHANGE_STREAM_NAME = @stream AND TABLE_SCHEMA = @schema AND TABLE_NAME = @table`, func(r *spanner.Row) error { return r.Columns(&all) })
	ask(`SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.CHANGE_STREAM_COLUMNS
		WHERE CHANGE_STREAM_NAME = @stream AND TABLE_SCHEMA = @schema AND TABLE_NAME = @table`, func(r *spanner.Row) error {
		var column string
		err := r.Columns(&column)
		chosen[column] = true
		return err
	})
	ask("SELECT COLUMN_NAME, IS_GENERATED FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = @schema AND TABLE_NAME = @table", func(r *spanner.Row) error {
		var column, generated string
		err := r.Columns(&column, &generated)
		if slices.Contains(keys, column) || chosen[column] || all && generated == "NEVER" {
			names = append(names, column)
		}
		return err
	})
	if err == nil && len(names) == 0 {
		err = errors.New("there is no such table")
	}
	return keys, names, err
}

// rowAt is a row as it was at an instant. known is false where that cannot be told.
func (t *Truth) rowAt(x *table, key string, at change.Timestamp) (row Row, exists, known bool) {
	row, exists = x.rows[key]
	changes := x.changes[key]
	n := len(changes)
	for ; n > 0 && t.Changes[changes[n-1]].Position.Commit > at; n-- {
		switch c := &t.Changes[changes[n-1]]; {
		case c.Op == "INSERT":
			row, exists = nil, false
		case !c.hasOldValues() || t.Official && hasTimestamp(c.Before): // whose emulator shows those in another way
			return t.lastBefore(changes[:n], at)
		case c.Op == "DELETE":
			row, exists = c.Before, true
		default:
			row, exists = overlaid(row, c.Before), true
		}
	}
	return row, exists, true
}

// lastBefore is a row by the last of its changes at or before an instant.
func (t *Truth) lastBefore(changes []int32, at change.Timestamp) (row Row, exists, known bool) {
	for n := len(changes); n > 0; n-- {
		c := &t.Changes[changes[n-1]]
		if c.Position.Commit > at {
			continue
		}
		return c.After, c.Op != "DELETE", (c.Op == "DELETE" || c.holdsRow()) && !(t.Official && hasTimestamp(c.After))
	}
	return nil, false, false
}

func (c *Change) hasOldValues() bool {
	return c.Capture == "NEW_ROW_AND_OLD_VALUES" || c.Capture == "OLD_AND_NEW_VALUES"
}

// holdsRow reports whether After is all of the row.
func (c *Change) holdsRow() bool {
	return c.Op == "INSERT" || c.Capture == "NEW_ROW" || c.Capture == "NEW_ROW_AND_OLD_VALUES"
}

func hasTimestamp(r Row) bool {
	return slices.ContainsFunc(r, func(v Value) bool { return v.Column.Type.Code == "TIMESTAMP" })
}

// overlaid is row with the values of over in place of its own.
func overlaid(row, over Row) Row {
	out := slices.Clone(row)
	for i, v := range out {
		if j := slices.IndexFunc(over, func(o Value) bool { return o.Column.Name == v.Column.Name }); j >= 0 {
			out[i] = over[j]
		}
	}
	return out
}

// Snapshot is what came of snapshots to a sink. What is wrong with a row's content or order is counted with the sink's own.
type Snapshot struct {
	// Rows counts the rows at different positions, Again those of them whose key had come before, at another timestamp: tables
	// are taken more than once, and a chunk is read anew where a crash came between. Duplicates are further copies at a position.
	Rows       int64 `json:"rows"`
	Again      int64 `json:"again"`
	Duplicates int64 `json:"duplicates"`
	// Missing are rows of tables taken whole that neither a snapshot nor a change has brought.
	Missing int64 `json:"missing"`
	// Unverified are rows of which nobody could say whether they were as the sink has them, those of after the truth's end among them.
	Unverified int64 `json:"unverified"`
}

// taken is what a tally has seen of snapshots.
type taken struct {
	copies map[change.Position]uint32
	// newest is the position of the newest row of a snapshot that was delivered, by key.
	newest map[rowKey]change.Position
}

// countRow compares one row of a snapshot with the table at its instant and counts it; it reports whether this is the first
// delivery at its position.
func (l *tally) countRow(d *Delivery) (first bool) {
	if l.sink.Snapshot == nil {
		l.sink.Snapshot = &Snapshot{}
		l.taken = taken{copies: map[change.Position]uint32{}, newest: map[rowKey]change.Position{}}
	}
	s := l.sink.Snapshot
	l.taken.copies[d.Position]++
	if n := l.taken.copies[d.Position]; n > 1 {
		l.sink.note(Example{Kind: DuplicateRow, ID: d.Position.String(), Object: d.Object, Table: d.Table, Key: d.Key, Detail: fmt.Sprintf("copy %d of a snapshot's row", n)})
		return false
	}
	s.Rows++
	k := rowKey{d.Table, d.Key}
	last, again := l.taken.newest[k]
	if again {
		s.Again++
	}
	if d.Position.After(last) {
		l.taken.newest[k] = d.Position
	}
	note := func(kind Kind, why string) {
		l.sink.note(Example{Kind: kind, ID: d.Position.String(), Object: d.Object, Table: d.Table, Key: d.Key, Detail: why})
	}
	if why := rowMismatch(d); why != "" {
		note(Mismatched, why)
	}
	if d.Position.Commit < l.truth.Start {
		note(Unexpected, fmt.Sprintf("a snapshot's row of %s, before the start %s", d.Position.Commit, l.truth.Start))
		return true
	}
	x := l.truth.tables[d.Table]
	if x == nil || !d.Values || d.Position.Commit > l.truth.End {
		s.Unverified++
		return true
	}
	switch row, exists, known := l.truth.rowAt(x, d.Key, d.Position.Commit); {
	case !known:
		s.Unverified++
	case !exists:
		note(Unexpected, fmt.Sprintf("at %s the table had no such row", d.Position.Commit))
	default:
		if why := differ("the row", "the table had", "the table had", "the stream does not capture it", row, d.After); why != "" {
			note(Mismatched, why)
		} else if len(d.Before) > 0 {
			note(Mismatched, "a snapshot's row has values before it")
		}
	}
	return true
}

// rowMismatch says in what a snapshot's row contradicts itself, "" if in nothing.
func rowMismatch(d *Delivery) string {
	switch m := d.content; {
	case d.Position.Transaction != d.Table:
		return fmt.Sprintf("table is %s: the position says %s", short(d.Table), short(d.Position.Transaction))
	case d.Op != "" && d.Op != "INSERT":
		return fmt.Sprintf("operation is %s: a snapshot's row is an INSERT", short(d.Op))
	case m == nil:
		return ""
	case m.inconsistent != "":
		return m.inconsistent
	case m.commit != d.Position.Commit:
		return "commit timestamp is " + m.commit.String() + ": the position says " + d.Position.Commit.String()
	case m.id != d.Position.String():
		return fmt.Sprintf("id is %s: the position's text is %s", short(m.id), d.Position)
	case m.tag != "" || m.system || m.records != 0 || m.parts != 0:
		return fmt.Sprintf("transaction tag %q, system %t, %d records, %d partitions: no transaction wrote a snapshot's row", short(m.tag), m.system, m.records, m.parts)
	}
	return ""
}

// orderRow judges the order of a snapshot's row that was delivered for the first time: it must not come after a later change of
// its key, nor after a later row.
func (l *tally) orderRow(d *Delivery) {
	k := rowKey{d.Table, d.Key}
	late := l.taken.newest[k]
	if row, ok := l.truth.rowNumbers[k]; ok {
		for _, p := range l.places[row] {
			if at := l.truth.Changes[p.index].Position; at.After(late) {
				late = at
			}
		}
	}
	if late.After(d.Position) {
		l.sink.note(Example{Kind: OrderViolation, ID: d.Position.String(), Object: d.Object, Table: d.Table, Key: d.Key,
			Detail: "a snapshot's row first delivered after " + late.String()})
	}
}

// missingRows counts the rows of tables taken whole that did not come.
func (l *tally) missingRows() {
	for name, x := range l.truth.tables {
		if !x.whole {
			continue
		}
		if l.sink.Snapshot == nil {
			l.sink.Snapshot = &Snapshot{}
		}
		for key := range x.rows {
			_, came := l.taken.newest[rowKey{name, key}]
			came = came || slices.ContainsFunc(x.changes[key], func(i int32) bool { return l.truth.Changes[i].holdsRow() })
			if !came {
				l.sink.note(Example{Kind: MissingRow, Table: name, Key: key, Detail: "the table has it, and neither a snapshot nor a change has brought it"})
			}
		}
	}
}

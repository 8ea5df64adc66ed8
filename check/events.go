package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
)

// EventsOptions say where the events are.
type EventsOptions struct {
	// Client is an ordinary client of the database; it makes one single-use strong read.
	Client *spanner.Client
	// Table is the events table; "" means events. It must have the key (stream, version) and a column committed_at that
	// holds the commit timestamp.
	Table string
}

// Events is the comparison of the events table with the stream.
type Events struct {
	// Rows is the number of events in the table committed up to the truth's end, Streams that of event streams.
	Rows    int64 `json:"rows"`
	Streams int64 `json:"streams"`
	// Missing are rows without an INSERT in the stream, Unexpected changes without a row and changes other than one INSERT,
	// Mismatched rows whose values or commit timestamp differ, Gaps versions left out of an event stream.
	Missing    int64     `json:"missing"`
	Unexpected int64     `json:"unexpected"`
	Mismatched int64     `json:"mismatched"`
	Gaps       int64     `json:"gaps"`
	Examples   []Example `json:"examples,omitempty"`

	deviations map[string]int64
}

func (e *Events) note(count *int64, x Example) {
	*count++
	if *count <= maxExamples {
		e.Examples = append(e.Examples, x)
	}
}

// Err is nil if table and stream agree.
func (e *Events) Err() error {
	if e.Missing+e.Unexpected+e.Mismatched+e.Gaps == 0 {
		return nil
	}
	err := fmt.Errorf("%d rows, %d missing from the stream, %d unexpected, %d mismatched, %d gaps", e.Rows, e.Missing, e.Unexpected, e.Mismatched, e.Gaps)
	for _, x := range e.Examples {
		err = fmt.Errorf("%w\n  %s", err, x)
	}
	return err
}

// EventsCheck compares the events table, read in full, with the truth: every row is exactly one INSERT at its commit
// timestamp with its values, nothing else ever happens to the table, and the versions of every event stream are 1, 2, 3 …
// without gaps. Rows committed outside the truth's time are only looked at for gaps. Of Google's emulator it tolerates, and
// counts, placeholders in commit-timestamp columns and timestamps without their fraction.
func (t *Truth) EventsCheck(ctx context.Context, o EventsOptions) (*Events, error) {
	table := o.Table
	if table == "" {
		table = "events"
	}
	fail := func(err error) (*Events, error) { return nil, fmt.Errorf("check: table %s: %w", table, err) }
	if o.Client == nil {
		return fail(errors.New("no client"))
	}
	if strings.ContainsAny(table, "`\\\n") {
		return fail(errors.New("this is not the name of a table"))
	}
	e := &Events{deviations: map[string]int64{}}
	c := comparison{truth: t, events: e, table: table, inserts: map[string]int32{}, versions: map[string]*versions{}}
	c.index()
	name := "`" + strings.ReplaceAll(table, ".", "`.`") + "`"
	err := o.Client.Single().Query(ctx, spanner.NewStatement("SELECT * FROM "+name)).Do(c.row)
	if err != nil {
		return fail(err)
	}
	c.finish()
	return e, nil
}

// comparison is the state of one EventsCheck.
type comparison struct {
	truth  *Truth
	events *Events
	table  string
	// inserts holds the index in truth.Changes of each key's INSERT; -1 once its row was seen.
	inserts  map[string]int32
	versions map[string]*versions
}

type versions struct{ count, highest int64 }

func (c *comparison) index() {
	for i := range c.truth.Changes {
		x := &c.truth.Changes[i]
		if x.Table != c.table {
			continue
		}
		if _, twice := c.inserts[x.Key]; x.Op != "INSERT" || twice {
			c.events.note(&c.events.Unexpected, Example{Kind: Unexpected, ID: x.ID(), Table: c.table, Key: x.Key,
				Detail: "the stream has this " + x.Op + ": an event is inserted once and never changed"})
			continue
		}
		c.inserts[x.Key] = int32(i)
	}
}

func (c *comparison) row(r *spanner.Row) error {
	cells := make(map[string]spanner.GenericColumnValue, r.Size())
	for i, name := range r.ColumnNames() {
		var cell spanner.GenericColumnValue
		if err := r.Column(i, &cell); err != nil {
			return err
		}
		cells[name] = cell
	}
	var stream string
	var version int64
	var committed time.Time
	if err := errors.Join(r.ColumnByName("stream", &stream), r.ColumnByName("version", &version), r.ColumnByName("committed_at", &committed)); err != nil {
		return err
	}
	at := change.TimestampOf(committed)
	if at > c.truth.End {
		return nil
	}
	v := c.versions[stream]
	if v == nil {
		v = &versions{}
		c.versions[stream] = v
	}
	v.count, v.highest = v.count+1, max(v.highest, version)
	c.events.Rows++
	if version < 1 {
		c.events.note(&c.events.Gaps, Example{Kind: Fault, Table: c.table, Key: quote(stream), Detail: fmt.Sprintf("version %d: versions begin at 1", version)})
	}
	if at < c.truth.Start {
		return nil
	}
	key := fmt.Sprintf(`[%s,"%d"]`, quote(stream), version)
	i, known := c.inserts[key]
	if !known {
		c.events.note(&c.events.Missing, Example{Kind: Missing, Table: c.table, Key: key, Detail: "committed at " + at.String() + ": the stream has no INSERT of it"})
		return nil
	}
	c.inserts[key] = -1
	x := &c.truth.Changes[i]
	mismatched := func(detail string) {
		c.events.note(&c.events.Mismatched, Example{Kind: Mismatched, ID: x.ID(), Table: c.table, Key: key, Detail: detail})
	}
	if x.Position.Commit != at {
		mismatched("committed at " + at.String() + " says the table")
		return nil
	}
	for _, v := range x.After {
		cell, ok := cells[v.Column.Name]
		if !ok {
			mismatched("the table has no column " + v.Column.Name)
			continue
		}
		want, err := v.Column.Type.canonical(cellValue(cell.Value))
		if err != nil {
			return fmt.Errorf("row %s, column %s: %w", key, v.Column.Name, err)
		}
		if want == v.Text {
			continue
		}
		if name := c.deviation(v, want, x.Position.Commit); name != "" {
			c.events.deviations[name]++
			continue
		}
		mismatched(fmt.Sprintf("column %s is %s in the table and %s in the stream", v.Column.Name, short(want), short(v.Text)))
	}
	return nil
}

const placeholder = `"9999-12-31T23:59:59Z"`

// deviation names the emulator's known fault by which the stream shows v where the table holds want; "" if there is none.
func (c *comparison) deviation(v Value, want string, commit change.Timestamp) string {
	if !c.truth.Official || v.Column.Type.Code != "TIMESTAMP" {
		return ""
	}
	at, err := time.Parse(`"`+time.RFC3339Nano+`"`, want)
	if err != nil {
		return ""
	}
	if v.Text == placeholder && change.TimestampOf(at) == commit {
		return CommitTimestampPlaceholder
	}
	if v.Text == `"`+at.Truncate(time.Second).Format(time.RFC3339Nano)+`"` {
		return TimestampFractionCut
	}
	return ""
}

func (c *comparison) finish() {
	for _, key := range slices.Sorted(maps.Keys(c.inserts)) {
		if i := c.inserts[key]; i >= 0 {
			x := &c.truth.Changes[i]
			c.events.note(&c.events.Unexpected, Example{Kind: Unexpected, ID: x.ID(), Table: c.table, Key: key, Detail: "the table has no such row"})
		}
	}
	c.events.Streams = int64(len(c.versions))
	for _, stream := range slices.Sorted(maps.Keys(c.versions)) {
		if v := c.versions[stream]; v.count != v.highest {
			c.events.note(&c.events.Gaps, Example{Kind: Fault, Table: c.table, Key: quote(stream),
				Detail: fmt.Sprintf("it has %d versions, the highest is %d", v.count, v.highest)})
		}
	}
}

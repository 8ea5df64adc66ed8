package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
)

// SpannerOptions say where the truth is.
type SpannerOptions struct {
	// Client is an ordinary client of the database; it only makes single-use strong reads, several at once.
	Client *spanner.Client
	// Database is the full name, projects/P/instances/I/databases/D; Stream the change stream's.
	Database, Stream string
	// Start is the first instant to read, not before the stream's creation and inside its retention; End the last one, now
	// (Spanner's) if zero.
	Start, End time.Time
	// Official says that the server is Google's emulator: its deviations are tolerated and counted.
	Official bool
	// Parallel bounds the partitions read at a time; 0 means 4.
	Parallel int

	// window is longestWindow, but for tests.
	window time.Duration
}

var streamName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// ReadTruth reads the change stream's whole history from Start to End with bounded queries, which are complete on every
// server, and walks the partition graph itself. Streams of the GoogleSQL dialect are understood, with immutable and with mutable
// key ranges; another kind is an error that names it. A history that contradicts itself is an error too; see NewTruth.
func ReadTruth(ctx context.Context, o SpannerOptions) (*Truth, error) {
	fail := func(err error) (*Truth, error) {
		return nil, fmt.Errorf("check: change stream %s of %s: %w", o.Stream, o.Database, err)
	}
	switch {
	case o.Client == nil:
		return fail(errors.New("no client"))
	case !streamName.MatchString(o.Stream):
		return fail(errors.New("this is not the name of a change stream"))
	case o.Start.IsZero():
		return fail(errors.New("no start: give an instant after the stream's creation and inside its retention"))
	}
	mutable, err := o.mode(ctx)
	if err != nil {
		return fail(err)
	}
	if o.End.IsZero() {
		err := o.Client.Single().Query(ctx, spanner.NewStatement("SELECT CURRENT_TIMESTAMP()")).Do(func(r *spanner.Row) error {
			return r.Columns(&o.End)
		})
		if err != nil {
			return fail(fmt.Errorf("ask for the time: %w", err))
		}
	}
	// Start is rounded up and End down to whole microseconds: commit timestamps have no more.
	o.Start, o.End = o.Start.Add(999*time.Nanosecond).Truncate(time.Microsecond), o.End.Truncate(time.Microsecond)
	if o.End.Before(o.Start) {
		return fail(fmt.Errorf("the end %s is before the start %s", o.End, o.Start))
	}
	w := walk{o: o, window: cmp.Or(o.window, longestWindow), known: map[string]*Partition{}, given: map[handover]bool{}}
	w.read = w.readFixed
	if mutable {
		w.read = w.readMoving
	}
	if err := w.run(ctx); err != nil {
		return fail(err)
	}
	if err := w.checkMoves(); err != nil {
		return fail(err)
	}
	var changes []Change
	for _, found := range w.found {
		changes = append(changes, found...)
	}
	partitions := make([]Partition, 0, len(w.known))
	for _, p := range w.known {
		partitions = append(partitions, *p)
	}
	t, err := NewTruth(changes, partitions, change.TimestampOf(o.Start), change.TimestampOf(o.End))
	if err != nil {
		return fail(err)
	}
	t.Database, t.Stream, t.Official, t.Mutable = o.Database, o.Stream, o.Official, mutable
	return t, nil
}

// mode is whether the stream has mutable key ranges. What this reader does not understand is refused, rather than called empty.
func (o *SpannerOptions) mode(ctx context.Context) (mutable bool, err error) {
	found := false
	err = o.Client.Single().Query(ctx, spanner.Statement{
		SQL:    "SELECT CHANGE_STREAM_NAME FROM INFORMATION_SCHEMA.CHANGE_STREAMS WHERE CHANGE_STREAM_NAME = @stream",
		Params: map[string]any{"stream": o.Stream},
	}).Do(func(*spanner.Row) error { found = true; return nil })
	if err != nil {
		return false, fmt.Errorf("look it up (a database of the PostgreSQL dialect is not supported): %w", err)
	}
	if !found {
		return false, errors.New("the database has no such change stream")
	}
	return mutable, o.Client.Single().Query(ctx, spanner.Statement{
		SQL: `SELECT OPTION_NAME, OPTION_VALUE FROM INFORMATION_SCHEMA.CHANGE_STREAM_OPTIONS WHERE CHANGE_STREAM_NAME = @stream
			AND (OPTION_NAME = 'partition_mode' OR OPTION_NAME = 'per_placement_tvf' AND UPPER(OPTION_VALUE) = 'TRUE')`,
		Params: map[string]any{"stream": o.Stream},
	}).Do(func(r *spanner.Row) error {
		var name, value string
		if err := r.Columns(&name, &value); err != nil {
			return err
		}
		switch {
		case name == "partition_mode" && value == "MUTABLE_KEY_RANGE":
			mutable = true
		case name != "partition_mode" || value != "IMMUTABLE_KEY_RANGE":
			return fmt.Errorf("streams with the option %s = %s are not supported", name, value)
		}
		return nil
	})
}

// walk reads all partitions, each once.
type walk struct {
	o      SpannerOptions
	window time.Duration
	// read reads a partition, or (nil) asks for the first ones.
	read func(context.Context, *Partition) ([]Change, error)

	mu sync.Mutex
	// known are all tokens announced; todo those not yet begun; busy the number being read.
	known map[string]*Partition
	todo  []*Partition
	busy  int
	found [][]Change
	// given are the handovers of keys that their sources told of.
	given map[handover]bool
	err   error
}

func (w *walk) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := w.read(ctx, nil); err != nil {
		return fmt.Errorf("initial query at %s: %w", w.o.Start.Format(time.RFC3339Nano), err)
	}
	if len(w.todo) == 0 {
		return errors.New("the initial query gave no partition")
	}
	workers := w.o.Parallel
	if workers <= 0 {
		workers = 4
	}
	// Partitions only become known while others are read, so a worker without work waits for the busy ones.
	changed := sync.NewCond(&w.mu)
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			for {
				for len(w.todo) == 0 && w.busy > 0 && w.err == nil {
					changed.Wait()
				}
				if len(w.todo) == 0 || w.err != nil {
					return
				}
				p := w.todo[0]
				w.todo, w.busy = w.todo[1:], w.busy+1
				w.mu.Unlock()
				changes, err := w.read(ctx, p)
				w.mu.Lock()
				w.busy--
				w.found = append(w.found, changes)
				if err != nil && w.err == nil {
					w.err = fmt.Errorf("partition %s: %w", short(p.Token), err)
					cancel()
				}
				changed.Broadcast()
			}
		})
	}
	done.Wait()
	return w.err
}

// heartbeat is the longest the server takes: a bounded query of the past needs none.
const heartbeat = 300_000

// end is where queries end: one microsecond after the last instant wanted. The children of a partition that ends exactly with
// its query may be left out, and they hold the changes of that instant.
func (w *walk) end() time.Time { return w.o.End.Add(time.Microsecond) }

// query makes one query and hands on each row's value.
func (w *walk) query(ctx context.Context, token spanner.NullString, start, end time.Time, row func(spanner.GenericColumnValue) error) error {
	return w.o.Client.Single().Query(ctx, spanner.Statement{
		SQL:    "SELECT ChangeRecord FROM READ_" + w.o.Stream + "(start_timestamp => @start, end_timestamp => @end, partition_token => @token, heartbeat_milliseconds => @heartbeat)",
		Params: map[string]any{"start": start, "end": end, "token": token, "heartbeat": int64(heartbeat)},
	}).Do(func(r *spanner.Row) error {
		var cell spanner.GenericColumnValue
		if err := r.Column(0, &cell); err != nil {
			return err
		}
		return row(cell)
	})
}

// readFixed makes one query, of a partition or (nil) the initial one. Changes of one partition must come in order of their
// commit timestamps and inside its life; children are made known.
func (w *walk) readFixed(ctx context.Context, p *Partition) ([]Change, error) {
	start, token := w.o.Start, spanner.NullString{}
	if p != nil {
		start, token = p.Start.Time(), spanner.NullString{StringVal: p.Token, Valid: true}
	}
	var changes []Change
	d, ended, last := newDecoder(), false, change.Timestamp(0)
	err := w.query(ctx, token, start, w.end(), func(cell spanner.GenericColumnValue) error {
		for _, elem := range cell.Value.GetListValue().GetValues() {
			record, err := structOf(cell.Type.GetArrayElementType(), elem)
			if err != nil {
				return err
			}
			data, err := record.structs("data_change_record")
			if err != nil {
				return err
			}
			for _, r := range data {
				if p == nil {
					return errors.New("the initial query gave a data record")
				}
				got, err := d.changes(p.Token, r)
				if err != nil {
					return err
				}
				for _, c := range got {
					at := c.Position.Commit
					if ended || at < last || at < p.Start {
						return fmt.Errorf("change %s is out of order: after %s, partition ended %t, started %s", c.ID(), last, ended, p.Start)
					}
					last = at
					if at <= change.TimestampOf(w.o.End) {
						changes = append(changes, c)
					}
				}
			}
			children, err := record.structs("child_partitions_record")
			if err != nil {
				return err
			}
			for _, r := range children {
				ended = true
				if err := w.announce(p, r, last); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return changes, err
}

// announce makes the children of one record known. Each parent of a merge announces the same child, with the same parents.
func (w *walk) announce(parent *Partition, record fields, last change.Timestamp) error {
	start, err := record.time("start_timestamp")
	if err != nil {
		return err
	}
	if parent != nil && (start < parent.Start || start <= last) {
		return fmt.Errorf("its children start at %s: it started at %s and has a change at %s", start, parent.Start, last)
	}
	children, err := record.structs("child_partitions")
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range children {
		child := &Partition{Token: r.text("token"), Start: start}
		if child.Token == "" {
			return errors.New("a child has no token")
		}
		_, list := r.get("parent_partition_tokens")
		for _, v := range list.GetListValue().GetValues() {
			if v.GetStringValue() != "" {
				child.Parents = append(child.Parents, v.GetStringValue())
			}
		}
		slices.Sort(child.Parents)
		if parent != nil && !slices.Contains(child.Parents, parent.Token) {
			return fmt.Errorf("its child %s does not name it as a parent", short(child.Token))
		}
		if err := w.add(child); err != nil {
			return err
		}
	}
	return nil
}

// add makes a partition known, and has it read if it begins before the end. The caller holds mu.
func (w *walk) add(p *Partition) error {
	if known := w.known[p.Token]; known != nil {
		if known.Start != p.Start || !slices.Equal(known.Parents, p.Parents) {
			return fmt.Errorf("partition %s is announced in two ways", short(p.Token))
		}
		return nil
	}
	w.known[p.Token] = p
	if p.Start <= change.TimestampOf(w.o.End) {
		w.todo = append(w.todo, p)
	}
	return nil
}

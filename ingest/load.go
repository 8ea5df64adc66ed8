package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// LoadOptions are the options of [Load]; the zero value loads files whose
// records are events already.
type LoadOptions struct {
	// Map is a jq program that turns a record into any number of events; see
	// [CompileMap] and the package comment. Empty passes records on.
	Map string
	// Format is that of all files; empty means by name, then by content.
	Format Format
	// Stream and Source are for events that do not name their own. An empty
	// Source means the file's name as it was given.
	Stream, Source string
	// Reject is the file that rejected records are written to, as JSON lines
	// of [Reject]. It is made with the first of them; an older one is
	// overwritten. Empty writes none.
	Reject string
	// Stdin is what the file name "-" reads; nil means os.Stdin.
	Stdin io.Reader
	// Progress gets the progress: one line kept up to date if IsTerminal, else
	// a line every five seconds. Nil shows none.
	Progress   io.Writer
	IsTerminal bool
	// Batcher sets the groups; a zero MaxDelay means 20 ms here.
	Batcher BatcherOptions
	// CheckTimeout bounds the first question to Spanner; 0 means 15 s.
	CheckTimeout time.Duration
}

// Summary counts what a [Load] did.
type Summary struct {
	Read         int64 // records read
	Ingested     int64 // events committed by this load
	AlreadyThere int64 // events that were stored before, with the same content
	Rejected     int64 // records and events that could not be stored
	// LastCommit is the latest commit timestamp of an event that is Ingested
	// or AlreadyThere: a reader that is through it has seen them all.
	LastCommit time.Time
	Elapsed    time.Duration
	// Examples are the first rejects, at most ten.
	Examples []Reject
}

// Load reads files of records, maps them to events and appends these. Within a
// stream, versions follow the order of the input; files are read in the order
// given.
//
// Load may be run again after any failure: events stored already are counted as
// AlreadyThere. A record that cannot be stored is rejected, and the rest goes
// on; whether rejects are a failure is the caller's decision. Errors are a map
// that does not compile, a file that cannot be read or is not of its format,
// and trouble with Spanner; the summary then counts what was done until then.
// The map, the files' existence and the table are checked before anything is
// written.
func Load(ctx context.Context, store *Store, files []string, opts LoadOptions) (Summary, error) {
	if len(files) == 0 {
		return Summary{}, errors.New("no files to ingest")
	}
	if _, err := ParseFormat(string(opts.Format)); err != nil {
		return Summary{}, err
	}
	mapping, err := CompileMap(opts.Map)
	if err != nil {
		return Summary{}, err
	}
	for _, file := range files {
		if err := checkFile(file, opts.Reject); err != nil {
			return Summary{}, err
		}
	}
	timeout := opts.CheckTimeout
	if timeout <= 0 {
		timeout = 15 * time.Second
	}
	if err := store.Check(ctx, timeout); err != nil {
		return Summary{}, err
	}

	if opts.Batcher.MaxDelay == 0 {
		opts.Batcher.MaxDelay = 20 * time.Millisecond
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &loader{
		opts: opts, mapping: mapping, cancel: cancel, start: time.Now(),
		rejects: rejectWriter{path: opts.Reject},
	}
	l.batcher = store.NewBatcher(ctx, opts.Batcher)
	stopProgress := showProgress(opts.Progress, opts.IsTerminal, l.snapshot)

	for _, file := range files {
		if err = l.file(ctx, file); err != nil {
			break
		}
	}
	// What was read before an unreadable place is stored all the same.
	l.batcher.Close()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the reason, where the reading saw only the cancellation
	}
	err = errors.Join(err, l.rejects.close())
	stopProgress()
	return l.snapshot(), err
}

// checkFile looks before anything is written, so that the reject file never destroys what is to be read.
func checkFile(name, reject string) error {
	if name == "-" {
		return nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("cannot ingest: %w", err)
	}
	if info.IsDir() {
		return fmt.Errorf("cannot ingest %s: it is a directory; name its files", name)
	}
	if reject == "" {
		return nil
	}
	if other, err := os.Stat(reject); err == nil && os.SameFile(info, other) {
		return fmt.Errorf("cannot ingest %s: rejects are to be written to it as well, which would destroy it; name another reject file", name)
	}
	return nil
}

// loader is one run of Load.
type loader struct {
	opts    LoadOptions
	mapping *Mapping
	batcher *Batcher
	cancel  context.CancelCauseFunc
	start   time.Time

	mu      sync.Mutex
	summary Summary      // guarded by mu
	rejects rejectWriter // guarded by mu
}

func (l *loader) snapshot() Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.summary
	s.Elapsed = time.Since(l.start)
	return s
}

func (l *loader) file(ctx context.Context, name string) error {
	var r io.Reader
	if name == "-" {
		if r = l.opts.Stdin; r == nil {
			r = os.Stdin
		}
	} else {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("cannot ingest: %w", err)
		}
		defer f.Close() // only read: nothing to lose
		r = f
	}
	records, err := openRecords(name, r, l.opts.Format)
	if err != nil {
		return fmt.Errorf("cannot ingest %s: %w", name, err)
	}
	d := defaults{stream: l.opts.Stream, source: l.opts.Source}
	if d.source == "" {
		d.source = name
	}
	for n := 0; ; n++ {
		in, err := records.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot go on in %s after %d records: %w", name, n, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.mu.Lock()
		l.summary.Read++
		l.mu.Unlock()
		if err := l.record(ctx, name, in, d); err != nil {
			return err
		}
	}
}

// record maps a record and hands its events over. Its error ends the load.
func (l *loader) record(ctx context.Context, file string, in input, d defaults) error {
	if in.err != nil {
		return l.reject(newReject(file, in, in.err))
	}
	var output int64
	err := l.mapping.Apply(ctx, in.value, in.number, file, func(v any) error {
		output++
		nth := output
		// Made only when needed: it copies from a large record.
		refuse := func(why error) error {
			r := newReject(file, in, why)
			r.Output = nth
			r.setEvent(v)
			return l.reject(r)
		}
		stream, event, err := decodeEvent(v, d)
		if err != nil {
			return fatal(refuse(err))
		}
		batch := Batch{Stream: stream, Expected: Any, Events: []Event{event}}
		err = l.batcher.Add(ctx, batch, func(r Result, err error) {
			switch {
			case err == nil:
				l.count(r)
			case IsRefusal(err):
				if err := refuse(reason(err)); err != nil {
					l.cancel(err)
				}
			default:
				l.cancel(err)
			}
		})
		if err != nil && IsRefusal(err) {
			err = refuse(reason(err))
		}
		return fatal(err)
	})
	var stop *fatalError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stop):
		return stop.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return l.reject(newReject(file, in, err))
}

// fatalError carries an error that ends the load out of a map's results, where
// other errors only reject the record.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }

func fatal(err error) error {
	if err == nil {
		return nil
	}
	return &fatalError{err}
}

// reason drops what a reject says by itself: which event of which append.
func reason(err error) error {
	var event *EventError
	if errors.As(err, &event) {
		return event.Err
	}
	return err
}

func (l *loader) count(r Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Repeated {
		l.summary.AlreadyThere += int64(len(r.Versions))
	} else {
		l.summary.Ingested += int64(len(r.Versions))
	}
	if r.CommittedAt.After(l.summary.LastCommit) {
		l.summary.LastCommit = r.CommittedAt
	}
}

func (l *loader) reject(r Reject) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.summary.Rejected++
	if len(l.summary.Examples) < 10 {
		l.summary.Examples = append(l.summary.Examples, r)
	}
	return l.rejects.write(r)
}

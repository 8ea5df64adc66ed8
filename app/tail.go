package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	"github.com/spanledger/spanledger/emulator"
	"github.com/spanledger/spanledger/pipeline/filter"
)

// TailOptions are the options of `spanledger tail`.
type TailOptions struct {
	// Database is the full name, Stream the change stream's; "" takes the only one the database has.
	Database, Stream string
	// From is where to begin, To where to end; the zero To is never.
	From, To When
	// Tables are those shown, wildcards allowed; none means all. Where is a CEL expression, as in a pipeline's filter.
	Tables []string
	Where  string
	// Limit ends it after so many changes; 0 means no limit.
	Limit int
	// Heartbeat bounds how late the last change before a pause is shown; 0 means 500 ms. Role is the database role.
	Heartbeat time.Duration
	Role      string
	// Style is how changes are written to Out. What runs and how to go on is written to Messages.
	Style    TailStyle
	Out      io.Writer
	Messages io.Writer
	Logger   *slog.Logger
}

// TailSummary is what was shown.
type TailSummary struct {
	Changes int
	// Through is how far everything was read, Start where reading began.
	Start, Through change.Timestamp
	// command is how to go on, "" where nothing does.
	command string
}

// String says what was shown and how to go on.
func (s TailSummary) String() string {
	text := fmt.Sprintf("%d changes shown; everything committed through %s was read", s.Changes, s.Through)
	if s.Through < s.Start {
		text = fmt.Sprintf("%d changes shown; nothing is known to be complete yet", s.Changes)
	}
	if s.command == "" {
		return text
	}
	return text + ". To go on, with what was ahead of that once more:\n  " + s.command
}

// errLimit ends a tail that has shown enough.
var errLimit = errors.New("the limit is reached")

// tailStart bounds how long finding out about the stream may take.
const tailStart = 30 * time.Second

// Tail shows a change stream's changes until ctx ends, To or Limit is reached, or reading fails for good. Each key's changes
// come in order. It stores nothing. The end of ctx is no error.
func Tail(ctx context.Context, o TailOptions) (*TailSummary, error) {
	if _, err := parseDatabase(o.Database); err != nil {
		return nil, err
	}
	if o.From.kind == "snapshot" || o.To.kind == "snapshot" {
		return nil, errors.New("tail shows changes, not snapshots: begin at now, earliest or a time")
	}
	passes, err := filter.New(filter.Options{Tables: filter.Names{Include: o.Tables}, Where: o.Where})
	if err != nil {
		return nil, err
	}
	e := EndpointsFromEnv()
	if e.Spanner != "" {
		fmt.Fprintf(o.Messages, "emulator, not Google Cloud: %s=%s\n", emulator.SpannerVariable, e.Spanner)
	}
	starting, cancel := context.WithTimeout(ctx, tailStart)
	defer cancel()
	r, err := e.openTail(starting, &o)
	if err == nil {
		defer r.Close()
		err = checkTables(r, o.Tables)
	}
	var start, end change.Timestamp
	if err == nil {
		start, end, err = tailRange(starting, r, o)
	}
	if err != nil {
		if errors.Is(starting.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer from Spanner within %s: is it running, and reachable from here?: %w", tailStart, err)
		}
		return nil, err
	}
	fmt.Fprintf(o.Messages, "change stream %s of %s from %s\n", r.Info().Stream, o.Database, start)
	out := bufio.NewWriter(o.Out)
	w := newTailWriter(out, o.Style, r.Tables())
	s := &TailSummary{Start: start}
	s.Through, err = r.Follow(ctx, start, end, func(f *change.Frame) error {
		if err := passes.Apply(f); err != nil {
			return err
		}
		rest := len(f.Changes)
		if o.Limit > 0 {
			rest = min(rest, o.Limit-s.Changes)
		}
		full := rest < len(f.Changes)
		f.Changes = f.Changes[:rest]
		if err := w.frame(f); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("write the changes: %w", err)
		}
		s.Changes += rest
		if full || o.Limit > 0 && s.Changes == o.Limit {
			return errLimit
		}
		return nil
	})
	if errors.Is(err, errLimit) || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = nil
	}
	if _, gone := errors.AsType[*changestream.GoneError](err); !gone { // then nothing goes on there
		s.command = o.command(r.Info().Stream, max(s.Through+1, start))
	}
	return s, err
}

// openTail opens the reader, of the only stream there is where none is named.
func (e Endpoints) openTail(ctx context.Context, o *TailOptions) (*changestream.Reader, error) {
	if o.Stream == "" {
		have, err := e.streams(ctx, o.Database, o.Role)
		switch {
		case err != nil:
			return nil, err
		case len(have) == 0:
			return nil, fmt.Errorf("database %s has no change stream: CREATE CHANGE STREAM name FOR ALL makes one", o.Database)
		case len(have) > 1:
			return nil, fmt.Errorf("database %s has several change streams: name one of %s", o.Database, strings.Join(have, ", "))
		}
		o.Stream = have[0]
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 500 * time.Millisecond
	}
	return changestream.New(ctx, changestream.Options{
		Database: o.Database, Stream: o.Stream, Heartbeat: o.Heartbeat, DatabaseRole: o.Role, RequestTag: "spanledger-tail",
		ClientOptions: plaintext(e.Spanner), Logger: o.Logger, PassUnknown: true,
	})
}

// checkTables refuses names of tables that the stream does not watch: they would silently show nothing.
func checkTables(r *changestream.Reader, names []string) error {
	var have []string
	for _, t := range r.Tables() {
		have = append(have, t.Name)
	}
	var errs []error
	for _, n := range names {
		if !filter.IsPattern(n) && !slices.Contains(have, n) {
			errs = append(errs, fmt.Errorf("change stream %s watches no table %s: %s (of a table dropped since, give a pattern such as %s*)",
				r.Info().Stream, n, didYouMean(n, have), n))
		}
	}
	return errors.Join(errs...)
}

// tailRange finds the range of commit timestamps meant, end 0 for none.
func tailRange(ctx context.Context, r *changestream.Reader, o TailOptions) (start, end change.Timestamp, err error) {
	now, err := r.Now(ctx)
	if err != nil {
		return 0, 0, err
	}
	earliest := func() (change.Timestamp, error) { return r.Earliest(ctx) }
	if start, err = o.From.resolve(now, earliest); err != nil {
		return 0, 0, err
	}
	if o.To != (When{}) {
		if end, err = o.To.resolve(now, earliest); err != nil {
			return 0, 0, err
		}
		if end < start {
			return 0, 0, fmt.Errorf("the end %s lies before the start %s", end, start)
		}
	}
	return start, end, readableFrom(ctx, r, start, now)
}

// command is the one that goes on at a commit timestamp.
func (o *TailOptions) command(stream string, from change.Timestamp) string {
	words := []string{"spanledger", "tail", o.Database, stream, "--from", from.String()}
	if o.To != (When{}) && o.To.kind == "" {
		words = append(words, "--to", o.To.text)
	}
	for _, t := range o.Tables {
		words = append(words, "--table", shellQuote(t))
	}
	if o.Role != "" {
		words = append(words, "--role", shellQuote(o.Role))
	}
	if o.Where != "" {
		words = append(words, "--where", shellQuote(o.Where))
	}
	return strings.Join(words, " ")
}

func shellQuote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.')
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

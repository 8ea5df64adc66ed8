// Package stdoutsink writes changes to standard output as JSON lines, one change a line in the form of package plainjson,
// for people, jq and pipes. A batch is durable when the operating system has taken it: a file's or a pipe's reader is on its
// own from there. At least once, in order for each row.
package stdoutsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/spanledger/spanledger/change/plainjson"
	"github.com/spanledger/spanledger/sinks"
)

// Type registers the sink as "stdout".
var Type = sinks.Type{
	Name:    "stdout",
	Summary: "Writes each change as a line of JSON to standard output.",
	New: func(name string, decode func(any) error) (sinks.Sink, error) {
		var none struct{}
		if err := decode(&none); err != nil {
			return nil, err
		}
		return New(name, os.Stdout), nil
	},
}

// Sink writes JSON lines.
type Sink struct {
	name string

	mu   sync.Mutex
	w    io.Writer
	buf  []byte
	torn bool // the last write ended inside a line
}

var _ sinks.Writer = (*Sink)(nil)

// New makes a sink that writes to w, which it does not close. Only the sink may write to w.
func New(name string, w io.Writer) *Sink { return &Sink{name: name, w: w} }

// Spec asks for one lane: lines are written one batch after another in any case.
func (s *Sink) Spec() sinks.Spec {
	return sinks.Spec{LaneBy: sinks.LaneByKey, Lanes: 1, MaxChanges: 1000, MaxBytes: 1 << 20}
}

// Open has nothing to check.
func (s *Sink) Open(context.Context) error { return nil }

// Write writes the batch's lines. A write that has begun does not end before the reader has made room: no context can
// interrupt it.
func (s *Sink) Write(ctx context.Context, batch *sinks.Batch) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stdout sink %s: %w", s.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = s.buf[:0]
	if s.torn {
		s.buf = append(s.buf, '\n') // the repeat begins on a line of its own
	}
	var rejected []sinks.Rejection
	for i := range batch.Changes {
		b, err := plainjson.Append(s.buf, &batch.Changes[i])
		if err != nil {
			rejected = append(rejected, sinks.Rejection{Index: i, Reason: err})
			continue
		}
		s.buf = append(b, '\n')
	}
	n, err := s.w.Write(s.buf)
	if n > 0 {
		s.torn = s.buf[n-1] != '\n'
	}
	switch {
	case errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed):
		return sinks.Stop(fmt.Errorf("stdout sink %s: nobody reads standard output any more: %w", s.name, err))
	case err != nil:
		return fmt.Errorf("stdout sink %s: %w", s.name, err)
	case rejected != nil:
		return &sinks.RejectError{Rejected: rejected}
	}
	return nil
}

// Close does nothing: the stream is not the sink's.
func (s *Sink) Close(context.Context) error { return nil }

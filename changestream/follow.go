package changestream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/spanledger/spanledger/change"
)

// Follow reads the whole stream from start on and hands its frames to yield, one at a time and on the caller's goroutine,
// until everything through end has come (0: for ever), ctx ends, or something fails. It keeps the partition graph in memory:
// changes of a key come in order, over splits, merges and moves, and each once. Nothing is stored; what a caller has to
// survive a crash belongs into package pipeline.
//
// A partition's frames come in order; those of different partitions do as they are read, so commit timestamps of different
// keys may go back and forth. While yield runs nothing else is handed over, and reading stops once a frame or so of every
// partition waits. A frame belongs to yield. Changes committed after end are taken out of it, and its Through is end then.
//
// Follow answers how far the stream has been handed over: everything at or below through. To go on without a loss another
// Follow starts at through + 1 µs; it repeats what partitions ahead of the others had handed over. The error is nil once end
// is reached, yield's as it is, the context's, or one of Read's.
func (r *Reader) Follow(ctx context.Context, start, end change.Timestamp, yield func(*change.Frame) error) (through change.Timestamp, err error) {
	if end != 0 && end < start {
		return start - 1, fmt.Errorf("changestream: the end %v lies before the start %v", end, start)
	}
	first, err := r.Partitions(ctx, start)
	if err != nil {
		return start - 1, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	f := &follower{reader: r, end: end, through: start - 1, graph: NewGraph(), frames: make(chan *handover), done: make(chan error), held: map[string]chan error{}}
	defer f.reading.Wait()
	defer cancel(errFollowed)
	for _, p := range first {
		f.graph.Add(p)
	}
	err = f.run(ctx, yield)
	return f.through, err
}

// errFollowed ends the readers of a Follow that is over.
var errFollowed = errors.New("changestream: nobody follows any more")

// errReachedEnd is how a partition's reader learns that it has handed over enough.
var errReachedEnd = errors.New("changestream: everything through the end has come")

// follower is one run of Follow. Its loop owns everything but the channels.
type follower struct {
	reader  *Reader
	end     change.Timestamp // 0: none
	through change.Timestamp
	graph   *Graph
	live    int // partitions being read

	reading sync.WaitGroup
	frames  chan *handover
	done    chan error
	// held are the readers whose frame waits, handed on, for the sources of a move of keys (I3), by token.
	held map[string]chan error
}

// handover is a frame on its way from a partition's reader to the loop. The reader waits for the answer.
type handover struct {
	frame  *change.Frame
	answer chan error
}

func (f *follower) run(ctx context.Context, yield func(*change.Frame) error) error {
	f.start(ctx)
	for f.live > 0 {
		select {
		case h := <-f.frames:
			reached, err := f.take(h.frame, yield)
			if err != nil {
				return err
			}
			switch {
			case reached:
				h.answer <- errReachedEnd
			case keysCame(h.frame):
				f.held[h.frame.Token] = h.answer
			default:
				h.answer <- nil
			}
			f.release()
			f.start(ctx)
		case err := <-f.done:
			if f.live--; err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if f.end == 0 {
		return errors.New("changestream: every partition has ended and none follows: was the change stream dropped?")
	}
	f.through = f.end
	return nil
}

// start begins to read what the graph lets go.
func (f *follower) start(ctx context.Context) {
	for _, p := range f.graph.Startable() {
		f.live++
		f.reading.Go(func() {
			err := f.reader.Read(ctx, p, p.Start-1, func(frame *change.Frame) error { return f.hand(ctx, frame) })
			if errors.Is(err, errReachedEnd) {
				err = nil
			}
			select {
			case f.done <- err:
			case <-ctx.Done():
			}
		})
	}
}

// release lets the readers go on whose partitions no source holds any more.
func (f *follower) release() {
	for _, token := range f.graph.Released() {
		if answer := f.held[token]; answer != nil {
			delete(f.held, token)
			answer <- nil
		}
	}
}

// hand gives a frame to the loop, from a partition's reader.
func (f *follower) hand(ctx context.Context, frame *change.Frame) error {
	h := &handover{frame, make(chan error, 1)}
	select {
	case f.frames <- h:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-h.answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take hands a frame on and tells the graph; reached says that its partition need not be read further.
func (f *follower) take(frame *change.Frame, yield func(*change.Frame) error) (reached bool, err error) {
	if reached = f.end != 0 && frame.Through >= f.end; reached {
		frame = until(frame, f.end)
	}
	if err := yield(frame); err != nil {
		return false, err
	}
	for _, c := range frame.Children {
		f.graph.Add(c) // I3: before its parent finishes
	}
	if keysCame(frame) {
		if err := f.graph.Hold(frame.Token, frame.Through, frame.Sources); err != nil {
			return false, err
		}
	}
	f.graph.Promise(frame.Token, frame.Through)
	if frame.Ended {
		if err := f.graph.Finish(frame.Token); err != nil {
			return false, err
		}
	}
	if w := f.graph.Watermark(); w != change.MaxTimestamp {
		f.through = max(f.through, w)
	}
	return reached, nil
}

// keysCame reports whether nothing of the partition may follow the frame before the sources of a move of keys are through it (I3).
// Nothing follows an end.
func keysCame(frame *change.Frame) bool { return len(frame.Sources) > 0 && !frame.Ended }

// until is the part of a frame that is committed at or before end. Partitions that begin later are left out with the rest.
func until(frame *change.Frame, end change.Timestamp) *change.Frame {
	n := len(frame.Changes)
	for n > 0 && frame.Changes[n-1].Position.Commit > end {
		n--
	}
	return &change.Frame{Token: frame.Token, Changes: frame.Changes[:n], Through: end, Bytes: frame.Bytes}
}

// Changes is Follow one change at a time. The last pair has Follow's error, if there is one, and no change. A change is valid
// for as long as it is kept; nothing may be written to it.
func (r *Reader) Changes(ctx context.Context, start, end change.Timestamp) iter.Seq2[*change.Change, error] {
	return func(yield func(*change.Change, error) bool) {
		enough := errors.New("enough")
		_, err := r.Follow(ctx, start, end, func(f *change.Frame) error {
			for i := range f.Changes {
				if !yield(&f.Changes[i], nil) {
					return enough
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			yield(nil, err)
		}
	}
}

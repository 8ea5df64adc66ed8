package changestream

import (
	"context"
	"sync"
	"time"
)

// inbox receives a query's messages ahead of the decoder, a bounded number of bytes, so that a frame can group what is
// there without waiting for more.
type inbox struct {
	limit int
	// ready has a token when something new is there, space when something was taken.
	ready, space chan struct{}
	// done is closed when the receiving goroutine is gone.
	done chan struct{}

	mu    sync.Mutex
	queue [][]byte
	spare [][]byte
	bytes int
	err   error // why no more come: io.EOF at the good end

	// stream is set by the receiving goroutine, and read once done is closed.
	stream messages
}

// receive opens a query by open and receives from it until ctx ends.
func receive(ctx context.Context, limit int, open func(context.Context) (messages, error)) *inbox {
	in := &inbox{limit: limit, ready: make(chan struct{}, 1), space: make(chan struct{}, 1), done: make(chan struct{})}
	go in.run(ctx, open)
	return in
}

func (in *inbox) run(ctx context.Context, open func(context.Context) (messages, error)) {
	defer close(in.done)
	stream, err := open(ctx)
	if err != nil {
		in.end(err)
		return
	}
	in.stream = stream
	for {
		b, err := stream.recv()
		if err != nil {
			in.end(err)
			return
		}
		in.mu.Lock()
		in.queue = append(in.queue, b)
		in.bytes += len(b)
		full := in.bytes >= in.limit
		in.mu.Unlock()
		signal(in.ready)
		for full {
			select {
			case <-in.space:
			case <-ctx.Done():
				in.end(ctx.Err())
				return
			}
			in.mu.Lock()
			full = in.bytes >= in.limit
			in.mu.Unlock()
		}
	}
}

func (in *inbox) end(err error) {
	in.mu.Lock()
	in.err = err
	in.mu.Unlock()
	signal(in.ready)
}

// take answers what is there, and the stream's end once nothing else is. The messages' list is valid until the next take.
func (in *inbox) take() ([][]byte, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) == 0 {
		return nil, in.err
	}
	out := in.queue
	clear(in.spare)
	in.queue, in.spare = in.spare[:0], out
	in.bytes = 0
	signal(in.space)
	return out, nil
}

// stop waits for the receiving goroutine, whose context has ended, and gives the query up.
func (in *inbox) stop(silence time.Duration) {
	<-in.done
	if in.stream != nil {
		in.stream.close(silence)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

package changestream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// inbox receives a query's messages ahead of the decoder, a bounded number of bytes, so that a frame can group what is
// there without waiting for more.
type inbox struct {
	limit  int
	memory *ledger
	// expect is what the next message will take, as far as the last one tells. Only the receiving goroutine uses it until
	// done is closed.
	expect int
	// tight says that memory was short for the last message: then none is received ahead of the decoder. Likewise.
	tight bool
	// ready has a token when something new is there, space when something was taken.
	ready, space chan struct{}
	// done is closed when the receiving goroutine is gone.
	done chan struct{}
	// listening is since when, in nanoseconds since 1970, the receiving goroutine waits for Spanner; 0 while it waits for
	// memory or for the decoder.
	listening atomic.Int64

	mu    sync.Mutex
	queue [][]byte
	spare [][]byte
	bytes int
	err   error // why no more come: io.EOF at the good end

	// stream is set by the receiving goroutine, and read once done is closed.
	stream messages
}

// receive opens a query by open and receives from it until ctx ends. expect is what the first message will take.
func receive(ctx context.Context, limit int, memory *ledger, expect int, open func(context.Context) (messages, error)) *inbox {
	in := &inbox{limit: limit, memory: memory, expect: expect, ready: make(chan struct{}, 1), space: make(chan struct{}, 1), done: make(chan struct{})}
	go in.run(ctx, open)
	return in
}

func (in *inbox) run(ctx context.Context, open func(context.Context) (messages, error)) {
	defer close(in.done)
	for {
		// I10: before anything is received, or even asked for.
		in.listening.Store(0)
		var err error
		if in.tight, err = in.memory.reserve(ctx, in.expect, in.stream != nil); err != nil {
			in.end(err)
			return
		}
		in.listening.Store(time.Now().UnixNano())
		if in.stream == nil {
			stream, err := open(ctx)
			if err != nil {
				in.end(err)
				return
			}
			in.stream = stream
		}
		b, err := in.stream.recv()
		if err != nil {
			in.end(err)
			return
		}
		in.listening.Store(0)
		if err := in.count(ctx, weight(len(b))); err != nil {
			in.end(err)
			return
		}
		if !in.put(ctx, b) {
			in.end(ctx.Err())
			return
		}
	}
}

// count corrects what was reserved for a message to what it takes.
func (in *inbox) count(ctx context.Context, weight int) error {
	missing := weight - in.expect
	in.expect = min(max(weight, minReserve), streamWindow)
	if missing > 0 {
		tight, err := in.memory.reserve(ctx, missing, true)
		in.tight = in.tight || tight
		return err
	}
	in.memory.adjust(missing)
	return nil
}

// put hands a message to the decoder, and waits while it has enough; false once ctx has ended.
func (in *inbox) put(ctx context.Context, b []byte) bool {
	in.mu.Lock()
	in.queue = append(in.queue, b)
	in.bytes += len(b)
	full := in.full()
	in.mu.Unlock()
	signal(in.ready)
	for full {
		select {
		case <-in.space:
		case <-ctx.Done():
			return false
		}
		in.mu.Lock()
		full = in.full()
		in.mu.Unlock()
	}
	return true
}

// full says that nothing more may be received now; the caller holds the lock.
func (in *inbox) full() bool { return in.bytes >= in.limit || in.tight && in.bytes > 0 }

// silent is how long Spanner has been listened to in vain.
func (in *inbox) silent() time.Duration {
	since := in.listening.Load()
	if since == 0 {
		return 0
	}
	return time.Since(time.Unix(0, since))
}

func (in *inbox) end(err error) {
	in.listening.Store(0) // what came while the decoder was busy is no silence
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

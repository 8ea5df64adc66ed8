package changestream

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Budget bounds the memory of all partitions of a pipeline together (I10): a Reader asks it before it buffers. What a frame
// holds goes over to the receiver with the frame (change.Frame.Reserved). Its methods may be called concurrently.
type Budget interface {
	// Partition answers the account of a partition. Read asks for it once, when it begins.
	Partition(token string) Account
}

// Account is one partition's share of a Budget, in bytes.
type Account interface {
	// TryReserve takes n bytes if there is plenty of room. After a refusal no more than one message is received ahead.
	TryReserve(n int) bool
	// Reserve takes n bytes and waits for them for as long as ctx lives. ErrGiveBack says instead that what the partition
	// holds is needed elsewhere: Read lets go of it, and reads it again once the budget has room.
	Reserve(ctx context.Context, n int) error
	// Adjust counts n bytes more, or for a negative n less, and never waits.
	Adjust(n int)
}

// ErrGiveBack is what an Account answers to have the partition's memory back. It is no failure.
var ErrGiveBack = errors.New("changestream: the memory is needed for another partition")

const (
	// minReserve is what a query that has sent nothing large reserves for its next message: enough for a heartbeat.
	minReserve = 512
	// stallLimit is how long a query is kept open while its partition waits for memory. gRPC holds up to a stream's window
	// beside the budget meanwhile, so beyond that asking again later is the lesser cost.
	stallLimit = 10 * time.Second
)

// weight is what a received message of n bytes will take about, decoded: small rows grow the most by it. It is counted
// exactly once the message is decoded.
func weight(n int) int { return 2 * n }

// ledger is what one run of a query holds of an account. Without an account it counts nothing.
type ledger struct {
	account Account
	held    atomic.Int64
}

// reserve takes n bytes; tight says that there was no plenty of room for them. open says that a query is open meanwhile.
func (l *ledger) reserve(ctx context.Context, n int, open bool) (tight bool, err error) {
	if l.account == nil || n <= 0 {
		return false, nil
	}
	if tight = !l.account.TryReserve(n); tight {
		if open {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, stallLimit, ErrGiveBack)
			defer cancel()
		}
		if err := l.account.Reserve(ctx, n); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return true, cause
			}
			return true, err
		}
	}
	l.held.Add(int64(n))
	return tight, nil
}

func (l *ledger) adjust(n int) {
	if l.account != nil && n != 0 {
		l.held.Add(int64(n))
		l.account.Adjust(n)
	}
}

// handOver answers how many of n bytes were reserved, which now belong to whoever gets the frame.
func (l *ledger) handOver(n int) int {
	if l.account == nil {
		return 0
	}
	l.held.Add(-int64(n))
	return n
}

// close gives back what is still held.
func (l *ledger) close() { l.adjust(-int(l.held.Load())) }

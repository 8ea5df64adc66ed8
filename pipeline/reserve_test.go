package pipeline

import (
	"context"
	"errors"
	"sync"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
)

// reserving is a Source that takes its memory from the engine's budget before it has it, as the real reader does: that of each
// frame, and while the engine has the frame that of the next message, which a connection delivers meanwhile. What it is asked
// to give back it reads again.
type reserving struct {
	Source
	budget  changestream.Budget
	ahead   int // the bytes of the next message
	recalls func()
}

func (r *reserving) Read(ctx context.Context, p change.Partition, after change.Timestamp, yield func(*change.Frame) error) error {
	account := r.budget.Partition(p.Token)
	for {
		err := r.read(ctx, account, p, &after, yield)
		if !errors.Is(err, changestream.ErrGiveBack) {
			return err
		}
		r.recalls()
	}
}

// read reads until something has to be given back.
func (r *reserving) read(ctx context.Context, account changestream.Account, p change.Partition, after *change.Timestamp, yield func(*change.Frame) error) error {
	var reading sync.WaitGroup
	held := 0
	var refused error
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		reading.Wait()
		account.Adjust(-held)
	}()
	take := func(n int) error {
		if !account.TryReserve(n) {
			if err := account.Reserve(ctx, n); err != nil {
				return err
			}
		}
		held += n
		return nil
	}
	return r.Source.Read(ctx, p, *after, func(f *change.Frame) error {
		reading.Wait()
		if refused != nil {
			return refused
		}
		if missing := f.Bytes - held; missing > 0 {
			if err := take(missing); err != nil {
				return err
			}
		}
		f.Reserved = 0
		if len(f.Changes) > 0 {
			f.Reserved = f.Bytes
			held -= f.Reserved
		}
		through := f.Through
		reading.Go(func() { refused = take(r.ahead) })
		err := yield(f)
		if err == nil {
			*after = through
		}
		return err
	})
}

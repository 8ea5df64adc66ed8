package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/changestream"
)

// row is one row of a partition of the model: its commit timestamp and its bytes.
type row struct{ at, bytes int }

// modelReader reads a partition as changestream does: it asks before it receives, holds a timestamp until it is proven, and
// reads again what it was asked to give back.
type modelReader struct {
	account *account
	rows    []row
	through atomic.Int64
	ended   atomic.Bool
	recalls int // how often it was asked to give back
}

// TestBudgetFairAndBounded (I10): many readers with rows of all sizes on a small budget, some larger than all of it, all come
// to their end; what is held stays within the budget, one frame, and the small change of idle partitions.
func TestBudgetFairAndBounded(t *testing.T) {
	recalls := 0
	rapid.Check(t, func(rt *rapid.T) {
		var err error
		synctest.Test(t, func(t *testing.T) {
			var n int
			n, err = budgetModel(t, rt)
			recalls += n
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
	if recalls == 0 {
		t.Error("no reader was ever asked to give something back: the model is too tame")
	}
}

func budgetModel(t *testing.T, rt *rapid.T) (recalls int, err error) {
	max := rapid.IntRange(5_000, 50_000).Draw(rt, "budget")
	each := rapid.Bool().Draw(rt, "order commit")
	readers := make([]*modelReader, rapid.IntRange(1, 20).Draw(rt, "partitions"))
	b := newBudget(max, each, func() {}, func() *account {
		var lowest *modelReader
		for _, r := range readers {
			switch {
			case r.ended.Load():
			case lowest == nil || r.through.Load() < lowest.through.Load(), r.through.Load() == lowest.through.Load() && r.account.waits.Load():
				lowest = r
			}
		}
		if lowest == nil {
			return nil
		}
		return lowest.account
	})
	largest := 0
	for i := range readers {
		r := &modelReader{account: b.newAccount()}
		at := 1
		for range rapid.IntRange(1, 30).Draw(rt, "rows") {
			size := rapid.OneOf(rapid.IntRange(100, 2_000), rapid.IntRange(2_000, 60_000)).Draw(rt, "size")
			r.rows = append(r.rows, row{at, size})
			at += rapid.IntRange(0, 3).Draw(rt, "step")
		}
		readers[i] = r
		for i := range r.rows {
			one := 0
			for _, q := range r.rows {
				if q.at == r.rows[i].at {
					one += q.bytes
				}
			}
			largest = slices.Max([]int{largest, one})
		}
	}
	sink := time.Duration(rapid.IntRange(0, 50).Draw(rt, "delivery, ms")) * time.Millisecond
	bound := max + 2*largest + 60_000 + len(readers)*smallReserve
	if each {
		bound = max + len(readers)*(2*largest+60_000)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for i, r := range readers {
		g.Go(func() error {
			if err := r.read(ctx, sink, bound); err != nil {
				return fmt.Errorf("partition %d at %d: %w", i, r.through.Load(), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	time.Sleep(time.Second)
	if used, waiting := b.inUse(); used != 0 || waiting != 0 {
		return 0, fmt.Errorf("in the end %d bytes are held and %d wait", used, waiting)
	}
	for _, r := range readers {
		recalls += r.recalls
	}
	return recalls, nil
}

// read reads all rows, as often as it takes. A heartbeat follows the last.
func (r *modelReader) read(ctx context.Context, sink time.Duration, bound int) error {
	b := r.account.budget
	for {
		err := r.run(ctx, sink, bound)
		if !errors.Is(err, changestream.ErrGiveBack) {
			return err
		}
		r.recalls++
		if n := b.unreadBy(r.account); n != 0 {
			return fmt.Errorf("%d bytes are left after giving back", n)
		}
	}
}

func (r *modelReader) run(ctx context.Context, sink time.Duration, bound int) (err error) {
	b, held, at, expect := r.account.budget, 0, 0, 512
	defer func() { r.account.Adjust(-held) }()
	reserve := func(n int) error {
		if n > 0 {
			if err := r.account.Reserve(ctx, n); err != nil {
				return err
			}
			held += n
			if used, _ := b.inUse(); used > bound {
				return fmt.Errorf("%d bytes are held, want at most %d", used, bound)
			}
		} else if n < 0 {
			r.account.Adjust(n)
			held += n
		}
		return nil
	}
	frame := func(through, bytes int) {
		over := r.account.handOver(bytes)
		held -= bytes
		if bytes > 0 {
			time.AfterFunc(sink, func() { r.account.resolve(bytes, over) })
		}
		r.through.Store(int64(through))
		b.moved()
	}
	first := slices.IndexFunc(r.rows, func(q row) bool { return q.at > int(r.through.Load()) })
	if first < 0 {
		first = len(r.rows)
	}
	for _, q := range r.rows[first:] {
		if err := reserve(expect); err != nil {
			return err
		}
		if err := reserve(q.bytes - expect); err != nil {
			return err
		}
		if before := held - q.bytes; q.at > at {
			frame(q.at-1, before)
			at = q.at
		}
		time.Sleep(time.Millisecond)
		expect = min(q.bytes, 64<<10)
	}
	if err := reserve(expect); err != nil {
		return err
	}
	if err := reserve(200 - expect); err != nil {
		return err
	}
	r.ended.Store(true)
	frame(1<<40, held-200)
	return nil
}

func (b *budget) unreadBy(a *account) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return a.unread()
}

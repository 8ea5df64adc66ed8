package changestream

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
)

// purse is a Budget of one account with room for max bytes, that asks for everything back now and then. Its partition is
// always the lowest: while no frame of it is held it may go beyond max.
type purse struct {
	max    int
	recall int // answer ErrGiveBack to every recall-th Reserve, 0 for never

	mu                sync.Mutex
	held, most, asked int
	frames            int // of held, in frames
	freed             chan struct{}
}

func (p *purse) Partition(string) Account { return p }

func (p *purse) TryReserve(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frames > 0 && p.held+n > p.max {
		return false
	}
	p.add(n)
	return true
}

func (p *purse) add(n int) {
	if p.held += n; p.held < 0 {
		panic("more was given back than taken")
	}
	p.most = max(p.most, p.held)
}

func (p *purse) Reserve(ctx context.Context, n int) error {
	p.mu.Lock()
	p.asked++
	recall := p.recall > 0 && p.asked%p.recall == 0
	p.mu.Unlock()
	if recall {
		return ErrGiveBack
	}
	for !p.TryReserve(n) {
		select {
		case <-p.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *purse) Adjust(n int) {
	p.mu.Lock()
	p.add(n)
	p.mu.Unlock()
	if n < 0 {
		signal(p.freed)
	}
}

func (p *purse) take(f *change.Frame) {
	p.mu.Lock()
	p.frames += f.Reserved
	p.mu.Unlock()
}

func (p *purse) giveBack(f *change.Frame) {
	p.mu.Lock()
	p.frames -= f.Reserved
	p.mu.Unlock()
	p.Adjust(-f.Reserved)
}

// replay is a script that answers each query from the start it asks for.
func replay(rows []testRecord, end change.Timestamp) *script {
	s := &script{}
	messages := make([][]byte, len(rows))
	for i, r := range rows {
		messages[i] = message(r.row())
	}
	s.from = func(start string) *scripted {
		var steps []any
		for i, r := range rows {
			if r.commit.String() >= start {
				steps = append(steps, messages[i])
			}
		}
		return play(append(steps, message(childRow(end, part("c", end))), io.EOF)...)
	}
	return s
}

// What a partition receives, decodes and holds until its commit timestamp is complete is taken from the budget before, goes
// over with the frames, and comes back to the last byte, also when the budget recalls it in between (I10).
func TestReadAsksTheBudget(t *testing.T) {
	for name, p := range map[string]*purse{
		"room for all":       {max: 1 << 30},
		"little room":        {max: 8 << 10},
		"recalled all along": {max: 8 << 10, recall: 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p.freed = make(chan struct{}, 1)
				rnd := rand.New(rand.NewPCG(1, 2))
				var rows []testRecord
				at := change.Timestamp(10)
				for range 150 {
					r := cart(at, fmt.Sprint(len(rows)), strings.Repeat("x", rnd.IntN(300)))
					rows = append(rows, r)
					if rnd.IntN(3) > 0 {
						at += change.Timestamp(1 + rnd.IntN(5))
					}
				}
				s := replay(rows, at+10)
				r := scriptedReader(t, s, Options{Budget: p, MaxFrameBytes: 2 << 10})
				seen, fromFrames := 0, 0
				err := r.Read(t.Context(), part("p", 1), 0, func(f *change.Frame) error {
					seen += len(f.Changes)
					fromFrames += f.Reserved
					if len(f.Changes) > 0 != (f.Reserved > 0) || f.Reserved > f.Bytes {
						t.Errorf("a frame of %d changes and %d bytes has %d reserved", len(f.Changes), f.Bytes, f.Reserved)
					}
					p.take(f)
					time.AfterFunc(time.Millisecond, func() { p.giveBack(f) })
					return nil
				})
				if err != nil || seen != len(rows) {
					t.Fatalf("%d of %d changes: %v", seen, len(rows), err)
				}
				time.Sleep(time.Second)
				p.mu.Lock()
				defer p.mu.Unlock()
				if p.held != 0 {
					t.Errorf("%d bytes were never given back", p.held)
				}
				if p.recall > 0 && len(s.starts) < 3 {
					t.Errorf("%d queries although the budget recalled what was held", len(s.starts))
				}
				// Beyond the room may be one frame, with what was received for it.
				if p.max < 1<<20 && (p.most > p.max+16<<10 || p.most < p.max/2) {
					t.Errorf("%d bytes were held with room for %d", p.most, p.max)
				}
			})
		})
	}
}

// A partition that waits for memory is not silent, however long; its query is given up meanwhile, because gRPC holds a window
// of it beside the budget, and asked again without counting as a failure.
func TestReadWaitsForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &purse{max: 1 << 10, freed: make(chan struct{}, 1)}
		s := replay([]testRecord{cart(10, "1", "a"), cart(20, "2", "b"), cart(30, "3", "c")}, 100)
		r := scriptedReader(t, s, Options{Budget: p, MaxFrameBytes: 300, OnRetry: func(_ string, _ int, err error) { t.Errorf("a wait counts as a failure: %v", err) }})
		seen := 0
		err := r.Read(t.Context(), part("p", 1), 0, func(f *change.Frame) error {
			seen += len(f.Changes)
			p.take(f)
			time.AfterFunc(10*time.Minute, func() { p.giveBack(f) })
			return nil
		})
		if err != nil || seen != 3 {
			t.Fatalf("%d changes: %v", seen, err)
		}
		if n := len(s.starts); n < 2 || n > 6 {
			t.Errorf("%d queries", n)
		}
		time.Sleep(time.Hour)
	})
}

package pipeline

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/spanledger/spanledger/changestream"
)

// budget bounds the bytes of everything read and not resolved yet, over all partitions and sinks of a pipeline (I10): the
// reader's buffers, before it fills them, and the frames it has handed over.
//
// Bytes go to partitions in the order they asked. Two may pass those who wait:
//
//   - A partition that holds nothing at all, for a message as small as a heartbeat: idle partitions must move on, and
//     their watermarks with them.
//   - The partition with the lowest watermark, which may read one more frame: everyone else may be waiting for it. With
//     OrderKey that is one frame for all partitions, with OrderCommit one each, because there what is held waits until
//     every partition has been read past it.
//
// So at most max is held, and beyond it one frame (or one a partition) and smallReserve for each idle partition. A partition
// that has had its frame beyond the budget may be left with the beginning of the next one. Before the lowest goes beyond the
// budget, those who wait and hold something that they have not handed over are asked to give it back: they read it again.
// Those who wait for memory are asked, and those who wait for other partitions, whom the lowest may be holding up.
type budget struct {
	max int
	// each says that every partition may be beyond the budget with one frame.
	each bool
	// pressure closes the largest open batch, so that bytes come free without waiting for a batch's age. lowest answers the
	// account of the partition with the lowest watermark, one that waits if several are equal; nil if there is none. Both are
	// called without the lock.
	pressure func()
	lowest   func() *account

	mu sync.Mutex
	// used is what all hold, small the part of it held by partitions that hold no more than smallReserve.
	used, small int
	// beyond is what snapshots hold on top of max, which is nobody's to pay back.
	beyond int
	// queue has the *waiters in their order, fitting is how many of them ask for no more than max.
	queue   list.List
	fitting int
	// over is the account that is beyond the budget, or whose frame beyond it is not resolved yet; unused with each.
	over    *account
	pressed bool // pressure was called since bytes last came free or were granted
	// parked are the accounts of partitions that wait for others and were not asked for what they hold.
	parked map[*account]bool
	// denied says that the lowest waits until others have given back what was recalled.
	denied bool

	waiting atomic.Int32 // the length of queue
}

// smallReserve is what a partition that holds nothing gets whenever it asks.
const smallReserve = 1 << 10

// account is one partition's share of the budget. It is the reader's changestream.Account.
type account struct {
	budget *budget
	// waits says that waiter is set, and waitsForOthers that wanted is, for those without the lock.
	waits, waitsForOthers atomic.Bool

	// Guarded by budget.mu: what the partition holds, of that in frames handed over, whether it may go beyond the budget
	// until its next frame, whether such a frame is unresolved (with budget.each), and its place in the queue.
	held, frames    int
	over, overFrame bool
	waiter          *list.Element
	// wanted is closed when a parked partition is asked to give back; nil while it is not parked.
	wanted chan struct{}
}

// waiter is a place in the queue.
type waiter struct {
	account *account
	n       int
	small   bool
	answer  chan error // has room for one
}

func newBudget(max int, each bool, pressure func(), lowest func() *account) *budget {
	return &budget{max: max, each: each, pressure: pressure, lowest: lowest, parked: map[*account]bool{}}
}

func (b *budget) newAccount() *account { return &account{budget: b} }

// TryReserve takes n bytes if there is room. It leaves the right to be beyond the budget to Reserve: the reader then knows
// that memory is tight.
func (a *account) TryReserve(n int) bool { return a.try(n, n <= smallReserve) }

// Reserve takes n bytes, waiting for them if need be.
func (a *account) Reserve(ctx context.Context, n int) error {
	return a.reserve(ctx, n, n <= smallReserve)
}

func (a *account) try(n int, small bool) bool {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	return a.take(n, b.fitting == 0 && b.fits(n) || small && a.held == 0)
}

// take takes n bytes if ok; the caller holds the lock.
func (a *account) take(n int, ok bool) bool {
	if ok {
		a.budget.change(a, n, 0)
	}
	return ok
}

// fits reports whether there is room. What is larger than the whole budget passes when nothing else is held.
func (b *budget) fits(n int) bool { return b.used+n <= b.max+b.beyond || b.used == 0 }

// change counts bytes held, and of those bytes in frames; the caller holds the lock.
func (b *budget) change(a *account, held, frames int) {
	if n := a.unread(); n <= smallReserve {
		b.small -= n
	}
	b.used += held
	a.held += held
	a.frames += frames
	if n := a.unread(); n <= smallReserve {
		b.small += n
	}
}

// unread is what the partition holds and has not handed over; the caller holds the lock.
func (a *account) unread() int { return a.held - a.frames }

// reserve is Reserve; small says that the partition gets the bytes whenever it holds nothing.
func (a *account) reserve(ctx context.Context, n int, small bool) error {
	b := a.budget
	if a.try(n, small) {
		return nil
	}
	w := &waiter{account: a, n: n, small: small, answer: make(chan error, 1)}
	b.mu.Lock()
	if a.take(n, a.over) {
		b.mu.Unlock()
		return nil
	}
	a.waiter = b.queue.PushBack(w)
	a.waits.Store(true)
	b.waiting.Add(1)
	if n <= b.max {
		b.fitting++
	}
	b.settle() // something may have come free meanwhile
	b.mu.Unlock()
	b.press(false)
	b.moved()
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
	}
	b.mu.Lock()
	if a.waiter != nil {
		b.reply(w, context.Cause(ctx))
		b.settle() // who stood behind may fit
	}
	b.mu.Unlock()
	if err := <-w.answer; err == nil {
		a.Adjust(-n) // granted at the last moment
	}
	return context.Cause(ctx)
}

// reply ends a wait; the caller holds the lock.
func (b *budget) reply(w *waiter, err error) {
	b.queue.Remove(w.account.waiter)
	w.account.waiter = nil
	w.account.waits.Store(false)
	b.waiting.Add(-1)
	if w.n <= b.max {
		b.fitting--
	}
	if err == nil {
		b.change(w.account, w.n, 0)
		b.pressed = false
	}
	w.answer <- err
}

// settle serves those who wait, in their order, as far as there is room; the caller holds the lock. Who asks for more than
// the whole budget does not hold up the others: only being the lowest helps it.
func (b *budget) settle() {
	for e := b.queue.Front(); e != nil; {
		w, next := e.Value.(*waiter), e.Next()
		if w.n <= b.max && !b.fits(w.n) {
			return
		}
		if b.fits(w.n) {
			b.reply(w, nil)
		}
		e = next
	}
}

// Adjust counts n bytes more, or for a negative n less, without waiting.
func (a *account) Adjust(n int) {
	b := a.budget
	b.mu.Lock()
	b.change(a, n, 0)
	b.release(a, n < 0, false)
}

// exceed counts n bytes more, held on top of the budget, or for a negative n less: a snapshot's one chunk that may be. Those n
// bytes come free with it, and not for others.
func (a *account) exceed(n int) {
	b := a.budget
	b.mu.Lock()
	b.beyond += n
	b.mu.Unlock()
}

// release looks who may go on now that the account's partition has freed bytes, or the right to be beyond the budget. The
// caller holds the lock, which it gives back.
func (b *budget) release(a *account, freed, right bool) {
	if b.waiting.Load() == 0 {
		b.mu.Unlock()
		return
	}
	if freed {
		b.pressed = false
		b.settle()
		if a.waiter != nil && a.held == 0 {
			if w := a.waiter.Value.(*waiter); w.small {
				b.reply(w, nil)
			}
		}
	}
	move := right || freed && b.denied
	b.mu.Unlock()
	b.press(false)
	if move {
		b.moved()
	}
}

// handOver notes that the partition has read a frame, of which bytes are held until it is resolved. It reports whether the
// frame is beyond the budget: then the right to be that is the frame's, until it is resolved.
func (a *account) handOver(bytes int) (over bool) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.change(a, 0, bytes)
	had := a.over
	over, a.over = had && bytes > 0, false
	if b.each {
		a.overFrame = a.overFrame || over
	} else if had && !over {
		b.over = nil // it has moved on, by a frame that holds nothing
	}
	return over
}

// resolve gives back a frame's bytes, and its right to be beyond the budget.
func (a *account) resolve(bytes int, over bool) {
	b := a.budget
	b.mu.Lock()
	b.change(a, -bytes, -bytes)
	if over {
		a.overFrame = false
		if b.over == a {
			b.over = nil
		}
	}
	b.release(a, true, over)
}

// moved lets the partition with the lowest watermark go on, if it waits: someone's watermark has moved, or someone new waits.
func (b *budget) moved() {
	for b.waiting.Load() > 0 {
		if a := b.lowest(); a == nil || b.letPass(a) {
			return
		}
	}
}

// letPass lets a, which has the lowest watermark, go on if it waits and may. It reports false if a has begun to wait for others
// since it was chosen: those may wait for the memory that the right would withhold, so the lowest has to be looked for anew.
func (b *budget) letPass(a *account) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.wanted != nil {
		return false
	}
	if a.waiter == nil || a.overFrame || b.over != nil {
		return true
	}
	if !b.each {
		owed := b.used - b.small - b.max - b.beyond
		if n := a.unread(); n > smallReserve {
			owed -= n
		}
		if b.denied = owed > 0; b.denied {
			b.recall(a, owed)
			return true
		}
		b.over = a
	}
	a.over = true
	b.reply(a.waiter.Value.(*waiter), nil)
	return true
}

// recall asks those who wait, the last first, to give back what they hold without having handed it over, until that is owed
// bytes; the caller holds the lock. Who holds something and does not wait is about to hand it over, or to wait.
func (b *budget) recall(lowest *account, owed int) {
	for e := b.queue.Back(); e != nil && owed > 0; {
		w, prev := e.Value.(*waiter), e.Prev()
		if n := w.account.unread(); n > smallReserve && w.account != lowest && w.account.wanted == nil {
			owed -= n
			b.reply(w, changestream.ErrGiveBack)
		}
		e = prev
	}
	for a := range b.parked {
		if n := a.unread(); n > smallReserve && owed > 0 {
			owed -= n
			delete(b.parked, a)
			close(a.wanted)
		}
	}
}

// park says that the partition waits for others, and not for memory, until unpark: what it holds and has not handed over is
// asked back by closing wanted. It may be held up by the very one that needs it.
func (a *account) park() (wanted <-chan struct{}) {
	b := a.budget
	b.mu.Lock()
	a.wanted = make(chan struct{})
	wanted = a.wanted
	a.waitsForOthers.Store(true)
	b.parked[a] = true
	move := a.waive() || b.denied
	b.mu.Unlock()
	if move {
		b.moved()
	}
	return wanted
}

// waive gives up the right to be beyond the budget with the next frame, which is of no use to who does not read; the caller
// holds the lock.
func (a *account) waive() bool {
	had := a.over
	if a.over = false; had && a.budget.over == a {
		a.budget.over = nil
	}
	return had
}

// rest says that the partition is not read any more, for now or for ever.
func (a *account) rest() {
	a.budget.mu.Lock()
	had := a.waive()
	a.budget.mu.Unlock()
	if had {
		a.budget.moved()
	}
}

// unpark ends park.
func (a *account) unpark() {
	b := a.budget
	b.mu.Lock()
	a.wanted = nil
	a.waitsForOthers.Store(false)
	delete(b.parked, a)
	b.mu.Unlock()
	b.moved() // it may be the lowest
}

// press closes the largest open batch if someone waits: one who waits closes a batch, not each of ten thousand. again says
// that there is another reason: a batch was delivered and that was not enough, or more has come to the open ones.
func (b *budget) press(again bool) {
	if b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	press := b.queue.Len() > 0 && (again || !b.pressed)
	b.pressed = b.pressed || press
	b.mu.Unlock()
	if press {
		b.pressure()
	}
}

// String says what the account holds, for people.
func (a *account) String() string {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return fmt.Sprintf("holds %d bytes, %d of them in frames, beyond the budget %v, with a frame %v, waits %v",
		a.held, a.frames, a.over, a.overFrame || a.budget.over == a && !a.over, a.waiter != nil)
}

// inUse is the number of bytes held and how many partitions wait for more.
func (b *budget) inUse() (used, waiting int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.queue.Len()
}

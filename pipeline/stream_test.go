package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/spanledger/spanledger/change"
)

// dice is a random source for several goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func newDice(seed uint64) *dice { return &dice{rng: rand.New(rand.NewPCG(seed, 0))} }

func (d *dice) intn(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// script is a change stream whose whole history is known: partitions with their ends and children, and every change. It is
// as rude as allowed: frames are cut anywhere between timestamps, partitions are read at different speeds.
type script struct {
	parts   map[string]*scriptPart
	changes int              // in all partitions
	moving  bool             // the stream has mutable key ranges
	end     change.Timestamp // the last to be read, 0 for all

	rng  *dice
	mu   sync.Mutex
	stop func(token string, frame int) error // called before each frame, nil for none
	// newest is the commit timestamp of the newest change handed over.
	newest change.Timestamp
	// started and finished note the order of reads, to check I3.
	reads []string
}

type scriptPart struct {
	change.Partition
	end      change.Timestamp
	children []change.Partition
	changes  []change.Change
	moves    []scriptMove // with moving
}

var scriptTables = []*change.Table{
	change.NewTable("carts", 1, []change.Column{
		{Name: "id", Type: &change.Type{Code: change.CodeInt64}, Key: true, Ordinal: 1},
		{Name: "total", Type: &change.Type{Code: change.CodeInt64}, Ordinal: 2},
		{Name: "note", Type: &change.Type{Code: change.CodeString}, Ordinal: 3},
	}),
	change.NewTable("wallets", 1, []change.Column{
		{Name: "id", Type: &change.Type{Code: change.CodeInt64}, Key: true, Ordinal: 1},
		{Name: "coins", Type: &change.Type{Code: change.CodeInt64}, Ordinal: 2},
		{Name: "note", Type: &change.Type{Code: change.CodeString}, Ordinal: 3},
	}),
}

// newScript draws a history: commits over keys 0..keys-1, and splits, merges and moves of the key ranges between them.
// With hops each change goes to any partition alive, as Google's emulator may have it, not to the one that owns its key.
func newScript(rng *dice, commits, keys int, hops bool) *script {
	s := &script{parts: map[string]*scriptPart{}, rng: rng}
	type owned struct {
		part   *scriptPart
		lo, hi int
	}
	var live []owned
	now := change.Timestamp(1_000_000)
	add := func(lo, hi int, parents ...string) change.Partition {
		p := &scriptPart{Partition: change.Partition{Token: "P" + strconv.Itoa(len(s.parts)), Parents: parents, Start: now}}
		s.parts[p.Token] = p
		live = append(live, owned{p, lo, hi})
		return p.Partition
	}
	for i := range 2 {
		add(i*keys/2, (i+1)*keys/2)
	}
	value := 0
	touched := map[int]change.Position{}
	for n := range commits {
		now += change.Timestamp(rng.intn(3)) // equal timestamps happen
		for mod := range 1 + rng.intn(4) {
			key := rng.intn(keys)
			i := slices.IndexFunc(live, func(o owned) bool { return o.lo <= key && key < o.hi })
			p := live[i].part
			if hops {
				p = live[rng.intn(len(live))].part
			}
			table := scriptTables[key%2]
			pos := change.Position{Commit: now, Transaction: strconv.Itoa(n + 1), Sequence: fmt.Sprintf("%08d", rng.intn(2)), Mod: int32(mod)}
			if last, ok := touched[key]; ok && last.Commit == now && last.Transaction != pos.Transaction {
				continue // two transactions that touch one key cannot share a timestamp
			}
			touched[key] = pos
			value++
			p.changes = append(p.changes, change.Change{
				Position: pos, Table: table, Op: change.Update, Key: []change.Value{change.Value(strconv.Quote(strconv.Itoa(key)))},
				After: change.Row{nil, change.Value(strconv.Quote(strconv.Itoa(value)))}, Partition: p.Token,
			})
			s.changes++
		}
		if rng.intn(10) > 0 {
			continue
		}
		now++ // children start after every commit so far
		i := rng.intn(len(live))
		o := live[i]
		switch kind := rng.intn(3); {
		case kind == 0 && o.hi-o.lo > 1: // split
			live = slices.Delete(live, i, i+1)
			mid := o.lo + 1 + rng.intn(o.hi-o.lo-1)
			o.part.end, o.part.children = now, []change.Partition{add(o.lo, mid, o.part.Token), add(mid, o.hi, o.part.Token)}
		case kind == 1: // merge with the neighbour above
			j := slices.IndexFunc(live, func(p owned) bool { return p.lo == o.hi })
			if j < 0 {
				continue
			}
			q := live[j]
			live = slices.DeleteFunc(live, func(p owned) bool { return p.part == o.part || p.part == q.part })
			child := add(o.lo, q.hi, o.part.Token, q.part.Token)
			for _, p := range []*scriptPart{o.part, q.part} {
				p.end, p.children = now, []change.Partition{child}
			}
		default: // move
			live = slices.Delete(live, i, i+1)
			o.part.end, o.part.children = now, []change.Partition{add(o.lo, o.hi, o.part.Token)}
		}
	}
	for _, o := range live {
		o.part.end = now + 1
	}
	for _, p := range s.parts {
		slices.SortFunc(p.changes, func(a, b change.Change) int { return a.Position.Compare(b.Position) })
	}
	return s
}

func (s *script) Tables() []*change.Table { return nil }

// Partitions answers as an initial query does: the partitions alive at start, as if they began there, without parents.
func (s *script) Partitions(_ context.Context, start change.Timestamp) ([]change.Partition, error) {
	var alive []change.Partition
	for _, p := range s.parts {
		// A partition of mutable key ranges has its end's changes too.
		if p.Start <= start && (start < p.end || s.moving && start == p.end) {
			alive = append(alive, change.Partition{Token: p.Token, Start: start})
		}
	}
	return alive, nil
}

func (s *script) Read(ctx context.Context, p change.Partition, after change.Timestamp, yield func(*change.Frame) error) error {
	part := s.parts[p.Token]
	if part == nil {
		return fmt.Errorf("unknown token %s", p.Token)
	}
	if after >= part.end {
		return fmt.Errorf("OUT_OF_RANGE: %s is past the end of %s", after, p.Token) // I5: would mean lost data
	}
	s.mu.Lock()
	s.reads = append(s.reads, p.Token)
	s.mu.Unlock()
	if s.moving {
		return s.readMoving(ctx, part, after, yield)
	}
	rest := part.changes
	for len(rest) > 0 && rest[0].Position.Commit <= after {
		rest = rest[1:]
	}
	for frame := 0; ; frame++ {
		if s.stop != nil {
			if err := s.stop(p.Token, frame); err != nil {
				return err
			}
		}
		n := s.rng.intn(6)
		n = min(n, len(rest))
		for s.end != 0 && n > 0 && rest[n-1].Position.Commit > s.end {
			n--
		}
		for n > 0 && n < len(rest) && rest[n].Position.Commit == rest[n-1].Position.Commit {
			n++
		}
		f := &change.Frame{Token: p.Token, Changes: slices.Clone(rest[:n]), Through: max(after, p.Start-1)}
		if n > 0 {
			f.Through = rest[n-1].Position.Commit
		}
		for i := range f.Changes {
			f.Bytes += f.Changes[i].Size()
		}
		rest = rest[n:]
		switch {
		case s.end != 0 && part.end > s.end && (len(rest) == 0 || rest[0].Position.Commit > s.end):
			f.Through = s.end
		case len(rest) == 0 && s.rng.intn(2) == 0:
			f.Through, f.Children, f.Ended = part.end-1, part.children, true
		}
		after = f.Through
		s.handing(f)
		if err := yield(f); err != nil {
			return err
		}
		if f.Ended || s.end != 0 && f.Through >= s.end {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// handing notes a frame that is handed over.
func (s *script) handing(f *change.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(f.Changes); n > 0 {
		s.newest = max(s.newest, f.Changes[n-1].Position.Commit)
	}
}

// handed is the commit timestamp of the newest change handed over, and last that of the history's end.
func (s *script) handed() change.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.newest, 1_000_000)
}

func (s *script) last() (last change.Timestamp) {
	for _, p := range s.parts {
		if n := len(p.changes); n > 0 {
			last = max(last, p.changes[n-1].Position.Commit)
		}
	}
	return last
}

var errInjected = errors.New("injected fault")

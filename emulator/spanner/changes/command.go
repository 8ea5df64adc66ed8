package changes

import (
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Point is a place in the key space: everything at or above it lies right of a cut.
type Point struct {
	// Table is the qualified name of the table whose key follows.
	Table string
	// Key is the primary key or the beginning of one; empty means the beginning of the table's hierarchy.
	Key store.Key
}

// Redraw is what a command did.
type Redraw struct {
	// At is the timestamp of the redraw in microseconds since 1970: the end of the ended partitions and the start of the
	// new ones.
	At int64
	// Tokens are the partitions that began.
	Tokens []string
}

// Shift moves one range of keys between two partitions of a stream with mutable key ranges.
type Shift struct {
	// From owns the range so far, To takes it; an empty To makes a new partition (one for each such Shift).
	From, To string
	// Low and High bound the range, [Low, High); nil means the respective end of From's one range.
	Low, High *Point
}

// The commands below take at, the timestamp of the redraw in microseconds, or 0 for the next possible one. A chosen one
// must lie above every commit, heartbeat and redraw so far, else FAILED_PRECONDITION; it may lie ahead. They also answer
// NOT_FOUND for an unknown stream, INVALID_ARGUMENT for a token that is not the stream's, and FAILED_PRECONDITION for a
// partition that ended.

// Split divides a partition at the given places, or, where there are none, into n parts (2 if n is 0): by recent keys,
// else by bytes. All parts begin as new partitions and the old one ends.
func (l *Log) Split(name, token string, n int, places []Point, at int64) (Redraw, error) {
	return l.redraw(name, at, func(s *stream, at int64) ([]*partition, error) {
		p, err := s.alive(token)
		if err != nil {
			return nil, err
		}
		where := make([]place, 0, len(places))
		for _, pt := range places {
			where = append(where, l.place(pt))
		}
		if len(places) == 0 {
			if n == 0 {
				n = 2
			}
			if n < 2 || n > MaxPartitions {
				return nil, status.Errorf(codes.InvalidArgument, "split of partition %s: want 2 to %d parts, got %d", token, MaxPartitions, n)
			}
			where = cuts(p.ranges, p.sample, n)
			if len(where) < n-1 {
				return nil, status.Errorf(codes.FailedPrecondition, "split of partition %s: its key range is too small for %d parts", token, n)
			}
		}
		slices.SortFunc(where, place.compare)
		parts := divide(p.ranges, where)
		if len(parts) != len(where)+1 {
			return nil, status.Errorf(codes.InvalidArgument, "split of partition %s: the places must be different and strictly inside its key range", token)
		}
		moves := make([]move, 0, len(parts))
		for i := range parts {
			for _, r := range parts[i] {
				moves = append(moves, move{from: p, to: -1 - i, r: r})
			}
		}
		return s.shift(at, moves), nil
	})
}

// Merge ends two or more partitions and begins one with all their keys. With immutable key ranges they must be adjacent.
func (l *Log) Merge(name string, tokens []string, at int64) (Redraw, error) {
	return l.redraw(name, at, func(s *stream, at int64) ([]*partition, error) {
		if len(tokens) < 2 {
			return nil, status.Errorf(codes.InvalidArgument, "merge in change stream %s: want two or more partitions, got %d", name, len(tokens))
		}
		var moves []move
		for i, token := range tokens {
			p, err := s.alive(token)
			if err != nil {
				return nil, err
			}
			if slices.Contains(tokens[:i], token) {
				return nil, status.Errorf(codes.InvalidArgument, "merge in change stream %s: partition %s is given twice", name, token)
			}
			for _, r := range p.ranges {
				moves = append(moves, move{from: p, to: -1, r: r})
			}
		}
		if !s.mutable {
			sorted := slices.Clone(moves)
			slices.SortFunc(sorted, func(a, b move) int { return a.r.from.compare(b.r.from) })
			for i := range sorted[1:] {
				if sorted[i].r.to != sorted[i+1].r.from {
					return nil, status.Errorf(codes.InvalidArgument, "merge in change stream %s: partitions %s and %s are not adjacent", name, sorted[i].from.token, sorted[i+1].from.token)
				}
			}
		}
		return s.shift(at, moves), nil
	})
}

// Move hands a partition's keys over. With immutable key ranges the partition ends and one child has its range. With
// mutable ones the upper part of its range goes to another live partition, or to a new one if it is alone, and it lives
// on; Reassign chooses freely.
func (l *Log) Move(name, token string, at int64) (Redraw, error) {
	return l.redraw(name, at, func(s *stream, at int64) ([]*partition, error) {
		p, err := s.alive(token)
		if err != nil {
			return nil, err
		}
		if !s.mutable {
			return s.shift(at, []move{{from: p, to: -1, r: p.ranges[0]}}), nil
		}
		where := cuts(p.ranges, p.sample, 2)
		if len(where) == 0 {
			return nil, status.Errorf(codes.FailedPrecondition, "move out of partition %s: its key range cannot be divided", token)
		}
		to := -1
		var others []*partition
		if len(s.live) > 1 {
			to = 0
			others = []*partition{s.live[(p.live+1)%len(s.live)]}
		}
		var moves []move
		for _, r := range divide(p.ranges, where)[1] {
			moves = append(moves, move{from: p, to: to, r: r})
		}
		return s.shift(at, moves, others...), nil
	})
}

// Reassign moves ranges between partitions of a stream with mutable key ranges, all at one timestamp: each partition it
// touches tells so in one event record. A partition left without keys ends. FAILED_PRECONDITION for a stream with
// immutable key ranges.
func (l *Log) Reassign(name string, shifts []Shift, at int64) (Redraw, error) {
	return l.redraw(name, at, func(s *stream, at int64) ([]*partition, error) {
		if !s.mutable {
			return nil, status.Errorf(codes.FailedPrecondition, "change stream %s has immutable key ranges: use Split, Merge or Move", name)
		}
		if len(shifts) == 0 {
			return nil, status.Errorf(codes.InvalidArgument, "reassign in change stream %s: no shift given", name)
		}
		var moves []move
		var others []*partition
		rest := map[*partition][]keyRange{}
		began := 0
		for i, sh := range shifts {
			from, err := s.alive(sh.From)
			if err != nil {
				return nil, err
			}
			if _, ok := rest[from]; !ok {
				rest[from] = from.ranges
			}
			m := move{from: from}
			if sh.To == "" {
				began++
				m.to = -began
			} else {
				to, err := s.alive(sh.To)
				if err != nil {
					return nil, err
				}
				if to == from {
					return nil, status.Errorf(codes.InvalidArgument, "reassign in change stream %s: shift %d goes from a partition to itself", name, i)
				}
				m.to = len(others)
				others = append(others, to)
			}
			if (sh.Low == nil || sh.High == nil) && len(from.ranges) != 1 {
				return nil, status.Errorf(codes.InvalidArgument, "reassign in change stream %s: shift %d must give both bounds, since partition %s owns %d ranges", name, i, sh.From, len(from.ranges))
			}
			if sh.Low != nil {
				m.r.from = l.place(*sh.Low)
			} else {
				m.r.from = from.ranges[0].from
			}
			if sh.High != nil {
				m.r.to = l.place(*sh.High)
			} else {
				m.r.to = from.ranges[0].to
			}
			var inside bool
			if rest[from], inside = removeRange(rest[from], m.r); !inside || !m.r.from.less(m.r.to) {
				return nil, status.Errorf(codes.InvalidArgument, "reassign in change stream %s: shift %d: partition %s does not own the whole range", name, i, sh.From)
			}
			moves = append(moves, m)
		}
		return s.shift(at, moves, others...), nil
	})
}

// redraw runs a command at a timestamp above all that was observed and promised.
func (l *Log) redraw(name string, at int64, do func(*stream, int64) ([]*partition, error)) (Redraw, error) {
	safe := l.safeTime()
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.stream(name)
	if err != nil {
		return Redraw{}, err
	}
	nextCommit := max(safe, l.last) + 1 // no later commit lies below it
	lowest := max(nextCommit, s.lastCut+1, s.promised+1)
	if at == 0 {
		at = lowest
	}
	if at < lowest {
		return Redraw{}, status.Errorf(codes.FailedPrecondition, "change stream %s: partitions cannot be redrawn at %s, the earliest possible time is %s", name, stamp(micros(at)), stamp(micros(lowest)))
	}
	began, err := do(s, at)
	if err != nil {
		return Redraw{}, err
	}
	s.lastCut = at
	s.applyStaged(nextCommit)
	r := Redraw{At: at}
	for _, p := range began {
		r.Tokens = append(r.Tokens, p.token)
	}
	return r, nil
}

// move is one range on its way from a live partition to others[to], or, if to is negative, to new partition -to.
type move struct {
	from *partition
	to   int
	r    keyRange
}

// shift carries out moves at a timestamp and returns the partitions that began. The caller has checked that every range
// is its source's and that no two overlap.
func (s *stream) shift(at int64, moves []move, others ...*partition) []*partition {
	first := at
	if s.mutable {
		first = at + 1 // a change exactly at the redraw still is the source's
	}
	var began []*partition
	target := func(m move) *partition {
		if m.to >= 0 {
			return others[m.to]
		}
		for len(began) < -m.to {
			began = append(began, s.newPartition(at, first))
		}
		return began[-m.to-1]
	}
	touched := map[*partition]*controlRow{}
	var order []*partition
	event := func(p *partition) *controlRow {
		if touched[p] == nil {
			touched[p] = &controlRow{kind: PartitionEvent, at: at, token: p.token}
			order = append(order, p)
		}
		return touched[p]
	}
	starts := map[*partition][]*partition{} // by the first source of a new partition: only that one announces it
	announced := map[*partition]bool{}
	for _, m := range moves {
		to := target(m)
		from := event(m.from)
		if !slices.Contains(from.out, to.token) {
			from.out = append(from.out, to.token)
		}
		if m.to < 0 && !announced[to] {
			announced[to] = true
			starts[m.from] = append(starts[m.from], to)
		}
		m.from.ranges, _ = removeRange(m.from.ranges, m.r)
	}
	for _, m := range moves {
		to := target(m)
		in := event(to)
		if !slices.Contains(in.in, m.from.token) {
			in.in = append(in.in, m.from.token)
		}
		to.ranges = insertRange(to.ranges, m.r)
		s.staged = append(s.staged, staged{from: first, ranges: []keyRange{m.r}, owner: to})
		for _, at := range m.from.sample {
			if rangesContain([]keyRange{m.r}, at) {
				to.remember(at)
			}
		}
	}
	for _, p := range order {
		ev := touched[p]
		if s.mutable {
			s.announce(p, starts[p], ev, len(p.ranges) == 0)
		} else {
			for _, child := range began {
				if slices.Contains(ev.out, child.token) {
					p.children = append(p.children, childRow{token: child.token, parents: touched[child].in})
				}
			}
			p.parents = append(p.parents, ev.in...)
		}
		if len(p.ranges) == 0 {
			s.finish(p, at, first)
		}
		p.signal()
	}
	return began
}

// announce writes the control rows of one partition at a redraw: what starts, what moved, and its own end.
func (s *stream) announce(p *partition, starts []*partition, event *controlRow, ends bool) {
	rows := make([]*controlRow, 0, len(starts)+2)
	for _, q := range starts {
		rows = append(rows, &controlRow{kind: PartitionStart, at: event.at, token: q.token})
	}
	rows = append(rows, event)
	if ends {
		rows = append(rows, &controlRow{kind: PartitionEnd, at: event.at, token: p.token})
	}
	for i, row := range rows {
		row.sequence = i
		p.add(entry{at: row.at, control: row})
		s.retain(retained{at: row.at, bytes: 200, part: p})
	}
}

// alive finds a partition that has not ended and whose end is not decided either.
func (s *stream) alive(token string) (*partition, error) {
	p, err := s.partition(token)
	if err != nil {
		return nil, err
	}
	if p.end != never {
		return nil, status.Errorf(codes.FailedPrecondition, "partition %s of change stream %s ends at %s already", token, s.name, stamp(micros(p.end)))
	}
	return p, nil
}

// partition finds a partition by a token from outside.
func (s *stream) partition(token string) (*partition, error) {
	if p := s.parts[token]; p != nil {
		return p, nil
	}
	if uid, id, ok := s.log.parseToken(token); ok && uid == s.uid && id <= s.nextID {
		return nil, status.Errorf(codes.OutOfRange, "Partition token %s of change stream %s is no longer valid: all its records have expired", token, s.name)
	}
	return nil, status.Errorf(codes.InvalidArgument, "Partition token %q is invalid: it does not belong to change stream %s", token, s.name)
}

func (l *Log) place(p Point) place {
	root := p.Table
	if r, ok := l.roots[root]; ok {
		root = r
	}
	return place{root, p.Key}
}

// divide cuts ranges at rising places into non-empty parts, in order.
func divide(ranges []keyRange, at []place) [][]keyRange {
	var parts [][]keyRange
	var part []keyRange
	for _, r := range ranges {
		for len(at) > 0 && at[0].less(r.to) {
			if r.from.less(at[0]) {
				part = append(part, keyRange{r.from, at[0]})
				r.from = at[0]
			}
			if len(part) > 0 {
				parts = append(parts, part)
			}
			part, at = nil, at[1:]
		}
		part = append(part, r)
	}
	return append(parts, part)
}

// Partition describes one partition for tests and for operators.
type Partition struct {
	Token string
	// Start and End are in microseconds since 1970; End is 0 while no end is known.
	Start, End int64
	// Parents and Children are tokens; with mutable key ranges Parents are the sources of the first move in.
	Parents, Children []string
	// Ranges are the bounds it owns or, if its end is known, none; a High with Table "\xff" is the end of all tables.
	Ranges []Range
}

// Range is [Low, High) in the key space.
type Range struct{ Low, High Point }

// Partitions lists the partitions of a stream whose records are retained, oldest first.
func (l *Log) Partitions(name string) ([]Partition, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.stream(name)
	if err != nil {
		return nil, err
	}
	out := make([]Partition, 0, len(s.parts))
	for _, p := range s.sorted() {
		d := Partition{Token: p.token, Start: p.start, Parents: slices.Clone(p.parents)}
		if p.end != never {
			d.End = p.end
		}
		for _, c := range p.children {
			d.Children = append(d.Children, c.token)
		}
		for _, r := range p.ranges {
			d.Ranges = append(d.Ranges, Range{Point{r.from.root, r.from.key}, Point{r.to.root, r.to.key}})
		}
		out = append(out, d)
	}
	return out, nil
}

package store

import (
	"cmp"
	"slices"
	"sort"
)

// reads is what a transaction has read: keys and ranges of tables and indexes, by ID.
type reads struct {
	points map[int64]map[Key]struct{}
	spans  map[int64]*spans
}

// spans are ranges. The first sorted ones are in order and apart; that is made so for all of them whenever they have
// doubled, so that many small reads of the same rows take little room.
type spans struct {
	list   []Range
	sorted int
}

const fewSpans = 32

func (rs *reads) point(id int64, k Key) {
	if rs.points == nil {
		rs.points = map[int64]map[Key]struct{}{}
	}
	if rs.points[id] == nil {
		rs.points[id] = map[Key]struct{}{}
	}
	rs.points[id][k] = struct{}{}
}

func (rs *reads) span(id int64, r Range) {
	if rs.spans == nil {
		rs.spans = map[int64]*spans{}
	}
	s := rs.spans[id]
	if s == nil {
		s = &spans{}
		rs.spans[id] = s
	}
	s.list = append(s.list, r)
	if len(s.list) >= 2*s.sorted+fewSpans {
		s.sort()
	}
}

func (s *spans) sort() {
	if s.sorted == len(s.list) {
		return
	}
	slices.SortFunc(s.list, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	n := 0
	for _, r := range s.list[1:] {
		last := &s.list[n]
		switch {
		case last.End != "" && r.Start > last.End:
			n++
			s.list[n] = r
		case last.End != "" && (r.End == "" || r.End > last.End):
			last.End = r.End
		}
	}
	clear(s.list[n+1:])
	s.list = s.list[:n+1]
	s.sorted = n + 1
}

// has reports whether a key was read, or looked for.
func (rs *reads) has(id int64, k Key) bool {
	if _, ok := rs.points[id][k]; ok {
		return true
	}
	s := rs.spans[id]
	if s == nil {
		return false
	}
	s.sort()
	i := sort.Search(len(s.list), func(i int) bool { return s.list[i].Start > k })
	return i > 0 && s.list[i-1].Contains(k)
}

// changed finds something read that st has newer than ts: the ID of its table or index, which is 0 if there is none, and
// whether it was a single row.
func (rs *reads) changed(st *state, ts int64) (id int64, point bool) {
	for id, keys := range rs.points {
		if st.lastWrite[id] <= ts {
			continue
		}
		for k := range keys {
			if e, ok := st.trees[id].Get(entry{key: k}); ok && e.head.ts > ts {
				return id, true
			}
		}
	}
	for id, s := range rs.spans {
		if st.lastWrite[id] <= ts {
			continue
		}
		s.sort()
		for _, r := range s.list {
			hit := false
			ascend(st.trees[id], r, func(e entry) bool {
				hit = e.head.ts > ts
				return !hit
			})
			if hit {
				return id, false
			}
		}
	}
	return 0, false
}

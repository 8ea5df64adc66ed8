package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// tally counts what a run has generated and compared.
type tally struct {
	fates    map[string]int // of histories
	requests map[string]int // by word and answer
	changes  map[string]int // of ours, by kind and capture type
	used     map[string]int // deviation ids
	crashes  []string
}

func (s *tally) add(c *comparison) {
	if s.fates == nil {
		*s = tally{fates: map[string]int{}, requests: map[string]int{}, changes: map[string]int{}, used: map[string]int{}}
	}
	for id, n := range c.used {
		s.used[id] += n
	}
	switch {
	case c.crash != "":
		s.fates["took the official emulator down"]++
		s.crashes = append(s.crashes, fmt.Sprintf("%s\n%s", c.h, c.crash))
		return
	case len(c.differences) > 0:
		s.fates["differ"]++
	case c.cut:
		s.fates["compared up to a deviation that changes the database"]++
	case c.ours.played < len(c.h):
		s.fates["refused: no database"]++
	default:
		s.fates["compared to the end"]++
	}
	for _, a := range c.ours.answers {
		word, _, _ := strings.Cut(a.request, " ")
		s.requests[fmt.Sprintf("%s %s", word, a.code)]++
	}
	if c.cut {
		return
	}
	for _, records := range c.ours.streams {
		for _, r := range records {
			s.changes[r.modType+" "+r.capture] += len(r.mods)
			s.changes[r.modType] += len(r.mods)
		}
	}
}

func (s *tally) log(t *testing.T) {
	log := func(what string, counts map[string]int) {
		for _, k := range slices.Sorted(maps.Keys(counts)) {
			t.Logf("%6d %s%s", counts[k], what, k)
		}
	}
	log("histories: ", s.fates)
	log("changes: ", s.changes)
	log("requests: ", s.requests)
	for _, d := range deviations {
		if s.used[d.id] == 0 {
			t.Logf(" never deviation %s: %s", d.id, d.what)
			continue
		}
		t.Logf("%6d deviation %s: %s [%s]", s.used[d.id], d.id, d.what, d.reference)
	}
	for _, c := range s.crashes {
		t.Logf("the official emulator died of\n%s", c)
	}
}

// check fails where a run compared too little to mean anything.
func (s *tally) check(t *testing.T) {
	all := 0
	for _, n := range s.fates {
		all += n
	}
	if n := s.fates["compared to the end"]; n < all/2 {
		t.Errorf("%d of %d histories were compared to their end, want half at least", n, all)
	}
	for _, kind := range []string{"INSERT", "UPDATE", "DELETE"} {
		if s.changes[kind] < all {
			t.Errorf("%d histories made %d changes of kind %s, want one each at least", all, s.changes[kind], kind)
		}
		for _, capture := range captureTypes {
			if s.changes[kind+" "+capture] == 0 {
				t.Errorf("no change of kind %s with value capture type %s was compared", kind, capture)
			}
		}
	}
}

package store_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// plain is the table of the serial tests as a map by key: what transactions do to it, one after another, is plain to see.
type plain map[int64]cell

type cell struct {
	text string
	n    int64
}

// do carries out one action and returns what it sees, as carry does.
func (p plain) do(a action) string {
	switch a.kind {
	case "get":
		if _, ok := p[a.k]; ok {
			return p.show(a.k)
		}
	case "scan":
		return p.show(slices.DeleteFunc(p.keys(), func(k int64) bool { return k < a.k })...)
	case "index":
		keys := slices.DeleteFunc(p.keys(), func(k int64) bool { return p[k].n < a.n })
		slices.SortStableFunc(keys, func(a, b int64) int { return cmp.Compare(p[a].n, p[b].n) })
		return p.show(keys...)
	case "insert":
		if _, ok := p[a.k]; ok {
			return "AlreadyExists"
		}
		p[a.k] = cell{a.text, a.n}
	case "put":
		p[a.k] = cell{a.text, a.n}
	case "delete":
		delete(p, a.k)
	}
	return ""
}

func (p plain) keys() []int64 { return slices.Sorted(maps.Keys(p)) }

func (p plain) show(keys ...int64) string {
	var out []string
	for _, k := range keys[:min(len(keys), scanLimit)] {
		out = append(out, fmt.Sprint(k, "=", p[k].text, p[k].n))
	}
	return strings.Join(out, " ")
}

func (p plain) String() string {
	var out []string
	for _, k := range p.keys() {
		out = append(out, fmt.Sprintf("%d=%s/%d", k, p[k].text, p[k].n))
	}
	return strings.Join(out, " ")
}

// checkSerial runs committed transactions, in the order of their timestamps, on a plain map: all must see what they saw, and
// leave these rows.
func checkSerial(t interface{ Fatalf(string, ...any) }, done []*script, rows string) {
	p := plain{}
	last := int64(0)
	for _, s := range done {
		if s.at <= last {
			t.Fatalf("transaction %d committed at %d, after one at %d", s.id, s.at, last)
		}
		last = s.at
		for _, a := range s.actions {
			if saw := p.do(a); saw != a.saw {
				t.Fatalf("transaction %d: %s %d %d saw %q, and %q in serial order", s.id, a.kind, a.k, a.n, a.saw, saw)
			}
		}
		for _, a := range s.late {
			if a.kind != "delete" {
				a.kind = "put"
			}
			p.do(a)
		}
	}
	if p.String() != rows {
		t.Fatalf("the rows are %s, and in serial order %s", rows, p)
	}
}

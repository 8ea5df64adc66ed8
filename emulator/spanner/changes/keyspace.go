package changes

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// place is a point of a stream's key space: the root table's name, then the bytes of a primary key (or any bytes, for a
// cut between keys).
type place struct {
	root string
	key  store.Key
}

// top lies above every row: no table name contains the byte 0xff.
var top = place{root: "\xff"}

func (a place) compare(b place) int {
	if c := strings.Compare(a.root, b.root); c != 0 {
		return c
	}
	return strings.Compare(string(a.key), string(b.key))
}

func (a place) less(b place) bool { return a.compare(b) < 0 }

// keyRange is [from, to).
type keyRange struct{ from, to place }

// insertRange returns ranges, which are sorted and apart, with r added; touching ranges become one. r overlaps none.
func insertRange(ranges []keyRange, r keyRange) []keyRange {
	i, _ := slices.BinarySearchFunc(ranges, r, func(a, b keyRange) int { return a.from.compare(b.from) })
	out := slices.Insert(slices.Clone(ranges), i, r)
	if i+1 < len(out) && out[i].to == out[i+1].from {
		out[i].to = out[i+1].to
		out = slices.Delete(out, i+1, i+2)
	}
	if i > 0 && out[i-1].to == out[i].from {
		out[i-1].to = out[i].to
		out = slices.Delete(out, i, i+1)
	}
	return out
}

// removeRange returns ranges without r, and whether r was wholly inside one of them.
func removeRange(ranges []keyRange, r keyRange) ([]keyRange, bool) {
	for i, have := range ranges {
		if r.from.less(have.from) || have.to.less(r.to) {
			continue
		}
		out := slices.Clone(ranges[:i])
		if have.from.less(r.from) {
			out = append(out, keyRange{have.from, r.from})
		}
		if r.to.less(have.to) {
			out = append(out, keyRange{r.to, have.to})
		}
		return append(out, ranges[i+1:]...), true
	}
	return ranges, false
}

func rangesContain(ranges []keyRange, p place) bool {
	for _, r := range ranges {
		if !p.less(r.from) && p.less(r.to) {
			return true
		}
	}
	return false
}

// routes maps the whole key space to partitions: entry i owns from its place to that of entry i+1. It is a sorted slice
// because a look-up per change matters and must not allocate; a redraw may move memory.
type routes []route

type route struct {
	from  place
	owner *partition
}

func (rs routes) index(p place) int {
	lo, hi := 0, len(rs) // rs[0].from is the bottom, so the answer is never -1
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if rs[mid].from.compare(p) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

func (rs routes) owner(p place) *partition { return rs[rs.index(p)].owner }

// assign gives r to a new owner. Neighbouring entries of one owner are joined, so that the table does not grow by moves.
func (rs routes) assign(r keyRange, owner *partition) routes {
	rs = rs.cut(r.from)
	if r.to != top {
		rs = rs.cut(r.to)
	}
	i, j := rs.index(r.from), len(rs)
	if r.to != top {
		j = rs.index(r.to)
	}
	rs = slices.Replace(rs, i, j, route{r.from, owner})
	if i+1 < len(rs) && rs[i+1].owner == owner {
		rs = slices.Delete(rs, i+1, i+2)
	}
	if i > 0 && rs[i-1].owner == owner {
		rs = slices.Delete(rs, i, i+1)
	}
	return rs
}

// cut makes p the beginning of an entry.
func (rs routes) cut(p place) routes {
	i := rs.index(p)
	if rs[i].from == p {
		return rs
	}
	return slices.Insert(rs, i+1, route{p, rs[i].owner})
}

// cuts finds n-1 rising places strictly inside the ranges, which divide them into n parts: evenly over the sample of
// keys if it has enough different ones, else halving the widest part by its bytes. It returns fewer if there is no room.
func cuts(ranges []keyRange, sample []place, n int) []place {
	var seen []place
	for _, p := range sample {
		for _, r := range ranges {
			if r.from.less(p) && p.less(r.to) {
				seen = append(seen, p)
			}
		}
	}
	slices.SortFunc(seen, place.compare)
	seen = slices.Compact(seen)
	if len(seen) >= n-1 {
		out := make([]place, 0, n-1)
		for i := 1; i < n; i++ {
			out = append(out, seen[i*len(seen)/n])
		}
		if len(slices.Compact(slices.Clone(out))) == n-1 {
			return out
		}
	}
	parts := slices.Clone(ranges)
	out := make([]place, 0, n-1)
	for len(out) < n-1 {
		// The first part that can be halved; parts are appended, so all are halved in turn.
		i := slices.IndexFunc(parts, func(r keyRange) bool { _, ok := between(r.from, r.to); return ok })
		if i < 0 {
			break
		}
		r := parts[i]
		m, _ := between(r.from, r.to)
		parts = append(slices.Delete(parts, i, i+1), keyRange{r.from, m}, keyRange{m, r.to})
		out = append(out, m)
	}
	slices.SortFunc(out, place.compare)
	return out
}

// between finds a place strictly between a and b, near their middle.
func between(a, b place) (place, bool) {
	if a.root == b.root {
		m, ok := midBytes(string(a.key), string(b.key))
		return place{a.root, store.Key(m)}, ok
	}
	if m, ok := midBytes(a.root, b.root); ok {
		return place{root: m}, true
	}
	// Nothing fits between the names, so go up inside the lower root.
	m := place{a.root, a.key + "\x80"}
	return m, a.less(m) && m.less(b)
}

// midBytes finds a string strictly between a and b, taking both as fractions in base 256.
func midBytes(a, b string) (string, bool) {
	if a >= b {
		return "", false
	}
	at := func(s string, i int) int {
		if i < len(s) {
			return int(s[i])
		}
		return 0
	}
	n := max(len(a), len(b)) + 1
	sum := make([]int, n+1) // sum[0] is the carry above the point
	for i := n - 1; i >= 0; i-- {
		v := at(a, i) + at(b, i) + sum[i+1]
		sum[i+1] = v & 0xff
		sum[i] += v >> 8
	}
	out := make([]byte, 0, n)
	rest := sum[0]
	for i := 1; i <= n; i++ {
		v := rest<<8 | sum[i]
		out = append(out, byte(v>>1))
		rest = v & 1
	}
	m := strings.TrimRight(string(out), "\x00")
	if m <= a || m >= b {
		m = string(out)
	}
	if m > a && m < b {
		return m, true
	}
	return "", false
}

// firstCuts guesses n-1 cuts for a stream without data: between the hierarchies of the tables, and inside each by what
// keys of its first part's type usually are.
func firstCuts(tables []*store.Table, watched func(*store.Table) bool, n int) []place {
	var roots []*store.Table
	for _, t := range tables {
		if t.Parent == "" && len(t.Key) > 0 && watched(t) {
			roots = append(roots, t)
		}
	}
	slices.SortFunc(roots, func(a, b *store.Table) int { return cmp.Compare(a.QualifiedName(), b.QualifiedName()) })
	var out []place
	for i, t := range roots {
		if len(out) == n-1 {
			break
		}
		if i > 0 {
			out = append(out, place{root: t.QualifiedName()})
		}
		parts := n / len(roots)
		if i < n%len(roots) {
			parts++
		}
		col := t.Columns[t.Key[0].Column].Type
		for _, v := range usualKeys(col, parts) {
			if len(out) < n-1 {
				out = append(out, place{t.QualifiedName(), store.Key(store.AppendKeyPart(nil, col, v, t.Key[0].Desc))})
			}
		}
	}
	slices.SortFunc(out, place.compare)
	out = slices.Compact(out)
	if missing := n - 1 - len(out); missing > 0 {
		// No table known, or too few usual keys: halve what there is.
		edges := append(append([]place{{}}, out...), top)
		var parts []keyRange
		for i := range edges[1:] {
			parts = append(parts, keyRange{edges[i], edges[i+1]})
		}
		out = append(out, cuts(parts, nil, missing+1)...)
		slices.SortFunc(out, place.compare)
	}
	return out
}

// usualKeys are n-1 values that divide the likely keys of a type.
func usualKeys(t *store.Type, n int) []store.Value {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	var out []store.Value
	for i := 1; i < n; i++ {
		switch t.Code {
		case store.String: // names, decimal digits, UUIDs in text
			at := i * len(letters) * len(letters) / n
			text := string([]byte{letters[at/len(letters)], letters[at%len(letters)]})
			out = append(out, store.Value{Valid: true, Text: text})
		case store.UUID, store.Bytes:
			text := string([]byte{byte(i * 65536 / n >> 8), byte(i * 65536 / n)})
			if t.Code == store.UUID {
				const hex = "0123456789abcdef"
				text = string([]byte{hex[text[0]>>4], hex[text[0]&15], hex[text[1]>>4], hex[text[1]&15]})
			}
			out = append(out, store.Value{Valid: true, Text: text})
		case store.Int64, store.Enum: // half for counters (log scale), half for bit-reversed sequences (even)
			v := int64(i/2) * (1 << 62 / int64(n/2+1)) * 2
			if i%2 == 1 {
				v = 1 << min(2+(i/2)*3, 40)
			}
			out = append(out, store.Value{Valid: true, Int: v})
		}
	}
	return out
}

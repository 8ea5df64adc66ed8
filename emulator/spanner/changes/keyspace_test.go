package changes

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func drawPlace(t *rapid.T, name string) place {
	b := rapid.SliceOfN(rapid.Byte(), 0, 4)
	return place{string(b.Draw(t, name+" root")), store.Key(b.Draw(t, name+" key"))}
}

func TestPropertyBetween(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawPlace(t, "a"), drawPlace(t, "b")
		m, ok := between(a, b)
		if ok && (!a.less(m) || !m.less(b)) {
			t.Fatalf("%q is not between %q and %q", m, a, b)
		}
		if !ok && len(a.key) > 0 && len(b.key) > 0 && a.root == b.root && int(a.key[0])+1 < int(b.key[0]) {
			t.Fatalf("found nothing between %q and %q", a, b)
		}
	})
}

// The routes and the ranges must agree with a map from every small place to its owner.
func TestPropertyRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners := []*partition{{id: 1}, {id: 2}, {id: 3}}
		rs := routes{{owner: owners[0]}}
		var model [64]*partition
		for i := range model {
			model[i] = owners[0]
		}
		at := func(i int) place {
			switch i {
			case 0:
				return place{}
			case len(model):
				return top
			}
			return place{root: string([]byte{byte(i)})}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			lo := rapid.IntRange(0, len(model)-1).Draw(t, "lo")
			hi := rapid.IntRange(lo+1, len(model)).Draw(t, "hi")
			o := owners[rapid.IntRange(0, 2).Draw(t, "owner")]
			rs = rs.assign(keyRange{at(lo), at(hi)}, o)
			for i := lo; i < hi; i++ {
				model[i] = o
			}
		}
		for i, want := range model {
			if got := rs.owner(at(i)); got != want {
				t.Fatalf("%d belongs to %d, want %d", i, got.id, want.id)
			}
		}
		for i := range rs[1:] {
			if !rs[i].from.less(rs[i+1].from) || rs[i].owner == rs[i+1].owner {
				t.Fatalf("entries %d and %d should be one, or are out of order", i, i+1)
			}
		}
	})
}

func TestPropertyRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := func(i int) place { return place{root: string([]byte{byte(i)})} }
		var ranges []keyRange
		var model [40]bool
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			lo := rapid.IntRange(0, len(model)-1).Draw(t, "lo")
			hi := rapid.IntRange(lo+1, len(model)).Draw(t, "hi")
			r := keyRange{at(lo), at(hi)}
			if !slices.Contains(model[lo:hi], true) {
				ranges = insertRange(ranges, r)
				for i := lo; i < hi; i++ {
					model[i] = true
				}
				continue
			}
			out, inside := removeRange(ranges, r)
			if inside == slices.Contains(model[lo:hi], false) {
				t.Fatalf("inside is %v", inside)
			}
			if inside {
				ranges = out
				clear(model[lo:hi])
			}
		}
		for i, want := range model {
			if rangesContain(ranges, at(i)) != want {
				t.Fatalf("place %d: want %v", i, want)
			}
		}
		for i := range max(0, len(ranges)-1) {
			if !ranges[i].to.less(ranges[i+1].from) {
				t.Fatalf("ranges %d and %d touch", i, i+1)
			}
		}
	})
}

func TestRootIsFixedAtFirstSight(t *testing.T) {
	l := New(Options{})
	grandchild := &store.Table{Name: "G", Parent: "C"}
	if root := l.rootOf(grandchild); root != "C" {
		t.Errorf("an unknown parent is taken for the root, got %s", root)
	}
	l.ObserveTables([]*store.Table{tableT, tableC, grandchild})
	if root := l.rootOf(grandchild); root != "C" {
		t.Errorf("the root changed to %s", root)
	}
	if root := l.rootOf(tableC); root != "T" {
		t.Errorf("root of C is %s", root)
	}
}

func FuzzPosition(f *testing.F) {
	f.Add("")
	f.Add(position{1, 2, 3, 4, 5, ended}.String())
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePosition(text)
		if err == nil && text != "" {
			if again, err := parsePosition(p.String()); err != nil || again != p {
				t.Fatalf("%+v became %+v, %v", p, again, err)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	l := New(Options{})
	f.Add(l.token(1, 2))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if uid, id, ok := l.parseToken(text); ok && l.token(uid, id) != text {
			t.Fatal("accepted a token that was never given out")
		}
	})
}

func FuzzRetention(f *testing.F) {
	f.Add("7d")
	f.Add("99999999999h")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseRetention(text); err == nil && (d < MinRetention || d > MaxRetention) {
			t.Fatalf("%q is %v", text, d)
		}
	})
}

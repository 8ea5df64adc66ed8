package change_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
)

func drawPosition(t *rapid.T) change.Position {
	id := rapid.OneOf(
		rapid.StringMatching(`[0-9]{0,12}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 4), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"", "-", "~", "0", "00", "-0", "=", "_", "a.b", "Carts/1"}),
	)
	return change.Position{
		Commit: change.Timestamp(rapid.OneOf(
			rapid.Int64Range(0, 3),
			rapid.Int64Range(0, int64(change.MaxTimestamp)),
			rapid.Int64Range(int64(change.MaxTimestamp)-2, int64(change.MaxTimestamp)),
		).Draw(t, "commit")),
		Snapshot:    rapid.Bool().Draw(t, "snapshot"),
		Transaction: id.Draw(t, "transaction"),
		Sequence:    id.Draw(t, "sequence"),
		Mod:         rapid.OneOf(rapid.Int32Range(0, 12), rapid.Int32Range(0, math.MaxInt32)).Draw(t, "mod"),
	}
}

func TestPositionTextSortsAsPositionsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawPosition(t), drawPosition(t)
		if rapid.Bool().Draw(t, "same transaction") {
			b.Commit, b.Snapshot, b.Transaction = a.Commit, a.Snapshot, a.Transaction
		}
		if got, want := strings.Compare(a.String(), b.String()), a.Compare(b); got != want {
			t.Fatalf("%s and %s compare as %d, their texts as %d", a, b, want, got)
		}
		if a.Compare(b) != -b.Compare(a) || (a.Compare(b) == 0) != (a == b) || a.After(b) != (a.Compare(b) > 0) {
			t.Fatalf("%s and %s have no order", a, b)
		}
	})
}

func TestPositionTextIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPosition(t)
		text, err := p.AppendText([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := change.ParsePosition(strings.TrimPrefix(string(text), "before"))
		if err != nil || got != p {
			t.Fatalf("%+v was read back as %+v, %v", p, got, err)
		}
		for _, c := range text {
			if !strings.ContainsRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~=", rune(c)) {
				t.Fatalf("%q has the byte %q, which is not safe in names", text, c)
			}
		}
	})
}

func TestPositionOrder(t *testing.T) {
	ordered := []change.Position{
		{},
		{Commit: 1},
		{Commit: 1, Transaction: "9", Sequence: "1"},
		{Commit: 1, Transaction: "10", Sequence: "00000000"},
		{Commit: 1, Transaction: "10", Sequence: "00000000", Mod: 2},
		{Commit: 1, Transaction: "10", Sequence: "00000000", Mod: 10},
		{Commit: 1, Transaction: "10", Sequence: "00000001"},
		{Commit: 1, Transaction: "10", Sequence: "100000000"},
		{Commit: 1, Snapshot: true},
		{Commit: 1, Snapshot: true, Transaction: "Carts", Sequence: `["a"]`},
		{Commit: 2},
	}
	if !slices.IsSortedFunc(ordered, change.Position.Compare) {
		t.Fatal("the positions are not in order")
	}
	if !ordered[0].IsZero() || ordered[1].IsZero() {
		t.Fatal("IsZero")
	}
}

func TestPositionWithoutText(t *testing.T) {
	for _, p := range []change.Position{{Commit: -1}, {Commit: change.MaxTimestamp + 1}, {Mod: -1}} {
		if _, err := p.MarshalText(); err == nil {
			t.Errorf("%+v has a text", p)
		}
		if s := p.String(); !strings.HasPrefix(s, "(change: position") {
			t.Errorf("%+v prints as %q", p, s)
		}
	}
}

// FuzzParsePosition: every text that is accepted is the one text of its position.
func FuzzParsePosition(f *testing.F) {
	for _, p := range []change.Position{{}, {Commit: 1, Transaction: "10", Sequence: "00000001", Mod: 3}, {Commit: change.MaxTimestamp, Snapshot: true, Transaction: "A.b", Sequence: "\x00\xff"}} {
		f.Add(p.String())
	}
	f.Add("20260102T030405.000000Z-t-11a.10.110")
	f.Fuzz(func(t *testing.T, s string) {
		var p change.Position
		if err := p.UnmarshalText([]byte(s)); err != nil {
			return
		}
		if got := p.String(); got != s {
			t.Fatalf("%q was accepted; the position's text is %q", s, got)
		}
	})
}

func ExamplePosition() {
	a := change.Position{Commit: 1767323045678901, Transaction: "9", Sequence: "00000000"}
	b := change.Position{Commit: 1767323045678901, Transaction: "10", Sequence: "00000000"}
	fmt.Println(a)
	fmt.Println(b)
	fmt.Println(b.After(a), b.String() > a.String())
	// Output:
	// 20260102T030405.678901Z-t-119.1800000000.110
	// 20260102T030405.678901Z-t-1210.1800000000.110
	// true true
}

package store_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func drawValue(t *rapid.T, typ *store.Type) store.Value {
	if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
		return store.Value{}
	}
	v := store.Value{Valid: true}
	switch typ.Code {
	case store.Bool:
		v.Int = rapid.Int64Range(0, 1).Draw(t, "v")
	case store.Int64, store.Date:
		v.Int = rapid.Int64().Draw(t, "v")
	case store.Timestamp:
		v.Int = rapid.Int64Range(-62135596800, 253402300799).Draw(t, "v")
		v.Nanos = rapid.Int32Range(0, 999999999).Draw(t, "nanos")
	case store.Float64:
		v.Float = rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1)})).Draw(t, "v")
	case store.Numeric:
		n := rapid.Int64().Draw(t, "v")
		var err error
		if v, err = store.ParseText(typ, fmt.Sprintf("%de-%d", n, rapid.IntRange(0, 9).Draw(t, "scale"))); err != nil {
			t.Fatal(err)
		}
	case store.String:
		v.Text = rapid.StringOf(rapid.RuneFrom([]rune{0, 1, 'a', 'b', 0x10FFFF})).Draw(t, "v")
	case store.Bytes:
		v.Text = string(rapid.SliceOf(rapid.SampledFrom([]byte{0, 1, 2, 0xFE, 0xFF})).Draw(t, "v"))
	}
	return v
}

// The encoding orders as Compare does, both ways, part after part; and KeyParts finds the parts again.
func TestKeyOrder(t *testing.T) {
	types := []store.Code{store.Bool, store.Int64, store.Date, store.Timestamp, store.Float64, store.Numeric, store.String, store.Bytes}
	rapid.Check(t, func(t *rapid.T) {
		var a, b []byte
		want := 0
		tab := &store.Table{}
		for n := range rapid.IntRange(1, 3).Draw(t, "parts") {
			typ := &store.Type{Code: rapid.SampledFrom(types).Draw(t, "type")}
			desc := rapid.Bool().Draw(t, "desc")
			x, y := drawValue(t, typ), drawValue(t, typ)
			if rapid.Bool().Draw(t, "same") {
				y = x
			}
			a, b = store.AppendKeyPart(a, typ, x, desc), store.AppendKeyPart(b, typ, y, desc)
			c := store.Compare(typ, x, y)
			if typ.Code == store.String || typ.Code == store.Bytes {
				if d := strings.Compare(x.Text, y.Text); x.Valid && y.Valid && c != d {
					t.Fatalf("Compare(%q, %q) = %d", x.Text, y.Text, c)
				}
			}
			if desc {
				c = -c
			}
			want = cmp.Or(want, c)
			tab.Columns = append(tab.Columns, store.Column{Type: typ})
			tab.Key = append(tab.Key, store.KeyPart{Column: n, Desc: desc})
			if got := store.KeyParts(tab, store.Key(a)); got != n+1 {
				t.Fatalf("KeyParts of %x = %d, want %d", a, got, n+1)
			}
		}
		if got := bytes.Compare(a, b); got != want {
			t.Fatalf("encoded order %d, want %d (%x, %x)", got, want, a, b)
		}
		if r := store.PrefixRange(store.Key(a)); !r.Contains(store.Key(a)+"\x00") || want != 0 && r.Contains(store.Key(b)) {
			t.Fatalf("the prefix range of %x is wrong", a)
		}
	})
}

func FuzzParseText(f *testing.F) {
	for _, s := range []string{"1", "-0.5e3", "{\"b\":1,\"a\":[null,1.0]}", "2020-02-30", "0001-01-01T00:00:00Z", "1e-99", "NaN", "AAECAw=="} {
		f.Add(uint8(store.Numeric), s)
		f.Add(uint8(store.JSON), s)
		f.Add(uint8(store.Timestamp), s)
	}
	f.Fuzz(func(t *testing.T, code uint8, s string) {
		typ := &store.Type{Code: store.Code(code)}
		v, err := store.ParseText(typ, s)
		if err != nil || typ.Code == store.JSON && len(v.Text) > 1<<16 {
			return
		}
		again, err := store.ParseText(typ, v.AsText(typ))
		if err != nil {
			t.Fatalf("%v %q reads as %+v, whose text %q does not: %v", code, s, v, v.AsText(typ), err)
		}
		if again.AsText(typ) != v.AsText(typ) {
			t.Fatalf("%v %q: %q then %q", code, s, v.AsText(typ), again.AsText(typ))
		}
	})
}

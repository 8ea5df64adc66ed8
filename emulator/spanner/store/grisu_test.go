package store

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// What is written reads back as the same number, and is the shortest such text or the shortest with one or two digits
// more.
func TestGrisuReadsBack(t *testing.T) {
	check := func(t rapid.TB, f float64) {
		digits, exponent := grisu(f)
		text := string(digits) + "e" + strconv.Itoa(exponent)
		back, err := strconv.ParseFloat(text, 64)
		if err != nil || back != f {
			t.Fatalf("%v is written %s, which reads back as %v (%v)", f, text, back, err)
		}
		if len(digits) > 17 {
			t.Fatalf("%v has %d digits: %s", f, len(digits), digits)
		}
	}
	for _, f := range []float64{1, 0.1, 123, math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 52, 1<<53 - 1, 2.2250738585072014e-308, 1e22, 1e23} {
		check(t, f)
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := math.Abs(rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Uint64(), math.Float64frombits)).Draw(rt, "f"))
		if f == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
			return
		}
		check(rt, f)
	})
}

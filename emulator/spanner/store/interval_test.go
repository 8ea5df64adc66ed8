package store

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func anyInterval() *rapid.Generator[IntervalParts] {
	return rapid.Custom(func(t *rapid.T) IntervalParts {
		nanos := new(big.Int).Mul(big.NewInt(rapid.Int64Range(-87_839_999, 87_839_999).Draw(t, "hours")), nanosPerHour)
		return IntervalParts{
			Months: rapid.Int64Range(-maxMonths, maxMonths).Draw(t, "months"), Days: rapid.Int64Range(-maxDays, maxDays).Draw(t, "days"),
			Nanos: nanos.Add(nanos, big.NewInt(rapid.Int64Range(-3600e9, 3600e9).Draw(t, "nanos"))),
		}
	})
}

// An interval is read back from its text as it was written, and its text is the only one of its value.
func TestIntervalText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyInterval().Draw(t, "interval")
		v, err := IntervalValue(p)
		if err != nil {
			t.Fatal(err)
		}
		q := v.Interval()
		if q.Months != p.Months || q.Days != p.Days || q.Nanos.Cmp(p.Nanos) != 0 {
			t.Fatalf("%s is read as %v, was %v", v.Text, q, p)
		}
		typ := &Type{Code: Interval}
		again, err := ParseText(typ, v.AsText(typ))
		if err != nil || again.Text != v.Text {
			t.Fatalf("%s is written %s: %v", v.Text, again.Text, err)
		}
		h, m, s, ns := p.Clock()
		sum := new(big.Int).Mul(big.NewInt(h), nanosPerHour)
		if sum.Add(sum, big.NewInt((m*60+s)*1e9+ns)).Cmp(p.Nanos) != 0 || m <= -60 || m >= 60 || s <= -60 || s >= 60 {
			t.Fatalf("%v is %d:%d:%d and %d ns", p.Nanos, h, m, s, ns)
		}
	})
}

// Intervals are ordered by what they come to with days of 24 hours and months of 30 days.
func TestIntervalOrder(t *testing.T) {
	typ := &Type{Code: Interval}
	total := func(p IntervalParts) *big.Int {
		days := new(big.Int).Mul(big.NewInt(p.Months*30+p.Days), nanosPerDay)
		return days.Add(days, p.Nanos)
	}
	rapid.Check(t, func(t *rapid.T) {
		p, q := anyInterval().Draw(t, "p"), anyInterval().Draw(t, "q")
		v, err := IntervalValue(p)
		if err != nil {
			t.Fatal(err)
		}
		w, err := IntervalValue(q)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := Compare(typ, v, w), total(p).Cmp(total(q)); got != want {
			t.Fatalf("%s and %s compare as %d, want %d", v.Text, w.Text, got, want)
		}
	})
}

func TestIntervalTexts(t *testing.T) {
	for text, want := range map[string]string{
		"P1Y2M3DT4H5M6.789123S": "P1Y2M3DT4H5M6.789123S", "P-1Y-2M-3DT-4H-5M-6.7S": "P-1Y-2M-3DT-4H-5M-6.7S", "P14M": "P1Y2M", "P1W2D": "P9D",
		"P0Y": "P0Y", "PT0S": "P0Y", "PT-0.5S": "PT-0.5S", "PT36H61M61,000000001S": "PT37H2M1.000000001S", "PT-1H30M": "PT-30M", "P10000Y": "P10000Y",
		"P": "", "PT": "", "P1": "", "1Y": "", "P1Y1Y": "", "P1D1M": "", "PT1.5H": "", "PT1.0000000001S": "", "P10000Y1M": "", "P3660001D": "",
		"PT87840000H0.000000001S": "", "P99999999999999999999Y": "", "P9223372036854775807Y": "", " P1D": "", "P1D ": "",
	} {
		v, err := ParseText(&Type{Code: Interval}, text)
		if (err != nil) != (want == "") || err == nil && v.Text != want {
			t.Errorf("%s: %s, %v, want %q", text, v.Text, err, want)
		}
	}
}

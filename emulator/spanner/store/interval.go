package store

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// IntervalParts is an INTERVAL taken apart. The three parts have signs of their own and are not carried into one another.
type IntervalParts struct {
	Months, Days int64
	// Nanos is the time part. Its range does not fit into an int64.
	Nanos *big.Int
}

// The range of INTERVAL: 10,000 years, 3,660,000 days and 87,840,000 hours either way.
const (
	maxMonths = 120_000
	maxDays   = 3_660_000
)

var (
	maxNanos    = new(big.Int).Mul(big.NewInt(87_840_000), nanosPerHour)
	nanosPerDay = new(big.Int).Mul(big.NewInt(24), nanosPerHour)

	nanosPerHour = big.NewInt(3600e9)
)

// IntervalValue is the INTERVAL of the parts, or an error if one is out of range.
func IntervalValue(p IntervalParts) (Value, error) {
	if p.Months < -maxMonths || p.Months > maxMonths || p.Days < -maxDays || p.Days > maxDays || p.Nanos.CmpAbs(maxNanos) > 0 {
		return Value{}, fmt.Errorf("the interval is out of range: at most 10000 years, 3660000 days and 87840000 hours, either way")
	}
	return Value{Valid: true, Text: p.iso()}, nil
}

// Interval takes an INTERVAL apart. Nanos is the caller's own.
func (v Value) Interval() IntervalParts {
	p, err := parseISO(v.Text)
	if err != nil {
		return IntervalParts{Nanos: new(big.Int)} // no value is made but by IntervalValue
	}
	return p
}

// Total is the interval as days of 24 hours, of which a month has 30, and the nanoseconds left, 0 to 24 hours.
func (p IntervalParts) Total() (days int64, nanos int64) {
	d, n := new(big.Int).DivMod(p.Nanos, nanosPerDay, new(big.Int))
	return p.Months*30 + p.Days + d.Int64(), n.Int64()
}

// iso writes the interval as ISO 8601 does, with signs for each component, and zero as P0Y.
func (p IntervalParts) iso() string {
	var b strings.Builder
	b.WriteByte('P')
	part := func(n int64, unit byte) {
		if n != 0 {
			b.WriteString(strconv.FormatInt(n, 10))
			b.WriteByte(unit)
		}
	}
	part(p.Months/12, 'Y')
	part(p.Months%12, 'M')
	part(p.Days, 'D')
	if p.Nanos.Sign() != 0 {
		b.WriteByte('T')
		h, m, s, ns := p.Clock()
		part(h, 'H')
		part(m, 'M')
		if s != 0 || ns != 0 {
			b.WriteString(SecondsText(s, ns, 1))
			b.WriteByte('S')
		}
	}
	if b.Len() == 1 {
		return "P0Y"
	}
	return b.String()
}

// Clock is the time part as hours, minutes, seconds and nanoseconds, all of its sign.
func (p IntervalParts) Clock() (h, m, s, ns int64) {
	hours, rest := new(big.Int).QuoRem(p.Nanos, nanosPerHour, new(big.Int))
	n := rest.Int64()
	return hours.Int64(), n / 60e9, n / 1e9 % 60, n % 1e9
}

// SecondsText writes seconds and nanoseconds of one sign with as many digits of the fraction as it takes, in groups.
func SecondsText(s, ns int64, group int) string {
	sign := ""
	if s < 0 || ns < 0 {
		sign, s, ns = "-", -s, -ns
	}
	if ns == 0 {
		return sign + strconv.FormatInt(s, 10)
	}
	digits := fmt.Sprintf("%09d", ns)
	n := len(strings.TrimRight(digits, "0"))
	n = (n + group - 1) / group * group
	return fmt.Sprintf("%s%d.%s", sign, s, digits[:n])
}

var isoInterval = regexp.MustCompile(`^P(?:([+-]?\d{1,19})Y)?(?:([+-]?\d{1,19})M)?(?:([+-]?\d{1,19})W)?(?:([+-]?\d{1,19})D)?` +
	`(T(?:([+-]?\d{1,19})H)?(?:([+-]?\d{1,19})M)?(?:([+-]?)(\d{1,19})(?:[.,](\d{1,9}))?S)?)?$`)

// parseISO reads the ISO 8601 form of a duration.
func parseISO(s string) (IntervalParts, error) {
	bad := func() (IntervalParts, error) { return IntervalParts{}, fmt.Errorf("%.60q is not an interval", s) }
	m := isoInterval.FindStringSubmatch(s)
	if m == nil || s == "P" || m[5] == "T" {
		return bad()
	}
	n := func(i int) *big.Int {
		out := new(big.Int)
		if m[i] != "" {
			out.SetString(strings.TrimPrefix(m[i], "+"), 10)
		}
		return out
	}
	sum := func(a *big.Int, times int64, b *big.Int) *big.Int {
		return new(big.Int).Add(new(big.Int).Mul(a, big.NewInt(times)), b)
	}
	months, days := sum(n(1), 12, n(2)), sum(n(3), 7, n(4))
	seconds := sum(n(9), 1e9, new(big.Int))
	if m[10] != "" {
		fraction, err := strconv.ParseInt((m[10] + "000000000")[:9], 10, 64)
		if err != nil {
			return bad()
		}
		seconds.Add(seconds, big.NewInt(fraction))
	}
	if m[8] == "-" {
		seconds.Neg(seconds)
	}
	nanos := sum(n(6), 3600e9, sum(n(7), 60e9, seconds))
	if !months.IsInt64() || !days.IsInt64() {
		return bad()
	}
	return IntervalParts{months.Int64(), days.Int64(), nanos}, nil
}

func parseInterval(s string) (Value, error) {
	p, err := parseISO(s)
	if err != nil {
		return Value{}, err
	}
	return IntervalValue(p)
}

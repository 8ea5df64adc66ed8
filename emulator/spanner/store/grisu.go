package store

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"sync"
)

// Spanner writes the float64 numbers in JSON values with the algorithm known as Grisu2 (Loitsch, "Printing
// floating-point numbers quickly and accurately with integers", 2010). Its digits read back as the same number but are
// not always the fewest: 0.39240506 becomes 0.39240506000000003. Since the text is what clients see, this is the same
// algorithm, and not strconv's, which finds the fewest.

// floating is f × 2^e.
type floating struct {
	f uint64
	e int
}

func (x floating) normal() floating {
	n := bits.LeadingZeros64(x.f)
	return floating{x.f << n, x.e - n}
}

// times is the product, rounded to 64 bits.
func (x floating) times(y floating) floating {
	hi, lo := bits.Mul64(x.f, y.f)
	return floating{hi + lo>>63, x.e + y.e + 64}
}

const (
	firstPower = -300 // the least power of ten that is kept
	powerStep  = 8
	powerCount = 79
	leastScale = -60 // the scaled exponent lies between this and leastScale + 28
)

// powersOfTen are 10^firstPower, 10^(firstPower+powerStep) and so on, rounded to 64 bits.
var powersOfTen = sync.OnceValue(func() (out [powerCount]floating) {
	for i := range out {
		k := firstPower + i*powerStep
		ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(k, -k))), nil)
		x := new(big.Float).SetPrec(64).SetInt(ten)
		if k < 0 {
			x.Quo(new(big.Float).SetPrec(64).SetInt64(1), new(big.Float).SetPrec(2048).SetInt(ten))
		}
		m := new(big.Float)
		e := x.MantExp(m)
		f, _ := m.SetMantExp(m, 64).Uint64()
		out[i] = floating{f, e - 64}
	}
	return out
})

// scale returns a power of ten that brings the binary exponent e into reach, and the decimal exponent of that power.
func scale(e int) (floating, int) {
	f := leastScale - e - 1
	k := f * 78913 >> 18 // f × log10(2), rounded down
	k++
	i := (k - firstPower + powerStep - 1) / powerStep
	return powersOfTen()[i], firstPower + i*powerStep
}

// grisu returns decimal digits and an exponent of ten such that digits × 10^exponent reads back as f, which is positive
// and finite.
func grisu(f float64) (digits []byte, exponent int) {
	raw := math.Float64bits(f)
	fraction, biased := raw&(1<<52-1), int(raw>>52)
	v := floating{fraction, 1 - 1075}
	if biased > 0 {
		v = floating{fraction | 1<<52, biased - 1075}
	}
	// The numbers halfway to the neighbours: what lies between them reads back as f.
	above := floating{2*v.f + 1, v.e - 1}.normal()
	below := floating{2*v.f - 1, v.e - 1}
	if fraction == 0 && biased > 1 {
		below = floating{4*v.f - 1, v.e - 2}
	}
	below = floating{below.f << (below.e - above.e), above.e}
	power, k := scale(above.e)
	w, low, high := v.normal().times(power), below.times(power), above.times(power)
	low.f++
	high.f--
	return generate(low, w, high, -k)
}

// generate writes digits of high until what is left out is within high − low, and moves the last one towards w.
func generate(low, w, high floating, exponent int) ([]byte, int) {
	delta, dist := high.f-low.f, high.f-w.f
	shift := -high.e
	whole, part := high.f>>shift, high.f&(1<<shift-1)
	digits := strconv.AppendUint(make([]byte, 0, 20), whole, 10)
	ten := uint64(1)
	for range len(digits) - 1 {
		ten *= 10
	}
	for n := 1; n <= len(digits); n++ {
		whole %= ten
		if rest := whole<<shift + part; rest <= delta {
			towards(digits[:n], dist, delta, rest, ten<<shift)
			return digits[:n], exponent + len(digits) - n
		}
		ten /= 10
	}
	for {
		part, delta, dist = part*10, delta*10, dist*10
		digits = append(digits, '0'+byte(part>>shift))
		part &= 1<<shift - 1
		exponent--
		if part <= delta {
			towards(digits, dist, delta, part, 1<<shift)
			return digits, exponent
		}
	}
}

// towards lowers the last digit while that brings the number nearer to the one wanted and keeps it within reach.
func towards(digits []byte, dist, delta, rest, unit uint64) {
	for rest < dist && delta-rest >= unit && (rest+unit < dist || dist-rest > rest+unit-dist) {
		digits[len(digits)-1]--
		rest += unit
	}
}

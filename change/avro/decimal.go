package avro

import (
	"math/bits"
	"strconv"
)

// uint128 is the magnitude of a NUMERIC times 10^9: at most 38 digits, so below 2^127.
type uint128 struct{ hi, lo uint64 }

// mulAdd is x*m + a, false if it overflows.
func (x uint128) mulAdd(m, a uint64) (uint128, bool) {
	over, hi := bits.Mul64(x.hi, m)
	carry, lo := bits.Mul64(x.lo, m)
	hi, c1 := bits.Add64(hi, carry, 0)
	lo, c2 := bits.Add64(lo, a, 0)
	hi, c3 := bits.Add64(hi, 0, c2)
	return uint128{hi, lo}, over == 0 && c1 == 0 && c3 == 0
}

const (
	numericScale  = 9
	numericDigits = 38
)

// parseNumeric reads a plain decimal such as -12.5 as its magnitude times 10^9. It refuses more digits than NUMERIC has,
// exponents, and minus zero, whose sign would be lost.
func parseNumeric(v []byte) (magnitude uint128, negative, ok bool) {
	if len(v) > 0 && v[0] == '-' {
		negative, v = true, v[1:]
	}
	whole, fraction, seenPoint := 0, 0, false
	for _, c := range v {
		if c == '.' {
			if seenPoint || whole == 0 {
				return magnitude, false, false
			}
			seenPoint = true
			continue
		}
		if c < '0' || c > '9' {
			return magnitude, false, false
		}
		if seenPoint {
			fraction++
		} else {
			whole++
		}
		if whole > numericDigits-numericScale || fraction > numericScale {
			return magnitude, false, false
		}
		magnitude, _ = magnitude.mulAdd(10, uint64(c-'0'))
	}
	if whole == 0 || seenPoint && fraction == 0 {
		return magnitude, false, false
	}
	for ; fraction < numericScale; fraction++ {
		magnitude, _ = magnitude.mulAdd(10, 0)
	}
	if negative && magnitude == (uint128{}) {
		return magnitude, false, false
	}
	return magnitude, negative, true
}

// appendTwosComplement writes the number as Avro bytes: big-endian two's complement, as short as it can be.
func appendTwosComplement(dst []byte, x uint128, negative bool) []byte {
	var fill byte
	if negative {
		lo, borrow := bits.Sub64(0, x.lo, 0)
		hi, _ := bits.Sub64(0, x.hi, borrow)
		x, fill = uint128{hi, lo}, 0xff
	}
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(x.hi>>(56-8*i)), byte(x.lo>>(56-8*i))
	}
	i := 0
	for i < 15 && b[i] == fill && (b[i+1]^fill) < 0x80 {
		i++
	}
	return appendBytes(dst, b[i:])
}

// appendNumeric writes Avro decimal bytes as a plain decimal without trailing zeros; false if it is out of bounds.
func appendNumeric(dst, b []byte) ([]byte, bool) {
	if len(b) == 0 || len(b) > 16 {
		return dst, false
	}
	var x uint128
	negative := b[0] >= 0x80
	if negative {
		x = uint128{^uint64(0), ^uint64(0)}
	}
	for _, c := range b {
		x = uint128{x.hi<<8 | x.lo>>56, x.lo<<8 | uint64(c)}
	}
	if negative {
		lo, borrow := bits.Sub64(0, x.lo, 0)
		hi, _ := bits.Sub64(0, x.hi, borrow)
		x = uint128{hi, lo}
		dst = append(dst, '-')
	}
	// Two divisions take it apart: 10^19 is the greatest power of ten in 64 bits.
	const e19 = 10_000_000_000_000_000_000
	q, r := x.hi/e19, x.hi%e19
	mid, low := bits.Div64(r, x.lo, e19)
	if q != 0 || mid >= e19 {
		return dst, false // more than 38 digits
	}
	var digits [38]byte
	text := strconv.AppendUint(digits[:0], mid, 10)
	if mid == 0 {
		text = text[:0]
	}
	if len(text) > 0 {
		var tail [19]byte
		for i := 18; i >= 0; i-- {
			tail[i], low = byte('0'+low%10), low/10
		}
		text = append(text, tail[:]...)
	} else {
		text = strconv.AppendUint(text, low, 10)
	}
	if n := len(text) - numericScale; n > 0 {
		dst = append(dst, text[:n]...)
		text = text[n:]
	} else {
		dst = append(dst, '0')
	}
	end := len(text)
	for end > 0 && text[end-1] == '0' {
		end--
	}
	if end > 0 {
		dst = append(dst, '.')
		for range numericScale - len(text) {
			dst = append(dst, '0')
		}
		dst = append(dst, text[:end]...)
	}
	return dst, true
}

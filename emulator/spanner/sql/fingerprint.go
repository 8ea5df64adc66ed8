package sql

import (
	"encoding/binary"
	"math/bits"
)

// The primes of FarmHash's Fingerprint64, which FARM_FINGERPRINT computes: it is part of many keys, so it must agree with
// Spanner's to the bit.
const (
	farmK0 = 0xc3a5c85c97cb3127
	farmK1 = 0xb492b66fbe98f273
	farmK2 = 0x9ae16a3b2f90404f
)

func farm64(s string) uint64 { return binary.LittleEndian.Uint64([]byte(s[:8])) }

func rotateRight(v uint64, n int) uint64 { return bits.RotateLeft64(v, -n) }

func shiftMix(v uint64) uint64 { return v ^ v>>47 }

func farmMix(u, v, mul uint64) uint64 {
	a := shiftMix((u ^ v) * mul)
	return shiftMix((v^a)*mul) * mul
}

func fingerprint(s string) uint64 {
	switch n := len(s); {
	case n <= 16:
		return farmShort(s)
	case n <= 32:
		return farmMedium(s)
	case n <= 64:
		return farmLong(s)
	}
	return farmHuge(s)
}

func farmShort(s string) uint64 {
	n := uint64(len(s))
	mul := farmK2 + n*2
	switch {
	case n >= 8:
		a := farm64(s) + farmK2
		b := farm64(s[n-8:])
		return farmMix(rotateRight(b, 37)*mul+a, (rotateRight(a, 25)+b)*mul, mul)
	case n >= 4:
		a := uint64(binary.LittleEndian.Uint32([]byte(s[:4])))
		return farmMix(n+a<<3, uint64(binary.LittleEndian.Uint32([]byte(s[n-4:]))), mul)
	case n > 0:
		y := uint64(s[0]) + uint64(s[n>>1])<<8
		z := n + uint64(s[n-1])<<2
		return shiftMix(y*farmK2^z*farmK0) * farmK2
	}
	return farmK2
}

func farmMedium(s string) uint64 {
	n := uint64(len(s))
	mul := farmK2 + n*2
	a, b := farm64(s)*farmK1, farm64(s[8:])
	c, d := farm64(s[n-8:])*mul, farm64(s[n-16:])*farmK2
	return farmMix(rotateRight(a+b, 43)+rotateRight(c, 30)+d, a+rotateRight(b+farmK2, 18)+c, mul)
}

func farmLong(s string) uint64 {
	n := uint64(len(s))
	mul := farmK2 + n*2
	a, b := farm64(s)*farmK2, farm64(s[8:])
	c, d := farm64(s[n-8:])*mul, farm64(s[n-16:])*farmK2
	y := rotateRight(a+b, 43) + rotateRight(c, 30) + d
	z := farmMix(y, a+rotateRight(b+farmK2, 18)+c, mul)
	e, f := farm64(s[16:])*mul, farm64(s[24:])
	g, h := (y+farm64(s[n-32:]))*mul, (z+farm64(s[n-24:]))*mul
	return farmMix(rotateRight(e+f, 43)+rotateRight(g, 30)+h, e+rotateRight(f+a, 18)+g, mul)
}

// farmWeak mixes 32 bytes into two seeds.
func farmWeak(s string, a, b uint64) (uint64, uint64) {
	w, x, y, z := farm64(s), farm64(s[8:]), farm64(s[16:]), farm64(s[24:])
	a += w
	b = rotateRight(b+a+z, 21)
	c := a
	a += x + y
	return a + z, b + rotateRight(a, 44) + c
}

func farmHuge(s string) uint64 {
	const seed uint64 = 81
	n := len(s)
	x, y := seed, seed
	y = y*farmK1 + 113
	z := shiftMix(y*farmK2+113) * farmK2
	var v1, v2, w1, w2 uint64
	x = x*farmK2 + farm64(s)
	last := s[n-64:]
	for end := (n - 1) / 64; end > 0; end-- {
		x = rotateRight(x+y+v1+farm64(s[8:]), 37) * farmK1
		y = rotateRight(y+v2+farm64(s[48:]), 42) * farmK1
		x ^= w2
		y += v1 + farm64(s[40:])
		z = rotateRight(z+w1, 33) * farmK1
		v1, v2 = farmWeak(s, v2*farmK1, x+w1)
		w1, w2 = farmWeak(s[32:], z+w2, y+farm64(s[16:]))
		z, x = x, z
		s = s[64:]
	}
	mul := farmK1 + z&0xff<<1
	s = last
	w1 += uint64((n - 1) & 63)
	v1 += w1
	w1 += v1
	x = rotateRight(x+y+v1+farm64(s[8:]), 37) * mul
	y = rotateRight(y+v2+farm64(s[48:]), 42) * mul
	x ^= w2 * 9
	y += v1*9 + farm64(s[40:])
	z = rotateRight(z+w1, 33) * mul
	v1, v2 = farmWeak(s, v2*mul, x+w1)
	w1, w2 = farmWeak(s[32:], z+w2, y+farm64(s[16:]))
	z, x = x, z
	return farmMix(farmMix(v1, w1, mul)+shiftMix(y)*farmK0+z, farmMix(v2, w2, mul)+x, mul)
}

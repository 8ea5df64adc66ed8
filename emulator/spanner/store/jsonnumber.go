package store

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// canonicalNumber writes a JSON number as Spanner keeps it: an integer of 64 bits as it is, signed or not; every other
// number as the float64 nearest to it, always with a point or an exponent.
func canonicalNumber(n json.Number) (json.Number, error) {
	text := n.String()
	if !strings.ContainsAny(text, ".eE") {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return json.Number(strconv.FormatInt(i, 10)), nil // -0 is 0
		}
		if u, err := strconv.ParseUint(text, 10, 64); err == nil {
			return json.Number(strconv.FormatUint(u, 10)), nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return "", fmt.Errorf("the number %s is too large", text)
	}
	return json.Number(jsonFloat(f)), nil
}

// jsonFloat writes f: plain up to 15 digits before the point and 4 zeros behind it, else with an exponent of at least two
// digits.
func jsonFloat(f float64) string {
	sign := ""
	if math.Signbit(f) {
		sign, f = "-", -f
	}
	if f == 0 {
		return sign + "0.0"
	}
	raw, exponent := grisu(f)
	digits := string(raw)
	switch point := len(digits) + exponent; {
	case exponent >= 0 && point <= 15:
		return sign + digits + strings.Repeat("0", exponent) + ".0"
	case point > 0 && point <= 15:
		return sign + digits[:point] + "." + digits[point:]
	case point > -4 && point <= 0:
		return sign + "0." + strings.Repeat("0", -point) + digits
	default:
		if len(digits) > 1 {
			digits = digits[:1] + "." + digits[1:]
		}
		return fmt.Sprintf("%s%se%+03d", sign, digits, point-1)
	}
}

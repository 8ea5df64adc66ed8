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

// jsonFloat writes the shortest text that reads back as f: plain up to 15 digits before the point and 4 zeros behind it,
// else with an exponent of at least two digits.
func jsonFloat(f float64) string {
	if f == 0 {
		if math.Signbit(f) {
			return "-0.0"
		}
		return "0.0"
	}
	scientific := strconv.FormatFloat(f, 'e', -1, 64)
	exponent, err := strconv.Atoi(scientific[strings.IndexByte(scientific, 'e')+1:])
	if point := exponent + 1; err != nil || point <= -4 || point > 15 {
		return scientific
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	return plain
}

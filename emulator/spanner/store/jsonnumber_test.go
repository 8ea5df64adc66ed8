package store

import (
	"encoding/json"
	"testing"
)

func TestCanonicalNumber(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "-0.0": "-0.0", "0e5": "0.0", "1e2": "100.0", "1.50": "1.5", "1e20": "1e+20", "0.1": "0.1",
		"9223372036854775807": "9223372036854775807", "18446744073709551615": "18446744073709551615",
		"18446744073709551616": "1.8446744073709552e+19", "123456789012345.0": "123456789012345.0", "1e15": "1e+15", "0.0001": "0.0001", "1e-7": "1e-07",
		"0.39240506": "0.39240506000000003", "1e23": "9.999999999999999e+22",
	} {
		if got, err := canonicalNumber(json.Number(text)); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	if got, err := canonicalNumber("1e400"); err == nil {
		t.Errorf("1e400: %s", got)
	}
}

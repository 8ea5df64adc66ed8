package changestream

import (
	"testing"
	"time"
)

func TestRetentionPeriod(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "7d": 7 * 24 * time.Hour, "36h": 36 * time.Hour, "90m": 90 * time.Minute, "86400s": 24 * time.Hour} {
		if got, err := (Info{Retention: text}).RetentionPeriod(); err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"d", "7", "0d", "-1d", "7w", "1.5d", "99999999999d", " 7d"} {
		if got, err := (Info{Stream: "s", Retention: text}).RetentionPeriod(); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
)

// When is a point on a change stream's time line as people write it.
type When struct {
	text string
	// kind is now, earliest, snapshot, or "" for at.
	kind string
	at   change.Timestamp
	// ago is how long before now; for kind now.
	ago time.Duration
}

// String is what was written.
func (w When) String() string { return w.text }

// ParseWhen reads now, earliest, snapshot, a duration before now such as -10m, or a timestamp in RFC 3339.
func ParseWhen(s string) (When, error) {
	w := When{text: s, kind: strings.ToLower(s)}
	switch {
	case w.kind == "now", w.kind == "earliest", w.kind == "snapshot":
		return w, nil
	case strings.HasPrefix(s, "-"):
		d, err := time.ParseDuration(s)
		if err != nil || d > 0 {
			return w, fmt.Errorf("%q: want a duration before now such as -10m or -1h30m", s)
		}
		w.kind, w.ago = "now", -d
		return w, nil
	}
	w.kind = ""
	if err := w.at.UnmarshalText([]byte(s)); err != nil {
		return w, fmt.Errorf("%q: want now, earliest, a duration before now such as -10m, or a timestamp such as 2026-01-02T15:04:05Z", s)
	}
	if w.at <= 0 {
		return w, fmt.Errorf("%q: want a time after 1970", s)
	}
	return w, nil
}

// resolve is the instant meant, by the database's own clock. snapshot is a start now.
func (w When) resolve(now change.Timestamp, earliest func() (change.Timestamp, error)) (change.Timestamp, error) {
	switch w.kind {
	case "earliest":
		return earliest()
	case "":
		return w.at, nil
	}
	return now - change.Timestamp(w.ago.Microseconds()), nil
}

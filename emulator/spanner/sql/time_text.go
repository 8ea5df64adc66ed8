package sql

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// losAngeles is Spanner's default time zone.
var losAngeles = func() *time.Location {
	l, err := zone("America/Los_Angeles")
	if err != nil {
		panic(err) // the database of zones is part of the program
	}
	return l
}()

// timestampForm is what a TIMESTAMP is written as: a date, perhaps a time of day, perhaps a zone by letter, offset or name.
var timestampForm = regexp.MustCompile(`^(\d{4})-(\d{1,2})-(\d{1,2})(?:[ Tt](\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?` +
	`(?:([Zz])|([+-]\d{4}|[+-]\d{1,2}(?::\d{1,2})?))?)?(?: ([^+ -].*))?$`)

// parseTimestamp reads the text forms of TIMESTAMP; without a zone of its own the text is in l.
func parseTimestamp(s string, l *time.Location) (store.Value, error) {
	bad := func() (store.Value, error) { return store.Value{}, outOfRange("Invalid timestamp: %q", s) }
	m := timestampForm.FindStringSubmatch(s)
	if m == nil {
		return bad()
	}
	offset, name := m[9], m[9]+m[10]
	switch {
	case offset != "" && m[10] != "":
		return bad()
	case m[8] != "":
		name = "UTC"
	case len(offset) == 5 && !strings.Contains(offset, ":"):
		name = offset[:3] + ":" + offset[3:]
	}
	if name != "" {
		var err error
		if l, err = zone(name); err != nil {
			return bad()
		}
	}
	var n [7]int
	for i := range n {
		digits := m[i+1]
		if i == 6 {
			digits = (digits + "000000000")[:9]
		}
		if digits == "" {
			continue
		}
		var err error
		if n[i], err = strconv.Atoi(digits); err != nil {
			return bad()
		}
	}
	t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6], l)
	day := time.Date(n[0], time.Month(n[1]), n[2], 0, 0, 0, 0, time.UTC)
	if day.Month() != time.Month(n[1]) || day.Day() != n[2] || n[3] > 23 || n[4] > 59 || n[5] > 59 {
		return bad()
	}
	return checkedTime(t)
}

// parseDate reads a DATE, whose month and day may have one digit.
func parseDate(s string) (store.Value, error) {
	t, err := time.Parse("2006-1-2", s)
	if err != nil {
		return store.Value{}, outOfRange("Invalid date: %q", s)
	}
	return checkedDate(t)
}

package changestream

import (
	"bytes"
	"fmt"
	"time"

	"github.com/spanledger/spanledger/change"
)

// parseTimestamp reads an RFC 3339 timestamp, floored to microseconds (I5: a heartbeat carries nanoseconds, and rounding up
// would promise what was not sent). The form Spanner writes, in UTC with Z, is read by hand; others by package time.
func parseTimestamp(b []byte) (change.Timestamp, error) {
	if t, ok := parseUTC(b); ok {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return 0, fmt.Errorf("%q is not an RFC 3339 timestamp", b)
	}
	return change.TimestampOf(t), nil
}

// belowMicro reports whether a timestamp that parseTimestamp accepts has a part below a microsecond.
func belowMicro(b []byte) bool {
	_, fraction, _ := bytes.Cut(b, []byte{'.'})
	for i, c := range fraction {
		if c < '0' || c > '9' {
			break
		}
		if i >= 6 && c != '0' {
			return true
		}
	}
	return false
}

func parseUTC(b []byte) (change.Timestamp, bool) {
	// 2006-01-02T15:04:05Z or with a fraction of up to nine digits.
	if len(b) < 20 || len(b) > 30 || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[len(b)-1] != 'Z' {
		return 0, false
	}
	year, ok1 := digits(b[0:4])
	month, ok2 := digits(b[5:7])
	day, ok3 := digits(b[8:10])
	hour, ok4 := digits(b[11:13])
	minute, ok5 := digits(b[14:16])
	second, ok6 := digits(b[17:19])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || year < 1 || month < 1 || month > 12 || day < 1 || day > 28 && day > daysIn(month, year) ||
		hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	micros := 0
	if fraction := b[19 : len(b)-1]; len(fraction) > 0 {
		if fraction[0] != '.' || len(fraction) < 2 {
			return 0, false
		}
		scale := 100_000
		for _, c := range fraction[1:] {
			if c < '0' || c > '9' {
				return 0, false
			}
			micros += int(c-'0') * scale
			scale /= 10
		}
	}
	days := daysSinceEpoch(year, month, day)
	return change.Timestamp(((int64(days)*24+int64(hour))*60+int64(minute))*60+int64(second))*1_000_000 + change.Timestamp(micros), true
}

func digits(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

func daysIn(month, year int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts from 1970-01-01 in the proleptic Gregorian calendar. Years are taken to begin in March, which puts
// the leap day at their end and makes month lengths a linear formula.
func daysSinceEpoch(year, month, day int) int {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468
}

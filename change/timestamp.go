package change

import (
	"fmt"
	"time"
)

// Timestamp is an instant in microseconds since 1970-01-01 UTC, the resolution of Spanner's commit timestamps. The zero
// Timestamp is 1970 itself and stands for "none" where a field says so; no commit is that old.
type Timestamp int64

// MaxTimestamp is the last instant Spanner can store, 9999-12-31T23:59:59.999999Z; it stands for "no end".
const MaxTimestamp Timestamp = 253402300799999999

// TimestampOf floors t to microseconds. Flooring, not rounding, is what keeps a heartbeat's promise true (I5).
func TimestampOf(t time.Time) Timestamp {
	return Timestamp(t.Unix()*1_000_000 + int64(t.Nanosecond())/1_000)
}

// Time is the instant as a time.Time in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMicro(int64(t)).UTC() }

// String is RFC 3339 in UTC with six fractional digits.
func (t Timestamp) String() string { return t.Time().Format("2006-01-02T15:04:05.000000Z") }

// MarshalText writes the form of String.
func (t Timestamp) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads RFC 3339 with any zone and up to nine fractional digits, flooring to microseconds.
func (t *Timestamp) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("change: timestamp %q: want RFC 3339 such as 2026-01-02T15:04:05.000000Z: %w", b, err)
	}
	*t = TimestampOf(v)
	return nil
}

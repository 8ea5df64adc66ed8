package change

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Position is a change's place in the one order of a database: by commit timestamp, then server transaction id, record
// sequence and mod number. It is the same at every re-read of the same change. The zero Position is before every change.
type Position struct {
	// Commit is the commit timestamp.
	Commit Timestamp
	// Snapshot marks a row taken by a snapshot at Commit: it comes after every change committed at Commit. Its
	// Transaction is the table's name and its Sequence the row's key, so that snapshot rows have an order of their own; see
	// SnapshotPosition.
	Snapshot bool
	// Transaction is the server transaction id, opaque; ids compare by length, then by bytes.
	Transaction string
	// Sequence is the record sequence inside the transaction, compared like Transaction.
	Sequence string
	// Mod is the number of the row's entry in its record, from 0.
	Mod int32
}

// maxSnapshotKey bounds the key in a snapshot row's position: positions are part of names and keys, which have bounds too.
const maxSnapshotKey = 256

// SnapshotPosition is the position of a row that a snapshot took at commit. key is the row's key in one canonical form; of a
// long one the position has the SHA-256, so the order of a snapshot's rows is fixed but not that of their keys.
func SnapshotPosition(commit Timestamp, table, key string) Position {
	if len(key) > maxSnapshotKey {
		sum := sha256.Sum256([]byte(key))
		key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return Position{Commit: commit, Snapshot: true, Transaction: table, Sequence: key}
}

// Compare orders positions: -1 when p comes before q, 0 when they are the same, +1 when p comes after q.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Commit, q.Commit); c != 0 {
		return c
	}
	if p.Snapshot != q.Snapshot {
		if p.Snapshot {
			return 1
		}
		return -1
	}
	if c := compareID(p.Transaction, q.Transaction); c != 0 {
		return c
	}
	if c := compareID(p.Sequence, q.Sequence); c != 0 {
		return c
	}
	return cmp.Compare(p.Mod, q.Mod)
}

// IsZero reports whether p is the zero Position.
func (p Position) IsZero() bool { return p == Position{} }

// After reports whether p comes after q; it reads well in loops that skip what was handled already.
func (p Position) After(q Position) bool { return p.Compare(q) > 0 }

func compareID(a, b string) int {
	if len(a) != len(b) {
		return cmp.Compare(len(a), len(b))
	}
	return strings.Compare(a, b)
}

const timeLayout = "20060102T150405.000000Z"

// AppendText appends the text form, which sorts bytewise as positions do, is safe in an object's name or a URL's path,
// and is read back by ParsePosition: the commit time in fixed width, then "t" (or "u" for a snapshot row), transaction,
// sequence and mod number, each behind its length.
func (p Position) AppendText(dst []byte) ([]byte, error) {
	if p.Commit < 0 || p.Commit > MaxTimestamp {
		return dst, fmt.Errorf("change: position with commit timestamp %d µs is outside 1970..9999", int64(p.Commit))
	}
	if p.Mod < 0 {
		return dst, fmt.Errorf("change: position with mod number %d: must not be negative", p.Mod)
	}
	dst = p.Commit.Time().AppendFormat(dst, timeLayout)
	if p.Snapshot {
		dst = append(dst, "-u-"...)
	} else {
		dst = append(dst, "-t-"...)
	}
	dst = appendID(dst, p.Transaction)
	dst = append(dst, '.')
	dst = appendID(dst, p.Sequence)
	dst = append(dst, '.')
	return appendID(dst, strconv.Itoa(int(p.Mod))), nil
}

// String is the text form of AppendText, or a note of what makes the position unprintable.
func (p Position) String() string {
	b, err := p.AppendText(make([]byte, 0, 64))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(b)
}

// MarshalText writes the text form.
func (p Position) MarshalText() ([]byte, error) { return p.AppendText(nil) }

// UnmarshalText reads the text form; see ParsePosition.
func (p *Position) UnmarshalText(b []byte) error {
	q, err := ParsePosition(string(b))
	if err == nil {
		*p = q
	}
	return err
}

// ParsePosition reads the text form. It accepts exactly what AppendText writes: every position has one text.
func ParsePosition(s string) (Position, error) {
	bad := func(why string) (Position, error) {
		return Position{}, fmt.Errorf("change: %q is not a position: %s", s, why)
	}
	if len(s) < len(timeLayout)+3 {
		return bad("too short")
	}
	t, err := time.Parse(timeLayout, s[:len(timeLayout)])
	if err != nil || t.Format(timeLayout) != s[:len(timeLayout)] {
		return bad("it does not begin with a time like 20260102T150405.000000Z")
	}
	p := Position{Commit: TimestampOf(t)}
	if p.Commit < 0 {
		return bad("its time is before 1970")
	}
	switch s[len(timeLayout) : len(timeLayout)+3] {
	case "-t-":
	case "-u-":
		p.Snapshot = true
	default:
		return bad(`"-t-" or "-u-" must follow the time`)
	}
	parts := strings.Split(s[len(timeLayout)+3:], ".")
	if len(parts) != 3 {
		return bad("want three parts separated by dots after the time")
	}
	var ids [3]string
	for i, part := range parts {
		if ids[i], err = parseID(part); err != nil {
			return bad(err.Error())
		}
	}
	mod, err := strconv.ParseInt(ids[2], 10, 32)
	if err != nil || mod < 0 || strconv.FormatInt(mod, 10) != ids[2] {
		return bad("the mod number is not a number")
	}
	p.Transaction, p.Sequence, p.Mod = ids[0], ids[1], int32(mod)
	return p, nil
}

// appendID writes an id so that ids sort by (length, bytes): first the number of digits of the length, then the length,
// then the bytes. Bytes outside [0-9A-Za-z] are written as a marker and two hex digits; the marker is a character that
// sorts where the byte sorts among the plain ones, so escaping keeps the order.
func appendID(dst []byte, id string) []byte {
	n := strconv.Itoa(len(id))
	dst = append(dst, byte('0'+len(n)))
	dst = append(dst, n...)
	for i := range len(id) {
		c := id[i]
		if marker := escapeMarker(c); marker == 0 {
			dst = append(dst, c)
		} else {
			dst = append(dst, marker, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// escapeMarker is 0 for a plain byte, else the marker for the gap of the ASCII table in which c lies.
func escapeMarker(c byte) byte {
	switch {
	case c < '0':
		return '-'
	case c <= '9':
		return 0
	case c < 'A':
		return '='
	case c <= 'Z':
		return 0
	case c < 'a':
		return '_'
	case c <= 'z':
		return 0
	}
	return '~'
}

func parseID(s string) (string, error) {
	if len(s) < 2 || s[0] < '1' || s[0] > '9' || len(s) < 1+int(s[0]-'0') {
		return "", fmt.Errorf("part %q lacks its length", s)
	}
	digits := s[1 : 1+int(s[0]-'0')]
	n, err := strconv.Atoi(digits)
	if err != nil || strconv.Itoa(n) != digits {
		return "", fmt.Errorf("part %q has a bad length", s)
	}
	rest := s[1+len(digits):]
	if n > len(rest) {
		return "", fmt.Errorf("part %q is shorter than its length says", s)
	}
	id := make([]byte, 0, n)
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch c {
		case '-', '=', '_', '~':
			if i+2 >= len(rest) {
				return "", fmt.Errorf("part %q ends inside an escape", s)
			}
			hi, lo := strings.IndexByte(hexDigits, rest[i+1]), strings.IndexByte(hexDigits, rest[i+2])
			if hi < 0 || lo < 0 || escapeMarker(byte(hi<<4|lo)) != c {
				return "", fmt.Errorf("part %q has a bad escape", s)
			}
			id = append(id, byte(hi<<4|lo))
			i += 2
		default:
			if escapeMarker(c) != 0 {
				return "", fmt.Errorf("part %q has the character %q", s, c)
			}
			id = append(id, c)
		}
	}
	if len(id) != n {
		return "", fmt.Errorf("part %q has %d bytes, its length says %d", s, len(id), n)
	}
	return string(id), nil
}

package changestream

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
)

// The scanner walks JSON text in place: it validates all of it as RFC 8259 demands, and hands out the raw text of members
// and elements as slices of the input. It builds no maps, no trees and no strings.

// maxJSONDepth bounds nesting, so that hostile text cannot exhaust the stack. Change records nest less than ten deep: what
// a JSON column holds is a string to the scanner.
const maxJSONDepth = 64

// jsonError is what is wrong with JSON text, and where.
type jsonError struct {
	offset int
	why    string
}

func (e *jsonError) Error() string {
	return fmt.Sprintf("malformed JSON at byte %d: %s", e.offset, e.why)
}

func badJSON(i int, why string) error { return &jsonError{i, why} }

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// scanValue answers the index just after the value that begins at b[i], which is not white space.
func scanValue(b []byte, i, depth int) (int, error) {
	if i >= len(b) {
		return i, badJSON(i, "it ends where a value should be")
	}
	switch c := b[i]; c {
	case '"':
		return scanString(b, i)
	case '{':
		if depth >= maxJSONDepth {
			return i, badJSON(i, "nested too deep")
		}
		var it members
		it.init(b, i, depth)
		for it.next() {
		}
		return it.end()
	case '[':
		if depth >= maxJSONDepth {
			return i, badJSON(i, "nested too deep")
		}
		var it elements
		it.init(b, i, depth)
		for it.next() {
		}
		return it.end()
	case 't':
		return scanWord(b, i, "true")
	case 'f':
		return scanWord(b, i, "false")
	case 'n':
		return scanWord(b, i, "null")
	default:
		if c == '-' || (c >= '0' && c <= '9') {
			return scanNumber(b, i)
		}
		return i, badJSON(i, "no value begins with this byte")
	}
}

func scanWord(b []byte, i int, word string) (int, error) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, badJSON(i, "want "+word)
	}
	return i + len(word), nil
}

// plainString marks the bytes that may stand in a string as they are.
var plainString = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// special marks, by their high bits, the bytes of x that are quotes, backslashes or control characters.
func special(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, slash := x^ones*'"', x^ones*'\\'
	return ((x-ones*0x20)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// scanString answers the index after the string that begins with the quote at b[i].
func scanString(b []byte, i int) (int, error) {
	for j := i + 1; j < len(b); j++ {
		// Eight bytes at a time while all are plain. The lowest mark is exact; those above it may be borrows.
		for len(b)-j >= 8 {
			if marks := special(binary.LittleEndian.Uint64(b[j:])); marks != 0 {
				j += bits.TrailingZeros64(marks) / 8
				break
			}
			j += 8
		}
		if j >= len(b) {
			break
		}
		if plainString[b[j]] {
			continue
		}
		switch b[j] {
		case '"':
			return j + 1, nil
		case '\\':
			j++
			if j >= len(b) {
				return i, badJSON(i, "the string does not end")
			}
			switch b[j] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(b)-j < 5 {
					return i, badJSON(j, "a cut \\u escape")
				}
				for _, c := range b[j+1 : j+5] {
					if !isHex(c) {
						return i, badJSON(j, "a \\u escape without four hex digits")
					}
				}
				j += 4
			default:
				return i, badJSON(j, "an unknown escape")
			}
		default:
			return i, badJSON(j, "a control character in a string")
		}
	}
	return i, badJSON(i, "the string does not end")
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func scanDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

func scanNumber(b []byte, i int) (int, error) {
	start := i
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i] >= '1' && b[i] <= '9':
		i = scanDigits(b, i)
	default:
		return start, badJSON(start, "a number without digits")
	}
	if i < len(b) && b[i] == '.' {
		j := scanDigits(b, i+1)
		if j == i+1 {
			return start, badJSON(start, "a number without digits after its point")
		}
		i = j
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		j := scanDigits(b, i)
		if j == i {
			return start, badJSON(start, "a number without digits in its exponent")
		}
		i = j
	}
	return i, nil
}

// members iterates over an object. The zero value is made ready by init or open.
type members struct {
	b     []byte
	pos   int
	depth int
	first bool
	done  bool
	err   error
	// key is the member's name without its quotes, still escaped if escaped says so; value is its raw text.
	key, value []byte
	escaped    bool
}

func (m *members) init(b []byte, i, depth int) {
	*m = members{b: b, pos: i + 1, depth: depth, first: true}
}

// open starts on text that must be one object and nothing else but white space.
func (m *members) open(b []byte) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		*m = members{b: b, done: true, err: badJSON(i, "want an object")}
		return
	}
	m.init(b, i, 0)
}

func (m *members) fail(i int, why string) bool {
	m.done, m.err = true, badJSON(i, why)
	return false
}

// next goes to the next member; false at the end and at an error.
func (m *members) next() bool {
	if m.done {
		return false
	}
	b, i := m.b, skipSpace(m.b, m.pos)
	if i < len(b) && b[i] == '}' {
		m.done, m.pos = true, i+1
		return false
	}
	if !m.first {
		if i >= len(b) || b[i] != ',' {
			return m.fail(i, "want , or } in an object")
		}
		i = skipSpace(b, i+1)
	}
	m.first = false
	if i >= len(b) || b[i] != '"' {
		return m.fail(i, "want a member's name in quotes")
	}
	j, err := scanString(b, i)
	if err != nil {
		m.done, m.err = true, err
		return false
	}
	m.key, m.escaped = b[i+1:j-1], false
	for _, c := range m.key {
		if c == '\\' {
			m.escaped = true
			break
		}
	}
	i = skipSpace(b, j)
	if i >= len(b) || b[i] != ':' {
		return m.fail(i, "want : after a member's name")
	}
	i = skipSpace(b, i+1)
	j, err = scanValue(b, i, m.depth+1)
	if err != nil {
		m.done, m.err = true, err
		return false
	}
	m.value = b[i:j:j]
	m.pos = j
	return true
}

// name is the member's name unescaped; it allocates only for escaped names.
func (m *members) name() []byte {
	if !m.escaped {
		return m.key
	}
	return unescape(m.key)
}

// end answers the index after the object, or what was wrong.
func (m *members) end() (int, error) { return m.pos, m.err }

// close answers what was wrong with the object or with what follows it.
func (m *members) close() error {
	if m.err != nil {
		return m.err
	}
	if i := skipSpace(m.b, m.pos); i < len(m.b) {
		return badJSON(i, "text after the object")
	}
	return nil
}

// elements iterates over an array, as members does over an object.
type elements struct {
	b     []byte
	pos   int
	depth int
	first bool
	done  bool
	err   error
	value []byte
}

func (e *elements) init(b []byte, i, depth int) {
	*e = elements{b: b, pos: i + 1, depth: depth, first: true}
}

func (e *elements) open(b []byte) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '[' {
		*e = elements{b: b, done: true, err: badJSON(i, "want an array")}
		return
	}
	e.init(b, i, 0)
}

func (e *elements) next() bool {
	if e.done {
		return false
	}
	b, i := e.b, skipSpace(e.b, e.pos)
	if i < len(b) && b[i] == ']' && e.first {
		e.done, e.pos = true, i+1
		return false
	}
	if !e.first {
		switch {
		case i < len(b) && b[i] == ']':
			e.done, e.pos = true, i+1
			return false
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		default:
			e.done, e.err = true, badJSON(i, "want , or ] in an array")
			return false
		}
	}
	e.first = false
	j, err := scanValue(b, i, e.depth+1)
	if err != nil {
		e.done, e.err = true, err
		return false
	}
	e.value, e.pos = b[i:j:j], j
	return true
}

func (e *elements) end() (int, error) { return e.pos, e.err }

func (e *elements) close() error {
	if e.err != nil {
		return e.err
	}
	if i := skipSpace(e.b, e.pos); i < len(e.b) {
		return badJSON(i, "text after the array")
	}
	return nil
}

// unescape answers the text of a string's inside, which scanString has validated.
func unescape(inside []byte) []byte {
	quoted := make([]byte, 0, len(inside)+2)
	quoted = append(append(append(quoted, '"'), inside...), '"')
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return inside
	}
	return []byte(s)
}

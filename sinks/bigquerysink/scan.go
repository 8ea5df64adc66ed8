package bigquerysink

import (
	"unicode/utf16"
	"unicode/utf8"
)

// The scanner reads the JSON values change records carry. It trusts nothing: what is not of the expected form is answered
// with false, and the value goes to _raw as it came.

func trim(v []byte) []byte {
	for len(v) > 0 && isSpace(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && isSpace(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func isNull(v []byte) bool { return string(v) == "null" }

func validText(v []byte) bool { return utf8.Valid(v) }

// plainString is the content of a JSON string that has no escapes. With escaped it has some, and unescape must read it.
func plainString(v []byte) (content []byte, escaped, ok bool) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return nil, false, false
	}
	content = v[1 : len(v)-1]
	bits := byte(0)
	for _, c := range content {
		if c == '\\' {
			return nil, true, true
		}
		if c == '"' || c < ' ' {
			return nil, false, false
		}
		bits |= c
	}
	if bits >= utf8.RuneSelf && !utf8.Valid(content) {
		return nil, false, false
	}
	return content, false, true
}

// escapes are what a character behind a backslash stands for; 0 for those that need more than a look.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape appends the content of a JSON string, in UTF-8. Half a surrogate pair, which no UTF-8 can hold, is an error.
func unescape(dst, v []byte) ([]byte, bool) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return dst, false
	}
	v = v[1 : len(v)-1]
	mark := len(dst)
	for len(v) > 0 {
		c := v[0]
		switch {
		case c == '"' || c < ' ':
			return dst, false
		case c != '\\':
			dst, v = append(dst, c), v[1:]
		case len(v) >= 2 && escapes[v[1]] != 0:
			dst, v = append(dst, escapes[v[1]]), v[2:]
		default:
			r, ok := escapedUnit(v)
			if !ok {
				return dst, false
			}
			v = v[6:]
			if utf16.IsSurrogate(r) {
				low, ok := escapedUnit(v)
				if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
					return dst, false
				}
				v = v[6:]
			}
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst, utf8.Valid(dst[mark:])
}

// escapedUnit reads \uXXXX at the start of v.
func escapedUnit(v []byte) (rune, bool) {
	if len(v) < 6 || v[0] != '\\' || v[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range v[2:6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// isNumber reports whether v is a number by JSON's grammar, which is narrower than strconv's.
func isNumber(v []byte) bool {
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	digits := func() bool {
		n := 0
		for n < len(v) && v[n] >= '0' && v[n] <= '9' {
			n++
		}
		v = v[n:]
		return n > 0
	}
	if len(v) > 1 && v[0] == '0' && v[1] >= '0' && v[1] <= '9' || !digits() {
		return false
	}
	if len(v) > 0 && v[0] == '.' {
		if v = v[1:]; !digits() {
			return false
		}
	}
	if len(v) > 0 && (v[0] == 'e' || v[0] == 'E') {
		v = v[1:]
		if len(v) > 0 && (v[0] == '+' || v[0] == '-') {
			v = v[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(v) == 0
}

// elements walks over a JSON array of scalars.
type elements struct {
	rest  []byte
	first bool
	bad   bool // it was not such an array
}

func arrayOf(v []byte) elements {
	if len(v) < 2 || v[0] != '[' || v[len(v)-1] != ']' {
		return elements{bad: true}
	}
	return elements{rest: trim(v[1 : len(v)-1]), first: true}
}

// next is the next element's text; false at the end, and where the array is malformed.
func (e *elements) next() ([]byte, bool) {
	if e.bad || len(e.rest) == 0 {
		return nil, false
	}
	if !e.first {
		if e.rest[0] != ',' {
			e.bad = true
			return nil, false
		}
		e.rest = trim(e.rest[1:])
	}
	e.first = false
	n := scalarLen(e.rest)
	if n == 0 {
		e.bad = true
		return nil, false
	}
	item := e.rest[:n]
	e.rest = trim(e.rest[n:])
	return item, true
}

// scalarLen is the length of the scalar v begins with, 0 if there is none. Its inside is the reader's to check.
func scalarLen(v []byte) int {
	if len(v) > 0 && v[0] == '"' {
		for i := 1; i < len(v); i++ {
			switch v[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return 0
	}
	for i, c := range v {
		switch {
		case c == ',' || isSpace(c):
			return i
		case c == '[' || c == ']' || c == '{' || c == '}' || c == '"':
			return 0
		}
	}
	return len(v)
}

// appendJSONString writes s as a JSON string, escaping no more than JSON demands.
func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // what is not UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

package ingest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MaxJSONBytes is the largest JSON text of one column: Spanner's limit.
	MaxJSONBytes = 10 << 20
	// MaxJSONDepth is how deep arrays and objects may nest: Spanner's limit.
	// Its emulator does not enforce it.
	MaxJSONDepth = 80
)

// JSONError says where a JSON text is not what Spanner would store unchanged.
type JSONError struct {
	// Path leads to the value, as jq writes it: ".a[3].b"; "." is the whole.
	Path string
	// Offset counts bytes from the start of the text, from 0.
	Offset int
	Reason string
}

func (e *JSONError) Error() string {
	return fmt.Sprintf("JSON at %s (byte %d): %s", e.Path, e.Offset, e.Reason)
}

// CheckJSON reports, as a [*JSONError], the first thing in text that Spanner's
// JSON type would refuse or silently change: invalid JSON or UTF-8, half a
// surrogate pair, a repeated member, too deep nesting, too many bytes, and
// numbers that are neither a 64-bit integer nor exactly what the nearest
// double prints as. Spelling is free: 1e2, 1.50 and "é" are stored as
// another text of the same value.
func CheckJSON(text []byte) error {
	if len(text) > MaxJSONBytes {
		return &JSONError{Path: ".", Offset: MaxJSONBytes,
			Reason: fmt.Sprintf("the text has %d bytes, Spanner stores at most %d; put large payloads elsewhere and append a reference", len(text), MaxJSONBytes)}
	}
	_, err := canonicalJSON(text, jsonStrict)
	return err
}

// jsonMode says what a scan refuses beyond invalid JSON.
type jsonMode int

const (
	// jsonLossless refuses only what decoding to Go values would change
	// without a word: repeated members, bad UTF-8, half surrogate pairs.
	jsonLossless jsonMode = iota
	// jsonStrict refuses what Spanner would change as well.
	jsonStrict
)

// sameJSON reports whether two valid texts denote the same value: objects
// whatever their order, numbers by their exact decimal value.
func sameJSON(a, b []byte) (bool, error) {
	ca, err := canonicalJSON(a, jsonLossless)
	if err != nil {
		return false, err
	}
	cb, err := canonicalJSON(b, jsonLossless)
	if err != nil {
		return false, err
	}
	return slices.Equal(ca, cb), nil
}

// canonicalJSON returns one text for all spellings of the value text denotes.
// It is not JSON: strings are raw between length prefixes.
func canonicalJSON(text []byte, mode jsonMode) ([]byte, error) {
	s := jsonScanner{text: text, mode: mode, depth: MaxJSONDepth}
	if mode == jsonLossless {
		s.depth = 10_000 // encoding/json's own limit; keeps recursion bounded
	}
	s.space()
	out, err := s.value(make([]byte, 0, len(text)))
	if err != nil {
		return nil, err
	}
	s.space()
	if s.pos < len(text) {
		return nil, s.fail(s.pos, "more text after the value")
	}
	return out, nil
}

// jsonScanner is one pass over a text: it checks and canonicalises at once.
type jsonScanner struct {
	text  []byte
	pos   int
	mode  jsonMode
	depth int      // levels left
	path  []string // of the value being scanned
}

func (s *jsonScanner) fail(offset int, reason string, args ...any) error {
	path := strings.Join(s.path, "")
	if path == "" || path[0] == '[' {
		path = "." + path
	}
	return &JSONError{Path: path, Offset: offset, Reason: fmt.Sprintf(reason, args...)}
}

func (s *jsonScanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// value appends the canonical form of the value at pos, which is past spaces.
func (s *jsonScanner) value(out []byte) ([]byte, error) {
	if s.pos >= len(s.text) {
		return nil, s.fail(s.pos, "the text ends where a value should be")
	}
	switch c := s.text[s.pos]; {
	case c == '{':
		return s.nested(out, s.object)
	case c == '[':
		return s.nested(out, s.array)
	case c == '"':
		return s.string(out)
	case c == '-' || '0' <= c && c <= '9':
		return s.number(out)
	}
	for _, word := range []string{"true", "false", "null"} {
		if rest := s.text[s.pos:]; len(rest) >= len(word) && string(rest[:len(word)]) == word {
			s.pos += len(word)
			return append(out, word[0]), nil
		}
	}
	return nil, s.fail(s.pos, "%s is not the start of a value", s.here())
}

// here quotes the character at pos for a message.
func (s *jsonScanner) here() string {
	if s.pos >= len(s.text) {
		return "the end of the text"
	}
	r, _ := utf8.DecodeRune(s.text[s.pos:])
	return strconv.QuoteRune(r)
}

func (s *jsonScanner) nested(out []byte, scan func([]byte) ([]byte, error)) ([]byte, error) {
	if s.depth == 0 {
		return nil, s.fail(s.pos, "arrays and objects nest deeper than %d levels", len(s.path))
	}
	s.depth--
	out, err := scan(out)
	s.depth++
	return out, err
}

func (s *jsonScanner) array(out []byte) ([]byte, error) {
	s.pos++ // [
	out = append(out, '[')
	s.space()
	if s.pos < len(s.text) && s.text[s.pos] == ']' {
		s.pos++
		return append(out, ']'), nil
	}
	s.path = append(s.path, "")
	for i := 0; ; i++ {
		s.path[len(s.path)-1] = "[" + strconv.Itoa(i) + "]"
		s.space()
		var err error
		if out, err = s.value(out); err != nil {
			return nil, err
		}
		more, err := s.comma(']')
		if err != nil {
			return nil, err
		}
		if !more {
			s.path = s.path[:len(s.path)-1]
			return append(out, ']'), nil
		}
	}
}

// comma steps over a comma (true) or the closing bracket (false).
func (s *jsonScanner) comma(closing byte) (bool, error) {
	s.space()
	if s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ',':
			s.pos++
			return true, nil
		case closing:
			s.pos++
			return false, nil
		}
	}
	return false, s.fail(s.pos, "%s where a comma or %q should be", s.here(), closing)
}

// member is where the canonical form of an object's member lies in out.
type member struct {
	key        string
	start, end int
	offset     int // of the key in the text
}

func (s *jsonScanner) object(out []byte) ([]byte, error) {
	s.pos++ // {
	out = append(out, '{')
	first := len(out)
	s.space()
	if s.pos < len(s.text) && s.text[s.pos] == '}' {
		s.pos++
		return append(out, '}'), nil
	}
	var members []member
	for {
		s.space()
		m := member{start: len(out), offset: s.pos}
		if s.pos >= len(s.text) || s.text[s.pos] != '"' {
			return nil, s.fail(s.pos, "%s where a member's name should be", s.here())
		}
		var err error
		if out, err = s.string(out); err != nil {
			return nil, err
		}
		m.key = string(out[m.start:])
		s.space()
		if s.pos >= len(s.text) || s.text[s.pos] != ':' {
			return nil, s.fail(s.pos, "%s where a colon should be", s.here())
		}
		s.pos++
		s.space()
		s.path = append(s.path, pathMember(m.key))
		if out, err = s.value(out); err != nil {
			return nil, err
		}
		s.path = s.path[:len(s.path)-1]
		m.end = len(out)
		members = append(members, m)
		more, err := s.comma('}')
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	sorted := slices.IsSortedFunc(members, compareMembers)
	if !sorted {
		slices.SortStableFunc(members, compareMembers)
	}
	for i := 1; i < len(members); i++ {
		if members[i].key == members[i-1].key {
			s.path = append(s.path, pathMember(members[i].key))
			return nil, s.fail(members[i].offset, "the member occurs twice, and only one of them would be kept")
		}
	}
	if !sorted {
		unsorted := slices.Clone(out[first:])
		out = out[:first]
		for _, m := range members {
			out = append(out, unsorted[m.start-first:m.end-first]...)
		}
	}
	return append(out, '}'), nil
}

func compareMembers(a, b member) int { return strings.Compare(a.key, b.key) }

// pathMember writes one step of a jq path from a canonical key.
func pathMember(key string) string {
	_, name, _ := strings.Cut(key, ":")
	plain := name != "" && (name[0] < '0' || name[0] > '9')
	for _, c := range []byte(name) {
		plain = plain && (c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if plain {
		return "." + name
	}
	return `["` + strings.Trim(strconv.Quote(name), `"`) + `"]`
}

// string appends the decoded string with its length before it.
func (s *jsonScanner) string(out []byte) ([]byte, error) {
	start := s.pos
	s.pos++ // "
	// Nearly all strings have no escapes: find their end first.
	body := s.pos
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		if c == '"' || c == '\\' || c < ' ' || c >= utf8.RuneSelf {
			break
		}
		s.pos++
	}
	decoded := s.text[body:s.pos:s.pos]
	for {
		if s.pos >= len(s.text) {
			return nil, s.fail(start, "the string that starts here does not end")
		}
		switch c := s.text[s.pos]; {
		case c == '"':
			s.pos++
			out = strconv.AppendInt(append(out, '"'), int64(len(decoded)), 10)
			return append(append(out, ':'), decoded...), nil
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			decoded = utf8.AppendRune(decoded, r)
		case c < ' ':
			return nil, s.fail(s.pos, "the control character %#02x must be written as an escape in a string", c)
		case c < utf8.RuneSelf:
			decoded = append(decoded, c)
			s.pos++
		default:
			r, size := utf8.DecodeRune(s.text[s.pos:])
			if r == utf8.RuneError && size == 1 {
				return nil, s.fail(s.pos, "byte %#02x is not valid UTF-8", c)
			}
			decoded = append(decoded, s.text[s.pos:s.pos+size]...)
			s.pos += size
		}
	}
}

// escape decodes the escape at pos.
func (s *jsonScanner) escape() (rune, error) {
	start := s.pos
	if s.pos+1 >= len(s.text) {
		return 0, s.fail(start, "the text ends inside an escape")
	}
	c := s.text[s.pos+1]
	s.pos += 2
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, s.fail(start, "unknown escape \\%c", c)
	}
	r, ok := s.hex4()
	if !ok {
		return 0, s.fail(start, "\\u needs four hexadecimal digits")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if s.pos+1 < len(s.text) && s.text[s.pos] == '\\' && s.text[s.pos+1] == 'u' {
		s.pos += 2
		if low, ok := s.hex4(); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, nil
			}
		}
	}
	return 0, s.fail(start, "\\u%04x is half of a surrogate pair", r)
}

func (s *jsonScanner) hex4() (rune, bool) {
	if s.pos+4 > len(s.text) {
		return 0, false
	}
	var r rune
	for _, c := range s.text[s.pos : s.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	s.pos += 4
	return r, true
}

func (s *jsonScanner) digits() int {
	start := s.pos
	for s.pos < len(s.text) && '0' <= s.text[s.pos] && s.text[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - start
}

func (s *jsonScanner) number(out []byte) ([]byte, error) {
	start, integer := s.pos, true
	if s.text[s.pos] == '-' {
		s.pos++
	}
	leading := s.pos
	n := s.digits()
	if n == 0 {
		return nil, s.fail(s.pos, "%s where a digit should be", s.here())
	}
	if n > 1 && s.text[leading] == '0' {
		return nil, s.fail(start, "a number must not start with a zero")
	}
	if s.pos < len(s.text) && s.text[s.pos] == '.' {
		integer = false
		s.pos++
		if s.digits() == 0 {
			return nil, s.fail(s.pos, "%s where a digit should be", s.here())
		}
	}
	if s.pos < len(s.text) && s.text[s.pos]|0x20 == 'e' {
		integer = false
		s.pos++
		if s.pos < len(s.text) && (s.text[s.pos] == '+' || s.text[s.pos] == '-') {
			s.pos++
		}
		if s.digits() == 0 {
			return nil, s.fail(s.pos, "%s where a digit of the exponent should be", s.here())
		}
	}
	literal := string(s.text[start:s.pos])
	if s.mode == jsonStrict {
		if becomes := spannerNumber(literal, integer); becomes != "" {
			if len(literal) > 60 {
				literal = literal[:57] + "..."
			}
			return nil, s.fail(start, "Spanner would store the number %s as %s; write it as a string", literal, becomes)
		}
	}
	return appendDecimal(append(out, '#'), literal), nil
}

// spannerNumber returns what Spanner makes of a number if that is another
// value, and "" if it keeps it. Integers of 64 bits, signed or unsigned, stay;
// anything else becomes a double.
func spannerNumber(literal string, integer bool) string {
	if integer {
		if literal == "-0" {
			return "0"
		}
		if _, err := strconv.ParseInt(literal, 10, 64); err == nil {
			return ""
		}
		if _, err := strconv.ParseUint(literal, 10, 64); err == nil {
			return ""
		}
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil || math.IsInf(f, 0) {
		return "nothing at all: it is beyond a double's range"
	}
	kept := strconv.FormatFloat(f, 'e', -1, 64)
	if string(appendDecimal(nil, kept)) == string(appendDecimal(nil, literal)) {
		return ""
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// appendDecimal appends a number's sign, its digits without zeros at either
// end, and its exponent: one text for each decimal value, and another for -0.
func appendDecimal(out []byte, literal string) []byte {
	if literal[0] == '-' {
		out = append(out, '-')
		literal = literal[1:]
	}
	mantissa, exponent := literal, 0
	if i := strings.IndexAny(literal, "eE"); i >= 0 {
		mantissa = literal[:i]
		var err error
		if exponent, err = strconv.Atoi(literal[i+1:]); err != nil {
			// Atoi answers the nearest int. Far from it, so that adding a
			// mantissa's length cannot wrap round.
			exponent /= 2
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(trimmed)
	if trimmed == "" {
		return append(out, '0')
	}
	out = append(append(out, trimmed...), 'e')
	return strconv.AppendInt(out, int64(exponent), 10)
}

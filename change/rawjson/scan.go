package rawjson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// Trim drops JSON white space at both ends of v; the result is part of v.
func Trim(v []byte) []byte {
	for len(v) > 0 && isSpace(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && isSpace(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// IsNull reports whether v, trimmed, is NULL.
func IsNull(v []byte) bool { return string(v) == "null" }

// PlainString is the content of a JSON string without escapes, part of v. escaped says that v has some: it may be a string, and
// Unescape reads it. What is neither is not ok.
func PlainString(v []byte) (content []byte, escaped, ok bool) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return nil, false, false
	}
	content = v[1 : len(v)-1]
	ascii := byte(0)
	for _, c := range content {
		if c == '\\' {
			return nil, true, true
		}
		if c == '"' || c < ' ' {
			return nil, false, false
		}
		ascii |= c
	}
	if ascii >= utf8.RuneSelf && !utf8.Valid(content) {
		return nil, false, false
	}
	return content, false, true
}

// Unescape appends the content of a JSON string to dst, in UTF-8. It refuses what is not one, and half a surrogate pair, which no
// UTF-8 text can hold; dst is as it was then.
func Unescape(dst, v []byte) ([]byte, bool) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return dst, false
	}
	v = v[1 : len(v)-1]
	mark := len(dst)
	for i := 0; i < len(v); {
		c := v[i]
		if c == '"' || c < ' ' {
			return dst[:mark], false
		}
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		if i+1 >= len(v) {
			return dst[:mark], false
		}
		i += 2
		switch v[i-1] {
		case '"', '\\', '/':
			dst = append(dst, v[i-1])
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(v[i:])
			if !ok {
				return dst[:mark], false
			}
			i += 4
			if utf16.IsSurrogate(r) {
				if i+6 > len(v) || v[i] != '\\' || v[i+1] != 'u' {
					return dst[:mark], false
				}
				low, ok := hex4(v[i+2:])
				if !ok {
					return dst[:mark], false
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return dst[:mark], false
				}
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default:
			return dst[:mark], false
		}
	}
	if !utf8.Valid(dst[mark:]) {
		return dst[:mark], false
	}
	return dst, true
}

func hex4(v []byte) (rune, bool) {
	if len(v) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range v[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// IsNumber reports whether v is a JSON number: the grammar is narrower than strconv's.
func IsNumber(v []byte) bool {
	i := 0
	digits := func() bool {
		start := i
		for i < len(v) && v[i] >= '0' && v[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(v) && v[i] == '-' {
		i++
	}
	if i < len(v) && v[i] == '0' {
		i++
	} else if !digits() {
		return false
	}
	if i < len(v) && v[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(v) && (v[i] == 'e' || v[i] == 'E') {
		i++
		if i < len(v) && (v[i] == '+' || v[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(v)
}

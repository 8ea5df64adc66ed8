package avro

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// nameSet hands out field names that are unique without regard to case: BigQuery, which loads these files, folds case.
type nameSet struct{ taken []string }

// pick is the Avro name for a Spanner name. A name Avro allows stays as it is; every other character becomes _u and its
// code point in hex and another _. If the result is taken, the first free number is appended. Columns keep their order in
// the union for ever, so a column keeps its Avro name too.
func (s *nameSet) pick(original string) string {
	base := mangle(original)
	name := base
	for n := 2; s.has(name); n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	s.taken = append(s.taken, name)
	return name
}

func (s *nameSet) has(name string) bool {
	for _, t := range s.taken {
		if strings.EqualFold(t, name) {
			return true
		}
	}
	return false
}

func mangle(original string) string {
	if original == "" {
		return "_"
	}
	plain := true
	for i := range len(original) {
		if !nameByte(original[i], i == 0) {
			plain = false
			break
		}
	}
	if plain {
		return original
	}
	var b strings.Builder
	for i := 0; i < len(original); {
		r, n := utf8.DecodeRuneInString(original[i:])
		switch {
		case r < utf8.RuneSelf && nameByte(byte(r), b.Len() == 0):
			b.WriteByte(byte(r))
		case r < utf8.RuneSelf && nameByte(byte(r), false): // a leading digit
			b.WriteByte('_')
			b.WriteByte(byte(r))
		default:
			if r == utf8.RuneError && n == 1 {
				r = rune(original[i]) // not UTF-8: the byte itself
			}
			b.WriteString("_u")
			b.WriteString(strconv.FormatInt(int64(r), 16))
			b.WriteByte('_')
		}
		i += n
	}
	return b.String()
}

func nameByte(c byte, first bool) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || !first && c >= '0' && c <= '9'
}

// namespaceOf puts a table's schema and name, each mangled, under the house's namespace.
func namespaceOf(table string) string {
	parts := strings.Split(table, ".")
	for i := range parts {
		parts[i] = mangle(parts[i])
	}
	return "spanledger." + strings.Join(parts, ".")
}

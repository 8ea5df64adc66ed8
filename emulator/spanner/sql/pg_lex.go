package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/token"
)

// pgKind is what a PostgreSQL token is.
type pgKind uint8

const (
	pgEnd    pgKind = iota
	pgWord          // an unquoted word, folded to lower case: a keyword or a name
	pgName          // a quoted name
	pgString        // a string literal
	pgNumber
	pgParam // $n; text is n
	pgOp    // an operator or punctuation
)

type pgToken struct {
	kind pgKind
	text string
	// at and end are the offsets of its start and its end in the statement, in bytes.
	at, end int
}

// pgLex cuts a PostgreSQL statement into tokens; the last is pgEnd. A semicolon may close it.
func pgLex(s string) ([]pgToken, error) {
	var out []pgToken
	i := 0
	add := func(k pgKind, text string, end int) {
		out = append(out, pgToken{k, text, i, end})
		i = end
	}
	for i < len(s) {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			i++
		case strings.HasPrefix(s[i:], "--"):
			if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
				i += n + 1
			} else {
				i = len(s)
			}
		case strings.HasPrefix(s[i:], "/*"):
			n := strings.Index(s[i+2:], "*/")
			if n < 0 {
				return nil, invalid("unterminated comment at offset %d", i)
			}
			i += n + 4
		case c == '\'' || c == '"':
			text, end, ok := pgQuoted(s, i)
			if !ok {
				return nil, invalid("unterminated quote at offset %d", i)
			}
			if c == '\'' {
				add(pgString, text, end)
			} else if text == "" || strings.ContainsAny(text, "`\x00") {
				return nil, invalid("the quoted name at offset %d is not a name", i)
			} else {
				add(pgName, text, end)
			}
		case c == '$':
			end := i + 1
			for end < len(s) && s[end] >= '0' && s[end] <= '9' {
				end++
			}
			if end == i+1 {
				return nil, unimplemented("dollar-quoted strings (at offset %d)", i)
			}
			add(pgParam, s[i+1:end], end)
		case c >= '0' && c <= '9' || c == '.' && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			end := i
			for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || (s[end] == 'e' || s[end] == 'E') ||
				(s[end] == '+' || s[end] == '-') && (s[end-1] == 'e' || s[end-1] == 'E')) {
				end++
			}
			add(pgNumber, s[i:end], end)
		case pgLetter(c):
			end := i
			for end < len(s) && (pgLetter(s[end]) || s[end] >= '0' && s[end] <= '9' || s[end] == '$') {
				end++
			}
			word := strings.ToLower(s[i:end])
			if end < len(s) && s[end] == '\'' && (word == "e" || word == "b" || word == "x" || word == "n") {
				return nil, unimplemented("the string literal %s'…' (at offset %d)", word, i)
			}
			add(pgWord, word, end)
		case c >= 0x80 || c < ' ':
			return nil, invalid("unexpected character at offset %d", i)
		default:
			end := i + 1
			if !strings.ContainsRune("()[],;", rune(c)) {
				for end < len(s) && strings.IndexByte("<>=!|:-~@#&*/%^+", s[end]) >= 0 && !strings.HasPrefix(s[end:], "--") && !strings.HasPrefix(s[end:], "/*") && pgLonger(s[i:end+1]) {
					end++
				}
			}
			add(pgOp, s[i:end], end)
		}
	}
	for len(out) > 0 && out[len(out)-1].kind == pgOp && out[len(out)-1].text == ";" {
		out = out[:len(out)-1]
	}
	return append(out, pgToken{kind: pgEnd, at: len(s), end: len(s)}), nil
}

func pgLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

// pgLonger reports whether s begins an operator of more than one character.
func pgLonger(s string) bool {
	for _, op := range []string{"<=", ">=", "<>", "!=", "||", "::", "->>", "#>>", "@>", "<@", "!~*", "~*", "!~"} {
		if strings.HasPrefix(op, s) {
			return true
		}
	}
	return false
}

// pgQuoted reads a quoted text in which the quote is doubled.
func pgQuoted(s string, i int) (text string, end int, ok bool) {
	quote := s[i]
	var b strings.Builder
	for i++; i < len(s); i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) || s[i+1] != quote {
			return b.String(), i + 1, true
		}
		b.WriteByte(quote)
		i++
	}
	return "", 0, false
}

// google writes a token as GoogleSQL; what has another meaning there, or none, is refused.
func (t pgToken) google() (string, error) {
	switch t.kind {
	case pgName:
		return "`" + t.text + "`", nil
	case pgString:
		return token.QuoteSQLString(t.text), nil
	case pgParam:
		return "@p" + t.text, nil
	case pgOp:
		switch t.text {
		case "(", ")", ",", ".", "*", "+", "-", "/", "=", "<", ">", "<=", ">=", "<>", "!=", "||", "[", "]":
			return t.text, nil
		}
		return "", unimplemented("the PostgreSQL operator %s (at offset %d)", t.text, t.at)
	}
	if t.text == "current_timestamp" {
		return "CURRENT_TIMESTAMP", nil
	}
	return t.text, nil
}

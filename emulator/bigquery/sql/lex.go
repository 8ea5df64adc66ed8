package sql

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
)

// ErrUnsupported is wrapped by the errors that name a construct of GoogleSQL this package does not have.
var ErrUnsupported = row.ErrUnsupported

type tokenKind int

const (
	end tokenKind = iota
	word
	quotedWord // `a.b`
	text       // 'a'
	number
	parameter // @a
	symbol
)

// token is one token; at is its place in the query, for errors. text is a string's or name's content.
type token struct {
	kind tokenKind
	text string
	at   int
}

// is reports whether the token is this keyword or symbol.
func (t token) is(s string) bool {
	return (t.kind == word || t.kind == symbol) && strings.EqualFold(t.text, s)
}

func (t token) String() string {
	if t.kind == end {
		return "end of query"
	}
	return strconv.Quote(t.text)
}

func identifier(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}

// maxQuery bounds a query's length, as the service does.
const maxQuery = 1 << 20

func lex(q string) ([]token, error) {
	if len(q) > maxQuery {
		return nil, fmt.Errorf("the query has %d bytes, at most %d are allowed", len(q), maxQuery)
	}
	if !utf8.ValidString(q) {
		return nil, errors.New("the query is not valid UTF-8")
	}
	var out []token
	for i := 0; i < len(q); {
		c, start := q[i], i
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
			continue
		case c == '#' || strings.HasPrefix(q[i:], "--"):
			if n := strings.IndexByte(q[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(q)
			}
			continue
		case strings.HasPrefix(q[i:], "/*"):
			n := strings.Index(q[i+2:], "*/")
			if n < 0 {
				return nil, syntax(start, "unclosed comment")
			}
			i += n + 4
			continue
		case c == '`':
			n := strings.IndexByte(q[i+1:], '`')
			if n < 1 {
				return nil, syntax(start, "unclosed or empty identifier")
			}
			out = append(out, token{quotedWord, q[i+1 : i+1+n], start})
			i += n + 2
		case c == '\'' || c == '"':
			s, n, err := quoted(q[i:])
			if err != nil {
				return nil, syntax(start, "%w", err)
			}
			out = append(out, token{text, s, start})
			i += n
		case c >= '0' && c <= '9' || c == '.' && i+1 < len(q) && q[i+1] >= '0' && q[i+1] <= '9':
			for i < len(q) && (q[i] == '.' || q[i] >= '0' && q[i] <= '9' || identifier(q[i], false) || exponentSign(q, i)) {
				i++
			}
			out = append(out, token{number, q[start:i], start})
		case identifier(c, true), c == '@':
			i++
			for i < len(q) && identifier(q[i], false) {
				i++
			}
			if c == '@' {
				out = append(out, token{parameter, q[start+1 : i], start})
			} else {
				out = append(out, token{word, q[start:i], start})
			}
		default:
			n := 1
			for _, two := range []string{"<=", ">=", "<>", "!=", "||"} {
				if strings.HasPrefix(q[i:], two) {
					n = 2
				}
			}
			if c >= utf8.RuneSelf {
				_, n = utf8.DecodeRuneInString(q[i:])
			}
			out = append(out, token{symbol, q[i : i+n], start})
			i += n
		}
	}
	return append(out, token{end, "", len(q)}), nil
}

func exponentSign(q string, i int) bool {
	return (q[i] == '-' || q[i] == '+') && (q[i-1] == 'e' || q[i-1] == 'E')
}

// quoted reads a string literal at the start of q; it returns its value and its length in q.
func quoted(q string) (string, int, error) {
	if strings.HasPrefix(q, `'''`) || strings.HasPrefix(q, `"""`) {
		return "", 0, unsupported("a triple-quoted string")
	}
	escapes := map[byte]byte{'\\': '\\', '\'': '\'', '"': '"', '`': '`', 'n': '\n', 't': '\t', 'r': '\r'}
	var b strings.Builder
	for i := 1; i < len(q); i++ {
		switch c := q[i]; c {
		case q[0]:
			return b.String(), i + 1, nil
		case '\n':
			return "", 0, errors.New("unclosed string literal")
		case '\\':
			if i++; i == len(q) {
				return "", 0, errors.New("unclosed string literal")
			}
			e, ok := escapes[q[i]]
			if !ok {
				return "", 0, unsupported(fmt.Sprintf(`the escape sequence \%c`, q[i]))
			}
			b.WriteByte(e)
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, errors.New("unclosed string literal")
}

func syntax(at int, format string, args ...any) error {
	return fmt.Errorf("syntax error at [%d]: %w", at+1, fmt.Errorf(format, args...))
}

func unsupported(what string) error { return fmt.Errorf("%s is %w", what, ErrUnsupported) }

package sql

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish"
	"github.com/cloudspannerecosystem/memefish/ast"
	"github.com/cloudspannerecosystem/memefish/token"
)

// guarded runs the parser. It panics on some texts, such as an octal escape cut off by the end ("\0), and a client's
// text must not end the process. Nothing but the parser runs under this recover.
func guarded[T any](parse func(string, string) (T, error), text string) (tree T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser could not cope with it: %v", r)
		}
	}()
	if text, err = quotedIntervals(text); err != nil {
		return tree, err
	}
	return parse("", text)
}

func parseDDL(text string) (ast.DDL, error) { return guarded(memefish.ParseDDL, text) }

func parseStatement(text string) (ast.Statement, error) {
	return guarded(memefish.ParseStatement, text)
}

func parseExpr(text string) (ast.Expr, error) { return guarded(memefish.ParseExpr, text) }

// syntaxError is the parser's error, or, of what it lacks and Spanner has, UNIMPLEMENTED.
func syntaxError(before string, err error) error {
	if strings.Contains(err.Error(), "expect int64_expression") {
		return unimplemented("INTERVAL with an expression: only a number, a string or a parameter may follow INTERVAL; multiply INTERVAL 1 DAY instead (%v)", err)
	}
	return invalid("%s%v", before, err)
}

// lex cuts a text into the parser's tokens, without the one that marks the end.
func lex(text string) ([]token.Token, error) {
	l := &memefish.Lexer{File: &token.File{Buffer: text}}
	var out []token.Token
	for {
		if err := l.NextToken(); err != nil {
			return nil, err
		}
		if l.Token.Kind == token.TokenEOF {
			return out, nil
		}
		out = append(out, l.Token)
	}
}

var (
	intervalWord = regexp.MustCompile(`(?i)interval\s*['"]`)
	wholeNumber  = regexp.MustCompile(`^[+-]?[0-9]{1,19}$`)
)

// quotedIntervals writes INTERVAL '1' DAY as the INTERVAL 1 DAY that the parser knows. Everything else stays where it is,
// so that positions in the tree are those of the text.
func quotedIntervals(text string) (string, error) {
	if !intervalWord.MatchString(text) {
		return text, nil
	}
	tokens, err := lex(text)
	if err != nil {
		return "", err
	}
	out := []byte(text)
	for i := 0; i+2 < len(tokens); i++ {
		quoted := tokens[i+1]
		number := strings.TrimSpace(quoted.AsString)
		if tokens[i].Kind != "INTERVAL" || quoted.Kind != token.TokenString || tokens[i+2].Kind != token.TokenIdent ||
			i+3 < len(tokens) && tokens[i+3].Kind == "TO" || !wholeNumber.MatchString(number) {
			continue
		}
		number = strings.TrimPrefix(number, "+")
		copy(out[quoted.Pos:quoted.End], number+strings.Repeat(" ", int(quoted.End-quoted.Pos)-len(number)))
	}
	return string(out), nil
}

// streamDDL makes of a statement about a change stream one that the parser knows: names of named schemas as one quoted
// name each, and without IF [NOT] EXISTS, which ifExists then tells of. Other statements stay as they are.
func streamDDL(text string) (out string, ifExists bool, err error) {
	if !streamWords.MatchString(text) {
		return text, false, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the lexer could not cope with it: %v", r)
		}
	}()
	tokens, err := lex(text)
	if err != nil {
		return "", false, err
	}
	raw := make([]string, 0, len(tokens))
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		if i == 3 && t.Kind == "IF" {
			words := []string{"IF", "NOT", "EXISTS"}
			if tokens[0].IsKeywordLike("DROP") {
				words = []string{"IF", "EXISTS"}
			}
			rest := tokens[i:min(i+len(words), len(tokens))]
			if slices.EqualFunc(rest, words, func(t token.Token, w string) bool { return strings.EqualFold(t.Raw, w) }) {
				i += len(words) - 1
				ifExists = true
				continue
			}
		}
		if t.Kind != token.TokenIdent {
			raw = append(raw, t.Raw)
			continue
		}
		path := []string{t.AsString}
		for i+2 < len(tokens) && tokens[i+1].Kind == "." && tokens[i+2].Kind == token.TokenIdent {
			path = append(path, tokens[i+2].AsString)
			i += 2
		}
		if len(path) == 1 {
			raw = append(raw, t.Raw)
			continue
		}
		raw = append(raw, "`"+strings.Join(path, ".")+"`")
	}
	return strings.Join(raw, " "), ifExists, nil
}

var streamWords = regexp.MustCompile(`(?i)^\s*(CREATE|ALTER|DROP)\s+CHANGE\s+STREAM\s`)

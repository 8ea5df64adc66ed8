package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/token"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// pgParser reads PostgreSQL schema statements and writes them as GoogleSQL: the two dialects have one schema behind
// them. What it does not know it refuses.
type pgParser struct {
	tokens []pgToken
	n      int
}

// ParsePostgresDDL parses one schema statement of the PostgreSQL dialect.
func ParsePostgresDDL(text string) (*DDL, error) {
	if len(text) > maxStatement || depth(text) > maxNesting {
		return nil, invalid("the statement is too long or nested too deeply")
	}
	tokens, err := pgLex(text)
	if err != nil {
		return nil, err
	}
	p := &pgParser{tokens: tokens}
	translate, err := p.statement()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != pgEnd {
		return nil, p.unexpected("the end of the statement")
	}
	return &DDL{text: text, translate: translate}, nil
}

// PostgresDatabaseName is the name in a CREATE DATABASE statement of the PostgreSQL dialect.
func PostgresDatabaseName(text string) (string, error) {
	tokens, err := pgLex(text)
	if err != nil {
		return "", err
	}
	p := &pgParser{tokens: tokens}
	if !p.words("create", "database") {
		return "", invalid("create_statement must be CREATE DATABASE, not %s", firstWords(text))
	}
	t := p.next()
	if t.kind != pgWord && t.kind != pgName || p.peek().kind != pgEnd {
		return "", p.unexpected("the name of a database")
	}
	return t.text, nil
}

func (p *pgParser) peek() pgToken { return p.tokens[p.n] }

func (p *pgParser) next() pgToken {
	t := p.tokens[p.n]
	if t.kind != pgEnd {
		p.n++
	}
	return t
}

// words takes the words if all of them come next.
func (p *pgParser) words(words ...string) bool {
	for i, w := range words {
		if p.n+i >= len(p.tokens) || p.tokens[p.n+i].kind != pgWord || p.tokens[p.n+i].text != w {
			return false
		}
	}
	p.n += len(words)
	return true
}

func (p *pgParser) op(text string) bool {
	if t := p.peek(); t.kind == pgOp && t.text == text {
		p.n++
		return true
	}
	return false
}

func (p *pgParser) want(text string) error {
	if !p.op(text) {
		return p.unexpected(text)
	}
	return nil
}

func (p *pgParser) unexpected(want string) error {
	t := p.peek()
	got := t.text
	if t.kind == pgEnd {
		got = "the end"
	}
	return invalid("syntax error at offset %d: %s was expected, not %q", t.at, want, got)
}

// name reads a name of one or more parts, quoted for GoogleSQL. The schema public is the default one.
func (p *pgParser) name() (string, error) {
	var parts []string
	for {
		t := p.peek()
		if t.kind != pgWord && t.kind != pgName {
			return "", p.unexpected("a name")
		}
		p.next()
		parts = append(parts, token.QuoteSQLIdent(t.text))
		if !p.op(".") {
			break
		}
	}
	if len(parts) > 1 && parts[0] == "public" {
		parts = parts[1:]
	}
	return strings.Join(parts, "."), nil
}

// list reads item, item … up to the closing bracket, the opening one being taken.
func (p *pgParser) list(item func() (string, error)) ([]string, error) {
	var out []string
	if p.op(")") {
		return out, nil
	}
	for {
		s, err := item()
		if err != nil {
			return nil, err
		}
		if s != "" {
			out = append(out, s)
		}
		if p.op(",") {
			continue
		}
		return out, p.want(")")
	}
}

// names reads (a, b).
func (p *pgParser) names() (string, error) {
	if err := p.want("("); err != nil {
		return "", err
	}
	list, err := p.list(p.name)
	return "(" + strings.Join(list, ", ") + ")", err
}

// key reads (a, b DESC).
func (p *pgParser) key() (string, error) {
	if err := p.want("("); err != nil {
		return "", err
	}
	list, err := p.list(func() (string, error) {
		n, err := p.name()
		if err != nil {
			return "", err
		}
		switch {
		case p.words("desc"):
			n += " DESC"
		case p.words("asc"):
		}
		if p.words("nulls") {
			return "", unimplemented("NULLS FIRST and NULLS LAST in a key")
		}
		return n, nil
	})
	return "(" + strings.Join(list, ", ") + ")", err
}

// expression reads a balanced expression in brackets, which are taken too.
func (p *pgParser) expression() (string, error) {
	if err := p.want("("); err != nil {
		return "", err
	}
	var b strings.Builder
	for open := 1; ; {
		t := p.next()
		switch {
		case t.kind == pgEnd:
			return "", p.unexpected(")")
		case t.kind == pgOp && t.text == "(":
			open++
		case t.kind == pgOp && t.text == ")":
			if open--; open == 0 {
				return strings.TrimSpace(b.String()), nil
			}
		case t.kind == pgOp && t.text == "/":
			return "", unimplemented("the operator / in an expression of the PostgreSQL dialect, which divides integers otherwise (at offset %d)", t.at)
		}
		s, err := t.google()
		if err != nil {
			return "", err
		}
		b.WriteString(s)
		if p.peek().at > t.end {
			b.WriteByte(' ')
		}
	}
}

// fixed is a translation that does not depend on the schema.
func fixed(text string, err error) (func(*store.Schema) (string, error), error) {
	return func(*store.Schema) (string, error) { return text, nil }, err
}

func (p *pgParser) statement() (func(*store.Schema) (string, error), error) {
	switch {
	case p.words("create", "table"):
		return fixed(p.createTable())
	case p.words("create", "unique", "index"):
		return fixed(p.createIndex("UNIQUE "))
	case p.words("create", "index"):
		return fixed(p.createIndex(""))
	case p.words("create", "schema"):
		return fixed(p.plain("CREATE SCHEMA "))
	case p.words("create", "change", "stream"):
		return fixed(p.createStream())
	case p.words("alter", "change", "stream"):
		return fixed(p.alterStream())
	case p.words("alter", "table"):
		return p.alterTable()
	case p.words("alter", "database"):
		return fixed(p.alterDatabase())
	case p.words("drop", "change", "stream"):
		return fixed(p.plain("DROP CHANGE STREAM "))
	case p.words("drop", "table"):
		return fixed(p.plain("DROP TABLE "))
	case p.words("drop", "index"):
		return fixed(p.plain("DROP INDEX "))
	case p.words("drop", "schema"):
		return fixed(p.plain("DROP SCHEMA "))
	case p.words("create", "role"):
		return fixed(p.plain("CREATE ROLE "))
	case p.words("drop", "role"):
		return fixed(p.plain("DROP ROLE "))
	case p.words("grant"):
		return fixed(p.grant("GRANT", "to"))
	case p.words("revoke"):
		return fixed(p.grant("REVOKE", "from"))
	case p.words("analyze"):
		return fixed("ANALYZE", nil)
	}
	var words []string
	for _, t := range p.tokens[:min(3, len(p.tokens)-1)] {
		if t.kind != pgWord {
			return nil, p.unexpected("a schema statement")
		}
		words = append(words, strings.ToUpper(t.text))
	}
	if len(words) == 0 {
		return nil, p.unexpected("a schema statement")
	}
	switch words[0] {
	case "CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "RENAME":
		return nil, unimplemented("the PostgreSQL statement %s", strings.Join(words, " "))
	}
	return nil, invalid("not a schema statement: %s", strings.Join(words, " "))
}

// plain is a statement of a verb, IF [NOT] EXISTS and a name.
func (p *pgParser) plain(verb string) (string, error) {
	verb += p.ifExists()
	n, err := p.name()
	return verb + n, err
}

func (p *pgParser) ifExists() string {
	switch {
	case p.words("if", "not", "exists"):
		return "IF NOT EXISTS "
	case p.words("if", "exists"):
		return "IF EXISTS "
	}
	return ""
}

func (p *pgParser) createIndex(kind string) (string, error) {
	exists := p.ifExists()
	n, err := p.name()
	if err != nil {
		return "", err
	}
	if !p.words("on") {
		return "", p.unexpected("ON")
	}
	t, err := p.name()
	if err != nil {
		return "", err
	}
	key, err := p.key()
	if err != nil {
		return "", err
	}
	out := n + " ON " + t + " " + key
	if p.words("include") {
		cols, err := p.names()
		if err != nil {
			return "", err
		}
		out += " STORING " + cols
	}
	if p.words("interleave", "in") {
		parent, err := p.name()
		if err != nil {
			return "", err
		}
		out += ", INTERLEAVE IN " + parent
	}
	if p.words("where") {
		// The one predicate that indexes have there: every key column IS NOT NULL.
		for {
			if _, err := p.name(); err != nil {
				return "", err
			}
			if !p.words("is", "not", "null") {
				return "", unimplemented("an index predicate other than column IS NOT NULL")
			}
			if !p.words("and") {
				break
			}
		}
		kind += "NULL_FILTERED "
	}
	return "CREATE " + kind + "INDEX " + exists + out, nil
}

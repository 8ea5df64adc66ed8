package sql

import (
	"slices"
	"strconv"
	"strings"
)

// Select is a parsed query.
type Select struct {
	// Table is the table's name as written: one to three parts.
	Table []string

	items  []item
	where  []condition
	order  []ordering
	limit  int // -1 is none
	offset int
}

// item is one thing selected: a star, a column, or an aggregate over one (over rows if the column is nil).
type item struct {
	star      bool
	aggregate string // "", COUNT, MIN or MAX
	distinct  bool
	column    []string
	name      string // its alias
}

type condition struct {
	column []string
	op     string // = != < <= > >=, IN, NOT IN, IS NULL, IS NOT NULL
	values []value
}

// value is a literal or a parameter. kind is a literal's type as its token has it, or the name of a typed literal.
type value struct {
	kind      valueKind
	typed     string
	text      string
	parameter string
}

type valueKind int

const (
	stringValue valueKind = iota + 1
	intValue
	floatValue
	boolValue
	typedValue
	parameterValue
)

type ordering struct {
	column []string
	desc   bool
}

// Parse parses a query. The error names what is wrong and where, and wraps ErrUnsupported if it is GoogleSQL.
func Parse(query string) (*Select, error) {
	tokens, err := lex(query)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	return p.query()
}

type parser struct {
	tokens []token
	n      int
}

func (p *parser) peek() token { return p.tokens[p.n] }

func (p *parser) next() token {
	t := p.tokens[p.n]
	if t.kind != end {
		p.n++
	}
	return t
}

// take takes the keywords or symbols if they come next.
func (p *parser) take(words ...string) bool {
	for i, w := range words {
		if p.n+i >= len(p.tokens) || !p.tokens[p.n+i].is(w) {
			return false
		}
	}
	p.n += len(words)
	return true
}

func (p *parser) want(s string) error {
	if p.take(s) {
		return nil
	}
	return p.unexpected("expected " + s)
}

// operators are the symbols of expressions this dialect does not have.
var operators = []string{"+", "-", "*", "/", "||", "(", "[", ",", "?", "."}

// foreign are the words that begin something GoogleSQL has and this package does not.
var foreign = []string{
	"JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "GROUP", "HAVING", "UNION", "INTERSECT", "EXCEPT", "WITH", "DISTINCT", "ALL",
	"OR", "NOT", "CASE", "QUALIFY", "WINDOW", "OVER", "TABLESAMPLE", "PIVOT", "UNPIVOT", "UNNEST", "CAST", "SAFE_CAST", "EXTRACT", "IF",
	"INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP", "BEGIN", "DECLARE", "SET", "CALL", "EXECUTE",
	"EXPORT", "LOAD", "BETWEEN", "LIKE", "FOR", "NULLS", "STRUCT", "ARRAY", "INTERVAL", "REPLACE", "AS", "NULL", "EXISTS",
}

func (p *parser) unexpected(want string) error {
	t := p.peek()
	if t.kind == word && slices.Contains(foreign, strings.ToUpper(t.text)) {
		return syntax(t.at, "%w", unsupported(strings.ToUpper(t.text)))
	}
	if t.kind == symbol && slices.Contains(operators, t.text) {
		return syntax(t.at, "%s; here %s is %w", want, t, ErrUnsupported)
	}
	return syntax(t.at, "%s but got %s", want, t)
}

func (p *parser) query() (*Select, error) {
	q := &Select{limit: -1}
	if err := p.want("SELECT"); err != nil {
		return nil, err
	}
	var err error
	if q.items, err = list(p, p.item); err != nil {
		return nil, err
	}
	if err := p.want("FROM"); err != nil {
		return nil, err
	}
	if q.Table, err = p.table(); err != nil {
		return nil, err
	}
	if p.take("WHERE") {
		for {
			c, err := p.condition()
			if err != nil {
				return nil, err
			}
			q.where = append(q.where, c)
			if !p.take("AND") {
				break
			}
		}
	}
	if p.take("ORDER", "BY") {
		if q.order, err = list(p, p.ordering); err != nil {
			return nil, err
		}
	}
	if p.take("LIMIT") {
		if q.limit, err = p.count(); err != nil {
			return nil, err
		}
		if p.take("OFFSET") {
			if q.offset, err = p.count(); err != nil {
				return nil, err
			}
		}
	}
	p.take(";")
	if p.peek().kind != end {
		return nil, p.unexpected("expected end of query")
	}
	return q, nil
}

// list parses one or more items between commas.
func list[T any](p *parser, one func() (T, error)) ([]T, error) {
	var out []T
	for {
		x, err := one()
		if err != nil {
			return nil, err
		}
		if out = append(out, x); !p.take(",") {
			return out, nil
		}
	}
}

func (p *parser) item() (item, error) {
	if p.take("*") {
		return item{star: true}, nil
	}
	var it item
	if t := p.peek(); t.kind == word && p.tokens[p.n+1].is("(") {
		it.aggregate = strings.ToUpper(t.text)
		if !slices.Contains([]string{"COUNT", "MIN", "MAX"}, it.aggregate) {
			return item{}, syntax(t.at, "%w", unsupported("the function "+it.aggregate))
		}
		p.n += 2
		if it.aggregate != "COUNT" || !p.take("*") {
			it.distinct = p.take("DISTINCT")
			var err error
			if it.column, err = p.column(); err != nil {
				return item{}, err
			}
		}
		if err := p.want(")"); err != nil {
			return item{}, err
		}
	} else {
		var err error
		if it.column, err = p.column(); err != nil {
			return item{}, err
		}
		it.name = it.column[len(it.column)-1]
	}
	if as := p.take("AS"); as || p.peek().kind == quotedWord || p.peek().kind == word && !p.peek().is("FROM") && !p.reserved() {
		t := p.next()
		if t.kind != word && t.kind != quotedWord {
			return item{}, syntax(t.at, "expected a name but got %s", t)
		}
		it.name = t.text
	}
	return it, nil
}

// clauses are the words that no column and no alias can be without quotes.
var clauses = []string{"SELECT", "FROM", "WHERE", "ORDER", "BY", "LIMIT", "AND", "IS", "IN", "TRUE", "FALSE", "ASC", "DESC"}

func (p *parser) reserved() bool {
	t := p.peek()
	upper := strings.ToUpper(t.text)
	return t.kind == word && (slices.Contains(clauses, upper) || slices.Contains(foreign, upper))
}

// column parses a column's name, with the members of structs after dots.
func (p *parser) column() ([]string, error) {
	var path []string
	for {
		t := p.peek()
		if t.kind != quotedWord && t.kind != word || len(path) == 0 && p.reserved() {
			return nil, p.unexpected("expected a column")
		}
		p.n++
		if path = append(path, t.text); !p.take(".") {
			return path, nil
		}
	}
}

// table parses a table's name; quotes may be around all of it or around its parts, and a project may have dashes.
func (p *parser) table() ([]string, error) {
	var parts []string
	for {
		t := p.peek()
		switch {
		case t.kind == quotedWord:
			p.n++
			parts = append(parts, strings.Split(t.text, ".")...)
		case t.kind == word && !p.reserved():
			p.n++
			for len(parts) == 0 && p.peek().is("-") { // an unquoted project: my-project.d.t
				p.n++
				t.text += "-" + p.next().text
			}
			parts = append(parts, t.text)
		default:
			return nil, p.unexpected("expected a table")
		}
		if !p.take(".") {
			break
		}
	}
	for _, s := range parts {
		if strings.EqualFold(s, "INFORMATION_SCHEMA") {
			return nil, unsupported("INFORMATION_SCHEMA")
		}
		if s == "" {
			return nil, syntax(p.peek().at, "the table name %q has an empty part", strings.Join(parts, "."))
		}
	}
	if len(parts) > 3 {
		return nil, syntax(p.peek().at, "the table name %q has more than three parts", strings.Join(parts, "."))
	}
	if p.take("AS") || p.peek().kind == word && !p.reserved() || p.peek().kind == quotedWord {
		return nil, syntax(p.peek().at, "%w", unsupported("a table alias"))
	}
	return parts, nil
}

func (p *parser) condition() (condition, error) {
	column, err := p.column()
	if err != nil {
		return condition{}, err
	}
	c := condition{column: column}
	t := p.peek()
	switch {
	case p.take("IS", "NULL"):
		c.op = "IS NULL"
	case p.take("IS", "NOT", "NULL"):
		c.op = "IS NOT NULL"
	case p.take("IN"), p.take("NOT", "IN"):
		c.op = "IN"
		if t.is("NOT") {
			c.op = "NOT IN"
		}
		if err := p.want("("); err != nil {
			return condition{}, err
		}
		if c.values, err = list(p, p.value); err != nil {
			return condition{}, err
		}
		return c, p.want(")")
	case t.kind == symbol && slices.Contains([]string{"=", "!=", "<>", "<", "<=", ">", ">="}, t.text):
		p.n++
		if c.op = t.text; c.op == "<>" {
			c.op = "!="
		}
		v, err := p.value()
		if err != nil {
			return condition{}, err
		}
		c.values = []value{v}
	default:
		return condition{}, p.unexpected("expected a comparison")
	}
	return c, nil
}

// typedLiterals are the types that a literal may name: DATE '2026-01-31'.
var typedLiterals = []string{"TIMESTAMP", "DATE", "TIME", "DATETIME", "NUMERIC", "BIGNUMERIC"}

func (p *parser) value() (value, error) {
	sign := ""
	if p.peek().is("-") && p.tokens[p.n+1].kind == number {
		p.n++
		sign = "-"
	}
	switch t := p.peek(); {
	case t.kind == parameter && t.text != "":
		p.n++
		return value{kind: parameterValue, parameter: t.text}, nil
	case t.kind == text:
		p.n++
		return value{kind: stringValue, text: t.text}, nil
	case t.kind == number:
		p.n++
		if _, err := strconv.ParseInt(sign+t.text, 10, 64); err == nil {
			return value{kind: intValue, text: sign + t.text}, nil
		}
		if _, err := strconv.ParseFloat(t.text, 64); err != nil || strings.ContainsAny(t.text, "xXpP_") || !strings.ContainsAny(t.text, ".eE") {
			return value{}, syntax(t.at, "invalid number %s", t)
		}
		return value{kind: floatValue, text: sign + t.text}, nil
	case t.is("TRUE"), t.is("FALSE"):
		p.n++
		return value{kind: boolValue, text: t.text}, nil
	case t.kind == word && slices.Contains(typedLiterals, strings.ToUpper(t.text)) && p.tokens[p.n+1].kind == text:
		p.n += 2
		return value{kind: typedValue, typed: strings.ToUpper(t.text), text: p.tokens[p.n-1].text}, nil
	case t.kind == word && !p.reserved():
		return value{}, syntax(t.at, "%s on the right of a comparison is %w", t, ErrUnsupported)
	}
	return value{}, p.unexpected("expected a literal or a parameter")
}

func (p *parser) ordering() (ordering, error) {
	column, err := p.column()
	if err != nil {
		return ordering{}, err
	}
	o := ordering{column: column, desc: p.take("DESC")}
	if !o.desc {
		p.take("ASC")
	}
	return o, nil
}

func (p *parser) count() (int, error) {
	t := p.peek()
	n, err := strconv.Atoi(t.text)
	if t.kind != number || err != nil {
		return 0, syntax(t.at, "expected a number of rows but got %s", t)
	}
	p.n++
	return n, nil
}

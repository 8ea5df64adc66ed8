package sql

import (
	"context"
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Kind says what a statement is.
type Kind uint8

// The kinds of statements.
const (
	Query Kind = iota + 1
	DML
	ChangeStream
)

// Statement is one parsed query, DML statement or change-stream query. It is immutable and may be run many times.
type Statement struct {
	text string
	tree ast.Statement
	kind Kind
	tvf  *ast.TVFCallExpr // of a change-stream query
	// postgres says that the text was one of the PostgreSQL dialect.
	postgres bool
}

// maxStatement is Spanner's limit on the length of a statement, in characters.
const maxStatement = 1 << 20

// Parse parses one statement; a closing semicolon is allowed.
func Parse(text string) (*Statement, error) {
	if strings.TrimSpace(text) == "" {
		return nil, invalid("the statement is empty")
	}
	if len(text) > maxStatement {
		return nil, invalid("the statement is %d characters long; at most %d are allowed", len(text), maxStatement)
	}
	if depth(text) > maxNesting {
		return nil, invalid("the statement is nested too deeply")
	}
	tree, err := parseStatement(strings.TrimRight(text, "; \t\r\n"))
	if err != nil {
		return nil, syntaxError("Syntax error: ", err)
	}
	s := &Statement{text: text, tree: tree}
	switch t := tree.(type) {
	case *ast.QueryStatement:
		s.kind = Query
		if tvf := findTVF(t.Query); tvf != nil {
			s.kind, s.tvf = ChangeStream, tvf
		}
	case ast.DML:
		s.kind = DML
	case ast.DDL:
		return nil, invalid("%s is a schema statement: send it with UpdateDatabaseDdl", firstWords(text))
	default:
		return nil, unimplemented("the statement %s", firstWords(text))
	}
	return s, nil
}

// ParseIn parses one statement in the dialect of the database that has the schema.
func ParseIn(s *store.Schema, text string) (*Statement, error) {
	if s.Postgres {
		return ParsePostgres(text)
	}
	return Parse(text)
}

// maxNesting keeps the parser, which recurses, within the stack.
const maxNesting = 500

// depth is an upper bound of how deep brackets and operators nest.
func depth(text string) int {
	n, most := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '(', '[', '<', '{':
			n++
			most = max(most, n)
		case ')', ']', '>', '}':
			n--
		}
	}
	return most
}

// Kind says what the statement is.
func (s *Statement) Kind() Kind { return s.kind }

// Param is a query parameter.
type Param struct {
	// Type is nil only for an untyped NULL.
	Type  *store.Type
	Value store.Value
	// Untyped says that the client named no type: like a literal, the value then adapts to what it is compared with.
	Untyped bool
}

// Env is what a statement runs in.
type Env struct {
	Reader store.Reader
	// Params are by name, without the @; names are compared without regard to case.
	Params map[string]Param
	// Now is what CURRENT_TIMESTAMP answers.
	Now time.Time
	// Access is what the statement may read and write; what it may not is PERMISSION_DENIED.
	Access *store.Access

	schema    *store.Schema // without a Reader: the schema that expressions are checked against
	sequences bool          // sequences may be advanced
}

// Plan is a checked query, ready to run.
type Plan struct {
	q *query
}

// Prepare checks a query against the schema of env and plans it.
func (s *Statement) Prepare(env Env) (*Plan, error) {
	t, ok := s.tree.(*ast.QueryStatement)
	if !ok || s.kind != Query {
		return nil, invalid("the statement is not a query: %s", firstWords(s.text))
	}
	if err := checkHints(t.Hint, statementHints); err != nil {
		return nil, err
	}
	_, env.sequences = env.Reader.(*store.Txn)
	c := &compiler{env: env}
	q, err := c.query(t.Query)
	if err != nil {
		return nil, err
	}
	for i, f := range q.columns {
		if f.Type == nil {
			q.columns[i].Type = int64Type
		} else if f.Type.Code == store.Struct {
			return nil, store.Errorf(codes.Unimplemented, "Unsupported query shape: A struct value cannot be returned as a column value. Rewrite the query to flatten the struct fields in the result.")
		}
	}
	if s.postgres {
		for i := range q.columns {
			q.columns[i].Type = pgType(q.columns[i].Type)
		}
	}
	if err := checkShape(t.Query, q.columns); err != nil {
		return nil, err
	}
	return &Plan{q}, nil
}

// Columns are the result's columns.
func (p *Plan) Columns() []store.Field { return p.q.columns }

// Run calls fn with each row; fn owns it. It stops at fn's or ctx's first error and returns it.
func (p *Plan) Run(ctx context.Context, fn func([]store.Value) error) error {
	return p.q.run(&frame{ctx: ctx}, fn)
}

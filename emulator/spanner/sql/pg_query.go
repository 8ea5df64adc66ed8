package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// pgCasts are the names that types have in CAST.
var pgCasts = map[string]string{
	"bigint": "INT64", "int8": "INT64", "boolean": "BOOL", "bool": "BOOL", "real": "FLOAT32", "float4": "FLOAT32", "float8": "FLOAT64",
	"numeric": "NUMERIC", "decimal": "NUMERIC", "text": "STRING", "varchar": "STRING", "bytea": "BYTES", "date": "DATE",
	"timestamptz": "TIMESTAMP", "uuid": "UUID",
}

// pgAbsent are words that begin constructs which GoogleSQL lacks or means otherwise.
var pgAbsent = map[string]bool{
	"ilike": true, "similar": true, "any": true, "window": true, "over": true, "filter": true, "distinct_on": true, "fetch": true,
	"interval": true, "within": true, "nulls": true, "extract": true, "position": true, "overlay": true, "collate": true,
	"to_char": true, "to_timestamp": true, "date_trunc": true, "date_part": true, "string_to_array": true, "substring": true,
}

// ParsePostgres parses one query or DML statement of the PostgreSQL dialect: the part of it that GoogleSQL has too, word
// for word, with $n parameters, and the change streams' read functions. The rest answers UNIMPLEMENTED.
func ParsePostgres(text string) (*Statement, error) {
	if len(text) > maxStatement || depth(text) > maxNesting {
		return nil, invalid("the statement is too long or nested too deeply")
	}
	tokens, err := pgLex(text)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	cast, depth := 0, 0
	for i, t := range tokens {
		out, err := t.google()
		if err != nil {
			return nil, err
		}
		switch {
		case t.kind == pgOp && t.text == "(":
			if depth++; i > 0 && tokens[i-1].kind == pgWord && tokens[i-1].text == "cast" {
				cast = depth
			}
		case t.kind == pgOp && t.text == ")":
			if depth--; depth < cast {
				cast = 0
			}
		case t.kind != pgWord:
		case pgAbsent[t.text]:
			return nil, unimplemented("%s in the PostgreSQL dialect (at offset %d)", strings.ToUpper(t.text), t.at)
		case t.text == "returning":
			out = "THEN RETURN"
		case t.text == "now":
			out = "CURRENT_TIMESTAMP"
		case cast > 0 && depth == cast && i > 0 && tokens[i-1].kind == pgWord && tokens[i-1].text == "as":
			if out = pgCasts[t.text]; out == "" {
				return nil, unimplemented("a cast to the PostgreSQL type %s (at offset %d)", t.text, t.at)
			}
		}
		b.WriteString(out)
		if t.kind != pgOp || t.text != "." {
			if i+1 < len(tokens) && !(tokens[i+1].kind == pgOp && (tokens[i+1].text == "." || tokens[i+1].text == "(")) {
				b.WriteByte(' ')
			}
		}
	}
	s, err := Parse(b.String())
	if err != nil {
		return nil, err
	}
	s.postgres = true
	return s, nil
}

// postgres reports whether the database has the PostgreSQL dialect.
func (c *compiler) postgres() bool {
	return (c.env.schema != nil || c.env.Reader != nil) && c.schema().Postgres
}

// pgType marks the types of results that have a form of their own in the PostgreSQL dialect.
func pgType(t *store.Type) *store.Type {
	if t == nil {
		return nil
	}
	switch t.Code {
	case store.Numeric, store.JSON:
		return &store.Type{Code: t.Code, PG: true}
	case store.Array:
		return &store.Type{Code: store.Array, Elem: pgType(t.Elem)}
	}
	return t
}

// pgReadFunctions lead the names of the read functions: records as JSONB, or with mutable key ranges as bytes.
var pgReadFunctions = []string{"read_json_", "read_proto_bytes_"}

// pgStreamName is the stream that a read function's path names.
func pgStreamName(p *ast.Path) (stream string, proto, ok bool) {
	ids := p.Idents
	if len(ids) != 2 || ids[0].Name != "spanner" {
		return "", false, false
	}
	for i, lead := range pgReadFunctions {
		if name, found := strings.CutPrefix(ids[1].Name, lead); found && name != "" {
			return name, i == 1, true
		}
	}
	return "", false, false
}

package sql

import (
	"fmt"
	"strings"
)

func (p *pgParser) createTable() (string, error) {
	head := "CREATE TABLE " + p.ifExists()
	n, err := p.name()
	if err != nil {
		return "", err
	}
	if err := p.want("("); err != nil {
		return "", err
	}
	key := ""
	items, err := p.list(func() (string, error) { return p.tableItem(&key) })
	if err != nil {
		return "", err
	}
	if key == "" {
		return "", invalid("table %s has no PRIMARY KEY", n)
	}
	out := head + n + " (" + strings.Join(items, ", ") + ") PRIMARY KEY " + key
	if p.words("interleave", "in") {
		out += ", INTERLEAVE IN "
		if p.words("parent") {
			out += "PARENT "
		}
		parent, err := p.name()
		if err != nil {
			return "", err
		}
		out += parent + p.onDelete()
	}
	if p.words("ttl", "interval") {
		policy, err := p.policy()
		if err != nil {
			return "", err
		}
		out += ", ROW DELETION POLICY (" + policy + ")"
	}
	return out, nil
}

func (p *pgParser) onDelete() string {
	switch {
	case p.words("on", "delete", "cascade"):
		return " ON DELETE CASCADE"
	case p.words("on", "delete", "no", "action"):
		return " ON DELETE NO ACTION"
	}
	return ""
}

// policy reads 'n days' ON column.
func (p *pgParser) policy() (string, error) {
	t := p.next()
	fields := strings.Fields(strings.ToLower(t.text))
	var days string
	switch {
	case t.kind != pgString, len(fields) != 2 && len(fields) != 1:
		return "", p.unexpected("an interval of days such as '5 days'")
	case len(fields) == 2 && (fields[1] == "days" || fields[1] == "day"):
		days = fields[0]
	default:
		return "", unimplemented("the TTL INTERVAL '%s': only days", t.text)
	}
	if strings.Trim(days, "0123456789") != "" || !p.words("on") {
		return "", p.unexpected("an interval of days and ON")
	}
	c, err := p.name()
	return fmt.Sprintf("OLDER_THAN(%s, INTERVAL %s DAY)", c, days), err
}

func (p *pgParser) tableItem(key *string) (string, error) {
	constraint := ""
	if p.words("constraint") {
		n, err := p.name()
		if err != nil {
			return "", err
		}
		constraint = "CONSTRAINT " + n + " "
	}
	switch {
	case p.words("primary", "key"):
		if *key != "" {
			return "", invalid("there is more than one PRIMARY KEY")
		}
		var err error
		*key, err = p.key()
		return "", err
	case p.words("check"):
		e, err := p.expression()
		return constraint + "CHECK (" + e + ")", err
	case p.words("foreign", "key"):
		f, err := p.foreignKey()
		return constraint + f, err
	case constraint != "":
		return "", unimplemented("the constraint %s", constraint)
	}
	return p.column(key)
}

func (p *pgParser) foreignKey() (string, error) {
	cols, err := p.names()
	if err != nil {
		return "", err
	}
	if !p.words("references") {
		return "", p.unexpected("REFERENCES")
	}
	t, err := p.name()
	if err != nil {
		return "", err
	}
	refs, err := p.names()
	return "FOREIGN KEY " + cols + " REFERENCES " + t + " " + refs + p.onDelete(), err
}

// column reads a column's definition; PRIMARY KEY in it sets key, and a primary key's columns are NOT NULL.
func (p *pgParser) column(key *string) (string, error) {
	n, err := p.name()
	if err != nil {
		return "", err
	}
	typ, options, err := p.columnType()
	if err != nil {
		return "", err
	}
	notNull, rest := false, ""
	for {
		switch {
		case p.words("not", "null"):
			notNull = true
		case p.words("null"):
		case p.words("primary", "key"):
			if *key != "" {
				return "", invalid("there is more than one PRIMARY KEY")
			}
			*key, notNull = "("+n+")", true
		case p.words("default"):
			e, err := p.defaultValue()
			if err != nil {
				return "", err
			}
			rest += " DEFAULT (" + e + ")"
		case p.words("generated", "always", "as"):
			e, err := p.expression()
			if err != nil {
				return "", err
			}
			rest += " AS (" + e + ")"
			if p.words("stored") {
				rest += " STORED"
			} else if p.words("virtual") {
			} else {
				return "", p.unexpected("STORED or VIRTUAL")
			}
		case p.words("unique"), p.words("references"), p.words("check"), p.words("generated"), p.words("hidden"):
			return "", unimplemented("the column constraint %s of column %s", strings.ToUpper(p.tokens[p.n-1].text), n)
		default:
			out := n + " " + typ
			if notNull {
				out += " NOT NULL"
			}
			return out + rest + options, nil
		}
	}
}

// defaultValue reads a literal, CURRENT_TIMESTAMP, or an expression in brackets.
func (p *pgParser) defaultValue() (string, error) {
	t := p.peek()
	switch {
	case t.kind == pgOp && t.text == "(":
		return p.expression()
	case p.words("now"), p.words("current_timestamp"):
		if p.op("(") {
			if err := p.want(")"); err != nil {
				return "", err
			}
		}
		return "CURRENT_TIMESTAMP()", nil
	case t.kind == pgOp && t.text == "-":
		p.next()
		if p.peek().kind != pgNumber {
			return "", p.unexpected("a number")
		}
		return "-" + p.next().text, nil
	case t.kind == pgNumber, t.kind == pgString, t.kind == pgWord && (t.text == "true" || t.text == "false" || t.text == "null"):
		p.next()
		if next := p.peek(); next.kind == pgOp && next.text == "::" {
			return "", unimplemented("casts with :: (at offset %d)", next.at)
		}
		return t.google()
	}
	return "", unimplemented("the default at offset %d: only literals, CURRENT_TIMESTAMP and expressions in brackets", t.at)
}

// pgTypes are the scalar types by their PostgreSQL names.
var pgTypes = map[string]string{
	"bigint": "INT64", "int8": "INT64", "boolean": "BOOL", "bool": "BOOL", "real": "FLOAT32", "float4": "FLOAT32",
	"float8": "FLOAT64", "numeric": "NUMERIC", "decimal": "NUMERIC", "text": "STRING(MAX)", "bytea": "BYTES(MAX)", "date": "DATE",
	"timestamptz": "TIMESTAMP", "jsonb": "JSON", "uuid": "UUID",
}

// columnType reads a type and answers it in GoogleSQL, with the column options that go with it.
func (p *pgParser) columnType() (typ, options string, err error) {
	t := p.peek()
	if t.kind != pgWord {
		return "", "", p.unexpected("a type")
	}
	p.next()
	switch {
	case t.text == "double" && p.words("precision"):
		typ = "FLOAT64"
	case t.text == "timestamp" && p.words("with", "time", "zone"):
		typ = "TIMESTAMP"
	case t.text == "varchar" || t.text == "character" && p.words("varying"):
		typ = "STRING(MAX)"
		if p.op("(") {
			if p.peek().kind != pgNumber {
				return "", "", p.unexpected("a length")
			}
			typ = "STRING(" + p.next().text + ")"
			if err := p.want(")"); err != nil {
				return "", "", err
			}
		}
	case t.text == "spanner" && p.op(".") && p.words("commit_timestamp"):
		typ, options = "TIMESTAMP", " OPTIONS (allow_commit_timestamp = true)"
	case pgTypes[t.text] != "":
		typ = pgTypes[t.text]
		if typ == "NUMERIC" && p.op("(") {
			return "", "", unimplemented("a precision of %s", t.text)
		}
	default:
		return "", "", unimplemented("the PostgreSQL type %s (at offset %d)", t.text, t.at)
	}
	if p.op("[") {
		if err := p.want("]"); err != nil {
			return "", "", err
		}
		if options != "" {
			return "", "", invalid("an array of commit timestamps is not a column type")
		}
		typ = "ARRAY<" + typ + ">"
	}
	return typ, options, nil
}

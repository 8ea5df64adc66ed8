package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/token"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func (p *pgParser) alterTable() (func(*store.Schema) (string, error), error) {
	n, err := p.name()
	if err != nil {
		return nil, err
	}
	head := "ALTER TABLE " + n + " "
	switch {
	case p.words("add", "constraint"), p.words("add", "check"), p.words("add", "foreign"):
		p.n--
		key := "none"
		item, err := p.tableItem(&key)
		return fixed(head+"ADD "+item, err)
	case p.words("add", "ttl", "interval"):
		policy, err := p.policy()
		return fixed(head+"ADD ROW DELETION POLICY ("+policy+")", err)
	case p.words("alter", "ttl", "interval"):
		policy, err := p.policy()
		return fixed(head+"REPLACE ROW DELETION POLICY ("+policy+")", err)
	case p.words("drop", "ttl"):
		return fixed(head+"DROP ROW DELETION POLICY", nil)
	case p.words("drop", "constraint"):
		c, err := p.name()
		return fixed(head+"DROP CONSTRAINT "+c, err)
	case p.words("drop"):
		p.words("column")
		c, err := p.name()
		return fixed(head+"DROP COLUMN "+c, err)
	case p.words("add"):
		p.words("column")
		exists := p.ifExists()
		key := "none"
		c, err := p.column(&key)
		return fixed(head+"ADD COLUMN "+exists+c, err)
	case p.words("alter"):
		p.words("column")
		c, err := p.name()
		if err != nil {
			return nil, err
		}
		return p.alterColumn(n, head+"ALTER COLUMN "+c+" ", strings.Trim(c, "`"))
	}
	return nil, unimplemented("ALTER TABLE %s with %q (at offset %d)", n, p.peek().text, p.peek().at)
}

// alterColumn reads what ALTER COLUMN does. GoogleSQL states a column's whole type, so what is not altered comes from the
// schema of the moment.
func (p *pgParser) alterColumn(table, head, column string) (func(*store.Schema) (string, error), error) {
	whole := func(typ string, notNull *bool) func(*store.Schema) (string, error) {
		return func(s *store.Schema) (string, error) {
			t := s.Table(strings.ReplaceAll(table, "`", ""))
			if t == nil {
				return "", notFound("Table not found: %s", table)
			}
			i := t.ColumnIndex(column)
			if i < 0 {
				return "", notFound("Column not found in table %s: %s", table, column)
			}
			c := t.Columns[i]
			out := typ
			if out == "" {
				out = columnTypeName(&c)
			}
			if notNull == nil && c.NotNull || notNull != nil && *notNull {
				out += " NOT NULL"
			}
			if c.Default != "" {
				out += " DEFAULT (" + c.Default + ")"
			}
			return head + out, nil
		}
	}
	yes, no := true, false
	switch {
	case p.words("set", "not", "null"):
		return whole("", &yes), nil
	case p.words("drop", "not", "null"):
		return whole("", &no), nil
	case p.words("set", "default"):
		e, err := p.defaultValue()
		return fixed(head+"SET DEFAULT ("+e+")", err)
	case p.words("drop", "default"):
		return fixed(head+"DROP DEFAULT", nil)
	case p.words("type"), p.words("set", "data", "type"):
		typ, options, err := p.columnType()
		if options != "" {
			return nil, unimplemented("changing a column's type to spanner.commit_timestamp")
		}
		return whole(typ, nil), err
	}
	return nil, unimplemented("ALTER COLUMN %s with %q (at offset %d)", column, p.peek().text, p.peek().at)
}

func (p *pgParser) alterDatabase() (string, error) {
	n, err := p.name()
	if err != nil {
		return "", err
	}
	option := ""
	value := "null"
	switch {
	case p.words("set"):
		if option, err = p.databaseOption(); err != nil {
			return "", err
		}
		if !p.op("=") && !p.words("to") {
			return "", p.unexpected("=")
		}
		t := p.next()
		if t.kind != pgString && t.kind != pgNumber {
			return "", p.unexpected("a literal")
		}
		if value, err = t.google(); err != nil {
			return "", err
		}
	case p.words("reset"):
		if option, err = p.databaseOption(); err != nil {
			return "", err
		}
	default:
		return "", p.unexpected("SET or RESET")
	}
	return "ALTER DATABASE " + n + " SET OPTIONS (" + option + " = " + value + ")", nil
}

// databaseOption reads spanner.option or "spanner.option".
func (p *pgParser) databaseOption() (string, error) {
	n, err := p.name()
	if n = strings.TrimPrefix(strings.ReplaceAll(n, "`", ""), "spanner."); err != nil || n == "" {
		return "", p.unexpected("an option")
	}
	return token.QuoteSQLIdent(n), nil
}

func (p *pgParser) createStream() (string, error) {
	head := "CREATE CHANGE STREAM " + p.ifExists()
	n, err := p.name()
	if err != nil {
		return "", err
	}
	out := head + n
	if p.words("for") {
		f, err := p.watched()
		if err != nil {
			return "", err
		}
		out += " FOR " + f
	}
	if p.words("with") {
		o, err := p.streamOptions(true)
		if err != nil {
			return "", err
		}
		out += " OPTIONS " + o
	}
	return out, nil
}

// watched reads ALL, or t, t(a, b), t().
func (p *pgParser) watched() (string, error) {
	if p.words("all") {
		return "ALL", nil
	}
	var tables []string
	for {
		t, err := p.name()
		if err != nil {
			return "", err
		}
		if next := p.peek(); next.kind == pgOp && next.text == "(" {
			cols, err := p.names()
			if err != nil {
				return "", err
			}
			t += cols
		}
		tables = append(tables, t)
		if !p.op(",") {
			return strings.Join(tables, ", "), nil
		}
	}
}

// streamOptions reads (name = 'value', …), or for RESET (name, …), which sets each to null.
func (p *pgParser) streamOptions(values bool) (string, error) {
	if err := p.want("("); err != nil {
		return "", err
	}
	list, err := p.list(func() (string, error) {
		n, err := p.name()
		if err != nil {
			return "", err
		}
		if !values {
			return n + " = null", nil
		}
		if err := p.want("="); err != nil {
			return "", err
		}
		t := p.next()
		if t.kind != pgString && t.kind != pgNumber && t.kind != pgWord {
			return "", p.unexpected("a literal")
		}
		v, err := t.google()
		return n + " = " + v, err
	})
	return "(" + strings.Join(list, ", ") + ")", err
}

func (p *pgParser) alterStream() (string, error) {
	n, err := p.name()
	if err != nil {
		return "", err
	}
	head := "ALTER CHANGE STREAM " + n + " "
	switch {
	case p.words("set", "for"):
		f, err := p.watched()
		return head + "SET FOR " + f, err
	case p.words("drop", "for", "all"):
		return head + "DROP FOR ALL", nil
	case p.words("set"):
		o, err := p.streamOptions(true)
		return head + "SET OPTIONS " + o, err
	case p.words("reset"):
		o, err := p.streamOptions(false)
		return head + "SET OPTIONS " + o, err
	}
	return "", p.unexpected("SET, RESET or DROP FOR ALL")
}

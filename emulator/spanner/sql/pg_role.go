package sql

import "strings"

// grant reads GRANT … TO …, or REVOKE … FROM …, behind its verb.
func (p *pgParser) grant(verb, towards string) (string, error) {
	what, err := p.granted()
	if err != nil {
		return "", err
	}
	if !p.words(towards) {
		return "", p.unexpected(strings.ToUpper(towards))
	}
	roles, err := p.nameList()
	return verb + " " + what + " " + strings.ToUpper(towards) + " ROLE " + roles, err
}

// nameList reads a, b, c.
func (p *pgParser) nameList() (string, error) {
	var names []string
	for {
		n, err := p.name()
		if err != nil {
			return "", err
		}
		if names = append(names, n); !p.op(",") {
			return strings.Join(names, ", "), nil
		}
	}
}

// granted reads the privileges and the objects they are on, or the roles that are granted.
func (p *pgParser) granted() (string, error) {
	var privileges []string
	for {
		one, err := p.privilege()
		if err != nil {
			return "", err
		}
		if one == "" {
			if len(privileges) > 0 {
				return "", p.unexpected("a privilege")
			}
			roles, err := p.nameList()
			return "ROLE " + roles, err
		}
		if privileges = append(privileges, one); !p.op(",") {
			break
		}
	}
	if !p.words("on") {
		return "", p.unexpected("ON")
	}
	kind := "TABLE "
	switch {
	case p.words("change", "stream"):
		kind = "CHANGE STREAM "
	case p.words("function"):
		kind = "TABLE FUNCTION "
	case p.words("schema"):
		kind = "SCHEMA "
	case p.words("sequence"):
		kind = "SEQUENCE "
	case p.words("all"):
		return "", unimplemented("ON ALL … IN SCHEMA in the PostgreSQL dialect")
	case p.words("table"):
	}
	objects, err := p.nameList()
	return strings.Join(privileges, ", ") + " ON " + kind + objects, err
}

// privilege reads one privilege with its columns, or returns "" where the next word is none.
func (p *pgParser) privilege() (string, error) {
	for _, w := range []string{"select", "insert", "update", "delete", "execute", "usage"} {
		if !p.words(w) {
			continue
		}
		out := strings.ToUpper(w)
		if t := p.peek(); t.kind != pgOp || t.text != "(" {
			return out, nil
		}
		columns, err := p.names()
		return out + columns, err
	}
	return "", nil
}

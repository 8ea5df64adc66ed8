package sql

import (
	"fmt"
	"strings"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// pgIdent writes a name for the PostgreSQL dialect: quoted unless it is a plain word in lower case.
func pgIdent(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		plain := p != "" && !(p[0] >= '0' && p[0] <= '9') && !pgReserved[p]
		for _, c := range p {
			plain = plain && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_')
		}
		if !plain {
			parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
		}
	}
	return strings.Join(parts, ".")
}

var pgReserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`all analyse analyze and any array as asc asymmetric both case cast check collate column
		constraint create current_date current_timestamp default deferrable desc distinct do else end except false fetch for
		foreign from grant group having in initially intersect into is lateral leading limit not null offset on only or order
		placing primary references returning select some symmetric table then to trailing true union unique user using variadic
		when where window with interleave ttl generated hidden key`) {
		m[w] = true
	}
	return m
}()

func pgIdents(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = pgIdent(n)
	}
	return strings.Join(out, ", ")
}

// pgColumnType is a column's type in the PostgreSQL dialect.
func pgColumnType(c *store.Column) string {
	if c.Type.Code == store.Array {
		return pgScalarType(c.Type.Elem, c.MaxLength) + "[]"
	}
	if c.AllowCommitTimestamp {
		return "spanner.commit_timestamp"
	}
	return pgScalarType(c.Type, c.MaxLength)
}

func pgScalarType(t *store.Type, n int) string {
	switch t.Code {
	case store.Bool:
		return "boolean"
	case store.Int64:
		return "bigint"
	case store.Float64:
		return "double precision"
	case store.Float32:
		return "real"
	case store.Timestamp:
		return "timestamp with time zone"
	case store.Date:
		return "date"
	case store.Bytes:
		return "bytea"
	case store.Numeric:
		return "numeric"
	case store.JSON:
		return "jsonb"
	case store.UUID:
		return "uuid"
	}
	if n > 0 {
		return fmt.Sprintf("character varying(%d)", n)
	}
	return "character varying"
}

// pgExpr writes a GoogleSQL expression that came from the PostgreSQL dialect back in it: the two share all but quotes.
func pgExpr(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '`':
			b.WriteByte('"')
		case '"', '\'':
			lit, end := googleString(text, i)
			b.WriteString("'" + strings.ReplaceAll(lit, "'", "''") + "'")
			i = end - 1
		default:
			b.WriteByte(c)
		}
	}
	return strings.ReplaceAll(b.String(), "CURRENT_TIMESTAMP()", "CURRENT_TIMESTAMP")
}

// googleString reads the literal at i, and where it ends.
func googleString(text string, i int) (value string, end int) {
	for end = i + 1; end < len(text) && text[end] != text[i]; end++ {
		if text[end] == '\\' {
			end++
		}
	}
	end = min(end+1, len(text))
	if v, err := unquoted(text[i:end]); err == nil {
		return v, end
	}
	return text[i:end], end
}

func printPostgres(s *store.Schema) []string {
	var out []string
	for _, n := range s.Namespaces {
		out = append(out, "CREATE SCHEMA "+pgIdent(n))
	}
	var late []string
	made := map[string]bool{}
	for _, t := range s.Tables {
		made[t.QualifiedName()] = true
		now := *t
		now.ForeignKeys = nil
		for _, f := range t.ForeignKeys {
			if made[f.RefTable] {
				now.ForeignKeys = append(now.ForeignKeys, f)
				continue
			}
			late = append(late, "ALTER TABLE "+pgIdent(t.QualifiedName())+" ADD "+pgForeignKey(f))
		}
		out = append(out, pgTable(&now))
		for _, x := range s.IndexesOf(t) {
			if !x.Managed {
				out = append(out, pgIndex(x, t))
			}
		}
	}
	out = append(out, late...)
	for _, c := range s.Streams {
		out = append(out, pgStream(c))
	}
	return append(out, printRoles(s, pgIdent)...)
}

func pgForeignKey(f store.ForeignKey) string {
	text := ""
	if f.Named {
		text = "CONSTRAINT " + pgIdent(f.Name) + " "
	}
	text += fmt.Sprintf("FOREIGN KEY (%s) REFERENCES %s(%s)", pgIdents(f.Columns), pgIdent(f.RefTable), pgIdents(f.RefColumns))
	if f.Cascade {
		text += " ON DELETE CASCADE"
	}
	return text
}

func pgTable(t *store.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (\n", pgIdent(t.QualifiedName()))
	for i := range t.Columns {
		c := &t.Columns[i]
		fmt.Fprintf(&b, "  %s %s", pgIdent(c.Name), pgColumnType(c))
		if c.NotNull {
			b.WriteString(" NOT NULL")
		}
		if c.Default != "" {
			b.WriteString(" DEFAULT (" + pgExpr(c.Default) + ")")
		}
		if c.Generated != "" {
			b.WriteString(" GENERATED ALWAYS AS (" + pgExpr(c.Generated) + ")")
			if c.Virtual {
				b.WriteString(" VIRTUAL")
			} else {
				b.WriteString(" STORED")
			}
		}
		b.WriteString(",\n")
	}
	for _, f := range t.ForeignKeys {
		b.WriteString("  " + pgForeignKey(f) + ",\n")
	}
	for _, c := range t.Checks {
		name := ""
		if c.Named {
			name = "CONSTRAINT " + pgIdent(c.Name) + " "
		}
		fmt.Fprintf(&b, "  %sCHECK(%s),\n", name, pgExpr(c.Text))
	}
	fmt.Fprintf(&b, "  PRIMARY KEY(%s)\n)", pgKey(t, t.Key))
	if t.Parent != "" {
		b.WriteString(" INTERLEAVE IN ")
		if t.ParentEnforced {
			b.WriteString("PARENT ")
		}
		b.WriteString(pgIdent(t.Parent))
		if t.OnDeleteCascade {
			b.WriteString(" ON DELETE CASCADE")
		}
	}
	if t.RowDeletion != "" {
		var column, days string
		rest := strings.TrimPrefix(strings.ReplaceAll(t.RowDeletion, "`", ""), "OLDER_THAN(")
		column, rest, _ = strings.Cut(rest, ", INTERVAL ")
		days, _, _ = strings.Cut(rest, " DAY)")
		fmt.Fprintf(&b, " TTL INTERVAL '%s days' ON %s", days, pgIdent(column))
	}
	return b.String()
}

func pgKey(t *store.Table, key []store.KeyPart) string {
	parts := make([]string, len(key))
	for i, k := range key {
		parts[i] = pgIdent(t.Columns[k.Column].Name)
		if k.Desc {
			parts[i] += " DESC"
		}
	}
	return strings.Join(parts, ", ")
}

func pgIndex(x *store.Index, t *store.Table) string {
	var b strings.Builder
	b.WriteString("CREATE ")
	if x.Unique {
		b.WriteString("UNIQUE ")
	}
	fmt.Fprintf(&b, "INDEX %s ON %s (%s)", pgIdent(x.QualifiedName()), pgIdent(x.Table), pgKey(t, x.Key))
	if len(x.Storing) > 0 {
		names := make([]string, len(x.Storing))
		for i, c := range x.Storing {
			names[i] = t.Columns[c].Name
		}
		b.WriteString(" INCLUDE (" + pgIdents(names) + ")")
	}
	if x.InterleaveIn != "" {
		b.WriteString(" INTERLEAVE IN " + pgIdent(x.InterleaveIn))
	}
	if x.NullFiltered {
		parts := make([]string, len(x.Key))
		for i, k := range x.Key {
			parts[i] = pgIdent(t.Columns[k.Column].Name) + " IS NOT NULL"
		}
		b.WriteString(" WHERE " + strings.Join(parts, " AND "))
	}
	return b.String()
}

func pgStream(c *store.ChangeStream) string {
	text := "CREATE CHANGE STREAM " + pgIdent(c.Name)
	switch {
	case c.All:
		text += "\n  FOR ALL"
	case len(c.Watch) > 0:
		parts := make([]string, len(c.Watch))
		for i, w := range c.Watch {
			parts[i] = pgIdent(w.Table)
			if !w.AllColumns {
				parts[i] += "(" + pgIdents(w.Columns) + ")"
			}
		}
		text += "\n  FOR " + strings.Join(parts, ", ")
	}
	if len(c.Options) == 0 {
		return text
	}
	opts := make([]string, len(c.Options))
	for i, o := range c.Options {
		value := o.Value
		if value != "true" && value != "false" {
			value = "'" + strings.ReplaceAll(value, "'", "''") + "'"
		}
		opts[i] = o.Name + " = " + value
	}
	return text + "\n  WITH (" + strings.Join(opts, ", ") + ")"
}

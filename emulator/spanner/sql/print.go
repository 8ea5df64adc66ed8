package sql

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/token"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func quoted(name string) string {
	parts := strings.Split(name, ".")
	for i := range parts {
		parts[i] = token.QuoteSQLIdent(parts[i])
	}
	return strings.Join(parts, ".")
}

// PrintDDL writes the statements that would make the schema, as GetDatabaseDdl answers them, each after what it needs:
// proto bundle, schemas, sequences, tables with their indexes, foreign keys that refer to later tables, views, change streams,
// roles and what they are granted.
func PrintDDL(s *store.Schema) []string {
	if s.Postgres {
		return printPostgres(s)
	}
	var out []string
	if s.Protos != nil {
		out = append(out, printProtos(s.Protos))
	}
	for _, n := range s.Namespaces {
		out = append(out, "CREATE SCHEMA "+quoted(n))
	}
	for _, q := range s.Sequences {
		out = append(out, printSequence(q))
	}
	for _, p := range s.Placements {
		out = append(out, printPlacement(p))
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
			late = append(late, "ALTER TABLE "+quoted(t.QualifiedName())+" ADD "+printForeignKey(f))
		}
		out = append(out, printTable(&now))
		for _, x := range s.IndexesOf(t) {
			if !x.Managed {
				out = append(out, printIndex(x, t))
			}
		}
	}
	out = append(out, late...)
	for _, v := range s.Views {
		security := "INVOKER"
		if v.Definer {
			security = "DEFINER"
		}
		out = append(out, "CREATE VIEW "+quoted(v.QualifiedName())+" SQL SECURITY "+security+" AS "+v.Query)
	}
	for _, c := range s.Streams {
		out = append(out, printStream(c))
	}
	return append(out, printRoles(s, quoted)...)
}

// PrintOptions writes the ALTER DATABASE statements that would set the database options, in the order of their names.
func PrintOptions(database string, s *store.Schema) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.Options)) {
		if s.Postgres {
			out = append(out, fmt.Sprintf("ALTER DATABASE %s SET \"spanner.%s\" = %s", pgIdent(database), name, pgExpr(s.Options[name])))
			continue
		}
		out = append(out, fmt.Sprintf("ALTER DATABASE `%s` SET OPTIONS (%s = %s)", database, name, s.Options[name]))
	}
	return out
}

func printSequence(q *store.Sequence) string {
	text := "CREATE SEQUENCE " + quoted(q.QualifiedName())
	if len(q.Options) == 0 {
		return text
	}
	opts := make([]string, len(q.Options))
	for i, o := range q.Options {
		opts[i] = "\n    " + o.Name + " = " + o.Value
		if o.Name == "sequence_kind" {
			opts[i] = "\n    " + o.Name + " = " + token.QuoteSQLString(o.Value)
		}
	}
	return text + " OPTIONS (" + strings.Join(opts, ",") + "\n  )"
}

func constraintName(name string, named bool) string {
	if !named {
		return ""
	}
	return "CONSTRAINT " + quoted(name) + " "
}

func printForeignKey(f store.ForeignKey) string {
	text := constraintName(f.Name, f.Named) + fmt.Sprintf("FOREIGN KEY(%s) REFERENCES %s(%s)", quotedList(f.Columns), quoted(f.RefTable), quotedList(f.RefColumns))
	if f.Cascade {
		text += " ON DELETE CASCADE"
	}
	if f.NotEnforced {
		text += " NOT ENFORCED"
	}
	return text
}

func printTable(t *store.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (\n", quoted(t.QualifiedName()))
	for i := range t.Columns {
		c := &t.Columns[i]
		fmt.Fprintf(&b, "  %s %s", quoted(c.Name), columnTypeName(c))
		if c.NotNull {
			b.WriteString(" NOT NULL")
		}
		if c.Default != "" {
			fmt.Fprintf(&b, " DEFAULT (%s)", c.Default)
		}
		if c.Generated != "" {
			fmt.Fprintf(&b, " AS (%s)", c.Generated)
			if !c.Virtual {
				b.WriteString(" STORED")
			}
		}
		if c.Identity != nil {
			b.WriteString(" " + identityText(c.Identity))
		}
		if c.PlacementKey {
			b.WriteString(" PLACEMENT KEY")
		}
		if c.Hidden {
			b.WriteString(" HIDDEN")
		}
		if c.AllowCommitTimestamp {
			b.WriteString(" OPTIONS (\n    allow_commit_timestamp = true\n  )")
		}
		b.WriteString(",\n")
	}
	for _, f := range t.ForeignKeys {
		b.WriteString("  " + printForeignKey(f) + ",\n")
	}
	for _, c := range t.Checks {
		fmt.Fprintf(&b, "  %sCHECK(%s),\n", constraintName(c.Name, c.Named), c.Text)
	}
	fmt.Fprintf(&b, ") PRIMARY KEY(%s)", printKey(t, t.Key))
	if t.Parent != "" {
		b.WriteString(",\n  INTERLEAVE IN ")
		if t.ParentEnforced {
			b.WriteString("PARENT ")
		}
		b.WriteString(quoted(t.Parent))
		if t.OnDeleteCascade {
			b.WriteString(" ON DELETE CASCADE")
		}
	}
	if t.RowDeletion != "" {
		b.WriteString(",\n  ROW DELETION POLICY (" + t.RowDeletion + ")")
	}
	return b.String()
}

func quotedList(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quoted(n)
	}
	return strings.Join(out, ", ")
}

func printKey(t *store.Table, key []store.KeyPart) string {
	parts := make([]string, len(key))
	for i, k := range key {
		parts[i] = quoted(t.Columns[k.Column].Name)
		if k.Desc {
			parts[i] += " DESC"
		}
	}
	return strings.Join(parts, ", ")
}

func printIndex(x *store.Index, t *store.Table) string {
	var b strings.Builder
	b.WriteString("CREATE ")
	if x.Unique {
		b.WriteString("UNIQUE ")
	}
	if x.NullFiltered {
		b.WriteString("NULL_FILTERED ")
	}
	fmt.Fprintf(&b, "INDEX %s ON %s(%s)", quoted(x.QualifiedName()), quoted(x.Table), printKey(t, x.Key))
	if len(x.Storing) > 0 {
		names := make([]string, len(x.Storing))
		for i, c := range x.Storing {
			names[i] = quoted(t.Columns[c].Name)
		}
		fmt.Fprintf(&b, " STORING (%s)", strings.Join(names, ", "))
	}
	if x.InterleaveIn != "" {
		b.WriteString(", INTERLEAVE IN " + quoted(x.InterleaveIn))
	}
	return b.String()
}

func printStream(c *store.ChangeStream) string {
	var b strings.Builder
	b.WriteString("CREATE CHANGE STREAM " + quoted(c.Name))
	switch {
	case c.All:
		b.WriteString("\n  FOR ALL")
	case len(c.Watch) > 0:
		parts := make([]string, len(c.Watch))
		for i, w := range c.Watch {
			parts[i] = quoted(w.Table)
			if !w.AllColumns {
				cols := make([]string, len(w.Columns))
				for j, col := range w.Columns {
					cols[j] = quoted(col)
				}
				parts[i] += "(" + strings.Join(cols, ", ") + ")"
			}
		}
		b.WriteString("\n  FOR " + strings.Join(parts, ", "))
	}
	if len(c.Options) > 0 {
		opts := slices.Clone(c.Options)
		slices.SortFunc(opts, func(a, b store.Option) int { return strings.Compare(a.Name, b.Name) })
		parts := make([]string, len(opts))
		for i, o := range opts {
			parts[i] = "\n    " + o.Name + " = " + o.Value
			if o.Value != "true" && o.Value != "false" {
				parts[i] = "\n    " + o.Name + " = " + token.QuoteSQLString(o.Value)
			}
		}
		b.WriteString("\n  OPTIONS (" + strings.Join(parts, ",") + "\n  )")
	}
	return b.String()
}

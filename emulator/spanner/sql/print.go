package sql

import (
	"fmt"
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

// PrintDDL writes the statements that would make the schema, as GetDatabaseDdl answers them: schemas, tables each with
// their indexes, change streams, database options.
func PrintDDL(s *store.Schema) []string {
	var out []string
	for _, n := range s.Namespaces {
		out = append(out, "CREATE SCHEMA "+quoted(n))
	}
	for _, t := range s.Tables {
		out = append(out, printTable(t))
		for _, x := range s.IndexesOf(t) {
			out = append(out, printIndex(x, t))
		}
	}
	for _, c := range s.Streams {
		out = append(out, printStream(c))
	}
	return out
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
			fmt.Fprintf(&b, " AS (%s) STORED", c.Generated)
		}
		if c.Hidden {
			b.WriteString(" HIDDEN")
		}
		if c.AllowCommitTimestamp {
			b.WriteString(" OPTIONS (\n    allow_commit_timestamp = true\n  )")
		}
		b.WriteString(",\n")
	}
	for _, c := range t.Constraints {
		fmt.Fprintf(&b, "  %s,\n", c)
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

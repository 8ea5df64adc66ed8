package differential

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// tableModel is what the generator knows of a table.
type tableModel struct {
	name    string
	parent  *tableModel
	cascade bool
	columns []*columnModel
	key     []*columnModel
	desc    []bool
	foreign []string         // constraints
	rows    map[string][]any // keys that are probably there, by their text
}

type columnModel struct {
	name      string
	typ       columnType
	notNull   bool
	def       string // the literal of its default
	generated string // its expression
	virtual   bool   // generated when read, not stored
	commitTS  bool
	refers    *tableModel // whose one-part key it refers to by a foreign key
}

func (c *columnModel) String() string {
	s := c.name + " " + c.typ.String()
	if c.notNull {
		s += " NOT NULL"
	}
	if c.def != "" {
		s += " DEFAULT (" + c.def + ")"
	}
	if c.generated != "" {
		s += " AS (" + c.generated + ")"
		if !c.virtual {
			s += " STORED"
		}
	}
	if c.commitTS {
		s += " OPTIONS (allow_commit_timestamp = true)"
	}
	return s
}

// String is the CREATE TABLE statement.
func (t *tableModel) String() string {
	columns := make([]string, len(t.columns))
	for i, c := range t.columns {
		columns[i] = c.String()
	}
	key := make([]string, len(t.key))
	for i, c := range t.key {
		key[i] = c.name
		if t.desc[i] {
			key[i] += " DESC"
		}
	}
	columns = append(columns, t.foreign...)
	s := fmt.Sprintf("CREATE TABLE %s (%s) PRIMARY KEY (%s)", t.name, strings.Join(columns, ", "), strings.Join(key, ", "))
	if t.parent != nil {
		s += ", INTERLEAVE IN PARENT " + t.parent.name
		if t.cascade {
			s += " ON DELETE CASCADE"
		}
	}
	return s
}

// writable are the non-key columns that may be written, watchable those a change stream may list.
func (t *tableModel) writable() []*columnModel {
	return slices.DeleteFunc(slices.Clone(t.columns), func(c *columnModel) bool { return c.generated != "" || slices.Contains(t.key, c) })
}

// givenKey are the key columns a writer gives: those that are not generated.
func (t *tableModel) givenKey() []*columnModel {
	return slices.DeleteFunc(slices.Clone(t.key), func(c *columnModel) bool { return c.generated != "" })
}

func names(columns []*columnModel) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.name
	}
	return out
}

// generator draws a history. It keeps a rough idea of the schema and of which rows exist, so that most of what it draws is
// accepted; exactly how rough does not matter, for both servers are asked.
type generator struct {
	*rapid.T
	tables  []*tableModel
	streams []string
	made    int  // names given
	refused bool // draws what DDL always refuses, too
}

// below draws from 0 to n-1, each as likely. rapid's own integers and choices lean to the small, where few rows meet and little
// happens; these become small only when a failure is made small.
func (g *generator) below(n int, label string) int {
	for {
		v := 0
		for range bits.Len(uint(n - 1)) {
			v <<= 1
			if rapid.Bool().Draw(g.T, label) {
				v++
			}
		}
		if v < n {
			return v
		}
	}
}

func (g *generator) between(from, to int, label string) int { return from + g.below(to-from+1, label) }

func (g *generator) chance(percent int, label string) bool { return g.below(100, label) >= 100-percent }

func pick[E any](g *generator, of []E, label string) E { return of[g.below(len(of), label)] }

func (g *generator) name(prefix string) string {
	g.made++
	return fmt.Sprintf("%s%d", prefix, g.made)
}

// some draws a subset in the order of the whole.
func some[E any](g *generator, of []E, label string) []E {
	var out []E
	for _, e := range of {
		if g.chance(50, label) {
			out = append(out, e)
		}
	}
	return out
}

// column draws a column for t.
func (g *generator) column(t *tableModel) *columnModel {
	c := &columnModel{name: g.name("C"), typ: g.drawType()}
	switch kind := g.between(0, 9, "column"); {
	case kind == 9 && !c.typ.array && len(t.givenKey()) == len(t.key): // else see the deviation "generated key"
		c.def = g.defaultOf(c)
	case kind == 8:
		c.typ, c.commitTS = columnType{base: "TIMESTAMP"}, true
	case kind == 7:
		c.notNull = true
	}
	return c
}

// defaultOf draws a default that fits: Google's emulator adds columns whose default does not to tables with rows.
func (g *generator) defaultOf(c *columnModel) string {
	all := samples[c.typ.base]
	if c.typ.length == "8" {
		all = slices.DeleteFunc(slices.Clone(all), func(v any) bool { return len(v.(string)) > 8 })
	}
	return literal(c.typ, pick(g, all, "default"))
}

func (g *generator) table() *tableModel {
	t := &tableModel{name: g.name("T"), rows: map[string][]any{}}
	if last := len(g.tables) - 1; last >= 0 && g.chance(50, "interleave") {
		t.parent = g.tables[last]
		if g.chance(30, "another parent") {
			t.parent = pick(g, g.tables, "parent")
		}
		t.cascade = g.chance(85, "cascade")
		for i, c := range t.parent.key {
			same := *c
			t.columns, t.key, t.desc = append(t.columns, &same), append(t.key, &same), append(t.desc, t.parent.desc[i])
		}
	}
	for range g.between(1, 2, "key columns") {
		c := &columnModel{name: g.name("K"), typ: g.drawKeyType(), notNull: g.chance(20, "not null")}
		if c.typ.base == "TIMESTAMP" && g.chance(30, "commit timestamp") {
			c.commitTS = true
		}
		t.columns, t.key, t.desc = append(t.columns, c), append(t.key, c), append(t.desc, g.chance(20, "desc"))
		if len(t.key) > 2 {
			break
		}
	}
	if last := t.key[len(t.key)-1]; last.typ.base == "INT64" && g.chance(10, "generated key") {
		c := &columnModel{name: g.name("K"), typ: columnType{base: "INT64"}, generated: "MOD(" + last.name + ", 2)"}
		t.columns, t.key, t.desc = append(t.columns, c), append(t.key, c), append(t.desc, false)
	}
	for range g.between(0, 4, "columns") {
		c := g.column(t)
		t.columns = append(t.columns, c)
		if c.typ.array || c.commitTS || !g.chance(20, "generated") {
			continue
		}
		switch c.typ.base {
		case "INT64":
			t.columns = append(t.columns, &columnModel{name: g.name("G"), typ: c.typ, generated: "MOD(" + c.name + ", 7) + 1", virtual: g.chance(30, "virtual")})
		case "STRING":
			t.columns = append(t.columns, &columnModel{name: g.name("G"), typ: columnType{base: "STRING", length: "MAX"},
				generated: "CONCAT(" + c.name + ", \"!\")", virtual: g.chance(30, "virtual")})
		}
	}
	if g.chance(25, "foreign key") {
		g.foreignKey(t)
	}
	return t
}

// foreignKey gives t a column that refers to another table.
func (g *generator) foreignKey(t *tableModel) {
	to := slices.DeleteFunc(slices.Clone(g.tables), func(x *tableModel) bool { return len(x.key) > 1 || x.key[0].commitTS })
	if len(to) == 0 {
		return
	}
	c := &columnModel{name: g.name("R"), refers: pick(g, to, "referenced table")}
	c.typ = c.refers.key[0].typ
	t.columns = append(t.columns, c)
	t.foreign = append(t.foreign, fmt.Sprintf("CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)%s", g.name("F"), c.name, c.refers.name, c.refers.key[0].name,
		pick(g, []string{" ON DELETE CASCADE", " ON DELETE CASCADE", ""}, "on delete")))
}

var captureTypes = []string{"OLD_AND_NEW_VALUES", "NEW_VALUES", "NEW_ROW", "NEW_ROW_AND_OLD_VALUES"}

// watchList draws a FOR clause, or "".
func (g *generator) watchList() string {
	switch g.between(0, 9, "watch") {
	case 0, 1, 2, 3, 4:
		return " FOR ALL"
	case 5:
		return ""
	}
	var parts []string
	for _, t := range g.tables {
		columns := t.writable()
		switch g.between(0, 4, "watch table") {
		case 0:
		case 1:
			parts = append(parts, t.name+"()")
		case 2, 3:
			parts = append(parts, t.name)
		default:
			if g.refused && g.chance(5, "a column that must not be listed") {
				columns = t.columns
			}
			parts = append(parts, t.name+"("+strings.Join(names(some(g, columns, "watch column")), ", ")+")")
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " FOR " + strings.Join(parts, ", ")
}

func (g *generator) streamOptions() string {
	periods := []string{"1d", "36h", "7d"}
	if g.refused {
		periods = append(periods, "1h", "x")
	}
	var opts []string
	if g.chance(75, "capture") {
		opts = append(opts, fmt.Sprintf("value_capture_type = '%s'", pick(g, captureTypes, "capture type")))
	}
	for _, name := range []string{"exclude_insert", "exclude_update", "exclude_delete", "exclude_ttl_deletes"} {
		if g.chance(10, name) {
			opts = append(opts, name+" = "+pick(g, []string{"true", "true", "false"}, "flag"))
		}
	}
	if g.chance(10, "retention") {
		opts = append(opts, "retention_period = '"+pick(g, periods, "period")+"'")
	}
	if len(opts) == 0 {
		return ""
	}
	return " OPTIONS (" + strings.Join(opts, ", ") + ")"
}

func (g *generator) stream() string {
	name := g.name("S")
	g.streams = append(g.streams, name)
	return "CREATE CHANGE STREAM " + name + g.watchList() + g.streamOptions()
}

// schema draws the first step. What is always refused has its place in schema changes: here it would end the history at once.
func (g *generator) schema() step {
	s := step{kind: create}
	for range g.between(1, 4, "tables") {
		t := g.table()
		g.tables = append(g.tables, t)
		s.statements = append(s.statements, t.String())
	}
	for range g.between(1, 3, "streams") {
		s.statements = append(s.statements, g.stream())
	}
	if g.chance(10, "index") {
		s.statements = append(s.statements, g.index())
	}
	g.refused = true
	return s
}

func (g *generator) index() string {
	t := pick(g, g.tables, "table")
	kind := pick(g, []string{"", "", "NULL_FILTERED ", "UNIQUE "}, "index")
	columns := slices.DeleteFunc(slices.Clone(t.columns), func(c *columnModel) bool { return c.typ.array || c.typ.base == "JSON" })
	return fmt.Sprintf("CREATE %sINDEX %s ON %s(%s)", kind, g.name("I"), t.name, pick(g, columns, "column").name)
}

// schemaChange draws one statement and takes it that it is accepted.
func (g *generator) schemaChange() step {
	t := pick(g, g.tables, "table")
	var text string
	switch g.between(0, 11, "schema change") {
	case 0, 1, 2:
		c := g.column(t)
		t.columns = append(t.columns, c)
		text = "ALTER TABLE " + t.name + " ADD COLUMN " + c.String()
	case 3:
		columns := slices.DeleteFunc(slices.Clone(t.columns), func(c *columnModel) bool { return slices.Contains(t.key, c) })
		if len(columns) == 0 {
			return g.schemaChange()
		}
		c := pick(g, columns, "column")
		t.columns = slices.DeleteFunc(t.columns, func(x *columnModel) bool { return x == c })
		text = "ALTER TABLE " + t.name + " DROP COLUMN " + c.name
	case 4:
		columns := t.writable()
		if len(columns) == 0 {
			return g.schemaChange()
		}
		text = g.alterColumn(t, pick(g, columns, "column"))
	case 5:
		t = g.table()
		g.tables = append(g.tables, t)
		text = t.String()
	case 6:
		text = g.index()
	case 7:
		if t.name = strings.Clone(t.name); len(g.tables) > 1 && g.chance(50, "drop table") {
			g.tables = slices.DeleteFunc(g.tables, func(x *tableModel) bool { return x == t })
			return step{kind: ddl, statements: []string{"DROP TABLE " + t.name}}
		}
		text = g.stream()
	case 8:
		text = g.stream()
	default:
		text = g.alterStream()
	}
	return step{kind: ddl, statements: []string{text}}
}

func (g *generator) alterColumn(t *tableModel, c *columnModel) string {
	prefix := "ALTER TABLE " + t.name + " ALTER COLUMN " + c.name + " "
	switch g.between(0, 4, "alter column") {
	case 0:
		if c.typ.array || len(t.givenKey()) < len(t.key) {
			return prefix + "DROP DEFAULT"
		}
		c.def = g.defaultOf(c)
		return prefix + "SET DEFAULT (" + c.def + ")"
	case 1:
		c.def = ""
		return prefix + "DROP DEFAULT"
	case 2:
		if c.typ.base == "TIMESTAMP" && !c.typ.array {
			c.commitTS = !c.commitTS
			return fmt.Sprintf("%sSET OPTIONS (allow_commit_timestamp = %t)", prefix, c.commitTS)
		}
	case 3:
		switch { // between arrays of the two Spanner's documentation knows no change
		case c.typ.base == "STRING" && !c.typ.array:
			c.typ.base = "BYTES"
		case c.typ.base == "BYTES" && !c.typ.array:
			c.typ.base = "STRING"
		default:
			c.notNull = !c.notNull
		}
	default:
		c.notNull = !c.notNull
	}
	s := prefix + c.typ.String()
	if c.notNull {
		s += " NOT NULL"
	}
	if c.def != "" {
		s += " DEFAULT (" + c.def + ")"
	}
	return s
}

func (g *generator) alterStream() string {
	name := "S0" // which is not there
	if len(g.streams) > 0 && !g.chance(3, "unknown stream") {
		name = pick(g, g.streams, "stream")
	}
	switch g.between(0, 9, "alter stream") {
	case 0:
		return "ALTER CHANGE STREAM " + name + " DROP FOR ALL"
	case 1:
		g.streams = slices.DeleteFunc(g.streams, func(s string) bool { return s == name })
		return "DROP CHANGE STREAM " + name
	case 2, 3, 4, 5:
		if watch := g.watchList(); watch != "" {
			return "ALTER CHANGE STREAM " + name + " SET" + watch
		}
	}
	opts := g.streamOptions()
	if opts == "" {
		opts = " OPTIONS (value_capture_type = 'NEW_ROW')"
	}
	return "ALTER CHANGE STREAM " + name + " SET" + opts
}

// snapshot and restore keep what the generator thinks of the rows over a transaction that comes to nothing.
func (g *generator) snapshot() []map[string][]any {
	var out []map[string][]any
	for _, t := range g.tables {
		out = append(out, maps.Clone(t.rows))
	}
	return out
}

func (g *generator) restore(rows []map[string][]any) {
	for i, r := range rows {
		g.tables[i].rows = r
	}
}

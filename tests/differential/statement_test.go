package differential

import (
	"fmt"
	"slices"
	"strings"
)

// statement draws a statement of its own: DML, or a query that shows what the transaction sees.
func (g *generator) statement() op {
	if g.chance(12, "query") {
		t := pick(g, g.tables, "table")
		return op{kind: query, sql: fmt.Sprintf("SELECT * FROM %s ORDER BY %s", t.name, strings.Join(names(t.key), ", "))}
	}
	return op{kind: sql, sql: g.dml()}
}

// dml draws an INSERT, UPDATE or DELETE.
func (g *generator) dml() string {
	t := g.target()
	switch n := g.below(20, "statement"); {
	case n < 7:
		return g.insertStatement(t)
	case n == 7:
		return g.copyStatement(t)
	case n < 16:
		return g.updateStatement(t) + g.returning(t, "")
	}
	where, key := g.where(t, 10)
	if key != nil {
		g.gone(t, key)
	}
	return "DELETE FROM " + t.name + " WHERE " + where + g.returning(t, "")
}

// returning draws THEN RETURN of columns that can be read at once: a pending commit timestamp cannot.
func (g *generator) returning(t *tableModel, action string) string {
	if !g.chance(20, "returning") {
		return ""
	}
	columns := slices.DeleteFunc(slices.Clone(t.columns), func(c *columnModel) bool { return c.commitTS && !g.chance(4, "return a commit timestamp") })
	if columns = some(g, columns, "return column"); len(columns) == 0 {
		return ""
	}
	if action != "" && g.chance(50, "with action") {
		action = " WITH ACTION"
	} else {
		action = ""
	}
	return " THEN RETURN" + action + " " + strings.Join(names(columns), ", ")
}

func (g *generator) insertStatement(t *tableModel) string {
	verb := pick(g, []string{"INSERT", "INSERT", "INSERT OR UPDATE", "INSERT OR IGNORE"}, "verb")
	columns := g.written(t, true)
	if verb == "INSERT OR UPDATE" {
		columns = t.writable() // the official emulator resets the unlisted columns of a row that is there; see the deviation "upsert"
	}
	all := append(t.givenKey(), columns...)
	pending := map[*columnModel]bool{} // the commit timestamp is for all rows of a statement or for none
	for _, c := range all {
		// Google's emulator does not know that such a key is there, and INSERT OR IGNORE fails.
		ignored := verb == "INSERT OR IGNORE" && slices.Contains(t.key, c)
		pending[c] = c.commitTS && !ignored && g.chance(50, "commit timestamp")
	}
	var rows []string
	for range g.between(1, 3, "rows") {
		key := g.key(t, verb != "INSERT" && g.chance(60, "present"))
		t.rows[listText(key)] = key
		var values []string
		for i, c := range all {
			var v any
			if i < len(key) {
				v = key[i]
			} else {
				v = g.value(c)
			}
			switch {
			case pending[c] != (c.commitTS && verb == "INSERT" && g.chance(2, "mixed")):
				v = commitTimestamp
			case v == commitTimestamp:
				v = samples["TIMESTAMP"][0]
			case i >= len(key) && c.def != "" && g.chance(20, "default"):
				values = append(values, "DEFAULT")
				continue
			}
			values = append(values, g.expression(c, v))
		}
		rows = append(rows, "("+strings.Join(values, ", ")+")")
	}
	return fmt.Sprintf("%s INTO %s (%s) VALUES %s", verb, t.name, strings.Join(names(all), ", "), strings.Join(rows, ", ")) + g.returning(t, verb)
}

// copyStatement writes a table's rows again, or gives every row of the parent a child.
func (g *generator) copyStatement(t *tableModel) string {
	all := append(t.givenKey(), t.writable()...)
	if t.parent == nil || g.chance(50, "same table") {
		list := strings.Join(names(all), ", ")
		return fmt.Sprintf("%s INTO %s (%s) SELECT %s FROM %s WHERE TRUE", pick(g, []string{"INSERT OR UPDATE", "INSERT OR IGNORE"}, "verb"), t.name, list, list, t.name)
	}
	var columns, values []string
	for i, c := range t.givenKey() {
		columns = append(columns, c.name)
		if i < len(t.parent.key) {
			values = append(values, c.name)
			continue
		}
		values = append(values, literal(c.typ, samples[c.typ.base][g.below(2, "value")]))
	}
	for _, c := range t.writable() {
		if c.notNull && c.def == "" {
			columns, values = append(columns, c.name), append(values, literal(c.typ, g.drawValue(c.typ, true)))
		}
	}
	return fmt.Sprintf("%s INTO %s (%s) SELECT %s FROM %s", pick(g, []string{"INSERT", "INSERT OR IGNORE"}, "verb"), t.name,
		strings.Join(columns, ", "), strings.Join(values, ", "), t.parent.name)
}

func (g *generator) expression(c *columnModel, v any) string {
	if v == commitTimestamp {
		return "PENDING_COMMIT_TIMESTAMP()"
	}
	return literal(c.typ, v)
}

// where draws a condition, all rows in so many of a hundred cases, and the key it names if it does.
func (g *generator) where(t *tableModel, all int) (string, []any) {
	if g.chance(all, "all rows") {
		return "TRUE", nil
	}
	key := g.key(t, true)
	var parts []string
	for i, c := range t.givenKey() {
		switch key[i] {
		case nil:
			parts = append(parts, c.name+" IS NULL")
		case commitTimestamp:
			parts = append(parts, c.name+" IS NOT NULL")
		default:
			parts = append(parts, c.name+" = "+literal(c.typ, key[i]))
		}
	}
	return strings.Join(parts, " AND "), key
}

func (g *generator) updateStatement(t *tableModel) string {
	columns := t.writable()
	where, _ := g.where(t, 30)
	if len(columns) == 0 {
		return "DELETE FROM " + t.name + " WHERE " + where
	}
	first := g.below(len(columns), "first column")
	var sets []string
	for i, c := range columns {
		if i != first && !g.chance(25, "set column") {
			continue
		}
		sets = append(sets, c.name+" = "+g.assignment(c))
	}
	return "UPDATE " + t.name + " SET " + strings.Join(sets, ", ") + " WHERE " + where
}

// assignment draws what an UPDATE sets a column to.
func (g *generator) assignment(c *columnModel) string {
	switch n := g.below(10, "set"); {
	case n == 9:
		return c.name // no change of value, but a write
	case n == 8 && c.typ.String() == "INT64" && c.refers == nil:
		return "MOD(" + c.name + ", 5) + 1"
	case n == 8 && c.typ.base == "STRING" && !c.typ.array:
		return "CONCAT(" + c.name + ", \"+\")"
	case n == 7 && c.def != "":
		return "DEFAULT"
	}
	return g.expression(c, g.value(c))
}

func (g *generator) partitioned() string {
	t := g.target()
	if g.chance(30, "delete") {
		where, key := g.where(t, 10)
		if key != nil {
			g.gone(t, key)
		}
		return "DELETE FROM " + t.name + " WHERE " + where
	}
	return g.updateStatement(t)
}

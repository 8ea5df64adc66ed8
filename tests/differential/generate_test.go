package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// histories draws whole histories.
func histories() *rapid.Generator[history] {
	return rapid.Custom(func(t *rapid.T) history {
		g := &generator{T: t}
		h := history{g.schema()}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch n := rapid.IntRange(0, 19).Draw(t, "step"); {
			case n >= 16:
				h = append(h, g.schemaChange())
			case n == 15:
				h = append(h, step{kind: partitioned, statements: []string{g.partitioned()}})
			default:
				h = append(h, g.transaction())
			}
		}
		return h
	})
}

func (g *generator) transaction() step {
	s := step{kind: commit}
	switch rapid.IntRange(0, 9).Draw(g.T, "transaction") {
	case 8:
		s.kind = once
	case 9:
		s.kind = rollback
	}
	if g.chance(20, "tag") {
		s.tag = pick(g, []string{"a tag", "app=shop", "ä"}, "tag")
	}
	before := g.snapshot()
	for range rapid.IntRange(1, 5).Draw(g.T, "operations") {
		if s.kind != once && g.chance(45, "statement") {
			s.ops = append(s.ops, g.statement())
		} else {
			s.ops = append(s.ops, g.mutation())
		}
	}
	if s.kind == rollback {
		g.restore(before)
	}
	return s
}

// absent draws a key of t that is probably not there (but whose parent is), present one that probably is.
func (g *generator) absent(t *tableModel) []any {
	var key []any
	if t.parent != nil && !g.chance(5, "orphan") {
		key = append(key, g.present(t.parent)...)
	}
	for _, c := range t.givenKey()[len(key):] {
		v := drawKey(g.T, c.typ)
		if v == nil && c.notNull {
			v = samples[c.typ.base][0]
		}
		if c.commitTS && v != nil && g.chance(30, "commit timestamp") {
			v = commitTimestamp
		}
		key = append(key, v)
	}
	return key
}

func (g *generator) present(t *tableModel) []any {
	if len(t.rows) == 0 {
		return g.absent(t)
	}
	return t.rows[pick(g, slices.Sorted(maps.Keys(t.rows)), "row")]
}

func (g *generator) key(t *tableModel, present bool) []any {
	if present != g.chance(7, "other key") {
		return g.present(t)
	}
	key := g.absent(t)
	for range 3 {
		if _, there := t.rows[listText(key)]; !there {
			break
		}
		key = g.absent(t)
	}
	return key
}

const commitTimestamp = "spanner.commit_timestamp()"

// row draws values for some of t's non-key columns: for all that must be given if the row may be new.
func (g *generator) row(t *tableModel, isNew bool) (columns []*columnModel, values []any) {
	for _, c := range t.writable() {
		if must := isNew && c.notNull && c.def == ""; !must && !g.chance(60, "write column") {
			continue
		}
		v := drawValue(g.T, c.typ, c.notNull)
		if c.commitTS && g.chance(70, "commit timestamp") {
			v = commitTimestamp
		}
		columns, values = append(columns, c), append(values, v)
	}
	return columns, values
}

func (g *generator) mutation() op {
	t := pick(g, g.tables, "table")
	kind := pick(g, []opKind{insert, insert, update, update, upsert, upsert, replace, remove, remove, span, clear}, "mutation")
	o := op{kind: kind, table: t.name, columns: names(t.givenKey())}
	switch kind {
	case clear:
		o.columns, t.rows = nil, map[string][]any{}
	case span:
		o.columns, o.bounds = nil, pick(g, []string{"[]", "[)", "(]", "()"}, "bounds")
		n := rapid.IntRange(1, len(t.key)).Draw(g.T, "prefix")
		from, to := g.whole(t, g.key(t, true))[:n], g.whole(t, g.key(t, false))[:n]
		// The official emulator refuses ranges whose ends differ before the last part, and never returns from one whose end is
		// before its start.
		copy(to, from[:n-1])
		if !ordered(t.key[n-1].typ, from[n-1], to[n-1], t.desc[n-1]) {
			from, to = to, from
		}
		if from[n-1] == to[n-1] {
			o.bounds = "[]"
		}
		o.values = []string{listText(from), listText(to)}
	case remove:
		o.columns = names(t.key)
		for range rapid.IntRange(1, 2).Draw(g.T, "keys") {
			key := g.key(t, true)
			delete(t.rows, listText(key))
			o.values = append(o.values, listText(g.whole(t, key)))
		}
	default:
		isNew := kind != update
		present := kind == update || kind == upsert && g.chance(50, "present") || kind == replace && g.chance(50, "present")
		columns, _ := g.row(t, isNew)
		o.columns = append(o.columns, names(columns)...)
		for range rapid.IntRange(1, 3).Draw(g.T, "rows") {
			row := g.key(t, present)
			t.rows[listText(row)] = row
			row = slices.Clone(row)
			for _, c := range columns {
				v := drawValue(g.T, c.typ, c.notNull)
				if c.commitTS && g.chance(70, "commit timestamp") {
					v = commitTimestamp
				}
				row = append(row, v)
			}
			o.values = append(o.values, listText(row))
		}
	}
	return o
}

// whole adds the generated part of a key, which only a key set names.
func (g *generator) whole(t *tableModel, key []any) []any {
	if len(key) == len(t.key) {
		return slices.Clone(key)
	}
	return append(slices.Clone(key), pick(g, []any{"0", "1"}, "generated part"))
}

func (g *generator) statement() op {
	t := pick(g, g.tables, "table")
	switch rapid.IntRange(0, 9).Draw(g.T, "statement") {
	case 0, 1, 2:
		return op{kind: sql, sql: g.insertStatement(t)}
	case 3, 4, 5, 6:
		return op{kind: sql, sql: g.updateStatement(t) + g.returning(t)}
	case 7, 8:
		where, key := g.where(t)
		if key != nil {
			delete(t.rows, listText(key))
		}
		return op{kind: sql, sql: "DELETE FROM " + t.name + " WHERE " + where + g.returning(t)}
	}
	return op{kind: query, sql: fmt.Sprintf("SELECT * FROM %s ORDER BY %s", t.name, strings.Join(names(t.key), ", "))}
}

func (g *generator) returning(t *tableModel) string {
	if !g.chance(10, "returning") {
		return ""
	}
	return " THEN RETURN " + strings.Join(names(t.key), ", ")
}

func (g *generator) insertStatement(t *tableModel) string {
	verb := pick(g, []string{"INSERT", "INSERT", "INSERT OR UPDATE", "INSERT OR IGNORE"}, "verb")
	columns, pending := g.row(t, true)
	if verb == "INSERT OR UPDATE" {
		// The official emulator resets the unlisted columns of a row that is there; see the deviation "upsert".
		for _, c := range t.writable() {
			if !slices.Contains(columns, c) {
				columns, pending = append(columns, c), append(pending, nil)
			}
		}
	}
	var rows []string
	for range rapid.IntRange(1, 3).Draw(g.T, "rows") {
		key := slices.Clone(g.key(t, verb != "INSERT" && g.chance(50, "present")))
		t.rows[listText(key)] = key
		var values []string
		for i, c := range t.givenKey() {
			if key[i] == commitTimestamp {
				key[i] = samples["TIMESTAMP"][0]
			}
			values = append(values, g.expression(c, key[i]))
		}
		for j, c := range columns {
			v := drawValue(g.T, c.typ, c.notNull)
			if pending[j] == commitTimestamp { // for all rows or none
				v = commitTimestamp
			}
			if c.def != "" && g.chance(20, "default") {
				values = append(values, "DEFAULT")
				continue
			}
			values = append(values, g.expression(c, v))
		}
		rows = append(rows, "("+strings.Join(values, ", ")+")")
	}
	all := append(names(t.givenKey()), names(columns)...)
	return fmt.Sprintf("%s INTO %s (%s) VALUES %s", verb, t.name, strings.Join(all, ", "), strings.Join(rows, ", ")) + g.returning(t)
}

func (g *generator) expression(c *columnModel, v any) string {
	if v == commitTimestamp {
		return "PENDING_COMMIT_TIMESTAMP()"
	}
	return literal(c.typ, v)
}

// where draws a condition, and the key it names if it does.
func (g *generator) where(t *tableModel) (string, []any) {
	if g.chance(30, "all rows") {
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
	where, _ := g.where(t)
	if len(columns) == 0 {
		return "DELETE FROM " + t.name + " WHERE " + where
	}
	var sets []string
	for _, c := range columns {
		if len(sets) > 0 && !g.chance(30, "set column") {
			continue
		}
		v := drawValue(g.T, c.typ, c.notNull)
		set := g.expression(c, v)
		switch n := rapid.IntRange(0, 9).Draw(g.T, "set"); {
		case n == 9:
			set = c.name // no change of value, but a write
		case n == 8 && c.typ.String() == "INT64":
			set = "MOD(" + c.name + ", 5) + 1"
		case n == 8 && c.typ.base == "STRING" && !c.typ.array:
			set = "CONCAT(" + c.name + ", \"+\")"
		case n == 7 && c.def != "":
			set = "DEFAULT"
		case n >= 4 && c.commitTS:
			set = "PENDING_COMMIT_TIMESTAMP()"
		}
		sets = append(sets, c.name+" = "+set)
	}
	return "UPDATE " + t.name + " SET " + strings.Join(sets, ", ") + " WHERE " + where
}

func (g *generator) partitioned() string {
	t := pick(g, g.tables, "table")
	if g.chance(30, "delete") {
		where, _ := g.where(t)
		return "DELETE FROM " + t.name + " WHERE " + where
	}
	return g.updateStatement(t)
}

package differential

import (
	"maps"
	"slices"

	"pgregory.net/rapid"
)

// histories draws whole histories: a schema, a transaction that fills it, and then whatever comes.
func histories() *rapid.Generator[history] {
	return rapid.Custom(func(t *rapid.T) history {
		g := &generator{T: t}
		h := history{g.schema()}
		if g.chance(90, "fill") {
			h = append(h, g.fill())
		}
		for range g.between(1, 7, "steps") {
			switch n := g.below(20, "step"); {
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

// fill inserts some rows into every table.
func (g *generator) fill() step {
	s := step{kind: once}
	for _, t := range g.tables {
		s.ops = append(s.ops, g.write(t, insert))
	}
	return s
}

func (g *generator) transaction() step {
	s := step{kind: commit}
	switch g.below(10, "transaction") {
	case 8:
		s.kind = once
	case 9:
		s.kind = rollback
	}
	if g.chance(20, "tag") {
		s.tag = pick(g, []string{"a tag", "app=shop", "ä"}, "tag")
	}
	before := g.snapshot()
	batch := false
	for range g.between(1, 5, "operations") {
		switch n := g.below(100, "operation"); {
		case s.kind == once || n < 50:
			s.ops = append(s.ops, g.mutation())
		case batch || n < 60:
			batch = g.chance(70, "batch goes on")
			s.ops = append(s.ops, op{kind: batched, sql: g.dml()})
		default:
			s.ops = append(s.ops, g.statement())
		}
	}
	if s.kind == rollback {
		g.restore(before)
	}
	return s
}

// target draws a table to work on: of one without rows rather its parent, which rows of it need.
func (g *generator) target() *tableModel {
	t := pick(g, g.tables, "table")
	for t.parent != nil && len(t.parent.rows) == 0 {
		t = t.parent
	}
	return t
}

// absent draws a key of t that is probably not there (but whose parent is), present one that probably is.
func (g *generator) absent(t *tableModel) []any {
	var key []any
	if t.parent != nil && !g.chance(3, "orphan") {
		key = append(key, g.present(t.parent)...)
	}
	for _, c := range t.givenKey()[len(key):] {
		v := g.drawKey(c.typ)
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
	if present != g.chance(4, "other key") {
		return g.present(t)
	}
	key := g.absent(t)
	for range 5 {
		if _, there := t.rows[listText(key)]; !there {
			break
		}
		key = g.absent(t)
	}
	return key
}

// gone takes a row and its interleaved children out of what is probably there.
func (g *generator) gone(t *tableModel, key []any) {
	delete(t.rows, listText(key))
	for _, c := range g.tables {
		if c.parent != t {
			continue
		}
		for _, k := range slices.Collect(maps.Values(c.rows)) {
			if listText(k[:min(len(key), len(k))]) == listText(key) {
				g.gone(c, k)
			}
		}
	}
}

const commitTimestamp = "spanner.commit_timestamp()"

// written draws non-key columns of t to write: all that must be given, if the row may be new.
func (g *generator) written(t *tableModel, isNew bool) (columns []*columnModel) {
	for _, c := range t.writable() {
		if must := isNew && c.notNull && c.def == ""; must || g.chance(60, "write column") {
			columns = append(columns, c)
		}
	}
	return columns
}

// value draws a value of a column that is not part of the key.
func (g *generator) value(c *columnModel) any {
	switch {
	case c.commitTS && g.chance(60, "commit timestamp"):
		return commitTimestamp
	case c.refers != nil && !g.chance(5, "broken reference"):
		if len(c.refers.rows) == 0 || g.chance(20, "no reference") {
			return nil
		}
		return g.present(c.refers)[0]
	}
	return g.drawValue(c.typ, c.notNull)
}

func (g *generator) mutation() op {
	t := g.target()
	kind := pick(g, []opKind{insert, insert, update, update, update, upsert, upsert, replace, remove, span, clear}, "mutation")
	switch kind {
	case clear:
		if g.chance(50, "clear after all") {
			t.rows = map[string][]any{}
			return op{kind: clear, table: t.name}
		}
		return g.write(t, update)
	case span:
		return g.span(t)
	case remove:
		o := op{kind: remove, table: t.name, columns: names(t.key)}
		for range g.between(1, 2, "keys") {
			key := g.key(t, true)
			g.gone(t, key)
			o.values = append(o.values, listText(g.whole(t, key)))
		}
		return o
	}
	return g.write(t, kind)
}

// write draws a mutation that writes rows.
func (g *generator) write(t *tableModel, kind opKind) op {
	if kind == update && len(t.rows) == 0 {
		kind = insert
	}
	columns := g.written(t, kind != update)
	o := op{kind: kind, table: t.name, columns: append(names(t.givenKey()), names(columns)...)}
	for range g.between(1, 3, "rows") {
		row := g.key(t, kind == update || (kind == upsert || kind == replace) && g.chance(60, "present"))
		t.rows[listText(row)] = row
		row = slices.Clone(row)
		for _, c := range columns {
			row = append(row, g.value(c))
		}
		o.values = append(o.values, listText(row))
	}
	return o
}

// span draws a delete of a key range.
func (g *generator) span(t *tableModel) op {
	o := op{kind: span, table: t.name, bounds: pick(g, []string{"[]", "[)", "(]", "()"}, "bounds")}
	n := g.between(1, len(t.key), "prefix")
	from, to := g.whole(t, g.key(t, true))[:n], g.whole(t, g.key(t, false))[:n]
	// The official emulator refuses ranges whose ends differ before the last part, and never returns from one whose end is
	// before its start.
	copy(to, from[:n-1])
	for i, v := range []any{from[n-1], to[n-1]} { // nor does it see that a commit timestamp comes first in descending order
		if v == commitTimestamp && t.desc[n-1] {
			[]([]any){from, to}[i][n-1] = samples["TIMESTAMP"][0]
		}
	}
	if !ordered(t.key[n-1].typ, from[n-1], to[n-1], t.desc[n-1]) {
		from, to = to, from
	}
	if from[n-1] == to[n-1] {
		o.bounds = "[]"
	}
	o.values = []string{listText(from), listText(to)}
	return o
}

// whole adds the generated parts of a key, which only a key set names.
func (g *generator) whole(t *tableModel, key []any) []any {
	var out []any
	for _, c := range t.key {
		if c.generated != "" {
			out = append(out, pick(g, []any{"0", "1"}, "generated part"))
			continue
		}
		out, key = append(out, key[0]), key[1:]
	}
	return out
}

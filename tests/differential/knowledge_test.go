package differential

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// What deviations need to know of a history.

// updates reports whether a step updates rows by DML.
func (s step) updates() bool { return s.runs("UPDATE ") || s.runs("INSERT OR UPDATE ") }

// runs reports whether a step runs DML that begins with a prefix.
func (s step) runs(prefix string) bool {
	return s.kind == partitioned && strings.HasPrefix(s.statements[0], prefix) || slices.ContainsFunc(s.ops, func(o op) bool {
		return (o.kind == sql || o.kind == batched) && strings.HasPrefix(o.sql, prefix)
	})
}

// creates reports whether a DDL statement matches a pattern.
func (h history) creates(pattern string) bool {
	match := regexp.MustCompile(pattern).MatchString
	return slices.ContainsFunc(h, func(s step) bool { return slices.ContainsFunc(s.statements, match) })
}

// redefined reports whether the watch list of a stream was changed.
func (h history) redefined(stream string) bool {
	return slices.ContainsFunc(h, func(s step) bool {
		return s.kind == ddl && (strings.HasPrefix(s.statements[0], "ALTER CHANGE STREAM "+stream+" SET FOR") ||
			strings.HasPrefix(s.statements[0], "ALTER CHANGE STREAM "+stream+" DROP FOR"))
	})
}

// option is what a change stream's option was last set to before a step, or "".
func (c *comparison) option(stream, name string, step int) (value string) {
	assignment := regexp.MustCompile(`[( ]` + name + ` = '?([^,')]+)`)
	for i, s := range c.h[:step] {
		if s.kind == ddl && !slices.ContainsFunc(c.ours.answers, func(a answer) bool { return a.step == i && a.code == codes.OK }) {
			continue
		}
		for _, text := range s.statements {
			ours := strings.HasPrefix(text, "CREATE CHANGE STREAM "+stream+" ") || strings.HasPrefix(text, "ALTER CHANGE STREAM "+stream+" SET OPTIONS")
			if m := assignment.FindStringSubmatch(text); ours && m != nil {
				value = m[1]
			}
		}
	}
	return value
}

// inserts reports whether a step may insert the row of a change: a mutation says so by its key, DML by its table.
func (s step) inserts(c change) bool {
	return slices.ContainsFunc(s.ops, func(o op) bool {
		switch o.kind {
		case sql, batched:
			return strings.HasPrefix(o.sql, "INSERT ") && strings.Contains(o.sql, " INTO "+c.record.table+" ")
		case insert, upsert, replace:
			return o.table == c.record.table && slices.ContainsFunc(o.values, func(row string) bool { return o.hasKey(row, c.keys) })
		}
		return false
	})
}

// writes reports whether a step surely writes a watched column of the row that an update changes: a mutation says so by its key,
// DML if it is about all rows. c is the emulator's, whose records list every watched column.
func (s step) writes(c change) bool {
	watched := func(name string) bool {
		return slices.ContainsFunc(c.record.columns, func(col column) bool { return col.name == name && !col.key })
	}
	all := func(text string) bool {
		set, ok := strings.CutPrefix(text, "UPDATE "+c.record.table+" SET ")
		set, whole := strings.CutSuffix(set, " WHERE TRUE")
		return ok && whole && slices.ContainsFunc(assigned.FindAllStringSubmatch(set, -1), func(m []string) bool { return watched(m[1]) })
	}
	return s.kind == partitioned && all(s.statements[0]) || slices.ContainsFunc(s.ops, func(o op) bool {
		switch o.kind {
		case sql, batched:
			return all(o.sql)
		case update, upsert:
			return o.table == c.record.table && slices.ContainsFunc(o.columns, watched) &&
				slices.ContainsFunc(o.values, func(row string) bool { return o.hasKey(row, c.keys) })
		}
		return false
	})
}

// assigned finds the columns that an UPDATE sets: the generator's names, not those inside of values.
var assigned = regexp.MustCompile(`(?:^|, )([A-Z][0-9]*) = `)

// hasKey reports whether a mutation's row has the key of a row that was there before, as far as it gives one: generated parts it
// does not, and its own commit timestamp no such row has.
func (o op) hasKey(row string, key map[string]any) bool {
	var values []any
	if json.Unmarshal([]byte(row), &values) != nil {
		return false
	}
	named := 0
	for i, name := range o.columns {
		part, ok := key[name]
		if ok && !sameValue(values[i], part) {
			return false
		}
		if ok {
			named++
		}
	}
	return named > 0
}

// sameValue compares a value as it was written with one as a record shows it.
func sameValue(a, b any) bool {
	if jsonText(a) == jsonText(b) {
		return true
	}
	x, ok := a.(string)
	y, okToo := b.(string)
	if !ok || !okToo {
		return false
	}
	if s, err := time.Parse(time.RFC3339Nano, x); err == nil {
		t, err := time.Parse(time.RFC3339Nano, y)
		return err == nil && s.Equal(t)
	}
	f, err := strconv.ParseFloat(x, 64)
	g, errToo := strconv.ParseFloat(y, 64)
	return err == nil && errToo == nil && f == g
}

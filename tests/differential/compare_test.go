package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
)

// comparison compares the two outcomes of one history. It explains what differs by the listed deviations where it can; the rest
// is its report.
type comparison struct {
	h            history
	ours, theirs *outcome
	step         int            // whose records are compared
	used         map[string]int // deviation ids
	differences  []string
	// cut says that a listed deviation has made the two databases differ for good: what came after cannot be compared.
	cut   bool
	crash string // what the official emulator printed when it died of this history
}

func compare(h history, ours, theirs *outcome) *comparison {
	c := &comparison{h: h, ours: ours, theirs: theirs, used: map[string]int{}}
	c.answers()
	if c.cut || len(c.differences) > 0 || ours.played < len(h) {
		return c // what follows a different answer differs for that reason
	}
	c.results("view", ours.views, theirs.views)
	c.results("table", ours.tables, theirs.tables)
	for _, name := range slices.Sorted(maps.Keys(ours.streams)) {
		c.stream(name)
	}
	return c
}

func (c *comparison) differ(format string, args ...any) {
	c.differences = append(c.differences, fmt.Sprintf(format, args...))
}

func (c *comparison) answers() {
	for i, a := range c.ours.answers {
		if i >= len(c.theirs.answers) {
			c.differ("step %d, %s: the official emulator gave no answer", a.step+1, a.request)
			return
		}
		b := c.theirs.answers[i]
		if strings.HasPrefix(a.request, string(batched)) {
			a, b = furthest(a, b)
		}
		if a.code != b.code {
			if d := explainCode(c.h, a, b); d != nil {
				c.used[d.id]++
				if a.code == 0 || b.code == 0 {
					c.cut = true
					return
				}
				continue
			}
			c.differ("step %d, %s:\n  ours:     %v %s\n  official: %v %s", a.step+1, a.request, a.code, a.message, b.code, b.message)
			return
		}
		if a.result != nil && b.result != nil {
			c.result(fmt.Sprintf("step %d, %s", a.step+1, a.request), a.result, b.result, strings.HasPrefix(a.request, string(query)))
		}
	}
	if n := len(c.ours.answers); n < len(c.theirs.answers) {
		c.differ("after step %d: ours gave no answer", n)
	}
}

// furthest makes of two answers to a batch that stopped at different statements those to the first statement where they differ.
func furthest(a, b answer) (answer, answer) {
	for _, x := range []struct{ more, less *answer }{{&a, &b}, {&b, &a}} {
		if len(x.more.result.rows) > len(x.less.result.rows) {
			x.more.code, x.more.message, x.more.result, x.less.result = codes.OK, "", nil, nil
			return a, b
		}
	}
	return a, b
}

func (c *comparison) results(what string, ours, theirs map[string]*table) {
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		if theirs[name] == nil {
			c.differ("%s %s: only ours has it", what, name)
			continue
		}
		c.result(what+" "+name, ours[name], theirs[name], true)
	}
	for name := range theirs {
		if ours[name] == nil {
			c.differ("%s %s: only the official emulator has it", what, name)
		}
	}
}

// result compares two result sets: types, number of rows, and values. Without order the rows are sorted first.
func (c *comparison) result(what string, ours, theirs *table, ordered bool) {
	if ours.count != theirs.count {
		c.differ("%s: ours changed %d rows, the official emulator %d", what, ours.count, theirs.count)
	}
	if a, b := header(ours), header(theirs); a != b {
		c.differ("%s:\n  our columns:      %s\n  official columns: %s", what, a, b)
		return
	}
	a, b := c.ours.lines(ours), c.theirs.lines(theirs)
	if !ordered {
		slices.Sort(a)
		slices.Sort(b)
	}
	if slices.Equal(a, b) {
		return
	}
	if d := explainResult(c.h, what, a, b); d != nil {
		c.used[d.id]++
		return
	}
	c.differ("%s:\n  our rows:\n    %s\n  official rows:\n    %s", what, strings.Join(a, "\n    "), strings.Join(b, "\n    "))
}

func header(t *table) string {
	var out []string
	for i, n := range t.columns {
		out = append(out, n+" "+typeName(t.types[i]))
	}
	return strings.Join(out, ", ")
}

// lines writes each row on a line, with commit timestamps named by their step.
func (o *outcome) lines(t *table) []string {
	out := make([]string, len(t.rows))
	for i, row := range t.rows {
		named := make([]any, len(row))
		for j, v := range row {
			named[j] = v
			if s, ok := v.(string); ok && t.types[j].GetCode() == sppb.TypeCode_TIMESTAMP {
				named[j] = o.named(s)
			}
		}
		out[i] = jsonText(named)
	}
	return out
}

// named replaces a timestamp that is the commit timestamp of a step.
func (o *outcome) named(s string) string {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		if i := o.when(t); i >= 0 {
			return fmt.Sprintf("commit of step %d", i+1)
		}
	}
	return s
}

// stream compares the records of one change stream, transaction by transaction.
func (c *comparison) stream(name string) {
	ours, theirs := c.ours.byStep(name), c.theirs.byStep(name)
	if len(ours[-1]) > 0 || len(theirs[-1]) > 0 {
		c.differ("change stream %s: ours has %d records and the official emulator %d that no step committed", name, len(ours[-1]), len(theirs[-1]))
	}
	for i := range c.h {
		a, b := ours[i], theirs[i]
		where := fmt.Sprintf("change stream %s, step %d", name, i+1)
		if err := wellFormed(a); err != nil {
			c.differ("%s: ours: %v", where, err)
		}
		if err := wellFormed(b); err != nil {
			c.differ("%s: official: %v", where, err)
		}
		if one := joined(a); shape(one) != shape(a) {
			c.differ("%s: ours begins a new record where it need not:\n%s", where, text(a))
		}
		c.transaction(pair{c, name, i, a, b})
	}
}

func (o *outcome) byStep(stream string) map[int][]dataRecord {
	out := map[int][]dataRecord{}
	for _, r := range o.streams[stream] {
		i := o.when(r.commit)
		out[i] = append(out[i], r)
	}
	return out
}

// wellFormed checks what must hold of a transaction's records whatever they hold.
func wellFormed(records []dataRecord) error {
	for i, r := range records {
		switch {
		case r.sequence != fmt.Sprintf("%08d", i):
			return fmt.Errorf("record %d has sequence %s", i, r.sequence)
		case r.records != fmt.Sprint(len(records)) || r.partitions != "1":
			return fmt.Errorf("record %d counts %s records and %s partitions, of %d and 1", i, r.records, r.partitions, len(records))
		case r.last != (i == len(records)-1):
			return fmt.Errorf("record %d of %d: is_last_record_in_transaction_in_partition is %t", i, len(records), r.last)
		case !r.commit.Equal(records[0].commit) || r.transaction != records[0].transaction:
			return fmt.Errorf("record %d has another transaction or commit timestamp than record 0", i)
		}
	}
	return nil
}

// change is one row's change with what its record says.
type change struct {
	record *dataRecord
	mod
}

// id names the row as far as both servers agree on how keys are shown: not in fractions of seconds, not in commit timestamps,
// not in special floats.
func (c change) id() string {
	keys := maps.Clone(c.keys)
	for name, v := range keys {
		s, _ := v.(string)
		if at, err := time.Parse(time.RFC3339Nano, s); err == nil || strings.HasPrefix(s, "1-01-01T") {
			keys[name] = at.Truncate(time.Second)
			if s == placeholder || at.Year() > 2024 && at.Year() < 9999 {
				keys[name] = "now"
			}
		}
		if s == "NaN" || s == "Infinity" || s == "-Infinity" {
			keys[name] = nil
		}
	}
	return c.record.modType + c.record.table + jsonText(keys)
}

// alone is the change in a record of its own.
func (c change) alone() dataRecord {
	r := *c.record
	r.mods = []mod{c.mod}
	return r
}

func changes(records []dataRecord) []change {
	var out []change
	for i := range records {
		for _, m := range records[i].mods {
			out = append(out, change{&records[i], m})
		}
	}
	return out
}

// shape is what must agree before values are compared: the records, by table, kind and number of rows.
func shape(records []dataRecord) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "%s %s %d\n", r.modType, r.table, len(r.mods))
	}
	return b.String()
}

// pair is the records of one transaction in one change stream, of both servers.
type pair struct {
	c            *comparison
	stream       string
	step         int
	ours, theirs []dataRecord
}

func (c *comparison) transaction(p pair) {
	if p.equal() {
		return
	}
	// The structural deviations, alone and then together, in the order they are listed.
	for mask := 1; mask < 1<<len(structural); mask++ {
		q, used := p, []string(nil)
		for i, d := range structural {
			if mask&(1<<i) == 0 {
				continue
			}
			before := q
			d.records(&q)
			if text(before.ours) != text(q.ours) || text(before.theirs) != text(q.theirs) {
				used = append(used, d.id)
			}
		}
		if q.equal() {
			for _, id := range used {
				c.used[id]++
			}
			return
		}
	}
	c.differ("change stream %s, step %d:\n  ours:\n%s  official:\n%s", p.stream, p.step+1, text(p.ours), text(p.theirs))
}

// trial is a comparison of the pair's step that counts for itself.
func (p pair) trial() *comparison {
	return &comparison{h: p.c.h, ours: p.c.ours, theirs: p.c.theirs, step: p.step, used: map[string]int{}}
}

// equal compares, and counts the deviations that explain values.
func (p pair) equal() bool {
	trial := p.trial()
	if shape(p.ours) != shape(p.theirs) || !trial.values(p.ours, p.theirs) {
		return false
	}
	for id, n := range trial.used {
		p.c.used[id] += n
	}
	return true
}

// values compares records of equal shape, and counts the deviations that explain values.
func (c *comparison) values(ours, theirs []dataRecord) bool {
	for i := range ours {
		a, b := &ours[i], &theirs[i]
		if a.capture != b.capture || !slices.Equal(a.columns, b.columns) {
			return false
		}
		if a.tag != b.tag && !c.explain(cell{kind: "tag", ours: a.tag, theirs: b.tag}) || a.system != b.system {
			return false
		}
		types := map[string]string{}
		for _, col := range a.columns {
			types[col.name] = col.typ
		}
		for j := range a.mods {
			x, y := a.mods[j], b.mods[j]
			if !c.object(a, types, x.keys, y.keys) || !c.object(a, types, x.new, y.new) || !c.object(a, types, x.old, y.old) {
				return false
			}
		}
	}
	return true
}

func (c *comparison) object(r *dataRecord, types map[string]string, ours, theirs map[string]any) bool {
	if len(ours) != len(theirs) {
		return false
	}
	for name, a := range ours {
		b, ok := theirs[name]
		if !ok || !c.value(r, types[name], a, b) {
			return false
		}
	}
	return true
}

func (c *comparison) value(r *dataRecord, typ string, a, b any) bool {
	x, isList := a.([]any)
	y, isListToo := b.([]any)
	if isList && isListToo {
		if len(x) != len(y) {
			return false
		}
		typ = strings.TrimSuffix(strings.TrimPrefix(typ, `{"array_element_type":`), `,"code":"ARRAY"}`)
		for i := range x {
			if !c.value(r, typ, x[i], y[i]) {
				return false
			}
		}
		return true
	}
	ours, theirs := jsonText(a), jsonText(b)
	if s, ok := a.(string); ok && strings.Contains(typ, "TIMESTAMP") {
		ours = jsonText(c.ours.named(s))
	}
	if s, ok := b.(string); ok && strings.Contains(typ, "TIMESTAMP") {
		theirs = jsonText(c.theirs.named(s))
	}
	return ours == theirs || c.explain(cell{kind: typ, ours: a, theirs: b, oursNamed: ours, theirsNamed: theirs, c: c})
}

func (c *comparison) explain(v cell) bool {
	for i := range deviations {
		if d := &deviations[i]; d.cell != nil && d.cell(v) {
			c.used[d.id]++
			return true
		}
	}
	return false
}

// text writes records for a reader.
func text(records []dataRecord) string {
	var b strings.Builder
	for _, r := range records {
		var columns []string
		for _, col := range r.columns {
			columns = append(columns, fmt.Sprintf("%s %s %s", col.ordinal, col.name, col.typ))
		}
		fmt.Fprintf(&b, "    %s %s %s %s tag=%q system=%t (%s)\n", r.sequence, r.modType, r.table, r.capture, r.tag, r.system, strings.Join(columns, ", "))
		for _, m := range r.mods {
			fmt.Fprintf(&b, "      keys %s new %s old %s\n", jsonText(m.keys), jsonText(m.new), jsonText(m.old))
		}
	}
	return b.String()
}

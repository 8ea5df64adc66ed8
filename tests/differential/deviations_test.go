package differential

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// deviation is one way in which Google's emulator is known to differ from production, and so from the embedded Spanner. Each is
// tried only where the two differ, and counted.
type deviation struct {
	id        string
	what      string
	reference string // section of the change-stream reference, and its mark
	// cell says whether it explains two different values, code whether it explains two different
	// answers, result two different result sets; records takes out of a transaction's records what the deviation adds or loses, or
	// turns ours into what the emulator makes of them.
	cell    func(cell) bool
	code    func(h history, ours, theirs answer) bool
	result  func(h history, what string, ours, theirs []string) bool
	records func(p *pair)
}

// cell is one value of a change record that differs.
type cell struct {
	kind                   string // the column's type as the record has it; or "tag"
	ours, theirs           any
	oursNamed, theirsNamed string // with commit timestamps named by step
	c                      *comparison
}

// placeholder is what the emulator shows for a commit timestamp.
const placeholder = "9999-12-31T23:59:59Z"

func is(typ string) string { return `{"code":"` + typ + `"}` }

// deviations is the list; structural are those of them that change which records there are.
var (
	deviations []deviation
	structural []*deviation
)

func init() {
	deviations = []deviation{
		{
			id: "tag", what: "transaction_tag is always empty", reference: "8.4 [I:cloud-spanner-emulator#280]",
			cell: func(v cell) bool { return v.kind == "tag" && v.theirs == "" },
		},
		{
			id: "fraction", what: "TIMESTAMP values lose their fraction", reference: "8.10, 3.4 [E]",
			cell: func(v cell) bool {
				s, ok := v.ours.(string)
				at, err := time.Parse(time.RFC3339Nano, s)
				// A commit timestamp differs in the two histories: the emulator shows its own, which no step is named by once cut.
				if ok && err == nil && v.kind == is("TIMESTAMP") && strings.HasPrefix(v.oursNamed, `"commit of step`) {
					return v.c.theirs.seconds(v.oursNamed) == v.theirs
				}
				return ok && err == nil && v.kind == is("TIMESTAMP") && v.theirs == at.Truncate(time.Second).Format(time.RFC3339)
			},
		},
		{
			id: "placeholder", what: "a column written with the commit timestamp shows a placeholder", reference: "8.10, 4.5 [E]",
			cell: func(v cell) bool {
				return v.kind == is("TIMESTAMP") && strings.HasPrefix(v.oursNamed, `"commit of step`) && v.theirs == placeholder
			},
		},
		{
			id: "float32", what: "FLOAT32 values are widened", reference: "8.10, 3.4 [E]",
			cell: func(v cell) bool {
				a, ok := v.ours.(float64)
				return ok && v.kind == is("FLOAT32") && v.theirs == float64(float32(a))
			},
		},
		{
			id: "nan", what: "NaN and the infinities are shown as null", reference: "8.10, 3.4 [E]",
			cell: func(v cell) bool {
				_, special := v.ours.(string)
				return special && (v.kind == is("FLOAT32") || v.kind == is("FLOAT64")) && v.theirs == nil
			},
		},
		{
			id: "year", what: "years before 1000 are written with less than four digits", reference: "seen running 1.5.28",
			cell: func(v cell) bool {
				a, _ := v.ours.(string)
				b, _ := v.theirs.(string)
				at, err := time.Parse(time.RFC3339Nano, a)
				return err == nil && v.kind == is("TIMESTAMP") && at.Year() < 1000 &&
					strings.TrimLeft(at.Truncate(time.Second).Format(time.RFC3339), "0") == b
			},
		},
		{
			id: "suspended", what: "a stream suspended by DROP FOR ALL is still listed as watching all", reference: "seen running 1.5.28",
			result: func(h history, what string, ours, theirs []string) bool {
				return what == "view CHANGE_STREAMS" && len(ours) == len(theirs) && !slices.ContainsFunc(ours, func(row string) bool {
					return !slices.Contains(theirs, row) && !slices.Contains(theirs, strings.Replace(row, "false", "true", 1))
				})
			},
		},
		{
			id: "range", what: "a key range whose ends differ before their last part is refused", reference: "seen running 1.5.28",
			code: func(h history, ours, theirs answer) bool {
				return theirs.code == codes.Unimplemented && strings.HasPrefix(theirs.message, "For delete ranges")
			},
		},
		{
			id: "updated", what: "an update of a row deleted earlier in the transaction has its own error", reference: "[E] UpdateDeletedRowInTransaction",
			code: func(h history, ours, theirs answer) bool {
				return theirs.code == codes.InvalidArgument && strings.Contains(theirs.message, "was deleted and then updated")
			},
		},
		{
			id: "two faults", what: "of two faults of a statement's or mutation's rows the other one is found first", reference: "[E]",
			code: func(h history, ours, theirs answer) bool { return twoFaults(ours, theirs) || twoFaults(theirs, ours) },
		},
		{
			id: "watch list", what: "the views forget tables watched before ALTER CHANGE STREAM SET FOR, and DROP remembers them", reference: "seen running 1.5.28",
			code: func(h history, ours, theirs answer) bool {
				tracked := trackedBy.FindStringSubmatch(theirs.message)
				return ours.code == codes.OK && theirs.code == codes.FailedPrecondition && tracked != nil &&
					slices.ContainsFunc(strings.Split(tracked[1], ", "), h[:ours.step].redefined)
			},
			result: func(h history, what string, ours, theirs []string) bool {
				rest := func(rows, of []string) bool { // of streams whose watch list was not changed
					return slices.ContainsFunc(rows, func(row string) bool { return !slices.Contains(of, row) && !h.redefined(firstOf(row)) })
				}
				return (what == "view CHANGE_STREAM_TABLES" || what == "view CHANGE_STREAM_COLUMNS") && !rest(ours, theirs) && !rest(theirs, ours)
			},
		},
		{
			id: "indexed", what: "writing a row whose key or indexed column has a pending commit timestamp reads that, and is refused", reference: "[E] effector reads",
			code: func(h history, ours, theirs answer) bool {
				what := pendingAt.FindStringSubmatch(theirs.message)
				return theirs.code == codes.InvalidArgument && what != nil &&
					(what[1] == "Column" && h.creates("INDEX .*\\b"+what[2]+"\\b") || what[1] == "Table" && ours.request == "commit")
			},
		},
		{
			id: "returned", what: "THEN RETURN returns a pending commit timestamp", reference: "seen running 1.5.28; [T] says it cannot",
			code: func(h history, ours, theirs answer) bool {
				return ours.code == codes.InvalidArgument && theirs.code == codes.OK && strings.HasPrefix(ours.message, "THEN RETURN cannot return the pending commit timestamp")
			},
		},
		{
			id: "descending", what: "a cascade over a foreign key of a table with a descending key leaves rows, and the delete fails", reference: "seen running 1.5.28",
			code: func(h history, ours, theirs answer) bool {
				key := violatedKey.FindStringSubmatch(theirs.message)
				return ours.code == codes.OK && theirs.code == codes.FailedPrecondition && key != nil &&
					h.creates("CONSTRAINT "+key[1]+" FOREIGN KEY .* ON DELETE CASCADE.* DESC")
			},
		},
		{
			id: "ignored", what: "INSERT OR IGNORE returns the statement's last rows instead of those it inserted", reference: "seen running 1.5.28",
			result: func(h history, what string, ours, theirs []string) bool {
				return strings.Contains(what, " INSERT OR IGNORE ") && strings.Contains(what, " THEN RETURN ") && len(ours) == len(theirs)
			},
		},
		{
			id: "upsert", what: "INSERT OR UPDATE by DML resets the columns it does not list", reference: "8.9 [E]; [P] Mutation.insert_or_update keeps them",
			result: func(h history, what string, ours, theirs []string) bool {
				return strings.HasPrefix(what, "table ") && len(ours) == len(theirs) && slices.EqualFunc(ours, theirs, onlyNulls)
			},
			cell: func(v cell) bool {
				// A later update records the whole row, with what was reset.
				return v.theirs == nil && slices.ContainsFunc(v.c.h[:v.c.step+1], func(s step) bool { return s.runs("INSERT OR UPDATE INTO ") })
			},
		},
		{
			id: "generated key", what: "an update of a table with a generated key column needs its columns with defaults", reference: "seen running 1.5.28",
			code: func(h history, ours, theirs answer) bool {
				return theirs.code == codes.FailedPrecondition && strings.HasPrefix(theirs.message, "Implicit use of primary key default")
			},
		},
		{
			id: "options", what: "CHANGE_STREAM_OPTIONS lists two options only", reference: "8.13, 1.5 [E]",
			result: func(h history, what string, ours, theirs []string) bool {
				return what == "view CHANGE_STREAM_OPTIONS" && slices.Equal(theirs, slices.DeleteFunc(slices.Clone(ours), func(row string) bool {
					return !strings.Contains(row, `"retention_period"`) && !strings.Contains(row, `"value_capture_type"`)
				}))
			},
		},
		{
			id: "replaced", what: "delete and insert (or replace) of a row that is there give one INSERT", reference: "8.7, 4.3 [T disabled]",
			records: func(p *pair) {
				row := func(c change) string { return c.record.table + jsonText(c.keys) }
				inserted := map[string]bool{}
				for _, c := range changes(p.ours) {
					inserted[row(c)] = inserted[row(c)] || c.record.modType == "INSERT"
				}
				deleted := map[string]bool{}
				for _, c := range changes(p.theirs) {
					deleted[c.id()] = c.record.modType == "DELETE"
				}
				// Where the stream does not show inserts, the history must say that the row was inserted again.
				unseen := p.c.option(p.stream, "exclude_insert", p.step) == "true"
				p.ours = joined(filter(p.ours, func(c change) bool {
					again := inserted[row(c)] || unseen && !deleted[c.id()] && p.c.h[p.step].inserts(c)
					return c.record.modType != "DELETE" || !again
				}))
			},
		},
		{
			id: "untracked", what: "with NEW_ROW types an update that writes no watched column is recorded", reference: "4.2 [T]",
			records: func(p *pair) {
				ours := map[string]bool{}
				for _, c := range changes(p.ours) {
					ours[c.id()] = true
				}
				p.theirs = filter(p.theirs, func(c change) bool {
					return !(c.record.modType == "UPDATE" && strings.HasPrefix(c.record.capture, "NEW_ROW") && !ours[c.id()] && !p.c.h[p.step].writes(c))
				})
			},
		},
		{
			id: "dml update", what: "an UPDATE by DML is recorded as if it had written every column", reference: "4.1, 4.2 [T]; [E] BuildUpdate",
			records: (*pair).projectUpdates,
		},
		{
			id: "forgotten", what: "ALTER CHANGE STREAM SET FOR forgets tables that were watched before", reference: "seen running 1.5.28",
			records: func(p *pair) {
				if !p.c.h[:p.step].redefined(p.stream) {
					return
				}
				theirs := map[string]bool{}
				for _, r := range p.theirs {
					theirs[r.table] = true
				}
				p.ours = filter(p.ours, func(c change) bool { return theirs[c.record.table] })
			},
		},
		{
			id: "order", what: "changes of a transaction come by table and key, not in the order they were made", reference: "8.8, 4.4 [T disabled]",
			records: (*pair).reorder,
		},
	}
	for i := range deviations {
		if d := &deviations[i]; d.records != nil {
			structural = append(structural, d)
		}
	}
}

var (
	pendingAt   = regexp.MustCompile(`^(Column|Table) (\w+) cannot be accessed because it, or its associated index, has a pending CommitTimestamp`)
	trackedBy   = regexp.MustCompile(`^Cannot drop .* is tracked by [0-9]+ Change Streams?: ([^.]*)\.`)
	violatedKey = regexp.MustCompile("^Foreign key `(\\w+)` constraint violation when deleting")
)

// seconds is the commit timestamp of a step, named as named does, without its fraction.
func (o *outcome) seconds(name string) string {
	for text := range o.commits {
		if jsonText(o.named(text)) == name {
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return err.Error()
			}
			return at.Truncate(time.Second).Format(time.RFC3339)
		}
	}
	return ""
}

func explainCode(h history, ours, theirs answer) *deviation {
	for i := range deviations {
		if d := &deviations[i]; d.code != nil && d.code(h, ours, theirs) {
			return d
		}
	}
	return nil
}

func explainResult(h history, what string, ours, theirs []string) *deviation {
	for i := range deviations {
		if d := &deviations[i]; d.result != nil && d.result(h, what, ours, theirs) {
			return d
		}
	}
	return nil
}

// twoFaults reports whether a says that a row is or is not there, and b that a value is bad, or that another row is not or is there.
func twoFaults(a, b answer) bool {
	bad := b.code == codes.FailedPrecondition && slices.ContainsFunc([]string{"exceeds the maximum size", "annot write timestamps in the future",
		"annot delete by a timestamp in the future", "Cannot write a value for the referenced column", "Cannot write and delete the row"},
		func(text string) bool { return strings.Contains(b.message, text) })
	return (a.code == codes.NotFound || a.code == codes.AlreadyExists) && bad || a.code == codes.NotFound && b.code == codes.AlreadyExists
}

// onlyNulls reports whether two rows differ only in values that are null in theirs.
func onlyNulls(ours, theirs string) bool {
	var a, b []any
	if json.Unmarshal([]byte(ours), &a) != nil || json.Unmarshal([]byte(theirs), &b) != nil || len(a) != len(b) {
		return false
	}
	for i := range a {
		if jsonText(a[i]) != jsonText(b[i]) && b[i] != nil {
			return false
		}
	}
	return true
}

// firstOf is the first value of a row, if it is text.
func firstOf(row string) string {
	var values []any
	if json.Unmarshal([]byte(row), &values) != nil || len(values) == 0 {
		return ""
	}
	s, _ := values[0].(string)
	return s
}

// filter keeps some changes, and the records that still have any.
func filter(records []dataRecord, keep func(change) bool) []dataRecord {
	var out []dataRecord
	for _, r := range records {
		mods := r.mods
		r.mods = nil
		for _, m := range mods {
			if keep(change{&r, m}) {
				r.mods = append(r.mods, m)
			}
		}
		if len(r.mods) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// projectUpdates takes out of the emulator's UPDATEs what only an UPDATE by DML puts there.
func (p *pair) projectUpdates() {
	if !p.c.h[p.step].updates() {
		return
	}
	ours := map[string][]change{}
	for _, c := range changes(p.ours) {
		ours[c.id()] = append(ours[c.id()], c)
	}
	var out []dataRecord
	for _, c := range changes(p.theirs) {
		if c.record.modType != "UPDATE" {
			out = append(out, c.alone())
			continue
		}
		projected := func(mine change) dataRecord {
			r := *c.record
			r.columns = mine.record.columns
			r.mods = []mod{{keys: c.keys, new: project(c.new, mine.new), old: project(c.old, mine.old)}}
			return r
		}
		mine := ours[c.id()]
		n := max(0, slices.IndexFunc(mine, func(mine change) bool { // of those that show the same key
			return p.trial().values([]dataRecord{mine.alone()}, []dataRecord{projected(mine)})
		}))
		switch {
		case len(mine) > 0:
			out = append(out, projected(mine[n]))
			ours[c.id()] = slices.Delete(mine, n, n+1)
		case p.c.h[p.step].writes(c):
			out = append(out, c.alone())
		}
	}
	p.theirs = joined(out)
}

// joined puts neighbours that are of one kind into one record, as both servers do.
func joined(records []dataRecord) []dataRecord {
	var out []dataRecord
	for _, r := range records {
		if n := len(out); n > 0 && out[n-1].modType == r.modType && out[n-1].table == r.table && slices.Equal(out[n-1].columns, r.columns) {
			out[n-1].mods = append(slices.Clone(out[n-1].mods), r.mods...)
			continue
		}
		out = append(out, r)
	}
	return out
}

func project(values, to map[string]any) map[string]any {
	out := maps.Clone(values)
	maps.DeleteFunc(out, func(name string, _ any) bool { _, ok := to[name]; return !ok })
	return out
}

// reorder puts our changes into the emulator's order and records, if they are the same changes. The emulator also begins a new
// record where a change that nobody watches lies between two by key; that ours begins one only where it must is checked before.
func (p *pair) reorder() {
	left := map[string][]change{}
	for _, c := range changes(p.ours) {
		left[c.id()] = append(left[c.id()], c)
	}
	out := slices.Clone(p.theirs)
	for i := range out {
		out[i].mods = nil
		for j, m := range p.theirs[i].mods {
			id := change{&p.theirs[i], m}.id()
			// Keys that differ in what the emulator does not show have the same id: take the one whose values fit.
			n := slices.IndexFunc(left[id], func(c change) bool {
				return p.trial().values([]dataRecord{c.alone()}, []dataRecord{change{&p.theirs[i], m}.alone()})
			})
			if n < 0 {
				return
			}
			c := left[id][n]
			left[id] = slices.Delete(left[id], n, n+1)
			if j > 0 && !slices.Equal(c.record.columns, out[i].columns) {
				return
			}
			out[i].columns, out[i].tag, out[i].capture, out[i].system = c.record.columns, c.record.tag, c.record.capture, c.record.system
			out[i].mods = append(out[i].mods, c.mod)
		}
	}
	for _, rest := range left {
		if len(rest) > 0 {
			return
		}
	}
	p.ours = out
}

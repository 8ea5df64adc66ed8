package differential

import (
	"encoding/json"
	"maps"
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
	// At most one of these is set. cell says whether it explains two different values, code whether it explains two different
	// answers, result two different result sets; records takes out of a transaction's records what the deviation adds or loses, or
	// turns ours into what the emulator makes of them.
	cell    func(cell) bool
	code    func(h history, ours, theirs answer) bool
	result  func(what string, ours, theirs []string) bool
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
			result: func(what string, ours, theirs []string) bool {
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
			id: "two faults", what: "a value that is too long, or a commit timestamp in the future, is found before a missing row", reference: "[E]",
			code: func(h history, ours, theirs answer) bool {
				return (ours.code == codes.NotFound || ours.code == codes.AlreadyExists) && theirs.code == codes.FailedPrecondition &&
					(strings.HasPrefix(theirs.message, "New value exceeds") || strings.HasPrefix(theirs.message, "Cannot write timestamps in the future")) ||
					ours.code == codes.NotFound && theirs.code == codes.AlreadyExists && strings.HasSuffix(theirs.message, "due to previously inserted row")
			},
		},
		{
			id: "watch list", what: "the views forget tables watched before ALTER CHANGE STREAM SET FOR", reference: "seen running 1.5.28",
			result: func(what string, ours, theirs []string) bool {
				return (what == "view CHANGE_STREAM_TABLES" || what == "view CHANGE_STREAM_COLUMNS") && len(theirs) < len(ours) &&
					!slices.ContainsFunc(theirs, func(row string) bool { return !slices.Contains(ours, row) })
			},
		},
		{
			id: "upsert", what: "INSERT OR UPDATE by DML resets the columns it does not list", reference: "8.9 [E]; [P] Mutation.insert_or_update keeps them",
			result: func(what string, ours, theirs []string) bool {
				return strings.HasPrefix(what, "table ") && len(ours) == len(theirs) && slices.EqualFunc(ours, theirs, onlyNulls)
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
			result: func(what string, ours, theirs []string) bool {
				return what == "view CHANGE_STREAM_OPTIONS" && slices.Equal(theirs, slices.DeleteFunc(slices.Clone(ours), func(row string) bool {
					return !strings.Contains(row, `"retention_period"`) && !strings.Contains(row, `"value_capture_type"`)
				}))
			},
		},
		{
			id: "replaced", what: "delete and insert (or replace) of a row that is there give one INSERT", reference: "8.7, 4.3 [T disabled]",
			records: func(p *pair) {
				inserted := map[string]bool{}
				for _, c := range changes(p.ours) {
					inserted[c.id()] = true
				}
				p.ours = joined(filter(p.ours, func(c change) bool {
					return !(c.record.modType == "DELETE" && inserted["INSERT"+strings.TrimPrefix(c.id(), "DELETE")])
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
					return !(c.record.modType == "UPDATE" && strings.HasPrefix(c.record.capture, "NEW_ROW") && !ours[c.id()])
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

func explainResult(what string, ours, theirs []string) *deviation {
	for i := range deviations {
		if d := &deviations[i]; d.result != nil && d.result(what, ours, theirs) {
			return d
		}
	}
	return nil
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
	ours := map[string]change{}
	for _, c := range changes(p.ours) {
		ours[c.id()] = c
	}
	var out []dataRecord
	for _, c := range changes(p.theirs) {
		r, m := *c.record, c.mod
		if r.modType == "UPDATE" {
			mine, ok := ours[c.id()]
			if !ok {
				continue
			}
			r.columns = mine.record.columns
			m.new, m.old = project(m.new, mine.new), project(m.old, mine.old)
		}
		r.mods = []mod{m}
		out = append(out, r)
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

// updates reports whether a step updates rows by DML.
func (s step) updates() bool {
	is := func(text string) bool {
		return strings.HasPrefix(text, "UPDATE ") || strings.HasPrefix(text, "INSERT OR UPDATE ")
	}
	return s.kind == partitioned && is(s.statements[0]) || slices.ContainsFunc(s.ops, func(o op) bool { return o.kind == sql && is(o.sql) })
}

// redefined reports whether the watch list of a stream was changed.
func (h history) redefined(stream string) bool {
	return slices.ContainsFunc(h, func(s step) bool {
		return s.kind == ddl && (strings.HasPrefix(s.statements[0], "ALTER CHANGE STREAM "+stream+" SET FOR") ||
			strings.HasPrefix(s.statements[0], "ALTER CHANGE STREAM "+stream+" DROP FOR"))
	})
}

// reorder puts our changes into the emulator's order and records, if they are the same changes.
func (p *pair) reorder() {
	left := map[string][]change{}
	var mine, emulators []string
	for _, c := range changes(p.ours) {
		left[c.id()], mine = append(left[c.id()], c), append(mine, c.id())
	}
	for _, c := range changes(p.theirs) {
		emulators = append(emulators, c.id())
	}
	if slices.Equal(mine, emulators) {
		return // the order is the same, so the records must be
	}
	out := slices.Clone(p.theirs)
	for i := range out {
		out[i].mods = nil
		for j, m := range p.theirs[i].mods {
			id := change{&p.theirs[i], m}.id()
			// Keys that differ in what the emulator does not show have the same id: take the one whose values fit.
			n := slices.IndexFunc(left[id], func(c change) bool {
				ours, theirs := *c.record, p.theirs[i]
				ours.mods, theirs.mods = []mod{c.mod}, []mod{m}
				trial := &comparison{h: p.c.h, ours: p.c.ours, theirs: p.c.theirs, used: map[string]int{}}
				return trial.values([]dataRecord{ours}, []dataRecord{theirs})
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

package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Options say what to let through. The zero value lets everything through.
type Options struct {
	// Tables are the tables whose changes are delivered, by their names as change records have them.
	Tables Names
	// Operations are those delivered: INSERT, UPDATE, DELETE, in any case; none means all.
	Operations []string
	// Tags are the transaction tags delivered. A transaction without a tag has the tag "".
	Tags Names
	// System says whether changes of Spanner's own transactions, such as TTL deletes, are delivered; nil means yes.
	System *bool
	// Where is a CEL expression that must be true for a change to be delivered; "" for none. See the package's doc.
	Where string
	// Drop are columns, as table.column, that no sink gets to see. Key columns cannot be dropped.
	Drop []string
}

// Names selects by name. A name may hold the wildcards of path.Match: "sales.*" is every table of the schema sales.
type Names struct {
	// Include are the names let through; none means all. Exclude are those kept back, whatever Include says.
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
}

func (n Names) isEmpty() bool { return len(n.Include) == 0 && len(n.Exclude) == 0 }

// Match reports whether a name is let through.
func (n Names) Match(name string) bool {
	match := func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // New has refused bad patterns
		return ok
	}
	if len(n.Include) > 0 && !slices.ContainsFunc(n.Include, match) {
		return false
	}
	return !slices.ContainsFunc(n.Exclude, match)
}

// IsPattern reports whether a name has wildcards, so that it need not be any one table's.
func IsPattern(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// OptionError says which option is wrong.
type OptionError struct {
	// Option is the option's path, such as "tables.include" or "where"; Index its element's, -1 if it is not a list.
	Option string
	Index  int
	Err    error
}

// Error names the option and what is wrong with it.
func (e *OptionError) Error() string {
	if e.Index >= 0 {
		return fmt.Sprintf("%s[%d]: %v", e.Option, e.Index, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Option, e.Err)
}

// Unwrap is the error without the option's name.
func (e *OptionError) Unwrap() error { return e.Err }

// IsZero reports whether everything is let through as it is.
func (o Options) IsZero() bool {
	return o.Tables.isEmpty() && len(o.Operations) == 0 && o.Tags.isEmpty() && (o.System == nil || *o.System) &&
		strings.TrimSpace(o.Where) == "" && len(o.Drop) == 0
}

// Canonical is a text that is equal for options that let the same through because they are written alike, whatever the
// order of their lists: part of a pipeline's config digest. Of two expressions only the same text is equal.
func (o Options) Canonical() string {
	system := o.System == nil || *o.System
	form := struct {
		Tables     Names    `json:"tables"`
		Operations []string `json:"operations,omitempty"`
		Tags       Names    `json:"tags"`
		NoSystem   bool     `json:"no_system,omitempty"`
		Where      string   `json:"where,omitempty"`
		Drop       []string `json:"drop,omitempty"`
	}{
		Tables: Names{sorted(o.Tables.Include), sorted(o.Tables.Exclude)}, Tags: Names{sorted(o.Tags.Include), sorted(o.Tags.Exclude)},
		NoSystem: !system, Where: strings.TrimSpace(o.Where), Drop: sorted(o.Drop),
	}
	for _, op := range o.Operations {
		form.Operations = append(form.Operations, strings.ToUpper(op))
	}
	form.Operations = sorted(form.Operations)
	b, err := json.Marshal(form)
	if err != nil {
		panic("filter: " + err.Error()) // strings and bools always marshal
	}
	return string(b)
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return slices.Compact(s)
}

var operations = []string{"DELETE", "INSERT", "UPDATE"}

// check finds every mistake but those in Where.
func (o Options) check() error {
	var errs []error
	bad := func(option string, i int, format string, args ...any) {
		errs = append(errs, &OptionError{option, i, fmt.Errorf(format, args...)})
	}
	for _, l := range []struct {
		option string
		names  []string
		empty  bool // "" means something
	}{
		{"tables.include", o.Tables.Include, false}, {"tables.exclude", o.Tables.Exclude, false},
		{"tags.include", o.Tags.Include, true}, {"tags.exclude", o.Tags.Exclude, true},
	} {
		for i, name := range l.names {
			if _, err := path.Match(name, ""); err != nil {
				bad(l.option, i, "%q is not a pattern: %w", name, err)
			}
			if name == "" && !l.empty {
				bad(l.option, i, "the name is empty")
			}
		}
	}
	for i, op := range o.Operations {
		if !slices.Contains(operations, strings.ToUpper(op)) {
			bad("operations", i, "%q is not an operation: use INSERT, UPDATE or DELETE", op)
		}
	}
	for i, c := range o.Drop {
		if table, column := splitColumn(c); table == "" || column == "" || IsPattern(c) {
			bad("drop", i, "%q is not of the form table.column", c)
		}
	}
	return errors.Join(errs...)
}

// splitColumn takes schema.table.column apart into schema.table and column.
func splitColumn(name string) (table, column string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

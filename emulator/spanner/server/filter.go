package server

import (
	"strings"

	"google.golang.org/grpc/codes"
)

// filter is a List call's filter: terms that must all hold, such as `name:demo labels.env:*`.
type filter []term

type term struct {
	field, text string
	exact       bool // field = text; otherwise the value has text in it, and * stands for any value at all
}

// parseFilter reads the documented forms of List filters, with or without brackets round a term. What is beyond them is
// UNIMPLEMENTED: a filter that is read wrongly would list the wrong things.
func parseFilter(text string) (filter, error) {
	var out filter
	for _, word := range strings.Fields(text) {
		if word == "AND" {
			continue
		}
		if inner, ok := strings.CutPrefix(word, "("); ok {
			word = strings.TrimSuffix(inner, ")")
		}
		i := strings.IndexAny(word, ":=")
		if i <= 0 || strings.ContainsAny(word, "()<>!\"'") {
			return nil, errorf(codes.Unimplemented, "the embedded Spanner does not support the filter %.100q: it takes terms such as name:demo and labels.env:dev, all of which must hold", text)
		}
		t := term{field: strings.ToLower(word[:i]), text: strings.ToLower(word[i+1:]), exact: word[i] == '='}
		out = append(out, t)
	}
	return out, nil
}

// matches tells whether all terms hold for a thing of these fields and labels. Names and values match in any case.
func (f filter) matches(fields, labels map[string]string) bool {
	for _, t := range f {
		value, has := fields[t.field]
		if label, ok := strings.CutPrefix(t.field, "labels."); ok {
			value, has = labels[label]
		}
		value = strings.ToLower(value)
		switch {
		case !has, t.exact && value != t.text, !t.exact && t.text != "*" && !strings.Contains(value, t.text):
			return false
		}
	}
	return true
}

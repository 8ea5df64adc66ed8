package row

import (
	"fmt"
	"strings"

	api "google.golang.org/api/bigquery/v2"
)

// Evolve checks that a table of the schema old may take the schema next, and returns next in the order the table keeps:
// old columns where they were, new ones behind them. So rows stored under old stay valid, only shorter. Allowed are new
// NULLABLE and REPEATED columns, REQUIRED relaxed to NULLABLE, wider bounds, and other descriptions and defaults.
func Evolve(old, next *api.TableSchema) (*api.TableSchema, error) {
	if _, err := Parse(next); err != nil {
		return nil, err
	}
	if old == nil || next == nil {
		if old != nil && len(old.Fields) > 0 {
			return nil, fmt.Errorf("provided schema does not match: the new schema is empty")
		}
		return next, nil
	}
	fields, err := evolve(old.Fields, next.Fields, "")
	if err != nil {
		return nil, fmt.Errorf("provided schema does not match: %w", err)
	}
	out := *next
	out.Fields = fields
	return &out, nil
}

func evolve(old, next []*api.TableFieldSchema, path string) ([]*api.TableFieldSchema, error) {
	byName := make(map[string]*api.TableFieldSchema, len(next))
	for _, f := range next {
		byName[strings.ToLower(f.Name)] = f
	}
	out := make([]*api.TableFieldSchema, 0, len(next))
	for _, o := range old {
		at := path + o.Name
		f, ok := byName[strings.ToLower(o.Name)]
		if !ok {
			return nil, fmt.Errorf("field %s is missing in new schema", at)
		}
		delete(byName, strings.ToLower(o.Name))
		// Both have been parsed, so neither fails now.
		was, err := parseField(o, at)
		if err != nil {
			return nil, err
		}
		is, err := parseField(f, at)
		if err != nil {
			return nil, err
		}
		switch {
		case was.Kind != is.Kind:
			return nil, fmt.Errorf("field %s has changed type from %s to %s", at, was.Kind, is.Kind)
		case was.Mode != is.Mode && (was.Mode != Required || is.Mode != Nullable):
			return nil, fmt.Errorf("field %s has changed mode from %s to %s", at, was.Mode, is.Mode)
		case narrower(was.MaxLength, is.MaxLength):
			return nil, fmt.Errorf("field %s has changed maxLength from %d to %d", at, was.MaxLength, is.MaxLength)
		case is.Precision > 0 && (was.Precision == 0 || is.Scale < was.Scale || is.Precision-is.Scale < was.Precision-was.Scale):
			return nil, fmt.Errorf("field %s has changed precision from %d,%d to %d,%d", at, was.Precision, was.Scale, is.Precision, is.Scale)
		}
		kept := *f
		if was.Kind == Struct {
			if kept.Fields, err = evolve(o.Fields, f.Fields, at+"."); err != nil {
				return nil, err
			}
		}
		out = append(out, &kept)
	}
	for _, f := range next {
		if byName[strings.ToLower(f.Name)] == nil {
			continue
		}
		if strings.EqualFold(f.Mode, "REQUIRED") {
			return nil, fmt.Errorf("cannot add required fields to an existing schema (field: %s%s)", path, f.Name)
		}
		if f.DefaultValueExpression != "" {
			// The service refuses this too: a default is set on a column that is there already.
			return nil, fmt.Errorf("cannot add a field with a default value to an existing schema (field: %s%s)", path, f.Name)
		}
		out = append(out, f)
	}
	return out, nil
}

func narrower(was, is int64) bool { return is > 0 && (was == 0 || is < was) }

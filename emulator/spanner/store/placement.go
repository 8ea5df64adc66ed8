package store

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// DefaultPlacement is the placement of rows that name no other. Every database has it.
const DefaultPlacement = "default"

// Placement is one that CREATE PLACEMENT made. Where its data would lie means nothing here.
type Placement struct {
	Name string
	// Options as written in DDL, by lower-case name.
	Options []Option
}

// Placement finds a placement by its name, ignoring case, or returns nil. The default one is none.
func (s *Schema) Placement(name string) *Placement {
	for _, p := range s.Placements {
		if strings.EqualFold(p.Name, name) {
			return p
		}
	}
	return nil
}

// PlacementNames are the names of all placements, the default one first.
func (s *Schema) PlacementNames() []string {
	out := []string{DefaultPlacement}
	for _, p := range s.Placements {
		out = append(out, p.Name)
	}
	return out
}

// PlacementOf is the placement of a row of t: what its placement key says, or the default one.
func (t *Table) PlacementOf(r Row) string {
	for i := range t.Columns {
		if t.Columns[i].PlacementKey && r[i].Valid {
			return r[i].Text
		}
	}
	return DefaultPlacement
}

// checkPlacement refuses a row in a placement that is not there.
func checkPlacement(t *Table, r Row) error {
	if p := t.PlacementOf(r); p != DefaultPlacement && !slices.Contains(t.Placements, p) {
		return Errorf(codes.FailedPrecondition, "table %s has a row for the placement %q, which does not exist: create it, or write %q", t.QualifiedName(), p, DefaultPlacement)
	}
	return nil
}

package sql

import (
	"slices"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
	"github.com/cloudspannerecosystem/memefish/token"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Placements divide the rows of tables that have a placement key. All lie in this process: what they change is which read
// function of a stream with per_placement_tvf shows a row.

func (b *builder) createPlacement(t *ast.CreatePlacement) error {
	name := t.Name.Name
	if strings.EqualFold(name, store.DefaultPlacement) || b.Placement(name) != nil {
		return failed("Duplicate name in schema: %s.", name)
	}
	p := &store.Placement{Name: name}
	if t.Options != nil {
		for _, r := range t.Options.Records {
			key := strings.ToLower(r.Name.Name)
			v, ok := r.Value.(*ast.StringLiteral)
			if !ok || key != "instance_partition" && key != "default_leader" {
				return invalid("the option %s of placement %s: want instance_partition or default_leader, and a string", r.Name.Name, name)
			}
			p.Options = append(p.Options, store.Option{Name: key, Value: v.Value})
		}
	}
	b.Placements = append(b.Placements, p)
	b.tellPlacements()
	return nil
}

func (b *builder) dropPlacement(t *ast.DropPlacement) error {
	p := b.Placement(t.Name.Name)
	if p == nil {
		return notFound("Placement not found: %s", t.Name.Name)
	}
	b.Placements = slices.DeleteFunc(b.Placements, func(other *store.Placement) bool { return other == p })
	b.tellPlacements() // and rows that are still there refuse it
	return nil
}

// tellPlacements gives the tables with a placement key the names that it may have.
func (b *builder) tellPlacements() {
	for i, t := range b.Tables {
		if hasPlacementKey(t) {
			now := *t
			now.Placements = b.PlacementNames()[1:]
			b.Tables[i] = &now
		}
	}
}

func hasPlacementKey(t *store.Table) bool {
	return slices.ContainsFunc(t.Columns, func(c store.Column) bool { return c.PlacementKey })
}

// placementKey makes a column of a new table name its rows' placement.
func (b *builder) placementKey(tab *store.Table, col *store.Column) error {
	full := tab.QualifiedName()
	switch {
	case col.Type.Code != store.String || !col.NotNull:
		return failed("the placement key %s.%s must be STRING and NOT NULL", full, col.Name)
	case hasPlacementKey(tab):
		return failed("table %s has two placement keys", full)
	}
	col.PlacementKey = true
	tab.Placements = b.PlacementNames()[1:]
	return nil
}

func printPlacement(p *store.Placement) string {
	text := "CREATE PLACEMENT " + quoted(p.Name)
	if len(p.Options) == 0 {
		return text
	}
	opts := make([]string, len(p.Options))
	for i, o := range p.Options {
		opts[i] = o.Name + " = " + token.QuoteSQLString(o.Value)
	}
	return text + " OPTIONS (" + strings.Join(opts, ", ") + ")"
}

// readFunctions are the names of all streams' read functions.
func readFunctions(s *store.Schema) (names []string) {
	for _, def := range s.Streams {
		prefix := readFunction
		if s.Postgres {
			prefix = "read_json_"
			if optionValue(def.Options, "partition_mode") == "MUTABLE_KEY_RANGE" {
				prefix = "read_proto_bytes_"
			}
		}
		if !perPlacement(def) {
			names = append(names, prefix+def.Name)
			continue
		}
		for _, p := range s.PlacementNames() {
			names = append(names, prefix+def.Name+"_"+p)
		}
	}
	return names
}

func routinesView(s *store.Schema) *virtual {
	v := define("SPECIFIC_CATALOG SPECIFIC_SCHEMA SPECIFIC_NAME ROUTINE_CATALOG ROUTINE_SCHEMA ROUTINE_NAME ROUTINE_TYPE DATA_TYPE ROUTINE_BODY ROUTINE_DEFINITION EXTERNAL_LANGUAGE DETERMINISTIC SECURITY_TYPE")
	schema := ""
	if s.Postgres {
		schema = "spanner"
	}
	for _, name := range readFunctions(s) {
		v.add("", schema, name, "", schema, name, "FUNCTION", "TABLE", "EXTERNAL", nil, nil, "NO", "INVOKER")
	}
	return v
}

func placementsView(s *store.Schema) *virtual {
	v := define("PLACEMENT_NAME IS_DEFAULT:b")
	for i, name := range s.PlacementNames() {
		v.add(name, i == 0)
	}
	return v
}

package sql

import (
	"strings"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// printRoles writes the statements that make the roles and give them their privileges. quote writes a name for the
// dialect.
func printRoles(s *store.Schema, quote func(string) string) []string {
	var out []string
	for _, r := range s.Roles {
		if !r.System {
			out = append(out, "CREATE ROLE "+quote(r.Name))
		}
	}
	word := "ROLE "
	if s.Postgres {
		word = ""
	}
	for _, r := range s.Roles {
		for i := 0; i < len(r.Grants); {
			g := r.Grants[i]
			var privileges []string
			for ; i < len(r.Grants) && r.Grants[i].On == g.On && r.Grants[i].Object == g.Object; i++ {
				p := string(r.Grants[i].Privilege)
				if cols := r.Grants[i].Columns; cols != nil {
					names := make([]string, len(cols))
					for j, c := range cols {
						names[j] = quote(c)
					}
					p += "(" + strings.Join(names, ", ") + ")"
				}
				privileges = append(privileges, p)
			}
			kind := strings.ToUpper(string(g.On))
			if s.Postgres && g.On == store.FunctionObject {
				kind = "FUNCTION"
			}
			out = append(out, "GRANT "+strings.Join(privileges, ", ")+" ON "+kind+" "+quote(g.Object)+" TO "+word+quote(r.Name))
		}
		for _, parent := range r.MemberOf {
			out = append(out, "GRANT "+word+quote(parent)+" TO "+word+quote(r.Name))
		}
	}
	return out
}

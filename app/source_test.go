package app

import (
	"log/slog"
	"strings"
	"testing"

	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// A database role sees only what it has privileges on, so what it does not see may be there: the errors say what to grant.
func TestSourceSeenByRole(t *testing.T) {
	srv, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	b := newBreaking(t, srv.Addr())
	b.ddl("CREATE ROLE blind", "CREATE ROLE reader", "CREATE ROLE sees", "GRANT SELECT ON CHANGE STREAM Everything TO ROLE reader", "GRANT ROLE reader, spanner_info_reader TO ROLE sees")
	for _, c := range []struct{ role, stream, filter string }{
		{"", "", ""},
		{"blind", "change stream Everything that the database role blind may read, who may read none: correct the name, or grant", "GRANT ROLE spanner_info_reader"},
		{"reader", "", "the database role reader sees only what it has privileges on"},
		{"sees", "", ""},
		{"nobody", "Role not found: nobody", "Role not found: nobody"},
	} {
		b.config.Reader.Role = c.role
		b.config.Filter.Tables.Include, b.config.Filter.Drop = []string{"Carts"}, []string{"Carts.Items"}
		check := func(got error, want string) {
			t.Helper()
			if want == "" && got != nil || want != "" && (got == nil || !strings.Contains(got.Error(), want)) {
				t.Errorf("%s: %v, want %q", c.role, got, want)
			}
		}
		check(b.checkStream(t.Context(), b.config), c.stream)
		check(b.checkFilter(t.Context(), b.config, true, slog.New(slog.DiscardHandler)), c.filter)
	}
}

package changestream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// A reader with a database role reads what the role may read. What it may not is refused with what was asked, by whom, and
// what to grant.
func TestDatabaseRole(t *testing.T) {
	w := startEmbedded(t, embedded.Options{}, append(testDDL, movingStream,
		"CREATE ROLE whole", "CREATE ROLE stream_only", "CREATE ROLE function_only", "CREATE ROLE member", "CREATE ROLE nothing",
		"GRANT SELECT ON CHANGE STREAM Everything, Moving TO ROLE whole", "GRANT EXECUTE ON TABLE FUNCTION READ_Everything, READ_Moving TO ROLE whole",
		"GRANT SELECT ON CHANGE STREAM Everything TO ROLE stream_only", "GRANT EXECUTE ON TABLE FUNCTION READ_Everything TO ROLE function_only",
		"GRANT ROLE whole TO ROLE member",
	)...)
	for _, c := range []struct{ role, stream string }{{"whole", "Everything"}, {"whole", "Moving"}, {"member", "Everything"}} {
		r := w.open(Options{Stream: c.stream, DatabaseRole: c.role})
		start, err := r.Now(t.Context())
		w.must(err)
		_, err = w.client.Apply(t.Context(), []*spanner.Mutation{spanner.InsertOrUpdateMap("Carts", map[string]any{"CartId": "a", "Items": time.Now().Unix()})})
		w.must(err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		got := 0
		err = follow(ctx, r, start, func(f *change.Frame) {
			if got += len(f.Changes); got > 0 {
				cancel()
			}
		})
		if got != 1 {
			t.Errorf("%s reads %d changes of %s: %v", c.role, got, c.stream, err)
		}
		cancel()
	}
	for _, c := range []struct{ role, what string }{
		// The information schema shows a role only the streams that it may read.
		{"function_only", "no change stream Everything that the database role function_only may read: correct the name, or grant the role SELECT on the change stream and EXECUTE on its read function; it may read none"},
		{"nothing", "the database role nothing may read"},
		{"nobody", "the database has no role nobody: correct the name, or make it with CREATE ROLE"},
	} {
		_, err := New(t.Context(), Options{Database: testDatabase, Stream: "Everything", DatabaseRole: c.role, ClientOptions: w.options})
		if err == nil || !strings.Contains(err.Error(), c.what) || !strings.Contains(err.Error(), testDatabase) {
			t.Errorf("%s: %v", c.role, err)
		}
	}
	denied := func(role string, lose string, say ...string) {
		t.Helper()
		r := w.open(Options{Stream: "Everything", DatabaseRole: role})
		start, err := r.Now(t.Context())
		w.must(err)
		if lose != "" {
			w.ddl(lose)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err = follow(ctx, r, start, func(*change.Frame) {})
		d, ok := errors.AsType[*DeniedError](err)
		if !ok || d.Role != role {
			t.Fatalf("%s: %v", role, err)
		}
		for _, text := range append(say, "the initial query of change stream Everything") {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", role, err, text)
			}
		}
	}
	const advice = " SELECT on the change stream and EXECUTE on its read function"
	denied("stream_only", "", "grant the database role stream_only"+advice, "Role stream_only does not have required privileges on table function READ_Everything.")
	denied("member", "REVOKE SELECT ON CHANGE STREAM Everything FROM ROLE whole", "grant the database role member"+advice, "Role member does not have required privileges on change stream Everything.")
	w.ddl("GRANT SELECT ON CHANGE STREAM Everything TO ROLE member", "REVOKE ROLE whole FROM ROLE member", "GRANT EXECUTE ON TABLE FUNCTION READ_Everything TO ROLE member")
	r := w.open(Options{Stream: "Everything", DatabaseRole: "member"})
	w.ddl("REVOKE SELECT ON CHANGE STREAM Everything FROM ROLE member", "REVOKE EXECUTE ON TABLE FUNCTION READ_Everything FROM ROLE member", "DROP ROLE member")
	_, err := r.Now(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the database has no role member") {
		t.Errorf("a role that is dropped meanwhile: %v", err)
	}
}

package spanner_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	cloudspanner "cloud.google.com/go/spanner"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner"
)

var roleSchema = []string{
	"CREATE SCHEMA hr",
	"CREATE TABLE Staff (Id INT64 NOT NULL, Name STRING(MAX), Pay INT64, Twice INT64 AS (Pay * 2) STORED) PRIMARY KEY (Id)",
	"CREATE TABLE Child (Id INT64 NOT NULL, N INT64 NOT NULL) PRIMARY KEY (Id, N), INTERLEAVE IN PARENT Staff ON DELETE CASCADE",
	"CREATE TABLE hr.Notes (Id INT64 NOT NULL, Text STRING(MAX)) PRIMARY KEY (Id)",
	"CREATE VIEW Mine SQL SECURITY INVOKER AS SELECT Staff.Id, Staff.Pay FROM Staff",
	"CREATE VIEW Theirs SQL SECURITY DEFINER AS SELECT Staff.Id, Staff.Pay FROM Staff",
	"CREATE SEQUENCE Numbers OPTIONS (sequence_kind = 'bit_reversed_positive')",
	"CREATE TABLE Numbered (Id INT64 DEFAULT (GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers)), Text STRING(MAX)) PRIMARY KEY (Id)",
	"CREATE CHANGE STREAM Feed FOR ALL",
	"CREATE ROLE reader", "CREATE ROLE boss", "CREATE ROLE none",
}

// as is the world for a session with a role.
func (w *world) as(role string) *world {
	w.Helper()
	return w.of(dbName, role)
}

func (w *world) of(database, role string) *world {
	w.Helper()
	c, err := cloudspanner.NewClientWithConfig(w.ctx, database, cloudspanner.ClientConfig{DisableNativeMetrics: true, DatabaseRole: role}, w.opts...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	other := *w
	other.client = c
	return &other
}

// write runs DML in a transaction of its own.
func (w *world) write(sql string) error {
	_, err := w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		it := tx.Query(ctx, cloudspanner.NewStatement(sql))
		return it.Do(func(*cloudspanner.Row) error { return nil })
	})
	return err
}

// wantAccess wants nil where denied is "", and else Spanner's refusal about that thing.
func wantAccess(t *testing.T, what string, err error, denied string) {
	t.Helper()
	switch {
	case denied == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case denied != "" && (status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), denied)):
		t.Errorf("%s: %v, want PERMISSION_DENIED: %s", what, err, denied)
	}
}

func TestRolesInQueriesAndDML(t *testing.T) {
	w := start(t, spanner.Options{}, roleSchema...)
	w.apply(cloudspanner.Insert("Staff", []string{"Id", "Name", "Pay"}, []any{1, "Ann", 10}))
	if err := w.ddl("GRANT SELECT(Id, Name), UPDATE(Name), DELETE ON TABLE Staff TO ROLE reader", "GRANT INSERT(Id, Name) ON TABLE Staff TO ROLE reader",
		"GRANT INSERT ON TABLE Numbered TO ROLE reader", "GRANT SELECT ON VIEW Mine, Theirs TO ROLE reader", "GRANT SELECT ON TABLE hr.Notes TO ROLE reader"); err != nil {
		t.Fatal(err)
	}
	r := w.as("reader")
	const staff, notes = "Role reader does not have required privileges on table Staff.", "Role reader does not have required privileges on schema hr."
	for _, c := range []struct{ sql, denied string }{
		{"SELECT Id, Name FROM Staff", ""},
		{"SELECT COUNT(*) FROM Staff", ""},
		{"SELECT s.Name FROM Staff AS s WHERE s.Id IN (SELECT Id FROM Staff) ORDER BY s.Id", ""},
		{"SELECT 1 FROM Staff WHERE Pay > 5", staff},
		{"SELECT 1 FROM Staff ORDER BY Pay", staff},
		{"SELECT COUNT(*) FROM Staff GROUP BY Pay", staff},
		{"SELECT MAX(Pay) FROM Staff", staff},
		{"SELECT Twice FROM Staff", staff},
		{"SELECT * FROM Staff", staff},
		{"SELECT * EXCEPT (Pay, Twice) FROM Staff", ""},
		{"SELECT TO_JSON_STRING(s) FROM Staff AS s", staff},
		{"SELECT * FROM (SELECT Pay FROM Staff)", staff},
		{"WITH x AS (SELECT Pay FROM Staff) SELECT 1 FROM x", staff},
		{"SELECT Id FROM Staff WHERE EXISTS (SELECT 1 FROM Child WHERE Child.Id = Staff.Id)", "on table Child."},
		{"SELECT a.Id FROM Staff AS a JOIN Staff AS b USING (Pay)", staff},
		{"SELECT a.Id FROM Staff AS a JOIN Staff AS b USING (Name)", ""},
		{"SELECT Id FROM Mine", staff},
		{"SELECT Pay FROM Theirs", ""},
		{"SELECT Id FROM hr.Notes", notes},
		{"SELECT * FROM UNNEST([1, 2])", ""},
	} {
		_, err := r.tryQuery(c.sql)
		wantAccess(t, c.sql, err, c.denied)
	}
	for _, c := range []struct{ sql, denied string }{
		{"INSERT INTO Staff (Id, Name) VALUES (2, 'Bob')", ""},
		{"INSERT INTO Staff (Id, Pay) VALUES (3, 1)", staff},
		{"INSERT INTO Staff (Id, Name) VALUES (4, 'Cy') THEN RETURN Id", ""},
		{"INSERT INTO Staff (Id, Name) VALUES (5, 'Cy') THEN RETURN Pay", staff},
		{"INSERT INTO Staff (Id, Name) SELECT Id + 10, CAST(Pay AS STRING) FROM Staff", staff},
		{"INSERT OR UPDATE INTO Staff (Id, Name) VALUES (2, 'Bert')", ""},
		{"UPDATE Staff SET Name = 'Bea' WHERE Id = 2", ""},
		{"UPDATE Staff SET Pay = 1 WHERE Id = 2", staff},
		{"UPDATE Staff SET Name = 'x' WHERE Pay = 1", staff},
		{"UPDATE Staff SET Name = CAST(Pay AS STRING) WHERE TRUE", staff},
		{"DELETE FROM Staff WHERE Pay = 1", staff},
		{"DELETE FROM Child WHERE TRUE", "on table Child."},
		{"DELETE FROM Staff WHERE Id = 4", ""},
		{"SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers)", "on sequence Numbers."},
		{"INSERT INTO Numbered (Text) VALUES ('x')", "on sequence Numbers."},
		{"INSERT INTO Numbered (Id, Text) VALUES (1, 'x')", ""},
		{"INSERT INTO Numbered (Id, Text) VALUES (DEFAULT, 'x')", "on sequence Numbers."},
	} {
		wantAccess(t, c.sql, r.write(c.sql), c.denied)
	}
	if got := fmt.Sprint(w.query("SELECT Id, Name, Pay FROM Staff ORDER BY Id")); got != "[[1 Ann 10] [2 Bea NULL]]" {
		t.Errorf("what is not allowed has no effect: %s", got)
	}
	_, err := r.client.PartitionedUpdate(w.ctx, cloudspanner.NewStatement("UPDATE Staff SET Pay = 1 WHERE TRUE"))
	wantAccess(t, "partitioned DML", err, staff)
	batch, err := r.client.BatchReadOnlyTransaction(w.ctx, cloudspanner.StrongRead())
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	_, err = batch.PartitionQuery(w.ctx, cloudspanner.NewStatement("SELECT Pay FROM Staff"), cloudspanner.PartitionOptions{})
	wantAccess(t, "a partitioned query", err, staff)
	_, err = batch.PartitionRead(w.ctx, "Staff", cloudspanner.AllKeys(), []string{"Pay"}, cloudspanner.PartitionOptions{})
	wantAccess(t, "a partitioned read", err, staff)
	// Grants take effect on sessions that are open, and are lost as fast.
	if err := w.ddl("GRANT USAGE ON SCHEMA hr TO ROLE public", "GRANT UPDATE ON SEQUENCE Numbers TO ROLE public", "GRANT ROLE reader TO ROLE boss", "GRANT SELECT(Pay) ON TABLE Staff TO ROLE boss"); err != nil {
		t.Fatal(err)
	}
	_, err = r.tryQuery("SELECT Id FROM hr.Notes")
	wantAccess(t, "what public has", err, "")
	for _, sql := range []string{"SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers)", "INSERT INTO Numbered (Text) VALUES ('x')"} {
		wantAccess(t, sql, r.write(sql), "")
	}
	boss := w.as("boss")
	_, err = boss.tryQuery("SELECT Id, Pay FROM Mine")
	wantAccess(t, "what a role has and inherits", err, "")
	if err := w.ddl("REVOKE SELECT ON VIEW Mine FROM ROLE reader"); err != nil {
		t.Fatal(err)
	}
	_, err = boss.tryQuery("SELECT Id, Pay FROM Mine")
	wantAccess(t, "what its parent has lost", err, "on view Mine.")
}

func TestRolesInReadsAndMutations(t *testing.T) {
	w := start(t, spanner.Options{}, roleSchema...)
	if err := w.ddl("GRANT SELECT(Id, Name), UPDATE(Id, Name), INSERT(Id, Name) ON TABLE Staff TO ROLE reader", "GRANT DELETE ON TABLE Staff TO ROLE boss", "GRANT ROLE reader TO ROLE boss"); err != nil {
		t.Fatal(err)
	}
	cols, row := []string{"Id", "Name"}, []any{1, "Ann"}
	const staff = "does not have required privileges on table Staff."
	for _, c := range []struct {
		role, denied string
		m            *cloudspanner.Mutation
	}{
		{"reader", "", cloudspanner.Insert("Staff", cols, row)},
		{"none", staff, cloudspanner.Insert("Staff", cols, row)},
		{"reader", "", cloudspanner.InsertOrUpdate("Staff", cols, row)},
		{"reader", "", cloudspanner.Update("Staff", cols, row)},
		{"reader", staff, cloudspanner.Update("Staff", []string{"Id", "Pay"}, []any{1, 5})},
		{"reader", staff, cloudspanner.Replace("Staff", cols, row)},
		{"reader", staff, cloudspanner.Delete("Staff", cloudspanner.Key{1})},
		{"boss", "", cloudspanner.Replace("Staff", cols, row)},
		{"boss", "", cloudspanner.Delete("Staff", cloudspanner.AllKeys())},
		{"boss", "on table Child.", cloudspanner.Delete("Child", cloudspanner.AllKeys())},
	} {
		_, err := w.as(c.role).client.Apply(w.ctx, []*cloudspanner.Mutation{c.m})
		wantAccess(t, fmt.Sprintf("%v as %s", c.m, c.role), err, c.denied)
	}
	read := func(role string, columns ...string) error {
		return w.as(role).client.Single().Read(w.ctx, "Staff", cloudspanner.AllKeys(), columns).Do(func(*cloudspanner.Row) error { return nil })
	}
	wantAccess(t, "a read", read("boss", "Id", "Name"), "")
	wantAccess(t, "a read", read("boss", "Id", "Pay"), "Role boss "+staff)
	wantAccess(t, "a read", read("none", "Id"), "Role none "+staff)
	// Each group of a batch write is judged by itself.
	var codesOf []codes.Code
	groups := []*cloudspanner.MutationGroup{
		{Mutations: []*cloudspanner.Mutation{cloudspanner.Insert("Staff", cols, []any{7, "Gus"})}},
		{Mutations: []*cloudspanner.Mutation{cloudspanner.Insert("Staff", []string{"Id", "Pay"}, []any{8, 1})}},
	}
	if err := w.as("reader").client.BatchWrite(w.ctx, groups).Do(func(r *sppb.BatchWriteResponse) error {
		codesOf = append(codesOf, codes.Code(r.Status.GetCode()))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(codesOf, []codes.Code{codes.OK, codes.PermissionDenied}) {
		t.Errorf("a batch write: %v", codesOf)
	}
}

func TestRoleStatements(t *testing.T) {
	w := start(t, spanner.Options{}, roleSchema...)
	for _, c := range []struct {
		sql  string
		code codes.Code
	}{
		{"CREATE ROLE reader", codes.FailedPrecondition},
		{"CREATE ROLE public", codes.InvalidArgument},
		{"CREATE ROLE spanner_x", codes.InvalidArgument},
		{"DROP ROLE public", codes.InvalidArgument},
		{"DROP ROLE nobody", codes.NotFound},
		{"GRANT SELECT ON TABLE Staff TO ROLE nobody", codes.NotFound},
		{"GRANT SELECT ON TABLE staff TO ROLE reader", codes.NotFound}, // names keep their case here
		{"GRANT SELECT(Nope) ON TABLE Staff TO ROLE reader", codes.NotFound},
		{"GRANT SELECT(N) ON TABLE Staff, Child TO ROLE reader", codes.NotFound},
		{"GRANT INSERT(Twice) ON TABLE Staff TO ROLE reader", codes.InvalidArgument},
		{"GRANT SELECT ON VIEW Staff TO ROLE reader", codes.NotFound},
		{"GRANT SELECT ON CHANGE STREAM Nope TO ROLE reader", codes.NotFound},
		{"GRANT EXECUTE ON TABLE FUNCTION READ_Nope TO ROLE reader", codes.NotFound},
		{"GRANT EXECUTE ON TABLE FUNCTION read_Feed TO ROLE reader", codes.NotFound},
		{"GRANT USAGE ON SCHEMA nope TO ROLE reader", codes.NotFound},
		{"GRANT SELECT ON ALL TABLES IN SCHEMA nope TO ROLE reader", codes.NotFound},
		{"GRANT SELECT ON TABLE Staff TO ROLE spanner_info_reader", codes.InvalidArgument},
		{"GRANT ROLE public TO ROLE reader", codes.InvalidArgument},
		{"GRANT ROLE reader TO ROLE spanner_sys_reader", codes.InvalidArgument},
		{"GRANT ROLE reader TO ROLE public", codes.InvalidArgument},
		{"GRANT ROLE reader TO ROLE reader", codes.FailedPrecondition},
		{"GRANT ROLE reader TO ROLE boss", codes.OK},
		{"GRANT ROLE boss TO ROLE none", codes.OK},
		{"GRANT ROLE none TO ROLE reader", codes.FailedPrecondition}, // a circle
		{"GRANT SELECT(Name), UPDATE(Name) ON TABLE Staff TO ROLE reader, reader", codes.OK},
		{"GRANT SELECT(Pay) ON TABLE Staff TO ROLE reader", codes.OK},
		{"DROP ROLE reader", codes.FailedPrecondition}, // it has privileges
		{"REVOKE DELETE ON TABLE Staff FROM ROLE reader", codes.OK},
		{"REVOKE SELECT ON TABLE Staff FROM ROLE reader", codes.OK},
		{"REVOKE UPDATE(Name) ON TABLE Staff FROM ROLE reader", codes.OK},
		{"DROP ROLE reader", codes.OK},
	} {
		if err := w.ddl(c.sql); status.Code(err) != c.code {
			t.Errorf("%s: %v, want %v", c.sql, err, c.code)
		}
	}
	// What a role is granted goes with what it is granted on, and comes back only by another grant.
	if err := w.ddl(
		"GRANT ROLE spanner_info_reader TO ROLE boss", "GRANT USAGE ON SCHEMA hr, hr TO ROLE boss", "GRANT USAGE ON SCHEMA DEFAULT TO ROLE boss",
		"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA hr TO ROLE boss", "GRANT SELECT ON ALL VIEWS IN SCHEMA default TO ROLE boss", "GRANT SELECT ON ALL CHANGE STREAMS IN SCHEMA default TO ROLE boss",
		"GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA default TO ROLE boss", "GRANT EXECUTE ON TABLE FUNCTION READ_Feed TO ROLE boss",
		"GRANT SELECT(Name, Pay), DELETE ON TABLE Staff TO ROLE none", "GRANT SELECT ON TABLE Staff TO ROLE public",
		"REVOKE SELECT ON VIEW Mine FROM ROLE boss",
	); err != nil {
		t.Fatal(err)
	}
	ddl := func() []string {
		res, err := w.admin.GetDatabaseDdl(w.ctx, &databasepb.GetDatabaseDdlRequest{Database: dbName})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(res.Statements, func(s string) bool {
			return !strings.HasPrefix(s, "GRANT") && !strings.HasPrefix(s, "CREATE ROLE")
		})
	}
	want := []string{
		"CREATE ROLE boss", "CREATE ROLE none",
		"GRANT SELECT ON TABLE Staff TO ROLE public",
		"GRANT USAGE ON SCHEMA hr TO ROLE boss", "GRANT SELECT, INSERT ON TABLE hr.Notes TO ROLE boss", "GRANT SELECT ON VIEW Theirs TO ROLE boss",
		"GRANT SELECT ON CHANGE STREAM Feed TO ROLE boss", "GRANT SELECT, UPDATE ON SEQUENCE Numbers TO ROLE boss", "GRANT EXECUTE ON TABLE FUNCTION READ_Feed TO ROLE boss",
		"GRANT ROLE spanner_info_reader TO ROLE boss",
		"GRANT SELECT(Name, Pay), DELETE ON TABLE Staff TO ROLE none", "GRANT ROLE boss TO ROLE none",
	}
	if got := ddl(); !slices.Equal(got, want) {
		t.Errorf("the statements are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := w.ddl("DROP VIEW Theirs", "DROP VIEW Mine", "DROP CHANGE STREAM Feed", "DROP TABLE Numbered", "DROP SEQUENCE Numbers", "DROP TABLE hr.Notes", "DROP SCHEMA hr",
		"ALTER TABLE Staff DROP COLUMN Name", "DROP TABLE Child", "ALTER TABLE Staff RENAME TO Crew"); err != nil {
		t.Fatal(err)
	}
	want = []string{
		"CREATE ROLE boss", "CREATE ROLE none", "GRANT SELECT ON TABLE Crew TO ROLE public",
		"GRANT ROLE spanner_info_reader TO ROLE boss", "GRANT SELECT(Pay), DELETE ON TABLE Crew TO ROLE none", "GRANT ROLE boss TO ROLE none",
	}
	if got := ddl(); !slices.Equal(got, want) {
		t.Errorf("after the drops they are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var many []string
	for i := range 98 {
		many = append(many, fmt.Sprintf("CREATE ROLE more%d", i))
	}
	if err := w.ddl(many...); err != nil {
		t.Fatal(err)
	}
	if err := w.ddl("CREATE ROLE toomuch"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the 101st role: %v", err)
	}
}

func TestRolesInInformationSchema(t *testing.T) {
	w := start(t, spanner.Options{}, roleSchema...)
	if err := w.ddl("GRANT SELECT(Id, Name) ON TABLE Staff TO ROLE reader", "GRANT DELETE ON TABLE Child TO ROLE public", "GRANT SELECT ON CHANGE STREAM Feed TO ROLE boss",
		"GRANT EXECUTE ON TABLE FUNCTION READ_Feed TO ROLE boss", "GRANT ROLE spanner_info_reader, reader TO ROLE boss"); err != nil {
		t.Fatal(err)
	}
	const (
		roles    = "SELECT ROLE_NAME, IS_SYSTEM FROM INFORMATION_SCHEMA.ROLES ORDER BY 1"
		grantees = "SELECT ROLE_NAME, GRANTEE FROM INFORMATION_SCHEMA.ROLE_GRANTEES ORDER BY 1, 2"
		tables   = "SELECT TABLE_NAME, PRIVILEGE_TYPE, GRANTEE FROM INFORMATION_SCHEMA.TABLE_PRIVILEGES"
		columns  = "SELECT TABLE_NAME, COLUMN_NAME, PRIVILEGE_TYPE, GRANTEE FROM INFORMATION_SCHEMA.COLUMN_PRIVILEGES"
		streams  = "SELECT CHANGE_STREAM_NAME, PRIVILEGE_TYPE, GRANTEE FROM INFORMATION_SCHEMA.CHANGE_STREAM_PRIVILEGES"
		routines = "SELECT SPECIFIC_NAME, PRIVILEGE_TYPE, GRANTEE FROM INFORMATION_SCHEMA.ROUTINE_PRIVILEGES"
		named    = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES ORDER BY 1"
		cells    = "SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'Staff' ORDER BY 1"
		feeds    = "SELECT CHANGE_STREAM_NAME FROM INFORMATION_SCHEMA.CHANGE_STREAMS"
		sequence = "SELECT NAME FROM INFORMATION_SCHEMA.SEQUENCES"
	)
	for _, c := range []struct{ role, sql, want string }{
		{"", roles, "[[boss false] [none false] [public true] [reader false] [spanner_info_reader true] [spanner_sys_reader true]]"},
		{"", grantees, "[[reader boss] [spanner_info_reader boss]]"},
		{"", tables, "[[Child DELETE public]]"},
		{"", columns, "[[Staff Id SELECT reader] [Staff Name SELECT reader]]"},
		{"", streams, "[[Feed SELECT boss]]"},
		{"", routines, "[[READ_Feed EXECUTE boss]]"},
		{"", named, "[[Child] [Mine] [Notes] [Numbered] [Staff] [Theirs]]"},
		// A role sees what it has to do with; one that inherits from spanner_info_reader sees everything.
		{"reader", roles, "[[public true] [reader false]]"},
		{"reader", grantees, "[]"},
		{"reader", tables, "[[Child DELETE public]]"},
		{"reader", columns, "[[Staff Id SELECT reader] [Staff Name SELECT reader]]"},
		{"reader", streams, "[]"},
		{"reader", routines, "[]"},
		{"reader", named, "[[Child] [Staff]]"},
		{"reader", cells, "[[Id] [Name]]"},
		{"reader", feeds, "[]"},
		{"reader", sequence, "[]"},
		{"none", columns, "[]"},
		{"boss", streams, "[[Feed SELECT boss]]"},
		{"boss", named, "[[Child] [Mine] [Notes] [Numbered] [Staff] [Theirs]]"},
		{"boss", sequence, "[[Numbers]]"},
		{"spanner_info_reader", feeds, "[[Feed]]"},
	} {
		if got := fmt.Sprint(w.as(c.role).query(c.sql)); got != c.want {
			t.Errorf("%s as %q: %s, want %s", c.sql, c.role, got, c.want)
		}
	}
	var listed []string
	it := w.admin.ListDatabaseRoles(w.ctx, &databasepb.ListDatabaseRolesRequest{Parent: dbName, PageSize: 2})
	for {
		r, err := it.Next()
		if err == iterator.Done {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, strings.TrimPrefix(r.Name, dbName+"/databaseRoles/"))
	}
	if want := []string{"boss", "none", "public", "reader", "spanner_info_reader", "spanner_sys_reader"}; !slices.Equal(listed, want) {
		t.Errorf("the list is %v, want %v", listed, want)
	}
}

func TestPostgresRoles(t *testing.T) {
	roles := []string{
		"CREATE SCHEMA hr", `CREATE TABLE carts (id bigint PRIMARY KEY, owner varchar, "Total" bigint)`, "CREATE TABLE hr.notes (id bigint PRIMARY KEY)",
		"CREATE CHANGE STREAM every FOR ALL", "CREATE CHANGE STREAM movable FOR ALL WITH (partition_mode = 'MUTABLE_KEY_RANGE')",
		"CREATE ROLE reader", "CREATE ROLE boss", "CREATE ROLE gone", "DROP ROLE gone",
		`GRANT SELECT (id, "Total"), UPDATE (owner) ON carts TO reader`, "GRANT SELECT, DELETE ON TABLE hr.notes TO reader, boss", "GRANT USAGE ON SCHEMA hr TO boss",
		"GRANT SELECT ON CHANGE STREAM every, movable TO reader", "GRANT EXECUTE ON FUNCTION spanner.read_json_every, spanner.read_proto_bytes_movable TO reader",
		"GRANT INSERT ON TABLE carts TO public", "GRANT reader, spanner_info_reader TO boss", "REVOKE UPDATE (owner) ON carts FROM reader", "REVOKE DELETE ON hr.notes FROM boss",
	}
	w := startPostgres(t, roles...)
	want := strings.Join([]string{
		"CREATE ROLE reader", "CREATE ROLE boss",
		"GRANT INSERT ON TABLE carts TO public",
		`GRANT SELECT(id, "Total") ON TABLE carts TO reader`, "GRANT SELECT, DELETE ON TABLE hr.notes TO reader", "GRANT SELECT ON CHANGE STREAM every TO reader",
		"GRANT SELECT ON CHANGE STREAM movable TO reader", "GRANT EXECUTE ON FUNCTION spanner.read_json_every TO reader",
		"GRANT EXECUTE ON FUNCTION spanner.read_proto_bytes_movable TO reader",
		"GRANT SELECT ON TABLE hr.notes TO boss", "GRANT USAGE ON SCHEMA hr TO boss", "GRANT reader TO boss", "GRANT spanner_info_reader TO boss",
	}, ";\n")
	printed := w.printed(pgName)
	if !strings.HasSuffix(printed, want) {
		t.Errorf("the statements are\n%s\nwant at the end\n%s", printed, want)
	}
	again := startPostgres(t, strings.Split(printed, ";\n")...)
	if got := again.printed(pgName); got != printed {
		t.Errorf("the printed statements make\n%s\nwant\n%s", got, printed)
	}
	for sql, code := range map[string]codes.Code{
		"GRANT SELECT ON ALL TABLES IN SCHEMA hr TO reader": codes.Unimplemented, "GRANT SELECT ON nope TO reader": codes.NotFound, "GRANT SELECT, ON carts TO reader": codes.InvalidArgument,
		"GRANT SELECT ON carts FROM reader": codes.InvalidArgument, "GRANT SELECT carts TO reader": codes.InvalidArgument, "GRANT": codes.InvalidArgument, "REVOKE reader FROM": codes.InvalidArgument,
		"GRANT EXECUTE ON FUNCTION spanner.read_json_movable TO reader": codes.NotFound, "CREATE ROLE public": codes.InvalidArgument,
	} {
		if err := w.pgDDL(sql); status.Code(err) != code {
			t.Errorf("%s: %v, want %v", sql, err, code)
		}
	}
	reader, boss := w.of(pgName, "reader"), w.of(pgName, "boss")
	for _, c := range []struct {
		as          *world
		sql, denied string
	}{
		{reader, `SELECT id, "Total" FROM carts`, ""},
		{reader, "SELECT owner FROM public.carts", "Role reader does not have required privileges on table carts."},
		{reader, "SELECT id FROM hr.notes", "on schema hr."},
		{boss, "SELECT id FROM hr.notes", ""},
		{reader, `SELECT * FROM "spanner"."read_json_every"(CURRENT_TIMESTAMP, NULL, NULL, 1000, NULL)`, ""},
		{w.of(pgName, "public"), `SELECT * FROM "spanner"."read_json_every"(CURRENT_TIMESTAMP, NULL, NULL, 1000, NULL)`, "Role public does not have required privileges on table function spanner.read_json_every."},
	} {
		if strings.Contains(c.sql, "CURRENT_TIMESTAMP") {
			now := w.query("SELECT CURRENT_TIMESTAMP")[0][0]
			c.sql = strings.Replace(c.sql, "CURRENT_TIMESTAMP, NULL", "'"+now+"', '"+now+"'", 1)
		}
		_, err := c.as.tryQuery(c.sql)
		wantAccess(t, c.sql, err, c.denied)
	}
	for _, c := range []struct {
		as        *world
		sql, want string
	}{
		{w, "SELECT role_name, spanner_is_system FROM information_schema.enabled_roles ORDER BY role_name", "[[boss NO] [public YES] [reader NO] [spanner_info_reader YES] [spanner_sys_reader YES]]"},
		{reader, "SELECT role_name FROM information_schema.enabled_roles ORDER BY role_name", "[[public] [reader]]"},
		{w, "SELECT grantee, role_name, is_grantable FROM information_schema.applicable_roles ORDER BY role_name", "[[boss reader NO] [boss spanner_info_reader NO]]"},
		{w, "SELECT grantee, table_schema, table_name, privilege_type FROM information_schema.table_privileges WHERE table_name = 'carts'", "[[public public carts INSERT]]"},
		{reader, "SELECT column_name, privilege_type FROM information_schema.column_privileges WHERE grantee = 'reader' AND table_name = 'carts' ORDER BY 1", "[[Total SELECT] [id SELECT]]"},
		{reader, "SELECT change_stream_name FROM information_schema.change_stream_privileges ORDER BY 1", "[[every] [movable]]"},
	} {
		if got := fmt.Sprint(c.as.query(c.sql)); got != c.want {
			t.Errorf("%s: %s, want %s", c.sql, got, c.want)
		}
	}
}

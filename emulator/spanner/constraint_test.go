package spanner_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	cloudspanner "cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner"
)

var references = []string{
	"CREATE TABLE r (id INT64 NOT NULL, code STRING(9)) PRIMARY KEY (id)",
	"CREATE TABLE f (id INT64 NOT NULL, r INT64, code STRING(9), CONSTRAINT by_id FOREIGN KEY (r) REFERENCES r (id), CONSTRAINT by_code FOREIGN KEY (code) REFERENCES r (code)) PRIMARY KEY (id)",
	"CREATE TABLE gone (id INT64 NOT NULL, f INT64, FOREIGN KEY (f) REFERENCES f (id) ON DELETE CASCADE) PRIMARY KEY (id)",
}

// Mutations keep foreign keys as DML does: at the end of the commit, whatever order they came in.
func TestForeignKeysOfMutations(t *testing.T) {
	w := start(t, spanner.Options{}, references...)
	row := func(table string, cols []string, values ...any) *cloudspanner.Mutation {
		return cloudspanner.InsertOrUpdate(table, cols, values)
	}
	try := func(want codes.Code, ms ...*cloudspanner.Mutation) {
		t.Helper()
		if _, err := w.client.Apply(w.ctx, ms); cloudspanner.ErrCode(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
	f, r := []string{"id", "r", "code"}, []string{"id", "code"}
	try(codes.OK, row("f", f, 1, 1, "a"), row("r", r, 1, "a")) // the one that refers comes first
	try(codes.FailedPrecondition, row("f", f, 2, 9, nil))
	try(codes.FailedPrecondition, row("f", f, 2, nil, "b"))
	try(codes.OK, row("f", f, 2, nil, nil))
	try(codes.FailedPrecondition, cloudspanner.Delete("r", cloudspanner.Key{1}))
	try(codes.FailedPrecondition, row("r", r, 1, "other")) // a referenced value changes
	try(codes.AlreadyExists, row("r", r, 2, "a"))          // referenced columns are unique
	try(codes.OK, row("gone", []string{"id", "f"}, 5, 1), row("gone", []string{"id", "f"}, 6, 2))
	try(codes.OK, cloudspanner.Delete("f", cloudspanner.Key{1}), cloudspanner.Delete("r", cloudspanner.Key{1}))
	if got := fmt.Sprint(w.query("SELECT id, f FROM gone")); got != "[[6 2]]" {
		t.Errorf("after the cascade: %s", got)
	}
}

// Mutations of one commit cannot both write a referenced key and delete it where the delete cascades; REPLACE is both.
// DML may, since each statement is done before the next.
func TestCascadeWriteAndDelete(t *testing.T) {
	w := start(t, spanner.Options{},
		"CREATE TABLE r (id INT64 NOT NULL, code STRING(9)) PRIMARY KEY (id)",
		"CREATE TABLE f (id INT64 NOT NULL, r INT64, FOREIGN KEY (r) REFERENCES r (id) ON DELETE CASCADE) PRIMARY KEY (id)",
		"CREATE TABLE p (id INT64 NOT NULL) PRIMARY KEY (id)",
		"CREATE TABLE q (id INT64 NOT NULL, p INT64, FOREIGN KEY (p) REFERENCES p (id)) PRIMARY KEY (id)")
	id, refers := []string{"id"}, []string{"id", "r"}
	insert := func(table string, cols []string, values ...any) *cloudspanner.Mutation {
		return cloudspanner.Insert(table, cols, values)
	}
	one, many := cloudspanner.Key{1}, cloudspanner.KeyRange{Start: cloudspanner.Key{1}, End: cloudspanner.Key{5}, Kind: cloudspanner.ClosedOpen}
	w.apply(insert("r", id, 1), insert("f", refers, 1, 1))
	for i, c := range []struct {
		want codes.Code
		ms   []*cloudspanner.Mutation
	}{
		{codes.FailedPrecondition, []*cloudspanner.Mutation{insert("r", id, 1), cloudspanner.Delete("r", one)}},
		{codes.FailedPrecondition, []*cloudspanner.Mutation{cloudspanner.Delete("r", one), insert("r", id, 1)}},
		{codes.FailedPrecondition, []*cloudspanner.Mutation{insert("r", id, 4), cloudspanner.Delete("r", many)}},
		{codes.FailedPrecondition, []*cloudspanner.Mutation{cloudspanner.Update("r", []string{"id", "code"}, []any{1, "x"}), cloudspanner.Delete("r", cloudspanner.AllKeys())}},
		{codes.FailedPrecondition, []*cloudspanner.Mutation{cloudspanner.Replace("r", id, []any{1})}},
		{codes.OK, []*cloudspanner.Mutation{insert("r", id, 5), cloudspanner.Delete("r", many), insert("f", refers, 5, 5)}},
		{codes.OK, []*cloudspanner.Mutation{insert("f", refers, 6, 5), cloudspanner.Delete("f", cloudspanner.Key{5})}},
		{codes.OK, []*cloudspanner.Mutation{insert("p", id, 1), cloudspanner.Delete("p", one)}},
		{codes.OK, []*cloudspanner.Mutation{cloudspanner.Replace("p", id, []any{1})}},
	} {
		if _, err := w.client.Apply(w.ctx, c.ms); cloudspanner.ErrCode(err) != c.want {
			t.Errorf("case %d: %v, want %v", i, err, c.want)
		}
	}
	if got := fmt.Sprint(w.query("SELECT id, r FROM f")); got != "[[6 5]]" {
		t.Errorf("after the cascades: %s", got)
	}
	_, err := w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		for _, s := range []string{"INSERT INTO r (id) VALUES (9)", "DELETE FROM r WHERE id = 9"} {
			if _, err := tx.Update(ctx, cloudspanner.NewStatement(s)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("by DML: %v", err)
	}
}

// Of a transaction that refers to a row and one that deletes it, one loses.
func TestForeignKeysUnderConcurrency(t *testing.T) {
	w := start(t, spanner.Options{}, references...)
	for i := range 20 {
		w.apply(cloudspanner.Insert("r", []string{"id"}, []any{i}))
		var errs [2]error
		var both sync.WaitGroup
		for n, statement := range []string{fmt.Sprintf("INSERT INTO f (id, r) VALUES (%d, %d)", i, i), fmt.Sprintf("DELETE FROM r WHERE id = %d", i)} {
			both.Go(func() {
				_, errs[n] = w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
					_, err := tx.Update(ctx, cloudspanner.NewStatement(statement))
					return err
				})
			})
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("round %d: %v and %v", i, errs[0], errs[1])
		}
	}
	if orphans := w.query("SELECT f.id FROM f LEFT JOIN r ON f.r = r.id WHERE r.id IS NULL"); len(orphans) > 0 {
		t.Errorf("rows that refer to nothing: %v", orphans)
	}
}

// Parameters have the types the client names, and without a name the type that is wanted where they stand.
func TestParameters(t *testing.T) {
	w := start(t, spanner.Options{}, "CREATE TABLE t (id INT64 NOT NULL, d DATE, b BYTES(MAX), l ARRAY<INT64>) PRIMARY KEY (id)")
	type pair struct {
		A int64
		B string
	}
	w.apply(cloudspanner.Insert("t", []string{"id", "d", "b", "l"}, []any{1, cloudspanner.NullDate{}, []byte("xy"), []int64{1, 2}}))
	for _, c := range []struct {
		sql, want string
		param     any
	}{
		{"SELECT id FROM t WHERE id IN UNNEST(@p)", "[[1]]", []int64{1, 7}},
		{"SELECT id FROM t WHERE b = @p", "[[1]]", []byte("xy")},
		{"SELECT @p IS NULL", "[[true]]", cloudspanner.NullInt64{}},
		{"SELECT @p.A, @p.B", "[[3 c]]", pair{3, "c"}},
		{"SELECT A FROM UNNEST(@p) WHERE B = 'd'", "[[4]]", []pair{{3, "c"}, {4, "d"}}},
		{"SELECT ARRAY_LENGTH(@p)", "[[NULL]]", []int64(nil)},
		{"SELECT (1, 'x') IN UNNEST(@p)", "[[true]]", []pair{{1, "x"}}},
		{"SELECT id FROM t LIMIT @p", "[[1]]", int64(1)},
	} {
		got, err := w.tryQuery(c.sql, "p", c.param)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v, want %s", c.sql, got, err, c.want)
		}
	}
}

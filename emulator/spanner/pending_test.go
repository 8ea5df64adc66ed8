package spanner_test

import (
	"context"
	"errors"
	"testing"

	cloudspanner "cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// What PENDING_COMMIT_TIMESTAMP() is good for, and what it makes unreadable until the commit: the column, an index on it, and
// the whole table where it is in the key.
func TestPendingCommitTimestamp(t *testing.T) {
	w := start(t, spanner.Options{},
		"CREATE TABLE T (k INT64, ts TIMESTAMP OPTIONS (allow_commit_timestamp = true), n INT64) PRIMARY KEY (k)",
		"CREATE INDEX byTs ON T(ts)",
		"CREATE TABLE U (k TIMESTAMP OPTIONS (allow_commit_timestamp = true), n INT64) PRIMARY KEY (k)")
	giveUp := errors.New("give up")
	for name, c := range map[string]struct {
		statements []string
		read       func(context.Context, *cloudspanner.ReadWriteTransaction) error
		want       codes.Code
	}{
		"other columns by SQL": {statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())", "UPDATE T SET n = 1 WHERE k = 1", "SELECT k, n FROM T"}},
		"written again":        {statements: []string{"INSERT INTO T (k, ts) VALUES (1, (PENDING_COMMIT_TIMESTAMP()))", "UPDATE T SET ts = PENDING_COMMIT_TIMESTAMP() WHERE k = 1"}},
		"the column by SQL":    {statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())", "SELECT * FROM T"}, want: codes.InvalidArgument},
		"the row by SQL":       {statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())", "SELECT TO_JSON(T) FROM T"}, want: codes.InvalidArgument},
		"the column by DML":    {statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())", "DELETE FROM T WHERE ts IS NULL"}, want: codes.InvalidArgument},
		"a forced index":       {statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())", "SELECT k FROM T@{FORCE_INDEX=byTs}"}, want: codes.InvalidArgument},
		"the key":              {statements: []string{"INSERT INTO U (k) VALUES (PENDING_COMMIT_TIMESTAMP())", "SELECT COUNT(*) FROM U"}, want: codes.InvalidArgument},
		"in SELECT":            {statements: []string{"SELECT PENDING_COMMIT_TIMESTAMP()"}, want: codes.InvalidArgument},
		"from SELECT":          {statements: []string{"INSERT INTO T (k, ts) SELECT 1, PENDING_COMMIT_TIMESTAMP()"}, want: codes.InvalidArgument},
		"in an expression":     {statements: []string{"UPDATE T SET ts = IF(k = 1, PENDING_COMMIT_TIMESTAMP(), ts) WHERE TRUE"}, want: codes.InvalidArgument},
		"in some rows":         {statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP()), (2, NULL)"}, want: codes.InvalidArgument},
		"other columns by a read": {
			statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())"},
			read: func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
				_, err := tx.ReadRow(ctx, "T", cloudspanner.Key{1}, []string{"k", "n"})
				return err
			},
		},
		"the column by a read": {
			statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())"},
			read: func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
				_, err := tx.ReadRow(ctx, "T", cloudspanner.Key{1}, []string{"k", "ts"})
				return err
			},
			want: codes.InvalidArgument,
		},
		"the index by a read": {
			statements: []string{"INSERT INTO T (k, ts) VALUES (1, PENDING_COMMIT_TIMESTAMP())"},
			read: func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
				return tx.ReadUsingIndex(ctx, "T", "byTs", cloudspanner.AllKeys(), []string{"k"}).Do(func(*cloudspanner.Row) error { return nil })
			},
			want: codes.InvalidArgument,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got error
			_, err := w.client.ReadWriteTransaction(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
				got = nil
				for _, sql := range c.statements {
					if got == nil {
						_, got = texts(tx.Query(ctx, cloudspanner.NewStatement(sql)))
					}
				}
				if got == nil && c.read != nil {
					got = c.read(ctx, tx)
				}
				return giveUp
			})
			if !errors.Is(err, giveUp) || cloudspanner.ErrCode(got) != c.want {
				t.Errorf("%v, then %v; want %v", got, err, c.want)
			}
		})
	}
}

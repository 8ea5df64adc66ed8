package spanner_test

import (
	"context"
	"strings"
	"testing"

	spannerapi "cloud.google.com/go/spanner/apiv1"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/spanner"
)

// rawCalls makes single calls on a session, as the client library would not.
type rawCalls struct {
	*testing.T
	*spannerapi.Client
	session string
}

func newRawCalls(t *testing.T, db string, opts ...option.ClientOption) *rawCalls {
	t.Helper()
	c, err := spannerapi.NewClient(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.CreateSession(t.Context(), &sppb.CreateSessionRequest{Database: db})
	if err != nil {
		t.Fatal(err)
	}
	return &rawCalls{t, c, s.Name}
}

func (c *rawCalls) begin(o *sppb.TransactionOptions) []byte {
	c.Helper()
	tx, err := c.BeginTransaction(c.Context(), &sppb.BeginTransactionRequest{Session: c.session, Options: o})
	if err != nil {
		c.Fatal(err)
	}
	return tx.Id
}

func (c *rawCalls) sql(tx []byte, seqno int64, sql string) error {
	_, err := c.ExecuteSql(c.Context(), &sppb.ExecuteSqlRequest{Session: c.session, Seqno: seqno, Sql: sql, Transaction: &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_Id{Id: tx}}})
	return err
}

var (
	partitionedDML = &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_PartitionedDml_{PartitionedDml: &sppb.TransactionOptions_PartitionedDml{}}}
	strongOnly     = &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadOnly_{ReadOnly: &sppb.TransactionOptions_ReadOnly{}}}
)

// onBoth runs a test here and on Google's emulator, where that is installed.
func onBoth(t *testing.T, test func(t *testing.T, c *rawCalls), ddl ...string) {
	t.Run("embedded", func(t *testing.T) {
		w := start(t, spanner.Options{}, ddl...)
		test(t, newRawCalls(t, dbName, w.opts...))
	})
	t.Run("official", func(t *testing.T) {
		p := official.SpannerForTest(t, official.SpannerOptions{})
		if err := p.CreateDatabase(t.Context(), dbName, ddl...); err != nil {
			t.Fatal(err)
		}
		test(t, newRawCalls(t, dbName, append(p.ClientOptions(), option.WithoutAuthentication())...))
	})
}

// A partitioned DML transaction runs one statement, once.
func TestPartitionedDMLTransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rawCalls) {
		const (
			update = "UPDATE t SET n = n + 1 WHERE TRUE"
			reused = "PartitionedDml transaction may only be used to execute one statement"
		)
		for _, s := range []struct {
			what       string
			code       codes.Code
			say        string
			call       func(tx []byte) error
			firstSeqno int64
		}{
			{"another statement", codes.InvalidArgument, reused, func(tx []byte) error { return c.sql(tx, 2, "UPDATE t SET n = 0 WHERE TRUE") }, 1},
			{"the same statement with another number", codes.InvalidArgument, reused, func(tx []byte) error { return c.sql(tx, 2, update) }, 1},
			{"the same statement with its number", codes.OK, "", func(tx []byte) error { return c.sql(tx, 1, update) }, 1},
			{"the same statement without a number", codes.OK, "", func(tx []byte) error { return c.sql(tx, 0, update) }, 0},
			{"another statement with the number", codes.InvalidArgument, "", func(tx []byte) error { return c.sql(tx, 1, "UPDATE t SET n = 0 WHERE TRUE") }, 1},
			{"another statement without a number", codes.InvalidArgument, "", func(tx []byte) error { return c.sql(tx, 0, "UPDATE t SET n = 0 WHERE TRUE") }, 0},
			{"a query", codes.InvalidArgument, "", func(tx []byte) error { return c.sql(tx, 2, "SELECT 1") }, 1},
			{"a commit", codes.FailedPrecondition, "partitioned-dml", func(tx []byte) error {
				_, err := c.Commit(context.Background(), &sppb.CommitRequest{Session: c.session, Transaction: &sppb.CommitRequest_TransactionId{TransactionId: tx}})
				return err
			}, 1},
			{"a rollback", codes.FailedPrecondition, "", func(tx []byte) error {
				return c.Rollback(context.Background(), &sppb.RollbackRequest{Session: c.session, TransactionId: tx})
			}, 1},
		} {
			tx := c.begin(partitionedDML)
			if err := c.sql(tx, s.firstSeqno, update); err != nil {
				t.Fatal(err)
			}
			err := s.call(tx)
			if status.Code(err) != s.code || err != nil && !strings.Contains(err.Error(), s.say) {
				t.Errorf("%s: %v, want %v: %s", s.what, err, s.code, s.say)
			}
		}
		// One that has failed is used up as well.
		tx := c.begin(partitionedDML)
		for seqno, sql := range []string{"UPDATE t SET nope = 1 WHERE TRUE", update} {
			if err := c.sql(tx, int64(seqno), sql); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "nope") {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}, "CREATE TABLE t (k INT64 NOT NULL, n INT64) PRIMARY KEY (k)")
}

func selected(id []byte) *sppb.TransactionSelector {
	return &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_Id{Id: id}}
}

// The partitions of a read or query belong to its session and transaction.
func TestPartitionTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rawCalls) {
		const sql = "SELECT k FROM t"
		ctx, all := t.Context(), &sppb.KeySet{All: true}
		tx := c.begin(strongOnly)
		query := func(sel *sppb.TransactionSelector, o *sppb.PartitionOptions) (*sppb.PartitionResponse, error) {
			return c.PartitionQuery(ctx, &sppb.PartitionQueryRequest{Session: c.session, Transaction: sel, Sql: sql, PartitionOptions: o})
		}
		read := func(sel *sppb.TransactionSelector, o *sppb.PartitionOptions) (*sppb.PartitionResponse, error) {
			return c.PartitionRead(ctx, &sppb.PartitionReadRequest{Session: c.session, Transaction: sel, Table: "t", Columns: []string{"k"}, KeySet: all, PartitionOptions: o})
		}
		queries, err := query(selected(tx), nil)
		if err != nil {
			t.Fatal(err)
		}
		reads, err := read(selected(tx), nil)
		if err != nil {
			t.Fatal(err)
		}
		q := &sppb.ExecuteSqlRequest{Session: c.session, Transaction: selected(tx), Sql: sql, PartitionToken: queries.Partitions[0].PartitionToken}
		r := &sppb.ReadRequest{Session: c.session, Transaction: selected(tx), Table: "t", Columns: []string{"k"}, KeySet: all, PartitionToken: reads.Partitions[0].PartitionToken}
		runQuery := func(change func(*sppb.ExecuteSqlRequest)) error {
			req := proto.CloneOf(q)
			change(req)
			_, err := c.ExecuteSql(ctx, req)
			return err
		}
		runRead := func(change func(*sppb.ReadRequest)) error {
			req := proto.CloneOf(r)
			change(req)
			_, err := c.Read(ctx, req)
			return err
		}
		other, err := c.CreateSession(ctx, &sppb.CreateSessionRequest{Database: dbName})
		if err != nil {
			t.Fatal(err)
		}
		single := &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_SingleUse{SingleUse: strongOnly}}
		readWrite := &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_Begin{Begin: &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadWrite_{ReadWrite: &sppb.TransactionOptions_ReadWrite{}}}}}
		for _, s := range []struct {
			what string
			err  error
			say  string // "" is success
		}{
			{"a query", runQuery(func(*sppb.ExecuteSqlRequest) {}), ""},
			{"a read", runRead(func(*sppb.ReadRequest) {}), ""},
			{"a query in a single-use transaction", runQuery(func(r *sppb.ExecuteSqlRequest) { r.Transaction = single }), "different transaction"},
			{"another query", runQuery(func(r *sppb.ExecuteSqlRequest) { r.Sql = "SELECT k FROM t WHERE TRUE" }), "different read or sql parameters"},
			{"a query with its plan", runQuery(func(r *sppb.ExecuteSqlRequest) { r.QueryMode = sppb.ExecuteSqlRequest_PROFILE }), "Query modes"},
			{"a query with the token of a read", runQuery(func(q *sppb.ExecuteSqlRequest) { q.PartitionToken = r.PartitionToken }), "different read or sql parameters"},
			{"a broken token", runQuery(func(r *sppb.ExecuteSqlRequest) { r.PartitionToken = []byte("x") }), "Invalid partition token"},
			{"a read of other columns", runRead(func(r *sppb.ReadRequest) { r.Columns = []string{"n"} }), "different read or sql parameters"},
			{"a read with a limit", runRead(func(r *sppb.ReadRequest) { r.Limit = 1 }), "A limit cannot be used when a partition_token is specified"},
			{"partitions of a single-use transaction", second(query(single, nil)), "single-use"},
			{"partitions without a transaction", second(read(nil, nil)), "TransactionSelector.selector"},
			{"partitions of a read-write transaction", second(read(readWrite, nil)), "Partitioned reads can only be performed in a read-only transaction."},
			{"fewer than no partitions", second(read(selected(tx), &sppb.PartitionOptions{MaxPartitions: -1})), "max partition count must be greater than zero"},
			{"partitions smaller than nothing", second(query(selected(tx), &sppb.PartitionOptions{PartitionSizeBytes: -1})), "bytes per batch must be greater than zero"},
		} {
			if s.say == "" && s.err != nil || s.say != "" && (status.Code(s.err) != codes.InvalidArgument || !strings.Contains(s.err.Error(), s.say)) {
				t.Errorf("%s: %v, want %q", s.what, s.err, s.say)
			}
		}
		if err := runQuery(func(r *sppb.ExecuteSqlRequest) { r.Session = other.Name }); err == nil {
			t.Error("another session can use the token")
		}
	}, "CREATE TABLE t (k INT64 NOT NULL, n INT64) PRIMARY KEY (k)")
}

func second[T any](_ T, err error) error { return err }

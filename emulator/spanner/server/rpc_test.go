package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// caller makes requests on one session.
type caller struct {
	*testing.T
	sppb.SpannerClient
	ctx     context.Context
	session string
	admin   databasepb.DatabaseAdminClient
	ops     longrunningpb.OperationsClient
}

const testDB = "projects/p/instances/in/databases/db"

// newCaller serves a database with the table t (k, s, a); multiplexed says which kind of session it has.
func newCaller(t *testing.T, multiplexed bool) *caller {
	t.Helper()
	conn, _ := dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	c := &caller{T: t, SpannerClient: sppb.NewSpannerClient(conn), ctx: ctx, admin: databasepb.NewDatabaseAdminClient(conn), ops: longrunningpb.NewOperationsClient(conn)}
	ses, err := c.CreateSession(ctx, &sppb.CreateSessionRequest{Database: testDB, Session: &sppb.Session{Multiplexed: multiplexed, Labels: map[string]string{"env": "test"}}})
	if err != nil {
		t.Fatal(err)
	}
	c.session = ses.Name
	return c
}

func readWrite() *sppb.TransactionOptions {
	return &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadWrite_{ReadWrite: &sppb.TransactionOptions_ReadWrite{}}}
}

func readOnly(ro *sppb.TransactionOptions_ReadOnly) *sppb.TransactionOptions {
	return &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadOnly_{ReadOnly: ro}}
}

func begin(o *sppb.TransactionOptions) *sppb.TransactionSelector {
	return &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_Begin{Begin: o}}
}

func existing(id []byte) *sppb.TransactionSelector {
	return &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_Id{Id: id}}
}

func put(k, s string) *sppb.Mutation {
	return &sppb.Mutation{Operation: &sppb.Mutation_InsertOrUpdate{InsertOrUpdate: &sppb.Mutation_Write{
		Table: "t", Columns: []string{"k", "s"},
		Values: []*structpb.ListValue{{Values: []*structpb.Value{structpb.NewStringValue(k), structpb.NewStringValue(s)}}},
	}}}
}

func (c *caller) begin(key *sppb.Mutation) *sppb.Transaction {
	c.Helper()
	tx, err := c.BeginTransaction(c.ctx, &sppb.BeginTransactionRequest{Session: c.session, Options: readWrite(), MutationKey: key})
	if err != nil {
		c.Fatal(err)
	}
	return tx
}

func (c *caller) commit(id []byte, token *sppb.MultiplexedSessionPrecommitToken, ms ...*sppb.Mutation) (*sppb.CommitResponse, error) {
	return c.Commit(c.ctx, &sppb.CommitRequest{Session: c.session, Transaction: &sppb.CommitRequest_TransactionId{TransactionId: id}, Mutations: ms, PrecommitToken: token})
}

// apply commits mutations in a transaction of their own.
func (c *caller) apply(ms ...*sppb.Mutation) {
	c.Helper()
	_, err := c.Commit(c.ctx, &sppb.CommitRequest{Session: c.session, Mutations: ms, Transaction: &sppb.CommitRequest_SingleUseTransaction{SingleUseTransaction: readWrite()}})
	if err != nil {
		c.Fatal(err)
	}
}

func (c *caller) sql(text string, sel *sppb.TransactionSelector, seqno int64) (*sppb.ResultSet, error) {
	return c.ExecuteSql(c.ctx, &sppb.ExecuteSqlRequest{Session: c.session, Transaction: sel, Sql: text, Seqno: seqno})
}

// rows are the rows of t as text.
func (c *caller) rows() string {
	c.Helper()
	res, err := c.sql("SELECT k, s FROM t ORDER BY k", nil, 0)
	if err != nil {
		c.Fatal(err)
	}
	return text(res)
}

func text(res *sppb.ResultSet) string {
	var out []string
	for _, r := range res.Rows {
		var cells []string
		for _, v := range r.Values {
			cells = append(cells, v.GetStringValue())
		}
		out = append(out, strings.Join(cells, "="))
	}
	return strings.Join(out, " ")
}

func (c *caller) want(err error, code codes.Code, what string) {
	c.Helper()
	if status.Code(err) != code {
		c.Errorf("%s: %v, want %v", what, err, code)
	}
}

func TestPrecommitTokens(t *testing.T) {
	c := newCaller(t, true)
	tx := c.begin(put("1", "x"))
	old := tx.PrecommitToken
	if old == nil {
		t.Fatal("a transaction that begins with a mutation key has no precommit token")
	}
	_, err := c.commit(tx.Id, nil, put("1", "x"))
	c.want(err, codes.FailedPrecondition, "without a token")
	_, err = c.commit(tx.Id, &sppb.MultiplexedSessionPrecommitToken{PrecommitToken: []byte("other"), SeqNum: 1}, put("1", "x"))
	c.want(err, codes.InvalidArgument, "with another's token")
	res, err := c.sql("UPDATE t SET s = 'y' WHERE FALSE", existing(tx.Id), 1)
	if err != nil || res.PrecommitToken.GetSeqNum() <= old.SeqNum {
		t.Fatalf("a statement's token is %v after %v: %v", res.GetPrecommitToken(), old, err)
	}
	retry, err := c.commit(tx.Id, old, put("1", "x"))
	newest := retry.GetPrecommitToken()
	if err != nil || retry.CommitTimestamp != nil || !proto.Equal(newest, res.PrecommitToken) {
		t.Fatalf("with an old token: %v, %v", retry, err)
	}
	if got := c.rows(); got != "" {
		t.Errorf("nothing is committed yet, and there is %s", got)
	}
	done, err := c.commit(tx.Id, newest)
	if err != nil || done.CommitTimestamp == nil || c.rows() != "1=x" {
		t.Errorf("the second commit: %v, %v, rows %s", done, err, c.rows())
	}
	again, err := c.commit(tx.Id, newest)
	if !proto.Equal(again, done) || err != nil {
		t.Errorf("the same commit once more: %v, %v; want %v", again, err, done)
	}
	// Reads, streams and batches bring tokens too.
	first, err := c.sql("SELECT 1", begin(readWrite()), 0)
	if err != nil || first.PrecommitToken.GetSeqNum() != 1 {
		t.Fatalf("a query that begins: %v, %v", first, err)
	}
	batch, err := c.ExecuteBatchDml(c.ctx, &sppb.ExecuteBatchDmlRequest{Session: c.session, Transaction: existing(first.Metadata.Transaction.Id), Seqno: 1,
		Statements: []*sppb.ExecuteBatchDmlRequest_Statement{{Sql: "DELETE FROM t WHERE TRUE"}}})
	if err != nil || batch.PrecommitToken.GetSeqNum() != 2 {
		t.Errorf("a batch: %v, %v", batch, err)
	}
}

func TestNumberedDML(t *testing.T) {
	c := newCaller(t, true)
	tx := c.begin(nil)
	insert := "INSERT INTO t (k, s) VALUES (1, 'x') THEN RETURN k"
	first, err := c.sql(insert, existing(tx.Id), 5)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.sql(insert, existing(tx.Id), 5)
	if err != nil || !proto.Equal(first, again) {
		t.Errorf("the same request again: %v, %v; want %v", again, err, first)
	}
	_, err = c.sql("DELETE FROM t WHERE TRUE", existing(tx.Id), 5)
	c.want(err, codes.InvalidArgument, "another statement with the number")
	_, err = c.sql("DELETE FROM t WHERE TRUE", existing(tx.Id), 4)
	c.want(err, codes.InvalidArgument, "a lower number")
	last := &sppb.ExecuteSqlRequest{Session: c.session, Transaction: existing(tx.Id), Sql: "UPDATE t SET s = 'y' WHERE k = 1", Seqno: 7, LastStatement: true}
	end, err := c.ExecuteSql(c.ctx, last)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.ExecuteSql(c.ctx, last); err != nil {
		t.Errorf("the last statement again: %v", err)
	}
	_, err = c.sql("SELECT 1", existing(tx.Id), 0)
	c.want(err, codes.FailedPrecondition, "a query after the last statement")
	_, err = c.sql("DELETE FROM t WHERE TRUE", existing(tx.Id), 8)
	c.want(err, codes.FailedPrecondition, "a statement after the last")
	if _, err := c.commit(tx.Id, end.PrecommitToken); err != nil || c.rows() != "1=y" {
		t.Errorf("%v, rows %s", err, c.rows())
	}
	_, err = c.sql("SELECT 1", existing(tx.Id), 0)
	c.want(err, codes.FailedPrecondition, "a query after the commit")
	_, err = c.Rollback(c.ctx, &sppb.RollbackRequest{Session: c.session, TransactionId: tx.Id})
	c.want(err, codes.FailedPrecondition, "a rollback after the commit")
	broken := c.begin(nil)
	for range 2 {
		_, err = c.sql(insert, existing(broken.Id), 1)
		c.want(err, codes.AlreadyExists, "the row is there")
	}
	_, err = c.sql("SELECT 1", existing(broken.Id), 0)
	c.want(err, codes.AlreadyExists, "a query after a statement that broke a constraint")
	_, err = c.sql("DELETE FROM t WHERE TRUE", existing(broken.Id), 2)
	c.want(err, codes.AlreadyExists, "a statement after one that broke a constraint")
}

// A transaction that lost a conflict stays aborted, and says when to try again.
func TestAborted(t *testing.T) {
	c := newCaller(t, true)
	c.apply(put("1", "x"))
	tx, err := c.sql("SELECT s FROM t WHERE k = 1", begin(readWrite()), 0)
	if err != nil {
		t.Fatal(err)
	}
	id := tx.Metadata.Transaction.Id
	c.apply(put("1", "y"))
	for range 2 {
		_, err = c.commit(id, tx.PrecommitToken, put("1", "z"))
		c.want(err, codes.Aborted, "the commit")
		var delay *errdetails.RetryInfo
		for _, d := range status.Convert(err).Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				delay = r
			}
		}
		if delay.GetRetryDelay().AsDuration() <= 0 {
			t.Errorf("%v has no delay: %v", err, status.Convert(err).Details())
		}
	}
	_, err = c.sql("SELECT s FROM t", existing(id), 0)
	c.want(err, codes.Aborted, "a query after the abort")
	if _, err = c.Rollback(c.ctx, &sppb.RollbackRequest{Session: c.session, TransactionId: id}); err != nil {
		t.Errorf("a rollback after the abort: %v", err)
	}
}

func TestSessions(t *testing.T) {
	c := newCaller(t, false)
	if tx := c.begin(put("1", "x")); tx.PrecommitToken != nil {
		t.Errorf("an ordinary session has a precommit token: %v", tx)
	}
	before := c.begin(nil)
	now := c.begin(nil)
	_, err := c.commit(before.Id, nil, put("1", "x"))
	c.want(err, codes.FailedPrecondition, "a transaction that a later one replaced")
	if _, err = c.commit(now.Id, nil, put("1", "x")); err != nil {
		t.Error(err)
	}
	many, err := c.CreateSession(c.ctx, &sppb.CreateSessionRequest{Database: testDB, Session: &sppb.Session{Multiplexed: true, Labels: map[string]string{"env": "test"}}})
	if err != nil || !many.Multiplexed {
		t.Fatalf("%v, %v", many, err)
	}
	list, err := c.ListSessions(c.ctx, &sppb.ListSessionsRequest{Database: testDB, Filter: "labels.env:test"})
	if err != nil || len(list.Sessions) != 1 || list.Sessions[0].Name != c.session {
		t.Errorf("the list is %v, %v", list, err)
	}
	_, err = c.ListSessions(c.ctx, &sppb.ListSessionsRequest{Database: testDB, Filter: "labels.env:test OR TRUE"})
	c.want(err, codes.Unimplemented, "a filter")
	_, err = c.DeleteSession(c.ctx, &sppb.DeleteSessionRequest{Name: many.Name})
	c.want(err, codes.InvalidArgument, "a multiplexed session")
	_, err = c.BatchCreateSessions(c.ctx, &sppb.BatchCreateSessionsRequest{Database: testDB, SessionCount: 2, SessionTemplate: &sppb.Session{Multiplexed: true}})
	c.want(err, codes.InvalidArgument, "multiplexed sessions at once")
	open := c.begin(nil)
	if _, err := c.DeleteSession(c.ctx, &sppb.DeleteSessionRequest{Name: c.session}); err != nil {
		t.Fatal(err)
	}
	_, gone := c.GetSession(c.ctx, &sppb.GetSessionRequest{Name: c.session})
	_, err = c.commit(open.Id, nil)
	for _, err := range []error{err, gone} {
		c.want(err, codes.NotFound, "a deleted session")
		if d := status.Convert(err).Details(); len(d) != 1 || d[0].(*errdetails.ResourceInfo).ResourceType != "type.googleapis.com/google.spanner.v1.Session" {
			t.Errorf("the details are %v", d)
		}
	}
	c.session = many.Name
	if _, err := c.admin.DropDatabase(c.ctx, &databasepb.DropDatabaseRequest{Database: testDB}); err != nil {
		t.Fatal(err)
	}
	_, err = c.sql("SELECT 1", nil, 0)
	if d := status.Convert(err).Details(); status.Code(err) != codes.NotFound || len(d) != 1 || d[0].(*errdetails.ResourceInfo).ResourceName != testDB {
		t.Errorf("a dropped database: %v, %v", err, d)
	}
}

// Options that a request must not have are refused with their codes.
func TestRefusedOptions(t *testing.T) {
	c := newCaller(t, true)
	c.apply(put("1", "x"))
	tx, ro := c.begin(nil), readOnly(&sppb.TransactionOptions_ReadOnly{})
	snapshot, err := c.BeginTransaction(c.ctx, &sppb.BeginTransactionRequest{Session: c.session, Options: ro})
	if err != nil {
		t.Fatal(err)
	}
	with := func(o *sppb.TransactionOptions, change func(*sppb.TransactionOptions)) *sppb.BeginTransactionRequest {
		o = proto.Clone(o).(*sppb.TransactionOptions)
		change(o)
		return &sppb.BeginTransactionRequest{Session: c.session, Options: o}
	}
	partitioned := &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_PartitionedDml_{PartitionedDml: &sppb.TransactionOptions_PartitionedDml{}}}
	single := &sppb.CommitRequest_SingleUseTransaction{SingleUseTransaction: readWrite()}
	all := &sppb.KeySet{All: true}
	directed := &sppb.DirectedReadOptions{}
	for what, c2 := range map[string]struct {
		code codes.Code
		call func() error
	}{
		"read-only, excluded from change streams": {codes.InvalidArgument, func() error {
			_, err := c.BeginTransaction(c.ctx, with(ro, func(o *sppb.TransactionOptions) { o.ExcludeTxnFromChangeStreams = true }))
			return err
		}},
		"read-only, repeatable read": {codes.InvalidArgument, func() error {
			_, err := c.BeginTransaction(c.ctx, with(ro, func(o *sppb.TransactionOptions) { o.IsolationLevel = sppb.TransactionOptions_REPEATABLE_READ }))
			return err
		}},
		"partitioned, repeatable read": {codes.InvalidArgument, func() error {
			_, err := c.BeginTransaction(c.ctx, with(partitioned, func(o *sppb.TransactionOptions) { o.IsolationLevel = sppb.TransactionOptions_REPEATABLE_READ }))
			return err
		}},
		"repeatable read": {codes.OK, func() error {
			_, err := c.BeginTransaction(c.ctx, with(readWrite(), func(o *sppb.TransactionOptions) { o.IsolationLevel = sppb.TransactionOptions_REPEATABLE_READ }))
			return err
		}},
		"no such isolation level": {codes.InvalidArgument, func() error {
			_, err := c.BeginTransaction(c.ctx, with(readWrite(), func(o *sppb.TransactionOptions) { o.IsolationLevel = 99 }))
			return err
		}},
		"optimistic": {codes.OK, func() error {
			_, err := c.BeginTransaction(c.ctx, with(readWrite(), func(o *sppb.TransactionOptions) {
				o.GetReadWrite().ReadLockMode = sppb.TransactionOptions_ReadWrite_OPTIMISTIC
			}))
			return err
		}},
		"no such lock mode": {codes.InvalidArgument, func() error {
			_, err := c.BeginTransaction(c.ctx, with(readWrite(), func(o *sppb.TransactionOptions) { o.GetReadWrite().ReadLockMode = 99 }))
			return err
		}},
		"a delay": {codes.OK, func() error {
			_, err := c.Commit(c.ctx, &sppb.CommitRequest{Session: c.session, Transaction: single, MaxCommitDelay: durationpb.New(500 * time.Millisecond)})
			return err
		}},
		"a delay too long": {codes.InvalidArgument, func() error {
			_, err := c.Commit(c.ctx, &sppb.CommitRequest{Session: c.session, Transaction: single, MaxCommitDelay: durationpb.New(501 * time.Millisecond)})
			return err
		}},
		"a commit of a read-only transaction": {codes.FailedPrecondition, func() error {
			_, err := c.commit(snapshot.Id, nil)
			return err
		}},
		"a directed read": {codes.OK, func() error {
			_, err := c.Read(c.ctx, &sppb.ReadRequest{Session: c.session, Table: "t", Columns: []string{"k"}, KeySet: all, DirectedReadOptions: directed})
			return err
		}},
		"a directed read of a read-write transaction": {codes.InvalidArgument, func() error {
			_, err := c.Read(c.ctx, &sppb.ReadRequest{Session: c.session, Table: "t", Columns: []string{"k"}, KeySet: all, DirectedReadOptions: directed, Transaction: existing(tx.Id)})
			return err
		}},
		"data boost of a whole query": {codes.InvalidArgument, func() error {
			_, err := c.ExecuteSql(c.ctx, &sppb.ExecuteSqlRequest{Session: c.session, Sql: "SELECT 1", DataBoostEnabled: true})
			return err
		}},
		"a transaction of another session": {codes.InvalidArgument, func() error {
			other, err := c.CreateSession(c.ctx, &sppb.CreateSessionRequest{Database: testDB})
			if err != nil {
				return err
			}
			_, err = c.ExecuteSql(c.ctx, &sppb.ExecuteSqlRequest{Session: other.Name, Sql: "SELECT 1", Transaction: existing(tx.Id)})
			return err
		}},
		"DML in a single-use transaction": {codes.InvalidArgument, func() error {
			_, err := c.sql("DELETE FROM t WHERE TRUE", nil, 0)
			return err
		}},
	} {
		c.want(c2.call(), c2.code, what)
	}
}

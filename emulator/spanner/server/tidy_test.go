package server

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

// steppedClock moves only when told. Its timers are the system's.
type steppedClock struct {
	changes.SystemClock
	mu  sync.Mutex
	now time.Time
}

func (c *steppedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *steppedClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// direct calls a server without gRPC.
type direct struct {
	*testing.T
	srv   *Server
	db    *Database
	clock *steppedClock
	ctx   context.Context
}

func newDirect(t *testing.T) *direct {
	clock := &steppedClock{now: time.Unix(2_000_000_000, 0)}
	d := &direct{T: t, srv: New(Options{Clock: clock}), clock: clock, ctx: t.Context()}
	t.Cleanup(d.srv.Close)
	var err error
	if d.db, err = d.srv.CreateDatabase(d.ctx, "projects/p/instances/in/databases/db", "CREATE TABLE t (k INT64, n INT64) PRIMARY KEY (k)", "CREATE CHANGE STREAM s FOR ALL"); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *direct) session(multiplexed bool) string {
	return d.db.newSession(&sppb.Session{Multiplexed: multiplexed}).GetName()
}

// begin begins a transaction that tries previous again and reads all rows.
func (d *direct) begin(session string, previous []byte) []byte {
	d.Helper()
	o := &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadWrite_{ReadWrite: &sppb.TransactionOptions_ReadWrite{MultiplexedSessionPreviousTransactionId: previous}}}
	tx, err := d.srv.data.BeginTransaction(d.ctx, &sppb.BeginTransactionRequest{Session: session, Options: o})
	if err != nil {
		d.Fatal(err)
	}
	if err := d.read(session, tx.GetId()); err != nil {
		d.Fatal(err)
	}
	return tx.GetId()
}

func (d *direct) read(session string, id []byte) error {
	_, err := d.srv.data.ExecuteSql(d.ctx, &sppb.ExecuteSqlRequest{Session: session, Sql: "SELECT k, n FROM t", Transaction: &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_Id{Id: id}}})
	return err
}

func row(k string) *sppb.Mutation {
	return &sppb.Mutation{Operation: &sppb.Mutation_InsertOrUpdate{InsertOrUpdate: &sppb.Mutation_Write{Table: "t", Columns: []string{"k", "n"}, Values: []*structpb.ListValue{
		{Values: []*structpb.Value{structpb.NewStringValue(k), structpb.NewStringValue("1")}},
	}}}}
}

// commit commits on an ordinary session, which has no precommit tokens; a nil id is a transaction of its own.
func (d *direct) commit(session string, id []byte, ms ...*sppb.Mutation) error {
	r := &sppb.CommitRequest{Session: session, Mutations: ms, Transaction: &sppb.CommitRequest_TransactionId{TransactionId: id}}
	if id == nil {
		r.Transaction = &sppb.CommitRequest_SingleUseTransaction{SingleUseTransaction: &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadWrite_{ReadWrite: &sppb.TransactionOptions_ReadWrite{}}}}
	}
	_, err := d.srv.data.Commit(d.ctx, r)
	return err
}

func (d *direct) want(code codes.Code, err error, what string) {
	d.Helper()
	if status.Code(err) != code {
		d.Errorf("%s: %v, want %v", what, err, code)
	}
}

// Idle transactions are aborted at their time, and no sooner.
func TestIdleTransactions(t *testing.T) {
	d := newDirect(t)
	ses := d.session(false)
	id := d.begin(ses, nil)
	for range 5 {
		d.clock.step(maxIdle)
		if err := d.read(ses, id); err != nil {
			t.Error(err)
		}
	}
	d.want(codes.OK, d.commit(ses, id, row("1")), "a transaction that was never idle for long")
	id = d.begin(ses, nil)
	d.clock.step(maxIdle + time.Second)
	d.want(codes.Aborted, d.read(ses, id), "a read after it was idle")
	d.want(codes.Aborted, d.commit(ses, id, row("1")), "a commit after it was idle")
}

// A commit whose answer was lost is answered alike for a while, however many others there are: to a client it must not seem
// aborted.
func TestOutcomesAreRemembered(t *testing.T) {
	d := newDirect(t)
	ses, other := d.session(false), d.session(false)
	done := d.begin(ses, nil)
	d.want(codes.OK, d.commit(ses, done, row("1")), "a commit")
	failed := d.begin(ses, nil)
	d.want(codes.OK, d.commit(other, nil, row("1")), "another commit")
	d.want(codes.Aborted, d.commit(ses, failed, row("1")), "a commit after it")
	for range 1500 {
		d.want(codes.OK, d.commit(other, d.begin(other, nil), row("2")), "one of many")
	}
	d.clock.step(outcomeLife)
	d.srv.Tidy()
	d.want(codes.OK, d.commit(ses, done, row("1")), "the first commit again")
	d.want(codes.Aborted, d.commit(ses, failed, row("1")), "the second one again")
	d.clock.step(time.Second)
	d.srv.Tidy()
	if len(d.db.outcomes.order)+len(d.db.outcomes.committed)+len(d.db.outcomes.failed) > 0 {
		t.Errorf("%d outcomes are remembered for too long", len(d.db.outcomes.order))
	}
	for n := range int64(maxOutcomes + 10) {
		d.db.outcomes.add(n, outcome{}, d.clock.Now())
	}
	if n := len(d.db.outcomes.committed); n != maxOutcomes || len(d.db.outcomes.order) != n {
		t.Errorf("%d outcomes are remembered", n)
	}
}

// What clients abandon goes: transactions, sessions and what they have recorded.
func TestTidy(t *testing.T) {
	d := newDirect(t)
	const many = 1200
	multiplexed := d.session(true)
	var last []byte
	for range many {
		last = d.begin(multiplexed, nil)
		d.session(false)
	}
	busy, ok := d.session(false), d.session(false)
	running := d.begin(busy, nil)
	if _, _, err := d.db.find(busy, running); err != nil { // a request that runs
		t.Fatal(err)
	}
	end := d.db.sessions[ok].stream()
	d.want(codes.OK, d.commit(ok, nil, row("1")), "a commit")
	if len(d.db.txns) != many+1 || len(d.db.sessions) != many+3 {
		t.Errorf("%d transactions on %d sessions", len(d.db.txns), len(d.db.sessions))
	}
	d.srv.Tidy()
	d.clock.step(sessionIdle + time.Second)
	d.srv.Tidy()
	if len(d.db.txns) != 1 || len(d.db.sessions) != 3 {
		t.Errorf("%d transactions on %d sessions", len(d.db.txns), len(d.db.sessions))
	}
	d.want(codes.Aborted, d.read(multiplexed, last), "an abandoned transaction")
	d.want(codes.OK, d.read(busy, running), "a busy transaction")
	end()
	d.clock.step(sessionIdle + time.Second)
	d.want(codes.NotFound, d.commit(ok, nil, row("2")), "an idle session")
	if list, err := d.srv.data.ListSessions(d.ctx, &sppb.ListSessionsRequest{Database: d.db.name}); err != nil || len(list.GetSessions()) != 1 || list.GetSessions()[0].GetName() != busy {
		t.Errorf("listed are %v, %v", list, err)
	}
	d.want(codes.OK, d.commit(multiplexed, nil, row("2")), "a multiplexed session")
	d.clock.step(sessionLife)
	d.srv.Tidy()
	d.want(codes.NotFound, d.commit(multiplexed, nil, row("3")), "an old multiplexed session")
	if len(d.db.sessions) != 1 { // that of the request that still runs
		t.Errorf("%d sessions", len(d.db.sessions))
	}
}

// Each retry names the one before; an ordinary session knows by itself.
func TestLineage(t *testing.T) {
	for _, multiplexed := range []bool{true, false} {
		d := newDirect(t)
		ses, other := d.session(multiplexed), d.session(true)
		var id []byte
		for tries := range patience + 2 {
			before := d.db.txns[string(id)]
			id = d.begin(ses, id)
			now := d.db.txns[string(id)]
			if before != nil && d.db.txns[before.id] != nil {
				t.Error("the transaction that is tried again is open still")
			}
			if now.line.aborts != tries {
				t.Errorf("the transaction %s has been tried %d times, want %d", id, now.line.aborts, tries)
			}
			if right := now.line.options(nil).RightOfWay; (right > 0) != (tries >= patience) {
				t.Errorf("try %d has the right of way for %v", tries, right)
			}
			if multiplexed && tries%2 == 0 {
				continue // its answer is lost, say; it is never heard of again
			}
			d.db.finish(now, &outcome{err: abortedError("aborted")})
			now.txn.Rollback()
		}
		if id = d.begin(other, id); d.db.txns[string(id)].line.aborts == 0 {
			t.Error("on another session the lineage is lost")
		}
		if id = d.begin(other, nil); d.db.txns[string(id)].line.aborts != 0 {
			t.Errorf("a new transaction, %s, is taken for a retry", id)
		}
	}
	for _, id := range []string{"", "rw/", "rw/1/2", "rw/1/2/x", "rw/1//1", "rw/0", "rw/-1", "rw/1/-1/1", "rw/1/1/-1", "rw/1/1/1/1", "ro/1", "rw/" + strings.Repeat("z", 99)} {
		if n, l := parseID(id); n != 0 || l != (lineage{}) {
			t.Errorf("%q is read as %d, %+v", id, n, l)
		}
	}
	for _, l := range []lineage{{born: 5}, {born: 5, aborts: 1}, {born: 1 << 40, aborts: 1000}} {
		if n, got := parseID(l.id(1 << 41)); n != 1<<41 || l.aborts > 0 && got != l {
			t.Errorf("%+v is read as %d, %+v", l, n, got)
		}
		if again := l.again(1 << 41); again.born != l.born || again.aborts != l.aborts+1 || again.options(nil).RightOfWay > maxIdle {
			t.Errorf("%+v goes on as %+v", l, again)
		}
	}
	if l := (lineage{born: 7, aborts: 9}).again(7); l != (lineage{born: 7}) {
		t.Errorf("a lineage that begins in the future goes on as %+v", l)
	}
}

// Where commits lie ahead of a clock that stands, they can be read there at once.
func TestReadAtACommitAheadOfTheClock(t *testing.T) {
	d := newDirect(t)
	ses := d.session(true)
	var at *timestamppb.Timestamp
	for _, k := range []string{"1", "2"} {
		res, err := d.srv.data.Commit(d.ctx, &sppb.CommitRequest{Session: ses, Mutations: []*sppb.Mutation{row(k)}, Transaction: &sppb.CommitRequest_SingleUseTransaction{SingleUseTransaction: &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadWrite_{ReadWrite: &sppb.TransactionOptions_ReadWrite{}}}}})
		if err != nil {
			t.Fatal(err)
		}
		at = res.GetCommitTimestamp()
	}
	d.clock.step(-time.Hour)
	for name, ro := range map[string]*sppb.TransactionOptions_ReadOnly{
		"read_timestamp":     {TimestampBound: &sppb.TransactionOptions_ReadOnly_ReadTimestamp{ReadTimestamp: at}},
		"min_read_timestamp": {TimestampBound: &sppb.TransactionOptions_ReadOnly_MinReadTimestamp{MinReadTimestamp: at}},
	} {
		sel := &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_SingleUse{SingleUse: &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadOnly_{ReadOnly: ro}}}}
		res, err := d.srv.data.ExecuteSql(d.ctx, &sppb.ExecuteSqlRequest{Session: ses, Sql: "SELECT k FROM t", Transaction: sel})
		if err != nil || len(res.GetRows()) != 2 {
			t.Errorf("%s: %d rows, %v", name, len(res.GetRows()), err)
		}
	}
}

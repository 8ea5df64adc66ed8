package spanner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

// faulty starts a server with counters and a stream, some rows, and a plan that begins after them.
func faulty(t *testing.T, rows int, plan string) (l *wire, from, last time.Time) {
	t.Helper()
	w := start(t, spanner.Options{}, counters, "CREATE CHANGE STREAM s FOR ALL")
	l = w.wire()
	from = w.now()
	for i := range rows {
		last = w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{i, 0}))
	}
	l.plan(plan)
	return l, from, last
}

func (w *world) plan(plan string) {
	w.Helper()
	p, err := fault.Parse(plan)
	if err == nil {
		err = w.srv.Faults().Add(p.Rules...)
	}
	if err != nil {
		w.Fatal(err)
	}
}

func insertOf(id int) *spannerpb.Mutation {
	return &spannerpb.Mutation{Operation: &spannerpb.Mutation_Insert{Insert: &spannerpb.Mutation_Write{
		Table: "counters", Columns: []string{"id", "n"},
		Values: []*structpb.ListValue{{Values: []*structpb.Value{structpb.NewStringValue(fmt.Sprint(id)), structpb.NewStringValue("0")}}},
	}}}
}

func (l *wire) commit(id int) error {
	_, err := l.api.Commit(l.ctx, &spannerpb.CommitRequest{
		Session: l.session, Mutations: []*spannerpb.Mutation{insertOf(id)},
		Transaction: &spannerpb.CommitRequest_SingleUseTransaction{SingleUseTransaction: &spannerpb.TransactionOptions{Mode: &spannerpb.TransactionOptions_ReadWrite_{ReadWrite: &spannerpb.TransactionOptions_ReadWrite{}}}},
	})
	return err
}

func (l *wire) count() string { return l.query("SELECT COUNT(*) FROM counters")[0][0] }

func retryDelay(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.RetryDelay.AsDuration()
		}
	}
	return 0
}

func TestFaultsBeforeAnyEffect(t *testing.T) {
	for _, c := range []struct {
		plan  string
		code  codes.Code
		delay time.Duration
	}{
		{"abort times=1 for=5ms", codes.Aborted, 5 * time.Millisecond},
		{"unavailable times=1 method=Commit", codes.Unavailable, 0},
		{"exhausted times=1 method=Commit for=7ms", codes.ResourceExhausted, 7 * time.Millisecond},
		{"exhausted times=1 method=Commit", codes.ResourceExhausted, 0},
	} {
		l, _, _ := faulty(t, 0, c.plan)
		err := l.commit(1)
		wantCode(t, err, c.code, c.plan)
		if d := retryDelay(err); d != c.delay {
			t.Errorf("%s: retry delay %v", c.plan, d)
		}
		if n := l.count(); n != "0" {
			t.Errorf("%s: %s rows", c.plan, n)
		}
		if err := l.commit(1); err != nil || l.count() != "1" {
			t.Errorf("%s: after it: %v", c.plan, err)
		}
	}
}

func TestFaultLostResponse(t *testing.T) {
	l, _, _ := faulty(t, 0, "lost nth=2")
	if err := l.commit(1); err != nil {
		t.Error(err)
	}
	wantCode(t, l.commit(2), codes.Unavailable)
	if n := l.count(); n != "2" {
		t.Errorf("%s rows: the lost commit has no effect", n)
	}
	wantCode(t, l.commit(2), codes.AlreadyExists)
}

// The official client rides out what it is documented to.
func TestFaultsTheClientRidesOut(t *testing.T) {
	l, _, _ := faulty(t, 0, "abort p=0.3 for=1ms; unavailable p=0.2 method=BeginTransaction; cut method=ExecuteStreamingSql after=0 every=2")
	for i := range 20 {
		if _, err := l.client.Apply(l.ctx, []*cloudspanner.Mutation{cloudspanner.Insert("counters", []string{"id", "n"}, []any{i, 0})}); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		if n := l.count(); n != "20" {
			t.Errorf("%s of 20 rows", n)
		}
	}
	for _, k := range []fault.Kind{fault.Abort, fault.Unavailable, fault.Cut} {
		if l.srv.Faults().Count(k) == 0 {
			t.Errorf("%s never struck", k)
		}
	}
}

// A stream ends after row n, and goes on exactly there when it is resumed.
func TestFaultsThatEndStreams(t *testing.T) {
	for plan, code := range map[string]codes.Code{
		"cut times=1 after=2": codes.Unavailable, "reset times=1 after=2": codes.Internal, "cancel times=1 after=2": codes.Canceled,
		"end times=1 after=2": codes.OK,
	} {
		l, from, last := faulty(t, 5, "")
		c := call{from: from, end: last, token: l.tokens("s", from)[0]}
		l.plan(plan)
		rows, err := l.read(c)
		wantCode(t, err, code, plan)
		if len(rows) != 2 {
			t.Fatalf("%s: %d rows before it", plan, len(rows))
		}
		c.resume = rows[1].resume
		if rest := l.mustRead(c); len(rest) != 3 || fmt.Sprint(rest[0].data.Mods[0].Keys) != `{"id":"2"}` {
			t.Errorf("%s: resumed with %d rows", plan, len(rest))
		}
	}
	l, from, _ := faulty(t, 0, "reset times=1")
	_, err := l.read(call{from: from})
	if got := status.Convert(err).Message(); got != "stream terminated by RST_STREAM with error code: INTERNAL_ERROR" {
		t.Error(got)
	}
}

// Case 49's cause: an unbounded query of a partition that ended says OK, without its children.
func TestFaultEndHidesChildren(t *testing.T) {
	l, from, _ := faulty(t, 1, "")
	token := l.tokens("s", from)[0]
	if _, err := l.srv.Database(dbName).Log().Split("s", token, 2, nil, 0); err != nil {
		t.Fatal(err)
	}
	l.plan("end times=1 after=1")
	if rows := l.mustRead(call{from: from, token: token}); len(rows) != 1 || rows[0].kind != "data" {
		t.Errorf("got %v", rows)
	}
	if rows := l.mustRead(call{from: from, token: token}); len(rows) != 3 || rows[2].kind != "children" {
		t.Errorf("without the fault: %v", rows)
	}
}

// What a query announces it announces whole, or not at all: the rest would be lost to every reader.
func TestFaultEndLosesNoPartition(t *testing.T) {
	l, from, _ := faulty(t, 1, "")
	token := l.tokens("s", from)[0]
	cut, err := l.srv.Database(dbName).Log().Split("s", token, 3, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.plan("end after=2")
	if rows := l.mustRead(call{from: from, token: token}); len(rows) != 4 {
		t.Errorf("%d rows, want one change and three children: %v", len(rows), rows)
	}
	l.plan("end after=1")
	if tokens := l.tokens("s", time.UnixMicro(cut.At)); len(tokens) != 3 {
		t.Errorf("the initial query names %d of 3 partitions", len(tokens))
	}
}

func TestFaultReplay(t *testing.T) {
	l, from, last := faulty(t, 4, "")
	c := call{from: from, end: last, token: l.tokens("s", from)[0]}
	l.plan("replay times=1; cut times=1 after=3")
	rows, err := l.read(c)
	wantCode(t, err, codes.Unavailable)
	if len(rows) != 3 || string(rows[0].resume) != string(rows[2].resume) {
		t.Fatalf("%d rows, tokens %s, %s", len(rows), rows[0].resume, rows[2].resume)
	}
	c.resume = rows[2].resume
	if again := l.mustRead(c); len(again) != 4 || !again[0].at.Equal(rows[0].at) || string(again[3].resume) != string(c.resume) {
		t.Errorf("resumed with %d rows", len(again))
	}
}

func TestFaultHeartbeats(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock}, counters, "CREATE CHANGE STREAM s FOR ALL")
	l := w.wire()
	from := w.now()
	clock.Step(time.Millisecond)
	token := l.tokens("s", from)[0]
	for plan, want := range map[string]int{"": 9, "slow-heartbeat times=1 for=3s": 3, "no-heartbeat times=1": 0} {
		l.plan(plan)
		begin := clock.Now()
		ctx, cancel := context.WithCancel(l.ctx)
		got := 0
		done := make(chan error, 1)
		go func() {
			done <- l.each(ctx, call{from: begin, end: begin.Add(9500 * time.Millisecond), token: token}, func(r rec) error {
				if r.kind == "heartbeat" && r.at.Before(begin.Add(9100*time.Millisecond)) {
					got++
				}
				return nil
			})
		}()
		for range 95 {
			if err := clock.AwaitTimers(l.ctx, 1); err != nil {
				t.Fatal(err)
			}
			clock.Step(100 * time.Millisecond)
		}
		err := <-done
		cancel()
		if err != nil || got != want {
			t.Errorf("%q: %d heartbeats in 9 s, %v; want %d", plan, got, err, want)
		}
	}
}

func TestFaultStall(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock}, counters, "CREATE CHANGE STREAM s FOR ALL")
	l := w.wire()
	from := w.now()
	last := w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{1, 0}))
	clock.Step(time.Millisecond) // the commits were microseconds ahead of it
	token := l.tokens("s", from)[0]
	for plan, run := range map[string]func() error{
		"stall times=1 for=3s method=Commit": func() error { return l.commit(2) },
		"stall times=1 for=3s after=1 method=ChangeStream": func() error {
			_, err := l.read(call{from: from, end: last, token: token})
			return err
		},
		"stall times=1 for=3s method=StreamingRead": func() error {
			_, err := texts(l.client.Single().Read(l.ctx, "counters", cloudspanner.AllKeys(), []string{"id"}))
			return err
		},
	} {
		l.plan(plan)
		begin := clock.Now()
		done := make(chan error, 1)
		go func() { done <- run() }()
		if err := clock.AwaitTimers(l.ctx, 1); err != nil {
			t.Fatal(err)
		}
		clock.Step(2 * time.Second)
		select {
		case err := <-done:
			t.Errorf("%s: went on after %v: %v", plan, clock.Now().Sub(begin), err)
		default:
		}
		clock.Step(time.Second)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", plan, err)
		}
	}
}

// Commit timestamps rise whatever the clock does, and so do those of the records.
func TestFaultClockJumps(t *testing.T) {
	l, from, _ := faulty(t, 1, "jump by=1h nth=1 method=Commit; jump by=-3h nth=1 method=Commit")
	var at []time.Time
	for i := range 5 {
		at = append(at, l.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{100 + i, 0})))
		if i == 1 {
			l.plan("jump by=2h nth=1 method=Commit")
		}
	}
	if at[0].Before(from) || at[2].Sub(from) > time.Hour {
		t.Errorf("commits at %v, from %v", at, from)
	}
	l.plan("jump by=30m nth=1 method=Commit")
	at = append(at, l.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{200, 0})))
	if d := at[5].Sub(at[4]); d < 29*time.Minute {
		t.Errorf("the clock jumped half an hour and the commits are %v apart", d)
	}
	rows := l.mustRead(call{from: from, end: at[5], token: l.tokens("s", from)[0]})
	n := 0
	for i, r := range rows {
		if r.kind == "data" {
			n++
		}
		if i > 0 && !r.at.After(rows[i-1].at) {
			t.Errorf("row %d at %v comes after one at %v", i, r.at, rows[i-1].at)
		}
	}
	if n != 7 {
		t.Errorf("%d of 7 records", n)
	}
}

func TestFaultExpire(t *testing.T) {
	l, from, last := faulty(t, 5, "")
	token := l.tokens("s", from)[0]
	l.plan("expire times=1 after=2")
	// Rows that were on their way arrive; a query that comes later has lost the rest.
	if _, err := l.read(call{from: from, end: last, token: token}); err != nil && status.Code(err) != codes.OutOfRange {
		t.Error(err)
	}
	_, err := l.read(call{from: from, end: last, token: token})
	wantCode(t, err, codes.OutOfRange)
	_, err = l.read(call{from: from})
	wantCode(t, err, codes.OutOfRange)
	at := l.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{10, 0}))
	if rows := l.mustRead(call{from: at, end: at, token: token}); len(rows) != 1 || rows[0].kind != "data" {
		t.Errorf("after it: %v", rows)
	}
}

// A column added between two rows shows in the second record and not in the first.
func TestFaultAlter(t *testing.T) {
	l, from, _ := faulty(t, 1, "")
	token := l.tokens("s", from)[0]
	l.plan(`alter times=1 after=1 ddl="ALTER TABLE counters ADD COLUMN extra STRING(MAX)"`)
	var columns []int
	done := errors.New("two records")
	wrote := false
	err := l.each(l.ctx, call{from: from, token: token}, func(r rec) error {
		if r.kind != "data" {
			return nil
		}
		columns = append(columns, len(r.data.ColumnTypes))
		if len(columns) == 2 {
			return done
		}
		// The statement runs when the row has been sent; so it may still be under way.
		for !wrote {
			_, err := l.client.Apply(l.ctx, []*cloudspanner.Mutation{cloudspanner.Insert("counters", []string{"id", "n", "extra"}, []any{7, 0, "x"})})
			if err != nil && cloudspanner.ErrCode(err) != codes.NotFound {
				return err
			}
			wrote = err == nil
		}
		return nil
	})
	if !errors.Is(err, done) || columns[1] != columns[0]+1 {
		t.Errorf("records of %v columns, %v", columns, err)
	}
	l.plan(`alter times=1 ddl="DROP TABLE nothing"`)
	_, err = l.read(call{from: from})
	wantCode(t, err, codes.Internal, "a statement that cannot run")
}

func TestFaultsOfReads(t *testing.T) {
	l, _, _ := faulty(t, 3, "cancel times=1 method=ExecuteStreamingSql after=1")
	s, err := l.api.ExecuteStreamingSql(l.ctx, &spannerpb.ExecuteSqlRequest{Session: l.session, Sql: "SELECT id FROM counters"})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = s.Recv()
	}
	if errors.Is(err, io.EOF) || status.Code(err) != codes.Canceled {
		t.Errorf("the query ended with %v", err)
	}
	// A change-stream query is none of these calls.
	l.plan("cancel times=1 method=ExecuteStreamingSql")
	if rows := l.mustRead(call{from: l.now()}); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestFaultPlanIsRefused(t *testing.T) {
	if _, err := spanner.Start(t.Context(), spanner.Options{Faults: fault.Plan{Rules: []fault.Rule{{Kind: fault.Jump}}}}); err == nil {
		t.Error("a jump by nothing was taken")
	}
}

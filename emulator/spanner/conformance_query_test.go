package spanner_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

func TestCase19InitialQuery(t *testing.T) {
	l := start(t, spanner.Options{Partitions: 3}, tableT, streamT).wire()
	at := l.apply(insertT(1, "x"))
	rows := l.mustRead(call{from: at}) // without an end: it ends at once all the same
	if len(rows) != 3 {
		t.Errorf("%d rows", len(rows))
	}
	for _, r := range rows {
		if r.kind != "children" || !r.at.Equal(at) || len(r.tokens) != 1 || len(r.parents[0]) != 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestCase20FutureStart(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock}, tableT, streamT)
	l := w.wire()
	start := clock.Now().Add(3 * time.Second)
	done := make(chan error, 1)
	go func() {
		rows, err := l.read(call{from: start})
		if err == nil && (len(rows) != 1 || !rows[0].at.Equal(start)) {
			err = fmt.Errorf("rows %v", rows)
		}
		done <- err
	}()
	if err := clock.AwaitTimers(l.ctx, 1); err != nil {
		t.Fatal(err)
	}
	clock.Step(2 * time.Second)
	select {
	case err := <-done:
		t.Errorf("a second early: %v", err)
	default:
	}
	clock.Step(time.Second)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCase21And22BoundsAreInclusive(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.now()
	a, b, c := l.apply(insertT(1, "a")), l.apply(insertT(2, "b")), l.apply(insertT(3, "c"))
	token := l.tokens("s", from)[0]
	for _, w := range []struct {
		from, end time.Time
		want      []time.Time
	}{{from, b, []time.Time{a, b}}, {b, c, []time.Time{b, c}}, {b, b, []time.Time{b}}} {
		var got []time.Time
		for _, r := range l.mustRead(call{from: w.from, end: w.end, token: token}) {
			got = append(got, r.at)
		}
		if !slices.EqualFunc(got, w.want, time.Time.Equal) {
			t.Errorf("%v to %v: rows at %v, want %v", w.from, w.end, got, w.want)
		}
	}
	// Where there is nothing, one heartbeat says so.
	if rows := l.mustRead(call{from: from, end: a.Add(-time.Microsecond), token: token}); len(rows) != 1 || rows[0].kind != "heartbeat" {
		t.Errorf("an empty window: %v", rows)
	}
}

func TestCase23IdleHeartbeats(t *testing.T) {
	clock := spanner.NewStepClock(time.Unix(2_000_000_000, 0))
	w := start(t, spanner.Options{Clock: clock}, tableT, streamT)
	l := w.wire()
	from := l.now()
	clock.Step(time.Millisecond)
	token := l.tokens("s", from)[0]
	beats := make(chan time.Time)
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan error, 1)
	go func() {
		done <- l.each(ctx, call{from: from, token: token}, func(r rec) error {
			if r.kind != "heartbeat" {
				return fmt.Errorf("a %s", r.kind)
			}
			beats <- r.at
			return nil
		})
	}()
	last := from
	for range 5 {
		if err := clock.AwaitTimers(l.ctx, 1); err != nil {
			t.Fatal(err)
		}
		clock.Step(time.Second)
		at := <-beats
		if d := at.Sub(last); d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Errorf("heartbeats %v apart", d)
		}
		last = at
	}
	cancel()
	wantCode(t, <-done, codes.Canceled)
}

func TestCase24OrderAndHeartbeats(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.now()
	token := l.tokens("s", from)[0]
	stop := make(chan struct{})
	last := make(chan time.Time, 1)
	go func() {
		for i := 0; ; i++ {
			at, err := l.client.Apply(l.ctx, []*cloudspanner.Mutation{insertT(i, "x")})
			if err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				last <- at
				return
			default:
			}
		}
	}()
	var at, beat time.Time
	var end time.Time
	reached := errors.New("everything came")
	records := 0
	err := l.each(l.ctx, call{from: from, token: token, heartbeat: 100}, func(r rec) error {
		if r.at.Before(at) {
			t.Errorf("a %s at %v after %v", r.kind, r.at, at)
		}
		at = r.at
		switch r.kind {
		case "data":
			if !r.at.After(beat) {
				t.Errorf("a record at %v after a heartbeat at %v", r.at, beat)
			}
			if records++; records == 300 {
				close(stop)
				end = <-last
			}
		case "heartbeat":
			beat = r.at
		}
		if !end.IsZero() && !r.at.Before(end) {
			return reached
		}
		return nil
	})
	if !errors.Is(err, reached) || records < 300 {
		t.Errorf("%d records, %v", records, err)
	}
}

// TestCase25RowsReachTheClientAtOnce: the official client holds rows back until the resume token changes.
func TestCase25RowsReachTheClientAtOnce(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.now()
	token := l.tokens("s", from)[0]
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	seen, done := make(chan string), make(chan error, 1)
	go func() {
		done <- l.stream(ctx, from, nil, &token, func(r *changeRecord) error {
			for _, d := range r.Data {
				select {
				case seen <- fmt.Sprint(d.Mods[0].Keys):
				case <-ctx.Done():
				}
			}
			return nil
		})
	}()
	for i := range 5 {
		l.apply(insertT(i, "x"))
		if got, want := <-seen, fmt.Sprintf(`{"k":"%d"}`, i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	cancel()
	if err := <-done; cloudspanner.ErrCode(err) != codes.Canceled {
		t.Errorf("the cancelled stream ended with %v", err)
	}
}

// TestCase26ResumeAfterACut: the official client resumes by itself, and no row comes twice or not at all.
func TestCase26ResumeAfterACut(t *testing.T) {
	l := bed(t, tableT, streamT)
	from := l.now()
	token := l.tokens("s", from)[0]
	var end time.Time
	for i := range 60 {
		end = l.apply(insertT(i, "x"))
	}
	l.plan("cut after=0-7")
	cut := l.srv.Faults().Count("cut")
	n := 0
	// The client resumes a query only so often in one go, so that the cuts must end some day.
	for range 10 {
		n = 0
		err := l.stream(l.ctx, from, &end, &token, func(r *changeRecord) error {
			for _, d := range r.Data {
				if got, want := fmt.Sprint(d.Mods[0].Keys), fmt.Sprintf(`{"k":"%d"}`, n); got != want {
					return fmt.Errorf("got %s, want %s", got, want)
				}
				if n++; n == 50 {
					l.srv.Faults().Clear()
				}
			}
			return nil
		})
		if err == nil {
			break
		}
		t.Fatal(err)
	}
	if n != 60 || l.srv.Faults().Count("cut") < cut+5 {
		t.Errorf("%d of 60 rows, over %d cuts", n, l.srv.Faults().Count("cut"))
	}
}

func TestCase27CancelEndsTheServersWork(t *testing.T) {
	l := bed(t, tableT, streamT)
	at := l.apply(insertT(1, "x"))
	token := l.tokens("s", at)[0]
	// Twenty readers are all a partition has: were one not gone when its client is, the next could not begin.
	for range 60 {
		gone := errors.New("gone")
		for {
			err := l.each(l.ctx, call{from: at, token: token}, func(rec) error { return gone })
			if errors.Is(err, gone) {
				break
			}
			if status.Code(err) != codes.ResourceExhausted { // the server hears of it a moment later
				t.Fatal(err)
			}
		}
	}
}

func TestCase45Split(t *testing.T) {
	l := bed(t, tableT, streamT)
	log := l.srv.Database(dbName).Log()
	from := l.apply(insertT(1, "x"))
	p := l.tokens("s", from)[0]
	cut, err := log.Split("s", p, 2, nil, time.Now().Add(20*time.Millisecond).UnixMicro())
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMicro(cut.At)
	var after time.Time
	for i := 2; !after.After(at); i++ {
		after = l.apply(insertT(i, "x"))
	}
	rows := l.mustRead(call{from: from, token: p})
	var children []string
	for i, r := range rows {
		switch {
		case r.kind == "data" && (!r.at.Before(at) || len(children) > 0):
			t.Errorf("a record at %v in a partition that ended at %v", r.at, at)
		case r.kind == "children":
			if !r.at.Equal(at) || len(r.parents) != 1 || !slices.Equal(r.parents[0], []string{p}) || r.sequence != fmt.Sprintf("%08d", i-(len(rows)-2)) {
				t.Errorf("%+v", r)
			}
			children = append(children, r.tokens...)
		}
	}
	if !slices.Equal(children, cut.Tokens) {
		t.Errorf("children %v, want %v", children, cut.Tokens)
	}
	n := 0
	for _, token := range children {
		for _, r := range l.mustRead(call{from: at, end: after, token: token}) {
			if r.kind == "data" && r.at.Equal(after) {
				n++
			}
		}
	}
	if n != 1 {
		t.Errorf("the write after the split is in %d partitions", n)
	}
}

const mutableT = "CREATE CHANGE STREAM s FOR T OPTIONS (partition_mode = 'MUTABLE_KEY_RANGE')"

func TestCase55MutableWindows(t *testing.T) {
	l := bed(t, tableT, mutableT)
	from := l.now()
	_, err := l.read(call{from: from})
	wantCode(t, err, codes.InvalidArgument, "end NULL")
	_, err = l.read(call{from: from, end: time.Now().Add(31 * time.Minute)})
	wantCode(t, err, codes.OutOfRange, "end in 31 minutes")
	if _, err := l.read(call{from: from, end: time.Now().Add(29 * time.Minute)}); err != nil {
		t.Error(err)
	}
}

func TestCase56MutableInitialQuery(t *testing.T) {
	l := start(t, spanner.Options{Partitions: 2}, tableT, mutableT).wire()
	from := l.apply(insertT(1, "x"))
	rows := l.mustRead(call{from: from, end: from})
	if len(rows) != 2 {
		t.Errorf("%d rows", len(rows))
	}
	for _, r := range rows {
		if r.kind != "start" || !r.at.Equal(from) || len(r.tokens) != 1 {
			t.Errorf("%+v", r)
		}
	}
}

func TestCase57MoveOfARange(t *testing.T) {
	l := start(t, spanner.Options{Partitions: 2}, tableT, mutableT).wire()
	log := l.srv.Database(dbName).Log()
	from := l.now()
	l.apply(insertT(1, "x"))
	ps, err := log.Partitions("s")
	if err != nil {
		t.Fatal(err)
	}
	p, q := ps[0].Token, ps[1].Token
	if len(l.mustRead(call{from: from, end: l.now(), token: p})) == 0 {
		t.Fatal("the first partition has no rows")
	}
	moved, err := log.Reassign("s", []changes.Shift{{From: p, To: q, Low: &changes.Point{Table: "T"}}}, 0)
	if err != nil || len(moved.Tokens) != 0 {
		t.Fatal(moved, err)
	}
	var end time.Time
	for end.UnixMicro() <= moved.At {
		end = l.apply(updateT(1, "a", "y"))
	}
	at := time.UnixMicro(moved.At)
	events := func(token string) (out []rec) {
		for _, r := range l.mustRead(call{from: from, end: end, token: token}) {
			if r.kind == "event" || r.kind == "end" || r.kind == "start" {
				out = append(out, r)
			}
		}
		return out
	}
	inP, inQ := events(p), events(q)
	if len(inP) != 1 || inP[0].kind != "event" || !slices.Equal(inP[0].out, []string{q}) || len(inP[0].in) != 0 || !inP[0].at.Equal(at) {
		t.Errorf("P: %+v", inP)
	}
	if len(inQ) != 1 || inQ[0].kind != "event" || !slices.Equal(inQ[0].in, []string{p}) || len(inQ[0].out) != 0 || !inQ[0].at.Equal(at) {
		t.Errorf("Q: %+v", inQ)
	}
	if ps, err := log.Partitions("s"); err != nil || len(ps) != 2 || ps[0].End != 0 || ps[1].End != 0 {
		t.Errorf("they go on, and alone: %v, %v", ps, err)
	}
}

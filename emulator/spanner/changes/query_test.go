package changes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// inBubble runs a test with a stepped clock and one database.
func inBubble(t *testing.T, o Options, run func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, o)
		defer b.log.Close()
		run(t, b)
	})
}

func TestCase12Heartbeat(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		for ms, code := range map[int64]codes.Code{99: codes.OutOfRange, 100: codes.OK, 300_000: codes.OK, 300_001: codes.OutOfRange} {
			q := query(at, at, "")
			q.HeartbeatMillis = &ms
			_, err := b.tryRead(q)
			wantCode(t, err, code)
		}
		q := query(at, at, "")
		q.HeartbeatMillis = nil
		_, err := b.tryRead(q)
		wantCode(t, err, codes.InvalidArgument)
	})
}

func TestCase13StartBounds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S", "retention_period", "1d"))
		q := query(at-1, 0, "")
		_, err := b.tryRead(q)
		wantCode(t, err, codes.OutOfRange)
		if strings.HasPrefix(status.Convert(err).Message(), "Specified start_timestamp is invalid") {
			t.Fatal("the prefix belongs to the per-partition error alone")
		}
		q.Start = nil
		_, err = b.tryRead(q)
		wantCode(t, err, codes.InvalidArgument)
		q.Start = new(time.Now().Add(MaxFutureStart + time.Microsecond))
		_, err = b.tryRead(q)
		wantCode(t, err, codes.OutOfRange)
		time.Sleep(24*time.Hour + time.Second)
		_, err = b.tryRead(query(at, 0, ""))
		wantCode(t, err, codes.OutOfRange)
		b.read(query(time.Now().Add(-24*time.Hour).UnixMicro(), 0, ""))
	})
}

func TestCase14EndBounds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		time.Sleep(time.Second)
		_, err := b.tryRead(query(at+1, at, ""))
		wantCode(t, err, codes.InvalidArgument)
		token := b.tokens(at)[0]
		rows := b.read(query(at+5, at+5, token))
		if len(rows) != 1 || rows[0].Kind != Heartbeat || rows[0].Timestamp != micros(at+5) {
			t.Fatalf("a bounded query that finds nothing ends with one heartbeat at its end, got %v", rows)
		}
	})
}

func TestCase15ForeignToken(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		b.ddl(all("Other"))
		at := b.ddl(all("S"))
		other := query(at, at, "")
		other.Stream = "Other"
		foreign := b.read(other)[0].children[0].token
		mine := b.tokens(at)[0]
		if len(mine) != 128 {
			t.Errorf("token of %d characters", len(mine))
		}
		wrong := "_"
		if mine[127] == '_' {
			wrong = "A"
		}
		for _, token := range []string{foreign, "x", mine[:127] + wrong, mine + "A", strings.Repeat("A", 128)} {
			_, err := b.tryRead(query(at, at, token))
			wantCode(t, err, codes.InvalidArgument)
		}
		q := query(at, at, mine)
		q.Token = new("") // empty is not NULL
		_, err := b.tryRead(q)
		wantCode(t, err, codes.InvalidArgument)
		b.dropAll()
		at = b.ddl(all("S")) // a new stream of the same name
		_, err = b.tryRead(query(at, at, mine))
		wantCode(t, err, codes.InvalidArgument)
	})
}

func TestCase16PartitionLife(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		p := b.tokens(at)[0]
		b.commit(insert(tableT, rowT(1, "x", 1)))
		time.Sleep(time.Second)
		r, err := b.log.Split("S", p, 2, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for token, start := range map[string]int64{p: r.At + 1, r.Tokens[0]: r.At - 1} {
			_, err := b.tryRead(query(start, 0, token))
			wantCode(t, err, codes.OutOfRange)
			if !strings.HasPrefix(status.Convert(err).Message(), "Specified start_timestamp is invalid") {
				t.Errorf("readers know this error by its prefix: %v", err)
			}
		}
		rows := b.read(query(r.At, 0, p))
		if len(rows) != 2 || rows[0].Kind != ChildPartitions || rows[1].Kind != ChildPartitions {
			t.Fatalf("start at the partition's end gives its children alone, got %v", rows)
		}
	})
}

func TestCase17ReadOptions(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		q := query(b.ddl(all("S")), 0, "")
		q.ReadOptions = true
		_, err := b.tryRead(q)
		wantCode(t, err, codes.Unimplemented)
	})
}

func TestCase18DroppedWhileReading(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		go func() { time.Sleep(500 * time.Millisecond); b.dropAll() }()
		_, err := b.tryRead(query(at, 0, token))
		wantCode(t, err, codes.NotFound)
		_, err = b.tryRead(query(at, 0, token))
		wantCode(t, err, codes.NotFound)
	})
}

func TestCase19InitialQuery(t *testing.T) {
	for _, pg := range []bool{false, true} {
		inBubble(t, Options{Partitions: 7, PostgreSQL: pg}, func(t *testing.T, b *bench) {
			at := b.ddl(all("S"))
			time.Sleep(time.Second)
			began := time.Now()
			rows := b.read(query(at+17, 0, ""))
			if len(rows) != 7 || time.Since(began) != 0 {
				t.Fatalf("%d rows after %v", len(rows), time.Since(began))
			}
			for i, r := range rows {
				if r.Kind != ChildPartitions || r.Timestamp != micros(at+17) || len(r.children) != 1 || len(r.children[0].parents) != 0 || r.seq != sequenceText(i) {
					t.Errorf("row %d: %+v", i, r)
				}
			}
		})
	}
}

func TestCase20FutureStart(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		began := time.Now()
		b.read(query(at+3_000_000, 0, ""))
		if d := time.Since(began); d < 3*time.Second-2*time.Microsecond || d > 3*time.Second+maxLag {
			t.Errorf("blocked for %v", d)
		}
		start := time.Now().UnixMicro() + 2_000_000
		go func() {
			time.Sleep(time.Second)
			b.commit(insert(tableT, rowT(1, "before", 1)))
			time.Sleep(1500 * time.Millisecond)
			b.commit(insert(tableT, rowT(2, "after", 1)))
		}()
		rows := b.read(query(start, start+1_000_000, b.tokens(at)[0]))
		if len(rows) != 1 || rows[0].Kind != Data || rows[0].mods[0].keys != `{"k":"2"}` {
			t.Fatalf("want the one row after the start and nothing before it, got %v", rows)
		}
	})
}

func TestCase21And22BoundsAreInclusive(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		first := b.commit(insert(tableT, rowT(1, "", 1)))
		second := b.commit(insert(tableT, rowT(2, "", 1)))
		third := b.commit(insert(tableT, rowT(3, "", 1)))
		time.Sleep(time.Second)
		if rows := b.read(query(at, second, token)); len(rows) != 2 || rows[1].Timestamp != micros(second) {
			t.Errorf("end at a commit: %v", rows)
		}
		if rows := b.read(query(second, third, token)); len(rows) != 2 || rows[0].Timestamp != micros(second) {
			t.Errorf("start at a commit: %v", rows)
		}
		q := query(first, third, token)
		q.Start, q.End = new(micros(first).Add(1)), new(micros(third).Add(-1)) // a nanosecond inside
		if rows := b.read(q); len(rows) != 1 || rows[0].Timestamp != micros(second) {
			t.Errorf("finer than a microsecond: %v", rows)
		}
	})
}

func TestCase23IdleHeartbeats(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		rows := b.read(query(at, at+10_500_000, b.tokens(at)[0]))
		if len(rows) != 10 {
			t.Fatalf("%d rows", len(rows))
		}
		for i, r := range rows {
			if d := r.Timestamp.Sub(micros(at)) - time.Duration(i+1)*time.Second; r.Kind != Heartbeat || d > 0 || d < -time.Millisecond {
				t.Errorf("heartbeat %d is off by %v", i, d)
			}
		}
	})
}

func TestCase24BusyPartitionsHaveNoHeartbeats(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		go func() {
			for i := range int64(100) {
				time.Sleep(90 * time.Millisecond)
				b.commit(insert(tableT, rowT(i, "", i)))
			}
		}()
		n := 0
		rows := b.read(query(at, at+9_050_000, b.tokens(at)[0]))
		for i, r := range rows {
			if i > 0 && !r.Timestamp.After(rows[i-1].Timestamp) {
				t.Errorf("row %d goes back", i)
			}
			if r.Kind == Data {
				n++
			}
		}
		if n != 100 || len(rows) != n {
			t.Errorf("%d rows, %d of them data", len(rows), n)
		}
	})
}

func TestCase25RowsArriveAtOnce(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		go func() {
			for i := range int64(20) {
				time.Sleep(time.Second)
				b.commit(insert(tableT, rowT(i, "", i)))
			}
		}()
		seen := map[string]bool{}
		err := b.log.Query(context.Background(), query(at, at+20_500_000, b.tokens(at)[0]), func(r Record) error {
			if d := time.Since(r.Timestamp); d > time.Millisecond {
				t.Errorf("%v came %v late", r.Kind, d)
			}
			if seen[r.Resume] {
				t.Error("resume position repeated")
			}
			seen[r.Resume] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestCase26ResumeAfterEveryRow(t *testing.T) {
	for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
		inBubble(t, Options{}, func(t *testing.T, b *bench) {
			at := b.ddl(all("S", "partition_mode", mode))
			token := b.tokens(at)[0]
			for i := range int64(5) {
				b.commit(insert(tableT, rowT(i, "", i)), insert(tableU, store.Row{num(i), str("")}))
			}
			time.Sleep(time.Second)
			r, err := b.log.Split("S", token, 3, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			q := query(at, r.At+1000, token)
			whole := b.read(q)
			for i := range whole {
				q.Resume = whole[i].Resume
				rest := b.read(q)
				if len(rest) != len(whole)-i-1 {
					t.Fatalf("%s: after row %d of %d came %d rows", mode, i, len(whole), len(rest))
				}
				for j, r := range rest {
					if r.Resume != whole[i+1+j].Resume || string(r.Wire()) != string(whole[i+1+j].Wire()) {
						t.Fatalf("%s: resumed after %d, row %d differs", mode, i, j)
					}
				}
			}
			initial := query(at, at, "")
			q = query(at, at, token)
			q.Resume = b.read(initial)[0].Resume
			_, err = b.tryRead(q)
			wantCode(t, err, codes.InvalidArgument)
			q.Resume = "!"
			_, err = b.tryRead(q)
			wantCode(t, err, codes.InvalidArgument)
			initial.Resume = whole[0].Resume
			_, err = b.tryRead(initial)
			wantCode(t, err, codes.InvalidArgument)
		})
	}
}

func TestCase27CancelEndsAtOnce(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := b.log.Query(ctx, query(at, 0, token), func(Record) error { return nil })
		wantCode(t, err, codes.DeadlineExceeded)
		if time.Since(began) != 100*time.Millisecond {
			t.Errorf("took %v", time.Since(began))
		}
		errSend := errors.New("peer is gone")
		if err := b.log.Query(context.Background(), query(at, 0, token), func(Record) error { return errSend }); !errors.Is(err, errSend) {
			t.Errorf("send's error must come back, got %v", err)
		}
	})
}

func TestReadersPerPartition(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		ctx, cancel := context.WithCancel(context.Background())
		for range MaxReaders {
			go func() { _ = b.log.Query(ctx, query(at, 0, token), func(Record) error { return nil }) }()
		}
		synctest.Wait()
		_, err := b.tryRead(query(at, at, token))
		wantCode(t, err, codes.ResourceExhausted)
		cancel()
		synctest.Wait()
		b.read(query(at, at+1, token))
	})
}

func TestCloseEndsQueries(t *testing.T) {
	inBubble(t, Options{Churn: Churn{Interval: time.Hour}}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		go func() { time.Sleep(time.Second); b.log.Close() }()
		_, err := b.tryRead(query(at, 0, token))
		wantCode(t, err, codes.Unavailable)
	})
}

// A heartbeat may be sent between a redraw's look at SafeTime and the redraw itself.
func TestRedrawLiesAboveHeartbeatsSentMeanwhile(t *testing.T) {
	safe, hook := int64(0), func() {}
	l := New(Options{SafeTime: func() int64 { s, h := safe, hook; hook = func() {}; h(); return s }})
	at := time.Now().UnixMicro() - 10_000_000
	safe = at + 1000
	def := all("S")
	def.Created = at
	if err := l.ObserveSchema([]*store.ChangeStream{def}, at); err != nil {
		t.Fatal(err)
	}
	ps, err := l.Partitions("S")
	if err != nil {
		t.Fatal(err)
	}
	hook = func() {
		safe = at + 5000
		if err := l.Query(t.Context(), query(at, at+4000, ps[0].Token), func(Record) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	r, err := l.Split("S", ps[0].Token, 2, nil, 0)
	if err != nil || r.At <= at+4000 {
		t.Fatalf("redrawn at %d although a heartbeat promised %d: %v", r.At-at, 4000, err)
	}
}

func TestInitialQueryResumes(t *testing.T) {
	inBubble(t, Options{Partitions: 5}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		q := query(at, 0, "")
		whole := b.read(q)
		must(t)(b.log.Split("S", whole[1].children[0].token, 2, nil, 0)) // alive at the start all the same
		for i, r := range whole {
			q.Resume = r.Resume
			rest := b.read(q)
			if len(rest) != len(whole)-i-1 || len(rest) > 0 && string(rest[0].Wire()) != string(whole[i+1].Wire()) {
				t.Fatalf("after row %d came %d rows", i, len(rest))
			}
		}
	})
}

// Readers of one partition share the encoding of its records while commits and redraws go on.
func TestManyReadersAtOnce(t *testing.T) {
	b := newBench(t, Options{})
	at := b.ddl(all("S"))
	token := b.tokens(at)[0]
	const n = 500
	sizes := make(chan [2]int, MaxReaders)
	for range MaxReaders {
		go func() {
			var got [2]int
			if err := b.log.Query(context.Background(), query(at, 0, token), func(r Record) error {
				if r.Kind == Data {
					got[0]++
					got[1] += len(r.Wire())
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			sizes <- got
		}()
	}
	for i := range int64(n) {
		b.commit(insert(tableT, rowT(i, "x", i)))
	}
	must(t)(b.log.Move("S", token, 0))
	first := <-sizes
	for range MaxReaders - 1 {
		if got := <-sizes; got != first || got[0] != n {
			t.Errorf("a reader got %v, another %v", got, first)
		}
	}
}

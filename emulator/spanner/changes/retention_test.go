package changes

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

func TestRetentionRemovesRecords(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		b.commit(insert(tableT, rowT(1, "", 1)))
		r, err := b.log.Move("S", token, 0)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(DefaultRetention + time.Second)
		b.commit(insert(tableT, rowT(2, "", 1)))
		now := time.Now().UnixMicro()
		_, err = b.tryRead(query(now-1000, now, token))
		wantCode(t, err, codes.OutOfRange) // all its records expired
		ps, err := b.log.Partitions("S")
		if err != nil || len(ps) != 1 || ps[0].Token != r.Tokens[0] {
			t.Fatalf("retained partitions: %v, %v", ps, err)
		}
		if s := b.log.streams["S"]; len(s.retained) != 1 || len(s.parts) != 1 || len(s.ended) != 0 {
			t.Errorf("%d records retained in %d partitions", len(s.retained), len(s.parts))
		}
	})
}

func TestRetentionLoweredWhileReading(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		for i := range int64(2 * batchSize) {
			b.commit(insert(tableT, rowT(i, "", 1)))
		}
		time.Sleep(48 * time.Hour)
		n := 0
		err := b.log.Query(context.Background(), query(at, 0, token), func(Record) error {
			if n++; n == 1 {
				b.ddl(all("S", "retention_period", "1d"))
			}
			return nil
		})
		wantCode(t, err, codes.OutOfRange)
	})
}

// Records go by the clock alone, without commits or readers.
func TestCollect(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		b.commit(insert(tableT, rowT(1, "", 1)))
		if _, err := b.log.Move("S", b.tokens(at)[0], 0); err != nil {
			t.Fatal(err)
		}
		b.commit(insert(tableT, rowT(2, "", 1)))
		b.log.Collect()
		s := b.log.streams["S"]
		if len(s.retained) != 3 || len(s.parts) != 2 { // two rows and an end
			t.Errorf("%d records in %d partitions within the retention", len(s.retained), len(s.parts))
		}
		time.Sleep(DefaultRetention + time.Second)
		b.log.Collect()
		if s.retained != nil || len(s.parts) != 1 || s.live[0].entries != nil {
			t.Errorf("%d records in %d partitions after it", len(s.retained), len(s.parts))
		}
	})
}

// skewed is the bubble's clock, and some more.
type skewed struct {
	SystemClock
	by *atomic.Int64 // a time.Duration
}

func (c skewed) Now() time.Time { return c.SystemClock.Now().Add(time.Duration(c.by.Load())) }

// What is gone is out of bounds for good: a query there would miss it without a word.
func TestRemovedRecordsStayOutOfBounds(t *testing.T) {
	var by atomic.Int64
	for name, back := range map[string]func(*bench){
		"clock": func(*bench) { by.Store(int64(-DefaultRetention)) },
		"ALTER": func(b *bench) { b.ddl(all("S", "retention_period", "30d")) },
	} {
		t.Run(name, func(t *testing.T) {
			by.Store(0)
			inBubble(t, Options{Clock: skewed{by: &by}}, func(t *testing.T, b *bench) {
				at := b.ddl(all("S"))
				first := b.tokens(at)[0]
				row := b.commit(insert(tableT, rowT(1, "", 1)))
				time.Sleep(time.Hour)
				moved, err := b.log.Move("S", first, 0)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(DefaultRetention + time.Second)
				b.log.Collect()
				back(b)
				for _, q := range []Query{query(row, row, ""), query(moved.At-1, moved.At, ""), query(row, row, first)} {
					_, err := b.tryRead(q)
					wantCode(t, err, codes.OutOfRange)
				}
				if got := b.tokens(moved.At + 1); len(got) != 1 || got[0] != moved.Tokens[0] {
					t.Errorf("behind what is gone there are %v", got)
				}
			})
		})
	}
}

// Commits lie ahead of a clock that has gone back, and can be read all the same.
func TestReadingAheadOfTheClock(t *testing.T) {
	var by atomic.Int64
	by.Store(int64(-time.Hour))
	inBubble(t, Options{Clock: skewed{by: &by}}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		row := b.commit(insert(tableT, rowT(1, "", 1)))
		began := time.Now()
		if got := b.data(row, row, b.tokens(at)[0]); len(got) != 1 || time.Since(began) > time.Second {
			t.Errorf("%d rows after %v", len(got), time.Since(began))
		}
	})
}

// A redraw that is still to come takes no record away that is there.
func TestMaxBytesBeforeARedraw(t *testing.T) {
	for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, Options{MaxBytes: 10_000}, func(t *testing.T, b *bench) {
				token := b.tokens(b.ddl(all("S", "partition_mode", mode)))[0]
				at := time.Now().Add(time.Hour).UnixMicro()
				r, err := b.log.Split("S", token, 5, nil, at)
				if err != nil {
					t.Fatal(err)
				}
				for i := range int64(100) {
					last := b.commit(insert(tableT, rowT(i, strings.Repeat("x", 1000), 1)))
					if n := len(b.data(last, last, token)); n != 1 {
						t.Fatalf("%d rows at commit %d", n, i)
					}
				}
				time.Sleep(time.Hour + time.Second)
				last := b.commit(insert(tableT, rowT(1<<62, "", 1)))
				if got := b.tokens(last); len(got) != len(r.Tokens) {
					t.Errorf("after the split there are %v", got)
				}
				if s := b.log.streams["S"]; s.bytes > 10_000 {
					t.Errorf("%d bytes", s.bytes)
				}
			})
		})
	}
}

// Churn keeps its rate, whatever becomes of the clock.
func TestChurnWhenTheClockGoesBack(t *testing.T) {
	var by atomic.Int64
	inBubble(t, Options{Clock: skewed{by: &by}, Churn: Churn{Interval: time.Second, Move: 1}}, func(t *testing.T, b *bench) {
		defer b.log.Close()
		b.ddl(all("S"))
		made := func() uint64 {
			synctest.Wait()
			b.log.mu.Lock()
			defer b.log.mu.Unlock()
			return b.log.streams["S"].nextID
		}
		for _, jump := range []time.Duration{0, time.Hour, -2 * time.Hour} {
			by.Store(int64(jump))
			before := made()
			time.Sleep(time.Minute)
			if n := made() - before; n < 55 || n > 65 {
				t.Errorf("after a jump by %v there are %d redraws in a minute", jump, n)
			}
		}
	})
}

// Partitions that come and go without a row are bounded as well.
func TestMaxBytesOfPartitions(t *testing.T) {
	for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, Options{MaxBytes: 50_000}, func(t *testing.T, b *bench) {
				token := b.tokens(b.ddl(all("S", "partition_mode", mode)))[0]
				for range 300 {
					r, err := b.log.Split("S", token, 2, nil, 0)
					if err == nil {
						r, err = b.log.Merge("S", r.Tokens, 0)
					}
					if err != nil {
						t.Fatal(err)
					}
					token = r.Tokens[0]
					time.Sleep(time.Second)
					b.log.Collect()
				}
				if s := b.log.streams["S"]; s.bytes > 50_000 || len(s.parts) > 51 || len(s.parts) < 10 {
					t.Errorf("%d bytes, %d partitions", s.bytes, len(s.parts))
				}
				if got := b.tokens(time.Now().UnixMicro()); len(got) != 1 || got[0] != token {
					t.Errorf("alive are %v", got)
				}
			})
		})
	}
}

func TestMaxBytes(t *testing.T) {
	inBubble(t, Options{MaxBytes: 10_000}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		token := b.tokens(at)[0]
		var last int64
		for i := range int64(100) {
			last = b.commit(insert(tableT, rowT(i, strings.Repeat("x", 1000), 1)))
		}
		_, err := b.tryRead(query(at, last, token))
		wantCode(t, err, codes.OutOfRange)
		if n := len(b.data(last, last, token)); n != 1 {
			t.Errorf("%d rows at the newest commit", n)
		}
		if s := b.log.streams["S"]; s.bytes > 10_000 || len(s.retained) < 5 {
			t.Errorf("%d bytes in %d records", s.bytes, len(s.retained))
		}
	})
}

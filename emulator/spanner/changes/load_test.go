package changes

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Partitions follow the load: where changes come they are split, where none come they are merged again.
func TestChurnByLoad(t *testing.T) {
	for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, Options{Churn: Churn{Interval: time.Second, Hot: 50, Cold: 5, MaxPartitions: 8}}, func(t *testing.T, b *bench) {
				b.ddl(all("S", "partition_mode", mode))
				live := func() int {
					synctest.Wait()
					b.log.mu.Lock()
					defer b.log.mu.Unlock()
					return len(b.log.streams["S"].live)
				}
				if n := live(); n != 1 {
					t.Fatalf("%d partitions", n)
				}
				for i := range int64(1000) {
					time.Sleep(2 * time.Millisecond)
					b.commit(insert(tableT, rowT(i%300*7, "", i)))
				}
				if n := live(); n < 3 || n > 8 {
					t.Errorf("%d partitions under load", n)
				}
				for i := range int64(1000) {
					time.Sleep(2 * time.Millisecond)
					b.commit(insert(tableT, rowT(i%300*7, "", i)))
				}
				if n := live(); n < 4 || n > 8 {
					t.Errorf("%d partitions under lasting load", n)
				}
				time.Sleep(10 * time.Second)
				if n := live(); n != 1 {
					t.Errorf("%d partitions after it", n)
				}
			})
		})
	}
}

func TestChurnInManyWays(t *testing.T) {
	inBubble(t, Options{Churn: Churn{Interval: time.Second, Ways: 5, MaxPartitions: 20, Seed: 3}}, func(t *testing.T, b *bench) {
		b.ddl(all("S"))
		for i := range int64(200) {
			time.Sleep(time.Second)
			b.commit(insert(tableT, rowT(i*1000, "", i)))
		}
		synctest.Wait()
		ps, err := b.log.Partitions("S")
		if err != nil {
			t.Fatal(err)
		}
		widest, most := 0, 0
		for _, p := range ps {
			widest, most = max(widest, len(p.Children)), max(most, len(p.Parents))
		}
		if widest != 5 || most != 5 {
			t.Errorf("split in %d parts at most, merged of %d", widest, most)
		}
	})
}

func TestExpireOnCommand(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		p := b.tokens(at)[0]
		b.commit(insert(tableT, rowT(1, "", 1)))
		r, err := b.log.Split("S", p, 2, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.commit(insert(tableT, rowT(2, "", 1)))
		time.Sleep(time.Second)
		if err := b.log.Expire("S"); err != nil {
			t.Fatal(err)
		}
		_, err = b.tryRead(query(at, 0, p))
		wantCode(t, err, codes.OutOfRange)
		_, err = b.tryRead(query(r.At, 0, r.Tokens[0]))
		wantCode(t, err, codes.OutOfRange)
		if s := b.log.streams["S"]; len(s.retained) != 0 || len(s.ended) != 0 || len(s.parts) != 2 {
			t.Errorf("%d records, %d partitions, %d of them ended", len(s.retained), len(s.parts), len(s.ended))
		}
		last := b.commit(insert(tableT, rowT(3, "", 1)))
		if n := len(b.data(last, last, r.Tokens[0])) + len(b.data(last, last, r.Tokens[1])); n != 1 {
			t.Errorf("%d records since", n)
		}
		wantCode(t, b.log.Expire("X"), codes.NotFound)
	})
}

// Whatever the arguments, a query answers with rows or with a status that says what is wrong, and never panics.
func FuzzQuery(f *testing.F) {
	f.Add(int64(0), int64(0), int64(1000), "", "", false, uint8(0))
	f.Add(int64(-1), int64(5), int64(99), "AAAA", "AQEBAQEB", true, uint8(7))
	f.Add(int64(10), int64(1<<40), int64(300_000), strings.Repeat("A", 128), "AAAAAAAA", false, uint8(3))
	f.Fuzz(func(t *testing.T, start, length, heartbeat int64, token, resume string, options bool, how uint8) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, Options{})
			defer b.log.Close()
			mode := []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"}[how&1]
			at := b.ddl(all("S", "partition_mode", mode))
			real := b.tokens(at)[0]
			b.commit(insert(tableT, rowT(1, "", 1)))
			if _, err := b.log.Split("S", real, 2, nil, 0); err != nil {
				t.Fatal(err)
			}
			b.commit(insert(tableT, rowT(2, "", 1)))
			time.Sleep(time.Second)
			q := query(at+start, 0, "")
			q.HeartbeatMillis, q.ReadOptions, q.Resume = &heartbeat, options, resume
			q.End = new(micros(at + start + length%int64(time.Hour/time.Microsecond)))
			if how&2 != 0 {
				q.Token = &real
			} else if how&4 != 0 {
				q.Token = &token
			}
			rows := 0
			err := b.log.Query(t.Context(), q, func(r Record) error {
				rows++
				if r.Resume == "" || r.Value() == nil {
					t.Errorf("row %d has no position or no value", rows)
				}
				return nil
			})
			switch status.Code(err) {
			case codes.OK, codes.InvalidArgument, codes.OutOfRange, codes.Unimplemented:
			default:
				t.Errorf("%v", err)
			}
		})
	})
}

package changes

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func benchCommit(ts int64, rows int) *store.Commit {
	c := &store.Commit{Timestamp: ts, TransactionID: "1"}
	for i := range rows {
		c.Changes = append(c.Changes, insert(tableT, rowT(ts+int64(i)<<40, strings.Repeat("x", 1000), 1)))
	}
	return c
}

func BenchmarkObserve(b *testing.B) {
	for _, parts := range []int{1, 100, 10_000} {
		for _, rows := range []int{1, 10} {
			b.Run(fmt.Sprintf("partitions=%d/rows=%d", parts, rows), func(b *testing.B) {
				l := New(Options{Partitions: parts, MaxBytes: 64 << 20})
				l.ObserveTables([]*store.Table{tableT})
				at := time.Now().UnixMicro() - 1e9
				def := all("S")
				def.Created = at
				if err := l.ObserveSchema([]*store.ChangeStream{def}, at); err != nil {
					b.Fatal(err)
				}
				c := benchCommit(1, rows)
				b.ReportAllocs()
				for b.Loop() {
					at++
					d := *c
					d.Timestamp = at
					l.Observe(&d)
				}
			})
		}
	}
}

func BenchmarkServe(b *testing.B) {
	for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
		for _, first := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/encode=%v", mode, first), func(b *testing.B) {
				const n = 2000
				at := time.Now().UnixMicro() - 1e9
				def := all("S", "partition_mode", mode)
				def.Created = at
				fill := func() (*Log, string) {
					l := New(Options{})
					if err := l.ObserveSchema([]*store.ChangeStream{def}, at); err != nil {
						b.Fatal(err)
					}
					for i := range int64(n) {
						l.Observe(benchCommit(at+1+i, 1))
					}
					ps, err := l.Partitions("S")
					if err != nil {
						b.Fatal(err)
					}
					return l, ps[0].Token
				}
				l, token := fill()
				total := 0
				read := func() {
					total = 0
					if err := l.Query(b.Context(), query(at, at+n, token), func(r Record) error { total += len(r.Wire()); return nil }); err != nil {
						b.Fatal(err)
					}
				}
				read()
				b.SetBytes(int64(total))
				b.ReportAllocs()
				for b.Loop() {
					if first {
						b.StopTimer()
						l, token = fill()
						b.StartTimer()
					}
					read()
				}
				b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkRetain measures what a stored change of one column of 100 bytes takes: the Log's record with the commit's rows, and
// the encoded form beside it once someone has read it. ns/op mean nothing.
func BenchmarkRetain(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		const n = 20_000
		before := heap()
		at := time.Now().UnixMicro() - 1e9
		def := all("S")
		def.Created = at
		l := New(Options{})
		if err := l.ObserveSchema([]*store.ChangeStream{def}, at); err != nil {
			b.Fatal(err)
		}
		for i := range int64(n) {
			l.Observe(&store.Commit{Timestamp: at + 1 + i, TransactionID: "1", Changes: []store.RowChange{insert(tableT, rowT(i, strings.Repeat("x", 100), 1))}})
		}
		b.ReportMetric((heap()-before)/n, "B/change")
		ps, err := l.Partitions("S")
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Query(b.Context(), query(at, at+n, ps[0].Token), func(r Record) error { r.Wire(); return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((heap()-before)/n, "B/read-change")
		runtime.KeepAlive(l)
	}
}

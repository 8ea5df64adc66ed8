package store

import (
	"runtime"
	"strings"
	"testing"
)

// BenchmarkOverwrites measures what an old version takes of a row of two integers and 100 bytes, which is kept for the retention:
// B/version, and after as many more as -benchtime says. rows/s is of overwriting, and of removing what the retention has passed.
func BenchmarkOverwrites(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	l := litter(b)
	text := &Type{Code: String}
	l.tab.Columns = append(l.tab.Columns, Column{Name: "s", Type: text, Ordinal: 3})
	schema := l.db.Schema()
	const rows = 100
	put := func(v int64) {
		m := Mutation{Op: InsertOrUpdateRow, Table: l.tab, Columns: []int{0, 1, 2}}
		for k := range int64(rows) {
			m.Rows = append(m.Rows, Row{{Valid: true, Int: k}, {Valid: true}, {Valid: true, Text: strings.Repeat("x", 100)}})
		}
		if _, err := l.db.Begin().Commit(CommitRequest{Schema: schema, Mutations: []Mutation{m}}); err != nil {
			b.Fatal(err)
		}
	}
	put(0)
	before := heap()
	const versions = 1000 // within the retention: the clock moves a hundredth of it for each ten
	v := int64(0)
	for range versions / 10 {
		for range 10 {
			v++
			put(v)
		}
		l.clock.now = l.clock.now.Add(littersRetention / 100)
	}
	kept := heap() - before
	for b.Loop() {
		for range 10 {
			v++
			put(v)
		}
		l.clock.now = l.clock.now.Add(littersRetention / 100)
	}
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(kept/versions/rows, "B/version")
	b.ReportMetric((heap()-before)/versions/rows, "B/version-after")
	b.ReportMetric(float64(b.N)*10*rows/seconds, "rows/s")
	runtime.KeepAlive(l)
}

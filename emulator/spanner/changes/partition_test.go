package changes

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func keyT(k int64) Point { return Point{"T", tableT.KeyOf(rowT(k, "", 0))} }

func kinds(rows []row) []Kind {
	var out []Kind
	for _, r := range rows {
		out = append(out, r.Kind)
	}
	return out
}

func wantKinds(t *testing.T, rows []row, want ...Kind) {
	t.Helper()
	if !slices.Equal(kinds(rows), want) {
		t.Fatalf("got %v, want %v", kinds(rows), want)
	}
}

// must unwraps a redraw.
func must(t *testing.T) func(Redraw, error) Redraw {
	return func(r Redraw, err error) Redraw {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func TestCase45Split(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		p := b.tokens(at)[0]
		b.commit(insert(tableT, rowT(1, "", 1)))
		r := must(t)(b.log.Split("S", p, 0, []Point{keyT(10)}, 0))
		exactly := b.commit(insert(tableT, rowT(10, "", 1)), insert(tableC, store.Row{num(10), num(1), {}}), insert(tableT, rowT(9, "", 1)))
		if exactly != r.At {
			t.Fatalf("the test wants a commit exactly at the redraw, %d, got %d", r.At, exactly)
		}
		rows := b.read(query(at, 0, p))
		wantKinds(t, rows, Data, ChildPartitions, ChildPartitions)
		for i, c := range rows[1:] {
			if c.Timestamp != micros(r.At) || c.seq != sequenceText(i) || c.children[0].token != r.Tokens[i] || !slices.Equal(c.children[0].parents, []string{p}) {
				t.Errorf("child row %d: %+v", i, c)
			}
		}
		time.Sleep(time.Second)
		wantBrief(t, b.data(r.At, r.At, r.Tokens[0]), `INSERT T [{"k":"9"} {"a":"","b":"1"} {}]`)
		wantBrief(t, b.data(r.At, r.At, r.Tokens[1]), `INSERT T [{"k":"10"} {"a":"","b":"1"} {}]`, `INSERT C [{"k":"10","n":"1"} {"v":null} {}]`)
		// An end before the redraw shows no children, one at it does.
		wantKinds(t, b.read(query(at, r.At-1, p)), Data)
		wantKinds(t, b.read(query(at, r.At, p)), Data, ChildPartitions, ChildPartitions)
	})
}

func TestCase46MergeIsAnnouncedAlike(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		split := must(t)(b.log.Split("S", b.tokens(at)[0], 3, nil, 0))
		_, err := b.log.Merge("S", []string{split.Tokens[0], split.Tokens[2]}, 0)
		wantCode(t, err, codes.InvalidArgument) // not adjacent
		merge := must(t)(b.log.Merge("S", []string{split.Tokens[1], split.Tokens[0]}, 0))
		var first row
		for i, token := range split.Tokens[:2] {
			rows := b.read(query(split.At, 0, token))
			wantKinds(t, rows, ChildPartitions)
			if i == 0 {
				first = rows[0]
			}
			if string(rows[0].Wire()) != string(first.Wire()) || rows[0].children[0].token != merge.Tokens[0] || len(rows[0].children[0].parents) != 2 {
				t.Errorf("parent %d announces %+v", i, rows[0].children)
			}
		}
		_, err = b.log.Merge("S", []string{split.Tokens[1], split.Tokens[2]}, 0)
		wantCode(t, err, codes.FailedPrecondition) // ended
	})
}

func TestMoveAndChosenTime(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		p := b.tokens(at)[0]
		_, err := b.log.Move("S", p, at)
		wantCode(t, err, codes.FailedPrecondition) // behind
		_, err = b.log.Move("Nope", p, 0)
		wantCode(t, err, codes.NotFound)
		when := at + 2_000_000
		r := must(t)(b.log.Move("S", p, when))
		if r.At != when {
			t.Fatalf("moved at %d", r.At)
		}
		before := b.commit(insert(tableT, rowT(1, "", 1)))
		time.Sleep(time.Until(micros(when)))
		after := b.commit(insert(tableT, rowT(1, "", 1)))
		if after != when {
			t.Fatalf("committed at %d", after)
		}
		rows := b.read(query(before, 0, p))
		wantKinds(t, rows, Data, ChildPartitions)
		if n := len(b.data(when, when, r.Tokens[0])); n != 1 {
			t.Errorf("%d rows in the child", n)
		}
	})
}

func mutableBench(t *testing.T, run func(t *testing.T, b *bench, at int64)) {
	inBubble(t, Options{}, func(t *testing.T, b *bench) {
		run(t, b, b.ddl(all("S", "partition_mode", "MUTABLE_KEY_RANGE")))
	})
}

func TestCase55MutableWindow(t *testing.T) {
	mutableBench(t, func(t *testing.T, b *bench, at int64) {
		_, err := b.tryRead(query(at, 0, ""))
		wantCode(t, err, codes.InvalidArgument)
		now := time.Now().UnixMicro()
		half := MaxMutableWindow.Microseconds()
		_, err = b.tryRead(query(at, now+half+1, ""))
		wantCode(t, err, codes.OutOfRange)
		b.read(query(at, now+half, ""))
		b.read(query(now+1_000_000, now+1_000_000+half, "")) // the later of now and start counts
	})
}

func TestCase56MutableInitialQuery(t *testing.T) {
	mutableBench(t, func(t *testing.T, b *bench, at int64) {
		must(t)(b.log.Split("S", b.tokens(at)[0], 3, nil, 0))
		time.Sleep(time.Second)
		start := time.Now().UnixMicro() - 1000
		rows := b.read(query(start, start+10, ""))
		wantKinds(t, rows, PartitionStart, PartitionStart, PartitionStart)
		for i, r := range rows {
			if r.Timestamp != micros(start) || len(r.children) != 1 || r.seq != sequenceText(i) {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestCase57MoveOfARange(t *testing.T) {
	mutableBench(t, func(t *testing.T, b *bench, at int64) {
		split := must(t)(b.log.Split("S", b.tokens(at)[0], 0, []Point{keyT(100)}, 0))
		time.Sleep(time.Second)
		p, q := split.Tokens[0], split.Tokens[1]
		r := must(t)(b.log.Reassign("S", []Shift{{From: p, To: q, Low: new(keyT(10)), High: new(keyT(20))}}, 0))
		exactly := b.commit(insert(tableT, rowT(15, "", 1)), insert(tableT, rowT(5, "", 1)), insert(tableT, rowT(105, "", 1)))
		later := b.commit(update(tableT, rowT(15, "", 1), rowT(15, "", 2), "b"), update(tableT, rowT(5, "", 1), rowT(5, "", 2), "b"))
		if exactly != r.At || len(r.Tokens) != 0 {
			t.Fatalf("moved at %d, committed at %d, new %v", r.At, exactly, r.Tokens)
		}
		time.Sleep(time.Second)
		fromP, fromQ := b.read(query(r.At, later, p)), b.read(query(r.At, later, q))
		wantKinds(t, fromP, Data, PartitionEvent, Data)
		wantKinds(t, fromQ, Data, PartitionEvent, Data)
		wantBrief(t, []row{fromP[0], fromP[2]}, `INSERT T [{"k":"15"} {"a":"","b":"1"} {} {"k":"5"} {"a":"","b":"1"} {}]`, `UPDATE T [{"k":"5"} {"b":"2"} {"b":"1"}]`)
		wantBrief(t, fromQ[2:], `UPDATE T [{"k":"15"} {"b":"2"} {"b":"1"}]`)
		if ev := fromP[1]; !slices.Equal(ev.out, []string{q}) || len(ev.in) != 0 || ev.Timestamp != micros(r.At) || ev.seq <= fromP[0].seq {
			t.Errorf("event in P: %+v", ev)
		}
		if ev := fromQ[1]; !slices.Equal(ev.in, []string{p}) || len(ev.out) != 0 || ev.Timestamp != micros(r.At) || ev.seq <= fromQ[0].seq {
			t.Errorf("event in Q: %+v", ev)
		}
	})
}

func TestMutableSplitAndMergeRows(t *testing.T) {
	mutableBench(t, func(t *testing.T, b *bench, at int64) {
		p := b.tokens(at)[0]
		split := must(t)(b.log.Split("S", p, 2, nil, 0))
		time.Sleep(time.Second)
		rows := b.read(query(at, split.At+10, p))
		wantKinds(t, rows, PartitionStart, PartitionStart, PartitionEvent, PartitionEnd)
		if !slices.Equal(rows[2].out, split.Tokens) {
			t.Errorf("moved out to %v", rows[2].out)
		}
		for i, r := range rows {
			if r.Timestamp != micros(split.At) || r.seq != sequenceText(i) {
				t.Errorf("row %d: %+v", i, r)
			}
		}
		rows = b.read(query(split.At, split.At+10, split.Tokens[1]))
		wantKinds(t, rows, PartitionEvent)
		if !slices.Equal(rows[0].in, []string{p}) {
			t.Errorf("moved in from %v", rows[0].in)
		}
		merge := must(t)(b.log.Merge("S", split.Tokens, 0))
		time.Sleep(time.Second)
		wantKinds(t, b.read(query(merge.At, merge.At, split.Tokens[0])), PartitionStart, PartitionEvent, PartitionEnd)
		wantKinds(t, b.read(query(merge.At, merge.At, split.Tokens[1])), PartitionEvent, PartitionEnd)
		rows = b.read(query(merge.At, merge.At, merge.Tokens[0]))
		wantKinds(t, rows, PartitionEvent)
		if !slices.Equal(rows[0].in, split.Tokens) {
			t.Errorf("moved in from %v", rows[0].in)
		}
	})
}

func TestExchangeAtOneTime(t *testing.T) {
	mutableBench(t, func(t *testing.T, b *bench, at int64) {
		split := must(t)(b.log.Split("S", b.tokens(at)[0], 0, []Point{keyT(100)}, 0))
		time.Sleep(time.Second)
		p, q := split.Tokens[0], split.Tokens[1]
		r := must(t)(b.log.Reassign("S", []Shift{{From: p, To: q}, {From: q, To: p}}, 0))
		time.Sleep(time.Second)
		for _, pair := range [][2]string{{p, q}, {q, p}} {
			rows := b.read(query(r.At, r.At+10, pair[0]))
			wantKinds(t, rows, PartitionEvent)
			if !slices.Equal(rows[0].in, []string{pair[1]}) || !slices.Equal(rows[0].out, []string{pair[1]}) {
				t.Errorf("%+v", rows[0])
			}
		}
		if n := b.commit(insert(tableT, rowT(1, "", 1))); len(b.data(n, n, q)) != 1 {
			t.Error("Q owns what was P's")
		}
		_, err := b.log.Reassign("S", []Shift{{From: p, To: q, Low: new(keyT(1)), High: new(keyT(2))}}, 0)
		wantCode(t, err, codes.InvalidArgument) // not its own any more
		_, err = b.log.Reassign("S", []Shift{{From: p, To: p}}, 0)
		wantCode(t, err, codes.InvalidArgument)
	})
}

func TestCase59WindowsChained(t *testing.T) {
	mutableBench(t, func(t *testing.T, b *bench, at int64) {
		token := b.tokens(at)[0]
		var want []int64
		written := make(chan struct{})
		go func() {
			defer close(written)
			for i := range int64(200) {
				time.Sleep(7 * time.Millisecond)
				want = append(want, b.commit(insert(tableT, rowT(i, "", i))))
			}
		}()
		var got []int64
		for from := at; from < at+1_500_000; {
			to := from + 50_000
			for _, r := range b.data(from, to, token) {
				got = append(got, r.Timestamp.UnixMicro())
			}
			from = to + 1
		}
		<-written
		if !slices.Equal(got, want) {
			t.Errorf("%d of %d rows", len(got), len(want))
		}
	})
}

func TestInitialPartitionsShareTheLoad(t *testing.T) {
	inBubble(t, Options{Partitions: 8}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		for i := range int64(100) {
			b.commit(insert(tableT, rowT(i, "", i)), insert(tableU, store.Row{num(i << 55), {}}))
		}
		used := 0
		for _, token := range b.tokens(at) {
			if len(b.data(at, at+1000, token)) > 0 {
				used++
			}
		}
		if used < 4 {
			t.Errorf("data in %d of 8 partitions", used)
		}
	})
	for _, n := range []int{1, 2, 10, 1000, 10_000} {
		for _, tables := range [][]*store.Table{nil, {tableT}, {tableT, tableU, tableC}} {
			cuts := firstCuts(tables, func(*store.Table) bool { return true }, n)
			if len(cuts) != n-1 || !slices.IsSortedFunc(cuts, place.compare) || len(slices.Compact(cuts)) != n-1 {
				t.Errorf("%d partitions over %d tables: %d cuts", n, len(tables), len(cuts))
			}
		}
	}
}

func TestTenThousandPartitions(t *testing.T) {
	inBubble(t, Options{Partitions: 10_000}, func(t *testing.T, b *bench) {
		at := b.ddl(all("S"))
		tokens := b.tokens(at)
		if len(tokens) != 10_000 {
			t.Fatalf("%d partitions", len(tokens))
		}
		for i := range 500 {
			must(t)(b.log.Split("S", tokens[i*3], 2, nil, 0))
		}
		for i := range int64(1000) {
			b.commit(insert(tableT, rowT(i*i, "", i)))
		}
		time.Sleep(time.Second)
		n := 0
		for _, token := range b.tokens(time.Now().UnixMicro() - 1) {
			p := b.log.streams["S"].parts[token]
			n += len(p.entries)
		}
		for _, p := range b.log.streams["S"].ended {
			n += len(p.entries)
		}
		if n != 1000 {
			t.Errorf("%d of 1000 changes are in partitions", n)
		}
	})
}

func TestChurn(t *testing.T) {
	for _, mode := range []string{"IMMUTABLE_KEY_RANGE", "MUTABLE_KEY_RANGE"} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, Options{Churn: Churn{Interval: 500 * time.Millisecond, MaxPartitions: 5, Seed: 7}}, func(t *testing.T, b *bench) {
				at := b.ddl(all("S", "partition_mode", mode))
				most := 0
				for i := range int64(600) {
					time.Sleep(100 * time.Millisecond)
					b.commit(insert(tableT, rowT(i, "", i)))
					b.log.mu.Lock()
					most = max(most, len(b.log.streams["S"].live))
					b.log.mu.Unlock()
				}
				synctest.Wait()
				ps, err := b.log.Partitions("S")
				if err != nil || len(ps) < 15 || most > 5 || most < 2 {
					t.Errorf("%d partitions in a minute, %d at most at a time: %v", len(ps), most, err)
				}
				seen := map[string]bool{}
				for _, p := range ps {
					if p.Start > at+60_000_000 {
						continue
					}
					for _, r := range b.data(p.Start, at+60_000_000, p.Token) {
						for _, m := range r.mods {
							if seen[m.keys] {
								t.Fatalf("%s came twice", m.keys)
							}
							seen[m.keys] = true
						}
					}
				}
				if len(seen) != 600 {
					t.Errorf("%d of 600 changes came", len(seen))
				}
			})
		})
	}
}

func TestRowType(t *testing.T) {
	for _, c := range []struct {
		pg   bool
		mode string
		want string
	}{
		{false, "IMMUTABLE_KEY_RANGE", "ChangeRecord ARRAY"}, {false, "MUTABLE_KEY_RANGE", "ChangeRecord PROTO"},
		{true, "IMMUTABLE_KEY_RANGE", "read_json_S JSON"}, {true, "MUTABLE_KEY_RANGE", "read_proto_bytes_S BYTES"},
	} {
		inBubble(t, Options{PostgreSQL: c.pg}, func(t *testing.T, b *bench) {
			b.ddl(all("S", "partition_mode", c.mode))
			typ, err := b.log.RowType("S")
			if err != nil || len(typ.Fields) != 1 {
				t.Fatal(typ, err)
			}
			if got := fmt.Sprint(typ.Fields[0].Name, " ", typ.Fields[0].Type.Code); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			_, err = b.log.RowType("X")
			wantCode(t, err, codes.NotFound)
		})
	}
}

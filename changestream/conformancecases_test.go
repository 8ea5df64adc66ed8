package changestream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

const (
	tableT  = "CREATE TABLE T (k INT64 NOT NULL, a STRING(MAX), b INT64) PRIMARY KEY (k)"
	streamT = "CREATE CHANGE STREAM s FOR T"
)

var captureTypes = []string{"OLD_AND_NEW_VALUES", "NEW_VALUES", "NEW_ROW", "NEW_ROW_AND_OLD_VALUES"}

func insertT(k int64, a any) *spanner.Mutation {
	return spanner.Insert("T", []string{"k", "a"}, []any{k, a})
}

func updateT(k int64, column string, v any) *spanner.Mutation {
	return spanner.Update("T", []string{"k", column}, []any{k, v})
}

func deleteT(k int64) *spanner.Mutation { return spanner.Delete("T", spanner.Key{k}) }

// conformanceCases are in conformance.md, by number.
var conformanceCases = []conformanceCase{
	{5, []string{tableT, "CREATE CHANGE STREAM s FOR ALL"}, func(b *bed) {
		b.ddl("CREATE TABLE Later (k INT64, v INT64) PRIMARY KEY (k)")
		b.apply(spanner.Insert("Later", []string{"k", "v"}, []any{1, 2}))
		b.want(b.from, `INSERT Later k="1" | v="2" |`)
	}, ""},
	{6, []string{tableT, "CREATE CHANGE STREAM s FOR T(a)"}, func(b *bed) {
		b.apply(insertT(1, "x"))
		b.ddl("ALTER TABLE T ADD COLUMN c INT64")
		from := b.last + 1
		b.apply(updateT(1, "c", 7))
		b.want(from)
	}, ""},
	{8, []string{tableT, "CREATE CHANGE STREAM s FOR ALL"}, func(b *bed) {
		b.apply(insertT(1, "x"))
		b.ddl("ALTER CHANGE STREAM s DROP FOR ALL")
		b.apply(insertT(2, "x"))
		b.want(b.from, `INSERT T k="1" | a="x" b=null |`)
	}, ""},
	{19, []string{tableT, streamT}, func(b *bed) {
		first, err := b.open("s", Options{}).Partitions(b.Context(), b.from)
		must(b.T, err)
		for _, p := range first {
			if p.Start != b.from || len(p.Parents) > 0 || p.Token == "" {
				b.Errorf("the initial query at %v answers %+v", b.from, p)
			}
		}
	}, ""},
	{20, []string{tableT, streamT}, func(b *bed) {
		r := b.open("s", Options{})
		ahead := b.from + 1_000_000
		_, err := r.Partitions(b.Context(), ahead)
		must(b.T, err)
		now, err := r.Now(b.Context())
		must(b.T, err)
		if now < ahead {
			b.Errorf("a start at %v was answered at %v", ahead, now)
		}
	}, ""},
	{21, []string{tableT, streamT}, func(b *bed) {
		at := b.apply(insertT(1, "x"))
		b.apply(insertT(2, "x"))
		if got := b.changes("s", b.from, at); len(got) != 1 || got[0].Position.Commit != at {
			b.Errorf("through %v: %d changes", at, len(got))
		}
	}, ""},
	{22, []string{tableT, streamT}, func(b *bed) {
		b.apply(insertT(1, "x"))
		at := b.apply(insertT(2, "x"))
		if got := b.changes("s", at, at); len(got) != 1 || got[0].Position.Commit != at {
			b.Errorf("from %v: %d changes", at, len(got))
		}
	}, ""},
	{23, []string{tableT, streamT}, func(b *bed) {
		r := b.open("s", Options{})
		first, err := r.Partitions(b.Context(), b.from)
		must(b.T, err)
		var told []change.Timestamp
		err = r.Read(b.Context(), first[0], 0, func(f *change.Frame) error {
			if len(f.Changes) > 0 {
				b.Errorf("an idle partition has the changes %v", f.Changes)
			}
			if told = append(told, f.Through); len(told) == 5 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) || !slices.IsSorted(told) || len(slices.Compact(told)) != 5 || told[4]-told[0] < 4*change.Timestamp(minHeartbeat.Microseconds())/2 {
			b.Errorf("an idle partition promised %v: %v", told, err)
		}
	}, ""},
	{24, []string{tableT, streamT}, func(b *bed) {
		const writes = 50
		r := b.open("s", Options{})
		ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() {
			through, seen := map[string]change.Timestamp{}, 0
			_, err := r.Follow(ctx, b.from, 0, func(f *change.Frame) error {
				for i := range f.Changes {
					if at := f.Changes[i].Position.Commit; at <= through[f.Token] {
						return fmt.Errorf("a change at %v came after the promise of %v", at, through[f.Token])
					}
				}
				if f.Through < through[f.Token] {
					return fmt.Errorf("the promise went back from %v to %v", through[f.Token], f.Through)
				}
				through[f.Token] = f.Through
				if seen += len(f.Changes); seen == writes {
					return errEnough
				}
				return nil
			})
			done <- err
		}()
		for i := range writes {
			b.apply(insertT(int64(i), "x"))
		}
		if err := <-done; !errors.Is(err, errEnough) {
			b.Error(err)
		}
	}, ""},
	{28, []string{tableT, streamT}, func(b *bed) {
		b.apply(insertT(1, "x"))
		b.want(b.from, `INSERT T k="1" | a="x" b=null |`)
	}, ""},
	{29, captured(), func(b *bed) {
		b.underEachCapture(func(table string) *spanner.Mutation {
			return spanner.Update(table, []string{"k", "a"}, []any{1, "y"})
		}, `UPDATE %s k="1" | a="y" | a="x"`, `UPDATE %s k="1" | a="y" |`, `UPDATE %s k="1" | a="y" b="5" |`, `UPDATE %s k="1" | a="y" b="5" | a="x"`)
	}, ""},
	{30, captured(), func(b *bed) {
		b.underEachCapture(func(table string) *spanner.Mutation { return spanner.Delete(table, spanner.Key{1}) },
			`DELETE %s k="1" | | a="x" b="5"`, `DELETE %s k="1" | |`, `DELETE %s k="1" | |`, `DELETE %s k="1" | | a="x" b="5"`)
	}, ""},
	{31, []string{tableT, streamT}, func(b *bed) {
		from := b.apply(insertT(1, "x")) + 1
		b.apply(updateT(1, "a", "x"))
		b.want(from, `UPDATE T k="1" | a="x" | a="x"`)
	}, ""},
	{32, []string{tableT, "CREATE CHANGE STREAM s FOR T(a)"}, func(b *bed) {
		from := b.apply(insertT(1, "x")) + 1
		b.apply(updateT(1, "b", 7))
		b.apply(deleteT(99))
		b.want(from)
	}, ""},
	{33, []string{tableT, streamT}, func(b *bed) {
		b.apply(insertT(2, "y"), updateT(2, "b", 3), updateT(2, "a", "z"))
		b.want(b.from, `INSERT T k="2" | a="z" b="3" |`)
	}, ""},
	{34, []string{tableT, streamT}, func(b *bed) {
		from := b.apply(insertT(1, "x")) + 1
		b.apply(insertT(2, "y"), deleteT(2))
		b.apply(updateT(1, "a", "y"), deleteT(1))
		b.want(from, `DELETE T k="1" | | a="x" b=null`)
	}, ""},
	{35, []string{tableT, streamT}, func(b *bed) {
		from := b.apply(insertT(1, "x")) + 1
		b.apply(deleteT(1), insertT(1, "y"))
		b.apply(spanner.Replace("T", []string{"k", "b"}, []any{1, 6}))
		b.want(from, `DELETE T k="1" | | a="x" b=null`, `INSERT T k="1" | a="y" b=null |`, `DELETE T k="1" | | a="y" b=null`, `INSERT T k="1" | a=null b="6" |`)
	}, "it makes one INSERT of them"},
	{36, []string{tableT, streamT}, func(b *bed) {
		b.apply(insertT(1, "x"), insertT(2, "x"))
		records := func(ms ...*spanner.Mutation) (at []string) {
			b.apply(ms...)
			for _, c := range b.changes("s", b.last, b.last) {
				at = append(at, fmt.Sprint(c.Position.Sequence, "/", c.Position.Mod))
			}
			return at
		}
		if got := records(updateT(1, "a", "y"), updateT(2, "b", 1)); !slices.Equal(got, []string{"00000000/0", "00000001/0"}) {
			b.Errorf("different columns: %v", got)
		}
		if got := records(updateT(1, "a", "z"), updateT(2, "a", "z")); !slices.Equal(got, []string{"00000000/0", "00000000/1"}) {
			b.Errorf("the same columns: %v", got)
		}
	}, ""},
	{37, []string{tableT, "CREATE TABLE U (k INT64) PRIMARY KEY (k)", "CREATE CHANGE STREAM s FOR ALL"}, func(b *bed) {
		b.apply(insertT(1, "x"), spanner.Insert("U", []string{"k"}, []any{1}))
		var got, tables []string
		for _, c := range b.changes("s", b.from, b.last) {
			got, tables = append(got, fmt.Sprint(c.Position.Sequence, " ", c.Records, " ", c.Partitions)), append(tables, c.Table.Name)
		}
		slices.Sort(tables) // Spanner may reorder changes inside a transaction
		if !slices.Equal(got, []string{"00000000 2 1", "00000001 2 1"}) || !slices.Equal(tables, []string{"T", "U"}) {
			b.Errorf("got %q of %q", got, tables)
		}
	}, ""},
	{38, []string{tableT, "CREATE TABLE C (k INT64 NOT NULL, n INT64) PRIMARY KEY (k, n), INTERLEAVE IN PARENT T ON DELETE CASCADE",
		"CREATE CHANGE STREAM s FOR ALL", "CREATE CHANGE STREAM kept FOR ALL OPTIONS (exclude_delete = true)"}, func(b *bed) {
		from := b.apply(insertT(1, "x"), spanner.Insert("C", []string{"k", "n"}, []any{1, 1})) + 1
		b.apply(deleteT(1))
		var got []string
		for _, c := range b.changes("s", from, b.last) {
			got = append(got, describeChange(&c))
		}
		slices.Sort(got)
		if !slices.Equal(got, []string{`DELETE C k="1" n="1" | |`, `DELETE T k="1" | | a="x" b=null`}) {
			b.Errorf("got %q", got)
		}
		b.wantOf("kept", from)
	}, ""},
	{39, []string{"CREATE TABLE T (k INT64 NOT NULL, g INT64 AS (k * 2) STORED, a STRING(MAX), h STRING(MAX) AS (UPPER(a)) STORED) PRIMARY KEY (g)", streamT}, func(b *bed) {
		b.apply(insertT(1, "x"))
		b.want(b.from, `INSERT T g="2" | k="1" a="x" |`)
	}, ""},
	{40, []string{"CREATE TABLE T (k INT64) PRIMARY KEY (k)", streamT}, (*bed).everyType, ""},
	{41, []string{"CREATE TABLE T (k INT64, a TIMESTAMP OPTIONS (allow_commit_timestamp = true)) PRIMARY KEY (k)", streamT}, func(b *bed) {
		at := b.apply(insertT(1, spanner.CommitTimestamp))
		b.want(b.from, fmt.Sprintf(`INSERT T k="1" | a="%s" |`, at.Time().UTC().Format("2006-01-02T15:04:05.999999Z")))
	}, "it shows a placeholder"},
	{42, []string{tableT, streamT}, func(b *bed) {
		b.applyWith([]spanner.ApplyOption{spanner.TransactionTag("app=cart")}, insertT(1, "x"))
		if got := b.changes("s", b.from, b.last); len(got) != 1 || got[0].Tag != "app=cart" || got[0].System {
			b.Errorf("got %+v", got)
		}
	}, "its transaction_tag is always empty"},
	{43, []string{tableT, streamT, "CREATE CHANGE STREAM open FOR T OPTIONS (allow_txn_exclusion = true)"}, func(b *bed) {
		b.applyWith([]spanner.ApplyOption{spanner.ExcludeTxnFromChangeStreams()}, insertT(1, "x"))
		b.wantOf("s", b.from, `INSERT T k="1" | a="x" b=null |`)
		b.wantOf("open", b.from)
	}, "it does not know the option"},
	{44, []string{tableT, streamT}, func(b *bed) {
		b.apply(insertT(1, "x"))
		b.ddl("ALTER TABLE T ADD COLUMN c INT64", "ALTER TABLE T DROP COLUMN b")
		b.apply(updateT(1, "c", 7))
		b.apply(deleteT(1))
		b.want(b.from, `INSERT T k="1" | a="x" b=null |`, `UPDATE T k="1" | c="7" | c=null`, `DELETE T k="1" | | a="x" c="7"`)
	}, ""},
	{45, []string{tableT, streamT}, func(b *bed) {
		r, p := b.only()
		before := b.apply(insertT(1, "x"))
		cut, err := b.server.Database(b.name).Log().Split("s", p.Token, 2, nil, 0)
		must(b.T, err)
		after := b.apply(insertT(2, "x"))
		changes, last := b.readWhole(r, p)
		if len(changes) != 1 || changes[0].Position.Commit != before || last.Through != change.Timestamp(cut.At)-1 || len(last.Children) != 2 {
			b.Errorf("the partition has %d changes and ends with %+v", len(changes), last)
		}
		for _, c := range last.Children {
			if c.Start != change.Timestamp(cut.At) || !slices.Equal(c.Parents, []string{p.Token}) {
				b.Errorf("a child is %+v", c)
			}
		}
		if got := b.changes("s", after, after); len(got) != 1 || got[0].Partition != last.Children[0].Token && got[0].Partition != last.Children[1].Token {
			b.Errorf("behind the split came %+v", got)
		}
	}, "it splits by its clock only; see TestOfficialEmulatorChurn"},
	{46, []string{tableT, streamT}, func(b *bed) {
		r, p := b.only()
		log := b.server.Database(b.name).Log()
		_, err := log.Split("s", p.Token, 2, nil, 0)
		must(b.T, err)
		b.apply(insertT(1, "x"))
		_, last := b.readWhole(r, p)
		left, right := last.Children[0], last.Children[1]
		cut, err := log.Merge("s", []string{left.Token, right.Token}, 0)
		must(b.T, err)
		b.apply(insertT(2, "x"))
		_, a := b.readWhole(r, left)
		_, c := b.readWhole(r, right)
		if len(a.Children) != 1 || len(c.Children) != 1 || a.Children[0].Token != c.Children[0].Token || a.Children[0].Start != change.Timestamp(cut.At) ||
			!slices.Equal(a.Children[0].Parents, c.Children[0].Parents) || len(a.Children[0].Parents) != 2 {
			b.Fatalf("the two announce %+v and %+v", a.Children, c.Children)
		}
		begun := map[string]int{}
		through, err := r.Follow(b.Context(), b.from, b.last, func(f *change.Frame) error {
			if len(f.Changes) > 0 {
				begun[f.Token]++
			}
			return nil
		})
		if err != nil || through != b.last || begun[a.Children[0].Token] != 1 {
			b.Errorf("through %v, with changes in %v: %v", through, begun, err)
		}
	}, "it merges by its clock only; see TestOfficialEmulatorChurn"},
	{49, []string{tableT, "CREATE CHANGE STREAM s FOR T", "CREATE CHANGE STREAM breaking FOR T"}, func(b *bed) {
		must(b.T, b.server.Faults().Add(fault.Rule{Kind: fault.End, P: 0.7, AfterMax: 2, Stream: "breaking"}))
		var want []string
		for i := range int64(20) {
			b.apply(insertT(i, "x"))
			want = append(want, fmt.Sprintf(`INSERT T k="%d" | a="x" b=null |`, i))
		}
		b.wantOf("breaking", b.from, want...)
		if b.server.Faults().Count(fault.End) == 0 {
			b.Error("no query ended early")
		}
	}, "it cannot be made to"},
	{50, []string{tableT, streamT}, func(b *bed) {
		b.apply(insertT(1, "x"))
		end := b.last + 200_000
		r := b.open("s", Options{End: end})
		first, err := r.Partitions(b.Context(), b.from)
		must(b.T, err)
		seen := 0
		for _, p := range first {
			through := change.Timestamp(0)
			must(b.T, r.Read(b.Context(), p, 0, func(f *change.Frame) error {
				seen, through = seen+len(f.Changes), f.Through
				return nil
			}))
			if through != end {
				b.Errorf("read through %v, want %v", through, end)
			}
		}
		if seen != 1 {
			b.Errorf("%d changes", seen)
		}
	}, ""},
	{52, []string{tableT, streamT}, func(b *bed) {
		// Nothing is written any more: only heartbeats bring every partition past the end.
		b.apply(insertT(1, "x"))
		through, err := b.open("s", Options{}).Follow(b.Context(), b.from, b.last+500_000, func(*change.Frame) error { return nil })
		if err != nil || through != b.last+500_000 {
			b.Errorf("through %v: %v", through, err)
		}
	}, ""},
	{53, []string{tableT, streamT}, func(b *bed) {
		var lost *LostError
		start := b.from - 3_600_000_000
		if _, err := b.open("s", Options{}).Partitions(b.Context(), start); !errors.As(err, &lost) || lost.From != start {
			b.Errorf("got %v", err)
		}
	}, ""},
	{54, []string{tableT, streamT}, func(b *bed) {
		_, p := b.only()
		log := b.server.Database(b.name).Log()
		live := []string{p.Token}
		var want []string
		for i := range 12 {
			b.apply(spanner.InsertOrUpdate("T", []string{"k", "b"}, []any{1, i}))
			want = append(want, fmt.Sprintf(`b="%d"`, i))
			var err error
			switch i % 3 {
			case 0:
				_, err = log.Split("s", live[0], 2, nil, 0)
			case 1:
				_, err = log.Move("s", live[0], 0)
			default:
				_, err = log.Merge("s", live, 0)
			}
			must(b.T, err)
			all, err := log.Partitions("s")
			must(b.T, err)
			live = nil
			for _, p := range all {
				if p.End == 0 {
					live = append(live, p.Token)
				}
			}
		}
		var got []string
		in := map[string]bool{}
		for _, c := range b.changes("s", b.from, b.last) {
			got, in[c.Partition] = append(got, fmt.Sprintf("b=%s", c.After[2])), true
		}
		if !slices.Equal(got, want) || len(in) < 8 {
			b.Errorf("over %d partitions came %v, want %v", len(in), got, want)
		}
	}, "a key may hop between unrelated partitions"},
}

package spanner_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// step is one thing that a transaction does to the counters, with what it saw.
type step struct {
	kind  string // row, range, increment, insert, put, update, delete
	id, n int64
	saw   string
}

// run carries the step out in a transaction. The last three kinds are mutations, which go with the commit.
func (s *step) run(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
	params := map[string]any{"id": s.id, "n": s.n}
	columns, values := []string{"id", "n"}, []any{s.id, s.n}
	query := func(sql string) error {
		rows, err := texts(tx.Query(ctx, cloudspanner.Statement{SQL: sql, Params: params}))
		s.saw = fmt.Sprint(rows)
		return err
	}
	count := func(sql string) error {
		n, err := tx.Update(ctx, cloudspanner.Statement{SQL: sql, Params: params})
		s.saw = fmt.Sprint(n)
		return err
	}
	switch s.kind {
	case "row":
		return query("SELECT id, n FROM counters WHERE id = @id")
	case "range":
		return query("SELECT id, n FROM counters WHERE id >= @id ORDER BY id")
	case "increment":
		return count("UPDATE counters SET n = n + @n WHERE id <= @id")
	case "insert":
		return count("INSERT OR IGNORE INTO counters (id, n) VALUES (@id, @n)")
	case "put":
		return tx.BufferWrite([]*cloudspanner.Mutation{cloudspanner.InsertOrUpdate("counters", columns, values)})
	case "update":
		return tx.BufferWrite([]*cloudspanner.Mutation{cloudspanner.Update("counters", columns, values)})
	}
	return tx.BufferWrite([]*cloudspanner.Mutation{cloudspanner.Delete("counters", cloudspanner.KeyRange{Start: cloudspanner.Key{s.id}, End: cloudspanner.Key{s.id + 1}, Kind: cloudspanner.ClosedClosed})})
}

// late reports whether the step is a mutation.
func (s *step) late() bool { return slices.Contains([]string{"put", "update", "delete"}, s.kind) }

// numbers are the counters as a map.
type numbers map[int64]int64

// do carries the step out and returns what it sees.
func (m numbers) do(s step) string {
	var rows []string
	switch s.kind {
	case "row", "range":
		for _, id := range slices.Sorted(maps.Keys(m)) {
			if id == s.id || s.kind == "range" && id > s.id {
				rows = append(rows, fmt.Sprintf("[%d %d]", id, m[id]))
			}
		}
		return "[" + strings.Join(rows, " ") + "]"
	case "increment":
		count := 0
		for id := range m {
			if id <= s.id {
				m[id] += s.n
				count++
			}
		}
		return fmt.Sprint(count)
	case "insert":
		if _, ok := m[s.id]; ok {
			return "0"
		}
		m[s.id] = s.n
		return "1"
	case "put", "update":
		m[s.id] = s.n
	case "delete":
		delete(m, s.id)
		delete(m, s.id+1)
	}
	return ""
}

// Whatever clients do at the same time, it is as if each transaction had run alone at its commit timestamp: what it read, what its
// statements did, and which rows there are at any of these timestamps.
func TestSerialOrderOfClients(t *testing.T) {
	w := start(t, spanner.Options{}, counters)
	type committed struct {
		at    time.Time
		steps []step
	}
	var mu sync.Mutex
	var done []committed
	const workers, each, rows = 8, 40, 4
	g, gctx := errgroup.WithContext(w.ctx)
	for k := range workers {
		g.Go(func() error {
			rng := rand.New(rand.NewPCG(uint64(k), 11))
			kinds := []string{"row", "range", "increment", "insert", "put", "update", "delete"}
			for range each {
				steps := make([]step, rng.IntN(5))
				for i := range steps {
					steps[i] = step{kind: kinds[rng.IntN(len(kinds))], id: rng.Int64N(rows), n: rng.Int64N(100)}
				}
				at, err := w.client.ReadWriteTransaction(gctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
					for i := range steps {
						if err := steps[i].run(ctx, tx); err != nil {
							return err
						}
					}
					return nil
				})
				if cloudspanner.ErrCode(err) == codes.NotFound { // an update of a row that was not there
					continue
				}
				if err != nil {
					return err
				}
				slices.SortStableFunc(steps, func(a, b step) int { return boolInt(a.late()) - boolInt(b.late()) })
				mu.Lock()
				done = append(done, committed{at, steps})
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(done, func(a, b committed) int { return cmp.Compare(a.at.UnixMicro(), b.at.UnixMicro()) })
	m := numbers{}
	for i, c := range done {
		if i > 0 && !c.at.After(done[i-1].at) && len(c.steps) > 0 {
			t.Fatalf("two commits at %v", c.at)
		}
		for _, s := range c.steps {
			if s.kind == "update" {
				if _, ok := m[s.id]; !ok {
					t.Fatalf("at %v a row is updated that is not there: %+v", c.at, c.steps)
				}
			}
			if saw := m.do(s); saw != s.saw {
				t.Fatalf("at %v: %s %d saw %s, and %s in serial order", c.at, s.kind, s.id, s.saw, saw)
			}
		}
		if i%10 != 0 && i < len(done)-1 {
			continue
		}
		got, err := texts(w.client.Single().WithTimestampBound(cloudspanner.ReadTimestamp(c.at)).Query(w.ctx, cloudspanner.NewStatement("SELECT id, n FROM counters ORDER BY id")))
		if want := m.do(step{kind: "range"}); err != nil || fmt.Sprint(got) != want {
			t.Fatalf("at %v there is %v, %v; want %s", c.at, got, err, want)
		}
	}
	t.Logf("%d transactions committed", len(done))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

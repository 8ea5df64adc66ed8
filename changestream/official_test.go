package changestream

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"golang.org/x/sync/errgroup"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/emulator/official"
)

const testDatabase = "projects/reader/instances/reader/databases/reader"

var testDDL = []string{
	"CREATE TABLE Carts (CartId STRING(36) NOT NULL, Items INT64, Note STRING(MAX), Total FLOAT64, Tags ARRAY<STRING(MAX)>, Extra JSON) PRIMARY KEY (CartId)",
	"CREATE CHANGE STREAM Everything FOR ALL",
}

// openReader starts a reader with the emulator's options.
func openReader(t *testing.T, p *official.Process, o Options) *Reader {
	t.Helper()
	o.Database, o.ClientOptions = testDatabase, p.ClientOptions()
	if o.Heartbeat == 0 {
		o.Heartbeat = 100 * time.Millisecond
	}
	r, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// follow reads all partitions by the graph's word until ctx ends.
func follow(ctx context.Context, r *Reader, start change.Timestamp, yield func(*change.Frame)) error {
	partitions, err := r.Partitions(ctx, start)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	graph := NewGraph()
	held := map[string]chan struct{}{}
	var mu sync.Mutex
	var launch func()
	launch = func() {
		for _, token := range graph.Released() {
			close(held[token])
		}
		for _, p := range graph.Startable() {
			g.Go(func() error {
				return r.Read(ctx, p, p.Start-1, func(f *change.Frame) error {
					mu.Lock()
					var hold chan struct{}
					defer func() {
						mu.Unlock()
						if hold != nil {
							select {
							case <-hold:
							case <-ctx.Done():
							}
						}
					}()
					yield(f)
					for _, c := range f.Children {
						graph.Add(c)
					}
					graph.Promise(f.Token, f.Through)
					if len(f.Sources) > 0 && !f.Ended {
						hold = make(chan struct{})
						held[f.Token] = hold
						if err := graph.Hold(f.Token, f.Through, f.Sources); err != nil {
							return err
						}
					}
					if f.Ended {
						if err := graph.Finish(f.Token); err != nil {
							return err
						}
					}
					launch()
					return nil
				})
			})
		}
	}
	mu.Lock()
	for _, p := range partitions {
		graph.Add(p)
	}
	launch()
	mu.Unlock()
	return g.Wait()
}

// lifecycle checks what is said of partitions with immutable key ranges as their frames come: cases 45 to 47.
type lifecycle struct {
	*testing.T
	known map[string]change.Partition // announced by a parent
	ended map[string]bool
	// merges counts the partitions announced by several parents.
	merges int
}

func newLifecycle(t *testing.T) *lifecycle {
	return &lifecycle{T: t, known: map[string]change.Partition{}, ended: map[string]bool{}}
}

func (l *lifecycle) frame(f *change.Frame) {
	p := l.known[f.Token]
	for _, parent := range p.Parents {
		if !l.ended[parent] {
			l.Errorf("a partition was read before its parent had ended")
		}
	}
	if l.ended[f.Token] {
		l.Errorf("a partition goes on behind its end")
	}
	for i := range f.Changes {
		if at := f.Changes[i].Position.Commit; at < p.Start || at > f.Through {
			l.Errorf("a change at %v lies outside its partition, which begins at %v, or its frame, through %v", at, p.Start, f.Through)
		}
	}
	for _, c := range f.Children {
		if c.Start != f.Through+1 || !slices.Contains(c.Parents, f.Token) {
			l.Errorf("a partition that ends behind %v announces %+v", f.Through, c)
		}
		if before, again := l.known[c.Token]; again {
			l.merges++
			if before.Start != c.Start || !slices.Equal(slices.Sorted(slices.Values(before.Parents)), slices.Sorted(slices.Values(c.Parents))) {
				l.Errorf("two parents announce %+v and %+v", before, c)
			}
		}
		l.known[c.Token] = c
	}
	l.ended[f.Token] = f.Ended
}

// A key's partition may not descend from its last one there, so it has no order to check.
func TestOfficialEmulatorChurn(t *testing.T) {
	emulator := official.SpannerForTest(t, official.SpannerOptions{PartitionTokenAlive: 2 * time.Second})
	if err := emulator.CreateDatabase(t.Context(), testDatabase, testDDL...); err != nil {
		t.Fatal(err)
	}
	r := openReader(t, emulator, Options{Stream: "everything"})
	start, err := r.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := spanner.NewClient(t.Context(), testDatabase, emulator.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	// Writes go on until tokens have changed a few times.
	const wantEnded = 5
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	seen, late := map[string]int{}, time.Duration(0)
	frames := 0
	var ended, written atomic.Int64
	written.Store(-1)
	done := make(chan error, 1)
	life := newLifecycle(t)
	go func() {
		done <- follow(ctx, r, start, func(f *change.Frame) {
			life.frame(f)
			frames++
			if f.Ended {
				ended.Add(1)
			}
			for i := range f.Changes {
				c := &f.Changes[i]
				seen[string(c.Key[0])]++
				late = max(late, time.Since(c.Position.Commit.Time()))
			}
			if int64(len(seen)) == written.Load() {
				cancel()
			}
		})
	}()
	rows := 0
	for ; ended.Load() < wantEnded && ctx.Err() == nil; rows++ {
		i := rows
		_, err := client.Apply(t.Context(), []*spanner.Mutation{spanner.InsertMap("Carts", map[string]any{
			"CartId": fmt.Sprintf("cart-%03d", i), "Items": int64(i), "Note": "a \"quoted\" note", "Tags": []string{"a", "b"},
		})}, spanner.ApplyAtLeastOnce())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	written.Store(int64(rows))
	if err := <-done; ctx.Err() == context.DeadlineExceeded {
		t.Fatalf("%d of %d rows came in time: %v", len(seen), rows, err)
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", key, n)
		}
	}
	if late > time.Second {
		t.Errorf("a change was handed over %v after its commit", late)
	}
	t.Logf("%d rows, %d frames, %d partitions ended, %d merges, slowest change %v", rows, frames, ended.Load(), life.merges, late)
}

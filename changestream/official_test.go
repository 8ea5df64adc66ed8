package changestream

import (
	"context"
	"fmt"
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
	go func() {
		done <- follow(ctx, r, start, func(f *change.Frame) {
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
	t.Logf("%d rows, %d frames, %d partitions ended, slowest change %v", rows, frames, ended.Load(), late)
}

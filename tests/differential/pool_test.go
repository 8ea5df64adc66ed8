package differential

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/spanner"
)

// both is the two servers. It plays one history at a time: the official emulator allows one transaction at a time, and when a
// history takes it down no other is lost.
type both struct {
	ours, theirs *server
	embedded     *spanner.Server
	process      *official.Process
	databases    int
	took         [2]time.Duration
}

// pool is as many pairs of servers as play at once. They serve all tests of this package and are stopped after the last.
var pool struct {
	start sync.Once
	err   error
	all   []*both
	idle  chan *both
}

// options keep the official emulator's partitions alone: they are another test's subject, and churn is slow to read.
var options = official.SpannerOptions{Args: []string{"--enable_change_stream_churning=false"}}

// requireServers starts the pool, or skips t where Google's emulator is not installed.
func requireServers(t *testing.T) {
	pool.start.Do(func() {
		n := min(4, runtime.GOMAXPROCS(0))
		pool.idle = make(chan *both, n)
		pool.all = make([]*both, n)
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range pool.all {
			wg.Go(func() { pool.all[i], errs[i] = startBoth(context.Background()) })
		}
		wg.Wait()
		pool.err = errors.Join(errs...)
		for _, b := range pool.all {
			if b != nil {
				pool.idle <- b
			}
		}
	})
	var missing *official.NotInstalledError
	if errors.As(pool.err, &missing) {
		t.Skip(pool.err)
	}
	if pool.err != nil {
		t.Fatal(pool.err)
	}
}

func stopServers() error {
	var errs []error
	for _, b := range pool.all {
		if b != nil {
			errs = append(errs, b.stop())
		}
	}
	return errors.Join(errs...)
}

func startBoth(ctx context.Context) (_ *both, err error) {
	b := &both{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	if b.process, err = official.StartSpanner(ctx, options); err != nil {
		return nil, err
	}
	if b.theirs, err = dial(ctx, "official", b.process.Endpoint()); err != nil {
		return nil, err
	}
	if b.embedded, err = spanner.Start(ctx, spanner.Options{}); err != nil {
		return nil, err
	}
	b.ours, err = dial(ctx, "ours", b.embedded.Addr())
	return b, err
}

func (b *both) stop() error {
	var errs []error
	for _, s := range []*server{b.ours, b.theirs} {
		if s != nil {
			errs = append(errs, s.conn.Close())
		}
	}
	if b.embedded != nil {
		errs = append(errs, b.embedded.Close())
	}
	if b.process != nil {
		errs = append(errs, b.process.Stop())
	}
	return errors.Join(errs...)
}

// play plays h on the next pair of servers that is free.
func play(ctx context.Context, h history) (*comparison, error) {
	b := <-pool.idle
	defer func() { pool.idle <- b }()
	return b.run(ctx, h)
}

// run plays h on both servers at once and compares.
func (b *both) run(ctx context.Context, h history) (*comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	b.databases++
	id := fmt.Sprintf("h%d", b.databases)
	var out [2]*outcome
	var errs [2]error
	var wg sync.WaitGroup
	for i, s := range []*server{b.ours, b.theirs} {
		wg.Go(func() {
			at := time.Now()
			out[i], errs[i] = s.run(ctx, h, id)
			b.took[i] += time.Since(at)
		})
	}
	wg.Wait()
	if b.theirs.lost(out[1], errs[1]) {
		return b.crashed(ctx, h)
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return compare(h, out[0], out[1]), nil
}

// lost reports whether a server went away in the middle of a history.
func (s *server) lost(o *outcome, err error) bool {
	gone := status.Code(err) == codes.Unavailable
	if o != nil {
		for _, a := range o.answers {
			gone = gone || a.code == codes.Unavailable
		}
	}
	return gone
}

// crashed starts the official emulator anew after one of its own checks has killed it: nothing can be compared then.
func (b *both) crashed(ctx context.Context, h history) (*comparison, error) {
	select {
	case <-b.process.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c := &comparison{h: h, used: map[string]int{"crash": 1}, crash: b.process.Output()}
	p, err := official.StartSpanner(ctx, options)
	if err != nil {
		return nil, err
	}
	_ = b.theirs.conn.Close() // of a dead process
	b.process = p
	b.theirs, err = dial(ctx, "official", p.Endpoint())
	return c, err
}

// report is what differs and the history it came of, or "".
func (c *comparison) report() string {
	if len(c.differences) == 0 {
		return ""
	}
	return fmt.Sprintf("the two differ:\n%s\nhistory:\n%s", strings.Join(c.differences, "\n"), c.h)
}

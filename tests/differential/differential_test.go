package differential

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/spanner"
)

var (
	flagHistories = flag.Int("histories", 80, "how many random histories to run")
	flagSeed      = flag.Uint64("seed", 1, "seed of the random histories; 0 is a random one")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

// both is the two servers, each with as many databases as there are histories.
type both struct {
	ours, theirs *server
	process      *official.Process
	databases    int
	used         map[string]int // deviation ids
	took         [2]time.Duration
}

// options keep the official emulator's partitions alone: they are another test's subject, and churn is slow to read.
var options = official.SpannerOptions{Args: []string{"--enable_change_stream_churning=false"}}

func start(t *testing.T) *both {
	b := &both{used: map[string]int{}, process: official.SpannerForTest(t, options)}
	ctx := t.Context()
	srv, err := spanner.Start(context.WithoutCancel(ctx), spanner.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if b.ours, err = dial(ctx, "ours", srv.Addr()); err != nil {
		t.Fatal(err)
	}
	if b.theirs, err = dial(ctx, "official", b.process.Endpoint()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, close := range []func() error{b.ours.conn.Close, srv.Close, b.theirs.conn.Close, b.process.Stop} {
			if err := close(); err != nil {
				t.Error(err)
			}
		}
	})
	return b
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

// check plays h, counts what explains the differences, and fails t with what nothing explains.
func (b *both) check(ctx context.Context, t interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}, h history) *comparison {
	c, err := b.run(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range c.used {
		b.used[id] += n
	}
	if len(c.differences) > 0 {
		t.Fatalf("the two differ:\n%s\nhistory:\n%s", strings.Join(c.differences, "\n"), h)
	}
	return c
}

func TestRandomHistories(t *testing.T) {
	b := start(t)
	for name, value := range map[string]string{
		"rapid.checks": fmt.Sprint(*flagHistories), "rapid.seed": fmt.Sprint(*flagSeed),
		"rapid.nofailfile": "true", // the history itself is what to keep
	} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	drawn := histories()
	requests, records := map[string]int{}, 0
	rapid.Check(t, func(rt *rapid.T) {
		c := b.check(t.Context(), rt, drawn.Draw(rt, "history"))
		if c.crash != "" {
			t.Logf("the official emulator died of\n%s\n%s", c.h, c.crash)
			return
		}
		for _, a := range c.ours.answers {
			word, _, _ := strings.Cut(a.request, " ")
			requests[fmt.Sprintf("%s %s", word, a.code)]++
		}
		for _, s := range c.ours.streams {
			records += len(s)
		}
	})
	t.Logf("%d histories in %s (in ours %s, in the official emulator %s), %d change records", b.databases, time.Since(began).Round(time.Second),
		b.took[0].Round(time.Second), b.took[1].Round(time.Second), records)
	for _, request := range slices.Sorted(maps.Keys(requests)) {
		t.Logf("%6d %s", requests[request], request)
	}
	for _, d := range deviations {
		if b.used[d.id] == 0 {
			t.Logf(" never deviation %s: %s", d.id, d.what)
			continue
		}
		t.Logf("%6d deviation %s: %s [%s]", b.used[d.id], d.id, d.what, d.reference)
	}
}

// Histories that once told the two apart: found by TestRandomHistories, or showing a deviation.
func TestRegressions(t *testing.T) {
	b := start(t)
	files, err := filepath.Glob("testdata/*.history")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories in testdata: %v", err)
	}
	shown := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".history"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h, err := parseHistory(string(text))
			if err != nil {
				t.Fatal(err)
			}
			c := b.check(t.Context(), t, h)
			var want []string
			if line, _, _ := strings.Cut(string(text), "\n"); strings.HasPrefix(line, "# deviates: ") {
				want = strings.Split(strings.TrimPrefix(line, "# deviates: "), ", ")
			}
			for _, id := range want {
				shown[id] = true
			}
			if got := slices.Sorted(maps.Keys(c.used)); !slices.Equal(got, want) {
				t.Errorf("shows the deviations %q, want %q", got, want)
			}
		})
	}
	for _, d := range deviations {
		if !shown[d.id] && flag.Lookup("test.run").Value.String() == "" {
			t.Errorf("no history in testdata shows deviation %q: %s", d.id, d.what)
		}
	}
}

// The text form of any history reads back as it was.
func TestHistoryText(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := histories().Draw(rt, "history")
		back, err := parseHistory(h.String())
		if err != nil {
			rt.Fatal(err)
		}
		if back.String() != h.String() {
			rt.Fatalf("reads back as\n%s", back)
		}
	})
}

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
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	flagHistories = flag.Int("histories", 200, "how many random histories to run")
	flagSeed      = flag.Int("seed", 1, "seed of the random histories; 0 is a random one")
	flagHistory   = flag.Int("history", 0, "run this one random history only, by the number a failure gave")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := stopServers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// perSeed is how many numbers of histories a seed has.
const perSeed = 1_000_000

// numbers are the histories to run. A number is the seed that rapid draws the history from.
func numbers() []int {
	if *flagHistory != 0 {
		return []int{*flagHistory}
	}
	seed := *flagSeed
	if seed == 0 {
		seed = int(time.Now().UnixMilli() % 1e9)
	}
	out := make([]int, *flagHistories)
	for i := range out {
		out[i] = seed*perSeed + i + 1
	}
	return out
}

// minimized is how many of the histories that fail are made small.
const minimized = 5

func TestRandomHistories(t *testing.T) {
	requireServers(t)
	began := time.Now()
	var sum tally
	failed := map[int]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var next atomic.Int64
	all := numbers()
	drawn := histories()
	for range pool.all {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
				c, err := play(t.Context(), drawn.Example(all[i]))
				mu.Lock()
				if err != nil {
					failed[all[i]] = err.Error()
				} else {
					sum.add(c)
					if r := c.report(); r != "" {
						failed[all[i]] = r
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d histories in %s", len(all), time.Since(began).Round(time.Second))
	sum.log(t)
	for i, n := range slices.Sorted(maps.Keys(failed)) {
		small := failed[n]
		if i < minimized {
			small = smallest(t.Context(), drawn.Example(n), small)
		}
		t.Errorf("again: go test ./tests/differential -run TestRandomHistories -history %d\n%s", n, small)
	}
	if len(failed) == 0 && len(all) >= 200 {
		sum.check(t)
	}
}

// smallest is the report of the smallest history in which the two differ as they do in h; report is that of h.
func smallest(ctx context.Context, h history, report string) string {
	first, err := play(ctx, h)
	if err != nil || len(first.differences) == 0 {
		return "(not so when it was played again) " + report
	}
	want := signature(first.differences[0])
	minimize(h, func(h history) bool {
		c, err := play(ctx, h)
		if err != nil || len(c.differences) == 0 || signature(c.differences[0]) != want {
			return false
		}
		report = c.report()
		return true
	})
	return report
}

// Histories that once told the two apart: found by TestRandomHistories, or showing a deviation.
func TestRegressions(t *testing.T) {
	requireServers(t)
	files, err := filepath.Glob("testdata/*.history")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories in testdata: %v", err)
	}
	shown := map[string]bool{}
	t.Run("all", func(t *testing.T) {
		for _, file := range files {
			h, want := readHistory(t, file)
			for _, id := range want {
				shown[id] = true
			}
			t.Run(strings.TrimSuffix(filepath.Base(file), ".history"), func(t *testing.T) {
				t.Parallel()
				c, err := play(t.Context(), h)
				if err != nil {
					t.Fatal(err)
				}
				if r := c.report(); r != "" {
					t.Fatal(r)
				}
				if got := slices.Sorted(maps.Keys(c.used)); !slices.Equal(got, want) {
					t.Errorf("shows the deviations %q, want %q", got, want)
				}
			})
		}
	})
	for _, d := range deviations {
		if !shown[d.id] {
			t.Errorf("no history in testdata shows deviation %q: %s", d.id, d.what)
		}
	}
}

// readHistory reads a file of testdata, and the deviations its first line says it shows.
func readHistory(t *testing.T, file string) (h history, deviates []string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = parseHistory(string(text)); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if list, ok := strings.CutPrefix(first, "# deviates: "); ok {
		deviates = strings.Split(list, ", ")
	}
	return h, deviates
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

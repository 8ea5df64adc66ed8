package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spanledger/spanledger/app"
)

const toEvents = `{stream: ("s/" + .s), id: .id, type: "t", data: .}`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func spanledger(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code = run(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func devSummary(t *testing.T, stdout string) *app.DevSummary {
	t.Helper()
	var s app.DevSummary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, stdout)
	}
	return &s
}

func TestDevLoadsItsEarthquakes(t *testing.T) {
	for _, mutable := range []bool{false, true} {
		t.Run(fmt.Sprintf("mutable=%t", mutable), func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := spanledger(t, "dev", "--exit-when-idle", "--json", fmt.Sprintf("--mutable=%t", mutable), fmt.Sprintf("--snapshot=%t", mutable))
			if code != 0 {
				t.Fatalf("exit code %d\n%s", code, stderr)
			}
			s := devSummary(t, stdout)
			if s.Ingested != 1707 || s.Rejected != 0 || s.ChangesRead != 1707 {
				t.Errorf("%+v", s)
			}
			for _, name := range app.DevSinks {
				if k := s.Sinks[name]; k == nil || k.Delivered != 1707 || k.Missing != 0 || k.OrderViolations != 0 || k.Duplicates != 0 {
					t.Errorf("%s: %+v", name, k)
				} else if r := k.Snapshot; mutable && (r == nil || r.Rows < 1707 || r.Missing != 0 || r.Unverified != 0) || !mutable && r != nil {
					t.Errorf("%s: rows of snapshots %+v", name, r)
				}
			}
			if g := s.Graph; g == nil || g.Mutable != mutable || g.Partitions < 4 || mutable && g.Children != 0 || !mutable && g.Moves != 0 {
				t.Errorf("partitions: %+v", g)
			}
		})
	}
}

func TestDevBadInput(t *testing.T) {
	for _, c := range []struct {
		name     string
		file     string
		text     string
		mapping  string
		code     int
		says     []string
		ingested int64
		rejected int64
	}{
		{"truncated JSON", "a.json", `[{"s":"1","id":"a"},{"s":`, ".[] | " + toEvents, exitFailed, []string{"a.json", "line 1"}, 0, 0},
		{"CSV row with a column too many", "a.csv", "s,id\n1,a\n1,b,c\n1,d\n", toEvents, exitRejected, []string{"a.csv:3", "3"}, 2, 1},
		{"record without an id", "a.jsonl", `{"s":"1","id":"a"}` + "\n" + `{"s":"1"}` + "\n", toEvents, exitRejected, []string{"a.jsonl:2", "id"}, 1, 1},
		{"same id, other content", "a.jsonl", `{"s":"1","id":"a","x":1}` + "\n" + `{"s":"1","id":"a","x":2}` + "\n", toEvents, exitRejected, []string{"a.jsonl:2", "id"}, 1, 1},
		{"a map that does not compile", "a.jsonl", `{"s":"1","id":"a"}`, `{stream: (`, exitFailed, []string{"map"}, 0, 0},
		{"a map that fails", "a.jsonl", `{"s":"1","id":"a"}` + "\n" + `{"s":["1"],"id":"b"}` + "\n", toEvents, exitRejected, []string{"a.jsonl:2"}, 1, 1},
		{"an event with a member nobody knows", "a.jsonl", `{"s":"1","id":"a"}`, `{stream: "s", id: .id, type: "t", data: ., colour: 1}`, exitRejected, []string{"colour"}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := spanledger(t, "dev", "--ingest", write(t, c.file, c.text), "--map", c.mapping, "--exit-when-idle", "--json")
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, w := range c.says {
				if !strings.Contains(stderr, w) {
					t.Errorf("standard error lacks %q", w)
				}
			}
			s := devSummary(t, stdout)
			if s.Ingested != c.ingested || s.Rejected != c.rejected {
				t.Errorf("ingested %d and rejected %d, want %d and %d", s.Ingested, s.Rejected, c.ingested, c.rejected)
			}
			if c.code == exitRejected { // what was good is everywhere
				for name, k := range s.Sinks {
					if k.Delivered != c.ingested || k.Missing != 0 {
						t.Errorf("%s: %+v", name, k)
					}
				}
			}
			if t.Failed() {
				t.Logf("standard error:\n%s", stderr)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"no-such-command"}, "no-such-command"},
		{[]string{"dev", "--no-such-flag"}, "no-such-flag"},
		{[]string{"dev", "--map", "."}, "--ingest"},
		{[]string{"dev", "an-argument"}, "an-argument"},
		{[]string{"dev", "--log-level", "loud"}, "loud"},
		{[]string{"dev", "--official", "--mutable"}, "no change streams with mutable key ranges"},
		{[]string{"ingest"}, "file"},
		{[]string{"ingest", "x.json"}, "--database"},
		{[]string{"ingest", "x.json", "--database", "d", "--format", "xml"}, "xml"},
	} {
		code, stdout, stderr := spanledger(t, c.args...)
		if code != exitUsage || !strings.Contains(stderr, c.says) || stdout != "" {
			t.Errorf("%q: exit code %d, standard error %q, standard output %q", c.args, code, stderr, stdout)
		}
	}
	for _, args := range [][]string{{"--help"}, {"dev", "--help"}, {"ingest", "--help"}} {
		if code, stdout, _ := spanledger(t, args...); code != 0 || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%q: exit code %d\n%s", args, code, stdout)
		}
	}
}

func TestIngestAgainstNothing(t *testing.T) {
	t.Setenv("SPANNER_EMULATOR_HOST", "127.0.0.1:1")
	file := write(t, "a.jsonl", `{"s":"1","id":"a"}`)
	code, _, stderr := spanledger(t, "ingest", file, "--map", toEvents, "--database", "projects/p1/instances/i1/databases/d1")
	if code != exitFailed || !strings.Contains(stderr, "SPANNER_EMULATOR_HOST") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// TestSecondRunOnOneDirectory: what an earlier run left stays as it was, and is told of.
func TestSecondRunOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	file := write(t, "a.jsonl", `{"s":"1","id":"a"}`+"\n"+`{"s":"2","id":"b"}`+"\n")
	args := []string{"dev", "--ingest", file, "--map", toEvents, "--exit-when-idle", "--json", "--data-dir", dir}
	code, stdout, stderr := spanledger(t, args...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	first := devSummary(t, stdout)
	before := tree(t, first.Archive)
	if len(before) < 3 { // manifest, schema, segments
		t.Errorf("the archive in %s holds only %d files", first.Archive, len(before))
	}
	code, stdout, stderr = spanledger(t, args...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	second := devSummary(t, stdout)
	if len(second.OlderArchives) != 1 || filepath.Base(first.Archive) != second.OlderArchives[0] || second.Archive == first.Archive {
		t.Errorf("the second run's archive is %s, beside %v", second.Archive, second.OlderArchives)
	}
	if !strings.Contains(stderr, "earlier run") || !strings.Contains(stderr, second.OlderArchives[0]) {
		t.Errorf("standard error does not tell of the older archive:\n%s", stderr)
	}
	after := tree(t, first.Archive)
	if len(after) != len(before) {
		t.Errorf("the older archive had %d files and has %d", len(before), len(after))
	}
	for name, text := range before {
		if after[name] != text {
			t.Errorf("I7: %s of the older archive has changed", name)
		}
	}
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestWrongCommandLines: every command answers with 2, as its help says.
func TestWrongCommandLines(t *testing.T) {
	for _, line := range []string{
		"foo", "config foo", "run extra", "init extra", "emulator extra", "emulator extra -- true", "emulator --json -- true", "dev extra", "config check extra", "config example extra",
		"run", "ingest", "dev --sink stdout --json", "emulator --only bigquery --bigquery-storage off",
		"emulator --faults explode", "emulator --faults @/no/such/file", "emulator --partitions 0", "emulator --partitions 10001",
		"emulator --churn -1s", "emulator --churn 1us", "emulator --spanner off --churn 1s", "emulator --only pubsub --faults abort", "run --start-timeout x",
	} {
		if code, out, errs := spanledger(t, strings.Fields(line)...); code != exitUsage || out != "" || !strings.Contains(errs, "(see --help)") {
			t.Errorf("%s: %d %s%s", line, code, out, errs)
		}
	}
}

// TestFailuresAfterASignal: Ctrl-C is how dev is ended, so what its check then finds must not look like an interruption.
func TestFailuresAfterASignal(t *testing.T) {
	file := write(t, "x.jsonl", `{"s":"a","id":"1"}`+"\n"+`{"s":"a"}`+"\n")
	_, stderr, stop := begin(t, "dev", "--ingest", file, "--map", toEvents)
	eventually(t, "every event is in", func() bool { return strings.Contains(stderr.String(), "every sink has every event") })
	if code := stop(); code != exitRejected || !strings.Contains(stderr.String(), "1 of 2") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

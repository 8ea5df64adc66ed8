// Command mutate proves that the tests hold the invariants: it takes out each line that enforces one, in a build overlay
// and not in the tree, and runs the tests that must fail then. A mutation that survives is a missing test.
//
//	go run ./tests/mutate            # all
//	go run ./tests/mutate I2 I6      # some
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mutation replaces one piece of a file, which must occur exactly once.
type mutation struct {
	invariant string
	what      string
	file      string
	old, new  string
	// pkg and run are what must fail: a package and a regular expression of its tests ("" for all).
	pkg, run string
}

func main() {
	failed := 0
	for _, m := range mutations {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], m.invariant) {
			continue
		}
		killed, by, err := m.try()
		switch {
		case err != nil:
			fmt.Printf("%-4s ERROR    %s: %v\n", m.invariant, m.what, err)
			failed++
		case !killed:
			fmt.Printf("%-4s SURVIVED %s (%s)\n", m.invariant, m.what, m.file)
			failed++
		default:
			fmt.Printf("%-4s caught   %s: %s\n", m.invariant, m.what, by)
		}
	}
	if failed > 0 {
		fmt.Printf("%d mutation(s) not caught\n", failed)
		os.Exit(1)
	}
}

// try runs the tests over the mutated file and reports whether they failed, and which did.
func (m mutation) try() (killed bool, by string, err error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return false, "", err
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return false, "", fmt.Errorf("%s has the text to replace %d times, want once: mend the list", m.file, n)
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return false, "", err
	}
	defer os.RemoveAll(dir)
	mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(mutant, bytes.Replace(text, []byte(m.old), []byte(m.new), 1), 0o644); err != nil {
		return false, "", err
	}
	abs, err := filepath.Abs(m.file)
	if err != nil {
		return false, "", err
	}
	spec, err := json.Marshal(map[string]any{"Replace": map[string]string{abs: mutant}})
	if err != nil {
		return false, "", err
	}
	if err := os.WriteFile(overlay, spec, 0o644); err != nil {
		return false, "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args := []string{"test", "-overlay", overlay, "-count=1", "-timeout", "30s"}
	if m.run != "" {
		args = append(args, "-run", m.run)
	}
	out, err := exec.CommandContext(ctx, "go", append(args, m.pkg)...).CombinedOutput()
	if err == nil {
		return false, "", nil
	}
	if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
		return false, "", fmt.Errorf("the mutant does not build:\n%s", out)
	}
	return true, firstFailure(out), nil
}

func firstFailure(out []byte) string {
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "--- FAIL:") {
			return strings.Fields(line)[2]
		}
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "panic:") {
			return strings.TrimSpace(line)
		}
	}
	return "the tests failed"
}

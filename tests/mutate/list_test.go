package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestListIsCurrent: the text of each mutation stands exactly once in its file, and the package that must fail exists. The
// mutations themselves take too long for every run.
func TestListIsCurrent(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, m := range mutations {
		text, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Errorf("%s %s: %v", m.invariant, m.what, err)
			continue
		}
		if n := strings.Count(string(text), m.old); n != 1 {
			t.Errorf("%s %s: its text stands %d times in %s", m.invariant, m.what, n, m.file)
		}
		if _, err := os.Stat(filepath.Join(root, m.pkg)); err != nil {
			t.Errorf("%s %s: %v", m.invariant, m.what, err)
		}
	}
}

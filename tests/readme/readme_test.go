// Package readme runs the README's commands as a reader would, from the repository's root, and looks at what they print.
package readme

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// blocks are the README's shell commands, in order.
func blocks(t *testing.T, readme string) (commands []string) {
	t.Helper()
	rest := readme
	for {
		_, after, ok := strings.Cut(rest, "\n```sh\n")
		if !ok {
			return commands
		}
		block, tail, ok := strings.Cut(after, "\n```")
		if !ok {
			t.Fatal("README: a block of commands has no end")
		}
		commands, rest = append(commands, block), tail
	}
}

// TestCommands runs every block but the test command itself, in a copy of the files that git knows, so that nothing a
// reader does not have is needed and nothing is left behind.
func TestCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs the whole program")
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copyTree := exec.Command("bash", "-c", `git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$0"`, dir)
	copyTree.Dir = "../.."
	if out, err := copyTree.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ran := 0
	for _, command := range blocks(t, string(text)) {
		if strings.HasPrefix(command, "go test") {
			continue // this is it
		}
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", command, err, out)
		}
		ran++
		for _, want := range expected(command) {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s\nprinted no %q:\n%s", command, want, out)
			}
		}
	}
	if ran < 4 {
		t.Errorf("only %d blocks were found", ran)
	}
	if _, err := os.Stat(filepath.Join(dir, "examples/customsink/changes.jsonl")); err != nil {
		t.Error(err)
	}
}

// expected is what a block must print.
func expected(command string) []string {
	switch {
	case strings.HasPrefix(command, "go run"):
		return []string{"1707 events in", "archive       1707        0", "bigquery       1707        0", "pubsub       1707        0"}
	case strings.Contains(command, "emulator"):
		return []string{"400 transfers between 20 wallets: not a cent lost", "change stream: 820 changes in "}
	case strings.Contains(command, "orders.csv"):
		return []string{`"ingested": 3`, ".avro"}
	case strings.Contains(command, "print-ddl"):
		return []string{"CREATE TABLE", "CREATE CHANGE STREAM"}
	}
	return nil
}

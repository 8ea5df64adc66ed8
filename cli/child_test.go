package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEmulatorRunsACommand: it finds what is served in its environment, nothing else is printed, and its code is ours.
func TestEmulatorRunsACommand(t *testing.T) {
	code, stdout, stderr := spanledger(t, "emulator", "--only", "spanner,pubsub", "--", "sh", "-c", `echo "$SPANNER_EMULATOR_HOST $PUBSUB_EMULATOR_HOST"; exit 7`)
	spanner, pubsub, _ := strings.Cut(strings.TrimSpace(stdout), " ")
	if code != 7 || !strings.HasPrefix(spanner, "127.0.0.1:") || !strings.HasPrefix(pubsub, "127.0.0.1:") || stderr != "" {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
	if code, _, stderr := spanledger(t, "emulator", "--only", "spanner", "--", "sh", "-c", "kill -9 $$"); code != 137 {
		t.Errorf("a command that was killed: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := spanledger(t, "emulator", "--only", "spanner", "--", "/no/such/command"); code != exitFailed || !strings.Contains(stderr, "is it installed") {
		t.Errorf("a command that is not there: exit code %d, %s", code, stderr)
	}
}

// TestEmulatorInterruptsItsCommand: a signal ends both, the command first and by itself.
func TestEmulatorInterruptsItsCommand(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout lineWatcher
	stdout.found = cancel
	code := run(ctx, []string{"emulator", "--only", "spanner", "--", "sh", "-c",
		`trap 'echo ended >"$0/ended"; exit 0' INT; echo waiting; while :; do sleep 0.05; done`, dir}, strings.NewReader(""), &stdout, &bytes.Buffer{})
	if code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "ended")); err != nil {
		t.Error(err)
	}
}

// lineWatcher calls found when something is written.
type lineWatcher struct{ found func() }

func (w *lineWatcher) Write(p []byte) (int, error) {
	w.found()
	return len(p), nil
}

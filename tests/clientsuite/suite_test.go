package clientsuite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner"
)

var (
	suite  = flag.Bool("suite", false, "build and run the client's integration tests")
	update = flag.Bool("update", false, "with -suite: write the outcome into the table")
)

const (
	module    = "cloud.google.com/go/spanner"
	testFile  = "integration_test.go"
	tablePath = "../../emulator/spanner/CLIENT_TESTS.md"
)

// skips is the body of the client's skipEmulatorTest, which the copy is built without.
const skips = "\tif isEmulatorEnvSet() {\n\t\tt.Skip(\"Skipping testing against the emulator.\")\n\t}\n"

// source finds the client's module in the module cache.
func source(t *testing.T) (dir, version string) {
	t.Helper()
	out := command(t, "go", "list", "-m", "-json", module)
	var m struct{ Dir, Version string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	if m.Dir == "" {
		t.Fatalf("the module %s is not in the module cache: run go mod download", module)
	}
	return m.Dir, m.Version
}

func command(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// The table lists exactly the tests that the client has, and says why each one that does not pass does not.
func TestTableIsComplete(t *testing.T) {
	dir, version := source(t)
	text, err := os.ReadFile(filepath.Join(dir, testFile))
	if err != nil {
		t.Fatal(err)
	}
	tab := readTable(t)
	if tab.version != version {
		t.Errorf("%s is of %s %s, go.mod has %s: run go test ./tests/clientsuite -suite -update", tablePath, module, tab.version, version)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^func (TestIntegration_\w+)\(`).FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	slices.Sort(names)
	if listed := slices.Sorted(maps.Keys(tab.rows)); !slices.Equal(listed, names) {
		t.Errorf("the table lists\n%v\nthe client has\n%v", listed, names)
	}
	for name, r := range tab.rows {
		if r.result != "pass" && r.why == "" {
			t.Errorf("%s: the table does not say why the result is %s", name, r.result)
		}
	}
}

// The client's tests come out as the table says.
func TestSuite(t *testing.T) {
	if !*suite {
		t.Skip("the client's tests take half a minute to build: run with -suite")
	}
	dir, version := source(t)
	binary, folder := build(t, dir, version)
	got := run(t, binary, folder)
	tab := readTable(t)
	if *update && len(got) < len(tab.rows) && tab.version == version {
		t.Fatalf("%d of %d tests have run, so one of them has taken the rest with it: see the output", len(got), len(tab.rows))
	}
	if *update {
		tab.version = version
		tab.update(got)
		if err := os.WriteFile(tablePath, []byte(tab.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, r := range tab.rows {
		if got[name] != r.result {
			t.Errorf("%s: %s, and the table says %s", name, got[name], r.result)
		}
	}
}

// build compiles the client's tests and returns the binary and the folder to run it in.
func build(t *testing.T, dir, version string) (binary, folder string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, testFile))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(skips)); n != 1 {
		t.Fatalf("%s of %s %s has the text that skips tests %d times, want once: mend skips", testFile, module, version, n)
	}
	// The folder's name stays, for the compiler's cache goes by it.
	sum := sha256.Sum256([]byte(version + skips))
	folder = filepath.Join(os.TempDir(), fmt.Sprintf("spanledger-clientsuite-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])))
	if _, err := os.Stat(folder); err != nil {
		fresh, err := os.MkdirTemp(os.TempDir(), "spanledger-clientsuite-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(fresh)
		inner := filepath.Join(fresh, "spanner")
		if err := os.CopyFS(inner, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		patched := filepath.Join(inner, testFile)
		if err := os.Chmod(patched, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(patched, bytes.Replace(text, []byte(skips), nil, 1), 0o644); err != nil {
			t.Fatal(err)
		}
		// Another run may have been faster; its copy is the same.
		if err := os.Rename(inner, folder); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	tmp := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "go.mod" {
			text = fmt.Appendf(text, "\nreplace %s => %s\n", module, folder)
		}
		if err := os.WriteFile(filepath.Join(tmp, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	binary = filepath.Join(tmp, "client.test")
	command(t, "go", "test", "-c", "-modfile", filepath.Join(tmp, "go.mod"), "-o", binary, module)
	return binary, folder
}

var line = regexp.MustCompile(`--- (PASS|FAIL|SKIP): (TestIntegration_\w+) \(`)

// run runs the tests against an embedded Spanner and returns the result of each: pass, fail or skip.
func run(t *testing.T, binary, folder string) map[string]string {
	t.Helper()
	srv, err := spanner.Start(t.Context(), spanner.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^TestIntegration_", "-test.v", "-test.timeout", "4m")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(),
		"SPANNER_EMULATOR_HOST="+srv.Addr(), "GCLOUD_TESTS_GOLANG_SPANNER_HOST=passthrough:///"+srv.Addr(),
		"GCLOUD_TESTS_GOLANG_PROJECT_ID=clientsuite")
	out, err := cmd.CombinedOutput() // an error is no more than that some test fails
	if ctx.Err() != nil {
		t.Fatalf("the client's tests did not end: %v\n%s", ctx.Err(), out)
	}
	got := map[string]string{}
	for _, m := range line.FindAllSubmatch(out, -1) {
		got[string(m[2])] = strings.ToLower(string(m[1]))
	}
	if len(got) == 0 {
		t.Fatalf("the client's tests did not run: %v\n%s", err, out)
	}
	log := filepath.Join(folder, "output.log")
	if err := os.WriteFile(log, out, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tests have run; their output is in %s", len(got), log)
	return got
}

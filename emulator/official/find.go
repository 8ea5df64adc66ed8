package official

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Environment variables naming a program, for machines where it is not in a
// place this package knows. When set, nothing else is looked at.
const (
	// SpannerEnv names the Spanner emulator's server binary (emulator_main).
	SpannerEnv = "SPANLEDGER_SPANNER_EMULATOR"
	// PubSubEnv names the Pub/Sub emulator's jar file, or a program that takes
	// the same --host and --port flags.
	PubSubEnv = "SPANLEDGER_PUBSUB_EMULATOR"
)

// ErrNotInstalled matches, with errors.Is, the error of a start function that
// found no emulator. The error itself is a [*NotInstalledError].
var ErrNotInstalled = errors.New("emulator not installed")

// NotInstalledError says which program is missing, where it was looked for and
// what brings it.
type NotInstalledError struct {
	Program string   // "Spanner emulator (emulator_main)"
	Looked  []string // places tried, in order
	Install string   // how to get it
}

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("%s is not installed (looked at %s): %s",
		e.Program, strings.Join(e.Looked, ", "), e.Install)
}

// Is reports that e is an [ErrNotInstalled].
func (e *NotInstalledError) Is(target error) bool { return target == ErrNotInstalled }

// FindSpanner returns the path of the Spanner emulator's server binary, or a
// [*NotInstalledError].
func FindSpanner() (string, error) {
	missing := &NotInstalledError{
		Program: "Google's Spanner emulator (emulator_main)",
		Install: "run `gcloud components install cloud-spanner-emulator`, or install the package google-cloud-cli-spanner-emulator, or set " + SpannerEnv + " to the binary",
	}
	if path := os.Getenv(SpannerEnv); path != "" {
		return fromEnv(SpannerEnv, path, missing)
	}
	return find(missing, "emulator_main", "bin/cloud_spanner_emulator/emulator_main")
}

// FindPubSub returns the path of the Pub/Sub emulator's jar file, or of the
// program named by [PubSubEnv], or a [*NotInstalledError].
func FindPubSub() (string, error) {
	missing := &NotInstalledError{
		Program: "Google's Pub/Sub emulator (cloud-pubsub-emulator-*-all.jar)",
		Install: "run `gcloud components install pubsub-emulator`, or install the package google-cloud-cli-pubsub-emulator, or set " + PubSubEnv + " to the jar",
	}
	if path := os.Getenv(PubSubEnv); path != "" {
		return fromEnv(PubSubEnv, path, missing)
	}
	return find(missing, "", "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar")
}

func fromEnv(env, path string, missing *NotInstalledError) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() {
		return path, nil
	}
	if err == nil {
		err = errors.New("not a regular file")
	}
	missing.Looked = []string{fmt.Sprintf("%s=%s: %v", env, path, err)}
	return "", missing
}

// find looks for program on PATH, if it has a name of its own there, and for
// the glob pattern below every known root of the Google Cloud SDK.
func find(missing *NotInstalledError, program, pattern string) (string, error) {
	if program != "" {
		if path, err := exec.LookPath(program); err == nil {
			return path, nil
		}
		missing.Looked = append(missing.Looked, "PATH")
	}
	for _, root := range sdkRoots() {
		full := filepath.Join(root, filepath.FromSlash(pattern))
		matches, err := filepath.Glob(full)
		if err != nil {
			return "", fmt.Errorf("look for %s: %w", full, err)
		}
		if len(matches) > 0 {
			// Names carry a version; the last is the newest of one minor series.
			return matches[len(matches)-1], nil
		}
		missing.Looked = append(missing.Looked, full)
	}
	return "", missing
}

// sdkRoots lists the directories a Google Cloud SDK may live in. The root of
// the gcloud on PATH is taken from its real path: asking gcloud itself starts
// Python and takes a second or more.
func sdkRoots() []string {
	var roots []string
	add := func(root string) {
		if root != "" && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	add(os.Getenv("CLOUDSDK_ROOT_DIR"))
	if gcloud, err := exec.LookPath("gcloud"); err == nil {
		if real, err := filepath.EvalSymlinks(gcloud); err == nil {
			add(filepath.Dir(filepath.Dir(real)))
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		add(filepath.Join(home, "google-cloud-sdk"))
	}
	add("/usr/lib/google-cloud-sdk")
	add("/usr/lib64/google-cloud-sdk")
	add("/usr/local/google-cloud-sdk")
	add("/opt/google-cloud-sdk")
	add("/snap/google-cloud-sdk/current")
	if runtime.GOOS == "darwin" {
		add("/opt/homebrew/share/google-cloud-sdk")
		add("/usr/local/share/google-cloud-sdk")
	}
	return roots
}

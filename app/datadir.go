package app

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
)

// dataDir is the directory of `dev --data-dir`. The embedded database lives in memory and is a new one at each start, so
// what an earlier run left is another database's archive: it is kept as it is, beside the new one, never mixed with it.
type dataDir struct {
	path string
	lock *os.File
	// older are the prefixes of archives found at start.
	older []string
}

// openDataDir makes the directory where it is missing and takes its lock, which a dead process gives back. The empty path
// gives nil, on which all methods work.
func openDataDir(path string) (*dataDir, error) {
	if path == "" {
		return nil, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("--data-dir %s: %w", path, err)
	}
	d := &dataDir{path: abs}
	if err := os.MkdirAll(d.storage(), 0o755); err != nil {
		return nil, fmt.Errorf("--data-dir %s: %w: choose a directory that can be written", path, err)
	}
	if d.lock, err = os.OpenFile(filepath.Join(abs, "lock"), os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, fmt.Errorf("--data-dir %s: %w: choose a directory that can be written", path, err)
	}
	if err := lockFile(d.lock); err != nil {
		d.lock.Close()
		return nil, fmt.Errorf("--data-dir %s: another process uses it (%w): wait for its end, or choose another directory", path, err)
	}
	entries, err := os.ReadDir(filepath.Join(d.storage(), devResources.Bucket))
	if err != nil && !os.IsNotExist(err) {
		d.close()
		return nil, fmt.Errorf("--data-dir %s: %w", path, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			d.older = append(d.older, e.Name())
		}
	}
	sort.Strings(d.older)
	return d, nil
}

func (d *dataDir) storage() string {
	if d == nil {
		return ""
	}
	return filepath.Join(d.path, "storage")
}

func (d *dataDir) close() {
	if d != nil {
		d.lock.Close()
	}
}

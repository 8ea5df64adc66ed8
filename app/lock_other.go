//go:build !unix

package app

import "os"

// lockFile does nothing where the system has no advisory locks: two runs on one directory are then the user's to avoid.
func lockFile(*os.File) error { return nil }

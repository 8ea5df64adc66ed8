//go:build !linux

package compose

import "testing"

func TestProcesses(t *testing.T) {
	t.Skip("SKIPPED: only Linux has a loopback address for each service, and ends children with their parent")
}

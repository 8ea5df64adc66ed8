//go:build !unix

package official

import (
	"errors"
	"os"
	"syscall"
)

// ownGroup has nothing to ask for on systems without process groups.
func ownGroup() *syscall.SysProcAttr { return nil }

// killGroup kills the program alone.
func killGroup(p *os.Process) error {
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

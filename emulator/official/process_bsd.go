//go:build unix && !linux

package official

import "syscall"

// ownGroup puts the program in a process group of its own. There is no
// parent-death signal here: a killed parent leaves the emulator running.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

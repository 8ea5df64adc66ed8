package official

import "syscall"

// ownGroup puts the program in a process group of its own and has the kernel
// kill it when this process dies, also by SIGKILL.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

//go:build unix

package host

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// killGroup kills the process group that a plugin leads. The group may be gone.
func killGroup(pid int) { _ = unix.Kill(-pid, unix.SIGKILL) }

// ownGroup has the process lead a group of its own: a Ctrl-C does not reach it, and its children die with it.
func ownGroup(sys *syscall.SysProcAttr) { sys.Setpgid = true }

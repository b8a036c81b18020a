//go:build unix

package host

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noProgram are what the system says of a file that is no program for it.
var noProgram = []error{syscall.ENOEXEC}

// group is the process group that a plugin leads, by its number; 0 is none.
type group int

// ownGroup has the process lead a group of its own: a Ctrl-C does not reach it, and its children die with it.
func ownGroup(sys *syscall.SysProcAttr) { sys.Setpgid = true }

// groupOf returns the group of a process that was started with ownGroup.
func groupOf(p *os.Process) (group, error) { return group(p.Pid), nil }

// kill kills who is in the group, which may be nobody.
func (g group) kill() {
	if g > 0 {
		_ = unix.Kill(-int(g), unix.SIGKILL)
	}
}

// close forgets the group.
func (group) close() {}

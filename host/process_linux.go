package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// awaitEnd waits until the process has ended, and leaves it to be reaped. It reports whether it could.
func awaitEnd(p *os.Process) bool {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, p.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return err == nil
		}
	}
}

// threadID returns the calling thread's number.
func threadID() int { return unix.Gettid() }

// killNewborn kills the children of a thread of this process. Where the kernel does not list them (CONFIG_PROC_CHILDREN) it does nothing.
func killNewborn(thread int) {
	list, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", thread))
	if err != nil {
		return
	}
	for field := range strings.FieldsSeq(string(list)) {
		if pid, err := strconv.Atoi(field); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL) // it may just have ended
		}
	}
}

package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// awaitEnd waits until the process has ended, and leaves it to be reaped.
func awaitEnd(p *os.Process) {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, p.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

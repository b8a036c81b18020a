package sdk

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// goOnWithoutParent has the system continue this process, if it is stopped, when the host dies. Linux keeps one such signal
// a thread and sends each, so this one comes beside the SIGTERM that the host asked for on the first thread, which a stopped
// process only keeps pending. The signal lasts as long as the thread: the calling goroutine keeps it, and must not end
// before the process does.
func goOnWithoutParent() error {
	runtime.LockOSThread()
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGCONT), 0, 0, 0)
}

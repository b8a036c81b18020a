package pluginrpc

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canSleep = true

// Operations of futex(2). They are not the private ones: the other process waits on the same page.
const (
	futexOpWait = 0
	futexOpWake = 1
)

// futexWait sleeps while the word has the value, at most for the given time; forever has no limit. It may return early.
func futexWait(word *atomic.Uint32, value uint32, most time.Duration) {
	var limit *syscall.Timespec
	if most != forever {
		t := syscall.NsecToTimespec(most.Nanoseconds())
		limit = &t
	}
	// Whatever ends it (a wake, a signal, the time), the caller looks again.
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWait, uintptr(value), uintptr(unsafe.Pointer(limit)), 0, 0)
}

// futexWake wakes one thread that sleeps on the word.
func futexWake(word *atomic.Uint32) {
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWake, 1, 0, 0, 0)
}

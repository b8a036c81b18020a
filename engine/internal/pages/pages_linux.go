package pages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// size is that of a large page on the processors that matter here; another size makes the advice less exact, not wrong.
const size = 2 << 20

// The advice that Huge and Release give.
const (
	huge  = unix.MADV_HUGEPAGE
	small = unix.MADV_NOHUGEPAGE
)

// advise covers the large pages that lie within the buffer.
func advise(p unsafe.Pointer, n, advice int) {
	skip := int(-uintptr(p) & (size - 1))
	if whole := (n - skip) &^ (size - 1); whole > 0 {
		// The kernel may be built without large pages: then nothing changes.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(p)+uintptr(skip), uintptr(whole), uintptr(advice))
	}
}

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

// advise covers the whole large pages that the buffer touches: they hold nothing but the heap of this process.
func advise(p unsafe.Pointer, n, advice int) {
	before := int(uintptr(p) & (size - 1))
	whole := (before + n + size - 1) &^ (size - 1)
	// The kernel may be built without large pages, or the range may reach beyond the heap's mapping: then nothing changes.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(p)-uintptr(before), uintptr(whole), uintptr(advice))
}

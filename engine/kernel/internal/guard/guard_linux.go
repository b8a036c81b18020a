package guard

import (
	"syscall"
	"testing"
	"unsafe"
)

// Slice returns n zeros that end at a page which cannot be read: a kernel that reads or writes behind its buffer
// crashes. They are gone when the test ends.
func Slice[T any](tb testing.TB, n int) []T {
	tb.Helper()
	if n == 0 {
		return nil
	}
	page := syscall.Getpagesize()
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	whole := (size + page - 1) / page * page
	b, err := syscall.Mmap(-1, 0, whole+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		tb.Fatalf("guarded memory: %v", err)
	}
	tb.Cleanup(func() {
		if err := syscall.Munmap(b); err != nil {
			tb.Errorf("guarded memory: %v", err)
		}
	})
	if err := syscall.Mprotect(b[whole:], syscall.PROT_NONE); err != nil {
		tb.Fatalf("guarded memory: %v", err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[whole-size])), n)
}

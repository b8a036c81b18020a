package guard

import (
	"syscall"
	"unsafe"
)

// Slice returns n zeros that end at a page which cannot be read: a kernel that reads or writes behind its buffer
// crashes. The memory is never given back; tests are small.
func Slice[T any](n int) []T {
	const page = 4096
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	whole := (size + page - 1) / page * page
	b, err := syscall.Mmap(-1, 0, whole+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return make([]T, n)
	}
	if err := syscall.Mprotect(b[whole:], syscall.PROT_NONE); err != nil {
		return make([]T, n)
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[whole-size])), n)
}

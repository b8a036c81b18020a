//go:build unix

package mmap

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapBytes(f *os.File, size int) ([]byte, func() error, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

func forget(data []byte) {
	if len(data) > 0 {
		// Advice only: if it is not taken, the pages stay until the system wants them.
		_ = unix.Madvise(data, unix.MADV_DONTNEED)
	}
}

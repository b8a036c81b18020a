//go:build !unix && !windows

package mmap

import (
	"io"
	"os"
)

// mapBytes reads the file where there is no memory map to be had.
func mapBytes(f *os.File, size int) ([]byte, func() error, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, err
	}
	return data, nil, nil
}

func forget([]byte) {}

// Package mmap maps whole files read-only, so that a checkpoint is paged in as it is used and shared between the
// processes that use it.
//
// A Mapping is immutable and safe for concurrent reads; Close must not race with a read. A file that another process
// shortens while it is mapped faults on the lost pages, as every memory map does: write a file under a temporary name
// and rename it, never in place.
package mmap

import (
	"errors"
	"fmt"
	"math"
	"os"
)

// ErrNotRegular is returned for folders, pipes and devices, which have no fixed content to map.
var ErrNotRegular = errors.New("not a regular file")

// Mapping is the content of a file.
type Mapping struct {
	data  []byte
	unmap func() error
}

// Open maps the named file. An empty file gives an empty mapping.
func Open(path string) (*Mapping, error) {
	// Asked before opening: opening a pipe that nobody writes to would wait for ever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "map", Path: path, Err: ErrNotRegular}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := mapFile(f)
	// The mapping outlives the descriptor.
	if cerr := f.Close(); err == nil && cerr != nil {
		err = errors.Join(cerr, m.Close())
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func mapFile(f *os.File) (*Mapping, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size == 0 {
		return &Mapping{}, nil
	}
	if size > math.MaxInt {
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: fmt.Errorf("%d bytes are more than this system can address", size)}
	}
	data, unmap, err := mapBytes(f, int(size))
	if err != nil {
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return &Mapping{data: data, unmap: unmap}, nil
}

// Bytes returns the content. It is read-only memory (writing to it faults) and gone after Close.
func (m *Mapping) Bytes() []byte { return m.data }

// Forget takes the pages out of this process's memory until they are read again. Where the system has no such call it does nothing.
func (m *Mapping) Forget() { forget(m.data) }

// Close releases the memory. Closing twice is harmless.
func (m *Mapping) Close() error {
	unmap := m.unmap
	m.data, m.unmap = nil, nil
	if unmap == nil {
		return nil
	}
	return unmap()
}

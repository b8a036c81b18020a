package pluginrpc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// ErrNoSharedMemory says that this system cannot share memory with a plugin; tensors then travel in messages.
var ErrNoSharedMemory = errors.New("no shared memory between processes on this system")

var errClosed = errors.New("shared memory: closed")

// Memory is a file without a name that both sides map. The host creates it and hands its descriptor to the plugin process when it
// starts it, so that no other process can reach it and nothing is left behind whatever dies. Memory is safe for concurrent use.
//
// Only the host grows it. On Linux it is sealed against shrinking, so that a plugin cannot take pages away from under the host.
type Memory struct {
	file *os.File

	mu     sync.Mutex
	closed bool
	size   int64               // of all segments
	length int64               // of the file, never less
	free   map[int64][]Segment // of the host's side, by length
	maps   map[int64][]byte    // of the plugin's side, by offset
}

// Segment is a part of a Memory, mapped.
type Segment struct {
	Offset int64
	Data   []byte
}

// NewMemory creates an empty Memory.
func NewMemory() (*Memory, error) {
	f, err := createMemory()
	if err != nil {
		return nil, err
	}
	return newMemory(f), nil
}

// InheritMemory opens the Memory that the process was started with.
func InheritMemory() (*Memory, error) {
	fd, err := inherited(EnvSharedMemory, ErrNoSharedMemory)
	if err != nil {
		return nil, err
	}
	return newMemory(os.NewFile(fd, "shared memory")), nil
}

// inherited returns the descriptor whose number the environment variable has, and keeps it from the process's children. It
// fails with none if the variable is not there.
func inherited(variable string, none error) (uintptr, error) {
	text := os.Getenv(variable)
	if text == "" {
		return 0, none
	}
	fd, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("environment variable %s=%q is no file descriptor", variable, text)
	}
	closeOnExec(uintptr(fd))
	return uintptr(fd), nil
}

func newMemory(f *os.File) *Memory {
	return &Memory{file: f, free: map[int64][]Segment{}, maps: map[int64][]byte{}}
}

// File returns the descriptor to hand to a child process. It belongs to the Memory.
func (m *Memory) File() *os.File { return m.file }

// Take returns a segment of at least n bytes, zeroed or left from an earlier use. Segments come in powers of two, so that freed
// ones fit again.
func (m *Memory) Take(n int64) (Segment, error) {
	if n < 1 || n > 2*MaxTensor {
		return Segment{}, fmt.Errorf("shared memory: %d bytes are out of range", n)
	}
	length := int64(PageAlign)
	for length < n {
		length *= 2
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Segment{}, errClosed
	}
	if list := m.free[length]; len(list) > 0 {
		s := list[len(list)-1]
		m.free[length] = list[:len(list)-1]
		return s, nil
	}
	if end := m.size + length; end > m.length { // else an earlier segment got its part of the file, but no memory
		if err := m.file.Truncate(end); err != nil {
			return Segment{}, fmt.Errorf("shared memory: %w", err)
		}
		m.length = end
	}
	data, err := mapMemory(m.file, m.size, length)
	if err != nil {
		return Segment{}, fmt.Errorf("shared memory: map %d bytes: %w", length, err)
	}
	s := Segment{m.size, data}
	m.size += length
	return s, nil
}

// Give takes a segment back. Nobody may touch its data afterwards, the other process included.
func (m *Memory) Give(s Segment) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return unmapMemory(s.Data)
	}
	m.free[int64(len(s.Data))] = append(m.free[int64(len(s.Data))], s)
	return nil
}

// At maps the part of the file that the other side calls by offset and length. Parts stay mapped, so the same one is
// mapped once.
func (m *Memory) At(offset, length int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	if data := m.maps[offset]; int64(len(data)) >= length && length > 0 {
		return data[:length], nil
	}
	info, err := m.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	if offset < 0 || length < 1 || offset%PageAlign != 0 || length > info.Size()-offset {
		return nil, fmt.Errorf("shared memory: range %d+%d is outside the file of %d bytes or does not begin at a multiple of %d", offset, length, info.Size(), PageAlign)
	}
	data, err := mapMemory(m.file, offset, length)
	if err != nil {
		return nil, fmt.Errorf("shared memory: map range %d+%d: %w", offset, length, err)
	}
	if old := m.maps[offset]; old != nil {
		// A shorter mapping of the same place may be in use by a call: it stays until Close.
		m.maps[-offset-1] = old
	}
	m.maps[offset] = data
	return data, nil
}

// Close closes the file and unmaps what nobody has taken; segments that are taken stay mapped until they are given back. On the plugin's
// side it unmaps everything.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	var errs []error
	for _, list := range m.free {
		for _, s := range list {
			errs = append(errs, unmapMemory(s.Data))
		}
	}
	for _, data := range m.maps {
		errs = append(errs, unmapMemory(data))
	}
	m.free, m.maps = nil, nil
	return errors.Join(append(errs, m.file.Close())...)
}

package weights

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/weights/internal/mmap"
)

// Format is the kind of file that Open found.
type Format string

// The formats that Open reads.
const (
	Safetensors Format = "safetensors"
	PTH         Format = "pth"        // torch.save of PyTorch 1.6 and later: a zip archive
	LegacyPTH   Format = "legacy pth" // torch.save before: five pickles, then the storages
	TFLite      Format = "tflite"     // TensorFlow Lite: a FlatBuffer; MobileNet V1 and V2 only
)

// File is an open checkpoint. It is an engine.Params.
type File struct {
	path     string
	format   Format
	metadata map[string]string
	notes    []string
	tensors  []Tensor
	index    map[string]int
	sums     []checksum
	mapping  *mmap.Mapping // nil where the content is not a mapped file
	closed   atomic.Bool
}

var _ engine.Params = (*File)(nil)

// Path returns the path that the file was opened by.
func (f *File) Path() string { return f.path }

// Format returns the kind of file that was found.
func (f *File) Format() Format { return f.format }

// Metadata returns a copy of the texts in a safetensors header. Other formats have none.
func (f *File) Metadata() map[string]string { return maps.Clone(f.metadata) }

// Notes says, a line each, what was done to find the state dict in a .pth: wrappers and prefixes taken off, entries
// that are not tensors left out; and what was done to the weights of a TensorFlow Lite model.
func (f *File) Notes() []string { return slices.Clone(f.notes) }

// Names returns the names of all tensors in the order of the file.
func (f *File) Names() []string {
	names := make([]string, len(f.tensors))
	for i, t := range f.tensors {
		names[i] = t.Name
	}
	return names
}

// Len returns the number of tensors.
func (f *File) Len() int { return len(f.tensors) }

// All yields the tensors in the order of the file: slices.Collect(f.All()) is what the writers take.
func (f *File) All() iter.Seq[Tensor] { return slices.Values(f.tensors) }

// Tensor returns the tensor of that name and whether there is one.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Param implements engine.Params: the named tensor's Float32.
func (f *File) Param(name string) ([]float32, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("%s has no tensor %q", f.path, name)
	}
	values, err := t.Float32()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return values, nil
}

// Release implements engine.Releaser: the pages of a mapped file no longer count as this process's memory until they
// are read again.
func (f *File) Release() {
	if f.mapping != nil && !f.closed.Load() {
		f.mapping.Forget()
	}
}

// Close unmaps the file. Memory that its tensors returned must not be touched afterwards; asking a tensor for more is
// ErrClosed. Closing twice is harmless.
func (f *File) Close() error {
	if f.closed.Swap(true) || f.mapping == nil {
		return nil
	}
	return f.mapping.Close()
}

// adopt takes over the tensors that a reader found. Readers refuse duplicate names.
func (f *File) adopt(tensors []Tensor) {
	f.tensors = tensors
	f.index = make(map[string]int, len(tensors))
	for i := range tensors {
		tensors[i].file = f
		f.index[tensors[i].Name] = i
	}
}

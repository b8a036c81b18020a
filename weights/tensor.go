package weights

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrClosed is returned for a tensor of a file that has been closed: copy the values before closing it.
var ErrClosed = errors.New("the weights file is closed")

// maxRank is how many dimensions a tensor of a file may have: as many as in PyTorch and NumPy.
const maxRank = 64

// Tensor is a named array in a file, or one made by FromFloat32 or FromInt64 to be written. It is small and copied
// freely; the values stay where they are.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // no dimensions for a scalar

	file    *File // nil for a tensor in memory
	data    []byte
	strides []int // elements per step of each dimension; nil if row-major without gaps
}

// FromFloat32 makes a tensor of values, which it keeps and does not copy. It panics if shape does not hold exactly
// len(values) elements.
func FromFloat32(name string, shape []int, values []float32) Tensor {
	return inMemory(name, F32, shape, len(values), bytesOf(values))
}

// FromInt64 is FromFloat32 for the integers that PyTorch keeps beside the weights, such as num_batches_tracked.
func FromInt64(name string, shape []int, values []int64) Tensor {
	return inMemory(name, I64, shape, len(values), bytesOf(values))
}

func inMemory(name string, d DType, shape []int, n int, data []byte) Tensor {
	if want, ok := elements(shape); !ok || want != n {
		panic(fmt.Sprintf("weights: tensor %q of shape %v made of %d values", name, shape, n))
	}
	return Tensor{Name: name, DType: d, Shape: slices.Clone(shape), data: data}
}

// Len returns the number of elements.
func (t Tensor) Len() int {
	n, _ := elements(t.Shape)
	return n
}

// Bytes returns the elements in their own type, little-endian and row-major. The slice is read-only: it may be the
// mapped file. It is a copy only where the file stores the tensor with strides.
func (t Tensor) Bytes() ([]byte, error) {
	if t.file != nil && t.file.closed.Load() {
		return nil, fmt.Errorf("tensor %q: %w", t.Name, ErrClosed)
	}
	if !t.DType.known() {
		return nil, fmt.Errorf("tensor %q has no values", t.Name)
	}
	if t.strides == nil {
		return t.data, nil
	}
	return gather(t.data, t.Shape, t.strides, t.DType.Size()), nil
}

// Float32 returns the elements as float32, row-major: of aligned F32 the mapped memory itself, read-only, and else a
// new slice. F16 and BF16 convert exactly, F64 and wide integers by rounding, BOOL to 0 and 1.
func (t Tensor) Float32() ([]float32, error) {
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	if t.DType == F32 {
		if v, ok := asFloat32(b); ok {
			return v, nil
		}
	}
	out := make([]float32, t.Len())
	toFloat32(out, b, t.DType)
	return out, nil
}

// elements returns the number of elements of a shape, and false if a dimension is negative or the product of the
// dimensions overflows, zeros aside (a consumer may multiply them in any order).
func elements(shape []int) (int, bool) {
	n, zero := 1, false
	for _, d := range shape {
		switch {
		case d < 0:
			return 0, false
		case d == 0:
			zero = true
		case n > math.MaxInt/d:
			return 0, false
		default:
			n *= d
		}
	}
	if zero {
		return 0, true
	}
	return n, true
}

// byteLen is elements in bytes.
func byteLen(shape []int, d DType) (int, bool) {
	n, ok := elements(shape)
	if !ok || n > math.MaxInt/d.Size() {
		return 0, false
	}
	return n * d.Size(), true
}

// rowMajor says whether strides are those of an array of that shape without gaps. The strides of dimensions of one
// element, and of an empty array, say nothing.
func rowMajor(shape, strides []int) bool {
	want := 1
	for i, d := range slices.Backward(shape) {
		if d == 0 {
			return true
		}
		if d != 1 && strides[i] != want {
			return false
		}
		want *= d
	}
	return true
}

// gather copies a strided array into row-major order. The strides must keep inside data.
func gather(data []byte, shape, strides []int, size int) []byte {
	total, _ := elements(shape)
	out := make([]byte, 0, total*size)
	if total == 0 {
		return out
	}
	index := make([]int, len(shape))
	at := 0
	for {
		out = append(out, data[at*size:(at+1)*size]...)
		axis := len(shape) - 1
		for ; axis >= 0; axis-- {
			index[axis]++
			at += strides[axis]
			if index[axis] < shape[axis] {
				break
			}
			at -= index[axis] * strides[axis]
			index[axis] = 0
		}
		if axis < 0 {
			return out
		}
	}
}

//go:build !noasm

package gemm

import "unsafe"

// vectorArgs are the arguments of the vector kernels, and their state. The offsets of the fields are known to
// _gen/gemm/vector_args.go.
type vectorArgs struct {
	a0         unsafe.Pointer // first position of the first block
	aInc       int            // bytes to the next block
	aStride    int            // bytes between rows
	offsets    *int32         // byte offset of each step from its row
	steps      int
	b          unsafe.Pointer // packed weights of the first panel
	panels     int
	blocks     int // counts down
	rows       *rowEntry
	starts     *int32 // counts up
	limit      int    // valid entries of rows
	dst        unsafe.Pointer
	res        unsafe.Pointer // nil without residual
	bias       *float32
	sums       unsafe.Pointer // of a block and a panel, aligned to 64 bytes
	activation int
	low, high  float32   // bounds of the activations that clip
	mask       int       // channels of the last panel as bits
	_          [4]uint64 // what the kernels keep between the rows
}

//go:build !noasm

package gemm

import "unsafe"

// tileArgs are the arguments of the AMX kernels, and their state. The offsets of the fields are known to
// _gen/gemm/tile.go.
type tileArgs struct {
	config     *tileConfig
	a0, a1     unsafe.Pointer // rows 0 and 16 of the first block, hi plane
	aInc       int            // bytes to the next block
	aStride    int            // bytes between rows
	aLow       int            // bytes from the hi plane to the lo plane
	offsets    *int32         // byte offset of each step from its row
	steps      int
	b          unsafe.Pointer // packed weights of the first panel
	panels     int
	blocks     int // counts down
	rows       *rowEntry
	starts     *int32 // counts up
	limit      int    // valid entries of rows
	dst        unsafe.Pointer
	dstLow     unsafe.Pointer
	res        unsafe.Pointer // nil without residual
	resLow     unsafe.Pointer
	bias       *float32       // 16 even and 16 odd channels for each panel
	sums       unsafe.Pointer // 2*sumsBytes, aligned to 2*sumsBytes
	share      int            // rows finished per step
	format     int            // kernel.Format of dst and res
	activation int
	low, high  float32        // bounds of the activations that clip
	mask       int            // channels of the last panel as bits
	awake      unsafe.Pointer // 1 KiB to which a tile is stored now and then
	_          [13]uint64     // what the kernels keep between the rows
}

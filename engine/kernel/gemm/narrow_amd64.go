//go:build !noasm

package gemm

import (
	"math"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// This file computes linear layers with weights of three bytes. Their rows are finished from memory, by a table, as those of tiles are.

const (
	// positionsNarrow are the positions that the kernel sums at a time, of two vectors of output channels each.
	positionsNarrow = 8
	// spareRows are entries for the rows of a block that lies otherwise than the table says, and one for its bounds.
	spareRows = positionsNarrow + 1
	// flopsPerCycle is what a core does: two fused multiply-adds of 16 values.
	flopsPerCycle = 64
)

// narrowArgs are the arguments of fmaNarrow, and its state. The offsets of the fields are known to _gen/gemm/narrow.go.
type narrowArgs struct {
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
	_          [4]uint64 // what the kernel keeps between the rows
}

//go:noescape
func fmaNarrow(args *narrowArgs)

// putNarrow stores the upper 24 bits of v, rounded to nearest: 16 bits of mantissa, as many as two bfloat16 have.
func putNarrow(to []byte, v float32) {
	b := math.Float32bits(v)
	if b&0x7f800000 != 0x7f800000 {
		b += 0x80
	}
	to[0], to[1], to[2] = byte(b>>8), byte(b>>16), byte(b>>24)
}

// multiplyNarrow is compute for weights of three bytes, in blocks of positions.
func (v *vectorCall) multiplyNarrow(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	d := &v.depth
	b, from, to := v.share(task, d.bundles*v.panels, v.parts, true)
	if from == to {
		return
	}
	scratch = align(scratch, 64)
	rows, panelWidth := v.grain.rows, v.grain.panel
	args := narrowArgs{
		aStride:    v.aStride,
		aInc:       rows * v.aStride,
		offsets:    &v.runs[0],
		steps:      len(v.runs) / 2,
		rows:       &v.geometry.rows[0],
		limit:      b.entries,
		sums:       unsafe.Pointer(&scratch[0]),
		activation: int(v.spec.Activation),
	}
	args.low, args.high = bounds(v.spec.Activation)
	scratch = scratch[v.sumsBytes():]
	spare := unsafe.Slice((*rowEntry)(unsafe.Pointer(&scratch[0])), spareRows)
	scratch = align(scratch[spareRows*unsafe.Sizeof(rowEntry{}):], 64)
	firstBundle, lastBundle := from/v.panels, (to-1)/v.panels
	var a unsafe.Pointer
	var first, positions int
	if v.direct {
		first = (b.image*v.imageRows + b.row) * v.pitch
		positions = v.n * v.oh * v.ow
		a, _ = planes(&src, src.Off)
		a = unsafe.Add(a, first*v.aStride)
	} else {
		// A few images fill a part of a block's rows. The others are computed too: what lay in their memory may be subnormal numbers,
		// whose arithmetic is a hundred times slower.
		clear(scratch[:v.stagedBytes(v.grain)])
		stage(&v.geometry, d, v.grain, &src, b, scratch, firstBundle, lastBundle+1)
		a = unsafe.Pointer(&scratch[0])
	}
	dstAt := v.origin(&dst, b)
	resAt := 0
	if residual != nil {
		resAt = v.origin(residual, b)
	}
	blocks := v.grain.blocks(b.positions)
	for bundle := firstBundle; bundle <= lastBundle; bundle++ {
		p0, p1 := max(from-bundle*v.panels, 0), min(to-bundle*v.panels, v.panels)
		aBundle := a
		if !v.direct {
			aBundle = unsafe.Add(a, bundle*d.blocks*v.blockBytes)
		}
		group := max(1, weightsInL2/v.panelBytes())
		for ; p0 < p1; p0 += group {
			args.panels = min(group, p1-p0)
			panel := bundle*v.panels + p0
			channel := bundle*d.bundleOut + p0*panelWidth
			args.b = unsafe.Pointer(&v.packed[panel*v.panelBytes()])
			args.bias = &v.bias[panel*panelWidth]
			args.dst, _ = planes(&dst, dstAt+channel)
			if residual != nil {
				args.res, _ = planes(residual, resAt+channel)
			}
			rest := d.bundleOut - (p0+args.panels-1)*panelWidth
			args.mask = 1<<min(rest, panelWidth) - 1
			step := max(1, v.blockMax/args.panels)
			full := blocks
			if v.direct && first+blocks*rows > positions {
				full--
			}
			for block := 0; block < full; block += step {
				args.a0 = unsafe.Add(aBundle, block*rows*v.aStride)
				args.blocks = min(step, full-block)
				args.starts = &v.starts[block]
				fmaNarrow(&args)
			}
			if full < blocks {
				v.lastBlock(args, aBundle, full, positions-first-rows, spare)
			}
		}
	}
}

// lastBlock computes a band's last block of a map that is read itself. It begins at position most at the latest, so as not to read behind
// the map: some positions are computed twice.
func (v *vectorCall) lastBlock(args narrowArgs, a unsafe.Pointer, block, most int, spare []rowEntry) {
	at := block * v.grain.rows
	begin := min(at, most)
	table := v.geometry.rows[v.starts[block]:min(int(v.starts[block+1]), args.limit)]
	for i, e := range table {
		e.sums += int32((at - begin) * v.grain.panel * 4)
		spare[i] = e
	}
	starts := (*[2]int32)(unsafe.Pointer(&spare[spareRows-1]))
	*starts = [2]int32{0, int32(len(table))}
	args.a0 = unsafe.Add(a, begin*v.aStride)
	args.blocks = 1
	args.rows, args.starts, args.limit = &spare[0], &starts[0], len(table)
	fmaNarrow(&args)
}

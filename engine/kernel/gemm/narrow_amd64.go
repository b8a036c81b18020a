//go:build !noasm

package gemm

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// This file computes linear layers with weights of 20 bits: whole numbers, of which each output channel has a scale, so that the largest weight of
// the channel is 2^19-1 of them. Two neighbouring channels share five bytes, the even one the lower bits. Their rows are finished from memory, by a
// table, as those of tiles are.

const (
	// positionsNarrow are the positions that the kernel sums at a time, of two vectors of output channels each, and positionsFew those of the kernel
	// for as many at most: one image would otherwise take as long as eight, and weights that come from a cache faster than that.
	positionsNarrow = 8
	positionsFew    = 4
	// spareRows are entries for the rows of a block that lies otherwise than the table says, and one for its bounds.
	spareRows = positionsNarrow + 1
	// flopsPerCycle is what a core does: two fused multiply-adds of 16 values.
	flopsPerCycle = 64
)

// narrowArgs are the arguments of fmaNarrow4 and fmaNarrow8, and their state. The offsets of the fields are known to _gen/gemm/narrow.go.
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
func fmaNarrow4(args *narrowArgs)

//go:noescape
func fmaNarrow8(args *narrowArgs)

// narrow calls the kernel of the call's blocks.
func (v *vectorCall) narrow(args *narrowArgs) {
	if v.grain.rows == positionsFew {
		fmaNarrow4(args)
	} else {
		fmaNarrow8(args)
	}
}

const (
	narrowBits  = 20
	narrowMost  = 1<<(narrowBits-1) - 1
	narrowShift = 1 << (32 - narrowBits) // the kernel takes the weights to the upper bits of 32
	scaleBytes  = 4                      // of a channel, behind the weights of its panel
)

// packNarrow packs one panel.
func (c *vectorConv) packNarrow(w *weights, panel int) {
	const chunk = 256 // values gathered at a time: the packed chunk of a panel stays in L1
	var even, odd [chunk]float32
	d := &c.depth
	width, bundle, first := c.grain.panel, panel/c.panels, panel%c.panels*c.grain.panel
	channels := min(width, d.bundleOut-first)
	packed := c.packed[panel*c.panelBytes():][:c.panelBytes()]
	scales := packed[len(packed)-width*scaleBytes:]
	inverse := make([]float32, width)
	for o := range channels {
		var most uint32
		for _, r := range d.runs {
			for from := 0; from < r.n; from += chunk {
				v := even[:min(chunk, r.n-from)]
				d.gather(v, &c.spec, w, bundle, r, from, first+o)
				most = max(most, farthest(v))
			}
		}
		scale := math.Float32frombits(most) / narrowMost
		binary.LittleEndian.PutUint32(scales[o*scaleBytes:], math.Float32bits(scale/narrowShift))
		// Weights that are all 0, or among them what is no number, become 0: to them the scale is 0, or makes all that it is multiplied with no number.
		if inv := 1 / scale; inv <= math.MaxFloat32 {
			inverse[o] = inv
		}
	}
	step := width * narrowBits / 8
	for _, r := range d.runs {
		for from := 0; from < r.n; from += chunk {
			n := min(chunk, (r.n-from+c.unroll-1)/c.unroll*c.unroll)
			for o := 0; o < channels; o += 2 {
				d.gather(even[:n], &c.spec, w, bundle, r, from, first+o)
				if clear(odd[:n]); o+1 < channels {
					d.gather(odd[:n], &c.spec, w, bundle, r, from, first+o+1)
				}
				putNarrow(packed[o*narrowBits/8:], step, even[:n], odd[:n], inverse[o], inverse[o+1])
			}
			packed = packed[n*step:]
		}
	}
}

// farthest returns the bits of the largest magnitude; what is not a number counts as the largest.
func farthest(values []float32) uint32 {
	var a, b uint32
	for ; len(values) >= 2; values = values[2:] {
		a = max(a, math.Float32bits(values[0])&^(1<<31))
		b = max(b, math.Float32bits(values[1])&^(1<<31))
	}
	for _, v := range values {
		a = max(a, math.Float32bits(v)&^(1<<31))
	}
	return max(a, b)
}

// putNarrow stores the weights of two channels, every step bytes two. Behind the odd one's bits the kernel has the upper four of the even one, which
// are taken off before the odd one is rounded.
func putNarrow(to []byte, step int, even, odd []float32, inverseEven, inverseOdd float32) {
	const toNearest = 3 << 22 // added to a float32 it leaves a whole number, in two's complement, in the lower bits
	const bits = 1<<narrowBits - 1
	odd = odd[:len(even)]
	for j, v := range even {
		low := math.Float32bits(v*inverseEven+toNearest) & bits
		behind := float32(int32(low>>(narrowBits-4))) * (1.0 / 16)
		high := math.Float32bits(odd[j]*inverseOdd-behind+toNearest) & bits
		pair := to[j*step:][:5]
		binary.LittleEndian.PutUint32(pair, low|high<<narrowBits)
		pair[4] = byte(high >> (32 - narrowBits))
	}
}

// multiplyNarrow is compute for weights of 20 bits, in blocks of positions.
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
				v.narrow(&args)
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
	v.narrow(&args)
}

package gemm

import (
	"math/bits"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// stageArgs are the arguments of the kernels that copy a row of pixels to scratch memory, pixel by pixel in chunks of 64
// bytes at the destination. The offsets of the fields are known to _gen/gemm/stage.go.
type stageArgs struct {
	dst, src  unsafe.Pointer
	pixels    int
	srcStep   int // bytes between pixels
	dstStep   int
	chunks    int    // per pixel
	dstChunk  int    // bytes between chunks
	loadMask  uint64 // the last chunk's values (words of 16 bits when copying, else float32) as bits
	storeMask uint64 // its words of 16 bits
	low       int    // bytes from the hi plane to the lo plane
}

// stager copies a band's input to scratch memory.
type stager struct {
	p        *geometry
	d        *depth
	g        grain
	src      kernel.Map
	scratch  []byte
	args     stageArgs
	valueSrc int  // bytes of a value in the source
	zeroed   bool // scratch has the zeros around the images already
}

// stage copies the input of a band to scratch memory in the layout of the geometry: zeros around the images, values in
// the element format of the grain, for the bundles [from, to).
func stage(p *geometry, d *depth, g grain, src *kernel.Map, b band, scratch []byte, from, to int) {
	st := stager{p: p, d: d, g: g, src: *src, scratch: scratch}
	if d.blocked {
		// The blocks of all bundles follow each other in memory and in channels.
		st.run(b, from*d.blocks, from*d.bundleIn, (to-from)*d.blocks)
		return
	}
	for bundle := from; bundle < to; bundle++ {
		st.run(b, bundle, bundle*d.bundleIn, 1)
	}
}

// stageSlice copies a slice of the channel blocks of a band's only bundle to where the slices before it were.
func stageSlice(p *geometry, d *depth, g grain, src *kernel.Map, b band, scratch []byte, slice int) {
	st := stager{p: p, d: d, g: g, src: *src, scratch: scratch, zeroed: slice > 0}
	first := slice * p.slice
	st.run(b, 0, first*d.channels, min(p.slice, d.blocks-first))
}

// run stages a number of blocks of which the first has the given number and begins at a channel of the source.
func (st *stager) run(b band, block, channel, blocks int) {
	p := st.p
	image, row, pixel := strides(p, &st.src)
	// Staged columns [x0, x1) hold pixels of the image.
	x0 := max(0, min((p.left+p.colStep-1)/p.colStep, p.width))
	x1 := max(x0, min((p.w-1+p.left)/p.colStep+1, p.width))
	st.prepare(x1-x0, p.colStep*pixel, blocks)
	for phase := range p.phases {
		at := block*p.blockBytes + phase*p.phaseBytes
		end := 0
		for n := range b.images {
			rows := b.rows + p.extra
			if p.across == 1 && n < b.images-1 {
				rows = min(rows, p.imageRows) // the rest is the next image's first rows
			}
			for j := range rows {
				y := ((b.row+j)*p.phases+phase)*p.rowStep - p.top
				end = p.position(n, j) * p.stride * p.pixel
				if y < 0 || y >= p.h {
					st.clear(at+end, p.width*p.pixel, blocks)
				} else {
					st.clear(at+end, x0*p.pixel, blocks)
					if x1 > x0 {
						st.copy(at+end+x0*p.pixel, st.src.Off+(b.image+n)*image+y*row+(x0*p.colStep-p.left)*pixel+channel, blocks)
					}
					st.clear(at+end+x1*p.pixel, (p.width-x1)*p.pixel, blocks)
				}
				end += p.width * p.pixel
			}
		}
		// Zeros right of the last row, and whatever a step may read behind its last value.
		st.clear(at+end, p.phaseBytes-p.stagedRows()*p.across*p.width*p.pixel, blocks)
	}
}

// clear zeroes n bytes in each block and plane.
func (st *stager) clear(at, n, blocks int) {
	if n <= 0 || st.zeroed {
		return
	}
	for plane := range st.g.planes {
		for b := range blocks {
			clear(st.scratch[plane*st.p.planeBytes+b*st.p.blockBytes+at:][:n])
		}
	}
}

// prepare fills in what all rows have in common.
func (st *stager) prepare(pixels, step, blocks int) {
	p, d := st.p, st.d
	n := d.channels
	if !d.blocked && step == n && p.pixel == n*st.g.element { // dense: one long pixel
		n, pixels = n*pixels, 1
	}
	st.valueSrc = st.src.Format.Size()
	if st.src.Format == kernel.Split {
		st.valueSrc = 2
	}
	a := &st.args
	a.pixels, a.srcStep, a.dstStep, a.low = pixels, step*st.valueSrc, p.pixel, p.planeBytes
	if d.blocked { // whole chunks
		a.chunks, a.dstChunk = blocks, p.blockBytes
		a.loadMask, a.storeMask = 1<<32-1, 1<<32-1
		return
	}
	perChunk := 64 / st.g.element
	a.chunks, a.dstChunk = (n+perChunk-1)/perChunk, 64
	rest := n - (a.chunks-1)*perChunk
	a.storeMask = 1<<(rest*st.g.element/2) - 1
	a.loadMask = a.storeMask
}

// copyRow copies one row in plain Go.
func (st *stager) copyRow(to, e, blocks int) {
	p, d := st.p, st.d
	n := d.channels
	if st.args.pixels == 1 && !d.blocked { // perhaps several pixels as one
		n = (st.args.chunks-1)*(64/st.g.element) + bits.OnesCount64(st.args.storeMask)*2/st.g.element
	}
	step := st.args.srcStep / st.valueSrc
	for x := range st.args.pixels {
		for b := range blocks {
			st.convert(to+b*p.blockBytes+x*p.pixel, e+x*step+b*d.channels, n)
		}
	}
}

// convert copies n values from element e of the source.
func (st *stager) convert(at, e, n int) {
	src, scratch := &st.src, st.scratch
	if st.g.element == 4 {
		loadAll(unsafe.Slice((*float32)(unsafe.Pointer(&scratch[at])), n), src, e)
		return
	}
	hi := unsafe.Slice((*uint16)(unsafe.Pointer(&scratch[at])), n)
	var lo []uint16
	if st.g.planes == 2 {
		lo = unsafe.Slice((*uint16)(unsafe.Pointer(&scratch[st.p.planeBytes+at])), n)
	}
	loadPlanes(hi, lo, src, e)
}

// loadPlanes reads contiguous values of a map as bfloat16: split into both planes, or, where lo is nil, rounded into hi.
func loadPlanes(hi, lo []uint16, m *kernel.Map, at int) {
	n := len(hi)
	switch {
	case m.Format == kernel.F32 && lo == nil:
		kernel.ToBF16s(hi, m.F32[at:at+n])
	case m.Format == kernel.F32:
		kernel.ToSplits(hi, lo, m.F32[at:at+n])
	default:
		copy(hi, m.Hi[at:at+n])
		if m.Format == kernel.Split {
			copy(lo, m.Lo[at:at+n])
		} else {
			clear(lo)
		}
	}
}

// loadAll reads contiguous values of a map.
func loadAll(to []float32, m *kernel.Map, at int) {
	switch m.Format {
	case kernel.F32:
		copy(to, m.F32[at:])
	case kernel.BF16:
		kernel.FromBF16s(to, m.Hi[at:at+len(to)])
	default:
		kernel.FromSplits(to, m.Hi[at:at+len(to)], m.Lo[at:at+len(to)])
	}
}

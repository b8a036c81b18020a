package gemm

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// This file decides how a convolution becomes a matrix product: in which order input values are summed (depth), and for one shape of maps
// where they lie in memory while they are, and which rows of the product are output pixels (geometry).

// grain is what a family of kernels works in.
type grain struct {
	element int // bytes of one input value in one plane
	planes  int // planes of input values
	block   int // channels that staged memory keeps together where the layout is blocked: 64 bytes
	rows    int // positions that one kernel step computes
	panel   int // output channels that one kernel step computes
	tier    cpu.Tier
	least   int // positions that a map must have for a kernel to read it itself
}

// run is a row of input values that lie side by side in staged memory: some channels of one pixel, or all channels of
// the pixels under one kernel row.
type run struct {
	block  int // channel block within the bundle
	ky, kx int // the first tap
	n      int // values
}

// depth is the order in which a convolution sums its input values. It is fixed when the weights are packed.
//
// Small groups are combined into bundles whose weights are block-diagonal: the products with zeros cost less than
// tiles that are mostly empty.
type depth struct {
	bundles   int // independent products
	bundleIn  int // input channels of each
	bundleOut int // output channels of each
	channels  int // staged channels per pixel and block
	blocks    int // channel blocks of a bundle
	runs      []run
	blocked   bool // pixels of one block lie `channels` values apart; else a bundle's pixels are whole
}

// newDepth chooses the order for a convolution.
//
// Where the kernel is one column wide, a pixel is one run. Where the channels fill whole blocks, memory is blocked:
// tiles then are contiguous memory whatever the number of channels (a stride of 1 KiB and more falls on few cache sets),
// and the taps of a block are summed one after the other while the block is in L1. Else the channels of a kernel row form
// one run, so that 3 input channels do not become 16 or 32.
func newDepth(s ConvSpec, g grain) depth {
	d := depth{bundles: s.Groups, bundleIn: s.In / s.Groups, bundleOut: s.Out / s.Groups}
	if s.Groups > 1 {
		// As many groups as fill one panel of output channels.
		n := 1
		for m := 2; m <= s.Groups; m++ {
			if s.Groups%m == 0 && m*d.bundleOut <= g.panel && m*d.bundleIn <= 2*g.block {
				n = m
			}
		}
		d.bundles, d.bundleIn, d.bundleOut = d.bundles/n, d.bundleIn*n, d.bundleOut*n
	}
	d.channels, d.blocks = d.bundleIn, 1
	if s.KernelW > 1 && d.bundleIn%g.block == 0 {
		d.blocked, d.channels, d.blocks = true, g.block, d.bundleIn/g.block
	}
	for b := range d.blocks {
		for ky := range s.KernelH {
			if !d.blocked && s.DilationW == 1 {
				d.runs = append(d.runs, run{b, ky, 0, d.channels * s.KernelW})
				continue
			}
			for kx := range s.KernelW {
				d.runs = append(d.runs, run{b, ky, kx, d.channels})
			}
		}
	}
	return d
}

// weights are the weights of a convolution wherever they lie: OIHW as PyTorch has them, or, for the gradient of the input,
// with the roles of the channels exchanged and the taps reversed. Strides are in elements.
type weights struct {
	data                       []float32
	at                         int // element of output 0, input 0, tap 0,0 of group 0
	group, out, in, tapH, tapW int
}

// oihw returns the weights of s as NewConv takes them.
func oihw(s *ConvSpec, data []float32) weights {
	in, taps := s.In/s.Groups, s.KernelH*s.KernelW
	return weights{data: data, group: s.Out / s.Groups * in * taps, out: in * taps, in: taps, tapH: s.KernelW, tapW: 1}
}

// gather writes len(dst) values of a run, from value from on, of the weights of output channel o of a bundle: zeros behind
// the end of the run, and for the input channels of other groups.
func (d *depth) gather(dst []float32, s *ConvSpec, w *weights, bundle int, r run, from, o int) {
	in, out := s.In/s.Groups, s.Out/s.Groups
	o += bundle * d.bundleOut
	first := o/out*in - bundle*d.bundleIn // channel of the bundle at which o's group begins
	base := w.at + o/out*w.group + o%out*w.out + r.ky*w.tapH
	for len(dst) > 0 {
		if from >= r.n {
			clear(dst)
			return
		}
		// The values up to the end of this pixel's channels.
		kx, c := r.kx+from/d.channels, from%d.channels
		n := min(len(dst), d.channels-c)
		c += r.block*d.channels - first
		at := base + kx*w.tapW + c*w.in
		switch {
		case c >= 0 && c+n <= in && w.in == 1:
			copy(dst[:n], w.data[at:])
		case c >= 0 && c+n <= in:
			for i := range dst[:n] {
				dst[i] = w.data[at]
				at += w.in
			}
		default:
			for i := range dst[:n] {
				dst[i] = 0
				if c+i >= 0 && c+i < in {
					dst[i] = w.data[at+i*w.in]
				}
			}
		}
		dst = dst[n:]
		from += n
	}
}

// rowEntry says where one row of sums belongs.
type rowEntry struct {
	sums     int32 // byte offset of the row in the sums of its block of positions
	dst, res int32 // element offset from the first pixel of the band in destination and residual
}

// geometry is the plan for one shape of maps.
//
// The product's rows are positions: the output pixels of a band in order, with some positions between output rows that
// are computed and thrown away, so that consecutive positions are at a constant distance in memory for every tap.
type geometry struct {
	h, w, oh, ow, n int
	direct          bool // tiles are read from the source map itself
	flat            bool // all pixels of all images are one row

	top, left        int // rows of zeros above an image and columns of them on its left
	colStep, rowStep int // source pixels and rows between staged ones (1 unless the kernel is one wide or high)
	stride           int // staged pixels between positions
	phases           int // staged rows are kept apart by their number modulo the vertical stride
	pitch            int // positions from output row to output row
	width            int // staged pixels per row = pitch*stride
	tail             int // zero pixels that must follow the last row
	pixel            int // bytes from staged pixel to staged pixel
	extra            int // phase rows beyond the output rows of a band
	imageRows        int // phase rows from image to image in a band of several images, unless they lie side by side
	across           int // images of a band that lie side by side in a staged row: 1, or all

	bandRows, bandImages int // output rows and images of a band; bandRows == oh if bandImages > 1
	bandsPerImage        int
	bands                int
	positions            int // of a full band
	phaseBytes           int // the rows of a phase
	blockBytes           int // the phases of a channel block
	planeBytes           int // one plane of what is staged at a time
	slice                int // channel blocks of a bundle that are staged at a time: all, or some of the only bundle's

	rows   []rowEntry
	starts []int32 // rows[starts[i]:starts[i+1]] belong to positions of block i
}

// uniform returns the distance in elements between consecutive pixels if it is the same throughout the map.
func uniform(m *kernel.Map) (int, bool) {
	step := 0
	ok := true
	check := func(count, stride, inner int) {
		if count <= 1 {
			return
		}
		if step == 0 {
			step = stride
		} else if stride != inner*step {
			ok = false
		}
	}
	check(m.W, m.Pixel, 1)
	check(m.H, m.Row, m.W)
	check(m.N, m.Image, m.W*m.H)
	if step == 0 {
		step = m.Pixel
	}
	return step, ok
}

// newGeometry lays out the maps of a call, without the division into bands.
func newGeometry(s *ConvSpec, d *depth, g grain, src, dst, residual *kernel.Map, directable bool) geometry {
	p := geometry{h: src.H, w: src.W, oh: dst.H, ow: dst.W, n: src.N, top: s.PadTop, left: s.PadLeft, across: 1, slice: d.blocks}
	pointwise := src.H == dst.H && src.W == dst.W && s.KernelH == 1 && s.KernelW == 1 && s.PadTop|s.PadLeft|s.PadBottom|s.PadRight == 0 && s.StrideH == 1 && s.StrideW == 1
	p.colStep, p.rowStep, p.stride, p.phases = 1, 1, s.StrideW, s.StrideH
	if s.KernelW == 1 {
		p.colStep, p.stride = s.StrideW, 1
	}
	if s.KernelH == 1 {
		p.rowStep, p.phases = s.StrideH, 1
	}
	if pointwise {
		_, a := uniform(src)
		_, b := uniform(dst)
		c := true
		if residual != nil {
			_, c = uniform(residual)
		}
		if a && b && c {
			p.flat = true
			p.oh, p.ow, p.n = p.n*p.oh*p.ow, 1, 1
			p.h, p.w = p.oh, 1
		}
		_, even := uniform(src)
		p.direct = directable && even && p.n*p.oh*p.ow >= g.least
	}
	need := (p.ow-1)*p.stride + (s.KernelW-1)*s.DilationW + 1 // staged pixels that one output row looks at
	p.width = need
	if p.colStep == 1 && !p.flat {
		// The zeros left of a row serve the row before as the zeros on its right.
		// Each position still is one output pixel.
		p.width = max(p.left+min(p.w, need-p.left), need-p.left, p.ow*p.stride)
	}
	p.width = (p.width + p.stride - 1) / p.stride * p.stride
	p.pitch = p.width / p.stride
	p.tail = max(need-p.width, 0)
	p.extra = (s.KernelH - 1) * s.DilationH / p.phases
	p.imageRows = p.oh + p.extra
	if p.phases == 1 {
		// Likewise the zeros above an image serve the one before it.
		below := p.imageRows - p.top - p.h
		if p.rowStep == 1 {
			p.imageRows -= max(0, min(p.top, below, p.extra))
		}
	}
	p.pixel = d.channels * g.element
	if s.KernelW == 1 && !d.blocked && p.pixel%256 == 0 && p.pixel >= 512 {
		p.pixel += 64 // or the rows of a tile fall on few cache sets
	}
	return p
}

// setBands divides the output into bands of the given number of rows of one image, or of whole images.
func (p *geometry) setBands(rows, images int, d *depth, g grain) {
	p.bandRows, p.bandImages = rows, images
	if images > 1 {
		p.bandRows, p.bandsPerImage = p.oh, 1
		p.bands = (p.n + images - 1) / images
	} else {
		p.bandsPerImage = (p.oh + rows - 1) / rows
		p.bands = p.n * p.bandsPerImage
	}
	p.positions = p.bandPositions(p.bandRows, p.bandImages)
	const overread = 64 // a step may read this much behind the last value of a run: it must be finite
	p.phaseBytes = (p.stagedRows()*p.across*p.width+p.tail)*p.pixel + overread
	p.blockBytes = align64(p.phases * p.phaseBytes)
	if p.blockBytes%1024 == 0 {
		p.blockBytes += 64
	}
	p.planeBytes = d.bundles * p.slice * p.blockBytes
}

// align64 rounds bytes up to whole cache lines.
func align64(bytes int) int { return (bytes + 63) &^ 63 }

// bandPositions returns how many positions a band of so many rows and images has.
func (p *geometry) bandPositions(rows, images int) int { return p.position(images-1, rows-1) + p.ow }

// position returns the position of the first pixel of an output row of an image of a band.
func (p *geometry) position(image, row int) int {
	return ((image/p.across*p.imageRows+row)*p.across + image%p.across) * p.pitch
}

// stagedRows returns the staged rows of each phase of a full band, of all images above each other.
func (p *geometry) stagedRows() int {
	return (p.bandImages/p.across-1)*p.imageRows + p.bandRows + p.extra
}

// format returns the format of the maps that kernels read as they lie.
func (g grain) format() kernel.Format {
	switch {
	case g.element == 4:
		return kernel.F32
	case g.planes == 1:
		return kernel.BF16
	}
	return kernel.Split
}

// blocks returns how many kernel steps cover the positions.
func (g grain) blocks(positions int) int { return (positions + g.rows - 1) / g.rows }

// stagedBytes returns the scratch memory for the input of a band.
func (p *geometry) stagedBytes(g grain) int {
	if p.direct {
		return 0
	}
	over := (g.blocks(p.positions)*g.rows - p.positions) * p.stride * p.pixel
	return g.planes*p.planeBytes + over + 128
}

// listRows writes the table of rows for a full band. sumsRow is the distance of rows of sums in bytes.
func (p *geometry) listRows(g grain, dst, residual *kernel.Map, sumsRow int) {
	image, row, pixel := strides(p, dst)
	var rimage, rrow, rpixel int
	if residual != nil {
		rimage, rrow, rpixel = strides(p, residual)
	}
	p.rows = make([]rowEntry, 0, p.bandImages*p.bandRows*p.ow)
	p.starts = make([]int32, 1, g.blocks(p.positions)+1)
	for i := range p.bandImages * p.bandRows { // in the order of positions
		n, y := i/(p.across*p.bandRows)*p.across+i%p.across, i/p.across%p.bandRows
		for x := range p.ow {
			at := p.position(n, y) + x
			for len(p.starts) <= at/g.rows {
				p.starts = append(p.starts, int32(len(p.rows)))
			}
			p.rows = append(p.rows, rowEntry{
				sums: int32(at % g.rows * sumsRow),
				dst:  int32(n*image + y*row + x*pixel),
				res:  int32(n*rimage + y*rrow + x*rpixel),
			})
		}
	}
	for len(p.starts) <= g.blocks(p.positions) {
		p.starts = append(p.starts, int32(len(p.rows)))
	}
}

// strides returns the strides of a map as the geometry sees it.
func strides(p *geometry, m *kernel.Map) (image, row, pixel int) {
	if p.flat {
		step, _ := uniform(m)
		return 0, step, step
	}
	return m.Image, m.Row, m.Pixel
}

// band is one band of a call.
type band struct {
	number        int
	image, images int
	row, rows     int
	positions     int
	entries       int // valid rows of the table
}

func (p *geometry) band(i int) band {
	b := band{number: i, image: i / p.bandsPerImage * p.bandImages, row: i % p.bandsPerImage * p.bandRows}
	b.images = min(p.bandImages, p.n-b.image)
	b.rows = min(p.bandRows, p.oh-b.row)
	b.positions = p.bandPositions(b.rows, b.images)
	b.entries = b.images * b.rows * p.ow
	return b
}

// share returns the band of a task and the range of the panels that it computes there. Neighbours go to the same worker: where the weights
// are what has to come from memory they should have the same panels, else the same band, as the worker then finds its input, which it has
// written in the step before, in its own cache.
func (p *geometry) share(task, panels, parts int, samePanels bool) (b band, from, to int) {
	number, part := task/parts, task%parts
	if samePanels {
		number, part = task%p.bands, task/p.bands
	}
	return p.band(number), part * panels / parts, (part + 1) * panels / parts
}

// origin returns the element of the first pixel of a band in a map of the output's shape.
func (p *geometry) origin(m *kernel.Map, b band) int {
	image, row, _ := strides(p, m)
	return m.Off + b.image*image + b.row*row
}

// offset returns the byte offset of a run from the first position of a band, in staged memory.
func (p *geometry) offset(s *ConvSpec, r run) int {
	t := r.ky * s.DilationH
	return r.block%p.slice*p.blockBytes + t%p.phases*p.phaseBytes + (t/p.phases*p.across*p.width+r.kx*s.DilationW)*p.pixel
}

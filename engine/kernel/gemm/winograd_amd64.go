//go:build !noasm

package gemm

import (
	"math"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// winogradKernels says whether there is assembly for Winograd's method.
const winogradKernels = true

// inputArgs are the arguments of the kernels that transform the input of a tile. Their offsets, as those of the other
// arguments here, are known to _gen/gemm/winograd.go.
type inputArgs struct {
	src     unsafe.Pointer
	row     int // bytes between rows and pixels of the source
	pixel   int
	dst     unsafe.Pointer // of point 0
	point   int            // bytes between points
	vectors int            // of channels
	mask    int            // channels of the last vector as bits
	temp    unsafe.Pointer // n×n vectors
}

// outputArgs are the arguments of the kernels that transform products to outputs, and their state.
type outputArgs struct {
	src        unsafe.Pointer // of point 0
	point      int            // bytes between points
	dst        unsafe.Pointer
	row, pixel int            // bytes in the destination
	res        unsafe.Pointer // nil without residual
	resRow     int
	resPixel   int
	bias       *float32
	vectors    int
	mask       int
	temp       unsafe.Pointer // m×n vectors
	activation int
	low, high  float32
	_          uint64 // where bias is
}

//go:noescape
func winograd2Input512(args *inputArgs)

//go:noescape
func winograd4Input512(args *inputArgs)

//go:noescape
func winograd2Output512(args *outputArgs)

//go:noescape
func winograd4Output512(args *outputArgs)

//go:noescape
func winograd2InputBF16(args *inputArgs)

//go:noescape
func winograd4InputBF16(args *inputArgs)

//go:noescape
func winograd2OutputBF16(args *outputArgs)

//go:noescape
func winograd4OutputBF16(args *outputArgs)

//go:noescape
func winograd2Input256(args *inputArgs)

//go:noescape
func winograd4Input256(args *inputArgs)

//go:noescape
func winograd2Output256(args *outputArgs)

//go:noescape
func winograd4Output256(args *outputArgs)

// winogradConv is a 3×3 convolution whose weights are transformed.
type winogradConv struct {
	spec    ConvSpec
	size    productSize
	m, n    int // outputs and inputs of a tile along an axis
	points  int
	vectors int // of input channels
	groups  int // of four input channels
	panels  int
	weights []float32 // [point][panel][4*groups input channels][output channel of the panel]
	bias    []float32 // zeros behind the last channel
}

func newWinogradConv(s ConvSpec) *winogradConv {
	n, size := s.Winograd+2, productsOf(s.Tier)
	panel := size.panel()
	c := &winogradConv{
		spec: s, size: size, m: s.Winograd, n: n, points: n * n, groups: (s.In + 3) / 4,
		vectors: (s.In + size.lanes - 1) / size.lanes, panels: (s.Out + panel - 1) / panel,
	}
	c.bias = make([]float32, c.panels*panel)
	return c
}

// block is the number of weights of a panel at one point.
func (c *winogradConv) block() int { return 4 * c.groups * c.size.panel() }

func (c *winogradConv) bytes() int { return 4 * c.points * c.panels * c.block() }

func (c *winogradConv) pack(each parallel, memory []byte, w *weights, bias []float32) {
	c.weights = floats(memory)
	packBias(c.bias, bias, c.spec.Out, c.size.panel())
	each(c.panels, func(panel int) { c.packPanel(w, panel) })
}

func (c *winogradConv) packPanel(w *weights, panel int) {
	g := winogradG(c.m)
	block, width := c.block(), c.size.panel()
	next := c.panels * block
	if c.spec.In%4 > 0 || c.spec.Out-panel*width < width {
		for p := range c.points {
			clear(c.weights[p*next+panel*block:][:block])
		}
	}
	var points [36]float32
	for in := range c.spec.In {
		for o := range min(width, c.spec.Out-panel*width) {
			at := w.at + (panel*width+o)*w.out + in*w.in
			var taps [9]float64
			for t := range taps {
				taps[t] = float64(w.data[at+t/3*w.tapH+t%3*w.tapW])
			}
			transformWeights(points[:], g, &taps)
			to := panel*block + in*width + o
			for p := range c.points {
				c.weights[to+p*next] = points[p]
			}
		}
	}
}

// winogradCall is a winogradConv bound to maps.
type winogradCall struct {
	*winogradConv
	top    int // rows of zeros above an image and columns of them on its left
	left   int
	tilesH int // of an image
	tilesW int
	all    int // tiles
	bands  int // ranges of tiles
	parts  int // ranges of panels
	group  int // panels whose products are kept at a time
	// What the kernels read and write: float32, or bfloat16 where the maps are and there are kernels for it.
	from, to kernel.Format

	// Sizes in bytes.
	inputRow, inputPoint     int // transformed inputs: [point][tile][channel]
	productRow, productPoint int // products: [point][tile][channel]
	patch, outPatch          int // a tile's input and output where they reach beyond the map
}

func (c *winogradConv) bind(spec *ConvSpec, src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	v := &winogradCall{winogradConv: c, top: spec.PadTop, left: spec.PadLeft, from: c.format(&src), to: c.format(&dst)}
	v.tilesH, v.tilesW = (dst.H+c.m-1)/c.m, (dst.W+c.m-1)/c.m
	v.all = dst.N * v.tilesH * v.tilesW
	v.inputRow = oddLines(c.vectors * c.size.lanes * 4)
	costs := newWinogradCosts(c.m, &c.spec)
	best := math.Inf(1)
	var bestBands, bestGroup int
	// More than 64 bands a worker only where that takes as many to keep to the scratch memory of a task.
	for bands := 1; bands <= v.all && (bands <= 64*workers || math.IsInf(best, 1)); bands++ {
		for parts := 1; parts <= min(c.panels, 2*workers); parts++ {
			tiles, panels := (v.all+bands-1)/bands, (c.panels+parts-1)/parts
			for _, group := range []int{1, panels} {
				input, product := c.points*oddLines(tiles*v.inputRow), c.points*oddLines(tiles*group*c.size.panel()*4)
				if input+product > costs.scratch && tiles > 1 {
					continue
				}
				rounds := (bands*parts + workers - 1) / workers
				cost := v.taskCycles(&costs, tiles, panels, group, input, product) * (float64(rounds) + 0.1)
				if cost < best {
					best, bestBands, bestGroup, v.parts = cost, bands, group, parts
				}
			}
		}
	}
	v.bands, v.group = bestBands, bestGroup
	v.layOut()
	return v
}

// layOut sets the sizes of what a task has in memory.
func (v *winogradCall) layOut() {
	c := v.winogradConv
	tiles := (v.all + v.bands - 1) / v.bands
	v.inputPoint = oddLines(tiles * v.inputRow)
	v.productRow = v.group * c.size.panel() * 4
	v.productPoint = oddLines(tiles * v.productRow)
	v.patch = align64(c.points * c.spec.In * 4)
	v.outPatch = c.m * c.m * v.productRow
}

// format returns how the kernels take the values of a map.
func (c *winogradConv) format(m *kernel.Map) kernel.Format {
	if m.Format == kernel.BF16 && c.spec.Tier >= cpu.AVX512 && cpu.HasBF16() {
		return kernel.BF16
	}
	return kernel.F32
}

// taskCycles estimates what a task takes; input and product are bytes of scratch memory.
func (v *winogradCall) taskCycles(c *winogradCosts, tiles, panels, group, input, product int) float64 {
	const blockOverhead = 40 // of a block of rows
	blocks := (tiles + v.size.rows - 1) / v.size.rows
	compute := float64(panels) * (float64(tiles)*c.product + float64(blocks*v.points*blockOverhead))
	cycles := taskCycles + float64(tiles)*(c.input+float64(panels)*c.output)
	passes := (panels + group - 1) / group
	if input > c.operands {
		cycles += c.spill * float64(input) * float64(1+passes)
	}
	if product > c.operands {
		cycles += c.spill * float64(product) * float64(2*passes)
	}
	// Weights come from L2 if all of the task's stay there.
	weights := float64(panels) * c.weights
	rate := c.fetch
	if weights+float64(input+product) < float64(c.operands) {
		rate *= 4
	}
	return cycles + c.both(compute, weights, rate)
}

// oddLines rounds bytes up to an odd number of cache lines, so that equal places in a row of blocks fall on different sets.
func oddLines(bytes int) int { return ((bytes+63)/64 | 1) * 64 }

func (v *winogradCall) tasks() int { return v.bands * v.parts }

func (v *winogradCall) scratch() int {
	return 64 + v.points*64 + v.patch + 2*v.outPatch + v.points*(v.inputPoint+v.productPoint)
}

func (v *winogradCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	band, part := task%v.bands, task/v.bands
	first, last := band*v.all/v.bands, (band+1)*v.all/v.bands
	from, to := part*v.panels/v.parts, (part+1)*v.panels/v.parts
	if first == last || from == to {
		return
	}
	scratch = align(scratch, 64)
	cut := func(n int) []byte {
		b := scratch[:n]
		scratch = scratch[n:]
		return b
	}
	temp := unsafe.Pointer(unsafe.SliceData(cut(v.points * 64)))
	patch, outPatch, resPatch := cut(v.patch), cut(v.outPatch), cut(v.outPatch)
	inputs, products := cut(v.points*v.inputPoint), cut(v.points*v.productPoint)
	v.input(&src, inputs, patch, temp, first, last)
	for p := from; p < to; p += v.group {
		end := min(p+v.group, to)
		v.multiply(inputs, products, last-first, p, end)
		v.output(&dst, residual, products, outPatch, resPatch, temp, first, last, p, end)
	}
}

// tile returns where a tile begins in the output.
func (v *winogradCall) tile(t int) (image, y, x int) {
	return t / v.tilesW / v.tilesH, t / v.tilesW % v.tilesH * v.m, t % v.tilesW * v.m
}

// input transforms the input of tiles [first, last).
func (v *winogradCall) input(src *kernel.Map, inputs, patch []byte, temp unsafe.Pointer, first, last int) {
	size := v.from.Size()
	pixel := v.spec.In * size // of a patch
	args := inputArgs{point: v.inputPoint, temp: temp, vectors: v.vectors, mask: v.size.lastMask(v.spec.In)}
	for t := first; t < last; t++ {
		image, y, x := v.tile(t)
		y, x = y-v.top, x-v.left
		at := src.Off + image*src.Image + y*src.Row + x*src.Pixel
		if y >= 0 && x >= 0 && y+v.n <= src.H && x+v.n <= src.W && src.Format == v.from {
			args.src, _ = planes(src, at)
			args.row, args.pixel = src.Row*size, src.Pixel*size
		} else {
			args.src, args.row, args.pixel = unsafe.Pointer(&patch[0]), v.n*pixel, pixel
			left, right := max(0, -x), max(0, min(v.n, src.W-x)) // columns that there are
			for i := range v.n {
				row := patch[i*args.row:][:args.row]
				if y+i < 0 || y+i >= src.H || left >= right {
					clear(row)
					continue
				}
				clear(row[:left*pixel])
				clear(row[right*pixel:])
				for j := left; j < right; j++ {
					readPixel(row[j*pixel:][:pixel], v.from, src, at+i*src.Row+j*src.Pixel)
				}
			}
		}
		args.dst = unsafe.Pointer(&inputs[(t-first)*v.inputRow])
		args.transform(v.size, v.m, v.from)
	}
}

// readPixel copies values of a map to memory, in its format or as float32.
func readPixel(to []byte, format kernel.Format, m *kernel.Map, at int) {
	if format == kernel.BF16 {
		copy(words(to), m.Hi[at:])
	} else {
		loadAll(floats(to), m, at)
	}
}

// writePixel is readPixel the other way.
func writePixel(m *kernel.Map, at int, from []byte, format kernel.Format) {
	if format == kernel.BF16 {
		copy(m.Hi[at:], words(from))
	} else {
		store(m, at, floats(from))
	}
}

// words views memory that is aligned to it as words of 16 bits.
func words(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}

// transform calls the kernel for tiles of m×m outputs and maps of a format.
func (a *inputArgs) transform(s productSize, m int, f kernel.Format) {
	switch {
	case f == kernel.BF16 && m == 4:
		winograd4InputBF16(a)
	case f == kernel.BF16:
		winograd2InputBF16(a)
	case s == products512 && m == 4:
		winograd4Input512(a)
	case s == products512:
		winograd2Input512(a)
	case m == 4:
		winograd4Input256(a)
	default:
		winograd2Input256(a)
	}
}

// transform calls the kernel for tiles of m×m outputs and maps of a format.
func (a *outputArgs) transform(s productSize, m int, f kernel.Format) {
	switch {
	case f == kernel.BF16 && m == 4:
		winograd4OutputBF16(a)
	case f == kernel.BF16:
		winograd2OutputBF16(a)
	case s == products512 && m == 4:
		winograd4Output512(a)
	case s == products512:
		winograd2Output512(a)
	case m == 4:
		winograd4Output256(a)
	default:
		winograd2Output256(a)
	}
}

// lastMask returns the lanes of the last vector of channels as bits.
func (s productSize) lastMask(channels int) int { return 1<<((channels-1)%s.lanes+1) - 1 }

// multiply computes the products of all points for panels [from, to).
func (v *winogradCall) multiply(inputs, products []byte, tiles, from, to int) {
	run, width := [2]int32{0, int32(v.groups)}, v.size.panel()
	args := productArgs{aStride: v.inputRow, runs: &run[0], runCount: 1, cStride: v.productRow, bias: &noBias[0], mask: 1<<width - 1}
	args.low, args.high = bounds(kernel.None)
	block, most := v.block(), v.size.callRows(v.spec.Tier, v.groups)
	for point := range v.points {
		for p := from; p < to; p++ {
			// What comes after the last panel of a point is its first one at the next.
			next := point*v.panels + p + 1
			if p == to-1 {
				next = min(point+1, v.points-1)*v.panels + from
			}
			args.next = unsafe.Pointer(&v.weights[next*block])
			args.b = unsafe.Pointer(&v.weights[(point*v.panels+p)*block])
			for t := 0; t < tiles; t += most {
				args.a = unsafe.Pointer(&inputs[point*v.inputPoint+t*v.inputRow])
				args.c = unsafe.Pointer(&products[point*v.productPoint+t*v.productRow+(p-from)*width*4])
				args.multiply(v.size, min(most, tiles-t), t == 0)
			}
		}
	}
}

// output transforms the products of panels [from, to) for tiles [first, last).
func (v *winogradCall) output(dst, residual *kernel.Map, products, outPatch, resPatch []byte, temp unsafe.Pointer, first, last, from, to int) {
	channel := from * v.size.panel()
	channels := min(to*v.size.panel(), v.spec.Out) - channel
	args := outputArgs{point: v.productPoint, temp: temp, activation: int(v.spec.Activation), mask: v.size.lastMask(channels)}
	args.low, args.high = bounds(v.spec.Activation)
	args.vectors = (channels + v.size.lanes - 1) / v.size.lanes
	args.bias = &v.bias[channel]
	size := v.to.Size()
	pixel := channels * size // of a patch
	row := v.m * pixel
	for t := first; t < last; t++ {
		image, y, x := v.tile(t)
		rows, columns := min(v.m, dst.H-y), min(v.m, dst.W-x)
		at := dst.Off + image*dst.Image + y*dst.Row + x*dst.Pixel + channel
		resAt := 0
		if residual != nil {
			resAt = residual.Off + image*residual.Image + y*residual.Row + x*residual.Pixel + channel
		}
		whole := rows == v.m && columns == v.m && dst.Format == v.to
		if whole {
			args.dst, _ = planes(dst, at)
			args.row, args.pixel = dst.Row*size, dst.Pixel*size
			if residual != nil {
				args.res, _ = planes(residual, resAt)
				args.resRow, args.resPixel = residual.Row*size, residual.Pixel*size
			}
		} else {
			args.dst, args.row, args.pixel = unsafe.Pointer(&outPatch[0]), row, pixel
			if residual != nil {
				clear(resPatch[:v.m*row])
				for i := range rows {
					for j := range columns {
						readPixel(resPatch[i*row+j*pixel:][:pixel], v.to, residual, resAt+i*residual.Row+j*residual.Pixel)
					}
				}
				args.res, args.resRow, args.resPixel = unsafe.Pointer(&resPatch[0]), row, pixel
			}
		}
		args.src = unsafe.Pointer(&products[(t-first)*v.productRow])
		args.transform(v.size, v.m, v.to)
		if !whole {
			for i := range rows {
				for j := range columns {
					writePixel(dst, at+i*dst.Row+j*dst.Pixel, outPatch[i*row+j*pixel:][:pixel], v.to)
				}
			}
		}
	}
}

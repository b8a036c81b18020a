//go:build !noasm

package gemm

import (
	"math"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
)

// This file holds Winograd's method in AMX tiles: along the rows only, in strips of 1×4 outputs.
//
// At each of six points a convolution of the transformed input with a kernel that is one column wide remains. It is computed as
// tileConv computes convolutions: positions are strips, a tap is a constant offset, the sum runs over channels and the three taps in
// tile registers. That is half of the products. Tiles of 2×2 outputs, 2.25 times fewer products, would transform, store and read 4
// values for each input and output instead of 1.5. A task transforms the rows of its band; then for each panel it computes the products
// at all points, beside which the strips of the panel before are transformed to outputs.

// stripArgs are the arguments of the kernels that transform a row of the input. The offsets of the fields are known to
// _gen/gemm/winograd_strip.go.
type stripArgs struct {
	src    unsafe.Pointer // first pixel of the row, hi plane
	low    int            // bytes from the hi plane to the lo plane
	first  int            // bytes from src to the first pixel of the first strip
	pixel  int            // bytes between pixels
	step   int            // bytes between strips
	dst    unsafe.Pointer // first strip, point 0, block 0, hi plane
	dstLow int
	point  int // bytes between points and blocks of channels
	block  int
	blocks int
	mask   int // channels of the last block as bits
	tiles  int
	masks  *uint32 // stripPoints for each strip: all ones where the pixel exists, else zero
	_      uint64
}

// strip is a tile of 1×4 outputs.
type strip struct {
	products int32 // byte offset from those of the first
	row      int32 // byte offset of the first of its rows; the next begins behind its last
}

//go:noescape
func winogradStripRound(args *stripArgs)

//go:noescape
func winogradStripSplit(args *stripArgs)

//go:noescape
func winogradStripMedium(args *tileArgs)

//go:noescape
func winogradStripHigh(args *tileArgs)

//go:noescape
func winogradStripOutput(args *tileArgs)

// stripConv is a 3×3 convolution whose weights are transformed along their rows.
type stripConv struct {
	spec   ConvSpec
	grain  grain
	depth  depth // of what is computed at a point (tapOf); its bundles are the points
	panels int
	// weights is [panel][point][step][plane][parity][16 pairs of values][16 channels][2 values], as in tileConv.
	weights []uint16
	bias    []float32 // [panel][parity][16]
	config  tileConfig
}

func newStripConv(s ConvSpec) *stripConv {
	c := &stripConv{spec: s, grain: tileGrain, config: fullTiles(), panels: (s.Out + tilePanel - 1) / tilePanel}
	if s.Precision == engine.High {
		c.grain.planes = 2
	}
	blocks := (s.In + tileValues - 1) / tileValues
	c.depth = depth{bundles: stripPoints, bundleIn: s.In, bundleOut: s.Out, channels: tileValues, blocks: blocks, blocked: true}
	for b := range blocks {
		for ky := range s.KernelH {
			c.depth.runs = append(c.depth.runs, run{b, ky, 0, tileValues})
		}
	}
	c.bias = make([]float32, c.panels*tilePanel)
	return c
}

func (c *stripConv) steps() int      { return len(c.depth.runs) }
func (c *stripConv) stepBytes() int  { return c.grain.planes * 2 * 1024 }
func (c *stripConv) panelBytes() int { return stripPoints * c.steps() * c.stepBytes() }
func (c *stripConv) bytes() int      { return c.panels * c.panelBytes() }

// at returns the weights of a panel at a point.
func (c *stripConv) at(panel, point int) []uint16 {
	return c.weights[(panel*stripPoints+point)*c.steps()*c.stepBytes()/2:]
}

// tapOf returns the convolution that is computed at a point: its kernel has one column.
func tapOf(s ConvSpec) ConvSpec {
	s.KernelW, s.PadLeft, s.PadRight = 1, 0, 0
	return s
}

func (c *stripConv) pack(each parallel, memory []byte, w *weights, bias []float32) {
	c.weights = words(memory)
	packTileBias(c.bias, bias, c.spec.Out)
	each(c.panels, func(panel int) { c.packPanel(w, panel) })
}

func (c *stripConv) packPanel(w *weights, panel int) {
	g := winogradG(stripOutputs)
	outs := min(tilePanel, c.spec.Out-panel*tilePanel)
	var taps [3][tilePanel][tileValues]float32
	var packer stepPacker
	for step, r := range c.depth.runs {
		first := r.block * tileValues
		ins := min(tileValues, c.spec.In-first)
		clear(taps[:])
		for o := range outs {
			at := w.at + (panel*tilePanel+o)*w.out + first*w.in + r.ky*w.tapH
			for i := range ins {
				for kx := range taps {
					taps[kx][o][i] = w.data[at+kx*w.tapW]
				}
				at += w.in
			}
		}
		for point := range stripPoints {
			// The products are exact in float64, and the sum is rounded once.
			g0, g1, g2 := g[point][0], g[point][1], g[point][2]
			for o := range outs {
				a, b, c, v := &taps[0][o], &taps[1][o], &taps[2][o], &packer.values[o]
				for i := range v {
					v[i] = float32(g0*float64(a[i]) + g1*float64(b[i]) + g2*float64(c[i]))
				}
			}
			packer.pack(c.at(panel, point)[step*c.stepBytes()/2:], c.grain.planes)
		}
	}
}

// stripCall is a stripConv bound to maps.
type stripCall struct {
	*stripConv
	geometry         // of the taps: its columns are strips
	offsets  []int32 // byte offset of each step
	parts    int     // divisions of the panels
	tiles    []int32 // as in tileCall
	strips   []strip
	masks    []uint32
	fetch    [8]uint8 // as in tileArgs
	most     int      // blocks in a call
	srcW     int      // pixels of a row of the source
	srcLeft  int      // columns of zeros left of them
}

func (c *stripConv) bind(spec *ConvSpec, src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	t := &stripCall{stripConv: c, srcW: src.W, srcLeft: spec.PadLeft}
	tap := tapOf(*spec)
	from, to := src, dst
	to.W = (dst.W + stripOutputs - 1) / stripOutputs
	from.W = to.W
	t.geometry = newGeometry(&tap, &c.depth, c.grain, &from, &to, nil, false)
	t.choose(workers)
	for _, r := range c.depth.runs {
		t.offsets = append(t.offsets, int32(t.offset(&tap, r)))
	}
	blocks := c.grain.blocks(t.positions)
	t.tiles = make([]int32, 2*blocks)
	listTiles(t.tiles, t.pixel)
	t.listStrips(&dst, residual)
	t.masks = make([]uint32, 0, to.W*stripPoints)
	for tile := range to.W {
		for i := range stripPoints {
			mask := uint32(0)
			if x := tile*stripOutputs + i - t.srcLeft; x >= 0 && x < src.W {
				mask = math.MaxUint32
			}
			t.masks = append(t.masks, mask)
		}
	}
	if t.cold() {
		t.fetch = fetches(t.grain.planes, t.stepBytes(), blocks)
	}
	t.most = max(1, int(callCycles/tileBlockCycles(t.spec.Precision, t.steps())))
	return t
}

func (c *stripConv) cold() bool { return c.panels*c.panelBytes() >= coldWeights }

// choose divides the output into bands and the panels into parts, as geometry.choose does.
func (t *stripCall) choose(workers int) {
	const (
		// The transformed input, the products of two panels and the output should stay in L2. What lies beyond costs less than
		// small bands do.
		inL2     = 1 << 20
		perSpill = 0.1 // of the time of products, for as much again
	)
	best := math.Inf(1)
	var bestRows, bestImages int
	t.eachDivision(t.grain, workers, func(rows, images int) {
		q := t.geometry
		q.setBands(rows, images, &t.depth, t.grain)
		blocks := t.grain.blocks(q.positions)
		input := float64((images*(rows+q.extra))*q.ow*t.depth.blocks) * stripInput
		output := float64(images*rows*q.ow) * stripOutput
		product := float64(stripPoints*blocks) * tileBlockCycles(t.spec.Precision, t.steps())
		kept := q.stagedBytes(t.grain) + 2*t.productBytes(blocks) + images*rows*q.ow*stripOutputs*t.spec.Out*t.grain.planes*2
		product *= 1 + perSpill*max(0, float64(kept)/inL2-1)
		for n := 1; n <= min(t.panels, 4*workers); n++ {
			per := (t.panels + n - 1) / n
			task := taskCycles + input + output + float64(per)*product
			rounds, fetches := q.rounds(n, workers, per*t.panelBytes())
			load := float64(fetches*per*t.panelBytes()) / weightBytesPerCycle * weightsUnhidden
			if cost := float64(rounds)*task + imbalance*task + load; cost < best {
				best, bestRows, bestImages, t.parts = cost, rows, images, n
			}
		}
	})
	t.setBands(bestRows, bestImages, &t.depth, t.grain)
}

// listStrips writes the strips of a full band and the rows that they become.
func (t *stripCall) listStrips(dst, residual *kernel.Map) {
	for n := range t.bandImages {
		for y := range t.bandRows {
			for x := range t.ow {
				position := (n*t.imageRows+y)*t.pitch + x
				t.addStrip(position)
				for i := range min(stripOutputs, dst.W-x*stripOutputs) {
					e := rowEntry{sums: int32(i * tilePanel * 4), dst: int32(n*dst.Image + y*dst.Row + (x*stripOutputs+i)*dst.Pixel)}
					if residual != nil {
						e.res = int32(n*residual.Image + y*residual.Row + (x*stripOutputs+i)*residual.Pixel)
					}
					t.geometry.rows = append(t.geometry.rows, e)
				}
			}
		}
	}
	t.addStrip(0) // where the rows of the last one end
}

func (t *stripCall) addStrip(position int) {
	t.strips = append(t.strips, strip{int32(position * tilePanel * 4), int32(len(t.geometry.rows) * int(unsafe.Sizeof(rowEntry{})))})
}

// pointStep is the distance of the products of two points.
func (t *stripCall) pointStep(blocks int) int { return blocks*sumsBytes + 128 }

// productBytes is the memory for the products of a panel.
func (t *stripCall) productBytes(blocks int) int { return stripPoints * t.pointStep(blocks) }

func (t *stripCall) tasks() int { return t.bands * t.parts }

// rowBytes is the memory for a row of the source in the format that the kernels read.
func (t *stripCall) rowBytes() int { return align64(t.grain.planes * t.srcW * t.spec.In * 2) }

// outputBytes is the memory for the sums of a strip.
const outputBytes = stripOutputs * tilePanel * 4

func (t *stripCall) scratch() int {
	return 64 + outputBytes + awakeBytes + t.rowBytes() + 2*t.productBytes(t.grain.blocks(t.positions)) + t.stagedBytes(t.grain)
}

func (t *stripCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	b, from, to := t.share(task, t.panels, t.parts, t.cold())
	if from == to {
		return
	}
	blocks := t.grain.blocks(b.positions)
	scratch = align(scratch, 64)
	cut := func(n int) []byte {
		part := scratch[:n]
		scratch = scratch[n:]
		return part
	}
	outputs, awake, row := cut(outputBytes), cut(awakeBytes), cut(t.rowBytes())
	products := [2][]byte{cut(t.productBytes(blocks)), cut(t.productBytes(blocks))}
	t.input(&src, b, scratch, row)
	strips, productSteps := b.images*b.rows*t.ow, stripPoints*blocks*t.steps()
	args := tileArgs{
		config: &t.config, aStride: t.pixel, aLow: t.planeBytes, offsets: &t.offsets[0], steps: t.steps(), chunk: t.steps(), panels: 1, groups: 1,
		fetch: t.fetch, ahead: t.steps() * t.stepBytes(), share: (strips + productSteps - 1) / productSteps, awake: unsafe.Pointer(&awake[0]),
		format: int(dst.Format), activation: int(t.spec.Activation), rowLoop: rowLoopOf(dst.Format, residual != nil, t.spec.Activation),
		bias: &t.bias[0], sums: unsafe.Pointer(&outputs[0]), pointStep: t.pointStep(blocks), rows: &t.geometry.rows[0],
	}
	args.low, args.high = bounds(t.spec.Activation)
	for panel := from; panel < to; panel++ {
		to := products[panel&1]
		t.multiply(&args, panel, blocks, to, scratch)
		// The strips of this panel are finished beside the products of the next.
		args.points = unsafe.Pointer(&to[0])
		args.strips, args.stripCount = &t.strips[0], strips
		channel := panel * tilePanel
		args.bias = &t.bias[channel]
		args.mask = 1<<min(t.spec.Out-channel, tilePanel) - 1
		args.dst, args.dstLow = planes(&dst, dst.Off+b.image*dst.Image+b.row*dst.Row+channel)
		if residual != nil {
			args.res, args.resLow = planes(residual, residual.Off+b.image*residual.Image+b.row*residual.Row+channel)
		}
	}
	winogradStripOutput(&args)
}

// multiply computes the products of a panel at all points.
func (t *stripCall) multiply(args *tileArgs, panel, blocks int, products, inputs []byte) {
	for point := range stripPoints {
		args.a = unsafe.Pointer(&inputs[point*t.depth.blocks*t.blockBytes])
		args.b = unsafe.Pointer(&t.at(panel, point)[0])
		for block := 0; block < blocks; block += t.most {
			args.blocks = min(t.most, blocks-block)
			args.tiles = &t.tiles[2*block]
			args.products = unsafe.Pointer(&products[point*args.pointStep+block*sumsBytes])
			if t.grain.planes == 2 {
				winogradStripHigh(args)
			} else {
				winogradStripMedium(args)
			}
		}
	}
}

// input transforms the rows of a band.
func (t *stripCall) input(src *kernel.Map, b band, scratch, row []byte) {
	native := src.Format == t.grain.format()
	args := stripArgs{
		dstLow: t.planeBytes, point: t.depth.blocks * t.blockBytes, block: t.blockBytes, blocks: t.depth.blocks,
		mask: 1<<((t.spec.In-1)%tileValues+1) - 1, tiles: t.ow, masks: &t.masks[0],
	}
	width := t.ow * t.pixel
	for n := range b.images {
		rows := b.rows + t.extra
		if n < b.images-1 {
			rows = min(rows, t.imageRows) // the rest is the next image's first rows
		}
		for j := range rows {
			at := (n*t.imageRows + j) * width
			y := b.row + j - t.top
			if y < 0 || y >= src.H {
				for plane := range t.grain.planes {
					for i := range stripPoints * t.depth.blocks {
						clear(scratch[plane*t.planeBytes+i*t.blockBytes+at:][:width])
					}
				}
				continue
			}
			e := src.Off + (b.image+n)*src.Image + y*src.Row
			pixel := src.Pixel
			if native {
				args.src = unsafe.Pointer(&src.Hi[e])
				if t.grain.planes == 2 {
					args.low = int(uintptr(unsafe.Pointer(&src.Lo[e])) - uintptr(args.src))
				}
			} else {
				pixel = t.spec.In
				t.convertRow(src, e, row)
				args.src, args.low = unsafe.Pointer(&row[0]), t.srcW*pixel*2
			}
			args.first, args.pixel, args.step = -t.srcLeft*pixel*2, pixel*2, stripOutputs*pixel*2
			args.dst = unsafe.Pointer(&scratch[at])
			if t.grain.planes == 2 {
				winogradStripSplit(&args)
			} else {
				winogradStripRound(&args)
			}
		}
	}
}

// convertRow writes a row of another format in the planes that the kernels read.
func (t *stripCall) convertRow(src *kernel.Map, e int, row []byte) {
	in := t.spec.In
	planes := unsafe.Slice((*uint16)(unsafe.Pointer(&row[0])), t.grain.planes*t.srcW*in)
	for x := range t.srcW {
		var lo []uint16
		if t.grain.planes == 2 {
			lo = planes[(t.srcW+x)*in:][:in]
		}
		loadPlanes(planes[x*in:][:in], lo, src, e+x*src.Pixel)
	}
}

//go:build !noasm

package gemm

import (
	"encoding/binary"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// weightForm is how weights are packed.
type weightForm uint8

const (
	plain  weightForm = iota // float32
	narrow                   // whole numbers of 20 bits, with a scale for each channel
	pairs                    // bfloat16, two values of a run together
)

// bits returns the size of a weight.
func (f weightForm) bits() int { return [...]int{plain: 32, narrow: narrowBits, pairs: 16}[f] }

// vectorConv is a convolution packed for float32 vectors.
type vectorConv struct {
	spec   ConvSpec
	depth  depth
	grain  grain
	panels int // per bundle
	groups int // of unroll values in all runs
	// weights is [bundle][panel][run][value][channel of the panel].
	weights []float32
	// packed is there instead of weights if form is not plain. Pairs are [bundle][panel][run][pair of values][channel of the panel][2 values];
	// narrow weights are [bundle][panel], of that [run][value][pair of channels] of five bytes, and behind all of them [channel] scales.
	packed   []byte
	form     weightForm
	group    groupedSize // of the kernel where small groups have one of their own
	products productSize // of the kernel unless form is narrow
	unroll   int         // values that the kernel sums per loop: runs are padded to it with zero weights
	bias     []float32   // [bundle][panel][channel of the panel]
}

func newVectorConv(s ConvSpec) *vectorConv {
	c := &vectorConv{spec: s, products: productsOf(s.Tier), unroll: unrollValues}
	group := s.grouped()
	switch {
	case s.paired() && (group.lanes == 0 || group.channels == groupedChannels):
		// Pairs are worth twice as much as float32: as much as a kernel without the idle lanes of groups of 16 channels, and less than one
		// without those of fewer.
		c.form, c.unroll, c.products = pairs, 2*unrollValues, productsPairs512
		c.grain = grain{element: 2, planes: 1, block: 32, rows: c.products.rows, panel: c.products.panel(), tier: cpu.AVX512, least: 1}
	case s.Linear && s.Precision == engine.High && s.Tier >= cpu.AMX:
		// Time is in reading the weights: float32 arithmetic on weights of 20 bits.
		c.form = narrow
		c.grain = grain{element: 4, planes: 1, block: 16, rows: positionsNarrow, panel: 32, tier: cpu.AVX512, least: positionsNarrow}
	default:
		c.group = group
		c.grain = grain{element: 4, planes: 1, block: 16, rows: c.products.rows, panel: c.products.panel(), tier: min(s.Tier, cpu.AVX512), least: 1}
	}
	if c.grouped() {
		c.grain.panel = groupedChannels
		c.depth = groupedDepth(&s)
	} else {
		c.depth = newDepth(s, c.grain)
	}
	d := &c.depth
	for _, r := range d.runs {
		c.groups += (r.n + c.unroll - 1) / c.unroll
	}
	panel := c.grain.panel
	c.panels = (d.bundleOut + panel - 1) / panel
	c.bias = make([]float32, d.bundles*c.panels*panel)
	return c
}

func (c *vectorConv) bytes() int { return c.depth.bundles * c.panels * c.panelBytes() }

func (c *vectorConv) pack(each parallel, memory []byte, w *weights, bias []float32) {
	if c.form == plain {
		c.weights = floats(memory)
	} else {
		c.packed = memory
	}
	packBias(c.bias, bias, c.depth.bundleOut, c.grain.panel)
	each(c.depth.bundles*c.panels, func(panel int) {
		if c.depth.bundleOut-panel%c.panels*c.grain.panel < c.grain.panel {
			clear(memory[panel*c.panelBytes():][:c.panelBytes()]) // where there are no channels
		}
		switch {
		case c.grouped():
			c.packGroups(w, panel)
		case c.form == narrow:
			c.packNarrow(w, panel)
		default:
			c.packPanel(w, panel)
		}
	})
}

func (c *vectorConv) packPanel(w *weights, panel int) {
	const chunk = 256 // values gathered at a time: the packed chunk of a panel stays in L1
	var values [chunk]float32
	d := &c.depth
	width := c.grain.panel
	at := panel * c.panelBytes() * 8 / c.form.bits()
	bundle, first := panel/c.panels, panel%c.panels*width
	for _, r := range d.runs {
		for from := 0; from < r.n; from += chunk {
			v := values[:min(chunk, (r.n-from+c.unroll-1)/c.unroll*c.unroll)]
			for o := range min(width, d.bundleOut-first) {
				d.gather(v, &c.spec, w, bundle, r, from, first+o)
				c.put(at, o, v)
			}
			at += len(v) * width
		}
	}
}

// put stores values of a run for one channel of a panel, of which weight at is the first.
func (c *vectorConv) put(at, channel int, values []float32) {
	panel := c.grain.panel
	if c.form == pairs {
		for j, x := range values {
			binary.LittleEndian.PutUint16(c.packed[2*(at+j/2*2*panel+2*channel+j%2):], kernel.ToBF16(x))
		}
		return
	}
	to := c.weights[at+channel:]
	for j, x := range values {
		to[j*panel] = x
	}
}

// grouped reports whether a kernel of small groups computes the convolution.
func (c *vectorConv) grouped() bool { return c.group.lanes > 0 }

// panelBytes is the size of the packed weights of a panel.
func (c *vectorConv) panelBytes() int {
	if c.grouped() {
		return len(c.depth.runs) * c.group.channels * groupedChannels * 4
	}
	n := c.groups * c.unroll * c.grain.panel * c.form.bits() / 8
	if c.form == narrow {
		n += c.grain.panel * scaleBytes
	}
	return n
}

// panelWeights returns where the packed weights of a panel are.
func (c *vectorConv) panelWeights(panel int) unsafe.Pointer {
	if c.form == plain {
		return unsafe.Pointer(&c.weights[panel*c.panelBytes()/4])
	}
	return unsafe.Pointer(&c.packed[panel*c.panelBytes()])
}

// sumsBytes is the size of the sums of a block and a panel.
func (c *vectorConv) sumsBytes() int { return c.grain.rows * c.grain.panel * 4 }

// vectorCall is a vectorConv bound to maps.
type vectorCall struct {
	*vectorConv
	geometry
	grain    grain   // the convolution's, with fewer rows for few positions
	runs     []int32 // byte offset and groups of each run
	taps     []int32 // byte offset of each tap, for small groups
	parts    int
	aStride  int
	blockMax int
	joined   bool // the rows of an image are computed as one
	// converts says that the kernel cannot write the destination's format: the sums then go to scratch memory first, and are converted in
	// plain Go. That is for linear layers before maps of other formats.
	converts bool
	sums     kernel.Map
}

func (c *vectorConv) bind(spec *ConvSpec, src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	v := &vectorCall{vectorConv: c, grain: c.grain}
	if oh, ow := spec.OutputSize(src.H, src.W); c.form == narrow && src.N*oh*ow <= positionsFew {
		v.grain.rows, v.grain.least = positionsFew, positionsFew
	}
	if v.converts = !c.writes(dst.Format); v.converts {
		v.sums = kernel.Layout(kernel.F32, dst.N, dst.H, dst.W, dst.C, 0)
		dst = v.sums
		if residual != nil {
			residual = &v.sums
		}
	}
	// The kernel reads whole groups of values, so a map can be read itself only if its channels are such.
	directable := src.Format == c.grain.format() && c.depth.bundleIn%c.unroll == 0 && c.depth.bundles == 1 && !c.grouped()
	few := 4096 // bytes between pixels at which the rows of a block would share few cache sets
	if c.form == narrow {
		few = 1024
	}
	if step, even := uniform(&src); even && step*c.grain.element%few == 0 && c.depth.bundleIn >= 256 {
		directable = false
	}
	v.geometry = newGeometry(spec, &c.depth, v.grain, &src, &dst, residual, directable)
	if c.form != narrow {
		v.joined = v.rowsJoin(&dst, residual)
		v.parts = v.chooseLines(workers)
	} else {
		perBlock := float64(2*c.groups*c.unroll*v.grain.rows*v.grain.panel)/flopsPerCycle*1.1 + 150
		v.blockMax = max(1, int(callCycles/perBlock))
		v.parts = v.choose(v.grain, &c.depth, costs{perBlock: perBlock, panels: c.depth.bundles * c.panels, panelBytes: c.panelBytes(), stage: stageCycles}, workers)
	}
	if c.form == narrow || v.converts {
		v.listRows(v.grain, &dst, residual, v.grain.panel*4)
	}
	v.aStride = v.stride * v.pixel
	if v.direct {
		step, _ := uniform(&src)
		v.aStride = step * c.grain.element
	}
	for _, r := range c.depth.runs {
		at := 0
		if !v.direct {
			at = v.offset(spec, r)
		}
		v.taps = append(v.taps, int32(at))
		v.runs = append(v.runs, int32(at), int32((r.n+c.unroll-1)/c.unroll))
	}
	return v
}

// writes reports whether the kernel can write maps of a format.
func (c *vectorConv) writes(f kernel.Format) bool {
	halves := c.form == pairs || c.grouped() && c.spec.Tier >= cpu.AVX512 && cpu.HasBF16() && c.spec.Activation <= kernel.ReLU6
	return f == kernel.F32 || f == kernel.BF16 && halves
}

func (v *vectorCall) tasks() int { return v.bands * v.parts }

func (v *vectorCall) scratch() int {
	converted := 0
	if v.converts {
		converted = 64 + 4*v.sums.Elements()
	}
	return converted + 64 + v.sumsBytes() + spareRows*int(unsafe.Sizeof(rowEntry{})) + 64 + v.stagedBytes(v.grain)
}

func (v *vectorCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	if !v.converts {
		v.compute(task, src, dst, residual, scratch)
		return
	}
	scratch = align(scratch, 64)
	sums := v.sums.Over(floats(scratch), nil, nil)
	var added *kernel.Map
	if residual != nil {
		v.each(task, func(at, n, y, x, from, to int) {
			for c := from; c < to; c++ {
				sums.F32[at+c] = residual.At(n, y, x, c)
			}
		})
		added = &sums
	}
	v.compute(task, src, sums, added, scratch[4*v.sums.Elements():])
	v.each(task, func(at, n, y, x, from, to int) {
		store(&dst, dst.Off+n*dst.Image+y*dst.Row+x*dst.Pixel+from, sums.F32[at+from:at+to])
	})
}

// each calls f for the pixels and the blocks of channels that a task writes; at is the pixel's element of v.sums.
func (v *vectorCall) each(task int, f func(at, n, y, x, from, to int)) {
	b, first, last := v.share(task, v.depth.bundles*v.panels, v.parts, true)
	m := &v.sums
	for _, e := range v.geometry.rows[:b.entries] {
		at := v.origin(m, b) + int(e.dst)
		pixel := at / m.C
		for p := first; p < last; p++ {
			from := p % v.panels * v.grain.panel
			to := min(from+v.grain.panel, v.depth.bundleOut)
			channel := p / v.panels * v.depth.bundleOut
			f(at, pixel/m.W/m.H, pixel/m.W%m.H, pixel%m.W, channel+from, channel+to)
		}
	}
}

// compute is run into a format that the kernel writes.
func (v *vectorCall) compute(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	if v.form == narrow {
		v.multiplyNarrow(task, src, dst, residual, scratch)
	} else {
		v.multiply(task, src, dst, residual, scratch)
	}
}

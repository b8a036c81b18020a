//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Sizes of the float32 kernels: positions times two vectors of output channels, as many as the registers hold beside two
// vectors of weights and two broadcast values.
const (
	positions512 = 14 // 28 of 32 registers
	positions256 = 6  // 12 of 16 registers
	// unrollValues is how many values of a run the kernels sum per loop: runs are padded to it with zero weights.
	unrollValues = 4
	// flopsPerCycle is what a core does: two fused multiply-adds of 16 or 8 values.
	flopsPerCycle512 = 64
	flopsPerCycle256 = 32
)

//go:noescape
func fma512(args *tileArgs)

//go:noescape
func fma256(args *tileArgs)

// vectorConv is a convolution packed for float32 vectors.
type vectorConv struct {
	spec   ConvSpec
	depth  depth
	grain  grain
	panels int // per bundle
	groups int // of unrollValues in all runs
	// weights is [bundle][panel][run][value][channel of the panel].
	weights []float32
	bias    []float32 // [bundle][panel][channel of the panel]
	flops   float64   // per cycle
}

func newVectorConv(s ConvSpec, weight, bias []float32) *vectorConv {
	c := &vectorConv{spec: s}
	if s.Tier >= cpu.AVX512 {
		c.grain = grain{element: 4, planes: 1, block: 16, rows: positions512, panel: 32, tier: cpu.AVX512, least: positions512}
		c.flops = flopsPerCycle512
	} else {
		c.grain = grain{element: 4, planes: 1, block: 16, rows: positions256, panel: 16, tier: cpu.AVX2, least: positions256}
		c.flops = flopsPerCycle256
	}
	c.depth = newDepth(s, c.grain)
	d := &c.depth
	for _, r := range d.runs {
		c.groups += (r.n + unrollValues - 1) / unrollValues
	}
	panel := c.grain.panel
	c.panels = (d.bundleOut + panel - 1) / panel
	c.weights = make([]float32, d.bundles*c.panels*c.groups*unrollValues*panel)
	c.bias = make([]float32, d.bundles*c.panels*panel)
	at := 0
	for b := range d.bundles {
		for p := range c.panels {
			n := min(panel, d.bundleOut-p*panel)
			if bias != nil {
				copy(c.bias[(b*c.panels+p)*panel:], bias[b*d.bundleOut+p*panel:][:n])
			}
			for _, r := range d.runs {
				for j := range r.n {
					for o := range n {
						if i := d.weightAt(&s, b, r, j, p*panel+o); i >= 0 {
							c.weights[at+j*panel+o] = weight[i]
						}
					}
				}
				at += (r.n + unrollValues - 1) / unrollValues * unrollValues * panel
			}
		}
	}
	return c
}

func (c *vectorConv) bytes() int { return 4 * (len(c.weights) + len(c.bias)) }

func (c *vectorConv) panelBytes() int { return c.groups * unrollValues * c.grain.panel * 4 }

// vectorCall is a vectorConv bound to maps.
type vectorCall struct {
	*vectorConv
	geometry
	runs     []int32 // byte offset and groups of each run
	parts    int
	aStride  int
	blockMax int
}

func (c *vectorConv) bind(src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	v := &vectorCall{vectorConv: c}
	// The kernel reads whole groups of values, so a map can be read itself only if its channels are such.
	directable := src.Format == kernel.F32 && c.depth.bundleIn%unrollValues == 0 && c.depth.bundles == 1
	if step, even := uniform(&src); even && step*4%1024 == 0 && c.depth.bundleIn >= 256 {
		directable = false // the rows of a block would share few cache sets
	}
	v.geometry = newGeometry(&c.spec, &c.depth, c.grain, &src, &dst, residual, directable)
	perBlock := float64(2*c.groups*unrollValues*c.grain.rows*c.grain.panel)/c.flops*1.1 + 150
	v.parts = v.choose(c.grain, &c.depth, costs{perBlock: perBlock, panels: c.depth.bundles * c.panels, panelBytes: c.panelBytes()}, workers)
	v.blockMax = max(1, int(callCycles/perBlock))
	v.listRows(c.grain, &dst, residual, c.grain.panel*4)
	v.aStride = v.stride * v.pixel
	if v.direct {
		step, _ := uniform(&src)
		v.aStride = step * 4
	}
	for _, r := range c.depth.runs {
		at := 0
		if !v.direct {
			at = v.offset(&c.spec, r)
		}
		v.runs = append(v.runs, int32(at), int32((r.n+unrollValues-1)/unrollValues))
	}
	return v
}

func (v *vectorCall) tasks() int { return v.bands * v.parts }

func (v *vectorCall) scratch() int {
	return 64 + v.grain.rows*v.grain.panel*4 + spareRows*int(unsafe.Sizeof(rowEntry{})) + 64 + v.stagedBytes(v.grain)
}

func (v *vectorCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	d := &v.depth
	b := v.band(task % v.bands)
	panels := d.bundles * v.panels
	part := task / v.bands
	from, to := part*panels/v.parts, (part+1)*panels/v.parts
	if from == to {
		return
	}
	scratch = align(scratch, 64)
	rows, panelWidth := v.grain.rows, v.grain.panel
	args := tileArgs{
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
	scratch = scratch[rows*panelWidth*4:]
	spare := unsafe.Slice((*rowEntry)(unsafe.Pointer(&scratch[0])), spareRows)
	scratch = align(scratch[spareRows*unsafe.Sizeof(rowEntry{}):], 64)
	firstBundle, lastBundle := from/v.panels, (to-1)/v.panels
	var a unsafe.Pointer
	var first, positions int
	if v.direct {
		first = (b.image*v.imageRows + b.row) * v.pitch
		positions = v.n * v.oh * v.ow
		a = unsafe.Add(unsafe.Pointer(&src.F32[src.Off]), first*v.aStride)
	} else {
		stage(&v.geometry, &v.spec, d, v.grain, &src, b, scratch, firstBundle, lastBundle+1)
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
			args.b = unsafe.Pointer(&v.weights[panel*v.panelBytes()/4])
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
				v.call(&args)
			}
			if full < blocks {
				// The last block begins earlier, so as not to read behind the map: some positions are computed twice.
				at := full * rows
				begin := min(at, positions-first-rows)
				table := v.geometry.rows[v.starts[full]:min(int(v.starts[full+1]), b.entries)]
				for i, e := range table {
					e.sums += int32((at - begin) * panelWidth * 4)
					spare[i] = e
				}
				starts := (*[2]int32)(unsafe.Pointer(&spare[tileBlock]))
				*starts = [2]int32{0, int32(len(table))}
				args.a0 = unsafe.Add(aBundle, begin*v.aStride)
				args.blocks = 1
				args.rows, args.starts, args.limit = &spare[0], &starts[0], len(table)
				v.call(&args)
				args.rows, args.limit = &v.geometry.rows[0], b.entries
			}
		}
	}
}

func (v *vectorCall) call(args *tileArgs) {
	if v.grain.tier >= cpu.AVX512 {
		fma512(args)
	} else {
		fma256(args)
	}
}

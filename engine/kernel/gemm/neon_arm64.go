//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
)

// Sizes of the NEON kernel: 6 positions × 4 vectors of 4 channels are 24 of 32 registers.
const (
	neonPositions = 6
	neonPanel     = 16
)

// neonSums computes a block of sums, neonPositions rows of neonPanel, over count runs of a byte offset and a number of
// values each.
//
//go:noescape
func neonSums(sums *float32, a unsafe.Pointer, stride int, runs *int32, count int, weights *float32)

// choose chooses the kernel for a spec whose defaults are filled in. NEON is part of arm64.
func choose(s ConvSpec) packed {
	if s.Precision == engine.Medium {
		return newReference(s) // rounds its operands
	}
	return newNeonConv(s)
}

// newMultiplier chooses the kernel of a product.
func newMultiplier(p *Product) multiplier { return newVectorMultiplier(p) }

func newVectorMultiplier(p *Product) vectorMultiplier {
	return vectorMultiplier{rows: neonPositions, panel: neonPanel, tier: p.Tier}
}

func (v vectorMultiplier) multiply(dst []float32, ldd, rows, cols, depth int, add bool, a []float32, aStride int, b []float32) {
	run := [2]int32{0, int32(depth)}
	var sums [neonPositions * neonPanel]float32
	for j := 0; j < cols; j += v.panel {
		width := min(v.panel, cols-j)
		for i := 0; i < rows; i += v.rows {
			neonSums(&sums[0], unsafe.Pointer(&a[i*aStride]), 4*aStride, &run[0], 1, &b[j*depth])
			for r := range min(v.rows, rows-i) {
				to, row := dst[(i+r)*ldd+j:][:width], sums[r*v.panel:][:width]
				if !add {
					copy(to, row)
					continue
				}
				for c, x := range row {
					to[c] += x
				}
			}
		}
	}
}

// newOuter chooses the kernel of a gradient of weights whose sums lie in rows of the given width.
func newOuter(s *ConvSpec, width int) outer {
	return vectorOuter{newVectorMultiplier(&Product{M: 1, N: width, K: 1, Tier: s.Tier})}
}

// neonConv is a convolution packed for NEON.
type neonConv struct {
	spec    ConvSpec
	depth   depth
	grain   grain
	panels  int       // per bundle
	values  int       // of all runs
	weights []float32 // [bundle][panel][run][value][neonPanel]
	bias    []float32 // [bundle][panel][neonPanel]
}

func newNeonConv(s ConvSpec) *neonConv {
	c := &neonConv{spec: s, grain: grain{element: 4, planes: 1, block: 16, rows: neonPositions, panel: neonPanel, least: neonPositions}}
	c.depth = newDepth(s, c.grain)
	d := &c.depth
	for _, r := range d.runs {
		c.values += r.n
	}
	c.panels = (d.bundleOut + neonPanel - 1) / neonPanel
	c.bias = make([]float32, d.bundles*c.panels*neonPanel)
	return c
}

func (c *neonConv) bytes() int { return 4 * c.depth.bundles * c.panels * c.values * neonPanel }

func (c *neonConv) pack(each parallel, memory []byte, w *weights, bias []float32) {
	c.weights = floats(memory)
	packBias(c.bias, bias, c.depth.bundleOut, neonPanel)
	each(c.depth.bundles*c.panels, func(panel int) { c.packPanel(w, panel) })
}

func (c *neonConv) packPanel(w *weights, panel int) {
	const chunk = 256
	var values [chunk]float32
	d := &c.depth
	to := c.weights[panel*c.values*neonPanel:][:c.values*neonPanel]
	bundle, first := panel/c.panels, panel%c.panels*neonPanel
	if d.bundleOut-first < neonPanel {
		clear(to)
	}
	for _, r := range d.runs {
		for from := 0; from < r.n; from += chunk {
			v := values[:min(chunk, r.n-from)]
			for o := range min(neonPanel, d.bundleOut-first) {
				d.gather(v, &c.spec, w, bundle, r, from, first+o)
				for j, x := range v {
					to[j*neonPanel+o] = x
				}
			}
			to = to[len(v)*neonPanel:]
		}
	}
}

// neonCall is a neonConv bound to maps.
type neonCall struct {
	*neonConv
	geometry
	runs    []int32 // byte offset and values of each run
	parts   int
	aStride int // bytes between positions
}

func (c *neonConv) bind(spec *ConvSpec, src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	n := &neonCall{neonConv: c}
	n.geometry = newGeometry(spec, &c.depth, c.grain, &src, &dst, residual, src.Format == c.grain.format() && c.depth.bundles == 1)
	const flopsPerCycle = 16
	perBlock := float64(2*c.values*neonPositions*neonPanel)/flopsPerCycle + 200
	n.parts = n.choose(c.grain, &c.depth, costs{perBlock: perBlock, panels: c.depth.bundles * c.panels, panelBytes: 4 * c.values * neonPanel, stage: stageCycles}, workers)
	n.listRows(c.grain, &dst, residual, neonPanel*4)
	n.aStride = n.stride * n.pixel
	if n.direct {
		step, _ := uniform(&src)
		n.aStride = step * 4
	}
	for _, r := range c.depth.runs {
		at := 0
		if !n.direct {
			at = n.offset(spec, r)
		}
		n.runs = append(n.runs, int32(at), int32(r.n))
	}
	return n
}

func (n *neonCall) tasks() int { return n.bands * n.parts }

func (n *neonCall) scratch() int {
	return 128 + neonPositions*neonPanel*4 + n.stagedBytes(n.grain)
}

func (n *neonCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	d := &n.depth
	b, from, to := n.share(task, d.bundles*n.panels, n.parts, true)
	if from == to {
		return
	}
	scratch = align(scratch, 64)
	sums := floats(scratch)[:neonPositions*neonPanel]
	scratch = scratch[4*len(sums):]
	firstBundle, lastBundle := from/n.panels, (to-1)/n.panels
	var a unsafe.Pointer
	positions := 1 << 62 // that may be read
	if n.direct {
		first := (b.image*n.imageRows + b.row) * n.pitch
		positions = n.n*n.oh*n.ow - first
		a = unsafe.Add(unsafe.Pointer(&src.F32[src.Off]), first*n.aStride)
	} else {
		stage(&n.geometry, d, n.grain, &src, b, scratch, firstBundle, lastBundle+1)
		a = unsafe.Pointer(&scratch[0])
	}
	dstAt, resAt := n.origin(&dst, b), 0
	var residue [neonPanel]float32
	if residual != nil {
		resAt = n.origin(residual, b)
	}
	for p := from; p < to; p++ {
		bundle, first := p/n.panels, p%n.panels*neonPanel
		aBundle := a
		if !n.direct {
			aBundle = unsafe.Add(a, bundle*d.blocks*n.blockBytes)
		}
		channel := bundle*d.bundleOut + first
		channels := min(neonPanel, d.bundleOut-first)
		bias := n.bias[p*neonPanel:][:channels]
		for block := range n.grain.blocks(b.positions) {
			at := block * neonPositions
			begin := min(at, positions-neonPositions) // not behind the end of the map: some positions are computed twice
			neonSums(&sums[0], unsafe.Add(aBundle, begin*n.aStride), n.aStride, &n.runs[0], len(n.runs)/2, &n.weights[p*n.values*neonPanel])
			entries := n.geometry.rows[n.starts[block]:max(n.starts[block], min(n.starts[block+1], int32(b.entries)))]
			for _, e := range entries {
				row := sums[int(e.sums)/4+(at-begin)*neonPanel:][:channels]
				for i, v := range bias {
					row[i] += v
				}
				if residual != nil {
					r := residue[:channels]
					loadAll(r, residual, resAt+int(e.res)+channel)
					for i, v := range r {
						row[i] += v
					}
				}
				activateRow(row, n.spec.Activation)
				store(&dst, dstAt+int(e.dst)+channel, row)
			}
		}
	}
}

// activateRow applies an activation. Those that clip take no call a value.
func activateRow(row []float32, a kernel.Activation) {
	low, high := bounds(a)
	for i, v := range row {
		row[i] = min(max(v, low), high)
	}
	if a > kernel.ReLU6 {
		for i, v := range row {
			row[i] = a.Apply(v)
		}
	}
}

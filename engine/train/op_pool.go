package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// window is a pooling window as package kernel has it.
func window(w graph.Window, in graph.Shape) kernel.Pool {
	pads := w.Pads(in)
	return kernel.Pool{
		KernelH: w.Kernel.H, KernelW: w.Kernel.W, StrideH: w.Stride.H, StrideW: w.Stride.W, DilationH: w.Dilation.H, DilationW: w.Dilation.W,
		PadTop: pads.Top, PadLeft: pads.Left, PadBottom: pads.Bottom, PadRight: pads.Right,
	}
}

// maxPool is graph.MaxPool. The first maximum in reading order wins, as in PyTorch; NaN wins over all.
type maxPool struct {
	pool kernel.Pool
	arg  []uint8 // the tap of each window that is the maximum
}

// maxTaps is the largest window: a tap is one byte.
const maxTaps = 255

func (o *maxPool) reads() (in, out bool) { return false, false }

func (o *maxPool) overwrites() []int { return nil }

func (o *maxPool) forward(c *context, out []float32, in [][]float32) {
	if cap(o.arg) < len(out) {
		o.arg = make([]uint8, len(out))
	}
	o.arg = o.arg[:len(out)]
	c.rows(func(_, from, to int) {
		grad.MaxPool(c.tier, out, o.arg, in[0], shape(c.n, c.in[0]), shape(c.n, c.out), o.pool, from, to)
	})
}

func (o *maxPool) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	c.split(c.n*c.in[0].H, 1, func(from, to int) {
		grad.MaxPoolData(c.tier, gin[0], gout, o.arg, shape(c.n, c.in[0]), shape(c.n, c.out), o.pool, from, to)
	})
}

// avgPool is graph.AvgPool.
type avgPool struct{ pool kernel.Pool }

func newAvgPool(op graph.AvgPool, in graph.Shape) operator {
	p := window(op.Window, in)
	p.CeilMode, p.CountIncludePad = op.Ceil, op.CountIncludePad
	return &avgPool{p}
}

func (o *avgPool) reads() (in, out bool) { return false, false }

func (o *avgPool) overwrites() []int { return nil }

func (o *avgPool) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.in[0])
	floats := c.floatsFor(kernel.PoolScratch(y, x))
	c.rows(func(worker, from, to int) { kernel.AvgPool(c.tier, y, x, o.pool, from, to, floats[worker]) })
}

func (o *avgPool) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	c.split(c.n*c.in[0].H, 1, func(from, to int) {
		grad.AvgPoolData(c.tier, gin[0], gout, shape(c.n, c.in[0]), shape(c.n, c.out), o.pool, from, to)
	})
}

// adaptiveAvgPool is graph.AdaptiveAvgPool.
type adaptiveAvgPool struct{}

func (o *adaptiveAvgPool) reads() (in, out bool) { return false, false }

func (o *adaptiveAvgPool) overwrites() []int { return nil }

func (o *adaptiveAvgPool) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.in[0])
	if c.out.IsVector() {
		c.split(c.n, 1, func(from, to int) { kernel.GlobalAvgPool(c.tier, y, x, from, to) })
		return
	}
	floats := c.floatsFor(kernel.PoolScratch(y, x))
	c.rows(func(worker, from, to int) { kernel.AdaptiveAvgPool(c.tier, y, x, from, to, floats[worker]) })
}

func (o *adaptiveAvgPool) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	c.split(c.n, 1, func(from, to int) {
		if c.out.IsVector() {
			grad.GlobalAvgPoolData(gin[0], gout, shape(c.n, c.in[0]), from, to)
			return
		}
		grad.AdaptiveAvgPoolData(c.tier, gin[0], gout, shape(c.n, c.in[0]), shape(c.n, c.out), from, to)
	})
}

package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// depthwise is a convolution in which every channel has a kernel of its own.
type depthwise struct {
	graph.Conv2d
	pads graph.Pads
	back map[int]*grad.Depthwise // by images
}

func (o *depthwise) reads() (in, out bool) { return true, false }

func (o *depthwise) overwrites() []int { return nil }

func (o *depthwise) spec(c *context) kernel.DepthwiseSpec {
	return kernel.DepthwiseSpec{
		Channels: o.In, KernelH: o.Kernel.H, KernelW: o.Kernel.W, StrideH: o.Stride.H, StrideW: o.Stride.W,
		DilationH: o.Dilation.H, DilationW: o.Dilation.W,
		PadTop: o.pads.Top, PadLeft: o.pads.Left, PadBottom: o.pads.Bottom, PadRight: o.pads.Right, Tier: c.tier,
	}
}

func (o *depthwise) forward(c *context, out []float32, in [][]float32) {
	k, err := kernel.NewDepthwise(o.spec(c), c.weight(), c.bias())
	if err != nil {
		panic(err) // the shapes come from a checked graph
	}
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.in[0])
	floats := c.floatsFor(k.Scratch(y, x))
	c.rows(func(worker, from, to int) { k.Run(y, x, from, to, floats[worker], nil) })
}

func (o *depthwise) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	k := o.back[c.n]
	if k == nil {
		var err error
		if k, err = grad.NewDepthwise(o.spec(c), shape(c.n, c.in[0]), shape(c.n, c.out)); err != nil {
			panic(err)
		}
		if o.back == nil {
			o.back = map[int]*grad.Depthwise{}
		}
		o.back[c.n] = k
	}
	weight := c.params[graph.Weight]
	biasGradient(c, gout)
	if weight.trainable {
		o.weightGradient(c, k, weight.accumulator(), gout, in[0])
	}
	if gin[0] == nil {
		return
	}
	packed := c.buffers.get(k.Weights())
	k.Pack(packed, weight.data)
	c.split(c.n*c.in[0].H, 1, func(from, to int) { k.Data(c.tier, gin[0], gout, packed, from, to) })
	c.buffers.put(packed)
}

func (o *depthwise) weightGradient(c *context, k *grad.Depthwise, dw, dy, x []float32) {
	const parts = 4 * parts // short float32 sums
	n, height := k.Weights(), c.n*c.out.H
	sums := c.buffers.zero(parts * n)
	c.pool.Run(parts, func(_, task int) {
		k.WeightGrad(c.tier, sums[task*n:][:n], dy, x, task*height/parts, (task+1)*height/parts)
	})
	for width := 1; width < parts; width *= 2 { // pairwise
		for t := 0; t+width < parts; t += 2 * width {
			grad.Sum(c.tier, sums[t*n:][:n], sums[(t+width)*n:][:n])
		}
	}
	unpacked := c.buffers.get(n)
	k.Unpack(unpacked, sums[:n])
	grad.Sum(c.tier, dw, unpacked)
	c.buffers.put(unpacked)
	c.buffers.put(sums)
}

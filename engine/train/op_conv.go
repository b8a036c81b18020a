package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// conv is graph.Conv2d and the clipping activation that follows it, if any.
//
// The gradient of the input is gemm.InputGradient's, that of the weights gemm.WeightGradient's. With groups the latter is dW = dYᵀ·P, with P
// the patches of the input as a matrix of one row an output pixel and one column a weight; P exists a few hundred rows at a time, while they are
// in cache. Depthwise convolutions are depthwise.
type conv struct {
	graph.Conv2d
	act clip

	pads        graph.Pads
	forth, back *filter
	weights     map[int]*gemm.WeightGradient // by images
}

func newConv(c graph.Conv2d, in graph.Shape) operator {
	if c.Depthwise() {
		return &depthwise{Conv2d: c, pads: c.Window.Pads(in)}
	}
	return &conv{Conv2d: c, pads: c.Window.Pads(in)}
}

// pointwise reports whether the patches are the map itself.
func (o *conv) pointwise() bool {
	return o.Kernel == graph.Square(1) && o.Stride == graph.Square(1) && o.pads == graph.Pads{} && o.Groups == 1
}

func (o *conv) reads() (in, out bool) { return true, o.act.active }

func (o *conv) overwrites() []int { return nil }

func (o *conv) forward(c *context, out []float32, in [][]float32) {
	o.forwardTo(c, denseMap(out, c.n, c.out), in[0])
}

// forwardTo writes a map whose pixels may lie further apart than its channels.
func (o *conv) forwardTo(c *context, out kernel.Map, in []float32) {
	if o.forth == nil {
		spec := o.spec(c)
		spec.Activation = o.act.kernel()
		o.forth = newFilter(c, spec, false)
	}
	release := o.forth.pack(c, c.weight(), c.bias())
	o.forth.run(c, denseMap(in, c.n, c.in[0]), out)
	release()
}

func (o *conv) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	o.act.gradient(c, gout, out)
	biasGradient(c, gout)
	o.backwardFrom(c, gin[0], denseMap(gout, c.n, c.out), in[0])
}

// backwardFrom is backward behind activation and bias. The pixels of gout may lie further apart than its channels.
func (o *conv) backwardFrom(c *context, gin []float32, gout kernel.Map, in []float32) {
	if c.params[graph.Weight].trainable {
		o.weightGradient(c, gout, in)
	}
	if gin == nil {
		return
	}
	weight := c.weight()
	if o.pointwise() && gout.Dense() {
		c.multiply(gemm.Product{M: rows(c.n, c.out), N: o.In, K: o.Out}, gin, gout.F32, weight)
		return
	}
	if o.back == nil {
		o.back = newFilter(c, o.spec(c), true)
	}
	release := o.back.pack(c, weight, nil)
	o.back.run(c, gout, denseMap(gin, c.n, c.in[0]))
	release()
}

// spec describes the convolution without its activation.
func (o *conv) spec(c *context) gemm.ConvSpec {
	return gemm.ConvSpec{
		In: o.In, Out: o.Out, KernelH: o.Kernel.H, KernelW: o.Kernel.W, StrideH: o.Stride.H, StrideW: o.Stride.W,
		DilationH: o.Dilation.H, DilationW: o.Dilation.W, Groups: o.Groups,
		PadTop: o.pads.Top, PadLeft: o.pads.Left, PadBottom: o.pads.Bottom, PadRight: o.pads.Right,
		Precision: c.precision, Tier: c.tier,
	}
}

// weightGradient computes the gradient of the weights.
func (o *conv) weightGradient(c *context, y kernel.Map, x []float32) {
	if o.Groups > 1 {
		o.gradientByGroups(c, y, x)
		return
	}
	in := denseMap(x, c.n, c.in[0])
	g := o.weights[c.n]
	if g == nil {
		var err error
		if g, err = gemm.NewWeightGradient(o.spec(c), y, in, c.pool.Threads()); err != nil {
			panic(err) // the shapes come from a checked graph
		}
		if o.weights == nil {
			o.weights = map[int]*gemm.WeightGradient{}
		}
		o.weights[c.n] = g
	}
	sums := c.buffers.get(g.Sums())
	scratch := c.scratchFor(g.Scratch())
	c.pool.Run(g.Tasks(), func(worker, task int) { g.Run(task, sums, y, in, scratch[worker]) })
	dw, accumulate := c.params[graph.Weight].sum()
	c.split(o.Out, max(1, 1<<14*o.Out/len(dw)), func(from, to int) { g.Add(dw, sums, from, to, accumulate) })
	c.buffers.put(sums)
}

// patchValues is how many values of patches a worker holds at a time: with what the product packs of them they fill half of a
// 2 MB L2.
const patchValues = 128 << 10

// gradientByGroups gives each worker a range of pixels and a gradient of its own, and adds these in order.
func (o *conv) gradientByGroups(c *context, y kernel.Map, x []float32) {
	inG, outG := o.In/o.Groups, o.Out/o.Groups
	area := o.Kernel.H * o.Kernel.W
	patch, pixels := inG*area, rows(c.n, c.out)
	values := o.Groups * outG * patch
	tasks := min(c.pool.Threads(), max(pixels/64, 1))
	chunk := max(patchValues/max(patch, 1)/32*32, 64)
	chunk = min(chunk, 512, (pixels+31)/32*32)
	sums := c.buffers.get(tasks * values)
	bytes := 0
	for t := range tasks {
		n := (t+1)*pixels/tasks - t*pixels/tasks
		bytes = max(bytes, c.prepare(gemm.Product{M: outG, N: patch, K: min(chunk, n), TransA: true, Accumulate: true}, 1).Scratch())
		if n > chunk && n%chunk != 0 {
			bytes = max(bytes, c.prepare(gemm.Product{M: outG, N: patch, K: n % chunk, TransA: true, Accumulate: true}, 1).Scratch())
		}
	}
	scratch := c.scratchFor(bytes)
	floats := c.floatsFor(chunk * (patch + outG))
	c.pool.Run(tasks, func(worker, task int) {
		sum := sums[task*values:][:values]
		clear(sum)
		patches, part := floats[worker][:chunk*patch], floats[worker][chunk*patch:]
		end := (task + 1) * pixels / tasks
		for p := task * pixels / tasks; p < end; p += chunk {
			n := min(chunk, end-p)
			m := c.prepare(gemm.Product{M: outG, N: patch, K: n, TransA: true, Accumulate: true}, 1)
			for g := range o.Groups {
				gather(part, y.F32[y.Off+p*y.Pixel:], n, y.Pixel, g*outG, outG)
				o.patches(c, patches, x, g*inG, inG, p, p+n)
				multiplyAlone(m, sum[g*outG*patch:], part, patches, scratch[worker])
			}
		}
	})
	for t := 1; t < tasks; t++ {
		c.add(sums[:values], sums[t*values:][:values])
	}
	o.addPixelMajor(c, c.params[graph.Weight].accumulator(), sums[:values], inG)
	c.buffers.put(sums)
}

// addPixelMajor adds to the gradient [out, in, area] what src holds as [out, area, in].
func (o *conv) addPixelMajor(c *context, dst, src []float32, in int) {
	area := o.Kernel.H * o.Kernel.W
	c.split(o.Out, max(1, 1<<14/(in*area)), func(from, to int) {
		for out := from; out < to; out++ {
			row := dst[out*in*area:][:in*area]
			for a := range area {
				for i, v := range src[(out*area+a)*in:][:in] {
					row[i*area+a] += v
				}
			}
		}
	})
}

// gather copies channels from..from+n of pixels of c channels.
func gather(dst, src []float32, pixels, c, from, n int) {
	for p := range pixels {
		copy(dst[p*n:(p+1)*n], src[p*c+from:])
	}
}

// patches writes the patches of output pixels from..to of the batch: channels first..first+n of the input, [kernel row, kernel column,
// channel], zero outside the image.
func (o *conv) patches(c *context, dst, x []float32, first, n, from, to int) {
	s := c.in[0]
	for p := from; p < to; p++ {
		image, y, ox := p/(c.out.H*c.out.W), p/c.out.W%c.out.H, p%c.out.W
		top, left := y*o.Stride.H-o.pads.Top, ox*o.Stride.W-o.pads.Left
		for ky := range o.Kernel.H {
			iy := top + ky*o.Dilation.H
			for kx := range o.Kernel.W {
				ix := left + kx*o.Dilation.W
				if iy < 0 || iy >= s.H || ix < 0 || ix >= s.W {
					clear(dst[:n])
				} else {
					copy(dst[:n], x[((image*s.H+iy)*s.W+ix)*s.C+first:])
				}
				dst = dst[n:]
			}
		}
	}
}

// biasGradient adds the sum over pixels of the output's gradient to the bias's.
func biasGradient(c *context, gout []float32) {
	p := c.params[graph.Bias]
	if p == nil || !p.trainable {
		return
	}
	ch := c.out.C
	sum := c.reduce(rows(c.n, c.out), ch, func(acc []float64, from, to int) {
		grad.ColumnSums(c.tier, acc, gout[from*ch:to*ch])
	})
	addBias(c, sum)
}

// addBias adds to the bias's gradient, if it is trained.
func addBias(c *context, sum []float64) {
	p := c.params[graph.Bias]
	if p == nil || !p.trainable {
		return
	}
	g := p.accumulator()
	for j, v := range sum {
		g[j] += float32(v)
	}
}

// filter is a convolution, or with back the gradient of one's input, whose weights change at every step, with the geometries it has run on.
type filter struct {
	conv  *gemm.Conv
	back  *gemm.InputGradient
	bytes int
	calls map[geometry]call
}

// geometry is what a call is bound to.
type geometry struct{ n, h, w, oh, ow int }

// call is a gemm.Call or a gemm.InputGradientCall.
type call struct {
	tasks, scratch int
	run            func(task int, src, dst kernel.Map, scratch []byte)
}

func newFilter(c *context, spec gemm.ConvSpec, back bool) *filter {
	f := &filter{calls: map[geometry]call{}}
	var err error
	if back {
		if f.back, err = gemm.NewInputGradient(spec); err == nil {
			f.bytes = f.back.PackedBytes()
		}
	} else {
		if f.conv, err = gemm.NewConv(spec); err == nil {
			f.bytes = f.conv.PackedBytes()
		}
	}
	if err != nil {
		panic(err) // the shapes come from a checked graph, and check refuses what has no gradient
	}
	return f
}

// pack packs the weights into borrowed memory and returns the function that gives it back.
func (f *filter) pack(c *context, weight, bias []float32) (release func()) {
	memory := c.buffers.get((f.bytes + 3) / 4)
	var err error
	if f.back != nil {
		err = f.back.Pack(c.each, asBytes(memory), weight)
	} else {
		err = f.conv.Pack(c.each, asBytes(memory), weight, bias)
	}
	if err != nil {
		panic(err)
	}
	return func() { c.buffers.put(memory) }
}

func (f *filter) run(c *context, src, dst kernel.Map) {
	k, err := f.bind(c, src, dst)
	if err != nil {
		panic(err)
	}
	scratch := c.scratchFor(k.scratch)
	c.pool.Run(k.tasks, func(worker, task int) { k.run(task, src, dst, scratch[worker]) })
}

func (f *filter) bind(c *context, src, dst kernel.Map) (call, error) {
	key := geometry{src.N, src.H, src.W, dst.H, dst.W}
	if k, ok := f.calls[key]; ok {
		return k, nil
	}
	var k call
	if f.back != nil {
		b, err := f.back.Bind(src, dst, c.pool.Threads())
		if err != nil {
			return k, err
		}
		k = call{b.Tasks(), b.Scratch(), b.Run}
	} else {
		b, err := f.conv.Bind(src, dst, nil, c.pool.Threads())
		if err != nil {
			return k, err
		}
		k = call{b.Tasks(), b.Scratch(), func(task int, src, dst kernel.Map, scratch []byte) { b.Run(task, src, dst, nil, scratch) }}
	}
	f.calls[key] = k
	return k, nil
}

// denseMap views a batch of maps without border.
func denseMap(data []float32, n int, s graph.Shape) kernel.Map {
	return kernel.Map{
		N: n, H: s.H, W: s.W, C: s.C, Format: kernel.F32, F32: data,
		Pixel: s.C, Row: s.W * s.C, Image: s.H * s.W * s.C,
	}
}

// shape is the shape of a batch for package grad.
func shape(n int, s graph.Shape) grad.Shape { return grad.Shape{N: n, H: s.H, W: s.W, C: s.C} }

// linear is graph.Linear and the clipping activation that follows it, if any.
type linear struct {
	graph.Linear
	act clip
}

func (o *linear) reads() (in, out bool) { return true, o.act.active }

func (o *linear) overwrites() []int { return nil }

// fewRows is the largest batch for which a product with the weights is a matter of reading them.
const fewRows = 16

// outputs calls f for ranges of the outputs.
func (o *linear) outputs(c *context, f func(from, to int)) {
	const grain = 1 << 15 // weights
	c.split((o.Out+3)/4, max(1, grain/4/o.In), func(from, to int) { f(4*from, min(4*to, o.Out)) })
}

func (o *linear) forward(c *context, out []float32, in [][]float32) {
	n := rows(c.n, c.out)
	bias := c.bias()
	if bias != nil {
		for r := range n {
			copy(out[r*o.Out:], bias)
		}
	}
	if n <= fewRows {
		if bias == nil {
			clear(out)
		}
		o.outputs(c, func(from, to int) { grad.LinearForward(c.tier, out, in[0], c.weight(), n, o.In, o.Out, from, to) })
	} else {
		c.multiply(gemm.Product{M: n, N: o.Out, K: o.In, TransB: true, Accumulate: bias != nil}, out, in[0], c.weight())
	}
	if o.act.active {
		m := denseMap(out, c.n, c.out)
		c.split(m.Rows(), 1, func(from, to int) { kernel.Activate(c.tier, m, m, o.act.kernel(), from, to) })
	}
}

func (o *linear) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	n := rows(c.n, c.out)
	o.act.gradient(c, gout, out)
	biasGradient(c, gout)
	if weight := c.params[graph.Weight]; weight.trainable {
		dw, add := weight.sum()
		if n <= fewRows {
			o.outputs(c, func(from, to int) { grad.LinearWeights(c.tier, dw, gout, in[0], n, o.In, o.Out, from, to, add) })
		} else {
			c.multiply(gemm.Product{M: o.Out, N: o.In, K: n, TransA: true, Accumulate: add}, dw, gout, in[0])
		}
	}
	if gin[0] == nil {
		return
	}
	if n <= fewRows {
		c.split(o.In, 256, func(from, to int) { grad.LinearData(c.tier, gin[0], gout, c.weight(), n, o.In, o.Out, from, to) })
		return
	}
	c.multiply(gemm.Product{M: n, N: o.In, K: o.Out}, gin[0], gout, c.weight())
}

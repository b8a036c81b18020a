package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// conv is graph.Conv2d and the clipping activation that follows it, if any.
//
// The gradient of the input is gemm.InputGradient's. The gradient of the weights is dW = dYᵀ·P, with P the patches of the input as a matrix of one row an output pixel and one column a
// weight; P exists a few hundred rows at a time, while they are in cache. Depthwise convolutions are depthwise.
type conv struct {
	graph.Conv2d
	act clip

	pads        graph.Pads
	forth, back *filter
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
	if o.forth == nil {
		spec := o.spec(c)
		spec.Activation = o.act.kernel()
		o.forth = newFilter(c, spec, false)
	}
	release := o.forth.pack(c, c.weight(), c.bias())
	o.forth.run(c, denseMap(in[0], c.n, c.in[0]), denseMap(out, c.n, c.out))
	release()
}

func (o *conv) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	o.act.gradient(c, gout, out)
	biasGradient(c, gout)
	if c.params[graph.Weight].trainable {
		o.weightGradient(c, gout, in[0])
	}
	if gin[0] == nil {
		return
	}
	weight := c.weight()
	if o.pointwise() {
		c.multiply(gemm.Product{M: rows(c.n, c.out), N: o.In, K: o.Out}, gin[0], gout, weight)
		return
	}
	if o.back == nil {
		o.back = newFilter(c, o.spec(c), true)
	}
	release := o.back.pack(c, weight, nil)
	o.back.run(c, denseMap(gout, c.n, c.out), denseMap(gin[0], c.n, c.in[0]))
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

const (
	// patchValues is how many values of patches a worker holds at a time: with what the product packs of them they fill half of a
	// 2 MB L2.
	patchValues = 128 << 10
	// smallGradient is the number of values up to which every worker has a copy of a weight's gradient of its own and takes
	// a range of pixels. Beyond it the workers share the taps of the kernel, or the product divides itself.
	smallGradient = 160 << 10
)

// weightGradient adds dYᵀ·P to the gradient of the weights.
func (o *conv) weightGradient(c *context, dy, x []float32) {
	switch values := len(c.weight()); {
	case o.pointwise() && values > smallGradient:
		c.multiply(gemm.Product{M: o.Out, N: o.In, K: rows(c.n, c.out), TransA: true, Accumulate: true}, c.params[graph.Weight].grad, dy, x)
	case o.Groups == 1 && values > smallGradient:
		o.gradientByTaps(c, dy, x)
	default:
		o.gradientByPixels(c, dy, x)
	}
}

// gradientByPixels gives each worker a range of pixels and a gradient of its own, and adds these in order.
func (o *conv) gradientByPixels(c *context, dy, x []float32) {
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
				a, b := dy[p*o.Out:], x[p*o.In:]
				if o.Groups > 1 {
					gather(part, dy[p*o.Out:], n, o.Out, g*outG, outG)
					a = part
				}
				if !o.pointwise() {
					o.patches(c, patches, x, g*inG, inG, p, p+n)
					b = patches
				}
				multiplyAlone(m, sum[g*outG*patch:], a, b, scratch[worker])
			}
		}
	})
	for t := 1; t < tasks; t++ {
		c.add(sums[:values], sums[t*values:][:values])
	}
	o.addPixelMajor(c, c.params[graph.Weight].grad, sums[:values], inG, patch, inG)
	c.buffers.put(sums)
}

// gradientByTaps gives each worker whole taps of the kernel.
func (o *conv) gradientByTaps(c *context, dy, x []float32) {
	area, pixels := o.Kernel.H*o.Kernel.W, rows(c.n, c.out)
	values := o.Out * o.In
	chunk := min(max(patchValues/o.In/32*32, 64), 512, pixels)
	sums := c.buffers.get(area * values)
	bytes := c.prepare(gemm.Product{M: o.Out, N: o.In, K: chunk, TransA: true, Accumulate: true}, 1).Scratch()
	if n := pixels % chunk; n != 0 {
		bytes = max(bytes, c.prepare(gemm.Product{M: o.Out, N: o.In, K: n, TransA: true, Accumulate: true}, 1).Scratch())
	}
	scratch, floats := c.scratchFor(bytes), c.floatsFor(chunk*o.In)
	c.pool.Run(area, func(worker, tap int) {
		sum := sums[tap*values:][:values]
		clear(sum)
		for p := 0; p < pixels; p += chunk {
			n := min(chunk, pixels-p)
			m := c.prepare(gemm.Product{M: o.Out, N: o.In, K: n, TransA: true, Accumulate: true}, 1)
			o.tap(c, floats[worker], x, tap, p, p+n)
			multiplyAlone(m, sum, dy[p*o.Out:], floats[worker], scratch[worker])
		}
	})
	o.addPixelMajor(c, c.params[graph.Weight].grad, sums, o.In, o.In, values)
	c.buffers.put(sums)
}

// addPixelMajor adds to the gradient [out, in, area] the value of tap a, output o and input i from src[a·tapStep + o·rowStep + i].
func (o *conv) addPixelMajor(c *context, dst, src []float32, in, rowStep, tapStep int) {
	area := o.Kernel.H * o.Kernel.W
	if area == 1 {
		c.add(dst, src[:len(dst)])
		return
	}
	c.split(o.Out, max(1, 1<<14/(in*area)), func(from, to int) {
		for out := from; out < to; out++ {
			row := dst[out*in*area:][:in*area]
			for a := range area {
				from := src[a*tapStep+out*rowStep:][:in]
				for i, v := range from {
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
	row := o.Kernel.W * n
	whole := o.Dilation.W == 1 && n == s.C // the taps of a kernel row lie together
	for p := from; p < to; p++ {
		image, y, ox := p/(c.out.H*c.out.W), p/c.out.W%c.out.H, p%c.out.W
		top, left := y*o.Stride.H-o.pads.Top, ox*o.Stride.W-o.pads.Left
		inside := left >= 0 && left+(o.Kernel.W-1)*o.Dilation.W < s.W
		for ky := range o.Kernel.H {
			to := dst[:row]
			dst = dst[row:]
			iy := top + ky*o.Dilation.H
			if iy < 0 || iy >= s.H {
				clear(to)
				continue
			}
			line := x[(image*s.H+iy)*s.W*s.C:][:s.W*s.C]
			if whole && inside {
				copy(to, line[left*s.C:])
				continue
			}
			for kx := range o.Kernel.W {
				ix := left + kx*o.Dilation.W
				if ix < 0 || ix >= s.W {
					clear(to[kx*n:][:n])
					continue
				}
				copy(to[kx*n:][:n], line[ix*s.C+first:])
			}
		}
	}
}

// tap writes the input pixel below one tap of the kernel for output pixels from..to of the batch, zero outside the image.
func (o *conv) tap(c *context, dst, x []float32, tap, from, to int) {
	s, ch := c.in[0], o.In
	ky, kx := tap/o.Kernel.W*o.Dilation.H-o.pads.Top, tap%o.Kernel.W*o.Dilation.W-o.pads.Left
	for p := from; p < to; {
		image, y, ox := p/(c.out.H*c.out.W), p/c.out.W%c.out.H, p%c.out.W
		n := min(c.out.W-ox, to-p) // of this row
		part := dst[:n*ch]
		dst = dst[n*ch:]
		p += n
		iy := y*o.Stride.H + ky
		if iy < 0 || iy >= s.H {
			clear(part)
			continue
		}
		line := x[(image*s.H+iy)*s.W*ch:][:s.W*ch]
		if o.Stride.W == 1 {
			left := ox + kx
			before := min(max(-left, 0), n)
			count := max(min(n-before, s.W-left-before), 0)
			clear(part[:before*ch])
			if count > 0 {
				copy(part[before*ch:][:count*ch], line[(left+before)*ch:])
			}
			clear(part[(before+count)*ch:])
			continue
		}
		for i := range n {
			ix := (ox+i)*o.Stride.W + kx
			if ix < 0 || ix >= s.W {
				clear(part[i*ch:][:ch])
				continue
			}
			copy(part[i*ch:][:ch], line[ix*ch:])
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
	for j, v := range sum {
		p.grad[j] += float32(v)
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
	weights := c.buffers.zero(spec.Out * (spec.In / max(spec.Groups, 1)) * spec.KernelH * spec.KernelW)
	defer c.buffers.put(weights)
	var err error
	if back {
		if f.back, err = gemm.NewInputGradient(c.each, spec, weights); err == nil {
			f.bytes = f.back.PackedBytes()
		}
	} else {
		if f.conv, err = gemm.NewConvOn(c.each, spec, weights, nil); err == nil {
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
		err = f.back.Repack(c.each, asBytes(memory), weight)
	} else {
		err = f.conv.Repack(c.each, asBytes(memory), weight, bias)
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

func (o *linear) forward(c *context, out []float32, in [][]float32) {
	n := rows(c.n, c.out)
	bias := c.bias()
	if bias != nil {
		for r := range n {
			copy(out[r*o.Out:], bias)
		}
	}
	c.multiply(gemm.Product{M: n, N: o.Out, K: o.In, TransB: true, Accumulate: bias != nil}, out, in[0], c.weight())
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
		c.multiply(gemm.Product{M: o.Out, N: o.In, K: n, TransA: true, Accumulate: true}, weight.grad, gout, in[0])
	}
	if gin[0] != nil {
		c.multiply(gemm.Product{M: n, N: o.In, K: o.Out}, gin[0], gout, c.weight())
	}
}

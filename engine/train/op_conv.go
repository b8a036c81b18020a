package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/graph"
)

// conv is graph.Conv2d by matrix products over the patches of an image ("im2row"): with P = the patches as a matrix of one row an
// output pixel and one column a weight,
//
//	Y = P·Wᵀ,  dW += dYᵀ·P,  dP = dY·W,
//
// and dX the sum of dP over the patches that a pixel is in. Depthwise convolutions are depthwise.
type conv struct {
	graph.Conv2d
}

func newConv(c graph.Conv2d) operator {
	if c.Depthwise() {
		return &depthwise{c}
	}
	return &conv{c}
}

// pointwise reports whether the patches are the map itself.
func (o *conv) pointwise(in graph.Shape) bool {
	return o.Kernel == graph.Square(1) && o.Stride == graph.Square(1) && o.Window.Pads(in) == graph.Pads{} && o.Groups == 1
}

func (o *conv) forward(c *context, out []float32, in [][]float32) {
	pads := o.Window.Pads(c.in[0])
	k, err := gemm.NewConv(gemm.ConvSpec{
		In: o.In, Out: o.Out, KernelH: o.Kernel.H, KernelW: o.Kernel.W, StrideH: o.Stride.H, StrideW: o.Stride.W,
		DilationH: o.Dilation.H, DilationW: o.Dilation.W, Groups: o.Groups,
		PadTop: pads.Top, PadLeft: pads.Left, PadBottom: pads.Bottom, PadRight: pads.Right,
		Precision: c.precision, Tier: c.tier,
	}, c.weight(), c.bias())
	if err != nil {
		panic(err) // the shapes come from a checked graph
	}
	src, dst := denseMap(in[0], c.n, c.in[0]), denseMap(out, c.n, c.out)
	call, err := k.Bind(src, dst, nil, c.pool.Threads())
	if err != nil {
		panic(err)
	}
	scratch := c.scratchFor(call.Scratch())
	c.pool.Run(call.Tasks(), func(worker, task int) { call.Run(task, src, dst, nil, scratch[worker]) })
}

// denseMap views a batch of maps without border.
func denseMap(data []float32, n int, s graph.Shape) kernel.Map {
	return kernel.Map{
		N: n, H: s.H, W: s.W, C: s.C, Format: kernel.F32, F32: data,
		Pixel: s.C, Row: s.W * s.C, Image: s.H * s.W * s.C,
	}
}

func (o *conv) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	weight := c.params[graph.Weight]
	biasGradient(c, gout)
	pixels := rows(c.n, c.out)
	if o.pointwise(c.in[0]) {
		if weight.trainable {
			c.multiply(gemm.Product{M: o.Out, N: o.In, K: pixels, TransA: true, Accumulate: true}, weight.grad, gout, in[0])
		}
		if gin[0] != nil {
			c.multiply(gemm.Product{M: pixels, N: o.In, K: o.Out}, gin[0], gout, weight.data)
		}
		return
	}
	if gin[0] != nil {
		clear(gin[0])
	}
	inG, outG := o.In/o.Groups, o.Out/o.Groups
	area := o.Kernel.H * o.Kernel.W
	patch := area * inG
	image := rows(1, c.out)
	patches := c.buffers.get(image * patch)
	w := c.buffers.get(outG * patch)
	dw := c.buffers.get(outG * patch)
	dy := gout
	if o.Groups > 1 {
		dy = c.buffers.get(image * outG)
	}
	for g := range o.Groups {
		group := weight.data[g*outG*patch : (g+1)*outG*patch]
		toPixelMajor(w, group, inG, area)
		clear(dw)
		for i := range c.n {
			x := in[0][i*c.in[0].Elements():][:c.in[0].Elements()]
			if o.Groups > 1 {
				gather(dy, gout[i*c.out.Elements():], image, o.Out, g*outG, outG)
			} else {
				dy = gout[i*c.out.Elements():][:c.out.Elements()]
			}
			if weight.trainable {
				c.split(c.out.H, 1, func(from, to int) { o.im2row(c, patches, x, g*inG, inG, from, to) })
				c.multiply(gemm.Product{M: outG, N: patch, K: image, TransA: true, Accumulate: true}, dw, dy, patches)
			}
			if gin[0] != nil {
				c.multiply(gemm.Product{M: image, N: patch, K: outG}, patches, dy, w)
				dx := gin[0][i*c.in[0].Elements():][:c.in[0].Elements()]
				c.split(inG, 16, func(from, to int) { o.row2im(c, dx, patches, g*inG, inG, from, to) })
			}
		}
		if weight.trainable {
			addFromPixelMajor(weight.grad[g*outG*patch:(g+1)*outG*patch], dw, inG, area)
		}
	}
	if o.Groups > 1 {
		c.buffers.put(dy)
	}
	c.buffers.put(patches)
	c.buffers.put(w)
	c.buffers.put(dw)
}

// biasGradient adds the sum over pixels of the output's gradient to the bias's.
func biasGradient(c *context, gout []float32) {
	p := c.params[graph.Bias]
	if p == nil || !p.trainable {
		return
	}
	ch := c.out.C
	sum := c.reduce(rows(c.n, c.out), ch, func(acc []float64, from, to int) {
		for r := from; r < to; r++ {
			for j, v := range gout[r*ch : (r+1)*ch] {
				acc[j] += float64(v)
			}
		}
	})
	for j, v := range sum {
		p.grad[j] += float32(v)
	}
}

// toPixelMajor turns [out, in, area] into [out, area, in].
func toPixelMajor(dst, src []float32, in, area int) {
	for o := 0; o < len(src); o += in * area {
		for i := range in {
			for a := range area {
				dst[o+a*in+i] = src[o+i*area+a]
			}
		}
	}
}

// addFromPixelMajor adds [out, area, in] to [out, in, area].
func addFromPixelMajor(dst, src []float32, in, area int) {
	for o := 0; o < len(src); o += in * area {
		for i := range in {
			for a := range area {
				dst[o+i*area+a] += src[o+a*in+i]
			}
		}
	}
}

// gather copies channels from..from+n of pixels of c channels.
func gather(dst, src []float32, pixels, c, from, n int) {
	for p := range pixels {
		copy(dst[p*n:(p+1)*n], src[p*c+from:])
	}
}

// im2row writes the patches of output rows from..to of one image: channels first..first+n of the input, [kernel row, kernel column,
// channel], zero outside the image.
func (o *conv) im2row(c *context, patches, x []float32, first, n, from, to int) {
	s, pads := c.in[0], o.Window.Pads(c.in[0])
	at := from * c.out.W * o.Kernel.H * o.Kernel.W * n
	for y := from; y < to; y++ {
		for xo := range c.out.W {
			for ky := range o.Kernel.H {
				iy := y*o.Stride.H - pads.Top + ky*o.Dilation.H
				for kx := range o.Kernel.W {
					ix := xo*o.Stride.W - pads.Left + kx*o.Dilation.W
					dst := patches[at : at+n]
					at += n
					if iy < 0 || iy >= s.H || ix < 0 || ix >= s.W {
						clear(dst)
						continue
					}
					copy(dst, x[(iy*s.W+ix)*s.C+first:])
				}
			}
		}
	}
}

// row2im adds channels from..to of the patches' gradients to the pixels they were taken from.
func (o *conv) row2im(c *context, dx, patches []float32, first, n, from, to int) {
	s, pads := c.in[0], o.Window.Pads(c.in[0])
	at := 0
	for y := range c.out.H {
		for xo := range c.out.W {
			for ky := range o.Kernel.H {
				iy := y*o.Stride.H - pads.Top + ky*o.Dilation.H
				for kx := range o.Kernel.W {
					ix := xo*o.Stride.W - pads.Left + kx*o.Dilation.W
					src := patches[at : at+n]
					at += n
					if iy < 0 || iy >= s.H || ix < 0 || ix >= s.W {
						continue
					}
					addTo(dx[(iy*s.W+ix)*s.C+first+from:][:to-from], src[from:to])
				}
			}
		}
	}
}

// depthwise is a convolution in which every channel has a kernel of its own.
type depthwise struct {
	graph.Conv2d
}

// taps calls f for every kernel position that lies inside the image for an output pixel: the offset of the input pixel and the position.
func (o *depthwise) taps(c *context, y, x int, f func(pixel, tap int)) {
	s, pads := c.in[0], o.Window.Pads(c.in[0])
	for ky := range o.Kernel.H {
		iy := y*o.Stride.H - pads.Top + ky*o.Dilation.H
		if iy < 0 || iy >= s.H {
			continue
		}
		for kx := range o.Kernel.W {
			ix := x*o.Stride.W - pads.Left + kx*o.Dilation.W
			if ix >= 0 && ix < s.W {
				f(iy*s.W+ix, ky*o.Kernel.W+kx)
			}
		}
	}
}

func (o *depthwise) forward(c *context, out []float32, in [][]float32) {
	area, ch := o.Kernel.H*o.Kernel.W, o.In
	w := c.buffers.get(area * ch)
	defer c.buffers.put(w)
	transpose(w, c.weight(), ch, area)
	bias := c.bias()
	c.split(c.n*c.out.H, 1, func(from, to int) {
		for r := from; r < to; r++ {
			image, y := r/c.out.H, r%c.out.H
			x := in[0][image*c.in[0].Elements():]
			for xo := range c.out.W {
				dst := out[(r*c.out.W+xo)*ch:][:ch]
				if bias != nil {
					copy(dst, bias)
				} else {
					clear(dst)
				}
				o.taps(c, y, xo, func(pixel, tap int) {
					src, wt := x[pixel*ch:][:ch], w[tap*ch:][:ch]
					for j := range dst {
						dst[j] += src[j] * wt[j]
					}
				})
			}
		}
	})
}

func (o *depthwise) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	weight := c.params[graph.Weight]
	biasGradient(c, gout)
	area, ch := o.Kernel.H*o.Kernel.W, o.In
	if weight.trainable {
		sum := c.reduce(c.n*c.out.H, area*ch, func(acc []float64, from, to int) {
			for r := from; r < to; r++ {
				image, y := r/c.out.H, r%c.out.H
				x := in[0][image*c.in[0].Elements():]
				for xo := range c.out.W {
					dy := gout[(r*c.out.W+xo)*ch:][:ch]
					o.taps(c, y, xo, func(pixel, tap int) {
						src, a := x[pixel*ch:][:ch], acc[tap*ch:][:ch]
						for j := range dy {
							a[j] += float64(src[j] * dy[j])
						}
					})
				}
			}
		})
		for j := range ch {
			for a := range area {
				weight.grad[j*area+a] += float32(sum[a*ch+j])
			}
		}
	}
	if gin[0] == nil {
		return
	}
	w := c.buffers.get(area * ch)
	defer c.buffers.put(w)
	transpose(w, weight.data, ch, area)
	clear(gin[0])
	c.split(c.n, 1, func(from, to int) {
		for image := from; image < to; image++ {
			dx := gin[0][image*c.in[0].Elements():]
			for y := range c.out.H {
				for xo := range c.out.W {
					dy := gout[((image*c.out.H+y)*c.out.W+xo)*ch:][:ch]
					o.taps(c, y, xo, func(pixel, tap int) {
						dst, wt := dx[pixel*ch:][:ch], w[tap*ch:][:ch]
						for j := range dy {
							dst[j] += dy[j] * wt[j]
						}
					})
				}
			}
		}
	})
}

// transpose turns [r, c] into [c, r].
func transpose(dst, src []float32, r, c int) {
	for i := range r {
		for j := range c {
			dst[j*r+i] = src[i*c+j]
		}
	}
}

// linear is graph.Linear.
type linear struct {
	graph.Linear
}

func (o *linear) forward(c *context, out []float32, in [][]float32) {
	n := rows(c.n, c.out)
	bias := c.bias()
	if bias != nil {
		for r := range n {
			copy(out[r*o.Out:], bias)
		}
	}
	c.multiply(gemm.Product{M: n, N: o.Out, K: o.In, TransB: true, Accumulate: bias != nil}, out, in[0], c.weight())
}

func (o *linear) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	n := rows(c.n, c.out)
	biasGradient(c, gout)
	if weight := c.params[graph.Weight]; weight.trainable {
		c.multiply(gemm.Product{M: o.Out, N: o.In, K: n, TransA: true, Accumulate: true}, weight.grad, gout, in[0])
	}
	if gin[0] != nil {
		c.multiply(gemm.Product{M: n, N: o.In, K: o.Out}, gin[0], gout, c.weight())
	}
}

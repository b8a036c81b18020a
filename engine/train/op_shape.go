package train

import (
	"math"

	"github.com/go-modelzoo/zoo/graph"
)

// concat is graph.Concat.
type concat struct{}

func (o *concat) forward(c *context, out []float32, in [][]float32) {
	o.blocks(c, func(i, at, ch int) {
		c.split(rows(c.n, c.out), 256, func(from, to int) {
			for r := from; r < to; r++ {
				copy(out[r*c.out.C+at:][:ch], in[i][r*ch:])
			}
		})
	})
}

func (o *concat) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	o.blocks(c, func(i, at, ch int) {
		if gin[i] == nil {
			return
		}
		c.split(rows(c.n, c.out), 256, func(from, to int) {
			for r := from; r < to; r++ {
				copy(gin[i][r*ch:][:ch], gout[r*c.out.C+at:])
			}
		})
	})
}

func (o *concat) blocks(c *context, f func(i, at, ch int)) {
	at := 0
	for i, s := range c.in {
		f(i, at, s.C)
		at += s.C
	}
}

// channels picks or permutes channels: graph.Slice and graph.ChannelShuffle. Output channel j is input channel from[j].
type channels struct{ from []int }

func newSlice(op graph.Slice) operator {
	o := &channels{}
	for j := op.From; j < op.To; j++ {
		o.from = append(o.from, j)
	}
	return o
}

func newShuffle(op graph.ChannelShuffle, ch int) operator {
	o := &channels{}
	for j := range ch {
		o.from = append(o.from, j%op.Groups*(ch/op.Groups)+j/op.Groups)
	}
	return o
}

func (o *channels) forward(c *context, out []float32, in [][]float32) {
	c.split(rows(c.n, c.out), 256, func(from, to int) {
		for r := from; r < to; r++ {
			x, y := in[0][r*c.in[0].C:], out[r*c.out.C:]
			for j, k := range o.from {
				y[j] = x[k]
			}
		}
	})
}

func (o *channels) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	clear(gin[0])
	c.split(rows(c.n, c.out), 256, func(from, to int) {
		for r := from; r < to; r++ {
			dx, dy := gin[0][r*c.in[0].C:], gout[r*c.out.C:]
			for j, k := range o.from {
				dx[k] = dy[j]
			}
		}
	})
}

// subsample is graph.Subsample.
type subsample struct{ graph.Subsample }

func (o *subsample) pixels(c *context, f func(small, large int)) {
	in := c.in[0]
	for image := range c.n {
		for y := range c.out.H {
			for x := range c.out.W {
				f((image*c.out.H+y)*c.out.W+x, (image*in.H+y*o.Stride)*in.W+x*o.Stride)
			}
		}
	}
}

func (o *subsample) forward(c *context, out []float32, in [][]float32) {
	clear(out)
	ch := c.in[0].C
	o.pixels(c, func(small, large int) { copy(out[small*c.out.C+o.Before:][:ch], in[0][large*ch:]) })
}

func (o *subsample) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	clear(gin[0])
	ch := c.in[0].C
	o.pixels(c, func(small, large int) { copy(gin[0][large*ch:][:ch], gout[small*c.out.C+o.Before:]) })
}

// flatten is graph.Flatten: NHWC to PyTorch's order.
type flatten struct{}

func (o *flatten) forward(c *context, out []float32, in [][]float32) {
	s, e := c.in[0], c.in[0].Elements()
	c.split(c.n, 1, func(from, to int) {
		for i := from; i < to; i++ {
			transpose(out[i*e:], in[0][i*e:(i+1)*e], s.H*s.W, s.C)
		}
	})
}

func (o *flatten) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	s, e := c.in[0], c.in[0].Elements()
	c.split(c.n, 1, func(from, to int) {
		for i := from; i < to; i++ {
			transpose(gin[0][i*e:], gout[i*e:(i+1)*e], s.C, s.H*s.W)
		}
	})
}

// maxPool is graph.MaxPool. The first maximum in reading order wins, as in PyTorch; NaN wins over all.
type maxPool struct {
	graph.MaxPool
	argmax []int32 // pixel within the image
}

func (o *maxPool) forward(c *context, out []float32, in [][]float32) {
	s, pads, ch := c.in[0], o.Window.Pads(c.in[0]), c.out.C
	if cap(o.argmax) < len(out) {
		o.argmax = make([]int32, len(out))
	}
	o.argmax = o.argmax[:len(out)]
	c.split(c.n*c.out.H, 1, func(from, to int) {
		for r := from; r < to; r++ {
			image, y := r/c.out.H, r%c.out.H
			x := in[0][image*s.Elements():]
			for xo := range c.out.W {
				at := (r*c.out.W + xo) * ch
				best, arg := out[at:][:ch], o.argmax[at:][:ch]
				for j := range best {
					best[j] = float32(math.Inf(-1))
					arg[j] = -1
				}
				for ky := range o.Kernel.H {
					iy := y*o.Stride.H - pads.Top + ky*o.Dilation.H
					if iy < 0 || iy >= s.H {
						continue
					}
					for kx := range o.Kernel.W {
						ix := xo*o.Stride.W - pads.Left + kx*o.Dilation.W
						if ix < 0 || ix >= s.W {
							continue
						}
						pixel := iy*s.W + ix
						for j, v := range x[pixel*ch:][:ch] {
							if v > best[j] || v != v || arg[j] < 0 {
								best[j], arg[j] = v, int32(pixel)
							}
						}
					}
				}
			}
		}
	})
}

func (o *maxPool) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	ch, e := c.out.C, c.in[0].Elements()
	clear(gin[0])
	c.split(c.n, 1, func(from, to int) {
		for i := from; i < to; i++ {
			dx := gin[0][i*e:]
			at := i * c.out.Elements()
			for k, g := range gout[at:][:c.out.Elements()] {
				dx[int(o.argmax[at+k])*ch+k%ch] += g
			}
		}
	})
}

// avgPool is graph.AvgPool and graph.AdaptiveAvgPool: every output pixel is the sum of a rectangle over a divisor.
type avgPool struct {
	bin func(c *context, y, x int) bin
}

// bin is a rectangle of input pixels and what its sum is divided by.
type bin struct {
	top, left, bottom, right int
	divisor                  float32
}

func newAvgPool(op graph.AvgPool) operator {
	return &avgPool{bin: func(c *context, y, x int) bin {
		s, pads := c.in[0], op.Window.Pads(c.in[0])
		top, left := y*op.Stride.H-pads.Top, x*op.Stride.W-pads.Left
		bottom, right := min(top+op.Kernel.H, s.H+pads.Bottom), min(left+op.Kernel.W, s.W+pads.Right)
		area := (bottom - top) * (right - left)
		b := bin{max(top, 0), max(left, 0), min(bottom, s.H), min(right, s.W), float32(area)}
		if !op.CountIncludePad {
			b.divisor = float32((b.bottom - b.top) * (b.right - b.left))
		}
		return b
	}}
}

func newAdaptiveAvgPool(graph.AdaptiveAvgPool) operator {
	return &avgPool{bin: func(c *context, y, x int) bin {
		s, o := c.in[0], c.out
		b := bin{top: y * s.H / o.H, left: x * s.W / o.W, bottom: ((y+1)*s.H + o.H - 1) / o.H, right: ((x+1)*s.W + o.W - 1) / o.W}
		b.divisor = float32((b.bottom - b.top) * (b.right - b.left))
		return b
	}}
}

func (o *avgPool) forward(c *context, out []float32, in [][]float32) {
	s, ch := c.in[0], c.out.C
	c.split(c.n*c.out.H, 1, func(from, to int) {
		for r := from; r < to; r++ {
			image, y := r/c.out.H, r%c.out.H
			x := in[0][image*s.Elements():]
			for xo := range c.out.W {
				b := o.bin(c, y, xo)
				dst := out[(r*c.out.W+xo)*ch:][:ch]
				clear(dst)
				for iy := b.top; iy < b.bottom; iy++ {
					for ix := b.left; ix < b.right; ix++ {
						addTo(dst, x[(iy*s.W+ix)*ch:])
					}
				}
				for j := range dst {
					dst[j] /= b.divisor
				}
			}
		}
	})
}

func (o *avgPool) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	s, ch := c.in[0], c.out.C
	clear(gin[0])
	c.split(c.n, 1, func(from, to int) {
		for image := from; image < to; image++ {
			dx := gin[0][image*s.Elements():]
			for y := range c.out.H {
				for xo := range c.out.W {
					b := o.bin(c, y, xo)
					dy := gout[((image*c.out.H+y)*c.out.W+xo)*ch:][:ch]
					f := 1 / b.divisor
					for iy := b.top; iy < b.bottom; iy++ {
						for ix := b.left; ix < b.right; ix++ {
							dst := dx[(iy*s.W+ix)*ch:][:ch]
							for j, g := range dy {
								dst[j] += g * f
							}
						}
					}
				}
			}
		}
	})
}

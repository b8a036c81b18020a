package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/graph"
)

// concat is graph.Concat.
type concat struct{}

func (o *concat) reads() (in, out bool) { return false, false }

func (o *concat) overwrites() []int { return nil }

func (o *concat) forward(c *context, out []float32, in [][]float32) {
	y := denseMap(out, c.n, c.out)
	c.rows(func(_, from, to int) {
		o.blocks(c, func(i, first, end int) { kernel.Copy(y.Sub(first, end), denseMap(in[i], c.n, c.in[i]), from, to) })
	})
}

func (o *concat) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	dy := denseMap(gout, c.n, c.out)
	c.rows(func(_, from, to int) {
		o.blocks(c, func(i, first, end int) {
			if gin[i] != nil {
				kernel.Copy(denseMap(gin[i], c.n, c.in[i]), dy.Sub(first, end), from, to)
			}
		})
	})
}

// blocks calls f with the channels of each operand.
func (o *concat) blocks(c *context, f func(i, first, end int)) {
	at := 0
	for i, s := range c.in {
		f(i, at, at+s.C)
		at += s.C
	}
}

// slice is graph.Slice.
type slice struct{ graph.Slice }

func (o *slice) reads() (in, out bool) { return false, false }

func (o *slice) overwrites() []int { return nil }

func (o *slice) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.in[0]).Sub(o.From, o.To)
	c.rows(func(_, from, to int) { kernel.Copy(y, x, from, to) })
}

func (o *slice) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	dy, dx := denseMap(gout, c.n, c.out), denseMap(gin[0], c.n, c.in[0]).Sub(o.From, o.To)
	row := c.in[0].W * c.in[0].C
	c.rows(func(_, from, to int) {
		clear(gin[0][from*row : to*row])
		kernel.Copy(dx, dy, from, to)
	})
}

// shuffle is graph.ChannelShuffle. With the numbers of groups and of channels in a group exchanged it is its own inverse.
type shuffle struct{ graph.ChannelShuffle }

func (o *shuffle) reads() (in, out bool) { return false, false }

func (o *shuffle) overwrites() []int { return nil }

func (o *shuffle) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.out)
	c.rows(func(_, from, to int) { kernel.Shuffle(c.tier, y, x, o.Groups, from, to) })
}

func (o *shuffle) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	dy, dx := denseMap(gout, c.n, c.out), denseMap(gin[0], c.n, c.out)
	c.rows(func(_, from, to int) { kernel.Shuffle(c.tier, dx, dy, c.out.C/o.Groups, from, to) })
}

// subsample is graph.Subsample.
type subsample struct{ graph.Subsample }

func (o *subsample) reads() (in, out bool) { return false, false }

func (o *subsample) overwrites() []int { return nil }

func (o *subsample) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.in[0])
	c.rows(func(_, from, to int) { kernel.Subsample(y, x, o.Stride, o.Before, from, to) })
}

func (o *subsample) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	s, ch := c.in[0], c.in[0].C
	c.split(c.n, 1, func(first, end int) {
		clear(gin[0][first*s.Elements() : end*s.Elements()])
		for r := first * c.out.H; r < end*c.out.H; r++ {
			image, y := r/c.out.H, r%c.out.H
			for x := range c.out.W {
				large, small := (image*s.H+y*o.Stride)*s.W+x*o.Stride, r*c.out.W+x
				copy(gin[0][large*ch:][:ch], gout[small*c.out.C+o.Before:])
			}
		}
	})
}

// flatten is graph.Flatten: NHWC to PyTorch's order.
type flatten struct{}

func (o *flatten) reads() (in, out bool) { return false, false }

func (o *flatten) overwrites() []int { return nil }

func (o *flatten) forward(c *context, out []float32, in [][]float32) {
	if c.in[0].IsVector() {
		c.move(out, in[0])
		return
	}
	x := denseMap(in[0], c.n, c.in[0])
	c.split(x.Rows(), 1, func(from, to int) { kernel.ToNCHW(c.tier, out, x, from, to) })
}

func (o *flatten) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] == nil {
		return
	}
	if c.in[0].IsVector() {
		c.move(gin[0], gout)
		return
	}
	dx := denseMap(gin[0], c.n, c.in[0])
	c.split(dx.Rows(), 1, func(from, to int) { kernel.FromNCHW(c.tier, dx, gout, from, to) })
}

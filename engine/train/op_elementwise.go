package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// add is graph.Add with the activation that follows it, if any.
type add struct{ act activation }

func (o *add) reads() (in, out bool) { return !o.act.fromValue(), o.act.active }

func (o *add) overwrites() []int { return []int{0, 1} }

func (o *add) forward(c *context, out []float32, in [][]float32) { o.sum(c, out, in, o.act.kernel()) }

func (o *add) sum(c *context, out []float32, in [][]float32, act kernel.Activation) {
	y := denseMap(out, c.n, c.out)
	c.rows(func(_, from, to int) {
		a := denseMap(in[0], c.n, c.out)
		for i, x := range in[1:] {
			f := kernel.None
			if i == len(in)-2 {
				f = act
			}
			kernel.Add(c.tier, y, a, denseMap(x, c.n, c.out), f, from, to)
			a = y
		}
	})
}

func (o *add) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	if o.act.active {
		z := out
		if !o.act.fromValue() {
			z = c.buffers.get(len(out))
			defer c.buffers.put(z)
			o.sum(c, z, in, kernel.None)
		}
		o.act.gradient(c, gout, gout, z)
	}
	for _, g := range gin {
		c.move(g, gout)
	}
}

// move copies a gradient to where it is wanted, unless it is there.
func (c *context) move(dst, src []float32) {
	if len(dst) == 0 || &dst[0] == &src[0] {
		return
	}
	c.split(len(dst), 1<<15, func(from, to int) { copy(dst[from:to], src[from:to]) })
}

// mul is graph.Mul: of two maps, or of a map and a vector for each image.
type mul struct{}

func (o *mul) reads() (in, out bool) { return true, false }

func (o *mul) overwrites() []int { return []int{0} }

// vector reports whether the second operand is a vector for each image.
func (o *mul) vector(c *context) bool { return c.in[1].IsVector() && !c.in[0].IsVector() }

// times stores x·s.
func (o *mul) times(c *context, dst, x, s []float32) {
	if o.vector(c) {
		y, x := denseMap(dst, c.n, c.out), denseMap(x, c.n, c.out)
		c.rows(func(_, from, to int) { kernel.Affine(c.tier, y, x, s, nil, c.out.C, nil, kernel.None, from, to) })
		return
	}
	c.split(len(dst), 1<<13, func(from, to int) {
		x, s, dst := x[from:to], s[from:to], dst[from:to]
		for i, v := range x {
			dst[i] = v * s[i]
		}
	})
}

func (o *mul) forward(c *context, out []float32, in [][]float32) { o.times(c, out, in[0], in[1]) }

func (o *mul) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	if gin[1] != nil {
		if o.vector(c) {
			o.vectorGradient(c, gin[1], gout, in[0])
		} else {
			o.times(c, gin[1], gout, in[0])
		}
	}
	if gin[0] != nil {
		o.times(c, gin[0], gout, in[1])
	}
}

// vectorGradient stores the sums over the pixels of each image of dy·x.
func (o *mul) vectorGradient(c *context, ds, dy, x []float32) {
	ch, pixels := c.out.C, c.out.H*c.out.W
	zeros := c.zeroVector(ch)
	c.pool.Run(c.n, func(_, image int) {
		sums := make([]float64, 2*ch)
		at := image * pixels * ch
		grad.BatchNormSums(c.tier, sums[:ch], sums[ch:], dy[at:at+pixels*ch], x[at:at+pixels*ch], zeros)
		for j, v := range sums[ch:] {
			ds[image*ch+j] = float32(v)
		}
	})
}

// channelScale is graph.LayerScale and graph.Affine: y = x·scale + shift by channel.
type channelScale struct {
	scale, shift []float32 // nil scale: the parameter
}

func (o *channelScale) reads() (in, out bool) { return o.scale == nil, false }

func (o *channelScale) overwrites() []int { return []int{0} }

func (o *channelScale) factor(c *context) []float32 {
	if o.scale != nil {
		return o.scale
	}
	return c.params[graph.Scale].data
}

func (o *channelScale) forward(c *context, out []float32, in [][]float32) {
	c.affine(out, in[0], o.factor(c), o.shift)
}

// affine stores x·scale + shift by channel.
func (c *context) affine(dst, x, scale, shift []float32) {
	y, m := denseMap(dst, c.n, c.out), denseMap(x, c.n, c.out)
	c.rows(func(_, from, to int) { kernel.Affine(c.tier, y, m, scale, shift, 0, nil, kernel.None, from, to) })
}

func (o *channelScale) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	ch := c.out.C
	if p := c.params[graph.Scale]; p != nil && p.trainable {
		zeros := c.zeroVector(ch)
		sums := c.reduce(rows(c.n, c.out), 2*ch, func(acc []float64, from, to int) {
			grad.BatchNormSums(c.tier, acc[:ch], acc[ch:], gout[from*ch:to*ch], in[0][from*ch:to*ch], zeros)
		})
		g := p.accumulator()
		for j, v := range sums[ch:] {
			g[j] += float32(v)
		}
	}
	if gin[0] != nil {
		c.affine(gin[0], gout, o.factor(c), nil)
	}
}

// dropout is graph.Dropout, and with whole images graph.StochasticDepth: values (or images) are kept with probability 1-p and then scaled by
// 1/(1-p).
type dropout struct {
	p      float64
	images bool
	keep   []float32 // 0 or 1/(1-p), by value or by image
}

func (o *dropout) reads() (in, out bool) { return false, false }

func (o *dropout) overwrites() []int { return []int{0} }

func (o *dropout) forward(c *context, out []float32, in [][]float32) {
	o.keep = o.keep[:0]
	if !c.train || !c.dropout {
		c.move(out, in[0])
		return
	}
	n := len(out)
	if o.images {
		n = c.n
	}
	o.keep = resize(o.keep, n)
	scale := float32(1 / (1 - o.p))
	draws := c.random.take(n)
	c.split(n, 1<<12, func(from, to int) {
		for i := from; i < to; i++ {
			o.keep[i] = 0
			if draws.uniform(i) >= o.p {
				o.keep[i] = scale
			}
		}
	})
	o.mask(c, out, in[0])
}

func resize(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

func (o *dropout) mask(c *context, dst, src []float32) {
	switch {
	case len(o.keep) == 0:
		c.move(dst, src)
	case o.images:
		per := len(dst) / len(o.keep)
		c.pool.Run(len(o.keep), func(_, image int) {
			dst, src := dst[image*per:][:per], src[image*per:][:per]
			for i, v := range src {
				dst[i] = o.keep[image] * v
			}
		})
	default:
		c.split(len(dst), 1<<13, func(from, to int) {
			dst, src, keep := dst[from:to], src[from:to], o.keep[from:to]
			for i, v := range src {
				dst[i] = keep[i] * v
			}
		})
	}
}

func (o *dropout) backward(c *context, gin [][]float32, gout, _ []float32, _ [][]float32) {
	if gin[0] != nil {
		o.mask(c, gin[0], gout)
	}
}

// custom is an operator of a family's own.
type custom struct {
	op    graph.Custom
	specs []*Param
}

func (o *custom) reads() (in, out bool) { return true, false }

func (o *custom) overwrites() []int { return nil }

func (o *custom) values() (data, grads [][]float32) {
	for _, p := range o.specs {
		data = append(data, p.data)
		grads = append(grads, p.accumulator()) // nil when it is not trained
	}
	return data, grads
}

func (o *custom) forward(c *context, out []float32, in [][]float32) {
	data, _ := o.values()
	o.op.Forward(out, in, data, c.in, c.n)
}

func (o *custom) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	data, grads := o.values()
	for _, g := range gin {
		clear(g)
	}
	o.op.Backward(gin, grads, gout, in, data, c.in, c.n)
}

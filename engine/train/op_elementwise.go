package train

import (
	"math"

	"github.com/go-modelzoo/zoo/graph"
)

// activation is an elementwise function, or none.
type activation struct {
	active   bool
	function graph.Function
}

// apply replaces x by the function's value.
func (a activation) apply(x []float32) {
	if !a.active {
		return
	}
	f := functions[a.function].value
	for i, v := range x {
		x[i] = f(v)
	}
}

// gradient multiplies dy by the function's derivative at z, where it has the value y.
func (a activation) gradient(dy, z, y []float32) {
	f := functions[a.function].derivative
	for i := range dy {
		dy[i] *= f(z[i], y[i])
	}
}

// functions are the values and derivatives of graph.Function; a derivative takes the argument and the value.
var functions = [...]struct {
	value      func(x float32) float32
	derivative func(x, y float32) float32
}{
	graph.ReLU: {
		func(x float32) float32 { return max(x, 0) },
		func(x, _ float32) float32 { return step(x > 0) },
	},
	graph.ReLU6: {
		func(x float32) float32 { return min(max(x, 0), 6) },
		func(x, _ float32) float32 { return step(x > 0 && x < 6) },
	},
	graph.HardSwish: {
		func(x float32) float32 { return x * min(max(x+3, 0), 6) / 6 },
		func(x, _ float32) float32 {
			switch {
			case x <= -3:
				return 0
			case x < 3:
				return x/3 + 0.5
			}
			return 1
		},
	},
	graph.HardSigmoid: {
		func(x float32) float32 { return min(max(x+3, 0), 6) / 6 },
		func(x, _ float32) float32 { return step(x > -3 && x < 3) / 6 },
	},
	graph.SiLU: {
		func(x float32) float32 { return x * sigmoid(x) },
		func(x, _ float32) float32 { s := sigmoid(x); return s * (1 + x*(1-s)) },
	},
	graph.GELU: {
		func(x float32) float32 { return float32(0.5 * float64(x) * (1 + math.Erf(float64(x)/math.Sqrt2))) },
		func(x, _ float32) float32 {
			v := float64(x)
			return float32(0.5*(1+math.Erf(v/math.Sqrt2)) + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi))
		},
	},
	graph.Sigmoid: {
		sigmoid,
		func(_, y float32) float32 { return y * (1 - y) },
	},
	graph.Tanh: {
		func(x float32) float32 { return float32(math.Tanh(float64(x))) },
		func(_, y float32) float32 { return 1 - y*y },
	},
}

func step(b bool) float32 {
	if b {
		return 1
	}
	return 0
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// elementwise is graph.Activation.
type elementwise struct{ activation }

func (o *elementwise) forward(c *context, out []float32, in [][]float32) {
	c.split(len(out), 4096, func(from, to int) {
		copy(out[from:to], in[0][from:to])
		o.apply(out[from:to])
	})
}

func (o *elementwise) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	if gin[0] == nil {
		return
	}
	c.split(len(out), 4096, func(from, to int) {
		copy(gin[0][from:to], gout[from:to])
		o.gradient(gin[0][from:to], in[0][from:to], out[from:to])
	})
}

// add is graph.Add with the activation that follows it, if any.
type add struct{ act activation }

func (o *add) forward(c *context, out []float32, in [][]float32) {
	c.split(len(out), 4096, func(from, to int) {
		copy(out[from:to], in[0][from:to])
		for _, x := range in[1:] {
			addTo(out[from:to], x[from:to])
		}
		o.act.apply(out[from:to])
	})
}

func (o *add) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	c.split(len(out), 4096, func(from, to int) {
		dy := gout[from:to]
		if o.act.active {
			z := make([]float32, to-from)
			copy(z, in[0][from:to])
			for _, x := range in[1:] {
				addTo(z, x[from:to])
			}
			o.act.gradient(dy, z, out[from:to])
		}
		for _, g := range gin {
			if g != nil {
				copy(g[from:to], dy)
			}
		}
	})
}

// mul is graph.Mul: of two maps, or of a map and a vector for each image.
type mul struct{}

func (o *mul) forward(c *context, out []float32, in [][]float32) {
	ch, pixels := c.out.C, c.out.H*c.out.W
	vector := c.in[1].IsVector() && !c.in[0].IsVector()
	c.split(rows(c.n, c.out), 64, func(from, to int) {
		for r := from; r < to; r++ {
			k := r
			if vector {
				k = r / pixels
			}
			x, s, y := in[0][r*ch:][:ch], in[1][k*ch:][:ch], out[r*ch:][:ch]
			for j, v := range x {
				y[j] = v * s[j]
			}
		}
	})
}

func (o *mul) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	ch, pixels := c.out.C, c.out.H*c.out.W
	vector := c.in[1].IsVector() && !c.in[0].IsVector()
	per := 1 // pixels a factor is shared by
	if vector {
		per = pixels
	}
	c.split(rows(c.n, c.out)/per, 1, func(from, to int) {
		for k := from; k < to; k++ {
			s := in[1][k*ch:][:ch]
			var ds []float32
			if gin[1] != nil {
				ds = gin[1][k*ch:][:ch]
				clear(ds)
			}
			for r := k * per; r < (k+1)*per; r++ {
				x, dy := in[0][r*ch:][:ch], gout[r*ch:][:ch]
				if gin[0] != nil {
					dx := gin[0][r*ch:][:ch]
					for j, g := range dy {
						dx[j] = g * s[j]
					}
				}
				if ds != nil {
					for j, g := range dy {
						ds[j] += g * x[j]
					}
				}
			}
		}
	})
}

// channelScale is graph.LayerScale and graph.Affine: y = x·scale + shift by channel.
type channelScale struct {
	scale, shift []float32 // nil scale: the parameter
}

func (o *channelScale) factor(c *context) []float32 {
	if o.scale != nil {
		return o.scale
	}
	return c.params[graph.Scale].data
}

func (o *channelScale) forward(c *context, out []float32, in [][]float32) {
	ch, s := c.out.C, o.factor(c)
	c.split(rows(c.n, c.out), 256, func(from, to int) {
		for r := from; r < to; r++ {
			x, y := in[0][r*ch:][:ch], out[r*ch:][:ch]
			for j, v := range x {
				y[j] = v * s[j]
			}
			if o.shift != nil {
				addTo(y, o.shift)
			}
		}
	})
}

func (o *channelScale) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	ch, s := c.out.C, o.factor(c)
	if p := c.params[graph.Scale]; p != nil && p.trainable {
		sum := c.reduce(rows(c.n, c.out), ch, func(acc []float64, from, to int) {
			for r := from; r < to; r++ {
				x, dy := in[0][r*ch:][:ch], gout[r*ch:][:ch]
				for j, g := range dy {
					acc[j] += float64(g * x[j])
				}
			}
		})
		for j, v := range sum {
			p.grad[j] += float32(v)
		}
	}
	if gin[0] == nil {
		return
	}
	c.split(rows(c.n, c.out), 256, func(from, to int) {
		for r := from; r < to; r++ {
			dy, dx := gout[r*ch:][:ch], gin[0][r*ch:][:ch]
			for j, g := range dy {
				dx[j] = g * s[j]
			}
		}
	})
}

// dropout is graph.Dropout, and with whole images graph.StochasticDepth: values (or images) are kept with probability 1-p and then scaled by
// 1/(1-p).
type dropout struct {
	p      float64
	images bool
	keep   []float32 // 0 or 1/(1-p), by value or by image
}

func (o *dropout) forward(c *context, out []float32, in [][]float32) {
	o.keep = o.keep[:0]
	if !c.train || !c.dropout {
		copy(out, in[0])
		return
	}
	n := len(out)
	if o.images {
		n = c.n
	}
	o.keep = resize(o.keep, n)
	scale := float32(1 / (1 - o.p))
	for i := range o.keep {
		o.keep[i] = scale * step(c.random.uniform() >= o.p)
	}
	o.mask(c, out, in[0])
}

func (o *dropout) mask(c *context, dst, src []float32) {
	if len(o.keep) == 0 {
		copy(dst, src)
		return
	}
	per := len(dst) / len(o.keep)
	for k, f := range o.keep {
		for i := k * per; i < (k+1)*per; i++ {
			dst[i] = f * src[i]
		}
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

func (o *custom) values() (data, grads [][]float32) {
	for _, p := range o.specs {
		data = append(data, p.data)
		grads = append(grads, p.grad) // nil when it is not trained
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

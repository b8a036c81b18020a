package train

import (
	"math"

	"github.com/go-modelzoo/zoo/graph"
)

// batchNorm is graph.BatchNorm with the activation that follows it, if any:
// y = act(γ·(x-μ)/√(σ²+ε) + β) (Ioffe and Szegedy, 2015).
type batchNorm struct {
	graph.BatchNorm
	act activation

	mean, invStd []float32 // of the batch, or the running ones
	scale, shift []float32
	batch        bool // mean and invStd are the batch's
}

func (o *batchNorm) forward(c *context, out []float32, in [][]float32) {
	ch, n := o.Channels, rows(c.n, c.out)
	x := in[0]
	if o.mean == nil {
		o.mean, o.invStd = make([]float32, ch), make([]float32, ch)
		o.scale, o.shift = make([]float32, ch), make([]float32, ch)
	}
	mean, variance := c.params[graph.RunningMean].data, c.params[graph.RunningVar].data
	o.batch = c.train && c.params[graph.Weight].trainable
	if o.batch {
		mean, variance = o.statistics(c, x, n)
	}
	gamma, beta := c.weight(), c.bias()
	for j := range ch {
		o.mean[j] = mean[j]
		o.invStd[j] = float32(1 / math.Sqrt(float64(variance[j])+o.Eps))
		o.scale[j] = gamma[j] * o.invStd[j]
		o.shift[j] = beta[j] - mean[j]*o.scale[j]
	}
	c.split(n, 256, func(from, to int) {
		for r := from; r < to; r++ {
			src, dst := x[r*ch:][:ch], out[r*ch:][:ch]
			for j, v := range src {
				dst[j] = v*o.scale[j] + o.shift[j]
			}
			o.act.apply(dst)
		}
	})
}

// statistics returns the batch's mean and biased variance and moves the running ones towards it. The variance is that of deviations from the
// mean, in a second pass.
func (o *batchNorm) statistics(c *context, x []float32, n int) (mean, variance []float32) {
	ch := o.Channels
	mean, variance = make([]float32, ch), make([]float32, ch)
	sum := c.reduce(n, ch, func(acc []float64, from, to int) {
		for r := from; r < to; r++ {
			for j, v := range x[r*ch:][:ch] {
				acc[j] += float64(v)
			}
		}
	})
	for j, s := range sum {
		mean[j] = float32(s / float64(n))
	}
	squares := c.reduce(n, ch, func(acc []float64, from, to int) {
		for r := from; r < to; r++ {
			for j, v := range x[r*ch:][:ch] {
				d := float64(v - mean[j])
				acc[j] += d * d
			}
		}
	})
	runMean, runVar := c.params[graph.RunningMean].data, c.params[graph.RunningVar].data
	m := o.Momentum
	for j, s := range squares {
		variance[j] = float32(s / float64(n))
		unbiased := s / float64(max(n-1, 1))
		runMean[j] = float32((1-m)*float64(runMean[j]) + m*float64(mean[j]))
		runVar[j] = float32((1-m)*float64(runVar[j]) + m*unbiased)
	}
	c.params[graph.NumBatchesTracked].data[0]++
	return mean, variance
}

func (o *batchNorm) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	ch, n := o.Channels, rows(c.n, c.out)
	x := in[0]
	if o.act.active {
		c.split(n, 256, func(from, to int) {
			z := make([]float32, ch)
			for r := from; r < to; r++ {
				src, dy := x[r*ch:][:ch], gout[r*ch:][:ch]
				for j, v := range src {
					z[j] = v*o.scale[j] + o.shift[j]
				}
				o.act.gradient(dy, z, out[r*ch:][:ch])
			}
		})
	}
	// Σdy and Σdy·x̂ are the gradients of β and γ, and what the batch's statistics pass back.
	sums := c.reduce(n, 2*ch, func(acc []float64, from, to int) {
		for r := from; r < to; r++ {
			src, dy := x[r*ch:][:ch], gout[r*ch:][:ch]
			for j, g := range dy {
				acc[j] += float64(g)
				acc[ch+j] += float64(g * (src[j] - o.mean[j]) * o.invStd[j])
			}
		}
	})
	if p := c.params[graph.Weight]; p.trainable {
		for j := range ch {
			p.grad[j] += float32(sums[ch+j])
		}
	}
	if p := c.params[graph.Bias]; p.trainable {
		for j := range ch {
			p.grad[j] += float32(sums[j])
		}
	}
	if gin[0] == nil {
		return
	}
	a, b, d := make([]float32, ch), make([]float32, ch), make([]float32, ch) // dx = a·dy + b·x + d
	for j := range ch {
		a[j] = o.scale[j]
		if o.batch {
			meanDy, meanDyX := sums[j]/float64(n), sums[ch+j]/float64(n)
			b[j] = float32(-float64(o.scale[j]) * meanDyX * float64(o.invStd[j]))
			d[j] = float32(-float64(o.scale[j])*meanDy + float64(o.scale[j])*meanDyX*float64(o.invStd[j])*float64(o.mean[j]))
		}
	}
	c.split(n, 256, func(from, to int) {
		for r := from; r < to; r++ {
			src, dy, dx := x[r*ch:][:ch], gout[r*ch:][:ch], gin[0][r*ch:][:ch]
			for j, g := range dy {
				dx[j] = a[j]*g + b[j]*src[j] + d[j]
			}
		}
	})
}

// layerNorm is graph.LayerNorm (Ba, Kiros and Hinton, 2016).
type layerNorm struct {
	graph.LayerNorm
	mean, invStd []float32 // by pixel
}

func (o *layerNorm) forward(c *context, out []float32, in [][]float32) {
	ch, n := o.Channels, rows(c.n, c.out)
	gamma, beta := c.weight(), c.bias()
	o.mean, o.invStd = resize(o.mean, n), resize(o.invStd, n)
	c.split(n, 64, func(from, to int) {
		for r := from; r < to; r++ {
			src, dst := in[0][r*ch:][:ch], out[r*ch:][:ch]
			var sum, squares float64
			for _, v := range src {
				sum += float64(v)
			}
			mean := sum / float64(ch)
			for _, v := range src {
				squares += (float64(v) - mean) * (float64(v) - mean)
			}
			o.mean[r], o.invStd[r] = float32(mean), float32(1/math.Sqrt(squares/float64(ch)+o.Eps))
			for j, v := range src {
				dst[j] = (v-o.mean[r])*o.invStd[r]*gamma[j] + beta[j]
			}
		}
	})
}

func resize(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

func (o *layerNorm) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	ch, n := o.Channels, rows(c.n, c.out)
	gamma := c.weight()
	weight, bias := c.params[graph.Weight], c.params[graph.Bias]
	sums := c.reduce(n, 2*ch, func(acc []float64, from, to int) {
		for r := from; r < to; r++ {
			src, dy := in[0][r*ch:][:ch], gout[r*ch:][:ch]
			for j, g := range dy {
				acc[j] += float64(g)
				acc[ch+j] += float64(g * (src[j] - o.mean[r]) * o.invStd[r])
			}
		}
	})
	for j := range ch {
		if bias.trainable {
			bias.grad[j] += float32(sums[j])
		}
		if weight.trainable {
			weight.grad[j] += float32(sums[ch+j])
		}
	}
	if gin[0] == nil {
		return
	}
	c.split(n, 64, func(from, to int) {
		for r := from; r < to; r++ {
			src, dy, dx := in[0][r*ch:][:ch], gout[r*ch:][:ch], gin[0][r*ch:][:ch]
			var s1, s2 float64
			for j, g := range dy {
				v := float64(g * gamma[j])
				s1 += v
				s2 += v * float64((src[j]-o.mean[r])*o.invStd[r])
			}
			s1, s2 = s1/float64(ch), s2/float64(ch)
			for j, g := range dy {
				hat := (src[j] - o.mean[r]) * o.invStd[r]
				dx[j] = o.invStd[r] * (g*gamma[j] - float32(s1) - hat*float32(s2))
			}
		}
	})
}

// localResponseNorm is graph.LocalResponseNorm: with s = K + Alpha/Size·Σx² over the window, y = x·s^-Beta and
// dx_i = dy_i·s_i^-Beta - 2·Beta·Alpha/Size·x_i·Σ_{j: i in window of j} dy_j·y_j/s_j.
type localResponseNorm struct {
	graph.LocalResponseNorm
	s []float32
}

// window returns the channels that channel j's sum covers (PyTorch pads Size/2 before and (Size-1)/2 after).
func (o *localResponseNorm) window(j, ch int) (from, to int) {
	return max(j-o.Size/2, 0), min(j+(o.Size-1)/2+1, ch)
}

func (o *localResponseNorm) forward(c *context, out []float32, in [][]float32) {
	ch, n := c.out.C, rows(c.n, c.out)
	o.s = resize(o.s, n*ch)
	c.split(n, 64, func(from, to int) {
		for r := from; r < to; r++ {
			x, y, s := in[0][r*ch:][:ch], out[r*ch:][:ch], o.s[r*ch:][:ch]
			for j := range x {
				a, b := o.window(j, ch)
				var sum float32
				for _, v := range x[a:b] {
					sum += v * v
				}
				s[j] = float32(o.K) + float32(o.Alpha)/float32(o.Size)*sum
				y[j] = x[j] * float32(math.Pow(float64(s[j]), -o.Beta))
			}
		}
	})
}

func (o *localResponseNorm) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	if gin[0] == nil {
		return
	}
	ch, n := c.out.C, rows(c.n, c.out)
	factor := float32(2 * o.Beta * o.Alpha / float64(o.Size))
	c.split(n, 64, func(from, to int) {
		ratio := make([]float32, ch)
		for r := from; r < to; r++ {
			x, y, s := in[0][r*ch:][:ch], out[r*ch:][:ch], o.s[r*ch:][:ch]
			dy, dx := gout[r*ch:][:ch], gin[0][r*ch:][:ch]
			for j := range ratio {
				ratio[j] = dy[j] * y[j] / s[j]
				dx[j] = dy[j] * float32(math.Pow(float64(s[j]), -o.Beta))
			}
			for j, v := range ratio {
				a, b := o.window(j, ch)
				for i := a; i < b; i++ {
					dx[i] -= factor * x[i] * v
				}
			}
		}
	})
}

package train

import (
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// batchNorm is graph.BatchNorm with the sum and the activation that follow it, if any:
// y = act(γ·(x-μ)/√(σ²+ε) + β + residual) (Ioffe and Szegedy, 2015). Neither the normalised map nor the sum is kept for the backward pass.
type batchNorm struct {
	graph.BatchNorm
	act      activation
	residual bool // the second operand

	batch        bool // the statistics are the batch's
	mean         []float32
	variance     []float64
	scale, shift []float32
	factors      []float32 // three by channel, see grad.BatchNormData
}

func (o *batchNorm) reads() (in, out bool) { return true, o.act.active && o.act.fromValue() }

func (o *batchNorm) overwrites() []int { return []int{1, 0} }

// learns reports whether its statistics are the batch's in training.
func (o *batchNorm) learns(c *context) bool { return c.params[graph.Weight].trainable }

func (o *batchNorm) forward(c *context, out []float32, in [][]float32) {
	ch := o.Channels
	if o.mean == nil {
		o.mean, o.variance = make([]float32, ch), make([]float64, ch)
		o.scale, o.shift = make([]float32, ch), make([]float32, ch)
		o.factors = make([]float32, 3*ch)
	}
	runMean, runVar := c.params[graph.RunningMean].data, c.params[graph.RunningVar].data
	o.batch = c.train && o.learns(c)
	if o.batch {
		m := c.statistics(in[0], rows(c.n, c.out), ch)
		for j := range ch {
			o.mean[j], o.variance[j] = float32(m.Mean[j]), m.Variance(j)
			runMean[j] = float32((1-o.Momentum)*float64(runMean[j]) + o.Momentum*m.Mean[j])
			runVar[j] = float32((1-o.Momentum)*float64(runVar[j]) + o.Momentum*m.SampleVariance(j))
		}
		c.params[graph.NumBatchesTracked].data[0]++
	} else {
		for j := range ch {
			o.mean[j], o.variance[j] = runMean[j], float64(runVar[j])
		}
	}
	gamma, beta := c.weight(), c.bias()
	for j := range ch {
		o.scale[j] = float32(float64(gamma[j]) / math.Sqrt(o.variance[j]+o.Eps))
		o.shift[j] = beta[j] - o.mean[j]*o.scale[j]
	}
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.out)
	res := o.second(c, in)
	c.rows(func(_, from, to int) {
		kernel.Affine(c.tier, y, x, o.scale, o.shift, 0, res, o.act.kernel(), from, to)
	})
}

// second is the residual as a map, nil if there is none.
func (o *batchNorm) second(c *context, in [][]float32) *kernel.Map {
	if !o.residual {
		return nil
	}
	m := denseMap(in[1], c.n, c.out)
	return &m
}

func (o *batchNorm) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	ch, n := o.Channels, rows(c.n, c.out)
	// Σdy and Σdy·(x-μ) are the gradients of β and γ but for a factor, and what the batch's statistics pass back.
	sums := c.reduce(n, 2*ch, func(acc []float64, from, to int) {
		o.activationGradient(c, gout, out, in, from, to, func(from, to int) {
			grad.BatchNormSums(c.tier, acc[:ch], acc[ch:], gout[from*ch:to*ch], in[0][from*ch:to*ch], o.mean)
		})
	})
	if p := c.params[graph.Weight]; p.trainable {
		g := p.accumulator()
		for j := range ch {
			g[j] += float32(sums[ch+j] / math.Sqrt(o.variance[j]+o.Eps))
		}
	}
	if p := c.params[graph.Bias]; p.trainable {
		g := p.accumulator()
		for j := range ch {
			g[j] += float32(sums[j])
		}
	}
	if o.residual {
		c.move(gin[1], gout)
	}
	switch {
	case gin[0] == nil:
	case o.batch:
		a, b, d := o.factors[:ch], o.factors[ch:2*ch], o.factors[2*ch:]
		grad.BatchNormFactors(a, b, d, sums[:ch], sums[ch:], c.weight(), o.mean, o.variance, o.Eps, n)
		c.split(n, 64, func(from, to int) {
			grad.BatchNormData(c.tier, gin[0][from*ch:to*ch], gout[from*ch:to*ch], in[0][from*ch:to*ch], a, b, d)
		})
	default:
		c.affine(gin[0], gout, o.scale, nil)
	}
}

// activationGradient multiplies pixels from..to of dy by the activation's derivative, a block at a time, and calls then for each block
// while it is in cache.
func (o *batchNorm) activationGradient(c *context, dy, out []float32, in [][]float32, from, to int, then func(from, to int)) {
	ch := o.Channels
	const block = 16 << 10 // values
	step := max(block/ch, 1)
	if step > 256 {
		step = step / 256 * 256 // the sums go to float64 every 256 pixels
	}
	var z []float32
	if !o.act.fromValue() {
		z = make([]float32, step*ch)
	}
	for ; from < to; from += step {
		end := min(from+step, to)
		part := dy[from*ch : end*ch]
		switch {
		case !o.act.active:
		case o.act.fromValue():
			grad.Activation(c.tier, o.act.kernel(), part, part, out[from*ch:end*ch])
		default:
			z := z[:len(part)]
			pixels := graph.Shape{C: ch, H: 1, W: end - from}
			y, x := denseMap(z, 1, pixels), denseMap(in[0][from*ch:end*ch], 1, pixels)
			var res *kernel.Map
			if o.residual {
				m := denseMap(in[1][from*ch:end*ch], 1, pixels)
				res = &m
			}
			kernel.Affine(c.tier, y, x, o.scale, o.shift, 0, res, kernel.None, 0, 1)
			grad.Activation(c.tier, o.act.kernel(), part, part, z)
		}
		then(from, end)
	}
}

// layerNorm is graph.LayerNorm (Ba, Kiros and Hinton, 2016).
type layerNorm struct {
	graph.LayerNorm
}

func (o *layerNorm) reads() (in, out bool) { return true, false }

func (o *layerNorm) overwrites() []int { return []int{0} }

func (o *layerNorm) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.out)
	c.rows(func(_, from, to int) { kernel.LayerNorm(c.tier, y, x, c.weight(), c.bias(), float32(o.Eps), from, to) })
}

func (o *layerNorm) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	ch, n := o.Channels, rows(c.n, c.out)
	dx := gin[0]
	if dx == nil {
		dx = gout
	}
	sums := c.buffers.zero(parts * 2 * ch)
	defer c.buffers.put(sums)
	c.pool.Run(parts, func(_, task int) {
		part := sums[task*2*ch:][:2*ch]
		from, to := task*n/parts*ch, (task+1)*n/parts*ch
		grad.LayerNorm(c.tier, dx[from:to], gout[from:to], in[0][from:to], c.weight(), part[:ch], part[ch:], float32(o.Eps))
	})
	for i, role := range []graph.Role{graph.Weight, graph.Bias} {
		p := c.params[role]
		if !p.trainable {
			continue
		}
		for task := range parts {
			grad.Sum(c.tier, p.accumulator(), sums[task*2*ch+i*ch:][:ch])
		}
	}
}

// localResponseNorm is graph.LocalResponseNorm.
type localResponseNorm struct {
	graph.LocalResponseNorm
}

func (o *localResponseNorm) reads() (in, out bool) { return true, false }

func (o *localResponseNorm) overwrites() []int { return nil }

func (o *localResponseNorm) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.out)
	floats := c.floatsFor(kernel.LRNScratch(c.out.C, o.Size))
	c.rows(func(worker, from, to int) {
		kernel.LRN(c.tier, y, x, o.Size, float32(o.Alpha), float32(o.Beta), float32(o.K), from, to, floats[worker])
	})
}

func (o *localResponseNorm) backward(c *context, gin [][]float32, gout, _ []float32, in [][]float32) {
	if gin[0] == nil {
		return
	}
	ch := c.out.C
	floats := c.floatsFor(grad.LRNScratch(ch, o.Size))
	c.splitWorkers(rows(c.n, c.out), 64, func(worker, from, to int) {
		grad.LRN(c.tier, gin[0][from*ch:to*ch], gout[from*ch:to*ch], in[0][from*ch:to*ch], ch, o.Size,
			float32(o.Alpha), float32(o.Beta), float32(o.K), floats[worker])
	})
}

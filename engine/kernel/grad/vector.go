package grad

import (
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Sum adds part to dst: the step by which partial results become one. Both have the same length.
func Sum(tier cpu.Tier, dst, part []float32) {
	axpyPixels(tier, dst, len(part), part, len(part), 1, 1, len(part))
}

// ScaleBy multiplies all values of x by a.
func ScaleBy(x []float32, a float32) {
	for i := range x {
		x[i] *= a
	}
}

// SumSquares returns the sum of the squares of x, for the norm by which gradients are clipped. Four sums run beside each
// other, since one would wait for its own last addition.
func SumSquares(x []float32) float64 {
	var sums [4]float64
	for ; len(x) >= 4; x = x[4:] {
		for i, v := range x[:4] {
			sums[i] += float64(v) * float64(v)
		}
	}
	for i, v := range x {
		sums[i] += float64(v) * float64(v)
	}
	return sums[0] + sums[1] + (sums[2] + sums[3])
}

// ColumnSums adds the sums over the pixels of x, each of len(sums) channels, to sums: the gradient of a bias.
func ColumnSums(tier cpu.Tier, sums []float64, x []float32) {
	c := len(sums)
	if c == 0 {
		return
	}
	var block [columnBlock]float32
	for c0 := 0; c0 < c; c0 += columnBlock {
		n := min(columnBlock, c-c0)
		for p, pixels := 0, len(x)/c; p < pixels; p += blockPixels {
			acc := block[:n]
			clear(acc)
			sumPixels(tier, acc, x[p*c+c0:], c, min(blockPixels, pixels-p))
			for i, v := range acc {
				sums[c0+i] += float64(v)
			}
		}
	}
}

const (
	// blockPixels is how many pixels are summed in float32 before the sum goes on in float64: few enough for a
	// relative error near 2^-24, many enough that the scalar float64 part costs little.
	blockPixels = 256
	// columnBlock is how many channels are summed at a time, in arrays on the stack.
	columnBlock = 256
)

// Moments holds count, mean and sum of squared deviations of each channel of a batch. NewMoments makes an empty one.
type Moments struct {
	Count    int
	Mean, M2 []float64
}

// NewMoments returns the moments of nothing for c channels.
func NewMoments(c int) *Moments { return &Moments{Mean: make([]float64, c), M2: make([]float64, c)} }

// Reset forgets all pixels.
func (m *Moments) Reset() {
	m.Count = 0
	clear(m.Mean)
	clear(m.M2)
}

// Add takes in the pixels of x. Blocks of pixels are summed in two passes while they are in cache, mean first, and
// merged in float64 with the formula of Chan, Golub and LeVeque (1979), so that a large mean costs no digits.
func (m *Moments) Add(tier cpu.Tier, x []float32) {
	c := len(m.Mean)
	if c == 0 {
		return
	}
	var mean, squares, rests [columnBlock]float32
	pixels := len(x) / c
	for p := 0; p < pixels; p += blockPixels {
		n := min(blockPixels, pixels-p)
		for c0 := 0; c0 < c; c0 += columnBlock {
			k := min(columnBlock, c-c0)
			sum, sq, rest := mean[:k], squares[:k], rests[:k]
			clear(sum)
			clear(sq)
			clear(rest)
			sumPixels(tier, sum, x[p*c+c0:], c, n)
			for i := range sum {
				sum[i] /= float32(n)
			}
			squaresPixels(tier, sq, rest, x[p*c+c0:], sum, c, n)
			// The float32 mean is off by its roundings; the rest, a sum of small numbers, says by how much.
			for i := range sum {
				off := float64(rest[i]) / float64(n)
				m.merge(c0+i, m.Count, n, float64(sum[i])+off, float64(sq[i])-off*float64(rest[i]))
			}
		}
		m.Count += n
	}
}

// Merge takes in the pixels of o.
func (m *Moments) Merge(o *Moments) {
	if o.Count == 0 {
		return
	}
	for i := range m.Mean {
		m.merge(i, m.Count, o.Count, o.Mean[i], o.M2[i])
	}
	m.Count += o.Count
}

func (m *Moments) merge(i, have, more int, mean, m2 float64) {
	total := float64(have + more)
	delta := mean - m.Mean[i]
	m.Mean[i] += delta * float64(more) / total
	m.M2[i] += m2 + delta*delta*float64(have)*float64(more)/total
}

// Variance returns the variance of the population of channel i, what batch norm divides by.
func (m *Moments) Variance(i int) float64 { return m.M2[i] / float64(max(m.Count, 1)) }

// SampleVariance returns the unbiased variance of channel i, what batch norm keeps as running variance.
func (m *Moments) SampleVariance(i int) float64 { return m.M2[i] / float64(max(m.Count-1, 1)) }

// SGD is the update of torch.optim.SGD.
type SGD struct {
	LR, Momentum, Dampening, WeightDecay float32
	Nesterov                             bool
	First                                bool // the momentum buffer is empty: it becomes the gradient
}

// Step updates weights by their gradient. velocity is the momentum buffer, nil if Momentum is 0.
func (s SGD) Step(tier cpu.Tier, weights, grad, velocity []float32) {
	grad = grad[:len(weights)]
	damp := 1 - s.Dampening
	if s.First {
		damp = 1
	}
	if s.Momentum != 0 {
		velocity = velocity[:len(weights)]
		if s.First {
			clear(velocity)
		}
		if k := sgdKernels[levelOf(tier)]; k != nil && len(weights) > 0 {
			nesterov := float32(0)
			direct := float32(1)
			if s.Nesterov {
				nesterov, direct = 1, s.Momentum
			}
			k(floats(weights), floats(grad), floats(velocity), len(weights), s.LR, s.WeightDecay, s.Momentum, damp, nesterov, direct)
			return
		}
	}
	for i, w := range weights {
		g := grad[i] + s.WeightDecay*w
		if s.Momentum != 0 {
			v := s.Momentum*velocity[i] + damp*g
			velocity[i] = v
			if s.Nesterov {
				g += s.Momentum * v
			} else {
				g = v
			}
		}
		weights[i] = w - s.LR*g
	}
}

// Adam is the update of torch.optim.Adam, or of AdamW where Decoupled.
type Adam struct {
	LR, Beta1, Beta2, Eps, WeightDecay float32
	Decoupled                          bool
	T                                  int // number of this step, from 1
}

// Step updates weights by their gradient; mean and square are the running moments.
func (a Adam) Step(tier cpu.Tier, weights, grad, mean, square []float32) {
	n := len(weights)
	grad, mean, square = grad[:n], mean[:n], square[:n]
	step := float32(float64(a.LR) / (1 - math.Pow(float64(a.Beta1), float64(a.T))))
	root := float32(1 / math.Sqrt(1-math.Pow(float64(a.Beta2), float64(a.T))))
	keep, decay := float32(1), a.WeightDecay
	if a.Decoupled {
		keep, decay = 1-a.LR*a.WeightDecay, 0
	}
	if k := adamKernels[levelOf(tier)]; k != nil && n > 0 {
		k(floats(weights), floats(grad), floats(mean), floats(square), n, keep, decay, a.Beta1, 1-a.Beta1, a.Beta2, 1-a.Beta2, step, root, a.Eps)
		return
	}
	for i, w := range weights {
		g := grad[i] + decay*w
		m := a.Beta1*mean[i] + (1-a.Beta1)*g
		v := a.Beta2*square[i] + (1-a.Beta2)*g*g
		mean[i], square[i] = m, v
		weights[i] = w*keep - step*m/(float32(math.Sqrt(float64(v)))*root+a.Eps)
	}
}

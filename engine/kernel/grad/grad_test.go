package grad

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

// source is random numbers and the test that uses them.
type source struct {
	*rand.Rand
	tb testing.TB
}

// eachTier runs f for the tiers that this machine and ZOO_CPU allow, with the same random numbers.
func eachTier(t *testing.T, f func(t *testing.T, tier cpu.Tier, r source)) {
	t.Helper()
	for tier := cpu.Generic; tier <= cpu.Best(); tier++ {
		t.Run(tier.String(), func(t *testing.T) { f(t, tier, source{rand.New(rand.NewPCG(3, 4)), t}) })
	}
}

func randoms(r source, n int) []float32 {
	v := guard.Slice[float32](r.tb, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func channels(r source) int {
	if r.IntN(3) == 0 {
		return 1 + r.IntN(150)
	}
	return 1 + r.IntN(40)
}

func near(t *testing.T, what string, i int, got, want, scale float64) {
	t.Helper()
	if !(math.Abs(got-want) <= scale*(1+math.Abs(want))) && !(math.IsNaN(got) && math.IsNaN(want)) {
		t.Fatalf("%s: value %d is %g instead of %g", what, i, got, want)
	}
}

func dot(a, b []float32) (sum float64) {
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

func asMap(v []float32, s Shape) kernel.Map {
	return kernel.Layout(kernel.F32, s.N, s.H, s.W, s.C, 0).Over(v, nil, nil)
}

// A convolution is linear in its input and in its weights, so that the gradients are its adjoints:
// <conv(x, w), dy> = <x, dx> = <w, dw>.
func TestDepthwiseGradientsAreAdjoint(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for trial := range guard.Trials(60) {
			c := channels(r)
			k := 1 + r.IntN(5)
			spec := kernel.DepthwiseSpec{Channels: c, KernelH: k, KernelW: k, StrideH: 1 + r.IntN(2), StrideW: 1 + r.IntN(2), DilationH: 1 + r.IntN(2), DilationW: 1 + r.IntN(2), Tier: tier,
				PadTop: r.IntN(k), PadLeft: r.IntN(k), PadBottom: r.IntN(k), PadRight: r.IntN(k)}
			in := Shape{1 + r.IntN(2), 1 + r.IntN(12), 1 + r.IntN(12), c}
			weights := randoms(r, c*k*k)
			conv, err := kernel.NewDepthwise(spec, weights, nil)
			if err != nil {
				t.Fatal(err)
			}
			oh, ow := conv.OutSize(in.H, in.W)
			if oh < 1 || ow < 1 {
				continue
			}
			out := Shape{in.N, oh, ow, c}
			x, y, dy, dx := randoms(r, in.Len()), randoms(r, out.Len()), randoms(r, out.Len()), randoms(r, in.Len())
			conv.Run(asMap(y, out), asMap(x, in), 0, out.Rows(), make([]float32, conv.Scratch(asMap(y, out), asMap(x, in))), nil)
			d, err := NewDepthwise(spec, in, out)
			if err != nil {
				t.Fatal(err)
			}
			packed := guard.Slice[float32](r.tb, d.Weights())
			d.Pack(packed, weights)
			half := r.IntN(in.Rows() + 1)
			d.Data(tier, dx, dy, packed, 0, half)
			d.Data(tier, dx, dy, packed, half, in.Rows())
			part, dw := guard.Slice[float32](r.tb, d.Weights()), make([]float32, c*k*k)
			half = r.IntN(out.Rows() + 1)
			d.WeightGrad(tier, part, dy, x, 0, half)
			d.WeightGrad(tier, part, dy, x, half, out.Rows())
			d.Unpack(dw, part)
			want := dot(y, dy)
			scale := math.Sqrt(float64(out.Len()*k*k)) * 1e-5
			near(t, fmt.Sprintf("<x, dx> of trial %d", trial), 0, dot(x, dx), want, scale)
			near(t, fmt.Sprintf("<w, dw> of trial %d", trial), 0, dot(weights, dw), want, scale)
		}
	})
}

func TestPoolGradients(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for range guard.Trials(80) {
			c := channels(r)
			p := kernel.Pool{KernelH: 1 + r.IntN(4), KernelW: 1 + r.IntN(4), StrideH: 1 + r.IntN(3), StrideW: 1 + r.IntN(3), CeilMode: r.IntN(2) == 0, CountIncludePad: r.IntN(2) == 0}
			p.PadTop, p.PadLeft, p.PadBottom, p.PadRight = r.IntN(p.KernelH/2+1), r.IntN(p.KernelW/2+1), r.IntN(p.KernelH/2+1), r.IntN(p.KernelW/2+1)
			in := Shape{1 + r.IntN(2), 1 + r.IntN(10), 1 + r.IntN(10), c}
			oh, ow := p.OutSize(in.H, in.W)
			if oh < 1 || ow < 1 {
				continue
			}
			out := Shape{in.N, oh, ow, c}
			x, y, dy, dx := randoms(r, in.Len()), randoms(r, out.Len()), randoms(r, out.Len()), randoms(r, in.Len())
			half := r.IntN(in.Rows() + 1)

			my, mx := asMap(y, out), asMap(x, in)
			scratch := make([]float32, kernel.PoolScratch(my, mx))
			kernel.AvgPool(tier, my, mx, p, 0, out.Rows(), scratch)
			AvgPoolData(tier, dx, dy, in, out, p, 0, half)
			AvgPoolData(tier, dx, dy, in, out, p, half, in.Rows())
			near(t, fmt.Sprintf("average %+v", p), 0, dot(x, dx), dot(y, dy), math.Sqrt(float64(out.Len()))*1e-5)

			p.DilationH, p.DilationW = 1+r.IntN(2), 1+r.IntN(2)
			if oh, ow = p.OutSize(in.H, in.W); oh < 1 || ow < 1 {
				continue
			}
			out.H, out.W = oh, ow
			y, dy = randoms(r, out.Len()), randoms(r, out.Len())
			want, arg := randoms(r, out.Len()), guard.Slice[uint8](r.tb, out.Len())
			my = asMap(want, out)
			kernel.MaxPool(tier, my, mx, p, 0, out.Rows(), make([]float32, kernel.PoolScratch(my, mx)))
			MaxPool(tier, y, arg, x, in, out, p, 0, out.Rows())
			MaxPoolData(tier, dx, dy, arg, in, out, p, 0, half)
			MaxPoolData(tier, dx, dy, arg, in, out, p, half, in.Rows())
			scatter := make([]float64, in.Len())
			for i, v := range y {
				if v != want[i] {
					t.Fatalf("max %+v: value %d is %g instead of %g", p, i, v, want[i])
				}
				if math.IsInf(float64(v), -1) {
					continue // a dilated window that reads nothing but padding
				}
				n, oy, ox := i/c/out.W/out.H, i/c/out.W%out.H, i/c%out.W
				iy, ix := oy*p.StrideH+int(arg[i])/p.KernelW*p.DilationH-p.PadTop, ox*p.StrideW+int(arg[i])%p.KernelW*p.DilationW-p.PadLeft
				at := ((n*in.H+iy)*in.W+ix)*c + i%c
				if x[at] != v {
					t.Fatalf("max %+v: value %d is %g, but its index names %g", p, i, v, x[at])
				}
				scatter[at] += float64(dy[i])
			}
			for i, v := range dx {
				near(t, fmt.Sprintf("gradient of max %+v", p), i, float64(v), scatter[i], 1e-5)
			}
		}
	})
}

func TestMaxPoolOfTiesAndInfinities(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, _ source) {
		in, out := Shape{1, 2, 2, 19}, Shape{1, 1, 1, 19}
		p := kernel.Pool{KernelH: 2, KernelW: 2}
		for _, c := range []struct {
			x   [4]float64
			arg uint8
		}{{[4]float64{1, 1, 1, 1}, 0}, {[4]float64{0, 1, 1, 0}, 1}, {[4]float64{math.Inf(-1), math.Inf(-1), math.Inf(-1), math.Inf(-1)}, 0}, {[4]float64{5, 1, math.NaN(), 9}, 2}} {
			x := make([]float32, in.Len())
			for i := range x {
				x[i] = float32(c.x[i/19])
			}
			y, arg := make([]float32, 19), make([]uint8, 19)
			MaxPool(tier, y, arg, x, in, out, p, 0, 1)
			for i, a := range arg {
				if a != c.arg {
					t.Fatalf("%v: channel %d names tap %d instead of %d", c.x, i, a, c.arg)
				}
			}
		}
	})
}

func TestGlobalAndAdaptiveAverageGradients(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for range guard.Trials(20) {
			c := channels(r)
			in, out := Shape{1 + r.IntN(2), 1 + r.IntN(9), 1 + r.IntN(9), c}, Shape{0, 1 + r.IntN(9), 1 + r.IntN(9), c}
			out.N = in.N
			x, y, dy, dx := randoms(r, in.Len()), randoms(r, out.Len()), randoms(r, out.Len()), randoms(r, in.Len())
			my, mx := asMap(y, out), asMap(x, in)
			kernel.AdaptiveAvgPool(tier, my, mx, 0, out.Rows(), make([]float32, kernel.PoolScratch(my, mx)))
			half := r.IntN(in.N + 1)
			AdaptiveAvgPoolData(tier, dx, dy, in, out, 0, half)
			AdaptiveAvgPoolData(tier, dx, dy, in, out, half, in.N)
			near(t, "adaptive", 0, dot(x, dx), dot(y, dy), math.Sqrt(float64(in.Len()))*1e-5)
			g, dg := make([]float32, in.N*c), randoms(r, in.N*c)
			kernel.GlobalAvgPool(tier, kernel.Vectors(g, in.N, c), mx, 0, in.N)
			GlobalAvgPoolData(dx, dg, in, 0, half)
			GlobalAvgPoolData(dx, dg, in, half, in.N)
			near(t, "global", 0, dot(x, dx), dot(g, dg), 1e-4)
		}
	})
}

func TestMomentsOfALargeMean(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for range guard.Trials(10) {
			c, pixels := channels(r), 1+r.IntN(2000)
			x := randoms(r, c*pixels)
			for i := range x {
				x[i] += 1000
			}
			m, rest := NewMoments(c), NewMoments(c)
			half := r.IntN(pixels+1) * c
			m.Add(tier, x[:half])
			rest.Add(tier, x[half:])
			m.Merge(rest)
			sums := make([]float64, c)
			ColumnSums(tier, sums, x)
			for i := range c {
				var sum, squares float64
				for p := range pixels {
					sum += float64(x[p*c+i])
				}
				mean := sum / float64(pixels)
				for p := range pixels {
					squares += (float64(x[p*c+i]) - mean) * (float64(x[p*c+i]) - mean)
				}
				near(t, "sum", i, sums[i], sum, 1e-6)
				near(t, "mean", i, m.Mean[i], mean, 1e-6)
				near(t, "variance", i, m.Variance(i), squares/float64(pixels), 1e-5)
			}
		}
	})
}

// TestSumsOfMoreThanABlock has more channels and more pixels than are summed at a time.
func TestSumsOfMoreThanABlock(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for _, c := range []int{1, columnBlock, columnBlock + 1, 2*columnBlock + 37} {
			for _, pixels := range []int{blockPixels, blockPixels + 1, 2*blockPixels + 3} {
				x, dy, mean := randoms(r, c*pixels), randoms(r, c*pixels), randoms(r, c)
				sums, sumDY, sumDYX, m := make([]float64, c), make([]float64, c), make([]float64, c), NewMoments(c)
				ColumnSums(tier, sums, x)
				BatchNormSums(tier, sumDY, sumDYX, dy, x, mean)
				m.Add(tier, x)
				for i := range c {
					var sum, squares, gradient, product float64
					for p := range pixels {
						v, g := float64(x[p*c+i]), float64(dy[p*c+i])
						sum += v
						squares += v * v
						gradient += g
						product += g * (v - float64(mean[i]))
					}
					n := float64(pixels)
					what := fmt.Sprintf("%d pixels of %d channels: ", pixels, c)
					near(t, what+"sum", i, sums[i], sum, 1e-4)
					near(t, what+"mean", i, m.Mean[i], sum/n, 1e-6)
					near(t, what+"variance", i, m.Variance(i), squares/n-sum*sum/n/n, 1e-5)
					near(t, what+"sum of the gradient", i, sumDY[i], gradient, 1e-4)
					near(t, what+"sum of its products", i, sumDYX[i], product, 1e-4)
				}
			}
		}
	})
}

func TestSumSquaresOfAnyLength(t *testing.T) {
	for n := range 11 {
		x := make([]float32, n)
		want := 0.0
		for i := range x {
			x[i] = float32(i) - 3.5
			want += float64(x[i]) * float64(x[i])
		}
		if got := SumSquares(x); got != want {
			t.Errorf("the sum of %d squares is %g instead of %g", n, got, want)
		}
	}
}

// checkGradient compares a gradient with the central differences of forward, a function of x in float64, along dy.
func checkGradient(t *testing.T, what string, x, dy, dx []float32, picks []int, forward func(x []float64) []float64) {
	t.Helper()
	v := make([]float64, len(x))
	for i := range x {
		v[i] = float64(x[i])
	}
	loss := func() (sum float64) {
		for i, y := range forward(v) {
			sum += y * float64(dy[i])
		}
		return sum
	}
	for _, i := range picks {
		const h = 1e-5
		keep := v[i]
		v[i] = keep + h
		up := loss()
		v[i] = keep - h
		down := loss()
		v[i] = keep
		near(t, what, i, float64(dx[i]), (up-down)/(2*h), 3e-4)
	}
}

func picks(r source, n int) []int {
	p := make([]int, 12)
	for i := range p {
		p[i] = r.IntN(n)
	}
	return p
}

func TestBatchNormGradient(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for range guard.Trials(8) {
			c, pixels := channels(r), 2+r.IntN(60)
			const eps = 1e-3
			x, dy, gamma := randoms(r, c*pixels), randoms(r, c*pixels), randoms(r, c)
			m := NewMoments(c)
			m.Add(tier, x)
			mean, variance := make([]float32, c), make([]float64, c)
			for i := range c {
				mean[i], variance[i] = float32(m.Mean[i]), m.Variance(i)
			}
			sumDY, sumDYX := make([]float64, c), make([]float64, c)
			BatchNormSums(tier, sumDY, sumDYX, dy, x, mean)
			a, b, k := guard.Slice[float32](r.tb, c), guard.Slice[float32](r.tb, c), guard.Slice[float32](r.tb, c)
			BatchNormFactors(a, b, k, sumDY, sumDYX, gamma, mean, variance, eps, pixels)
			dx := guard.Slice[float32](r.tb, c*pixels)
			BatchNormData(tier, dx, dy, x, a, b, k)
			checkGradient(t, "batch norm", x, dy, dx, picks(r, len(x)), func(x []float64) []float64 {
				y := make([]float64, len(x))
				for i := range c {
					var sum, squares float64
					for p := range pixels {
						sum += x[p*c+i]
					}
					mean := sum / float64(pixels)
					for p := range pixels {
						squares += (x[p*c+i] - mean) * (x[p*c+i] - mean)
					}
					for p := range pixels {
						y[p*c+i] = (x[p*c+i] - mean) / math.Sqrt(squares/float64(pixels)+eps) * float64(gamma[i])
					}
				}
				return y
			})
		}
	})
}

func TestLayerNormGradient(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for range guard.Trials(10) {
			c, pixels := 2+channels(r), 1+r.IntN(10)
			const eps = 1e-3
			x, dy, gamma := randoms(r, c*pixels), randoms(r, c*pixels), randoms(r, c)
			dx, dgamma, dbeta := guard.Slice[float32](r.tb, c*pixels), guard.Slice[float32](r.tb, c), guard.Slice[float32](r.tb, c)
			LayerNorm(tier, dx, dy, x, gamma, dgamma, dbeta, eps)
			norm := func(x []float64) []float64 {
				y := make([]float64, len(x))
				for p := range pixels {
					var sum, squares float64
					for _, v := range x[p*c : (p+1)*c] {
						sum += v
					}
					mean := sum / float64(c)
					for _, v := range x[p*c : (p+1)*c] {
						squares += (v - mean) * (v - mean)
					}
					for i := p * c; i < (p+1)*c; i++ {
						y[i] = (x[i] - mean) / math.Sqrt(squares/float64(c)+eps)
					}
				}
				return y
			}
			checkGradient(t, "layer norm", x, dy, dx, picks(r, len(x)), func(x []float64) []float64 {
				y := norm(x)
				for i := range y {
					y[i] *= float64(gamma[i%c])
				}
				return y
			})
			v := make([]float64, len(x))
			for i := range x {
				v[i] = float64(x[i])
			}
			hat := norm(v)
			for i := range c {
				var g, b float64
				for p := range pixels {
					g += hat[p*c+i] * float64(dy[p*c+i])
					b += float64(dy[p*c+i])
				}
				near(t, "dgamma", i, float64(dgamma[i]), g, 1e-4)
				near(t, "dbeta", i, float64(dbeta[i]), b, 1e-5)
			}
		}
	})
}

func TestLRNGradient(t *testing.T) {
	r := source{rand.New(rand.NewPCG(5, 6)), t}
	for range guard.Trials(10) {
		c, size := 1+r.IntN(20), 1+r.IntN(6)
		x, dy, dx := randoms(r, 2*c), randoms(r, 2*c), guard.Slice[float32](r.tb, 2*c)
		LRN(cpu.Best(), dx, dy, x, c, size, 0.3, 0.75, 1.5, make([]float32, LRNScratch(c, size)))
		checkGradient(t, "local response norm", x, dy, dx, picks(r, len(x)), func(x []float64) []float64 {
			y := make([]float64, len(x))
			for i := range x {
				p, j := i/c*c, i%c
				sum := 0.0
				for k := max(j-size/2, 0); k < min(j+(size-1)/2+1, c); k++ {
					sum += x[p+k] * x[p+k]
				}
				y[i] = x[i] * math.Pow(1.5+0.3/float64(size)*sum, -0.75)
			}
			return y
		})
	}
}

func TestActivationGradientAtCornersAndElsewhere(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for act := kernel.None; act <= kernel.Tanh; act++ {
			n := 300 + r.IntN(20)
			x, dy, dx := randoms(r, n), randoms(r, n), guard.Slice[float32](r.tb, n)
			for i := range x {
				x[i] *= 4
			}
			copy(x, []float32{0, 3, -3, 6, -6, 100, -100, float32(math.Copysign(0, -1))})
			Activation(tier, act, dx, dy, x)
			for i, v := range x {
				near(t, act.String(), i, float64(dx[i]), float64(dy[i]*derivative(act, v)), 2e-6)
			}
		}
	})
	for act := kernel.None; act <= kernel.Tanh; act++ {
		for x := -7.013; x < 7; x += 0.0517 {
			const h = 1e-3
			want := (float64(act.Apply(float32(x+h))) - float64(act.Apply(float32(x-h)))) / (float64(float32(x+h)) - float64(float32(x-h)))
			near(t, act.String(), 0, float64(derivative(act, float32(x))), want, 2e-3)
		}
	}
}

func TestOptimiserStepsFollowPyTorch(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for _, s := range []SGD{
			{LR: 0.1}, {LR: 0.1, Momentum: 0.9}, {LR: 0.1, Momentum: 0.9, WeightDecay: 0.01}, {LR: 0.1, Momentum: 0.9, WeightDecay: 0.01, Nesterov: true}, {LR: 0.1, Momentum: 0.9, Dampening: 0.5},
		} {
			n := 1 + r.IntN(70)
			w, v := randoms(r, n), randoms(r, n) // the first step does without what is in v
			want, velocity := make([]float64, n), make([]float64, n)
			for i := range w {
				want[i] = float64(w[i])
			}
			for step := range 3 {
				g := randoms(r, n)
				s.First = step == 0
				s.Step(tier, w, g, v)
				for i := range want {
					d := float64(g[i]) + float64(s.WeightDecay)*want[i]
					if s.Momentum != 0 {
						if step == 0 {
							velocity[i] = d
						} else {
							velocity[i] = float64(s.Momentum)*velocity[i] + float64(1-s.Dampening)*d
						}
						if s.Nesterov {
							d += float64(s.Momentum) * velocity[i]
						} else {
							d = velocity[i]
						}
					}
					want[i] -= float64(s.LR) * d
					near(t, fmt.Sprintf("%+v", s), i, float64(w[i]), want[i], 2e-6)
				}
			}
		}
		for _, decoupled := range []bool{false, true} {
			n := 1 + r.IntN(70)
			w, m, q := randoms(r, n), guard.Slice[float32](r.tb, n), guard.Slice[float32](r.tb, n)
			want, mean, square := make([]float64, n), make([]float64, n), make([]float64, n)
			for i := range w {
				want[i] = float64(w[i])
			}
			for step := 1; step <= 3; step++ {
				g := randoms(r, n)
				Adam{LR: 0.01, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.05, Decoupled: decoupled, T: step}.Step(tier, w, g, m, q)
				for i := range want {
					d := float64(g[i])
					if decoupled {
						want[i] *= 1 - 0.01*0.05
					} else {
						d += 0.05 * want[i]
					}
					mean[i] = 0.9*mean[i] + 0.1*d
					square[i] = 0.999*square[i] + 0.001*d*d
					want[i] -= 0.01 * mean[i] / (1 - math.Pow(0.9, float64(step))) / (math.Sqrt(square[i]/(1-math.Pow(0.999, float64(step)))) + 1e-8)
					near(t, fmt.Sprintf("adam, decoupled %v", decoupled), i, float64(w[i]), want[i], 1e-5)
				}
			}
		}
	})
}

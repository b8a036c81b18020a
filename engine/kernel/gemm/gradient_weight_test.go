package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// checkWeightGradient compares the gradient of a convolution's weights with sums in float64, canaries around all that is written.
func checkWeightGradient(t testing.TB, c convCase, accumulate bool, r *rand.Rand) {
	t.Helper()
	c.spec.Groups = 1
	s, err := c.spec.normal()
	if err != nil {
		t.Fatal(err)
	}
	oh, ow := s.OutputSize(c.h, c.w)
	dy := block(t, kernel.F32, c.n, oh, ow, s.Out, c.dstPad, c.dstLeft, c.dstRest)
	x := block(t, kernel.F32, c.n, c.h, c.w, s.In, c.srcPad, c.srcLeft, c.srcRest)
	for _, m := range []kernel.Map{dy, x} {
		for i := range m.F32 {
			m.F32[i] = float32(math.NaN()) // reading one into a sum would show
		}
		fill(m, r)
	}
	g, err := NewWeightGradient(c.spec, dy, x, c.workers)
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	const guard = 40
	canaried := func(n int) []float32 {
		v := make([]float32, n+2*guard)
		for i := range v {
			v[i] = math.Float32frombits(canary<<16 | canary)
		}
		return v
	}
	n := s.Out * s.In * s.KernelH * s.KernelW
	sums, weight := canaried(g.Sums()), canaried(n)
	for i := range n {
		weight[guard+i] = float32(r.NormFloat64())
	}
	before := append([]float32(nil), weight...)
	scratch := make([]byte, g.Scratch()+65)
	for i := range scratch {
		scratch[i] = 0xff
	}
	for task := range g.Tasks() {
		g.Run(task, sums[guard:guard+g.Sums()], dy, x, scratch[1:g.Scratch()+1])
	}
	for i := g.Scratch() + 1; i < len(scratch); i++ {
		if scratch[i] != 0xff {
			t.Fatalf("%v: byte behind the scratch memory was written", c)
		}
	}
	half := r.IntN(s.Out + 1)
	g.Add(weight[guard:guard+n], sums[guard:guard+g.Sums()], 0, half, accumulate)
	g.Add(weight[guard:guard+n], sums[guard:guard+g.Sums()], half, s.Out, accumulate)
	for _, v := range [][]float32{sums, weight} {
		for i := range guard {
			if math.Float32bits(v[i]) != canary<<16|canary || math.Float32bits(v[len(v)-1-i]) != canary<<16|canary {
				t.Fatalf("%v: written outside the sums or the weights", c)
			}
		}
	}
	at := 0
	for o := range s.Out {
		for i := range s.In {
			for ky := range s.KernelH {
				for kx := range s.KernelW {
					var want, size float64
					for n := range c.n {
						for y := range oh {
							for xx := range ow {
								iy, ix := y*s.StrideH-s.PadTop+ky*s.DilationH, xx*s.StrideW-s.PadLeft+kx*s.DilationW
								if iy < 0 || iy >= c.h || ix < 0 || ix >= c.w {
									continue
								}
								v := float64(dy.At(n, y, xx, o)) * float64(x.At(n, iy, ix, i))
								want += v
								size += math.Abs(v)
							}
						}
					}
					if accumulate {
						want += float64(before[guard+at])
					}
					if got := float64(weight[guard+at]); !(math.Abs(got-want) <= size*unit(s.Precision)*1.2+1e-5) {
						t.Fatalf("%v (accumulate %v): weight [%d,%d,%d,%d] = %g, want %g", c, accumulate, o, i, ky, kx, got, want)
					}
					at++
				}
			}
		}
	}
}

func TestWeightGradientRandomShapes(t *testing.T) {
	for _, tier := range tiers() {
		for _, p := range precisions {
			t.Run(fmt.Sprintf("%v/%v", tier, p), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(tier), uint64(p)))
				for i := range 60 {
					c := randomCase(r, tier, p)
					if h, w := c.spec.OutputSize(c.h, c.w); h == 0 || w == 0 || c.n*h*w*c.spec.Out*c.spec.In*c.spec.KernelH*c.spec.KernelW > 4e6 {
						continue
					}
					checkWeightGradient(t, c, i%2 == 0, r)
				}
			})
		}
	}
}

// TestWeightGradientOfManyWeightsAndPixels covers division by channels and several chunks of positions.
func TestWeightGradientOfManyWeightsAndPixels(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, tier := range tiers() {
		for _, p := range precisions {
			for _, c := range []convCase{
				{n: 2, h: 3, w: 3, workers: 3, spec: ConvSpec{In: 130, Out: 150, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}},
				{n: 1, h: 3, w: 2, workers: 4, spec: ConvSpec{In: 420, Out: 400, KernelH: 1, KernelW: 1}},
				{n: 2, h: 40, w: 45, workers: 1, spec: ConvSpec{In: 5, Out: 7, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}},
				{n: 1, h: 60, w: 50, workers: 2, spec: ConvSpec{In: 18, Out: 9, KernelH: 3, KernelW: 5, StrideH: 2, StrideW: 3, PadTop: 1, PadLeft: 2}},
				{n: 3, h: 30, w: 31, workers: 2, spec: ConvSpec{In: 3, Out: 33, KernelH: 7, KernelW: 7, StrideH: 2, StrideW: 2, PadTop: 3, PadLeft: 3, PadBottom: 3, PadRight: 3}},
				{n: 1, h: 51, w: 20, workers: 1, spec: ConvSpec{In: 400, Out: 5, KernelH: 2, KernelW: 1}}, // more rows of sums than a call of a kernel may have
			} {
				c.spec.Tier, c.spec.Precision = tier, p
				checkWeightGradient(t, c, false, r)
			}
		}
	}
}

// TestWeightGradientReadsBehindTheMap has taps that reach so far beyond short rows of the output that a block of positions begins where
// the row's address lies behind the map: found by fuzzing.
func TestWeightGradientReadsBehindTheMap(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, tier := range tiers() {
		for _, p := range precisions {
			for _, c := range []convCase{
				{n: 1, h: 24, w: 23, workers: 1, spec: ConvSpec{In: 33, Out: 32, KernelH: 1, KernelW: 8, DilationH: 2, DilationW: 3, PadTop: 2, PadRight: 1}},
				{n: 7, h: 5, w: 5, workers: 1, spec: ConvSpec{In: 16, Out: 200, KernelH: 5, KernelW: 5}}, // one pixel an image
			} {
				c.spec.Tier, c.spec.Precision = tier, p
				checkWeightGradient(t, c, false, r)
			}
		}
	}
}

// TestWeightGradientOfPixelsThatAreNoRow has convolutions and maps that are nearly those whose pixels are taken as one row.
func TestWeightGradientOfPixelsThatAreNoRow(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for _, tier := range tiers() {
		for _, p := range precisions {
			for _, c := range []convCase{
				{spec: ConvSpec{KernelH: 1, KernelW: 1, StrideH: 2}},
				{spec: ConvSpec{KernelH: 1, KernelW: 1, StrideW: 2}},
				{spec: ConvSpec{KernelH: 1, KernelW: 2}},
				{spec: ConvSpec{KernelH: 2, KernelW: 1}},
				{srcPad: 1, spec: ConvSpec{KernelH: 1, KernelW: 1}},
				{dstPad: 1, spec: ConvSpec{KernelH: 1, KernelW: 1}},
			} {
				c.n, c.h, c.w, c.workers = 2, 7, 6, 1
				c.spec.In, c.spec.Out, c.spec.Tier, c.spec.Precision = 16, 24, tier, p
				checkWeightGradient(t, c, false, r)
			}
		}
	}
}

func TestWeightGradientRefusesWhatItCannotCompute(t *testing.T) {
	m := func(h, c int) kernel.Map { return kernel.NewMap(kernel.F32, 1, h, h, c, 0) }
	for name, f := range map[string]func() (*WeightGradient, error){
		"groups": func() (*WeightGradient, error) {
			return NewWeightGradient(ConvSpec{In: 4, Out: 4, KernelH: 1, KernelW: 1, Groups: 2}, m(5, 4), m(5, 4), 1)
		},
		"channels": func() (*WeightGradient, error) {
			return NewWeightGradient(ConvSpec{In: 4, Out: 4, KernelH: 1, KernelW: 1}, m(5, 3), m(5, 4), 1)
		},
		"size": func() (*WeightGradient, error) {
			return NewWeightGradient(ConvSpec{In: 4, Out: 4, KernelH: 3, KernelW: 3}, m(5, 4), m(5, 4), 1)
		},
		"no image": func() (*WeightGradient, error) {
			none := kernel.Layout(kernel.F32, 0, 5, 5, 4, 0)
			return NewWeightGradient(ConvSpec{In: 4, Out: 4, KernelH: 1, KernelW: 1}, none, none, 1)
		},
		"workers": func() (*WeightGradient, error) {
			return NewWeightGradient(ConvSpec{In: 4, Out: 4, KernelH: 1, KernelW: 1}, m(5, 4), m(5, 4), 0)
		},
		"format": func() (*WeightGradient, error) {
			return NewWeightGradient(ConvSpec{In: 4, Out: 4, KernelH: 1, KernelW: 1}, kernel.NewMap(kernel.BF16, 1, 5, 5, 4, 0), m(5, 4), 1)
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWeightGradientRunAllocatesNothing(t *testing.T) {
	for _, tier := range tiers() {
		for _, p := range precisions {
			s := ConvSpec{In: 40, Out: 36, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Precision: p, Tier: tier}
			x, dy := kernel.NewMap(kernel.F32, 2, 9, 9, 40, 0), kernel.NewMap(kernel.F32, 2, 9, 9, 36, 0)
			g, err := NewWeightGradient(s, dy, x, 1)
			if err != nil {
				t.Fatal(err)
			}
			sums, scratch := make([]float32, g.Sums()), make([]byte, g.Scratch())
			if n := testing.AllocsPerRun(10, func() { g.Run(0, sums, dy, x, scratch) }); n != 0 {
				t.Errorf("%v/%v: %v allocations", tier, p, n)
			}
		}
	}
}

// FuzzWeightGradient draws a convolution from a seed and bends it by the fuzzer's bytes.
func FuzzWeightGradient(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(1), uint8(3), uint8(3), uint8(0), uint8(0x55), uint8(9), uint8(9))
	f.Add(uint64(2), uint8(2), uint8(0), uint8(7), uint8(1), uint8(5), uint8(0), uint8(14), uint8(7))
	f.Fuzz(func(t *testing.T, seed uint64, tier, precision, kh, kw, stride, pad, h, w uint8) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := randomCase(r, min(cpu.Tier(tier%4), cpu.Best()), precisions[precision%3])
		s := &c.spec
		s.Groups = 1
		s.KernelH, s.KernelW = int(kh%8)+1, int(kw%8)+1
		s.StrideH, s.StrideW = int(stride%4)+1, int(stride/4%4)+1
		s.PadTop, s.PadLeft, s.PadBottom, s.PadRight = int(pad%4), int(pad/4%4), int(pad/16%4), int(pad/64)
		c.h, c.w = int(h%40)+1, int(w%40)+1
		if oh, ow := s.OutputSize(c.h, c.w); oh == 0 || ow == 0 || c.n*oh*ow*s.Out*s.In*s.KernelH*s.KernelW > 2e6 {
			t.Skip("nothing to compute, or too large for the float64 sums")
		}
		checkWeightGradient(t, c, seed%2 == 0, r)
	})
}

// BenchmarkWeightGradient computes gradients of ResNet's layers; most of the time of small ones is packing.
func BenchmarkWeightGradient(b *testing.B) {
	for _, l := range []struct{ n, h, in, out, k, stride int }{
		{16, 56, 64, 64, 3, 1}, {16, 28, 128, 128, 3, 1}, {16, 14, 256, 256, 3, 1}, {16, 7, 512, 512, 3, 1}, {16, 56, 64, 128, 3, 2},
		{16, 224, 3, 64, 7, 2}, {8, 56, 64, 256, 1, 1}, {8, 56, 256, 64, 1, 1}, {8, 14, 1024, 256, 1, 1}, {4, 112, 64, 64, 3, 1}, {16, 56, 144, 24, 1, 1},
	} {
		b.Run(fmt.Sprintf("%dx%d/%d-%d/%d", l.h, l.n, l.in, l.out, l.k), func(b *testing.B) {
			pad := l.k / 2
			s := ConvSpec{In: l.in, Out: l.out, KernelH: l.k, KernelW: l.k, StrideH: l.stride, StrideW: l.stride, PadTop: pad, PadLeft: pad, PadBottom: pad, PadRight: pad,
				Precision: engine.High, Tier: cpu.Best()}
			h, w := s.OutputSize(l.h, l.h)
			x, dy := kernel.NewMap(kernel.F32, l.n, l.h, l.h, l.in, 0), kernel.NewMap(kernel.F32, l.n, h, w, l.out, 0)
			r := rand.New(rand.NewPCG(1, 2))
			fill(x, r)
			fill(dy, r)
			g, err := NewWeightGradient(s, dy, x, 2)
			if err != nil {
				b.Fatal(err)
			}
			sums, scratch := make([]float32, g.Sums()), make([]byte, g.Scratch())
			for b.Loop() {
				for task := range g.Tasks() {
					g.Run(task, sums, dy, x, scratch)
				}
			}
			b.ReportMetric(2*float64(s.MACs(h, w)*l.n)*float64(b.N)/b.Elapsed().Seconds()*1e-9, "GFLOP/s")
			b.ReportMetric(float64(4*(x.Elements()+dy.Elements()))*float64(b.N)/b.Elapsed().Seconds()*1e-9, "GB/s")
		})
	}
}

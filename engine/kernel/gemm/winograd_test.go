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

// winogradSizes are the values that ConvSpec.Winograd may have.
var winogradSizes = append([]int{0}, winogradTiles...)

// TestWinogradRandomShapes compares with sums in float64, on every tier: those without the method compute directly.
func TestWinogradRandomShapes(t *testing.T) {
	cases := 60
	if testing.Short() {
		cases = 15
	}
	for _, tier := range tiers() {
		for _, m := range winogradTiles {
			t.Run(fmt.Sprintf("%v/%d", tier, m), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(tier), uint64(m)))
				for i := range cases {
					c := randomCase(r, tier, precisions[i%len(precisions)])
					s := &c.spec
					s.KernelH, s.KernelW, s.StrideH, s.StrideW, s.DilationH, s.DilationW, s.Groups = 3, 3, 1, 1, 1, 1, 1
					s.Linear, s.Winograd = false, m
					s.In, s.Out = min(s.In, 100), min(s.Out, 100)
					s.PadTop, s.PadLeft, s.PadBottom, s.PadRight = r.IntN(4), r.IntN(4), r.IntN(4), r.IntN(4)
					if r.IntN(4) == 0 {
						formats := []kernel.Format{kernel.F32, kernel.BF16, kernel.Split}
						c.srcFormat, c.dstFormat = formats[r.IntN(3)], formats[r.IntN(3)]
					}
					c.run(t, r)
				}
			})
		}
	}
}

// TestWinogradOfOtherConvolutionsIsDirect asks for the method where it would compute something else: they are computed directly.
func TestWinogradOfOtherConvolutionsIsDirect(t *testing.T) {
	for what, edit := range map[string]func(*ConvSpec){
		"3x1 kernel": func(s *ConvSpec) { s.KernelW = 1 },
		"1x3 kernel": func(s *ConvSpec) { s.KernelH = 1 },
		"stride":     func(s *ConvSpec) { s.StrideW = 2 },
		"dilation":   func(s *ConvSpec) { s.DilationH = 2 },
		"groups":     func(s *ConvSpec) { s.Groups = 2 },
	} {
		for _, tier := range tiers() {
			for _, p := range precisions {
				s := ConvSpec{In: 32, Out: 32, KernelH: 3, KernelW: 3, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Groups: 1, Winograd: 4, Precision: p, Tier: tier}
				edit(&s)
				if m := Winograd(s, 56, 56); m != 0 {
					t.Errorf("%v/%v, %s: tiles of %d chosen", tier, p, what, m)
				}
				convCase{spec: s, n: 1, h: 7, w: 7, workers: 1}.run(t, rand.New(rand.NewPCG(1, 2)))
			}
		}
	}
}

// TestWinogradWeightsOfPolynomials checks the matrices of the weights.
func TestWinogradWeightsOfPolynomials(t *testing.T) {
	// At a point x the transformed weights are a multiple of w0 + w1 x + w2 x²; the last point is infinity.
	for m, points := range map[int][]float64{2: {0, 1, -1}, 4: {0, 0.75, -0.75, 1.5, -1.5}} {
		g := winogradG(m)
		if len(g) != m+2 {
			t.Fatalf("%d rows for tiles of %d", len(g), m)
		}
		for i, x := range points {
			scale := g[i][0]
			if scale == 0 || math.Abs(g[i][1]-scale*x) > 1e-15 || math.Abs(g[i][2]-scale*x*x) > 1e-15 {
				t.Errorf("m = %d: row %d is %v, no multiple of the powers of %g", m, i, g[i], x)
			}
		}
		if g[m+1] != [3]float64{0, 0, 1} {
			t.Errorf("m = %d: the row of infinity is %v", m, g[m+1])
		}
	}
}

// TestWinogradError measures the relative error over a layer. Direct sums have 1.6e-7 at Highest, 4e-6 at High and 2.4e-3 at Medium.
func TestWinogradError(t *testing.T) {
	for _, c := range []struct {
		precision engine.Precision
		tier      cpu.Tier
		m         int
		limit     float64
	}{
		{engine.Highest, cpu.AVX2, 2, 4e-7}, {engine.Highest, cpu.AVX2, 4, 1.3e-6}, {engine.Highest, cpu.AVX512, 2, 4e-7}, {engine.Highest, cpu.AVX512, 4, 1.3e-6}, {engine.High, cpu.AMX, 4, 1.2e-5}, {engine.Medium, cpu.AMX, 4, 7e-3},
	} {
		t.Run(fmt.Sprintf("%v/%v/%d", c.tier, c.precision, c.m), func(t *testing.T) {
			if !winogradKernels || cpu.Best() < c.tier {
				t.Skip("there are no kernels for this processor")
			}
			e := layerError(t, ConvSpec{
				In: 128, Out: 32, KernelH: 3, KernelW: 3, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Groups: 1,
				PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Winograd: c.m, Precision: c.precision, Tier: c.tier,
			})
			t.Logf("relative error %.2g", e)
			if e > c.limit {
				t.Errorf("relative error is %g, expected at most %g", e, c.limit)
			}
		})
	}
}

// layerError computes a layer of 12×12 pixels and returns its error relative to sums in float64.
func layerError(t *testing.T, s ConvSpec) float64 {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	weight := make([]float32, s.Out*s.In*9)
	for i := range weight {
		weight[i] = float32(r.NormFloat64())
	}
	src, dst := kernel.NewMap(kernel.F32, 1, 12, 12, s.In, 0), kernel.NewMap(kernel.F32, 1, 12, 12, s.Out, 0)
	for i := range src.F32 {
		src.F32[i] = max(float32(r.NormFloat64()), 0)
	}
	conv, err := newPacked(s, weight, nil)
	if err != nil {
		t.Fatal(err)
	}
	call, err := conv.Bind(src, dst, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	runAll(call, src, dst, nil)
	var errors, sums float64
	for y := range 12 {
		for x := range 12 {
			for o := range s.Out {
				want, _ := oracle(s, src, weight, 0, y, x, o)
				errors += math.Pow(float64(dst.At(0, y, x, o))-want, 2)
				sums += want * want
			}
		}
	}
	return math.Sqrt(errors / sums)
}

// TestWinogradAllocatesNothing runs a bound convolution of every kind.
func TestWinogradAllocatesNothing(t *testing.T) {
	for _, tier := range tiers() {
		for _, p := range precisions {
			for _, format := range []kernel.Format{kernel.F32, FormatOf(p, tier)} {
				s := ConvSpec{In: 40, Out: 72, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Winograd: 4, Precision: p, Tier: tier}
				conv, err := newPacked(s, make([]float32, s.Out*s.In*9), nil)
				if err != nil {
					t.Fatal(err)
				}
				src, dst := kernel.NewMap(format, 2, 9, 10, s.In, 0), kernel.NewMap(format, 2, 9, 10, s.Out, 0)
				call, err := conv.Bind(src, dst, &dst, 1)
				if err != nil {
					t.Fatal(err)
				}
				scratch := make([]byte, call.Scratch())
				run := func() {
					for task := range call.Tasks() {
						call.Run(task, src, dst, &dst, scratch)
					}
				}
				if n := testing.AllocsPerRun(5, run); n != 0 {
					t.Errorf("%v/%v, %v maps: %g allocations", tier, p, format, n)
				}
			}
		}
	}
}

// TestWinogradOfLargeMaps binds a layer whose tiles do not fit in the scratch memory of a few tasks.
func TestWinogradOfLargeMaps(t *testing.T) {
	const size, most = 2500, 32 << 20
	for _, tier := range tiers() {
		s := ConvSpec{In: 64, Out: 64, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Winograd: 4, Precision: engine.Highest, Tier: tier}
		if !winogradKernels || !s.transformable() {
			continue
		}
		conv, err := newPacked(s, make([]float32, s.Out*s.In*9), nil)
		if err != nil {
			t.Fatal(err)
		}
		m := kernel.Layout(kernel.F32, 1, size, size, s.In, 0)
		call, err := conv.Bind(m, m, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		if n := call.Scratch(); n > most {
			t.Errorf("%v: %d bytes of scratch memory", tier, n)
		}
	}
}

// TestWinogradOnlyWhereItPays checks the choice for layers that were measured within networks (docs/performance.md).
func TestWinogradOnlyWhereItPays(t *testing.T) {
	if !winogradKernels || cpu.Best() < cpu.AMX {
		t.Skip("there are no kernels for this processor")
	}
	for _, c := range []struct{ in, out, size, want int }{
		{512, 512, 28, 4}, {256, 512, 28, 4}, {256, 256, 56, 4}, {80, 192, 71, 4}, {96, 96, 35, 4},
		{64, 64, 224, 0}, {64, 64, 56, 0}, {128, 128, 28, 0}, {256, 256, 14, 0}, {512, 512, 14, 0}, {512, 512, 7, 0}, {32, 64, 147, 0},
	} {
		s := ConvSpec{In: c.in, Out: c.out, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Precision: engine.High, Tier: cpu.AMX}
		if got := Winograd(s, c.size, c.size); got != c.want {
			t.Errorf("%d to %d channels at %dx%d: %d, want %d", c.in, c.out, c.size, c.size, got, c.want)
		}
	}
}

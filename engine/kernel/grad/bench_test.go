package grad

import (
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// BenchmarkKernels measures the kernels on a 28x28x128 map of 8 images, by tier, in bytes read and written.
func BenchmarkKernels(b *testing.B) {
	s := Shape{8, 28, 28, 128}
	n, c := s.Len(), s.C
	x, y, z := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range x {
		x[i], y[i] = float32(i%13)-6, float32(i%7)-3
	}
	v := func() []float32 { return make([]float32, c) }
	a, d, e := v(), v(), v()
	squares := make([]float32, n)
	sums, more, moments := make([]float64, c), make([]float64, c), NewMoments(c)
	arg := make([]uint8, n)
	pool := kernel.Pool{KernelH: 3, KernelW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}
	dw, err := NewDepthwise(kernel.DepthwiseSpec{Channels: c, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}, s, s)
	if err != nil {
		b.Fatal(err)
	}
	packed := make([]float32, dw.Weights())
	for _, k := range []struct {
		name  string
		bytes int
		run   func(tier cpu.Tier)
	}{
		{"moments", 4 * n, func(t cpu.Tier) { moments.Reset(); moments.Add(t, x) }},
		{"columns", 4 * n, func(t cpu.Tier) { ColumnSums(t, sums, x) }},
		{"normsums", 8 * n, func(t cpu.Tier) { BatchNormSums(t, sums, more, x, y, a) }},
		{"normdata", 12 * n, func(t cpu.Tier) { BatchNormData(t, z, x, y, a, d, e) }},
		{"layernorm", 12 * n, func(t cpu.Tier) { LayerNorm(t, z, x, y, a, d, e, 1e-5) }},
		{"relu", 12 * n, func(t cpu.Tier) { Activation(t, kernel.ReLU, z, x, y) }},
		{"silu", 12 * n, func(t cpu.Tier) { Activation(t, kernel.SiLU, z, x, y) }},
		{"gelu", 12 * n, func(t cpu.Tier) { Activation(t, kernel.GELU, z, x, y) }},
		{"maxpool", 9 * n, func(t cpu.Tier) { MaxPool(t, z, arg, x, s, s, pool, 0, s.Rows()) }},
		{"maxpooldata", 9 * n, func(t cpu.Tier) { MaxPoolData(t, z, x, arg, s, s, pool, 0, s.Rows()) }},
		{"avgpooldata", 8 * n, func(t cpu.Tier) { AvgPoolData(t, z, x, s, s, pool, 0, s.Rows()) }},
		{"depthwisedata", 8 * n, func(t cpu.Tier) { dw.Data(t, z, x, packed, 0, s.Rows()) }},
		{"depthwiseweights", 8 * n, func(t cpu.Tier) { dw.WeightGrad(t, packed, x, y, 0, s.Rows()) }},
		{"sgd", 20 * n, func(t cpu.Tier) { SGD{LR: 1e-9, Momentum: 0.9, WeightDecay: 1e-4}.Step(t, z, x, y) }},
		{"adam", 28 * n, func(t cpu.Tier) { Adam{LR: 1e-9, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, T: 1}.Step(t, z, x, y, squares) }},
		{"sum", 12 * n, func(t cpu.Tier) { Sum(t, z, x) }},
	} {
		for tier := cpu.Generic; tier <= min(cpu.Best(), cpu.AVX512); tier++ {
			b.Run(k.name+"/"+tier.String(), func(b *testing.B) {
				b.SetBytes(int64(k.bytes))
				b.ReportAllocs()
				for b.Loop() {
					k.run(tier)
				}
			})
		}
	}
}

package gemm

import (
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// FuzzConv draws a convolution from a seed and bends it by the fuzzer's bytes.
func FuzzConv(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(0), uint8(3), uint8(3), uint8(1), uint8(1), uint8(9), uint8(9))
	f.Add(uint64(2), uint8(2), uint8(1), uint8(7), uint8(1), uint8(2), uint8(0), uint8(14), uint8(7))
	f.Add(uint64(3), uint8(1), uint8(2), uint8(1), uint8(1), uint8(1), uint8(0), uint8(1), uint8(33))
	f.Add(uint64(4), uint8(2), uint8(0), uint8(2), uint8(2), uint8(0), uint8(0x55), uint8(13), uint8(7))
	f.Add(uint64(6), uint8(3), uint8(1), uint8(0), uint8(0), uint8(0), uint8(0), uint8(13), uint8(7))
	f.Add(uint64(5), uint8(3), uint8(0), uint8(2), uint8(2), uint8(0), uint8(0), uint8(7), uint8(33))
	f.Fuzz(func(t *testing.T, seed uint64, tier, precision, kh, kw, stride, pad, h, w uint8) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := randomCase(r, min(cpu.Tier(tier%4), cpu.Best()), precisions[precision%3])
		s := &c.spec
		s.KernelH, s.KernelW = int(kh%8)+1, int(kw%8)+1
		s.StrideH, s.StrideW = int(stride%4)+1, int(stride/4%4)+1
		s.PadTop, s.PadLeft, s.PadBottom, s.PadRight = int(pad%4), int(pad/4%4), int(pad/16%4), int(pad/64)
		c.h, c.w = int(h%40)+1, int(w%40)+1
		s.Winograd = winogradSizes[seed%3]
		projected := *s
		projected.Projection = Projection{In: 1 + r.IntN(100), StrideH: 1 + r.IntN(3), StrideW: 1 + r.IntN(3)}
		if seed%2 == 0 && Projects(projected) {
			*s, c.residual, c.inPlace, c.residualFormat = projected, false, false, c.srcFormat
		}
		if c.n*c.h*c.w*s.Out*s.In/s.Groups*s.KernelH*s.KernelW > 4e6 {
			t.Skip("too large for the float64 sums")
		}
		c.run(t, r)
	})
}

// FuzzMatMul computes products of fuzzed shapes.
func FuzzMatMul(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(1), uint16(33), uint16(65), uint16(31), uint8(0))
	f.Add(uint64(2), uint8(1), uint8(0), uint16(1), uint16(1), uint16(700), uint8(7))
	f.Fuzz(func(t *testing.T, seed uint64, tier, precision uint8, m, n, k uint16, flags uint8) {
		p := Product{
			M: int(m%300) + 1, N: int(n%300) + 1, K: int(k%900) + 1, TransA: flags&1 != 0, TransB: flags&2 != 0, Accumulate: flags&4 != 0,
			Precision: precisions[precision%3], Tier: min(cpu.Tier(tier%4), cpu.Best()),
		}
		if p.M*p.N*p.K > 3e6 {
			t.Skip("too large for the float64 sums")
		}
		checkProduct(t, p, int(flags>>4)+1, rand.New(rand.NewPCG(seed, 9)))
	})
}

// TestConvInfinityStaysOne checks that the split formats keep an infinity instead of turning it into infinity minus
// infinity.
func TestConvInfinityStaysOne(t *testing.T) {
	for _, tier := range tiers() {
		for _, p := range precisions {
			s := ConvSpec{In: 32, Out: 32, KernelH: 1, KernelW: 1, Precision: p, Tier: tier}
			weight := make([]float32, 32*32)
			for i := range 32 {
				weight[i*32+i] = 3e38
			}
			conv, err := newPacked(s, weight, nil)
			if err != nil {
				t.Fatal(err)
			}
			f := FormatOf(p, tier)
			src, dst := kernel.NewMap(f, 1, 8, 8, 32, 0), kernel.NewMap(f, 1, 8, 8, 32, 0)
			src.Set(0, 3, 3, 5, 100)
			call, err := conv.Bind(src, dst, nil, 1)
			if err != nil {
				t.Fatal(err)
			}
			runAll(call, src, dst, nil)
			if v := dst.At(0, 3, 3, 5); v < 3e38 || v-v == 0 {
				t.Errorf("%v/%v: %g, want an infinity", tier, p, v)
			}
			if v := dst.At(0, 3, 4, 5); v != 0 {
				t.Errorf("%v/%v: neighbour is %g", tier, p, v)
			}
		}
	}
}

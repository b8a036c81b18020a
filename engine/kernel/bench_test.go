package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// eachBench runs f for every assembly tier and for the formats that a plan uses on it; ZOO_CPU and -bench cut the list.
func eachBench(b *testing.B, name string, f func(b *testing.B, tier cpu.Tier, format Format)) {
	for _, tier := range tiers() {
		for _, format := range formats {
			if format != F32 && tier != cpu.AMX {
				continue
			}
			b.Run(fmt.Sprintf("%s/%v/%v", name, tier, format), func(b *testing.B) { f(b, tier, format) })
		}
	}
}

func benchMap(format Format, n, h, w, c, pad int) Map {
	r := rand.New(rand.NewPCG(1, 2))
	m := NewMap(format, n, h, w, c, pad)
	for i := range m.F32 {
		m.F32[i] = float32(r.NormFloat64())
	}
	for i := range m.Hi {
		m.Hi[i] = ToBF16(float32(r.NormFloat64()))
	}
	m.ZeroBorder(0, n)
	return m
}

func BenchmarkDepthwise(b *testing.B) {
	for _, c := range []struct {
		k, stride, size, channels, pad int
		act                            Activation
	}{
		{3, 1, 112, 32, 0, ReLU6}, {3, 1, 112, 32, 1, ReLU6}, {3, 2, 112, 96, 0, ReLU6}, {3, 1, 56, 144, 0, ReLU6}, {3, 1, 28, 192, 0, ReLU6},
		{3, 1, 14, 576, 0, ReLU6}, {3, 1, 14, 576, 1, ReLU6}, {3, 1, 7, 960, 0, ReLU6}, {5, 1, 14, 672, 0, SiLU}, {5, 2, 14, 672, 0, HardSwish}, {5, 1, 7, 1152, 0, SiLU},
		{7, 1, 56, 96, 0, None}, {7, 1, 14, 384, 0, None}, {3, 1, 28, 58, 0, None},
	} {
		eachBench(b, fmt.Sprintf("%dx%ds%d/%dx%d/pad%d/%v", c.k, c.k, c.stride, c.size, c.channels, c.pad, c.act), func(b *testing.B, tier cpu.Tier, f Format) {
			p := c.k / 2
			d, err := NewDepthwise(DepthwiseSpec{Channels: c.channels, KernelH: c.k, KernelW: c.k, StrideH: c.stride, StrideW: c.stride,
				PadTop: p, PadLeft: p, PadBottom: p, PadRight: p, Activation: c.act, Tier: tier}, make([]float32, c.channels*c.k*c.k), make([]float32, c.channels))
			if err != nil {
				b.Fatal(err)
			}
			src := benchMap(f, 1, c.size, c.size, c.channels, c.pad)
			oh, ow := d.OutSize(c.size, c.size)
			dst := NewMap(f, 1, oh, ow, c.channels, 0)
			scratch := make([]float32, d.Scratch(dst, src))
			b.SetBytes(int64(src.Bytes() + dst.Bytes()))
			b.ReportAllocs()
			for b.Loop() {
				d.Run(dst, src, 0, dst.Rows(), scratch, nil)
			}
			b.ReportMetric(2*float64(c.k*c.k*oh*ow*c.channels)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

func BenchmarkActivate(b *testing.B) {
	for _, act := range []Activation{None, ReLU, HardSwish, SiLU, GELU} {
		eachBench(b, act.String(), func(b *testing.B, tier cpu.Tier, f Format) {
			m, dst := benchMap(f, 1, 28, 28, 192, 0), NewMap(f, 1, 28, 28, 192, 0)
			b.SetBytes(int64(2 * m.Bytes()))
			b.ReportAllocs()
			for b.Loop() {
				Activate(tier, dst, m, act, 0, m.Rows())
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	eachBench(b, "relu", func(b *testing.B, tier cpu.Tier, f Format) {
		m, dst := benchMap(f, 1, 28, 28, 192, 0), NewMap(f, 1, 28, 28, 192, 0)
		b.SetBytes(int64(3 * m.Bytes()))
		for b.Loop() {
			Add(tier, dst, m, m, ReLU, 0, m.Rows())
		}
	})
}

func BenchmarkAffine(b *testing.B) {
	scale, shift := make([]float32, 192), make([]float32, 192)
	eachBench(b, "scale", func(b *testing.B, tier cpu.Tier, f Format) {
		m, dst := benchMap(f, 1, 28, 28, 192, 0), NewMap(f, 1, 28, 28, 192, 0)
		b.SetBytes(int64(2 * m.Bytes()))
		for b.Loop() {
			Affine(tier, dst, m, scale, nil, 0, nil, None, 0, m.Rows())
		}
	})
	eachBench(b, "norm+relu", func(b *testing.B, tier cpu.Tier, f Format) {
		m, dst := benchMap(f, 1, 28, 28, 192, 0), NewMap(f, 1, 28, 28, 192, 0)
		b.SetBytes(int64(2 * m.Bytes()))
		for b.Loop() {
			Affine(tier, dst, m, scale, shift, 0, nil, ReLU, 0, m.Rows())
		}
	})
}

func BenchmarkPool(b *testing.B) {
	for _, c := range []struct {
		k, stride, size, channels int
		max                       bool
	}{{3, 2, 112, 64, true}, {2, 2, 112, 128, true}, {3, 1, 28, 192, true}, {3, 1, 35, 192, false}, {2, 2, 56, 128, false}} {
		eachBench(b, fmt.Sprintf("max=%v/%dx%ds%d/%dx%d", c.max, c.k, c.k, c.stride, c.size, c.channels), func(b *testing.B, tier cpu.Tier, f Format) {
			p := Pool{KernelH: c.k, KernelW: c.k, StrideH: c.stride, StrideW: c.stride}
			if c.k == 3 {
				p.PadTop, p.PadLeft, p.PadBottom, p.PadRight = 1, 1, 1, 1
			}
			oh, ow := p.OutSize(c.size, c.size)
			src, dst := benchMap(f, 1, c.size, c.size, c.channels, 0), NewMap(f, 1, oh, ow, c.channels, 0)
			scratch := make([]float32, PoolScratch(dst, src))
			b.SetBytes(int64(src.Bytes() + dst.Bytes()))
			b.ReportAllocs()
			for b.Loop() {
				if c.max {
					MaxPool(tier, dst, src, p, 0, dst.Rows(), scratch)
				} else {
					AvgPool(tier, dst, src, p, 0, dst.Rows(), scratch)
				}
			}
		})
	}
	eachBench(b, "global/7x1280", func(b *testing.B, tier cpu.Tier, f Format) {
		src, dst := benchMap(f, 1, 7, 7, 1280, 0), NewMap(F32, 1, 1, 1, 1280, 0)
		b.SetBytes(int64(src.Bytes()))
		for b.Loop() {
			GlobalAvgPool(tier, dst, src, 0, 1)
		}
	})
}

func BenchmarkLayerNorm(b *testing.B) {
	eachBench(b, "56x96", func(b *testing.B, tier cpu.Tier, f Format) {
		m, dst := benchMap(f, 1, 56, 56, 96, 0), NewMap(f, 1, 56, 56, 96, 0)
		gamma, beta := make([]float32, 96), make([]float32, 96)
		b.SetBytes(int64(2 * m.Bytes()))
		for b.Loop() {
			LayerNorm(tier, dst, m, gamma, beta, 1e-6, 0, m.Rows())
		}
	})
}

func BenchmarkInterleave(b *testing.B) {
	eachBench(b, "28x58", func(b *testing.B, tier cpu.Tier, f Format) {
		x, y, dst := benchMap(f, 1, 28, 28, 58, 0), benchMap(f, 1, 28, 28, 58, 0), NewMap(f, 1, 28, 28, 116, 0)
		b.SetBytes(int64(2 * dst.Bytes()))
		for b.Loop() {
			Interleave(tier, dst, x, y, 0, dst.Rows())
		}
	})
}

// BenchmarkBorder measures the changes of layout behind and before a linear layer.
func BenchmarkBorder(b *testing.B) {
	plain := make([]float32, 49*512)
	eachBench(b, "flatten", func(b *testing.B, tier cpu.Tier, f Format) {
		m := benchMap(f, 1, 7, 7, 512, 0)
		b.SetBytes(int64(4*len(plain) + m.Bytes()))
		for b.Loop() {
			ToNCHW(tier, plain, m, 0, m.Rows())
		}
	})
	eachBench(b, "unflatten", func(b *testing.B, tier cpu.Tier, f Format) {
		m := NewMap(f, 1, 7, 7, 512, 0)
		b.SetBytes(int64(4*len(plain) + m.Bytes()))
		for b.Loop() {
			FromNCHW(tier, m, plain, 0, m.Rows())
		}
	})
}

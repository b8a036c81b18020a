package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

func TestMovesBetweenChannelBlocks(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for range guard.Trials(40) {
			n, h, w := 1+r.IntN(2), 1+r.IntN(4), 1+r.IntN(5)
			groups := 1 + r.IntN(4)
			per := channels(r)
			c := per * groups
			src, dst := randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, f, n, h, w, c, r.IntN(2))
			before := clone(dst)
			lo, hi := someRows(r, dst)

			Copy(dst, src, lo, hi)
			checkOutside(t, "copy", before, dst, lo, hi)
			checkRows(t, "copy", dst, lo, hi, func(n, y, x, c int) (float64, float64) { return float64(src.At(n, y, x, c)), 0 }, 0)

			Shuffle(tier, dst, src, groups, lo, hi)
			checkOutside(t, "shuffle", before, dst, lo, hi)
			checkRows(t, "shuffle", dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				return float64(src.At(n, y, x, c%groups*per+c/groups)), 0
			}, 0)

			a, b := randomMap(r, f, n, h, w, per, r.IntN(2)), randomMap(r, f, n, h, w, per, r.IntN(2))
			both := randomMap(r, f, n, h, w, 2*per, r.IntN(2))
			before = clone(both)
			Interleave(tier, both, a, b, lo, hi)
			checkOutside(t, "interleave", before, both, lo, hi)
			checkRows(t, "interleave", both, lo, hi, func(n, y, x, c int) (float64, float64) {
				if c%2 == 0 {
					return float64(a.At(n, y, x, c/2)), 0
				}
				return float64(b.At(n, y, x, c/2)), 0
			}, 0)

			stride, first := 1+r.IntN(3), r.IntN(5)
			small := randomMap(r, f, n, (h-1)/stride+1, (w-1)/stride+1, first+c+r.IntN(5), r.IntN(2))
			before = clone(small)
			lo, hi = someRows(r, small)
			Subsample(small, src, stride, first, lo, hi)
			checkOutside(t, "subsample", before, small, lo, hi)
			checkRows(t, "subsample", small, lo, hi, func(n, y, x, c int) (float64, float64) {
				if c < first || c >= first+src.C {
					return 0, 0
				}
				return float64(src.At(n, y*stride, x*stride, c-first)), 0
			}, 0)
		}
	})
}

func TestBordersKeepEveryValue(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for trial := range guard.Trials(60) {
			n, h, w, c := 1+r.IntN(2), 1+r.IntN(5), 1+r.IntN(70), channels(r)
			if trial%2 == 0 {
				c = 1 + r.IntN(4)
			}
			m := randomMap(r, f, n, h, w, c, r.IntN(3))
			plain := randoms(r, n*h*w*c)
			before := clone(m)
			lo, hi := someRows(r, m)
			FromNCHW(tier, m, plain, lo, hi)
			checkOutside(t, "from NCHW", before, m, lo, hi)
			checkRows(t, "from NCHW", m, lo, hi, func(n, y, x, c int) (float64, float64) {
				return float64(plain[((n*m.C+c)*h+y)*w+x]), 0
			}, 0)

			back := guard.Slice[float32](r.tb, len(plain))
			fill(back, canaryF32)
			ToNCHW(tier, back, m, lo, hi)
			for i, v := range back {
				n, y, x, c := i/w/h/m.C, i/w%h, i%w, i/w/h%m.C
				want := float32(canaryF32)
				if row := n*h + y; row >= lo && row < hi {
					want = m.At(n, y, x, c)
				}
				if v != want {
					t.Fatalf("to NCHW: value %d of %v is %g instead of %g", i, m, v, want)
				}
			}
		}
	})
}

func TestZeroBorderLeavesTheRest(t *testing.T) {
	r := source{rand.New(rand.NewPCG(1, 2)), t}
	for _, f := range formats {
		for range guard.Trials(20) {
			m := randomMap(r, f, 1+r.IntN(3), 1+r.IntN(4), 1+r.IntN(4), channels(r), r.IntN(3))
			before := clone(m)
			for i := range m.F32 {
				m.F32[i] = 7
			}
			for i := range m.Hi {
				m.Hi[i] = 7
			}
			for i := range m.Lo {
				m.Lo[i] = 7
			}
			m.ZeroBorder(0, m.N)
			for n := range m.N {
				for y := -m.Pad; y < m.H+m.Pad; y++ {
					for x := -m.Pad; x < m.W+m.Pad; x++ {
						inside := y >= 0 && y < m.H && x >= 0 && x < m.W
						for c := range m.C {
							if zero := m.At(n, y, x, c) == 0; zero == inside {
								t.Fatalf("%v with border %d: row %d, column %d: zero is %v", m, m.Pad, y, x, zero)
							}
						}
					}
				}
			}
			// What before holds canaries in lies outside the channel block and must still be 7.
			for i, v := range before.F32 {
				if v == canaryF32 && m.F32[i] != 7 {
					t.Fatalf("%v: element %d was written", m, i)
				}
			}
			for i, v := range before.Hi {
				if v == canary16 && m.Hi[i] != 7 {
					t.Fatalf("%v: element %d was written", m, i)
				}
			}
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	r := source{rand.New(rand.NewPCG(1, 2)), t}
	for _, tier := range tiers() {
		for _, f := range formats {
			m, o := NewMap(f, 1, 8, 8, 24, 0), NewMap(f, 1, 8, 8, 24, 1)
			half, scale := NewMap(f, 1, 8, 8, 12, 0), randoms(r, 24)
			d, err := NewDepthwise(DepthwiseSpec{Channels: 24, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Tier: tier, Activation: SiLU}, make([]float32, 216), nil)
			if err != nil {
				t.Fatal(err)
			}
			scratch, plain, vector := make([]float32, 1<<16), make([]float32, 8*8*24), NewMap(F32, 1, 1, 1, 24, 0)
			p := Pool{KernelH: 3, KernelW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}
			if n := testing.AllocsPerRun(5, func() {
				Activate(tier, o, m, GELU, 0, 8)
				Add(tier, o, m, m, SiLU, 0, 8)
				Affine(tier, o, m, scale, scale, 0, &m, Sigmoid, 0, 8)
				d.Run(o, m, 0, 8, scratch, scratch[1<<15:])
				MaxPool(tier, o, m, p, 0, 8, scratch)
				AvgPool(tier, o, m, p, 0, 8, scratch)
				AdaptiveAvgPool(tier, o, m, 0, 8, scratch)
				GlobalAvgPool(tier, vector, m, 0, 1)
				MeanOfRows(tier, vector, plain, 8, 8, 0, 1)
				LayerNorm(tier, o, m, scale, scale, 1e-5, 0, 8)
				LRN(tier, o, m, 5, 1, 0.75, 1, 0, 8, scratch)
				Interleave(tier, o, half, half, 0, 8)
				Shuffle(tier, o, m, 3, 0, 8)
				Copy(o, m, 0, 8)
				Subsample(o, m, 1, 0, 0, 8)
				FromNCHW(tier, o, plain, 0, 8)
				ToNCHW(tier, plain, m, 0, 8)
			}); n != 0 {
				t.Errorf("%v, %v: %v allocations", tier, f, n)
			}
		}
	}
}

// TestMapsThatDoNotBelongTogether wants a panic where kernels would read or write behind a map or take a value for another.
func TestMapsThatDoNotBelongTogether(t *testing.T) {
	m := func(n, h, w, c int) Map { return NewMap(F32, n, h, w, c, 0) }
	good := m(2, 4, 5, 64)
	half, vector := m(2, 4, 5, 32), m(2, 1, 1, 64)
	scale, scratch := make([]float32, 64), make([]float32, 1<<16)
	pool := Pool{KernelH: 3, KernelW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}
	others := map[string]Map{"images": m(1, 4, 5, 64), "rows": m(2, 3, 5, 64), "columns": m(2, 4, 4, 64), "channels": m(2, 4, 5, 63), "format": NewMap(BF16, 2, 4, 5, 64, 0)}
	for _, tier := range tiers() {
		d, err := NewDepthwise(DepthwiseSpec{Channels: 64, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Tier: tier}, make([]float32, 9*64), nil)
		if err != nil {
			t.Fatal(err)
		}
		panics := func(what string, run func()) {
			t.Helper()
			guard.Panics(t, fmt.Sprintf("%v: %s", tier, what), run)
		}
		for what, o := range others {
			panics("sum of other "+what, func() { Add(tier, good, good, o, None, 0, 6) })
			panics("affine map with a residual of other "+what, func() { Affine(tier, good, good, scale, scale, 0, &o, None, 0, 6) })
			panics("affine map into other "+what, func() { Affine(tier, o, good, scale, scale, 0, nil, None, 0, 3) })
			panics("layer norm into other "+what, func() { LayerNorm(tier, o, good, scale, scale, 1e-5, 0, 3) })
			panics("local response norm into other "+what, func() { LRN(tier, o, good, 5, 1, 0.75, 1, 0, 3, scratch) })
			panics("copy into other "+what, func() { Copy(o, good, 0, 3) })
			panics("shuffle into other "+what, func() { Shuffle(tier, o, good, 4, 0, 3) })
			if what == "format" {
				continue // these convert
			}
			panics("activation into other "+what, func() { Activate(tier, o, good, ReLU, 0, 3) })
			panics("depthwise convolution into other "+what, func() { d.Run(o, good, 0, 3, scratch, nil) })
			if what == "images" || what == "channels" { // windows of any rows and columns are those of some pool
				panics("pooling into other "+what, func() { MaxPool(tier, o, good, pool, 0, 3, scratch) })
			}
		}
		panics("depthwise convolution of other channels", func() { d.Run(good, others["channels"], 0, 8, scratch, nil) })
		panics("channels that begin within a block", func() { d.RunChannels(good, good, 0, 8, 16, 64, scratch, nil) })
		panics("channels that end within a block", func() { d.RunChannels(good, good, 0, 8, 0, 16, scratch, nil) })
		panics("more channels than there are", func() { d.RunChannels(good, good, 0, 8, 0, 96, scratch, nil) })
		panics("channels before the first", func() { d.RunChannels(good, good, 0, 8, -32, 64, scratch, nil) })
		panics("groups that do not divide the channels", func() { Shuffle(tier, good, good, 5, 0, 8) })
		panics("interleaving into too few channels", func() { Interleave(tier, others["channels"], half, half, 0, 8) })
		panics("every second pixel of too few", func() { Subsample(good, good, 2, 0, 0, 8) })
		panics("channels behind the last", func() { Subsample(good, good, 1, 1, 0, 8) })
		panics("global average into other images", func() { GlobalAvgPool(tier, m(1, 1, 1, 64), good, 0, 1) })
		panics("global average into other channels", func() { GlobalAvgPool(tier, m(2, 1, 1, 63), good, 0, 2) })
		panics("global average into an image of two rows", func() { GlobalAvgPool(tier, m(2, 2, 1, 64), good, 0, 2) })
		panics("global average into an image of two columns", func() { GlobalAvgPool(tier, m(2, 1, 2, 64), good, 0, 2) })
		panics("global average into bfloat16", func() { GlobalAvgPool(tier, NewMap(BF16, 2, 1, 1, 64, 0), good, 0, 2) })
		panics("too few scales", func() { Affine(tier, good, good, scale[1:], nil, 0, nil, None, 0, 8) })
		panics("too few shifts", func() { Affine(tier, good, good, scale, scale[1:], 0, nil, None, 0, 8) })
		panics("too few gammas", func() { LayerNorm(tier, good, good, scale[1:], scale, 1e-5, 0, 8) })
		panics("too few betas", func() { LayerNorm(tier, good, good, scale, scale[1:], 1e-5, 0, 8) })
		panics("softmax of too few", func() { Softmax(tier, scratch, scale, 2, 33) })
		panics("softmax into too few", func() { Softmax(tier, scale, scratch, 2, 33) })
		panics("from too few values", func() { FromNCHW(tier, good, scratch[:2*4*5*64-1], 0, 8) })
		panics("to too few values", func() { ToNCHW(tier, scratch[:2*4*5*64-1], good, 0, 8) })
		panics("images that there are not", func() { vector.Images(1, 3) })
		panics("images backwards", func() { vector.Images(1, 0) })
		panics("images before the first", func() { vector.Images(-1, 1) })
	}
}

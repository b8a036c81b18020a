package kernel

import (
	"math"
	"testing"

	"math/rand/v2"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// same fails if two tiers disagree by more than the format and the order of summation allow.
func same(t *testing.T, what string, tier cpu.Tier, got, want Map, slack float64) {
	t.Helper()
	checkRows(t, what+" on "+tier.String(), got, 0, got.Rows(), func(n, y, x, c int) (float64, float64) {
		v := float64(want.At(n, y, x, c))
		return v, 1 + math.Abs(v)
	}, slack+1.01*precision(got.Format))
}

// FuzzDepthwise compares every tier with plain Go over windows, strides, paddings and formats, with and without sums of rows, with rows
// and channels in one call or in two. Half of the inputs are of the windows that have kernels of their own. Maps are as large as tails
// need: a few rows, and columns and channels for one or two whole tiles and any rest.
func FuzzDepthwise(f *testing.F) {
	const own = 128 // flag in kh: a window with a kernel of its own
	f.Add(uint64(1), uint8(3), uint8(3), uint8(1), uint8(1), uint8(1), uint8(14), uint8(14), uint8(40), uint8(0))
	f.Add(uint64(2), uint8(5), uint8(5), uint8(2), uint8(1), uint8(2), uint8(7), uint8(9), uint8(17), uint8(5))
	f.Add(uint64(3), uint8(2), uint8(7), uint8(3), uint8(2), uint8(3), uint8(20), uint8(1), uint8(1), uint8(2))
	for window := range uint8(3) {
		f.Add(uint64(4), own+window, uint8(0), uint8(window), uint8(0), uint8(3), uint8(6), uint8(13), uint8(47), uint8(20+window))
		f.Add(uint64(5), own+window, uint8(0), uint8(window+1), uint8(0), uint8(2), uint8(3), uint8(23), uint8(31), uint8(40+window))
	}
	f.Fuzz(func(t *testing.T, seed uint64, kh, kw, stride, dilation, pad, h, w, c, flags uint8) {
		r := source{rand.New(rand.NewPCG(seed, 0)), t}
		s := DepthwiseSpec{Channels: 1 + int(c)%70, KernelH: 1 + int(kh)%8, KernelW: 1 + int(kw)%8, StrideH: 1 + int(stride)%3, StrideW: 1 + int(stride/3)%3,
			DilationH: 1 + int(dilation)%3, DilationW: 1 + int(dilation/3)%3, PadTop: int(pad) % 5, PadLeft: int(pad) % 4, PadBottom: int(pad) % 3, PadRight: int(pad) % 6,
			Activation: Activation(seed % uint64(activations))}
		if kh&own != 0 {
			k, step := 3+2*int(kh-own)%3, 1+int(stride)%2
			s.KernelH, s.KernelW, s.StrideH, s.StrideW, s.DilationH, s.DilationW = k, k, step, step, 1, 1
		}
		// size is a height or width in which the window fits at least once.
		size := func(extra, kernel, dilation, pads int) int { return max(kernel*dilation-pads, 1) + extra }
		height := size(int(h)%8, s.KernelH, s.DilationH, s.PadTop+s.PadBottom)
		width := size(int(w)%24, s.KernelW, s.DilationW, s.PadLeft+s.PadRight)
		weights, bias := randoms(r, s.Channels*s.KernelH*s.KernelW), randoms(r, s.Channels)
		src := randomMap(r, formats[flags%3], 1+int(h)/128, height, width, s.Channels, int(flags)/3%6)
		first, split := r.IntN(1+(s.Channels-1)/ChannelBlock)*ChannelBlock, r.IntN(2) == 0
		var want, wantSums Map
		for _, tier := range tiers() {
			s.Tier = tier
			d, err := NewDepthwise(s, weights, bias)
			if err != nil {
				t.Fatal(err)
			}
			oh, ow := d.OutSize(src.H, src.W)
			dst := randomMap(r, formats[flags/18%3], src.N, oh, ow, s.Channels, 1)
			before := clone(dst)
			sums := Layout(F32, src.N, oh, 1, s.Channels, 0).Over(randoms(r, src.N*oh*s.Channels), nil, nil)
			var rowSums []float32
			if seed%2 == 1 {
				rowSums = sums.F32
			}
			scratch := exactScratch(r, d.Scratch(dst, src))
			rows := []int{0, dst.Rows()}
			if split {
				rows = []int{0, r.IntN(dst.Rows() + 1), dst.Rows()}
			}
			for i, to := range rows[1:] {
				d.RunChannels(dst, src, rows[i], to, first, s.Channels, scratch, rowSums)
				if first > 0 {
					d.RunChannels(dst, src, rows[i], to, 0, first, scratch, rowSums)
				}
			}
			checkOutside(t, "depthwise", before, dst, 0, dst.Rows())
			if tier == cpu.Generic {
				want, wantSums = dst, sums
				continue
			}
			same(t, "depthwise", tier, dst, want, 1e-5)
			if rowSums != nil {
				same(t, "sums of a depthwise convolution's rows", tier, sums, wantSums, 1e-4)
			}
		}
	})
}

// FuzzPool compares every tier with plain Go.
func FuzzPool(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(2), uint8(1), uint8(14), uint8(14), uint8(40), uint8(0))
	f.Add(uint64(2), uint8(2), uint8(2), uint8(0), uint8(7), uint8(9), uint8(17), uint8(29))
	f.Fuzz(func(t *testing.T, seed uint64, k, stride, pad, h, w, c, flags uint8) {
		r := source{rand.New(rand.NewPCG(seed, 0)), t}
		p := Pool{KernelH: 1 + int(k)%5, KernelW: 1 + int(k/5)%5, StrideH: 1 + int(stride)%4, StrideW: 1 + int(stride/4)%4, CeilMode: flags&64 != 0, CountIncludePad: flags&128 != 0}
		p.PadTop, p.PadBottom = int(pad)%(p.KernelH/2+1), int(pad/4)%(p.KernelH/2+1)
		p.PadLeft, p.PadRight = int(pad/16)%(p.KernelW/2+1), int(pad/64)%(p.KernelW/2+1)
		src := randomMap(r, formats[flags%3], 1, 1+int(h)%20, 1+int(w)%20, 1+int(c)%70, 0)
		oh, ow := p.OutSize(src.H, src.W)
		if oh < 1 || ow < 1 {
			return
		}
		for _, pool := range []func(cpu.Tier, Map, Map, Pool, int, int, []float32){MaxPool, AvgPool} {
			var want Map
			for _, tier := range tiers() {
				dst := randomMap(r, formats[flags/3%3], 1, oh, ow, src.C, 1)
				before := clone(dst)
				pool(tier, dst, src, p, 0, oh, exactScratch(r, PoolScratch(dst, src)))
				checkOutside(t, "pool", before, dst, 0, oh)
				if tier == cpu.Generic {
					want = dst
					continue
				}
				same(t, "pool", tier, dst, want, 1e-6)
			}
		}
	})
}

// FuzzPointwise compares every tier with plain Go on values of any bits, in maps of any format.
func FuzzPointwise(f *testing.F) {
	f.Add([]byte{0, 0, 0xc0, 0x7f, 0, 0, 0x80, 0xff, 1, 2, 3, 4, 5, 6, 7, 8}, uint8(5), uint8(0))
	f.Add([]byte{0xff, 0xff, 0x7f, 0x7f, 1, 0, 0, 0, 0, 0, 0x80, 0x3f}, uint8(7), uint8(4))
	f.Fuzz(func(t *testing.T, bits []byte, act, format uint8) {
		n := len(bits) / 4
		if n == 0 || n > 4096 {
			return
		}
		r := source{rand.New(rand.NewPCG(uint64(n), 0)), t}
		a, to := Activation(act)%activations, formats[format%3]
		src := NewMap(formats[format/3%3], 1, 1, 1, n, 0)
		for i := range n {
			v := math.Float32frombits(uint32(bits[4*i]) | uint32(bits[4*i+1])<<8 | uint32(bits[4*i+2])<<16 | uint32(bits[4*i+3])<<24)
			if av := math.Abs(float64(v)); av < 1e-30 && av > 0 || av > 1e30 && !math.IsInf(av, 0) {
				v = 1 // subnormals and overflows are rounded away differently
			}
			if math.IsInf(float64(v), 0) && !(a == None || a == ReLU || a == ReLU6 || a == HardSigmoid) {
				v = 2 // infinity times zero is not a number; the vector forms say zero or infinity
			}
			src.Set(0, 0, 0, i, v)
		}
		for _, tier := range tiers() {
			dst := randomMap(r, to, 1, 1, 1, n, 0)
			before := clone(dst)
			Activate(tier, dst, src, a, 0, 1)
			checkOutside(t, a.String(), before, dst, 0, 1)
			for i := range n {
				x := src.At(0, 0, 0, i)
				want, got := float64(a.Apply(x)), float64(dst.At(0, 0, 0, i))
				if math.IsNaN(want) != math.IsNaN(got) || math.Abs(want-got) > 1e-30+math.Abs(want)*precision(to)*1.01+1e-6*(1+math.Abs(float64(x))) && want != got {
					t.Fatalf("%v: %v(%g) into %v is %g instead of %g", tier, a, x, to, got, want)
				}
			}
		}
	})
}

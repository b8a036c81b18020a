package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

func TestDepthwiseOverRandomShapes(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for trial := range guard.Trials(150) {
			spec := DepthwiseSpec{Channels: channels(r), Tier: tier, Activation: Activation(r.IntN(int(activations)))}
			spec.KernelH = 1 + r.IntN(7)
			spec.KernelW = spec.KernelH
			spec.StrideH = 1 + r.IntN(2)
			spec.StrideW = spec.StrideH
			if trial%3 != 0 {
				spec.KernelH = 3 + 2*r.IntN(3)
				spec.KernelW = spec.KernelH
			} else if trial%2 == 0 {
				spec.KernelW, spec.StrideW, spec.DilationH, spec.DilationW = 1+r.IntN(5), 1+r.IntN(3), 1+r.IntN(2), 1+r.IntN(3)
			}
			pad := func(k int) int { return r.IntN(k/2 + 1) }
			spec.PadTop, spec.PadLeft, spec.PadBottom, spec.PadRight = pad(spec.KernelH), pad(spec.KernelW), pad(spec.KernelH), pad(spec.KernelW)
			n, h, w, c := 1+r.IntN(2), 1+r.IntN(20), 1+r.IntN(24), spec.Channels
			weights, bias := randoms(r, c*spec.KernelH*spec.KernelW), randoms(r, c)
			if r.IntN(4) == 0 {
				bias = nil
			}
			d, err := NewDepthwise(spec, weights, bias)
			if err != nil {
				t.Fatal(err)
			}
			oh, ow := d.OutSize(h, w)
			if oh < 1 || ow < 1 {
				continue
			}
			to := f
			if r.IntN(4) == 0 {
				to = formats[r.IntN(3)]
			}
			src, dst := randomMap(r, f, n, h, w, c, r.IntN(5)), randomMap(r, to, n, oh, ow, c, r.IntN(2))
			before := clone(dst)
			var sums []float32
			if r.IntN(2) == 0 {
				sums = randoms(r, n*oh*c)
			}
			lo, hi := someRows(r, dst)
			middle := min(r.IntN(3)*ChannelBlock, c)
			if middle < c {
				d.RunChannels(dst, src, lo, hi, middle, c, exactScratch(r, d.Scratch(dst, src)), sums)
			}
			d.RunChannels(dst, src, lo, hi, 0, middle, exactScratch(r, d.Scratch(dst, src)), sums)
			what := fmt.Sprintf("%+v of %v with border %d", spec, src, src.Pad)
			checkOutside(t, what, before, dst, lo, hi)
			s := d.spec
			checkRows(t, what, dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				v, size := 0.0, 1.0
				if bias != nil {
					v = float64(bias[c])
				}
				for ky := range s.KernelH {
					for kx := range s.KernelW {
						iy, ix := y*s.StrideH+ky*s.DilationH-s.PadTop, x*s.StrideW+kx*s.DilationW-s.PadLeft
						if iy >= 0 && iy < h && ix >= 0 && ix < w {
							p := float64(src.At(n, iy, ix, c)) * float64(weights[(c*s.KernelH+ky)*s.KernelW+kx])
							v += p
							size += math.Abs(p)
						}
					}
				}
				return float64(s.Activation.Apply(float32(v))), size
			}, 1e-6)
			if sums != nil {
				for row := lo; row < hi; row++ {
					for c := range dst.C {
						want, size := 0.0, 1.0
						for x := range dst.W {
							v := float64(dst.At(row/oh, row%oh, x, c))
							want += v
							size += math.Abs(v)
						}
						// The sum is of the values before they were rounded.
						if got := float64(sums[row*dst.C+c]); math.Abs(got-want) > (1e-6+precision(to))*size {
							t.Fatalf("%s: the sum of row %d, channel %d is %g instead of %g", what, row, c, got, want)
						}
					}
				}
			}
		}
	})
}

func randoms(r source, n int) []float32 {
	v := guard.Slice[float32](r.tb, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func TestPoolingOverRandomShapes(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for trial := range guard.Trials(150) {
			p := Pool{KernelH: 1 + r.IntN(4), KernelW: 1 + r.IntN(4), StrideH: r.IntN(4), StrideW: r.IntN(4), CeilMode: r.IntN(2) == 0, CountIncludePad: r.IntN(2) == 0}
			if trial%2 == 0 {
				p.KernelW, p.StrideW = p.KernelH, p.StrideH
			}
			p.PadTop, p.PadLeft, p.PadBottom, p.PadRight = r.IntN(p.KernelH/2+1), r.IntN(p.KernelW/2+1), r.IntN(p.KernelH/2+1), r.IntN(p.KernelW/2+1)
			isMax := r.IntN(2) == 0
			if isMax {
				p.DilationH, p.DilationW = r.IntN(3), r.IntN(3)
			}
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			n, h, w, c := 1+r.IntN(2), 1+r.IntN(12), 1+r.IntN(12), channels(r)
			oh, ow := p.OutSize(h, w)
			if oh < 1 || ow < 1 {
				continue
			}
			to := f
			if r.IntN(4) == 0 {
				to = formats[r.IntN(3)]
			}
			src, dst := randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, to, n, oh, ow, c, r.IntN(2))
			if isMax && r.IntN(3) == 0 {
				src.Set(r.IntN(n), r.IntN(h), r.IntN(w), r.IntN(c), float32(math.Copysign(math.NaN(), r.Float64()-0.5)))
			}
			before := clone(dst)
			lo, hi := someRows(r, dst)
			scratch := exactScratch(r, PoolScratch(dst, src))
			if isMax {
				MaxPool(tier, dst, src, p, lo, hi, scratch)
			} else {
				AvgPool(tier, dst, src, p, lo, hi, scratch)
			}
			what := fmt.Sprintf("max %v pooling %+v of %v", isMax, p, src)
			checkOutside(t, what, before, dst, lo, hi)
			q := p.WithDefaults()
			checkRows(t, what, dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				if isMax {
					return maxWindow(q, src, n, y, x, c), 0
				}
				sum, count := 0.0, 0
				for ky := range q.KernelH {
					for kx := range q.KernelW {
						if iy, ix := y*q.StrideH+ky-q.PadTop, x*q.StrideW+kx-q.PadLeft; iy >= 0 && iy < h && ix >= 0 && ix < w {
							sum += float64(src.At(n, iy, ix, c))
							count++
						}
					}
				}
				top, left := y*q.StrideH-q.PadTop, x*q.StrideW-q.PadLeft
				area := (min(top+q.KernelH, h+q.PadBottom) - top) * (min(left+q.KernelW, w+q.PadRight) - left)
				divisor := count
				if p.CountIncludePad {
					divisor = area
				}
				return sum / float64(max(divisor, 1)), 5
			}, 5e-7)
		}
	})
}

// TestMaxPoolOfNothingButPadding has windows of which some or all taps, a dilation apart, lie beside the image: what lies in no window is -Inf, as in
// PyTorch.
func TestMaxPoolOfNothingButPadding(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for _, to := range formats {
			for i := range 2 * 2 * 4 * 4 {
				p := Pool{KernelH: 2 + i%2, KernelW: 2 + i/2%2, StrideH: 1 + r.IntN(2), StrideW: 1 + r.IntN(2)}
				p.PadTop, p.PadLeft, p.PadBottom, p.PadRight = p.KernelH/2, p.KernelW/2, p.KernelH/2, p.KernelW/2
				h, w := 1+i/4%4, 1+i/16
				// The widest window that fits, or one less.
				p.DilationH = max((h+2*p.PadTop-1)/(p.KernelH-1)-r.IntN(2), 1)
				p.DilationW = max((w+2*p.PadLeft-1)/(p.KernelW-1)-r.IntN(2), 1)
				oh, ow := p.OutSize(h, w)
				if err := p.Validate(); err != nil || oh < 1 || ow < 1 {
					continue
				}
				c := 1 + r.IntN(40)
				src, dst := randomMap(r, f, 1, h, w, c, r.IntN(2)), randomMap(r, to, 1, oh, ow, c, r.IntN(2))
				before := clone(dst)
				MaxPool(tier, dst, src, p, 0, oh, exactScratch(r, PoolScratch(dst, src)))
				what := fmt.Sprintf("max pooling %+v of %v", p, src)
				checkOutside(t, what, before, dst, 0, oh)
				checkRows(t, what, dst, 0, oh, func(n, y, x, c int) (float64, float64) { return maxWindow(p, src, n, y, x, c), 0 }, 0)
			}
		}
	})
}

func maxWindow(q Pool, src Map, n, y, x, c int) float64 {
	best := math.Inf(-1)
	for ky := range q.KernelH {
		for kx := range q.KernelW {
			iy, ix := y*q.StrideH+ky*q.DilationH-q.PadTop, x*q.StrideW+kx*q.DilationW-q.PadLeft
			if iy < 0 || iy >= src.H || ix < 0 || ix >= src.W {
				continue
			}
			v := float64(src.At(n, iy, ix, c))
			if math.IsNaN(v) {
				return v
			}
			best = max(best, v)
		}
	}
	return best
}

// Sizes that torch 1.13 gives.
func TestPoolingSizeOfCeilMode(t *testing.T) {
	for _, c := range []struct {
		p       Pool
		in, out int
	}{
		{Pool{KernelH: 3, KernelW: 3, StrideH: 2, StrideW: 2, CeilMode: true}, 112, 56},
		{Pool{KernelH: 3, KernelW: 3, StrideH: 2, StrideW: 2}, 112, 55},
		{Pool{KernelH: 3, KernelW: 3, StrideH: 2, StrideW: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}, 112, 56},
		{Pool{KernelH: 2, KernelW: 2, CeilMode: true}, 7, 4},
		{Pool{KernelH: 3, KernelW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, CeilMode: true}, 28, 28},
		{Pool{KernelH: 1, KernelW: 1, StrideH: 2, StrideW: 2, CeilMode: true}, 7, 4},
	} {
		if h, w := c.p.OutSize(c.in, c.in); h != c.out || w != c.out {
			t.Errorf("%+v of %d gives %dx%d instead of %d", c.p, c.in, h, w, c.out)
		}
	}
}

func TestAdaptiveAndGlobalAverage(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for range guard.Trials(40) {
			n, h, w, c := 1+r.IntN(3), 1+r.IntN(14), 1+r.IntN(14), channels(r)
			src, dst := randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, f, n, 1+r.IntN(8), 1+r.IntN(8), c, r.IntN(2))
			before := clone(dst)
			lo, hi := someRows(r, dst)
			AdaptiveAvgPool(tier, dst, src, lo, hi, exactScratch(r, PoolScratch(dst, src)))
			checkOutside(t, "adaptive", before, dst, lo, hi)
			mean := func(n, y0, y1, x0, x1, c int) (float64, float64) {
				sum := 0.0
				for y := y0; y < y1; y++ {
					for x := x0; x < x1; x++ {
						sum += float64(src.At(n, y, x, c))
					}
				}
				return sum / float64((y1-y0)*(x1-x0)), 5
			}
			part := func(i, in, out int) (int, int) { return i * in / out, ((i+1)*in + out - 1) / out }
			checkRows(t, "adaptive", dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				y0, y1 := part(y, h, dst.H)
				x0, x1 := part(x, w, dst.W)
				return mean(n, y0, y1, x0, x1, c)
			}, 5e-7)
			global := randomMap(r, F32, n, 1, 1, c, 0)
			before = clone(global)
			GlobalAvgPool(tier, global, src, 0, n)
			checkOutside(t, "global", before, global, 0, n)
			checkRows(t, "global", global, 0, n, func(n, _, _, c int) (float64, float64) { return mean(n, 0, h, 0, w, c) }, 1e-6)
		}
	})
}

// Equal values are all rounded to the same side.
func TestAverageOfAFlatMapDoesNotDrift(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for _, size := range [][2]int{{112, 112}, {7, 900}, {257, 3}, {16, 16}} {
			c := 1 + r.IntN(2*chunk)
			src, dst := NewMap(f, 1, size[0], size[1], c, r.IntN(2)), NewMap(F32, 1, 1, 1, c, 0)
			values := randoms(r, c)
			for p := range size[0] * size[1] {
				src.store(src.index(0, p/size[1], p%size[1]), values)
			}
			GlobalAvgPool(tier, dst, src, 0, 1)
			for i := range c {
				if want := float64(src.At(0, 0, 0, i)); math.Abs(float64(dst.At(0, 0, 0, i))-want) > 2e-5*math.Abs(want) {
					t.Fatalf("channel %d of a map of %dx%d pixels of %g: the average is %g", i, size[0], size[1], want, dst.At(0, 0, 0, i))
				}
			}
		}
	})
}

func TestMeanOfRowsIsTheGlobalAverage(t *testing.T) {
	r := source{rand.New(rand.NewPCG(1, 2)), t}
	d, err := NewDepthwise(DepthwiseSpec{Channels: 40, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Activation: SiLU, Tier: cpu.Best()}, randoms(r, 360), randoms(r, 40))
	if err != nil {
		t.Fatal(err)
	}
	src, dst := randomMap(r, F32, 2, 9, 11, 40, 1), randomMap(r, F32, 2, 9, 11, 40, 0)
	sums := make([]float32, 2*9*40)
	d.Run(dst, src, 0, 18, make([]float32, d.Scratch(dst, src)), sums)
	a, b := NewMap(F32, 2, 1, 1, 40, 0), NewMap(F32, 2, 1, 1, 40, 0)
	GlobalAvgPool(cpu.Best(), b, dst, 0, 2)
	for _, tier := range tiers() {
		MeanOfRows(tier, a, sums, 9, 11, 0, 2)
		for i, v := range a.F32 {
			if math.Abs(float64(v-b.F32[i])) > 1e-5 {
				t.Fatalf("%v: mean %d is %g from rows, %g from pixels", tier, i, v, b.F32[i])
			}
		}
	}
}

// TestTooFewSumsOfRows wants a panic where kernels would write or read behind the sums.
func TestTooFewSumsOfRows(t *testing.T) {
	src, dst := NewMap(F32, 1, 4, 4, 32, 1), NewMap(F32, 1, 4, 4, 32, 0)
	sums := make([]float32, 4*32-1)
	for _, tier := range tiers() {
		d, err := NewDepthwise(DepthwiseSpec{Channels: 32, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Tier: tier}, make([]float32, 9*32), nil)
		if err != nil {
			t.Fatal(err)
		}
		scratch := make([]float32, d.Scratch(dst, src))
		for what, f := range map[string]func(){
			"depthwise":    func() { d.Run(dst, src, 0, 4, scratch, sums) },
			"mean of rows": func() { MeanOfRows(tier, NewMap(F32, 1, 1, 1, 32, 0), sums, 4, 4, 0, 1) },
		} {
			guard.Panics(t, fmt.Sprintf("%v: %s with too few sums of rows", tier, what), f)
		}
	}
}

// TestDepthwiseOfLargeMaps has sources that are fetched in the order of memory before they are read, up to the ends of their borders.
func TestDepthwiseOfLargeMaps(t *testing.T) {
	r := source{rand.New(rand.NewPCG(5, 6)), t}
	const h, w, c = 37, 30, 240
	for _, f := range formats {
		for _, spec := range []DepthwiseSpec{
			{KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1},
			{KernelH: 5, KernelW: 5, StrideH: 2, StrideW: 2, PadTop: 2, PadLeft: 2, PadBottom: 2, PadRight: 2, Activation: SiLU},
			{KernelH: 2, KernelW: 4, StrideH: 3, StrideW: 1, DilationH: 3, PadTop: 4, PadBottom: 5},
		} {
			src := randomMap(r, f, 2, h, w, c, r.IntN(4))
			if src.N*src.Image*f.Size() <= coldBytes {
				t.Fatalf("%v is not large: the test has lost its point", src)
			}
			weights := randoms(r, c*spec.KernelH*spec.KernelW)
			var want Map
			for _, tier := range tiers() {
				spec.Channels, spec.Tier = c, tier
				d, err := NewDepthwise(spec, weights, nil)
				if err != nil {
					t.Fatal(err)
				}
				oh, ow := d.OutSize(h, w)
				dst := randomMap(r, f, 2, oh, ow, c, r.IntN(2))
				d.Run(dst, src, 0, dst.Rows(), exactScratch(r, d.Scratch(dst, src)), nil)
				if tier == cpu.Generic {
					want = dst
					continue
				}
				same(t, "depthwise", tier, dst, want, 1e-5)
			}
		}
	}
}

func TestDepthwiseRefusesWhatItCannotCompute(t *testing.T) {
	good := DepthwiseSpec{Channels: 4, KernelH: 3, KernelW: 5}
	for what, edit := range map[string]func(*DepthwiseSpec){
		"channels": func(s *DepthwiseSpec) { s.Channels = 0 }, "weights": func(s *DepthwiseSpec) { s.Channels = 3 },
		"no rows": func(s *DepthwiseSpec) { s.KernelH = 0 }, "no columns": func(s *DepthwiseSpec) { s.KernelW = 0 },
		"stride": func(s *DepthwiseSpec) { s.StrideH = -1 }, "stride of columns": func(s *DepthwiseSpec) { s.StrideW = -1 },
		"dilation": func(s *DepthwiseSpec) { s.DilationH = -1 }, "dilation of columns": func(s *DepthwiseSpec) { s.DilationW = -1 },
		"top": func(s *DepthwiseSpec) { s.PadTop = -1 }, "left": func(s *DepthwiseSpec) { s.PadLeft = -1 },
		"bottom": func(s *DepthwiseSpec) { s.PadBottom = -1 }, "right": func(s *DepthwiseSpec) { s.PadRight = -1 },
	} {
		s := good
		edit(&s)
		if _, err := NewDepthwise(s, make([]float32, 4*3*5), nil); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := NewDepthwise(good, make([]float32, 4*3*5), make([]float32, 3)); err == nil {
		t.Error("too few biases accepted")
	}
}

func TestPoolRefusesWhatItCannotCompute(t *testing.T) {
	good := Pool{KernelH: 3, KernelW: 5, PadTop: 1, PadLeft: 2, PadBottom: 1, PadRight: 2}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for what, edit := range map[string]func(*Pool){
		"no rows": func(p *Pool) { *p = Pool{KernelW: 5} }, "no columns": func(p *Pool) { *p = Pool{KernelH: 3} },
		"stride": func(p *Pool) { p.StrideH = -1 }, "stride of columns": func(p *Pool) { p.StrideW = -1 },
		"dilation": func(p *Pool) { p.DilationH = -1 }, "dilation of columns": func(p *Pool) { p.DilationW = -1 },
		"above": func(p *Pool) { p.PadTop = -1 }, "left": func(p *Pool) { p.PadLeft = -1 }, "below": func(p *Pool) { p.PadBottom = -1 }, "right": func(p *Pool) { p.PadRight = -1 },
		"more than half above": func(p *Pool) { p.PadTop = 2 }, "more than half left": func(p *Pool) { p.PadLeft = 3 },
		"more than half below": func(p *Pool) { p.PadBottom = 2 }, "more than half right": func(p *Pool) { p.PadRight = 3 },
	} {
		p := good
		edit(&p)
		if p.Validate() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

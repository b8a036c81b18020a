package gemm

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

// tiers lists the tiers that this process can test.
func tiers() []cpu.Tier {
	var ts []cpu.Tier
	for t := cpu.Generic; t <= cpu.Best(); t++ {
		ts = append(ts, t)
	}
	return ts
}

var precisions = []engine.Precision{engine.Highest, engine.High, engine.Medium}

// unit is the relative error that one operand may carry at a precision.
func unit(p engine.Precision) float64 {
	switch p {
	case engine.Highest:
		return 1e-6
	case engine.High:
		return 4e-5
	default:
		return 8e-3
	}
}

// formatUnit is the relative error of storing a value.
func formatUnit(f kernel.Format) float64 {
	switch f {
	case kernel.BF16:
		return 1.0 / 250
	case kernel.Split:
		return 1.0 / (1 << 16)
	}
	return 1e-6
}

// convCase is one convolution with its maps.
type convCase struct {
	spec             ConvSpec
	n, h, w          int
	srcFormat        kernel.Format
	dstFormat        kernel.Format
	srcPad, dstPad   int
	srcLeft, dstLeft int // channels of the wider buffer before the block
	srcRest, dstRest int // and behind it
	residual         bool
	residualFormat   kernel.Format // of one that is projected
	inPlace          bool          // the residual is the destination
	noBias           bool
	workers          int
}

func (c convCase) String() string {
	s := c.spec
	return fmt.Sprintf("%v/%v %dx%dx%dx%d->%d k%dx%d s%dx%d d%dx%d g%d p%d,%d,%d,%d linear %v winograd %d %v %v->%v pad %d,%d block %d+%d,%d+%d residual %v %v nobias %v workers %d projection %v of %v",
		s.Tier, s.Precision, c.n, c.h, c.w, s.In, s.Out, s.KernelH, s.KernelW, s.StrideH, s.StrideW, s.DilationH, s.DilationW, s.Groups,
		s.PadTop, s.PadLeft, s.PadBottom, s.PadRight, s.Linear, s.Winograd, s.Activation, c.srcFormat, c.dstFormat, c.srcPad, c.dstPad,
		c.srcLeft, c.srcRest, c.dstLeft, c.dstRest, c.residual, c.inPlace, c.noBias, c.workers, s.Projection, c.residualFormat)
}

// canary fills every element that a kernel must not touch.
const canary = 0x7fa5

// block returns a channel block of a wider map whose whole buffer, what lies before the map included, is canary, and ends at memory that
// cannot be read; the border of the block is zeroed.
func block(t testing.TB, f kernel.Format, n, h, w, c, pad, left, rest int) kernel.Map {
	t.Helper()
	const before = 67
	m := kernel.Layout(f, n, h, w, left+c+rest, pad)
	size := before + m.Elements()
	m.Off += before
	fill16 := func() []uint16 {
		b := guard.Slice[uint16](t, size)
		for i := range b {
			b[i] = canary
		}
		return b
	}
	switch f {
	case kernel.F32:
		m.F32 = guard.Slice[float32](t, size)
		for i := range m.F32 {
			m.F32[i] = math.Float32frombits(canary<<16 | canary)
		}
	case kernel.BF16:
		m.Hi = fill16()
	default:
		m.Hi, m.Lo = fill16(), fill16()
	}
	m = m.Sub(left, left+c)
	m.ZeroBorder(0, n)
	return m
}

// run computes the case and compares it with sums in float64.
func (c convCase) run(t testing.TB, r *rand.Rand) {
	t.Helper()
	s := c.spec
	oh, ow := s.OutputSize(c.h, c.w)
	if oh < 1 || ow < 1 {
		return
	}
	src := block(t, c.srcFormat, c.n, c.h, c.w, s.In, c.srcPad, c.srcLeft, c.srcRest)
	dst := block(t, c.dstFormat, c.n, oh, ow, s.Out, c.dstPad, c.dstLeft, c.dstRest)
	fill(src, r)
	var residual *kernel.Map
	var added kernel.Map // the residual's values before the call
	if p := s.Projection; p.In > 0 {
		h, w := (oh-1)*p.StrideH+1+r.IntN(p.StrideH), (ow-1)*p.StrideW+1+r.IntN(p.StrideW)
		m := block(t, c.residualFormat, c.n, h, w, p.In, c.srcPad, c.srcRest, c.srcLeft)
		fill(m, r)
		residual = &m
	} else if c.residual {
		added = kernel.NewMap(c.dstFormat, c.n, oh, ow, s.Out, 0)
		fill(added, r)
		if c.inPlace {
			residual = &dst
			transfer(dst, added)
		} else {
			m := block(t, c.dstFormat, c.n, oh, ow, s.Out, 1-c.dstPad&1, c.dstRest, c.dstLeft)
			transfer(m, added)
			residual = &m
		}
	}
	weight := make([]float32, s.weights())
	scale := 1 / math.Sqrt(float64(len(weight)/s.Out))
	for i := range weight {
		weight[i] = float32(r.NormFloat64() * scale)
	}
	var bias []float32
	if !c.noBias {
		bias = make([]float32, s.Out)
		for i := range bias {
			bias[i] = float32(r.NormFloat64())
		}
	}
	conv, err := newPacked(s, weight, bias)
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	call, err := conv.Bind(src, dst, residual, c.workers)
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	before := snapshot(dst)
	spare := r.IntN(2) * 63 // so that the kernels have to align it, or not
	scratch := guard.Slice[byte](t, call.Scratch()+spare)
	for i := range scratch {
		scratch[i] = 0xff // not-a-number in every format
	}
	for task := range call.Tasks() {
		call.Run(task, src, dst, residual, scratch[:call.Scratch()])
	}
	for i, v := range scratch[call.Scratch():] {
		if v != 0xff {
			t.Fatalf("%v: byte %d behind the scratch memory was written", c, i)
		}
	}
	c.checkUntouched(t, before, snapshot(dst), dst)
	// Winograd's method shares rounding errors among the outputs of a tile: the largest of them is the measure.
	largest := make([]float64, s.Out)
	if s.Winograd != 0 {
		for n := range c.n {
			for i := range oh * ow * s.Out {
				_, size := oracle(s, src, weight, n, i/s.Out/ow, i/s.Out%ow, i%s.Out)
				largest[i%s.Out] = max(largest[i%s.Out], size)
			}
		}
	}
	bad := 0
	for n := range c.n {
		for y := range oh {
			for x := range ow {
				for o := range s.Out {
					want, size := oracle(s, src, weight, n, y, x, o)
					if bias != nil {
						want += float64(bias[o])
						size += math.Abs(float64(bias[o]))
					}
					if s.Projection.In > 0 {
						p := s.projection()
						sum, absolute := oracle(p, *residual, weight[s.weights()-p.weights():], n, y, x, o)
						want, size = want+sum, size+absolute
					} else if c.residual {
						want += float64(added.At(n, y, x, o))
						size += math.Abs(float64(added.At(n, y, x, o)))
					}
					tolerance := max(size, 2*largest[o]) * unit(s.Precision) * 1.2
					want = applyWide(s.Activation, want)
					tolerance += math.Abs(want)*(formatUnit(c.dstFormat)) + 1e-6
					got := float64(dst.At(n, y, x, o))
					if !(math.Abs(got-want) <= tolerance) {
						bad++
						if bad < 4 {
							t.Errorf("%v: [%d,%d,%d,%d] = %g, want %g within %g", c, n, y, x, o, got, want, tolerance)
						}
					}
				}
			}
		}
	}
	if bad > 0 {
		t.Fatalf("%v: %d of %d wrong", c, bad, c.n*oh*ow*s.Out)
	}
}

// applyWide is the activation of a float64.
func applyWide(a kernel.Activation, v float64) float64 { return float64(a.Apply(float32(v))) }

// oracle returns one sum and the sum of its absolute terms.
func oracle(s ConvSpec, src kernel.Map, weight []float32, n, oy, ox, o int) (sum, size float64) {
	in := s.In / s.Groups
	g := o / (s.Out / s.Groups)
	for ky := range s.KernelH {
		y := oy*s.StrideH - s.PadTop + ky*s.DilationH
		if y < 0 || y >= src.H {
			continue
		}
		for kx := range s.KernelW {
			x := ox*s.StrideW - s.PadLeft + kx*s.DilationW
			if x < 0 || x >= src.W {
				continue
			}
			for c := range in {
				v := float64(src.At(n, y, x, g*in+c)) * float64(weight[((o*in+c)*s.KernelH+ky)*s.KernelW+kx])
				sum += v
				size += math.Abs(v)
			}
		}
	}
	return sum, size
}

func fill(m kernel.Map, r *rand.Rand) {
	for n := range m.N {
		for y := range m.H {
			for x := range m.W {
				for c := range m.C {
					m.Set(n, y, x, c, float32(r.NormFloat64()))
				}
			}
		}
	}
}

func transfer(dst, src kernel.Map) {
	for n := range dst.N {
		for y := range dst.H {
			for x := range dst.W {
				for c := range dst.C {
					dst.Set(n, y, x, c, src.At(n, y, x, c))
				}
			}
		}
	}
}

// snapshot copies the bits of all planes.
func snapshot(m kernel.Map) []uint32 {
	var bits []uint32
	for _, v := range m.F32 {
		bits = append(bits, math.Float32bits(v))
	}
	for _, v := range m.Hi {
		bits = append(bits, uint32(v))
	}
	for _, v := range m.Lo {
		bits = append(bits, uint32(v))
	}
	return bits
}

// checkUntouched fails if anything outside the pixels and channels of m changed.
func (c convCase) checkUntouched(t testing.TB, before, after []uint32, m kernel.Map) {
	t.Helper()
	own := make([]bool, len(before))
	planes := 1
	size := len(before)
	if m.Format == kernel.Split {
		planes, size = 2, len(before)/2
	}
	for p := range planes {
		for n := range m.N {
			for y := range m.H {
				for x := range m.W {
					at := p*size + m.Off + n*m.Image + y*m.Row + x*m.Pixel
					for i := range m.C {
						own[at+i] = true
					}
				}
			}
		}
	}
	for i := range before {
		if !own[i] && before[i] != after[i] {
			t.Fatalf("%v: element %d outside the destination was overwritten (%#x, now %#x); the destination starts at %d", c, i, before[i], after[i], m.Off)
		}
	}
}

// randomCase draws a convolution with tails, strides, borders and groups.
func randomCase(r *rand.Rand, tier cpu.Tier, p engine.Precision) convCase {
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	c := convCase{n: pick(1, 1, 2, 3), h: 1 + r.IntN(20), w: 1 + r.IntN(20), workers: 1 + r.IntN(3)}
	s := &c.spec
	s.Tier, s.Precision = tier, p
	s.Groups = pick(1, 1, 1, 1, 2, 3, 4, 8)
	s.In = s.Groups * pick(1, 2, 3, 4, 5, 8, 16, 17, 24, 32, 33, 64, 100)
	s.Out = s.Groups * pick(1, 2, 3, 4, 7, 8, 16, 17, 24, 32, 40, 48, 64, 100)
	if s.Groups > 2 {
		s.In, s.Out = s.Groups*pick(1, 2, 4, 8, 9), s.Groups*pick(1, 2, 4, 8, 9)
	}
	s.KernelH, s.KernelW = pick(1, 1, 2, 3, 3, 5, 7), pick(1, 1, 2, 3, 3, 5, 7)
	if r.IntN(3) == 0 {
		s.KernelH, s.KernelW = 1, 1
	}
	s.StrideH, s.StrideW = pick(1, 1, 1, 2, 3), pick(1, 1, 1, 2, 3)
	s.DilationH, s.DilationW = pick(1, 1, 1, 2, 3), pick(1, 1, 1, 2, 3)
	s.PadTop, s.PadLeft = r.IntN(s.KernelH+1), r.IntN(s.KernelW+1)
	s.PadBottom, s.PadRight = r.IntN(s.KernelH+1), r.IntN(s.KernelW+1)
	s.Activation = kernel.Activation(r.IntN(9))
	s.Linear = r.IntN(4) == 0
	format := FormatOf(p, tier)
	formats := []kernel.Format{format, format, format, kernel.F32}
	if r.IntN(4) == 0 { // that are converted on the way
		formats = []kernel.Format{kernel.F32, kernel.BF16, kernel.Split, kernel.Split}
	}
	c.srcFormat, c.dstFormat = formats[r.IntN(4)], formats[r.IntN(4)]
	c.srcPad, c.dstPad = pick(0, 0, 1, 2, 3), pick(0, 0, 1, 2)
	if r.IntN(2) == 0 {
		c.srcLeft, c.srcRest = r.IntN(40), r.IntN(40)
	}
	if r.IntN(2) == 0 {
		c.dstLeft, c.dstRest = r.IntN(40), r.IntN(40)
	}
	c.residual = r.IntN(3) == 0
	c.inPlace = c.residual && r.IntN(2) == 0
	c.noBias = r.IntN(4) == 0
	// Keep the float64 sums affordable.
	for c.n*c.h*c.w*s.Out*s.In/s.Groups*s.KernelH*s.KernelW > 1e6 {
		if c.n > 1 {
			c.n--
		} else if c.h > s.KernelH {
			c.h = (c.h + s.KernelH) / 2
		} else if c.w > s.KernelW {
			c.w = (c.w + s.KernelW) / 2
		} else {
			break
		}
	}
	return c
}

func TestConvRandomShapes(t *testing.T) {
	cases := 50
	if testing.Short() {
		cases = 10
	}
	for _, tier := range tiers() {
		for _, p := range precisions {
			t.Run(fmt.Sprintf("%v/%v", tier, p), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(tier), uint64(p)))
				for range cases {
					randomCase(r, tier, p).run(t, r)
				}
			})
		}
	}
}

// TestConvProjectedResidual draws convolutions that project their residual, with tails in both sums and strides in the second.
func TestConvProjectedResidual(t *testing.T) {
	cases := 100
	if testing.Short() {
		cases = 40
	}
	for _, tier := range tiers() {
		for _, p := range precisions {
			t.Run(fmt.Sprintf("%v/%v", tier, p), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(tier), uint64(p)))
				for i := range cases {
					c := randomCase(r, tier, p)
					s := &c.spec
					s.Groups, s.KernelH, s.KernelW, s.StrideH, s.StrideW, s.Linear = 1, 1, 1, 1, 1, false
					s.PadTop, s.PadLeft, s.PadBottom, s.PadRight = 0, 0, 0, 0
					s.In, s.Projection.In = 1+r.IntN(150), 1+r.IntN(150)
					if i%2 == 0 { // read from the maps themselves, if the format is theirs
						s.In, s.Projection.In = s.In/32*32+32, s.Projection.In/32*32+32
						c.srcPad = 0
					}
					s.Projection.StrideH, s.Projection.StrideW = 1+r.IntN(3), 1+r.IntN(3)
					if i%3 == 0 {
						s.Projection.StrideH, s.Projection.StrideW = 1, 1
					}
					c.residualFormat = []kernel.Format{FormatOf(p, tier), kernel.F32}[min(r.IntN(3), 1)]
					if !Projects(*s) {
						if _, err := newPacked(*s, make([]float32, s.weights()), nil); err == nil {
							t.Fatalf("%v: packed although there is no kernel", c)
						}
						return
					}
					c.run(t, r)
				}
			})
		}
	}
}

// TestConvProjectedNetworkShapes runs the first blocks of a ResNet's stages, some with weights in chunks.
func TestConvProjectedNetworkShapes(t *testing.T) {
	for _, tier := range tiers() {
		for _, p := range precisions {
			r := rand.New(rand.NewPCG(uint64(tier), uint64(p)))
			for _, l := range []struct{ n, h, w, in, out, projected, stride, workers int }{
				{2, 8, 56, 64, 96, 64, 1, 2}, {1, 9, 28, 128, 512, 256, 2, 2}, {3, 7, 7, 512, 544, 1024, 2, 2}, {5, 7, 7, 256, 512, 512, 2, 2},
				{1, 14, 14, 64, 32, 96, 2, 7}, // whose last band has fewer positions than a tile
			} {
				f := FormatOf(p, tier)
				c := convCase{n: l.n, h: l.h, w: l.w, srcFormat: f, dstFormat: f, residualFormat: f, workers: l.workers, spec: ConvSpec{
					In: l.in, Out: l.out, KernelH: 1, KernelW: 1, StrideH: 1, StrideW: 1, Groups: 1, Precision: p, Tier: tier, Activation: kernel.ReLU,
					Projection: Projection{In: l.projected, StrideH: l.stride, StrideW: l.stride},
				}}
				if Projects(c.spec) {
					c.run(t, r)
				}
			}
		}
	}
}

// TestConvSmallGroups draws groups of the sizes that have kernels of their own.
func TestConvSmallGroups(t *testing.T) {
	cases := 60
	if testing.Short() {
		cases = 20
	}
	for _, tier := range tiers() {
		for _, size := range []int{4, 8, 16} {
			t.Run(fmt.Sprintf("%v/%d", tier, size), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(tier), uint64(size)))
				for i := range cases {
					c := randomCase(r, tier, precisions[i%len(precisions)])
					s := &c.spec
					s.Groups = 16 / size * (1 + r.IntN(4))
					s.In, s.Out = s.Groups*size, s.Groups*size
					c.run(t, r)
				}
			})
		}
	}
}

// TestConvEveryDestination writes every kind of map: format, residual and activation choose the code that finishes sums, and how many steps
// a sum has, where that is done.
func TestConvEveryDestination(t *testing.T) {
	for _, tier := range tiers() {
		for _, p := range precisions {
			r := rand.New(rand.NewPCG(uint64(tier), uint64(p)))
			for _, f := range []kernel.Format{kernel.F32, kernel.BF16, kernel.Split} {
				for _, residual := range []bool{false, true} {
					for a := kernel.None; a <= kernel.Tanh; a++ {
						for _, in := range []int{24, 64, 200} {
							c := convCase{
								spec: ConvSpec{In: in, Out: 72, KernelH: 1, KernelW: 1, StrideH: 1, StrideW: 1, Groups: 1, Activation: a, Precision: p, Tier: tier},
								n:    1, h: 3, w: 15, srcFormat: FormatOf(p, tier), dstFormat: f, residual: residual, workers: 1,
							}
							c.run(t, r)
						}
					}
				}
			}
		}
	}
}

// TestConvNetworkShapes runs layers of real networks, one output row or two of each where they are large.
func TestConvNetworkShapes(t *testing.T) {
	layers := []benchLayer{
		{19, 33, 3, 64, 7, 2, 3, 1}, {8, 56, 64, 64, 3, 1, 1, 1}, {14, 14, 128, 128, 3, 1, 1, 1}, {7, 7, 256, 96, 3, 1, 1, 1},
		{8, 56, 64, 256, 1, 1, 0, 1}, {28, 28, 96, 128, 1, 2, 0, 1}, {7, 7, 512, 64, 1, 1, 0, 1}, {23, 23, 3, 64, 11, 4, 2, 1},
		{14, 14, 128, 128, 3, 1, 1, 32}, {14, 14, 256, 256, 3, 2, 1, 32}, {7, 7, 512, 512, 3, 1, 1, 32}, {17, 17, 128, 64, 1, 1, 0, 1}, {9, 28, 96, 24, 1, 1, 0, 1},
		{1, 1, 1024, 250, 1, 1, 0, 1}, {4, 4, 512, 672, 1, 1, 0, 1},
		{2, 400, 64, 9, 3, 1, 1, 1}, // a row of more pixels than a call of a kernel may have
		{8, 8, 576, 480, 1, 1, 0, 1}, {9, 9, 128, 96, 3, 1, 1, 2},
	}
	for _, tier := range tiers() {
		for _, p := range precisions {
			t.Run(fmt.Sprintf("%v/%v", tier, p), func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				for i, l := range layers {
					f := FormatOf(p, tier)
					c := convCase{n: 1 + i%2, h: l.h, w: l.w, srcFormat: f, dstFormat: f, workers: 2, residual: i%3 == 0, spec: l.spec(tier, p)}
					c.spec.DilationH, c.spec.DilationW = 1, 1
					if l.in == 3 {
						c.srcFormat = kernel.F32
					}
					c.run(t, r)
				}
			})
		}
	}
}

// TestConvGoroutinesShareOneCall runs the tasks of one call from several goroutines for several inferences at once.
func TestConvGoroutinesShareOneCall(t *testing.T) {
	for _, p := range precisions {
		r := rand.New(rand.NewPCG(3, 4))
		s := ConvSpec{In: 48, Out: 80, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Precision: p, Tier: cpu.Best()}
		weight := make([]float32, s.Out*s.In*9)
		for i := range weight {
			weight[i] = float32(r.NormFloat64())
		}
		conv, err := newPacked(s, weight, nil)
		if err != nil {
			t.Fatal(err)
		}
		f := FormatOf(p, s.Tier)
		src := kernel.NewMap(f, 1, 12, 12, s.In, 0)
		fill(src, r)
		call, err := conv.Bind(src, kernel.Layout(f, 1, 12, 12, s.Out, 0), nil, 2)
		if err != nil {
			t.Fatal(err)
		}
		const inferences = 8
		results := make([]kernel.Map, inferences)
		var wg sync.WaitGroup
		for i := range results {
			results[i] = kernel.NewMap(f, 1, 12, 12, s.Out, 0)
			for task := range call.Tasks() {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range 20 {
						call.Run(task, src, results[i], nil, make([]byte, call.Scratch()))
					}
				}()
			}
		}
		wg.Wait()
		first := snapshot(results[0])
		for i := range results {
			for j, v := range snapshot(results[i]) {
				if v != first[j] {
					t.Fatalf("%v: inference %d differs from the first at element %d", p, i, j)
				}
			}
		}
	}
}

func TestConvRunAllocatesNothing(t *testing.T) {
	for _, p := range precisions {
		s := ConvSpec{In: 32, Out: 64, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Precision: p, Tier: cpu.Best()}
		conv, err := newPacked(s, make([]float32, 32*64*9), nil)
		if err != nil {
			t.Fatal(err)
		}
		f := FormatOf(p, s.Tier)
		src, dst := kernel.NewMap(f, 1, 8, 8, 32, 0), kernel.NewMap(f, 1, 8, 8, 64, 0)
		call, err := conv.Bind(src, dst, &dst, 1)
		if err != nil {
			t.Fatal(err)
		}
		scratch := make([]byte, call.Scratch())
		if n := testing.AllocsPerRun(10, func() { call.Run(0, src, dst, &dst, scratch) }); n != 0 {
			t.Errorf("%v: %v allocations", p, n)
		}
	}
}

func TestConvWrongShapesRefused(t *testing.T) {
	good := ConvSpec{In: 8, Out: 8, KernelH: 3, KernelW: 3}
	weight := make([]float32, 8*8*9)
	for name, edit := range map[string]func(*ConvSpec){
		"groups":   func(s *ConvSpec) { s.Groups = 3 },
		"channels": func(s *ConvSpec) { s.In = 0 },
		"stride":   func(s *ConvSpec) { s.StrideW = -1 },
		"padding":  func(s *ConvSpec) { s.PadLeft = -1 },
		"weights":  func(s *ConvSpec) { s.Out = 16 },
		"tier":     func(s *ConvSpec) { s.Tier = 99 },
		"winograd": func(s *ConvSpec) { s.Winograd = 3 },
	} {
		s := good
		edit(&s)
		if _, err := newPacked(s, weight, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	conv, err := newPacked(good, weight, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := func(h, w, c int) kernel.Map { return kernel.Layout(kernel.F32, 1, h, w, c, 0) }
	none := kernel.Layout(kernel.F32, 0, 8, 8, 8, 0)
	for name, maps := range map[string][2]kernel.Map{
		"no image":     {none, kernel.Layout(kernel.F32, 0, 6, 6, 8, 0)},
		"too small":    {l(2, 2, 8), l(1, 1, 8)},
		"source":       {l(8, 8, 7), l(6, 6, 8)},
		"destination":  {l(8, 8, 8), l(8, 8, 8)},
		"out channels": {l(8, 8, 8), l(6, 6, 9)},
	} {
		if _, err := conv.Bind(maps[0], maps[1], nil, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRunRefusesWhatWasNotBound wants a panic where kernels would read or write behind the maps, the sums or the scratch memory.
func TestRunRefusesWhatWasNotBound(t *testing.T) {
	s := ConvSpec{In: 16, Out: 16, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Precision: engine.Highest}
	m := func(n, h, w, c int) kernel.Map { return kernel.NewMap(kernel.F32, n, h, w, c, 0) }
	good := m(1, 6, 6, 16)
	short := good
	short.F32 = short.F32[:len(short.F32)-1]
	bad := map[string]kernel.Map{
		"images": m(2, 6, 6, 16), "rows": m(1, 5, 6, 16), "columns": m(1, 6, 5, 16), "channels": m(1, 6, 6, 15), "border": kernel.NewMap(kernel.F32, 1, 6, 6, 16, 1),
		"format": kernel.NewMap(kernel.BF16, 1, 6, 6, 16, 0), "buffer": short,
	}
	for _, tier := range tiers() {
		s.Tier = tier
		conv, err1 := newPacked(s, make([]float32, 16*16*9), nil)
		back, err2 := newPackedGradient(s, make([]float32, 16*16*9))
		weights, err3 := NewWeightGradient(s, good, good, 1)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		plain, err1 := conv.Bind(good, good, nil, 1)
		added, err2 := conv.Bind(good, good, &good, 1)
		data, err3 := back.Bind(good, good, 1)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		sums := make([]float32, weights.Sums())
		scratch := make([]byte, max(plain.Scratch(), added.Scratch(), data.Scratch(), weights.Scratch()))
		refused := func(what string, run func()) {
			t.Helper()
			guard.Panics(t, fmt.Sprintf("%v: %s", tier, what), run)
		}
		for what, m := range bad {
			refused("source of other "+what, func() { plain.Run(0, m, good, nil, scratch) })
			refused("destination of other "+what, func() { plain.Run(0, good, m, nil, scratch) })
			refused("residual of other "+what, func() { added.Run(0, good, good, &m, scratch) })
			refused("gradient of other "+what, func() { data.Run(0, m, good, scratch) })
			refused("gradient of the source of other "+what, func() { data.Run(0, good, m, scratch) })
			refused("gradient for weights of other "+what, func() { weights.Run(0, sums, m, good, scratch) })
			refused("source for weights of other "+what, func() { weights.Run(0, sums, good, m, scratch) })
		}
		refused("no residual", func() { added.Run(0, good, good, nil, scratch) })
		refused("a residual", func() { plain.Run(0, good, good, &good, scratch) })
		refused("short scratch", func() { plain.Run(0, good, good, nil, scratch[:plain.Scratch()-1]) })
		refused("short scratch of a gradient", func() { data.Run(0, good, good, scratch[:data.Scratch()-1]) })
		refused("short scratch of weights", func() { weights.Run(0, sums, good, good, scratch[:weights.Scratch()-1]) })
		refused("short sums", func() { weights.Run(0, sums[1:], good, good, scratch) })
		refused("short sums to add", func() { weights.Add(make([]float32, 16*16*9), sums[1:], 0, 16, false) })
		refused("short weights", func() { weights.Add(make([]float32, 16*16*9-1), sums, 0, 16, false) })
	}
}

// TestPaddedBandsMakeUpTheImage computes an image in two bands of rows with the weights of one convolution, before and after these are replaced.
func TestPaddedBandsMakeUpTheImage(t *testing.T) {
	const h, w, cut = 14, 9, 8 // rows; cut is where a tile of Winograd's method begins
	r := rand.New(rand.NewPCG(7, 1))
	for _, tier := range tiers() {
		for _, p := range precisions {
			for _, m := range winogradSizes {
				s := ConvSpec{In: 32, Out: 40, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Winograd: m, Precision: p, Tier: tier}
				weight := make([]float32, s.Out*s.In*9)
				conv, err := newPacked(s, weight, nil)
				if err != nil {
					t.Fatal(err)
				}
				src, whole := kernel.NewMap(kernel.F32, 1, h, w, s.In, 0), kernel.NewMap(kernel.F32, 1, h, w, s.Out, 0)
				dst := kernel.NewMap(kernel.F32, 1, h, w, s.Out, 0)
				fill(src, r)
				rows := func(m kernel.Map, from, to int) kernel.Map {
					m.Off, m.H = m.Off+from*m.Row, to-from
					m.Image = m.H * m.Row
					return m
				}
				x, y := []kernel.Map{rows(src, 0, cut+1), rows(src, cut-1, h)}, []kernel.Map{rows(dst, 0, cut), rows(dst, cut, h)}
				var bands [2]*Call
				for i, c := range []*Conv{conv.Padded(1, 0), conv.Padded(0, 1)} {
					if bands[i], err = c.Bind(x[i], y[i], nil, 2); err != nil {
						t.Fatal(err)
					}
				}
				call, err := conv.Bind(src, whole, nil, 2)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					for i := range weight {
						weight[i] = float32(r.NormFloat64())
					}
					if err := conv.Pack(serial, make([]byte, conv.PackedBytes()), weight, nil); err != nil {
						t.Fatal(err)
					}
					runAll(call, src, whole, nil)
					for i, b := range bands {
						runAll(b, x[i], y[i], nil)
					}
					if !slices.Equal(dst.F32, whole.F32) {
						t.Errorf("%v/%v winograd %d: bands differ from the image", tier, p, m)
					}
				}
			}
		}
	}
}

// runAll runs all tasks of a call, one after the other.
func runAll(call *Call, src, dst kernel.Map, residual *kernel.Map) {
	scratch := make([]byte, call.Scratch())
	for task := range call.Tasks() {
		call.Run(task, src, dst, residual, scratch)
	}
}

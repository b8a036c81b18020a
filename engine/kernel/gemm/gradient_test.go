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

// gradientCase draws a convolution whose gradients are computed, on float32 maps.
func gradientCase(r *rand.Rand, tier cpu.Tier, p engine.Precision) convCase {
	for {
		c := randomCase(r, tier, p)
		s := &c.spec
		s.Activation, s.Linear = kernel.None, false
		if s.StrideH > 1 || s.StrideW > 1 {
			s.DilationH, s.DilationW = 1, 1
		}
		if h, w := s.OutputSize(c.h, c.w); h > 0 && w > 0 {
			return c
		}
	}
}

func TestInputGradientRandomShapes(t *testing.T) {
	for _, tier := range tiers() {
		for _, p := range precisions {
			t.Run(fmt.Sprintf("%v/%v", tier, p), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(tier), uint64(p)))
				for range 25 {
					c := gradientCase(r, tier, p)
					checkInputGradient(t, c, r)
				}
			})
		}
	}
}

func checkInputGradient(t *testing.T, c convCase, r *rand.Rand) {
	t.Helper()
	s, err := c.spec.normal()
	if err != nil {
		t.Fatal(err)
	}
	oh, ow := s.OutputSize(c.h, c.w)
	dy := block(t, kernel.F32, c.n, oh, ow, s.Out, c.dstPad, c.dstLeft, c.dstRest)
	dx := block(t, kernel.F32, c.n, c.h, c.w, s.In, c.srcPad, c.srcLeft, c.srcRest)
	fill(dy, r)
	fill(dx, r) // to be overwritten
	in := s.In / s.Groups
	weight := make([]float32, s.Out*in*s.KernelH*s.KernelW)
	for i := range weight {
		weight[i] = float32(r.NormFloat64())
	}
	g, err := newPackedGradient(c.spec, weight)
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	call, err := g.Bind(dy, dx, c.workers)
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	before := snapshot(dx)
	scratch := make([]byte, call.Scratch())
	for i := range scratch {
		scratch[i] = 0xff
	}
	for task := range call.Tasks() {
		call.Run(task, dy, dx, scratch)
	}
	c.checkUntouched(t, before, snapshot(dx), dx)
	want := make([]float64, c.n*c.h*c.w*s.In)
	size := make([]float64, len(want))
	out := s.Out / s.Groups
	for n := range c.n {
		for y := range oh {
			for x := range ow {
				for o := range s.Out {
					v := float64(dy.At(n, y, x, o))
					for ky := range s.KernelH {
						for kx := range s.KernelW {
							iy, ix := y*s.StrideH-s.PadTop+ky*s.DilationH, x*s.StrideW-s.PadLeft+kx*s.DilationW
							if iy < 0 || iy >= c.h || ix < 0 || ix >= c.w {
								continue
							}
							for i := range in {
								at := ((n*c.h+iy)*c.w+ix)*s.In + o/out*in + i
								w := v * float64(weight[((o*in+i)*s.KernelH+ky)*s.KernelW+kx])
								want[at] += w
								size[at] += math.Abs(w)
							}
						}
					}
				}
			}
		}
	}
	at := 0
	for n := range c.n {
		for y := range c.h {
			for x := range c.w {
				for i := range s.In {
					got := float64(dx.At(n, y, x, i))
					if !(math.Abs(got-want[at]) <= size[at]*unit(s.Precision)*1.2+1e-5) {
						t.Fatalf("%v: [%d,%d,%d,%d] = %g, want %g", c, n, y, x, i, got, want[at])
					}
					at++
				}
			}
		}
	}
}

func TestInputGradientRefusesWhatItCannotCompute(t *testing.T) {
	good := ConvSpec{In: 4, Out: 8, KernelH: 3, KernelW: 3}
	m := func(n, h, w, c int) kernel.Map { return kernel.Layout(kernel.F32, n, h, w, c, 0) }
	x, dy := m(1, 9, 9, 4), m(1, 7, 7, 8)
	for name, c := range map[string]struct {
		edit    func(*ConvSpec)
		dy, x   kernel.Map
		workers int
	}{
		"groups":              {func(s *ConvSpec) { s.Groups = 3 }, dy, x, 1},
		"stride and dilation": {func(s *ConvSpec) { s.StrideH, s.DilationH = 2, 2 }, m(1, 3, 7, 8), x, 1},
		"along the rows":      {func(s *ConvSpec) { s.StrideW, s.DilationW = 2, 2 }, m(1, 7, 3, 8), x, 1},
		"channels":            {nil, dy, m(1, 9, 9, 5), 1},
		"output channels":     {nil, m(1, 7, 7, 7), x, 1},
		"images":              {nil, m(2, 7, 7, 8), x, 1},
		"no image":            {nil, m(0, 7, 7, 8), m(0, 9, 9, 4), 1},
		"rows":                {nil, m(1, 8, 7, 8), x, 1},
		"columns":             {nil, m(1, 7, 8, 8), x, 1},
		"too small":           {nil, m(1, 0, 0, 8), m(1, 2, 2, 4), 1},
		"workers":             {nil, dy, x, 0},
	} {
		s := good
		if c.edit != nil {
			c.edit(&s)
		}
		g, err := NewInputGradient(s)
		if err == nil {
			_, err = g.Bind(c.dy, c.x, c.workers)
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

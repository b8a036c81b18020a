package gemm

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// InputGradient computes the gradient of a convolution's input from that of its output: the transposed convolution. It is safe for
// concurrent use while nobody calls Pack, the one method that changes it.
//
// With stride 1 it is a convolution with the taps reversed and the channels exchanged. With stride s the input pixels fall
// into s×s phases by their position modulo the stride, and each phase is such a convolution with every s-th tap.
type InputGradient struct {
	spec   ConvSpec
	phases []gradientPhase
}

// gradientPhase computes the pixels (y, x) with y%StrideH and x%StrideW given.
type gradientPhase struct {
	y, x   int
	last   int      // the last tap, which the gradient's kernel begins with
	spec   ConvSpec // of the phase's convolution
	kernel packed   // nil where no tap reaches the phase: the gradient is zero
}

// NewInputGradient returns the gradient of the input of the convolution that spec describes (its activation is ignored: spec describes the
// linear part). Pack brings the weights, as for NewConv. Convolutions both strided and dilated are refused.
func NewInputGradient(spec ConvSpec) (*InputGradient, error) {
	s, err := spec.normal()
	if err != nil {
		return nil, err
	}
	if s.StrideH > 1 && s.DilationH > 1 || s.StrideW > 1 && s.DilationW > 1 {
		return nil, fmt.Errorf("gemm: the input gradient of a convolution with both stride %dx%d and dilation %dx%d is not supported", s.StrideH, s.StrideW, s.DilationH, s.DilationW)
	}
	g := &InputGradient{spec: s}
	for y := range s.StrideH {
		for x := range s.StrideW {
			firstH, countH, padH := phaseTaps(y, s.KernelH, s.StrideH, s.DilationH, s.PadTop)
			firstW, countW, padW := phaseTaps(x, s.KernelW, s.StrideW, s.DilationW, s.PadLeft)
			phase := gradientPhase{y: y, x: x}
			if countH > 0 && countW > 0 {
				phase.spec = ConvSpec{
					In: s.Out, Out: s.In, KernelH: countH, KernelW: countW, StrideH: 1, StrideW: 1, DilationH: s.DilationH, DilationW: s.DilationW,
					Groups: s.Groups, PadTop: padH, PadLeft: padW, Precision: s.Precision, Tier: s.Tier,
				}
				phase.last = (firstH+(countH-1)*s.StrideH)*s.KernelW + firstW + (countW-1)*s.StrideW
				phase.kernel = choose(phase.spec)
			}
			g.phases = append(g.phases, phase)
		}
	}
	return g, nil
}

// weights returns where the phase's weights lie among those of the convolution: every stride-th tap in reverse order, with the channels
// exchanged.
func (p *gradientPhase) weights(s *ConvSpec, weight []float32) weights {
	in, taps := s.In/s.Groups, s.KernelH*s.KernelW
	return weights{
		data: weight, at: p.last, group: s.Out / s.Groups * in * taps,
		out: taps, in: in * taps, tapH: -s.StrideH * s.KernelW, tapW: -s.StrideW,
	}
}

// phaseTaps returns which taps reach the input pixels at phase modulo the stride: the first, how many (stride apart), and
// the padding of the convolution over the output's gradient; it may be negative.
func phaseTaps(phase, kernel, stride, dilation, pad int) (first, count, before int) {
	if stride == 1 {
		return 0, kernel, (kernel-1)*dilation - pad
	}
	first = (phase + pad) % stride
	count = (kernel - first + stride - 1) / stride // none where the first would lie behind the kernel
	return first, count, count - 1 - (phase+pad-first)/stride
}

// InputGradientCall is an InputGradient bound to the geometry of its maps; it is read-only.
type InputGradientCall struct {
	*InputGradient
	from, to kernel.Map // geometry
	calls    []runner   // by phase, nil for zeros
	last     []int      // task behind the last of each phase
	size     int
}

// Bind prepares the computation of the gradient with respect to a convolution's source from the gradient with respect to
// its destination, for the given number of workers. Formats are as Conv.Bind takes them.
func (g *InputGradient) Bind(dst, src kernel.Map, workers int) (*InputGradientCall, error) {
	s := &g.spec
	h, w := s.OutputSize(src.H, src.W)
	switch {
	case src.C != s.In || dst.C != s.Out:
		return nil, fmt.Errorf("gemm: gradients %v and %v given to a convolution of %d to %d channels", src, dst, s.In, s.Out)
	case dst.N != src.N || dst.H != h || dst.W != w || h < 1 || w < 1:
		return nil, fmt.Errorf("gemm: gradient %v does not belong to a source of %v", dst, src)
	case src.N < 1:
		return nil, fmt.Errorf("gemm: gradient %v of no image", src)
	case workers < 1:
		return nil, fmt.Errorf("gemm: %d workers", workers)
	}
	c := &InputGradientCall{InputGradient: g, from: bare(dst), to: bare(src)}
	tasks := 0
	for _, p := range g.phases {
		var call runner
		if view := p.view(s, c.to); view.H > 0 && view.W > 0 {
			if p.kernel != nil {
				call = p.kernel.bind(&p.spec, c.from, view, nil, workers)
				tasks += call.tasks()
				c.size = max(c.size, call.scratch())
			} else {
				tasks++
			}
		}
		c.calls = append(c.calls, call)
		c.last = append(c.last, tasks)
	}
	return c, nil
}

// view returns the pixels of the phase as a map.
func (p *gradientPhase) view(s *ConvSpec, m kernel.Map) kernel.Map {
	m.Off += p.y*m.Row + p.x*m.Pixel
	m.H, m.W = (m.H-p.y+s.StrideH-1)/s.StrideH, (m.W-p.x+s.StrideW-1)/s.StrideW
	m.Row, m.Pixel, m.Pad = m.Row*s.StrideH, m.Pixel*s.StrideW, 0
	return m
}

// Tasks returns how many tasks make up the gradient. They write disjoint parts of the source's gradient.
func (c *InputGradientCall) Tasks() int { return c.last[len(c.last)-1] }

// Scratch returns how many bytes of scratch memory a worker must bring.
func (c *InputGradientCall) Scratch() int { return c.size }

// Run computes one task: src, the gradient of the convolution's source, is overwritten.
func (c *InputGradientCall) Run(task int, dst, src kernel.Map, scratch []byte) {
	mustMatch("gradient of the destination", &dst, &c.from)
	mustMatch("gradient of the source", &src, &c.to)
	if len(scratch) < c.size {
		panic(fmt.Sprintf("gemm: %d bytes of scratch given, %d are needed", len(scratch), c.size))
	}
	first := 0
	for i, last := range c.last {
		if task < last {
			view := c.phases[i].view(&c.spec, src)
			if c.calls[i] == nil {
				zero(&view)
				return
			}
			c.calls[i].run(task-first, dst, view, nil, scratch)
			return
		}
		first = last
	}
	panic(fmt.Sprintf("gemm: task %d of %d", task, c.Tasks()))
}

// zero clears the pixels of a map.
func zero(m *kernel.Map) {
	for n := range m.N {
		for y := range m.H {
			at := m.Off + n*m.Image + y*m.Row
			for range m.W {
				switch m.Format {
				case kernel.F32:
					clear(m.F32[at : at+m.C])
				case kernel.Split:
					clear(m.Lo[at : at+m.C])
					fallthrough
				default:
					clear(m.Hi[at : at+m.C])
				}
				at += m.Pixel
			}
		}
	}
}

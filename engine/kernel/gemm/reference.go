package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
)

// reference is the convolution in plain Go: what the assembly is tested against, and the tier cpu.Generic. Every output
// pixel accumulates one row of weights after the other into a vector of float32, so the inner loop runs over contiguous
// output channels.
type reference struct {
	spec ConvSpec
	// weight is [group][kernel row][kernel column][input channel][output channel], the last two within the group.
	weight []float32
	bias   []float32 // [Out], zeros if there was none
	round  bool      // round the operands to bfloat16, as Medium does
}

func newReference(s ConvSpec) *reference {
	return &reference{spec: s, bias: make([]float32, s.Out), round: s.Precision == engine.Medium}
}

func (r *reference) bytes() int { return 4 * r.spec.weights() }

func (r *reference) pack(_ parallel, memory []byte, w *weights, bias []float32) {
	s := &r.spec
	r.weight = floats(memory)
	clear(r.bias)
	copy(r.bias, bias)
	in, out := s.In/s.Groups, s.Out/s.Groups
	taps := s.KernelH * s.KernelW
	for o := range s.Out {
		g := o / out
		for c := range in {
			for t := range taps {
				v := w.data[w.at+g*w.group+o%out*w.out+c*w.in+t/s.KernelW*w.tapH+t%s.KernelW*w.tapW]
				if r.round {
					v = kernel.FromBF16(kernel.ToBF16(v))
				}
				r.weight[((g*taps+t)*in+c)*out+o%out] = v
			}
		}
	}
}

func (r *reference) bind(spec *ConvSpec, src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	return &referenceCall{reference: r, src: src, dst: dst, top: spec.PadTop, left: spec.PadLeft}
}

type referenceCall struct {
	*reference
	src, dst  kernel.Map
	top, left int // zeros around the image
}

// A task is one output row of one image.
func (c *referenceCall) tasks() int { return c.dst.N * c.dst.H }

// scratch holds the sums of one pixel and the values of one input pixel.
func (c *referenceCall) scratch() int { return 4*(c.spec.Out+c.spec.In) + 64 }

func (c *referenceCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	s := &c.spec
	f := floats(scratch)
	sum, x := f[:s.Out], f[s.Out:s.Out+s.In]
	in, out := s.In/s.Groups, s.Out/s.Groups
	n, oy := task/dst.H, task%dst.H
	for ox := range dst.W {
		copy(sum, c.bias)
		for ky := range s.KernelH {
			y := oy*s.StrideH - c.top + ky*s.DilationH
			if y < 0 || y >= src.H {
				continue
			}
			for kx := range s.KernelW {
				xx := ox*s.StrideW - c.left + kx*s.DilationW
				if xx < 0 || xx >= src.W {
					continue
				}
				c.load(x, &src, src.Off+n*src.Image+y*src.Row+xx*src.Pixel)
				for g := range s.Groups {
					w := c.weight[((g*s.KernelH+ky)*s.KernelW+kx)*in*out:]
					acc := sum[g*out:][:out]
					for i, v := range x[g*in:][:in] {
						axpy(acc, v, w[i*out:][:out])
					}
				}
			}
		}
		if residual != nil {
			at := residual.Off + n*residual.Image + oy*residual.Row + ox*residual.Pixel
			for o := range sum {
				sum[o] += load(residual, at+o)
			}
		}
		if s.Activation != kernel.None {
			for o, v := range sum {
				sum[o] = s.Activation.Apply(v)
			}
		}
		store(&dst, dst.Off+n*dst.Image+oy*dst.Row+ox*dst.Pixel, sum)
	}
}

// load reads the input channels of one pixel, rounded as the precision wants it.
func (c *referenceCall) load(x []float32, src *kernel.Map, at int) {
	switch src.Format {
	case kernel.F32:
		copy(x, src.F32[at:at+len(x)])
		if c.round {
			for i, v := range x {
				x[i] = kernel.FromBF16(kernel.ToBF16(v))
			}
		}
	case kernel.BF16:
		kernel.FromBF16s(x, src.Hi[at:at+len(x)])
	default:
		if c.round {
			kernel.FromBF16s(x, src.Hi[at:at+len(x)])
			return
		}
		kernel.FromSplits(x, src.Hi[at:at+len(x)], src.Lo[at:at+len(x)])
	}
}

// axpy adds v times w to acc.
func axpy(acc []float32, v float32, w []float32) {
	w = w[:len(acc)]
	for i := range acc {
		acc[i] += v * w[i]
	}
}

// load returns one value of a map.
func load(m *kernel.Map, at int) float32 {
	switch m.Format {
	case kernel.F32:
		return m.F32[at]
	case kernel.BF16:
		return kernel.FromBF16(m.Hi[at])
	default:
		return kernel.FromSplit(m.Hi[at], m.Lo[at])
	}
}

// store writes contiguous values of a map.
func store(m *kernel.Map, at int, v []float32) {
	switch m.Format {
	case kernel.F32:
		copy(m.F32[at:at+len(v)], v)
	case kernel.BF16:
		kernel.ToBF16s(m.Hi[at:at+len(v)], v)
	default:
		kernel.ToSplits(m.Hi[at:at+len(v)], m.Lo[at:at+len(v)], v)
	}
}

// floats views scratch memory as float32, from its first aligned byte on.
func floats(scratch []byte) []float32 {
	scratch = align(scratch, 4)
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(scratch))), len(scratch)/4)
}

// align drops bytes from the front of scratch until it starts at a multiple of n, a power of two.
func align(scratch []byte, n int) []byte {
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(scratch)))) & (n - 1)
	return scratch[skip:]
}

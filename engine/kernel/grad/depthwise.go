package grad

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Depthwise is the backward pass of a depthwise convolution between maps of fixed sizes. The Activation of the
// specification plays no part: see Activation for its gradient. It is immutable; weights are given to each call, since
// training changes them.
type Depthwise struct {
	spec    kernel.DepthwiseSpec
	in, out Shape
	pool    kernel.Pool // the window, for the walk over taps
}

// NewDepthwise checks the shapes.
func NewDepthwise(spec kernel.DepthwiseSpec, in, out Shape) (*Depthwise, error) {
	for _, v := range []*int{&spec.StrideH, &spec.StrideW, &spec.DilationH, &spec.DilationW} {
		if *v == 0 {
			*v = 1
		}
	}
	if spec.Channels != in.C || spec.Channels != out.C || in.N != out.N || spec.KernelH < 1 || spec.KernelW < 1 {
		return nil, fmt.Errorf("gradient of a depthwise convolution of %d channels, %dx%d, from %v to %v: the shapes do not match", spec.Channels, spec.KernelH, spec.KernelW, out, in)
	}
	return &Depthwise{spec: spec, in: in, out: out, pool: kernel.Pool{
		KernelH: spec.KernelH, KernelW: spec.KernelW, StrideH: spec.StrideH, StrideW: spec.StrideW,
		DilationH: spec.DilationH, DilationW: spec.DilationW, PadTop: spec.PadTop, PadLeft: spec.PadLeft,
	}}, nil
}

// Weights returns the length of the weights in the order that Data reads and WeightGrad adds to: [KernelH*KernelW][C].
func (d *Depthwise) Weights() int { return d.spec.KernelH * d.spec.KernelW * d.spec.Channels }

// Pack stores weights [C][1][KernelH][KernelW] into packed, of the length of Weights.
func (d *Depthwise) Pack(packed, weights []float32) {
	c, taps := d.spec.Channels, d.spec.KernelH*d.spec.KernelW
	for t := range taps {
		for i := range c {
			packed[t*c+i] = weights[i*taps+t]
		}
	}
}

// Unpack stores packed values as [C][1][KernelH][KernelW].
func (d *Depthwise) Unpack(weights, packed []float32) {
	c, taps := d.spec.Channels, d.spec.KernelH*d.spec.KernelW
	for t := range taps {
		for i := range c {
			weights[i*taps+t] = packed[t*c+i]
		}
	}
}

// Data stores the gradient with respect to the input into rows [from, to) of dx. packed: see Pack.
func (d *Depthwise) Data(tier cpu.Tier, dx, dy, packed []float32, from, to int) {
	c := d.in.C
	if k := correlateKernels[levelOf(tier)]; k != nil && d.spec.DilationH == 1 && d.spec.DilationW == 1 {
		for r := from; r < to; r++ {
			d.dataRow(k, dx, dy, packed, r)
		}
		return
	}
	clear(dx[from*d.in.W*c : to*d.in.W*c])
	backward(d.in, d.out, d.pool, from, to, func(r, o, ky, kx, ix, lo, hi int) {
		w := packed[(ky*d.spec.KernelW+kx)*c:][:c]
		fmaPixels(tier, dx[(r*d.in.W+ix)*c:], d.spec.StrideW*c, dy[(o*d.out.W+lo)*c:], w, hi-lo)
	})
}

// dataRow computes row r of dx with every sum in a register. The pixels of one remainder modulo the stride have taps
// stride apart in common, which meet outputs one apart, backwards.
func (d *Depthwise) dataRow(k correlateFunc, dx, dy, packed []float32, r int) {
	s, c := &d.spec, d.in.C
	n := r / d.in.H
	ky, oy, rows := reach(r%d.in.H+s.PadTop, s.KernelH, s.StrideH, d.out.H)
	for first := range min(s.StrideW, d.in.W) {
		for ix := first; ix < d.in.W; {
			kx, ox, columns := reach(ix+s.PadLeft, s.KernelW, s.StrideW, d.out.W)
			run := 1
			for next := ix + s.StrideW; next < d.in.W; next += s.StrideW {
				if kx1, ox1, columns1 := reach(next+s.PadLeft, s.KernelW, s.StrideW, d.out.W); kx1 != kx || ox1 != ox+run || columns1 != columns {
					break
				}
				run++
			}
			out := dx[(r*d.in.W+ix)*c:]
			if rows > 0 && columns > 0 {
				k(floats(out), floats(dy[((n*d.out.H+oy)*d.out.W+ox)*c:]), floats(packed[(ky*s.KernelW+kx)*c:]),
					s.StrideW*c, c, -d.out.W*c, -c, s.StrideH*s.KernelW*c, s.StrideW*c, rows, columns, run, c)
			} else {
				for i := range run {
					clear(out[i*s.StrideW*c:][:c])
				}
			}
			ix += run * s.StrideW
		}
	}
}

// reach returns the first tap through which the padded input at position meets an output, that output, and through how
// many taps, stride apart, it meets outputs, each one before the last.
func reach(position, kernel, stride, outputs int) (tap, output, count int) {
	tap, output = position%stride, position/stride
	if late := output - (outputs - 1); late > 0 {
		tap += late * stride
		output -= late
	}
	if tap >= kernel {
		return tap, output, 0
	}
	return tap, output, min((kernel-1-tap)/stride, output) + 1
}

// WeightGrad adds what the output rows [from, to) contribute to the gradient of the weights to packed, of the length of
// Weights: a partial result.
func (d *Depthwise) WeightGrad(tier cpu.Tier, packed, dy, x []float32, from, to int) {
	c, s := d.in.C, &d.spec
	for r := from; r < to; r++ {
		n, oy := r/d.out.H, r%d.out.H
		for ky := range s.KernelH {
			iy := oy*s.StrideH + ky*s.DilationH - s.PadTop
			if iy < 0 || iy >= d.in.H {
				continue
			}
			for kx := range s.KernelW {
				lo, hi := taps(kx, s.StrideW, s.DilationW, s.PadLeft, d.in.W, d.out.W)
				if lo == hi {
					continue
				}
				ix := lo*s.StrideW + kx*s.DilationW - s.PadLeft
				acc := packed[(ky*s.KernelW+kx)*c:][:c]
				dotPixels(tier, acc, dy[(r*d.out.W+lo)*c:], c, x[((n*d.in.H+iy)*d.in.W+ix)*c:], s.StrideW*c, hi-lo)
			}
		}
	}
}

package grad

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// taps returns the outputs [lo, hi) of out whose tap at offset (tap*dilation - before) lies inside [0, in).
func taps(tap, stride, dilation, before, in, out int) (lo, hi int) {
	offset := tap*dilation - before
	if offset < 0 {
		lo = (-offset + stride - 1) / stride
	}
	hi = out
	if last := in - 1 - offset; last < 0 {
		hi = 0
	} else {
		hi = min(out, last/stride+1)
	}
	return lo, max(hi, lo)
}

// MaxPool stores the maxima of the windows of x into rows [from, to) of y, and which tap of the window they are,
// ky*KernelW+kx, into arg, of the length of y. Of equal values the first wins, as in PyTorch. A window has at most 255
// taps.
func MaxPool(tier cpu.Tier, y []float32, arg []uint8, x []float32, in, out Shape, p kernel.Pool, from, to int) {
	p = p.WithDefaults()
	if p.KernelH*p.KernelW > 255 || in.C != out.C || in.N != out.N {
		panic(fmt.Sprintf("kernel/grad: max pooling %dx%d of %v into %v", p.KernelH, p.KernelW, in, out))
	}
	c := in.C
	for r := from; r < to; r++ {
		n, oy := r/out.H, r%out.H
		row, index := y[r*out.W*c:(r+1)*out.W*c], arg[r*out.W*c:(r+1)*out.W*c]
		ky, kyEnd := inside(oy*p.StrideH-p.PadTop, p.KernelH, p.DilationH, in.H)
		iy := oy*p.StrideH + ky*p.DilationH - p.PadTop
		for ox := 0; ox < out.W; {
			kx, kxEnd := inside(ox*p.StrideW-p.PadLeft, p.KernelW, p.DilationW, in.W)
			run := 1
			for kx == 0 && kxEnd == p.KernelW && ox+run < out.W {
				if a, b := inside((ox+run)*p.StrideW-p.PadLeft, p.KernelW, p.DilationW, in.W); a != 0 || b != p.KernelW {
					break
				}
				run++
			}
			w := maxWindow{first: ky*p.KernelW + kx, perRow: p.KernelW, rows: kyEnd - ky, columns: kxEnd - kx,
				rowStep: p.DilationH * in.W * c, columnStep: p.DilationW * c, outStep: p.StrideW * c}
			if w.rows > 0 && w.columns > 0 {
				ix := ox*p.StrideW + kx*p.DilationW - p.PadLeft
				w.pixels(tier, row[ox*c:], index[ox*c:], x[((n*in.H+iy)*in.W+ix)*c:], run, c)
			} else { // nothing but padding; the gradient goes nowhere
				for i := ox * c; i < (ox+1)*c; i++ {
					row[i], index[i] = float32(math.Inf(-1)), 255
				}
			}
			ox += run
		}
	}
}

// inside returns the taps [lo, hi) of a window of kernel taps, of which the first is at start, that lie in [0, size).
func inside(start, kernel, dilation, size int) (lo, hi int) {
	if start < 0 {
		lo = (-start + dilation - 1) / dilation
	}
	if last := size - 1 - start; last >= 0 {
		hi = min(kernel, last/dilation+1)
	}
	return lo, max(hi, lo)
}

// MaxPoolData stores the gradient with respect to the input of a max pooling into rows [from, to) of dx, rows of in:
// each dy goes to the tap that arg names.
func MaxPoolData(tier cpu.Tier, dx, dy []float32, arg []uint8, in, out Shape, p kernel.Pool, from, to int) {
	p = p.WithDefaults()
	c := in.C
	clear(dx[from*in.W*c : to*in.W*c])
	backward(in, out, p, from, to, func(r, o, ky, kx, ix, lo, hi int) {
		at := (o*out.W + lo) * c
		wherePixels(tier, dx[(r*in.W+ix)*c:], dy[at:], arg[at:], uint8(ky*p.KernelW+kx), p.StrideW*c, hi-lo, c)
	})
}

// AvgPoolData stores the gradient with respect to the input of an average pooling into rows [from, to) of dx, rows of in.
func AvgPoolData(tier cpu.Tier, dx, dy []float32, in, out Shape, p kernel.Pool, from, to int) {
	p = p.WithDefaults()
	p.DilationH, p.DilationW = 1, 1
	c := in.C
	clear(dx[from*in.W*c : to*in.W*c])
	size := func(o, kernelSize, stride, before, after, size int) int {
		start := o*stride - before
		end := min(start+kernelSize, size+after)
		if !p.CountIncludePad {
			start, end = max(start, 0), min(end, size)
		}
		return end - start
	}
	backward(in, out, p, from, to, func(r, o, _, _, ix, lo, hi int) {
		rows := size(o%out.H, p.KernelH, p.StrideH, p.PadTop, p.PadBottom, in.H)
		for ox := lo; ox < hi; {
			columns := size(ox, p.KernelW, p.StrideW, p.PadLeft, p.PadRight, in.W)
			run := 1
			for ox+run < hi && size(ox+run, p.KernelW, p.StrideW, p.PadLeft, p.PadRight, in.W) == columns {
				run++
			}
			divisor := max(rows*columns, 1)
			at := (r*in.W + ix + (ox-lo)*p.StrideW) * c
			axpyPixels(tier, dx[at:], p.StrideW*c, dy[(o*out.W+ox)*c:], c, 1/float32(divisor), run, c)
			ox += run
		}
	})
}

// backward calls f for each input row r in [from, to), each output row o (an index of all rows) and each tap (ky, kx)
// through which they meet, with the outputs [lo, hi) of that row and the input column ix that lo reads.
func backward(in, out Shape, p kernel.Pool, from, to int, f func(r, o, ky, kx, ix, lo, hi int)) {
	for r := from; r < to; r++ {
		n, iy := r/in.H, r%in.H
		for ky := range p.KernelH {
			t := iy + p.PadTop - ky*p.DilationH
			if t < 0 || t%p.StrideH != 0 || t/p.StrideH >= out.H {
				continue
			}
			for kx := range p.KernelW {
				lo, hi := taps(kx, p.StrideW, p.DilationW, p.PadLeft, in.W, out.W)
				if lo < hi {
					f(r, n*out.H+t/p.StrideH, ky, kx, lo*p.StrideW+kx*p.DilationW-p.PadLeft, lo, hi)
				}
			}
		}
	}
}

// GlobalAvgPoolData stores the gradient with respect to the input of a global average pooling into the pixels of the
// images [from, to) of dx: dy, a vector of C per image, divided by H*W.
func GlobalAvgPoolData(dx, dy []float32, in Shape, from, to int) {
	c, pixels := in.C, in.H*in.W
	scale := 1 / float32(pixels)
	for n := from; n < to; n++ {
		image := dx[n*pixels*c : (n+1)*pixels*c]
		if pixels == 0 {
			continue
		}
		for i, v := range dy[n*c : (n+1)*c] {
			image[i] = v * scale
		}
		for p := 1; p < pixels; p++ {
			copy(image[p*c:(p+1)*c], image[:c])
		}
	}
}

// AdaptiveAvgPoolData stores the gradient with respect to the input of kernel.AdaptiveAvgPool into the images [from, to)
// of dx.
func AdaptiveAvgPoolData(tier cpu.Tier, dx, dy []float32, in, out Shape, from, to int) {
	c := in.C
	clear(dx[from*in.H*in.W*c : to*in.H*in.W*c])
	for r := from * out.H; r < to*out.H; r++ {
		n, oy := r/out.H, r%out.H
		y0, y1 := oy*in.H/out.H, ((oy+1)*in.H+out.H-1)/out.H
		for ox := range out.W {
			x0, x1 := ox*in.W/out.W, ((ox+1)*in.W+out.W-1)/out.W
			scale := 1 / float32((y1-y0)*(x1-x0))
			for iy := y0; iy < y1; iy++ {
				axpyPixels(tier, dx[((n*in.H+iy)*in.W+x0)*c:], c, dy[(r*out.W+ox)*c:], 0, scale, x1-x0, c)
			}
		}
	}
}

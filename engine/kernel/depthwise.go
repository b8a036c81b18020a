package kernel

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// DepthwiseSpec describes a depthwise convolution with channel multiplier 1. A stride or dilation of 0 is 1.
type DepthwiseSpec struct {
	Channels                             int
	KernelH, KernelW                     int
	StrideH, StrideW                     int
	DilationH, DilationW                 int
	PadTop, PadLeft, PadBottom, PadRight int
	Activation                           Activation
	Tier                                 cpu.Tier
}

// Depthwise is a depthwise convolution with its weights packed. It is immutable and safe for concurrent use.
type Depthwise struct {
	spec    DepthwiseSpec
	lanes   int       // channels in a block of weights
	weights []float32 // [ceil(C/lanes)][KernelH][KernelW][lanes]
	bias    []float32 // [ceil(C/lanes)*lanes]
}

// gatherBytes bounds the rows that are widened at a time: they are read KernelH times and should stay in the L2 cache,
// of which they take an eighth.
const gatherBytes = 256 << 10

// Windows that have a kernel of their own, by their index in depthwiseKernels.
const (
	depthwise3x3s1 = iota
	depthwise3x3s2
	depthwise5x5s1
	depthwise5x5s2
	depthwise7x7s1
	depthwise7x7s2
	depthwiseShapes
)

// NewDepthwise packs weights [C][1][KernelH][KernelW] as PyTorch keeps them and a bias [C] or nil. It keeps neither.
func NewDepthwise(spec DepthwiseSpec, weights, bias []float32) (*Depthwise, error) {
	def := func(v *int) {
		if *v == 0 {
			*v = 1
		}
	}
	def(&spec.StrideH)
	def(&spec.StrideW)
	def(&spec.DilationH)
	def(&spec.DilationW)
	if spec.Channels < 1 || spec.KernelH < 1 || spec.KernelW < 1 || spec.StrideH < 1 || spec.StrideW < 1 || spec.DilationH < 1 || spec.DilationW < 1 ||
		spec.PadTop < 0 || spec.PadLeft < 0 || spec.PadBottom < 0 || spec.PadRight < 0 {
		return nil, fmt.Errorf("depthwise convolution of %d channels, %dx%d with stride %dx%d: sizes must be positive", spec.Channels, spec.KernelH, spec.KernelW, spec.StrideH, spec.StrideW)
	}
	taps := spec.KernelH * spec.KernelW
	if len(weights) != spec.Channels*taps {
		return nil, fmt.Errorf("depthwise convolution of %d channels, %dx%d: %d weights instead of %d", spec.Channels, spec.KernelH, spec.KernelW, len(weights), spec.Channels*taps)
	}
	if bias != nil && len(bias) != spec.Channels {
		return nil, fmt.Errorf("depthwise convolution of %d channels: %d biases", spec.Channels, len(bias))
	}
	d := &Depthwise{spec: spec, lanes: 16}
	if levelOf(spec.Tier) == levelAVX2 {
		d.lanes = 8
	}
	blocks := (spec.Channels + d.lanes - 1) / d.lanes
	d.weights = make([]float32, blocks*taps*d.lanes)
	d.bias = make([]float32, blocks*d.lanes)
	copy(d.bias, bias)
	for c := range spec.Channels {
		for t := range taps {
			d.weights[(c/d.lanes*taps+t)*d.lanes+c%d.lanes] = weights[c*taps+t]
		}
	}
	return d, nil
}

// OutSize returns height and width of the output for an input of h x w; not positive where the window does not fit.
func (d *Depthwise) OutSize(h, w int) (int, int) {
	s := &d.spec
	size := func(in, before, after, kernel, stride, dilation int) int {
		span := in + before + after - dilation*(kernel-1) - 1
		if span < 0 {
			return 0
		}
		return span/stride + 1
	}
	return size(h, s.PadTop, s.PadBottom, s.KernelH, s.StrideH, s.DilationH), size(w, s.PadLeft, s.PadRight, s.KernelW, s.StrideW, s.DilationW)
}

// Bytes returns the memory that the packed weights take.
func (d *Depthwise) Bytes() int { return 4 * (len(d.weights) + len(d.bias)) }

// direct reports whether the convolution can read the source where it lies: float32 with a border at least as wide as
// the padding. Any other source is widened into scratch, a few rows at a time, and gets its border there; it costs
// about a fifth of the time of a 3x3 convolution.
func (d *Depthwise) direct(src *Map) bool {
	s := &d.spec
	return src.Format == F32 && src.Pad >= max(s.PadTop, s.PadLeft, s.PadBottom, s.PadRight)
}

// gatherRows returns how many input rows are widened at a time, and the elements of one.
func (d *Depthwise) gatherRows(src *Map) (rows, rowStep int) {
	s := &d.spec
	rowStep = (src.W + s.PadLeft + s.PadRight) * s.Channels
	window := (s.KernelH-1)*s.DilationH + 1
	// At least three windows, so that widening rows twice stays rare; but no more than the image has.
	rows = max(gatherBytes/4/rowStep, window+2*s.StrideH)
	return min(rows, src.H+s.PadTop+s.PadBottom), rowStep
}

// Scratch returns the length of the scratch that Run needs for these maps, in float32.
func (d *Depthwise) Scratch(dst, src Map) int {
	n := 0
	if !d.direct(&src) {
		rows, step := d.gatherRows(&src)
		n += rows * step
	}
	if dst.Format != F32 {
		n += dst.W * dst.C
	}
	return n
}

// Run stores act(conv(src) + bias) into rows [from, to) of dst. The formats of source and destination may differ. The
// products are float32 in every format.
//
// If rowSums is not nil it has N*H vectors of C, dst.N and dst.H, and the vector of each computed row receives the sum
// over its pixels: MeanOfRows makes the global average of them, at a fraction of what another pass over dst would cost.
func (d *Depthwise) Run(dst, src Map, from, to int, scratch, rowSums []float32) {
	s := &d.spec
	if oh, ow := d.OutSize(src.H, src.W); dst.N != src.N || dst.C != s.Channels || src.C != s.Channels || dst.H != oh || dst.W != ow {
		panic(fmt.Sprintf("kernel: depthwise convolution %dx%d of %v into %v", s.KernelH, s.KernelW, src, dst))
	}
	var out []float32 // a row of float32, where the destination is something else
	if dst.Format != F32 {
		out, scratch = scratch[:dst.W*dst.C], scratch[dst.W*dst.C:]
	}
	if d.direct(&src) {
		for r := from; r < to; r++ {
			at := src.index(r/dst.H, r%dst.H*s.StrideH-s.PadTop, -s.PadLeft)
			d.row(&dst, r, out, src.F32[at:], src.Pixel, src.Row, rowSums)
		}
		return
	}
	rows, rowStep := d.gatherRows(&src)
	window := (s.KernelH-1)*s.DilationH + 1
	batch := (rows-window)/s.StrideH + 1
	for r := from; r < to; {
		n, oy := r/dst.H, r%dst.H
		count := min(batch, to-r, dst.H-oy)
		d.gather(scratch, rowStep, &src, n, oy*s.StrideH-s.PadTop, (count-1)*s.StrideH+window)
		for i := range count {
			d.row(&dst, r+i, out, scratch[i*s.StrideH*rowStep:], s.Channels, rowStep, rowSums)
		}
		r += count
	}
}

// gather widens rows [y, y+rows) of image n, with their border, into dst.
func (d *Depthwise) gather(dst []float32, rowStep int, src *Map, n, y, rows int) {
	s := &d.spec
	buf := Layout(F32, 1, 1, src.W, src.C, 0)
	for i := range rows {
		row := dst[i*rowStep : (i+1)*rowStep]
		if y+i < 0 || y+i >= src.H {
			clear(row)
			continue
		}
		left, right := s.PadLeft*src.C, (s.PadLeft+src.W)*src.C
		clear(row[:left])
		clear(row[right:])
		one := *src
		one.Off, one.N, one.H = src.index(n, y+i, 0), 1, 1
		Activate(s.Tier, buf.Over(row[left:right], nil, nil), one, None, 0, 1)
	}
}

// row computes output row r from the window that begins at x[0].
func (d *Depthwise) row(dst *Map, r int, out, x []float32, xPixel, rowStep int, rowSums []float32) {
	s := &d.spec
	at := dst.row(r)
	y, step := out, dst.C
	if out == nil {
		y, step = dst.F32[at:], dst.Pixel
	}
	lo, hi, clip := s.Activation.bounds()
	level := levelOf(s.Tier)
	if k := depthwiseKernels[level][max(d.shape(), 0)]; k != nil && d.shape() >= 0 {
		k(floats(y), floats(x), floats(d.weights), floats(d.bias), step, xPixel, rowStep, dst.W, dst.C, lo, hi)
	} else if k := depthwiseAnyKernels[level]; k != nil {
		k(floats(y), floats(x), floats(d.weights), floats(d.bias), step, xPixel*s.StrideW, rowStep*s.DilationH, xPixel*s.DilationW, s.KernelH, s.KernelW, dst.W, dst.C, lo, hi)
	} else {
		d.rowGo(y, step, x, xPixel, rowStep, dst.W, lo, hi)
	}
	one := *dst
	one.Off, one.N, one.H = at, 1, 1
	if out != nil {
		Activate(s.Tier, one, Layout(F32, 1, 1, dst.W, dst.C, 0).Over(out, nil, nil), s.Activation, 0, 1)
	} else if !clip {
		Activate(s.Tier, one, one, s.Activation, 0, 1)
	}
	if rowSums != nil {
		sum := rowSums[r*dst.C : (r+1)*dst.C]
		clear(sum)
		sumPixels(s.Tier, sum, dst, at, dst.W)
	}
}

// shape returns the index of the kernel made for this window, or -1.
func (d *Depthwise) shape() int {
	s := &d.spec
	if s.KernelH != s.KernelW || s.StrideH != s.StrideW || s.DilationH != 1 || s.DilationW != 1 || s.StrideW > 2 {
		return -1
	}
	switch s.KernelW {
	case 3:
		return depthwise3x3s1 + s.StrideW - 1
	case 5:
		return depthwise5x5s1 + s.StrideW - 1
	case 7:
		return depthwise7x7s1 + s.StrideW - 1
	default:
		return -1
	}
}

// rowGo is the reference of the depthwise kernels.
func (d *Depthwise) rowGo(dst []float32, dstStep int, x []float32, xPixel, rowStep, pixels int, lo, hi float32) {
	s := &d.spec
	taps := s.KernelH * s.KernelW
	for p := range pixels {
		out := dst[p*dstStep : p*dstStep+s.Channels]
		copy(out, d.bias)
		for c := 0; c < len(out); c += d.lanes {
			acc := out[c:min(c+d.lanes, len(out))]
			w := d.weights[c*taps:]
			for ky := range s.KernelH {
				for kx := range s.KernelW {
					in := x[p*s.StrideW*xPixel+ky*s.DilationH*rowStep+kx*s.DilationW*xPixel+c:][:len(acc)]
					tap := w[(ky*s.KernelW+kx)*d.lanes:][:len(acc)]
					for i := range acc {
						acc[i] += in[i] * tap[i]
					}
				}
			}
			for i, v := range acc {
				if v < lo {
					acc[i] = lo
				} else if v > hi {
					acc[i] = hi
				}
			}
		}
	}
}

package kernel

import (
	"cmp"
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
	shape   int       // index of the kernel made for the window, or -1
	lanes   int       // channels in a block of weights
	weights []float32 // [ceil(C/lanes)][KernelH][KernelW][lanes]
	bias    []float32 // [ceil(C/lanes)*lanes]
}

// windowFloats bounds the input rows that are gathered at a time, and the output rows that wait for their activation or
// their rounding: both are read again at once and should stay close, half an L1 cache to a thirtieth of an L2.
const windowFloats = 16 << 10

// bandFloats bounds the input rows that are convolved at a time without being gathered: a quarter of an L2 cache.
const bandFloats = 128 << 10

// coldBytes is the size from which on a source is likely to have left the L2 cache since it was written. Channel blocks are
// then fetched in an order that no hardware prefetcher follows, so the rows are asked for in the order of memory before:
// a factor of two on large maps, a tenth lost where all was in the cache.
const coldBytes = 1 << 20

// Windows that have a kernel of their own, by their index in depthwiseKernels: those of the networks there are. Any other window costs
// 1.3 to 1.5 times as much (measured with 7x7 and stride 2).
const (
	depthwise3x3s1 = iota
	depthwise3x3s2
	depthwise5x5s1
	depthwise5x5s2
	depthwise7x7s1
	depthwiseShapes
)

// NewDepthwise packs weights [C][1][KernelH][KernelW] as PyTorch keeps them and a bias [C] or nil. It keeps neither.
func NewDepthwise(spec DepthwiseSpec, weights, bias []float32) (*Depthwise, error) {
	spec.StrideH, spec.StrideW = cmp.Or(spec.StrideH, 1), cmp.Or(spec.StrideW, 1)
	spec.DilationH, spec.DilationW = cmp.Or(spec.DilationH, 1), cmp.Or(spec.DilationW, 1)
	what := fmt.Sprintf("depthwise convolution of %d channels, %dx%d", spec.Channels, spec.KernelH, spec.KernelW)
	if spec.Channels < 1 || spec.KernelH < 1 || spec.KernelW < 1 || spec.StrideH < 1 || spec.StrideW < 1 || spec.DilationH < 1 || spec.DilationW < 1 ||
		spec.PadTop < 0 || spec.PadLeft < 0 || spec.PadBottom < 0 || spec.PadRight < 0 {
		return nil, fmt.Errorf("%s with stride %dx%d, dilation %dx%d and padding %d,%d,%d,%d: sizes must be positive, padding not negative",
			what, spec.StrideH, spec.StrideW, spec.DilationH, spec.DilationW, spec.PadTop, spec.PadLeft, spec.PadBottom, spec.PadRight)
	}
	taps := spec.KernelH * spec.KernelW
	if len(weights) != spec.Channels*taps {
		return nil, fmt.Errorf("%s: %d weights instead of %d", what, len(weights), spec.Channels*taps)
	}
	if bias != nil && len(bias) != spec.Channels {
		return nil, fmt.Errorf("%s: %d biases", what, len(bias))
	}
	d := &Depthwise{spec: spec, shape: spec.shape(), lanes: 16}
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
// the padding. From any other source the rows of one block of channels are gathered into scratch, widened, with their
// border; it costs about a third of the time of a 3x3 convolution.
func (d *Depthwise) direct(src *Map) bool {
	s := &d.spec
	return src.Format == F32 && src.Pad >= max(s.PadTop, s.PadLeft, s.PadBottom, s.PadRight)
}

// into returns the kernel that rounds, applies the activation and adds up rows itself, if there is one.
func (d *Depthwise) into() depthwiseIntoFunc {
	if d.shape < 0 {
		return nil
	}
	switch activationClass[d.spec.Activation] {
	case classClip, classHardSwish, classSiLU:
		return depthwiseIntoKernels[levelOf(d.spec.Tier)][d.shape]
	}
	return nil
}

// inPlace reports whether the kernel can write the destination itself. Most can clip, but neither round nor apply other
// activations nor add up rows.
func (d *Depthwise) inPlace(dst *Map, sums bool) bool {
	if d.into() != nil {
		return true
	}
	_, _, clip := d.spec.Activation.bounds()
	return dst.Format == F32 && clip && !sums
}

// group is how many channels are gathered and stored at a time: two registers, which are a cache line of bfloat16.
func (d *Depthwise) group() int { return 2 * d.lanes }

// batch returns how many output rows are computed at a time, the input rows under them, and the elements of one
// gathered input row.
func (d *Depthwise) batch(src *Map, outW int) (outRows, inRows, rowStep int) {
	s := &d.spec
	rowStep = (src.W + s.PadLeft + s.PadRight) * d.group()
	window := (s.KernelH-1)*s.DilationH + 1
	// At least two rows, so that gathering rows again stays bearable.
	outRows = max((windowFloats/rowStep-window)/s.StrideH+1, 2)
	outRows = min(outRows, max(windowFloats/(outW*d.group()), 1))
	return outRows, (outRows-1)*s.StrideH + window, rowStep
}

// Scratch returns the length of the scratch that Run needs for these maps, in float32: at most about 130 KB for
// ordinary sizes.
func (d *Depthwise) Scratch(dst, src Map) int {
	outRows, inRows, rowStep := d.batch(&src, dst.W)
	return inRows*rowStep + outRows*dst.W*d.group()
}

// Run stores act(conv(src) + bias) into rows [from, to) of dst. The formats of source and destination may differ. The
// products are float32 in every format.
//
// If rowSums is not nil it has N*H vectors of C, dst.N and dst.H, and the vector of each computed row receives the sum
// over its pixels: MeanOfRows makes the global average of them, at a fraction of what another pass over dst would cost.
func (d *Depthwise) Run(dst, src Map, from, to int, scratch, rowSums []float32) {
	d.RunChannels(dst, src, from, to, 0, d.spec.Channels, scratch, rowSums)
}

// ChannelBlock is what the ends of a range of channels given to RunChannels must be a multiple of: two cache lines of float32.
const ChannelBlock = 32

// RunChannels is Run for the channels [first, last) alone: a small map that one worker's caches hold only a part of the channels of
// is better divided that way. first is a multiple of ChannelBlock, and last too unless it is the number of channels.
func (d *Depthwise) RunChannels(dst, src Map, from, to, first, last int, scratch, rowSums []float32) {
	s := &d.spec
	if oh, ow := d.OutSize(src.H, src.W); dst.N != src.N || dst.C != s.Channels || src.C != s.Channels || dst.H != oh || dst.W != ow {
		panic(fmt.Sprintf("kernel: depthwise convolution %dx%d of %v into %v", s.KernelH, s.KernelW, src, dst))
	}
	if first%ChannelBlock != 0 || last%ChannelBlock != 0 && last != s.Channels || first < 0 || last > s.Channels {
		panic(fmt.Sprintf("kernel: channels %d to %d of a depthwise convolution of %d: not multiples of %d", first, last, s.Channels, ChannelBlock))
	}
	if rowSums != nil && len(rowSums) < dst.Rows()*dst.C {
		panic(fmt.Sprintf("kernel: %d sums of rows of %v, which has %d", len(rowSums), dst, dst.Rows()*dst.C))
	}
	cold := src.N*src.Image*src.Format.Size() > coldBytes
	direct, inPlace := d.direct(&src), d.inPlace(&dst, rowSums != nil)
	outRows, inRows, rowStep := d.batch(&src, dst.W)
	gathered, out := scratch[:inRows*rowStep], scratch[inRows*rowStep:][:outRows*dst.W*d.group()]
	if !direct {
		clear(gathered) // the left and right border stay zero
	}
	if direct && inPlace {
		// Whole blocks of channels pass over these rows one after another: they should stay in the L2 cache.
		outRows = max(bandFloats/(src.W*src.C*s.StrideH), 2)
	}
	for r := from; r < to; {
		n, y := r/dst.H, r%dst.H
		count := min(outRows, to-r, dst.H-y)
		at := dst.row(r)
		if cold {
			top, bottom := y*s.StrideH-s.PadTop, (y+count-1)*s.StrideH-s.PadTop+(s.KernelH-1)*s.DilationH
			if r > from && y > 0 { // the rows above were fetched for the rows before
				top += (s.KernelH-1)*s.DilationH + 1 - s.StrideH
			}
			src.prefetch(s.Tier, n, top, bottom+1)
			dst.prefetch(s.Tier, n, y, y+count)
		}
		switch {
		case direct && inPlace:
			x := src.index(n, y*s.StrideH-s.PadTop, -s.PadLeft) + first
			d.store(&dst, at+first, src.F32[x:], src.Pixel, src.Row, first, last-first, count, sumsAt(rowSums, r*dst.C+first))
		default:
			for c := first; c < last; c += d.group() {
				width := min(d.group(), last-c)
				x, xPixel, xRow := gathered, d.group(), rowStep
				if direct {
					x, xPixel, xRow = src.F32[src.index(n, y*s.StrideH-s.PadTop, -s.PadLeft)+c:], src.Pixel, src.Row
				} else {
					d.gather(gathered, rowStep, &src, n, y*s.StrideH-s.PadTop, (count-1)*s.StrideH+(s.KernelH-1)*s.DilationH+1, c, width)
				}
				sums := sumsAt(rowSums, r*dst.C+c)
				if inPlace {
					d.store(&dst, at+c, x, xPixel, xRow, c, width, count, sums)
					continue
				}
				d.rows(out, d.group(), dst.W*d.group(), x, xPixel, xRow, c, width, count, dst.W)
				d.finish(&dst, at+c, out[:count*dst.W*d.group()], sums, count, width)
			}
		}
		r += count
	}
}

// prefetch asks for rows [from, to) of image n, as far as the image and its border have them, without waiting.
func (m *Map) prefetch(tier cpu.Tier, n, from, to int) {
	from, to = max(from, -m.Pad), min(to, m.H+m.Pad)
	k := prefetchKernels[levelOf(tier)]
	if k == nil || from >= to {
		return
	}
	// From the first pixel to the last, channel blocks beside this one included where there are any.
	elements := (to-from-1)*m.Row + (m.W-1)*m.Pixel + m.C
	hi, lo := m.ptr(m.index(n, from, 0))
	bytes := m.Format.PlaneSize() * elements
	k(hi, bytes)
	if m.Format == Split {
		k(lo, bytes)
	}
}

// gather widens channels [c, c+width) of rows [y, y+rows) of image n into dst, whose left and right border is zero.
func (d *Depthwise) gather(dst []float32, rowStep int, src *Map, n, y, rows, c, width int) {
	s := &d.spec
	for y < 0 && rows > 0 {
		clear(dst[:rowStep])
		dst = dst[rowStep:]
		y++
		rows--
	}
	inside := max(min(rows, src.H-y), 0)
	clear(dst[inside*rowStep : rows*rowStep])
	if inside == 0 {
		return
	}
	at, dst := src.index(n, y, 0)+c, dst[s.PadLeft*d.group():]
	if level := levelOf(s.Tier); level != levelGo {
		for i := 0; i < width; {
			registers, part := d.registers(width - i)
			h, l := src.ptr(at + i)
			gatherKernels[level][src.Format][registers](floats(dst[i:]), h, l, src.Pixel, src.Row, d.group(), rowStep, inside, src.W, part)
			i += part
		}
		return
	}
	for i := range inside {
		for p := range src.W {
			src.load(dst[i*rowStep+p*d.group():][:width], at+i*src.Row+p*src.Pixel)
		}
	}
}

// registers returns the index of the kernel that moves the next of width channels, and how many it moves.
func (d *Depthwise) registers(width int) (index, channels int) {
	if width == d.group() {
		return 1, width
	}
	return 0, min(width, d.lanes)
}

// finish applies the activation to rows of pixels of d.group() channels, stores the first width of them into the
// destination from element at on, and the sums of the rows into sums unless it is nil.
func (d *Depthwise) finish(dst *Map, at int, x, sums []float32, rows, width int) {
	s := &d.spec
	if _, _, clip := s.Activation.bounds(); !clip {
		m := Vectors(x, 1, len(x))
		Activate(s.Tier, m, m, s.Activation, 0, 1)
	}
	if level := levelOf(s.Tier); level != levelGo {
		for i := 0; i < width; {
			registers, part := d.registers(width - i)
			h, l := dst.ptr(at + i)
			scatterKernels[level][dst.Format][registers](h, l, floats(x[i:]), floats(sumsAt(sums, i)),
				dst.Pixel, dst.Row, d.group(), dst.C, rows, dst.W, part)
			i += part
		}
		return
	}
	for i := range rows {
		if sums != nil {
			clear(sums[i*dst.C:][:width])
		}
		for p := range dst.W {
			v := x[(i*dst.W+p)*d.group():][:width]
			dst.store(at+i*dst.Row+p*dst.Pixel, v)
			if sums != nil {
				for c, v := range v {
					sums[i*dst.C+c] += v
				}
			}
		}
	}
}

// sumsAt returns the sums from element at on, or nil if there are none.
func sumsAt(rowSums []float32, at int) []float32 {
	if rowSums == nil {
		return nil
	}
	return rowSums[at:]
}

// store convolves channels [c, c+channels) and stores them into the destination, from element at on: rows rows from the window that
// begins at x[0], and their sums unless these are nil.
func (d *Depthwise) store(dst *Map, at int, x []float32, xPixel, xRow, c, channels, rows int, sums []float32) {
	s := &d.spec
	k := d.into()
	if k == nil || dst.Format == F32 && activationClass[s.Activation] == classClip && sums == nil {
		d.rows(dst.F32[at:], dst.Pixel, dst.Row, x, xPixel, xRow, c, channels, rows, dst.W)
		return
	}
	lo, hi, _ := s.Activation.bounds()
	size := dst.Format.PlaneSize()
	p, p2 := dst.ptr(at)
	k(p, p2, floats(x), floats(d.weights[c*s.KernelH*s.KernelW:]), floats(d.bias[c:]), floats(sums), dst.Pixel*size, dst.Row*size,
		xPixel, xRow, xRow*s.StrideH, dst.C, rows, dst.W, channels, int(dst.Format), int(activationClass[s.Activation]), lo, hi)
}

// rows convolves and clips channels [c, c+channels): rows rows of pixels outputs from the window that begins at x[0].
func (d *Depthwise) rows(dst []float32, dstPixel, dstRow int, x []float32, xPixel, xRow, c, channels, rows, pixels int) {
	s := &d.spec
	lo, hi, _ := s.Activation.bounds()
	weights, bias := d.weights[c*s.KernelH*s.KernelW:], d.bias[c:]
	level := levelOf(s.Tier)
	if d.shape >= 0 && depthwiseKernels[level][d.shape] != nil {
		depthwiseKernels[level][d.shape](floats(dst), floats(x), floats(weights), floats(bias), dstPixel, dstRow, xPixel, xRow, xRow*s.StrideH,
			rows, pixels, channels, lo, hi)
		return
	}
	if k := depthwiseAnyKernels[level]; k != nil {
		k(floats(dst), floats(x), floats(weights), floats(bias), dstPixel, dstRow,
			xPixel*s.StrideW, xRow*s.DilationH, xRow*s.StrideH, xPixel*s.DilationW, s.KernelH, s.KernelW, rows, pixels, channels, lo, hi)
		return
	}
	for i := range rows {
		d.rowGo(dst[i*dstRow:], dstPixel, x[i*xRow*s.StrideH:], xPixel, xRow, weights, bias, pixels, channels, lo, hi)
	}
}

// shape returns the index of the kernel made for this window, or -1.
func (s *DepthwiseSpec) shape() int {
	if s.KernelH != s.KernelW || s.StrideH != s.StrideW || s.DilationH != 1 || s.DilationW != 1 {
		return -1
	}
	switch [2]int{s.KernelW, s.StrideW} {
	case [2]int{3, 1}:
		return depthwise3x3s1
	case [2]int{3, 2}:
		return depthwise3x3s2
	case [2]int{5, 1}:
		return depthwise5x5s1
	case [2]int{5, 2}:
		return depthwise5x5s2
	case [2]int{7, 1}:
		return depthwise7x7s1
	default:
		return -1
	}
}

// rowGo is the reference of the depthwise kernels.
func (d *Depthwise) rowGo(dst []float32, dstPixel int, x []float32, xPixel, xRow int, weights, bias []float32, pixels, channels int, lo, hi float32) {
	s := &d.spec
	taps := s.KernelH * s.KernelW
	for p := range pixels {
		out := dst[p*dstPixel:][:channels]
		copy(out, bias)
		for c := 0; c < channels; c += d.lanes {
			acc := out[c:min(c+d.lanes, channels)]
			w := weights[c*taps:]
			for ky := range s.KernelH {
				for kx := range s.KernelW {
					in := x[p*s.StrideW*xPixel+ky*s.DilationH*xRow+kx*s.DilationW*xPixel+c:][:len(acc)]
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

package kernel

import (
	"cmp"
	"fmt"
	"math"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Pool describes a pooling window with the meaning of torch.nn.MaxPool2d and AvgPool2d; PyTorch pads both sides alike,
// here each side has its own padding. A dilation of 0 is 1, a stride of 0 is the size of the window.
type Pool struct {
	KernelH, KernelW                     int
	StrideH, StrideW                     int
	DilationH, DilationW                 int // max pooling only
	PadTop, PadLeft, PadBottom, PadRight int
	CeilMode                             bool // round the output size up, but no window may begin in the padding behind the image
	CountIncludePad                      bool // the divisor of the average counts the padding
}

// WithDefaults returns the pool with its zero values filled in.
func (p Pool) WithDefaults() Pool {
	p.StrideH, p.StrideW = cmp.Or(p.StrideH, p.KernelH), cmp.Or(p.StrideW, p.KernelW)
	p.DilationH, p.DilationW = cmp.Or(p.DilationH, 1), cmp.Or(p.DilationW, 1)
	return p
}

// Validate returns an error if the window makes no sense.
func (p Pool) Validate() error {
	p = p.WithDefaults()
	if p.KernelH < 1 || p.KernelW < 1 || p.StrideH < 1 || p.StrideW < 1 || p.DilationH < 1 || p.DilationW < 1 ||
		p.PadTop < 0 || p.PadLeft < 0 || p.PadBottom < 0 || p.PadRight < 0 {
		return fmt.Errorf("pooling %dx%d with stride %dx%d, dilation %dx%d, padding %d,%d,%d,%d: sizes must be positive, padding not negative",
			p.KernelH, p.KernelW, p.StrideH, p.StrideW, p.DilationH, p.DilationW, p.PadTop, p.PadLeft, p.PadBottom, p.PadRight)
	}
	if 2*max(p.PadTop, p.PadBottom) > p.KernelH || 2*max(p.PadLeft, p.PadRight) > p.KernelW {
		return fmt.Errorf("pooling %dx%d with padding %d,%d,%d,%d: padding must be at most half the window",
			p.KernelH, p.KernelW, p.PadTop, p.PadLeft, p.PadBottom, p.PadRight)
	}
	return nil
}

// OutSize returns height and width of the output for an input of h x w; not positive where the window does not fit.
func (p Pool) OutSize(h, w int) (int, int) {
	p = p.WithDefaults()
	size := func(in, before, after, kernel, stride, dilation int) int {
		span := in + before + after - dilation*(kernel-1) - 1
		if span < 0 {
			return 0
		}
		out := span/stride + 1
		if p.CeilMode {
			out = (span+stride-1)/stride + 1
			if (out-1)*stride >= in+before {
				out--
			}
		}
		return out
	}
	return size(h, p.PadTop, p.PadBottom, p.KernelH, p.StrideH, p.DilationH), size(w, p.PadLeft, p.PadRight, p.KernelW, p.StrideW, p.DilationW)
}

// PoolScratch returns the length of the scratch that pooling of src into dst needs, in float32.
func PoolScratch(dst, src Map) int {
	n := src.W * src.C
	if dst.Format != F32 {
		n += dst.W * dst.C
	}
	return n
}

// MaxPool stores the maxima of the windows of src into rows [from, to) of dst. Padding never wins, not-a-number always
// does. Source and destination may have different formats. scratch: PoolScratch.
func MaxPool(tier cpu.Tier, dst, src Map, p Pool, from, to int, scratch []float32) {
	p = p.WithDefaults()
	level := levelOf(tier)
	q := pooler{tier: tier, dst: &dst, src: &src, max: true}
	q.keys = src.Format == BF16 && dst.Format == BF16 && downKeysKernels[level] != nil
	q.run(from, to, scratch,
		func(y int) (int, int, int, int) {
			return window(y, p.KernelH, p.StrideH, p.DilationH, p.PadTop, p.PadBottom, src.H)
		},
		func(x int) (int, int, int, int) {
			return window(x, p.KernelW, p.StrideW, p.DilationW, p.PadLeft, p.PadRight, src.W)
		}, p.DilationH, p.DilationW, p.StrideW)
}

// AvgPool stores the averages of the windows of src into rows [from, to) of dst. Source and destination may have
// different formats. scratch: PoolScratch.
func AvgPool(tier cpu.Tier, dst, src Map, p Pool, from, to int, scratch []float32) {
	p = p.WithDefaults()
	p.DilationH, p.DilationW = 1, 1
	q := pooler{tier: tier, dst: &dst, src: &src}
	q.run(from, to, scratch,
		func(y int) (int, int, int, int) {
			first, count, full, ok := window(y, p.KernelH, p.StrideH, 1, p.PadTop, p.PadBottom, src.H)
			if p.CountIncludePad {
				return first, count, full, ok
			}
			return first, count, count, ok
		},
		func(x int) (int, int, int, int) {
			first, count, full, ok := window(x, p.KernelW, p.StrideW, 1, p.PadLeft, p.PadRight, src.W)
			if p.CountIncludePad {
				return first, count, full, ok
			}
			return first, count, count, ok
		}, 1, 1, p.StrideW)
}

// AdaptiveAvgPool stores the averages of the dst.H x dst.W windows into which torch.nn.AdaptiveAvgPool2d divides src
// into rows [from, to) of dst: output i covers input [floor(i*in/out), ceil((i+1)*in/out)). scratch: PoolScratch.
func AdaptiveAvgPool(tier cpu.Tier, dst, src Map, from, to int, scratch []float32) {
	part := func(i, in, out int) (int, int, int, int) {
		first := i * in / out
		count := ((i+1)*in+out-1)/out - first
		return first, count, count, 0
	}
	q := pooler{tier: tier, dst: &dst, src: &src}
	q.run(from, to, scratch,
		func(y int) (int, int, int, int) { return part(y, src.H, dst.H) },
		func(x int) (int, int, int, int) { return part(x, src.W, dst.W) },
		1, 1, 0)
}

// window returns the first input and the number of inputs of output i that lie inside [0, in), the size of the window
// with its padding, and 1 if no input was cut off.
func window(i, kernel, stride, dilation, before, after, in int) (first, count, full, whole int) {
	start := i*stride - before
	full = min(start+kernel, in+after) - start
	lo := 0
	if start < 0 {
		lo = (-start + dilation - 1) / dilation
	}
	hi := kernel
	if over := start + (kernel-1)*dilation - (in - 1); over > 0 {
		hi = kernel - (over+dilation-1)/dilation
	}
	if hi < lo {
		hi = lo
	}
	if lo == 0 && hi == kernel {
		whole = 1
	}
	return start + lo*dilation, hi - lo, full, whole
}

// pooler computes windows in two passes: down the columns into a row of float32, then along that row. Each pass is a
// kernel of contiguous loads without a border case, and overlapping windows share the first pass.
type pooler struct {
	tier     cpu.Tier
	dst, src *Map
	max      bool
	keys     bool // the row holds keys of bfloat16, 16-bit integers in the order of the values (0 is -Inf)
}

// run pools rows [from, to). vertical and horizontal give the window of an output as window does; strideX is the
// distance of windows that are whole.
func (p *pooler) run(from, to int, scratch []float32, vertical, horizontal func(int) (int, int, int, int),
	dilationY, dilationX, strideX int) {
	dst, src := p.dst, p.src
	if dst.N != src.N || dst.C != src.C {
		panic(fmt.Sprintf("kernel: pooling of %v into %v", *src, *dst))
	}
	c := src.C
	if c == 0 || dst.W == 0 {
		return
	}
	columns := scratch[:src.W*c]
	if p.keys {
		columns = scratch[:(src.W*c+1)/2]
	}
	rowBuf := Map{}
	if dst.Format != F32 && !p.keys {
		rowBuf = Layout(F32, 1, 1, dst.W, c, 0).Over(scratch[src.W*c:], nil, nil)
	}
	for r := from; r < to; r++ {
		n, oy := r/dst.H, r%dst.H
		y, rows, fullRows, _ := vertical(oy)
		if rows == 0 {
			fill(columns, p.emptyColumn())
		} else {
			p.down(columns, src.index(n, y, 0), dilationY*src.Row, rows)
		}
		out, step := floatsAt(dst, dst.row(r)), dst.Pixel
		if dst.Format != F32 && !p.keys {
			out, step = rowBuf.F32, c
		}
		for ox := 0; ox < dst.W; {
			x, taps, fullTaps, whole := horizontal(ox)
			run := 1
			if whole == 1 {
				for ox+run < dst.W {
					if _, _, _, w := horizontal(ox + run); w != 1 {
						break
					}
					run++
				}
			}
			d := 1
			if !p.max {
				d = max(fullRows*fullTaps, 1)
			}
			if p.keys {
				p.alongKeys(dst.row(r)+ox*dst.Pixel, columns, x*c, dilationX*c, strideX*c, taps, run)
			} else if taps == 0 {
				fill(out[ox*step:ox*step+c], p.empty())
			} else {
				p.along(out[ox*step:], step, columns[x*c:], dilationX*c, strideX*c, taps, run, 1/float32(d))
			}
			ox += run
		}
		if dst.Format != F32 && !p.keys {
			one := *dst
			one.Off, one.N, one.H = dst.row(r), 1, 1
			Activate(p.tier, one, rowBuf, None, 0, 1)
		}
	}
}

// emptyColumn is what fills the row where a window has no input in any of its columns.
func (p *pooler) emptyColumn() float32 {
	if p.keys {
		return 0
	}
	return p.empty()
}

// empty is the result of a window without input.
func (p *pooler) empty() float32 {
	if p.max {
		return float32(math.Inf(-1))
	}
	return 0
}

func fill(v []float32, x float32) {
	for i := range v {
		v[i] = x
	}
}

// floatsAt returns the values of an F32 map from element at on, nil for other formats.
func floatsAt(m *Map, at int) []float32 {
	if m.Format != F32 {
		return nil
	}
	return m.F32[at:]
}

// down reduces rows rows of the source, rowStep elements apart, the first at element at, to one dense row of float32.
func (p *pooler) down(dst []float32, at, rowStep, rows int) {
	level, src := levelOf(p.tier), p.src
	k := downSumKernels[level][src.Format]
	switch {
	case p.keys:
		k = downKeysKernels[level]
	case p.max:
		k = downMaxKernels[level][src.Format]
	}
	switch {
	case k != nil && src.Pixel == src.C:
		h, l := src.ptr(at)
		k(floats(dst), h, l, 0, rowStep, rows, 1, src.W*src.C)
	case k != nil:
		h, l := src.ptr(at)
		k(floats(dst), h, l, src.Pixel, rowStep, rows, src.W, src.C)
	default:
		downGo(dst, src, at, rowStep, rows, p.max)
	}
}

// along reduces for each of pixels outputs taps pixels of the dense row src, tapStep elements apart, and multiplies
// sums by scale; the windows of neighbouring outputs are outStep elements apart.
func (p *pooler) along(dst []float32, dstStep int, src []float32, tapStep, outStep, taps, pixels int, scale float32) {
	level, c := levelOf(p.tier), p.src.C
	k := alongSumKernels[level]
	if p.max {
		k = alongMaxKernels[level]
	}
	switch {
	case k != nil:
		k(floats(dst), floats(src), dstStep, tapStep, outStep, taps, pixels, c, scale)
	case p.max:
		alongMaxGo(dst, dstStep, src, tapStep, outStep, taps, pixels, c)
	default:
		alongSumGo(dst, dstStep, src, tapStep, outStep, taps, pixels, c, scale)
	}
}

// alongKeys is along from keys into the destination, from element at on; first is the first key of the first window.
func (p *pooler) alongKeys(at int, keys []float32, first, tapStep, outStep, taps, pixels int) {
	c := p.src.C
	if taps == 0 {
		for i := range c {
			p.dst.Hi[at+i] = ToBF16(p.empty())
		}
		return
	}
	x := unsafe.Pointer(&unsafe.Slice((*uint16)(floats(keys)), 2*len(keys))[first])
	y, _ := p.dst.ptr(at)
	alongKeysKernels[levelOf(p.tier)](y, x, p.dst.Pixel, tapStep, outStep, taps, pixels, c, 1)
}

// downGo is the reference of down.
func downGo(dst []float32, src *Map, at, rowStep, rows int, isMax bool) {
	var buf [chunk]float32
	for ; len(dst) > 0; dst = dst[src.C:] {
		for c := 0; c < src.C; c += chunk {
			acc := dst[c:min(c+chunk, src.C)]
			src.load(acc, at+c)
			for i := 1; i < rows; i++ {
				v := buf[:len(acc)]
				src.load(v, at+c+i*rowStep)
				if isMax {
					raise(acc, v)
				} else {
					for i, x := range v {
						acc[i] += x
					}
				}
			}
		}
		at += src.Pixel
	}
}

// raise replaces values of acc by greater ones of v, and by those that are not a number.
func raise(acc, v []float32) {
	for i, x := range v {
		if x > acc[i] || x != x {
			acc[i] = x
		}
	}
}

func alongMaxGo(dst []float32, dstStep int, src []float32, tapStep, outStep, taps, pixels, c int) {
	for p := range pixels {
		acc := dst[p*dstStep : p*dstStep+c]
		copy(acc, src[p*outStep:])
		for t := 1; t < taps; t++ {
			raise(acc, src[p*outStep+t*tapStep:][:c])
		}
	}
}

func alongSumGo(dst []float32, dstStep int, src []float32, tapStep, outStep, taps, pixels, c int, scale float32) {
	for p := range pixels {
		acc := dst[p*dstStep : p*dstStep+c]
		copy(acc, src[p*outStep:])
		for t := 1; t < taps; t++ {
			for i, x := range src[p*outStep+t*tapStep:][:c] {
				acc[i] += x
			}
		}
		for i := range acc {
			acc[i] *= scale
		}
	}
}

// sumTogether is how many pixels a global average adds up one by one, at least a row: of maps with more it adds such sums, since every value
// added to a float32 sum far above it is rounded, in a flat part of an image always to the same side.
const sumTogether = 256

// GlobalAvgPool stores the mean over all pixels of the images [from, to) of src into dst, an N x 1 x 1 x C map of
// float32. To divide one image among workers, divide the channels: give Sub blocks of both maps.
func GlobalAvgPool(tier cpu.Tier, dst, src Map, from, to int) {
	if dst.Format != F32 || dst.N != src.N || dst.C != src.C || dst.H != 1 || dst.W != 1 {
		panic(fmt.Sprintf("kernel: global pooling of %v into %v", src, dst))
	}
	scale, rows := 1/float32(src.H*src.W), max(sumTogether/src.W, 1)
	for n := from; n < to; n++ {
		out := dst.F32[dst.index(n, 0, 0):][:dst.C]
		clear(out)
		for c := 0; c < len(out); c += chunk {
			var total [chunk]float32
			sum := out[c:min(c+chunk, len(out))]
			for y := range src.H {
				if y > 0 && y%rows == 0 {
					for i, v := range sum {
						total[i] += v
					}
					clear(sum)
				}
				sumPixels(tier, sum, &src, src.index(n, y, 0)+c, src.W)
			}
			for i, v := range sum {
				sum[i] = (total[i] + v) * scale
			}
		}
	}
}

// MeanOfRows stores the mean over the pixels of the images [from, to) into dst, an N x 1 x 1 x C map of float32, from
// the sums of rows that a depthwise convolution left (see Depthwise.Run): sums holds N*h vectors of C, each the sum over
// w pixels. The result does not depend on how the rows were divided among workers.
func MeanOfRows(tier cpu.Tier, dst Map, sums []float32, h, w, from, to int) {
	scale := 1 / float32(h*w)
	rows := Vectors(sums, dst.N*h, dst.C)
	for n := from; n < to; n++ {
		out := dst.F32[dst.index(n, 0, 0):][:dst.C]
		clear(out)
		sumPixels(tier, out, &rows, n*h*dst.C, h)
		for c := range out {
			out[c] *= scale
		}
	}
}

// sumPixels adds pixels pixels of src, the first at element at, to sum.
func sumPixels(tier cpu.Tier, sum []float32, src *Map, at, pixels int) {
	if k := sumKernels[levelOf(tier)][src.Format]; k != nil && len(sum) > 0 && pixels > 0 {
		h, l := src.ptr(at)
		k(floats(sum), h, l, src.Pixel, pixels, len(sum))
		return
	}
	var buf [chunk]float32
	for range pixels {
		for c := 0; c < len(sum); c += chunk {
			v := buf[:min(chunk, len(sum)-c)]
			src.load(v, at+c)
			for i, x := range v {
				sum[c+i] += x
			}
		}
		at += src.Pixel
	}
}

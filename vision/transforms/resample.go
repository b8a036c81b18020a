package transforms

import (
	"encoding/binary"
	"fmt"
	"image"
	"math"

	"github.com/go-modelzoo/zoo/vision"
)

// Interpolation names how pixels are computed when an image is resized. The zero value is Bilinear.
type Interpolation string

// The interpolations of PIL.
const (
	Nearest  Interpolation = "nearest"
	Box      Interpolation = "box"
	Bilinear Interpolation = "bilinear"
	Hamming  Interpolation = "hamming"
	Bicubic  Interpolation = "bicubic" // a = -0.5
	Lanczos  Interpolation = "lanczos" // three lobes
)

// filter is a reconstruction kernel: its half width in source pixels at scale 1, and its value at a distance.
type filter struct {
	support float64
	at      func(x float64) float64
}

// The products are converted explicitly so that no compiler fuses them with a sum: coefficients are the same on every CPU.
var filters = map[Interpolation]filter{
	Box: {0.5, func(x float64) float64 {
		if x > -0.5 && x <= 0.5 {
			return 1
		}
		return 0
	}},
	Bilinear: {1, func(x float64) float64 { return max(1-math.Abs(x), 0) }},
	Hamming: {1, func(x float64) float64 {
		x = math.Abs(x)
		if x == 0 {
			return 1
		}
		if x >= 1 {
			return 0
		}
		x *= math.Pi
		const a, b = float64(float32(0.54)), float64(float32(0.46)) // single precision constants in PIL
		return math.Sin(x) / x * (a + float64(b*math.Cos(x)))
	}},
	Bicubic: {2, func(x float64) float64 {
		const a = -0.5
		x = math.Abs(x)
		switch {
		case x < 1:
			return float64((float64((a+2)*x)-(a+3))*x*x) + 1
		case x < 2:
			return (float64((float64((x-5)*x)+8)*x) - 4) * a
		}
		return 0
	}},
	Lanczos: {3, func(x float64) float64 {
		if x >= -3 && x < 3 {
			return sinc(x) * sinc(x/3)
		}
		return 0
	}},
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// check reports an unknown interpolation.
func (i Interpolation) check() error {
	if _, ok := filters[i.orDefault()]; !ok && i != Nearest {
		return fmt.Errorf("interpolation %q is unknown: use nearest, box, bilinear, hamming, bicubic or lanczos", i)
	}
	return nil
}

func (i Interpolation) orDefault() Interpolation {
	if i == "" {
		return Bilinear
	}
	return i
}

// precision is the number of fraction bits of PIL's 8-bit coefficients: 32 less 8 for the sample and 2 for overshoot.
const precision = 32 - 8 - 2

// axis holds, for a range of output positions along one axis, the first source position and the weights of its taps.
type axis struct {
	taps   int     // weights a position has room for
	first  []int32 // first source position
	count  []int32 // weights used
	weight []int32 // taps a position, fixed point with precision fraction bits
	scaled []float64

	groups int     // of four taps a position, in packed
	packed []uint8 // the weights as the vector kernel reads them
}

// plan computes the weights of positions lo to hi of an axis of length in that is resized to out.
func (a *axis) plan(f filter, antialias bool, in, out, lo, hi int) {
	scale := float64(in) / float64(out)
	stretch := scale
	if stretch < 1 || !antialias {
		stretch = 1
	}
	support := f.support * stretch
	a.taps = int(math.Ceil(support))*2 + 1
	n := hi - lo
	a.first, a.count = grow(a.first, n), grow(a.count, n)
	a.weight, a.scaled = grow(a.weight, n*a.taps), grow(a.scaled, a.taps)
	inverse := 1 / stretch
	for i := range n {
		centre := float64((float64(lo+i) + 0.5) * scale)
		from := max(int(centre-support+0.5), 0)
		to := min(int(centre+support+0.5), in)
		sum := 0.0
		k := a.scaled[:max(to-from, 0)]
		for j := range k {
			k[j] = f.at((float64(j+from) - centre + 0.5) * inverse)
			sum += k[j]
		}
		w := a.weight[i*a.taps:][:a.taps]
		clear(w)
		for j, v := range k {
			if sum != 0 {
				v /= sum
			}
			if v = float64(v * (1 << precision)); v < 0 {
				w[j] = int32(v - 0.5)
			} else {
				w[j] = int32(v + 0.5)
			}
		}
		a.first[i], a.count[i] = int32(from), int32(len(k))
	}
}

// span returns the source positions that the planned output positions read.
func (a *axis) span() (lo, hi int) {
	last := len(a.first) - 1
	return int(a.first[0]), int(a.first[last] + a.count[last])
}

// view is a rectangle of an image.
type view struct {
	pix           []uint8 // from the first sample of the rectangle
	stride        int     // bytes from row to row
	width, height int
}

func viewOf(m *vision.Image) view { return view{m.Pix, 3 * m.Width, m.Width, m.Height} }

// crop returns the rectangle of m, which must lie within it.
func crop(m *vision.Image, r image.Rectangle) view {
	return view{m.Pix[3*(r.Min.Y*m.Width+r.Min.X):], 3 * m.Width, r.Dx(), r.Dy()}
}

func (v view) row(y int) []uint8 { return v.pix[y*v.stride:][:3*v.width] }

// resampler is the scratch of resizing.
type resampler struct {
	horizontal, vertical axis
	rows                 []uint8 // result of the horizontal pass
	columns              []int   // of nearest
	pairs                []uint32
	plain                bool // leave the vector kernels alone
}

// resize writes the rectangle region, which is within width x height, of src resized to width x height.
// dst holds region.Dx() x region.Dy() pixels in rows of dstStride bytes.
func (r *resampler) resize(dst []uint8, dstStride int, src view, width, height int, region image.Rectangle, how Interpolation, antialias bool) {
	how = how.orDefault()
	if how == Nearest {
		r.nearest(dst, dstStride, src, width, height, region)
		return
	}
	n := 3 * region.Dx()
	f, vector := filters[how], !r.plain && haveVector()
	top, bottom := region.Min.Y, region.Max.Y
	if height != src.height {
		r.vertical.plan(f, antialias, src.height, height, region.Min.Y, region.Max.Y)
		top, bottom = r.vertical.span()
	}
	var rows []uint8 // region's columns of the source rows top to bottom
	var stride int
	if width == src.width {
		rows, stride = src.pix[top*src.stride+3*region.Min.X:], src.stride
	} else {
		r.horizontal.plan(f, antialias, src.width, width, region.Min.X, region.Max.X)
		stride = n
		if height == src.height { // the horizontal pass is the last
			rows, stride = dst, dstStride
		} else {
			r.rows = grow(r.rows, n*(bottom-top))
			rows = r.rows
		}
		if vector {
			r.horizontal.packAlong()
		}
		for y := top; y < bottom; y++ {
			if to := rows[(y-top)*stride:][:n]; vector {
				r.horizontal.alongVector(to, src.row(y), len(src.pix)-y*src.stride)
			} else {
				r.horizontal.along(to, src.row(y), 0)
			}
		}
		if height == src.height {
			return
		}
	}
	if height == src.height {
		for y := range region.Dy() {
			copy(dst[y*dstStride:][:n], rows[y*stride:][:n])
		}
		return
	}
	a := &r.vertical
	for y := range region.Dy() {
		from := int(a.first[y]) - top
		to, weight := dst[y*dstStride:][:n], a.weight[y*a.taps:][:a.count[y]]
		if vector {
			r.pairs = acrossVector(to, rows[from*stride:], stride, weight, r.pairs)
		} else {
			across(to, rows[from*stride:], stride, weight)
		}
	}
}

// half rounds to nearest when precision bits are shifted out.
const half = 1 << (precision - 1)

func clip8(v int32) uint8 {
	v >>= precision
	if uint32(v) > 255 {
		if v < 0 {
			return 0
		}
		return 255
	}
	return uint8(v)
}

// along is the horizontal pass of one row, from position from on.
func (a *axis) along(dst, src []uint8, from int) {
	for i := from; i < len(a.first); i++ {
		if len(dst) < 3 {
			return
		}
		first := a.first[i]
		w := a.weight[i*a.taps:][:a.count[i]]
		s := src[3*int(first):][:3*len(w)]
		r, g, b := int32(half), int32(half), int32(half)
		for _, k := range w {
			if len(s) < 3 {
				break
			}
			r += k * int32(s[0])
			g += k * int32(s[1])
			b += k * int32(s[2])
			s = s[3:]
		}
		dst[0], dst[1], dst[2] = clip8(r), clip8(g), clip8(b)
		dst = dst[3:]
	}
}

// across is the vertical pass of one row: dst[i] = sum of weight[j] * src[i+j*stride]. Eight samples go through four
// 64-bit words, two sums in each: the upper sum is off by the borrow of the lower where that is negative.
func across(dst, src []uint8, stride int, weight []int32) {
	const even = 0x000000ff_000000ff
	i := 0
	for ; i+8 <= len(dst); i += 8 {
		const start = half<<32 | half
		a, b, c, d := int64(start), int64(start), int64(start), int64(start)
		at := i
		for _, k := range weight {
			v := int64(binary.LittleEndian.Uint64(src[at:]))
			at += stride
			a += v & even * int64(k)
			b += v >> 8 & even * int64(k)
			c += v >> 16 & even * int64(k)
			d += v >> 24 & even * int64(k)
		}
		binary.LittleEndian.PutUint64(dst[i:], pair(a)|pair(b)<<8|pair(c)<<16|pair(d)<<24)
	}
	for ; i < len(dst); i++ {
		sum := int32(half)
		for j, k := range weight {
			sum += k * int32(src[i+j*stride])
		}
		dst[i] = clip8(sum)
	}
}

// pair rounds and clips the two sums of a word into its bytes 0 and 4.
func pair(v int64) uint64 {
	lo := int32(v)
	hi := int32((v - int64(lo)) >> 32)
	return uint64(clip8(lo)) | uint64(clip8(hi))<<32
}

// nearest takes the pixel under the centre of each output pixel. The position is accumulated as PIL does it: adding the scale
// again and again rounds differently from a product.
func (r *resampler) nearest(dst []uint8, dstStride int, src view, width, height int, region image.Rectangle) {
	r.columns = grow(r.columns, region.Dx())
	nearestPositions(r.columns, src.width, width, region.Min.X)
	rows := make([]int, region.Dy())
	nearestPositions(rows, src.height, height, region.Min.Y)
	for y, from := range rows {
		out, row := dst[y*dstStride:][:3*region.Dx()], src.row(from)
		for x, column := range r.columns {
			copy(out[3*x:3*x+3], row[3*column:])
		}
	}
}

func nearestPositions(dst []int, in, out, lo int) {
	scale := float64(in) / float64(out)
	at := float64(scale * 0.5)
	for range lo {
		at += scale
	}
	for i := range dst {
		dst[i] = min(int(at), in-1)
		at += scale
	}
}

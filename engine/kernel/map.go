package kernel

import "fmt"

// Format is the form in which a feature map keeps its values. The zero value is F32.
type Format uint8

const (
	// F32 is IEEE float32.
	F32 Format = iota
	// BF16 is one plane of bfloat16: the upper half of a float32.
	BF16
	// Split is two planes of bfloat16. The value is hi + lo, 16 bits of mantissa in as many bytes as a float32.
	Split
)

var formatNames = [...]string{F32: "f32", BF16: "bf16", Split: "split"}

// String returns "f32", "bf16" or "split".
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("format(%d)", uint8(f))
}

// Planes returns how many planes a map has.
func (f Format) Planes() int {
	if f == Split {
		return 2
	}
	return 1
}

// PlaneSize returns the bytes that one value takes in each plane.
func (f Format) PlaneSize() int {
	if f == F32 {
		return 4
	}
	return 2
}

// Size returns the bytes that one value takes, all planes together.
func (f Format) Size() int { return f.Planes() * f.PlaneSize() }

// Map is an NHWC feature map, or a channel block of one, possibly with a border of pixels around each image. It is a
// view: copying a Map copies no values. All strides are in elements, and the same for all planes.
//
// The element of image n, row y, column x, channel c is at Off + n*Image + y*Row + x*Pixel + c, for 0 <= c < C,
// -Pad <= y < H+Pad and -Pad <= x < W+Pad.
type Map struct {
	N, H, W, C int
	Format     Format
	F32        []float32 // the whole buffer if Format is F32
	Hi, Lo     []uint16  // the whole buffers: Hi if Format is BF16, both if it is Split
	Off        int       // element of (n=0, y=0, x=0, c=0)
	Pixel      int       // from pixel to pixel; more than C in a channel block
	Row        int       // from row to row, at least (W+2*Pad)*Pixel
	Image      int       // from image to image, at least (H+2*Pad)*Row
	Pad        int       // border pixels that exist on every side of every image
}

// Layout returns the map of the given shape, dense but for a border of pad pixels, without a buffer. Elements says how
// large a buffer it needs, Over gives it one.
func Layout(format Format, n, h, w, c, pad int) Map { return Spaced(format, n, h, w, c, pad, c) }

// Spaced is Layout with pixels that begin the given number of elements apart, c at least.
func Spaced(format Format, n, h, w, c, pad, pixel int) Map {
	row := (w + 2*pad) * pixel
	return Map{
		N: n, H: h, W: w, C: c, Format: format,
		Off: pad*row + pad*pixel, Pixel: pixel, Row: row, Image: (h + 2*pad) * row, Pad: pad,
	}
}

// NewMap returns a map of zeros on a buffer of its own.
func NewMap(format Format, n, h, w, c, pad int) Map {
	m := Layout(format, n, h, w, c, pad)
	switch format {
	case F32:
		return m.Over(make([]float32, m.Elements()), nil, nil)
	case BF16:
		return m.Over(nil, make([]uint16, m.Elements()), nil)
	default:
		return m.Over(nil, make([]uint16, m.Elements()), make([]uint16, m.Elements()))
	}
}

// Vectors returns n vectors of c float32 as a map of n images of one pixel over buf, of length n*c at least: the form
// of pooled features and logits.
func Vectors(buf []float32, n, c int) Map {
	return Layout(F32, n, 1, 1, c, 0).Over(buf, nil, nil)
}

// Elements returns how many elements each plane of the buffer must have, from its start to the end of the last image.
func (m Map) Elements() int {
	if m.N == 0 || m.H == 0 || m.W == 0 {
		return m.Off
	}
	// The channel block may end before the pixel does; what lies behind it belongs to the buffer all the same.
	return m.index(m.N-1, m.H-1+m.Pad, m.W-1+m.Pad) + m.C
}

// Bytes returns how many bytes all planes of the buffer take together.
func (m Map) Bytes() int { return m.Elements() * m.Format.Size() }

// Over returns the map with the buffers of its format; it panics if one is too small.
func (m Map) Over(f32 []float32, hi, lo []uint16) Map {
	need := m.Elements()
	m.F32, m.Hi, m.Lo = nil, nil, nil
	short := func(have int) {
		if have < need {
			panic(fmt.Sprintf("kernel: a plane of %d elements is too small for a %v map that needs %d", have, m, need))
		}
	}
	switch m.Format {
	case F32:
		short(len(f32))
		m.F32 = f32
	case BF16:
		short(len(hi))
		m.Hi = hi
	default:
		short(len(hi))
		short(len(lo))
		m.Hi, m.Lo = hi, lo
	}
	return m
}

// Rows returns N*H, the number of output rows that kernels divide among workers.
func (m Map) Rows() int { return m.N * m.H }

// Sub returns the channel block [from, to) of the map.
func (m Map) Sub(from, to int) Map {
	if from < 0 || to < from || to > m.C {
		panic(fmt.Sprintf("kernel: channels %d to %d of a map of %d", from, to, m.C))
	}
	m.Off += from
	m.C = to - from
	return m
}

// Images returns the images [from, to) of the map.
func (m Map) Images(from, to int) Map {
	if from < 0 || to < from || to > m.N {
		panic(fmt.Sprintf("kernel: images %d to %d of a map of %d", from, to, m.N))
	}
	m.Off += from * m.Image
	m.N = to - from
	return m
}

// Dense reports whether all values lie together in order, without border or gaps.
func (m Map) Dense() bool {
	return m.Pixel == m.C && (m.H <= 1 && m.N <= 1 || m.Row == m.W*m.Pixel) && (m.N <= 1 || m.Image == m.H*m.Row)
}

// SameShape reports whether both maps have the same N, H, W and C.
func (m Map) SameShape(o Map) bool { return m.N == o.N && m.H == o.H && m.W == o.W && m.C == o.C }

// String describes the shape for messages: "2x56x56x64 f32".
func (m Map) String() string { return fmt.Sprintf("%dx%dx%dx%d %v", m.N, m.H, m.W, m.C, m.Format) }

// At returns one value. It is for tests and for what need not be fast.
func (m Map) At(n, y, x, c int) float32 { return m.value(m.index(n, y, x) + c) }

// Set stores one value, rounded to the format. It is for tests and for what need not be fast.
func (m Map) Set(n, y, x, c int, v float32) { m.setValue(m.index(n, y, x)+c, v) }

// ZeroBorder sets the border of Pad pixels of the images [from, to) to zero, in the C channels of the map.
// Kernels leave the border alone, so a map that is reused for the same shape needs this once.
func (m Map) ZeroBorder(from, to int) {
	if m.Pad == 0 {
		return
	}
	for n := from; n < to; n++ {
		for y := -m.Pad; y < m.H+m.Pad; y++ {
			if y < 0 || y >= m.H {
				m.zeroPixels(m.index(n, y, -m.Pad), m.W+2*m.Pad)
				continue
			}
			m.zeroPixels(m.index(n, y, -m.Pad), m.Pad)
			m.zeroPixels(m.index(n, y, m.W), m.Pad)
		}
	}
}

func (m Map) zeroPixels(at, pixels int) {
	if m.Pixel == m.C { // one run of memory
		m.zero(at, pixels*m.C)
		return
	}
	for ; pixels > 0; pixels-- {
		m.zero(at, m.C)
		at += m.Pixel
	}
}

func (m Map) zero(at, count int) {
	if m.Format == F32 {
		clear(m.F32[at : at+count])
		return
	}
	clear(m.Hi[at : at+count])
	if m.Format == Split {
		clear(m.Lo[at : at+count])
	}
}

// index returns the element of channel 0 of a pixel.
func (m *Map) index(n, y, x int) int { return m.Off + n*m.Image + y*m.Row + x*m.Pixel }

// row returns the element of the first pixel of output row r.
func (m *Map) row(r int) int { return m.Off + r/m.H*m.Image + r%m.H*m.Row }

func (m *Map) value(at int) float32 {
	switch m.Format {
	case F32:
		return m.F32[at]
	case BF16:
		return FromBF16(m.Hi[at])
	default:
		return FromBF16(m.Hi[at]) + FromBF16(m.Lo[at])
	}
}

func (m *Map) setValue(at int, v float32) {
	switch m.Format {
	case F32:
		m.F32[at] = v
	case BF16:
		m.Hi[at] = ToBF16(v)
	default:
		m.Hi[at], m.Lo[at] = ToSplit(v)
	}
}

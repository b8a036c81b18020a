package jpeg

// colour converts the component planes to packed RGB rows at dst.
func (d *decoder) colour(dst []uint8) {
	space, convert := d.space(), fromYCC
	if d.vector {
		convert = fromYCCVector
	}
	for i := range d.comps {
		d.upsampled[i] = grow(d.upsampled[i], d.width+16)
	}
	var rows [4][]uint8
	for y := range d.height {
		for i := range d.comps {
			rows[i] = d.row(i, y)[:d.width]
		}
		out := dst[3*y*d.width:][:3*d.width]
		switch space {
		case gray:
			for x, v := range rows[0] {
				p := out[3*x:][:3]
				p[0], p[1], p[2] = v, v, v
			}
		case rgb:
			r, g, b := rows[0], rows[1][:d.width], rows[2][:d.width]
			for x, v := range r {
				p := out[3*x:][:3]
				p[0], p[1], p[2] = v, g[x], b[x]
			}
		case ycc:
			convert(out, rows[0], rows[1], rows[2])
		case cmyk: // stored inverted: 255 less the ink, so that the samples are light
			for x := range d.width {
				p := out[3*x:][:3]
				p[0], p[1], p[2] = fromLight(rows[0][x], rows[3][x]), fromLight(rows[1][x], rows[3][x]), fromLight(rows[2][x], rows[3][x])
			}
		case ycck: // libjpeg makes 255 less RGB of it, which is inverted again
			convert(out, rows[0], rows[1], rows[2])
			for x := range d.width {
				p := out[3*x:][:3]
				p[0], p[1], p[2] = fromLight(255-p[0], rows[3][x]), fromLight(255-p[1], rows[3][x]), fromLight(255-p[2], rows[3][x])
			}
		}
	}
}

// fromLight is PIL's conversion from CMYK of one ink, v and k being stored inverted.
func fromLight(v, k uint8) uint8 {
	ink, white := 255-int(v), int(k)
	t := ink*white + 128
	return uint8(max(white-((t>>8)+t)>>8, 0))
}

type space uint8

const (
	gray space = iota
	rgb
	ycc
	cmyk
	ycck
)

// space guesses the colour space as libjpeg does.
func (d *decoder) space() space {
	switch len(d.comps) {
	case 1:
		return gray
	case 3:
		switch {
		case d.jfif:
			return ycc
		case d.adobe:
			if d.adobeColour == 0 {
				return rgb
			}
			return ycc
		case d.comps[0].id == 'R' && d.comps[1].id == 'G' && d.comps[2].id == 'B':
			return rgb
		}
		return ycc
	}
	if d.adobe && d.adobeColour != 0 {
		return ycck
	}
	return cmyk
}

// row returns row y of a component at full resolution, valid until the component's next.
func (d *decoder) row(i, y int) []uint8 {
	c := &d.comps[i]
	h, v := d.maxH/c.h, d.maxV/c.v
	at := func(y int) []uint8 { return c.plane[y*c.stride():][:c.width] }
	if h == 1 && v == 1 {
		return at(y)
	}
	dst := d.upsampled[i]
	near := at(y / v)
	switch {
	case h == 2 && v == 1 && c.width > 2:
		doubleAcross(dst, near)
	case h == 1 && v == 2:
		far := at(neighbour(y, c.height))
		bias := 1 + y&1
		for x, n := range near {
			dst[x] = uint8((3*int(n) + int(far[x]) + bias) >> 2)
		}
	case h == 2 && v == 2 && c.width > 2:
		doubleBoth(dst, near, at(neighbour(y, c.height)))
	default:
		for x := range d.width {
			dst[x] = near[x/h]
		}
	}
	return dst
}

// neighbour returns the second nearest row of half of the height to row y: the one above for even rows.
func neighbour(y, height int) int {
	return min(max(y/2-1+2*(y&1), 0), height-1)
}

// doubleAcross doubles the width: each result is 3/4 of the nearer and 1/4 of the farther sample, rounded down and up by turns.
func doubleAcross(dst, src []uint8) {
	last := len(src) - 1
	dst = dst[:2*len(src)]
	dst[0] = src[0]
	dst[1] = uint8((3*int(src[0]) + int(src[1]) + 2) >> 2)
	for i := 1; i < last; i++ {
		v := 3 * int(src[i])
		dst[2*i] = uint8((v + int(src[i-1]) + 1) >> 2)
		dst[2*i+1] = uint8((v + int(src[i+1]) + 2) >> 2)
	}
	dst[2*last] = uint8((3*int(src[last]) + int(src[last-1]) + 1) >> 2)
	dst[2*last+1] = src[last]
}

// doubleBoth is doubleAcross of 3/4 of the nearer and 1/4 of the farther row, rounded once.
func doubleBoth(dst, near, far []uint8) {
	far = far[:len(near)]
	dst = dst[:2*len(near)]
	this := 3*int(near[0]) + int(far[0])
	before := this // makes (3*this + this + 8) >> 4 of the first, as libjpeg has it
	for i := 1; i < len(near); i++ {
		next := 3*int(near[i]) + int(far[i])
		dst[2*i-2] = uint8((3*this + before + 8) >> 4)
		dst[2*i-1] = uint8((3*this + next + 7) >> 4)
		before, this = this, next
	}
	dst[2*len(near)-2] = uint8((3*this + before + 8) >> 4)
	dst[2*len(near)-1] = uint8((4*this + 7) >> 4)
}

// The three sums of a pixel travel in one word: red from bit 26, green from 16 (above its 16 bits of fraction), blue from 36,
// each of 10 bits and offset by limitOffset so that none is negative.
const (
	redAt, greenAt, blueAt = 26, 16, 36
	limitOffset            = 256
	lumaStep               = 1<<redAt | 1<<greenAt | 1<<blueAt
)

// chroma holds what a chroma sample adds to the sums.
type chroma [256]uint64

var fromCb, fromCr = func() (cb, cr *chroma) {
	const half = 1 << 15
	fix := func(x float64) int64 { return int64(x*65536 + 0.5) }
	cb, cr = new(chroma), new(chroma)
	for i := range cb {
		x := int64(i) - 128
		red := (fix(1.40200)*x+half)>>16 + limitOffset
		blue := (fix(1.77200)*x+half)>>16 + limitOffset
		// Green is one sum of both, shifted once: each table carries half of the offset.
		greenCr := -fix(0.71414)*x + limitOffset<<15
		greenCb := -fix(0.34414)*x + half + limitOffset<<15
		cr[i] = uint64(red<<redAt + greenCr)
		cb[i] = uint64(blue<<blueAt + greenCb)
	}
	return cb, cr
}()

// limit clips a sum, offset by limitOffset, to 0..255.
var limit = func() (t [1024]uint8) {
	for i := range t {
		t[i] = uint8(min(max(i-limitOffset, 0), 255))
	}
	return t
}()

// fromYCC converts a row to RGB with libjpeg's 16-bit fixed point arithmetic. dst has three bytes a sample of y.
func fromYCC(dst, y, cb, cr []uint8) {
	cb, cr = cb[:len(y)], cr[:len(y)]
	for i, v := range y {
		if len(dst) < 3 {
			return
		}
		sum := uint64(v)*lumaStep + fromCb[cb[i]] + fromCr[cr[i]]
		dst[0] = limit[sum>>redAt&1023]
		dst[1] = limit[sum>>greenAt&1023]
		dst[2] = limit[sum>>blueAt&1023]
		dst = dst[3:]
	}
}

package transforms

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/vision"
)

// RandAugment applies Ops operations of one strength, drawn from fourteen (Cubuk et al. 2019, arXiv:1909.13719, with torchvision's
// operations and ranges). Zero fields mean torchvision's values: 2 operations of magnitude 9 out of 0..30. Geometric
// operations take the nearest pixel and leave black where there is none.
type RandAugment struct {
	Ops       int
	Magnitude int
}

// bins is the number of magnitudes.
const bins = 31

// operation is one of RandAugment's: strength maps a magnitude to the operation's own unit for an image of the given size.
type operation struct {
	name     string
	strength func(magnitude, width, height int) float64
	signed   bool // the strength is negated half of the time
	apply    adjustment
}

// linear runs from lo to hi over the magnitudes.
func linear(lo, hi float64) func(int, int, int) float64 {
	return func(magnitude, _, _ int) float64 { return lo + (hi-lo)*float64(magnitude)/(bins-1) }
}

func none(int, int, int) float64 { return 0 }

func factorAround1(f adjustment) adjustment {
	return func(dst, src *vision.Image, x float64) { f(dst, src, 1+x) }
}

var operations = [...]operation{
	{"identity", none, false, func(dst, src *vision.Image, _ float64) { copy(dst.Pix, src.Pix) }},
	{"shear x", linear(0, 0.3), true, func(dst, src *vision.Image, x float64) { affine(dst, src, [6]float64{1, x, 0, 0, 1, 0}) }},
	{"shear y", linear(0, 0.3), true, func(dst, src *vision.Image, x float64) { affine(dst, src, [6]float64{1, 0, 0, x, 1, 0}) }},
	{"translate x", func(m, w, _ int) float64 { return 150. / 331 * float64(w) * float64(m) / (bins - 1) }, true,
		func(dst, src *vision.Image, x float64) { affine(dst, src, [6]float64{1, 0, -math.Trunc(x), 0, 1, 0}) }},
	{"translate y", func(m, _, h int) float64 { return 150. / 331 * float64(h) * float64(m) / (bins - 1) }, true,
		func(dst, src *vision.Image, x float64) { affine(dst, src, [6]float64{1, 0, 0, 0, 1, -math.Trunc(x)}) }},
	{"rotate", linear(0, 30), true, rotate},
	{"brightness", linear(0, 0.9), true, factorAround1(brightness)},
	{"color", linear(0, 0.9), true, factorAround1(saturation)},
	{"contrast", linear(0, 0.9), true, factorAround1(contrast)},
	{"sharpness", linear(0, 0.9), true, factorAround1(sharpness)},
	{"posterize", func(m, _, _ int) float64 { return 8 - math.RoundToEven(float64(m)/((bins-1)/4.)) }, false, posterize},
	{"solarize", linear(255, 0), false, solarize},
	{"autocontrast", none, false, autocontrast},
	{"equalize", none, false, equalize},
}

// Apply implements Transform.
func (r RandAugment) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if r.Ops == 0 {
		r.Ops = 2
	}
	if r.Magnitude == 0 {
		r.Magnitude = 9
	}
	if r.Magnitude < 0 || r.Magnitude >= bins || r.Ops < 0 {
		return nil, fmt.Errorf("magnitude %d is not in 0..%d, or %d operations are negative", r.Magnitude, bins-1, r.Ops)
	}
	for range r.Ops {
		op := &operations[s.Rand.IntN(len(operations))]
		x := op.strength(r.Magnitude, img.Width, img.Height)
		if op.signed && s.Rand.IntN(2) == 1 {
			x = -x
		}
		dst := s.image(img.Width, img.Height, img)
		op.apply(dst, img, x)
		img = dst
	}
	return img, nil
}

// affine takes output pixel (x, y) from (m0*x + m1*y + m2, m3*x + m4*y + m5), at pixel centres, in the 16-bit fixed point of PIL.
func affine(dst, src *vision.Image, m [6]float64) {
	fixed := func(v float64) int { return int(math.Floor(v*65536 + 0.5)) }
	stepX, stepY := fixed(m[0]), fixed(m[3])
	rowX, rowY := fixed(m[2]+m[0]*0.5+m[1]*0.5), fixed(m[5]+m[3]*0.5+m[4]*0.5)
	clear(dst.Pix)
	for y := range dst.Height {
		atX, atY := rowX, rowY
		row := dst.Pix[3*y*dst.Width:][:3*dst.Width]
		for x := 0; x < len(row); x += 3 {
			i, j := atX>>16, atY>>16
			if uint(i) < uint(src.Width) && uint(j) < uint(src.Height) {
				copy(row[x:x+3], src.Pix[3*(j*src.Width+i):])
			}
			atX += stepX
			atY += stepY
		}
		rowX += fixed(m[1])
		rowY += fixed(m[4])
	}
}

// rotate turns anticlockwise around the centre.
func rotate(dst, src *vision.Image, degrees float64) {
	degrees = math.Mod(degrees, 360)
	if degrees < 0 {
		degrees += 360
	}
	if degrees == 0 {
		copy(dst.Pix, src.Pix)
		return
	}
	round := func(v float64) float64 { return math.Round(v*1e15) / 1e15 }
	angle := -degrees * math.Pi / 180
	cos, sin := round(math.Cos(angle)), round(math.Sin(angle))
	cx, cy := float64(src.Width)/2, float64(src.Height)/2
	affine(dst, src, [6]float64{cos, sin, -cos*cx - sin*cy + cx, -sin, cos, sin*cx - cos*cy + cy})
}

// posterize keeps the given number of high bits.
func posterize(dst, src *vision.Image, bits float64) {
	mask := ^uint8(1<<(8-int(bits)) - 1)
	for i, v := range src.Pix {
		dst.Pix[i] = v & mask
	}
}

// solarize inverts samples at or above the threshold.
func solarize(dst, src *vision.Image, threshold float64) {
	var t [256]uint8
	for v := range t {
		t[v] = uint8(v)
		if float64(v) >= threshold {
			t[v] = 255 - uint8(v)
		}
	}
	mapSamples(dst, src, &t)
}

// perChannel maps each channel by the table that makeTable returns for its histogram, nil for no change.
func perChannel(dst, src *vision.Image, makeTable func(histogram *[256]int) *[256]uint8) {
	copy(dst.Pix, src.Pix)
	for c := range 3 {
		var histogram [256]int
		for i := c; i < len(src.Pix); i += 3 {
			histogram[src.Pix[i]]++
		}
		t := makeTable(&histogram)
		if t == nil {
			continue
		}
		for i := c; i < len(src.Pix); i += 3 {
			dst.Pix[i] = t[src.Pix[i]]
		}
	}
}

// autocontrast stretches each channel to 0..255.
func autocontrast(dst, src *vision.Image, _ float64) {
	perChannel(dst, src, func(histogram *[256]int) *[256]uint8 {
		lo, hi := 0, 255
		for lo < 255 && histogram[lo] == 0 {
			lo++
		}
		for hi > 0 && histogram[hi] == 0 {
			hi--
		}
		if hi <= lo {
			return nil
		}
		scale := 255 / float64(hi-lo)
		offset := float64(-float64(lo) * scale)
		t := new([256]uint8)
		for v := range t {
			t[v] = uint8(min(max(int(float64(float64(v)*scale)+offset), 0), 255))
		}
		return t
	})
}

// equalize makes the histogram of each channel flat.
func equalize(dst, src *vision.Image, _ float64) {
	perChannel(dst, src, func(histogram *[256]int) *[256]uint8 {
		used, sum, last := 0, 0, 0
		for _, n := range histogram {
			if n != 0 {
				used, sum, last = used+1, sum+n, n
			}
		}
		step := (sum - last) / 255
		if used <= 1 || step == 0 {
			return nil
		}
		t := new([256]uint8)
		n := step / 2
		for v := range t {
			t[v] = uint8(min(n/step, 255))
			n += histogram[v]
		}
		return t
	})
}

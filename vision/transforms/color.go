package transforms

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/vision"
)

// ColorJitter changes brightness, contrast, saturation and hue in random order. Each of the first three is a half range around
// factor 1 (drawn from max(0, 1-x) to 1+x), Hue a half range around 0 of at most 0.5 turns; 0 leaves the property alone.
type ColorJitter struct{ Brightness, Contrast, Saturation, Hue float64 }

// Apply implements Transform.
func (j ColorJitter) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if min(j.Brightness, j.Contrast, j.Saturation, j.Hue) < 0 || j.Hue > 0.5 {
		return nil, fmt.Errorf("%+v is out of range: want 0 or more, hue at most 0.5", j)
	}
	steps := [...]struct {
		strength float64
		adjust   adjustment
	}{{j.Brightness, brightness}, {j.Contrast, contrast}, {j.Saturation, saturation}, {j.Hue, hue}}
	for _, i := range s.Rand.Perm(len(steps)) {
		step := steps[i]
		if step.strength == 0 {
			continue
		}
		factor := s.uniform(max(0, 1-step.strength), 1+step.strength)
		if i == 3 {
			factor = s.uniform(-step.strength, step.strength)
		}
		dst := s.image(img.Width, img.Height, img)
		step.adjust(dst, img, factor)
		img = dst
	}
	return img, nil
}

// adjustment writes src, changed by a factor, to dst, which has its size.
type adjustment func(dst, src *vision.Image, factor float64)

// blend is PIL's Image.blend of one sample: a factor of 0 gives degenerate, 1 gives v, beyond is extrapolated and clipped.
func blend(degenerate, v uint8, factor float32) uint8 {
	x := float32(degenerate) + float32(factor*float32(int(v)-int(degenerate)))
	return uint8(min(max(x, 0), 255))
}

// blendTable tabulates blend for a constant degenerate.
func blendTable(degenerate uint8, factor float64) (t [256]uint8) {
	for v := range t {
		t[v] = blend(degenerate, uint8(v), float32(factor))
	}
	return t
}

func mapSamples(dst, src *vision.Image, t *[256]uint8) {
	to := dst.Pix[:len(src.Pix)]
	for i, v := range src.Pix {
		to[i] = t[v]
	}
}

// brightness blends with black.
func brightness(dst, src *vision.Image, factor float64) {
	t := blendTable(0, factor)
	mapSamples(dst, src, &t)
}

// contrast blends with the mean gray.
func contrast(dst, src *vision.Image, factor float64) {
	sum := 0
	for i := 0; i+3 <= len(src.Pix); i += 3 {
		sum += int(luma(src.Pix[i : i+3]))
	}
	t := blendTable(uint8(float64(sum)/float64(src.Width*src.Height)+0.5), factor)
	mapSamples(dst, src, &t)
}

// saturation blends with the gray image.
func saturation(dst, src *vision.Image, factor float64) {
	f := float32(factor)
	for i := 0; i+3 <= len(src.Pix); i += 3 {
		p, q := src.Pix[i:i+3], dst.Pix[i:i+3]
		gray := luma(p)
		q[0], q[1], q[2] = blend(gray, p[0], f), blend(gray, p[1], f), blend(gray, p[2], f)
	}
}

// sharpness blends with the image smoothed by (1 1 1, 1 5 1, 1 1 1)/13, the border left as it is.
func sharpness(dst, src *vision.Image, factor float64) {
	f, stride := float32(factor), 3*src.Width
	copy(dst.Pix, src.Pix)
	for y := 1; y < src.Height-1; y++ {
		for i := y*stride + 3; i < (y+1)*stride-3; i++ {
			sum := 4 * int(src.Pix[i])
			for _, row := range [3]int{i - stride, i, i + stride} {
				sum += int(src.Pix[row-3]) + int(src.Pix[row]) + int(src.Pix[row+3])
			}
			dst.Pix[i] = blend(uint8((2*sum+13)/26), src.Pix[i], f)
		}
	}
}

// hue turns the hue by a part of a circle, through PIL's 8-bit HSV.
func hue(dst, src *vision.Image, turn float64) {
	shift := uint8(int(turn * 255))
	for i := 0; i+3 <= len(src.Pix); i += 3 {
		p, q := src.Pix[i:i+3], dst.Pix[i:i+3]
		h, s, v := toHSV(p[0], p[1], p[2])
		q[0], q[1], q[2] = fromHSV(h+shift, s, v)
	}
}

// toHSV converts as PIL does, in single precision where it does.
func toHSV(r, g, b uint8) (h, s, v uint8) {
	top, bottom := max(r, g, b), min(r, g, b)
	if top == bottom {
		return 0, 0, top
	}
	spread := float32(top - bottom)
	rc, gc, bc := float32(top-r)/spread, float32(top-g)/spread, float32(top-b)/spread
	var angle float32
	switch top {
	case r:
		angle = bc - gc
	case g:
		angle = float32(2 + float64(rc) - float64(bc))
	default:
		angle = float32(4 + float64(gc) - float64(rc))
	}
	angle = float32(math.Mod(float64(angle)/6+1, 1))
	return uint8(float64(angle) * 255), uint8(float64(spread/float32(top)) * 255), top
}

func fromHSV(h, s, v uint8) (r, g, b uint8) {
	if s == 0 {
		return v, v, v
	}
	turn := float64(h) * 6 / 255
	sector := math.Floor(turn)
	f := float32(turn - sector)
	fs := float32(float64(s) / 255)
	part := func(x float64) uint8 { return uint8(min(max(math.Round(float64(v)*x), 0), 255)) }
	p, q, t := part(1-float64(fs)), part(1-float64(fs*f)), part(1-float64(float64(fs)*(1-float64(f))))
	switch int(sector) % 6 {
	case 0:
		return v, t, p
	case 1:
		return q, v, p
	case 2:
		return p, v, t
	case 3:
		return p, q, v
	case 4:
		return t, p, v
	}
	return v, p, q
}

package kernel

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// chunk is how many values the plain Go kernels widen at a time, into arrays on the stack.
const chunk = 256

// load widens len(dst) values from element at on.
func (m *Map) load(dst []float32, at int) {
	switch m.Format {
	case F32:
		copy(dst, m.F32[at:at+len(dst)])
	case BF16:
		FromBF16s(dst, m.Hi[at:at+len(dst)])
	default:
		FromSplits(dst, m.Hi[at:at+len(dst)], m.Lo[at:at+len(dst)])
	}
}

// store rounds the values of src to the format, from element at on.
func (m *Map) store(at int, src []float32) {
	switch m.Format {
	case F32:
		copy(m.F32[at:at+len(src)], src)
	case BF16:
		ToBF16s(m.Hi[at:at+len(src)], src)
	default:
		ToSplits(m.Hi[at:at+len(src)], m.Lo[at:at+len(src)], src)
	}
}

func mustMatch(op string, dst *Map, srcs ...*Map) {
	for _, s := range srcs {
		if !dst.SameShape(*s) {
			panic(fmt.Sprintf("kernel: %s of %v into %v", op, *s, *dst))
		}
	}
}

// span is how a range of rows is walked: count steps, each of pixels x channels values. Where the maps are dense the
// pixels of a row, and the rows, join into one long run.
type span struct{ count, pixels, channels int }

// spanOf returns the longest runs in which rows [from, to) of all maps can be walked.
func spanOf(from, to int, maps ...*Map) span {
	m := maps[0]
	s := span{max(to-from, 0), m.W, m.C}
	dense := true
	for _, m := range maps {
		if m.Pixel != m.C {
			return s
		}
		dense = dense && m.Dense()
	}
	s.pixels, s.channels = 1, s.pixels*s.channels
	if dense && s.count > 0 {
		s.channels *= s.count
		s.count = 1
	}
	return s
}

// Convert copies rows [from, to) of src into dst, rounding or widening to the format of dst.
func Convert(tier cpu.Tier, dst, src Map, from, to int) {
	Activate(tier, dst, src, None, from, to)
}

// Activate stores act(src) into rows [from, to) of dst, which may be src and may have another format. Where the formats
// differ there is assembly only if one of them is float32 and act clips or is None: no network needs more.
func Activate(tier cpu.Tier, dst, src Map, act Activation, from, to int) {
	mustMatch("activation", &dst, &src)
	k := unaryKernels[levelOf(tier)][activationClass[act]][src.Format][dst.Format]
	lo, hi, _ := act.bounds()
	s := spanOf(from, to, &dst, &src)
	for i := range s.count {
		d, x := dst.row(from+i), src.row(from+i)
		if k != nil && s.channels > 0 {
			dh, dl := dst.ptr(d)
			xh, xl := src.ptr(x)
			k(dh, dl, xh, xl, dst.Pixel, src.Pixel, s.pixels, s.channels, lo, hi)
			continue
		}
		activateGo(&dst, d, &src, x, s, act)
	}
}

func activateGo(dst *Map, d int, src *Map, x int, s span, act Activation) {
	var buf [chunk]float32
	for range s.pixels {
		for c := 0; c < s.channels; c += chunk {
			v := buf[:min(chunk, s.channels-c)]
			src.load(v, x+c)
			act.applyAll(v)
			dst.store(d+c, v)
		}
		d += dst.Pixel
		x += src.Pixel
	}
}

func (a Activation) applyAll(v []float32) {
	if a == None {
		return
	}
	for i, x := range v {
		v[i] = a.Apply(x)
	}
}

// Add stores act(a + b) into rows [from, to) of dst, which may be a or b. All three have one format.
func Add(tier cpu.Tier, dst, a, b Map, act Activation, from, to int) {
	mustMatch("sum", &dst, &a, &b)
	mustFormat("sum", &dst, &a, &b)
	lo, hi, clip := act.bounds()
	k := addKernels[levelOf(tier)][dst.Format]
	s := spanOf(from, to, &dst, &a, &b)
	for i := range s.count {
		d, x, y := dst.row(from+i), a.row(from+i), b.row(from+i)
		if k == nil || s.channels == 0 {
			addGo(&dst, d, &a, x, &b, y, s, act)
			continue
		}
		dh, dl := dst.ptr(d)
		xh, xl := a.ptr(x)
		yh, yl := b.ptr(y)
		k(dh, dl, xh, xl, yh, yl, dst.Pixel, a.Pixel, b.Pixel, s.pixels, s.channels, lo, hi)
		if !clip {
			Activate(tier, dst, dst, act, from+i, from+i+(to-from)/s.count)
		}
	}
}

func addGo(dst *Map, d int, a *Map, x int, b *Map, y int, s span, act Activation) {
	var buf, other [chunk]float32
	for range s.pixels {
		for c := 0; c < s.channels; c += chunk {
			v, w := buf[:min(chunk, s.channels-c)], other[:min(chunk, s.channels-c)]
			a.load(v, x+c)
			b.load(w, y+c)
			for i := range v {
				v[i] += w[i]
			}
			act.applyAll(v)
			dst.store(d+c, v)
		}
		d += dst.Pixel
		x += a.Pixel
		y += b.Pixel
	}
}

// Affine stores act(src*scale + shift + residual) into rows [from, to) of dst, which may be src or residual. All maps
// have one format, except that a source of float32 may be scaled into another format where there is neither shift nor residual.
//
// scale and shift hold a value per channel: image n takes them from n*stride on, so stride is 0 where all images share
// one vector (layer scale, a batch norm that could not be folded) and at least C where each has its own (squeeze and
// excitation). shift may be nil, residual may be nil.
func Affine(tier cpu.Tier, dst, src Map, scale, shift []float32, stride int, residual *Map, act Activation, from, to int) {
	mustMatch("affine map", &dst, &src)
	if src.Format != F32 || shift != nil || residual != nil {
		mustFormat("affine map", &dst, &src)
	}
	if residual != nil {
		mustMatch("affine map", &dst, residual)
		mustFormat("affine map", &dst, residual)
	}
	lo, hi, clip := act.bounds()
	k := affineKernel(tier, src.Format, dst.Format, shift != nil, residual != nil)
	s := span{to - from, dst.W, dst.C}
	for r := from; r < to; r++ {
		at := r / dst.H * stride
		scale := scale[at : at+dst.C]
		var shifts []float32
		if shift != nil {
			shifts = shift[at : at+dst.C]
		}
		d, x, y, yPixel := dst.row(r), src.row(r), 0, 0
		if residual != nil {
			y, yPixel = residual.row(r), residual.Pixel
		}
		if k == nil || dst.C == 0 || dst.W == 0 {
			affineGo(&dst, d, &src, x, scale, shifts, residual, y, s, act)
			continue
		}
		dh, dl := dst.ptr(d)
		xh, xl := src.ptr(x)
		yh, yl := xh, xl
		if residual != nil {
			yh, yl = residual.ptr(y)
		}
		k(dh, dl, xh, xl, yh, yl, floats(scale), floats(shifts), dst.Pixel, src.Pixel, yPixel, dst.W, dst.C, lo, hi)
		if !clip {
			Activate(tier, dst, dst, act, r, r+1)
		}
	}
}

func affineGo(dst *Map, d int, src *Map, x int, scale, shift []float32, residual *Map, y int, s span, act Activation) {
	var buf, other [chunk]float32
	for range s.pixels {
		for c := 0; c < s.channels; c += chunk {
			n := min(chunk, s.channels-c)
			v := buf[:n]
			src.load(v, x+c)
			for i, g := range scale[c : c+n] {
				v[i] *= g
			}
			if shift != nil {
				for i, b := range shift[c : c+n] {
					v[i] += b
				}
			}
			if residual != nil {
				w := other[:n]
				residual.load(w, y+c)
				for i := range v {
					v[i] += w[i]
				}
			}
			act.applyAll(v)
			dst.store(d+c, v)
		}
		d += dst.Pixel
		x += src.Pixel
		if residual != nil {
			y += residual.Pixel
		}
	}
}

func mustFormat(op string, dst *Map, srcs ...*Map) {
	for _, s := range srcs {
		if s.Format != dst.Format {
			panic(fmt.Sprintf("kernel: %s of %v into %v: the formats differ", op, *s, *dst))
		}
	}
}

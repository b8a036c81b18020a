package kernel

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// LayerNorm normalises each pixel of rows [from, to) over its channels, as torch.nn.LayerNorm over the last dimension
// does: (x - mean) / sqrt(variance + eps) * gamma + beta, with the variance of the population and the mean taken first.
// gamma and beta have C values. dst may be src; both have one format.
func LayerNorm(tier cpu.Tier, dst, src Map, gamma, beta []float32, eps float32, from, to int) {
	mustMatch("layer norm", &dst, &src)
	mustFormat("layer norm", &dst, &src)
	gamma, beta = gamma[:src.C], beta[:src.C]
	if src.C == 0 || src.W == 0 {
		return
	}
	k := normKernels[levelOf(tier)][src.Format]
	for r := from; r < to; r++ {
		d, x := dst.row(r), src.row(r)
		if k == nil {
			layerNormGo(&dst, d, &src, x, gamma, beta, eps)
			continue
		}
		dh, dl := dst.ptr(d)
		xh, xl := src.ptr(x)
		k(dh, dl, xh, xl, floats(gamma), floats(beta), dst.Pixel, src.Pixel, src.W, src.C, eps)
	}
}

func layerNormGo(dst *Map, d int, src *Map, x int, gamma, beta []float32, eps float32) {
	var buf [chunk]float32
	each := func(f func(c int, v []float32)) {
		for c := 0; c < src.C; c += chunk {
			v := buf[:min(chunk, src.C-c)]
			src.load(v, x+c)
			f(c, v)
		}
	}
	for range src.W {
		var sum, squares float64
		each(func(_ int, v []float32) {
			for _, x := range v {
				sum += float64(x)
			}
		})
		mean := sum / float64(src.C)
		each(func(_ int, v []float32) {
			for _, x := range v {
				squares += (float64(x) - mean) * (float64(x) - mean)
			}
		})
		inverse := 1 / math.Sqrt(squares/float64(src.C)+float64(eps))
		each(func(c int, v []float32) {
			for i, x := range v {
				v[i] = float32((float64(x)-mean)*inverse)*gamma[c+i] + beta[c+i]
			}
			dst.store(d+c, v)
		})
		d += dst.Pixel
		x += src.Pixel
	}
}

// LRNScratch returns the length of the scratch that LRN needs, in float32.
func LRNScratch(c, size int) int { return 2*c + size }

// LRN stores the local response normalisation over size channels of rows [from, to) of src into dst, which may be src:
// x / (k + alpha/size * sum of squares)^beta, the sum over channels c-size/2 .. c+(size-1)/2 (torch.nn.LocalResponseNorm).
// Both maps have one format.
func LRN(tier cpu.Tier, dst, src Map, size int, alpha, beta, k float32, from, to int, scratch []float32) {
	mustMatch("local response norm", &dst, &src)
	mustFormat("local response norm", &dst, &src)
	c := src.C
	if c == 0 || size < 1 {
		return
	}
	x, squares := scratch[:c], scratch[c:2*c+size-1]
	before := size / 2
	clear(squares[:before])
	clear(squares[before+c:])
	level := levelOf(tier)
	kernel := lrnKernels[level]
	if beta != 0.75 {
		kernel = nil
	}
	inf := float32(math.Inf(1))
	for r := from; r < to; r++ {
		d, s := dst.row(r), src.row(r)
		for range src.W {
			if kernel != nil {
				dh, dl := dst.ptr(d)
				sh, sl := src.ptr(s)
				unaryKernels[level][classClip][src.Format][F32](floats(x), nil, sh, sl, 0, 0, 1, c, -inf, inf)
				kernel(floats(x), floats(squares), c, before, size, alpha/float32(size), k)
				unaryKernels[level][classClip][F32][dst.Format](dh, dl, floats(x), nil, 0, 0, 1, c, -inf, inf)
			} else {
				src.load(x, s)
				lrnGo(x, squares, before, size, alpha/float32(size), beta, k)
				dst.store(d, x)
			}
			d += dst.Pixel
			s += src.Pixel
		}
	}
}

// lrnGo normalises the channels x of one pixel. squares has room for their squares from before on, among zeros.
func lrnGo(x, squares []float32, before, size int, alpha, beta, k float32) {
	for i, v := range x {
		squares[before+i] = v * v
	}
	for i, v := range x {
		var sum float32
		for _, q := range squares[i : i+size] {
			sum += q
		}
		x[i] = v * lrnFactor(k+alpha*sum, beta)
	}
}

// lrnFactor returns v to the power of -beta; 0.75 is the value of every published network.
func lrnFactor(v, beta float32) float32 {
	if beta == 0.75 {
		root := math.Sqrt(float64(v))
		return float32(1 / (root * math.Sqrt(root)))
	}
	return float32(math.Pow(float64(v), -float64(beta)))
}

// Softmax stores the softmax of each of rows vectors of columns values of src into dst, which may be src. A row that
// holds not-a-number, or infinities of which it is not defined, becomes not-a-number. What should be less than 2e-38 may be as much.
//
// It is for programs that compute with probabilities, in float32. The one place for those that are shown is classifier.Softmax, and losses
// are computed from logits; both in float64.
func Softmax(tier cpu.Tier, dst, src []float32, rows, columns int) {
	if len(dst) < rows*columns || len(src) < rows*columns {
		panic(fmt.Sprintf("kernel: softmax of %dx%d from %d into %d values", rows, columns, len(src), len(dst)))
	}
	for r := range rows {
		softmax(tier, dst[r*columns:(r+1)*columns], src[r*columns:(r+1)*columns])
	}
}

func softmax(tier cpu.Tier, dst, src []float32) {
	if len(src) == 0 {
		return
	}
	top := src[0]
	for _, v := range src[1:] {
		if v > top || v != v {
			top = v
		}
	}
	for i, v := range src {
		dst[i] = v - top
	}
	expInPlace(tier, dst)
	var sum float64
	for _, v := range dst {
		sum += float64(v)
	}
	inverse := float32(1 / sum)
	for i := range dst {
		dst[i] *= inverse
	}
}

// expInPlace replaces numbers that are at most 0 by e to their power, within 1e-7 of it; below -87, where they are next to nothing, by
// that of -87 or 0.
func expInPlace(tier cpu.Tier, v []float32) {
	if k := expKernels[levelOf(tier)]; k != nil {
		k(floats(v), nil, floats(v), nil, 0, 0, 1, len(v), 0, 0)
		return
	}
	for i, x := range v {
		v[i] = float32(math.Exp(float64(x)))
	}
}

package grad

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// level is a set of assembly kernels.
type level uint8

const (
	levelGo level = iota
	levelAVX2
	levelAVX512
	levels
)

func levelOf(t cpu.Tier) level {
	switch {
	case !haveAssembly:
		return levelGo
	case t >= cpu.AVX512:
		return levelAVX512
	case t == cpu.AVX2:
		return levelAVX2
	default:
		return levelGo
	}
}

// The signatures of the assembly kernels. Steps are in elements; counts are above zero.
type (
	axpyFunc       func(dst, x unsafe.Pointer, dstStep, xStep, pixels, channels int, a float32)
	fmaFunc        func(dst, x, w unsafe.Pointer, dstStep, pixels, channels int)
	correlateFunc  func(dst, x, w unsafe.Pointer, dstStep, xStep, rowStep, tapStep, wRow, wTap, rows, columns, pixels, channels int)
	dotFunc        func(acc, x, y unsafe.Pointer, xStep, yStep, pixels, channels int)
	maxFunc        func(y, arg, x unsafe.Pointer, first, perRow, rows, columns, rowStep, columnStep, outStep, pixels, channels int)
	whereFunc      func(dst, x, arg unsafe.Pointer, tap, dstStep, pixels, channels int)
	blendFunc      func(dst, dy, x, fromDY, fromX, constant unsafe.Pointer, pixels, channels int)
	layerNormFunc  func(dx, dy, x, gamma, dgamma, dbeta unsafe.Pointer, pixels, channels int, eps float32)
	mixFunc        func(acc, x, factors unsafe.Pointer, xStep, factorStep, rows, columns int)
	innerFunc      func(sums, w, x unsafe.Pointer, wStep, columns int)
	activationFunc func(dx, dy, x unsafe.Pointer, count int)
	sgdFunc        func(weights, grad, velocity unsafe.Pointer, count int, lr, decay, momentum, damp, nesterov, direct float32)
	adamFunc       func(weights, grad, mean, square unsafe.Pointer, count int, keep, decay, beta1, rest1, beta2, rest2, step, root, eps float32)
)

func floats(v []float32) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v)) }

func activationKernel(t cpu.Tier, act kernel.Activation) activationFunc {
	if int(act) >= len(activationKernels[0]) {
		return nil
	}
	return activationKernels[levelOf(t)][act]
}

// axpyPixels adds a*x to dst, for pixels of channels values.
func axpyPixels(tier cpu.Tier, dst []float32, dstStep int, x []float32, xStep int, a float32, pixels, channels int) {
	if pixels == 0 || channels == 0 {
		return
	}
	if k := axpyKernels[levelOf(tier)]; k != nil {
		k(floats(dst), floats(x), dstStep, xStep, pixels, channels, a)
		return
	}
	for p := range pixels {
		d := dst[p*dstStep:][:channels]
		for i, v := range x[p*xStep:][:channels] {
			d[i] += a * v
		}
	}
}

// fmaPixels adds x*w to dst, for dense pixels of len(w) channels of x.
func fmaPixels(tier cpu.Tier, dst []float32, dstStep int, x, w []float32, pixels int) {
	c := len(w)
	if k := fmaKernels[levelOf(tier)]; k != nil && c > 0 && pixels > 0 {
		k(floats(dst), floats(x), floats(w), dstStep, pixels, c)
		return
	}
	for p := range pixels {
		d := dst[p*dstStep:][:c]
		for i, v := range x[p*c:][:c] {
			d[i] += v * w[i]
		}
	}
}

// dotPixels adds the sum over the pixels of x*y to acc, per channel.
func dotPixels(tier cpu.Tier, acc, x []float32, xStep int, y []float32, yStep, pixels int) {
	if k := dotKernels[levelOf(tier)]; k != nil && len(acc) > 0 && pixels > 0 {
		k(floats(acc), floats(x), floats(y), xStep, yStep, pixels, len(acc))
		return
	}
	for p := range pixels {
		y := y[p*yStep:][:len(acc)]
		for i, v := range x[p*xStep:][:len(acc)] {
			acc[i] += v * y[i]
		}
	}
}

// sumPixels adds the sum over the pixels of x to sum, per channel.
func sumPixels(tier cpu.Tier, sum, x []float32, step, pixels int) {
	if len(sum) == 0 || pixels == 0 || callSum(levelOf(tier), floats(sum), floats(x), step, pixels, len(sum)) {
		return
	}
	for p := range pixels {
		for i, v := range x[p*step:][:len(sum)] {
			sum[i] += v
		}
	}
}

// squaresPixels adds the sums over the pixels of (x-mean)^2 and of x-mean to sum and rest, per channel.
func squaresPixels(tier cpu.Tier, sum, rest, x, mean []float32, step, pixels int) {
	if len(sum) == 0 || pixels == 0 || callSquares(levelOf(tier), floats(sum), floats(rest), floats(x), floats(mean), step, pixels, len(sum)) {
		return
	}
	for p := range pixels {
		for i, v := range x[p*step:][:len(sum)] {
			d := v - mean[i]
			sum[i] += d * d
			rest[i] += d
		}
	}
}

// pairPixels adds the sums over the pixels of dy and of dy*(x-mean) to sum and sumX, per channel.
func pairPixels(tier cpu.Tier, sum, sumX, dy, x, mean []float32, step, pixels int) {
	if len(sum) == 0 || pixels == 0 || callPair(levelOf(tier), floats(sum), floats(sumX), floats(dy), floats(x), floats(mean), step, pixels, len(sum)) {
		return
	}
	for p := range pixels {
		x := x[p*step:][:len(sum)]
		for i, g := range dy[p*step:][:len(sum)] {
			sum[i] += g
			sumX[i] += g * (x[i] - mean[i])
		}
	}
}

// maxWindow is the part of a pooling window that lies inside the image: rows x columns taps, the first one number first
// and one row later the number perRow more; steps are in elements.
type maxWindow struct {
	first, perRow, rows, columns, rowStep, columnStep, outStep int
}

// pixels stores the maxima of the windows of count outputs into y and the numbers of their taps into arg.
func (w *maxWindow) pixels(tier cpu.Tier, y []float32, arg []uint8, x []float32, count, channels int) {
	if k := maxKernels[levelOf(tier)]; k != nil && channels > 0 {
		k(floats(y), unsafe.Pointer(unsafe.SliceData(arg)), floats(x), w.first, w.perRow, w.rows, w.columns, w.rowStep, w.columnStep, w.outStep, count, channels)
		return
	}
	for p := range count {
		y, arg := y[p*channels:][:channels], arg[p*channels:][:channels]
		for ky := range w.rows {
			for kx := range w.columns {
				tap := uint8(w.first + ky*w.perRow + kx)
				for i, v := range x[p*w.outStep+ky*w.rowStep+kx*w.columnStep:][:channels] {
					if ky == 0 && kx == 0 || v > y[i] || v != v {
						y[i], arg[i] = v, tap
					}
				}
			}
		}
	}
}

// wherePixels adds the dense pixels of x to dst where arg is tap.
func wherePixels(tier cpu.Tier, dst, x []float32, arg []uint8, tap uint8, dstStep, pixels, channels int) {
	if k := whereKernels[levelOf(tier)]; k != nil && pixels > 0 && channels > 0 {
		k(floats(dst), floats(x), unsafe.Pointer(unsafe.SliceData(arg)), int(tap), dstStep, pixels, channels)
		return
	}
	for p := range pixels {
		dst, x := dst[p*dstStep:][:channels], x[p*channels:][:channels]
		for i, a := range arg[p*channels:][:channels] {
			if a == tap {
				dst[i] += x[i]
			}
		}
	}
}

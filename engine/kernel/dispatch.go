package kernel

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// level is a set of assembly kernels. There is one more than tiers: rounding to bfloat16 has an instruction of its own
// that cpu.AMX implies and cpu.AVX512 does not; it is used where maps of bfloat16 are.
type level uint8

const (
	levelGo level = iota
	levelAVX2
	levelAVX512
	levelBF16 // AVX-512 with VCVTNEPS2BF16
	levels
)

func levelOf(t cpu.Tier) level {
	if !haveAssembly {
		return levelGo
	}
	switch {
	case t >= cpu.AMX, t == cpu.AVX512 && cpu.FastBF16():
		return levelBF16
	case t == cpu.AVX512:
		return levelAVX512
	case t == cpu.AVX2:
		return levelAVX2
	default:
		return levelGo
	}
}

// The signatures of the assembly kernels. A map comes as two pointers, the plane of an F32 or BF16 map or the hi and lo
// planes of a Split map (else the second is not read); steps from pixel to pixel are in elements. Kernels walk pixels x
// channels values and accept any number of channels above zero.
type (
	// unaryFunc stores clip(act(x), lo, hi).
	unaryFunc func(dst, dst2, x, x2 unsafe.Pointer, dstStep, xStep, pixels, channels int, lo, hi float32)
	// addFunc stores clip(x+y, lo, hi).
	addFunc func(dst, dst2, x, x2, y, y2 unsafe.Pointer, dstStep, xStep, yStep, pixels, channels int, lo, hi float32)
	// affineFunc stores clip(x*scale + shift + y, lo, hi); variants without shift or y do not read them.
	affineFunc func(dst, dst2, x, x2, y, y2, scale, shift unsafe.Pointer, dstStep, xStep, yStep, pixels, channels int, lo, hi float32)
	// sumFunc adds the pixels of x to sum, float32[channels].
	sumFunc func(sum, x, x2 unsafe.Pointer, xStep, pixels, channels int)
	// downFunc reduces rows rows, rowStep elements apart, to a dense row of float32.
	downFunc func(dst, x, x2 unsafe.Pointer, xStep, rowStep, rows, pixels, channels int)
	// alongFunc reduces taps pixels of float32, tapStep elements apart, for each of pixels outputs outStep apart.
	alongFunc func(dst, x unsafe.Pointer, dstStep, tapStep, outStep, taps, pixels, channels int, scale float32)
	// depthwiseFunc convolves rows of float32, see Depthwise. dstRow and xRow are from output row to output row, rowStep
	// is from row to row of the window.
	depthwiseFunc func(dst, x, weights, bias unsafe.Pointer, dstStep, dstRow, xStep, rowStep, xRow, rows, pixels, channels int, lo, hi float32)
	// depthwiseIntoFunc is depthwiseFunc for a destination of any format, whose steps and rows are in bytes, with the activation of a
	// class (classClip, classHardSwish or classSiLU) and with the sum of each row unless sums is nil; sumRow is from one to the next.
	depthwiseIntoFunc func(dst, dst2, x, weights, bias, sums unsafe.Pointer, dstStep, dstRow, xStep, rowStep, xRow, sumRow, rows, pixels, channels, format, class int, lo, hi float32)
	// depthwiseAnyFunc is depthwiseFunc for any window and stride; tapStep is from column to column of the window,
	// xStep from the window of one output to the next.
	depthwiseAnyFunc func(dst, x, weights, bias unsafe.Pointer, dstStep, dstRow, xStep, rowStep, xRow, tapStep, kernelH, kernelW, rows, pixels, channels int, lo, hi float32)
	// gatherFunc widens rows of pixels of at most one register of channels, or of exactly two, into whole registers.
	gatherFunc func(dst, x, x2 unsafe.Pointer, xStep, xRow, dstStep, dstRow, rows, pixels, channels int)
	// scatterFunc rounds rows of pixels, xStep apart and without gaps between the rows, into at most one register of
	// channels or exactly two, and stores the sum of each row into sums unless that is nil.
	scatterFunc func(dst, dst2, x, sums unsafe.Pointer, dstStep, dstRow, xStep, sumRow, rows, pixels, channels int)
	// prefetchFunc brings bytes bytes to the L2 cache.
	prefetchFunc func(x unsafe.Pointer, bytes int)
	// normFunc normalises each pixel over its channels.
	normFunc func(dst, dst2, x, x2, gamma, beta unsafe.Pointer, dstStep, xStep, pixels, channels int, eps float32)
	// lrnFunc is lrnGo with beta 3/4.
	lrnFunc func(x, squares unsafe.Pointer, channels, before, size int, alpha, k float32)
	// interleaveFunc stores x[0], y[0], x[1], y[1], ...: 2*channels elements a pixel.
	interleaveFunc func(dst, x, y unsafe.Pointer, dstStep, xStep, yStep, pixels, channels int)
)

// ptr returns the addresses of element at in the planes of the map.
func (m *Map) ptr(at int) (unsafe.Pointer, unsafe.Pointer) {
	switch m.Format {
	case F32:
		return unsafe.Pointer(&m.F32[at]), nil
	case BF16:
		return unsafe.Pointer(&m.Hi[at]), nil
	default:
		return unsafe.Pointer(&m.Hi[at]), unsafe.Pointer(&m.Lo[at])
	}
}

// floats returns the address of the first value, nil if there is none.
func floats(v []float32) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v)) }

// Activations whose assembly is a loop of its own; those that only clip share the first.
const (
	classClip = iota
	classHardSwish
	classHardSigmoid
	classSiLU
	classSigmoid
	classGELU
	classTanh
	classes
)

var activationClass = [activations]uint8{
	None: classClip, ReLU: classClip, ReLU6: classClip, HardSwish: classHardSwish, HardSigmoid: classHardSigmoid,
	SiLU: classSiLU, Sigmoid: classSigmoid, GELU: classGELU, Tanh: classTanh,
}

// affineKernel returns the kernel for a source of one format and a destination, and residual, of another; nil if there is none.
func affineKernel(t cpu.Tier, from, to Format, shift, residual bool) affineFunc {
	if from != to {
		return scaleIntoKernels[levelOf(t)][to]
	}
	i := 0
	if shift {
		i |= 1
	}
	if residual {
		i |= 2
	}
	return affineKernels[levelOf(t)][i][to]
}

//go:build !noasm

package grad

import "unsafe"

// The kernels below are given arrays on the stack. Called through a table, as the others are, they would move them to the
// heap. They report whether there was a kernel for the level.

func callSum(l level, sum, x unsafe.Pointer, xStep, pixels, channels int) bool {
	switch l {
	case levelAVX512:
		sumAVX512(sum, x, xStep, pixels, channels)
	case levelAVX2:
		sumAVX2(sum, x, xStep, pixels, channels)
	default:
		return false
	}
	return true
}

func callSquares(l level, sum, rest, x, mean unsafe.Pointer, xStep, pixels, channels int) bool {
	switch l {
	case levelAVX512:
		squaresAVX512(sum, rest, x, mean, xStep, pixels, channels)
	case levelAVX2:
		squaresAVX2(sum, rest, x, mean, xStep, pixels, channels)
	default:
		return false
	}
	return true
}

func callPair(l level, sum, sumX, dy, x, mean unsafe.Pointer, step, pixels, channels int) bool {
	switch l {
	case levelAVX512:
		pairAVX512(sum, sumX, dy, x, mean, step, pixels, channels)
	case levelAVX2:
		pairAVX2(sum, sumX, dy, x, mean, step, pixels, channels)
	default:
		return false
	}
	return true
}

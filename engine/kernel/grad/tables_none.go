//go:build noasm || !amd64

package grad

import "unsafe"

// haveAssembly says that the tables below are filled.
const haveAssembly = false

// Without assembly every table is empty, and every kernel its plain Go reference.
var (
	axpyKernels       [levels]axpyFunc
	fmaKernels        [levels]fmaFunc
	correlateKernels  [levels]correlateFunc
	dotKernels        [levels]dotFunc
	mixKernels        [levels]mixFunc
	innerKernels      [levels]innerFunc
	maxKernels        [levels]maxFunc
	whereKernels      [levels]whereFunc
	blendKernels      [levels]blendFunc
	layerNormKernels  [levels]layerNormFunc
	activationKernels [levels][9]activationFunc
	sgdKernels        [levels]sgdFunc
	adamKernels       [levels]adamFunc
)

// See call_amd64.go.
func callSum(level, unsafe.Pointer, unsafe.Pointer, int, int, int) bool { return false }

func callSquares(level, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, int, int, int) bool {
	return false
}

func callPair(level, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, int, int, int) bool {
	return false
}
